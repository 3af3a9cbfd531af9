//! `smidgen plan` and `train --fit` through the program.

mod common;

use common::{fails, stdout};

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
