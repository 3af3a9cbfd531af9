//! embassy-nrf's buffered UART is async only: here is who waits for it.

use embassy_futures::block_on;
use embassy_nrf::buffered_uarte::{BufferedUarte, Error};
use embedded_io::{ErrorType, Read, Write};

/// A buffered UART whose futures are waited for. Interrupts fill and empty its buffers meanwhile.
pub struct Waiting<'d>(pub BufferedUarte<'d>);

impl ErrorType for Waiting<'_> {
    type Error = Error;
}

impl Read for Waiting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        block_on(self.0.read(buffer))
    }
}

impl Write for Waiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        block_on(self.0.write(bytes))
    }

    fn flush(&mut self) -> Result<(), Error> {
        block_on(self.0.flush())
    }
}
