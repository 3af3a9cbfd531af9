//! Unicode's canonical forms, as far as tokenizers ask for them: NFC in place, and decompositions.
//!
//! The Unicode Standard, section 3.11, with the tables of the reference (see `runtime/tools/unicode_tables.py`).

pub(super) mod bert;
#[rustfmt::skip]
mod tables;

use tables::{CLASSES, COMPOSED, LARGE_PAIRS, PAIRS, SINGLES};

/// Hangul syllables and their letters are arithmetic: first syllable, consonant, vowel, tail.
const HANGUL: [u32; 4] = [0xac00, 0x1100, 0x1161, 0x11a7];
const VOWELS: u32 = 21;
const TAILS: u32 = 28;
const SYLLABLES: u32 = 19 * VOWELS * TAILS;

/// Calls `each` with the characters of the full canonical decomposition of `c`.
pub(super) fn decompose(c: u32, each: &mut impl FnMut(u32)) {
    if c < 0xc0 {
        return each(c);
    }
    if let Some(index) = c.checked_sub(HANGUL[0]).filter(|index| *index < SYLLABLES) {
        each(HANGUL[1] + index / (VOWELS * TAILS));
        each(HANGUL[2] + index / TAILS % VOWELS);
        if index % TAILS != 0 {
            each(HANGUL[3] + index % TAILS);
        }
        return;
    }
    // Parts may decompose again: the table's first steps lead down at most four times.
    match step(c) {
        None => each(c),
        Some((first, second)) => {
            decompose(first, each);
            second.into_iter().for_each(each);
        }
    }
}

/// The first step of a decomposition. Second parts never decompose further.
fn step(c: u32) -> Option<(u32, Option<u32>)> {
    if let Ok(small) = u16::try_from(c)
        && let Ok(at) = PAIRS.binary_search_by_key(&small, |entry| entry[0])
    {
        return PAIRS.get(at).map(|[_, first, second]| (u32::from(*first), Some(u32::from(*second))));
    }
    if let Ok(at) = SINGLES.binary_search_by_key(&c, |entry| entry[0]) {
        return SINGLES.get(at).map(|[_, other]| (*other, None));
    }
    let at = LARGE_PAIRS.binary_search_by_key(&c, |entry| entry[0]).ok()?;
    LARGE_PAIRS.get(at).map(|[_, first, second, _]| (*first, Some(*second)))
}

/// The canonical combining class: 0 for what is no mark.
pub(super) fn combining_class(c: u32) -> u32 {
    if c < 0x300 {
        return 0;
    }
    let after = CLASSES.partition_point(|[first, ..]| *first <= c);
    match after.checked_sub(1).and_then(|at| CLASSES.get(at)) {
        Some([_, last, class]) if c <= *last => *class,
        _ => 0,
    }
}

/// The one character that `first` and `second` compose to.
fn compose(first: u32, second: u32) -> Option<u32> {
    if let Some(consonant) = first.checked_sub(HANGUL[1]).filter(|c| *c < 19)
        && let Some(vowel) = second.checked_sub(HANGUL[2]).filter(|v| *v < VOWELS)
    {
        return Some(HANGUL[0] + (consonant * VOWELS + vowel) * TAILS);
    }
    if let Some(index) = first.checked_sub(HANGUL[0]).filter(|index| *index < SYLLABLES && index % TAILS == 0)
        && let Some(tail) = second.checked_sub(HANGUL[3]).filter(|tail| (1..TAILS).contains(tail))
    {
        return Some(HANGUL[0] + index + tail);
    }
    let entry = |at: u16| PAIRS.get(usize::from(at)).copied().unwrap_or([0; 3]);
    if let (Ok(a), Ok(b)) = (u16::try_from(first), u16::try_from(second))
        && let Ok(at) = COMPOSED.binary_search_by_key(&(a, b), |&at| (entry(at)[1], entry(at)[2]))
    {
        return COMPOSED.get(at).map(|&at| u32::from(entry(at)[0]));
    }
    LARGE_PAIRS.iter().find(|[_, a, b, composes]| (*a, *b, *composes) == (first, second, 1)).map(|e| e[0])
}

/// How many characters `text` decomposes to: the words that [`nfc`] needs.
pub(super) fn decomposed_len(text: &str) -> usize {
    let mut len = 0;
    text.chars().for_each(|c| decompose(u32::from(c), &mut |_| len += 1));
    len
}

/// Marks in a row up to which inserting each in its place is fast enough.
const SHORT_RUN: usize = 64;

/// The longest row of marks in the decomposition of `text`, if it is longer than [`SHORT_RUN`]: the
/// words that [`nfc`] needs besides.
pub(super) fn sorting_len(text: &str) -> usize {
    let (mut run, mut longest) = (0, 0);
    text.chars().for_each(|c| {
        decompose(u32::from(c), &mut |part| {
            run = if combining_class(part) == 0 { 0 } else { run + 1 };
            longest = longest.max(run);
        });
    });
    if longest > SHORT_RUN { longest } else { 0 }
}

/// Puts `text` into NFC: `words` (at least [`decomposed_len`]) become its UTF-8, of which the length
/// in bytes is returned. `spare` are at least [`sorting_len`] words.
pub(super) fn nfc(text: &str, words: &mut [u32], spare: &mut [u32]) -> usize {
    let mut len = 0;
    let mut run = 0;
    for c in text.chars() {
        decompose(u32::from(c), &mut |part| {
            if combining_class(part) == 0 {
                sort_marks(words, len, run, spare);
                run = 0;
            } else {
                run += 1;
            }
            if let Some(slot) = words.get_mut(len) {
                *slot = part;
            }
            len += 1;
        });
    }
    sort_marks(words, len, run, spare);
    let len = compose_all(words, len);
    to_utf8(words, len)
}

/// Puts the last `run` of the first `len` words, all marks, in order of class, equal ones as they come.
fn sort_marks(words: &mut [u32], len: usize, run: usize, spare: &mut [u32]) {
    let start = len.saturating_sub(run);
    if run <= SHORT_RUN || spare.len() < run {
        for at in start..len {
            if let Some(&c) = words.get(at) {
                insert_by_class(words, at, c);
            }
        }
        return;
    }
    // Merge sort from the bottom up: O(n log n) whatever comes.
    let (Some(marks), Some(spare)) = (words.get_mut(start..len), spare.get_mut(..run)) else { return };
    let mut width = 1;
    while width < run {
        let both = width.saturating_mul(2);
        for (from, to) in marks.chunks(both).zip(spare.chunks_mut(both)) {
            let (left, right) = from.split_at_checked(width).unwrap_or((from, &[]));
            merge_by_class(left, right, to);
        }
        marks.iter_mut().zip(&*spare).for_each(|(slot, &c)| *slot = c);
        width = both;
    }
}

/// Merges two rows of marks in order of class into `to`, which is as long as both.
fn merge_by_class<'m>(mut left: &'m [u32], mut right: &'m [u32], to: &mut [u32]) {
    for slot in to {
        let takes_right = match (left.first(), right.first()) {
            (Some(&a), Some(&b)) => combining_class(b) < combining_class(a),
            (None, _) => true,
            (Some(_), None) => false,
        };
        let side = if takes_right { &mut right } else { &mut left };
        if let Some((&first, rest)) = side.split_first() {
            *slot = first;
            *side = rest;
        }
    }
}

/// Writes `c` behind the first `len` of `words`, before marks of higher class.
pub(super) fn insert_by_class(words: &mut [u32], len: usize, c: u32) {
    let class = combining_class(c);
    let mut at = len;
    if class != 0 {
        while let Some(&before) = at.checked_sub(1).and_then(|before| words.get(before))
            && combining_class(before) > class
        {
            if let Some(slot) = words.get_mut(at) {
                *slot = before;
            }
            at -= 1;
        }
    }
    if let Some(slot) = words.get_mut(at) {
        *slot = c;
    }
}

/// Composes a decomposed text in place; returns how many characters are left.
fn compose_all(words: &mut [u32], len: usize) -> usize {
    let mut kept = 0;
    let mut starter: Option<usize> = None;
    let mut last_class = 0;
    for read in 0..len {
        let c = words.get(read).copied().unwrap_or(0);
        let class = combining_class(c);
        if let Some(at) = starter
            // Nothing between them, or only marks of lower class.
            && (kept == at + 1 || (last_class != 0 && last_class < class))
            && let Some(composed) = words.get(at).and_then(|&first| compose(first, c))
        {
            if let Some(slot) = words.get_mut(at) {
                *slot = composed;
            }
            continue;
        }
        if class == 0 {
            starter = Some(kept);
        }
        last_class = class;
        if let Some(slot) = words.get_mut(kept) {
            *slot = c;
        }
        kept += 1;
    }
    kept
}

/// Characters to UTF-8 in place: no character is longer than its word. Returns the bytes.
pub(super) fn to_utf8(words: &mut [u32], len: usize) -> usize {
    let mut written = 0;
    for read in 0..len {
        let c = words.get(read).and_then(|&c| char::from_u32(c)).unwrap_or(char::REPLACEMENT_CHARACTER);
        let mut utf8 = [0; 4];
        let bytes: &mut [u8] = bytemuck::must_cast_slice_mut(words);
        for (&byte, slot) in c.encode_utf8(&mut utf8).as_bytes().iter().zip(bytes.iter_mut().skip(written)) {
            *slot = byte;
        }
        written += c.len_utf8();
    }
    written
}

/// The text that [`nfc`] or [`to_utf8`] has written.
pub(super) fn text_of(words: &[u32], bytes: usize) -> &str {
    let all: &[u8] = bytemuck::must_cast_slice(words);
    all.get(..bytes).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec;

    fn composed(text: &str) -> String {
        let mut words = vec![0; decomposed_len(text)];
        let bytes = nfc(text, &mut words, &mut vec![0; sorting_len(text)]);
        text_of(&words, bytes).into()
    }

    #[test]
    fn accents_hangul_order_and_exclusions() {
        for (text, wanted) in [
            ("", ""),
            ("cafe\u{301}", "café"),
            ("\u{1100}\u{1161}\u{11a8}\u{ac00}\u{11a8}", "각각"),
            ("\u{212b}\u{1e9b}\u{323}", "Å\u{1e9b}\u{323}"),
            ("a\u{345}\u{301}\u{323}", "ạ\u{301}\u{345}"),
            ("\u{958}\u{fb1d}", "\u{915}\u{93c}\u{5d9}\u{5b4}"),
            ("\u{1d15e}", "\u{1d157}\u{1d165}"),
            ("\u{110a5}\u{110ba}", "\u{110ab}"),
            ("\u{f900}\u{2f800}", "\u{8c48}\u{4e3d}"),
            ("\u{301}e\u{301}\u{301}", "\u{301}é\u{301}"),
            ("\u{1f80}\u{3b1}\u{313}\u{345}", "\u{1f80}\u{1f80}"),
        ] {
            assert_eq!(composed(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn long_rows_of_marks_are_sorted_as_short_ones() {
        let marks = ["\u{301}", "\u{323}", "\u{345}", "\u{334}", "\u{302}"];
        let text: String = (0..1000usize).map(|i| marks[i * i * 7 % 11 % 5]).collect();
        let mut by_class: vec::Vec<char> = text.chars().collect();
        by_class.sort_by_key(|&c| combining_class(u32::from(c))); // stable
        assert_eq!(composed(&text), by_class.iter().collect::<String>());
        assert!(sorting_len(&text) == 1000 && sorting_len(&text[..100]) == 0);
    }

    #[test]
    fn a_million_marks_take_no_quadratic_time() {
        let text = "\u{301}\u{323}".repeat(500_000);
        let wanted = "\u{323}".repeat(500_000) + &"\u{301}".repeat(500_000);
        assert!(composed(&text) == wanted);
    }

    /// Unicode's own test file, but for the handful of characters that are newer than the tables.
    #[test]
    fn normalization_test() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../shared/data/text/NormalizationTest.txt");
        let Ok(file) = std::fs::read_to_string(&path) else {
            std::eprintln!("SKIPPED: {} is absent", path.display());
            return;
        };
        let text = |field: &str| -> String {
            field
                .split(' ')
                .map(|hex| char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap())
                .collect()
        };
        let (mut checked, mut newer) = (0, 0);
        for line in file.lines().filter(|line| !line.starts_with(['#', '@'])) {
            let fields: vec::Vec<String> = line.split(';').take(3).map(text).collect();
            let right = fields.iter().all(|field| composed(field) == fields[1]);
            checked += 1;
            newer += usize::from(!right);
        }
        // As many as Hugging Face's NFC has not as the file does.
        assert_eq!((newer, checked), (631, 18_992));
    }
}
