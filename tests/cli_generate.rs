//! `smidgen generate` through the program itself.

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{BEGIN, END, fails, random_model, smidgen, stdout, tiny_config, tiny_model};
use serde_json::Value;
use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::DType;
use tempfile::TempDir;

/// A directory with a model of each kind: `llama.smidgen` (Q8) and `gpt2.smidgen` (F32).
fn models() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("llama.smidgen", &tiny_model(Architecture::Llama, DType::Q8, 1));
    write("gpt2.smidgen", &tiny_model(Architecture::Gpt2, DType::F32, 2));
    directory
}

fn json(directory: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_slice(&stdout(directory, &arguments)).expect("one JSON object")
}

fn ids(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn the_same_flags_print_the_same_bytes_whatever_the_threads_and_levels() {
    let directory = models();
    for file in ["llama.smidgen", "gpt2.smidgen"] {
        let base = ["generate", file, "--prompt", "then the", "--tokens", "40", "--temperature", "1.2"];
        let with = |more: &[&str]| stdout(directory.path(), &[&base, more].concat());
        let text = with(&[]);
        assert!(text.starts_with(b"then the") && text.ends_with(b"\n") && text.len() > 20, "{text:?}");
        for more in [
            &[][..],
            &["--seed", "42"],
            &["--threads", "1"],
            &["--threads", "2"],
            &["--threads", "5"],
            &["--level", "scalar"],
            &["--context", "64"],
        ] {
            assert_eq!(with(more), text, "{file} {more:?}");
        }
        assert_ne!(with(&["--seed", "43"]), text);
        assert_ne!(with(&["--kv", if file == "llama.smidgen" { "f32" } else { "q8" }, "--ids"]), text);
    }
}

#[test]
fn a_story_that_slides_is_as_long_as_was_asked() {
    let directory = models();
    let base = ["generate", "llama.smidgen", "--prompt", "then the", "--tokens", "60", "--context", "24"];
    let ended = json(directory.path(), &base);
    assert_eq!(ended["finish"], "context_full");
    let slid = json(directory.path(), &[&base[..], &["--slide"]].concat());
    let (short, long) = (ids(&ended["tokens"]), ids(&slid["tokens"]));
    assert_eq!(long.len(), 60, "{slid}");
    assert!(long.starts_with(&short));
    assert_ne!(ids(&json(directory.path(), &[&base[..], &["--slide=9"]].concat())["tokens"]), long);
}

#[test]
fn temperature_0_takes_the_largest_logit_whatever_the_seed() {
    let directory = models();
    let path = directory.path();
    let base = ["generate", "llama.smidgen", "--temperature", "0", "--tokens", "30", "--ids"];
    let text = stdout(path, &base);
    assert_eq!(stdout(path, &[&base[..], &["--seed", "7", "--top-p", "0.1"]].concat()), text);

    let report = json(path, &[&base[..6], &["--dump-logits", "logits"]].concat());
    let vocab_size = 260;
    let logits: Vec<f32> = fs::read(path.join("logits"))
        .unwrap()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let tokens = ids(&report["tokens"]);
    assert!(!tokens.is_empty());
    for (token, logits) in tokens.iter().zip(logits.chunks(vocab_size)) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(logits[*token as usize], largest);
    }
}

#[test]
fn dumped_logits_have_one_row_for_every_choice() {
    let directory = models();
    let mut ended = 0;
    for seed in 0..12 {
        let seed = seed.to_string();
        let path = directory.path();
        let arguments = ["generate", "gpt2.smidgen", "--temperature", "2", "--top-p", "1", "--seed", &seed];
        let report = json(path, &[&arguments[..], &["--tokens", "50", "--dump-logits", "l.bin"]].concat());
        let by_end = report["finish"] == "end_of_text";
        let choices = ids(&report["tokens"]).len() + usize::from(by_end);
        assert_eq!(fs::metadata(path.join("l.bin")).unwrap().len(), (choices * 260 * 4) as u64);
        ended += usize::from(by_end);
    }
    // One in 260 tokens ends a text: with 12 seeds some did, and the extra row was looked at.
    assert!(ended > 0);
}

#[test]
fn the_report_agrees_with_itself_and_with_the_text() {
    let directory = models();
    let arguments = ["generate", "llama.smidgen", "--prompt", "the", "--tokens", "20", "--seed", "5"];
    let report = json(directory.path(), &arguments);
    assert_eq!(ids(&report["prompt_tokens"]), [u64::from(BEGIN), u64::from(common::THE)]);
    assert_eq!(report["prompt"], "the");
    assert_eq!(report["seed"], 5);
    let text = String::from_utf8(stdout(directory.path(), &arguments)).unwrap();
    assert_eq!(text, format!("the{}\n", report["text"].as_str().unwrap()));
    let tokens = ids(&report["tokens"]);
    let lines = stdout(directory.path(), &[&arguments[..], &["--ids"]].concat());
    let words: Vec<_> = tokens.iter().map(u64::to_string).collect();
    assert_eq!(String::from_utf8(lines).unwrap(), format!("{BEGIN} {}\n{}\n", common::THE, words.join(" ")));
    // A token's memory is there, and no more than a session needs.
    let (kv, session) = (report["kv_bytes"].as_u64().unwrap(), report["session_bytes"].as_u64().unwrap());
    assert!(0 < kv && kv < session && session < 200_000, "{kv} {session}");
}

#[test]
fn special_tokens_are_text_unless_asked_for() {
    let directory = models();
    let prompt = |more: &[&str]| {
        let arguments = ["generate", "llama.smidgen", "--prompt", "a</s>", "--tokens", "1"];
        ids(&json(directory.path(), &[&arguments[..], more].concat())["prompt_tokens"])
    };
    let begin = u64::from(BEGIN);
    assert_eq!(prompt(&[]), [begin, 97, 60, 47, 115, 62]);
    assert_eq!(prompt(&["--special"]), [begin, 97, u64::from(END)]);
}

#[test]
fn prompts_come_from_files_and_from_standard_input() {
    let directory = models();
    fs::write(directory.path().join("p.txt"), "Grüße\n").unwrap();
    let tail = ["--tokens", "9"];
    let by = |flag: &str, value: &str| {
        stdout(directory.path(), &[&["generate", "gpt2.smidgen", flag, value], &tail[..]].concat())
    };
    assert_eq!(by("--prompt-file", "p.txt"), by("--prompt", "Grüße\n"));
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_smidgen"));
    command.current_dir(directory.path()).args(["generate", "gpt2.smidgen", "--prompt-file", "-"]);
    let output = command.args(tail).write_stdin("Grüße\n").output().unwrap();
    assert_eq!(output.stdout, by("--prompt", "Grüße\n"));
}

#[test]
fn the_context_ends_the_text() {
    let directory = models();
    let arguments = ["generate", "llama.smidgen", "--prompt", "abc", "--tokens", "500", "--temperature", "0"];
    let report = json(directory.path(), &[&arguments[..], &["--context", "10"]].concat());
    // Four tokens of prompt fill four of ten places; a seventh token comes from the last place.
    assert_eq!(report["finish"], "context_full");
    assert_eq!(ids(&report["tokens"]).len(), 7);
    assert_eq!(report["context"], 10);
}

#[test]
fn wrong_flags_are_named_with_their_numbers() {
    let directory = models();
    let check = |more: &[&str], code, parts: &[&str]| {
        fails(directory.path(), &[&["generate", "llama.smidgen"], more].concat(), code, parts);
    };
    check(&["--temperature", "-1"], 1, &["--temperature", "-1", "between 0 and 2"]);
    check(&["--temperature", "NaN"], 1, &["--temperature", "NaN"]);
    check(&["--top-p", "1.5"], 1, &["--top-p", "1.5", "between 0 and 1"]);
    check(&["--min-p", "-0.1"], 1, &["--min-p", "-0.1"]);
    check(&["--repeat-penalty", "0.5"], 1, &["--repeat-penalty", "0.5", "between 1 and 10"]);
    check(&["--context", "65"], 1, &["--context", "65", "llama.smidgen", "1 to 64"]);
    check(&["--context", "0"], 1, &["--context", "0"]);
    check(&["--level", "warp"], 1, &["--level", "warp", "scalar"]);
    check(&["--prompt", &"x".repeat(99)], 1, &["100 tokens", "64"]);
    check(&["--dump-logits", "absent/logits"], 1, &["absent"]);
    check(&["--temperature", "warm"], 2, &["--temperature", "warm"]);
    check(&["--threads", "0"], 2, &["--threads", "0"]);
    check(&["--tokens", "0"], 2, &["--tokens"]);
    check(&["--kv", "q3"], 2, &["--kv", "q3"]);
    check(&["--prompt", "a", "--prompt-file", "b"], 2, &["--prompt-file"]);
    check(&["--json", "--ids"], 2, &["--ids"]);
    check(&["--no-such-flag"], 2, &["--no-such-flag"]);
    assert!(!directory.path().join("absent").exists());
}

#[test]
fn wrong_prompt_files_are_named() {
    let directory = models();
    fs::write(directory.path().join("empty.txt"), "").unwrap();
    fs::write(directory.path().join("latin1.txt"), b"caf\xE9 noir").unwrap();
    for (file, part) in
        [("empty.txt", "empty"), ("latin1.txt", "not UTF-8 (at byte 3)"), ("none.txt", "No such file")]
    {
        let arguments = ["generate", "llama.smidgen", "--prompt-file", file];
        fails(directory.path(), &arguments, 1, &["--prompt-file", file, part]);
    }
}

#[test]
fn wrong_model_files_are_named_with_what_is_wrong() {
    let directory = models();
    let path = directory.path();
    let good = fs::read(path.join("llama.smidgen")).unwrap();
    let check = |name: &str, bytes: &[u8], parts: &[&str]| {
        fs::write(path.join(name), bytes).unwrap();
        for command in ["generate", "bench"] {
            fails(path, &[command, name], 1, &[&[name], parts].concat());
        }
        fails(path, &["explain", "text", "--model", name], 1, &[&[name], parts].concat());
    };
    let cut = (good.len() - 1).to_string();
    check("cut.smidgen", &good[..good.len() - 1], &["truncated", &cut]);
    check("short.smidgen", &good[..100], &["truncated", "128", "100"]);
    check("empty.smidgen", b"", &["empty"]);
    check("text.smidgen", "Once upon a time. ".repeat(20).as_bytes(), &["not a smidgen model file"]);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    check("flipped.smidgen", &flipped, &["checksum mismatch"]);
    check("long.smidgen", &[&good[..], b"x"].concat(), &[&good.len().to_string()]);
    let mut newer = good.clone();
    newer[8] = 9;
    check("newer.smidgen", &newer, &["version 9"]);
    fails(path, &["generate", "absent.smidgen"], 1, &["absent.smidgen", "No such file"]);
    fails(path, &["generate", "."], 1, &["directory", "smidgen convert"]);
    fails(path, &["generate"], 2, &["FILE"]);
}

#[test]
fn a_failed_run_leaves_the_old_dump() {
    let directory = models();
    fs::write(directory.path().join("logits"), "precious").unwrap();
    let arguments = ["generate", "llama.smidgen", "--context", "99", "--dump-logits", "logits"];
    fails(directory.path(), &arguments, 1, &["--context"]);
    assert_eq!(fs::read(directory.path().join("logits")).unwrap(), b"precious");
}

/// Whoever reads our output may stop reading: no error then, no panic.
#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    let directory = models();
    let mut child = Command::new(env!("CARGO_BIN_EXE_smidgen"))
        .args(["generate", "llama.smidgen", "--prompt", "a", "--tokens", "60", "--top-p", "1"])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success(), "{stderr}");
    assert!(!stderr.contains("panic") && !stderr.contains("rror"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_text_cleanly() {
    use std::io::{BufRead, BufReader};

    let directory = tempfile::tempdir().unwrap();
    let config = Config { context_len: 1 << 16, ..tiny_config(Architecture::Llama) };
    fs::write(directory.path().join("long.smidgen"), random_model(config, DType::Q8, 1)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_smidgen"))
        .args(["generate", "long.smidgen", "--temperature", "0", "--tokens", "60000", "--ids"])
        .args(["--dump-logits", "logits"])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = Vec::new();
    stdout.read_until(b'\n', &mut first).unwrap(); // the prompt's tokens
    stdout.read_until(b' ', &mut first).unwrap(); // a token
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert!(rest.ends_with('\n') && stderr.contains("interrupted"), "{stderr}");
    // What was dumped is whole, and belongs to the tokens that were printed.
    let tokens = 1 + rest.split_whitespace().count();
    assert_eq!(fs::metadata(directory.path().join("logits")).unwrap().len(), (tokens * 260 * 4) as u64);
}

#[test]
fn help_has_examples() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["generate", "bench", "explain"] {
        let output = smidgen(directory.path(), &[command, "--help"]);
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Examples:") && help.contains(&format!("smidgen {command} ")), "{help}");
    }
}
