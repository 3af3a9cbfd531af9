use std::fs;
use std::path::PathBuf;

use smidgen_runtime::format::DType;

use super::*;
use crate::test_formats::llama2c as export;
use crate::test_models::{Random, llama, random};

const CHOICE: TokenizerChoice = TokenizerChoice::Found;

/// llama2.c has no head width of its own.
fn config() -> Config {
    Config { head_dim: 6, n_heads: 4, dim: 24, ..llama() }
}

fn open_bytes(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.bin");
    fs::write(&path, bytes).unwrap();
    open(&path, &CHOICE)
}

fn refused(bytes: &[u8]) -> String {
    open_bytes(bytes).expect_err("must be refused").to_string()
}

#[test]
fn every_version_is_read_to_the_bit() {
    for version in [0, 1] {
        for extra in [&[][..], &[Role::Head]] {
            let checkpoint = random(config(), extra, 11);
            let read = open_bytes(&export(&checkpoint, version)).unwrap();
            assert_eq!(read.config, checkpoint.config);
            assert_eq!(
                read.tensors.keys().collect::<Vec<_>>(),
                checkpoint.tensors.keys().collect::<Vec<_>>()
            );
            for (&(layer, role), tensor) in &checkpoint.tensors {
                assert_eq!(
                    read.read(layer, role).unwrap(),
                    tensor.read(),
                    "version {version}: {}",
                    role.name()
                );
            }
        }
    }
}

#[test]
fn headers_that_do_not_fit_the_file_are_refused_with_the_numbers() {
    let good = export(&random(config(), &[], 12), 0);
    assert!(refused(&good[..20]).contains("has 20 bytes, a llama2.c header has 28"));
    let message = refused(&good[..good.len() - 1]);
    assert!(message.contains(&format!("has {} bytes", good.len() - 1)), "{message}");
    assert!(message.contains(&format!("has {}", good.len())), "{message}");
    assert!(refused(&[&good[..], &[0]].concat()).contains("shared head has"));
    let with = |field: usize, value: i32| {
        let mut bytes = good.clone();
        bytes[4 * field..4 * field + 4].copy_from_slice(&value.to_le_bytes());
        refused(&bytes)
    };
    assert!(with(0, 0).contains("dim is 0, must be 1 to 1048576"));
    assert!(
        with(0, 24_i32.swap_bytes())
            .contains("with its bytes swapped it is 24: was the file written big-endian?")
    );
    assert!(with(1, -35).contains("hidden_dim is -35"));
    assert!(with(2, i32::MAX).contains("n_layers is 2147483647"));
    assert!(with(3, 5).contains("dim is 24, not a multiple of 5 heads"));
    assert!(with(3, 24).contains("head_dim is 1, must be a multiple of 2"));
    assert!(with(4, 3).contains("n_heads is 4, must be a multiple of 3"));
    assert!(with(4, 5).contains("n_kv_heads is 5, must be 1 to 4"));
    assert!(with(5, i32::MIN).contains("vocab_size is -2147483648"));
    assert!(with(6, 1 << 20).contains("context 1048576"));
    // The largest that the header can say must not overflow on the way to the comparison.
    let largest = [1 << 20, 1 << 20, 1 << 10, 1 << 12, 1 << 12, -(1 << 20), 1 << 20];
    let bytes: Vec<u8> = largest.iter().flat_map(|value: &i32| value.to_le_bytes()).collect();
    let floats: u128 = (7 << 50) + (2 << 40) + (256 << 20) + (2049 << 20);
    assert!(refused(&bytes).ends_with(&format!("own head has {}", 4 * floats + 28)), "{}", refused(&bytes));
}

#[test]
fn headers_with_a_magic_number_are_checked_too() {
    let good = export(&random(config(), &[], 13), 1);
    let mut other_order = good.clone();
    other_order[..4].reverse();
    open_bytes(&other_order).unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        refused(&bytes)
    };
    assert!(with(4, 3).contains("version 3 is not known"));
    assert!(with(36, 0).contains("own head has"));
    // Version 2 has a group size; here it would be 0.
    assert!(with(4, 2).contains("group size is 0, must be 1 to 1048576"));
    assert!(refused(&good[..100]).contains("has 100 bytes, a llama2.c header has 256"));
}

/// Random bytes for headers: none may panic or be taken for a model.
#[test]
fn noise_is_no_model() {
    let mut random = Random(14);
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..300).map(|_| random.next() as u8).collect();
        // Small numbers get further than large ones.
        for field in 0..8 {
            if random.below(4) > 0 {
                let small = random.below(70) as u32;
                bytes[4 * field..4 * field + 4].copy_from_slice(&small.to_le_bytes());
            }
        }
        if random.below(2) == 0 {
            bytes[..4].copy_from_slice(b"24ka");
            bytes[4..8].copy_from_slice(&(random.below(4) as u32).to_le_bytes());
        }
        refused(&bytes);
    }
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/llama2c").join(name);
    let there = path.exists();
    if !there {
        eprintln!("SKIPPED: {} is not there", path.display());
    }
    there.then_some(path)
}

#[test]
fn stories260k_is_one_model_in_all_versions() {
    let Some(path) = shared("stories260K.bin") else { return };
    let first = open(&path, &TokenizerChoice::From(path.with_file_name("tok512.bin"))).unwrap();
    assert_eq!(first.tokenizer.as_ref().unwrap().tokens.len(), 512);
    assert_eq!(first.parameters(), 260_032);
    let Config { dim, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, .. } = first.config;
    assert_eq!((dim, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim), (64, 5, 8, 4, 8, 172));
    // The tokenizer beside it has 32,000 tokens: another model's.
    let alone = open(&path, &CHOICE).unwrap();
    assert!(alone.tokenizer.is_none() && alone.notes.len() == 1, "{:?}", alone.notes);
    let wrong = open(&path, &TokenizerChoice::From(path.with_file_name("tokenizer.bin")));
    assert!(wrong.unwrap_err().to_string().contains("tokenizer.bin"));
    // The other files hold the same weights, in other order and, the last, quantized.
    for (name, allowed) in
        [("stories260K_v1.bin", 0.0), ("stories260K_v1_b.bin", 0.0), ("stories260K_q8.bin", 0.01)]
    {
        let other = open(&path.with_file_name(name), &TokenizerChoice::None).unwrap();
        assert_eq!(other.config, first.config);
        for (&(layer, role), tensor) in &first.tensors {
            let values = tensor.read();
            let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (a, b) in values.into_iter().zip(other.read(layer, role).unwrap()) {
                assert!((a - b).abs() <= allowed * largest, "{name}: {} {a} {b}", role.name());
            }
        }
    }
}

#[test]
fn stories260k_converts_and_tells_its_story_well() {
    let Some(path) = shared("stories260K.bin") else { return };
    let Some(text) = shared("../text/yuninxia_tinystories_val.txt") else { return };
    let text = fs::read_to_string(text).unwrap();
    let text: String = text.chars().take(20_000).collect();
    let choice = TokenizerChoice::From(path.with_file_name("tok512.bin"));
    let checkpoint = open(&path, &choice).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let loss = |dtype| {
        let out = directory.path().join("model.smidgen");
        crate::convert(&checkpoint, &out, &crate::ConvertOptions::new(dtype), |_| ()).unwrap();
        let file = crate::ModelFile::open(&out).unwrap();
        let model = file.load().unwrap();
        crate::quality::evaluate(&model, &text, Default::default(), |_| ()).unwrap()
    };
    let exact = loss(DType::F32);
    // Its author reports 1.297 on TinyStories' validation set.
    assert!((1.1..1.5).contains(&exact.nats_per_token), "{exact:?}");
    let q8 = loss(DType::Q8);
    assert!((q8.nats_per_token - exact.nats_per_token).abs() < 0.01, "{q8:?}");
    let q4 = loss(DType::Q4);
    assert!((q4.nats_per_token - exact.nats_per_token).abs() < 0.3, "{q4:?}");
    assert!(q4.nats_per_token > exact.nats_per_token);
    eprintln!(
        "nats a token: f32 {}, q8 {}, q4 {}",
        exact.nats_per_token, q8.nats_per_token, q4.nats_per_token
    );
}
