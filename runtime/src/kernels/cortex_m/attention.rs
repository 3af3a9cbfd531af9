//! Attention on cores with the DSP extension: four positions at a time, so that four sums stay in
//! registers. What follows in floats is written out where there are registers for them.

use core::arch::asm;
use core::mem::MaybeUninit;

use super::{even_bytes, odd_bytes, word};
use crate::format::QUAD;
use crate::kernels::attention::{NO_NUMBER, Products, scale_of, scale_of_number};
use crate::math::to_weight;
#[cfg(target_abi = "eabihf")]
use crate::math::{EXP, ROUND, exp, sum_lanes};

/// The level's steps of attention.
pub(in crate::kernels) struct Dsp;

/// Multiplies four words of bytes, r4 to r7, with what r8 and r9 hold: bytes 0 and 2 with r8's halves,
/// 1 and 3 with r9's. The sums are r0 to r3.
macro_rules! four_words {
    () => {
        r"
        sxtb16 r10, r4
        smlad r0, r10, r8, r0
        sxtb16 r4, r4, ror #8
        smlad r0, r4, r9, r0
        sxtb16 r10, r5
        smlad r1, r10, r8, r1
        sxtb16 r5, r5, ror #8
        smlad r1, r5, r9, r1
        sxtb16 r10, r6
        smlad r2, r10, r8, r2
        sxtb16 r6, r6, ror #8
        smlad r2, r6, r9, r2
        sxtb16 r10, r7
        smlad r3, r10, r8, r3
        sxtb16 r7, r7, ror #8
        smlad r3, r7, r9, r3
        "
    };
}

impl Products for Dsp {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        let quad_bytes = QUAD * query.len();
        let n_quads = keys.len().checked_div(quad_bytes).unwrap_or(0).min(out.len().div_ceil(QUAD));
        if keys.as_ptr().align_offset(4) != 0 {
            return;
        }
        let (whole, rest) = out.as_chunks_mut::<QUAD>();
        let n_whole = whole.len().min(n_quads);
        let mut pairs = Pairs::new();
        let mut parts = query.chunks(4 * PART);
        pairs.fill(parts.next().unwrap_or(&[]));
        let mut last = [0.0; QUAD];
        // SAFETY: `n_quads` quads of keys are there, and so many places.
        unsafe {
            dot_quads(keys.as_ptr(), &pairs, quad_bytes, whole.as_mut_ptr(), n_whole);
            if n_quads > n_whole {
                dot_quads(keys.as_ptr().add(n_whole * quad_bytes), &pairs, quad_bytes, &mut last, 1);
            }
        }
        for (out, last) in rest.iter_mut().zip(last) {
            *out = last;
        }
        for (part, query) in parts.enumerate() {
            pairs.fill(query);
            for (quad, out) in out.chunks_mut(QUAD).take(n_quads).enumerate() {
                let at = quad * quad_bytes + (part + 1) * 4 * PART * QUAD;
                let mut more = [0.0; QUAD];
                // SAFETY: the part's bytes of this quad begin there.
                unsafe { dot_quads(keys.as_ptr().add(at), &pairs, quad_bytes, &mut more, 1) };
                for (out, more) in out.iter_mut().zip(more) {
                    *out = f32::from_bits(out.to_bits().wrapping_add(more.to_bits()));
                }
            }
        }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        let head_dim = out.len();
        let quads = weights.as_chunks::<QUAD>().0;
        let n_quads = quads.len().min(values.len().checked_div(QUAD * head_dim).unwrap_or(0));
        if n_quads == 0
            || values.as_ptr().align_offset(4) != 0
            || quads.as_ptr().cast::<u32>().align_offset(4) != 0
        {
            return;
        }
        let (whole, rest) = out.as_chunks_mut::<4>();
        let n_whole = whole.len();
        for (four, out) in whole.iter_mut().enumerate() {
            // SAFETY: all quads are there, each of QUAD · head_dim values.
            unsafe { mix_four(values.as_ptr().add(four * 4 * QUAD), QUAD * head_dim, quads, n_quads, out) };
        }
        for (i, out) in rest.iter_mut().enumerate() {
            let mut sum = 0_i32;
            for (quad, weights) in quads.iter().enumerate().take(n_quads) {
                let at = quad * head_dim + 4 * n_whole + i;
                let values = values.as_chunks::<QUAD>().0.get(at).unwrap_or(&[0; QUAD]);
                let values = values.map(i32::from);
                let [w0, w2, w1, w3] = weights.map(i32::from);
                sum = sum.wrapping_add(w0 * values[0] + w1 * values[1]);
                sum = sum.wrapping_add(w2 * values[2] + w3 * values[3]);
            }
            *out = f32::from_bits(sum as u32);
        }
    }

    #[inline(always)]
    fn scores(keys: &[i8], key_scales: &[u8], query: &[i8], scale: f32, out: &mut [f32]) {
        Self::key_dots(keys, query, out);
        let scaled = |score: f32, key_scale: f32| score.to_bits() as i32 as f32 * (scale * key_scale);
        if Self::largest(key_scales) == NO_NUMBER {
            for (score, &code) in out.iter_mut().zip(key_scales) {
                *score = scaled(*score, scale_of(code));
            }
            return;
        }
        let (quads, rest) = out.as_chunks_mut::<QUAD>();
        let (codes, rest_codes) = key_scales.as_chunks::<QUAD>();
        for (scores, &[a, b, c, d]) in quads.iter_mut().zip(codes) {
            let [w, x, y, z] = *scores;
            *scores = [
                scaled(w, scale_of_number(a)),
                scaled(x, scale_of_number(b)),
                scaled(y, scale_of_number(c)),
                scaled(z, scale_of_number(d)),
            ];
        }
        let rest_codes = codes.get(quads.len()).map_or(rest_codes, |codes| codes);
        for (score, &code) in rest.iter_mut().zip(rest_codes) {
            *score = scaled(*score, scale_of_number(code));
        }
    }

    #[cfg(target_abi = "eabihf")]
    #[inline(always)]
    fn exponentials(scores: &mut [f32]) -> f32 {
        let mut lanes = [0.0; 8];
        let (eights, rest) = scores.as_chunks_mut::<8>();
        let larger = |a: f32, &b: &f32| if b > a { b } else { a };
        let max = rest.iter().fold(largest_of_eights(eights), larger);
        if !eights.is_empty() {
            exponentials_of_eights(eights, max, &mut lanes, &EXP);
        }
        for (score, lane) in rest.iter_mut().zip(&mut lanes) {
            *score = exp(*score - max);
            *lane += *score;
        }
        sum_lanes(lanes)
    }

    #[inline(always)]
    fn largest(scales: &[u8]) -> u8 {
        let (words, rest) = scales.as_chunks::<4>();
        let mut max = 0_u32;
        for word in words {
            let word = u32::from_le_bytes(*word);
            // SAFETY: plain arithmetic: the flags of the first say which of two bytes the second takes.
            unsafe {
                asm!("usub8 {unused}, {word}, {max}", "sel {max}, {word}, {max}", unused = out(reg) _,
                    word = in(reg) word, max = inout(reg) max, options(pure, nomem, nostack));
            }
        }
        max.to_le_bytes().iter().chain(rest).fold(0, |max, &scale| max.max(scale))
    }

    #[inline(always)]
    fn weigh(exponentials: &[f32], value_scales: &[u8], factor: f32, weights: &mut [i16]) {
        // Where a scale is no number, the factor is none either, and what the weights are is all one.
        let weight = |p: f32, code: u8| to_weight(p * (scale_of_number(code) * factor));
        let (quads, rest) = exponentials.as_chunks::<QUAD>();
        let (codes, rest_codes) = value_scales.as_chunks::<QUAD>();
        let (weights, _) = weights.as_chunks_mut::<QUAD>();
        for ((weights, &[w, x, y, z]), &[a, b, c, d]) in weights.iter_mut().zip(quads).zip(codes) {
            *weights = [weight(w, a), weight(y, c), weight(x, b), weight(z, d)];
        }
        if let (Some(weights), false) = (weights.get_mut(quads.len()), rest.is_empty()) {
            let mut last = [0; QUAD];
            for ((last, &p), &code) in last.iter_mut().zip(rest).zip(rest_codes) {
                *last = weight(p, code);
            }
            let [w, x, y, z] = last;
            *weights = [w, y, x, z];
        }
    }
}

/// Chunks of four of a query that are made pairs at a time.
const PART: usize = 64;

/// A part of a query as pairs of 16 bits: of each four numbers 0 and 2, then 1 and 3.
struct Pairs {
    words: [MaybeUninit<[u32; 2]>; PART],
    n: usize,
}

impl Pairs {
    #[inline(always)]
    fn new() -> Self {
        Self { words: [MaybeUninit::uninit(); PART], n: 0 }
    }

    #[inline(always)]
    fn fill(&mut self, query: &[i8]) {
        let chunks = query.as_chunks::<4>().0;
        for (words, chunk) in self.words.iter_mut().zip(chunks) {
            let x = word(chunk);
            words.write([even_bytes(x), odd_bytes(x)]);
        }
        self.n = chunks.len().min(PART);
    }
}

/// Four positions' sums each, integers as the bits of floats.
///
/// # Safety
/// So many quads of places are there, and as many of keys, one every `stride` bytes and 4-aligned.
#[inline(always)]
unsafe fn dot_quads(keys: *const i8, pairs: &Pairs, stride: usize, out: *mut [f32; QUAD], n_quads: usize) {
    if n_quads == 0 || pairs.n == 0 {
        return;
    }
    let begin = pairs.words.as_ptr();
    let job = [
        out as usize,
        // SAFETY: the end of the places, and of the pairs.
        unsafe { out.add(n_quads) } as usize,
        begin as usize,
        // SAFETY: as said.
        unsafe { begin.add(pairs.n) } as usize,
        stride - pairs.n * 4 * QUAD,
    ];
    // SAFETY: reads the pairs and the keys, writes the places, all of which are there.
    unsafe {
        asm!(
            r"
            push {{r6, r7}}
            sub sp, sp, #24
            ldm r0, {{r1-r5}}
            stm sp, {{r1-r5}}
            2:
            ldrd r12, lr, [sp, #8]
            mov r0, #0
            mov r1, #0
            mov r2, #0
            mov r3, #0
            3:
            ldrd r8, r9, [r12], #8
            ldmia r11!, {{r4-r7}}
            ",
            four_words!(),
            r"
            cmp r12, lr
            bne 3b
            ldrd r4, r5, [sp]
            ldr r6, [sp, #16]
            stm r4!, {{r0-r3}}
            str r4, [sp]
            add r11, r6
            cmp r4, r5
            bne 2b
            add sp, sp, #24
            pop {{r6, r7}}
            ",
            inout("r0") job.as_ptr() => _, inout("r11") keys => _, out("r1") _, out("r2") _, out("r3") _,
            out("r4") _, out("r5") _, out("r8") _, out("r9") _, out("r10") _, out("r12") _, out("lr") _,
        );
    }
}

/// Four of a head's numbers: the sums of weight · value over all quads of positions.
///
/// # Safety
/// So many quads of weights are there (at least one), and four words of values for each, one every
/// `stride` bytes; all of it 4-aligned.
#[inline(always)]
unsafe fn mix_four(
    values: *const i8,
    stride: usize,
    weights: &[[i16; QUAD]],
    n_quads: usize,
    out: &mut [f32; 4],
) {
    let (begin, out) = (weights.as_ptr(), out.as_mut_ptr());
    // SAFETY: the end of the weights; then what is promised, and the four places.
    unsafe {
        asm!(
            r"
            push {{r6, r7}}
            strd r0, r1, [sp, #-8]!
            mov r0, #0
            mov r1, #0
            mov r2, #0
            mov r3, #0
            2:
            ldrd r8, r9, [r12], #8
            ldm r11, {{r4-r7}}
            ",
            four_words!(),
            r"
            ldr r10, [sp]
            cmp r12, lr
            add r11, r10
            bne 2b
            ldrd r4, r5, [sp], #8
            stm r5, {{r0-r3}}
            pop {{r6, r7}}
            ",
            inout("r0") stride => _, inout("r1") out => _, inout("r11") values => _,
            inout("r12") begin => _, inout("lr") begin.add(n_quads) => _, out("r2") _, out("r3") _,
            out("r4") _, out("r5") _, out("r8") _, out("r9") _, out("r10") _,
        );
    }
}

/// The largest of the scores; −∞ of none.
#[cfg(target_abi = "eabihf")]
#[inline(never)]
fn largest_of_eights(scores: &[[f32; 8]]) -> f32 {
    let mut max = f32::NEG_INFINITY.to_bits();
    if !scores.is_empty() {
        // SAFETY: reads the scores, of which there are at least eight.
        unsafe {
            asm!(
                r"
                .macro smidgen_larger x
                vcmp.f32 \x, s8
                vmrs APSR_nzcv, fpscr
                it gt
                vmovgt.f32 s8, \x
                .endm
                vmov s8, r2
                2:
                vldmia r0!, {{s0-s7}}
                smidgen_larger s0
                smidgen_larger s1
                smidgen_larger s2
                smidgen_larger s3
                smidgen_larger s4
                smidgen_larger s5
                smidgen_larger s6
                smidgen_larger s7
                subs r1, #1
                bne 2b
                vmov r2, s8
                .purgem smidgen_larger
                ",
                inout("r0") scores.as_ptr() => _, inout("r1") scores.len() => _, inout("r2") max,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _,
                out("s7") _, out("s8") _, options(nostack, readonly),
            );
        }
    }
    f32::from_bits(max)
}

/// Replaces scores by e^(score − max), which adds to eight running sums. What [`exp`] does, with its
/// constants in registers; a score is never above the largest, so only what is far below needs care.
///
/// Not inlined: the compiler can't know how long this is, and would reach over it for its constants.
#[cfg(target_abi = "eabihf")]
#[inline(never)]
fn exponentials_of_eights(scores: &mut [[f32; 8]], max: f32, lanes: &mut [f32; 8], constants: &[f32; 11]) {
    // SAFETY: reads the constants, reads and writes the scores (at least eight) and the sums.
    unsafe {
        asm!(
            r"
            .macro smidgen_exp x, lane, i
            vsub.f32 \x, \x, s15
            vmul.f32 s0, \x, s4
            vadd.f32 s0, s0, s5
            vmov r4, s0
            vsub.f32 s1, s0, s5
            vmul.f32 s2, s1, s6
            vsub.f32 s2, \x, s2
            vmul.f32 s1, s1, s7
            vsub.f32 s2, s2, s1
            vmul.f32 s1, s8, s2
            vadd.f32 s1, s1, s9
            vmul.f32 s1, s1, s2
            vadd.f32 s1, s1, s10
            vmul.f32 s1, s1, s2
            vadd.f32 s1, s1, s11
            vmul.f32 s1, s1, s2
            vadd.f32 s1, s1, s12
            vmul.f32 s1, s1, s2
            vadd.f32 s1, s1, s13
            vmul.f32 s3, s2, s2
            vmul.f32 s1, s1, s3
            vadd.f32 s1, s1, s2
            vadd.f32 s1, s1, s14
            cmp r4, r2
            add r4, r3, r4, lsl #23
            vmov s0, r4
            blt 2\i\()f
            vmul.f32 \x, s1, s0
            3\i\():
            vadd.f32 \lane, \lane, \x
            .endm
            .macro smidgen_exp_far x, i
            2\i\():
            vmul.f32 s1, s1, s0
            movs r4, #0
            vmov s3, r4
            movt r4, #0xC2AE
            vmov s2, r4
            vcmp.f32 \x, s2
            vmrs APSR_nzcv, fpscr
            vmov.f32 \x, s1
            it mi
            vmovmi.f32 \x, s3
            b 3\i\()b
            .endm
            movw r2, #{least} & 0xFFFF
            movt r2, #{least} >> 16
            mov r3, #0x3F800000
            vmov s15, r12
            vldm r4, {{s4-s14}}
            vldm r5, {{s16-s23}}
            9:
            vldm r0, {{s24-s31}}
            smidgen_exp s24, s16, 1
            smidgen_exp s25, s17, 2
            smidgen_exp s26, s18, 3
            smidgen_exp s27, s19, 4
            smidgen_exp s28, s20, 5
            smidgen_exp s29, s21, 6
            smidgen_exp s30, s22, 7
            smidgen_exp s31, s23, 8
            vstmia r0!, {{s24-s31}}
            subs r1, #1
            bne 9b
            b 8f
            smidgen_exp_far s24, 1
            smidgen_exp_far s25, 2
            smidgen_exp_far s26, 3
            smidgen_exp_far s27, 4
            smidgen_exp_far s28, 5
            smidgen_exp_far s29, 6
            smidgen_exp_far s30, 7
            smidgen_exp_far s31, 8
            8:
            vstm r5, {{s16-s23}}
            .purgem smidgen_exp
            .purgem smidgen_exp_far
            ",
            inout("r0") scores.as_mut_ptr() => _, inout("r1") scores.len() => _,
            // n ≤ −125 stands as 1.5 · 2²³ + n below these bits: only then x may be below −87.
            least = const ROUND.to_bits() - 124, inout("r4") constants.as_ptr() => _,
            in("r5") lanes.as_mut_ptr(), in("r12") max.to_bits(), out("r2") _, out("r3") _, out("s15") _, out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _, out("s9") _, out("s10") _,
            out("s11") _, out("s12") _, out("s13") _, out("s14") _, out("s16") _, out("s17") _,
            out("s18") _, out("s19") _, out("s20") _, out("s21") _, out("s22") _, out("s23") _,
            out("s24") _, out("s25") _, out("s26") _, out("s27") _, out("s28") _, out("s29") _,
            out("s30") _, out("s31") _, options(nostack),
        );
    }
}
