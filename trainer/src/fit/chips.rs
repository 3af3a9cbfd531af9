//! Common chips: memory and clock by their data sheets.

/// What kind of processor a chip has, for the estimate of speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// Two 16-bit multiplications an instruction, and an FPU: Cortex-M4F, M33, M7.
    Dsp,
    /// An FPU, but no such instructions that the runtime uses: Xtensa LX7.
    Fpu,
    /// Neither: Cortex-M0+, RISC-V without F.
    Plain,
}

/// Instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// For a weight.
    pub(super) weight: f64,
    /// For a layer besides: norms, quantizing, rotation, SwiGLU, calls.
    pub(super) layer: f64,
    /// For a head and position.
    pub(super) head: f64,
    /// For one of its numbers there.
    pub(super) number: f64,
    /// For a token of the vocabulary in a draw: softmax, top-p.
    pub(super) draw: f64,
}

impl Core {
    /// Instructions for what a token is made of.
    ///
    /// For [`Core::Dsp`] they are a fit to the emulator's counts on a Cortex-M4F, five shapes of 0.5 to 1.2 million
    /// within 1 %, and for [`Core::Plain`] to those on a Cortex-M3, whose multiplier a Cortex-M0+ lacks: it took 1.7
    /// times as many. What is no more than a guess says [`Core::is_measured`].
    pub(super) fn costs(self) -> Costs {
        match self {
            Self::Dsp => Costs { weight: 1.14, layer: 29_600.0, head: 20.4, number: 1.95, draw: 28.0 },
            Self::Fpu => Costs { weight: 5.0, layer: 60_000.0, head: 60.0, number: 8.0, draw: 60.0 },
            Self::Plain => Costs { weight: 9.57, layer: 405_700.0, head: 90.5, number: 16.4, draw: 450.0 },
        }
    }

    /// Whether instructions were counted on a core of this kind.
    pub fn is_measured(self) -> bool {
        self == Self::Dsp
    }
}

/// A chip by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chip {
    /// As it is written on the command line.
    pub name: &'static str,
    /// Bytes of flash: built in, or what its common boards have.
    pub flash: u64,
    /// Bytes of RAM that one array can take.
    pub ram: u64,
    /// Clock in MHz.
    pub mhz: f64,
    /// Its processor.
    pub core: Core,
    /// Cycles for an instruction, with weights read from flash: a rule of thumb.
    pub cycles: f64,
}

const fn chip(name: &'static str, flash_k: u64, ram_k: u64, mhz: f64, core: Core, cycles: f64) -> Chip {
    Chip { name, flash: flash_k << 10, ram: ram_k << 10, mhz, core, cycles }
}

/// The chips that have a name here.
pub const CHIPS: [Chip; 13] = [
    chip("rp2040", 2048, 256, 133.0, Core::Plain, 1.8),
    chip("rp2350", 4096, 512, 150.0, Core::Dsp, 1.5),
    chip("stm32f103", 128, 20, 72.0, Core::Plain, 1.6),
    chip("stm32f401", 512, 96, 84.0, Core::Dsp, 1.5),
    chip("stm32f411", 512, 128, 100.0, Core::Dsp, 1.5),
    chip("stm32f746", 1024, 240, 216.0, Core::Dsp, 1.1),
    chip("stm32g474", 512, 96, 170.0, Core::Dsp, 1.6),
    chip("stm32h743", 2048, 512, 480.0, Core::Dsp, 1.1),
    chip("nrf52832", 512, 64, 64.0, Core::Dsp, 1.5),
    chip("nrf52840", 1024, 256, 64.0, Core::Dsp, 1.5),
    chip("nrf5340", 1024, 512, 128.0, Core::Dsp, 1.5),
    chip("esp32-s3", 8192, 320, 240.0, Core::Fpu, 1.6),
    chip("esp32-c3", 4096, 320, 160.0, Core::Plain, 1.6),
];

/// The chip of that name.
pub(super) fn find(name: &str) -> Option<Chip> {
    CHIPS.into_iter().find(|chip| chip.name.eq_ignore_ascii_case(name))
}
