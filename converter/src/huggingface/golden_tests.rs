//! What `transformers` computes from our directories, and we from our files: the same.

use std::path::Path;

use smidgen_runtime::format::{DType, Role, RopeScaling};
use smidgen_runtime::{Architecture, Config, Session, SessionOptions};

use super::write_directory;
use crate::test_models::{gpt2, llama, random};
use crate::{Checkpoint, ConvertOptions, ModelFile, TensorSource, TokenizerChoice};

const QKV: [Role; 3] = [Role::QBias, Role::KBias, Role::VBias];

/// Logits behind the twelfth token, from `tools/transformers_golden.py` with transformers 5.23 and
/// PyTorch 2.15.
const GOLDEN: [(&str, [f32; 8]); 8] = [
    ("llama", [-0.40095, -2.50402, -0.46651, 0.18489, 0.22934, 0.10061, -0.16018, 0.16041]),
    ("llama3_tied", [0.56114, 1.93459, -1.85173, -2.42921, 0.09857, -1.35532, -1.41989, 0.05603]),
    ("llama_biased", [-1.04214, -0.61348, 0.70082, 1.77757, 0.45838, 2.62554, -0.42622, 1.93616]),
    ("qwen2", [2.99728, 0.14411, 0.61642, -0.1121, 2.08623, 3.80367, -2.71467, -2.1174]),
    ("qwen2_square", [1.69234, -1.40304, -1.63295, 1.05147, 0.45953, -3.50959, -1.18527, -1.24989]),
    ("qwen3", [-2.15753, 0.75349, -0.66266, -1.17463, -0.78023, 1.33013, 2.25558, 1.39581]),
    ("gpt2", [-0.62372, 1.36566, 0.31343, 1.15115, 0.36485, -0.87566, -0.0725, -0.2194]),
    ("gpt2_bare", [0.63867, 0.70967, -0.94913, -1.92273, 0.65651, -4.06371, 1.12746, 2.36942]),
];

/// Models that differ in everything that a directory can say.
fn models() -> Vec<(&'static str, Checkpoint)> {
    let llama3 =
        RopeScaling::Llama3 { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8 };
    let rotary = |name, extra: &[Role], theta, scaling, seed| {
        let mut checkpoint = random(llama(), extra, seed);
        (checkpoint.rope_theta, checkpoint.rope_scaling) = (theta, scaling);
        let frequencies = crate::frequencies(theta, scaling, 6);
        checkpoint.tensors.insert((0, Role::RopeFrequencies), TensorSource::owned(1, 3, frequencies));
        (name, checkpoint)
    };
    let biased = [&QKV[..], &[Role::OBias, Role::GateBias, Role::UpBias, Role::DownBias]].concat();
    let gpt2_biases: Vec<Role> = (0..64)
        .filter_map(Role::from_u8)
        .filter(|role| {
            role.is_vector() && role.need(Architecture::Gpt2) != smidgen_runtime::format::Need::MustNot
        })
        .collect();
    vec![
        rotary("llama", &[Role::Head], 10_000.0, RopeScaling::None, 50),
        rotary("llama3_tied", &[], 500.0, llama3, 51),
        rotary("llama_biased", &biased, 100.0, RopeScaling::Linear { factor: 2.5 }, 52),
        rotary("qwen2", &QKV, 1000.0, RopeScaling::None, 53),
        ("qwen2_square", random(Config { n_heads: 2, ..llama() }, &QKV, 57)),
        rotary("qwen3", &[Role::QNorm, Role::KNorm, Role::Head], 1e6, RopeScaling::None, 54),
        ("gpt2", random(gpt2(), &gpt2_biases, 55)),
        ("gpt2_bare", random(Config { ffn_dim: 48, ..gpt2() }, &[Role::Head], 56)),
    ]
}

#[test]
#[ignore = "writes the directories that tools/transformers_golden.py reads"]
fn write_models_for_transformers() {
    let directory = std::env::var("SMIDGEN_GOLDEN_DIR").expect("SMIDGEN_GOLDEN_DIR says where to");
    for (name, checkpoint) in models() {
        write_directory(&Path::new(&directory).join(name), &checkpoint).unwrap();
    }
}

#[test]
fn logits_are_those_of_transformers() {
    let directory = tempfile::tempdir().unwrap();
    let models = models();
    assert_eq!(models.len(), GOLDEN.len());
    for ((name, checkpoint), golden) in models.into_iter().zip(GOLDEN) {
        assert_eq!(name, golden.0);
        // By the way of everybody's checkpoints: a directory, read again.
        let written = directory.path().join(name);
        write_directory(&written, &checkpoint).unwrap();
        let read = super::open(&written, &TokenizerChoice::Found).unwrap();
        let path = directory.path().join("model.smidgen");
        crate::convert(&read, &path, &ConvertOptions::new(DType::F32), |_| ()).unwrap();
        let file = ModelFile::open(&path).unwrap();
        let model = file.load().unwrap();
        let mut memory = vec![0; 1 << 18];
        let mut session = Session::new(&model, &mut memory, SessionOptions::new(16)).unwrap();
        let tokens: Vec<u32> = (0..12).map(|i| (7 * i + 3) % 20).collect();
        session.feed(&tokens).unwrap();
        for (i, (ours, theirs)) in session.logits().iter().zip(golden.1).enumerate() {
            assert!((ours - theirs).abs() < 2e-5, "{name}: logit {i} is {ours}, transformers says {theirs}");
        }
    }
}
