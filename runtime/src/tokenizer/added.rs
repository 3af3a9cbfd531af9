//! Where added tokens stand in a text, and what they take of the white space around them.
//!
//! Hugging Face's order: tokens that are matched in the text as it is, then, in what is left and
//! normalized, the others. Leftmost first, the longest of those that begin there.

use super::encode::Special;
use super::unicode::is_space;
use super::validate::{NORMALIZED, SINGLE_WORD, STRIP_LEFT, STRIP_RIGHT};
use super::view::Tokenizer;
use super::{data::TokenType, sentencepiece::SPACE_MARK};

/// Which added tokens are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Those that are matched in the text as it is.
    Raw,
    /// Those that are matched in normalized text.
    Normalized,
    /// Those, in a text that a space was put before, each behind a space that is part of it.
    Spaced,
}

/// One part of a text.
pub(super) enum Part<'t> {
    /// An added token.
    Token(u32),
    /// Text between added tokens.
    Text {
        /// The text.
        text: &'t str,
        /// It is where the text that was looked through begins.
        first: bool,
    },
}

impl Tokenizer<'_> {
    /// Calls `each` with the parts of `text` in order. A first part may be empty in [`Pass::Spaced`]:
    /// the space before the text is left of it.
    pub(super) fn split_added<'t, E>(
        &self,
        text: &'t str,
        pass: Pass,
        special: Special,
        mut each: impl FnMut(Part<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        let wanted = if pass == Pass::Raw { 0 } else { NORMALIZED };
        let (mut done, mut from) = (0, 0);
        let mut first = true;
        while let Some((id, flags, start, end)) = self.next_added(text, from, wanted, pass) {
            from = end;
            let (before, after) = (text.get(..start).unwrap_or(""), text.get(end..).unwrap_or(""));
            let plain = special == Special::Plain && self.token_type(id) != TokenType::UserDefined;
            // In a spaced text a token begins with the space before it, or with the one before the text.
            let prefix_is_left = pass == Pass::Spaced && first && start > 0;
            let before = match before.char_indices().next_back() {
                Some((space, _)) if pass == Pass::Spaced => before.get(..space).unwrap_or(""),
                _ => before,
            };
            if plain || (flags & SINGLE_WORD != 0 && (ends_with_word(before) || starts_with_word(after))) {
                continue;
            }
            // In Hugging Face's normalized text `▁` stands for spaces, and is no white space.
            let strips = |c: char| is_space(c) && (pass != Pass::Spaced || c != ' ');
            let stripped =
                |flag, text: &str, rest: &str| if flags & flag == 0 { text.len() } else { rest.len() };
            let start = stripped(STRIP_LEFT, before, before.trim_end_matches(strips)).max(done);
            let end = end + after.len() - stripped(STRIP_RIGHT, after, after.trim_start_matches(strips));
            if done < start || prefix_is_left {
                each(Part::Text { text: text.get(done..start).unwrap_or(""), first })?;
            }
            each(Part::Token(id))?;
            first = false;
            // Behind a token that stands in white space which the one before it took, the reference goes
            // on with what is left of that white space.
            done = end;
        }
        match text.get(done..) {
            Some(rest) if !rest.is_empty() => each(Part::Text { text: rest, first }),
            _ => Ok(()),
        }
    }

    /// The first added token at or behind `from`: id, flags, start and end.
    fn next_added(
        &self,
        text: &str,
        from: usize,
        wanted: u32,
        pass: Pass,
    ) -> Option<(u32, u32, usize, usize)> {
        if self.data.added.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        let candidates =
            bytes.iter().enumerate().skip(from).filter(|(_, byte)| self.added_first.contains(**byte));
        candidates.map(|(at, _)| at).find_map(|at| {
            let rest = bytes.get(at..)?;
            let behind_space =
                at == 0 || text.get(..at).is_some_and(|before| before.ends_with([' ', SPACE_MARK]));
            if pass == Pass::Spaced && !behind_space {
                return None;
            }
            self.added().find_map(|(id, flags)| {
                let token = self.bytes(id);
                let found = flags & NORMALIZED == wanted && !token.is_empty() && rest.starts_with(token);
                found.then_some((id, flags, at, at + token.len()))
            })
        })
    }
}

#[cfg(feature = "unicode")]
fn ends_with_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(super::unicode::is_word)
}

#[cfg(feature = "unicode")]
fn starts_with_word(text: &str) -> bool {
    text.chars().next().is_some_and(super::unicode::is_word)
}

// Tokens that ask for this are refused at load.
#[cfg(not(feature = "unicode"))]
fn ends_with_word(_: &str) -> bool {
    false
}

#[cfg(not(feature = "unicode"))]
fn starts_with_word(_: &str) -> bool {
    false
}
