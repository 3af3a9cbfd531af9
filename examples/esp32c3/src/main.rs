//! ESP32-C3-DevKitM-1: type a prompt at UART 0 (GPIO21 sends, GPIO20 receives, as the ROM has it; the
//! board's USB bridge shows it as a serial port; 115,200 baud), watch the story.
#![no_std]
#![no_main]

use esp_backtrace as _;
use esp_hal::clock::CpuClock;
use esp_hal::main;
use esp_hal::time::Instant;
use esp_hal::uart::{Config, Uart};
use smidgen_console::{Board, ConsoleError, Stored, Usage, context, hot, serve};
use smidgen_runtime::{Memory, SessionOptions, include_model, memory_needed};
use static_cell::ConstStaticCell;

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
const OPTIONS: SessionOptions = SessionOptions::new(context(FILE, option_env!("SMIDGEN_CONTEXT"), 256));
/// Known while compiling: a model that does not fit the chip does not link.
const BYTES: usize = memory_needed(FILE, OPTIONS);
/// Bytes for copies of the model's tensors in RAM, which is faster than the flash.
const HOT: usize = hot(FILE, option_env!("SMIDGEN_HOT"));

static MEMORY: ConstStaticCell<Memory<BYTES>> = ConstStaticCell::new(Memory::new());
static HOT_MEMORY: ConstStaticCell<Memory<HOT>> = ConstStaticCell::new(Memory::new());

// What the second-stage boot loader wants to know.
esp_bootloader_esp_idf::esp_app_desc!();

/// The chip's system timer, and what the linker says.
struct DevKit;

impl Board for DevKit {
    fn now(&mut self) -> u64 {
        Instant::now().duration_since_epoch().as_micros()
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage::of_esp_hal(FILE))
    }
}

#[main]
fn main() -> ! {
    let chip = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let (memory, copies) = (MEMORY.take(), HOT_MEMORY.take());
    let mut uart = match Uart::new(chip.UART0, Config::default()) {
        Ok(uart) => uart.with_tx(chip.GPIO21).with_rx(chip.GPIO20),
        Err(error) => panic!("{error}"),
    };
    loop {
        let model = Stored::with_hot(FILE, copies.as_mut());
        match serve(model, memory.as_mut(), OPTIONS, &mut uart, &mut DevKit) {
            Ok(()) | Err(ConsoleError::Serial(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}
