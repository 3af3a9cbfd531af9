//! What the end-to-end tests share: small models with random weights, the real one that others
//! have published, and runs of the program.
#![allow(dead_code)] // each test takes what it needs

use std::io::Cursor;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, pack_matrix, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling};
use smidgen_runtime::tokenizer::{
    Added, Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

/// Ids of the tiny tokenizer's tokens that are more than a byte.
pub const THE: u32 = 257;
pub const BEGIN: u32 = 258;
pub const END: u32 = 259;

/// Small enough that a file is written in milliseconds, and with what larger models have: shared
/// key heads (Llama), widths that divide by nothing convenient, blocks of 256 that end early.
pub fn tiny_config(architecture: Architecture) -> Config {
    let llama = Config {
        architecture,
        n_layers: 2,
        dim: 60,
        n_heads: 6,
        n_kv_heads: 3,
        head_dim: 10,
        ffn_dim: 300,
        vocab_size: 260,
        context_len: 64,
        norm_eps: 1e-5,
    };
    match architecture {
        Architecture::Gpt2 => Config { n_kv_heads: 6, ffn_dim: 240, ..llama },
        _ => llama,
    }
}

/// A model file of [`tiny_config`].
pub fn tiny_model(architecture: Architecture, dtype: DType, seed: u64) -> Vec<u8> {
    random_model(tiny_config(architecture), dtype, seed)
}

/// A model file with random weights, every tensor that the architecture allows, and a tokenizer of
/// bytes: `th`, [`THE`], [`BEGIN`] and [`END`] (`<s>`, `</s>`) besides.
pub fn random_model(config: Config, dtype: DType, seed: u64) -> Vec<u8> {
    let architecture = config.architecture;
    let tokenizer = tiny_tokenizer();
    let mut tensors = Vec::new();
    for role in (0..64).filter_map(Role::from_u8) {
        let layers = match role.need(architecture) {
            Need::MustNot => 0,
            _ if role.is_per_layer() => config.n_layers,
            _ => 1,
        };
        let dtype = if role.is_vector() { DType::F32 } else { dtype };
        tensors.extend((0..layers).map(|layer| TensorPlan { layer, role, dtype }));
    }
    let plan = ModelPlan {
        config,
        kv_type: if dtype.is_quantized() { KvType::Q8 } else { KvType::F32 },
        meta: Meta {
            name: "tiny",
            source: "random weights",
            writer: "tests",
            chat_template: "",
            rope_theta: if architecture == Architecture::Llama { 10_000.0 } else { 0.0 },
            rope_scaling: RopeScaling::None,
            extra: "",
        },
        tokenizer: Some(tokenizer.data()),
        tensors,
    };
    let mut random = Random(seed);
    let mut sink = Cursor::new(Vec::new());
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
fn weights(config: &Config, role: Role, rows: usize, cols: usize, random: &mut Random) -> Vec<f32> {
    let spread = match role {
        Role::Embedding => 1.0,
        role if role.is_vector() => 0.3,
        _ => 1.7 / (cols as f32).sqrt(),
    };
    let centre = if role.is_vector() && role.name().ends_with("norm") { 1.0 } else { 0.0 };
    (0..rows * cols)
        .map(|i| match role {
            Role::RopeFrequencies => 10_000_f32.powf(-2.0 * i as f32 / config.head_dim as f32),
            _ => centre + spread * random.signed(),
        })
        .collect()
}

fn tiny_tokenizer() -> OwnedTokenizer {
    let token = |bytes: &[u8], token_type| TokenSpec { bytes: bytes.to_vec(), token_type, score: 0.0 };
    let mut tokens: Vec<TokenSpec> = (0..=255).map(|byte| token(&[byte], TokenType::Normal)).collect();
    tokens.push(token(b"th", TokenType::Normal));
    tokens.push(token(b"the", TokenType::Normal));
    tokens.push(token(b"<s>", TokenType::Control));
    tokens.push(token(b"</s>", TokenType::Control));
    let spec = TokenizerSpec {
        kind: TokenizerKind::ByteLevelBpe,
        pre_tokenizer: PreTokenizer::Gpt2,
        normalizer: Normalizer::None,
        add_bos: true,
        add_space_prefix: false,
        ignore_merges: false,
        tokens,
        merges: vec![(u32::from(b't'), u32::from(b'h')), (256, u32::from(b'e'))],
        bos: Some(BEGIN),
        unknown: None,
        end_tokens: vec![END],
        added: [BEGIN, END].map(Added::new).to_vec(),
    };
    OwnedTokenizer::build(&spec).expect("the tables fit together")
}

/// A deterministic stream of numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
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
}

/// Bytes that begin at a multiple of 64, as the runtime wants a file's.
pub struct Aligned {
    bytes: Vec<u8>,
    begin: usize,
}

impl Aligned {
    pub fn new(file: &[u8]) -> Self {
        let mut bytes = vec![0; file.len() + 64];
        let begin = bytes.as_ptr().align_offset(64);
        bytes[begin..begin + file.len()].copy_from_slice(file);
        bytes.truncate(begin + file.len());
        Self { bytes, begin }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

/// A published file that tests compare with, if it is there; else says loudly that it is not.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// The program with these arguments, in this directory.
pub fn smidgen(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smidgen"));
    command.current_dir(directory).args(arguments).output().expect("the program starts")
}

/// The program's stdout; it must have ended well.
#[track_caller]
pub fn stdout(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = smidgen(directory, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    output.stdout
}

/// The program must fail with this exit code and a message that has all of these in it.
#[track_caller]
pub fn fails(directory: &Path, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = smidgen(directory, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{arguments:?}: no {part:?} in: {stderr}");
    }
}
