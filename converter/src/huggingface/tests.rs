//! Directories written and read back, damaged ones, and those that others wrote.

use std::fs;
use std::path::{Path, PathBuf};

use smidgen_runtime::format::{Need, Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use super::*;
use crate::test_models::{Random, gpt2, llama, random};
use crate::{Checkpoint, TensorSource, TokenizerChoice};

fn open(directory: &Path) -> Result<Checkpoint, crate::Error> {
    super::open(directory, &TokenizerChoice::Found)
}

fn refused(directory: &Path) -> String {
    open(directory).expect_err("must be refused").to_string()
}

fn write(directory: &Path, checkpoint: &Checkpoint) {
    write_directory(directory, checkpoint).unwrap();
}

/// Both have the same tensors with the same bits.
fn assert_same_tensors(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.tensors.keys().collect::<Vec<_>>(), b.tensors.keys().collect::<Vec<_>>());
    for (&(layer, role), tensor) in &a.tensors {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(
            bits(tensor.read()),
            bits(b.read(layer, role).unwrap()),
            "{} of layer {layer}",
            role.name()
        );
    }
}

const BIASES: [Role; 4] = [Role::QBias, Role::KBias, Role::VBias, Role::OBias];
const FFN_BIASES: [Role; 3] = [Role::GateBias, Role::UpBias, Role::DownBias];

#[test]
fn what_is_written_is_read_back_to_the_bit() {
    let variants: [&[Role]; 7] = [
        &[],
        &[Role::Head],
        &BIASES[..3],
        &BIASES,
        &FFN_BIASES,
        &[Role::QNorm, Role::KNorm, Role::Head],
        &[Role::QBias, Role::KBias, Role::VBias, Role::OBias, Role::QNorm, Role::KNorm],
    ];
    for (seed, extra) in variants.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let mut written = random(llama(), extra, seed as u64);
        written.rope_theta = 12_345.5;
        written.rope_scaling = RopeScaling::Linear { factor: 1.5 };
        let frequencies = crate::frequencies(12_345.5, written.rope_scaling, 6);
        written.tensors.insert((0, Role::RopeFrequencies), TensorSource::owned(1, 3, frequencies));
        written.chat_template = "{{ messages }}".into();
        write(directory.path(), &written);
        let read = open(directory.path()).unwrap();
        assert_eq!(read.config, written.config, "{extra:?}");
        assert_eq!((read.rope_theta, read.rope_scaling), (written.rope_theta, written.rope_scaling));
        assert_eq!(read.chat_template, written.chat_template);
        assert_same_tensors(&read, &written);
    }
}

#[test]
fn gpt2_is_read_back_and_missing_biases_become_zeros() {
    for extra in [&[][..], &[Role::Head]] {
        let directory = tempfile::tempdir().unwrap();
        let mut written = random(gpt2(), extra, 3);
        write(directory.path(), &written);
        let read = open(directory.path()).unwrap();
        assert_eq!(read.config, written.config);
        let optional = (0..64)
            .filter_map(Role::from_u8)
            .filter(|role| role.is_vector() && role.need(Architecture::Gpt2) == Need::May);
        for role in optional {
            for layer in 0..if role.is_per_layer() { written.config.n_layers } else { 1 } {
                let cols = role.shape(&written.config).1;
                written.tensors.insert((layer, role), TensorSource::owned(1, cols, vec![0.0; cols]));
            }
        }
        assert_same_tensors(&read, &written);
    }
}

#[test]
fn shapes_that_no_class_has_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let grouped = Config { n_kv_heads: 1, ..gpt2() };
    for (checkpoint, wanted) in [
        (random(grouped, &[], 0), "GPT-2 has as many key heads"),
        (random(llama(), &[Role::QBias], 0), "no model class has just q_bias"),
        (random(llama(), &[Role::OBias], 0), "no model class has just o_bias"),
    ] {
        let path = directory.path().join("new");
        let message = write_directory(&path, &checkpoint).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message}");
        assert!(!path.exists(), "nothing is written");
    }
}

/// A safetensors file of F16 and BF16 numbers whose data begins at an odd byte.
#[test]
fn halves_at_odd_addresses_and_without_a_prefix_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = random(llama(), &[], 5);
    write(directory.path(), &checkpoint);
    let path = directory.path().join("model.safetensors");
    let file = fs::read(&path).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&file).unwrap();
    let (mut header, mut data, mut rounded) = (serde_json::Map::new(), Vec::new(), Vec::new());
    for (i, (name, view)) in parsed.iter().enumerate() {
        let begin = data.len();
        for bytes in view.data().as_chunks().0 {
            let value = f32::from_le_bytes(*bytes);
            if i % 2 == 0 {
                data.extend(half::f16::from_f32(value).to_le_bytes());
            } else {
                data.extend(half::bf16::from_f32(value).to_le_bytes());
            }
        }
        let dtype = if i % 2 == 0 { "F16" } else { "BF16" };
        let short = name.strip_prefix("model.").unwrap_or(name);
        rounded.push(short.to_owned());
        header.insert(
            short.into(),
            serde_json::json!({ "dtype": dtype, "shape": view.shape(), "data_offsets": [begin, data.len()] }),
        );
    }
    let mut header = serde_json::Value::Object(header).to_string();
    while header.len().is_multiple_of(2) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    fs::write(&path, bytes).unwrap();
    let read = open(directory.path()).unwrap();
    for (&(layer, role), tensor) in &checkpoint.tensors {
        let limit = 1.0 / 256.0; // bf16 has eight bits
        for (a, b) in tensor.read().into_iter().zip(read.read(layer, role).unwrap()) {
            assert!((a - b).abs() <= limit * a.abs(), "{}: {a} became {b}", role.name());
        }
    }
    assert!(read.read(0, Role::Q).unwrap() != checkpoint.read(0, Role::Q).unwrap(), "it was rounded");
}

/// Cuts a directory's one file into two with an index.
fn shard(directory: &Path) -> Vec<String> {
    let path = directory.join("model.safetensors");
    let file = fs::read(&path).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut map = serde_json::Map::new();
    let names: Vec<_> = parsed.names().into_iter().map(String::from).collect();
    for part in 0..2 {
        let name = format!("model-0000{part}-of-00002.safetensors");
        let views: Vec<_> =
            parsed.iter().enumerate().filter(|(i, _)| i % 2 == part).map(|(_, one)| one).collect();
        for (tensor, _) in &views {
            map.insert((*tensor).into(), name.clone().into());
        }
        fs::write(directory.join(name), safetensors::serialize(views, None).unwrap()).unwrap();
    }
    fs::remove_file(path).unwrap();
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
    names
}

#[test]
fn shards_are_one_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let written = random(llama(), &[Role::Head], 6);
    write(directory.path(), &written);
    shard(directory.path());
    assert_same_tensors(&open(directory.path()).unwrap(), &written);
    fs::remove_file(directory.path().join("model-00001-of-00002.safetensors")).unwrap();
    assert!(refused(directory.path()).contains("model-00001-of-00002.safetensors"));
}

#[test]
fn an_index_cannot_point_out_of_its_directory() {
    let outside = tempfile::tempdir().unwrap();
    let directory = outside.path().join("model");
    write(&directory, &random(llama(), &[], 7));
    fs::rename(directory.join("model.safetensors"), outside.path().join("secret")).unwrap();
    let absolute = outside.path().join("secret").display().to_string();
    for name in ["../secret", "./../secret", &absolute, "..", ".", "", "a/b", "a\\b", "x\0"] {
        let index = serde_json::json!({ "weight_map": { "lm_head.weight": name } });
        fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
        let message = refused(&directory);
        assert!(message.contains("expected the name of a file beside the index"), "{name:?} gave {message}");
    }
    for index in [r#"{}"#, r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 1}}"#, r#"{"weight_map": []}"#] {
        fs::write(directory.join("model.safetensors.index.json"), index).unwrap();
        assert!(refused(&directory).contains("weight_map"), "{index}");
    }
}

#[test]
fn damaged_directories_say_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(refused(path).contains("config.json"));
    write(path, &random(llama(), &[Role::Head], 8));
    let weights = path.join("model.safetensors");
    let good = fs::read(&weights).unwrap();
    let config = fs::read_to_string(path.join("config.json")).unwrap();
    // Every truncation is refused, whatever it cuts.
    let mut random = Random(1);
    for length in (0..64).chain((0..50).map(|_| random.below(good.len() as u64) as usize)) {
        fs::write(&weights, &good[..length]).unwrap();
        assert!(refused(path).contains("model.safetensors"), "{length} bytes");
    }
    fs::write(&weights, [&good[..], &[0]].concat()).unwrap();
    assert!(refused(path).contains("not a valid safetensors file"));
    fs::write(&weights, [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    let message = refused(path);
    assert!(message.contains("claim 18446744073709551615 bytes of header, it has 10 in all"), "{message}");
    fs::write(&weights, &good).unwrap();

    let with = |key: &str, value: &str| {
        let mut map: serde_json::Map<_, _> = serde_json::from_str(&config).unwrap();
        map.insert(key.into(), serde_json::from_str(value).unwrap());
        fs::write(path.join("config.json"), serde_json::Value::Object(map).to_string()).unwrap();
    };
    with("vocab_size", "21");
    let message = refused(path);
    assert!(
        message.contains("`model.embed_tokens.weight` has shape [20, 12], expected [21, 12]"),
        "{message}"
    );
    with("num_hidden_layers", "3");
    assert!(refused(path).contains("`model.layers.2."), "{}", refused(path));
    with("num_hidden_layers", "1");
    assert!(refused(path).contains("has no place in a model of this config.json"));
    with("model_type", "\"qwen2\"");
    assert!(refused(path).contains("tensor `model.layers.0.self_attn.q_proj.bias` is missing"));
    fs::write(path.join("config.json"), &config).unwrap();
    open(path).unwrap();

    fs::rename(&weights, path.join("pytorch_model.bin")).unwrap();
    assert!(
        refused(path).contains("pytorch_model.bin: is neither a zip archive nor a pickle"),
        "{}",
        refused(path)
    );
    // What git leaves in a clone without its large files.
    fs::write(&weights, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n").unwrap();
    assert!(refused(path).contains("model.safetensors: a pointer of Git LFS"), "{}", refused(path));
}

#[test]
fn integers_are_no_weights() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &random(llama(), &[], 9));
    let path = directory.path().join("model.safetensors");
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("\"F32\"");
    assert!(text);
    let mut file = fs::read(&path).unwrap();
    let at = file.windows(5).position(|window| window == b"\"F32\"").unwrap();
    file[at..at + 5].copy_from_slice(b"\"I32\"");
    fs::write(&path, file).unwrap();
    let message = refused(directory.path());
    assert!(message.contains("has type I32, expected F32, F16 or BF16"), "{message}");
}

fn tiny(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/hf_tiny").join(name);
    let there = path.exists();
    if !there {
        eprintln!("SKIPPED: {} is not there", path.display());
    }
    there.then_some(path)
}

#[test]
fn checkpoints_of_other_writers_load_and_convert() {
    for (name, context, norms) in [
        ("tiny_llama3", 512, false),
        ("tiny_llama3_tied", 512, false),
        ("tiny_mistral", 8, false),
        ("tiny_qwen3", 2048, true),
    ] {
        let Some(directory) = tiny(name) else { return };
        let checkpoint = open(&directory).unwrap();
        checkpoint.check().unwrap();
        assert_eq!((checkpoint.config.dim, checkpoint.config.context_len), (64, context), "{name}");
        assert_eq!(checkpoint.has(Role::Head), name != "tiny_llama3_tied", "{name}");
        assert_eq!(checkpoint.has(Role::QNorm), norms, "{name}");
        for tensor in checkpoint.tensors.values() {
            assert!(tensor.read().iter().all(|value| value.is_finite()), "{name}");
        }
        let out = tempfile::tempdir().unwrap();
        let options = crate::ConvertOptions::new(smidgen_runtime::format::DType::Q8);
        crate::convert(&checkpoint, &out.path().join("model.smidgen"), &options, |_| ()).unwrap();
    }
}

/// MLX's 4-bit groups, computed here from the file's bytes by the formula of its documentation.
#[test]
fn mlx_groups_are_scale_times_quant_plus_bias() {
    let Some(directory) = tiny("tiny_llama3_tied") else { return };
    let file = fs::read(directory.join("model.safetensors")).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&file).unwrap();
    let name = "model.layers.1.mlp.down_proj";
    let floats = |kind: &str| -> Vec<f32> {
        let view = parsed.tensor(&format!("{name}.{kind}")).unwrap();
        view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (scales, biases) = (floats("scales"), floats("biases"));
    let weight = parsed.tensor(&format!("{name}.weight")).unwrap();
    // Four bits each, the lowest first: byte by byte that is low nibble, high nibble.
    let nibbles = weight.data().iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let wanted: Vec<f32> =
        nibbles.enumerate().map(|(i, quant)| f32::from(quant) * scales[i / 32] + biases[i / 32]).collect();
    assert_eq!(open(&directory).unwrap().read(1, Role::Down).unwrap(), wanted);
}
