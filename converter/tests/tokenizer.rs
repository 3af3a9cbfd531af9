//! Real tokenizers against ids that other implementations gave (Hugging Face's tokenizers,
//! llama.cpp): read from `../shared/data` beside the repository, skipped where it is absent.

use std::path::{Path, PathBuf};

use smidgen_converter::tokenizer::{self, TokenizerFileError, TokenizerSpec, huggingface, llama2c};
use smidgen_runtime::tokenizer::{
    CachedEncoder, Decoder, EncodeError, OwnedTokenizer, Special, TokenType, Tokenizer,
};

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent", path.display());
    None
}

fn encode(tokenizer: &Tokenizer<'_>, text: &str) -> Result<Vec<u32>, EncodeError> {
    let mut out = vec![0; text.len() + 1];
    let mut scratch = vec![0; 100 + 5 * (text.len() + 1)];
    let n = tokenizer.encode(text, Special::Plain, false, &mut out, &mut scratch)?;
    out.truncate(n);
    Ok(out)
}

fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> String {
    let mut decoder = Decoder::new();
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id).to_string()).collect();
    text += &decoder.finish().to_string();
    text
}

/// Compares every text of a golden file; returns how many needed NFC and were refused for it.
fn check_golden(tokenizer: &Tokenizer<'_>, golden: &Path) -> usize {
    let mut cached = CachedEncoder::new(*tokenizer);
    let (mut checked, mut refused) = (0, 0);
    for line in std::fs::read_to_string(golden).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = line["text"].as_str().unwrap();
        let ids: Vec<u32> =
            line["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        match encode(tokenizer, text) {
            Ok(found) => assert_eq!(found, ids, "{text:?}"),
            Err(EncodeError::NeedsNfc { .. }) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("{text:?}: {error}"),
        }
        let mut found = Vec::new();
        cached.encode(text, Special::Plain, false, &mut found).unwrap();
        assert_eq!(found, ids, "cached: {text:?}");
        // A vocabulary may lack bytes; what its ids can say, they must.
        let all_bytes_known = tokenizer.kind() != smidgen_runtime::tokenizer::TokenizerKind::WordPiece
            && text.bytes().all(|byte| tokenizer.find(&[byte]).is_some());
        if all_bytes_known || tokenizer.kind() == smidgen_runtime::tokenizer::TokenizerKind::SentencePieceBpe
        {
            // Normalized text comes back normalized.
            let normalized = tokenizer.normalizer() != smidgen_runtime::tokenizer::Normalizer::None;
            assert!(normalized || decode(tokenizer, &ids) == text, "{text:?}");
        }
        checked += 1;
    }
    assert!(checked > 600, "only {checked} texts were checked");
    refused
}

fn build(spec: &TokenizerSpec) -> OwnedTokenizer {
    OwnedTokenizer::build(spec).unwrap()
}

/// A spec and what it becomes after writing and reading again.
fn with_rewritten(spec: TokenizerSpec) -> [TokenizerSpec; 2] {
    let dir = tempfile::tempdir().unwrap();
    huggingface::write_directory(&spec, dir.path()).unwrap();
    let again = huggingface::read_directory(dir.path()).unwrap();
    assert_eq!(
        (again.bos, again.add_bos, again.unknown, &again.added),
        (spec.bos, spec.add_bos, spec.unknown, &spec.added)
    );
    assert_eq!(again.tokens.len(), spec.tokens.len());
    [spec, again]
}

#[test]
fn gpt2() {
    let (Some(file), Some(golden)) = (data("tok/gpt2/tokenizer.json"), data("golden/gpt2.jsonl")) else {
        return;
    };
    for spec in with_rewritten(huggingface::read_file(&file).unwrap()) {
        assert_eq!(spec.end_tokens, [50256]);
        let owned = build(&spec);
        assert!(owned.data().ranks.is_empty() && owned.data().extra_merges.is_empty());
        assert_eq!(check_golden(&owned.tokenizer(), &golden), 0);
    }
}

#[test]
fn smollm() {
    let (Some(dir), Some(golden)) = (data("tok/smollm"), data("golden/smollm.jsonl")) else { return };
    for spec in with_rewritten(huggingface::read_directory(&dir).unwrap()) {
        assert_eq!((spec.bos, &spec.end_tokens[..], spec.add_bos), (Some(1), &[2][..], false));
        let owned = build(&spec);
        assert!(owned.data().ranks.is_empty());
        assert_eq!(check_golden(&owned.tokenizer(), &golden), 0);
    }
}

#[test]
fn llama() {
    let (Some(file), Some(golden)) = (data("tok/llama_tokenizer.json"), data("golden/llama.jsonl")) else {
        return;
    };
    for spec in with_rewritten(huggingface::read_file(&file).unwrap()) {
        assert_eq!((spec.bos, spec.add_bos, &spec.end_tokens[..]), (Some(1), true, &[2][..]));
        assert!(spec.merges.is_empty(), "one score a token says what 61,249 merges say");
        assert_eq!(check_golden(&build(&spec).tokenizer(), &golden), 0);
    }
}

#[test]
fn llama_by_its_merge_list() {
    let (Some(file), Some(golden)) = (data("tok/llama_tokenizer.json"), data("golden/llama.jsonl")) else {
        return;
    };
    let spec = huggingface::read_file(&file).unwrap();
    let by_merges = TokenizerSpec { merges: merge_list(&file, &spec), ..spec.clone() };
    let (owned, by_score) = (build(&by_merges), build(&spec));
    assert!(!owned.data().left_len.is_empty());
    check_golden(&owned.tokenizer(), &golden);
    for spaces in 0..80 {
        let text = format!("{}x{}", " ".repeat(spaces), " ".repeat(spaces / 2));
        assert_eq!(encode(&owned.tokenizer(), &text), encode(&by_score.tokenizer(), &text), "{spaces}");
    }
}

/// The merges as the file lists them.
fn merge_list(file: &Path, spec: &TokenizerSpec) -> Vec<(u32, u32)> {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let id = |text: &str| json["model"]["vocab"][text].as_u64().unwrap() as u32;
    let merges = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| merge.as_str().unwrap().split_once(' ').unwrap());
    let merges: Vec<_> = merges.map(|(left, right)| (id(left), id(right))).collect();
    assert!(merges.iter().all(|&(left, _)| spec.tokens[left as usize].token_type == TokenType::Normal));
    merges
}

#[test]
fn qwen2() {
    let (Some(dir), Some(golden)) = (data("tok/qwen2"), data("golden/qwen2.jsonl")) else { return };
    let spec = huggingface::read_directory(&dir).unwrap();
    assert_eq!((spec.bos, &spec.end_tokens[..]), (None, &[151643][..]));
    let owned = build(&spec);
    assert_eq!(check_golden(&owned.tokenizer(), &golden), 0);
    let text = "<|im_start|>user\nhi<|im_end|>";
    let mut ids = Vec::new();
    CachedEncoder::new(owned.tokenizer()).encode(text, Special::Parsed, false, &mut ids).unwrap();
    assert_eq!(ids, [151644, 872, 198, 6023, 151645]);
}

#[test]
fn gpt2_from_vocab_and_merges() {
    let (Some(dir), Some(golden)) = (data("tok/gpt2"), data("golden/gpt2.jsonl")) else { return };
    let old = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("encoder.json"), old.path().join("vocab.json")).unwrap();
    std::fs::copy(dir.join("vocab.bpe"), old.path().join("merges.txt")).unwrap();
    let spec = huggingface::read_directory(old.path()).unwrap();
    assert_eq!(check_golden(&build(&spec).tokenizer(), &golden), 0);
    let again = huggingface::read_file(&dir.join("tokenizer.json")).unwrap();
    // The one says of its added token that it is matched in normalized text, which is the text.
    let added = |spec: &TokenizerSpec| spec.added.iter().map(|added| added.id).collect::<Vec<_>>();
    assert_eq!(added(&spec), added(&again));
    assert!(build(&TokenizerSpec { added: again.added.clone(), ..spec }).data() == build(&again).data());
}

/// llama.cpp's own test texts and ids.
fn check_ggml(tokenizer: &Tokenizer<'_>, name: &str) {
    let (Some(texts), Some(ids)) =
        (data(&format!("ggml-vocab/{name}.gguf.inp")), data(&format!("ggml-vocab/{name}.gguf.out")))
    else {
        return;
    };
    let texts = std::fs::read_to_string(texts).unwrap();
    let ids = std::fs::read_to_string(ids).unwrap();
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let mut checked = 0;
    for (text, ids) in texts.iter().zip(ids.lines()) {
        let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        match encode(tokenizer, text) {
            Err(EncodeError::NeedsNfc { .. }) => continue,
            found => assert_eq!(found.unwrap(), ids, "{name}: {text:?}"),
        }
        if tokenizer.kind() != smidgen_runtime::tokenizer::TokenizerKind::WordPiece {
            assert_eq!(decode(tokenizer, &ids), *text);
        }
        checked += 1;
    }
    assert!(checked > 40, "{name}: only {checked}");
}

#[test]
fn llama_cpp_ids() {
    if let Some(file) = data("tok/gpt2/tokenizer.json") {
        check_ggml(&build(&huggingface::read_file(&file).unwrap()).tokenizer(), "ggml-vocab-gpt-2");
    }
    if let Some(file) = data("tok/llama_tokenizer.json") {
        check_ggml(&build(&huggingface::read_file(&file).unwrap()).tokenizer(), "ggml-vocab-llama-spm");
    }
    if let Some(file) = data("llama2c/tokenizer.bin") {
        check_ggml(&build(&llama2c::read_file(&file, 32000).unwrap()).tokenizer(), "ggml-vocab-llama-spm");
    }
    if let Some(dir) = data("tok/qwen2") {
        check_ggml(&build(&huggingface::read_directory(&dir).unwrap()).tokenizer(), "ggml-vocab-qwen2");
    }
}

#[test]
fn llama2c_is_llama() {
    let (Some(file), Some(golden)) = (data("llama2c/tokenizer.bin"), data("golden/llama.jsonl")) else {
        return;
    };
    for spec in with_rewritten(llama2c::read_file(&file, 32000).unwrap()) {
        assert_eq!(check_golden(&build(&spec).tokenizer(), &golden), 0);
    }
}

#[test]
fn llama2c_of_512_tokens() {
    let Some(file) = data("llama2c/tok512.bin") else { return };
    let spec = llama2c::read_file(&file, 512).unwrap();
    let owned = build(&spec);
    let t = owned.tokenizer();
    let text = "Once upon a time, there was a little girl named Lily. 안녕";
    let ids = encode(&t, text).unwrap();
    // What llama2.c's `run` has for the first words.
    assert_eq!(ids[..5], [403, 407, 261, 378, 432]);
    assert_eq!(decode(&t, &ids), text);
    for (vocab_size, wanted) in
        [(511, "token 510 of 511"), (513, "token 512 of 513"), (32000, "token 512 of 32000")]
    {
        let error = llama2c::read_file(&file, vocab_size).unwrap_err().to_string();
        assert!(error.contains("tok512.bin") && error.contains(wanted), "{error}");
    }
}

#[test]
fn bert() {
    let (Some(file), Some(golden)) =
        (data("tok/bert-base-uncased_vocab.txt"), data("golden/bert_uncased.jsonl"))
    else {
        return;
    };
    for spec in with_rewritten(tokenizer::open(&file).unwrap()) {
        assert_eq!((spec.bos, &spec.end_tokens[..], spec.unknown), (Some(101), &[102][..], Some(100)));
        let owned = build(&spec);
        check_golden(&owned.tokenizer(), &golden);
        assert_eq!(owned.tokenizer().closing(), Some(102));
        let ids = encode(&owned.tokenizer(), "Wouldn't the naïve café's cost be 10,000?").unwrap();
        assert_eq!(decode(&owned.tokenizer(), &ids), "wouldn ' t the naive cafe ' s cost be 10, 000?");
    }
    for name in ["ggml-vocab/ggml-vocab-bert-bge.gguf", "tok/bert-base-uncased_vocab.txt"] {
        let Some(file) = data(name) else { continue };
        let owned = build(&tokenizer::open(&file).unwrap());
        check_golden(&owned.tokenizer(), &golden);
        check_ggml(&owned.tokenizer(), "ggml-vocab-bert-bge");
    }
}

#[test]
fn every_other_form_of_gpt2_and_llama() {
    for (file, golden) in [
        ("llmc/gpt2_tokenizer_azret.bin", "golden/gpt2.jsonl"),
        ("llmc/gpt2_tokenizer_poro.bin", "golden/gpt2.jsonl"),
        ("ggml-vocab/ggml-vocab-gpt-2.gguf", "golden/gpt2.jsonl"),
        ("ggml-vocab/ggml-vocab-llama-spm.gguf", "golden/llama.jsonl"),
        ("llama2c/tokenizer.bin", "golden/llama.jsonl"),
    ] {
        let (Some(file), Some(golden)) = (data(file), data(golden)) else { continue };
        let spec = tokenizer::open(&file).unwrap();
        check_golden(&build(&spec).tokenizer(), &golden);
    }
}

#[test]
fn tiktoken_ranks_make_the_merges_again() {
    let (Some(file), Some(golden)) = (data("tok/gpt2/tokenizer.json"), data("golden/gpt2.jsonl")) else {
        return;
    };
    let spec = tokenizer::open(&file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gpt2.tiktoken");
    let lines = (0..50256).map(|id| format!("{} {id}\n", base64(&spec.tokens[id].bytes)));
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    let ranks = tokenizer::open(&path).unwrap();
    assert_eq!((ranks.merges.len(), ranks.end_tokens), (spec.merges.len(), vec![50256]));
    assert_eq!(ranks.merges, spec.merges);
    let ranks = tokenizer::open(&path).unwrap();
    check_golden(&build(&ranks).tokenizer(), &golden);
    for (text, wanted) in [
        ("IQ== 0\nIg==\n", "line 2: is not a token and its rank"),
        ("IQ== 0\n!!!! 1\n", "line 2: has a token that is not base64"),
        ("IQ== 0\nIg== 0\n", "line 2: has rank 0, as an earlier line"),
        ("IQ== 0\nIg== 900000\n", "line 2: has rank 900000 after 1 tokens"),
        ("hello\n", "content: is no tokenizer.json"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = tokenizer::open(&path).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("gpt2.tiktoken"), "{error}");
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let chunk = |chunk: &[u8]| {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = |at: usize| {
            if at <= chunk.len() { char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]) } else { '=' }
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(chunk).collect()
}

#[test]
fn a_file_with_bad_merges_is_refused() {
    let Some(file) = data("tok/bad/llama2_tokenizer_ortext_INVALID_MERGES.json") else { return };
    let error = huggingface::read_file(&file).unwrap_err();
    assert!(matches!(error, TokenizerFileError::Field { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("model.merges[18917]") && text.contains("INVALID_MERGES.json"), "{text}");
}
