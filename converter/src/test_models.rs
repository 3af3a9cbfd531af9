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

/// Damaged copies of a file: bytes changed (mostly in the first `head` of them), numbers made extreme,
/// ends cut off, zeros put behind.
pub(crate) fn damaged(bytes: &[u8], head: usize, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random(bytes.len() as u64);
    let head = head.min(bytes.len()) as u64;
    (0..count).map(move |_| {
        let mut bytes = bytes.to_vec();
        for _ in 0..=random.below(3) {
            let within = if random.below(8) > 0 { head } else { bytes.len() as u64 };
            let at = random.below(within.max(1)) as usize;
            match random.below(6) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.resize(bytes.len() + random.below(100) as usize, 0),
                2 | 3 => {
                    let wild = [0, 1, -1, i64::MAX, i64::MIN, 1 << 31, 1 << 32, 0x7F80_0000, 255]
                        [random.below(9) as usize];
                    let size = 1 << random.below(4);
                    let end = bytes.len().min(at + size);
                    if at < end {
                        bytes[at..end].copy_from_slice(&wild.to_le_bytes()[..end - at]);
                    }
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = random.next() as u8;
                    }
                }
            }
        }
        bytes
    })
}

/// What `open` makes of damaged copies of a file: an error or a checkpoint that can be read, never a
/// panic. Returns how many of them were still checkpoints.
pub(crate) fn survive_damage(
    name: &str,
    bytes: &[u8],
    head: usize,
    count: usize,
    open: impl Fn(&std::path::Path) -> Result<Checkpoint, crate::Error>,
) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    let mut read = 0;
    for bytes in damaged(bytes, head, count) {
        std::fs::write(&path, bytes).unwrap();
        match open(&path) {
            // A message must say something, and must be shown in one go.
            Err(error) => assert!(error.to_string().len() > 10 && error.to_string().len() < 5000, "{error}"),
            Ok(checkpoint) => {
                let _ = checkpoint.check();
                checkpoint.tensors.values().for_each(|tensor| drop(tensor.read()));
                read += 1;
            }
        }
    }
    read
}

/// A byte-level tokenizer of all bytes, one merge and an end token: 258 tokens.
pub(crate) fn byte_tokenizer() -> smidgen_runtime::tokenizer::TokenizerSpec {
    use smidgen_runtime::tokenizer::{
        Added, Normalizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
    };
    let token = |bytes: &[u8], token_type| TokenSpec { bytes: bytes.to_vec(), token_type, score: 0.0 };
    let mut tokens: Vec<_> = (0..=255).map(|byte| token(&[byte], TokenType::Normal)).collect();
    tokens.push(token(b" t", TokenType::Normal));
    tokens.push(token(b"<|endoftext|>", TokenType::Control));
    TokenizerSpec {
        kind: TokenizerKind::ByteLevelBpe,
        pre_tokenizer: PreTokenizer::Gpt2,
        normalizer: Normalizer::None,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: false,
        tokens,
        merges: vec![(32, 116)],
        bos: Some(257),
        unknown: None,
        end_tokens: vec![257],
        added: vec![Added::new(257)],
    }
}

/// Both are the same model: dimensions, tokenizer and every bit of every tensor.
pub(crate) fn assert_same(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.config, b.config);
    assert_eq!((a.rope_theta, a.rope_scaling), (b.rope_theta, b.rope_scaling));
    assert_eq!(a.tokenizer, b.tokenizer);
    assert_eq!(a.tensors.keys().collect::<Vec<_>>(), b.tensors.keys().collect::<Vec<_>>());
    for (&(layer, role), tensor) in &a.tensors {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let (a, b) = (bits(tensor.read()), bits(b.read(layer, role).unwrap()));
        assert!(a == b, "{} of layer {layer}", role.name());
    }
}
