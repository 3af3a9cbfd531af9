//! Which of our pre-tokenizers a `tokenizer.json` describes, and how it is described.

use serde_json::{Value, json};
use smidgen_runtime::tokenizer::PreTokenizer;

use super::fields::Field;
use crate::tokenizer::TokenizerFileError;

pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4's, as newer versions of tiktoken write it. (Hugging Face's regex engine would take the `+`
/// behind `{1,3}` for a repetition, so their files leave it out.)
pub(super) const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Recognizes a byte-level pre-tokenizer, and whether it puts a space before texts.
pub(super) fn recognize(field: &Field<'_>) -> Result<(PreTokenizer, bool), TokenizerFileError> {
    if field.type_name() == "ByteLevel" {
        let cuts = field.get("use_regex").bool_or(true)?;
        let prefix = field.get("add_prefix_space").bool_or(true)?;
        return Ok((if cuts { PreTokenizer::Gpt2 } else { PreTokenizer::None }, prefix));
    }
    Ok((sequence(field)?, false))
}

/// A pattern, then `ByteLevel`.
fn sequence(field: &Field<'_>) -> Result<PreTokenizer, TokenizerFileError> {
    if field.type_name() != "Sequence" {
        return Err(field.unsupported_component());
    }
    let parts = field.get("pretokenizers").list()?;
    let [first, bytes] = &parts[..] else {
        return Err(field.unsupported(format!("a sequence of {}", parts.len())));
    };
    if bytes.type_name() != "ByteLevel" {
        return Err(bytes.unsupported_component());
    }
    match (first.type_name(), byte_level_cuts(bytes)?) {
        ("Digits", true) if first.get("individual_digits").bool_or(false)? => Ok(PreTokenizer::DigitsGpt2),
        ("Digits", _) => Err(first.unsupported("Digits in runs, or without GPT-2's pattern after it")),
        ("Split", false) => split_pattern(first),
        _ => Err(first.unsupported_component()),
    }
}

/// Whether this `ByteLevel`, which comes behind others, applies GPT-2's pattern.
fn byte_level_cuts(field: &Field<'_>) -> Result<bool, TokenizerFileError> {
    let prefix = field.get("add_prefix_space");
    if prefix.bool_or(true)? {
        return Err(prefix.unsupported("a space before every part of a text"));
    }
    field.get("use_regex").bool_or(true)
}

fn split_pattern(field: &Field<'_>) -> Result<PreTokenizer, TokenizerFileError> {
    let behavior = field.get("behavior");
    let invert = field.get("invert");
    // Every pattern here matches all of a text, so that dropping the rest, as "Removed" with
    // "invert" does, drops nothing.
    match (behavior.str()?, invert.bool_or(false)?) {
        ("Isolated", false) | ("Removed", true) => {}
        (other, _) => return Err(behavior.unsupported(format!("{other:?}"))),
    }
    let pattern = field.get("pattern").get("Regex");
    match pattern.str()? {
        GPT2 => Ok(PreTokenizer::Gpt2),
        LLAMA3 => Ok(PreTokenizer::Llama3),
        CL100K => Ok(PreTokenizer::Cl100k),
        QWEN2 => Ok(PreTokenizer::Qwen2),
        other => Err(pattern.unsupported(format!("the pattern {other}"))),
    }
}

/// How `tokenizer.json` says this pre-tokenizer, with a space before texts if `prefix`.
pub(super) fn describe(pattern: PreTokenizer, prefix: bool) -> Option<Value> {
    if prefix && !matches!(pattern, PreTokenizer::None | PreTokenizer::Gpt2) {
        return None;
    }
    let bytes = |cut: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": cut});
    let split = |regex: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            bytes(false),
        ]})
    };
    Some(match pattern {
        PreTokenizer::None => bytes(false),
        PreTokenizer::Gpt2 => bytes(true),
        PreTokenizer::DigitsGpt2 => {
            json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)]})
        }
        PreTokenizer::Llama3 => split(LLAMA3),
        PreTokenizer::Cl100k => split(CL100K),
        PreTokenizer::Qwen2 => split(QWEN2),
        _ => return None,
    })
}
