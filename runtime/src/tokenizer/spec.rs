//! A tokenizer in plain words: what readers and trainers make, and tables are made of.

use alloc::vec::Vec;

use super::data::{Normalizer, PreTokenizer, TokenType, TokenizerKind};
use super::validate::{CLOSES, NORMALIZED, SINGLE_WORD, STRIP_LEFT, STRIP_RIGHT};
use super::view::Tokenizer;

/// One token of a [`TokenizerSpec`].
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSpec {
    /// What it means (see [`TokenizerData`](super::TokenizerData)): raw bytes for byte-level BPE, spaces for `▁`.
    pub bytes: Vec<u8>,
    /// Its role.
    pub token_type: TokenType,
    /// SentencePiece's score; 0 elsewhere.
    pub score: f32,
}

/// A token that is matched in text before anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The token.
    pub id: u32,
    /// It takes the white space to its left with it.
    pub lstrip: bool,
    /// It takes the white space to its right with it.
    pub rstrip: bool,
    /// It is matched only where no word goes on at either end.
    pub single_word: bool,
    /// It is matched after the others, in normalized text (for SentencePiece behind a space, which it takes).
    pub normalized: bool,
    /// It ends a text that is encoded for the model, as BERT's `[SEP]` does.
    pub closes: bool,
}

impl Added {
    /// Token `id`, matched wherever its text stands.
    pub const fn new(id: u32) -> Self {
        Self { id, lstrip: false, rstrip: false, single_word: false, normalized: false, closes: false }
    }
}

/// A tokenizer in plain words, from which [`OwnedTokenizer::build`](super::OwnedTokenizer::build) makes tables.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerSpec {
    /// Which algorithm.
    pub kind: TokenizerKind,
    /// How text is cut first.
    pub pre_tokenizer: PreTokenizer,
    /// What is done to text before that.
    pub normalizer: Normalizer,
    /// A text begins with `bos` when encoded for the model.
    pub add_bos: bool,
    /// A text begins with a space that is not its own (see [`TokenizerData`](super::TokenizerData)).
    pub add_space_prefix: bool,
    /// A whole pre-token that is in the vocabulary is that token, whatever the merges say.
    pub ignore_merges: bool,
    /// The vocabulary in order of id.
    pub tokens: Vec<TokenSpec>,
    /// (left, right) ids in order of rank. Empty in a SentencePiece vocabulary that merges by score.
    /// A pair that comes twice has its last rank, as in Hugging Face's tokenizers.
    pub merges: Vec<(u32, u32)>,
    /// Begins a text.
    pub bos: Option<u32>,
    /// What unknown text becomes.
    pub unknown: Option<u32>,
    /// End a text.
    pub end_tokens: Vec<u32>,
    /// Matched in text, in any order.
    pub added: Vec<Added>,
}

impl TokenizerSpec {
    /// The description that `tokenizer`'s tables were made from, or one that makes the same tables.
    pub fn from_tokenizer(tokenizer: &Tokenizer<'_>) -> Self {
        let data = tokenizer.data();
        let score = |id: u32| tokenizer.scores.get(id as usize).map_or(0.0, f32::from_bits);
        let tokens = (0..data.n_tokens).map(|id| TokenSpec {
            bytes: tokenizer.bytes(id).to_vec(),
            token_type: tokenizer.token_type(id),
            score: score(id),
        });
        Self {
            kind: data.kind,
            pre_tokenizer: data.pre_tokenizer,
            normalizer: data.normalizer,
            add_bos: data.add_bos,
            add_space_prefix: data.add_space_prefix,
            ignore_merges: data.ignore_merges,
            tokens: tokens.collect(),
            merges: merge_list(tokenizer),
            bos: data.bos,
            unknown: data.unknown,
            end_tokens: tokenizer.end_tokens().collect(),
            added: tokenizer
                .added()
                .map(|(id, flags)| Added {
                    id,
                    lstrip: flags & STRIP_LEFT != 0,
                    rstrip: flags & STRIP_RIGHT != 0,
                    single_word: flags & SINGLE_WORD != 0,
                    normalized: flags & NORMALIZED != 0,
                    closes: flags & CLOSES != 0,
                })
                .collect(),
        }
    }
}

/// The pairs that may merge, by rank.
fn merge_list(tokenizer: &Tokenizer<'_>) -> Vec<(u32, u32)> {
    let symbol = |bytes: &[u8]| match bytes {
        [byte] => tokenizer.byte_token(*byte).or_else(|| tokenizer.find(bytes)),
        _ => tokenizer.find(bytes),
    };
    let mut merges = Vec::new();
    for (id, &length) in (0..).zip(tokenizer.data.left_len) {
        if length != 0
            && let Some((left, right)) = tokenizer.bytes(id).split_at_checked(usize::from(length))
            && let (Some(left), Some(right)) = (symbol(left), symbol(right))
        {
            merges.push((tokenizer.ranks.get(id as usize).unwrap_or(id), left, right));
        }
    }
    let extra = tokenizer.extra_merges;
    for i in 0..extra.len() / 3 {
        if let (Some(left), Some(right), Some(rank)) =
            (extra.get(3 * i), extra.get(3 * i + 1), extra.get(3 * i + 2))
        {
            merges.push((rank, left, right));
        }
    }
    merges.sort_unstable();
    merges.into_iter().map(|(_, left, right)| (left, right)).collect()
}
