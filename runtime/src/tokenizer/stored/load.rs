//! Finding the tables, and what is checked of them: sizes, offsets and roles. What the full tokenizer checks
//! besides takes searches for every token; without that a file that lies may give other ids, no worse.

use super::super::data::{Normalizer, PreTokenizer, TokenType, TokenizerData, TokenizerKind};
use super::super::error::TokenizerError;
use super::super::tables::id_size;
use super::super::validate;
use super::super::view::WHOLE;
use super::{Blob, StoredTokenizer, homes_of};
use crate::error::LoadError;
use crate::format::{PRE_TOKENIZERS, PREFIX_LEN};
use crate::stream::{StreamLoadError, WeightReader};

type Loaded<T, R> = Result<T, StreamLoadError<<R as WeightReader>::Error>>;

/// Reads postcard from a file.
struct Head<'r, R> {
    reader: &'r mut R,
    at: u32,
    end: u32,
}

impl<R: WeightReader> Head<'_, R> {
    fn byte(&mut self) -> Loaded<u8, R> {
        let mut byte = [0];
        if self.at >= self.end {
            return Err(LoadError::BadMetadata.into());
        }
        self.reader.read(self.at, &mut byte).map_err(StreamLoadError::Read)?;
        self.at += 1;
        Ok(byte[0])
    }

    /// A number of 32 bits: seven of them a byte, the lowest first.
    fn number(&mut self) -> Loaded<u32, R> {
        let (mut number, mut shift) = (0_u32, 0);
        while shift < 32 {
            let byte = self.byte()?;
            let seven = u32::from(byte & 0x7F);
            number |= seven << shift;
            if number >> shift != seven {
                break;
            }
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
        }
        Err(LoadError::BadMetadata.into())
    }

    fn skip(&mut self, n: u32) -> Loaded<(), R> {
        match self.at.checked_add(n) {
            Some(at) if at <= self.end => {
                self.at = at;
                Ok(())
            }
            _ => Err(LoadError::BadMetadata.into()),
        }
    }

    fn blob(&mut self) -> Loaded<Blob, R> {
        let len = self.number()?;
        let at = self.at;
        self.skip(len)?;
        Ok(Blob { at, len })
    }

    fn flag(&mut self) -> Loaded<bool, R> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(LoadError::BadMetadata.into()),
        }
    }

    fn optional(&mut self) -> Loaded<Option<u32>, R> {
        Ok(if self.flag()? { Some(self.number()?) } else { None })
    }
}

impl StoredTokenizer {
    /// The tokenizer of a file whose head ends at `table_at`, if it has one, and the number of tensors.
    /// `buffer` is used up.
    pub(crate) fn load<R: WeightReader>(
        reader: &mut R,
        table_at: u32,
        buffer: &mut [u8],
    ) -> Loaded<(Option<Self>, u32), R> {
        let mut head = Head { reader, at: PREFIX_LEN as u32, end: table_at };
        for _ in 0..4 {
            head.blob()?; // name, source, writer, template
        }
        head.skip(4)?; // the rotary base
        match head.number()? {
            0 => {}
            1 => head.skip(4)?,
            2 => {
                head.skip(12)?;
                head.number()?;
            }
            _ => return Err(LoadError::BadMetadata.into()),
        }
        head.blob()?; // extra
        let tokenizer = if head.flag()? { Some(Self::take(&mut head)?) } else { None };
        let n_tensors = head.number()?;
        if head.at != table_at {
            let (section, expected) = ("tensor table", table_at.into());
            return Err(LoadError::BadSection { section, expected, found: head.at.into() }.into());
        }
        let Some(mut tokenizer) = tokenizer else { return Ok((None, n_tensors)) };
        tokenizer.check(reader, buffer)?;
        Ok((Some(tokenizer), n_tensors))
    }

    fn take<R: WeightReader>(head: &mut Head<'_, R>) -> Loaded<Self, R> {
        let bad = LoadError::BadMetadata;
        let kind = match head.number()? {
            0 => TokenizerKind::ByteLevelBpe,
            1 => TokenizerKind::SentencePieceBpe,
            _ => return Err(unsupported("WordPiece in a tokenizer that is read")),
        };
        let pre_tokenizer: PreTokenizer = *PRE_TOKENIZERS.get(head.number()? as usize).ok_or(bad)?;
        if head.number()? != 0 {
            return Err(unsupported("a normal form in a tokenizer that is read"));
        }
        Ok(Self {
            kind,
            pre_tokenizer,
            add_bos: head.flag()?,
            add_space_prefix: head.flag()?,
            ignore_merges: head.flag()?,
            n_tokens: head.number()?,
            max_token_bytes: head.number()?,
            bos: head.optional()?,
            unknown: head.optional()?,
            end_tokens: head.blob()?,
            text: head.blob()?,
            offsets: head.blob()?,
            index: head.blob()?,
            byte_tokens: head.blob()?,
            types: head.blob()?,
            left_len: head.blob()?,
            ranks: head.blob()?,
            extra_merges: head.blob()?,
            scores: head.blob()?,
            added: head.blob()?,
            homes: 0,
            cut_at_spaces: true,
        })
    }

    fn check<R: WeightReader>(&mut self, reader: &mut R, buffer: &mut [u8]) -> Loaded<(), R> {
        self.check_shapes()?;
        let read = StreamLoadError::Read;
        let entries = self.index.len / id_size(self.n_tokens) as u32;
        if let Some(last) = entries.checked_sub(1) {
            let none = if id_size(self.n_tokens) == 4 { u32::MAX } else { u16::MAX.into() };
            if self.id(self.index, reader, last).map_err(read)? == Some(none) {
                self.homes = homes_of(entries);
            }
        }
        for (table, id) in [("bos", self.bos), ("unknown", self.unknown)] {
            if let Some(id) = id.filter(|&id| id >= self.n_tokens) {
                let n_tokens = self.n_tokens;
                return Err(bad(TokenizerError::IdOutOfRange { table, index: 0, id, n_tokens }));
            }
        }

        let (text_len, mut previous, mut longest) = (self.text.len as usize, 0, 0);
        let (mut id, mut wrong) = (0, None);
        self.offsets.each(reader, buffer, |word: &[u8; 4]| {
            let offset = u32::from_le_bytes(*word);
            let (first, last) = (id == 0, id == self.n_tokens);
            if offset < previous || first && offset != 0 || last && offset != self.text.len {
                wrong = wrong.or(Some(TokenizerError::Offset { id, offset, text_len }));
            }
            longest = longest.max(offset.saturating_sub(previous));
            (previous, id) = (offset, id + 1);
        })?;
        if let Some(wrong) = wrong {
            return Err(bad(wrong));
        }
        if longest != self.max_token_bytes {
            return Err(bad(TokenizerError::MaxTokenBytes { stated: self.max_token_bytes, found: longest }));
        }
        let (mut id, mut wrong) = (0, None);
        self.types.each(reader, buffer, |&[found]: &[u8; 1]| {
            if TokenType::from_u8(found & !WHOLE).is_none() {
                wrong = wrong.or(Some(TokenizerError::TokenType { id, found }));
            }
            id += 1;
        })?;
        if let Some(wrong) = wrong {
            return Err(bad(wrong));
        }
        for index in 0..self.added.len / 8 {
            let Some(id) = self.added.u32(reader, 2 * index).map_err(read)? else { break };
            if self.type_of(reader, id).map_err(read)? & !WHOLE == TokenType::UserDefined as u8 {
                return Err(unsupported("a word that a user added in a tokenizer that is read"));
            }
        }
        if self.kind == TokenizerKind::SentencePieceBpe {
            self.look_for_spaces(reader, buffer)?;
        }
        Ok(())
    }

    fn check_shapes<E>(&self) -> Result<(), StreamLoadError<E>> {
        // What kind it is.
        let empty = TokenizerData {
            kind: self.kind,
            pre_tokenizer: self.pre_tokenizer,
            normalizer: Normalizer::None,
            add_bos: self.add_bos,
            add_space_prefix: self.add_space_prefix,
            ignore_merges: self.ignore_merges,
            n_tokens: self.n_tokens,
            max_token_bytes: self.max_token_bytes,
            bos: self.bos,
            unknown: self.unknown,
            end_tokens: &[],
            text: &[],
            offsets: &[],
            index: &[],
            byte_tokens: &[],
            types: &[],
            left_len: &[],
            ranks: &[],
            extra_merges: &[],
            scores: &[],
            added: &[],
        };
        validate::supported(&empty).map_err(bad)?;
        let n_tokens = self.n_tokens;
        if !(1..=validate::MAX_TOKENS).contains(&n_tokens) {
            return Err(bad(TokenizerError::TokenCount { n_tokens }));
        }
        let (n, ids) = (n_tokens as usize, id_size(n_tokens));
        let by_score = self.scores.len > 0;
        let byte_level = self.kind == TokenizerKind::ByteLevelBpe;
        let or_empty = |table: Blob, wanted| if table.len == 0 { 0 } else { wanted };
        let of_merges = |wanted| if by_score { 0 } else { wanted };
        let byte_tokens = if byte_level { 256 * ids } else { or_empty(self.byte_tokens, 256 * ids) };
        let scores = if byte_level { 0 } else { or_empty(self.scores, 4 * n) };
        for (table, blob, wanted) in [
            ("offsets", self.offsets, 4 * (n + 1)),
            ("types", self.types, n),
            ("byte_tokens", self.byte_tokens, byte_tokens),
            ("left_len", self.left_len, of_merges(n)),
            ("ranks", self.ranks, of_merges(or_empty(self.ranks, 4 * n))),
            ("scores", self.scores, scores),
        ] {
            let found = blob.len as usize;
            if found != wanted {
                return Err(bad(TokenizerError::TableLength { table, found, wanted }));
            }
        }
        for (table, blob, wanted) in [
            ("index", self.index, ids),
            ("extra_merges", self.extra_merges, 12),
            ("added", self.added, 8),
            ("end_tokens", self.end_tokens, 4),
        ] {
            let found = blob.len as usize;
            if !found.is_multiple_of(wanted) {
                return Err(bad(TokenizerError::TableLength { table, found, wanted }));
            }
        }
        Ok(())
    }

    /// Whether some token has a space behind something else.
    fn look_for_spaces<R: WeightReader>(&mut self, reader: &mut R, buffer: &mut [u8]) -> Loaded<(), R> {
        let room = buffer.len() as u32;
        for id in 0..self.n_tokens {
            let mut token = self.bytes_of(reader, id).map_err(StreamLoadError::Read)?;
            let mut before = b' ';
            while token.len > 0 {
                let n = token.len.min(room);
                let Some(some) = buffer.get_mut(..n as usize).filter(|some| !some.is_empty()) else { break };
                reader.read(token.at, some).map_err(StreamLoadError::Read)?;
                for &byte in some.iter() {
                    self.cut_at_spaces &= before == b' ' || byte != b' ';
                    before = byte;
                }
                token = Blob { at: token.at.wrapping_add(n), len: token.len - n };
            }
        }
        Ok(())
    }
}

impl Blob {
    /// Every `N` bytes of it, read as many at a time as the buffer takes.
    fn each<const N: usize, R: WeightReader>(
        self,
        reader: &mut R,
        buffer: &mut [u8],
        mut each: impl FnMut(&[u8; N]),
    ) -> Loaded<(), R> {
        let Blob { mut at, mut len } = self;
        // Buffers are multiples of 64.
        while len > 0 {
            let n = len.min(buffer.len() as u32);
            let Some(some) = buffer.get_mut(..n as usize).filter(|some| !some.is_empty()) else { break };
            reader.read(at, some).map_err(StreamLoadError::Read)?;
            some.as_chunks().0.iter().for_each(&mut each);
            (at, len) = (at.wrapping_add(n), len - n);
        }
        Ok(())
    }
}

fn bad<E>(error: TokenizerError) -> StreamLoadError<E> {
    LoadError::Tokenizer(error).into()
}

fn unsupported<E>(what: &'static str) -> StreamLoadError<E> {
    bad(TokenizerError::Unsupported { what })
}
