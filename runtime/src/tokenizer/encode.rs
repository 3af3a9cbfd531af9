//! Text to token ids.

use super::bpe::{Symbol, Symbols, scratch_words};
use super::data::{Normalizer, PreTokenizer, TokenType, TokenizerKind};
use super::error::EncodeError;
use super::pretokenize::PreTokens;
use super::sentencepiece::{SPACE_MARK, Words};
use super::unicode::{first_nfc_active, is_space};
use super::validate::{STRIP_LEFT, STRIP_RIGHT};
use super::view::Tokenizer;

/// What a special token's text, such as `<|endoftext|>`, means where it stands in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// Nothing special: it is encoded like any other text. For text that others wrote.
    /// (Tokens that a user added as words are matched all the same.)
    #[default]
    Plain,
    /// The special token. For prompts and chat templates.
    Parsed,
}

impl<'a> Tokenizer<'a> {
    /// Encodes `text` into `out`; returns how many tokens it is.
    ///
    /// With `add_bos` and a vocabulary that has one, the first token is [`bos`](Self::bos); whether
    /// the model wants that, [`adds_bos`](Self::adds_bos) tells. A byte that the vocabulary lacks
    /// becomes the unknown token, or nothing where there is none (as in Hugging Face's tokenizers).
    ///
    /// `scratch` is working memory, [`scratch_words`] of the longest stretch without a cut: a word
    /// with its spaces, mostly. Time is O(n log n) in the longest stretch and linear in the rest.
    ///
    /// # Errors
    /// [`EncodeError`] if `out` or `scratch` is too small (with the size that would do), or if the
    /// text would need Unicode normalization first.
    pub fn encode(
        &self,
        text: &str,
        special: Special,
        add_bos: bool,
        out: &mut [u32],
        scratch: &mut [u32],
    ) -> Result<usize, EncodeError> {
        let capacity = out.len();
        let mut needed = 0;
        self.encode_each(text, special, add_bos, scratch, |id| {
            if let Some(slot) = out.get_mut(needed) {
                *slot = id;
            }
            needed += 1;
        })?;
        if needed > capacity { Err(EncodeError::OutOfSpace { needed, capacity }) } else { Ok(needed) }
    }

    /// [`encode`](Self::encode) with a function that takes each token.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode), but for the output's size.
    pub fn encode_each(
        &self,
        text: &str,
        special: Special,
        add_bos: bool,
        scratch: &mut [u32],
        mut each: impl FnMut(u32),
    ) -> Result<(), EncodeError> {
        if let Some(bos) = self.bos().filter(|_| add_bos) {
            each(bos);
        }
        self.stretches(text, special, |stretch| match stretch {
            Stretch::Token(id) => {
                each(id);
                Ok(())
            }
            Stretch::Text { text, space_prefix } => {
                self.encode_stretch(text, space_prefix, scratch, &mut each)
            }
        })
    }

    /// Cuts a text into stretches that are encoded one by one without changing the result.
    pub(super) fn stretches<'t>(
        &self,
        text: &'t str,
        special: Special,
        mut each: impl FnMut(Stretch<'t>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        if self.normalizer() == Normalizer::Nfc
            && let Some(at) = first_nfc_active(text)
        {
            return Err(EncodeError::NeedsNfc { at });
        }
        let mut rest = text;
        while let Some(found) = self.next_added(rest, special) {
            let (before, after) = found.around(rest);
            self.plain_stretches(before, &mut each)?;
            each(Stretch::Token(found.id))?;
            rest = after;
        }
        self.plain_stretches(rest, &mut each)
    }

    fn plain_stretches<'t>(
        &self,
        text: &'t str,
        each: &mut impl FnMut(Stretch<'t>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match self.kind() {
            TokenizerKind::SentencePieceBpe => {
                let mut space_prefix = self.data.add_space_prefix;
                for text in Words::new(text, self.cut_at_spaces) {
                    each(Stretch::Text { text, space_prefix })?;
                    space_prefix = false;
                }
            }
            _ => {
                let pre_tokens: PreTokens<'t> = PreTokenizer::split(self.pre_tokenizer(), text);
                for text in pre_tokens {
                    each(Stretch::Text { text, space_prefix: false })?;
                }
            }
        }
        Ok(())
    }

    /// Encodes one stretch by itself.
    pub(super) fn encode_stretch(
        &self,
        text: &str,
        space_prefix: bool,
        scratch: &mut [u32],
        mut each: impl FnMut(u32),
    ) -> Result<(), EncodeError> {
        if self.data.ignore_merges
            && !space_prefix
            && let Some(id) = self.find(text.as_bytes())
        {
            each(id);
            return Ok(());
        }
        let capacity = scratch.len();
        let mut symbols = Symbols::new(scratch);
        let bytes = text.len().saturating_add(usize::from(space_prefix));
        if bytes > symbols.room() {
            return Err(EncodeError::ScratchTooSmall { needed: scratch_words(bytes), capacity });
        }
        match self.kind() {
            TokenizerKind::SentencePieceBpe => {
                if space_prefix {
                    self.push_char(' ', &mut symbols);
                }
                text.chars().for_each(|c| self.push_char(c, &mut symbols));
            }
            _ => text.bytes().for_each(|byte| self.push_byte(byte, &mut symbols)),
        }
        symbols.merge_all(self);
        let mut after_unknown = false;
        symbols.for_each(self, |symbol| match symbol {
            Symbol::Token(id) => {
                after_unknown = false;
                each(id);
            }
            Symbol::Unknown(code) => self.emit_unknown(code, &mut after_unknown, &mut each),
        });
        Ok(())
    }

    fn push_byte(&self, byte: u8, symbols: &mut Symbols<'_>) {
        match self.byte_token(byte) {
            Some(id) => symbols.push_token(id, 1),
            // Dropped before merging, so that its neighbours may merge: as Hugging Face's does.
            None if self.data.unknown.is_none() => {}
            None => symbols.push_unknown(u32::from(byte)),
        }
    }

    fn push_char(&self, c: char, symbols: &mut Symbols<'_>) {
        let c = if c == SPACE_MARK { ' ' } else { c };
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).as_bytes();
        match self.find(bytes) {
            Some(id) => symbols.push_token(id, bytes.len()),
            None => symbols.push_unknown(u32::from(c)),
        }
    }

    /// A character as its bytes' tokens if there is one for each, else as the unknown token, once
    /// for a run of them in SentencePiece.
    fn emit_unknown(&self, code: u32, after_unknown: &mut bool, mut each: impl FnMut(u32)) {
        let mut utf8 = [0; 4];
        let bytes = match (self.kind(), char::from_u32(code)) {
            (TokenizerKind::SentencePieceBpe, Some(c)) => c.encode_utf8(&mut utf8).as_bytes(),
            _ => &[],
        };
        if !bytes.is_empty() && bytes.iter().all(|&byte| self.byte_token(byte).is_some()) {
            *after_unknown = false;
            bytes.iter().filter_map(|&byte| self.byte_token(byte)).for_each(each);
        } else if let Some(id) = self.unknown() {
            if !(*after_unknown && self.kind() == TokenizerKind::SentencePieceBpe) {
                each(id);
            }
            *after_unknown = true;
        }
    }

    /// The first added token in `text`: leftmost, then longest.
    fn next_added(&self, text: &str, special: Special) -> Option<Found> {
        if self.data.added.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        (0..bytes.len()).find_map(|at| {
            let rest = bytes.get(at..)?;
            if !self.added_first.contains(*rest.first()?) {
                return None;
            }
            self.added().find_map(|(id, flags)| {
                let token = self.bytes(id);
                let wanted = !token.is_empty()
                    && rest.starts_with(token)
                    && (special == Special::Parsed || self.token_type(id) == TokenType::UserDefined);
                wanted.then_some(Found { id, flags, start: at, end: at + token.len() })
            })
        })
    }
}

/// One part of a text.
pub(super) enum Stretch<'t> {
    /// An added token.
    Token(u32),
    /// Text that no merge crosses the ends of.
    Text {
        /// The text.
        text: &'t str,
        /// It begins with a space that is not its own.
        space_prefix: bool,
    },
}

/// Where an added token stands.
struct Found {
    id: u32,
    flags: u32,
    start: usize,
    end: usize,
}

impl Found {
    /// The text before and after it, without the white space that it strips.
    fn around<'t>(&self, text: &'t str) -> (&'t str, &'t str) {
        let before = text.get(..self.start).unwrap_or("");
        let after = text.get(self.end..).unwrap_or("");
        (
            if self.flags & STRIP_LEFT != 0 { before.trim_end_matches(is_space) } else { before },
            if self.flags & STRIP_RIGHT != 0 { after.trim_start_matches(is_space) } else { after },
        )
    }
}
