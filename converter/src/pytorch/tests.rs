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

/// What `torch.save` wrote before it wrote archives.
fn old() -> Vec<u8> {
    std::fs::read(fixture("parity/gpt2_nanogpt_old.pt")).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.pt");
    std::fs::write(&path, bytes).unwrap();
    let message = open(&path).expect_err("must be refused").to_string();
    assert!(message.contains("old.pt: "), "{message}");
    message
}

#[test]
fn what_is_wrong_with_an_old_file_is_said() {
    let good = old();
    let with = |what: &[u8], bytes: &[u8]| {
        let at = good.windows(what.len()).position(|window| window == what).unwrap();
        [&good[..at], bytes, &good[at + what.len()..]].concat()
    };
    assert!(refused(&with(&[0x6C, 0xFC], &[0x6C, 0xFD])).contains("a pickle that torch.save did not write"));
    // 1001 as BININT2.
    assert!(refused(&with(b"M\xE9\x03", b"M\xEA\x03")).contains("version is Int(1002), only 1001 is read"));
    let swapped = with(b"little_endianq\x02\x88", b"little_endianq\x02\x89");
    assert!(refused(&swapped).contains("its numbers are big-endian"));
    // The end is cut off: the storage that it was in is named, and how much is missing.
    let cut = refused(&good[..good.len() - 1]);
    assert!(
        cut.contains("a storage at byte") && cut.contains(&format!("the file has {}", good.len() - 1)),
        "{cut}"
    );
    // A storage that says it is longer than the tensors in it are.
    let state = with(b"c_attn", b"c_attm");
    assert!(refused(&state).contains("c_attm"), "{}", refused(&state));
}

#[test]
fn damaged_old_files_never_panic() {
    let good = old();
    // The pickles are at the begin.
    let read = survive_damage("old.pt", &good, 12_000, 1500, open);
    assert!((1..1400).contains(&read), "{read}");
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
