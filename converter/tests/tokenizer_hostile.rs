//! Tokenizer files that are cut, changed by a byte or made to harm: an error that names the file, or a
//! tokenizer that works; in little time and memory.

use std::path::Path;

use serde_json::json;
use smidgen_converter::tokenizer;
use smidgen_runtime::tokenizer::{Decoder, OwnedTokenizer, Special};

/// A vocabulary of all bytes and two merges.
fn bytes_and_merges() -> (serde_json::Map<String, serde_json::Value>, [&'static str; 2]) {
    let letters = (0..=u8::MAX).map(|byte| tokenizer::byte_to_char(byte).to_string());
    let words = ["he", "hel"].map(String::from);
    (letters.chain(words).zip(0..).map(|(text, id)| (text, id.into())).collect(), ["h e", "he l"])
}

fn tokenizer_json() -> String {
    let (vocab, merges) = bytes_and_merges();
    json!({
        "added_tokens": [{"id": 258, "content": "<|end|>", "special": true, "rstrip": true}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|end|>"}}, {"Sequence": {"id": "A"}}],
            "special_tokens": {"<|end|>": {"ids": [258]}}},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
    .to_string()
}

fn llama2c() -> Vec<u8> {
    let pieces = ["<unk>", "\n<s>\n", "\n</s>\n"].into_iter().map(String::from);
    let pieces = pieces.chain((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
    let pieces = pieces.chain([" ", "h", "e", "he", " he"].map(String::from));
    let mut file = 7u32.to_le_bytes().to_vec();
    for (piece, score) in pieces.zip(0u16..) {
        file.extend((-f32::from(score)).to_le_bytes());
        file.extend((piece.len() as u32).to_le_bytes());
        file.extend(piece.as_bytes());
    }
    file
}

fn llmc() -> Vec<u8> {
    let mut file: Vec<u8> = [20_240_328, 2, 258, 257].into_iter().flat_map(u32::to_le_bytes).collect();
    file.resize(1024, 0);
    for token in (0..=u8::MAX).map(|byte| vec![byte]).chain([b"he".to_vec(), b"<|endoftext|>".to_vec()]) {
        file.push(token.len() as u8);
        file.extend(token);
    }
    file
}

/// What is in the file must give back a text's bytes, or be refused.
fn open(path: &Path) -> Result<(), String> {
    let spec = tokenizer::open(path).map_err(|error| error.to_string())?;
    let owned = OwnedTokenizer::build(&spec).map_err(|error| error.to_string())?;
    let tokenizer = owned.tokenizer();
    let mut ids = Vec::new();
    let mut scratch = [0; 1000];
    for special in [Special::Plain, Special::Parsed] {
        let text = "hello <|end|> h\u{e9}e\u{301}!";
        tokenizer
            .encode_each(text, special, true, &mut scratch, |id| ids.push(id))
            .map_err(|error| error.to_string())?;
    }
    let mut decoder = Decoder::new();
    ids.iter().for_each(|&id| decoder.push(&tokenizer, id).for_each_str(|_| {}));
    Ok(())
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let (vocab, merges) = bytes_and_merges();
    let ranks = "aA== 0\nZQ== 1\nbA== 2\nbw== 3\naGU= 4\nbGw= 5\nbGxv 6\n";
    let bert = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhe\n##l\n##o\n!\n";
    let cases: [(&str, Vec<u8>); 7] = [
        ("tokenizer.json", tokenizer_json().into()),
        ("vocab.json", json!(vocab).to_string().into()),
        ("merges.txt", format!("#version: 0.2\n{}\n", merges.join("\n")).into()),
        ("vocab.txt", bert.into()),
        ("tokenizer.bin", llama2c()),
        ("gpt2.bin", llmc()),
        ("some.tiktoken", ranks.into()),
    ];
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (name, whole) in &cases {
        let dir = tempfile::tempdir().unwrap();
        // The file that belongs to it, whole.
        for (other, text) in &cases[1..3] {
            if matches!(*name, "vocab.json" | "merges.txt") && other != name {
                std::fs::write(dir.path().join(other), text).unwrap();
            }
        }
        let path = dir.path().join(name);
        std::fs::write(&path, whole).unwrap();
        open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut refused = 0;
        for round in 0..200 {
            let mut damaged = whole.clone();
            match round % 3 {
                0 => damaged.truncate(random(whole.len())),
                1 => damaged[random(whole.len())] = random(256) as u8,
                _ => {
                    let at = random(whole.len());
                    let end = (at + 1 + random(16)).min(whole.len());
                    damaged.splice(at..end, (0..random(8)).map(|_| b"\xff\0\"{[9e "[random(8)]));
                }
            }
            std::fs::write(&path, &damaged).unwrap();
            if let Err(error) = open(&path) {
                // One of the two that belong together may be what does not fit the other.
                let names = error.contains(name) || error.contains("vocab.json");
                assert!(names, "{name}: {error}");
                refused += 1;
            }
        }
        println!("{name}: {refused} of 200 refused");
        assert!(refused >= 20, "{name}: only {refused} of 200 were refused");
    }
}

/// What would take hours or all memory if it were believed.
#[test]
fn wild_numbers_claim_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wild_ranks: String = (1..3000u64).map(|line| format!("YQ== {}\n", line * 90_000)).collect();
    let long_rank = format!("YQ== 0\n{} 1\n", "YWFh".repeat(400_000));
    let mut long_token: serde_json::Value = serde_json::from_str(&tokenizer_json()).unwrap();
    long_token["model"]["byte_fallback"] = true.into();
    long_token["pre_tokenizer"] = serde_json::Value::Null;
    long_token["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    long_token["model"]["vocab"]["a".repeat(1_000_000)] = 259.into();
    let mut wild_id: serde_json::Value = serde_json::from_str(&tokenizer_json()).unwrap();
    wild_id["model"]["vocab"]["zz"] = 4_000_000_000u32.into();
    let deep = format!("{}1{}", "{\"model\":".repeat(100_000), "}".repeat(100_000));
    for (name, text, wanted) in [
        ("wild.tiktoken", wild_ranks, "line 1: has rank 90000 after 0 tokens"),
        ("long.tiktoken", long_rank, "line 2: has a token of 1200000 bytes"),
        ("long.json", long_token.to_string(), "model.vocab: has a token of 1000000 bytes"),
        ("wild.json", wild_id.to_string(), "model.vocab: has 260 tokens, but one with id 4000000000"),
        ("deep.json", deep, "not valid JSON: recursion limit exceeded"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
        let error = open(&dir.path().join(name)).unwrap_err();
        assert!(error.contains(name) && error.contains(wanted), "{error}");
    }
}
