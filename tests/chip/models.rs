//! Small models with random weights and a byte tokenizer: every kind of arithmetic that a chip may
//! meet, in files small enough to be built into firmware by the handful.

use std::io::Cursor;

use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, pack_matrix, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling};
use smidgen_runtime::tokenizer::{
    Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

/// Grouped-query attention, and widths that divide by nothing convenient.
pub const LLAMA: Config = Config {
    architecture: Architecture::Llama,
    n_layers: 2,
    dim: 60,
    n_heads: 6,
    n_kv_heads: 3,
    head_dim: 10,
    ffn_dim: 300,
    vocab_size: 259,
    context_len: 48,
    norm_eps: 1e-5,
};

/// Biases, learned positions, GELU.
pub const GPT2: Config = Config {
    architecture: Architecture::Gpt2,
    n_layers: 2,
    dim: 64,
    n_heads: 4,
    n_kv_heads: 4,
    head_dim: 16,
    ffn_dim: 256,
    vocab_size: 259,
    context_len: 48,
    norm_eps: 1e-5,
};

/// A file with every tensor that the architecture allows.
pub fn file(config: Config, dtype: DType, kv_type: KvType) -> Vec<u8> {
    file_with(config, dtype, kv_type, TokenizerKind::ByteLevelBpe)
}

/// The same with this kind of tokenizer.
pub fn file_with(config: Config, dtype: DType, kv_type: KvType, kind: TokenizerKind) -> Vec<u8> {
    let mut tensors = Vec::new();
    for role in (0..64).filter_map(Role::from_u8) {
        let layers = match role.need(config.architecture) {
            Need::MustNot => 0,
            _ if role.is_per_layer() => config.n_layers,
            _ => 1,
        };
        let dtype = if role.is_vector() { DType::F32 } else { dtype };
        tensors.extend((0..layers).map(|layer| TensorPlan { layer, role, dtype }));
    }
    let tokenizer = bytes_and_a_few_words(kind);
    let meta = Meta {
        name: "random",
        source: "random weights",
        writer: "tests/chip",
        chat_template: "",
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        extra: "",
    };
    let plan = ModelPlan { config, kv_type, meta, tokenizer: Some(tokenizer.data()), tensors };
    let mut sink = Cursor::new(Vec::new());
    let mut random = 1;
    write_model(&mut sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(&config);
        let values = weights(&config, tensor.role, rows, cols, &mut random);
        pack_matrix(tensor.dtype, rows, cols, &values, None, out);
        Ok::<(), WriteError>(())
    })
    .expect("the plan is a valid model");
    sink.into_inner()
}

/// Numbers of a size that keeps activations in the range that trained models have.
fn weights(config: &Config, role: Role, rows: usize, cols: usize, random: &mut u64) -> Vec<f32> {
    let mut uniform = || {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let spread = if role == Role::Embedding { 1.0 } else { 1.7 / (cols as f32).sqrt() };
    (0..rows * cols)
        .map(|i| match role {
            Role::RopeFrequencies => 10_000_f32.powf(-2.0 * i as f32 / config.head_dim as f32),
            role if role.is_vector() && role.name().ends_with("norm") => 1.0 + 0.3 * uniform(),
            role if role.is_vector() => 0.3 * uniform(),
            _ => spread * uniform(),
        })
        .collect()
}

/// The 256 bytes, two merges so that encoding has something to do, and a begin-of-text token.
fn bytes_and_a_few_words(kind: TokenizerKind) -> OwnedTokenizer {
    let by_merges = kind == TokenizerKind::ByteLevelBpe;
    let token = |bytes: &[u8], token_type| TokenSpec { bytes: bytes.to_vec(), token_type, score: 0.0 };
    let byte_type = if by_merges { TokenType::Normal } else { TokenType::Byte };
    let mut tokens: Vec<TokenSpec> = (0..=255).map(|byte| token(&[byte], byte_type)).collect();
    tokens.push(token(b"th", TokenType::Normal));
    tokens.push(token(b"the", TokenType::Normal));
    tokens.push(token(b"<s>", TokenType::Control));
    let spec = TokenizerSpec {
        kind,
        pre_tokenizer: if by_merges { PreTokenizer::Gpt2 } else { PreTokenizer::None },
        normalizer: Normalizer::None,
        add_bos: true,
        add_space_prefix: false,
        ignore_merges: false,
        tokens,
        merges: if by_merges {
            vec![(u32::from(b't'), u32::from(b'h')), (256, u32::from(b'e'))]
        } else {
            vec![]
        },
        bos: Some(258),
        unknown: None,
        end_tokens: vec![],
        added: vec![],
    };
    OwnedTokenizer::build(&spec).expect("the tables fit together")
}
