//! Vocabulary training against Hugging Face's, and what becomes of its vocabularies.

use std::path::Path;

use proptest::prelude::*;
use smidgen_converter::tokenizer::{TokenizerSpec, byte_to_char, huggingface};
use smidgen_runtime::tokenizer::{CachedEncoder, Decoder, OwnedTokenizer, PreTokenizer, Special};
use smidgen_trainer::bpe::{BpeTrainer, VocabularyError, char_level};

const END: &[&str] = &["<|endoftext|>"];

fn train(documents: &[&str], vocab_size: usize, pattern: PreTokenizer) -> TokenizerSpec {
    let mut trainer = BpeTrainer::new(vocab_size, pattern);
    documents.iter().for_each(|document| trainer.feed(document));
    trainer.finish(END).unwrap()
}

/// "left right" as a vocabulary file has it.
fn merge_lines(spec: &TokenizerSpec) -> Vec<String> {
    let name = |id: u32| -> String {
        spec.tokens[id as usize].bytes.iter().map(|&byte| byte_to_char(byte)).collect()
    };
    spec.merges.iter().map(|&(left, right)| format!("{} {}", name(left), name(right))).collect()
}

fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The script's `small_text`.
fn small_text() -> String {
    let mut state = 1u64;
    let mut text = String::new();
    for _ in 0..4000 {
        state = (state * 1_103_515_245 + 12345) % (1 << 31);
        if state >> 20 & 7 != 0 {
            text.push(b"abc "[(state >> 16 & 3) as usize].into());
        } else {
            text.push_str("aaa");
        }
    }
    text
}

#[test]
fn merges_are_those_of_hugging_face() {
    let mut checked = 0;
    for line in include_str!("golden/bpe_merges.txt").lines() {
        let [name, file, size, pattern, count, digest, first] = line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{line:?}");
        };
        let text = if file == "-" {
            small_text()
        } else if file == "code.txt" {
            include_str!("golden/code.txt").into()
        } else {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/text").join(file);
            match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(_) => {
                    eprintln!("SKIPPED: {} is absent", path.display());
                    continue;
                }
            }
        };
        let pattern = match pattern {
            "gpt2" => PreTokenizer::Gpt2,
            "digits" => PreTokenizer::DigitsGpt2,
            "llama3" => PreTokenizer::Llama3,
            "qwen2" => PreTokenizer::Qwen2,
            "cl100k" => PreTokenizer::Cl100k,
            other => panic!("{other}"),
        };
        let documents: Vec<&str> = text.split("\n\n").collect();
        let spec = train(&documents, size.parse().unwrap(), pattern);
        let merges = merge_lines(&spec);
        assert_eq!(merges[..10].join(", "), first, "{name}");
        assert_eq!(merges.len().to_string(), count, "{name} {size}");
        let lines: String = merges.iter().map(|merge| format!("{merge}\n")).collect();
        assert_eq!(format!("{:016x}", fnv(&lines)), digest, "{name} {size}");
        checked += 1;
    }
    assert!(checked >= 7);
}

#[test]
fn ids_are_special_then_bytes_then_merges() {
    let spec = train(&["low lower lowest", "low low"], 262, PreTokenizer::Gpt2);
    assert_eq!(spec.tokens.len(), 262);
    assert_eq!((spec.bos, &spec.end_tokens[..], spec.add_bos), (Some(0), &[0][..], false));
    let text = |id: usize| String::from_utf8_lossy(&spec.tokens[id].bytes).into_owned();
    assert_eq!((text(0), text(1), text(256 - 35)), ("<|endoftext|>".into(), "!".into(), " ".into()));
    assert_eq!([257, 258, 259].map(text), ["lo", "low", " low"]);
    let owned = OwnedTokenizer::build(&spec).unwrap();
    assert!(owned.data().ranks.is_empty() && owned.data().extra_merges.is_empty());
}

#[test]
fn what_cannot_be_is_refused() {
    let trainer = BpeTrainer::new(256, PreTokenizer::Gpt2);
    assert_eq!(trainer.clone().finish(END), Err(VocabularyError::TooSmall { vocab_size: 256, n_special: 1 }));
    assert_eq!(trainer.clone().finish(&["x", "x"]), Err(VocabularyError::Special { token: "x".into() }));
    assert_eq!(trainer.finish(&[]).unwrap().tokens.len(), 256);
    assert_eq!(char_level([""], &[]), Err(VocabularyError::Empty));
}

#[test]
fn min_frequency_and_absorbing() {
    let rare = BpeTrainer::new(1000, PreTokenizer::Gpt2).min_frequency(2);
    let (mut one, mut two) = (rare.clone(), rare.clone());
    one.feed("ab ab ab xy");
    two.feed("ab cd");
    let mut whole = rare;
    whole.feed("ab ab ab xy");
    whole.feed("ab cd");
    one.absorb(&two);
    assert_eq!(one.distinct_words(), 4);
    let spec = one.finish(END).unwrap();
    assert_eq!(merge_lines(&spec), ["a b", "Ġ ab"]);
    assert_eq!(spec, whole.finish(END).unwrap());
}

fn round_trip(spec: &TokenizerSpec, text: &str) -> (Vec<u32>, String) {
    let owned = OwnedTokenizer::build(spec).unwrap();
    let tokenizer = owned.tokenizer();
    let mut ids = Vec::new();
    CachedEncoder::new(tokenizer).encode(text, Special::Plain, false, &mut ids).unwrap();
    let mut decoder = Decoder::new();
    let mut decoded: String = ids.iter().map(|&id| decoder.push(&tokenizer, id).to_string()).collect();
    decoded += &decoder.finish().to_string();
    (ids, decoded)
}

#[test]
fn characters_have_nano_gpts_ids() {
    let text = "First Citizen:\nBefore, 가나\u{1f600}é";
    let mut sorted: Vec<char> = text.chars().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let spec = char_level([text], &[]).unwrap();
    let expected: Vec<u32> = text.chars().map(|c| sorted.binary_search(&c).unwrap() as u32).collect();
    assert_eq!(round_trip(&spec, text), (expected.clone(), text.into()));
    // Special tokens come first and move the rest.
    let spec = char_level([&text[..5], &text[5..]], END).unwrap();
    let moved: Vec<u32> = expected.iter().map(|id| id + 1).collect();
    assert_eq!(round_trip(&spec, text), (moved, text.into()));
    // And through Hugging Face's file.
    let dir = tempfile::tempdir().unwrap();
    huggingface::write_directory(&spec, dir.path()).unwrap();
    let again = huggingface::read_directory(dir.path()).unwrap();
    assert_eq!(round_trip(&again, text), round_trip(&spec, text));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn trained_vocabularies_round_trip(text in "[ab \u{e9}\u{ac00}-\u{ac05}]{1,200}", other in "\\PC{0,40}", size in 257usize..330) {
        let spec = train(&[&text], size, PreTokenizer::Gpt2);
        prop_assert!(spec.tokens.len() <= size);
        for text in [&text, &other] {
            prop_assert_eq!(&round_trip(&spec, text).1, text);
        }
        let dir = tempfile::tempdir().unwrap();
        huggingface::write_directory(&spec, dir.path()).unwrap();
        prop_assert_eq!(huggingface::read_directory(dir.path()).unwrap(), spec);
    }
}
