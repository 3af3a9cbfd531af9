//! A model whose weights are not mapped: each read copies from where the file lies, as a driver of an SPI
//! flash would, and everything else is in RAM. Tells a story and what it took.
//!
//! Like `bare`, it links only if nothing of the runtime can panic.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use smidgen_runtime::stream::{self, Region, RegionEnds, StreamModel, StreamOptions, WeightReader};
use smidgen_runtime::{Memory, Sampler, SamplerOptions, SessionOptions, include_model, memory_needed};

#[path = "../board.rs"]
#[expect(dead_code, reason = "this program guards no stack")]
mod board;

use board::Stopwatch;

/// Stands for the flash.
static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));

/// Candidates that are kept instead of all logits: `SMIDGEN_CANDIDATES`, or none.
const CANDIDATES: usize = match setting(option_env!("SMIDGEN_CANDIDATES")) {
    Some(number) => number,
    None => 0,
};
const OPTIONS: SessionOptions = SessionOptions { candidates: CANDIDATES, ..SessionOptions::new(40) };
const BYTES: usize = memory_needed(FILE, OPTIONS);
/// Bytes of buffer: `SMIDGEN_BUFFER`, or as few as can be.
const STREAM_OPTIONS: StreamOptions = StreamOptions {
    buffer: match setting(option_env!("SMIDGEN_BUFFER")) {
        Some(bytes) => bytes,
        None => match stream::least_buffer(FILE) {
            // The longest token must fit, too, if it is read.
            Ok(bytes) if bytes < 256 && cfg!(feature = "stored-tokenizer") => 256,
            Ok(bytes) => bytes,
            Err(_) => panic!("SMIDGEN_MODEL is not a model file that this version of smidgen reads"),
        },
    },
    // Bytes for matrices that are copied: `SMIDGEN_HOT`, or none.
    hot: match setting(option_env!("SMIDGEN_HOT")) {
        Some(bytes) => bytes,
        None => 0,
    },
    // With the feature `stored-tokenizer`.
    stored_tokenizer: cfg!(feature = "stored-tokenizer"),
};
const PARTS: usize = stream::memory_needed(FILE, STREAM_OPTIONS);

const fn setting(text: Option<&str>) -> Option<usize> {
    match text {
        None => None,
        Some(text) => match usize::from_str_radix(text, 10) {
            Ok(number) => Some(number),
            Err(_) => panic!("a setting is not a number"),
        },
    }
}

unsafe extern "C" {
    safe fn smidgen_panics() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    smidgen_panics()
}

/// Counts what it copies.
struct Flash {
    region: Region<'static>,
    reads: u32,
    bytes: u32,
}

impl WeightReader for Flash {
    type Error = RegionEnds;

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), RegionEnds> {
        self.reads += 1;
        self.bytes += into.len() as u32;
        self.region.read(at, into)
    }
}

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory<BYTES> = Memory::new();
    static mut MODEL: Memory<PARTS> = Memory::new();
    let status = match tell(MEMORY, MODEL.as_mut()) {
        Some(()) => debug::EXIT_SUCCESS,
        None => debug::EXIT_FAILURE,
    };
    loop {
        debug::exit(status);
    }
}

fn tell(memory: &mut Memory<BYTES>, parts: &mut [u8]) -> Option<()> {
    const TOKENS: u32 = 20;
    let mut out = hio::hstdout().ok()?;
    let mut err = hio::hstderr().ok()?;
    let mut say = |name: &str, number: u32| {
        err.write_all(name.as_bytes()).ok()?;
        let mut digits = [b' '; 12];
        let mut left = number;
        for place in digits.iter_mut().rev().skip(1) {
            *place = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if let Some(end) = digits.last_mut() {
            *end = b'\n';
        }
        let begin = digits.iter().take_while(|&&digit| digit == b' ').count().saturating_sub(1);
        err.write_all(digits.get(begin..)?).ok()
    };

    let flash = Flash { region: Region(FILE), reads: 0, bytes: 0 };
    let watch = Stopwatch::start();
    let mut model = StreamModel::load(flash, parts, STREAM_OPTIONS).ok()?;
    let load = watch.instructions();
    let layout = *model.layout();
    let (hot, bytes_per_token) = (model.hot_bytes(), model.bytes_read_per_token());
    let before = (model.reader().reads, model.reader().bytes);
    let mut session = model.session(memory, OPTIONS).ok()?;
    let mut sampler = Sampler::new(SamplerOptions::default(), 42).ok()?;
    let prompt = session.prompt("Once upon a time").ok()? as u32;
    out.write_all(b"Once upon a time").ok()?;
    let mut generate = match CANDIDATES {
        0 => session.generate(&mut sampler),
        _ => session.generate_bounded(&mut sampler),
    };
    let watch = Stopwatch::start();
    let mut tokens = 0;
    for _ in 0..TOKENS {
        let Some(generated) = generate.next_text() else { break };
        generated.ok()?.piece.try_for_each_str(|text| out.write_all(text.as_bytes())).ok()?;
        tokens += 1;
    }
    let story = watch.instructions() as u32;
    generate.flush().try_for_each_str(|text| out.write_all(text.as_bytes())).ok()?;
    let Flash { reads, bytes, .. } = *model.reader();
    let all = prompt + tokens;
    say("load_instructions", load as u32)?;
    say("token_instructions_mean", story.checked_div(tokens)?)?;
    say("reads_per_token", (reads - before.0).checked_div(all)?)?;
    say("bytes_read", bytes - before.1)?;
    say("bytes_read_told", bytes_per_token as u32 * all)?;
    say("ram_session_bytes", BYTES as u32)?;
    say("ram_head_bytes", layout.head as u32)?;
    say("ram_vector_bytes", layout.vectors as u32)?;
    say("ram_hot_bytes", hot as u32)?;
    say("ram_buffer_bytes", layout.buffer as u32)?;
    say("ram_model_bytes", PARTS as u32)
}
