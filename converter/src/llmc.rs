//! Karpathy's llm.c: GPT-2 checkpoints of versions 3 (f32) and 5 (bf16).
//!
//! The formats are those of `train_gpt2.py` in <https://github.com/karpathy/llm.c>: 256 i32 of
//! header, then every tensor in turn, `[out, in]`. The embedding's rows are padded to a multiple of
//! 128; the padding is left out.

use std::path::Path;

use smidgen_runtime::config::{MAX_DIMENSION, MAX_LAYERS};
use smidgen_runtime::format::{Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use crate::bytes::Reader;
use crate::checkpoint::Checkpoint;
use crate::detect::TokenizerChoice;
use crate::error::Error;
use crate::source::{Bytes, Element, TensorSource, map};
use crate::tokenizer::ranks;

pub(crate) const MAGIC: u32 = 20_240_326;
const HEADER: usize = 1024;

/// Opens a checkpoint. Unless `tokenizer` says otherwise, its tokenizer is the
/// `gpt2_tokenizer.bin` beside it.
///
/// # Errors
/// Says which field of the header is out of range, or how many bytes the file should have.
pub fn open(path: &Path, tokenizer: &TokenizerChoice) -> Result<Checkpoint, Error> {
    let bytes = map(path)?;
    let mut checkpoint = read(path, &bytes)?;
    checkpoint.name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    if !tokenizer.apply(&mut checkpoint)? {
        let beside = path.with_file_name("gpt2_tokenizer.bin");
        if beside.exists() {
            checkpoint.tokenizer = Some(ranks::parse_llmc(&map(&beside)?, &beside)?);
        } else {
            checkpoint
                .notes
                .push("there is no gpt2_tokenizer.bin beside it: the model gets no tokenizer".into());
        }
    }
    Ok(checkpoint)
}

fn read(path: &Path, bytes: &Bytes) -> Result<Checkpoint, Error> {
    let bad = |reason: String| Error::malformed(path, reason);
    let mut reader = Reader::new(path, bytes, 0);
    let mut field = || reader.u32("an llm.c header");
    if field()? != MAGIC {
        return Err(bad("is no llm.c checkpoint".into()));
    }
    let version = field()?;
    let element = match version {
        3 => Element::F32,
        5 => Element::Bf16,
        other => {
            return Err(Error::unsupported(path, format!("llm.c version {other} is not read, only 3 and 5")));
        }
    };
    let mut size = |name: &str, max: u32| match field()? {
        value if (1..=max).contains(&value) => Ok(value),
        value => Err(bad(format!("llm.c header: {name} is {value}, must be 1 to {max}"))),
    };
    let context_len = size("max_seq_len", MAX_DIMENSION)?;
    let vocab_size = size("vocab_size", MAX_DIMENSION)?;
    let n_layers = size("num_layers", MAX_LAYERS)?;
    let n_heads = size("num_heads", 1 << 12)?;
    let dim = size("channels", MAX_DIMENSION / 4)?;
    let padded = size("padded_vocab_size", MAX_DIMENSION)?;
    if padded < vocab_size {
        return Err(bad(format!(
            "llm.c header: padded_vocab_size is {padded}, below vocab_size {vocab_size}"
        )));
    }
    if !dim.is_multiple_of(n_heads) {
        return Err(bad(format!("llm.c header: channels is {dim}, not a multiple of {n_heads} heads")));
    }
    let config = Config {
        architecture: Architecture::Gpt2,
        n_layers,
        dim,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: dim / n_heads,
        ffn_dim: 4 * dim,
        vocab_size,
        context_len,
        norm_eps: 1e-5,
    };
    config.validate().map_err(|source| Error::Load { path: path.to_path_buf(), source })?;
    let (layers, c) = (n_layers as usize, dim as usize);
    // Name, times, rows, columns. No dimension exceeds 2^20: 64 bits hold every product.
    let order: [(&[Role], usize, usize, usize); 16] = [
        (&[Role::Embedding], 1, padded as usize, c),
        (&[Role::PositionEmbedding], 1, context_len as usize, c),
        (&[Role::AttnNorm], layers, 1, c),
        (&[Role::AttnNormBias], layers, 1, c),
        (&[Role::Q, Role::K, Role::V], layers, 3 * c, c),
        (&[Role::QBias, Role::KBias, Role::VBias], layers, 1, 3 * c),
        (&[Role::O], layers, c, c),
        (&[Role::OBias], layers, 1, c),
        (&[Role::FfnNorm], layers, 1, c),
        (&[Role::FfnNormBias], layers, 1, c),
        (&[Role::Up], layers, 4 * c, c),
        (&[Role::UpBias], layers, 1, 4 * c),
        (&[Role::Down], layers, c, 4 * c),
        (&[Role::DownBias], layers, 1, c),
        (&[Role::FinalNorm], 1, 1, c),
        (&[Role::FinalNormBias], 1, 1, c),
    ];
    let numbers: u64 = order.iter().map(|(_, n, rows, cols)| (n * rows) as u64 * *cols as u64).sum();
    let expected = HEADER as u64 + numbers * element.size() as u64;
    if bytes.len() as u64 != expected {
        return Err(bad(format!(
            "has {} bytes, but an llm.c version {version} model of {layers} layers, width {c}, {padded} padded tokens, \
             context {context_len} has {expected}",
            bytes.len()
        )));
    }
    let mut checkpoint = Checkpoint::new(config, 0.0, RopeScaling::None);
    checkpoint.source = format!("llm.c checkpoint version {version}");
    let mut at = HEADER;
    for (roles, times, rows, cols) in order {
        for layer in 0..times as u32 {
            let whole = TensorSource::mapped(rows, cols, bytes, at, element);
            for (part, &role) in roles.iter().enumerate() {
                let (r, k) = role.shape(&config);
                let tensor = if role.is_vector() {
                    whole.columns(part * k..(part + 1) * k)
                } else {
                    whole.rows(part * r..(part + 1) * r)
                };
                checkpoint.tensors.insert((layer, role), tensor);
            }
            at += rows * cols * element.size();
        }
    }
    Ok(checkpoint)
}

#[cfg(test)]
#[path = "llmc_tests.rs"]
mod tests;
