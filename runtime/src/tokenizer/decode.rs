//! Token ids to text, a token at a time, never splitting a character.

use core::fmt;

use super::data::{TokenType, TokenizerKind};
use super::view::Tokenizer;
use crate::utf8::{is_unfinished, text_of};

/// What closes a word in BERT's texts and takes no space before it.
const CLOSING: [&str; 9] = [".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"];

impl Tokenizer<'_> {
    /// Calls `each` with the text of all of `ids`, in parts, as Hugging Face's `decode` has it.
    ///
    /// A [`Decoder`] gives the same text as the ids come, but for one case: SentencePiece's byte
    /// tokens in a row that are not all characters become U+FFFD each, also those that were
    /// characters, which a stream has told already.
    pub fn decode_each(&self, ids: &[u32], mut each: impl FnMut(&str)) {
        let mut decoder = Decoder::new();
        let mut rest = ids;
        while let Some((&id, after)) = rest.split_first() {
            let run = self.byte_run(rest);
            let Some((tokens, after_run)) = rest.split_at_checked(run.tokens).filter(|_| run.tokens > 0)
            else {
                rest = after;
                decoder.push(self, id).for_each_str(&mut each);
                continue;
            };
            rest = after_run;
            if run.valid {
                tokens.iter().for_each(|&id| decoder.push(self, id).for_each_str(&mut each));
            } else {
                (0..run.bytes).for_each(|_| each("\u{fffd}"));
                decoder.at_start = false;
            }
        }
        decoder.finish().for_each_str(each);
    }

    /// The byte tokens that `ids` begin with; tokens without text do not end them.
    fn byte_run(&self, ids: &[u32]) -> ByteRun {
        let mut run = ByteRun { tokens: 0, bytes: 0, valid: true };
        let mut decoder = Decoder { each_byte: false, ..Decoder::mid_text() };
        let broken = |piece: Piece<'_>| {
            let mut broken = piece.head.broken;
            piece.body.utf8_chunks().for_each(|chunk| broken |= !chunk.invalid().is_empty());
            broken
        };
        for &id in ids {
            match self.token_type(id) {
                TokenType::Byte => {
                    run.valid &= !broken(decoder.push_bytes(self.bytes(id)));
                    run.bytes += 1;
                }
                TokenType::Normal | TokenType::UserDefined => break,
                _ => {}
            }
            run.tokens += 1;
        }
        run.valid &= !broken(decoder.finish());
        run
    }
}

/// Byte tokens in a row.
struct ByteRun {
    /// How many ids, with those that have no text.
    tokens: usize,
    bytes: usize,
    valid: bool,
}

/// Turns token ids into text as they come.
///
/// A token may end in the middle of a UTF-8 character; its bytes are kept (three at most) until the
/// next token completes them. Bytes that can no longer become a character are U+FFFD, one for each
/// maximal part, as in `String::from_utf8_lossy`: however the ids are cut into calls, the text is
/// that of all their bytes in one. (Of SentencePiece's byte tokens each becomes one U+FFFD.)
///
/// WordPiece's words come with a space before each but the first and what continues or closes one.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The beginning of a character, and room for its end.
    carry: [u8; 4],
    carry_len: u8,
    /// No text has come yet, and SentencePiece's space prefix may.
    at_start: bool,
    /// Each byte of a broken character is one U+FFFD.
    each_byte: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder of a whole text: the space that encoding put before it is dropped.
    pub const fn new() -> Self {
        Self { carry: [0; 4], carry_len: 0, at_start: true, each_byte: false }
    }

    /// A decoder of a text that goes on: a leading space is the text's own. For what a model
    /// generates behind a prompt.
    pub const fn mid_text() -> Self {
        Self { carry: [0; 4], carry_len: 0, at_start: false, each_byte: false }
    }

    /// The text that token `id` completes. Control, unknown and unused tokens, and ids that are not
    /// in the vocabulary, have none.
    pub fn push<'a>(&mut self, tokenizer: &Tokenizer<'a>, id: u32) -> Piece<'a> {
        let bytes = match tokenizer.token_type(id) {
            TokenType::Normal | TokenType::UserDefined | TokenType::Byte => tokenizer.bytes(id),
            TokenType::Control | TokenType::Unknown | TokenType::Unused => return Piece::EMPTY,
        };
        if tokenizer.kind() == TokenizerKind::WordPiece {
            return self.push_word(bytes);
        }
        let sentencepiece = tokenizer.kind() == TokenizerKind::SentencePieceBpe;
        self.push_text(sentencepiece, tokenizer.data.add_space_prefix, bytes)
    }

    /// The same with the token's bytes, of any kind but WordPiece.
    #[inline]
    pub(crate) fn push_text<'a>(
        &mut self,
        sentencepiece: bool,
        add_space_prefix: bool,
        mut bytes: &'a [u8],
    ) -> Piece<'a> {
        if self.at_start && !bytes.is_empty() {
            self.at_start = false;
            if add_space_prefix && sentencepiece {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
        }
        self.each_byte = sentencepiece;
        self.push_bytes(bytes)
    }

    fn push_word<'a>(&mut self, bytes: &'a [u8]) -> Piece<'a> {
        let first = core::mem::replace(&mut self.at_start, false);
        let closes = CLOSING.iter().any(|close| bytes.starts_with(close.as_bytes()));
        match bytes.strip_prefix(b"##") {
            Some(rest) if !first => Piece { head: Head::EMPTY, body: rest },
            _ if first || closes => Piece { head: Head::EMPTY, body: bytes },
            _ => Piece { head: Head::SPACE, body: bytes },
        }
    }

    /// The end of the text: U+FFFD if it ends in the middle of a character.
    pub fn finish(&mut self) -> Piece<'static> {
        Piece { head: self.broken(), body: &[] }
    }

    /// What stands for the beginning of a character that will not go on.
    fn broken(&mut self) -> Head {
        let carried = core::mem::replace(&mut self.carry_len, 0);
        let times = if self.each_byte { carried } else { carried.min(1) };
        Head { times, broken: carried > 0, ..Head::REPLACEMENT }
    }

    fn push_bytes<'a>(&mut self, bytes: &'a [u8]) -> Piece<'a> {
        let (head, rest) = self.resolve_carry(bytes);
        if self.carry_len > 0 {
            return Piece { head, body: &[] };
        }
        let kept = unfinished_tail(rest);
        let (body, tail) = rest.split_at_checked(rest.len() - kept).unwrap_or((rest, &[]));
        for (slot, &byte) in self.carry.iter_mut().zip(tail) {
            *slot = byte;
            self.carry_len += 1;
        }
        Piece { head, body }
    }

    /// Goes on with the character that was begun, if one was: gives what it became, and the bytes
    /// that are not part of it. If it is still not complete, all bytes are in `carry`.
    fn resolve_carry<'a>(&mut self, bytes: &'a [u8]) -> (Head, &'a [u8]) {
        let mut rest = bytes;
        while self.carry_len > 0 {
            let Some((&byte, after)) = rest.split_first() else {
                return (Head::EMPTY, rest);
            };
            let carried = usize::from(self.carry_len);
            if let Some(slot) = self.carry.get_mut(carried) {
                *slot = byte;
            }
            let joined = self.carry.get(..=carried).unwrap_or(&[]);
            if is_unfinished(joined) {
                self.carry_len += 1;
                rest = after;
            } else if text_of(joined).is_some() {
                let len = self.carry_len + 1;
                self.carry_len = 0;
                return (Head { bytes: self.carry, len, times: 1, broken: false }, after);
            } else {
                // What was begun cannot go on so; this byte is looked at anew.
                return (self.broken(), rest);
            }
        }
        (Head::EMPTY, rest)
    }
}

/// How many bytes at the end of `bytes` begin a character that is not complete: 0 to 3.
fn unfinished_tail(bytes: &[u8]) -> usize {
    // A character's beginning is within the last three bytes, and everything before it stands for
    // itself, so that the first byte there that is not a continuation decides.
    let tail = bytes.len().min(3);
    for length in 1..=tail {
        let Some(end) = bytes.get(bytes.len() - length..) else {
            return 0;
        };
        if end.first().is_some_and(|byte| byte & 0xc0 != 0x80) {
            return if is_unfinished(end) { length } else { 0 };
        }
    }
    0
}

/// Up to four bytes of valid UTF-8: a character that was begun in an earlier token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    bytes: [u8; 4],
    len: u8,
    /// How often it comes.
    times: u8,
    /// It stands for bytes that are no character (which may spell U+FFFD, too).
    broken: bool,
}

impl Head {
    const EMPTY: Self = Self { bytes: [0; 4], len: 0, times: 0, broken: false };
    /// U+FFFD.
    const REPLACEMENT: Self = Self { bytes: [0xef, 0xbf, 0xbd, 0], len: 3, times: 1, broken: true };
    const SPACE: Self = Self { bytes: [b' ', 0, 0, 0], len: 1, times: 1, broken: false };

    fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(text_of).unwrap_or("")
    }
}

/// Text that one token completed: borrowed from the vocabulary, but for a character that an earlier
/// token began. Write it with [`Display`](fmt::Display), or take its parts with
/// [`for_each_str`](Self::for_each_str).
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    head: Head,
    /// Whole characters and bytes that are none.
    body: &'a [u8],
}

impl Piece<'_> {
    /// No text.
    pub const EMPTY: Self = Self { head: Head::EMPTY, body: &[] };

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.head.times == 0 && self.body.is_empty()
    }

    /// The text's parts in order, some of them empty.
    #[cfg(feature = "embedded-io-async")]
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        let head = core::iter::repeat_n(self.head.as_str(), usize::from(self.head.times));
        let body = self.body.utf8_chunks();
        let replaced = |bytes: &[u8]| if bytes.is_empty() { "" } else { "\u{fffd}" };
        head.chain(body.flat_map(move |chunk| [chunk.valid(), replaced(chunk.invalid())]))
    }

    /// Calls `each` with the text's parts in order, U+FFFD for bytes that are no character.
    pub fn for_each_str(&self, mut each: impl FnMut(&str)) {
        // The closure cannot fail, so neither can this.
        let _: Result<(), core::convert::Infallible> = self.try_for_each_str(|part| {
            each(part);
            Ok(())
        });
    }

    /// [`for_each_str`](Self::for_each_str) that stops at the first error.
    ///
    /// # Errors
    /// What `each` returned.
    pub fn try_for_each_str<E>(&self, mut each: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        for _ in 0..self.head.times {
            each(self.head.as_str())?;
        }
        for chunk in self.body.utf8_chunks() {
            if !chunk.valid().is_empty() {
                each(chunk.valid())?;
            }
            if !chunk.invalid().is_empty() {
                each("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Piece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.try_for_each_str(|part| f.write_str(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn decoded(parts: &[Vec<u8>]) -> String {
        let mut decoder = Decoder::new();
        let mut text: String = parts.iter().map(|part| decoder.push_bytes(part).to_string()).collect();
        text += &decoder.finish().to_string();
        text
    }

    fn hostile_byte() -> impl Strategy<Value = u8> {
        // Bytes around which UTF-8's rules turn: leads, short second ranges, surrogates.
        prop_oneof![
            any::<u8>(),
            prop::sample::select(
                &[0x41, 0x80, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xe2, 0xed, 0xf0, 0xf4, 0xf5][..]
            )
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_cut_of_any_bytes_is_the_lossy_text(parts in prop::collection::vec(prop::collection::vec(hostile_byte(), 0..6), 0..8)) {
            let whole = parts.concat();
            prop_assert_eq!(decoded(&parts), String::from_utf8_lossy(&whole));
        }

        #[test]
        fn any_cut_of_text_is_the_text(text in "\\PC{0,20}", size in 1usize..5) {
            let parts: Vec<Vec<u8>> = text.as_bytes().chunks(size).map(Vec::from).collect();
            prop_assert_eq!(decoded(&parts), text);
        }
    }

    #[test]
    fn a_character_comes_when_it_is_whole() {
        let mut decoder = Decoder::new();
        assert!(decoder.push_bytes(&[0xf0]).is_empty());
        assert!(decoder.push_bytes(&[0x9f, 0x98]).is_empty());
        assert_eq!(decoder.push_bytes(&[0x80, b'!']).to_string(), "😀!");
        assert!(decoder.finish().is_empty());
    }
}
