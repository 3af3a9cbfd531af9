//! Counts what turning text into tokens costs on the chip: instructions a byte, words of scratch memory.
//! The text is a story's beginning and what a user might type; the tokenizer is the model's.
#![no_std]
#![no_main]

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use smidgen_runtime::tokenizer::{Decoder, Special, scratch_words};
use smidgen_runtime::{Model, include_model};

#[path = "../board.rs"]
#[expect(dead_code, reason = "this program guards no stack")]
mod board;

use board::Stopwatch;

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));

/// Longer words than any here.
const LONGEST_WORD: usize = 32;
const SCRATCH: usize = scratch_words(LONGEST_WORD + 1);

const TEXT: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park \
    with her friends. One day, she saw a big, red ball. \"Can I play with it?\" she asked. Her mom said, \"Yes, \
    but you must be careful.\" Lily was very happy and she ran to the ball.\n";

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Ok(mut err) = hio::hstderr() {
        let _ = writeln!(err, "{info}");
    }
    loop {
        debug::exit(debug::EXIT_FAILURE);
    }
}

#[entry]
fn main() -> ! {
    static mut IDS: [u32; TEXT.len() + 1] = [0; TEXT.len() + 1];
    static mut WORDS: [u32; SCRATCH] = [0; SCRATCH];
    let status = match count(IDS, WORDS) {
        Ok(()) => debug::EXIT_SUCCESS,
        Err(fmt::Error) => debug::EXIT_FAILURE,
    };
    loop {
        debug::exit(status);
    }
}

fn count(ids: &mut [u32], scratch: &mut [u32]) -> fmt::Result {
    let model = Model::load(FILE).map_err(|_| fmt::Error)?;
    let tokenizer = model.tokenizer().ok_or(fmt::Error)?;
    let watch = Stopwatch::start();
    let n = tokenizer.encode(TEXT, Special::Plain, false, ids, scratch).map_err(|_| fmt::Error)?;
    let encoding = watch.instructions();
    let ids = ids.get(..n).unwrap_or(&[]);
    let watch = Stopwatch::start();
    let mut bytes = 0;
    let mut decoder = Decoder::new();
    for &id in ids {
        decoder.push(tokenizer, id).for_each_str(|part| bytes += part.len());
    }
    decoder.finish().for_each_str(|part| bytes += part.len());
    let decoding = watch.instructions();
    let mut out = hio::hstdout().map_err(|()| fmt::Error)?;
    writeln!(out, "vocabulary {} text_bytes {} tokens {n}", tokenizer.n_tokens(), TEXT.len())?;
    writeln!(out, "encode_instructions {encoding} a_byte {}", encoding / TEXT.len() as u64)?;
    writeln!(out, "decode_instructions {decoding} a_byte {}", decoding / TEXT.len() as u64)?;
    writeln!(out, "scratch_bytes {}", 4 * SCRATCH)?;
    if bytes == TEXT.len() { Ok(()) } else { Err(fmt::Error) }
}
