//! `smidgen tokenizer` through the program itself.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

fn smidgen(directory: &Path, arguments: &[&str], input: &str) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smidgen"));
    let output =
        command.current_dir(directory).arg("tokenizer").args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn says(directory: &Path, arguments: &[&str], input: &str) -> String {
    let (good, out, error) = smidgen(directory, arguments, input);
    assert!(good, "{arguments:?}: {error}");
    out
}

/// A directory with a text and the vocabulary that was trained on it.
fn trained() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let text = "the cat sat on the mat\nthe cat and the hat\n".repeat(3);
    fs::write(directory.path().join("text.txt"), text).unwrap();
    says(directory.path(), &["train", "text.txt", "--vocab", "270", "-o", "tok.json"], "");
    directory
}

#[test]
fn what_is_trained_encodes_and_decodes() {
    let directory = trained();
    let here = directory.path();
    let lines = "{\"text\": \"the cat <|endoftext|>\"}\n\n{\"text\": \"é\\u0000😀\"}\n";
    let ids = says(here, &["encode", "-t", "tok.json", "--jsonl"], lines);
    assert_eq!(ids.lines().count(), 2);
    assert!(ids.starts_with("{\"ids\":[") && !ids.starts_with("{\"ids\":[0"));
    assert_eq!(says(here, &["encode", "-t", "tok.json", "--jsonl", "--no-cache"], lines), ids);
    let back = says(here, &["decode", "-t", "tok.json", "--jsonl"], &ids);
    assert_eq!(back, "{\"text\":\"the cat <|endoftext|>\"}\n{\"text\":\"é\\u0000😀\"}\n");
    // The special token is one only when it is asked for, and has no text then.
    let parsed = says(here, &["encode", "-t", "tok.json", "--parse-special"], "<|endoftext|>");
    assert_eq!(parsed, "0\n");
    assert_eq!(says(here, &["decode", "-t", "tok.json"], "0"), "");
    // A file is one text.
    let ids = says(here, &["encode", "-t", "tok.json", "text.txt"], "");
    assert_eq!(
        says(here, &["decode", "-t", "tok.json"], &ids),
        fs::read_to_string(here.join("text.txt")).unwrap()
    );
}

#[test]
fn threads_do_not_change_what_is_trained() {
    let directory = trained();
    let here = directory.path();
    let first = fs::read(here.join("tok.json")).unwrap();
    for threads in ["1", "3"] {
        says(here, &["train", "text.txt", "--vocab", "270", "-o", "again.json", "--threads", threads], "");
        assert!(fs::read(here.join("again.json")).unwrap() == first, "{threads} threads");
    }
}

#[test]
fn characters_are_tokens() {
    let directory = trained();
    let here = directory.path();
    says(here, &["train", "text.txt", "--chars", "--special", "", "-o", "chars.json"], "");
    // "\n", " ", then a c d e h m n o s t.
    assert_eq!(says(here, &["encode", "-t", "chars.json"], "a cat"), "2 1 3 2 11\n");
}

#[test]
fn berts_words_and_what_goes_around_them() {
    let directory = trained();
    let here = directory.path();
    fs::write(here.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##able\n!\n").unwrap();
    assert_eq!(says(here, &["encode", "-t", "vocab.txt", "--add-special"], "UNABLE ! x"), "2 4 5 6 1 3\n");
    assert_eq!(says(here, &["encode", "-t", ".", "--jsonl"], "{\"text\": \"Unable\"}"), "{\"ids\":[4,5]}\n");
    assert_eq!(says(here, &["decode", "-t", "vocab.txt"], "2 4 5 6 3"), "unable!");
}

#[test]
fn any_tokenizer_is_written_as_tokenizer_json() {
    let directory = trained();
    let here = directory.path();
    fs::write(here.join("ranks"), "YQ== 0\nYg== 1\nYWI= 2\n").unwrap();
    says(here, &["convert", "-t", "ranks", "-o", "ranks.json"], "");
    assert_eq!(says(here, &["encode", "-t", "ranks.json"], "abab a"), "2 2 0\n");
    fs::create_dir(here.join("out")).unwrap();
    says(here, &["convert", "-t", "tok.json", "-o", "out"], "");
    assert!(here.join("out/tokenizer_config.json").exists());
    let text = "the cat <|endoftext|> sat";
    for special in [&[][..], &["--parse-special"]] {
        let ids = |path| says(here, &[&["encode", "-t", path], special].concat(), text);
        assert_eq!(ids("out"), ids("tok.json"));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let directory = trained();
    let here = directory.path();
    fs::write(here.join("junk"), "nothing of the kind").unwrap();
    for (arguments, input, wanted) in [
        (&["encode", "-t", "none.json"][..], "", "none.json"),
        (&["encode", "-t", "junk"], "", "junk: content: is no tokenizer.json"),
        (
            &["encode", "-t", "tok.json", "--jsonl"],
            "{\"text\": \"a\"}\n{\"txt\": 1}",
            "standard input: line 2: missing field `text`",
        ),
        (&["decode", "-t", "tok.json"], "1 2 x", "standard input: ids[2] is \"x\", not a token id"),
        (
            &["decode", "-t", "tok.json", "--jsonl"],
            "{\"ids\": [1, 999]}",
            "ids[1] is 999, and the vocabulary has 270 tokens",
        ),
        (
            &["train", "text.txt", "--vocab", "100"],
            "",
            "100 tokens has no room for 256 bytes and 1 special tokens",
        ),
    ] {
        let (good, _, error) = smidgen(here, arguments, input);
        assert!(!good && error.contains(wanted), "{arguments:?}: {error}");
    }
}
