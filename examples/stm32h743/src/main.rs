//! Nucleo-H743ZI: type a prompt at USART 3 (PD8 sends, PD9 receives; the ST-LINK shows it as a serial port;
//! 115,200 baud), watch the story.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use defmt_rtt as _;
use embassy_stm32::bind_interrupts;
use embassy_stm32::peripherals::USART3;
use embassy_stm32::rcc::*;
use embassy_stm32::usart::{BufferedInterruptHandler, BufferedUart, Config};
use embassy_time::Instant;
use panic_probe as _;
use smidgen_console::{Board, ConsoleError, Usage, context, serve};
use smidgen_runtime::{Memory, SessionOptions, include_model, memory_needed};

static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
const OPTIONS: SessionOptions = SessionOptions::new(context(FILE, option_env!("SMIDGEN_CONTEXT"), 256));
/// Known while compiling: a model that does not fit the chip does not link.
const BYTES: usize = memory_needed(FILE, OPTIONS);

bind_interrupts!(struct Irqs {
    USART3 => BufferedInterruptHandler<USART3>;
});

/// The chip's timer, and what the linker says.
struct Nucleo;

impl Board for Nucleo {
    fn now(&mut self) -> u64 {
        Instant::now().as_micros()
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage::of_cortex_m_rt(FILE))
    }
}

/// 400 MHz from the internal oscillator of 64.
fn clocks() -> embassy_stm32::Config {
    let mut config = embassy_stm32::Config::default();
    config.rcc.hsi = Some(HSIPrescaler::DIV1);
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    config
}

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory<BYTES> = Memory::new();
    static mut SENDS: [u8; 64] = [0; 64];
    static mut RECEIVES: [u8; 256] = [0; 256];
    // Weights come from flash at several wait states a line, and keys and values from AXI SRAM.
    if let Some(mut core) = cortex_m::Peripherals::take() {
        core.SCB.enable_icache();
        core.SCB.enable_dcache(&mut core.CPUID);
    }
    let chip = embassy_stm32::init(clocks());
    let uart = BufferedUart::new(chip.USART3, chip.PD9, chip.PD8, SENDS, RECEIVES, Irqs, Config::default());
    let mut uart = uart.unwrap_or_else(|error| defmt::panic!("{}", error));
    loop {
        match serve(FILE, MEMORY.as_mut(), OPTIONS, &mut uart, &mut Nucleo) {
            Ok(()) | Err(ConsoleError::Serial(_)) => {}
            Err(error) => defmt::panic!("{}", error),
        }
    }
}
