//! The few Unicode properties that cutting text into tokens needs.
//!
//! The tables are our own, not `core`'s: `core` has no general category L, and its tables change
//! with the compiler, while a model must cut the same text in the same way for ever.

use super::runs::Run;
#[cfg(feature = "unicode")]
use super::unicode_tables::WORD;
use super::unicode_tables::{CLASSES, NFC_ACTIVE};

pub use super::unicode_tables::UNICODE_VERSION;

/// What a pre-tokenizer's pattern can ask about a character: `\p{L}`, `\p{N}`, `\s`, or none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharClass {
    /// General category L*.
    Letter,
    /// General category N*.
    Number,
    /// Property White_Space.
    Space,
    /// Everything else: punctuation, symbols, marks, controls, unassigned.
    Other,
}

/// The classes of ASCII, without a search.
static ASCII: [CharClass; 128] = {
    let mut classes = [CharClass::Other; 128];
    let mut code = 0u8;
    while code < 128 {
        classes[code as usize] = match code {
            b'a'..=b'z' | b'A'..=b'Z' => CharClass::Letter,
            b'0'..=b'9' => CharClass::Number,
            b' ' | b'\t'..=b'\r' => CharClass::Space,
            _ => CharClass::Other,
        };
        code += 1;
    }
    classes
};

/// The class of a byte that is a character by itself; `None` for a part of a longer one.
#[inline]
pub(super) fn ascii_class(byte: u8) -> Option<CharClass> {
    ASCII.get(usize::from(byte)).copied()
}

/// The class of `c`.
#[inline]
pub fn char_class(c: char) -> CharClass {
    match ASCII.get(c as usize) {
        Some(class) => *class,
        None if is_block(c) || is_common(c) => CharClass::Letter,
        None => class_of(CLASSES.find(c)),
    }
}

/// Bytes of `text` before the first character whose class is not wanted. Characters of one run of the
/// table, as words mostly are, are looked up once.
#[inline(never)]
pub(super) fn class_run_length(text: &str, wanted: impl Fn(CharClass) -> bool) -> usize {
    wanted_length(text, Run::default(), wanted)
}

/// The class of the first character, and the bytes before one of another class.
#[inline(never)]
pub(super) fn first_class_run(text: &str) -> Option<(CharClass, usize)> {
    let first = text.chars().next()?;
    let (class, run) = match ASCII.get(first as usize) {
        Some(class) => (*class, Run::default()),
        None if is_block(first) || is_common(first) => (CharClass::Letter, Run::default()),
        None => {
            let run = CLASSES.find(first);
            (class_of(run), run)
        }
    };
    Some((class, wanted_length(text, run, |other| other == class)))
}

/// [`class_run_length`], with a run that is known already.
fn wanted_length(text: &str, mut run: Run, wanted: impl Fn(CharClass) -> bool) -> usize {
    let mut is_wanted = |c: char| match ASCII.get(c as usize) {
        Some(class) => wanted(*class),
        None if is_block(c) || is_common(c) => wanted(CharClass::Letter),
        None => {
            if !run.has(c) {
                run = CLASSES.find(c);
            }
            wanted(class_of(run))
        }
    };
    text.char_indices().find(|&(_, c)| !is_wanted(c)).map_or(text.len(), |(at, _)| at)
}

fn class_of(run: Run) -> CharClass {
    match run.number {
        1 => CharClass::Letter,
        2 => CharClass::Number,
        3 => CharClass::Space,
        _ => CharClass::Other,
    }
}

/// Whether Hugging Face's splitter of digits sets `c` apart. It knows the numbers of Unicode 17, the
/// patterns those of 16.
#[inline]
pub(super) fn is_digit_apart(c: char) -> bool {
    char_class(c) == CharClass::Number || matches!(c, '\u{11de0}'..='\u{11de9}' | '\u{16ff4}'..='\u{16ff6}')
}

/// Whether `c` is a part of a word, as `\w` has it in the tables' Unicode version.
#[cfg(feature = "unicode")]
pub(super) fn is_word(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || c == '_',
        false => char_class(c) == CharClass::Letter || WORD.contains(c),
    }
}

/// Whether `c` has the property White_Space.
#[inline]
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
        | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Where in `text` the first character stands that Unicode's NFC might change or join to the one
/// before it. `None` means that `text` is in NFC for certain; `Some` does not mean that it is not.
pub fn first_nfc_active(text: &str) -> Option<usize> {
    let mut run = Run::default();
    let active = |&(_, c): &(usize, char)| {
        if u32::from(c) < 0x300 || is_block(c) {
            return false;
        }
        if !run.has(c) {
            run = NFC_ACTIVE.find(c);
        }
        run.number != 0
    };
    // Most text is ASCII for long stretches.
    let first = text.bytes().position(|byte| !byte.is_ascii())?;
    text.get(first..)?.char_indices().find(active).map(|(at, _)| first + at)
}

/// Hangul syllables and the main CJK block, the bulk of what is not ASCII: letters, all in NFC.
fn is_block(c: char) -> bool {
    matches!(c, '\u{ac00}'..='\u{d7a3}' | '\u{4e00}'..='\u{9fff}')
}

/// Letters of Europe's larger alphabets, without a search.
fn is_common(c: char) -> bool {
    matches!(c, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2c1}' | '\u{3a3}'..='\u{3f5}'
        | '\u{3f7}'..='\u{481}' | '\u{48a}'..='\u{52f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_agree_with_the_compilers_newer_unicode() {
        assert!(UNICODE_VERSION == "16.0.0" && char::UNICODE_VERSION >= (16, 0, 0));
        for c in '\0'..=char::MAX {
            assert_eq!(char_class(c) == CharClass::Space, c.is_whitespace(), "{c:?}");
            // `is_numeric` is N, `is_alphabetic` is L plus letter numbers and some marks.
            assert!(char_class(c) != CharClass::Number || c.is_numeric(), "{c:?}");
            assert!(char_class(c) != CharClass::Letter || c.is_alphabetic(), "{c:?}");
            // What came since 16 is not in the tables, but digits are set apart as 17 has them.
            assert!(char::UNICODE_VERSION.0 != 17 || is_digit_apart(c) == c.is_numeric(), "{c:?}");
        }
    }

    #[test]
    fn what_is_not_searched_is_as_the_tables_have_it() {
        for c in ('\0'..=char::MAX).filter(|&c| is_block(c) || is_common(c)) {
            assert!(CLASSES.find(c).number == 1 && (!is_block(c) || !NFC_ACTIVE.contains(c)), "{c:?}");
        }
    }

    #[test]
    fn classes_of_some_characters() {
        for (c, class) in [
            ('é', CharClass::Letter),
            ('ª', CharClass::Letter),
            ('한', CharClass::Letter),
            ('漢', CharClass::Letter),
            ('\u{20000}', CharClass::Letter),
            ('\u{1d400}', CharClass::Letter),
            ('²', CharClass::Number),
            ('Ⅻ', CharClass::Number),
            ('٣', CharClass::Number),
            ('\u{1d7ce}', CharClass::Number),
            ('\u{301}', CharClass::Other),
            ('\u{200b}', CharClass::Other),
            ('\u{feff}', CharClass::Other),
            ('😀', CharClass::Other),
            ('\u{3000}', CharClass::Space),
            ('\u{10ffff}', CharClass::Other),
        ] {
            assert_eq!(char_class(c), class, "{c:?}");
        }
    }

    #[test]
    fn composed_text_needs_no_nfc() {
        assert_eq!(first_nfc_active("naïve café, 한국어, 日本語, Привет, 😀"), None);
        assert_eq!(first_nfc_active("cafe\u{301}"), Some(4));
        assert_eq!(first_nfc_active("\u{1100}\u{1161}"), Some(3)); // Hangul jamo
        assert_eq!(first_nfc_active("5 \u{212b}"), Some(2)); // the angstrom sign becomes Å
    }
}
