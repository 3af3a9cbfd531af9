//! Text to ids: as the tokenizer in memory has it, a stretch at a time.

use super::super::bpe::scratch_words;
use super::super::data::{PreTokenizer, TokenizerKind};
use super::super::error::EncodeError;
use super::super::sentencepiece::{Cut, SPACE_MARK, Words};
use super::super::view::WHOLE;
use super::StoredTokenizer;
use crate::error::StepError;
use crate::stream::{StreamError, WeightReader};

type Encoded<T, R> = Result<T, StreamError<<R as WeightReader>::Error>>;

/// No pair begins here.
const NO_PAIR: u32 = u32::MAX;
/// A symbol that is no token: a character (or byte) that the vocabulary lacks, in the low bits.
const UNKNOWN: u32 = 1 << 30;

impl StoredTokenizer {
    /// Encodes `text` into `out`; returns how many tokens it is. Special tokens' texts are ordinary text.
    pub(crate) fn encode<R: WeightReader>(
        &self,
        reader: &mut R,
        text: &str,
        add_bos: bool,
        out: &mut [u32],
        scratch: &mut [u32],
    ) -> Encoded<usize, R> {
        let mut ids = Ids { out, needed: 0 };
        if let Some(bos) = self.bos.filter(|_| add_bos) {
            ids.push(bos);
        }
        let mut prefix = self.has_space_prefix(text);
        if self.kind == TokenizerKind::SentencePieceBpe {
            let cut = match self.pre_tokenizer {
                PreTokenizer::MetaspaceWords | PreTokenizer::MetaspaceFirstWords => Cut::EverySpace,
                _ if self.cut_at_spaces => Cut::Words,
                _ => Cut::Nowhere,
            };
            for text in Words::new(text, cut) {
                self.stretch(reader, text, core::mem::take(&mut prefix), scratch, &mut ids)?;
            }
        } else {
            let mut rest = text;
            if prefix {
                let (first, after) = self.pre_tokenizer.split_behind_space(text);
                self.stretch(reader, first, true, scratch, &mut ids)?;
                rest = after;
            }
            for text in self.pre_tokenizer.split(rest) {
                self.stretch(reader, text, false, scratch, &mut ids)?;
            }
        }
        let (needed, capacity) = (ids.needed, ids.out.len());
        if needed > capacity { Err(wrong(EncodeError::OutOfSpace { needed, capacity })) } else { Ok(needed) }
    }

    /// Whether a space that is not the text's own comes before it.
    fn has_space_prefix(&self, text: &str) -> bool {
        let spaced = match (self.kind, self.pre_tokenizer) {
            (TokenizerKind::SentencePieceBpe, PreTokenizer::None) => false,
            (TokenizerKind::SentencePieceBpe, _) => text.starts_with([' ', SPACE_MARK]),
            _ => text.starts_with(' '),
        };
        self.add_space_prefix && !spaced && !text.is_empty()
    }

    /// Encodes one stretch by itself.
    fn stretch<R: WeightReader>(
        &self,
        reader: &mut R,
        text: &str,
        prefix: bool,
        scratch: &mut [u32],
        ids: &mut Ids<'_>,
    ) -> Encoded<(), R> {
        let read = StreamError::Read;
        // Most words are one token.
        let whole = prefix.then_some(b' ').into_iter().chain(text.bytes());
        let n = text.len() + usize::from(prefix);
        if let Some(id) = self.find(reader, whole, n).map_err(read)?
            && (self.ignore_merges || self.type_of(reader, id).map_err(read)? & WHOLE != 0)
        {
            ids.push(id);
            return Ok(());
        }
        let capacity = scratch.len();
        let mut symbols = Symbols::new(scratch);
        if n > symbols.bytes.len() || n > 1 << 20 {
            return Err(wrong(EncodeError::ScratchTooSmall { needed: scratch_words(n), capacity }));
        }
        self.begin(reader, text, prefix, &mut symbols).map_err(read)?;
        self.merge_all(reader, &mut symbols).map_err(read)?;
        let mut after_unknown = false;
        for at in 0..symbols.n {
            let symbol = symbols.id(at);
            if symbol & UNKNOWN == 0 {
                after_unknown = false;
                ids.push(symbol);
            } else {
                self.unknown(reader, symbol & !UNKNOWN, &mut after_unknown, ids).map_err(read)?;
            }
        }
        Ok(())
    }

    /// The symbols that merging begins with.
    fn begin<R: WeightReader>(
        &self,
        reader: &mut R,
        text: &str,
        prefix: bool,
        symbols: &mut Symbols<'_>,
    ) -> Result<(), R::Error> {
        if self.kind == TokenizerKind::SentencePieceBpe {
            for c in prefix.then_some(' ').into_iter().chain(text.chars()) {
                let c = if c == SPACE_MARK { ' ' } else { c };
                let mut utf8 = [0; 4];
                let bytes = c.encode_utf8(&mut utf8).as_bytes();
                let id = self.find(reader, bytes.iter().copied(), bytes.len())?;
                symbols.push(id.unwrap_or(UNKNOWN | u32::from(c)), bytes);
            }
            return Ok(());
        }
        for byte in prefix.then_some(b' ').into_iter().chain(text.bytes()) {
            match self.byte_token(reader, byte)? {
                Some(id) => symbols.push(id, &[byte]),
                // Dropped before merging, so that its neighbours may merge: as Hugging Face's does.
                None if self.unknown.is_none() => {}
                None => symbols.push(UNKNOWN | u32::from(byte), &[byte]),
            }
        }
        Ok(())
    }

    /// Merges the best pair, the leftmost of equals, until there is none.
    fn merge_all<R: WeightReader>(&self, reader: &mut R, symbols: &mut Symbols<'_>) -> Result<(), R::Error> {
        for at in 0..symbols.n {
            self.look(reader, symbols, at)?;
        }
        while let Some(at) = symbols.best() {
            let Some(merge) = self.pair(reader, symbols, at)? else { break };
            symbols.join(at, merge.id);
            self.look(reader, symbols, at)?;
            if let Some(before) = at.checked_sub(1) {
                self.look(reader, symbols, before)?;
            }
        }
        Ok(())
    }

    /// Sets the key of the pair that begins with a symbol.
    fn look<R: WeightReader>(
        &self,
        reader: &mut R,
        symbols: &mut Symbols<'_>,
        at: usize,
    ) -> Result<(), R::Error> {
        let key = self.pair(reader, symbols, at)?.map_or(NO_PAIR, |merge| merge.key);
        if let Some(place) = symbols.keys.get_mut(at) {
            *place = key;
        }
        Ok(())
    }

    fn pair<R: WeightReader>(
        &self,
        reader: &mut R,
        symbols: &Symbols<'_>,
        at: usize,
    ) -> Result<Option<super::Merge>, R::Error> {
        let pair = [symbols.id(at), symbols.id(at + 1)];
        if at + 1 >= symbols.n || (pair[0] | pair[1]) & UNKNOWN != 0 {
            return Ok(None);
        }
        let [begin, middle, end] = [at, at + 1, at + 2].map(|at| symbols.start(at));
        let text = symbols.bytes.get(begin..end).unwrap_or(&[]);
        let lens = [middle.saturating_sub(begin), text.len()];
        self.merge(reader, pair, text.iter().map(|word| *word as u8), lens)
    }

    /// A character as its bytes' tokens if there is one for each, else as the unknown token, once for a
    /// run of them in SentencePiece.
    fn unknown<R: WeightReader>(
        &self,
        reader: &mut R,
        code: u32,
        after_unknown: &mut bool,
        ids: &mut Ids<'_>,
    ) -> Result<(), R::Error> {
        let sentencepiece = self.kind == TokenizerKind::SentencePieceBpe;
        let mut utf8 = [0; 4];
        let bytes = match char::from_u32(code) {
            Some(c) if sentencepiece => c.encode_utf8(&mut utf8).as_bytes(),
            _ => &[],
        };
        let (mut tokens, mut n) = ([0; 4], 0);
        for (place, byte) in tokens.iter_mut().zip(bytes) {
            let Some(id) = self.byte_token(reader, *byte)? else { break };
            *place = id;
            n += 1;
        }
        if n == bytes.len() && n > 0 {
            *after_unknown = false;
            tokens.iter().take(n).for_each(|&id| ids.push(id));
        } else if let Some(id) = self.unknown {
            if !(*after_unknown && sentencepiece) {
                ids.push(id);
            }
            *after_unknown = true;
        }
        Ok(())
    }
}

fn wrong<E>(error: EncodeError) -> StreamError<E> {
    StreamError::Step(StepError::Encode(error))
}

/// Where ids go, as many as there is room for.
struct Ids<'o> {
    out: &'o mut [u32],
    needed: usize,
}

impl Ids<'_> {
    fn push(&mut self, id: u32) {
        if let Some(place) = self.out.get_mut(self.needed) {
            *place = id;
        }
        self.needed += 1;
    }
}

/// The symbols of one stretch, in scratch memory.
struct Symbols<'s> {
    /// Of each symbol: its id.
    ids: &'s mut [u32],
    /// Of each symbol: the key of the pair that it begins.
    keys: &'s mut [u32],
    /// Of each byte: itself in the low 8 bits; and of each symbol above them: where it begins.
    bytes: &'s mut [u32],
    n: usize,
    n_bytes: usize,
}

impl<'s> Symbols<'s> {
    /// No symbols yet. There is room for a third of `scratch` in bytes of text.
    fn new(scratch: &'s mut [u32]) -> Self {
        let room = scratch.len() / 3;
        let (ids, rest) = scratch.split_at_mut(room);
        let (keys, rest) = rest.split_at_mut(room.min(rest.len()));
        let (bytes, _) = rest.split_at_mut(room.min(rest.len()));
        Self { ids, keys, bytes, n: 0, n_bytes: 0 }
    }

    fn push(&mut self, id: u32, text: &[u8]) {
        let start = self.n_bytes;
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.n_bytes) {
                *place = *place & !0xFF | u32::from(*byte);
                self.n_bytes += 1;
            }
        }
        self.set_start(self.n, start);
        if let Some(place) = self.ids.get_mut(self.n) {
            *place = id;
            self.n += 1;
        }
    }

    fn id(&self, at: usize) -> u32 {
        self.ids.get(at).copied().unwrap_or(UNKNOWN)
    }

    /// Where a symbol begins, or the end.
    fn start(&self, at: usize) -> usize {
        match self.bytes.get(at) {
            Some(word) if at < self.n => (word >> 8) as usize,
            _ => self.n_bytes,
        }
    }

    fn set_start(&mut self, at: usize, start: usize) {
        if let Some(place) = self.bytes.get_mut(at) {
            *place = *place & 0xFF | (start as u32) << 8;
        }
    }

    /// The symbol that begins the best pair.
    fn best(&self) -> Option<usize> {
        let mut best = (NO_PAIR, None);
        for (at, &key) in self.keys.iter().enumerate().take(self.n.saturating_sub(1)) {
            if key < best.0 {
                best = (key, Some(at));
            }
        }
        best.1
    }

    /// Two symbols become one.
    fn join(&mut self, at: usize, id: u32) {
        if let Some(place) = self.ids.get_mut(at) {
            *place = id;
        }
        for next in at + 2..self.n {
            let (moved, key, start) = (self.id(next), self.keys.get(next).copied(), self.start(next));
            if let (Some(id), Some(place)) = (self.ids.get_mut(next - 1), self.keys.get_mut(next - 1)) {
                *id = moved;
                *place = key.unwrap_or(NO_PAIR);
            }
            self.set_start(next - 1, start);
        }
        self.n = self.n.saturating_sub(1);
    }
}
