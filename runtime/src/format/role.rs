//! What each tensor of a model is for. The order here is the order in the file.

use crate::config::{Architecture, Config};

macro_rules! roles {
    ($($(#[$doc:meta])* $name:ident = $number:expr, $text:literal;)*) => {
        /// What a tensor is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Role { $($(#[$doc])* $name = $number,)* }

        impl Role {
            /// The role with this number.
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its name as people read it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

roles! {
    /// Token embedding `[vocab_size, dim]`; also the head where there is no [`Role::Head`].
    Embedding = 0, "embedding";
    /// Learned positions `[context_len, dim]` (GPT-2).
    PositionEmbedding = 1, "position_embedding";
    /// Last norm's weight `[1, dim]`.
    FinalNorm = 2, "final_norm";
    /// Last norm's bias `[1, dim]`.
    FinalNormBias = 3, "final_norm_bias";
    /// Output projection `[vocab_size, dim]`, if it is not the embedding.
    Head = 4, "head";
    /// Rotary frequencies in radians a position `[1, head_dim / 2]` (Llama).
    RopeFrequencies = 5, "rope_frequencies";
    /// Norm before attention `[1, dim]`.
    AttnNorm = 32, "attn_norm";
    /// Its bias `[1, dim]`.
    AttnNormBias = 33, "attn_norm_bias";
    /// Query projection `[q_dim, dim]`.
    Q = 34, "q";
    /// Its bias `[1, q_dim]`.
    QBias = 35, "q_bias";
    /// Key projection `[kv_dim, dim]`.
    K = 36, "k";
    /// Its bias `[1, kv_dim]`.
    KBias = 37, "k_bias";
    /// Value projection `[kv_dim, dim]`.
    V = 38, "v";
    /// Its bias `[1, kv_dim]`.
    VBias = 39, "v_bias";
    /// Per-head norm of queries `[1, head_dim]`.
    QNorm = 40, "q_norm";
    /// Per-head norm of keys `[1, head_dim]`.
    KNorm = 41, "k_norm";
    /// Attention's output projection `[dim, q_dim]`.
    O = 42, "o";
    /// Its bias `[1, dim]`.
    OBias = 43, "o_bias";
    /// Norm before the feed-forward `[1, dim]`.
    FfnNorm = 44, "ffn_norm";
    /// Its bias `[1, dim]`.
    FfnNormBias = 45, "ffn_norm_bias";
    /// SwiGLU's gate `[ffn_dim, dim]` (Llama).
    Gate = 46, "gate";
    /// Its bias `[1, ffn_dim]`.
    GateBias = 47, "gate_bias";
    /// First projection of the feed-forward `[ffn_dim, dim]`.
    Up = 48, "up";
    /// Its bias `[1, ffn_dim]`.
    UpBias = 49, "up_bias";
    /// Second projection of the feed-forward `[dim, ffn_dim]`.
    Down = 50, "down";
    /// Its bias `[1, dim]`.
    DownBias = 51, "down_bias";
}

/// The roles that stand once in a model, as a mask of `1 << number`.
pub const GLOBAL_ROLES: u32 = (1 << 6) - 1;
/// The roles that stand once a layer, as a mask of `1 << (number - 32)`.
pub const LAYER_ROLES: u32 = (1 << 20) - 1;

impl Role {
    /// True if every layer has one of its own.
    pub const fn is_per_layer(self) -> bool {
        self as u8 >= 32
    }

    /// Its bit in the mask of its kind.
    pub const fn bit(self) -> u32 {
        1 << (self as u8 & 31)
    }

    /// True for norms, biases and frequencies, which are always F32 and have one row.
    pub const fn is_vector(self) -> bool {
        !matches!(
            self,
            Self::Embedding
                | Self::PositionEmbedding
                | Self::Head
                | Self::Q
                | Self::K
                | Self::V
                | Self::O
                | Self::Gate
                | Self::Up
                | Self::Down
        )
    }

    /// The shape `(rows, cols)` that a model of these dimensions gives it.
    pub const fn shape(self, config: &Config) -> (usize, usize) {
        let dim = config.dim as usize;
        let ffn = config.ffn_dim as usize;
        match self {
            Self::Embedding | Self::Head => (config.vocab_size as usize, dim),
            Self::PositionEmbedding => (config.context_len as usize, dim),
            Self::FinalNorm | Self::FinalNormBias | Self::AttnNorm | Self::AttnNormBias => (1, dim),
            Self::FfnNorm | Self::FfnNormBias | Self::OBias | Self::DownBias => (1, dim),
            Self::RopeFrequencies => (1, config.head_dim as usize / 2),
            Self::Q => (config.q_dim(), dim),
            Self::K | Self::V => (config.kv_dim(), dim),
            Self::QBias => (1, config.q_dim()),
            Self::KBias | Self::VBias => (1, config.kv_dim()),
            Self::QNorm | Self::KNorm => (1, config.head_dim as usize),
            Self::O => (dim, config.q_dim()),
            Self::Gate | Self::Up => (ffn, dim),
            Self::GateBias | Self::UpBias => (1, ffn),
            Self::Down => (dim, ffn),
        }
    }

    /// Whether a model of this architecture must, may or must not have it.
    pub const fn need(self, architecture: Architecture) -> Need {
        let gpt2 = matches!(architecture, Architecture::Gpt2);
        match self {
            Self::Embedding | Self::FinalNorm | Self::AttnNorm | Self::FfnNorm => Need::Must,
            Self::Q | Self::K | Self::V | Self::O | Self::Up | Self::Down => Need::Must,
            Self::PositionEmbedding if gpt2 => Need::Must,
            Self::RopeFrequencies | Self::Gate if !gpt2 => Need::Must,
            Self::PositionEmbedding | Self::RopeFrequencies | Self::Gate => Need::MustNot,
            Self::QNorm | Self::KNorm | Self::GateBias if gpt2 => Need::MustNot,
            Self::FinalNormBias | Self::AttnNormBias | Self::FfnNormBias if !gpt2 => Need::MustNot,
            _ => Need::May,
        }
    }
}

/// Whether an architecture has a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It can't do without.
    Must,
    /// Models differ.
    May,
    /// There is no place for it.
    MustNot,
}
