//! Text that is normalized before it is cut: NFC a few words at a time, and BERT's words.

use super::super::data::PreTokenizer;
use super::super::error::EncodeError;
use super::super::normalize;
use super::super::unicode::first_nfc_active;
use super::super::view::Tokenizer;
use super::Stretch;

impl Tokenizer<'_> {
    /// Text in NFC goes its way; of the rest, a few words at a time are put into NFC in `scratch`.
    pub(super) fn nfc_stretches(
        &self,
        text: &str,
        scratch: &mut [u32],
        each: &mut impl FnMut(Stretch<'_>, &mut [u32]) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut rest = text;
        while let Some(active) = first_nfc_active(rest) {
            // No pattern goes on over a space behind a letter, and looks at nothing before it.
            let cuts = self.pre_tokenizer() != PreTokenizer::None;
            let (start, end) =
                if cuts { (last_cut(rest, active), first_cut(rest, active)) } else { (0, rest.len()) };
            self.pre_tokens(rest.get(..start).unwrap_or(""), scratch, each)?;
            let piece = rest.get(start..end).unwrap_or("");
            let (capacity, needed) = (scratch.len(), normalize::decomposed_len(piece));
            let Some((words, scratch)) = scratch.split_at_mut_checked(needed) else {
                return Err(EncodeError::ScratchTooSmall { needed, capacity });
            };
            let sorting = normalize::sorting_len(piece);
            if scratch.len() < sorting {
                let needed = needed.saturating_add(sorting);
                return Err(EncodeError::ScratchTooSmall { needed, capacity });
            }
            let bytes = normalize::nfc(piece, words, scratch);
            let larger = |error| match error {
                EncodeError::ScratchTooSmall { needed: more, .. } => {
                    EncodeError::ScratchTooSmall { needed: needed.saturating_add(more), capacity }
                }
                other => other,
            };
            self.pre_tokens(normalize::text_of(words, bytes), scratch, each).map_err(larger)?;
            rest = rest.get(end..).unwrap_or("");
        }
        self.pre_tokens(rest, scratch, each)
    }

    /// BERT's words, each normalized in `scratch`.
    pub(super) fn words(
        &self,
        text: &str,
        scratch: &mut [u32],
        each: &mut impl FnMut(Stretch<'_>, &mut [u32]) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        use normalize::bert::{MAX_WORD_CHARS, for_each_word};
        let (capacity, needed) = (scratch.len(), MAX_WORD_CHARS);
        let Some((words, scratch)) = scratch.split_at_mut_checked(needed) else {
            return Err(EncodeError::ScratchTooSmall { needed, capacity });
        };
        // Others than BERT's are refused at load.
        let Some(rules) = self.normalizer().bert_rules() else { return Ok(()) };
        for_each_word(text, rules, words, |words, len| match (len, self.unknown()) {
            (Some(len), _) => {
                let bytes = normalize::to_utf8(words, len);
                let text = normalize::text_of(words, bytes);
                each(Stretch::Text { text, space_prefix: false }, scratch)
            }
            (None, Some(unknown)) => each(Stretch::Token(unknown), scratch),
            (None, None) => Ok(()),
        })
    }
}

/// Where the last piece begins that holds byte `at`: before a space behind an ASCII letter.
fn last_cut(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes().get(..at).unwrap_or(&[]);
    let cut = bytes.windows(2).rposition(|pair| is_cut(pair.first(), pair.last()));
    cut.map_or(0, |before| before + 1)
}

/// Where the piece ends that holds byte `at`.
fn first_cut(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes().get(at..).unwrap_or(&[]);
    let cut = bytes.windows(2).position(|pair| is_cut(pair.first(), pair.last()));
    cut.map_or(text.len(), |before| at + before + 1)
}

fn is_cut(before: Option<&u8>, after: Option<&u8>) -> bool {
    before.is_some_and(u8::is_ascii_alphabetic) && matches!(after, Some(b' ' | b'\n'))
}
