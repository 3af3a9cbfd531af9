//! Raspberry Pi Pico 2: type a prompt at UART 0 (GP0 sends, GP1 receives; 115,200 baud), watch the story. Both cores work
//! at it; the model stays in the external flash.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use defmt_rtt as _;
use embassy_rp::bind_interrupts;
use embassy_rp::multicore::{Stack, spawn_core1};
use embassy_rp::peripherals::UART0;
use embassy_rp::uart::{BufferedInterruptHandler, BufferedUart, Config};
use embassy_time::Instant;
use panic_probe as _;
use smidgen_console::{Board, ConsoleError, Stored, TwoCores, Usage, context, hot, serve_with};
use smidgen_runtime::{Memory, SessionOptions, include_model, memory_needed};

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
const OPTIONS: SessionOptions =
    SessionOptions { workers: 2, ..SessionOptions::new(context(FILE, option_env!("SMIDGEN_CONTEXT"), 256)) };
/// Known while compiling: a model that does not fit the chip does not link.
const BYTES: usize = memory_needed(FILE, OPTIONS);
/// Bytes for copies of the model's tensors in RAM, which is faster than the flash.
const HOT: usize = hot(FILE, option_env!("SMIDGEN_HOT"));

static CORES: TwoCores = TwoCores::new();

bind_interrupts!(struct Irqs {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
});

/// The chip's timer, and what the linker says.
struct Pico2;

impl Board for Pico2 {
    fn now(&mut self) -> u64 {
        Instant::now().as_micros()
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage::of_cortex_m_rt(FILE))
    }
}

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory<BYTES> = Memory::new();
    static mut HOT_MEMORY: Memory<HOT> = Memory::new();
    static mut CORE1_STACK: Stack<8192> = Stack::new();
    static mut SENDS: [u8; 64] = [0; 64];
    static mut RECEIVES: [u8; 256] = [0; 256];
    let chip = embassy_rp::init(Default::default());
    spawn_core1(chip.CORE1, CORE1_STACK, || CORES.help());
    let mut uart =
        BufferedUart::new(chip.UART0, chip.PIN_0, chip.PIN_1, Irqs, SENDS, RECEIVES, Config::default());
    loop {
        let model = Stored::with_hot(FILE, HOT_MEMORY.as_mut());
        match serve_with(&CORES, model, MEMORY.as_mut(), OPTIONS, &mut uart, &mut Pico2) {
            Ok(()) | Err(ConsoleError::Serial(_)) => {}
            Err(error) => defmt::panic!("{}", error),
        }
    }
}
