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
/// `merges.txt` (or `encoder.json` with `vocab.bpe`), and, for which tokens begin and end a text,
/// `tokenizer_config.json`, `generation_config.json` and `config.json` where they are.
///
/// # Errors
/// [`TokenizerFileError`] names file and field.
pub fn read_directory(dir: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let path = dir.join("tokenizer.json");
    if path.exists() {
        return completed(read::parse(&read_json(&path)?, &path)?, dir, &path);
    }
    let (vocab, merges) = vocab_files::in_directory(dir);
    completed(vocab_files::read(&vocab, &merges)?, dir, &vocab)
}

/// Reads `vocab.json` with `merges.txt` (or `encoder.json` with `vocab.bpe`, or either with a model's
/// name before), where `path` is one of the two. They do not say how a text is cut: where a
/// `tokenizer.json` stands beside them, it does, and is read in their place.
///
/// # Errors
/// [`TokenizerFileError`] names file and field.
pub fn read_vocab_and_merges(path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let dir = path.parent().unwrap_or(Path::new(""));
    if dir.join("tokenizer.json").exists() {
        return read_directory(dir);
    }
    let Some((vocab, merges)) = vocab_files::beside(path) else {
        let reason = "is neither …vocab.json, …merges.txt, …encoder.json nor …vocab.bpe";
        return Err(TokenizerFileError::field(path, "file name", reason));
    };
    completed(vocab_files::read(&vocab, &merges)?, dir, &vocab)
}

/// Whether `path` is called as one of those two files.
pub(super) fn is_vocab_or_merges(path: &Path) -> bool {
    vocab_files::beside(path).is_some()
}

/// A spec with what the files around it say, known to make a tokenizer.
fn completed(mut spec: TokenizerSpec, dir: &Path, path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    special::complete(&mut spec, dir)?;
    checked(spec, path)
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
