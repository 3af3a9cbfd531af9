//! Attention on cores with the DSP extension. Where two queries share keys and values, these are made
//! pairs of 16 bits once for both. Everything is integers, so an FPU is not needed.

use core::arch::asm;
use core::mem::MaybeUninit;

use super::{even_bytes, odd_bytes, word};
use crate::format::QUAD;
use crate::kernels::attention::{
    FEW, HeadCacheQ8, LARGEST_SCALE, NO_NUMBER, POWERS, Products, SUM_SHIFT, Scratch, WEIGHT_SHIFT,
    attend_one, exponential, inverse_of, kv_scale, parts_of, quantize, quantize_query, scales_of, unit,
    weigh, weight,
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

/// The widest head that two queries are multiplied with at once.
const WIDEST: usize = 64;

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
        weigh_quads::<1>(quads, max, coarse, value_scales, largest).into()
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
        for at in (0..queries.len()).step_by((2 * head_dim).max(1)) {
            let end = (at + 2 * head_dim).min(queries.len());
            let (Some(queries), Some(out)) = (queries.get(at..end), out.get_mut(at..end)) else { return };
            if attend_two(queries, head_dim, cache, len, scratch, out).is_some() {
                continue;
            }
            for at in (0..queries.len()).step_by(head_dim.max(1)) {
                let (Some(query), Some(out)) =
                    (queries.get(at..at + head_dim), out.get_mut(at..at + head_dim))
                else {
                    return;
                };
                attend_alone(query, cache, len, scratch, out);
            }
        }
    }
}

/// Puts one position's key of one head in its place and returns its scale.
#[inline(never)]
pub(in crate::kernels) fn store_key(key: &[f32], position: usize, keys: &mut [i8]) -> u8 {
    store::<4>(key, position, keys)
}

/// Puts one position's value of one head in its place and returns its scale.
#[inline(never)]
pub(in crate::kernels) fn store_value(value: &[f32], position: usize, values: &mut [i8]) -> u8 {
    store::<1>(value, position, values)
}

/// The same for both: four positions take turns of `UNIT` numbers. Only with the largest scale may a
/// number be too large.
#[inline(always)]
fn store<const UNIT: usize>(head: &[f32], position: usize, places: &mut [i8]) -> u8 {
    let scale = kv_scale(head);
    let inverse = inverse_of(scale);
    let mut at = position / QUAD * QUAD * head.len().next_multiple_of(UNIT) + position % QUAD * UNIT;
    for numbers in head.chunks(UNIT) {
        let Some(place) = places.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<UNIT>()) else { break };
        *place = [0; UNIT];
        for (quant, &x) in place.iter_mut().zip(numbers) {
            *quant = match scale {
                NO_NUMBER => 0,
                LARGEST_SCALE => quantize(x, inverse),
                _ => round_to_i32(x * inverse) as i8,
            };
        }
        at += UNIT * QUAD;
    }
    scale
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
    attend_one::<Dsp>(query, cache, len, scratch, out);
}

/// Two queries at once, if they are two, of a width and with scores that this can do; else `None`, and
/// nothing has happened.
#[inline(never)]
fn attend_two(
    queries: &[f32],
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) -> Option<()> {
    let n_quads = len.div_ceil(QUAD);
    let (key_scales, value_scales) = scales_of(cache, len)?;
    let scores =
        crate::cast::f32_as_i16_mut(scratch.scores).as_chunks_mut::<QUAD>().0.get_mut(..2 * n_quads)?;
    let can = head_dim.is_multiple_of(8)
        && head_dim <= WIDEST
        && queries.len() == 2 * head_dim
        && out.len() == queries.len()
        && (1..=FEW).contains(&len)
        && cache.keys.len() >= n_quads * QUAD * head_dim
        && cache.values.len() >= n_quads * QUAD * head_dim
        && cache.keys.as_ptr().align_offset(4) == 0
        && cache.values.as_ptr().align_offset(4) == 0
        && scores.as_ptr().cast::<u32>().align_offset(4) == 0;
    let (largest_key, largest_value) = (largest(key_scales), largest(value_scales));
    if !can || largest_key.max(largest_value) == NO_NUMBER {
        return None;
    }
    let mut pairs = TwoPairs([[MaybeUninit::uninit(); 4]; WIDEST / 4]);
    let (query_a, query_b) = queries.split_at_checked(head_dim)?;
    let a = quantize_query(query_a, largest_key, scratch.query)?;
    pairs.fill::<0>(scratch.query, a.fraction);
    let b = quantize_query(query_b, largest_key, scratch.query)?;
    pairs.fill::<2>(scratch.query, b.fraction);
    if a.coarse.max(b.coarse) > MOST_COARSE {
        return None;
    }
    let shifts = [a.shift, b.shift];
    let (whole, rest) = key_scales.as_chunks::<QUAD>();
    let mut job = ScoreJob {
        codes: whole.as_ptr(),
        shifts,
        max: [[i16::MIN; 2]; 2],
        out: scores.as_mut_ptr().cast(),
        end: scores.as_mut_ptr().wrapping_add(2 * whole.len()).cast(),
        pairs: pairs.0.as_ptr().cast(),
        back: 4 * head_dim - 8,
    };
    let pairs_end = pairs.0.as_ptr().wrapping_add(head_dim / 4).cast();
    let mut max = [i16::MIN; 2];
    if !whole.is_empty() {
        // SAFETY: so many quads of keys, their scales and places for two queries' scores are there (all
        // checked above), and two queries' pairs.
        unsafe { score_quads(&mut job, cache.keys.as_ptr(), pairs_end) };
        max = job.max.map(|[even, odd]| even.max(odd));
    }
    if !rest.is_empty() {
        let mut codes = [0; QUAD];
        codes.iter_mut().zip(rest).for_each(|(code, &scale)| *code = scale);
        let keys = cache.keys.get(whole.len() * QUAD * head_dim..).unwrap_or(&[]);
        let mut last = [[0_i16; QUAD]; 2];
        job.codes = &raw const codes;
        job.out = last.as_mut_ptr().cast();
        job.end = job.out.wrapping_add(1);
        // SAFETY: as above, for one quad; the scales beyond are the least, and nobody looks at what is
        // made of them.
        unsafe { score_quads(&mut job, keys.as_ptr(), pairs_end) };
        for ((max, scores), place) in max.iter_mut().zip(last).zip(scores.iter_mut().skip(2 * whole.len())) {
            *place = scores;
            *max = scores.iter().zip(rest).fold(*max, |max, (&score, _)| max.max(score));
        }
    }
    let sums = [
        weigh_quads::<2>(scores, max[0], a.coarse, value_scales, largest_value),
        weigh_quads::<2>(scores.get_mut(1..)?, max[1], b.coarse, value_scales, largest_value),
    ];
    // SAFETY: so many quads of values and weights are there, and `out` is two heads.
    unsafe { mix_two(cache.values.as_ptr(), scores, out, head_dim) };
    let (out_a, out_b) = out.split_at_mut_checked(head_dim)?;
    for (out, sum) in [(out_a, sums[0]), (out_b, sums[1])] {
        let unit = unit(sum.into(), largest_value);
        for out in out {
            *out = out.to_bits() as i32 as f32 * unit;
        }
    }
    Some(())
}

/// Two queries as pairs of 16 bits: of each four numbers 0 and 2, then 1 and 3, of the first; then of
/// the second. Each is multiplied with its scale's fraction.
struct TwoPairs([[MaybeUninit<u32>; 4]; WIDEST / 4]);

impl TwoPairs {
    #[inline(always)]
    fn fill<const AT: usize>(&mut self, query: &[i8], fraction: i32) {
        for (words, chunk) in self.0.iter_mut().zip(query.as_chunks::<4>().0) {
            let [a, b, c, d] = chunk.map(|x| (i32::from(x) * fraction) as u32);
            words[AT].write(a & 0xFFFF | c << 16);
            words[AT + 1].write(b & 0xFFFF | d << 16);
        }
    }
}

/// The largest of some bytes.
#[inline(never)]
fn largest(scales: &[u8]) -> u8 {
    let (eights, rest) = scales.as_chunks::<8>();
    let mut max = 0_u32;
    if !eights.is_empty() && eights.as_ptr().align_offset(4) == 0 {
        // SAFETY: reads those bytes. The flags of a subtraction say which of two bytes `sel` takes.
        unsafe {
            asm!(
                r"
                2:
                ldrd {a}, {b}, [{at}], #8
                usub8 {unused}, {a}, {max}
                sel {max}, {a}, {max}
                usub8 {unused}, {b}, {max}
                sel {max}, {b}, {max}
                cmp {at}, {end}
                bne 2b
                ",
                at = inout(reg) eights.as_ptr() => _, end = in(reg) eights.as_ptr_range().end,
                a = out(reg) _, b = out(reg) _, unused = out(reg) _, max = inout(reg) max,
                options(nostack, readonly),
            );
        }
    } else {
        for scale in eights.as_flattened() {
            max = max.max((*scale).into());
        }
    }
    max.to_le_bytes().iter().chain(rest).fold(0, |max, &scale| max.max(scale))
}

/// What [`score_quads`] goes through.
#[repr(C)]
struct ScoreJob {
    /// The next quad's key scales.
    codes: *const [u8; QUAD],
    /// Both queries'.
    shifts: [u32; 2],
    /// The largest scores of even and odd positions, of both queries.
    max: [[i16; 2]; 2],
    /// The next quad's scores: four of the first query, four of the second.
    out: *mut [[i16; QUAD]; 2],
    end: *mut [[i16; QUAD]; 2],
    /// [`TwoPairs`].
    pairs: *const u32,
    /// Bytes from the end of positions 0 and 1 of a quad back to 2 and 3.
    back: usize,
}

/// The scores of two queries with quads of positions, at least one: what
/// `ScoreScale::score` says, the query's fraction being in it already.
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
            ldm sp, {{r4-r6}}
            ldrb r7, [r4, #\at]
            ldrb r8, [r4, #\at + 1]
            and r9, r7, #7
            orr r9, #8
            mul r0, r0, r9
            mul r2, r2, r9
            and r9, r8, #7
            orr r9, #8
            mul r1, r1, r9
            mul r3, r3, r9
            sub r9, r5, r7, lsr #3
            asr r0, r0, r9
            sub r9, r6, r7, lsr #3
            asr r2, r2, r9
            sub r9, r5, r8, lsr #3
            asr r1, r1, r9
            sub r9, r6, r8, lsr #3
            asr r3, r3, r9
            ldrd r8, r9, [sp, #12]
            pkhbt r0, r0, r1, lsl #16
            pkhbt r2, r2, r3, lsl #16
            ssub16 r1, r8, r0
            sel r8, r8, r0
            ssub16 r1, r9, r2
            sel r9, r9, r2
            strd r8, r9, [sp, #12]
            .endm
            push {{r6, r7}}
            sub sp, #40
            str r0, [sp, #36]
            ldm r0!, {{r1-r5}}
            stm sp, {{r1-r5}}
            ldm r0, {{r1-r4}}
            add r5, sp, #20
            stm r5, {{r1-r4}}
            ldr r12, [sp, #28]
            2:
            smidgen_scores 0
            ldr r7, [sp, #32]
            ldr r12, [sp, #28]
            ldr r6, [sp, #20]
            str r0, [r6]
            str r2, [r6, #8]
            sub r11, r7
            smidgen_scores 2
            add r4, #4
            str r4, [sp]
            ldrd r6, r7, [sp, #20]
            ldr r12, [sp, #28]
            str r0, [r6, #4]
            str r2, [r6, #12]
            add r6, #16
            str r6, [sp, #20]
            sub r11, #8
            cmp r6, r7
            bne 2b
            ldr r0, [sp, #36]
            strd r8, r9, [r0, #12]
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

/// The coarsest scores that [`weigh_quads`] can take.
const MOST_COARSE: u32 = 3;

/// [`Products::weigh`] of every `STRIDE`th quad, at most [`FEW`] positions: the weights of each four
/// positions as pairs, 0 with 2 and 1 with 3.
#[inline(never)]
fn weigh_quads<const STRIDE: usize>(
    quads: &mut [[i16; QUAD]],
    max: i16,
    coarse: u32,
    value_scales: &[u8],
    largest: u8,
) -> u32 {
    let shift = WEIGHT_SHIFT + parts_of(largest).1;
    let (whole, rest) = value_scales.as_chunks::<QUAD>();
    if quads.len() < (value_scales.len().div_ceil(QUAD) * STRIDE).saturating_sub(STRIDE - 1) {
        return 1;
    }
    let mut sum = 0_u32;
    if !whole.is_empty() {
        let begin = quads.as_mut_ptr();
        let stride_and_end = [8 * STRIDE, begin.wrapping_add(STRIDE * whole.len()) as usize];
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
                sub \n, r9, \n, lsr #3
                mul \out, \out, r8
                lsrs \out, \out, \n
                adc \out, \out, #0
                .endm
                push {{r6, r7}}
                push {{r0, r1}}
                mov r7, r5
                mov r8, #8
                2:
                ldrd r0, r1, [r12]
                usub16 r0, r10, r0
                usub16 r1, r10, r1
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
                strd r2, r3, [r12]
                ldrd r0, r1, [sp]
                add r12, r0
                cmp r12, r1
                bne 2b
                pop {{r0, r1}}
                pop {{r6, r7}}
                .purgem smidgen_weight
                ",
                sum_shift = const SUM_SHIFT,
                inout("r0") stride_and_end[0] => _, inout("r1") stride_and_end[1] => _, out("r2") _,
                out("r3") _, inout("r4") sum, inout("r5") coarse => _, out("r8") _, in("r9") shift,
                in("r10") pair, in("r11") POWERS.as_ptr(), inout("r12") begin => _,
                inout("lr") whole.as_ptr() => _,
            );
        }
    }
    if let (Some(quad), false) = (quads.get_mut(STRIDE * whole.len()), rest.is_empty()) {
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
            tst r5, #16
            bne 4f
            3:
            smidgen_mix
            4:
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
