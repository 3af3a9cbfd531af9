//! Attention on cores with the DSP extension: everything is integers, so an FPU is not needed.

use core::arch::asm;
use core::mem::MaybeUninit;

use super::small::attend_small;
use super::two::attend_two;
use super::{even_bytes, odd_bytes, word};
use crate::format::QUAD;
use crate::kernels::attention::{
    FEW, HeadCacheQ8, LARGEST_SCALE, NO_NUMBER, POWERS, Products, SUM_SHIFT, Scratch, WEIGHT_SHIFT,
    attend_one, exponential, inverse_of, kv_scale, parts_of, quantize, weigh, weight,
};
use crate::quant::round_to_i32;

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
    fn largest(scales: &[u8]) -> u8 {
        largest(scales)
    }

    fn weigh(scores: &mut [i16], max: i16, coarse: u32, value_scales: &[u8], largest: u8) -> u64 {
        let (quads, _) = scores.as_chunks_mut::<QUAD>();
        if value_scales.len() > FEW || coarse > MOST_COARSE {
            let sum = weigh(quads.as_flattened_mut(), max, coarse, value_scales, largest);
            for [_, b, c, _] in quads {
                (*b, *c) = (*c, *b);
            }
            return sum;
        }
        weigh_quads(quads, max, coarse, value_scales, largest).into()
    }

    #[inline(always)]
    fn attend(
        queries: &[f32],
        head_dim: usize,
        cache: &HeadCacheQ8<'_>,
        len: usize,
        scratch: &mut Scratch<'_>,
        out: &mut [f32],
    ) {
        let mut at = 0;
        while at < queries.len() {
            let two = at..at + 2 * head_dim;
            if let (Some(queries), Some(out)) = (queries.get(two.clone()), out.get_mut(two.clone()))
                && attend_two(queries, head_dim, cache, len, scratch, out).is_some()
            {
                at = two.end;
                continue;
            }
            let one = at..at + head_dim;
            let (Some(query), Some(out)) = (queries.get(one.clone()), out.get_mut(one.clone())) else {
                return;
            };
            attend_alone(query, cache, len, scratch, out);
            at = one.end.max(at + 1);
        }
    }
}

/// Puts one position's key of one head in its place and returns its scale.
pub(in crate::kernels) fn store_key(key: &[f32], position: usize, keys: &mut [i8]) -> u8 {
    store(key, position, keys, 4)
}

/// Puts one position's value of one head in its place and returns its scale.
pub(in crate::kernels) fn store_value(value: &[f32], position: usize, values: &mut [i8]) -> u8 {
    store(value, position, values, 1)
}

/// The same for both: four positions take turns of `unit` numbers, 4 or 1. Only with the largest scale may a
/// number be too large.
#[inline(never)]
fn store(head: &[f32], position: usize, places: &mut [i8], unit: usize) -> u8 {
    let scale = kv_scale(super::largest_magnitude(head));
    let at = position / QUAD * QUAD * ((head.len() + unit - 1) & !(unit - 1)) + position % QUAD * unit;
    #[cfg(target_abi = "eabihf")]
    if let (fours, []) = head.as_chunks::<4>()
        && scale < LARGEST_SCALE
        && let Some(places) = places.get_mut(at..)
        && places.len() + QUAD * unit >= QUAD * head.len() + unit
        && (unit == 1 || places.as_ptr().align_offset(4) == 0)
    {
        // SAFETY: the last number's place is there (checked above).
        unsafe { super::steps::scatter(fours, inverse_of(scale), places.as_mut_ptr(), unit) };
        return scale;
    }
    store_seldom(head, scale, (at, unit), places);
    scale
}

/// The same for any scale, where the first number's place is `at` and places are `unit` side by side.
#[inline(never)]
fn store_seldom(head: &[f32], scale: u8, (at, unit): (usize, usize), places: &mut [i8]) {
    let inverse = inverse_of(scale);
    // Keys are padded with zeros.
    for i in 0..head.len().next_multiple_of(4) {
        let within = if unit == 1 { i * QUAD } else { i / QUAD * QUAD * QUAD + i % QUAD };
        let Some(place) = places.get_mut(at + within) else { return };
        *place = match (head.get(i), scale) {
            (None, _) if unit == 1 => return,
            (None, _) | (_, NO_NUMBER) => 0,
            (Some(x), LARGEST_SCALE) => quantize(*x, inverse),
            (Some(x), _) => round_to_i32(x * inverse) as i8,
        };
    }
}

/// [`attend_one`], whose stack others need not have.
#[inline(never)]
fn attend_alone(
    query: &[f32],
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    if cfg!(feature = "single-query") {
        attend_one::<Dsp>(query, cache, len, scratch, out);
    } else {
        attend_small(query, cache, len, scratch, out);
    }
}

/// The largest of some bytes.
#[inline(never)]
pub(super) fn largest(scales: &[u8]) -> u8 {
    let (sixteens, rest) = scales.as_chunks::<16>();
    let (fours, rest) = rest.as_chunks::<4>();
    let mut max = 0_u32;
    if scales.as_ptr().align_offset(4) != 0 {
        return scales.iter().fold(0, |max, &scale| max.max(scale));
    }
    // SAFETY: reads the sixteens, then the fours. The flags of a subtraction say which of two bytes `sel`
    // takes.
    unsafe {
        asm!(
            r"
            .macro smidgen_larger x
            usub8 r8, \x, r4
            sel r4, \x, r4
            .endm
            b 3f
            2:
            ldm r12!, {{r0-r3}}
            smidgen_larger r0
            smidgen_larger r1
            smidgen_larger r2
            smidgen_larger r3
            3:
            cmp r12, r5
            bne 2b
            b 5f
            4:
            ldr r0, [r12], #4
            smidgen_larger r0
            5:
            cmp r12, lr
            bne 4b
            ror r0, r4, #16
            smidgen_larger r0
            ror r0, r4, #8
            smidgen_larger r0
            .purgem smidgen_larger
            ",
            inout("r12") sixteens.as_ptr() => _, in("r5") sixteens.as_ptr_range().end,
            in("lr") fours.as_ptr_range().end, inout("r4") max, out("r0") _, out("r1") _, out("r2") _,
            out("r3") _, out("r8") _, options(nostack, readonly),
        );
    }
    rest.iter().fold(max as u8, |max, &scale| max.max(scale))
}

/// The coarsest scores that [`weigh_quads`] can take.
pub(super) const MOST_COARSE: u32 = 3;

/// [`Products::weigh`] of at most [`FEW`] positions: the weights of each four as pairs, 0 with 2 and 1
/// with 3.
#[inline(never)]
fn weigh_quads(quads: &mut [[i16; QUAD]], max: i16, coarse: u32, value_scales: &[u8], largest: u8) -> u32 {
    let (whole, rest) = value_scales.as_chunks::<QUAD>();
    if quads.len() < value_scales.len().div_ceil(QUAD) {
        return 1;
    }
    let mut sum = 0_u32;
    if !whole.is_empty() {
        let begin = quads.as_mut_ptr();
        let end = begin.wrapping_add(whole.len());
        let pair = u32::from(max as u16) * 0x1_0001;
        // r0 and r1 are four distances from the largest score, r8 the fraction of a value's scale.
        // SAFETY: reads and writes the quads, of which there are so many (checked above); reads the scales
        // and the table.
        unsafe {
            asm!(
                r"
                .macro smidgen_weight out, n
                ldr \out, [r11, \out, lsl #2]
                lsr \out, \out, \n
                add r4, r4, \out, lsr #{sum_shift}
                ldrb \n, [lr], #1
                bfi r8, \n, #0, #3
                add \n, r9, \n, lsr #3
                lsl \n, r8, \n
                smmulr \out, \out, \n
                .endm
                push {{r0, r6, r7}}
                mov r7, r5
                mov r8, #8
                2:
                ldrd r0, r1, [r12]
                qsub16 r0, r10, r0
                qsub16 r1, r10, r1
                usat16 r0, #13, r0
                usat16 r1, #13, r1
                lsl r0, r0, r7
                lsl r1, r1, r7
                uxtb r2, r0
                ubfx r3, r0, #8, #8
                smidgen_weight r2, r3
                uxtb r5, r0, ror #16
                lsr r3, r0, #24
                smidgen_weight r5, r3
                uxtb r6, r1
                ubfx r3, r1, #8, #8
                smidgen_weight r6, r3
                uxtb r0, r1, ror #16
                lsr r3, r1, #24
                smidgen_weight r0, r3
                pkhbt r2, r2, r6, lsl #16
                pkhbt r3, r5, r0, lsl #16
                strd r2, r3, [r12], #8
                ldr r0, [sp]
                cmp r12, r0
                bne 2b
                pop {{r0, r6, r7}}
                .purgem smidgen_weight
                ",
                sum_shift = const SUM_SHIFT,
                inout("r0") end => _, out("r1") _, out("r2") _, out("r3") _, inout("r4") sum,
                inout("r5") coarse => _, out("r8") _, in("r9") value_shift(largest), in("r10") pair,
                in("r11") POWERS.as_ptr(), inout("r12") begin => _, inout("lr") whole.as_ptr() => _,
            );
        }
    }
    if let (Some(quad), false) = (quads.get_mut(whole.len()), rest.is_empty()) {
        let shift = WEIGHT_SHIFT + parts_of(largest).1;
        let mut last = [0; QUAD];
        for ((last, &score), &value_scale) in last.iter_mut().zip(&*quad).zip(rest) {
            let p = exponential(score, max, coarse);
            sum += p >> SUM_SHIFT;
            *last = weight(p, value_scale, shift);
        }
        let [a, b, c, d] = last;
        *quad = [a, c, b, d];
    }
    sum
}

/// By how many bits more than its exponent the fraction of a value's scale is shifted to the left, so
/// that the upper half of its product with an exponential is a weight. Where that is less than nothing,
/// so is the weight: a shift by a negative number of bits gives zero.
pub(super) fn value_shift(largest: u8) -> i32 {
    32 - WEIGHT_SHIFT as i32 - parts_of(largest).1 as i32
}

/// Chunks of four of a query that are made pairs at a time.
const PART: usize = 16;

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
