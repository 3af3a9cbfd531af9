//! What a directory says in words: its tokenizer and its conversation template.

use std::path::Path;

use serde_json::Value;

use super::json::{Object, read_json};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, io_at};
use crate::tokenizer;

/// Reads the tokenizer's files if there are any.
pub(super) fn read_tokenizer(directory: &Path, checkpoint: &mut Checkpoint) -> Result<(), Error> {
    let has = |name: &str| directory.join(name).exists();
    if has("tokenizer.json") || has("vocab.json") {
        checkpoint.tokenizer = Some(tokenizer::huggingface::read_directory(directory)?);
    } else if has("tokenizer.model") {
        let note = "tokenizer.model is not read (tokenizer.json would be): the model gets no tokenizer";
        checkpoint.notes.push(note.into());
    } else {
        checkpoint.notes.push("there is no tokenizer.json: the model gets no tokenizer".into());
    }
    Ok(())
}

/// The conversation template: a file of its own, or a key of `tokenizer_config.json` with one
/// template or a list of named ones; empty if there is none.
pub(super) fn chat_template(directory: &Path) -> Result<String, Error> {
    let path = directory.join("chat_template.jinja");
    if path.exists() {
        return std::fs::read_to_string(&path).map_err(io_at(&path));
    }
    let path = directory.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(String::new());
    }
    let value = read_json(&path)?;
    let root = Object::root(&path, &value)?;
    let template = match root.get("chat_template") {
        Some(Value::Array(named)) => {
            let default = named.iter().find(|one| one["name"] == "default");
            default.and_then(|one| one["template"].as_str())
        }
        _ => root.string("chat_template")?,
    };
    Ok(template.unwrap_or_default().into())
}
