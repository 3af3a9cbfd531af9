//! Checkpoints that others made: what their own programs compute, and the malformed ones by name.

use std::path::PathBuf;

use smidgen_converter::{ConvertOptions, ModelFile, TokenizerChoice, convert, open};
use smidgen_runtime::format::DType;
use smidgen_runtime::{Session, SessionOptions};

fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// The largest logit and the first six behind the eighth token, from transformers 5.23 in f32 with
/// eager attention; token i is (7 i + 3) mod 256.
const GOLDEN: [(&str, f32, [f32; 6]); 3] = [
    ("tiny_llama3", 0.402_721_94, [-0.0480851, 0.3009378, -0.0458223, 0.2722464, 0.257973, -0.2039915]),
    ("tiny_mistral", 0.402_289_48, [-0.0481219, 0.3008278, -0.0464162, 0.2722774, 0.2577466, -0.2038825]),
    ("tiny_qwen3", 0.410_864_03, [-0.0369259, 0.1900485, 0.0546272, 0.410864, 0.2647655, -0.1799855]),
];

#[test]
fn tiny_models_say_what_transformers_says() {
    for (name, largest, golden) in GOLDEN {
        let Some(path) = shared(&format!("hf_tiny/{name}")) else { continue };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.smidgen");
        let checkpoint = open(&path, &TokenizerChoice::Found).unwrap();
        convert(&checkpoint, &file, &ConvertOptions::new(DType::F32), |_| ()).unwrap();
        let file = ModelFile::open(&file).unwrap();
        let model = file.load().unwrap();
        let mut memory = vec![0; 1 << 20];
        let mut session = Session::new(&model, &mut memory, SessionOptions::new(8)).unwrap();
        let tokens: Vec<u32> = (0..8).map(|i| (7 * i + 3) % 256).collect();
        session.feed(&tokens).unwrap();
        for (ours, theirs) in session.logits().iter().zip(golden) {
            assert!((ours - theirs).abs() <= 1e-4 * largest, "{name}: {ours} is not {theirs}");
        }
    }
}

/// Each of the malformed or foreign files that we know gets an error that names it and what is wrong.
#[test]
fn malformed_files_are_refused_by_name() {
    for (name, part) in [
        ("hf_tiny/model_config_bad_json", "config.json: not valid JSON"),
        ("hf_tiny/model_config_no_type", "`model_type` is missing"),
        ("hf_tiny/model_config_num_negative", "`vocab_size` is -32000"),
        ("hf_tiny/model_config_num_overflow", "`max_position_embeddings` is 5000000000"),
        ("hf_tiny/model_config_num_zero", "`num_hidden_layers` is 0"),
        ("hf_tiny/model_config_root_array", "the root is a list of 3"),
        ("hf_tiny/model_config_too_many_layers", "has neither model.safetensors nor"),
        ("hf_tiny/model_config_qwen2", "has neither model.safetensors nor"),
        ("gguf/test_writer.gguf", "test_writer.gguf: "),
        ("gguf/emel_app_smoke_flow_a.gguf", "`general.architecture` is missing"),
        ("ggml-vocab/ggml-vocab-bert-bge.gguf", "`general.architecture` is \"bert\""),
        ("ggml-vocab/ggml-vocab-gpt-2.gguf", "a vocabulary only"),
        ("nanogpt/small-gpt_ckpt.pt", "`transformer.h.0.ffd.w1.weight` has no place"),
        ("llmc/gpt2_tokenizer_azret.bin", "an llm.c tokenizer"),
        ("llama2c/tok512.bin", "tok512.bin: "),
        ("tok/smollm", "has neither model.safetensors nor"),
        ("text/blns.txt", "no known format"),
    ] {
        let Some(path) = shared(name) else { continue };
        let message = match open(&path, &TokenizerChoice::Found) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{name} was read"),
        };
        assert!(
            message.contains(part) && message.contains(name.rsplit('/').next().unwrap()),
            "{name}: {message}"
        );
        eprintln!("{message}");
    }
    // Invalid merges: a tokenizer, so it comes with some checkpoint.
    let (Some(model), Some(tokenizer)) =
        (shared("llama2c/stories260K.bin"), shared("tok/bad/llama2_tokenizer_ortext_INVALID_MERGES.json"))
    else {
        return;
    };
    let message =
        open(&model, &TokenizerChoice::From(tokenizer)).expect_err("its merges are wrong").to_string();
    assert!(message.contains("INVALID_MERGES.json: ") && message.contains("merges"), "{message}");
}

/// llama2.c headers with their bytes the other way round, whether magic or numbers.
#[test]
fn byte_swapped_headers_are_told() {
    let Some(path) = shared("llama2c/stories260K.bin") else { return };
    let mut bytes = std::fs::read(path).unwrap();
    bytes[..28].chunks_mut(4).for_each(<[u8]>::reverse);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("swapped.bin");
    std::fs::write(&path, bytes).unwrap();
    let message = open(&path, &TokenizerChoice::None).expect_err("it is big-endian").to_string();
    assert!(message.contains("with its bytes swapped it is 64"), "{message}");
}
