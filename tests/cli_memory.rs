//! Training on text that is several times larger than the memory that the process may have: every kind
//! of input, by a limit that the kernel enforces.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SMIDGEN: &str = env!("CARGO_BIN_EXE_smidgen");
/// Memory that a process may have for itself (`RLIMIT_DATA`: everything that is private and can be written;
/// files that are mapped to be read do not count).
const LIMIT: u64 = 64 << 20;
/// Text of each kind.
const TEXT: u64 = 3 * LIMIT;
/// The model is next to nothing, so that what counts is the text.
const TINY: &str = "train --layers 1 --dim 16 --heads 2 --ffn 32 --context 16 --batch 2 --threads 1 --steps 3 \
                    --eval-tokens 512 --no-cache --json --out run";

/// Sentences of words that keep coming and of some that come once only.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Some 10,000 bytes.
    fn document(&mut self, text: &mut String) {
        const SYLLABLES: [&str; 16] =
            ["ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu", "za"];
        while text.len() < 10_000 {
            let number = self.next();
            // One word in 512 is made of 40 bits, all others of 8.
            let parts = if number.is_multiple_of(512) { 10 } else { 2 };
            text.push(' ');
            (0..parts).for_each(|i| text.push_str(SYLLABLES[(number >> (8 + 4 * i) & 15) as usize]));
        }
        text.push('.');
    }
}

/// Writes documents, each with what comes before and behind it, until there are `bytes`.
fn write_documents(file: &mut impl Write, bytes: u64, seed: u64, before: &str, behind: &str) {
    let (mut words, mut text, mut written) = (Words(seed), String::new(), 0);
    while written < bytes {
        text.clear();
        words.document(&mut text);
        for part in [before, &text, behind] {
            file.write_all(part.as_bytes()).unwrap();
            written += part.len() as u64;
        }
    }
}

fn write_file(path: &Path, bytes: u64, seed: u64, before: &str, behind: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    write_documents(&mut file, bytes, seed, before, behind);
    file.flush().unwrap();
}

/// A command that has no more memory than so many bytes.
fn limited(dir: &Path, limit: u64, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -d {} && exec \"$0\" \"$@\"", limit >> 10);
    command.args(["-c", &script, SMIDGEN]).args(TINY.split_whitespace()).args(arguments);
    command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Looks at what a run printed and left, which the next one must not find.
fn check(dir: &Path, output: &Output, bits: u64, documents: std::ops::Range<u64>) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["steps"], 3, "{object}");
    let tokens = fs::read(dir.join("run/tokens/tokens.json")).unwrap();
    let tokens: serde_json::Value = serde_json::from_slice(&tokens).unwrap();
    assert_eq!(tokens["bits"], bits);
    // All of the text is there, whatever there was room for at a time.
    assert!(tokens["text_bytes"].as_u64().unwrap() > TEXT - TEXT / 50, "{tokens}");
    assert!(documents.contains(&tokens["documents"].as_u64().unwrap()), "{tokens}");
    fs::remove_dir_all(dir.join("run")).unwrap();
}

const MANY: std::ops::Range<u64> = TEXT / 11_000..TEXT / 10_000;

#[test]
fn a_text_file_may_be_larger_than_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.txt");
    write_file(&path, TEXT, 1, "", "<|endoftext|>\n");
    let output = limited(dir.path(), LIMIT, &["--vocab", "400", "--data", "text.txt"]).output().unwrap();
    check(dir.path(), &output, 16, MANY);
    // The limit is one: a batch that wants more memory does not get it, however little text there is.
    write_file(&dir.path().join("short.txt"), 100_000, 1, "", "");
    let arguments = ["--vocab", "400", "--data", "short.txt", "--batch", "60000"];
    let output = limited(dir.path(), LIMIT, &arguments).output().unwrap();
    assert!(!output.status.success(), "the limit of {LIMIT} bytes does not hold");
    let _ = fs::remove_dir_all(dir.path().join("run"));
    // A token a character, which is four bytes of ids for one of text; and one document that nothing ends.
    write_file(&path, TEXT, 1, "", " ");
    let arguments = ["--tokenizer", "char", "--data", "text.txt"];
    let output = limited(dir.path(), TEXT / 2, &arguments).output().unwrap();
    check(dir.path(), &output, 16, 1..2);
}

#[test]
fn folders_and_patterns_may_be_larger_than_memory() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..16 {
        let path = dir.path().join(format!("{}/{i}/{i}.txt", if i < 8 { "books" } else { "more" }));
        write_file(&path, TEXT / 16, i + 1, "", "<|endoftext|>");
    }
    let arguments = ["--vocab", "400", "--data", "books", "more/*/*.txt"];
    let output = limited(dir.path(), LIMIT, &arguments).output().unwrap();
    check(dir.path(), &output, 16, MANY);
}

#[test]
fn json_lines_may_be_larger_than_memory() {
    let dir = tempfile::tempdir().unwrap();
    write_file(&dir.path().join("lines.jsonl"), TEXT, 1, "{\"text\": \"", "\", \"n\": 1}\n");
    let output = limited(dir.path(), LIMIT, &["--vocab", "400", "--data", "lines.jsonl"]).output().unwrap();
    check(dir.path(), &output, 16, MANY);
}

#[test]
fn a_stream_may_be_larger_than_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = limited(dir.path(), LIMIT, &["--vocab", "400", "--data", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    write_documents(&mut stdin, TEXT, 1, "", "<|endoftext|>");
    drop(stdin);
    check(dir.path(), &child.wait_with_output().unwrap(), 16, MANY);
}
