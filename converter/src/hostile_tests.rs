//! Files that mean harm, or were damaged on their way: every format gets an error that names the file,
//! in bounded time, and never a panic.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::formats_tests::FAMILIES;
use crate::gguf::{self, GgufOptions};
use crate::test_formats::zip;
use crate::test_models::damaged;
use crate::{TokenizerChoice, open};

/// What `open` makes of a path: the error's text, or nothing if it is still a checkpoint (which is read).
fn outcome(path: &Path) -> Option<String> {
    let begun = Instant::now();
    let message = match open(path, &TokenizerChoice::Found) {
        Err(error) => Some(error.to_string()),
        Ok(checkpoint) => {
            let _ = checkpoint.check();
            checkpoint.tensors.values().for_each(|tensor| drop(tensor.read()));
            None
        }
    };
    // Milliseconds, by themselves: this is for machines that do ten other things.
    assert!(begun.elapsed() < Duration::from_secs(10), "{}: {:?}", path.display(), begun.elapsed());
    message
}

/// One file of a checkpoint, damaged many times in the same ways in every run.
fn damage(checkpoint: &Path, file: &Path, count: usize) -> (usize, usize) {
    let good = std::fs::read(file).unwrap();
    let (mut refused, mut read) = (0, 0);
    for bytes in damaged(&good, 4000, count) {
        std::fs::write(file, &bytes).unwrap();
        match outcome(checkpoint) {
            None => read += 1,
            Some(message) => {
                refused += 1;
                // The file itself, or the one beside it whose claims it contradicts.
                let directory = checkpoint.display().to_string();
                assert!(message.contains(&directory) || message.contains("tokenizer"), "{message}");
                assert!(message.len() < 5000, "{message}");
            }
        }
    }
    std::fs::write(file, good).unwrap();
    (refused, read)
}

#[test]
fn every_file_of_every_format_can_be_damaged() {
    // What GPT-2 has and what Llama has: the others are read by the same code.
    for family in &FAMILIES[..2] {
        let directory = tempfile::tempdir().unwrap();
        for (name, path) in family.cells(directory.path(), &family.model()) {
            let mut files = vec![path.clone()];
            if path.is_dir() {
                files = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
                files.sort();
            }
            let mut refused = 0;
            for file in files {
                refused += damage(&path, &file, 60).0;
            }
            assert!(refused > 10, "{} as {name}: {refused} were refused", family.name);
            assert_eq!(outcome(&path), None, "{name} is whole again");
        }
    }
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let message = outcome(&path).unwrap_or_else(|| panic!("{name} was read"));
    assert!(message.contains(name), "{message}");
    message
}

fn pickled(pickle: &[u8]) -> Vec<u8> {
    zip(&[("data.pkl".into(), pickle.to_vec())])
}

#[test]
fn operations_beyond_the_list_end_the_reading() {
    // INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1 to EXT4, PERSID, the protocols with text, BYTEARRAY8, NEXT_BUFFER, …
    for op in [
        b'i', b'o', 0x81, 0x92, 0x82, 0x83, 0x84, b'P', b'F', b'I', b'L', b'S', b'U', b'T', b'V', b'B', b'C',
        0x8B, 0x8D, 0x8E, 0x90, 0x91, 0x96, 0x97, 0x98, b'0', b'1', b'2', b'd', b'l', b'p', b'g', 0, 0xFF,
    ] {
        let message = refused("code.pt", &pickled(&[0x80, 2, b'}', op, b'.']));
        let wanted = format!("operation {op:#04x} is not among those that weights need; nothing was run");
        assert!(message.contains(&wanted), "{message}");
    }
    for name in
        ["posix\nsystem", "nt\nsystem", "builtins\neval", "torch.hub\nload", "torch\nload", "os\npopen"]
    {
        let message = refused("code.pt", &pickled(format!("\u{0}c{name}\n)R.").replace('\0', "").as_bytes()));
        let wanted = format!("the pickle names `{}`", name.replace('\n', "."));
        assert!(message.contains(&wanted), "{message}");
    }
    for (pickle, wanted) in [
        (&[0x80, 1, b'.'][..], "protocol 1 is not read"),
        (b"\x80\x02(t", "bytes are wanted"),
        (b"\x80\x02t.", "there is no mark"),
        (b"\x80\x02.", "the stack is empty"),
        (b"\x80\x02h\x05.", "nothing is remembered as 5"),
        (b"\x80\x02X\xff\xff\xff\xff", "4294967295 bytes are wanted"),
        (b"\x80\x02}K\x01s.", "the stack is empty"),
        (b"\x80\x02N.", "has no `model` and `model_args`"),
    ] {
        let message = refused("broken.pt", &pickled(pickle));
        assert!(message.contains(wanted), "{wanted} in {message}");
    }
    // A list in a list in a list: a million deep, and it is only not what is wanted.
    let deep = [&b"\x80\x02"[..], &b"]".repeat(1 << 20), &b"a".repeat((1 << 20) - 1), b"."].concat();
    assert!(refused("deep.pt", &pickled(&deep)).contains("has no `model`"));
}

#[test]
fn archives_are_stored_and_hold_what_they_say() {
    let good = pickled(b"\x80\x02N.");
    let directory = good.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let end = good.windows(4).position(|window| window == b"PK\x05\x06").unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        refused("bomb.pt", &file)
    };
    // Deflated: a bomb never gets to burst.
    assert!(with(directory + 10, &[8, 0]).contains("zip entry `archive/data.pkl` is packed"));
    assert!(with(directory + 8, &[1, 0]).contains("is encrypted"));
    let long = with(directory + 24, &0xF000_0000_u32.to_le_bytes());
    assert!(long.contains("of 4026531840 bytes") && long.contains("ends behind the file's"), "{long}");
    assert!(with(end + 10, &[0xFF, 0xFF]).contains("claims 65535 zip entries"));
    assert!(with(end + 16, &[0xFF; 4]).contains("a zip entry"));
    assert!(with(directory + 42, &9_u32.to_le_bytes()).contains("is not at byte 9"));
    // Entries may lie over each other as they like: nothing of them is copied.
    let twice = zip(&[("a".into(), vec![0; 100]), ("b".into(), vec![0; 100])]);
    assert!(refused("twice.pt", &twice).contains("no data.pkl"));
}

#[test]
fn huge_counts_of_a_gguf_cost_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    gguf::write(&path, &FAMILIES[1].model(), GgufOptions::default()).unwrap();
    let good = std::fs::read(&path).unwrap();
    let find = |text: &str| good.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let with = |at: usize, number: u64| {
        let mut file = good.clone();
        file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        refused("huge.gguf", &file)
    };
    for huge in [u64::MAX, i64::MAX as u64, 1 << 60, 1 << 40] {
        assert!(with(8, huge).contains("tensors"), "{}", with(8, huge));
        assert!(with(16, huge).contains("keys, but only"), "{}", with(16, huge));
        // A key's length, an array's, a dimension, an offset.
        with(24, huge);
        with(find("tokenizer.ggml.tokens") + 21 + 8, huge);
        with(find("blk.0.attn_q.weight") + 19 + 4, huge);
        with(find("blk.0.attn_q.weight") + 19 + 4 + 8, huge);
        with(find("blk.0.attn_q.weight") + 19 + 4 + 16 + 4, huge);
    }
    // An array of arrays of arrays.
    let mut nested = good[..16].to_vec();
    nested.extend(1_u64.to_le_bytes());
    nested.extend(1_u64.to_le_bytes());
    nested.push(b'a');
    nested.extend(9_u32.to_le_bytes());
    for _ in 0..100_000 {
        nested.extend(9_u32.to_le_bytes());
        nested.extend(1_u64.to_le_bytes());
    }
    refused("nested.gguf", &nested);
}
