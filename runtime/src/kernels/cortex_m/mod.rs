//! Cortex-M4, M7 (and M33 with the extension): SMLAD multiplies two pairs of 16 bits and adds both
//! products. Words of weights are such pairs as they are, and again after a mask. Activations are made
//! pairs that fit them once for a product, and serve four rows at a time.

mod attention;
#[cfg(target_abi = "eabihf")]
pub(crate) mod draw;
mod query;
mod seldom;
mod small;
#[cfg(target_abi = "eabihf")]
mod steps;
mod two;

use core::arch::asm;
use core::mem::MaybeUninit;
use core::ops::Range;

use super::Activations;
use crate::format::{BLOCK, GROUP, QUAD};
use crate::tensor::Planes;
use crate::workers::Disjoint;

pub(super) use attention::Dsp;

/// What `for_every_level!` takes for this level: the definition where nothing here is faster.
pub(super) mod for_cortex_m {
    pub(in crate::kernels) use super::attention::{store_key, store_value};
    pub(in crate::kernels) use super::seldom::{
        attend_f32, gelu_all, layer_norm, matvec_f16, matvec_f32, rms_norm_in_place,
    };

    #[cfg(target_abi = "eabihf")]
    pub(in crate::kernels) use super::steps::{add, quantize, rms_norm, rotate, silu_mul};
    #[cfg(not(target_abi = "eabihf"))]
    pub(in crate::kernels) use crate::kernels::elementwise::{add, quantize, rms_norm, rotate, silu_mul};
}

/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;

/// Bytes of one group of a quad's quants.
const fn group_bytes(bits: usize) -> usize {
    QUAD * GROUP / 8 * bits
}

/// Words of one group of activations as pairs: what sums start from, then 32 of 16 bits.
const PAIR_WORDS: usize = 1 + GROUP / 2;

/// Bytes 0 and 2, sign-extended to 16 bits.
#[inline(always)]
fn even_bytes(word: u32) -> u32 {
    let out;
    // SAFETY: plain arithmetic; this module is compiled only for targets that have it.
    unsafe {
        asm!("sxtb16 {out}, {word}", out = lateout(reg) out, word = in(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Bytes 1 and 3, sign-extended to 16 bits.
#[inline(always)]
fn odd_bytes(word: u32) -> u32 {
    let out;
    // SAFETY: as in `even_bytes`.
    unsafe {
        asm!("sxtb16 {out}, {word}, ror #8", out = lateout(reg) out, word = in(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Some groups of activations, at least one, as [`quads_q8`] takes them.
///
/// # Safety
/// So many groups are there, and [`PAIR_WORDS`] words for each.
#[inline(always)]
unsafe fn fill_q8(quants: *const i8, words: *mut u32, n_groups: usize) {
    // SAFETY: as promised.
    unsafe {
        asm!(
            r"
            .macro smidgen_fill x
            sxtab16 {sum}, {sum}, \x
            sxtb16 {odd}, \x, ror #8
            bic \x, #0xFF00FF00
            lsl \x, #8
            ssub16 \x, \x, {odd}
            strd {odd}, \x, [{words}], #8
            .endm
            3:
            mov {sum}, #0
            add {end}, {at}, #32
            2:
            ldrd {a}, {b}, [{at}], #8
            smidgen_fill {a}
            smidgen_fill {b}
            cmp {at}, {end}
            bne 2b
            mov {a}, #0x80008000
            smuad {sum}, {sum}, {a}
            str {sum}, [{words}, #-68]
            add {words}, #4
            subs {n}, #1
            bne 3b
            .purgem smidgen_fill
            ",
            at = inout(reg) quants => _, end = out(reg) _, n = inout(reg) n_groups => _,
            words = inout(reg) words.add(1) => _, a = out(reg) _, b = out(reg) _, odd = out(reg) _,
            sum = out(reg) _, options(nostack),
        );
    }
}

/// Some groups of activations, at least one, as [`quads_q4`] takes them: of each eight, in the order in which a word has
/// their weights, each one less 16 times the one before; words of the first and fifth, of the second and
/// sixth, and so on.
///
/// # Safety
/// So many groups are there, and [`PAIR_WORDS`] words for each.
#[inline(always)]
unsafe fn fill_q4(quants: *const i8, words: *mut u32, n_groups: usize) {
    // SAFETY: as promised.
    unsafe {
        asm!(
            r"
            .macro smidgen_sixteen out, x
            bic \out, \x, #0xF000F000
            lsl \out, \out, #4
            .endm
            3:
            mov {sum}, #0
            add {end}, {at}, #32
            2:
            ldrd {a}, {c}, [{at}], #8
            sxtab16 {sum}, {sum}, {a}
            sxtab16 {sum}, {sum}, {a}, ror #8
            sxtab16 {sum}, {sum}, {c}
            sxtab16 {sum}, {sum}, {c}, ror #8
            sxtb16 {t}, {a}
            sxtb16 {u}, {c}, ror #8
            lsl {v}, {u}, #20
            ssub16 {v}, {t}, {v}
            smidgen_sixteen {t}, {t}
            sxtb16 {c}, {c}
            ssub16 {t}, {c}, {t}
            strd {v}, {t}, [{words}], #8
            smidgen_sixteen {t}, {c}
            sxtb16 {a}, {a}, ror #8
            ssub16 {t}, {a}, {t}
            smidgen_sixteen {v}, {a}
            ssub16 {v}, {u}, {v}
            strd {t}, {v}, [{words}], #8
            cmp {at}, {end}
            bne 2b
            mvn {a}, #0x00070007
            smuad {sum}, {sum}, {a}
            str {sum}, [{words}, #-68]
            add {words}, #4
            subs {n}, #1
            bne 3b
            .purgem smidgen_sixteen
            ",
            at = inout(reg) quants => _, end = out(reg) _, n = inout(reg) n_groups => _,
            words = inout(reg) words.add(1) => _, a = out(reg) _, c = out(reg) _,
            t = out(reg) _, u = out(reg) _, v = out(reg) _, sum = out(reg) _, options(nostack),
        );
    }
}

/// One input's activations as pairs: what the products of several matrices with it have in common, if it
/// is one vector of one block.
pub(crate) struct Prepared {
    pairs: [MaybeUninit<[u32; PAIR_WORDS]>; GROUPS],
    /// Bits of the weights, and groups, that they are good for; 0 for none.
    good_for: (usize, usize),
}

impl Prepared {
    /// Nothing yet.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { pairs: [MaybeUninit::uninit(); GROUPS], good_for: (0, 0) }
    }

    /// [`Job::pairs_end`] of so many groups and columns.
    #[inline(always)]
    fn end(&self, n_groups: usize, cols: usize) -> *const u8 {
        let begin = self.pairs.as_ptr();
        if n_groups > 1 && (n_groups - 1) * GROUP + GROUP / 2 >= cols {
            begin.wrapping_add(n_groups - 1).cast()
        } else {
            begin.wrapping_add(n_groups).cast::<u8>().wrapping_sub(1)
        }
    }
}

/// The product of some rows with every vector; see [`super::matmul`]. Weights have 8 or 4 bits.
///
/// # Safety
/// Nobody else uses these places of `out`; what is prepared, if anything, is this input.
#[inline(never)]
pub(super) unsafe fn matmul_quantized(
    bits: usize,
    planes: &Planes<'_>,
    input: &Activations<'_>,
    prepared: &mut Prepared,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    let quad_bytes = groups * group_bytes(bits);
    let (first, quads) = (rows.start / QUAD, rows.end.div_ceil(QUAD));
    let lengths_hold = planes.quants.len() >= quads * quad_bytes
        && planes.multipliers.len() >= quads * groups * QUAD
        && planes.scales.len() >= quads * blocks * QUAD
        && input.quants.len() >= input.n * groups * GROUP
        && input.scales.len() >= input.n * blocks
        && input.quants.as_ptr().align_offset(4) == 0
        && planes.quants.as_ptr().align_offset(4) == 0
        && planes.scales.as_ptr().align_offset(4) == 0;
    if !lengths_hold || groups == 0 || input.n == 0 {
        return;
    }
    // What the first block of the first vector begins with in these rows.
    // SAFETY: all that is there (checked above).
    let mut job = unsafe {
        Job {
            multipliers: planes.multipliers.as_ptr().add(first * groups * QUAD),
            pairs_end: prepared.end(groups, input.cols),
            scales: planes.scales.as_ptr().add(first * blocks * QUAD).cast(),
            out: core::ptr::null_mut(),
            end: core::ptr::null_mut(),
            pairs: prepared.pairs.as_ptr().cast(),
            sums: ZEROS.as_ptr(),
            weights: planes.quants.as_ptr().add(first * quad_bytes),
            x_scale: *input.scales.as_ptr(),
            #[cfg(not(target_abi = "eabihf"))]
            add_scaled,
        }
    };
    if input.n > 1 || blocks > 1 || !rows.len().is_multiple_of(QUAD) {
        let job = Blocks { first: job, bits, groups, rows, stride };
        // SAFETY: the lengths hold; the rest as promised.
        return unsafe { blocks_of(&job, input, prepared, out) };
    }
    if prepared.good_for != (bits, groups) {
        // SAFETY: so many groups are there (checked above).
        unsafe { fill_groups(bits, input.quants.as_ptr(), prepared, groups) };
        prepared.good_for = (bits, groups);
    }
    // SAFETY: this caller's own places.
    let places = unsafe { out.part(rows) }.as_mut_ptr_range();
    (job.out, job.end) = (places.start, places.end);
    if job.out != job.end {
        // SAFETY: what the job points to is there for all these rows (checked above), and lies one after the
        // other; pairs have been made.
        unsafe { run_job(bits, &mut job) };
    }
}

/// The products of several vectors, or of rows of several blocks, or that end amid four.
struct Blocks {
    /// Of the first block and vector, without places.
    first: Job,
    bits: usize,
    groups: usize,
    rows: Range<usize>,
    stride: usize,
}

/// See [`Blocks`].
///
/// # Safety
/// What [`matmul_quantized`] checks.
#[inline(never)]
unsafe fn blocks_of(all: &Blocks, input: &Activations<'_>, prepared: &mut Prepared, out: &Disjoint<'_, f32>) {
    let (bits, groups) = (all.bits, all.groups);
    let (blocks, quad_bytes) = (groups.div_ceil(GROUPS), groups * group_bytes(bits));
    let (mut x, mut x_scale) = (input.quants.as_ptr(), input.scales.as_ptr());
    let mut places = all.rows.clone();
    prepared.good_for = (0, 0);
    for _ in 0..input.n {
        // SAFETY: this caller's own places.
        let out = unsafe { out.part(places.clone()) };
        places = places.start + all.stride..places.end + all.stride;
        for block in 0..blocks {
            let n_groups = (groups - block * GROUPS).min(GROUPS);
            // SAFETY: so many groups, and a scale, are there for each block.
            let mut job = unsafe {
                fill_groups(bits, x, prepared, n_groups);
                Job {
                    multipliers: all.first.multipliers.wrapping_add(block * GROUPS * QUAD),
                    pairs_end: prepared.end(n_groups, input.cols.saturating_sub(block * BLOCK)),
                    scales: all.first.scales.wrapping_add(block),
                    out: out.as_mut_ptr(),
                    weights: all.first.weights.wrapping_add(block * GROUPS * group_bytes(bits)),
                    x_scale: *x_scale,
                    ..all.first
                }
            };
            x = x.wrapping_add(n_groups * GROUP);
            x_scale = x_scale.wrapping_add(1);
            let mut left = out.len();
            // Where rows are one block, quads lie one after the other.
            let step = if blocks == 1 { (left / QUAD * QUAD).max(QUAD) } else { QUAD };
            while left > 0 {
                let (out, scales, mut last) = (job.out, job.scales, [0.0; QUAD]);
                // The last quad may have fewer rows than four.
                let rows = left.min(step);
                if rows < QUAD {
                    // SAFETY: so many places are left.
                    unsafe { last.as_mut_ptr().copy_from_nonoverlapping(out, rows) };
                    job.out = last.as_mut_ptr();
                }
                let taken = rows.max(QUAD);
                job.end = job.out.wrapping_add(taken);
                if block > 0 {
                    job.sums = job.out;
                }
                // SAFETY: what the job points to is there for `taken` rows (checked before), and lies one after
                // the other if these are more than one quad.
                unsafe { run_job(bits, &mut job) };
                if rows < QUAD {
                    // SAFETY: as above.
                    unsafe { out.copy_from_nonoverlapping(last.as_ptr(), rows) };
                }
                job.out = out.wrapping_add(rows);
                job.weights = job.weights.wrapping_add(taken / QUAD * quad_bytes);
                job.multipliers = job.multipliers.wrapping_add(taken / QUAD * groups * QUAD);
                job.scales = scales.wrapping_add(taken / QUAD * blocks);
                left -= rows;
            }
        }
    }
}

/// Runs a [`Job`].
///
/// # Safety
/// As for [`quads_q8`].
#[inline(always)]
unsafe fn run_job(bits: usize, job: &mut Job) {
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

/// Some groups of activations as pairs.
///
/// # Safety
/// So many groups are there, at most [`GROUPS`].
#[inline(never)]
unsafe fn fill_groups(bits: usize, x: *const i8, prepared: &mut Prepared, n_groups: usize) {
    let words = prepared.pairs.as_mut_ptr().cast();
    match bits {
        // SAFETY: as promised.
        4 if cfg!(feature = "q4") => unsafe { fill_q4(x, words, n_groups) },
        // SAFETY: as promised.
        _ if cfg!(feature = "q8") => unsafe { fill_q8(x, words, n_groups) },
        _ => {}
    }
}

/// What rows start from.
static ZEROS: [f32; QUAD] = [0.0; QUAD];

/// What some quads of rows have in common with one block of columns, and how far they are. Weights,
/// multipliers and scales of all the quads lie one after the other.
#[repr(C)]
struct Job {
    /// Four for every group.
    multipliers: *const u8,
    /// Where a last group begins of which only the first half is more than padding; where there is none,
    /// one byte below the end. At least one group comes before either.
    pairs_end: *const u8,
    /// The next quad's, bf16.
    scales: *const [u16; QUAD],
    /// The next quad's.
    out: *mut f32,
    /// At least one quad beyond.
    end: *mut f32,
    pairs: *const u32,
    /// What the block's products are added to: for more than one quad it is zeros.
    sums: *const f32,
    weights: *const u8,
    x_scale: f32,
    #[cfg(not(target_abi = "eabihf"))]
    add_scaled: unsafe extern "C" fn(&[i32; QUAD], &mut Job),
}

/// `out = sums + exact · (row's scale · x's scale)` for the next four rows, where there are no
/// instructions for floats.
///
/// # Safety
/// The job's pointers are good.
#[cfg(not(target_abi = "eabihf"))]
unsafe extern "C" fn add_scaled(exact: &[i32; QUAD], job: &mut Job) {
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
/// half is more than padding. Of the registers, r0 to r3 are the group's sums, r8 goes through
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
            ",
            r"
            ldmia r12!, {{r3, r8, r9, r10, lr}}
            smidgen_chunk_q8 r8, r9, r3, r3, r3, r3
            smidgen_chunk_q8 r10, lr, r0, r1, r2, r3
            ldmia r12!, {{r8, r9, r10, lr}}
            smidgen_chunk_q8 r8, r9, r0, r1, r2, r3
            smidgen_chunk_q8 r10, lr, r0, r1, r2, r3
            add r11, #64
            .purgem smidgen_chunk_q8
            .purgem smidgen_row_q8
            ",
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
/// what this was ([`fill_q4`]). All of it is right modulo 2¹⁶ only, but a group's sum of 32 products of at
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

/// Four bytes as they lie in memory.
#[inline(always)]
fn word(bytes: &[i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(|byte| byte as u8))
}

/// The largest magnitude of some numbers, as bits: see [`crate::quant::max_magnitude_bits`].
#[inline(never)]
fn largest_magnitude(values: &[f32]) -> u32 {
    let (fours, rest) = values.as_chunks::<4>();
    let mut max = 0_u32;
    if !fours.is_empty() {
        // Without their sign, floats compare as integers. A larger one is seldom.
        // SAFETY: reads the fours.
        unsafe {
            asm!(
                r"
                2:
                ldm r12!, {{r0-r3}}
                3:
                cmp r4, r0, lsl #1
                blo 4f
                cmp r4, r1, lsl #1
                blo 5f
                cmp r4, r2, lsl #1
                blo 6f
                cmp r4, r3, lsl #1
                blo 7f
                cmp r12, lr
                bne 2b
                b 8f
                4:
                lsl r4, r0, #1
                b 3b
                5:
                lsl r4, r1, #1
                b 3b
                6:
                lsl r4, r2, #1
                b 3b
                7:
                lsl r4, r3, #1
                b 3b
                8:
                ",
                inout("r12") fours.as_ptr() => _, in("lr") fours.as_ptr_range().end, inout("r4") max,
                out("r0") _, out("r1") _, out("r2") _, out("r3") _, options(nostack, readonly),
            );
        }
    }
    rest.iter().fold(max >> 1, |max, x| max.max(x.to_bits() & 0x7FFF_FFFF))
}
