//! What there is to choose between, as it stands in `run.json` and on the command line.

use serde::{Deserialize, Serialize};
use smidgen_runtime::Architecture;
use smidgen_runtime::format::DType;

use super::error::TrainError;
use crate::model::Precision;
use crate::moments::MomentType;

/// The kinds of tokenizer that can be trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerChoice {
    /// Byte-level byte-pair encoding, cut as GPT-2 does.
    #[default]
    Bpe,
    /// A token for each character of the text.
    Char,
}

/// What turns gradients into steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerChoice {
    /// AdamW for everything.
    AdamW,
    /// Muon for the blocks' matrices, AdamW for the rest.
    #[default]
    Muon,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleChoice {
    /// Along half a cosine from the end of the rise on.
    Cosine,
    /// Not at all until the last part of the run, the cooldown.
    #[default]
    Wsd,
}

/// [`Architecture`] as it stands in `run.json` and on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// LayerNorm, learned positions, GELU.
    Gpt2,
    /// RMSNorm, rotary positions, SwiGLU, shared key and value heads.
    #[default]
    Llama,
}

/// [`DType`] as it stands in `run.json` and on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quant {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers.
    #[default]
    Q8,
    /// 4-bit integers.
    Q4,
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// After this many optimizer steps.
    Steps(u64),
    /// After about this many minutes: the first steps are timed, and from that the number of
    /// steps is fixed once and for all.
    Minutes(f64),
    /// When as many tokens were seen as there are in this many passes over the training text.
    Epochs(f64),
}

/// In what products are computed, as it stands in `run.json` and on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 where the CPU has it, f32 elsewhere; decided when the run begins, and kept.
    #[default]
    Auto,
    /// f32 factors.
    F32,
    /// bf16 factors, f32 sums.
    Bf16,
}

/// How the optimizer's memory is kept, as it stands in `run.json` and on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentsChoice {
    /// As the products are computed; decided when the run begins, and kept.
    #[default]
    Auto,
    /// In f32.
    F32,
    /// In bf16, half the memory, rounded at random.
    Bf16,
}

impl MomentsChoice {
    /// What it means in a run of that precision.
    pub fn of(self, precision: Precision) -> MomentType {
        match (self, precision) {
            (Self::Auto, Precision::Bf16) | (Self::Bf16, _) => MomentType::Bf16,
            (Self::Auto, Precision::F32) | (Self::F32, _) => MomentType::F32,
        }
    }

    /// That of runs that were begun before there was a choice.
    pub(super) fn before() -> Self {
        Self::F32
    }
}

impl From<MomentType> for MomentsChoice {
    fn from(kind: MomentType) -> Self {
        match kind {
            MomentType::F32 => Self::F32,
            MomentType::Bf16 => Self::Bf16,
        }
    }
}

impl From<Arch> for Architecture {
    fn from(arch: Arch) -> Self {
        match arch {
            Arch::Gpt2 => Self::Gpt2,
            Arch::Llama => Self::Llama,
        }
    }
}

impl PrecisionChoice {
    /// What it means on this CPU.
    ///
    /// # Errors
    /// bf16 on a CPU without it.
    pub fn here(self) -> Result<Precision, TrainError> {
        match self {
            Self::Auto => Ok(Precision::best()),
            Self::F32 => Ok(Precision::F32),
            Self::Bf16 if Precision::Bf16.is_available() => Ok(Precision::Bf16),
            Self::Bf16 => {
                let must = "f32 on this CPU, which has no AVX-512 BF16".to_owned();
                Err(TrainError::option("--precision", "bf16", must))
            }
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl From<Quant> for DType {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::F32 => Self::F32,
            Quant::F16 => Self::F16,
            Quant::Q8 => Self::Q8,
            Quant::Q4 => Self::Q4,
        }
    }
}
