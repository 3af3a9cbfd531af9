//! Small checkpoints with random weights, for tests.

use smidgen_runtime::format::{Need, Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use crate::{Checkpoint, TensorSource};

/// A deterministic stream of numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Roughly normal, variance 1.
    pub(crate) fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum();
        sum - 6.0
    }
}

/// Sizes that divide by nothing convenient.
pub(crate) fn llama() -> Config {
    Config {
        architecture: Architecture::Llama,
        n_layers: 2,
        dim: 12,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 6,
        ffn_dim: 35,
        vocab_size: 20,
        context_len: 16,
        norm_eps: 1e-5,
    }
}

pub(crate) fn gpt2() -> Config {
    Config { architecture: Architecture::Gpt2, n_kv_heads: 4, head_dim: 3, ..llama() }
}

/// A checkpoint with what its architecture must have, and `extra`.
pub(crate) fn random(config: Config, extra: &[Role], seed: u64) -> Checkpoint {
    let mut random = Random(seed);
    let theta = if config.architecture == Architecture::Llama { 10_000.0 } else { 0.0 };
    let mut checkpoint = Checkpoint::new(config, theta, RopeScaling::None);
    checkpoint.name = "test".into();
    for role in (0..64).filter_map(Role::from_u8) {
        let must = role.need(config.architecture) == Need::Must && role != Role::RopeFrequencies;
        if !must && !extra.contains(&role) {
            continue;
        }
        for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
            let (rows, cols) = role.shape(&config);
            // Large enough that attention prefers some positions clearly.
            let scale = if role.is_vector() { 0.1 } else { 1.5 / (cols as f32).sqrt() };
            let middle = if role.name().ends_with("norm") { 1.0 } else { 0.0 };
            let values = (0..rows * cols).map(|_| middle + random.normal() * scale).collect();
            checkpoint.tensors.insert((layer, role), TensorSource::owned(rows, cols, values));
        }
    }
    checkpoint
}
