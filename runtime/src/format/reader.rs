//! Reading postcard's encoding by hand: what `take_from_bytes` gives for the parts of a model file.
//!
//! Serde's visitors are 5 KB of code on a chip, a sixth of all; this is a few hundred bytes. The structures'
//! derived readers stay what they mean, and the tests hold both against each other.

use super::meta::{Meta, RopeScaling};
use crate::tokenizer::{BertRules, Normalizer, PreTokenizer, TokenizerData, TokenizerKind};
use crate::utf8::text_of;

/// The bytes that are left; `None` is whatever postcard refuses.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline(never)]
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline(never)]
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// A number of no more than `bits`: seven of them a byte, the lowest first.
    #[inline(never)]
    fn varint(&mut self, bits: u32) -> Option<usize> {
        let (mut number, mut shift) = (0, 0);
        while shift < bits {
            let byte = self.byte()?;
            let seven = usize::from(byte & 0x7F);
            number |= seven << shift;
            // Nothing was shifted out.
            if number >> shift != seven {
                return None;
            }
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += 7;
        }
        None
    }

    fn length(&mut self) -> Option<usize> {
        self.varint(usize::BITS)
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.varint(u32::BITS)?.try_into().ok()
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.length()?;
        self.take(n)
    }

    #[inline(never)]
    fn text(&mut self) -> Option<&'a str> {
        text_of(self.bytes()?)
    }

    #[inline(never)]
    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn optional_number(&mut self) -> Option<Option<u32>> {
        Some(if self.flag()? { Some(self.number()?) } else { None })
    }

    #[inline(never)]
    fn float(&mut self) -> Option<f32> {
        self.take(4)?.first_chunk().map(|bytes| f32::from_le_bytes(*bytes))
    }

    pub(crate) fn meta(&mut self) -> Option<Meta<'a>> {
        Some(Meta {
            name: self.text()?,
            source: self.text()?,
            writer: self.text()?,
            chat_template: self.text()?,
            rope_theta: self.float()?,
            rope_scaling: match self.number()? {
                0 => RopeScaling::None,
                1 => RopeScaling::Linear { factor: self.float()? },
                2 => RopeScaling::Llama3 {
                    factor: self.float()?,
                    low_freq_factor: self.float()?,
                    high_freq_factor: self.float()?,
                    original_context: self.number()?,
                },
                _ => return None,
            },
            extra: self.text()?,
        })
    }

    pub(crate) fn tokenizer(&mut self) -> Option<Option<TokenizerData<'a>>> {
        if !self.flag()? {
            return Some(None);
        }
        Some(Some(TokenizerData {
            kind: match self.number()? {
                0 => TokenizerKind::ByteLevelBpe,
                1 => TokenizerKind::SentencePieceBpe,
                2 => TokenizerKind::WordPiece,
                _ => return None,
            },
            pre_tokenizer: *PRE_TOKENIZERS.get(self.number()? as usize)?,
            normalizer: match self.number()? {
                0 => Normalizer::None,
                1 => Normalizer::Nfc,
                2 => Normalizer::BertUncased,
                3 => Normalizer::BertCased,
                4 => Normalizer::BertAccents,
                5 => Normalizer::Bert(BertRules {
                    clean_text: self.flag()?,
                    handle_chinese_chars: self.flag()?,
                    strip_accents: self.flag()?,
                    lowercase: self.flag()?,
                }),
                _ => return None,
            },
            add_bos: self.flag()?,
            add_space_prefix: self.flag()?,
            ignore_merges: self.flag()?,
            n_tokens: self.number()?,
            max_token_bytes: self.number()?,
            bos: self.optional_number()?,
            unknown: self.optional_number()?,
            end_tokens: self.bytes()?,
            text: self.bytes()?,
            offsets: self.bytes()?,
            index: self.bytes()?,
            byte_tokens: self.bytes()?,
            types: self.bytes()?,
            left_len: self.bytes()?,
            ranks: self.bytes()?,
            extra_merges: self.bytes()?,
            scores: self.bytes()?,
            added: self.bytes()?,
        }))
    }
}

/// In the order of their numbers.
pub(crate) const PRE_TOKENIZERS: [PreTokenizer; 11] = [
    PreTokenizer::None,
    PreTokenizer::Gpt2,
    PreTokenizer::DigitsGpt2,
    PreTokenizer::Llama3,
    PreTokenizer::Qwen2,
    PreTokenizer::Bert,
    PreTokenizer::Cl100k,
    PreTokenizer::Metaspace,
    PreTokenizer::MetaspaceFirst,
    PreTokenizer::MetaspaceWords,
    PreTokenizer::MetaspaceFirstWords,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
        let mut bytes = std::vec![0; 4096];
        let n = postcard::to_slice(value, &mut bytes).unwrap().len();
        bytes.truncate(n);
        bytes
    }

    /// Both readers give the same of these bytes, and leave the same.
    fn agree<'a, T: serde::Deserialize<'a> + PartialEq + core::fmt::Debug>(
        bytes: &'a [u8],
        read: impl Fn(&mut Reader<'a>) -> Option<T>,
    ) -> Result<bool, TestCaseError> {
        let mut reader = Reader { rest: bytes };
        let ours = read(&mut reader).map(|value| (value, reader.rest));
        let theirs: Option<(T, &[u8])> = postcard::take_from_bytes(bytes).ok();
        prop_assert_eq!(&ours, &theirs);
        Ok(ours.is_some())
    }

    fn scaling(kind: u8, factor: f32, original_context: u32) -> RopeScaling {
        let (low_freq_factor, high_freq_factor) = (1.0, 4.0);
        match kind {
            0 => RopeScaling::None,
            1 => RopeScaling::Linear { factor },
            _ => RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context },
        }
    }

    proptest! {
        #[test]
        fn metadata_is_what_postcard_says(
            texts in prop::array::uniform5("\\PC{0,200}"),
            rope_theta in 0.0_f32..1e6,
            (kind, factor, context) in (0_u8..3, 0.0_f32..32.0, any::<u32>()),
            (at, byte, cut) in (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()),
        ) {
            let [name, source, writer, chat_template, extra]: &[String; 5] = &texts;
            let rope_scaling = scaling(kind, factor, context);
            let mut bytes =
                encoded(&Meta { name, source, writer, chat_template, rope_theta, rope_scaling, extra });
            prop_assert!(agree(&bytes, Reader::meta)?);
            agree(&bytes[..cut.index(bytes.len())], Reader::meta)?;
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // Floats that are no numbers are not equal to themselves.
            let mut reader = Reader { rest: &bytes };
            prop_assume!(!std::format!("{:?}", reader.meta()).contains("NaN"));
            agree(&bytes, Reader::meta)?;
        }

        #[test]
        fn tokenizers_are_what_postcard_says(
            (kind, pre_tokenizer, normalizer) in (0_usize..3, 0_usize..11, 0_usize..6),
            flags in any::<[bool; 7]>(),
            numbers in any::<[u32; 4]>(),
            optional in any::<[bool; 3]>(),
            tables in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 11),
            (at, byte, cut) in (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()),
        ) {
            let [add_bos, add_space_prefix, ignore_merges, clean_text, handle_chinese_chars, strip_accents, lowercase] = flags;
            let rules = BertRules { clean_text, handle_chinese_chars, strip_accents, lowercase };
            let kinds = [TokenizerKind::ByteLevelBpe, TokenizerKind::SentencePieceBpe, TokenizerKind::WordPiece];
            let normalizers = [
                Normalizer::None, Normalizer::Nfc, Normalizer::BertUncased, Normalizer::BertCased,
                Normalizer::BertAccents, Normalizer::Bert(rules),
            ];
            let data = TokenizerData {
                kind: kinds[kind],
                pre_tokenizer: PRE_TOKENIZERS[pre_tokenizer],
                normalizer: normalizers[normalizer],
                add_bos, add_space_prefix, ignore_merges,
                n_tokens: numbers[0],
                max_token_bytes: numbers[1],
                bos: optional[0].then_some(numbers[2]),
                unknown: optional[1].then_some(numbers[3]),
                end_tokens: &tables[0], text: &tables[1], offsets: &tables[2], index: &tables[3],
                byte_tokens: &tables[4], types: &tables[5], left_len: &tables[6], ranks: &tables[7],
                extra_merges: &tables[8], scores: &tables[9], added: &tables[10],
            };
            let mut bytes = encoded(&optional[2].then_some(data));
            prop_assert!(agree(&bytes, Reader::tokenizer)?);
            agree(&bytes[..cut.index(bytes.len())], Reader::tokenizer)?;
            // Half of the time where it hurts: the tables' bytes can be anything.
            let at = if byte % 2 == 0 { at.index(bytes.len()) } else { at.index(bytes.len().min(30)) };
            bytes[at] = byte;
            agree(&bytes, Reader::tokenizer)?;
        }

        #[test]
        fn numbers_are_what_postcard_says(bytes in prop::collection::vec(prop_oneof![Just(0x80_u8), Just(0xFF), any::<u8>()], 0..12)) {
            agree(&bytes, Reader::number)?;
            agree(&bytes, Reader::length)?;
            agree(&bytes, Reader::bytes)?;
            agree(&bytes, Reader::optional_number)?;
        }
    }
}
