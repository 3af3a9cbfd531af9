//! The models that peers are measured with, in random weights.

use std::io::Cursor;

use smidgen_runtime::Model;
use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling, TensorSize};

use crate::noise::{Bytes, Noise};

pub struct Shape {
    pub name: &'static str,
    pub architecture: Architecture,
    /// dim, ffn, layers, heads, key heads, vocabulary, context.
    pub numbers: [u32; 7],
}

pub const SHAPES: [Shape; 4] = [
    Shape { name: "260k", architecture: Architecture::Llama, numbers: [64, 172, 5, 8, 4, 512, 512] },
    Shape { name: "15m", architecture: Architecture::Llama, numbers: [288, 768, 6, 6, 6, 32000, 256] },
    Shape { name: "110m", architecture: Architecture::Llama, numbers: [768, 2048, 12, 12, 12, 32000, 1024] },
    Shape { name: "gpt2", architecture: Architecture::Gpt2, numbers: [768, 3072, 12, 12, 12, 50257, 1024] },
];

impl Shape {
    /// Bytes of weights that one decoded token reads.
    pub fn bytes_per_token(&self, model: &Model<'_>) -> f64 {
        let sizes = model.tensors().filter(|(_, role, _)| *role != Role::PositionEmbedding);
        let sizes = sizes.filter_map(|(_, _, m)| TensorSize::new(m.dtype(), m.rows, m.cols));
        sizes.map(|size| size.total as f64).sum()
    }

    /// Multiply-accumulates with weights that a token of a prompt takes: all but the head's.
    pub fn macs_per_prompt_token(&self, model: &Model<'_>) -> f64 {
        let matrices = model.tensors().filter(|(_, role, _)| role.is_per_layer() && !role.is_vector());
        matrices.map(|(_, _, m)| (m.rows * m.cols) as f64).sum()
    }
}

/// Every tensor that the architecture must have (and GPT-2's biases), filled with noise.
pub fn random_model(shape: &Shape, dtype: DType) -> Bytes {
    let [dim, ffn_dim, n_layers, n_heads, n_kv_heads, vocab_size, context_len] = shape.numbers;
    let (head_dim, norm_eps) = (dim / n_heads, 1e-5);
    let architecture = shape.architecture;
    let config = Config {
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
    };
    let mut tensors = Vec::new();
    for role in (0..64).filter_map(Role::from_u8) {
        let gpt2_bias = architecture == Architecture::Gpt2 && role.name().ends_with("bias");
        if role.need(architecture) != Need::Must && !(gpt2_bias && role.need(architecture) == Need::May) {
            continue;
        }
        for layer in 0..if role.is_per_layer() { n_layers } else { 1 } {
            let dtype = if role.is_vector() { DType::F32 } else { dtype };
            tensors.push(TensorPlan { layer, role, dtype });
        }
    }
    let meta = Meta {
        name: shape.name,
        source: "noise",
        writer: "bench",
        chat_template: "",
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        extra: "",
    };
    let plan = ModelPlan { config, kv_type: KvType::Q8, meta, tokenizer: None, tensors };
    let mut noise = Noise::new();
    let mut sink = Cursor::new(Vec::new());
    write_model(&mut sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(&config);
        noise.matrix(tensor.dtype, rows, cols, out);
        Ok::<(), WriteError>(())
    })
    .expect("memory does not fail");
    Bytes::new(&sink.into_inner())
}
