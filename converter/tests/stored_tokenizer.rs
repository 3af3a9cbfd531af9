//! Real vocabularies that stay in a streamed model's file: prompts and texts are those of the tokenizer in
//! memory and of the implementations that gave the ids. Skipped where `../shared/data` is absent.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use smidgen_converter::tokenizer::{TokenizerSpec, huggingface};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, pack_matrix, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling};
use smidgen_runtime::stream::{self, Region, StreamError, StreamLayout, StreamModel, StreamOptions};
use smidgen_runtime::tokenizer::{Decoder, OwnedTokenizer};
use smidgen_runtime::{
    Architecture, Config, Finish, Sampler, SamplerOptions, SessionOptions, StepError, memory_needed,
};

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent", path.display());
    None
}

/// A tiny model with a large vocabulary.
fn model(tokenizer: &OwnedTokenizer) -> Vec<u8> {
    let config = Config {
        architecture: Architecture::Llama,
        n_layers: 1,
        dim: 8,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 8,
        ffn_dim: 8,
        vocab_size: tokenizer.data().n_tokens,
        context_len: 4096,
        norm_eps: 1e-5,
    };
    let needed = |role: &Role| role.need(config.architecture) == Need::Must;
    let roles = (0..64).filter_map(Role::from_u8).filter(needed);
    let dtype = |role: Role| if role.is_vector() { DType::F32 } else { DType::Q8 };
    let plan = ModelPlan {
        config,
        kv_type: KvType::Q8,
        meta: Meta {
            name: "test",
            source: "random weights",
            writer: "tests",
            chat_template: "a template that takes room",
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            extra: "",
        },
        tokenizer: Some(tokenizer.data()),
        tensors: roles.map(|role| TensorPlan { layer: 0, role, dtype: dtype(role) }).collect(),
    };
    let mut sink = Cursor::new(Vec::new());
    let mut state = 9_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    write_model(&mut sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(&config);
        let values: Vec<f32> = (0..rows * cols).map(|_| random()).collect();
        pack_matrix(tensor.dtype, rows, cols, &values, None, out);
        Ok::<(), WriteError>(())
    })
    .unwrap();
    sink.into_inner()
}

/// Every text of a golden file as a prompt, and what is generated behind some of them.
fn check(spec: &TokenizerSpec, golden: &Path) {
    let owned = OwnedTokenizer::build(spec).unwrap();
    let t = owned.tokenizer();
    let file = model(&owned);
    let options = StreamOptions { stored_tokenizer: true, ..StreamOptions::new(4096) };
    let in_memory = StreamLayout::new(&file, StreamOptions::new(4096)).unwrap().total;
    let needed = stream::memory_needed(&file, options);
    assert!(in_memory > 400_000 && needed < 6000, "{needed}, with the tokenizer in memory {in_memory}");
    let mut memory = vec![0; needed + 64];
    let mut model = StreamModel::load(Region(&file), &mut memory, options).unwrap();
    assert!(model.model().tokenizer().is_none());

    let session_options = SessionOptions { candidates: 8, ..SessionOptions::new(4096) };
    let mut memory = vec![0; memory_needed(&file, session_options) + 64];
    let mut session = model.session(&mut memory, session_options).unwrap();
    let mut checked = 0;
    for (number, line) in std::fs::read_to_string(golden).unwrap().lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = line["text"].as_str().unwrap();
        let ids = line["ids"].as_array().unwrap().iter();
        let bos = t.bos().filter(|_| t.adds_bos());
        let want: Vec<u32> = bos.into_iter().chain(ids.map(|id| id.as_u64().unwrap() as u32)).collect();
        if want.is_empty() || want.len() > 500 {
            continue;
        }
        session.rewind(0);
        match session.prompt(text) {
            Ok(n) => assert_eq!((n, session.tokens()), (want.len(), &want[..]), "{text:?}"),
            // The scratch of a session with candidates is for words of 1,365 bytes.
            Err(StreamError::Step(StepError::Encode(error))) => panic!("{text:?}: {error}"),
            Err(error) => panic!("{error}"),
        }
        checked += 1;
        if number % 40 > 0 {
            continue;
        }
        let hot = SamplerOptions { temperature: 2.0, top_p: 1.0, ..SamplerOptions::default() };
        let mut sampler = Sampler::new(hot, number as u64).unwrap();
        let mut decoder = if want.len() > 1 { Decoder::mid_text() } else { Decoder::new() };
        let mut generate = session.generate_bounded(&mut sampler);
        for _ in 0..20 {
            let Some(generated) = generate.next_text() else {
                assert_eq!(generate.finish(), Some(Finish::EndOfText));
                break;
            };
            let generated = generated.unwrap();
            assert_eq!(generated.to_string(), decoder.push(&t, generated.token).to_string());
        }
        assert_eq!(generate.flush().to_string(), decoder.finish().to_string());
    }
    assert!(checked > 600, "only {checked} texts were checked");
}

#[test]
fn gpt2() {
    if let (Some(file), Some(golden)) = (data("tok/gpt2/tokenizer.json"), data("golden/gpt2.jsonl")) {
        check(&huggingface::read_file(&file).unwrap(), &golden);
    }
}

#[test]
fn llama() {
    if let (Some(file), Some(golden)) = (data("tok/llama_tokenizer.json"), data("golden/llama.jsonl")) {
        check(&huggingface::read_file(&file).unwrap(), &golden);
    }
}

#[test]
fn smollm() {
    if let (Some(dir), Some(golden)) = (data("tok/smollm"), data("golden/smollm.jsonl")) {
        check(&huggingface::read_directory(&dir).unwrap(), &golden);
    }
}
