//! Text to token ids.

#[cfg(feature = "unicode")]
mod normalized;
#[cfg(not(feature = "unicode"))]
mod not_normalized;

use super::added::{Part, Pass};
use super::bpe::{Symbol, Symbols, scratch_words};
use super::data::{Normalizer, PreTokenizer, TokenizerKind};
use super::error::EncodeError;
use super::sentencepiece::{Cut, SPACE_MARK, Words};
use super::view::Tokenizer;

/// What a special token's text, such as `<|endoftext|>`, means where it stands in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Special {
    /// Nothing special: it is encoded like any other text. For text that others wrote.
    /// (Tokens that a user added as words are matched all the same.)
    #[default]
    Plain,
    /// The special token. For prompts and chat templates.
    #[cfg(feature = "special-tokens")]
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
    /// with its spaces, mostly. WordPiece needs 100 words, NFC besides the above two for each byte of
    /// the words that are put into it. Time is O(n log n) in the longest stretch and linear in the rest.
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
        self.stretches(text, special, scratch, |stretch, scratch| {
            match stretch {
                Stretch::Token(id) => each(id),
                Stretch::Text { text, space_prefix } => {
                    self.encode_stretch(text, space_prefix, scratch, &mut each)?;
                }
            }
            Ok(())
        })
    }

    /// Cuts a text into stretches that are encoded one by one without changing the result. Each comes
    /// with the scratch memory that cutting does not need.
    pub(super) fn stretches(
        &self,
        text: &str,
        special: Special,
        scratch: &mut [u32],
        mut each: impl FnMut(Stretch<'_>, &mut [u32]) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        if !cfg!(feature = "special-tokens") {
            // Nothing is looked for: tokens that would be matched in any text were refused at load.
            let at = Place { first: true, begins: true };
            return if text.is_empty() { Ok(()) } else { self.plain_stretches(text, at, scratch, &mut each) };
        }
        let spaced = self.data.add_space_prefix
            && self.kind() == TokenizerKind::SentencePieceBpe
            && self.pre_tokenizer() == PreTokenizer::None;
        let normalized = if spaced { Pass::Spaced } else { Pass::Normalized };
        self.split_added(text, Pass::Raw, special, |part| match part {
            Part::Token(id) => each(Stretch::Token(id), scratch),
            Part::Text { text, first } => {
                let begins = first;
                self.split_added(text, normalized, special, |part| match part {
                    Part::Token(id) => each(Stretch::Token(id), scratch),
                    Part::Text { text, first } => {
                        let at = Place { first, begins: begins && first };
                        self.plain_stretches(text, at, scratch, &mut each)
                    }
                })
            }
        })
    }

    fn plain_stretches(
        &self,
        text: &str,
        place: Place,
        scratch: &mut [u32],
        each: &mut impl FnMut(Stretch<'_>, &mut [u32]) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match (self.kind(), self.normalizer()) {
            (TokenizerKind::SentencePieceBpe, _) => {
                let mut space_prefix = self.has_space_prefix(text, place);
                if text.is_empty() && space_prefix {
                    return each(Stretch::Text { text, space_prefix }, scratch);
                }
                let cut = if self.cuts_every_space() {
                    Cut::EverySpace
                } else if self.cut_at_spaces {
                    Cut::Words
                } else {
                    Cut::Nowhere
                };
                for text in Words::new(text, cut) {
                    each(Stretch::Text { text, space_prefix }, scratch)?;
                    space_prefix = false;
                }
                Ok(())
            }
            (TokenizerKind::WordPiece, _) => self.words(text, scratch, each),
            (_, Normalizer::Nfc) => self.nfc_stretches(text, scratch, each),
            _ => self.pre_tokens(text, scratch, each),
        }
    }

    fn pre_tokens(
        &self,
        text: &str,
        scratch: &mut [u32],
        each: &mut impl FnMut(Stretch<'_>, &mut [u32]) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut rest = text;
        if self.data.add_space_prefix && !text.starts_with(' ') && !text.is_empty() {
            let (first, after) = self.pre_tokenizer().split_behind_space(text);
            each(Stretch::Text { text: first, space_prefix: true }, scratch)?;
            rest = after;
        }
        for text in self.pre_tokenizer().split(rest) {
            each(Stretch::Text { text, space_prefix: false }, scratch)?;
        }
        Ok(())
    }

    /// Whether a space that is not the text's own comes before it.
    fn has_space_prefix(&self, text: &str, place: Place) -> bool {
        let before_a_space = match self.pre_tokenizer() {
            PreTokenizer::Metaspace | PreTokenizer::MetaspaceWords => false,
            PreTokenizer::MetaspaceFirst | PreTokenizer::MetaspaceFirstWords if place.begins => false,
            PreTokenizer::MetaspaceFirst | PreTokenizer::MetaspaceFirstWords => return false,
            _ if place.first => true,
            _ => return false,
        };
        self.data.add_space_prefix && (before_a_space || !text.starts_with([' ', SPACE_MARK]))
    }

    fn cuts_every_space(&self) -> bool {
        matches!(self.pre_tokenizer(), PreTokenizer::MetaspaceWords | PreTokenizer::MetaspaceFirstWords)
    }

    /// Encodes one stretch by itself.
    #[inline]
    pub(super) fn encode_stretch(
        &self,
        text: &str,
        space_prefix: bool,
        scratch: &mut [u32],
        mut each: impl FnMut(u32),
    ) -> Result<(), EncodeError> {
        #[cfg(feature = "unicode")]
        if self.kind() == TokenizerKind::WordPiece {
            self.word_pieces(text, each);
            return Ok(());
        }
        // Most words are one token.
        let prefix: &[u8] = if space_prefix { b" " } else { b"" };
        if let Some(id) = self.find_joined(prefix, text.as_bytes())
            && self.is_whole(id)
        {
            each(id);
            return Ok(());
        }
        self.merge_stretch(text, space_prefix, scratch, each)
    }

    /// Encodes one stretch by merging.
    pub(super) fn merge_stretch(
        &self,
        text: &str,
        space_prefix: bool,
        scratch: &mut [u32],
        mut each: impl FnMut(u32),
    ) -> Result<(), EncodeError> {
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
            _ => {
                let prefix: &[u8] = if space_prefix { b" " } else { b"" };
                prefix
                    .iter()
                    .copied()
                    .chain(text.bytes())
                    .for_each(|byte| self.push_byte(byte, &mut symbols));
            }
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
}

/// Where a text between added tokens stands.
#[derive(Clone, Copy)]
struct Place {
    /// At the beginning of what was normalized by itself.
    first: bool,
    /// At the beginning of all.
    begins: bool,
}

/// One part of a text.
pub(super) enum Stretch<'t> {
    /// A token that no merging makes.
    Token(u32),
    /// Text that no merge crosses the ends of.
    Text {
        /// The text.
        text: &'t str,
        /// It begins with a space that is not its own.
        space_prefix: bool,
    },
}
