//! Cutting text into pre-tokens: the published regular expressions, as scanners.
//!
//! Every scanner looks at a character a bounded number of times, so a text of n bytes costs O(n),
//! whatever it holds. The patterns:
//!
//! * GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! * Llama 3 (tiktoken's cl100k): `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|`
//!   ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
//! * Qwen 2: Llama 3's with `\p{N}` for `\p{N}{1,3}`
//! * GPT-4 (tiktoken's newer cl100k): Llama 3's with `\s++$|\s*[\r\n]` for `\s*[\r\n]+`

use super::data::PreTokenizer;
use super::unicode::{CharClass, ascii_class, char_class, class_run_length, first_class_run, is_digit_apart};

impl PreTokenizer {
    /// Cuts `text` into pre-tokens: consecutive, none empty, together the whole text.
    ///
    /// [`PreTokenizer::Bert`] is WordPiece's own and the `Metaspace` ones SentencePiece's, and they are
    /// not cut here: the text comes back whole, as with [`PreTokenizer::None`].
    pub fn split(self, text: &str) -> PreTokens<'_> {
        PreTokens { pattern: self, rest: text, until_number: None }
    }

    /// What of `text` is in the first pre-token of a space and `text`, and the rest. Of the patterns
    /// only GPT-2's has text behind a space that is not its own.
    pub(super) fn split_behind_space(self, text: &str) -> (&str, &str) {
        let length = match (self, first_class_run(text)) {
            (Self::Gpt2, Some((CharClass::Space, run))) if run < text.len() => before_last(text, run),
            (Self::Gpt2, Some((_, run))) => run,
            _ => text.len(),
        };
        text.split_at_checked(length).unwrap_or((text, ""))
    }
}

/// The pre-tokens of a text, in order. Made by [`PreTokenizer::split`].
#[derive(Clone, Debug)]
pub struct PreTokens<'t> {
    pattern: PreTokenizer,
    rest: &'t str,
    /// Digits apart: bytes of `rest` before the next number, where that is known.
    until_number: Option<usize>,
}

impl<'t> Iterator for PreTokens<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let length = match self.pattern {
            PreTokenizer::None
            | PreTokenizer::Bert
            | PreTokenizer::Metaspace
            | PreTokenizer::MetaspaceFirst
            | PreTokenizer::MetaspaceWords
            | PreTokenizer::MetaspaceFirstWords => self.rest.len(),
            PreTokenizer::Gpt2 => gpt2(self.rest),
            PreTokenizer::DigitsGpt2 => self.digits_gpt2(),
            PreTokenizer::Llama3 => llama3(self.rest, 3),
            PreTokenizer::Qwen2 => llama3(self.rest, 1),
            PreTokenizer::Cl100k => cl100k(self.rest),
        };
        // The scanners count whole characters, at least one; if they ever did not, the rest would
        // still come out whole.
        let (token, rest) = match self.rest.split_at_checked(length) {
            Some(cut) if length > 0 => cut,
            _ => (self.rest, ""),
        };
        self.rest = rest;
        Some(token)
    }
}

impl PreTokens<'_> {
    /// Each number character is a pre-token; GPT-2's pattern sees what lies between as if alone.
    fn digits_gpt2(&mut self) -> usize {
        let run = match self.until_number.take() {
            Some(run) => run,
            None => self.rest.find(is_digit_apart).unwrap_or(self.rest.len()),
        };
        if run == 0 {
            return first_char_length(self.rest);
        }
        let length = gpt2(self.rest.get(..run).unwrap_or(self.rest));
        self.until_number = run.checked_sub(length);
        length
    }
}

/// Length in bytes of GPT-2's first match in `text`, which is not empty.
fn gpt2(text: &str) -> usize {
    if let Some(length) = contraction(text, |byte| byte) {
        return length;
    }
    let body = text.strip_prefix(' ').unwrap_or(text);
    let space = text.len() - body.len();
    let Some(&first) = body.as_bytes().first() else { return white_space(text) };
    match ascii_class(first) {
        Some(CharClass::Space) => white_space(text),
        Some(class) => space + run_length(body, |other| other == class),
        None => match first_class_run(body) {
            Some((CharClass::Space, _)) | None => white_space(text),
            Some((_, run)) => space + run,
        },
    }
}

/// Length in bytes of Llama 3's first match in `text`, which is not empty, with numbers of up to
/// `digits` characters.
fn llama3(text: &str, digits: usize) -> usize {
    // The pattern ignores case as Unicode does: U+017F, the long s, is an s.
    if let Some(length) = contraction(text, |byte| byte.to_ascii_lowercase()) {
        return length;
    }
    if text.starts_with("'\u{17f}") {
        return 3;
    }
    let Some(first) = text.chars().next() else {
        return 0;
    };
    let class = char_class(first);
    let lead = match class {
        CharClass::Letter => 0,
        CharClass::Number => {
            return text
                .chars()
                .take(digits)
                .take_while(|&c| char_class(c) == CharClass::Number)
                .map(char::len_utf8)
                .sum();
        }
        CharClass::Space | CharClass::Other => first.len_utf8(),
    };
    if !matches!(first, '\r' | '\n') {
        let letters = run_length(text.get(lead..).unwrap_or(""), |class| class == CharClass::Letter);
        if letters > 0 {
            return lead + letters;
        }
    }
    let body = text.strip_prefix(' ').unwrap_or(text);
    let others = run_length(body, |class| class == CharClass::Other);
    if others > 0 {
        let length = text.len() - body.len() + others;
        let newlines = text.bytes().skip(length).take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        return length + newlines;
    }
    let run = run_length(text, |class| class == CharClass::Space);
    match text.bytes().take(run).rposition(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(newline) => newline + 1,
        None => white_space(text),
    }
}

/// Llama 3's, but white space up to the end of the text is one pre-token, newlines or not.
fn cl100k(text: &str) -> usize {
    let length = llama3(text, 3);
    // A token of white space alone is all that the rest of the run can be joined to.
    let Some(last) = text.get(..length).and_then(|token| token.chars().next_back()) else { return length };
    if !super::unicode::is_space(last) || !text.starts_with(super::unicode::is_space) {
        return length;
    }
    let run = run_length(text, |class| class == CharClass::Space);
    if run == text.len() { run } else { length }
}

/// `\s+(?!\S)|\s+`: all white space but its last character, which belongs to the word that follows.
fn white_space(text: &str) -> usize {
    let run = run_length(text, |class| class == CharClass::Space);
    if run == text.len() {
        return run;
    }
    match before_last(text, run) {
        0 => run,
        before => before,
    }
}

/// Bytes before the last character of the first `run`.
fn before_last(text: &str, run: usize) -> usize {
    let last = text.get(..run).and_then(|run| run.chars().next_back()).map_or(0, char::len_utf8);
    run.saturating_sub(last)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, with each byte seen through `fold`.
fn contraction(text: &str, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let mut bytes = text.bytes();
    if bytes.next() != Some(b'\'') {
        return None;
    }
    match (fold(bytes.next()?), bytes.next().map(fold)) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r', Some(b'e')) | (b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(3),
        _ => None,
    }
}

fn first_char_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// Bytes before the first character whose class is not wanted.
#[inline]
fn run_length(text: &str, wanted: impl Fn(CharClass) -> bool) -> usize {
    let unwanted = text.bytes().position(|byte| !ascii_class(byte).is_some_and(&wanted));
    let Some(at) = unwanted else { return text.len() };
    match text.as_bytes().get(at) {
        Some(byte) if byte.is_ascii() => at,
        _ => at + class_run_length(text.get(at..).unwrap_or(""), wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn cut(pattern: PreTokenizer, text: &str) -> Vec<&str> {
        pattern.split(text).collect()
    }

    // What the regular expressions give in Hugging Face's tokenizers.
    #[test]
    fn gpt2_cuts() {
        let cut = |text| cut(PreTokenizer::Gpt2, text);
        assert_eq!(cut("Hello  world, it's 2024!"), ["Hello", " ", " world", ",", " it", "'s", " 2024", "!"]);
        assert_eq!(cut("a \n\n b\n"), ["a", " \n\n", " b", "\n"]);
        assert_eq!(cut("I'LL don't''s"), ["I", "'", "LL", " don", "'t", "''", "s"]);
        assert_eq!(cut("x  "), ["x", "  "]);
        assert_eq!(cut("\u{a0}x\u{3000}\u{3000}y"), ["\u{a0}", "x", "\u{3000}", "\u{3000}", "y"]);
        assert_eq!(cut("e\u{301}²"), ["e", "\u{301}", "²"]);
    }

    #[test]
    fn behind_a_space_is_as_after_one() {
        for text in
            ["a b", "'s", "\n", "\n\n", "\na", "\u{3000}\u{a0}x", "12a", "!a", "한글 ", "'", "\u{301}e"]
        {
            let (first, rest) = PreTokenizer::Gpt2.split_behind_space(text);
            let with_space = std::format!(" {text}");
            let whole = cut(PreTokenizer::Gpt2, &with_space);
            assert_eq!(std::format!(" {first}"), whole[0], "{text:?}");
            assert_eq!(cut(PreTokenizer::Gpt2, rest), whole[1..], "{text:?}");
        }
        assert_eq!(PreTokenizer::None.split_behind_space("a b"), ("a b", ""));
    }

    #[test]
    fn single_digits_come_first() {
        let cut = |text| cut(PreTokenizer::DigitsGpt2, text);
        assert_eq!(cut("in 2024  5x"), ["in", " ", "2", "0", "2", "4", "  ", "5", "x"]);
        assert_eq!(cut("²Ⅻ'5s"), ["²", "Ⅻ", "'", "5", "s"]);
    }

    #[test]
    fn llama3_and_qwen2_cuts() {
        let l = |text| cut(PreTokenizer::Llama3, text);
        assert_eq!(
            l("I'LL say \"hi\"\r\n\n 12345"),
            ["I", "'LL", " say", " \"", "hi", "\"\r\n\n", " ", "123", "45"]
        );
        assert_eq!(l(" \n \n  x"), [" \n \n", " ", " x"]);
        assert_eq!(l("\tx\nx'\u{17f}"), ["\tx", "\n", "x", "'\u{17f}"]);
        assert_eq!(cut(PreTokenizer::Qwen2, "12 3"), ["1", "2", " ", "3"]);
        assert_eq!(cut(PreTokenizer::Cl100k, "a \n  "), ["a", " \n  "]);
        assert_eq!(cut(PreTokenizer::Cl100k, "a \n\n  b!\n \n"), ["a", " \n\n", " ", " b", "!\n", " \n"]);
    }

    proptest! {
        #[test]
        fn pre_tokens_are_the_text(text in "[ \\n\\r'a-zS0-9é한²!\u{301}\u{a0}\u{17f}]{0,40}|\\PC{0,20}") {
            for pattern in [PreTokenizer::None, PreTokenizer::Gpt2, PreTokenizer::DigitsGpt2, PreTokenizer::Llama3, PreTokenizer::Qwen2, PreTokenizer::Cl100k] {
                let tokens = cut(pattern, &text);
                prop_assert!(tokens.iter().all(|token| !token.is_empty()));
                prop_assert_eq!(tokens.concat(), &text[..]);
            }
        }
    }
}
