//! A Hugging Face directory: the input is cut at zero bytes into config.json, the shard index and
//! tokenizer.json, the rest is model.safetensors and a shard.
//!
//!     cargo +nightly fuzz run directory
#![no_main]

use libfuzzer_sys::fuzz_target;
use smidgen_converter::{TokenizerChoice, open};

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("a place for temporary files");
    let mut parts = bytes.splitn(4, |byte| *byte == 0);
    let names = ["config.json", "model.safetensors.index.json", "tokenizer.json", "a.safetensors"];
    for name in names {
        if let Some(part) = parts.next().filter(|part| !part.is_empty()) {
            std::fs::write(directory.path().join(name), part).expect("room for the file");
        }
    }
    if let Ok(checkpoint) = open(directory.path(), &TokenizerChoice::Found) {
        let _ = checkpoint.check();
        checkpoint.tensors.values().for_each(|tensor| drop(tensor.read()));
    }
});
