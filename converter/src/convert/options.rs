//! What the user may choose, and which type each tensor gets by it.

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smidgen_runtime::format::{DType, KvType, Role};

use crate::calibrate::Calibration;
use crate::checkpoint::Checkpoint;
use crate::error::Error;

/// How a checkpoint becomes a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertOptions {
    /// The type of matrices. Norms, biases and rotary frequencies are always F32; with Q4,
    /// embeddings and head are Q8 unless a rule says otherwise, because they suffer most.
    pub dtype: DType,
    /// Other types for some tensors; where rules contradict each other, the last holds.
    pub keep: Vec<KeepRule>,
    /// A shorter context than the checkpoint's, in tokens.
    pub context: Option<u32>,
    /// How keys and values are kept by default: F32 in an F32 file, else Q8.
    pub kv_type: Option<KvType>,
    /// What a text showed of the matrices' inputs, for Q8 and Q4.
    pub calibration: Option<Arc<Calibration>>,
}

impl ConvertOptions {
    /// All matrices in one type (but see [`ConvertOptions::dtype`]).
    pub const fn new(dtype: DType) -> Self {
        Self { dtype, keep: Vec::new(), context: None, kv_type: None, calibration: None }
    }

    /// The type that a tensor gets.
    pub fn type_of(&self, role: Role, layer: u32) -> DType {
        if role.is_vector() {
            return DType::F32;
        }
        let rule = self.keep.iter().rev().find(|rule| rule.covers(role, layer));
        match rule {
            Some(rule) => rule.dtype,
            None if self.dtype == DType::Q4 && !role.is_per_layer() => DType::Q8,
            None => self.dtype,
        }
    }

    /// Every rule must say something about a tensor that is there.
    pub(super) fn check(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        for rule in &self.keep {
            if !checkpoint.tensors.keys().any(|&(layer, role)| rule.covers(role, layer)) {
                let head = rule.role == Role::Head;
                let hint = if head { " (its head is the embedding: say embedding=TYPE)" } else { "" };
                let reason = format!("--keep {rule}: the model has no such tensor{hint}");
                return Err(Error::Option(reason));
            }
        }
        Ok(())
    }

    pub(super) fn context_for(&self, checkpoint: &Checkpoint) -> Result<u32, Error> {
        let max = checkpoint.config.context_len;
        match self.context {
            Some(context) if context == 0 || context > max => Err(Error::Option(format!(
                "a context of {context} tokens was asked for; the checkpoint allows 1 to {max}"
            ))),
            context => Ok(context.unwrap_or(max)),
        }
    }
}

/// A type for some tensors: `embedding=f16` (or `embed=f16`), `down=q8`, `down.0=f16` (layer 0 only).
/// In JSON it is that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeepRule {
    /// Which matrices.
    pub role: Role,
    /// In which layer; `None` for all.
    pub layer: Option<u32>,
    /// Their type.
    pub dtype: DType,
}

impl KeepRule {
    /// Whether it is about that tensor.
    pub fn covers(&self, role: Role, layer: u32) -> bool {
        self.role == role && self.layer.is_none_or(|only| only == layer)
    }
}

impl std::fmt::Display for KeepRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.role.name())?;
        if let Some(layer) = self.layer {
            write!(f, ".{layer}")?;
        }
        write!(f, "={}", self.dtype.name())
    }
}

impl From<KeepRule> for String {
    fn from(rule: KeepRule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for KeepRule {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl FromStr for KeepRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::Option(format!("{text:?}: {reason}"));
        let (name, dtype) =
            text.split_once('=').ok_or_else(|| bad("expected NAME=TYPE, such as embedding=f16".into()))?;
        let (name, layer) = match name.split_once('.') {
            Some((name, layer)) => {
                let layer = layer.parse().map_err(|_| bad(format!("{layer:?} is no layer number")))?;
                (name, Some(layer))
            }
            None => (name, None),
        };
        let matrices = || (0..64).filter_map(Role::from_u8).filter(|role| !role.is_vector());
        let wanted = if name == "embed" { Role::Embedding.name() } else { name };
        let role = matrices().find(|role| role.name() == wanted).ok_or_else(|| {
            let names: Vec<_> = matrices().map(Role::name).collect();
            bad(format!("{name:?} is none of the matrices {}", names.join(", ")))
        })?;
        if layer.is_some() && !role.is_per_layer() {
            return Err(bad(format!("{name} belongs to no layer")));
        }
        let dtype =
            parse_dtype(dtype).ok_or_else(|| bad(format!("{dtype:?} is none of f32, f16, q8, q4")))?;
        Ok(Self { role, layer, dtype })
    }
}

/// The type of this name.
fn parse_dtype(name: &str) -> Option<DType> {
    (0..=u8::MAX).filter_map(DType::from_u8).find(|dtype| dtype.name() == name)
}
