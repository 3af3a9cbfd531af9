//! `vocab.json` and `merges.txt`: what byte-level tokenizers had before `tokenizer.json`.

use std::path::Path;

use serde_json::{Value, json};
use smidgen_runtime::tokenizer::TokenizerSpec;

use super::{pattern, read, read_bytes, read_json, root};
use crate::tokenizer::TokenizerFileError;

/// Reads both files, and from `tokenizer_config.json` which pre-tokenizer the class stands for
/// (GPT-2's if there is no such file) and which tokens are added.
pub(super) fn read(dir: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let vocab_path = dir.join("vocab.json");
    let merges_path = dir.join("merges.txt");
    let config_path = dir.join("tokenizer_config.json");
    let vocab = read_json(&vocab_path)?;
    let config = if config_path.exists() { read_json(&config_path)? } else { json!({}) };
    let class = root(&config, &config_path).get("tokenizer_class");
    let name = if class.exists() { class.str()? } else { "GPT2Tokenizer" };
    let (regex, normalizer) = match name.strip_suffix("Fast").unwrap_or(name) {
        "GPT2Tokenizer" => (pattern::GPT2, Value::Null),
        "Qwen2Tokenizer" => (pattern::QWEN2, json!({"type": "NFC"})),
        _ => return Err(class.unsupported(format!("{name} without tokenizer.json"))),
    };
    let added = added_tokens(&config, &vocab);
    let whole = json!({
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": merge_lines(&merges_path)?},
    });
    read::parse(&whole, &vocab_path)
}

/// The lines of `merges.txt`, without its version.
fn merge_lines(path: &Path) -> Result<Vec<String>, TokenizerFileError> {
    let text = String::from_utf8(read_bytes(path)?).map_err(|error| {
        TokenizerFileError::field(path, format!("byte {}", error.utf8_error().valid_up_to()), "is not UTF-8")
    })?;
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with("#version")).map(String::from).collect())
}

/// `added_tokens_decoder` as `tokenizer.json` would list it; without one, GPT-2's only special token.
fn added_tokens(config: &Value, vocab: &Value) -> Vec<Value> {
    match config.get("added_tokens_decoder").and_then(Value::as_object) {
        Some(decoder) => decoder
            .iter()
            .map(|(id, token)| {
                let mut token = token.clone();
                token["id"] = id.parse::<u32>().map_or(Value::Null, Value::from);
                token
            })
            .collect(),
        None => {
            let name = "<|endoftext|>";
            vocab
                .get(name)
                .map(|id| json!({"id": id, "content": name, "special": true}))
                .into_iter()
                .collect()
        }
    }
}
