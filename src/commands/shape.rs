//! The flags that give a model's shape, for `train` and `plan` alike.

use clap::ValueEnum;
use smidgen_trainer::run::config::{self, RunConfig, suggested_ffn, suggested_heads};

/// Dimensions; what is not given has a default, or follows from what is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ShapeArgs {
    /// The family of model [default: llama]
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,
    /// Transformer blocks [default: 4]
    #[arg(long, value_name = "N")]
    pub layers: Option<u32>,
    /// Width [default: 64]
    #[arg(long, value_name = "N")]
    pub dim: Option<u32>,
    /// Query heads [default: heads of 16; in wide models of 64]
    #[arg(long, value_name = "N")]
    pub heads: Option<u32>,
    /// Key and value heads [default: half as many; with gpt2 as many]
    #[arg(long, value_name = "N")]
    pub kv_heads: Option<u32>,
    /// Hidden width of the feed-forward [default: about 8/3 of the width; with gpt2 4 times]
    #[arg(long, value_name = "N")]
    pub ffn: Option<u32>,
    /// Tokens a sequence [default: 256]
    #[arg(long, value_name = "N")]
    pub context: Option<u32>,
    /// Tokens in the vocabulary, at most [default: 2048]
    #[arg(long, value_name = "N")]
    pub vocab: Option<u32>,
}

/// A family of models.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Arch {
    Gpt2,
    Llama,
}

/// The type of matrices in a model file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Quant {
    F32,
    F16,
    Q8,
    Q4,
}

impl ShapeArgs {
    /// Whether any dimension is.
    pub fn is_given(&self) -> bool {
        let numbers = [self.layers, self.dim, self.heads, self.kv_heads, self.ffn, self.context, self.vocab];
        numbers.iter().any(Option::is_some) || self.arch.is_some()
    }

    /// Whether any dimension is but the context.
    pub fn is_more_than_context(&self) -> bool {
        Self { context: None, ..*self }.is_given()
    }

    /// The model, in all else the default.
    pub fn model(&self) -> config::ModelConfig {
        let base = RunConfig::default().model;
        let arch = match self.arch {
            Some(Arch::Gpt2) => config::Arch::Gpt2,
            Some(Arch::Llama) | None => config::Arch::Llama,
        };
        let dim = self.dim.unwrap_or(base.dim);
        let heads = self.heads.unwrap_or_else(|| suggested_heads(dim));
        let half = if heads.is_multiple_of(2) { heads / 2 } else { heads };
        config::ModelConfig {
            arch,
            layers: self.layers.unwrap_or(base.layers),
            dim,
            heads,
            kv_heads: self.kv_heads.unwrap_or(if arch == config::Arch::Gpt2 { heads } else { half }),
            ffn: self.ffn.unwrap_or_else(|| suggested_ffn(arch, dim)),
            context: self.context.unwrap_or(base.context),
            ..base
        }
    }

    /// The vocabulary's size.
    pub fn vocab_size(&self) -> u32 {
        self.vocab.unwrap_or_else(|| RunConfig::default().data.vocab_size)
    }
}

impl From<Quant> for config::Quant {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::F32 => Self::F32,
            Quant::F16 => Self::F16,
            Quant::Q8 => Self::Q8,
            Quant::Q4 => Self::Q4,
        }
    }
}
