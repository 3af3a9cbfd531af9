//! Small models with random weights, for tests that need a whole file.
#![allow(dead_code)] // each test takes what it needs

use std::io::Cursor;

use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, pack_matrix, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling};

/// A deterministic stream of numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in −1 to 1.
    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A model's weights in f32, in the file's order, and the file.
pub struct TestModel {
    pub config: Config,
    pub tensors: Vec<(u32, Role, Vec<f32>)>,
    pub file: AlignedBytes,
}

impl TestModel {
    pub fn tensor(&self, layer: usize, role: Role) -> Option<&[f32]> {
        let found = self.tensors.iter().find(|(l, r, _)| *l as usize == layer && *r == role);
        found.map(|(_, _, values)| values.as_slice())
    }
}

/// Bytes that begin at a multiple of 64.
#[derive(Clone)]
pub struct AlignedBytes(Vec<u8>, usize);

impl AlignedBytes {
    pub fn new(bytes: &[u8]) -> Self {
        let mut all = vec![0; bytes.len() + 64];
        let skip = all.as_ptr().align_offset(64);
        all[skip..skip + bytes.len()].copy_from_slice(bytes);
        all.truncate(skip + bytes.len());
        Self(all, skip)
    }
}

impl AsMut<[u8]> for AlignedBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0[self.1..]
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

pub fn llama(dim: u32, n_layers: u32, heads: (u32, u32, u32), ffn_dim: u32, vocab_size: u32) -> Config {
    let (n_heads, n_kv_heads, head_dim) = heads;
    let architecture = Architecture::Llama;
    let (context_len, norm_eps) = (64, 1e-5);
    Config {
        architecture,
        n_layers,
        dim,
        n_heads,
        n_kv_heads,
        head_dim,
        ffn_dim,
        vocab_size,
        context_len,
        norm_eps,
    }
}

pub fn gpt2(dim: u32, n_layers: u32, n_heads: u32, vocab_size: u32) -> Config {
    let head_dim = dim / n_heads;
    Config {
        architecture: Architecture::Gpt2,
        ..llama(dim, n_layers, (n_heads, n_heads, head_dim), 4 * dim, vocab_size)
    }
}

/// A model with every tensor that its architecture may have (`full`) or must have.
pub fn model(config: Config, dtype: DType, full: bool, seed: u64) -> TestModel {
    let mut random = Random(seed);
    let mut plan_tensors = Vec::new();
    let mut tensors = Vec::new();
    for role in (0..64).filter_map(Role::from_u8) {
        let take = match role.need(config.architecture) {
            Need::Must => true,
            Need::May => full,
            Need::MustNot => false,
        };
        if !take {
            continue;
        }
        for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
            let (rows, cols) = role.shape(&config);
            let spread = if role == Role::Embedding { 1.0 } else { 1.7 / (cols as f32).sqrt() };
            let values = (0..rows * cols).map(|i| match role {
                Role::RopeFrequencies => 10_000_f32.powf(-(i as f32) * 2.0 / config.head_dim as f32),
                role if role.is_vector() && role.name().ends_with("norm") => 1.0 + 0.3 * random.signed(),
                role if role.is_vector() => 0.3 * random.signed(),
                _ => spread * random.signed(),
            });
            tensors.push((layer, role, values.collect::<Vec<f32>>()));
            let dtype = if role.is_vector() { DType::F32 } else { dtype };
            plan_tensors.push(TensorPlan { layer, role, dtype });
        }
    }
    let meta = Meta {
        name: "test",
        source: "random weights",
        writer: "tests",
        chat_template: "",
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        extra: "",
    };
    let kv_type = if dtype.is_quantized() { KvType::Q8 } else { KvType::F32 };
    let plan = ModelPlan { config, kv_type, meta, tokenizer: None, tensors: plan_tensors };
    let mut sink = Cursor::new(Vec::new());
    let written = write_model(&mut sink, &plan, |tensor, out| {
        let values = tensors.iter().find(|(l, r, _)| *l == tensor.layer && *r == tensor.role).unwrap();
        let (rows, cols) = tensor.role.shape(&config);
        pack_matrix(tensor.dtype, rows, cols, &values.2, None, out);
        Ok::<(), WriteError>(())
    });
    let file = sink.into_inner();
    assert_eq!(written.unwrap(), file.len() as u64);
    TestModel { config, tensors, file: AlignedBytes::new(&file) }
}
