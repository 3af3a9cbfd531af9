//! What `smidgen train` is told about a new run.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use smidgen_converter::KeepRule;
use smidgen_trainer::fit::Budget;
use smidgen_trainer::run::config::{
    self, DataConfig, Length, ModelConfig, MomentsChoice, OptimizerChoice, PrecisionChoice, RunConfig,
    ScheduleChoice, TokenizerChoice, TrainingConfig, suggested_lr,
};

use super::plan;
use super::shape::{Quant, ShapeArgs};

/// What decides the result.
#[derive(Debug, clap::Args)]
pub struct NewRun {
    /// A text file, a JSONL file (objects with a field `text`), a folder of such files, a pattern such
    /// as 'books/*.txt', or - for standard input; may be given several times. Without it: built-in stories.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// The run's folder; it must not exist or be empty. Default: a fresh one below runs.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How text becomes tokens: byte-pair encoding, or a token a character [default: bpe]
    #[arg(long, value_enum)]
    tokenizer: Option<Tokenizer>,
    /// Sequences that are learned from at once [default: 4]
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
    /// Batches for one step: as if the batch were so many times larger, in the memory of one [default: 1]
    #[arg(long, value_name = "N")]
    accumulate: Option<u32>,
    /// In what products are computed: bf16 is about twice as fast, and auto takes it where the CPU has
    /// it [default: auto]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// How the optimizer remembers gradients: bf16 takes half the memory, and auto takes it where products
    /// are bf16 [default: auto]
    #[arg(long, value_enum)]
    moments: Option<Precision>,
    /// Keep less for the backward pass and compute it again: the same bits in less memory, about a
    /// third slower.
    #[arg(long)]
    grad_checkpoint: bool,
    /// Train for so many steps.
    #[arg(long, value_name = "N", group = "length")]
    steps: Option<u64>,
    /// Train for about so many minutes [default: 2]
    #[arg(long, value_name = "N", group = "length")]
    minutes: Option<f64>,
    /// Train on as many tokens as so many passes over the text have.
    #[arg(long, value_name = "N", group = "length")]
    epochs: Option<f64>,
    /// The highest learning rate [default: by the width]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// Steps in which the learning rate rises [default: 100, at most a tenth of all]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// AdamW's decay of matrices [default: 0.1]
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// The norm that gradients are cut to, 0 for none [default: 1]
    #[arg(long, value_name = "X")]
    grad_clip: Option<f64>,
    /// What turns gradients into steps: AdamW, or Muon for the blocks' matrices [default: muon]
    #[arg(long, value_enum)]
    optimizer: Option<Optimizer>,
    /// How the learning rate falls: along a cosine, or in a cooldown at the end [default: wsd]
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// The part of the run that is the cooldown [default: 0.5]
    #[arg(long, value_name = "PART")]
    cooldown: Option<f64>,
    /// The last learning rate, as a part of the highest [default: 0]
    #[arg(long, value_name = "PART")]
    final_lr: Option<f64>,
    /// AdamW's memory of gradients [default: 0.9]
    #[arg(long, value_name = "X")]
    beta1: Option<f64>,
    /// AdamW's memory of squared gradients [default: 0.95]
    #[arg(long, value_name = "X")]
    beta2: Option<f64>,
    /// The part of embeddings and branches that is dropped at random [default: 0]
    #[arg(long, value_name = "PART")]
    dropout: Option<f64>,
    /// The weight of a penalty on large logits [default: 0]
    #[arg(long, value_name = "X")]
    z_loss: Option<f64>,
    /// Normalize queries and keys head by head, as Qwen3 does (llama only).
    #[arg(long)]
    qk_norm: bool,
    /// Learn an output layer of its own instead of using the embedding.
    #[arg(long)]
    untied: bool,
    /// Train the last part of the run for the arithmetic of a model file of this type: weights and
    /// activations are rounded as they will be there.
    #[arg(long, value_enum, value_name = "TYPE")]
    qat: Option<Quant>,
    /// How large that part is [default: 0.1]
    #[arg(long, value_name = "PART", requires = "qat")]
    qat_part: Option<f64>,
    /// The highest learning rate there [default: by the width]
    #[arg(long, value_name = "X", requires = "qat")]
    qat_lr: Option<f64>,
    /// Start from this checkpoint (a Hugging Face directory, a run's checkpoint, a .smidgen file or
    /// anything else that convert reads), in its shape and with its tokenizer.
    #[arg(long, value_name = "PATH", conflicts_with_all = [
        "arch", "layers", "dim", "heads", "kv_heads", "ffn", "vocab", "tokenizer", "qk_norm", "untied",
    ])]
    from: Option<PathBuf>,
    /// A budget instead of a shape: flash=512K,ram=96K,tokens-per-second=20@64MHz (the last may be left out), or a chip's name
    /// such as rp2350; says what it chooses. See `smidgen plan`.
    #[arg(long, value_name = "BUDGET", conflicts_with_all = [
        "from", "arch", "layers", "dim", "heads", "kv_heads", "ffn", "context", "vocab", "tokenizer",
        "quant", "qat", "untied", "qk_norm",
    ])]
    fit: Option<Budget>,
    /// Tokens of held-out text that a look takes, at most [default: 32768]
    #[arg(long, value_name = "N")]
    eval_tokens: Option<u32>,
    /// The newest checkpoints that are kept, besides the best [default: 2]
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    /// Let the model write so many tokens at every look, into sample-STEP.txt [default: 0]
    #[arg(long, value_name = "N")]
    sample_tokens: Option<u32>,
    /// Steps between two looks at the held-out text [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    eval_every: Option<u64>,
    /// Steps between two checkpoints [default: at each look]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    /// Where the random numbers begin: weights, batches, stories [default: 42]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The type of matrices in the model file at the end [default: q8; with --qat its type]
    #[arg(long, value_enum)]
    quant: Option<Quant>,
    /// Other types for some matrices, as in convert --keep: k=q8,v=q8 with q4 brings the loss much
    /// nearer to that of floats where few keys' heads serve many queries.
    #[arg(long, value_name = "NAME=TYPE,…", value_delimiter = ',')]
    keep_types: Vec<KeepRule>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tokenizer {
    Bpe,
    Char,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Precision {
    Auto,
    F32,
    Bf16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Optimizer {
    Adamw,
    Muon,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Schedule {
    Cosine,
    Wsd,
}

impl NewRun {
    /// The configuration, in the shape that the budget allows if there is one.
    pub fn fitted(&self, shape: &ShapeArgs) -> Result<RunConfig> {
        let mut config = self.config(shape);
        if let Some(budget) = &self.fit {
            let choice = plan::choose(budget)?;
            eprint!("{}", plan::describe(&choice, budget.speed));
            config.data.vocab_size = choice.vocab_size;
            config.quant = choice.quant;
            if choice.quant == config::Quant::Q4 {
                config.training.qat = Some(choice.quant);
            }
            if self.lr.is_none() {
                config.training.lr = suggested_lr(config.training.optimizer, choice.model.dim);
            }
            config.model = choice.model;
        }
        Ok(config)
    }

    /// The defaults with what was asked for instead.
    pub fn config(&self, shape: &ShapeArgs) -> RunConfig {
        let base = RunConfig::default();
        let mut model = ModelConfig { qk_norm: self.qk_norm, tied: !self.untied, ..shape.model() };
        if self.from.is_some() && shape.context.is_none() {
            // The checkpoint's.
            model.context = 0;
        }
        let dim = model.dim;
        let data = DataConfig {
            paths: self.data.clone(),
            tokenizer: match self.tokenizer {
                Some(Tokenizer::Char) => TokenizerChoice::Char,
                Some(Tokenizer::Bpe) | None => TokenizerChoice::Bpe,
            },
            vocab_size: shape.vocab_size(),
            ..base.data
        };
        let defaults = base.training;
        let optimizer = match self.optimizer {
            Some(Optimizer::Adamw) => OptimizerChoice::AdamW,
            Some(Optimizer::Muon) => OptimizerChoice::Muon,
            None => defaults.optimizer,
        };
        let training = TrainingConfig {
            length: match (self.steps, self.minutes, self.epochs) {
                (Some(steps), ..) => Length::Steps(steps),
                (_, Some(minutes), _) => Length::Minutes(minutes),
                (.., Some(epochs)) => Length::Epochs(epochs),
                _ => defaults.length,
            },
            batch: self.batch.unwrap_or(defaults.batch),
            accumulate: self.accumulate.unwrap_or(defaults.accumulate),
            precision: match self.precision {
                Some(Precision::F32) => PrecisionChoice::F32,
                Some(Precision::Bf16) => PrecisionChoice::Bf16,
                Some(Precision::Auto) | None => PrecisionChoice::Auto,
            },
            moments: match self.moments {
                Some(Precision::F32) => MomentsChoice::F32,
                Some(Precision::Bf16) => MomentsChoice::Bf16,
                Some(Precision::Auto) | None => MomentsChoice::Auto,
            },
            grad_checkpoint: self.grad_checkpoint,
            // 0 means: suitable for a model that is not known yet.
            lr: self.lr.unwrap_or(if self.from.is_some() { 0.0 } else { suggested_lr(optimizer, dim) }),
            optimizer,
            schedule: match self.schedule {
                Some(Schedule::Cosine) => ScheduleChoice::Cosine,
                Some(Schedule::Wsd) => ScheduleChoice::Wsd,
                None => defaults.schedule,
            },
            cooldown: self.cooldown.unwrap_or(defaults.cooldown),
            final_lr: self.final_lr.unwrap_or(defaults.final_lr),
            beta1: self.beta1.unwrap_or(defaults.beta1),
            beta2: self.beta2.unwrap_or(defaults.beta2),
            dropout: self.dropout.unwrap_or(defaults.dropout),
            z_loss: self.z_loss.unwrap_or(defaults.z_loss),
            qat: self.qat.map(Into::into),
            qat_part: self.qat_part.unwrap_or(defaults.qat_part),
            qat_lr: self.qat_lr.unwrap_or(defaults.qat_lr),
            eval_tokens: self.eval_tokens.unwrap_or(defaults.eval_tokens),
            keep: self.keep.unwrap_or(defaults.keep),
            sample_tokens: self.sample_tokens.unwrap_or(defaults.sample_tokens),
            warmup: self.warmup.unwrap_or(defaults.warmup),
            weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
            grad_clip: self.grad_clip.unwrap_or(defaults.grad_clip),
            seed: self.seed.unwrap_or(defaults.seed),
            eval_every: self.eval_every.unwrap_or(defaults.eval_every),
            save_every: self.save_every.unwrap_or(defaults.save_every),
        };
        let quant = self.quant.or(self.qat).map_or(base.quant, Into::into);
        RunConfig {
            data,
            model,
            training,
            quant,
            keep_types: self.keep_types.clone(),
            from: self.from.clone(),
        }
    }
}
