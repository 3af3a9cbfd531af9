use std::path::PathBuf;

use super::*;
use crate::test_formats::llmc as export;
use crate::test_models::{random, survive_damage};

fn config() -> Config {
    Config { ffn_dim: 48, ..crate::test_models::gpt2() }
}

fn biased() -> Checkpoint {
    let biases: Vec<Role> = (0..64)
        .filter_map(Role::from_u8)
        .filter(|role| role.is_vector() && role.name().ends_with("bias"))
        .collect();
    let biases: Vec<Role> = biases
        .into_iter()
        .filter(|role| role.need(Architecture::Gpt2) != smidgen_runtime::format::Need::MustNot)
        .collect();
    random(config(), &biases, 21)
}

#[test]
fn both_versions_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gpt2.bin");
    let written = biased();
    for version in [3, 5] {
        std::fs::write(&path, export(&written, version)).unwrap();
        let read = crate::open(&path, &TokenizerChoice::Found).unwrap();
        read.check().unwrap();
        assert_eq!(read.config, written.config);
        assert_eq!(read.tensors.len(), written.tensors.len());
        for (&(layer, role), tensor) in &written.tensors {
            let rounded =
                |value: f32| if version == 3 { value } else { half::bf16::from_f32(value).to_f32() };
            let want: Vec<f32> = tensor.read().into_iter().map(rounded).collect();
            assert_eq!(read.read(layer, role).unwrap(), want, "{role:?} of layer {layer}");
        }
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_panics() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gpt2.bin");
    let good = export(&biased(), 3);
    let open = |path: &Path| crate::open(path, &TokenizerChoice::Found);
    for (word, value, part) in [
        (1, 4, "version 4 is not read"),
        (2, 0, "max_seq_len is 0"),
        (5, 5, "not a multiple of 5 heads"),
        (7, 19, "padded_vocab_size is 19, below vocab_size 20"),
        (4, 3, "context 16 has 30640"),
    ] {
        let mut bytes = good.clone();
        bytes[4 * word..4 * word + 4].copy_from_slice(&u32::to_le_bytes(value));
        std::fs::write(&path, bytes).unwrap();
        let message = open(&path).expect_err(part).to_string();
        assert!(message.contains(part), "{part} in {message}");
    }
    survive_damage("damaged.bin", &good, 32, 1000, open);
}

#[test]
fn the_tokenizers_of_others_are_gpt2s() {
    let shared = |name: &str| {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
        path.exists().then_some(path)
    };
    let (Some(v1), Some(v2), Some(json)) = (
        shared("llmc/gpt2_tokenizer_azret.bin"),
        shared("llmc/gpt2_tokenizer_poro.bin"),
        shared("tok/gpt2/tokenizer.json"),
    ) else {
        eprintln!("SKIPPED: llm.c's tokenizers are not there");
        return;
    };
    let json = crate::tokenizer::huggingface::read_file(&json).unwrap();
    for path in [v1, v2] {
        let spec = crate::tokenizer::open(&path).unwrap();
        assert_eq!(spec.tokens.len(), 50_257);
        assert_eq!(spec.end_tokens, [50_256]);
        assert!(spec.tokens.iter().zip(&json.tokens).all(|(a, b)| a.bytes == b.bytes));
        // The file has no merges: found again, they are all of GPT-2's, in order.
        assert!(spec.merges == json.merges);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 3, 15, 1023, 1024, 5000, bytes.len() - 1] {
            assert!(ranks::parse_llmc(&bytes[..cut], &path).is_err(), "{cut}");
        }
        // Byte, new word, and what is said about it.
        for (at, word, wanted) in [
            (0, 7u32, "magic: is 7"),
            (4, 3, "version: is 3"),
            (8, 256, "vocab_size: is 256, must be 257 to"),
            (8, u32::MAX, "vocab_size: is 4294967295"),
            (8, 50_256, "eot_token: is 50256, not below vocab_size 50256"),
            (8, 50_258, "token 50257 of 50258"),
        ] {
            let mut wrong = bytes.clone();
            wrong[at..at + 4].copy_from_slice(&word.to_le_bytes());
            let error = ranks::parse_llmc(&wrong, &path).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let more = ranks::parse_llmc(&[&bytes[..], b"x"].concat(), &path).unwrap_err().to_string();
        assert!(more.contains("1 bytes behind its last token"), "{more}");
    }
}
