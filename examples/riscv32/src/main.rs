//! Tells a story on a bare RISC-V core: no heap, no floating-point unit, and nothing that can panic
//! (the panic handler calls what is nowhere, so that this links only if nothing calls the handler).
//!
//! After the program's name the command line is `DUMP TOKENS SEED PROMPT…`: a file on the host for the logits of every choice
//! (`-` for none) and what to tell; without one it is `- 100 42 Once upon a time`.
#![no_std]
#![no_main]
#![warn(missing_docs)]

mod host;
mod start;

use core::panic::PanicInfo;

use host::{Failed, File};
use smidgen_runtime::{
    Memory, Model, Sampler, SamplerOptions, Session, SessionOptions, include_model, memory_needed,
};

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
const CONTEXT: usize = match smidgen_runtime::format::Prefix::read_config(FILE) {
    Ok((config, _)) if config.context_len < 256 => config.context_len as usize,
    Ok(_) => 256,
    Err(_) => panic!("SMIDGEN_MODEL is not a model file that this version of smidgen reads"),
};
const OPTIONS: SessionOptions = SessionOptions::new(CONTEXT);
const BYTES: usize = memory_needed(FILE, OPTIONS);

unsafe extern "C" {
    safe fn smidgen_panics() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    smidgen_panics()
}

/// What [`start`] calls when there is a stack, once.
fn main() -> bool {
    static mut MEMORY: Memory<BYTES> = Memory::new();
    let memory = &raw mut MEMORY;
    // SAFETY: this function is called once, and nothing else names it.
    tell(unsafe { &mut *memory }).is_some()
}

/// Any failure: what it was, the runtime's error would say, at the price of its printing.
fn tell(memory: &mut Memory<BYTES>) -> Option<()> {
    let mut buffer = [0; 1024];
    let (_program, line) = word(host::command_line(&mut buffer)?)?;
    let (dump, line) = word(line)?;
    let (tokens, line) = word(line)?;
    let (seed, prompt) = word(line)?;
    let dump = if dump.is_empty() { "-" } else { dump };
    let tokens = if tokens.is_empty() { 100 } else { tokens.parse().ok()? };
    let seed = if seed.is_empty() { 42 } else { seed.parse().ok()? };
    let prompt = if prompt.is_empty() { "Once upon a time" } else { prompt };
    let (out, notes) = (File::create(":tt", host::WRITE)?, File::create(":tt", host::APPEND)?);
    let dump = if dump == "-" { None } else { Some(File::create(dump, host::WRITE)?) };

    let model = Model::load(FILE).ok()?;
    let mut session = Session::new(&model, memory, OPTIONS).ok()?;
    let mut sampler = Sampler::new(SamplerOptions::default(), seed).ok()?;
    session.prompt(prompt).ok()?;
    out.write(prompt.as_bytes()).ok()?;

    let (mut told, begin) = (0_u32, start::instructions());
    let mut generate = session.generate(&mut sampler);
    for _ in 0..tokens {
        if let (Some(dump), None) = (&dump, generate.finish()) {
            dump.write_logits(generate.session().logits()).ok()?;
        }
        let Some(generated) = generate.next() else { break };
        told += 1;
        generated.piece.try_for_each_str(|text| out.write(text.as_bytes())).ok()?;
    }
    generate.flush().try_for_each_str(|text| out.write(text.as_bytes())).ok()?;
    out.write(b"\n").ok()?;
    let mean = start::instructions().wrapping_sub(begin).checked_div(told).unwrap_or(0);
    report(&notes, mean).ok()
}

/// The first word of a line, and what comes after the space behind it. (The standard library's searches
/// for a character have paths that the compiler can't prove not to panic.)
fn word(line: &str) -> Option<(&str, &str)> {
    let end = line.bytes().take_while(|&byte| byte != b' ').count();
    Some((line.get(..end)?, line.get((end + 1).min(line.len())..)?))
}

/// Writes a figure as digits.
fn report(notes: &File, mean: u32) -> Result<(), Failed> {
    let (mut digits, mut left) = ([b'0'; 10], mean);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let zeros = digits.iter().take(9).take_while(|&&digit| digit == b'0').count();
    notes.write(b"token_instructions_mean ")?;
    notes.write(digits.get(zeros..).unwrap_or(&[]))?;
    notes.write(b"\n")
}
