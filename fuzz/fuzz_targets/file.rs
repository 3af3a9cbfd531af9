//! Any single file, of whatever kind it seems: GGUF, PyTorch, llama2.c, llm.c, our own.
//!
//!     cargo +nightly fuzz run file
#![no_main]

use libfuzzer_sys::fuzz_target;
use smidgen_converter::{TokenizerChoice, open};

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("a place for temporary files");
    let path = directory.path().join("checkpoint");
    std::fs::write(&path, bytes).expect("room for the file");
    if let Ok(checkpoint) = open(&path, &TokenizerChoice::Found) {
        let _ = checkpoint.check();
        checkpoint.tensors.values().for_each(|tensor| drop(tensor.read()));
    }
});
