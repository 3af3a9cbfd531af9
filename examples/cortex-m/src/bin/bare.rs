//! The runtime and as little else as possible: loads, encodes, takes in, steps and samples, and writes
//! the story's bytes to a debugger.
//!
//! That it links at all is a proof: a panic would call [`smidgen_panics`], which is nowhere.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use smidgen_runtime::{
    Memory, Model, Sampler, SamplerOptions, Session, SessionOptions, include_model, memory_needed,
};
#[cfg(feature = "small-mem")]
use smidgen_small_mem as _;

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
const OPTIONS: SessionOptions = SessionOptions::new(32);
const BYTES: usize = memory_needed(FILE, OPTIONS);
/// Bytes for copies of tensors in RAM, with the feature `hot`.
#[cfg(feature = "hot")]
const HOT: usize = smidgen_runtime::hot_needed(FILE, 20_000);

unsafe extern "C" {
    safe fn smidgen_panics() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    smidgen_panics()
}

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory<BYTES> = Memory::new();
    #[cfg(feature = "hot")]
    static mut HOT_MEMORY: Memory<HOT> = Memory::new();
    #[cfg(feature = "hot")]
    let told = tell(MEMORY, HOT_MEMORY);
    #[cfg(not(feature = "hot"))]
    let told = tell(MEMORY);
    let status = match told {
        Some(()) => debug::EXIT_SUCCESS,
        None => debug::EXIT_FAILURE,
    };
    loop {
        debug::exit(status);
    }
}

fn tell(memory: &mut Memory<BYTES>, #[cfg(feature = "hot")] hot: &mut Memory<HOT>) -> Option<()> {
    let mut out = hio::hstdout().ok()?;
    let model = Model::load(FILE).ok()?;
    #[cfg(feature = "hot")]
    let model = model.with_hot(hot.as_mut()).ok()?;
    let mut session = Session::new(&model, memory, OPTIONS).ok()?;
    let mut sampler = Sampler::new(SamplerOptions::default(), 42).ok()?;
    session.prompt("Once upon a time").ok()?;
    out.write_all(b"Once upon a time").ok()?;
    let mut generate = session.generate(&mut sampler);
    for _ in 0..20 {
        let Some(generated) = generate.next() else { break };
        generated.piece.try_for_each_str(|text| out.write_all(text.as_bytes())).ok()?;
    }
    generate.flush().try_for_each_str(|text| out.write_all(text.as_bytes())).ok()
}
