//! Attention of two queries that share keys and values: these are made pairs of 16 bits once for both.

use core::arch::asm;

use super::attention::{MOST_COARSE, largest, value_shift};
use super::query::{TwoPairs, WIDEST};
use crate::format::QUAD;
use crate::kernels::attention::{
    FEW, HeadCacheQ8, NO_NUMBER, POWERS, SUM_SHIFT, Scratch, parts_of, scales_of,
};

/// Two queries at once, if they are two, of a width and with scores that this can do; else `None`, and
/// nothing has happened.
#[inline(never)]
pub(super) fn attend_two(
    queries: &[f32],
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) -> Option<()> {
    let n_quads = len.div_ceil(QUAD);
    let (key_scales, value_scales) = scales_of(cache, n_quads * QUAD)?;
    let scores =
        crate::cast::f32_as_i16_mut(scratch.scores).as_chunks_mut::<QUAD>().0.get_mut(..2 * n_quads)?;
    let can = head_dim > 0
        && head_dim.is_multiple_of(8)
        && head_dim <= WIDEST
        && queries.len() == 2 * head_dim
        && out.len() == queries.len()
        && (1..=FEW).contains(&len)
        && cache.keys.len() >= n_quads * QUAD * head_dim
        && cache.values.len() >= n_quads * QUAD * head_dim
        && cache.keys.as_ptr().align_offset(4) == 0
        && cache.values.as_ptr().align_offset(4) == 0
        && scores.as_ptr().cast::<u32>().align_offset(4) == 0;
    let largest_key = largest(key_scales.get(..len)?);
    let largest_value = largest(value_scales.get(..len)?);
    if !can || largest_key.max(largest_value) == NO_NUMBER {
        return None;
    }
    let mut pairs = TwoPairs::new();
    let (query_a, query_b) = queries.split_at_checked(head_dim)?;
    let a = pairs.fill(0, query_a, largest_key)?;
    let b = pairs.fill(1, query_b, largest_key)?;
    if a.coarse.max(b.coarse) > MOST_COARSE {
        return None;
    }
    // One shift for both: the other query is multiplied instead, as far as 16 bits go.
    let shift = a.shift.max(b.shift);
    let (more_a, more_b) = (shift - a.shift, shift - b.shift);
    if more_a.max(more_b) > MOST_MORE || shift < (u32::from(largest_key) >> 3) + LEAST_SHIFT {
        return None;
    }
    pairs.multiply(0, more_a);
    pairs.multiply(1, more_b);
    let (whole, last) = scores.split_at_mut_checked(2 * (len / QUAD))?;
    let keys = cache.keys.as_ptr();
    let mut job = ScoreJob {
        codes: key_scales.as_ptr().cast(),
        shift: 32 - shift as i32,
        max: [LEAST_PAIR; 2],
        out: whole.as_mut_ptr().cast(),
        end: whole.as_mut_ptr_range().end.cast(),
        pairs: pairs.as_ptr(),
        back: 4 * head_dim - 8,
    };
    let pairs_end = pairs.as_ptr().wrapping_add(head_dim);
    if let [last_a, last_b] = last {
        let first = len / QUAD * QUAD;
        let mut last_job = ScoreJob {
            codes: key_scales.as_ptr().wrapping_add(first).cast(),
            out: job.end,
            end: job.end.wrapping_add(1),
            ..job
        };
        // SAFETY: a quad of keys, their scales and places for two queries' scores are there (all checked
        // above), and two queries' pairs. Nobody looks at what comes of positions that are not there yet.
        unsafe { score_quads(&mut last_job, keys.add(first * head_dim), pairs_end) };
        let there = [[0, 0], [0xFFFF, 0], [!0, 0], [!0, 0xFFFF]][len % QUAD];
        for (max, scores) in job.max.iter_mut().zip([last_a, last_b]) {
            for (pair, there) in as_pairs(scores).iter_mut().zip(there) {
                *pair = *pair & there | LEAST_PAIR & !there;
                *max = larger(*max, *pair);
            }
        }
    }
    if job.out != job.end {
        // SAFETY: as above, for so many quads.
        unsafe { score_quads(&mut job, keys, pairs_end) };
    }
    let max = job.max.map(|max| larger(max, max.rotate_right(16)));
    // SAFETY: so many quads of both queries' scores are there, and the scales of their values.
    let sums = unsafe { weigh_two(scores, max, [a.coarse, b.coarse], value_scales, largest_value) };
    // SAFETY: so many quads of values and weights are there, and `out` is two heads.
    unsafe { mix_two(cache.values.as_ptr(), scores, out, head_dim) };
    let (out_a, out_b) = out.split_at_mut_checked(head_dim)?;
    for (out, sum) in [(out_a, sums[0]), (out_b, sums[1])] {
        multiply(out, unit_of_few(sum, largest_value));
    }
    Some(())
}

/// [`unit`](crate::kernels::attention::unit) where positions are [`FEW`]: weights need not be smaller then.
#[inline(always)]
fn unit_of_few(sum: u32, largest_value_scale: u8) -> f32 {
    let (_, exponent) = parts_of(largest_value_scale);
    f32::from_bits((exponent + 109) << 23) / sum as i32 as f32
}

/// Integers as the bits of floats become floats, times `unit`; at least one four of them.
#[cfg(target_abi = "eabihf")]
#[inline(always)]
fn multiply(out: &mut [f32], unit: f32) {
    let fours = out.as_chunks_mut::<4>().0.as_mut_ptr_range();
    if fours.is_empty() {
        return;
    }
    // SAFETY: reads and writes the fours.
    unsafe {
        asm!(
            r"
            vmov s4, {unit}
            2:
            vldm {at}, {{s0-s3}}
            vcvt.f32.s32 s0, s0
            vcvt.f32.s32 s1, s1
            vcvt.f32.s32 s2, s2
            vcvt.f32.s32 s3, s3
            vmul.f32 s0, s0, s4
            vmul.f32 s1, s1, s4
            vmul.f32 s2, s2, s4
            vmul.f32 s3, s3, s4
            vstmia {at}!, {{s0-s3}}
            cmp {at}, {end}
            bne 2b
            ",
            unit = in(reg) unit.to_bits(), at = inout(reg) fours.start => _, end = in(reg) fours.end,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, options(nostack),
        );
    }
}

/// The same without instructions for floats.
#[cfg(not(target_abi = "eabihf"))]
#[inline(always)]
fn multiply(out: &mut [f32], unit: f32) {
    for out in out {
        *out = out.to_bits() as i32 as f32 * unit;
    }
}

/// Two scores of a position that is not there.
const LEAST_PAIR: u32 = 0x8000_8000;

/// Four scores as two pairs.
fn as_pairs(scores: &mut [i16; QUAD]) -> &mut [u32] {
    // SAFETY: words of any bits are good; those of a quad are aligned, or there are none.
    unsafe { scores.align_to_mut().1 }
}

/// The larger of two scores twice.
#[inline(always)]
fn larger(a: u32, b: u32) -> u32 {
    let out;
    // SAFETY: plain arithmetic. The flags of a subtraction say which of two halves `sel` takes.
    unsafe {
        asm!(
            "ssub16 {out}, {a}, {b}",
            "sel {out}, {a}, {b}",
            out = out(reg) out, a = in(reg) a, b = in(reg) b, options(pure, nomem, nostack),
        );
    }
    out
}

/// The most bits by which a query can be multiplied.
const MOST_MORE: u32 = 4;
/// A fraction of four bits that is shifted by 32 less so much has room in a signed word.
const LEAST_SHIFT: u32 = 5;

/// What [`score_quads`] goes through.
#[repr(C)]
struct ScoreJob {
    /// The next quad's key scales.
    codes: *const [u8; QUAD],
    /// By how many bits more than its exponent the fraction of a key's scale is shifted to the left, so that
    /// the upper half of its product with an inner product is a score.
    shift: i32,
    /// The largest scores of even and odd positions, of both queries.
    max: [u32; 2],
    /// The next quad's scores: four of the first query, four of the second.
    out: *mut [[i16; QUAD]; 2],
    end: *mut [[i16; QUAD]; 2],
    /// [`TwoPairs`].
    pairs: *const u32,
    /// Bytes from the end of positions 0 and 1 of a quad back to 2 and 3.
    back: usize,
}

/// The scores of two queries with quads of positions, at least one: what `ScoreScale::score` says, the
/// query's fraction being in it already. A key's shift stops at 31 bits less than a word: what is smaller
/// yet is 0 or −1 all the same.
///
/// # Safety
/// The job's codes, places and pairs are there, and as many quads of keys of `back + 8` bytes; the
/// pairs are an even number of fours. All is 4-aligned.
#[inline(never)]
unsafe fn score_quads(job: &mut ScoreJob, keys: *const i8, pairs_end: *const u32) {
    // r0 to r3 are the sums of two positions with the first query and with the second, r4 to r7 both
    // queries' pairs, r8 and r9 the keys, which r11 goes through as r12 goes through the pairs. The
    // stack has the job.
    // SAFETY: reads and writes what was promised, and what lies below the stack pointer.
    unsafe {
        asm!(
            r"
            .macro smidgen_four start
            ldrd r8, r9, [r11], #16
            ldm r12!, {{r4-r7}}
            sxtb16 r10, r8
            .ifb \start
            smuad r0, r10, r4
            smuad r2, r10, r6
            .else
            smlad r0, r10, r4, r0
            smlad r2, r10, r6, r2
            .endif
            sxtb16 r8, r8, ror #8
            smlad r0, r8, r5, r0
            smlad r2, r8, r7, r2
            sxtb16 r10, r9
            .ifb \start
            smuad r1, r10, r4
            smuad r3, r10, r6
            .else
            smlad r1, r10, r4, r1
            smlad r3, r10, r6, r3
            .endif
            sxtb16 r9, r9, ror #8
            smlad r1, r9, r5, r1
            smlad r3, r9, r7, r3
            .endm
            .macro smidgen_scores at
            smidgen_four
            smidgen_four more
            cmp r12, lr
            beq 4f
            3:
            smidgen_four more
            smidgen_four more
            cmp r12, lr
            bne 3b
            4:
            ldrd r4, r5, [sp]
            ldrb r7, [r4, #\at]
            ldrb r8, [r4, #\at + 1]
            mov r9, #8
            bfi r9, r7, #0, #3
            add r7, r5, r7, lsr #3
            usat r7, #5, r7
            lsl r7, r9, r7
            bfi r9, r8, #0, #3
            add r8, r5, r8, lsr #3
            usat r8, #5, r8
            lsl r8, r9, r8
            smmul r0, r0, r7
            smmul r2, r2, r7
            smmul r1, r1, r8
            smmul r3, r3, r8
            ldrd r8, r9, [sp, #8]
            pkhbt r0, r0, r1, lsl #16
            pkhbt r2, r2, r3, lsl #16
            ssub16 r1, r8, r0
            sel r8, r8, r0
            ssub16 r1, r9, r2
            sel r9, r9, r2
            strd r8, r9, [sp, #8]
            .endm
            push {{r6, r7}}
            sub sp, #40
            str r0, [sp, #32]
            ldm r0, {{r1-r8}}
            stm sp, {{r1-r8}}
            mov r12, r7
            2:
            smidgen_scores 0
            ldr r6, [sp, #16]
            ldrd r12, r7, [sp, #24]
            str r0, [r6]
            str r2, [r6, #8]
            sub r11, r7
            smidgen_scores 2
            add r4, #4
            str r4, [sp]
            ldrd r6, r7, [sp, #16]
            ldr r12, [sp, #24]
            str r0, [r6, #4]
            str r2, [r6, #12]
            add r6, #16
            str r6, [sp, #16]
            sub r11, #8
            cmp r6, r7
            bne 2b
            ldr r0, [sp, #32]
            strd r8, r9, [r0, #8]
            add sp, #40
            pop {{r6, r7}}
            .purgem smidgen_scores
            .purgem smidgen_four
            ",
            inout("r0") &raw mut *job => _, inout("r11") keys => _, inout("lr") pairs_end => _,
            out("r1") _, out("r2") _, out("r3") _, out("r4") _, out("r5") _, out("r8") _, out("r9") _,
            out("r10") _, out("r12") _,
        );
    }
}

/// [`Products::weigh`](crate::kernels::attention::Products::weigh) of two queries, whose quads of scores
/// take turns: the weights of each four positions as pairs, 0 with 2 and 1 with 3. A score of `i16::MIN`
/// is a position that is not there.
///
/// # Safety
/// There is a quad of each query at least, and there are as many quads of value scales; the scores' shifts
/// are at most [`MOST_COARSE`].
unsafe fn weigh_two(
    scores: &mut [[i16; QUAD]],
    [max_a, max_b]: [u32; 2],
    coarse: [u32; 2],
    value_scales: &[u8],
    largest: u8,
) -> [u32; 2] {
    let range = scores.as_mut_ptr_range();
    let job = [max_a, max_b, coarse[0] | coarse[1] << 16, range.end as u32];
    let mut sum_a = 0_u32;
    let sum_b: u32;
    // r0 to r3 are four distances from the largest score of the first query and of the second, r4 an
    // exponential, r5 its shift, r6 the scale of a value as a factor and r8 its fraction, r10 and r7 the
    // sums.
    // SAFETY: reads and writes the quads; reads the scales, the job and the table.
    unsafe {
        asm!(
            r"
            .macro smidgen_weight d, shift, sum, at
            lsr r5, \d, #\shift
            ldr r4, [r11, r4, lsl #2]
            lsr r4, r4, r5
            add \sum, \sum, r4, lsr #{sum_shift}
            smmulr r4, r4, r6
            strh r4, [r12, #\at]
            .endm
            .macro smidgen_position
            ldrb r5, [lr], #1
            bfi r8, r5, #0, #3
            add r5, r9, r5, lsr #3
            lsl r6, r8, r5
            .endm
            .macro smidgen_positions a, b, at
            smidgen_position
            uxtb r4, \a
            smidgen_weight \a, 8, r10, \at
            uxtb r4, \b
            smidgen_weight \b, 8, r7, \at + 8
            smidgen_position
            uxtb r4, \a, ror #16
            smidgen_weight \a, 24, r10, \at + 4
            uxtb r4, \b, ror #16
            smidgen_weight \b, 24, r7, \at + 12
            .endm
            push {{r6, r7}}
            ldm r0, {{r1-r4}}
            push {{r1-r4}}
            mov r7, #0
            mov r8, #8
            2:
            ldm r12, {{r0-r3}}
            ldrd r4, r5, [sp]
            qsub16 r0, r4, r0
            qsub16 r1, r4, r1
            qsub16 r2, r5, r2
            qsub16 r3, r5, r3
            usat16 r0, #13, r0
            usat16 r1, #13, r1
            usat16 r2, #13, r2
            usat16 r3, #13, r3
            ldr r4, [sp, #8]
            cbz r4, 3f
            lsl r0, r0, r4
            lsl r1, r1, r4
            lsr r4, r4, #16
            lsl r2, r2, r4
            lsl r3, r3, r4
            3:
            smidgen_positions r0, r2, 0
            smidgen_positions r1, r3, 2
            ldr r4, [sp, #12]
            add r12, #16
            cmp r12, r4
            bne 2b
            mov r0, r7
            add sp, #16
            pop {{r6, r7}}
            .purgem smidgen_positions
            .purgem smidgen_position
            .purgem smidgen_weight
            ",
            sum_shift = const SUM_SHIFT,
            inout("r0") job.as_ptr() => sum_b, out("r1") _, out("r2") _, out("r3") _, out("r4") _,
            out("r5") _, out("r8") _, in("r9") value_shift(largest), inout("r10") sum_a,
            in("r11") POWERS.as_ptr(), inout("r12") range.start => _,
            inout("lr") value_scales.as_ptr() => _,
        );
    }
    [sum_a, sum_b]
}

/// Two heads of sums of weight · value, integers as the bits of floats: `out` is the first, then the
/// second.
///
/// # Safety
/// For each two quads of weights (at least two), the first head's and the second's, four times
/// `head_dim` values are there; `head_dim` is even and `out` twice as long; all of it 4-aligned.
#[inline(never)]
unsafe fn mix_two(values: *const i8, weights: &[[i16; QUAD]], out: &mut [f32], head_dim: usize) {
    let weights = weights.as_ptr_range();
    let out = out.as_mut_ptr();
    let job = [
        weights.end as usize,
        weights.start as usize,
        values as usize,
        out as usize,
        4 * head_dim,
        // SAFETY: the end of the first head.
        unsafe { out.add(head_dim) } as usize,
    ];
    // r0 and r1 are two numbers of the first head, r2 and r3 of the second; r4 to r7 both heads' weights,
    // which r12 goes through as r11 goes through the values.
    // SAFETY: reads the weights and values and writes the places, all of which are there.
    unsafe {
        asm!(
            r"
            .macro smidgen_mix
            ldm r12!, {{r4-r7}}
            ldrd r8, r9, [r11]
            add r11, lr
            sxtb16 r10, r8
            smlad r0, r10, r4, r0
            smlad r2, r10, r6, r2
            sxtb16 r8, r8, ror #8
            smlad r0, r8, r5, r0
            smlad r2, r8, r7, r2
            sxtb16 r10, r9
            smlad r1, r10, r4, r1
            smlad r3, r10, r6, r3
            sxtb16 r9, r9, ror #8
            smlad r1, r9, r5, r1
            smlad r3, r9, r7, r3
            .endm
            push {{r6, r7}}
            sub sp, #24
            ldm r0, {{r1-r5, r8}}
            stm sp, {{r1-r5, r8}}
            mov lr, r5
            2:
            ldrd r4, r12, [sp]
            ldr r11, [sp, #8]
            sub r5, r4, r12
            mov r0, #0
            mov r1, #0
            mov r2, #0
            mov r3, #0
            lsls r5, r5, #27
            bcc 7f
            bmi 4f
            b 5f
            7:
            bmi 6f
            3:
            smidgen_mix
            4:
            smidgen_mix
            5:
            smidgen_mix
            6:
            smidgen_mix
            ldr r10, [sp]
            cmp r12, r10
            bne 3b
            ldrd r4, r5, [sp, #8]
            add r6, r5, lr
            strd r2, r3, [r6]
            strd r0, r1, [r5], #8
            add r4, #8
            strd r4, r5, [sp, #8]
            ldr r6, [sp, #20]
            cmp r5, r6
            bne 2b
            add sp, #24
            pop {{r6, r7}}
            .purgem smidgen_mix
            ",
            inout("r0") job.as_ptr() => _, out("r1") _, out("r2") _, out("r3") _, out("r4") _, out("r5") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("lr") _,
        );
    }
}
