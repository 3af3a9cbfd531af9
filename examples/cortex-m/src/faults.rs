//! What must not happen is told, and fails the program.

use core::fmt::Write;
use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};
use cortex_m_semihosting::debug::{self, EXIT_FAILURE};

use crate::host;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(host::stderr(), "{info}");
    loop {
        debug::exit(EXIT_FAILURE);
    }
}

// SAFETY: the handler touches no state that the interrupted code could have left half-changed.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    let (pc, lr) = (frame.pc(), frame.lr());
    let _ = writeln!(host::stderr(), "hard fault at {pc:#010x}, called from {lr:#010x}");
    loop {
        debug::exit(EXIT_FAILURE);
    }
}

// SAFETY: as above.
#[exception]
unsafe fn DefaultHandler(number: i16) -> ! {
    let _ = writeln!(host::stderr(), "unexpected exception {number}");
    loop {
        debug::exit(EXIT_FAILURE);
    }
}
