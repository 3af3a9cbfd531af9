//! What shape a model has: the numbers from which every size in the runtime follows.

use crate::error::LoadError;

/// The two families of transformer that the runtime runs.
///
/// Small differences within a family (biases, q/k norms, a head of its own) are told by
/// which tensors a model has, not by more variants here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
#[repr(u8)]
pub enum Architecture {
    /// LayerNorm with bias, learned positions, GELU (tanh form) feed-forward.
    Gpt2 = 1,
    /// RMSNorm, rotary positions (halves rotated: `i` with `i + head_dim / 2`), SwiGLU feed-forward.
    Llama = 2,
}

impl Architecture {
    /// The architecture that the file's byte names.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Gpt2),
            2 => Some(Self::Llama),
            _ => None,
        }
    }

    /// The name in a Hugging Face `config.json` (`model_type`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
        }
    }
}

/// A model's dimensions. All are counts of f32 values or of things, never of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Which family.
    pub architecture: Architecture,
    /// Transformer blocks.
    pub n_layers: u32,
    /// Width of the residual stream.
    pub dim: u32,
    /// Query heads.
    pub n_heads: u32,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: u32,
    /// Width of one head; even for Llama.
    pub head_dim: u32,
    /// Hidden width of the feed-forward.
    pub ffn_dim: u32,
    /// Rows of the embedding.
    pub vocab_size: u32,
    /// The longest sequence the model was made for, in tokens.
    pub context_len: u32,
    /// The epsilon inside the norms' square root.
    pub norm_eps: f32,
}

/// No dimension of a model may be larger than this: keeps every product of two of them, and
/// every sum of i8 products, far from overflow.
pub const MAX_DIMENSION: u32 = 1 << 20;
/// The most layers a model may have.
pub const MAX_LAYERS: u32 = 1 << 10;

impl Config {
    /// Width of all query heads together.
    pub const fn q_dim(&self) -> usize {
        self.n_heads as usize * self.head_dim as usize
    }

    /// Width of all key (or value) heads together.
    pub const fn kv_dim(&self) -> usize {
        self.n_kv_heads as usize * self.head_dim as usize
    }

    /// Query heads that share one key head.
    pub const fn heads_per_kv(&self) -> usize {
        if self.n_kv_heads == 0 { 0 } else { self.n_heads as usize / self.n_kv_heads as usize }
    }

    /// Checks every range and divisibility that the rest of the crate relies on.
    ///
    /// # Errors
    /// [`LoadError::BadDimension`] names the first field that is out of range.
    pub const fn validate(&self) -> Result<(), LoadError> {
        macro_rules! range {
            ($field:ident, $max:expr) => {
                if self.$field == 0 || self.$field > $max {
                    return Err(LoadError::BadDimension {
                        field: stringify!($field),
                        value: self.$field,
                        max: $max,
                    });
                }
            };
        }
        range!(n_layers, MAX_LAYERS);
        range!(dim, MAX_DIMENSION);
        range!(n_heads, 1 << 12);
        range!(n_kv_heads, self.n_heads);
        range!(head_dim, 1 << 12);
        range!(ffn_dim, MAX_DIMENSION);
        range!(vocab_size, MAX_DIMENSION);
        range!(context_len, MAX_DIMENSION);
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(LoadError::Indivisible {
                field: "n_heads",
                value: self.n_heads,
                divisor: self.n_kv_heads,
            });
        }
        if matches!(self.architecture, Architecture::Llama) && !self.head_dim.is_multiple_of(2) {
            return Err(LoadError::Indivisible { field: "head_dim", value: self.head_dim, divisor: 2 });
        }
        if !(self.norm_eps >= 0.0 && self.norm_eps < 1.0) {
            return Err(LoadError::BadNormEps);
        }
        Ok(())
    }
}
