//! What this build can run of what a file may hold: cargo's features, as constants.
//!
//! Code asks these instead of being left out: every build compiles all of it, and what a constant
//! excludes is not linked.

use crate::config::Architecture;
use crate::error::LoadError;
use crate::format::{DType, KvType};
use crate::tokenizer::TokenizerKind;

/// The two answers to "which is it?" where only one can be.
const fn only<T: Copy>(first: (bool, T), second: (bool, T)) -> Option<T> {
    match (first, second) {
        ((true, only), (false, _)) | ((false, _), (true, only)) => Some(only),
        _ => None,
    }
}

const fn lacks(built: bool, what: &'static str, feature: &'static str) -> Result<(), LoadError> {
    if built { Ok(()) } else { Err(LoadError::MissingFeature { what, feature }) }
}

impl Architecture {
    const ONLY: Option<Self> =
        only((cfg!(feature = "gpt2"), Self::Gpt2), (cfg!(feature = "llama"), Self::Llama));

    /// Whether this build runs models of this architecture.
    pub(crate) const fn built(self) -> Result<(), LoadError> {
        match self {
            Self::Gpt2 => lacks(cfg!(feature = "gpt2"), "the architecture", "gpt2"),
            Self::Llama => lacks(cfg!(feature = "llama"), "the architecture", "llama"),
        }
    }

    /// A loaded model's architecture: a constant in a build that has only one.
    pub(crate) const fn of_loaded(self) -> Self {
        match Self::ONLY {
            Some(only) => only,
            None => self,
        }
    }
}

impl DType {
    /// Whether some type of matrices in this build is one of integers.
    pub(crate) const ANY_QUANTIZED: bool = cfg!(any(feature = "q8", feature = "q4"));

    /// Whether this build multiplies with matrices of this type.
    pub(crate) const fn built(self) -> Result<(), LoadError> {
        match self {
            Self::F32 => lacks(cfg!(feature = "f32"), "a matrix", "f32"),
            Self::F16 => lacks(cfg!(feature = "f16"), "a matrix", "f16"),
            Self::Q8 => lacks(cfg!(feature = "q8"), "a matrix", "q8"),
            Self::Q4 => lacks(cfg!(feature = "q4"), "a matrix", "q4"),
        }
    }
}

impl KvType {
    /// Whether this build has this type of cache.
    pub(crate) const fn built(self) -> Result<(), LoadError> {
        lacks(matches!(self, Self::Q8) || cfg!(feature = "kv-f32"), "the cache", "kv-f32")
    }

    /// A session's type of cache: a constant in a build that has only one.
    pub(crate) const fn of_session(self) -> Self {
        if cfg!(feature = "kv-f32") { self } else { Self::Q8 }
    }
}

impl TokenizerKind {
    const ONLY: Option<Self> = if cfg!(feature = "unicode") {
        None
    } else {
        only(
            (cfg!(feature = "bpe"), Self::ByteLevelBpe),
            (cfg!(feature = "sentencepiece"), Self::SentencePieceBpe),
        )
    };

    /// A validated tokenizer's kind: a constant in a build that has only one.
    pub(crate) const fn of_validated(self) -> Self {
        match Self::ONLY {
            Some(only) => only,
            None => self,
        }
    }
}
