//! `smidgen plan` and `train --fit` through the program.

mod common;

use common::{fails, stdout};
use smidgen_runtime::stream::{StreamOptions, StreamPlan};
use smidgen_runtime::{SessionOptions, hot_needed, memory_needed};

fn plan(arguments: &[&str]) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<&str> = ["plan", "--json"].iter().chain(arguments).copied().collect();
    serde_json::from_slice(&stdout(dir.path(), &all)).unwrap()
}

#[test]
fn a_shape_is_measured_by_the_runtimes_own_arithmetic() {
    let shape = "--layers 5 --dim 64 --heads 8 --kv-heads 4 --ffn 172 --vocab 512 --context 512";
    let plan = plan(&shape.split(' ').collect::<Vec<_>>());
    assert_eq!(plan["parameters"], 260_032);
    // The published model of this shape, converted, has 291,648 bytes; its tokenizer is another.
    let file = plan["file_bytes"].as_u64().unwrap();
    assert!((285_000..300_000).contains(&file), "{file}");
    assert!((190_000..200_000).contains(&plan["session_bytes"].as_u64().unwrap()));
    assert_eq!(plan["instructions_are_measured"], true);
}

#[test]
fn a_budget_is_kept() {
    let plan = plan(&["--fit", "flash=512K,ram=96K,tokens-per-second=20@64MHz"]);
    assert!(plan["flash_bytes"].as_u64().unwrap() <= 512 << 10, "{plan}");
    assert!(plan["ram_bytes"].as_u64().unwrap() <= 96 << 10, "{plan}");
    assert!(plan["tokens_per_second"].as_f64().unwrap() >= 20.0, "{plan}");
}

#[test]
fn what_does_not_fit_is_said_with_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    fails(dir.path(), &["plan", "--dim", "512", "--fit", "nrf52832"], 1, &["does not fit 524,288 bytes"]);
    fails(dir.path(), &["plan", "--fit", "flash=64K,ram=64K"], 1, &["nothing fits 65,536 bytes of flash"]);
    fails(dir.path(), &["plan", "--fit", "z80"], 2, &["z80", "rp2040", "esp32-c3"]);
    fails(dir.path(), &["plan", "--heads", "7"], 1, &["--heads is 7", "a divisor of --dim, 64"]);
    fails(dir.path(), &["train", "--fit", "rp2040", "--dim", "64"], 2, &["cannot be used with"]);
}

#[test]
fn training_for_a_budget_says_what_it_chose_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let budget = "flash=160K,ram=40K";
    let arguments = ["train", "--fit", budget, "--steps", "2", "--out", "run", "--no-cache", "--json"];
    let text = stdout(dir.path(), &arguments);
    let object: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let chosen = plan(&["--fit", budget]);
    let (model, predicted) =
        (object["model_bytes"].as_u64().unwrap(), chosen["file_bytes"].as_u64().unwrap());
    // Another text has other tokens: a few hundred bytes more or less.
    assert!(model.abs_diff(predicted) < 3000, "{model} bytes, {predicted} were predicted");
    assert!(model + 80_000 <= 160 << 10);
}

fn example() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/stories.smidgen").to_owned()
}

#[test]
fn a_file_is_measured_as_it_is() {
    let file = example();
    let plan = plan(&[&file, "--context", "40", "--candidates", "64"]);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(plan["file_bytes"], bytes.len());
    let options = SessionOptions { candidates: 64, ..SessionOptions::new(40) };
    assert_eq!(plan["session_bytes"], memory_needed(&bytes, options));
    assert_eq!(plan["parameters"], 328_256);
    assert!(plan.get("ram_head_bytes").is_none() && plan.get("ram_hot_bytes").is_none(), "{plan}");
}

#[test]
fn weights_that_are_read_or_copied_are_planned() {
    let file = example();
    let bytes = std::fs::read(&file).unwrap();
    let streamed = plan(&[&file, "--context", "40", "--buffer", "4096", "--hot", "100000"]);
    let options = StreamOptions { hot: 100_000, ..StreamOptions::new(4096) };
    let want = StreamPlan::new(&bytes, options, None).unwrap();
    for (name, bytes) in [
        ("ram_model_bytes", want.layout.total as u64),
        ("ram_head_bytes", want.layout.head as u64),
        ("ram_vector_bytes", want.layout.vectors as u64),
        ("ram_buffer_bytes", want.layout.buffer as u64),
        ("ram_hot_bytes", want.hot_bytes as u64),
        ("reads_per_token", want.reads_per_token),
        ("bytes_read_per_token", want.bytes_per_token),
    ] {
        assert_eq!(streamed[name], bytes, "{name}");
    }
    let mapped = plan(&[&file, "--context", "40"]);
    let difference = |name: &str, a: &serde_json::Value, b: &serde_json::Value| {
        a[name].as_u64().unwrap() - b[name].as_u64().unwrap()
    };
    assert_eq!(difference("ram_bytes", &streamed, &mapped), want.layout.total as u64);
    assert_eq!(difference("flash_bytes", &mapped, &streamed), bytes.len() as u64, "the file is elsewhere");
    let least = plan(&[&file, "--buffer", "0"]);
    assert_eq!(least["ram_buffer_bytes"], want.least_buffer);

    let copied = plan(&[&file, "--hot", "100000"]);
    assert_eq!(copied["ram_hot_bytes"], hot_needed(&bytes, 100_000));

    // Of a shape, too: of the file that a training would write.
    let shape = plan(&["--dim", "128", "--buffer", "0", "--hot", "50000"]);
    let whole = plan(&["--dim", "128"]);
    assert!(shape["bytes_read_per_token"].as_u64() < whole["file_bytes"].as_u64(), "{shape}");
    assert!(shape["ram_head_bytes"].as_u64().unwrap() > 20_000, "{shape}");

    let dir = tempfile::tempdir().unwrap();
    fails(dir.path(), &["plan", &file, "--buffer", "100"], 1, &["--buffer is 100, must be at least 896"]);
    fails(dir.path(), &["plan", &file, "--hot", "100"], 1, &["no part of the model fits"]);
    fails(dir.path(), &["plan", &file, "--dim", "64"], 1, &["has its own dimensions"]);
    fails(dir.path(), &["plan", &file, "--context", "9999"], 1, &["9999", "1 to 256"]);
    // What fits only if the weights are elsewhere.
    let budget = "flash=128K,ram=96K";
    fails(dir.path(), &["plan", &file, "--context", "128", "--fit", budget], 1, &["does not fit"]);
    plan(&[&file, "--context", "40", "--buffer", "4096", "--fit", budget]);
}
