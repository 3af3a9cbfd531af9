//! Our own model files as checkpoints: to quantize them again or to hand them to others.

use std::path::Path;

use smidgen_runtime::Model;
use smidgen_runtime::tensor::{Matrix, Weights};
use smidgen_runtime::tokenizer::TokenizerSpec;

use crate::checkpoint::Checkpoint;
use crate::detect::TokenizerChoice;
use crate::error::Error;
use crate::source::{TensorSource, map};

/// Opens a model file. Its tensors are read as the floats that its integers stand for.
///
/// # Errors
/// Whatever [`Model::load`] says.
pub fn open(path: &Path, tokenizer: &TokenizerChoice) -> Result<Checkpoint, Error> {
    let bytes = map(path)?;
    let model = Model::load(&bytes).map_err(|source| Error::Load { path: path.to_path_buf(), source })?;
    let meta = model.meta();
    let mut checkpoint = Checkpoint::new(*model.config(), meta.rope_theta, meta.rope_scaling);
    checkpoint.name = meta.name.into();
    checkpoint.source = meta.source.into();
    checkpoint.chat_template = meta.chat_template.into();
    checkpoint.extra = meta.extra.into();
    checkpoint.tokenizer = model.tokenizer().map(TokenizerSpec::from_tokenizer);
    // The file's own rotary frequencies, to the bit, replace those just computed.
    for (layer, role, matrix) in model.tensors() {
        let at = begin_of(&matrix) - bytes.as_ptr() as usize;
        let source = TensorSource::packed(matrix.rows, matrix.cols, &bytes, at, matrix.dtype());
        checkpoint.tensors.insert((layer, role), source);
    }
    tokenizer.apply(&mut checkpoint)?;
    Ok(checkpoint)
}

/// The address of a matrix's first plane.
fn begin_of(matrix: &Matrix<'_>) -> usize {
    match matrix.weights {
        Weights::F32(values) => values.as_ptr() as usize,
        Weights::F16(values) => values.as_ptr() as usize,
        Weights::Q8(planes) | Weights::Q4(planes) => planes.quants.as_ptr() as usize,
    }
}
