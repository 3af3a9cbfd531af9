//! `smidgen bench` through the program itself.

mod common;

use std::fs;

use common::{fails, stdout, tiny_model};
use serde_json::Value;
use smidgen_runtime::config::Architecture;
use smidgen_runtime::format::DType;
use tempfile::TempDir;

fn model() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = tiny_model(Architecture::Llama, DType::Q4, 1);
    fs::write(directory.path().join("m.smidgen"), file).unwrap();
    directory
}

#[test]
fn every_test_runs_with_every_number_of_threads() {
    let directory = model();
    let arguments = ["bench", "m.smidgen", "--prompt", "48", "--tokens", "16", "--threads", "2,1"];
    let arguments = [&arguments[..], &["--repeat", "3", "--level", "scalar"]].concat();
    let report = stdout(directory.path(), &[&arguments[..], &["--json"]].concat());
    let report: Value = serde_json::from_slice(&report).unwrap();
    let tests = report["tests"].as_array().unwrap();
    let what: Vec<_> =
        tests.iter().map(|t| (t["test"].as_str().unwrap(), t["threads"].as_u64().unwrap())).collect();
    assert_eq!(what, [("prompt", 2), ("tokens", 2), ("prompt", 1), ("tokens", 1)]);
    for test in tests {
        let rate = |name: &str| test[name].as_f64().unwrap();
        assert!(0.0 < rate("least") && rate("least") <= rate("median") && rate("median") <= rate("most"));
        assert_eq!(test["tokens"], if test["test"] == "prompt" { 48 } else { 16 });
    }
    // A prompt's tokens go through the model side by side, which takes memory.
    assert!(tests[0]["session_bytes"].as_u64() > tests[1]["session_bytes"].as_u64());
    assert_eq!(report["file_bytes"], fs::metadata(directory.path().join("m.smidgen")).unwrap().len());
    assert_eq!(report["level"], "scalar");

    let table = String::from_utf8(stdout(directory.path(), &arguments)).unwrap();
    let rows =
        table.lines().filter(|line| line.starts_with("prompt ") || line.starts_with("tokens ")).count();
    assert_eq!(rows, 4, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn what_the_model_does_not_allow_is_refused() {
    let directory = model();
    let check = |more: &[&str], code, parts: &[&str]| {
        fails(directory.path(), &[&["bench", "m.smidgen"], more].concat(), code, parts);
    };
    check(&["--prompt", "65"], 1, &["--prompt", "65", "1 to 64"]);
    check(&["--tokens", "100"], 1, &["--tokens", "100", "m.smidgen"]);
    check(&["--prompt", "0", "--tokens", "0"], 1, &["nothing to measure"]);
    check(&["--level", "warp"], 1, &["--level", "warp", "scalar"]);
    check(&["--threads", "1,0"], 2, &["--threads"]);
    check(&["--repeat", "0"], 2, &["--repeat"]);
}
