//! Tokenizers in owned memory: from a plain description (tokens, merges, scores) to the tables of a
//! model file, and back. For converters and trainers; the runtime itself only borrows.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::bpe::scratch_words;
use super::data::{Normalizer, PreTokenizer, TokenType, TokenizerData, TokenizerKind};
use super::error::TokenizerError;
use super::index::{MAX_RUN, hash, homes};
use super::spec::TokenizerSpec;
use super::tables::id_size;
use super::validate::{CLOSES, NORMALIZED, SINGLE_WORD, STRIP_LEFT, STRIP_RIGHT};
use super::view::{Tokenizer, WHOLE};

/// Why a [`TokenizerSpec`] cannot become tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// More tokens, or more bytes of text in them, than a file holds.
    TooLarge {
        /// Tokens.
        n_tokens: usize,
        /// Their bytes.
        text_len: usize,
    },
    /// A merge names a token that does not exist or that text cannot become, or makes one.
    Merge {
        /// Its rank, from 0.
        rank: usize,
        /// Left id.
        left: u32,
        /// Right id.
        right: u32,
    },
    /// The tables are wrong in themselves.
    Tables(TokenizerError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLarge { n_tokens, text_len } => {
                write!(f, "tokenizer: {n_tokens} tokens of {text_len} bytes in all are too many")
            }
            Self::Merge { rank, left, right } => {
                write!(
                    f,
                    "tokenizer: merge {rank} joins tokens {left} and {right}, and parts or whole are not in the vocabulary"
                )
            }
            Self::Tables(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Tables(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TokenizerError> for BuildError {
    fn from(error: TokenizerError) -> Self {
        Self::Tables(error)
    }
}

/// A tokenizer's tables in owned memory, known to be valid.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedTokenizer {
    spec: Flags,
    n_tokens: u32,
    max_token_bytes: u32,
    end_tokens: Vec<u8>,
    text: Vec<u8>,
    offsets: Vec<u8>,
    index: Vec<u8>,
    byte_tokens: Vec<u8>,
    types: Vec<u8>,
    merges: MergeTables,
    scores: Vec<u8>,
    added: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Flags {
    kind: TokenizerKind,
    pre_tokenizer: PreTokenizer,
    normalizer: Normalizer,
    add_bos: bool,
    add_space_prefix: bool,
    ignore_merges: bool,
    bos: Option<u32>,
    unknown: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct MergeTables {
    left_len: Vec<u8>,
    ranks: Vec<u8>,
    extra: Vec<u8>,
}

impl OwnedTokenizer {
    /// Makes the tables of `spec` and validates them.
    ///
    /// Of tokens with the same bytes, text becomes the one with the lowest id.
    ///
    /// # Errors
    /// [`BuildError`] names the merge or the table that is wrong.
    pub fn build(spec: &TokenizerSpec) -> Result<Self, BuildError> {
        let text: Vec<u8> = spec.tokens.iter().flat_map(|token| &token.bytes).copied().collect();
        let too_large = BuildError::TooLarge { n_tokens: spec.tokens.len(), text_len: text.len() };
        let (Ok(n_tokens), Ok(_)) = (u32::try_from(spec.tokens.len()), u32::try_from(text.len())) else {
            return Err(too_large);
        };
        let mut end = 0u32;
        let mut offsets = end.to_le_bytes().to_vec();
        for token in &spec.tokens {
            end += token.bytes.len() as u32; // the sum fits, as checked above
            offsets.extend(end.to_le_bytes());
        }
        let by_bytes = ids_by_bytes(spec);
        let by_merges = !spec.merges.is_empty() || spec.kind == TokenizerKind::ByteLevelBpe;
        let by_score = !by_merges && spec.kind == TokenizerKind::SentencePieceBpe;
        let mut this = Self {
            spec: Flags {
                kind: spec.kind,
                pre_tokenizer: spec.pre_tokenizer,
                normalizer: spec.normalizer,
                add_bos: spec.add_bos,
                add_space_prefix: spec.add_space_prefix,
                ignore_merges: spec.ignore_merges,
                bos: spec.bos,
                unknown: spec.unknown,
            },
            n_tokens,
            max_token_bytes: spec.tokens.iter().map(|token| token.bytes.len()).max().unwrap_or(0) as u32,
            end_tokens: spec.end_tokens.iter().flat_map(|id| id.to_le_bytes()).collect(),
            text,
            offsets,
            index: index(&by_bytes, n_tokens),
            byte_tokens: byte_tokens(spec, &by_bytes, n_tokens),
            types: spec.tokens.iter().map(|token| token.token_type as u8).collect(),
            merges: if by_merges { merge_tables(spec, &by_bytes)? } else { MergeTables::default() },
            scores: if by_score {
                spec.tokens.iter().flat_map(|token| token.score.to_le_bytes()).collect()
            } else {
                Vec::new()
            },
            added: added(spec),
        };
        Tokenizer::new(this.data())?;
        this.mark_wholes();
        Ok(this)
    }

    /// Marks the tokens that merging makes of their own text.
    fn mark_wholes(&mut self) {
        if self.spec.kind == TokenizerKind::WordPiece {
            return;
        }
        let mut scratch = vec![0; scratch_words(self.max_token_bytes as usize)];
        let tokenizer = Tokenizer::trusted(self.data());
        let is_whole = |id: u32| {
            let mut tokens = 0;
            let text = core::str::from_utf8(tokenizer.bytes(id)).unwrap_or("");
            let merged = tokenizer.merge_stretch(text, false, &mut scratch, |found| {
                tokens += if found == id { 1 } else { 2 };
            });
            merged.is_ok() && tokens == 1
        };
        let wholes: Vec<u32> = tokenizer
            .index
            .iter()
            .filter(|&id| tokenizer.bytes(id).len() > 1)
            .filter({
                let mut is_whole = is_whole;
                move |&id| is_whole(id)
            })
            .collect();
        for id in wholes {
            if let Some(byte) = self.types.get_mut(id as usize) {
                *byte |= WHOLE;
            }
        }
    }

    /// The tables, to write into a model file.
    pub fn data(&self) -> TokenizerData<'_> {
        TokenizerData {
            kind: self.spec.kind,
            pre_tokenizer: self.spec.pre_tokenizer,
            normalizer: self.spec.normalizer,
            add_bos: self.spec.add_bos,
            add_space_prefix: self.spec.add_space_prefix,
            ignore_merges: self.spec.ignore_merges,
            n_tokens: self.n_tokens,
            max_token_bytes: self.max_token_bytes,
            bos: self.spec.bos,
            unknown: self.spec.unknown,
            end_tokens: &self.end_tokens,
            text: &self.text,
            offsets: &self.offsets,
            index: &self.index,
            byte_tokens: &self.byte_tokens,
            types: &self.types,
            left_len: &self.merges.left_len,
            ranks: &self.merges.ranks,
            extra_merges: &self.merges.extra,
            scores: &self.scores,
            added: &self.added,
        }
    }

    /// The tokenizer, ready to encode.
    pub fn tokenizer(&self) -> Tokenizer<'_> {
        Tokenizer::trusted(self.data())
    }
}

/// The tokens that plain text can become.
fn ids_by_bytes(spec: &TokenizerSpec) -> BTreeMap<&[u8], u32> {
    let mut map = BTreeMap::new();
    for (id, token) in (0..).zip(&spec.tokens) {
        if matches!(token.token_type, TokenType::Normal | TokenType::UserDefined) && !token.bytes.is_empty() {
            map.entry(&token.bytes[..]).or_insert(id);
        }
    }
    map
}

/// Fewer tokens are searched fast enough in order, in half the bytes.
const MIN_HASHED: usize = 64;

/// Ids in order of their bytes, or hashed if they are many: 1.6 entries a token.
fn index(by_bytes: &BTreeMap<&[u8], u32>, n_tokens: u32) -> Vec<u8> {
    let n = by_bytes.len();
    let hashed = || {
        let len = n + n / 2 + n / 8 + 16;
        let mut slots = vec![u32::MAX; len];
        for (bytes, &id) in by_bytes {
            let home = ((u64::from(hash(bytes, &[])) * homes(len) as u64) >> 32) as usize;
            *slots.iter_mut().skip(home).take(MAX_RUN).find(|slot| **slot == u32::MAX)? = id;
        }
        let runs = slots.split(|&slot| slot == u32::MAX).map(<[u32]>::len).max();
        (slots.last() == Some(&u32::MAX) && runs <= Some(MAX_RUN)).then_some(slots)
    };
    let ids = if n < MIN_HASHED { None } else { hashed() };
    let ids = ids.unwrap_or_else(|| by_bytes.values().copied().collect());
    ids.into_iter().flat_map(|id| id_bytes(id, n_tokens)).collect()
}

fn id_bytes(id: u32, n_tokens: u32) -> impl Iterator<Item = u8> {
    id.to_le_bytes().into_iter().take(id_size(n_tokens))
}

fn byte_tokens(spec: &TokenizerSpec, by_bytes: &BTreeMap<&[u8], u32>, n_tokens: u32) -> Vec<u8> {
    let mut ids = [u32::MAX; 256];
    for (byte, slot) in (0..=u8::MAX).zip(&mut ids) {
        if spec.kind == TokenizerKind::ByteLevelBpe
            && let Some(&id) = by_bytes.get(&[byte][..])
        {
            *slot = id;
        }
    }
    for (id, token) in (0..).zip(&spec.tokens) {
        if let (TokenType::Byte, [byte]) = (token.token_type, &token.bytes[..])
            && let Some(slot @ &mut u32::MAX) = ids.get_mut(usize::from(*byte))
        {
            *slot = id;
        }
    }
    if spec.kind != TokenizerKind::ByteLevelBpe && ids.iter().all(|&id| id == u32::MAX) {
        return Vec::new();
    }
    ids.iter().flat_map(|&id| id_bytes(id, n_tokens)).collect()
}

fn merge_tables(spec: &TokenizerSpec, by_bytes: &BTreeMap<&[u8], u32>) -> Result<MergeTables, BuildError> {
    let n = spec.tokens.len();
    let token = |id: u32| spec.tokens.get(id as usize);
    // (left, right) → (rank, result): the last of a pair's ranks holds.
    let mut ranked = BTreeMap::new();
    let mut joined = Vec::new();
    for (rank, &(left, right)) in spec.merges.iter().enumerate() {
        let wrong = BuildError::Merge { rank, left, right };
        let (Some(a), Some(b)) = (token(left), token(right)) else {
            return Err(wrong);
        };
        joined.clear();
        joined.extend_from_slice(&a.bytes);
        joined.extend_from_slice(&b.bytes);
        let result = *by_bytes.get(&joined[..]).ok_or(wrong)?;
        ranked.insert((left, right), (rank as u32, result));
    }
    let mut in_order: Vec<_> =
        ranked.into_iter().map(|(pair, (rank, result))| (rank, pair, result)).collect();
    in_order.sort_unstable();
    // Where every token is made by one merge and ids rise with ranks, the id can be the rank.
    let ids_are_ranks = in_order.windows(2).all(|w| matches!(w, [(.., a), (.., b)] if a < b));
    let mut left_len = vec![0u8; n];
    let mut ranks = vec![0u32; n];
    let mut extra = Vec::new();
    for (rank, (left, right), result) in in_order {
        let rank = if ids_are_ranks { result } else { rank };
        let length = token(left).and_then(|left| u8::try_from(left.bytes.len()).ok());
        match (left_len.get_mut(result as usize), ranks.get_mut(result as usize), length) {
            (Some(slot @ 0), Some(slot_rank), Some(length)) => {
                *slot = length;
                *slot_rank = rank;
            }
            _ => extra.push((left, right, rank)),
        }
    }
    extra.sort_unstable();
    Ok(MergeTables {
        left_len,
        ranks: if ids_are_ranks {
            Vec::new()
        } else {
            ranks.into_iter().flat_map(u32::to_le_bytes).collect()
        },
        extra: extra.into_iter().flat_map(|(l, r, rank)| [l, r, rank]).flat_map(u32::to_le_bytes).collect(),
    })
}

fn added(spec: &TokenizerSpec) -> Vec<u8> {
    let length = |id: u32| spec.tokens.get(id as usize).map_or(0, |token| token.bytes.len());
    let mut added = spec.added.clone();
    added.sort_by_key(|added| (core::cmp::Reverse(length(added.id)), added.id));
    added
        .iter()
        .flat_map(|added| {
            let flags = [
                (added.lstrip, STRIP_LEFT),
                (added.rstrip, STRIP_RIGHT),
                (added.single_word, SINGLE_WORD),
                (added.normalized, NORMALIZED),
                (added.closes, CLOSES),
            ];
            [added.id, flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum()]
        })
        .flat_map(u32::to_le_bytes)
        .collect()
}
