//! GPT-2 and Llama in f32, with gradients.
//!
//! Parameters, and likewise gradients, are one flat array each, described by a
//! [`ParamLayout`]; activations live in a [`Workspace`] that is planned once. There is no graph:
//! `forward` and `backward` call the layers in order. The same inputs give the same bits for
//! any number of threads.

mod backward;
mod forward;
mod init;
mod layout;
#[cfg(test)]
mod reference;
mod regime;
#[cfg(test)]
mod tests;
mod workspace;

use smidgen_runtime::config::{Architecture, Config};

pub use backward::forward_backward;
pub use forward::{forward_loss, logits};
pub use layout::{Param, ParamLayout};
pub use regime::{Regime, round_rows};
pub use workspace::Workspace;

use crate::gemm::Level;
use crate::layers::attention::Attention;

/// What a model has besides its dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelOptions {
    /// The output layer is the embedding.
    pub tied_embeddings: bool,
    /// GPT-2: linear layers and norms have biases, as Hugging Face's always do. Without: there
    /// are none, which is the same as zeros.
    pub bias: bool,
    /// Llama: the base of the rotary frequencies.
    pub rope_theta: f32,
    /// Llama: every query and key head is normalized before its rotation, as in Qwen3.
    pub qk_norm: bool,
    /// Llama: queries, keys and values have biases, as in Qwen2.
    pub qkv_bias: bool,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { tied_embeddings: true, bias: true, rope_theta: 10_000.0, qk_norm: false, qkv_bias: false }
    }
}

/// In what the products of a pass are computed. Parameters, activations between the layers,
/// gradients and all sums are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 factors.
    #[default]
    F32,
    /// Factors rounded to bf16: about twice as fast, on CPUs with AVX-512 BF16.
    Bf16,
}

impl Precision {
    /// bf16 where this CPU has the instructions, f32 elsewhere.
    pub fn best() -> Self {
        if Self::Bf16.is_available() { Self::Bf16 } else { Self::F32 }
    }

    /// Whether this CPU has the instructions.
    pub fn is_available(self) -> bool {
        self == Self::F32 || Level::detect_bf16().is_some()
    }

    /// The best instructions for it.
    ///
    /// # Panics
    /// When it is not available.
    pub(crate) fn level(self) -> Level {
        match (self, Level::detect_bf16()) {
            (Self::F32, _) => Level::detect(),
            (Self::Bf16, Some(level)) => level,
            (Self::Bf16, None) => panic!("this CPU has no bf16 products"),
        }
    }
}

/// Why a model or its workspace cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A dimension out of range.
    #[error("model dimensions: {0}")]
    Config(smidgen_runtime::LoadError),
    /// The trainer does not know the architecture.
    #[error("architecture {0:?} cannot be trained")]
    Architecture(Architecture),
    /// GPT-2 has one key head for each query head.
    #[error("GPT-2 has n_kv_heads = n_heads; here they are {n_kv_heads} and {n_heads}")]
    GroupedHeads {
        /// Query heads.
        n_heads: u32,
        /// Key heads.
        n_kv_heads: u32,
    },
    /// GPT-2's heads share out the width.
    #[error("GPT-2 has n_heads · head_dim = dim; here they are {n_heads} · {head_dim} and {dim}")]
    HeadWidth {
        /// Query heads.
        n_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Width of the model.
        dim: u32,
    },
    /// An option of Llama's.
    #[error("GPT-2 has no {0}")]
    NotForGpt2(&'static str),
    /// Not a usable base.
    #[error("rope_theta is {0}, must be a number above 0")]
    RopeTheta(f32),
    /// A batch that the model cannot take.
    #[error(
        "a batch of {batch} sequences of {seq_len} tokens; both must be at least 1, and at most {context_len} tokens"
    )]
    BadBatch {
        /// Sequences.
        batch: usize,
        /// Tokens in a sequence.
        seq_len: usize,
        /// The model's limit.
        context_len: usize,
    },
}

/// A model in f32.
#[derive(Clone, Debug)]
pub struct Model {
    /// Dimensions.
    pub config: Config,
    /// What it has besides.
    pub options: ModelOptions,
    /// All parameters, in the order of the layout.
    pub params: Vec<f32>,
    /// Names, shapes and places of the parameters.
    pub layout: ParamLayout,
    roles: layout::Roles,
}

impl Model {
    /// A model with all parameters 0; see [`Model::init`].
    ///
    /// # Errors
    /// Names the dimension or option that does not fit.
    pub fn new(config: Config, options: ModelOptions) -> Result<Self, ModelError> {
        config.validate().map_err(ModelError::Config)?;
        let Config { n_heads, n_kv_heads, head_dim, dim, .. } = config;
        match config.architecture {
            Architecture::Gpt2 => {
                if n_heads != n_kv_heads {
                    return Err(ModelError::GroupedHeads { n_heads, n_kv_heads });
                }
                if config.q_dim() != dim as usize {
                    return Err(ModelError::HeadWidth { n_heads, head_dim, dim });
                }
                for (has, what) in [(options.qk_norm, "qk_norm"), (options.qkv_bias, "qkv_bias")] {
                    if has {
                        return Err(ModelError::NotForGpt2(what));
                    }
                }
            }
            Architecture::Llama => {
                if !(options.rope_theta > 0.0 && options.rope_theta.is_finite()) {
                    return Err(ModelError::RopeTheta(options.rope_theta));
                }
            }
            other => return Err(ModelError::Architecture(other)),
        }
        let (layout, roles) = layout::plan(&config, &options);
        Ok(Self { config, options, params: vec![0.0; layout.len()], layout, roles })
    }

    /// The parameter of that (Hugging Face) name.
    pub fn param(&self, name: &str) -> Option<&[f32]> {
        self.layout.get(name).map(|p| &self.params[p.range()])
    }

    /// The parameter of that name, to change.
    pub fn param_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        self.layout.get(name).map(|p| &mut self.params[p.range()])
    }

    fn is_llama(&self) -> bool {
        self.config.architecture == Architecture::Llama
    }

    /// What the feed-forward's first product gives for a token.
    fn up_width(&self) -> usize {
        self.config.ffn_dim as usize * if self.is_llama() { 2 } else { 1 }
    }

    /// What a norm keeps for each row.
    fn stats_width(&self) -> usize {
        if self.is_llama() { 1 } else { 2 }
    }

    fn attention(&self, seq_len: usize, level: Level) -> Attention {
        let [n_heads, n_kv_heads, head_dim] =
            [self.config.n_heads, self.config.n_kv_heads, self.config.head_dim].map(|x| x as usize);
        Attention { seq_len, n_heads, n_kv_heads, head_dim, level }
    }
}
