//! BERT's way with text: clean, space CJK, strip accents, lower-case, cut at spaces and punctuation.

use super::super::data::BertRules;
use super::super::unicode::is_space;
use super::tables::{BERT_ACCENTS, BERT_PUNCTUATION, BERT_REMOVED};
use super::{decompose, insert_by_class};

/// Longer words are unknown.
pub(crate) const MAX_WORD_CHARS: usize = 100;

/// Calls `word` with the characters of each word of `text`, normalized, in `words` (at least
/// [`MAX_WORD_CHARS`] of them are needed); with `None` for a word that is too long.
pub(crate) fn for_each_word<E>(
    text: &str,
    rules: BertRules,
    words: &mut [u32],
    mut word: impl FnMut(&mut [u32], Option<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let mut len = 0;
    let mut end = |words: &mut [u32], len: &mut usize| {
        let found = if *len > MAX_WORD_CHARS { None } else { Some(*len) };
        let ended = if *len == 0 { Ok(()) } else { word(words, found) };
        *len = 0;
        ended
    };
    let mut result = Ok(());
    for c in text.chars() {
        normalized(c, rules, &mut |c| {
            if result.is_err() {
                return;
            }
            match kind(c) {
                Kind::Space => result = end(words, &mut len),
                Kind::Alone => {
                    result = end(words, &mut len);
                    if result.is_ok() {
                        insert_by_class(words, 0, c);
                        result = end(words, &mut 1);
                    }
                }
                Kind::Word => {
                    if len < MAX_WORD_CHARS {
                        // Marks that are not stripped are in canonical order.
                        match rules.strip_accents {
                            true => insert_by_class(words, len, c),
                            false => words.get_mut(len).into_iter().for_each(|slot| *slot = c),
                        }
                    }
                    len += 1;
                }
            }
        });
        core::mem::replace(&mut result, Ok(()))?;
    }
    end(words, &mut len)
}

enum Kind {
    Space,
    Alone,
    Word,
}

/// A space that the normalizer put around a CJK character.
const SPACE: u32 = 0x20;

fn kind(c: u32) -> Kind {
    match char::from_u32(c) {
        Some(c) if is_space(c) => Kind::Space,
        Some(c) if BERT_PUNCTUATION.contains(c) => Kind::Alone,
        _ => Kind::Word,
    }
}

/// The characters that `c` becomes.
fn normalized(c: char, rules: BertRules, each: &mut impl FnMut(u32)) {
    if rules.clean_text && BERT_REMOVED.contains(c) {
        return;
    }
    if is_space(c) {
        return each(SPACE);
    }
    let cjk = rules.handle_chinese_chars && is_cjk(c);
    if cjk {
        each(SPACE);
    }
    if rules.strip_accents {
        decompose(u32::from(c), &mut |part| {
            if let Some(part) = char::from_u32(part)
                && !(u32::from(part) >= 0x300 && BERT_ACCENTS.contains(part))
            {
                cased(part, rules, each);
            }
        });
    } else {
        cased(c, rules, each);
    }
    if cjk {
        each(SPACE);
    }
}

fn cased(c: char, rules: BertRules, each: &mut impl FnMut(u32)) {
    match rules.lowercase {
        true => c.to_lowercase().for_each(|c| each(u32::from(c))),
        false => each(u32::from(c)),
    }
}

fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}'
        | '\u{2f800}'..='\u{2fa1f}')
}
