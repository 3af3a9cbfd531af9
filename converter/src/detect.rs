//! Opens whatever it is given: what a path holds is seen in its content, not in its name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use smidgen_runtime::format::MAGIC;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, io_at};
use crate::{gguf, huggingface, llama2c, llmc, pytorch, smidgen, tokenizer};

/// Where a checkpoint's tokenizer comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// From where checkpoints of its kind have it, if it is there.
    #[default]
    Found,
    /// From this file or directory, of any kind that [`tokenizer::open`] reads.
    From(PathBuf),
    /// From nowhere: the model knows only token ids.
    None,
}

impl TokenizerChoice {
    /// Sets the tokenizer if the choice says which; true if it did.
    pub(crate) fn apply(&self, checkpoint: &mut Checkpoint) -> Result<bool, Error> {
        checkpoint.tokenizer = match self {
            Self::Found => return Ok(false),
            Self::None => None,
            Self::From(path) => {
                let spec = tokenizer::open(path)?;
                let (tokens, rows) = (spec.tokens.len(), checkpoint.config.vocab_size);
                if tokens > rows as usize {
                    let reason = format!("has {tokens} tokens, but the model's embedding only {rows} rows");
                    return Err(Error::malformed(path, reason));
                }
                Some(spec)
            }
        };
        Ok(true)
    }
}

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A directory with a `config.json`.
    HuggingFace,
    /// llama2.c's `.bin`.
    Llama2c,
    /// llm.c's `.bin`.
    Llmc,
    /// A training checkpoint of PyTorch (nanoGPT, llama2.c).
    PyTorch,
    /// llama.cpp's `.gguf`.
    Gguf,
    /// Our own model file.
    Smidgen,
}

impl Kind {
    /// Its name as people say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face directory",
            Self::Llama2c => "llama2.c checkpoint",
            Self::Llmc => "llm.c checkpoint",
            Self::PyTorch => "PyTorch checkpoint",
            Self::Gguf => "GGUF file",
            Self::Smidgen => "smidgen model file",
        }
    }
}

/// The first bytes of a file, at most 64 of them.
fn begins(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut bytes)).map_err(io_at(path))?;
    Ok(bytes)
}

/// Recognizes a checkpoint by its content.
///
/// # Errors
/// If it is of no kind that is read; the message says what it seems to be.
pub fn detect(path: &Path) -> Result<Kind, Error> {
    if path.is_dir() {
        if path.join("config.json").exists() {
            return Ok(Kind::HuggingFace);
        }
        return Err(Error::unsupported(
            path,
            "the directory has no config.json, so it is no Hugging Face checkpoint",
        ));
    }
    let bytes = begins(path)?;
    let looks_like = |magic: &[u8]| bytes.starts_with(magic);
    let refuse = |reason: &str| Err(Error::unsupported(path, reason));
    if looks_like(&MAGIC) {
        Ok(Kind::Smidgen)
    } else if looks_like(b"GGUF") {
        Ok(Kind::Gguf)
    } else if looks_like(b"PK\x03\x04") || matches!(bytes[..], [0x80, 2..=5, ..]) {
        Ok(Kind::PyTorch)
    } else if looks_like(&llmc::MAGIC.to_le_bytes()) {
        Ok(Kind::Llmc)
    } else if looks_like(&tokenizer::ranks::LLMC_MAGIC.to_le_bytes()) {
        refuse("an llm.c tokenizer; give the checkpoint, and this as --tokenizer")
    } else if bytes.get(8) == Some(&b'{') {
        refuse("a safetensors file by itself has no dimensions; give the directory with its config.json")
    } else if looks_like(b"{") {
        refuse("a JSON file; give the directory that holds the checkpoint")
    } else {
        // The oldest llama2.c files have no magic: their header is checked when they are opened.
        Ok(Kind::Llama2c)
    }
}

/// Opens a Hugging Face directory, a GGUF file, a llama2.c, llm.c or PyTorch checkpoint, or a smidgen
/// model file.
///
/// # Errors
/// Whatever is wrong with it, with file, field and numbers.
pub fn open(path: &Path, tokenizer: &TokenizerChoice) -> Result<Checkpoint, Error> {
    match detect(path)? {
        Kind::HuggingFace => huggingface::open(path, tokenizer),
        Kind::PyTorch => pytorch::open(path, tokenizer),
        Kind::Llmc => llmc::open(path, tokenizer),
        Kind::Gguf => gguf::open(path, tokenizer),
        Kind::Llama2c => llama2c::open(path, tokenizer),
        Kind::Smidgen => smidgen::open(path, tokenizer),
    }
}
