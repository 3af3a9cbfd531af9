//! llama.cpp's GGUF files, read (versions 2 and 3) and written (version 3).
//!
//! The format is that of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Architectures
//! `llama` (Mistral's files, too), `gpt2`, `qwen2` and `qwen3`. Of these only `llama` has its rotary
//! rows in pairs; here they are always in halves.

mod file;
mod names;
mod quants;
mod reader;
mod tokenizer;
mod writer;

pub(crate) use quants::GgmlType;
pub use reader::{metadata, open};
/// The tokenizer of a GGUF file alone, of a vocabulary without a model too; `None` if it has none.
///
/// # Errors
/// Names the key that is wrong.
pub fn read_tokenizer(
    path: &std::path::Path,
) -> Result<Option<smidgen_runtime::tokenizer::TokenizerSpec>, crate::error::Error> {
    Ok(tokenizer::read(&file::File::open(path)?)?.map(|(spec, _)| spec))
}

pub use writer::{GgufOptions, GgufType, write};

#[cfg(test)]
mod tests;
