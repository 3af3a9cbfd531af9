//! How to tell the next story.

use smidgen_runtime::SamplerOptions;

/// What commands change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Where the random numbers begin. One more after each story, so that the next is another.
    pub seed: u64,
    /// How many tokens at most.
    pub tokens: usize,
}

impl Default for Settings {
    /// What `smidgen generate` does unless told.
    fn default() -> Self {
        Self { sampler: SamplerOptions::default(), seed: 42, tokens: 256 }
    }
}
