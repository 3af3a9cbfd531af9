//! From reset to [`crate::main`].

use core::arch::{asm, global_asm};

global_asm!(
    r#"
    .section .init, "ax"
    .global _start
    _start:
        csrr t0, mhartid
        bnez t0, 3f
        la sp, _stack
        la t0, _bss
        la t1, _bss_end
    1:  bgeu t0, t1, 2f
        sw zero, 0(t0)
        addi t0, t0, 4
        j 1b
    2:  la t0, 3f
        csrw mtvec, t0
        call {start}
    .balign 4
    3:  wfi
        j 3b
    "#,
    start = sym start,
);

extern "C" fn start() -> ! {
    let succeeded = crate::main();
    loop {
        crate::host::exit(succeeded);
    }
}

/// Instructions since reset, modulo 2³². In QEMU with `-icount shift=0` it counts each.
pub fn instructions() -> u32 {
    let count;
    // SAFETY: reads a counter that every machine-mode program may read.
    unsafe { asm!("csrr {count}, minstret", count = out(reg) count, options(nomem, nostack)) };
    count
}
