//! Which tokens begin and end a text, from the files around `tokenizer.json`.

use std::path::Path;

use smidgen_runtime::tokenizer::{TokenType, TokenizerSpec};

use super::fields::Field;
use super::{read_json, root};
use crate::tokenizer::TokenizerFileError;

/// Names under which tokenizers that do not say so end a text.
const USUAL_ENDS: [&str; 7] =
    ["</s>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<eos>"];

/// Fills in `bos`, `add_bos` and `end_tokens` from the directory's other files.
pub(super) fn complete(spec: &mut TokenizerSpec, dir: &Path) -> Result<(), TokenizerFileError> {
    let path = dir.join("tokenizer_config.json");
    if path.exists() {
        let json = read_json(&path)?;
        let config = root(&json, &path);
        if let Some(id) = named(spec, &config.get("bos_token"))? {
            spec.bos = Some(id);
        }
        if let Some(id) = named(spec, &config.get("eos_token"))? {
            add_end(spec, id);
        }
        spec.add_bos = config.get("add_bos_token").bool_or(spec.add_bos)?;
    }
    for name in ["generation_config.json", "config.json"] {
        let path = dir.join(name);
        if path.exists() {
            let json = read_json(&path)?;
            let config = root(&json, &path);
            for id in ids(&config.get("eos_token_id"))? {
                known(spec, &config.get("eos_token_id"), id)?;
                add_end(spec, id);
            }
            if spec.bos.is_none()
                && let [id] = ids(&config.get("bos_token_id"))?[..]
            {
                known(spec, &config.get("bos_token_id"), id)?;
                spec.bos = Some(id);
            }
        }
    }
    spec.add_bos &= spec.bos.is_some();
    if spec.end_tokens.is_empty() {
        guess_ends(spec);
    }
    Ok(())
}

/// Takes for ends the special tokens that are usually ones.
pub(super) fn guess_ends(spec: &mut TokenizerSpec) {
    let usual = |bytes: &[u8]| USUAL_ENDS.iter().any(|name| name.as_bytes() == bytes);
    spec.end_tokens = (0..)
        .zip(&spec.tokens)
        .filter(|(_, token)| token.token_type == TokenType::Control && usual(&token.bytes))
        .map(|(id, _)| id)
        .collect();
}

fn add_end(spec: &mut TokenizerSpec, id: u32) {
    if !spec.end_tokens.contains(&id) {
        spec.end_tokens.push(id);
    }
}

/// The id of a token given as `"</s>"` or `{"content": "</s>"}`. Special tokens are added ones; a
/// name that is none is no token of this vocabulary (configs are often copied), and is left out.
fn named(spec: &TokenizerSpec, field: &Field<'_>) -> Result<Option<u32>, TokenizerFileError> {
    if !field.exists() {
        return Ok(None);
    }
    let text = field.token_text()?;
    let is_it = |id: &u32| spec.tokens.get(*id as usize).is_some_and(|token| token.bytes == text.as_bytes());
    Ok(spec.added.iter().map(|added| added.id).find(is_it))
}

/// One id or a list of ids.
fn ids(field: &Field<'_>) -> Result<Vec<u32>, TokenizerFileError> {
    match field.value() {
        None => Ok(Vec::new()),
        Some(value) if value.is_array() => field.list()?.iter().map(Field::u32).collect(),
        Some(_) => Ok(vec![field.u32()?]),
    }
}

fn known(spec: &TokenizerSpec, field: &Field<'_>, id: u32) -> Result<(), TokenizerFileError> {
    let n_tokens = spec.tokens.len();
    if (id as usize) < n_tokens {
        Ok(())
    } else {
        Err(field.error(format!("token {id} is not below {n_tokens}")))
    }
}
