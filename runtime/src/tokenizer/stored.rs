//! A tokenizer that stays where the model file is: a reader gets at its tables, an entry at a time.
//!
//! Encoding gives the ids that [`Tokenizer`](super::Tokenizer) gives. A word takes some ten short reads a
//! byte, and half a word of memory for each table; a token's text takes three reads.

mod encode;
mod load;

use core::cmp::Ordering;

use super::data::{PreTokenizer, TokenType, TokenizerKind};
use super::index::{hash_of, homes};
use super::tables::id_size;
use super::view::{Merge, WHOLE, descending};
use crate::stream::WeightReader;

/// Bytes of the file.
#[derive(Clone, Copy, Debug, Default)]
struct Blob {
    at: u32,
    len: u32,
}

/// A tokenizer of which only what fits into a few words is in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredTokenizer {
    kind: TokenizerKind,
    pre_tokenizer: PreTokenizer,
    pub(crate) add_bos: bool,
    add_space_prefix: bool,
    ignore_merges: bool,
    n_tokens: u32,
    max_token_bytes: u32,
    pub(crate) bos: Option<u32>,
    unknown: Option<u32>,
    end_tokens: Blob,
    text: Blob,
    offsets: Blob,
    index: Blob,
    byte_tokens: Blob,
    types: Blob,
    left_len: Blob,
    ranks: Blob,
    extra_merges: Blob,
    scores: Blob,
    added: Blob,
    /// Entries of the index that are somebody's home; 0 if it is in order.
    homes: u32,
    /// No token goes on after a space behind something else.
    cut_at_spaces: bool,
}

impl StoredTokenizer {
    pub(crate) fn n_tokens(&self) -> u32 {
        self.n_tokens
    }

    pub(crate) fn max_token_bytes(&self) -> u32 {
        self.max_token_bytes
    }

    pub(crate) fn is_sentencepiece(&self) -> bool {
        self.kind == TokenizerKind::SentencePieceBpe
    }

    pub(crate) fn add_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// What token `id` is, in bytes, in the begin of `into`; as much as there is room for. Nothing for
    /// tokens without text.
    pub(crate) fn text_of<'b, R: WeightReader>(
        &self,
        reader: &mut R,
        id: u32,
        into: &'b mut [u8],
    ) -> Result<&'b [u8], R::Error> {
        let shown = match self.type_of(reader, id)? & !WHOLE {
            byte if byte == TokenType::Normal as u8 => true,
            byte => byte == TokenType::UserDefined as u8 || byte == TokenType::Byte as u8,
        };
        let text = if shown { self.bytes_of(reader, id)? } else { Blob::default() };
        let Some(into) = into.get_mut(..text.len as usize).filter(|into| !into.is_empty()) else {
            return Ok(&[]);
        };
        reader.read(text.at, into)?;
        Ok(into)
    }

    /// Whether token `id` ends a text.
    pub(crate) fn is_end<R: WeightReader>(&self, reader: &mut R, id: u32) -> Result<bool, R::Error> {
        for index in 0..self.end_tokens.len / 4 {
            if self.end_tokens.u32(reader, index)? == Some(id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn type_of<R: WeightReader>(&self, reader: &mut R, id: u32) -> Result<u8, R::Error> {
        Ok(self.types.byte(reader, id)?.unwrap_or(TokenType::Unused as u8))
    }

    /// Where token `id`'s bytes are.
    fn bytes_of<R: WeightReader>(&self, reader: &mut R, id: u32) -> Result<Blob, R::Error> {
        let Some([begin, end]) = self.offsets.words::<2, 8, _>(reader, id)? else {
            return Ok(Blob::default());
        };
        // Loading has seen that they rise and where they end; the file may have changed since.
        let end = end.min(self.text.len);
        let begin = begin.min(end);
        Ok(Blob { at: self.text.at.wrapping_add(begin), len: end - begin })
    }

    /// The token that is this one byte.
    fn byte_token<R: WeightReader>(&self, reader: &mut R, byte: u8) -> Result<Option<u32>, R::Error> {
        Ok(self.id(self.byte_tokens, reader, byte.into())?.filter(|&id| id < self.n_tokens))
    }

    /// An entry of a table of ids.
    fn id<R: WeightReader>(&self, table: Blob, reader: &mut R, index: u32) -> Result<Option<u32>, R::Error> {
        if id_size(self.n_tokens) == 4 { table.u32(reader, index) } else { table.u16(reader, index) }
    }

    /// The token that plain text can become, of so many bytes.
    fn find<R: WeightReader>(
        &self,
        reader: &mut R,
        text: impl Iterator<Item = u8> + Clone,
        len: usize,
    ) -> Result<Option<u32>, R::Error> {
        if len > self.max_token_bytes as usize {
            return Ok(None);
        }
        let entries = self.index.len / id_size(self.n_tokens) as u32;
        if self.homes == 0 {
            let (mut low, mut high) = (0, entries);
            while low < high {
                let middle = low.midpoint(high);
                let Some(id) = self.id(self.index, reader, middle)? else { return Ok(None) };
                match self.compare(reader, id, text.clone())? {
                    Ordering::Equal => return Ok(Some(id)),
                    Ordering::Less => low = middle + 1,
                    Ordering::Greater => high = middle,
                }
            }
            return Ok(None);
        }
        let home = (u64::from(hash_of(text.clone())) * u64::from(self.homes)) >> 32;
        for at in home as u32..entries {
            let Some(id) = self.id(self.index, reader, at)?.filter(|&id| id < self.n_tokens) else { break };
            if self.bytes_of(reader, id)?.len as usize == len
                && self.compare(reader, id, text.clone())? == Ordering::Equal
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Compares token `id` with a text, byte by byte.
    fn compare<R: WeightReader>(
        &self,
        reader: &mut R,
        id: u32,
        mut text: impl Iterator<Item = u8>,
    ) -> Result<Ordering, R::Error> {
        let mut token = self.bytes_of(reader, id)?;
        let mut some = [0; 16];
        while token.len > 0 {
            let n = token.len.min(16);
            let Some(some) = some.get_mut(..n as usize) else { break };
            reader.read(token.at, some)?;
            for byte in some.iter() {
                match text.next() {
                    Some(other) if other == *byte => {}
                    Some(other) => return Ok(byte.cmp(&other)),
                    None => return Ok(Ordering::Greater),
                }
            }
            token = Blob { at: token.at.wrapping_add(n), len: token.len - n };
        }
        Ok(if text.next().is_some() { Ordering::Less } else { Ordering::Equal })
    }

    /// What tokens `left`, of so many bytes, and `right` merge into, `text` together, and when.
    fn merge<R: WeightReader>(
        &self,
        reader: &mut R,
        [left, right]: [u32; 2],
        text: impl Iterator<Item = u8> + Clone,
        [left_len, len]: [usize; 2],
    ) -> Result<Option<Merge>, R::Error> {
        let Some(id) = self.find(reader, text, len)? else { return Ok(None) };
        if self.scores.len > 0 {
            let score = self.scores.u32(reader, id)?;
            return Ok(score.map(|score| Merge { key: descending(score), id }));
        }
        match self.left_len.byte(reader, id)? {
            Some(length) if length != 0 && usize::from(length) == left_len => {
                Ok(Some(Merge { key: self.ranks.u32(reader, id)?.unwrap_or(id), id }))
            }
            _ => Ok(self.extra_merge(reader, (left, right))?.map(|key| Merge { key, id })),
        }
    }

    /// The rank of the extra merge of this pair.
    fn extra_merge<R: WeightReader>(
        &self,
        reader: &mut R,
        pair: (u32, u32),
    ) -> Result<Option<u32>, R::Error> {
        let (mut low, mut high) = (0, self.extra_merges.len / 12);
        while low < high {
            let middle = low.midpoint(high);
            let Some([left, right, rank]) = self.extra_merges.words::<3, 12, _>(reader, 3 * middle)? else {
                break;
            };
            match (left, right).cmp(&pair) {
                Ordering::Equal => return Ok(Some(rank)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

impl Blob {
    /// `N` bytes from one on; `None` beyond the end.
    fn get<const N: usize, R: WeightReader>(
        self,
        reader: &mut R,
        at: u32,
    ) -> Result<Option<[u8; N]>, R::Error> {
        let mut bytes = [0; N];
        match at.checked_add(N as u32) {
            Some(end) if end <= self.len => {
                reader.read(self.at.wrapping_add(at), &mut bytes)?;
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    fn byte<R: WeightReader>(self, reader: &mut R, index: u32) -> Result<Option<u8>, R::Error> {
        Ok(self.get::<1, R>(reader, index)?.map(|[byte]| byte))
    }

    fn u16<R: WeightReader>(self, reader: &mut R, index: u32) -> Result<Option<u32>, R::Error> {
        let Some(at) = index.checked_mul(2) else { return Ok(None) };
        Ok(self.get(reader, at)?.map(|bytes| u32::from(u16::from_le_bytes(bytes))))
    }

    fn u32<R: WeightReader>(self, reader: &mut R, index: u32) -> Result<Option<u32>, R::Error> {
        let Some(at) = index.checked_mul(4) else { return Ok(None) };
        Ok(self.get(reader, at)?.map(u32::from_le_bytes))
    }

    /// `N` neighbouring u32, which are `BYTES` bytes, from number `index` on.
    fn words<const N: usize, const BYTES: usize, R: WeightReader>(
        self,
        reader: &mut R,
        index: u32,
    ) -> Result<Option<[u32; N]>, R::Error> {
        let Some(at) = index.checked_mul(4) else { return Ok(None) };
        Ok(self.get::<BYTES, R>(reader, at)?.map(|bytes| {
            let mut words = [0; N];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            words
        }))
    }
}

/// Entries that are somebody's home in an index of so many.
fn homes_of(entries: u32) -> u32 {
    homes(entries as usize) as u32
}
