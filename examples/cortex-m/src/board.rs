//! What is particular to the board: its clock, and what lies below its stack.

#[cfg(not(cortex_m55))]
pub use cmsdk::Stopwatch;
#[cfg(cortex_m55)]
pub use sse::Stopwatch;

/// The CMSDK timer 0 of Arm's MPS2 boards.
#[cfg(not(cortex_m55))]
mod cmsdk {
    use core::ptr::{read_volatile, write_volatile};

    /// Timer 0, in the secure alias of a Cortex-M33's peripherals.
    const TIMER: usize = if cfg!(armv8m) { 0x5000_0000 } else { 0x4000_0000 };
    const CTRL: *mut u32 = TIMER as *mut u32;
    const VALUE: *mut u32 = (TIMER + 4) as *mut u32;
    const RELOAD: *mut u32 = (TIMER + 8) as *mut u32;

    /// The timer runs at 25 MHz (20 on AN505). In QEMU with `-icount shift=0` an instruction takes one
    /// virtual nanosecond, so that a tick is 40 (or 50) instructions (`mode=timer` checks it).
    const INSTRUCTIONS_PER_TICK: u64 = if cfg!(armv8m) { 50 } else { 40 };

    /// Counts the instructions since it was started, in steps of a tick, up to 171 · 10⁹.
    ///
    /// On a real board it counts time.
    #[derive(Clone, Copy)]
    pub struct Stopwatch {
        begin: u32,
    }

    impl Stopwatch {
        /// Starts counting. The timer runs from the first call on.
        pub fn start() -> Self {
            // SAFETY: the timer's registers lie at these addresses, 4-aligned; this program has one
            // thread, no interrupt handlers and no other user of the timer.
            unsafe {
                if read_volatile(CTRL) & 1 == 0 {
                    write_volatile(RELOAD, u32::MAX);
                    write_volatile(VALUE, u32::MAX);
                    write_volatile(CTRL, 1);
                }
                Self { begin: read_volatile(VALUE) }
            }
        }

        /// Instructions since the start.
        pub fn instructions(self) -> u64 {
            // SAFETY: as in `start`. The timer counts down.
            let ticks = unsafe { self.begin.wrapping_sub(read_volatile(VALUE)) };
            u64::from(ticks) * INSTRUCTIONS_PER_TICK
        }
    }
}

/// The system counter of Arm's SSE-300, as the MPS3 board AN547 has it.
#[cfg(cortex_m55)]
mod sse {
    use core::ptr::{read_volatile, write_volatile};

    /// The counter's control register, in the secure alias.
    const CTRL: *mut u32 = 0x5810_0000 as *mut u32;
    /// What timer 0 sees of the counter: the lower half, then the upper.
    const COUNT: *mut u32 = 0x5800_0000 as *mut u32;

    /// Counts the instructions since it was started, in steps of a tick: the counter runs at 32 MHz, and
    /// in QEMU with `-icount shift=0` an instruction takes one virtual nanosecond.
    #[derive(Clone, Copy)]
    pub struct Stopwatch {
        begin: u64,
    }

    impl Stopwatch {
        /// Starts counting. The counter runs from the first call on.
        pub fn start() -> Self {
            // SAFETY: the register lies at this address, 4-aligned; this program has one thread, no
            // interrupt handlers and no other user of the counter.
            unsafe { write_volatile(CTRL, 1) };
            Self { begin: count() }
        }

        /// Instructions since the start.
        pub fn instructions(self) -> u64 {
            (count() - self.begin) * 125 / 4
        }
    }

    fn count() -> u64 {
        // SAFETY: as in `start`.
        let half = |i: usize| unsafe { read_volatile(COUNT.wrapping_add(i)) };
        loop {
            let (high, low) = (half(1), half(0));
            if half(1) == high {
                return (u64::from(high) << 32) | u64::from(low);
            }
        }
    }
}

/// Has the memory protection unit refuse everything from 0x10000000 to where the stack ends, so that
/// its overflow is a fault even where the bus would swallow what is written there.
///
/// A core without such a unit (some Cortex-M0) ignores this.
#[cfg(not(armv8m))]
pub fn guard_stack() {
    use cortex_m::peripheral::MPU;
    const BEGIN: u32 = 0x1000_0000;
    const SIZE: u32 = 27 << 1; // 2^(27 + 1) bytes
    const NO_ACCESS: u32 = 1 << 28; // no permissions (bits 24 to 26 zero), no execution
    const ENABLE: u32 = 1;
    const DEFAULT_MAP_ELSEWHERE: u32 = 1 << 2;
    // SAFETY: the unit's registers lie there on every Cortex-M; nothing of this program lies in the
    // region, and nobody else uses the unit.
    unsafe {
        let mpu = &*MPU::PTR;
        mpu.rnr.write(0);
        mpu.rbar.write(BEGIN);
        mpu.rasr.write(NO_ACCESS | SIZE | ENABLE);
        mpu.ctrl.write(DEFAULT_MAP_ELSEWHERE | ENABLE);
    }
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// Has the core fault before its stack grows beyond its end.
#[cfg(armv8m)]
pub fn guard_stack() {
    unsafe extern "C" {
        static _stack_end: u32;
    }
    // SAFETY: the stack is in use above this, and nothing else than faulting changes.
    unsafe { cortex_m::register::msplim::write(&raw const _stack_end as u32) };
}
