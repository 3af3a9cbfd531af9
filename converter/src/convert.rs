//! From a checkpoint to a model file.

mod ahead;
mod behind;
mod options;
mod quantizer;
mod report;

use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use rayon::prelude::*;
use smidgen_runtime::Model;
use smidgen_runtime::format::writer::{ModelPlan, PackLoss, TensorPlan, WriteError, slabs, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, QUAD, Role, TensorSize};
use smidgen_runtime::tokenizer::OwnedTokenizer;

pub use options::{ConvertOptions, KeepRule};
pub(crate) use quantizer::for_each_width;
pub use report::{ConvertReport, TensorReport};

use crate::atomic::write_file;
use crate::calibrate::{Seen, quantize_row};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, io_at};
use crate::source::TensorSource;
use crate::tokenizer::TokenizerFileError;

/// Numbers that one thread reads and packs at a time: in all their forms they stay in a core's own cache.
const SLAB: usize = 1 << 15;
/// The same for matrices that are stored transposed: of each stored row as many neighbours are read at once
/// as a slab has rows.
const TRANSPOSED_SLAB: usize = 1 << 18;

/// How far a conversion is: before each tensor.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Tensors that are written.
    pub done: usize,
    /// Tensors in all.
    pub total: usize,
    /// The tensor that comes now.
    pub role: Role,
    /// Its layer, 0 for tensors of the whole model.
    pub layer: u32,
}

/// Writes `checkpoint` as a model file. `progress` is called before each tensor. The file appears
/// whole, and only after the runtime has accepted it; if anything fails, what stood at `path` is
/// untouched.
///
/// # Errors
/// A rule that names nothing, a weight that is not finite or does not fit its type (by name and
/// place), or whatever the file system says.
pub fn convert(
    checkpoint: &Checkpoint,
    path: &Path,
    options: &ConvertOptions,
    progress: impl FnMut(Progress),
) -> Result<ConvertReport, Error> {
    write_file(path, |file| {
        let report = behind::with_writer(file, |sink| {
            let mut out = BufWriter::with_capacity(1 << 20, sink);
            let report = write(checkpoint, &mut out, path, options, progress)?;
            out.flush().map_err(io_at(path))?;
            Ok::<_, Error>(report)
        })?;
        // SAFETY: nobody else knows the temporary file's name; the map is only read.
        let bytes = unsafe { memmap2::Mmap::map(&*file) }.map_err(io_at(path))?;
        Model::load(&bytes).map_err(|source| Error::Load { path: path.to_path_buf(), source })?;
        Ok(report)
    })
}

/// [`convert`] into any sink; `path` is for messages.
///
/// # Errors
/// As for [`convert`].
pub fn write<W: Write + Seek>(
    checkpoint: &Checkpoint,
    sink: &mut W,
    path: &Path,
    options: &ConvertOptions,
    mut progress: impl FnMut(Progress),
) -> Result<ConvertReport, Error> {
    checkpoint.check()?;
    let mut config = checkpoint.config;
    config.context_len = options.context_for(checkpoint)?;
    let tokenizer = checkpoint.tokenizer.as_ref().map(OwnedTokenizer::build).transpose();
    let tokenizer =
        tokenizer.map_err(|source| TokenizerFileError::Build { path: (&checkpoint.name).into(), source })?;
    let mut tensors = Vec::new();
    for &(layer, role) in checkpoint.tensors.keys() {
        tensors.push(TensorPlan { layer, role, dtype: options.type_of(role, layer) });
    }
    // The file's order, in which they will be asked for.
    tensors.sort_by_key(|tensor| (tensor.role.is_per_layer(), tensor.layer, tensor.role));
    options.check(checkpoint)?;
    let all_floats = options.dtype == DType::F32;
    let plan = ModelPlan {
        config,
        kv_type: options.kv_type.unwrap_or(if all_floats { KvType::F32 } else { KvType::Q8 }),
        meta: Meta {
            name: &checkpoint.name,
            source: &checkpoint.source,
            writer: concat!("smidgen ", env!("CARGO_PKG_VERSION")),
            chat_template: &checkpoint.chat_template,
            rope_theta: checkpoint.rope_theta,
            rope_scaling: checkpoint.rope_scaling,
            extra: &checkpoint.extra,
        },
        tokenizer: tokenizer.as_ref().map(OwnedTokenizer::data),
        tensors,
    };
    let total = plan.tensors.len();
    let mut reports = Vec::with_capacity(total);
    let pack = |tensor: &TensorPlan, bytes: &mut Vec<u8>| {
        let source = checkpoint.tensor(tensor.layer, tensor.role)?;
        let (rows, _) = tensor.role.shape(&config);
        let cut = (rows < source.shape().0).then(|| source.rows(0..rows));
        let seen = options.calibration.as_ref().and_then(|seen| seen.of(tensor.layer, tensor.role));
        bytes.clear();
        let loss = pack(tensor, cut.as_ref().unwrap_or(source), seen, bytes)?;
        source.release();
        Ok(loss)
    };
    let result = ahead::in_order(&plan.tensors, &pack, |next| {
        write_model(sink, &plan, |tensor, bytes| {
            progress(Progress { done: reports.len(), total, role: tensor.role, layer: tensor.layer });
            let loss = next(tensor, bytes)?;
            reports.push(TensorReport::new(tensor, tensor.role.shape(&config), bytes.len(), &loss));
            Ok::<(), Failure>(())
        })
    });
    let file_bytes = result.map_err(|failure| match failure {
        Failure::Source(error) => error,
        Failure::Write(WriteError::Io(source)) => Error::Io { path: path.to_path_buf(), source },
        Failure::Write(source) => Error::Write { path: path.to_path_buf(), source },
    })?;
    Ok(ConvertReport::new(checkpoint, &plan, reports, file_bytes))
}

/// Why a tensor could not be written: its source's fault or the sink's.
enum Failure {
    Source(Error),
    Write(WriteError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Source(error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Packs a tensor, all cores at once. What comes out does not depend on how many there are.
fn pack(
    plan: &TensorPlan,
    source: &TensorSource,
    seen: Option<&Seen>,
    bytes: &mut Vec<u8>,
) -> Result<PackLoss, Error> {
    let (rows, cols) = source.shape();
    let size = TensorSize::new(plan.dtype, rows, cols)
        .ok_or_else(|| Error::Option(format!("tensor {} is too large for this machine", plan.role.name())))?;
    bytes.resize(size.total, 0);
    let slab = if source.is_transposed() { TRANSPOSED_SLAB } else { SLAB };
    let slab_rows = (slab / cols.max(1)).max(1).next_multiple_of(QUAD);
    let losses: Vec<_> = slabs(plan.dtype, rows, cols, slab_rows, bytes)
        .par_iter_mut()
        .map_init(Vec::new, |values: &mut Vec<f32>, slab| {
            let rows = slab.rows();
            values.resize(rows.len() * cols, 0.0);
            source.read_rows(rows.clone(), values);
            check_values(plan, rows.start, cols, values)?;
            Ok(match seen {
                Some(seen) if seen.factor.is_some() => {
                    let mut blocks = Vec::new();
                    slab.pack_with(values, |row, block, _| {
                        if block == 0 {
                            blocks = quantize_row(plan.dtype, &values[row * cols..(row + 1) * cols], seen);
                        }
                        blocks[block].clone()
                    })
                }
                _ => quantizer::pack(slab, values, seen.map(|seen| &seen.importance[..])),
            })
        })
        .collect();
    // In order of rows: the first bad weight is named, and sums are always the same.
    losses.into_iter().collect::<Result<Vec<_>, Error>>().map(|losses| losses.into_iter().sum())
}

fn check_values(plan: &TensorPlan, first_row: usize, cols: usize, values: &[f32]) -> Result<(), Error> {
    // The largest f32 that rounds to a finite binary16.
    let limit: f32 = if plan.dtype == DType::F16 { 65_519.996 } else { f32::MAX };
    // As integers: NaN is larger than infinity.
    if quantizer::largest(values) <= limit.to_bits() {
        return Ok(());
    }
    let Some(index) = values.iter().position(|value| value.is_nan() || value.abs() > limit) else {
        return Ok(());
    };
    let value = values[index];
    Err(Error::BadWeight {
        tensor: if plan.role.is_per_layer() {
            format!("{} of layer {}", plan.role.name(), plan.layer)
        } else {
            plan.role.name().into()
        },
        row: first_row + index / cols,
        col: index % cols,
        value,
        reason: if value.is_finite() { "too large for f16" } else { "not a finite number" },
    })
}

#[cfg(test)]
mod tests;
