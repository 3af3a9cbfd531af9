//! The products of some quads of rows with a block of activations, which is where a token's time goes.

use core::arch::asm;

#[cfg(target_abi = "eabihf")]
use super::pairs::PAIR_WORDS;
use crate::format::QUAD;

/// Runs a [`Job`].
///
/// # Safety
/// As for [`quads_q8`].
#[inline(always)]
pub(super) unsafe fn run_job(bits: usize, job: &mut Job) {
    match bits {
        // SAFETY: as promised.
        4 if cfg!(feature = "q4") => unsafe {
            #[cfg(target_abi = "eabihf")]
            if job.pairs_end as usize - job.pairs as usize == 2 * 4 * PAIR_WORDS - 1 {
                return quads_q4_two(job);
            }
            quads_q4(job);
        },
        // SAFETY: as promised.
        _ if cfg!(feature = "q8") => unsafe { quads_q8(job) },
        _ => {}
    }
}

/// What some quads of rows have in common with one block of columns, and how far they are. Weights,
/// multipliers and scales of all the quads lie one after the other.
#[repr(C)]
pub(super) struct Job {
    /// Four for every group.
    pub(super) multipliers: *const u8,
    /// Where a last group begins of which only the first half is more than padding; where there is none,
    /// one byte below the end. At least one group comes before either.
    pub(super) pairs_end: *const u8,
    /// The next quad's, bf16.
    pub(super) scales: *const [u16; QUAD],
    /// The next quad's.
    pub(super) out: *mut f32,
    /// At least one quad beyond.
    pub(super) end: *mut f32,
    pub(super) pairs: *const u32,
    /// What the block's products are added to: for more than one quad it is zeros.
    pub(super) sums: *const f32,
    pub(super) weights: *const u8,
    pub(super) x_scale: f32,
    #[cfg(not(target_abi = "eabihf"))]
    pub(super) add_scaled: unsafe extern "C" fn(&[i32; QUAD], &mut Job),
}

/// `out = sums + exact · (row's scale · x's scale)` for the next four rows, where there are no
/// instructions for floats.
///
/// # Safety
/// The job's pointers are good.
#[cfg(not(target_abi = "eabihf"))]
pub(super) unsafe extern "C" fn add_scaled(exact: &[i32; QUAD], job: &mut Job) {
    for (i, &exact) in exact.iter().enumerate() {
        // SAFETY: as promised; a sum is read before its place is written.
        unsafe {
            let scale = crate::quant::bf16_to_f32((*job.scales)[i]);
            *job.out.add(i) = *job.sums.add(i) + exact as f32 * (scale * job.x_scale);
        }
    }
    job.out = job.out.wrapping_add(QUAD);
    job.scales = job.scales.wrapping_add(1);
}

/// Goes through a job's quads; `$group` computes one group's four sums, and `$end` adds them, times their
/// multipliers, to the block's, r4 to r7; `$half` computes those of a last group of which only the first
/// half is more than padding, for those types that pass the other half over. Of the registers, r0 to r3 are
/// the group's sums, r8 goes through
/// the multipliers, r11 through the weights, r12 through the pairs; on the stack lie the block's four sums
/// and the job's first words.
macro_rules! quads {
    ($job:expr, $group:literal, $half:literal, $end:literal) => {
        #[cfg(target_abi = "eabihf")]
        quads!(
            @ $job, $group, $half, $end,
            r"
            vldr s8, [r0, #32]
            vmov.f32 s9, #1.0
            vsub.f32 s12, s9, s9
            vmov s13, s12
            vmov s14, s12
            vmov s15, s12
            vstm sp, {{s12-s15}}
            ",
            r"
            ldrd r0, r1, [sp, #24]
            ldr r2, [sp, #40]
            vstm sp, {{s12-s15}}
            vmov s0, s1, r4, r5
            vmov s2, s3, r6, r7
            ldm r0!, {{r3, r4}}
            lsl r5, r3, #16
            bfc r3, #0, #16
            lsl r6, r4, #16
            bfc r4, #0, #16
            vmov s4, s5, r5, r3
            vmov s6, s7, r6, r4
            vcvt.f32.s32 s0, s0
            vcvt.f32.s32 s1, s1
            vcvt.f32.s32 s2, s2
            vcvt.f32.s32 s3, s3
            vmul.f32 s4, s4, s8
            vmul.f32 s5, s5, s8
            vmul.f32 s6, s6, s8
            vmul.f32 s7, s7, s8
            vldm r2, {{s16-s19}}
            vmla.f32 s16, s0, s4
            vmla.f32 s17, s1, s5
            vmla.f32 s18, s2, s6
            vmla.f32 s19, s3, s7
            vstm r1!, {{s16-s19}}
            strd r0, r1, [sp, #24]
            ",
            out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _,
            out("s7") _, out("s8") _, out("s9") _, out("s12") _, out("s13") _, out("s14") _, out("s15") _,
            out("s16") _, out("s17") _, out("s18") _, out("s19") _,
        );
        #[cfg(not(target_abi = "eabihf"))]
        quads!(
            @ $job, $group, $half, $end,
            r"
            mov r4, #0
            mov r5, #0
            strd r4, r5, [sp]
            strd r4, r5, [sp, #8]
            ",
            r"
            mov r0, sp
            ldr r1, [sp, #44]
            ldr r3, [r1, #36]
            blx r3
            mov r4, #0
            mov r5, #0
            strd r4, r5, [sp]
            strd r4, r5, [sp, #8]
            ldr r1, [sp, #44]
            ldr r1, [r1, #12]
            ",
        );
    };
    (
        @ $job:expr, $group:literal, $half:literal, $end:literal, $begin:literal, $add_scaled:literal, $($floats:tt)*
    ) => {
        asm!(
            // The compiler may want r6 and r7 for itself, so they can't be named as operands.
            r"
            push {{r6, r7}}
            sub sp, sp, #48
            ldm r0, {{r1-r6, lr}}
            add r12, sp, #16
            stm r12, {{r1-r6, lr}}
            mov r12, r6
            str r0, [sp, #44]
            ldr r11, [r0, #28]
            ",
            $begin,
            "3:",
            $group,
            "4: ldm sp, {{r4-r8, lr}}",
            $end,
            r"
            stm sp, {{r4-r8}}
            cmp r12, lr
            blo 3b
            beq 5f
            ",
            $add_scaled,
            r"
            ldrd lr, r12, [sp, #32]
            cmp r1, lr
            bne 3b
            b 6f
            5:
            ",
            $half,
            r"
            b 4b
            6:
            add sp, sp, #48
            pop {{r6, r7}}
            ",
            inout("r0") $job => _, out("r1") _, out("r2") _, out("r3") _, out("r4") _, out("r5") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("lr") _,
            $($floats)*
        )
    };
}

/// Runs a [`Job`] with 8-bit weights.
///
/// Of a word's four, those of columns 1 and 3 are the upper bytes of its halves, and the lower bytes are
/// those of columns 0 and 2 plus 128. As two halves of 16 bits it is multiplied with the activations of 1
/// and 3, which counts these columns 256 times, and the lower bytes once; these alone are then multiplied
/// with 256 times their own activations less the others'. So a group's sum, which begins with what
/// the 128 have added, is 256 times what it should be, at most 2²⁷ together with what it passes on its way.
///
/// # Safety
/// All that it points to is there, 4-aligned; activations are −127 to 127.
#[inline(never)]
unsafe fn quads_q8(job: &mut Job) {
    // r8, r9, r10 and lr are eight columns' activations, r4 to r7 four rows' weights in four of them.
    // SAFETY: touches what the job points to, as promised, and what lies below the stack pointer.
    unsafe {
        quads!(
            &raw mut *job,
            r"
            .macro smidgen_row_q8 w, sum, start, x, y
            smlad \sum, \w, \x, \start
            uxtb16 \w, \w
            smlad \sum, \w, \y, \sum
            .endm
            .macro smidgen_chunk_q8 x, y, a, b, c, d
            ldmia r11!, {{r4-r7}}
            smidgen_row_q8 r4, r0, \a, \x, \y
            smidgen_row_q8 r5, r1, \b, \x, \y
            smidgen_row_q8 r6, r2, \c, \x, \y
            smidgen_row_q8 r7, r3, \d, \x, \y
            .endm
            ldmia r12!, {{r3, r8, r9, r10, lr}}
            smidgen_chunk_q8 r8, r9, r3, r3, r3, r3
            smidgen_chunk_q8 r10, lr, r0, r1, r2, r3
            .rept 3
            ldmia r12!, {{r8, r9, r10, lr}}
            smidgen_chunk_q8 r8, r9, r0, r1, r2, r3
            smidgen_chunk_q8 r10, lr, r0, r1, r2, r3
            .endr
            .purgem smidgen_chunk_q8
            .purgem smidgen_row_q8
            ",
            // Would be 200 bytes for one and a half percent of the instructions.
            "",
            r"
            asr r0, #8
            asr r1, #8
            asr r2, #8
            asr r3, #8
            ldrb r9, [r8], #4
            ldrb r10, [r8, #-3]
            mla r4, r0, r9, r4
            ldrb r9, [r8, #-2]
            mla r5, r1, r10, r5
            ldrb r10, [r8, #-1]
            mla r6, r2, r9, r6
            mla r7, r3, r10, r7
            "
        );
    }
}

/// Runs a [`Job`] with 4-bit weights.
///
/// A word has eight: a row's columns 0 to 3 in the low halves of its bytes, 4 to 7 in the high. As two
/// halves of 16 bits it is multiplied as it is, and shifted to the right by one, two and three of its
/// weights. Each time there is one to whose left others stand, which count 16, 256 and 4,096 times, and
/// would count so once less after the next shift: what it is multiplied with then is less by 16 times
/// what this was (`fill_q4` of [`super::pairs`]). All of it is right modulo 2¹⁶ only, but a group's sum of 32 products of at
/// most 8 · 127 fits into 16 bits.
///
/// # Safety
/// As for [`quads_q8`].
#[inline(never)]
unsafe fn quads_q4(job: &mut Job) {
    // r8, r9, r10 and lr are eight columns' activations, r4 to r7 four rows' weights there.
    // SAFETY: as in `quads_q8`.
    unsafe {
        quads!(
            &raw mut *job,
            r"
            .macro smidgen_row_q4 w, sum, start
            smlad \sum, \w, r8, \start
            lsrs \w, \w, #4
            smlad \sum, \w, r9, \sum
            lsrs \w, \w, #4
            smlad \sum, \w, r10, \sum
            lsrs \w, \w, #4
            smlad \sum, \w, lr, \sum
            .endm
            .macro smidgen_chunk_q4 a, b, c, d
            ldmia r11!, {{r4-r7}}
            smidgen_row_q4 r4, r0, \a
            smidgen_row_q4 r5, r1, \b
            smidgen_row_q4 r6, r2, \c
            smidgen_row_q4 r7, r3, \d
            .endm
            ldmia r12!, {{r3, r8, r9, r10, lr}}
            smidgen_chunk_q4 r3, r3, r3, r3
            .rept 3
            ldmia r12!, {{r8, r9, r10, lr}}
            smidgen_chunk_q4 r0, r1, r2, r3
            .endr
            ",
            r"
            ldmia r12!, {{r3, r8, r9, r10, lr}}
            smidgen_chunk_q4 r3, r3, r3, r3
            ldmia r12!, {{r8, r9, r10, lr}}
            smidgen_chunk_q4 r0, r1, r2, r3
            add r11, #32
            .purgem smidgen_chunk_q4
            .purgem smidgen_row_q4
            ",
            r"
            ldr r9, [r8], #4
            uxtb16 r10, r9
            uxtb16 r9, r9, ror #8
            smlabb r4, r0, r10, r4
            smlabb r5, r1, r9, r5
            smlabt r6, r2, r10, r6
            smlabt r7, r3, r9, r7
            "
        );
    }
}

/// [`quads_q4`] of rows of two whole groups, nothing of which has to go through memory until they end.
///
/// # Safety
/// As for [`quads_q4`].
#[cfg(target_abi = "eabihf")]
#[inline(never)]
unsafe fn quads_q4_two(job: &mut Job) {
    // Registers are as in `quads_q4`. The stack has where multipliers, scales, places and the sums to begin
    // with are, the end and the pairs.
    // SAFETY: as in `quads_q8`.
    unsafe {
        asm!(
            r"
            .macro smidgen_row_q4 w, sum, start
            smlad \sum, \w, r8, \start
            lsrs \w, \w, #4
            smlad \sum, \w, r9, \sum
            lsrs \w, \w, #4
            smlad \sum, \w, r10, \sum
            lsrs \w, \w, #4
            smlad \sum, \w, lr, \sum
            .endm
            .macro smidgen_chunk_q4 a, b, c, d
            ldmia r11!, {{r4-r7}}
            smidgen_row_q4 r4, r0, \a
            smidgen_row_q4 r5, r1, \b
            smidgen_row_q4 r6, r2, \c
            smidgen_row_q4 r7, r3, \d
            .endm
            .macro smidgen_group_q4
            ldmia r12!, {{r3, r8, r9, r10, lr}}
            smidgen_chunk_q4 r3, r3, r3, r3
            .rept 3
            ldmia r12!, {{r8, r9, r10, lr}}
            smidgen_chunk_q4 r0, r1, r2, r3
            .endr
            .endm
            push {{r6, r7}}
            ldr r11, [r0, #28]
            vldr s8, [r0, #32]
            ldm r0, {{r1-r6, lr}}
            mov r12, r6
            mov r2, r3
            mov r3, r4
            mov r4, lr
            push {{r1-r6}}
            2:
            smidgen_group_q4
            push {{r0-r3}}
            smidgen_group_q4
            pop {{r4-r7}}
            ldm sp, {{r8, r9, r10}}
            ldr lr, [r8], #4
            uxtb16 r12, lr
            uxtb16 lr, lr, ror #8
            smulbb r4, r4, r12
            smulbb r5, r5, lr
            smulbt r6, r6, r12
            smulbt r7, r7, lr
            ldr lr, [r8], #4
            uxtb16 r12, lr
            uxtb16 lr, lr, ror #8
            smlabb r0, r0, r12, r4
            smlabb r1, r1, lr, r5
            smlabt r2, r2, r12, r6
            smlabt r3, r3, lr, r7
            ldrd r12, lr, [sp, #12]
            vmov s0, s1, r0, r1
            vmov s2, s3, r2, r3
            ldm r9!, {{r0, r2}}
            lsl r1, r0, #16
            bfc r0, #0, #16
            lsl r3, r2, #16
            bfc r2, #0, #16
            vmov s4, s5, r1, r0
            vmov s6, s7, r3, r2
            vcvt.f32.s32 s0, s0
            vcvt.f32.s32 s1, s1
            vcvt.f32.s32 s2, s2
            vcvt.f32.s32 s3, s3
            vmul.f32 s4, s4, s8
            vmul.f32 s5, s5, s8
            vmul.f32 s6, s6, s8
            vmul.f32 s7, s7, s8
            vldm r12, {{s16-s19}}
            vmla.f32 s16, s0, s4
            vmla.f32 s17, s1, s5
            vmla.f32 s18, s2, s6
            vmla.f32 s19, s3, s7
            vstm r10!, {{s16-s19}}
            stm sp, {{r8, r9, r10}}
            ldr r12, [sp, #20]
            cmp r10, lr
            bne 2b
            add sp, sp, #24
            pop {{r6, r7}}
            .purgem smidgen_group_q4
            .purgem smidgen_chunk_q4
            .purgem smidgen_row_q4
            ",
            inout("r0") &raw mut *job => _, out("r1") _, out("r2") _, out("r3") _, out("r4") _, out("r5") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("lr") _, out("s0") _,
            out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s16") _, out("s17") _, out("s18") _, out("s19") _,
        );
    }
}
