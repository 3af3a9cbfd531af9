//! Training a vocabulary: byte-level BPE from a stream of text, and one token a character.
//!
//! The merges are those of Hugging Face's `BpeTrainer`: the pair that occurs most often, in ties
//! the one with the lowest ids. Texts are counted as distinct pre-tokens, so that memory grows with
//! the words, not with the text.

mod chars;
mod counts;
mod lines;
mod merges;

use smidgen_converter::tokenizer::byte_to_char;
use smidgen_runtime::tokenizer::{
    Added, Normalizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

pub use chars::char_level;
use counts::WordCounts;

/// Why no vocabulary can be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabularyError {
    /// Bytes and special tokens alone are more than the vocabulary's size.
    #[error("a vocabulary of {vocab_size} tokens has no room for 256 bytes and {n_special} special tokens")]
    TooSmall {
        /// Tokens wanted.
        vocab_size: usize,
        /// Special tokens among them.
        n_special: usize,
    },
    /// A special token is empty or given twice.
    #[error("special token {token:?} is empty or given twice")]
    Special {
        /// Its text.
        token: String,
    },
    /// There is no character to make a token of.
    #[error("the text is empty")]
    Empty,
}

/// Trains a byte-level BPE vocabulary.
#[derive(Clone, Debug)]
pub struct BpeTrainer {
    vocab_size: usize,
    pre_tokenizer: PreTokenizer,
    min_frequency: u64,
    words: WordCounts,
}

impl BpeTrainer {
    /// A trainer for `vocab_size` tokens, special ones and the 256 bytes included, whose texts are
    /// cut by `pre_tokenizer`. The vocabulary will have fewer if the text has no more pairs.
    pub fn new(vocab_size: usize, pre_tokenizer: PreTokenizer) -> Self {
        Self { vocab_size, pre_tokenizer, min_frequency: 1, words: WordCounts::default() }
    }

    /// Merges no pair that occurs fewer than `times` times. 1 if this is not called.
    #[must_use]
    pub fn min_frequency(mut self, times: u64) -> Self {
        self.min_frequency = times.max(1);
        self
    }

    /// Counts one document's pre-tokens. No merge ever reaches from one document into another.
    pub fn feed(&mut self, text: &str) {
        for word in self.pre_tokenizer.split(text) {
            self.words.add(word, 1);
        }
    }

    /// Adds what another trainer has counted: threads can each feed their own.
    pub fn absorb(&mut self, other: &Self) {
        for (word, count) in other.words.iter() {
            self.words.add(word, count);
        }
    }

    /// Distinct pre-tokens counted so far.
    pub fn distinct_words(&self) -> usize {
        self.words.len()
    }

    /// Learns the merges. Ids: the special tokens in their order, the 256 bytes in the order of
    /// GPT-2's printable alphabet, then what the merges make, in order of rank. The first special
    /// token begins and ends a text (but `add_bos` is off, as in GPT-2).
    ///
    /// # Errors
    /// [`VocabularyError`] if there is no room for the bytes, or for a special token that is empty
    /// or given twice.
    pub fn finish(self, special: &[&str]) -> Result<TokenizerSpec, VocabularyError> {
        let mut tokens = special_tokens(special)?;
        if special.len() + 256 > self.vocab_size {
            return Err(VocabularyError::TooSmall { vocab_size: self.vocab_size, n_special: special.len() });
        }
        let mut alphabet: Vec<u8> = (0..=255).collect();
        alphabet.sort_unstable_by_key(|&byte| byte_to_char(byte));
        let mut byte_ids = [0; 256];
        for byte in alphabet {
            byte_ids[usize::from(byte)] = tokens.len() as u32;
            tokens.push(normal(vec![byte]));
        }
        let words = self.words.iter().map(|(word, count)| {
            let symbols: Vec<u32> = word.bytes().map(|byte| byte_ids[usize::from(byte)]).collect();
            (symbols, count)
        });
        let mut texts: Vec<Vec<u8>> = tokens.iter().map(|token| token.bytes.clone()).collect();
        let first_special = special.len();
        let merges = merges::learn(words, &mut texts, first_special, self.vocab_size, self.min_frequency);
        tokens.extend(texts.drain(tokens.len()..).map(normal));
        Ok(spec(TokenizerKind::ByteLevelBpe, self.pre_tokenizer, tokens, merges, special.len()))
    }
}

fn normal(bytes: Vec<u8>) -> TokenSpec {
    TokenSpec { bytes, token_type: TokenType::Normal, score: 0.0 }
}

fn special_tokens(special: &[&str]) -> Result<Vec<TokenSpec>, VocabularyError> {
    for (i, token) in special.iter().enumerate() {
        if token.is_empty() || special[..i].contains(token) {
            return Err(VocabularyError::Special { token: (*token).into() });
        }
    }
    let control =
        |text: &&str| TokenSpec { bytes: (*text).into(), token_type: TokenType::Control, score: 0.0 };
    Ok(special.iter().map(control).collect())
}

/// A tokenizer whose first `n_special` tokens are special, the first of them the text's end.
fn spec(
    kind: TokenizerKind,
    pre_tokenizer: PreTokenizer,
    tokens: Vec<TokenSpec>,
    merges: Vec<(u32, u32)>,
    n_special: usize,
) -> TokenizerSpec {
    let end = (n_special > 0).then_some(0);
    TokenizerSpec {
        kind,
        pre_tokenizer,
        normalizer: Normalizer::None,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: false,
        tokens,
        merges,
        bos: end,
        unknown: None,
        end_tokens: end.into_iter().collect(),
        added: (0..n_special as u32).map(Added::new).collect(),
    }
}
