//! Every architecture through every format that can carry it: one model, one file.
//!
//! The numbers are such that every number type holds them exactly, so the model file must be the same
//! to the byte whichever way the model came. What such a file computes is compared with transformers
//! by `huggingface/golden_tests.rs` and `tests/parity.rs`.

use std::path::Path;

use serde_json::{Value, json};
use smidgen_runtime::format::{DType, Need, Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use crate::gguf::{self, GgufOptions, GgufType};
use crate::test_formats::{self, Float};
use crate::test_models::{byte_tokenizer, random};
use crate::{Checkpoint, ConvertOptions, TensorSource, TokenizerChoice, convert, huggingface, open};

/// A family of models, as its checkpoints are in all that formats have to say of it.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// What `config.json` says besides what our writer writes.
    config: fn() -> Value,
    extra: &'static [Role],
    kv_heads: u32,
    head_dim: u32,
    theta: f32,
    scaling: RopeScaling,
    norm_eps: f32,
    /// llama2.c's own kind of model.
    llama2c: bool,
}

const QKV: &[Role] = &[Role::QBias, Role::KBias, Role::VBias];
const LLAMA: Family = Family {
    name: "Llama 2",
    config: || json!({}),
    extra: &[Role::Head],
    kv_heads: 4,
    head_dim: 16,
    theta: 10_000.0,
    scaling: RopeScaling::None,
    norm_eps: 1e-5,
    llama2c: true,
};

pub(crate) const FAMILIES: [Family; 7] = [
    Family { name: "GPT-2", llama2c: false, ..LLAMA },
    LLAMA,
    Family {
        name: "Llama 3",
        extra: &[],
        kv_heads: 2,
        theta: 500_000.0,
        scaling: RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        },
        llama2c: false,
        ..LLAMA
    },
    Family {
        name: "Mistral",
        config: || json!({ "model_type": "mistral", "sliding_window": null }),
        kv_heads: 2,
        ..LLAMA
    },
    Family {
        name: "SmolLM2",
        config: || json!({ "is_llama_config": true, "rope_interleaved": false }),
        extra: &[],
        kv_heads: 2,
        theta: 100_000.0,
        llama2c: false,
        ..LLAMA
    },
    Family {
        name: "Qwen2",
        config: || json!({ "use_sliding_window": false, "sliding_window": 4096 }),
        extra: QKV,
        kv_heads: 2,
        theta: 1e6,
        norm_eps: 1e-6,
        llama2c: false,
        ..LLAMA
    },
    Family {
        name: "Qwen3",
        config: || json!({ "use_sliding_window": false, "max_window_layers": 2 }),
        extra: &[Role::QNorm, Role::KNorm, Role::Head],
        kv_heads: 2,
        head_dim: 32,
        theta: 1e6,
        norm_eps: 1e-6,
        llama2c: false,
        ..LLAMA
    },
];

impl Family {
    fn is_gpt2(&self) -> bool {
        self.name == "GPT-2"
    }

    /// Every number is n/1024 (norms n/64) with at most seven bits, and every 32nd is ±127/1024: F16, BF16,
    /// and eight bits with a scale for 32 hold them all.
    pub(crate) fn model(&self) -> Checkpoint {
        let architecture = if self.is_gpt2() { Architecture::Gpt2 } else { Architecture::Llama };
        let config = Config {
            architecture,
            n_layers: 2,
            dim: 64,
            n_heads: 4,
            n_kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            ffn_dim: if self.is_gpt2() { 256 } else { 96 },
            vocab_size: 260,
            context_len: 48,
            norm_eps: self.norm_eps,
        };
        let biases: Vec<Role> = (0..64).filter_map(Role::from_u8).filter(|role| role.is_vector()).collect();
        let allowed = |role: &Role| role.need(architecture) != Need::MustNot;
        let biases: Vec<Role> = biases.into_iter().filter(allowed).collect();
        let mut model = random(config, if self.is_gpt2() { &biases } else { self.extra }, 77);
        for (&(_, role), tensor) in &mut model.tensors {
            let round = |(i, value): (usize, f32)| {
                if role.name().ends_with("norm") {
                    return (value * 64.0).round().clamp(1.0, 127.0) / 64.0;
                }
                // Integers have no negative zero.
                let rounded = (value * 300.0).round().clamp(-127.0, 127.0) + 0.0;
                if i.is_multiple_of(32) { 127_f32.copysign(value) / 1024.0 } else { rounded / 1024.0 }
            };
            let values: Vec<f32> = tensor.read().into_iter().enumerate().map(round).collect();
            let (rows, cols) = tensor.shape();
            *tensor = TensorSource::owned(rows, cols, values);
        }
        if !self.is_gpt2() {
            (model.rope_theta, model.rope_scaling) = (self.theta, self.scaling);
            let frequencies = crate::frequencies(self.theta, self.scaling, self.head_dim as usize);
            let half = frequencies.len();
            model.tensors.insert((0, Role::RopeFrequencies), TensorSource::owned(1, half, frequencies));
        }
        model.tokenizer = Some(byte_tokenizer());
        model.chat_template = "{{ messages }}".into();
        model
    }

    /// The directory that everybody publishes.
    fn directory(&self, path: &Path, model: &Checkpoint) {
        huggingface::write_directory(path, model).unwrap();
        let config = path.join("config.json");
        let mut map: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
        map.as_object_mut().unwrap().extend((self.config)().as_object().unwrap().clone());
        std::fs::write(config, map.to_string()).unwrap();
    }

    /// The same family in the formats that can say it; each cell is a name and where the model lies.
    pub(crate) fn cells(&self, at: &Path, model: &Checkpoint) -> Vec<(&'static str, std::path::PathBuf)> {
        let mut cells = Vec::new();
        let original = at.join("original");
        self.directory(&original, model);
        let tensors = test_formats::read_safetensors(&original.join("model.safetensors"));
        for (name, shards, float, pickled) in [
            ("safetensors F32", 1, Float::F32, false),
            ("safetensors F16", 1, Float::F16, false),
            ("safetensors BF16", 1, Float::Bf16, false),
            ("safetensors in shards", 3, Float::Bf16, false),
            ("pytorch_model.bin", 1, Float::F16, true),
            ("pytorch_model.bin in shards", 2, Float::F32, true),
        ] {
            let path = at.join(name);
            self.directory(&path, model);
            std::fs::remove_file(path.join("model.safetensors")).unwrap();
            test_formats::write_shards(&path, &tensors, shards, float, pickled);
            cells.push((name, path));
        }
        for (name, dtype) in
            [("GGUF F32", GgufType::F32), ("GGUF F16", GgufType::F16), ("GGUF Q8_0", GgufType::Q8_0)]
        {
            let path = at.join(name);
            gguf::write(&path, model, GgufOptions { dtype, without_tokenizer: false }).unwrap();
            cells.push((name, path));
        }
        let mut file = |name: &'static str, bytes: Vec<u8>| {
            let path = at.join(name);
            std::fs::write(&path, bytes).unwrap();
            cells.push((name, path));
        };
        if self.llama2c {
            file("llama2.c version 0", test_formats::llama2c(model, 0));
            file("llama2.c version 1", test_formats::llama2c(model, 1));
            file("llama2.c version 2", test_formats::llama2c(model, 2));
            let arguments =
                json!({ "n_layers": 2, "n_heads": 4, "n_kv_heads": self.kv_heads, "max_seq_len": 48 });
            let tensors = test_formats::llama2c_named(model);
            file("llama2.c .pt", test_formats::archive(&tensors, Float::F32, Some(&arguments)));
        }
        if self.is_gpt2() {
            file("llm.c version 3", test_formats::llmc(model, 3));
            file("llm.c version 5", test_formats::llmc(model, 5));
            let arguments =
                json!({ "n_layer": 2, "n_head": 4, "n_embd": 64, "block_size": 48, "bias": true });
            let tensors = test_formats::nanogpt(model);
            file("nanoGPT .pt", test_formats::archive(&tensors, Float::F32, Some(&arguments)));
        }
        cells
    }
}

/// The bytes of the model file, with what only tells where it came from made the same.
fn file_of(mut checkpoint: Checkpoint, dtype: DType, at: &Path) -> Vec<u8> {
    checkpoint.name = "model".into();
    checkpoint.source = "somewhere".into();
    let path = at.join("model.smidgen");
    convert(&checkpoint, &path, &ConvertOptions::new(dtype), |_| ()).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn every_architecture_is_the_same_file_through_every_format() {
    let mut table = Vec::new();
    for family in &FAMILIES {
        let directory = tempfile::tempdir().unwrap();
        let model = family.model();
        let wanted = [DType::F32, DType::Q8, DType::Q4].map(|dtype| {
            let bytes = file_of(model.clone(), dtype, directory.path());
            (dtype, bytes)
        });
        for (name, path) in family.cells(directory.path(), &model) {
            let mut read = open(&path, &TokenizerChoice::Found).unwrap_or_else(|e| panic!("{name}: {e}"));
            // Files that have no tokenizer of their own get the one that users give them.
            if name.starts_with("ll") || name.ends_with(".pt") {
                assert!(read.tokenizer.is_none(), "{name}");
                read.tokenizer = Some(byte_tokenizer());
                read.chat_template = model.chat_template.clone();
            }
            read.check().unwrap();
            for (dtype, wanted) in &wanted {
                let bytes = file_of(read.clone(), *dtype, directory.path());
                assert!(bytes == *wanted, "{} through {name} is another {dtype:?} file", family.name);
            }
            table.push((family.name, name));
        }
    }
    // The table in README.md, counted: 9 formats for all, 4 more for what llama2.c has, 3 for GPT-2.
    assert_eq!(table.len(), 7 * 9 + 2 * 4 + 3);
}

/// README.md says for each format and family what the test above found.
#[test]
fn the_documented_table_is_the_tested_one() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"));
    let Ok(text) = text else {
        eprintln!("SKIPPED: README.md is not there");
        return;
    };
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| !line.starts_with("| format × architecture"))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 3, "the table is there");
    let directory = tempfile::tempdir().unwrap();
    for (column, family) in FAMILIES.iter().enumerate() {
        assert!(rows[0][column + 1].starts_with(family.name), "{:?}", rows[0]);
        let at = directory.path().join(family.name);
        std::fs::create_dir(&at).unwrap();
        let cells = family.cells(&at, &family.model());
        for row in &rows[2..] {
            // A row stands for one or more formats of the test, by how their names begin.
            let begins = row[0].split(" (").next().unwrap_or_default().trim_matches('*');
            let tested = cells.iter().any(|(name, _)| name.starts_with(begins));
            assert_eq!(row[column + 1] == "✓", tested, "{} in {}", row[0], family.name);
        }
    }
}

#[test]
fn gemma_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for name in ["gemma", "gemma2", "gemma3", "gemma3_text"] {
        std::fs::write(path.join("config.json"), json!({ "model_type": name }).to_string()).unwrap();
        let message = open(path, &TokenizerChoice::Found).unwrap_err().to_string();
        assert!(
            message.contains(&format!(
                "`model_type` is \"{name}\", expected gpt2, llama, mistral, qwen2, qwen3"
            )),
            "{message}"
        );
    }
    let file = path.join("gemma.gguf");
    gguf::write(&file, &FAMILIES[1].model(), GgufOptions::default()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(5).position(|window| window == b"llama").unwrap();
    // The architecture's name and its length before it.
    for name in ["gemma", "gemma3"] {
        let length = (name.len() as u64).to_le_bytes();
        let damaged = [&bytes[..at - 8], &length, name.as_bytes(), &bytes[at + 5..]].concat();
        std::fs::write(&file, damaged).unwrap();
        let message = open(&file, &TokenizerChoice::Found).unwrap_err().to_string();
        let wanted = format!("`general.architecture` is \"{name}\", expected llama, gpt2, qwen2, qwen3");
        assert!(message.contains(&wanted), "{message}");
    }
}
