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
        let (mut done, mut from, mut white_end) = (0, 0, 0);
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
            // What is done already is not looked at again, so that a run of white space costs its length.
            let start = match flags & STRIP_LEFT {
                0 => before.len(),
                _ => {
                    let (kept, rest) = before.split_at_checked(done).unwrap_or((before, ""));
                    kept.len() + rest.trim_end_matches(strips).len()
                }
            };
            let start = start.max(done);
            if flags & STRIP_RIGHT != 0 {
                let white = || after.len() - after.trim_start_matches(strips).len();
                white_end = if end < white_end { white_end } else { end + white() };
            }
            let end = if flags & STRIP_RIGHT == 0 { end } else { white_end };
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
        let begins = |at: &usize| {
            bytes.get(*at).is_some_and(|byte| self.added_first.contains(*byte))
                && bytes.get(at + 1).is_none_or(|byte| self.added_second.contains(*byte))
        };
        (from..bytes.len()).filter(begins).find_map(|at| {
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
