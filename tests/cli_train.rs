//! `smidgen train` through the program: a run, Ctrl-C, resuming, errors.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const SMIDGEN: &str = env!("CARGO_BIN_EXE_smidgen");
const TINY: &str = "train --data text.txt --layers 1 --dim 16 --heads 2 --ffn 32 --context 16 --batch 2 \
                    --vocab 300 --threads 1";

fn smidgen(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(SMIDGEN);
    command.args(line.split_whitespace()).current_dir(dir);
    command
}

fn with_text() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = "The cat sat on the mat. The dog sat on the log.\n".repeat(100);
    std::fs::write(dir.path().join("text.txt"), text).unwrap();
    dir
}

fn text(output: &Output) -> (String, String) {
    let of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (of(&output.stdout), of(&output.stderr))
}

#[test]
fn a_run_ends_with_a_model_that_generates() {
    let dir = with_text();
    let output = smidgen(dir.path(), &format!("{TINY} --steps 30 --json")).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("parameters") && stderr.contains("bits a byte"), "{stderr}");
    let object: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&object["steps"], &object["tokens"]), (&30.into(), &960.into()));
    assert!(object["validation_loss"].as_f64().unwrap() < 6.0);
    assert!(!object["sample"].as_str().unwrap().is_empty());
    for name in ["model.smidgen", "loss.svg", "metrics.jsonl", "run.json", "checkpoint-000030/config.json"] {
        assert!(dir.path().join("runs/text").join(name).is_file(), "{name}");
    }
    // A second run gets a folder of its own, and the sample goes to stdout alone.
    let output = smidgen(dir.path(), &format!("{TINY} --steps 3")).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success() && dir.path().join("runs/text-2/model.smidgen").is_file(), "{stderr}");
    assert!(stderr.contains("Next: smidgen generate runs/text-2/model.smidgen"), "{stderr}");
    assert!(!stdout.contains("step"), "{stdout}");
    let again =
        smidgen(dir.path(), "generate runs/text/model.smidgen --tokens 9 --prompt The").output().unwrap();
    assert!(again.status.success() && text(&again).0.starts_with("The"), "{:?}", text(&again));
}

/// The loss of a model file, computed by the runtime, is the one that training told.
#[test]
fn a_model_file_is_as_good_as_training_said() {
    let dir = with_text();
    for (qat, kv, most) in [("q4", "f32", 2e-3), ("q8", "f32", 2e-3), ("q8", "q8", 2e-2)] {
        let line = format!("{TINY} --steps 60 --json --qat {qat} --qat-part 0.5 --out {qat}-{kv}");
        let trained = smidgen(dir.path(), &line).output().unwrap();
        assert!(trained.status.success(), "{}", text(&trained).1);
        let trained: serde_json::Value = serde_json::from_slice(&trained.stdout).unwrap();
        let line = format!("eval {qat}-{kv}/model.smidgen --data {qat}-{kv} --kv {kv} --json");
        let measured = smidgen(dir.path(), &line).output().unwrap();
        assert!(measured.status.success(), "{}", text(&measured).1);
        let measured: serde_json::Value = serde_json::from_slice(&measured.stdout).unwrap();
        let [trained, measured] =
            [&trained["validation_loss"], &measured["nats_per_token"]].map(|loss| loss.as_f64().unwrap());
        assert!((trained - measured).abs() < most, "{qat}, {kv} cache: {trained}, measured {measured}");
    }
    // A text is still a text, and a run has no part of one.
    let output =
        smidgen(dir.path(), "eval q4-f32/model.smidgen --data q4-f32 --max-tokens 9").output().unwrap();
    assert!(text(&output).1.contains("q4-f32 is a run's folder"), "{}", text(&output).1);
}

#[test]
#[cfg(unix)]
fn ctrl_c_saves_and_resume_goes_on() {
    let dir = with_text();
    let mut child = smidgen(dir.path(), &format!("{TINY} --steps 100000000 --out run"));
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Training has begun when there are metrics.
    let metrics = dir.path().join("run/metrics.jsonl");
    for _ in 0..2000 {
        if metrics.metadata().is_ok_and(|metadata| metadata.len() > 0) || child.try_wait().unwrap().is_some()
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("smidgen train --resume run"), "{stderr}");
    // It can be resumed, and stopped again; the folder itself is not for a new run.
    let (_, stderr) = text(&smidgen(dir.path(), &format!("{TINY} --out run")).output().unwrap());
    assert!(stderr.contains("run already has files in it"), "{stderr}");
    let mut child = smidgen(dir.path(), "train --resume run --threads 1");
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let _ = child.try_wait();
    let (_, stderr) = text(&child.wait_with_output().unwrap());
    assert!(stderr.contains("resumed after step"), "{stderr}");
}

#[test]
fn mistakes_are_told() {
    let dir = with_text();
    for (line, code, says) in [
        ("train --data nowhere", 1, "no text in nowhere: there is no such file or folder"),
        ("train --resume nowhere", 1, "nowhere: there is no such folder"),
        ("train --dim 64 --heads 7", 1, "--heads is 7"),
        ("train --steps 5 --minutes 1", 2, "cannot be used with"),
        ("train --data text.txt --out text.txt", 1, "cannot create text.txt"),
    ] {
        let output = smidgen(dir.path(), line).output().unwrap();
        let (_, stderr) = text(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
        assert!(stderr.contains(says), "{line}: {stderr}");
    }
    assert!(!dir.path().join("runs").exists(), "nothing was begun");
}
