//! Cortex-M4, M7 (and M33 with the extension): SMLAD multiplies two pairs of 16 bits and adds both
//! products. SXTB16 makes such pairs of bytes 0 and 2 of a word, or of 1 and 3; of 4-bit weights a
//! mask does. Activations are made pairs once for a product, and serve four rows at a time.

mod attention;

use core::arch::asm;
use core::mem::MaybeUninit;
use core::ops::Range;

use super::Activations;
use crate::format::{BLOCK, GROUP, QUAD};
use crate::tensor::Planes;
use crate::workers::Disjoint;

pub(super) use attention::Dsp;

/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;

/// Bytes of one group of a quad's quants.
const fn group_bytes(bits: usize) -> usize {
    QUAD * GROUP * bits / 8
}

/// Words of one group of activations as pairs: 32 of 16 bits, with what 4-bit weights start from.
const fn pair_words(bits: usize) -> usize {
    GROUP / 2 + if bits == 4 { 1 } else { 0 }
}

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

/// The product of some rows with every vector; see [`super::matmul`]. `BITS` is 8 or 4.
///
/// # Safety
/// Nobody else uses these places of `out`.
pub(super) unsafe fn matmul_quantized<const BITS: usize>(
    planes: &Planes<'_>,
    input: &Activations<'_>,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    let quads = planes.quants.len() / (groups * group_bytes(BITS)).max(1);
    let lengths_hold = planes.multipliers.len() >= quads * groups * QUAD
        && planes.scales.len() >= quads * blocks * QUAD
        && planes.quants.as_ptr().align_offset(4) == 0
        && planes.multipliers.as_ptr().align_offset(4) == 0
        && planes.scales.as_ptr().align_offset(4) == 0;
    if !lengths_hold {
        return;
    }
    let rows = rows.start..rows.end.min(quads * QUAD);
    for i in 0..input.n {
        let x = input.quantized(i, planes.padded_cols);
        // SAFETY: this caller's own places.
        let out = unsafe { out.part(i * stride + rows.start..i * stride + rows.end) };
        out.fill(0.0);
        let of_block = x.quants.chunks(BLOCK).zip(x.sums.chunks(GROUPS)).zip(x.scales);
        for (block, ((quants, sums), x_scale)) in of_block.enumerate() {
            let mut pairs = Pairs::<BITS>::new();
            let n_groups = pairs.fill(quants, sums);
            if n_groups == 0 {
                continue; // what runs over groups below runs over at least one
            }
            let (whole, rest) = out.as_chunks_mut::<QUAD>();
            // The last quad may have fewer rows than four.
            let mut last = [0.0; QUAD];
            for (last, out) in last.iter_mut().zip(&*rest) {
                *last = *out;
            }
            let first = rows.start / QUAD;
            let beyond = first + whole.len();
            let parts = [(first, whole), (beyond, core::slice::from_mut(&mut last))];
            for (quad, out) in parts.into_iter().take(if rest.is_empty() { 1 } else { 2 }) {
                if out.is_empty() {
                    continue;
                }
                let group = quad * groups + block * GROUPS;
                // SAFETY: the planes have `quads` times `groups` groups and as many blocks (checked
                // above), and these lie among them.
                unsafe {
                    let mut job = Job {
                        weights: planes.quants.as_ptr().add(group * group_bytes(BITS)),
                        multipliers: planes.multipliers.as_ptr().add(group * QUAD),
                        pairs: pairs.words.as_ptr().cast(),
                        pairs_end: pairs.words.as_ptr().add(n_groups * pair_words(BITS)).cast(),
                        out: out.as_mut_ptr(),
                        quads: out.len(),
                        skip_weights: (groups - n_groups) * group_bytes(BITS),
                        skip_multipliers: (groups - n_groups) * QUAD,
                        scales: planes.scales.as_ptr().add((quad * blocks + block) * QUAD).cast(),
                        scale_stride: blocks * QUAD * size_of::<u16>(),
                        x_scale: *x_scale,
                        #[cfg(not(target_abi = "eabihf"))]
                        add_scaled,
                    };
                    if BITS == 4 { quads_q4(&mut job) } else { quads_q8(&mut job) }
                }
            }
            for (last, out) in last.iter().zip(rest) {
                *out = *last;
            }
        }
    }
}

/// One block of activations as pairs of 16 bits: of each four columns those of 0 and 2, then of 1
/// and 3. For 4-bit weights, which are stored plus 8, each group begins with what takes that off.
struct Pairs<const BITS: usize> {
    words: [MaybeUninit<u32>; GROUPS * pair_words(4)],
}

impl<const BITS: usize> Pairs<BITS> {
    fn new() -> Self {
        Self { words: [MaybeUninit::uninit(); GROUPS * pair_words(4)] }
    }

    /// Gives the number of groups, all of whose words are there then.
    fn fill(&mut self, quants: &[i8], sums: &[i32]) -> usize {
        let groups = quants.as_chunks::<GROUP>().0.iter().zip(sums);
        let n_groups = groups.len();
        for ((quants, sum), words) in groups.zip(self.words.chunks_exact_mut(pair_words(BITS))) {
            let words = match words.split_first_mut() {
                Some((first, rest)) if BITS == 4 => {
                    first.write((-8 * sum) as u32);
                    rest
                }
                _ => words,
            };
            for (quants, words) in quants.as_chunks::<4>().0.iter().zip(words.as_chunks_mut::<2>().0) {
                let x = word(quants);
                *words = [MaybeUninit::new(even_bytes(x)), MaybeUninit::new(odd_bytes(x))];
            }
        }
        n_groups
    }
}

/// What some quads of rows have in common with one block of columns, and how far they are:
/// [`quads_q8`] and [`quads_q4`] add to `out`.
#[repr(C)]
struct Job {
    /// The first quad's groups of this block, one after the other.
    weights: *const u8,
    /// Four for every group.
    multipliers: *const u8,
    /// At least one group of [`Pairs`].
    pairs: *const u32,
    pairs_end: *const u32,
    /// The next quad's.
    out: *mut [f32; QUAD],
    /// At least one.
    quads: usize,
    /// Bytes from the end of a quad's groups to the next quad's.
    skip_weights: usize,
    skip_multipliers: usize,
    /// The next quad's, bf16.
    scales: *const [u16; QUAD],
    /// Bytes from a quad's scales to the next quad's.
    scale_stride: usize,
    x_scale: f32,
    #[cfg(not(target_abi = "eabihf"))]
    add_scaled: unsafe extern "C" fn(&[i32; QUAD], &mut Job),
}

/// `out += exact · (row's scale · x's scale)` for the next four rows, where there are no instructions
/// for floats.
///
/// # Safety
/// The job's pointers are good.
#[cfg(not(target_abi = "eabihf"))]
unsafe extern "C" fn add_scaled(exact: &[i32; QUAD], job: &mut Job) {
    // SAFETY: as promised.
    let (out, scales) = unsafe { (&mut *job.out, &*job.scales) };
    for ((out, &exact), &scale) in out.iter_mut().zip(exact).zip(scales) {
        *out += exact as f32 * (crate::quant::bf16_to_f32(scale) * job.x_scale);
    }
    job.out = job.out.wrapping_add(1);
    job.scales = job.scales.wrapping_byte_add(job.scale_stride);
}

/// Goes through a job's quads; `$group` computes one group's four sums. Of the registers, r0 to r3
/// are these sums, r11 goes through the weights, r12 through the pairs, lr through the multipliers; on
/// the stack lie the block's four sums, the job and the end of the pairs.
macro_rules! quads {
    ($job:expr, $group:literal) => {
        #[cfg(target_abi = "eabihf")]
        quads!(
            @ $job, $group,
            r"
            ldrd r1, r2, [r0, #32]
            ldr r3, [r0, #16]
            vldr s8, [r0, #40]
            ldrd r9, r10, [r1]
            add r1, r2
            str r1, [r0, #32]
            vmov s0, s1, r4, r5
            vmov s2, s3, r6, r7
            lsl r4, r9, #16
            bfc r9, #0, #16
            lsl r5, r10, #16
            bfc r10, #0, #16
            vmov s4, s5, r4, r9
            vmov s6, s7, r5, r10
            vcvt.f32.s32 s0, s0
            vcvt.f32.s32 s1, s1
            vcvt.f32.s32 s2, s2
            vcvt.f32.s32 s3, s3
            vmul.f32 s4, s4, s8
            vmul.f32 s5, s5, s8
            vmul.f32 s6, s6, s8
            vmul.f32 s7, s7, s8
            vmul.f32 s0, s0, s4
            vmul.f32 s1, s1, s5
            vmul.f32 s2, s2, s6
            vmul.f32 s3, s3, s7
            vldm r3, {{s4-s7}}
            vadd.f32 s0, s4, s0
            vadd.f32 s1, s5, s1
            vadd.f32 s2, s6, s2
            vadd.f32 s3, s7, s3
            vstmia r3!, {{s0-s3}}
            str r3, [r0, #16]
            ",
            out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _,
            out("s7") _, out("s8") _,
        );
        #[cfg(not(target_abi = "eabihf"))]
        quads!(
            @ $job, $group,
            r"
            mov r10, lr
            mov r1, r0
            mov r0, sp
            ldr r3, [r1, #44]
            blx r3
            mov lr, r10
            ldr r0, [sp, #16]
            ",
        );
    };
    (@ $job:expr, $group:literal, $add_scaled:literal, $($floats:tt)*) => {
        asm!(
            // The compiler may want r6 and r7 for itself, so they can't be named as operands.
            r"
            push {{r6, r7}}
            sub sp, sp, #24
            ldr r1, [r0, #12]
            strd r0, r1, [sp, #16]
            ldr r11, [r0]
            ldr lr, [r0, #4]
            ldr r12, [r0, #8]
            2:
            mov r4, #0
            mov r5, #0
            strd r4, r5, [sp]
            strd r4, r5, [sp, #8]
            3:
            ",
            $group,
            r"
            ldm sp, {{r4-r7}}
            ldr r8, [lr], #4
            ldr r10, [sp, #20]
            uxtb r9, r8
            mla r4, r0, r9, r4
            uxtb r9, r8, ror #8
            mla r5, r1, r9, r5
            uxtb r9, r8, ror #16
            mla r6, r2, r9, r6
            lsr r9, r8, #24
            mla r7, r3, r9, r7
            stm sp, {{r4-r7}}
            cmp r12, r10
            bne 3b
            ldr r0, [sp, #16]
            ",
            $add_scaled,
            r"
            ldrd r1, r2, [r0, #20]
            ldr r3, [r0, #28]
            ldr r12, [r0, #8]
            add r11, r2
            add lr, r3
            subs r1, #1
            str r1, [r0, #20]
            bne 2b
            add sp, sp, #24
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
/// # Safety
/// All that it points to is there, 4-aligned.
#[inline(never)]
unsafe fn quads_q8(job: &mut Job) {
    // r8 and r9 are four columns' activations, r4 to r7 the four rows' weights there.
    // SAFETY: touches what the job points to, as promised, and what lies below the stack pointer.
    unsafe {
        quads!(
            &raw mut *job,
            r"
            .macro smidgen_row_q8 w, sum, start
            sxtb16 r10, \w
            .ifb \start
            smuad \sum, r10, r8
            .else
            smlad \sum, r10, r8, \start
            .endif
            sxtb16 \w, \w, ror #8
            smlad \sum, \w, r9, \sum
            .endm
            .macro smidgen_chunk_q8 a, b, c, d
            ldrd r8, r9, [r12], #8
            ldmia r11!, {{r4-r7}}
            smidgen_row_q8 r4, r0, \a
            smidgen_row_q8 r5, r1, \b
            smidgen_row_q8 r6, r2, \c
            smidgen_row_q8 r7, r3, \d
            .endm
            smidgen_chunk_q8
            .rept 7
            smidgen_chunk_q8 r0, r1, r2, r3
            .endr
            .purgem smidgen_chunk_q8
            .purgem smidgen_row_q8
            "
        );
    }
}

/// Runs a [`Job`] with 4-bit weights.
///
/// # Safety
/// As for [`quads_q8`].
#[inline(never)]
unsafe fn quads_q4(job: &mut Job) {
    // r4 is the mask of two weights, r5 to r8 are eight columns' activations, r9 a row's weights there.
    // SAFETY: as in `quads_q8`.
    unsafe {
        quads!(
            &raw mut *job,
            r"
            .macro smidgen_row_q4 sum, start
            ldr r9, [r11], #4
            and r10, r4, r9
            smlad \sum, r10, r5, \start
            and r10, r4, r9, lsr #8
            smlad \sum, r10, r6, \sum
            and r10, r4, r9, lsr #4
            smlad \sum, r10, r7, \sum
            and r10, r4, r9, lsr #12
            smlad \sum, r10, r8, \sum
            .endm
            .macro smidgen_chunk_q4 a, b, c, d
            ldmia r12!, {{r5-r8}}
            smidgen_row_q4 r0, \a
            smidgen_row_q4 r1, \b
            smidgen_row_q4 r2, \c
            smidgen_row_q4 r3, \d
            .endm
            mov r4, #0x000F000F
            ldr r3, [r12], #4
            smidgen_chunk_q4 r3, r3, r3, r3
            .rept 3
            smidgen_chunk_q4 r0, r1, r2, r3
            .endr
            .purgem smidgen_chunk_q4
            .purgem smidgen_row_q4
            "
        );
    }
}

/// Four bytes as they lie in memory.
#[inline(always)]
fn word(bytes: &[i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(|byte| byte as u8))
}
