//! Where a run's weights begin: at random, or at a checkpoint of anybody's.

use std::path::Path;

use smidgen_converter::{Checkpoint, TokenizerChoice};
use smidgen_runtime::Architecture;
use smidgen_runtime::format::{Need, Role, RopeScaling};

use super::config::{Arch, ModelConfig, RunConfig, suggested_lr};
use super::error::TrainError;
use super::weights;
use crate::model::Model;

/// A fine-tuned model moves in smaller steps than one that begins at random.
const FINE_TUNING_LR: f64 = 0.2;

/// Reads the checkpoint that a run starts from, with its tokenizer.
pub(super) fn open(path: &Path) -> Result<Checkpoint, TrainError> {
    Ok(smidgen_converter::open(path, &TokenizerChoice::Found)?)
}

/// Fills in what the configuration leaves open: with `from`, the model's shape (a context of 0
/// means the checkpoint's); a learning rate of 0 means a suitable one; the precision is this CPU's, and the
/// optimizer's memory goes with it.
///
/// # Errors
/// A checkpoint without a tokenizer, or with parts that the trainer does not know.
pub(super) fn complete(config: &mut RunConfig) -> Result<(), TrainError> {
    if let Some(path) = &mut config.from {
        *path = std::path::absolute(&*path).map_err(TrainError::io("find", path))?;
        let checkpoint = open(path)?;
        config.model = shape(&checkpoint, config.model.context, path)?;
        config.data.vocab_size = checkpoint.config.vocab_size;
    }
    // Resumed on another CPU, the run must go on in what it began with, or say that it cannot.
    let precision = config.training.precision.here()?;
    config.training.precision = precision.into();
    config.training.moments = config.training.moments.of(precision).into();
    if config.training.lr == 0.0 {
        let part = if config.from.is_some() { FINE_TUNING_LR } else { 1.0 };
        config.training.lr = suggested_lr(config.training.optimizer, config.model.dim) * part;
    }
    Ok(())
}

fn shape(checkpoint: &Checkpoint, context: u32, path: &Path) -> Result<ModelConfig, TrainError> {
    let bad = |what: String| TrainError::BadFile { path: path.to_path_buf(), what };
    let from = &checkpoint.config;
    let gpt2 = from.architecture == Architecture::Gpt2;
    if checkpoint.rope_scaling != RopeScaling::None {
        return Err(bad("its rotary frequencies are scaled, which the trainer does not do".to_owned()));
    }
    if checkpoint.tokenizer.is_none() {
        return Err(bad("it has no tokenizer, which is needed to turn text into its tokens".to_owned()));
    }
    let all = [Role::QBias, Role::KBias, Role::VBias];
    let qkv_bias = !gpt2 && checkpoint.has(Role::QBias);
    for role in (0..64).filter_map(Role::from_u8).filter(|role| !gpt2 && checkpoint.has(*role)) {
        let known = role.need(from.architecture) == Need::Must
            || matches!(role, Role::Head | Role::QNorm | Role::KNorm)
            || qkv_bias && all.contains(&role);
        if !known {
            return Err(bad(format!("it has {}, which the trainer does not know", role.name())));
        }
    }
    if qkv_bias && !all.iter().all(|role| checkpoint.has(*role))
        || checkpoint.has(Role::QNorm) != checkpoint.has(Role::KNorm)
    {
        return Err(bad("some of queries, keys and values have biases or norms and others not".to_owned()));
    }
    if context > from.context_len {
        let must = format!("at most the checkpoint's, {}", from.context_len);
        return Err(TrainError::option("--context", context, must));
    }
    Ok(ModelConfig {
        arch: if gpt2 { Arch::Gpt2 } else { Arch::Llama },
        layers: from.n_layers,
        dim: from.dim,
        heads: from.n_heads,
        kv_heads: from.n_kv_heads,
        ffn: from.ffn_dim,
        context: if context == 0 { from.context_len } else { context },
        head_dim: from.head_dim,
        norm_eps: from.norm_eps,
        rope_theta: if gpt2 { ModelConfig::default().rope_theta } else { checkpoint.rope_theta },
        qk_norm: checkpoint.has(Role::QNorm),
        qkv_bias,
        bias: true,
        tied: !checkpoint.has(Role::Head),
    })
}

/// Sets the weights of a new model: those of `from`, or random ones.
pub(super) fn weights(model: &mut Model, config: &RunConfig) -> Result<(), TrainError> {
    match &config.from {
        None => model.init(config.training.seed),
        Some(path) => weights::start_from(model, &open(path)?)?,
    }
    Ok(())
}
