//! `vocab.json` and `merges.txt`: what byte-level tokenizers had before `tokenizer.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smidgen_runtime::tokenizer::TokenizerSpec;

use super::{pattern, read, read_bytes, read_json, root};
use crate::tokenizer::TokenizerFileError;

/// How the two files are called: by Hugging Face, and by OpenAI, who made them first. Others put a
/// model's name before (`gpt2-vocab.json`).
const NAMES: [(&str, &str); 2] = [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")];

/// The two files in `dir`: those that are there, else those that Hugging Face would have.
pub(super) fn in_directory(dir: &Path) -> (PathBuf, PathBuf) {
    let both = NAMES.map(|(vocab, merges)| (dir.join(vocab), dir.join(merges)));
    let there = both.iter().find(|(vocab, merges)| vocab.exists() || merges.exists());
    there.unwrap_or(&both[0]).clone()
}

/// The vocabulary and the merges, of which `path` is one; `None` if its name is neither's.
pub(super) fn beside(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let name = path.file_name()?.to_str()?;
    NAMES.iter().find_map(|(vocab, merges)| {
        let model = name.strip_suffix(vocab).or_else(|| name.strip_suffix(merges))?;
        let file = |name: &str| path.with_file_name(format!("{model}{name}"));
        Some((file(vocab), file(merges)))
    })
}

/// Reads both files, and from `tokenizer_config.json` beside them which pre-tokenizer the class
/// stands for (GPT-2's if there is no such file) and which tokens are added.
pub(super) fn read(vocab_path: &Path, merges_path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let dir = vocab_path.parent().unwrap_or(Path::new(""));
    let config_path = dir.join("tokenizer_config.json");
    let vocab = read_json(vocab_path)?;
    let config = if config_path.exists() { read_json(&config_path)? } else { json!({}) };
    let class = root(&config, &config_path).get("tokenizer_class");
    let name = if class.exists() { class.str()? } else { "GPT2Tokenizer" };
    let (regex, normalizer) = match name.strip_suffix("Fast").unwrap_or(name) {
        "GPT2Tokenizer" => (pattern::GPT2, Value::Null),
        "Qwen2Tokenizer" => (pattern::QWEN2, json!({"type": "NFC"})),
        _ => return Err(class.unsupported(format!("{name} without tokenizer.json"))),
    };
    let prefix = root(&config, &config_path).get("add_prefix_space").bool_or(false)?;
    // The class's own, and a space before texts only with GPT-2's pattern: others are refused by name.
    let bytes =
        |prefix: bool, cut: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "use_regex": cut});
    let pre_tokenizer = match regex {
        pattern::GPT2 => bytes(prefix, true),
        _ => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"},
            bytes(prefix, false),
        ]}),
    };
    let added = added_tokens(&config, &vocab, dir)?;
    let whole = json!({
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "BPE", "vocab": vocab, "merges": merge_lines(merges_path)?},
    });
    read::parse(&whole, vocab_path)
}

/// The lines of `merges.txt`, without its version, which is the first line if it is there.
fn merge_lines(path: &Path) -> Result<Vec<String>, TokenizerFileError> {
    let text = String::from_utf8(read_bytes(path)?).map_err(|error| {
        TokenizerFileError::field(path, format!("byte {}", error.utf8_error().valid_up_to()), "is not UTF-8")
    })?;
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r')).enumerate();
    let is_other =
        |(number, line): &(usize, &str)| line.is_empty() || (*number == 0 && line.starts_with("#version"));
    Ok(lines.filter(|line| !is_other(line)).map(|(_, line)| line.into()).collect())
}

/// `added_tokens_decoder` as `tokenizer.json` would list it; without one, what the older
/// `added_tokens.json` has and GPT-2's only special token.
fn added_tokens(config: &Value, vocab: &Value, dir: &Path) -> Result<Vec<Value>, TokenizerFileError> {
    if let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) {
        let listed = decoder.iter().map(|(id, token)| {
            let mut token = token.clone();
            token["id"] = id.parse::<u32>().map_or(Value::Null, Value::from);
            token
        });
        return Ok(listed.collect());
    }
    let usual = "<|endoftext|>";
    let mut ids: BTreeMap<String, Value> =
        vocab.get(usual).map(|id| (usual.to_owned(), id.clone())).into_iter().collect();
    let path = dir.join("added_tokens.json");
    if path.exists() {
        let json = read_json(&path)?;
        ids.extend(root(&json, &path).object()?.clone());
    }
    let map_path = dir.join("special_tokens_map.json");
    let map = if map_path.exists() { read_json(&map_path)? } else { json!({}) };
    let is_special = |text: &str| text == usual || names_special(config, text) || names_special(&map, text);
    let token = |(text, id): (String, Value)| {
        let special = is_special(&text);
        json!({"id": id, "content": text, "special": special, "normalized": !special})
    };
    Ok(ids.into_iter().map(token).collect())
}

/// Whether a `…_token` of `config`, or its `additional_special_tokens`, is `text`.
fn names_special(config: &Value, text: &str) -> bool {
    let is_it = |token: &Value| token.as_str().or_else(|| token.get("content")?.as_str()) == Some(text);
    config.as_object().into_iter().flatten().any(|(name, value)| match value {
        Value::Array(tokens) => name == "additional_special_tokens" && tokens.iter().any(is_it),
        _ => name.ends_with("_token") && is_it(value),
    })
}
