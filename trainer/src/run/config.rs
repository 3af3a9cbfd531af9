//! What a run was asked to do: everything that decides its result, and nothing of the machine it
//! happens to run on. Stored as `run.json` and in every checkpoint.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smidgen_converter::{ConvertOptions, KeepRule};
use smidgen_runtime::Config;

pub use super::choices::{
    Arch, Length, MomentsChoice, OptimizerChoice, PrecisionChoice, Quant, ScheduleChoice, TokenizerChoice,
};
use super::error::TrainError;
use super::stdin::STDIN;
use crate::data::Corpus;
use crate::model::ModelOptions;

/// The epsilon of every norm of a new model, as in GPT-2 and Llama.
const NORM_EPS: f32 = 1e-5;

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The text.
    pub data: DataConfig,
    /// The model.
    pub model: ModelConfig,
    /// How it learns.
    pub training: TrainingConfig,
    /// How the model file's matrices are stored at the end.
    pub quant: Quant,
    /// Other types for some of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_types: Vec<KeepRule>,
    /// A checkpoint to start from instead of random weights: it gives the model's shape and the
    /// tokenizer.
    pub from: Option<PathBuf>,
}

/// The text and its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Files, folders or patterns, or `-` for standard input; none for the built-in stories.
    pub paths: Vec<PathBuf>,
    /// How much of the built-in stories, in bytes of text.
    pub stories_bytes: u64,
    /// How text is cut into tokens.
    pub tokenizer: TokenizerChoice,
    /// Tokens at most; a text without enough of them gives fewer.
    pub vocab_size: u32,
}

/// The model's shape, but for the vocabulary, which the tokenizer decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which family.
    pub arch: Arch,
    /// Transformer blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub dim: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Hidden width of the feed-forward.
    pub ffn: u32,
    /// Tokens a sequence.
    pub context: u32,
    /// Width of a head; 0 for `dim / heads`.
    pub head_dim: u32,
    /// The epsilon of every norm.
    pub norm_eps: f32,
    /// Llama: the base of the rotary frequencies.
    pub rope_theta: f32,
    /// Llama: queries and keys are normalized head by head, as in Qwen3.
    pub qk_norm: bool,
    /// Llama: queries, keys and values have biases, as in Qwen2.
    pub qkv_bias: bool,
    /// GPT-2: linear layers and norms have biases.
    pub bias: bool,
    /// The output layer is the embedding.
    pub tied: bool,
}

/// How the model learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// When to end.
    pub length: Length,
    /// Sequences that go through the model at once.
    pub batch: u32,
    /// Batches whose gradients are added up for one step.
    pub accumulate: u32,
    /// In what products are computed while training; what is measured on the held-out text, and
    /// what is trained for the rounding of a model file, is computed in f32.
    pub precision: PrecisionChoice,
    /// How the optimizer's memory is kept.
    #[serde(default = "MomentsChoice::before")]
    pub moments: MomentsChoice,
    /// Keep of every block its input only, and compute the rest again in the backward pass.
    pub grad_checkpoint: bool,
    /// The highest learning rate.
    pub lr: f64,
    /// What turns gradients into steps.
    pub optimizer: OptimizerChoice,
    /// How the learning rate falls.
    pub schedule: ScheduleChoice,
    /// The part of the run in which it falls, if the schedule has a cooldown.
    pub cooldown: f64,
    /// The part of embeddings and of branches' outputs that is dropped while training.
    pub dropout: f64,
    /// The weight of the penalty on large logits.
    pub z_loss: f64,
    /// The last part of the run is trained with weights and activations rounded as in a model
    /// file of this type.
    pub qat: Option<Quant>,
    /// How large that part is.
    pub qat_part: f64,
    /// The highest learning rate there; 0 chooses.
    #[serde(default)]
    pub qat_lr: f64,
    /// The last learning rate, as a part of `lr`.
    pub final_lr: f64,
    /// Steps in which the rate rises from 0; at most a tenth of all.
    pub warmup: u64,
    /// AdamW's decay of matrices.
    pub weight_decay: f64,
    /// AdamW's memory of the gradient.
    pub beta1: f64,
    /// AdamW's memory of the squared gradient.
    pub beta2: f64,
    /// The norm that a step's gradient is cut to; 0 for no limit.
    pub grad_clip: f64,
    /// Decides weights and batches, and which stories.
    pub seed: u64,
    /// Steps between two looks at the held-out text; 0 chooses.
    pub eval_every: u64,
    /// Steps between two checkpoints; 0 chooses.
    pub save_every: u64,
    /// Tokens of held-out text that a look takes, at most.
    pub eval_tokens: u32,
    /// Checkpoints that are kept, the newest ones; the best is always kept besides.
    pub keep: u32,
    /// Tokens of the text that the model writes at every look; 0 for none.
    pub sample_tokens: u32,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            stories_bytes: 16_000_000,
            tokenizer: TokenizerChoice::Bpe,
            vocab_size: 2048,
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            arch: Arch::Llama,
            layers: 4,
            dim: 64,
            heads: 4,
            kv_heads: 2,
            ffn: 192,
            context: 256,
            head_dim: 0,
            norm_eps: NORM_EPS,
            rope_theta: 10_000.0,
            qk_norm: false,
            qkv_bias: false,
            bias: true,
            tied: true,
        }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            length: Length::Minutes(2.0),
            batch: 4,
            accumulate: 1,
            precision: PrecisionChoice::default(),
            moments: MomentsChoice::default(),
            grad_checkpoint: false,
            lr: suggested_lr(OptimizerChoice::default(), ModelConfig::default().dim),
            optimizer: OptimizerChoice::default(),
            schedule: ScheduleChoice::default(),
            cooldown: 0.5,
            dropout: 0.0,
            z_loss: 0.0,
            qat: None,
            qat_part: 0.1,
            qat_lr: 0.0,
            final_lr: 0.0,
            warmup: 100,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            grad_clip: 1.0,
            seed: 42,
            eval_every: 0,
            save_every: 0,
            eval_tokens: 32_768,
            keep: 2,
            sample_tokens: 0,
        }
    }
}

/// A learning rate for a model of this width: wider ones need smaller steps, AdamW's more so than Muon's, whose
/// steps are of a size whatever the gradient's.
pub fn suggested_lr(optimizer: OptimizerChoice, dim: u32) -> f64 {
    let power = match optimizer {
        OptimizerChoice::AdamW => 0.75,
        OptimizerChoice::Muon => 1.0 / 3.0,
    };
    let lr = 8e-3 * (64.0 / f64::from(dim.max(1))).powf(power);
    // Two digits: a number to be read and typed.
    let unit = 10f64.powf(lr.log10().floor() - 1.0);
    (lr / unit).round() * unit
}

/// The feed-forward width that is usual for a family, a multiple of 32.
pub fn suggested_ffn(arch: Arch, dim: u32) -> u32 {
    match arch {
        Arch::Gpt2 => dim.saturating_mul(4),
        Arch::Llama => (u64::from(dim) * 8).div_ceil(3).next_multiple_of(32).min(u64::from(u32::MAX)) as u32,
    }
}

/// How many heads a model of this width gets: heads of 16 in narrow models, of 64 in wide ones.
pub fn suggested_heads(dim: u32) -> u32 {
    let wanted = (dim / 16).min(8).max(dim / 64);
    (1..=wanted).rev().find(|heads| dim.is_multiple_of(heads * 2)).unwrap_or(1)
}

impl ModelConfig {
    /// The dimensions with a vocabulary.
    ///
    /// # Errors
    /// A dimension that is out of range or not divisible as it must be.
    pub fn with_vocab(&self, vocab_size: u32) -> Result<Config, TrainError> {
        let heads = self.heads.max(1);
        if self.head_dim == 0 && !self.dim.is_multiple_of(heads) {
            return Err(TrainError::option(
                "--heads",
                self.heads,
                format!("a divisor of --dim, {}", self.dim),
            ));
        }
        if !self.heads.is_multiple_of(self.kv_heads.max(1)) {
            let must = format!("a divisor of --heads, {}", self.heads);
            return Err(TrainError::option("--kv-heads", self.kv_heads, must));
        }
        let config = Config {
            architecture: self.arch.into(),
            n_layers: self.layers,
            dim: self.dim,
            n_heads: self.heads,
            n_kv_heads: self.kv_heads,
            head_dim: if self.head_dim == 0 { self.dim / heads } else { self.head_dim },
            ffn_dim: self.ffn,
            vocab_size,
            context_len: self.context,
            norm_eps: self.norm_eps,
        };
        config.validate().map_err(TrainError::Shape)?;
        Ok(config)
    }

    /// What the model has besides its dimensions.
    pub fn options(&self) -> ModelOptions {
        let &Self { tied, bias, rope_theta, qk_norm, qkv_bias, .. } = self;
        ModelOptions { tied_embeddings: tied, bias, rope_theta, qk_norm, qkv_bias }
    }
}

impl DataConfig {
    /// Where the documents are.
    ///
    /// # Errors
    /// Paths without text.
    pub fn corpus(&self, seed: u64) -> Result<Corpus, TrainError> {
        if self.paths.is_empty() {
            return Ok(Corpus::Stories { seed, bytes: self.stories_bytes });
        }
        Ok(Corpus::open(&self.paths)?)
    }

    /// Whether the text comes from standard input.
    pub(super) fn takes_stdin(&self) -> Result<bool, TrainError> {
        match self.paths.iter().filter(|path| *path == Path::new(STDIN)).count() {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(TrainError::option("--data", "- ".repeat(n).trim_end(), "- at most once".to_owned())),
        }
    }

    /// A name for the run: that of the text.
    pub fn name(&self) -> String {
        if self.paths.first().is_some_and(|path| path == Path::new(STDIN)) {
            return "stdin".to_owned();
        }
        let stem = self.paths.first().and_then(|path| path.file_stem());
        let name: String = stem.map_or("stories".into(), |stem| stem.to_string_lossy()).into_owned();
        // A pattern's stars have no place in a folder's name.
        let name: String =
            name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ')).collect();
        let name = name.trim_matches(['.', ' ']);
        if name.is_empty() { "text".to_owned() } else { name.to_owned() }
    }
}

impl RunConfig {
    /// Checks all that can be checked before there are data.
    ///
    /// # Errors
    /// Names the flag, its value, and what it may be.
    pub fn validate(&self) -> Result<(), TrainError> {
        let training = &self.training;
        let range = |flag, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                return Ok(());
            }
            Err(TrainError::option(flag, value, format!("from {low} to {high}")))
        };
        self.model.with_vocab(self.data.vocab_size.max(1))?;
        if self.data.tokenizer == TokenizerChoice::Bpe {
            range("--vocab", self.data.vocab_size.into(), 257.0, 1_048_576.0)?;
        }
        range("--batch", training.batch.into(), 1.0, 65_536.0)?;
        range("--accumulate", training.accumulate.into(), 1.0, 65_536.0)?;
        range("--lr", training.lr, f64::MIN_POSITIVE, 10.0)?;
        range("--weight-decay", training.weight_decay, 0.0, 10.0)?;
        range("--grad-clip", training.grad_clip, 0.0, f64::MAX)?;
        range("--beta1", training.beta1, 0.0, 0.9999)?;
        range("--beta2", training.beta2, 0.0, 0.999_999)?;
        range("--cooldown", training.cooldown, 0.0, 1.0)?;
        range("--dropout", training.dropout, 0.0, 0.9)?;
        range("--z-loss", training.z_loss, 0.0, 1.0)?;
        range("--keep", training.keep.into(), 1.0, 1e9)?;
        if let Some(qat) = training.qat {
            range("--qat-part", training.qat_part, 0.0, 1.0)?;
            range("--qat-lr", training.qat_lr, 0.0, 1.0)?;
            if qat != self.quant {
                let must = format!("that of --qat, {qat:?}").to_lowercase();
                return Err(TrainError::option("--quant", format!("{:?}", self.quant).to_lowercase(), must));
            }
        }
        match training.length {
            Length::Steps(steps) => range("--steps", steps as f64, 1.0, 1e12),
            Length::Minutes(minutes) => range("--minutes", minutes, 1e-3, 1e6),
            Length::Epochs(epochs) => range("--epochs", epochs, 1e-6, 1e6),
        }
    }

    /// How the model file is made of a checkpoint.
    pub fn convert_options(&self) -> ConvertOptions {
        ConvertOptions { keep: self.keep_types.clone(), ..ConvertOptions::new(self.quant.into()) }
    }

    /// The highest learning rate of the rounded part: an eighth of what suits the width unless told.
    pub fn qat_lr(&self) -> f64 {
        if self.training.qat_lr > 0.0 {
            self.training.qat_lr
        } else {
            suggested_lr(OptimizerChoice::AdamW, self.model.dim) / 8.0
        }
    }

    /// Tokens that one optimizer step sees.
    pub fn tokens_per_step(&self) -> u64 {
        u64::from(self.training.batch) * u64::from(self.model.context) * u64::from(self.training.accumulate)
    }

    /// Reads a `run.json`.
    ///
    /// # Errors
    /// A file that is missing or says something else.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let json = std::fs::read(path).map_err(TrainError::io("read", path))?;
        serde_json::from_slice(&json)
            .map_err(|error| TrainError::BadFile { path: path.to_path_buf(), what: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_valid_small_model() {
        let config = RunConfig::default();
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<RunConfig>(&json).unwrap(), config);
        // A run of before there was a choice had everything in f32.
        let before: RunConfig = serde_json::from_str(&json.replace("\"moments\":\"auto\",", "")).unwrap();
        assert_eq!(before.training.moments, MomentsChoice::F32);
        assert_eq!(suggested_heads(config.model.dim), config.model.heads);
        assert_eq!(suggested_ffn(Arch::Llama, config.model.dim), config.model.ffn);
    }

    #[test]
    fn bad_values_name_their_flag() {
        let check = |change: &dyn Fn(&mut RunConfig), says: &str| {
            let mut config = RunConfig::default();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        check(&|c| c.training.lr = f64::NAN, "--lr");
        check(&|c| c.training.batch = 0, "--batch");
        check(&|c| c.training.length = Length::Minutes(0.0), "--minutes");
        check(&|c| c.model.heads = 7, "--heads is 7, but must be a divisor of --dim, 64");
        check(&|c| c.model.kv_heads = 3, "--kv-heads is 3, but must be a divisor of --heads, 4");
        check(&|c| c.model.layers = 0, "n_layers");
        check(&|c| c.data.vocab_size = 256, "--vocab");
    }

    #[test]
    fn suggestions_fit_any_width() {
        for dim in [1, 2, 6, 48, 64, 96, 288, 384, 768, 1000] {
            for arch in [Arch::Gpt2, Arch::Llama] {
                let heads = suggested_heads(dim);
                let (kv_heads, ffn) = (heads, suggested_ffn(arch, dim));
                let model = ModelConfig { arch, dim, heads, kv_heads, ffn, ..Default::default() };
                if dim > 1 || arch == Arch::Gpt2 {
                    model.with_vocab(300).unwrap();
                }
            }
        }
        assert_eq!(suggested_heads(768), 12);
        assert_eq!(suggested_heads(288), 8);
    }

    #[test]
    fn runs_are_named_after_their_text() {
        let name = |path: &str| DataConfig { paths: vec![path.into()], ..Default::default() }.name();
        assert_eq!(name("/tmp/war and peace.txt"), "war and peace");
        assert_eq!(name("books/*.txt"), "text");
        assert_eq!(DataConfig::default().name(), "stories");
    }
}
