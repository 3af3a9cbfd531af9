//! Files that PyTorch wrote (`tools/torch_fixtures.py`), those of others, and damaged ones.

use std::path::{Path, PathBuf};

use smidgen_runtime::format::Role;

use crate::test_models::{assert_same, survive_damage};
use crate::{Checkpoint, TokenizerChoice};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn open(path: &Path) -> Result<Checkpoint, crate::Error> {
    crate::open(path, &TokenizerChoice::Found)
}

/// Number `i` of the tensor of this name.
fn number(name: &str, i: usize) -> f32 {
    ((31 * i + name.len()) % 64) as f32 / 64.0 - 0.5
}

#[test]
fn a_nanogpt_checkpoint_is_read() {
    let checkpoint = open(&fixture("nanogpt.pt")).unwrap();
    checkpoint.check().unwrap();
    assert!(!checkpoint.has(Role::Head), "the head is the embedding");
    let config = checkpoint.config;
    assert_eq!(
        (config.dim, config.n_heads, config.ffn_dim, config.context_len, config.vocab_size),
        (8, 2, 32, 6, 20)
    );
    let name = "transformer.h.0.attn.c_attn.weight";
    let k = checkpoint.read(0, Role::K).unwrap();
    assert!((0..64).all(|i| k[i] == number(name, 64 + i)), "{k:?}");
    let bias = checkpoint.read(0, Role::VBias).unwrap();
    assert!((0..8).all(|i| bias[i] == number("transformer.h.0.attn.c_attn.bias", 16 + i)), "{bias:?}");
    // nn.Linear is [out, in] already.
    let up = checkpoint.read(0, Role::Up).unwrap();
    assert!((0..256).all(|i| up[i] == number("transformer.h.0.mlp.c_fc.weight", i)), "{up:?}");
}

#[test]
fn pickled_shards_are_read_as_safetensors_are() {
    let pickled = open(&fixture("pickled")).unwrap();
    pickled.check().unwrap();
    assert_eq!(pickled.tensors[&(0, Role::Embedding)].stored_type(), "bf16");
    let o = pickled.read(0, Role::O).unwrap();
    assert!(
        (0..64).all(|i| o[i] == number("transformer.h.0.attn.c_proj.weight", i % 8 * 8 + i / 8)),
        "{o:?}"
    );
    // The same model by way of safetensors.
    let directory = tempfile::tempdir().unwrap();
    crate::huggingface::write_directory(directory.path(), &pickled).unwrap();
    assert_same(&pickled, &open(directory.path()).unwrap());
}

#[test]
fn no_code_is_run() {
    let message = open(&fixture("code.pt")).expect_err("must be refused").to_string();
    assert!(message.contains("the pickle names `posix.system`"), "{message}");
    assert!(!Path::new("/tmp/smidgen-was-here").exists());
}

#[test]
fn damaged_files_never_panic() {
    let bytes = std::fs::read(fixture("nanogpt.pt")).unwrap();
    // The pickle is at the begin, the directory at the end: damage both.
    survive_damage("damaged.pt", &bytes, 2500, 1500, open);
    let tail = bytes.len() - 2500;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.pt");
    for (i, damaged) in crate::test_models::damaged(&bytes[tail..], 2500, 1500).enumerate() {
        std::fs::write(&path, [&bytes[..tail], &damaged].concat()).unwrap();
        if let Ok(checkpoint) = open(&path) {
            checkpoint.tensors.values().for_each(|tensor| assert!(!tensor.read().is_empty(), "{i}"));
        }
    }
}

#[test]
fn checkpoints_of_forks_are_read_or_refused_by_name() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/nanogpt");
    if !shared.exists() {
        eprintln!("SKIPPED: {} is not there", shared.display());
        return;
    }
    let checkpoint = open(&shared.join("gpt_by_hand_ckpt0.pt")).unwrap();
    checkpoint.check().unwrap();
    assert_eq!(
        (checkpoint.config.n_layers, checkpoint.config.dim, checkpoint.config.vocab_size),
        (2, 16, 32)
    );
    let message = open(&shared.join("small-gpt_ckpt.pt")).expect_err("it has three matrices").to_string();
    assert!(message.contains("tensor `transformer.h.0.ffd.w1.weight` has no place"), "{message}");
}
