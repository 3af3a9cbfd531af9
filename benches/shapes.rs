//! The models that peers are measured with, in random weights.

use std::io::Cursor;

use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling, TensorSize};
use smidgen_runtime::{Memory, Model};

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

/// A file in memory that begins at a multiple of 64.
pub struct File(Vec<Memory<64>>, usize);

impl std::ops::Deref for File {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `Memory<64>` is 64 bytes without padding, so the vector's are contiguous.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.1) }
    }
}

/// Every tensor that the architecture must have (and GPT-2's biases), filled with noise.
pub fn random_model(shape: &Shape, dtype: DType) -> File {
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
    let mut state = 1_u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut sink = Cursor::new(Vec::new());
    write_model(&mut sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(&config);
        let size = TensorSize::new(tensor.dtype, rows, cols).expect("it fits");
        match tensor.dtype {
            DType::Q8 | DType::Q4 => {
                while out.len() < size.scales_at {
                    out.extend(noise().to_le_bytes());
                }
                out.truncate(size.scales_at);
                // bf16 of about 1e-6: multipliers and quants are in the hundreds.
                out.extend([0x86_u8, 0x35].repeat(size.scales_len / 2));
            }
            DType::F16 => {
                (0..rows * cols).for_each(|_| out.extend(((noise() & 0x83FF) as u16 | 0x2800).to_le_bytes()))
            }
            _ => (0..rows * cols).for_each(|_| out.extend(((noise() >> 40) as f32 * 1e-8).to_le_bytes())),
        }
        Ok::<(), WriteError>(())
    })
    .expect("memory does not fail");
    let bytes = sink.into_inner();
    let mut file = vec![Memory::<64>::new(); bytes.len().div_ceil(64)];
    for (part, bytes) in file.iter_mut().zip(bytes.chunks(64)) {
        part.as_mut()[..bytes.len()].copy_from_slice(bytes);
    }
    File(file, bytes.len())
}
