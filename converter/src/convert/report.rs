//! What a conversion did: for people as text, for scripts as JSON.

use std::fmt;

use serde::Serialize;
use smidgen_runtime::format::writer::{ModelPlan, PackLoss, TensorPlan};
use smidgen_runtime::format::{DType, Role};

use crate::checkpoint::Checkpoint;

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorReport {
    /// Its role.
    pub name: &'static str,
    /// Its layer; `None` for tensors of the whole model.
    pub layer: Option<u32>,
    /// Its type.
    pub dtype: &'static str,
    /// `[rows, cols]`.
    pub shape: (usize, usize),
    /// Bytes in the file.
    pub bytes: usize,
    /// Root mean squared error of what was stored, relative to the root mean square of the weights.
    pub relative_error: f64,
    #[serde(skip)]
    loss: PackLoss,
}

impl TensorReport {
    pub(super) fn new(plan: &TensorPlan, shape: (usize, usize), bytes: usize, loss: &PackLoss) -> Self {
        Self {
            name: plan.role.name(),
            layer: plan.role.is_per_layer().then_some(plan.layer),
            dtype: plan.dtype.name(),
            shape,
            bytes,
            relative_error: loss.relative(),
            loss: *loss,
        }
    }
}

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConvertReport {
    /// The model's name.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// Its architecture.
    pub architecture: &'static str,
    /// Numbers that the model learned.
    pub parameters: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bits of all tensors' bytes, scales and padding included, for each parameter.
    pub bits_per_weight: f64,
    /// The context, in tokens.
    pub context: u32,
    /// How keys and values are kept by default.
    pub kv_type: &'static str,
    /// Tokens of the tokenizer; 0 without.
    pub tokens: u32,
    /// Root mean squared error over all matrices that are not F32, relative to their weights.
    pub relative_error: f64,
    /// Every tensor, in the file's order.
    pub tensors: Vec<TensorReport>,
    /// What the reader had to decide or leave out.
    pub notes: Vec<String>,
}

impl ConvertReport {
    pub(super) fn new(
        checkpoint: &Checkpoint,
        plan: &ModelPlan<'_>,
        tensors: Vec<TensorReport>,
        file_bytes: u64,
    ) -> Self {
        let learned = tensors.iter().filter(|tensor| tensor.name != Role::RopeFrequencies.name());
        let (parameters, bytes) = learned.fold((0, 0), |(parameters, bytes), tensor| {
            (parameters + tensor.shape.0 as u64 * tensor.shape.1 as u64, bytes + tensor.bytes as u64)
        });
        let rounded = tensors.iter().filter(|tensor| tensor.dtype != DType::F32.name());
        let loss: PackLoss = rounded.map(|tensor| tensor.loss).sum();
        Self {
            name: checkpoint.name.clone(),
            source: checkpoint.source.clone(),
            architecture: plan.config.architecture.name(),
            parameters,
            file_bytes,
            bits_per_weight: 8.0 * bytes as f64 / parameters as f64,
            context: plan.config.context_len,
            kv_type: plan.kv_type.name(),
            tokens: plan.tokenizer.map_or(0, |tokenizer| tokenizer.n_tokens),
            relative_error: loss.relative(),
            tensors,
            notes: checkpoint.notes.clone(),
        }
    }
}

impl fmt::Display for ConvertReport {
    /// One line a role: layers are taken together.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>5} {:>16} {:>6} {:>12} {:>11}",
            "tensor", "count", "shape", "type", "bytes", "rms error"
        )?;
        let mut groups: Vec<(&TensorReport, usize, usize, PackLoss)> = Vec::new();
        for tensor in &self.tensors {
            let same = |(first, ..): &&mut (&TensorReport, usize, usize, PackLoss)| {
                first.name == tensor.name && first.dtype == tensor.dtype
            };
            match groups.iter_mut().find(same) {
                Some((_, count, bytes, loss)) => {
                    *count += 1;
                    *bytes += tensor.bytes;
                    *loss = [*loss, tensor.loss].into_iter().sum();
                }
                None => groups.push((tensor, 1, tensor.bytes, tensor.loss)),
            }
        }
        for (tensor, count, bytes, loss) in groups {
            let shape = format!("[{}, {}]", tensor.shape.0, tensor.shape.1);
            let error =
                if tensor.dtype == "f32" { "-".into() } else { format!("{:.3} %", 100.0 * loss.relative()) };
            writeln!(
                f,
                "{:<20} {count:>5} {shape:>16} {:>6} {bytes:>12} {error:>11}",
                tensor.name, tensor.dtype
            )?;
        }
        write!(
            f,
            "{} parameters, {:.2} bits a weight, {} bytes, context {}, kv cache {}",
            self.parameters, self.bits_per_weight, self.file_bytes, self.context, self.kv_type
        )
    }
}
