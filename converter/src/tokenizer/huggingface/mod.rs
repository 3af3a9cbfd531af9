//! Hugging Face's tokenizer files.
//!
//! Read: BPE over bytes with GPT-2's, SmolLM's, Llama 3's, Qwen 2's or GPT-4's pre-tokenizer,
//! SentencePiece-style BPE with `▁` and byte fallback (Llama 1 and 2, also with `Metaspace`), and
//! BERT's WordPiece. Written: the same.

mod bert;
mod fields;
mod pattern;
mod read;
mod special;
mod vocab_files;
mod write;

use std::fs;
use std::path::Path;

use smidgen_runtime::tokenizer::{OwnedTokenizer, TokenizerSpec};

use super::TokenizerFileError;
use fields::Field;

pub use bert::bert_options;
pub use write::{to_json, write_directory, write_file};

/// Reads the tokenizer of a checkpoint directory: `tokenizer.json` or else `vocab.json` with
/// `merges.txt`, and, for which tokens begin and end a text, `tokenizer_config.json`,
/// `generation_config.json` and `config.json` where they are.
///
/// # Errors
/// [`TokenizerFileError`] names file and field.
pub fn read_directory(dir: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let path = dir.join("tokenizer.json");
    let mut spec =
        if path.exists() { read::parse(&read_json(&path)?, &path)? } else { vocab_files::read(dir)? };
    special::complete(&mut spec, dir)?;
    checked(spec, &path)
}

/// Reads a `tokenizer.json` by itself. Which tokens end a text it does not say: those of the usual
/// names (`</s>`, `<|endoftext|>`, `<|im_end|>` …) do.
///
/// # Errors
/// [`TokenizerFileError`] names file and field.
pub fn read_file(path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let mut spec = read::parse(&read_json(path)?, path)?;
    special::guess_ends(&mut spec);
    checked(spec, path)
}

/// A spec that is known to make a tokenizer.
fn checked(spec: TokenizerSpec, path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    match OwnedTokenizer::build(&spec) {
        Ok(_) => Ok(spec),
        Err(source) => Err(TokenizerFileError::Build { path: path.into(), source }),
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, TokenizerFileError> {
    fs::read(path).map_err(|source| TokenizerFileError::Io { path: path.into(), source })
}

fn read_json(path: &Path) -> Result<serde_json::Value, TokenizerFileError> {
    serde_json::from_slice(&read_bytes(path)?)
        .map_err(|source| TokenizerFileError::Json { path: path.into(), source })
}

/// The root of a JSON file.
fn root<'j>(value: &'j serde_json::Value, path: &'j Path) -> Field<'j> {
    Field::root(value, path)
}
