//! The board's first serial port, a CMSDK APB UART of Arm's MPS2 boards: `-serial stdio` connects QEMU's to a
//! terminal.

use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};

use embedded_io::{ErrorType, Read, Write};

/// In the secure alias of a Cortex-M33's and a Cortex-M55's peripherals.
const UART: usize = if cfg!(cortex_m55) {
    0x5930_3000
} else if cfg!(armv8m) {
    0x5020_0000
} else {
    0x4000_4000
};
const DATA: *mut u32 = UART as *mut u32;
const STATE: *mut u32 = (UART + 4) as *mut u32;
const CTRL: *mut u32 = (UART + 8) as *mut u32;
const BAUD_DIVIDER: *mut u32 = (UART + 16) as *mut u32;

const TX_FULL: u32 = 1;
const RX_FULL: u32 = 2;
const TX_AND_RX_ON: u32 = 3;

/// The port; bytes are waited for.
#[derive(Debug)]
pub struct Uart(());

impl Uart {
    /// Switches it on, at 115,200 baud where the clock is 25 MHz. There is one: take it once.
    pub fn new() -> Self {
        // SAFETY: the port's registers lie at these addresses, 4-aligned; this program has one thread, no
        // interrupt handlers and no other user of the port.
        unsafe {
            write_volatile(BAUD_DIVIDER, 25_000_000 / 115_200);
            write_volatile(CTRL, TX_AND_RX_ON);
        }
        Self(())
    }

    fn state(&self) -> u32 {
        // SAFETY: as in `new`.
        unsafe { read_volatile(STATE) }
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let Some(place) = buffer.first_mut() else { return Ok(0) };
        while self.state() & RX_FULL == 0 {}
        // SAFETY: as in `new`; reading takes the byte out.
        *place = unsafe { read_volatile(DATA) } as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let Some(&byte) = bytes.first() else { return Ok(0) };
        while self.state() & TX_FULL != 0 {}
        // SAFETY: as in `new`.
        unsafe { write_volatile(DATA, byte.into()) };
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
