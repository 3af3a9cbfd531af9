//! The console on the emulated serial port: type a prompt, watch the story.
//!
//! `cargo run --release --bin console -- -serial stdio`; Ctrl-D leaves.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use smidgen_console::{Board, Unit, Usage, context, serve};
use smidgen_runtime::{Memory, SessionOptions, include_model, memory_needed};

#[path = "../board.rs"]
mod board;
#[path = "../faults.rs"]
mod faults;
#[path = "../host.rs"]
#[expect(dead_code, reason = "only faults are told to the debugger")]
mod host;
#[path = "../uart.rs"]
mod uart;

use board::Stopwatch;
use uart::Uart;

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
const OPTIONS: SessionOptions = SessionOptions::new(context(FILE, option_env!("SMIDGEN_CONTEXT"), 256));
const BYTES: usize = memory_needed(FILE, OPTIONS);

/// The emulator's clock counts instructions.
struct Mps2(Stopwatch);

impl Board for Mps2 {
    const UNIT: Unit = Unit::Instructions;

    fn now(&mut self) -> u64 {
        self.0.instructions()
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage::of_cortex_m_rt(FILE))
    }
}

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory<BYTES> = Memory::new();
    board::guard_stack();
    let mut board = Mps2(Stopwatch::start());
    let served = serve(FILE, MEMORY.as_mut(), OPTIONS, &mut Uart::new(), &mut board);
    let status = if served.is_ok() { EXIT_SUCCESS } else { EXIT_FAILURE };
    loop {
        debug::exit(status);
    }
}
