//! `smidgen export` and `smidgen diff` as their users meet them, and one model through every format.

mod common;

use std::path::Path;

use common::{fails, shared_data, stdout};
use serde_json::Value;
use smidgen_runtime::Architecture;
use smidgen_runtime::format::DType;

fn json(directory: &Path, arguments: &[&str]) -> Value {
    serde_json::from_slice(&stdout(directory, arguments)).expect("one JSON object on stdout")
}

fn text(directory: &Path, arguments: &[&str]) -> String {
    String::from_utf8(stdout(directory, arguments)).expect("text")
}

#[test]
fn a_model_goes_out_and_comes_back_to_the_bit() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    // Llama with every bias and both norms is a class that nobody has: GPT-2 has all it may have.
    std::fs::write(at.join("model.smidgen"), common::tiny_model(Architecture::Gpt2, DType::F32, 5)).unwrap();
    let exported = json(at, &["export", "model.smidgen", "--to", "gguf", "-o", "model.gguf", "--json"]);
    assert_eq!(exported["tokens"], 260);
    assert_eq!(exported["bytes"], std::fs::metadata(at.join("model.gguf")).unwrap().len());
    stdout(at, &["export", "model.smidgen", "--to", "hf", "-o", "hf"]);
    for (a, b) in [("model.smidgen", "model.gguf"), ("model.gguf", "hf")] {
        let report = json(at, &["diff", a, b, "--json"]);
        assert!(report["tensors"].as_array().unwrap().iter().all(|tensor| tensor["max"] == 0.0), "{a} {b}");
        assert!(!report["differs"].as_array().unwrap().iter().any(|what| what == "dimensions"), "{report}");
    }
    assert!(text(at, &["diff", "hf", "hf"]).starts_with("identical: "));
    let described = json(at, &["inspect", "model.gguf", "--json"]);
    assert_eq!(described["kind"], "GGUF file");
    assert_eq!(described["metadata"]["general.architecture"], "gpt2");

    // A smaller type differs, and says by how much; a text tells what it means.
    stdout(at, &["export", "model.smidgen", "--to", "gguf", "--type", "f16", "-o", "half.gguf"]);
    std::fs::write(at.join("text"), "the cat sat there. ".repeat(20)).unwrap();
    let report = json(at, &["diff", "model.smidgen", "half.gguf", "--data", "text", "--json"]);
    assert_eq!(report["identical"], false);
    let worst = report["tensors"].as_array().unwrap().iter().filter_map(|tensor| tensor["relative"].as_f64());
    let worst = worst.fold(0.0, f64::max);
    assert!(worst > 1e-5 && worst < 1e-3, "{worst}");
    assert!(report["logits"]["kl_nats"].as_f64().unwrap() < 1e-3);
    assert!(text(at, &["diff", "model.smidgen", "half.gguf"]).contains("rms, relative"));
}

/// Models in every format that is read, as other programs wrote them.
#[test]
fn every_format_is_shown_and_compared() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("converter/tests/data/parity");
    let index: Value = serde_json::from_slice(&std::fs::read(data.join("index.json")).unwrap()).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for model in index["models"].as_array().unwrap() {
        let path = model["path"].as_str().unwrap();
        let shown = json(&data, &["inspect", path, "--json"]);
        kinds.insert(shown["kind"].as_str().unwrap().to_owned());
        assert_eq!((&shown["vocab_size"], &shown["n_layers"]), (&40.into(), &2.into()), "{path}");
        let tensors = shown["tensors"].as_array().unwrap();
        let numbers = tensors.iter().filter(|tensor| tensor["name"] != "rope_frequencies");
        let numbers =
            numbers.map(|tensor| tensor["shape"][0].as_u64().unwrap() * tensor["shape"][1].as_u64().unwrap());
        assert_eq!(shown["parameters"], numbers.sum::<u64>(), "{path}");
        let words = text(&data, &["inspect", path, "--tensors"]);
        assert!(words.contains(shown["kind"].as_str().unwrap()), "{words}");
    }
    let wanted = [
        "GGUF file",
        "Hugging Face directory",
        "PyTorch checkpoint",
        "llama2.c checkpoint",
        "llm.c checkpoint",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    for (a, b) in [
        ("llama2", "llama2_old_keys"),
        ("llama2", "llama2_v0.bin"),
        ("llama2_v0.bin", "llama2_v1.bin"),
        ("llama2_v1.bin", "llama2.gguf"),
        ("llama3", "llama3.gguf"),
        ("gpt2", "gpt2.gguf"),
        ("gpt2.gguf", "gpt2_v3.bin"),
        ("gpt2_v3.bin", "gpt2_nanogpt.pt"),
        ("gpt2_v5.bin", "gpt2_nanogpt_old.pt"),
    ] {
        let report = json(&data, &["diff", a, b, "--json"]);
        let tensors = report["tensors"].as_array().unwrap();
        assert!(
            tensors.len() > 10 && tensors.iter().all(|tensor| tensor["max"] == 0.0),
            "{a} and {b}: {report}"
        );
    }
    let report = json(&data, &["diff", "llama2", "qwen2", "--json"]);
    assert_eq!(report["identical"], false);
}

#[test]
fn what_others_have_no_place_for_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("model.smidgen"), common::tiny_model(Architecture::Llama, DType::F32, 6)).unwrap();
    fails(
        at,
        &["export", "model.smidgen", "--to", "gguf", "-o", "out.gguf"],
        1,
        &["llama.cpp has no architecture with"],
    );
    fails(at, &["export", "model.smidgen", "--to", "hf", "-o", "out"], 1, &["can't be a Hugging Face model"]);
    fails(at, &["export", "none", "--to", "hf", "-o", "out"], 1, &["none: No such file"]);
    fails(
        at,
        &["export", "model.smidgen", "--to", "hf", "--type", "f16", "-o", "out"],
        1,
        &["--type is for gguf"],
    );
    fails(at, &["diff", "model.smidgen", "none"], 1, &["none: No such file"]);
    assert!(!at.join("out.gguf").exists() && !at.join("out").exists());
}

/// Every way in gives the same model file, and every file of it tells the same story.
#[test]
fn stories_by_every_format_are_one_story() {
    let Some(data) = shared_data("llama2c/stories260K.bin") else { return };
    let (data, directory) = (data.parent().unwrap(), tempfile::tempdir().unwrap());
    let at = directory.path();
    let path = |name: &str| data.join(name).display().to_string();
    let tokenizer = path("tok512.bin");
    let convert = |from: &str, to: &str, more: &[&str]| {
        let arguments = [&["convert", from, "-o", to, "--name", "stories", "--quant", "f32"], more].concat();
        stdout(at, &arguments);
    };
    let with = ["--tokenizer", &tokenizer];
    convert(&path("stories260K.bin"), "v0", &with);
    convert(&path("stories260K_v1.bin"), "v1", &with);
    convert(&path("stories260K_q8.bin"), "v2", &with);
    let original = path("stories260K.bin");
    let export = |to: &str, more: &[&str]| {
        let arguments = [&["export", &original, "-o", to], &with[..], more].concat();
        stdout(at, &arguments);
    };
    export("f32.gguf", &["--to", "gguf"]);
    export("f16.gguf", &["--to", "gguf", "--type", "f16"]);
    export("q8.gguf", &["--to", "gguf", "--type", "q8_0"]);
    export("hf", &["--to", "hf"]);
    for (from, to) in [("f32.gguf", "gguf"), ("f16.gguf", "half"), ("q8.gguf", "eighth"), ("hf", "back")] {
        convert(from, to, &[]);
    }
    // Nothing is lost on these ways: dimensions, tensors and tokenizer are the same, to the bit.
    for other in ["v1", "gguf"] {
        let report = json(at, &["diff", "v0", other, "--json"]);
        assert_eq!(report["identical"], true, "{other}: {}", report["differs"]);
    }
    let report = json(at, &["diff", "v0", "back", "--json"]);
    assert!(report["tensors"].as_array().unwrap().iter().all(|tensor| tensor["max"] == 0.0));
    let story = |file: &str| text(at, &["generate", file, "--temperature", "0", "--tokens", "200"]);
    let want = story("v0");
    assert!(want.contains("Once upon a time, there was a little girl named Lily"), "{want}");
    for other in ["v1", "gguf", "half", "back"] {
        assert_eq!(story(other), want, "{other}");
    }
    // Eight bits may choose another word in a while.
    for other in ["v2", "eighth"] {
        let same = story(other).chars().zip(want.chars()).take_while(|(a, b)| a == b).count();
        eprintln!("{other}: {same} of {} characters are the same", want.chars().count());
        assert!(same > 100, "{other}: {same}");
    }
}
