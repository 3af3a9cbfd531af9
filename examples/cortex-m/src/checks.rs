//! Checks of the program's own instruments, which `tests/chip` runs.

use core::arch::asm;
use core::fmt::Write;
use core::hint::black_box;

use crate::board::Stopwatch;
use crate::host;

/// Prints how many instructions the clock counts in a loop of 2,000,000.
pub fn timer() {
    let watch = Stopwatch::start();
    // SAFETY: counts a register down to zero and touches nothing else but flags.
    unsafe {
        asm!("2:", "subs {n}, #1", "bne 2b", n = inout(reg) 1_000_000_u32 => _, options(nomem, nostack));
    }
    let instructions = watch.instructions();
    let _ = writeln!(host::stdout(), "instructions {instructions}");
}

/// Panics.
pub fn panic() -> ! {
    panic!("asked to")
}

/// Reads where no memory is.
pub fn fault() -> ! {
    // SAFETY: there is none; that is the point, and the fault handler ends the program.
    let value = unsafe { (black_box(0xF000_0000_usize) as *const u32).read_volatile() };
    panic!("no memory at 0xf0000000, and yet it holds {value}")
}

/// Fills the stack.
pub fn overflow() -> ! {
    panic!("the stack has no end: {}", recurse(black_box(1)))
}

#[inline(never)]
fn recurse(depth: u32) -> u32 {
    let frame = black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(depth.wrapping_add(1)).wrapping_add(frame[0]) }
}
