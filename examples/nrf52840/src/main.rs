//! nRF52840-DK: type a prompt at UARTE 0 (P0.06 sends, P0.08 receives; the J-Link shows it as a serial port;
//! 115,200 baud), watch the story.
#![no_std]
#![no_main]

mod uart;

use cortex_m_rt::entry;
use defmt_rtt as _;
use embassy_nrf::bind_interrupts;
use embassy_nrf::buffered_uarte::{BufferedUarte, InterruptHandler};
use embassy_nrf::peripherals::UARTE0;
use embassy_nrf::uarte::Config;
use embassy_time::Instant;
use panic_probe as _;
use smidgen_console::{Board, ConsoleError, Usage, context, serve};
use smidgen_runtime::{Memory, SessionOptions, include_model, memory_needed};

use uart::Waiting;

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
const OPTIONS: SessionOptions = SessionOptions::new(context(FILE, option_env!("SMIDGEN_CONTEXT"), 256));
/// Known while compiling: a model that does not fit the chip does not link.
const BYTES: usize = memory_needed(FILE, OPTIONS);

bind_interrupts!(struct Irqs {
    UARTE0 => InterruptHandler<UARTE0>;
});

/// The chip's timer, and what the linker says.
struct Kit;

impl Board for Kit {
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
    static mut SENDS: [u8; 64] = [0; 64];
    static mut RECEIVES: [u8; 256] = [0; 256];
    let chip = embassy_nrf::init(Default::default());
    let mut uart = Waiting(BufferedUarte::new(
        chip.UARTE0,
        chip.TIMER0,
        chip.PPI_CH0,
        chip.PPI_CH1,
        chip.PPI_GROUP0,
        chip.P0_08,
        chip.P0_06,
        Irqs,
        Config::default(),
        RECEIVES,
        SENDS,
    ));
    loop {
        match serve(FILE, MEMORY.as_mut(), OPTIONS, &mut uart, &mut Kit) {
            Ok(()) | Err(ConsoleError::Serial(_)) => {}
            Err(error) => defmt::panic!("{}", error),
        }
    }
}
