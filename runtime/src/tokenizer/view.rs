//! The tokenizer, validated once: after [`Tokenizer::new`] every table is what the rest relies on.

use core::cmp::Ordering;

use super::data::{Normalizer, PreTokenizer, TokenType, TokenizerData, TokenizerKind};
use super::error::TokenizerError;
use super::index::Index;
use super::tables::{Ids, U32s};
use super::validate::{self, CLOSES};

/// A validated tokenizer over borrowed tables: [`encode`](Tokenizer::encode) turns text into token
/// ids, a [`Decoder`](super::Decoder) turns them back.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a> {
    pub(super) data: TokenizerData<'a>,
    pub(super) offsets: U32s<'a>,
    pub(super) index: Index<'a>,
    pub(super) byte_tokens: Ids<'a>,
    pub(super) ranks: U32s<'a>,
    pub(super) extra_merges: U32s<'a>,
    pub(super) scores: U32s<'a>,
    pub(super) added: U32s<'a>,
    pub(super) end_tokens: U32s<'a>,
    /// SentencePiece: no token goes on after a space that follows something else, so that text may
    /// be cut before such spaces without changing a merge.
    pub(super) cut_at_spaces: bool,
    /// The bytes that added tokens begin with.
    pub(super) added_first: ByteSet,
    /// The bytes that follow those: all of them if a token has only one.
    pub(super) added_second: ByteSet,
}

/// In a token's type byte: merging the token's own text makes it.
pub(super) const WHOLE: u8 = 128;

/// A set of byte values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByteSet([u32; 8]);

impl ByteSet {
    /// Every byte.
    const ALL: Self = Self([u32::MAX; 8]);

    pub(super) fn insert(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 5)) {
            *word |= 1 << (byte & 31);
        }
    }

    #[inline]
    pub(super) fn contains(self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 5)).is_some_and(|word| word >> (byte & 31) & 1 == 1)
    }
}

/// One pair that may be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merge {
    /// The lowest is merged first.
    pub(super) key: u32,
    /// The token that it makes.
    pub(super) id: u32,
}

impl<'a> Tokenizer<'a> {
    /// Checks every table of `data`, once and for all: O(n log n) in the number of tokens.
    ///
    /// # Errors
    /// [`TokenizerError`] names the first table and entry that is wrong, or what is not supported.
    pub fn new(data: TokenizerData<'a>) -> Result<Self, TokenizerError> {
        validate::supported(&data)?;
        validate::shapes(&data)?;
        let tokenizer = Self::trusted(data);
        validate::contents(&tokenizer)?;
        Ok(tokenizer)
    }

    /// A tokenizer over tables that have been validated (or, in [`new`](Self::new), are about to be).
    pub(super) fn trusted(data: TokenizerData<'a>) -> Self {
        let mut this = Self {
            data,
            offsets: U32s::new(data.offsets),
            index: Index::new(Ids::new(data.index, data.n_tokens), data.n_tokens),
            byte_tokens: Ids::new(data.byte_tokens, data.n_tokens),
            ranks: U32s::new(data.ranks),
            extra_merges: U32s::new(data.extra_merges),
            scores: U32s::new(data.scores),
            added: U32s::new(data.added),
            end_tokens: U32s::new(data.end_tokens),
            cut_at_spaces: false,
            added_first: ByteSet::default(),
            added_second: ByteSet::default(),
        };
        this.cut_at_spaces = this.spaces_begin_tokens();
        if !cfg!(feature = "special-tokens") {
            return this;
        }
        for (id, _) in this.added() {
            let bytes = this.bytes(id);
            bytes.first().into_iter().for_each(|&byte| this.added_first.insert(byte));
            match bytes.get(1) {
                Some(&byte) => this.added_second.insert(byte),
                None => this.added_second = ByteSet::ALL,
            }
        }
        this
    }

    /// Whether no ordinary token has a space behind something that is not a space.
    fn spaces_begin_tokens(&self) -> bool {
        self.index.iter().all(|id| {
            let bytes = self.bytes(id);
            bytes.iter().zip(bytes.iter().skip(1)).all(|(&byte, &next)| byte == b' ' || next != b' ')
        })
    }

    /// The tables that this tokenizer reads.
    pub fn data(&self) -> TokenizerData<'a> {
        self.data
    }

    /// How many tokens, special ones included. Ids are below it.
    pub fn n_tokens(&self) -> u32 {
        self.data.n_tokens
    }

    /// The longest token, in bytes.
    pub fn max_token_bytes(&self) -> u32 {
        self.data.max_token_bytes
    }

    /// What token `id` means, in bytes; not always whole UTF-8 characters. Empty for an id that is
    /// not in the vocabulary.
    // On a chip its many callers would be a tenth of the tokenizer's code.
    #[cfg_attr(target_os = "none", inline(never))]
    #[cfg_attr(not(target_os = "none"), inline)]
    pub fn bytes(&self, id: u32) -> &'a [u8] {
        let at = id as usize;
        match (self.offsets.get(at), self.offsets.get(at.saturating_add(1))) {
            (Some(start), Some(end)) => self.data.text.get(start as usize..end as usize).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// The role of token `id`; [`TokenType::Unused`] for an id that is not in the vocabulary.
    pub fn token_type(&self, id: u32) -> TokenType {
        let byte = self.data.types.get(id as usize).map(|byte| byte & !WHOLE);
        byte.and_then(TokenType::from_u8).unwrap_or(TokenType::Unused)
    }

    /// Whether a stretch of text that is token `id` to the letter becomes that token.
    #[inline]
    pub(super) fn is_whole(&self, id: u32) -> bool {
        self.data.ignore_merges || self.data.types.get(id as usize).is_some_and(|byte| byte & WHOLE != 0)
    }

    /// The token that plain text `bytes` as a whole can become.
    pub fn find(&self, bytes: &[u8]) -> Option<u32> {
        self.find_joined(bytes, &[])
    }

    /// The token whose text is exactly `text`, whatever its role: `<|endoftext|>` and the like.
    /// Looks at the added tokens first, then at ordinary ones.
    pub fn find_special(&self, text: &str) -> Option<u32> {
        self.added()
            .map(|(id, _)| id)
            .find(|&id| self.bytes(id) == text.as_bytes())
            .or_else(|| self.find(text.as_bytes()))
    }

    /// The token that ends a text encoded for the model, such as BERT's `[SEP]`; few have one.
    pub fn closing(&self) -> Option<u32> {
        self.added().find(|(_, flags)| flags & CLOSES != 0).map(|(id, _)| id)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.data.bos
    }

    /// Whether a text is put behind [`bos`](Self::bos) before the model reads it.
    pub fn adds_bos(&self) -> bool {
        self.data.add_bos
    }

    /// What the vocabulary cannot say.
    pub fn unknown(&self) -> Option<u32> {
        self.data.unknown
    }

    /// The tokens that end a text.
    pub fn end_tokens(&self) -> impl Iterator<Item = u32> + 'a {
        self.end_tokens.iter()
    }

    /// Whether token `id` ends a text.
    pub fn is_end(&self, id: u32) -> bool {
        self.end_tokens.iter().any(|end| end == id)
    }

    /// The algorithm.
    pub fn kind(&self) -> TokenizerKind {
        self.data.kind.of_validated()
    }

    /// How text is cut first.
    pub fn pre_tokenizer(&self) -> PreTokenizer {
        self.data.pre_tokenizer
    }

    /// What is done to text before that.
    pub fn normalizer(&self) -> Normalizer {
        self.data.normalizer
    }

    /// Added tokens with their flags, longest text first.
    pub(super) fn added(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let table = self.added;
        (0..table.len() / 2).filter_map(move |i| Some((table.get(2 * i)?, table.get(2 * i + 1)?)))
    }

    /// The token that is this one byte.
    #[inline]
    pub(super) fn byte_token(&self, byte: u8) -> Option<u32> {
        self.byte_tokens.get(usize::from(byte)).filter(|&id| id < self.data.n_tokens)
    }

    /// The token that plain text `left` + `right` can become.
    #[inline]
    pub(super) fn find_joined(&self, left: &[u8], right: &[u8]) -> Option<u32> {
        if left.len().checked_add(right.len())? > self.data.max_token_bytes as usize {
            return None;
        }
        if self.index.is_hashed() { self.find_hashed(left, right) } else { self.find_sorted(left, right) }
    }

    #[inline]
    fn find_hashed(&self, left: &[u8], right: &[u8]) -> Option<u32> {
        let length = left.len() + right.len();
        let mut at = self.index.home(left, right);
        loop {
            let id = self.index.ids.get(at)?;
            if id == self.index.ids.none() {
                return None;
            }
            let bytes = self.bytes(id);
            if bytes.len() == length
                && let Some((start, end)) = bytes.split_at_checked(left.len())
                && same(start, left)
                && same(end, right)
            {
                return Some(id);
            }
            at += 1;
        }
    }

    fn find_sorted(&self, left: &[u8], right: &[u8]) -> Option<u32> {
        let (mut low, mut high) = (0, self.index.ids.len());
        while low < high {
            let middle = low.midpoint(high);
            let id = self.index.ids.get(middle)?;
            match compare_joined(self.bytes(id), left, right) {
                Ordering::Equal => return Some(id),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// What tokens `left` and `right` merge into, and when.
    #[inline]
    pub(super) fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        let left_bytes = self.bytes(left);
        let id = self.find_joined(left_bytes, self.bytes(right))?;
        if !self.data.scores.is_empty() {
            return Some(Merge { key: descending(self.scores.get(id as usize)?), id });
        }
        match self.data.left_len.get(id as usize) {
            Some(&length) if length != 0 && usize::from(length) == left_bytes.len() => {
                Some(Merge { key: self.ranks.get(id as usize).unwrap_or(id), id })
            }
            _ => self.extra_merge(left, right).map(|key| Merge { key, id }),
        }
    }

    /// Whether a merge's key is the token that it makes, so that it need not be looked up again.
    #[inline]
    pub(super) fn keys_are_ids(&self) -> bool {
        self.data.scores.is_empty() && self.data.ranks.is_empty() && self.data.extra_merges.is_empty()
    }

    /// The rank of the extra merge of this pair.
    fn extra_merge(&self, left: u32, right: u32) -> Option<u32> {
        let table = self.extra_merges;
        let (mut low, mut high) = (0, table.len() / 3);
        while low < high {
            let middle = low.midpoint(high);
            match (table.get(3 * middle)?, table.get(3 * middle + 1)?).cmp(&(left, right)) {
                Ordering::Equal => return table.get(3 * middle + 2),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// Whether two slices of one length are equal. Most are a few bytes, for which calling the library's
/// comparison takes longer than comparing.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// Compares `token` with `left` + `right`, byte by byte.
#[inline]
fn compare_joined(token: &[u8], left: &[u8], right: &[u8]) -> Ordering {
    match token.split_at_checked(left.len()) {
        Some((start, end)) => start.cmp(left).then_with(|| end.cmp(right)),
        // Shorter than `left`: if it is a prefix, it comes first, as in slices' own order.
        None => token.cmp(left),
    }
}

/// Maps the bits of a finite f32 to a number that falls as the f32 rises. Both zeros are one.
pub(super) fn descending(bits: u32) -> u32 {
    let bits = if bits == 0x8000_0000 { 0 } else { bits };
    if bits >> 31 == 0 { 0x7fff_ffff - bits } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_scores_have_lower_keys() {
        let scores = [f32::MAX, 3.5, 1.0, f32::MIN_POSITIVE, 0.0, -1e-30, -1.0, -259.0, -1e9, f32::MIN];
        for pair in scores.windows(2) {
            assert!(descending(pair[0].to_bits()) < descending(pair[1].to_bits()), "{pair:?}");
        }
        assert_eq!(descending((-0.0f32).to_bits()), descending(0.0f32.to_bits()));
        assert!(descending(f32::MIN.to_bits()) < u32::MAX, "the last key means that there is no merge");
    }

    #[test]
    fn joined_comparison_is_slice_order() {
        let parts: [&[u8]; 6] = [b"", b"a", b"ab", b"b", b"ba", b"abc"];
        for left in parts {
            for right in parts {
                let mut joined = std::vec::Vec::from(left);
                joined.extend_from_slice(right);
                for token in parts {
                    assert_eq!(
                        compare_joined(token, left, right),
                        token.cmp(&joined[..]),
                        "{token:?} {left:?} {right:?}"
                    );
                }
            }
        }
    }
}
