//! Small tokenizer files made here: what is read, what is refused by name, and what the files beside
//! them say. Ids are those of Hugging Face's `tokenizers` 0.23.3.

use std::path::Path;

use serde_json::json;
use smidgen_converter::tokenizer::{self, TokenizerFileError, TokenizerSpec, huggingface};
use smidgen_runtime::tokenizer::{CachedEncoder, OwnedTokenizer, Special};

fn encode(spec: &TokenizerSpec, text: &str, special: Special) -> Vec<u32> {
    let owned = OwnedTokenizer::build(spec).unwrap();
    let mut ids = Vec::new();
    let mut scratch = vec![0; 100 + 5 * (text.len() + 1)];
    owned.tokenizer().encode_each(text, special, false, &mut scratch, |id| ids.push(id)).unwrap();
    let mut cached = Vec::new();
    CachedEncoder::new(owned.tokenizer()).encode(text, special, false, &mut cached).unwrap();
    assert_eq!(ids, cached, "{text:?}");
    ids
}

/// A spec, and what it is after writing and reading again.
fn with_rewritten(spec: TokenizerSpec) -> [TokenizerSpec; 2] {
    let dir = tempfile::tempdir().unwrap();
    huggingface::write_directory(&spec, dir.path()).unwrap();
    let again = huggingface::read_directory(dir.path()).unwrap();
    [spec, again]
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

fn small_json() -> serde_json::Value {
    json!({
        "added_tokens": [{"id": 3, "content": "<|end|>", "special": true, "lstrip": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"a": 0, "Ġ": 1, "Ġa": 2}, "merges": [["Ġ", "a"]]},
    })
}

fn read_value(json: &serde_json::Value) -> Result<TokenizerSpec, TokenizerFileError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    huggingface::read_file(&path)
}

#[test]
fn a_small_file_is_read() {
    let spec = read_value(&small_json()).unwrap();
    assert_eq!(spec.end_tokens, [3]);
    assert!(spec.added[0].lstrip && !spec.added[0].rstrip);
    assert_eq!(encode(&spec, "a a", Special::Plain), [0, 2]);
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    for (pointer, value, wanted) in [
        ("/model/type", "\"Unigram\"", "model: Unigram is not supported"),
        ("/model/type", "\"WordPiece\"", "pre_tokenizer: ByteLevel is not supported"),
        ("/model/dropout", "0.1", "model.dropout: dropout of 0.1"),
        ("/model/continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix: \"##\""),
        ("/model/unk_token", "\"<unk>\"", "model.unk_token: \"<unk>\" is not in the vocabulary"),
        ("/model/vocab/b", "70000", "one with id 70000"),
        ("/model/vocab/b", "0", "id 0 is given twice"),
        ("/model/vocab/b", "-1", "\"b\" has no id but -1"),
        ("/model/vocab/한", "4", "'한', which is no byte"),
        ("/model/merges", "[[\"a\", \"a\"]]", "model.merges[0]: \"aa\" is not in the vocabulary"),
        ("/model/merges", "[\"a\"]", "model.merges[0]: \"a\" is not two tokens"),
        ("/normalizer", "{\"type\": \"NFKC\"}", "normalizer: NFKC is not supported"),
        ("/pre_tokenizer", "null", "pre_tokenizer: leaving this out is not supported"),
        ("/pre_tokenizer", "{\"type\": \"Whitespace\"}", "pre_tokenizer: Whitespace is not supported"),
        (
            "/pre_tokenizer",
            r#"{"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": true}]}"#,
            "pre_tokenizer.pretokenizers[1].add_prefix_space: a space before every part",
        ),
        (
            "/pre_tokenizer",
            r#"{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"}, "behavior": "Isolated"}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}"#,
            r"the pattern [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]* is not supported",
        ),
        (
            "/pre_tokenizer",
            r#"{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated"}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}"#,
            "pre_tokenizer.pretokenizers[0].pattern.Regex: the pattern x is not supported",
        ),
        ("/decoder", "{\"type\": \"Metaspace\"}", "decoder: Metaspace"),
        ("/post_processor", "{\"type\": \"BertProcessing\"}", "post_processor.cls: is missing"),
        (
            "/post_processor",
            r#"{"type": "BertProcessing", "cls": ["a", 0], "sep": ["b", 9]}"#,
            "post_processor: puts token 9 of 4 around a text",
        ),
        (
            "/post_processor",
            r#"{"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "BertProcessing", "cls": ["a", 0], "sep": ["<|end|>", 3]}, {"type": "RobertaProcessing", "cls": ["a", 0], "sep": ["<|end|>", 3]}]}"#,
            "post_processor.processors[2]: putting more tokens around a text that has some is not supported",
        ),
        ("/added_tokens/0/id", "true", "added_tokens[0].id: is true where an id belongs"),
        ("/model/byte_fallback", "true", "pre_tokenizer: ByteLevel is not supported"),
    ] {
        let mut json = small_json();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[key] = serde_json::from_str(value).unwrap();
        let error = read_value(&json).expect_err(pointer).to_string();
        assert!(error.contains(wanted), "{pointer} = {value}: {error}");
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn neighbouring_files_tell_where_a_text_ends() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| write(dir.path(), name, text);
    write("tokenizer.json", &small_json().to_string());
    write(
        "tokenizer_config.json",
        r#"{"eos_token": {"content": "<|end|>"}, "bos_token": "<|end|>", "add_bos_token": true}"#,
    );
    write("generation_config.json", r#"{"eos_token_id": [3, 0]}"#);
    let spec = huggingface::read_directory(dir.path()).unwrap();
    assert_eq!((spec.bos, spec.add_bos, &spec.end_tokens[..]), (Some(3), true, &[3, 0][..]));
    write("config.json", r#"{"eos_token_id": 4}"#);
    let error = huggingface::read_directory(dir.path()).unwrap_err().to_string();
    assert!(error.contains("config.json: eos_token_id: token 4 is not below 4"), "{error}");
}

#[test]
fn a_space_comes_before_every_text_that_has_none() {
    let mut json = small_json();
    json["added_tokens"] = json!([{"id": 5, "content": "<mask>", "special": true, "lstrip": true}]);
    json["model"]["vocab"] = json!({"a": 0, "Ġ": 1, "Ġa": 2, "Ċ": 3, "'": 4});
    json["pre_tokenizer"]["add_prefix_space"] = true.into();
    // Text, ids with special tokens, ids without, and those without GPT-2's pattern.
    type Case<'c> = (&'c str, &'c [u32], &'c [u32], &'c [u32]);
    let cases: [Case<'_>; 11] = [
        ("a", &[2], &[2], &[2]),
        (" a", &[2], &[2], &[2]),
        ("  a", &[1, 2], &[1, 2], &[1, 2]),
        ("\na", &[1, 3, 0], &[1, 3, 0], &[1, 3, 0]),
        ("\n", &[1, 3], &[1, 3], &[1, 3]),
        ("", &[], &[], &[]),
        ("'a", &[1, 4, 0], &[1, 4, 0], &[1, 4, 0]),
        ("a <mask>a", &[2, 5, 2], &[2, 1, 0, 0], &[2, 2, 0]),
        ("a<mask>\n\na", &[2, 5, 1, 3, 3, 0], &[2, 0, 3, 3, 0], &[2, 0, 3, 3, 0]),
        ("<mask>", &[5], &[1, 0], &[2]),
        (" <mask> a", &[5, 2], &[1, 0, 2], &[2, 2]),
    ];
    for cut in [true, false] {
        json["pre_tokenizer"]["use_regex"] = cut.into();
        for spec in with_rewritten(read_value(&json).unwrap()) {
            assert!(spec.add_space_prefix);
            for (text, parsed, plain, uncut) in cases {
                assert_eq!(encode(&spec, text, Special::Parsed), parsed, "{cut} {text:?}");
                let wanted = if cut { plain } else { uncut };
                assert_eq!(encode(&spec, text, Special::Plain), wanted, "{cut} {text:?}");
            }
        }
    }
    json["normalizer"] = json!({"type": "NFC"});
    let error = read_value(&json).unwrap_err().to_string();
    assert!(error.contains("a space prefix with a normalizer"), "{error}");
}

/// A vocabulary in which each of BERT's rules shows.
const BERT: &str = "[UNK]\n[CLS]\n[SEP]\nun\n##able\nUn\nÉ\nE\né\ne\n漢\n字\n漢字\n##字\n\u{200b}\nx\n##\u{200b}\n##x\nx\u{200b}x\n";
const BERT_TEXT: &str = "Unable É é 漢字 x\u{200b}x";

#[test]
fn every_rule_of_berts_normalizer() {
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..).zip(BERT.lines()).map(|(id, token): (u32, _)| (token.into(), id.into())).collect();
    for rules in 0..16u32 {
        let [clean, cjk, strip, lower] = [8, 4, 2, 1].map(|bit| rules & bit != 0);
        let json = json!({
            "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": cjk,
                "strip_accents": strip, "lowercase": lower},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocab},
        });
        let mut wanted = match (strip, lower) {
            (true, true) => vec![3, 4, 9, 9],
            (true, false) => vec![5, 4, 7, 9],
            (false, true) => vec![3, 4, 8, 8],
            (false, false) => vec![5, 4, 6, 8],
        };
        wanted.extend(if cjk { &[10, 11][..] } else { &[12] });
        wanted.extend(if clean { &[15, 17][..] } else { &[18] });
        for spec in with_rewritten(read_value(&json).unwrap()) {
            assert_eq!(encode(&spec, BERT_TEXT, Special::Plain), wanted, "{rules:04b}");
        }
    }
}

#[test]
fn the_config_beside_a_vocab_txt_says_berts_rules() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vocab.txt");
    write(dir.path(), "vocab.txt", BERT);
    // Capitals in the vocabulary, and nothing else to go by.
    assert_eq!(encode(&tokenizer::open(&file).unwrap(), BERT_TEXT, Special::Plain)[..4], [5, 4, 6, 8]);
    for (config, wanted) in [
        (r#"{"do_lower_case": false}"#, &[5, 4, 6, 8, 10, 11, 15, 17][..]),
        (r#"{"do_lower_case": true}"#, &[3, 4, 9, 9, 10, 11, 15, 17]),
        ("{}", &[3, 4, 9, 9, 10, 11, 15, 17]),
        (r#"{"strip_accents": false}"#, &[3, 4, 8, 8, 10, 11, 15, 17]),
        (r#"{"do_lower_case": false, "strip_accents": true}"#, &[5, 4, 7, 9, 10, 11, 15, 17]),
        (r#"{"tokenize_chinese_chars": false, "strip_accents": null}"#, &[3, 4, 9, 9, 12, 15, 17]),
    ] {
        write(dir.path(), "tokenizer_config.json", config);
        for path in [dir.path(), &file] {
            let spec = tokenizer::open(path).unwrap();
            assert_eq!(encode(&spec, BERT_TEXT, Special::Plain), wanted, "{config}");
        }
    }
    write(dir.path(), "vocab.txt", "<unk>\n<s>\n</s>\na\n");
    write(
        dir.path(),
        "tokenizer_config.json",
        r#"{"unk_token": "<unk>", "cls_token": {"content": "<s>"}, "sep_token": "</s>"}"#,
    );
    let spec = tokenizer::open(dir.path()).unwrap();
    assert_eq!((spec.unknown, spec.bos, &spec.end_tokens[..]), (Some(0), Some(1), &[2][..]));
    assert_eq!(encode(&spec, "A b</s>", Special::Parsed), [3, 0, 2]);
    for (config, wanted) in [
        (r#"{"do_lower_case": 1}"#, "tokenizer_config.json: do_lower_case: is 1 where true or false belongs"),
        (r#"{"do_basic_tokenize": false}"#, "tokenizer_config.json: do_basic_tokenize"),
        ("{}", "vocab.txt: [UNK]: is missing"),
    ] {
        write(dir.path(), "tokenizer_config.json", config);
        let error = tokenizer::open(&file).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn the_config_beside_vocab_and_merges_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let open = || tokenizer::open(dir.path());
    write(
        dir.path(),
        "vocab.json",
        r##"{"a": 0, "Ġ": 1, "Ġa": 2, "#version": 3, "s": 4, "#versions": 5, "<|endoftext|>": 6}"##,
    );
    write(dir.path(), "merges.txt", "#version: 0.2\nĠ a\n#version s\n");
    let spec = open().unwrap();
    assert_eq!(
        (spec.add_space_prefix, spec.add_bos, &spec.merges[..]),
        (false, false, &[(1, 0), (3, 4)][..])
    );
    write(
        dir.path(),
        "tokenizer_config.json",
        r#"{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true, "add_bos_token": true, "bos_token": "<|endoftext|>"}"#,
    );
    let spec = open().unwrap();
    assert_eq!((spec.add_space_prefix, spec.add_bos, spec.bos), (true, true, Some(6)));
    assert_eq!(encode(&spec, "a<|endoftext|>a", Special::Parsed), [2, 6, 2]);
    write(
        dir.path(),
        "tokenizer_config.json",
        r#"{"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": true}"#,
    );
    let error = open().unwrap_err().to_string();
    assert!(error.contains("add_prefix_space: a space before every part of a text"), "{error}");
    // What is added, as older directories say it.
    write(
        dir.path(),
        "tokenizer_config.json",
        r#"{"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|e|>"}"#,
    );
    write(dir.path(), "added_tokens.json", r#"{"<|e|>": 7, "<|m|>": 8, "word": 9}"#);
    write(dir.path(), "special_tokens_map.json", r#"{"additional_special_tokens": ["<|m|>"]}"#);
    let spec = open().unwrap();
    assert_eq!(encode(&spec, "a<|e|><|m|>word", Special::Parsed), [0, 7, 8, 9]);
    assert_eq!(encode(&spec, "<|e|>word", Special::Plain)[..], [9]);
    assert_eq!(spec.end_tokens, [7]);
}

#[test]
fn gemma_cuts_at_spaces_that_are_no_more() {
    let mut json = small_json();
    json["model"]["vocab"] = json!({"a": 0, "▁": 1, "▁a": 2});
    json["model"]["merges"] = json!([["▁", "a"]]);
    json["model"]["byte_fallback"] = true.into();
    json["decoder"] = serde_json::Value::Null;
    json["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    json["pre_tokenizer"] = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    for spec in with_rewritten(read_value(&json).unwrap()) {
        assert!(!spec.add_space_prefix);
        assert_eq!(encode(&spec, "a a  a", Special::Plain), [0, 2, 1, 2]);
    }
    json["pre_tokenizer"]["pattern"]["String"] = "a".into();
    let error = read_value(&json).unwrap_err().to_string();
    assert!(error.contains("pre_tokenizer: Split is not supported"), "{error}");
}

#[test]
fn either_of_two_files_or_their_directory_is_enough() {
    let vocab = r#"{"a": 0, "Ġ": 1, "Ġa": 2}"#;
    for [vocab_name, merges_name] in
        [["vocab.json", "merges.txt"], ["encoder.json", "vocab.bpe"], ["gpt2-vocab.json", "gpt2-merges.txt"]]
    {
        let dir = tempfile::tempdir().unwrap();
        let [vocab_path, merges_path] = [vocab_name, merges_name].map(|name| dir.path().join(name));
        write(dir.path(), vocab_name, vocab);
        for path in [&vocab_path, &merges_path] {
            let error = tokenizer::open(path).unwrap_err().to_string();
            assert!(error.contains(merges_name), "{error}");
        }
        write(dir.path(), merges_name, "#version: 0.2\nĠ a\n");
        let mut paths = vec![vocab_path, merges_path];
        // A directory holds one model's, so nothing stands before their names.
        paths.extend((!vocab_name.starts_with("gpt2")).then(|| dir.path().to_owned()));
        for path in paths {
            let spec = tokenizer::open(&path).unwrap();
            assert_eq!(encode(&spec, "a a", Special::Plain), [0, 2], "{}", path.display());
        }
        // Only tokenizer.json says how text is cut: here before every digit.
        let mut json = small_json();
        json["model"]["vocab"] = json!({"a": 0, "Ġ": 1, "Ġa": 2, "1": 4, "11": 5});
        json["model"]["merges"] = json!([["Ġ", "a"], ["1", "1"]]);
        json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false},
        ]});
        write(dir.path(), "tokenizer.json", &json.to_string());
        let spec = tokenizer::open(&dir.path().join(vocab_name)).unwrap();
        assert_eq!(encode(&spec, "11", Special::Plain), [4, 4]);
    }
}

#[test]
fn other_names_that_a_directory_has() {
    let dir = tempfile::tempdir().unwrap();
    let error = tokenizer::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("vocab.json"), "{error}");
    // Llama 3's own file, and SentencePiece's of the same name.
    write(dir.path(), "tokenizer.model", "YQ== 0\nYg== 1\nYWI= 2\n");
    let spec = tokenizer::open(dir.path()).unwrap();
    assert_eq!(encode(&spec, "aba", Special::Plain), [2, 0]);
    std::fs::write(dir.path().join("tokenizer.model"), b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02").unwrap();
    let error = tokenizer::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.model: content: SentencePiece's own file"), "{error}");
}

#[test]
fn a_word_that_comes_twice_is_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "vocab.txt", "[UNK]\nun\n##able\nun\n");
    let spec = tokenizer::open(dir.path()).unwrap();
    assert_eq!(encode(&spec, "unable", Special::Plain), [3, 2]);
    assert_eq!(spec.tokens.len(), 4);
}
