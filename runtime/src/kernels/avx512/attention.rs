//! Both products of attention: keys and values are laid out so that four positions share an instruction.

use core::arch::x86_64::*;

use super::{prompt, sum_chunks};
use crate::format::QUAD;
use crate::kernels::attention::{HeadCacheQ8, Products, Queries, Scratch};

/// [`Products::attend`] compiled for these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn attend_q8(
    queries: &[f32],
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    Vnni::attend(queries, head_dim, cache, len, scratch, out);
}

/// Some tokens' queries, sixteen at once where there are enough; see [`crate::kernels::attend_tokens_q8`].
///
/// # Safety
/// [`Queries`]' contract, and the CPU has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn attend_tokens_q8(all: &Queries<'_>, cache: &HeadCacheQ8<'_>, scratch: &mut Scratch<'_>) {
    for first in (0..all.n).step_by(16) {
        let n = (all.n - first).min(16);
        for head in 0..all.heads {
            // SAFETY: as promised.
            if n >= prompt::LEAST && unsafe { prompt::attend(all, first, n, head, cache, scratch) } {
                continue;
            }
            for token in first..first + n {
                let at = all.place(token, head);
                let at = at..at + all.head_dim;
                // SAFETY: as promised.
                let (query, out) = unsafe { (all.queries.shared(at.clone()), all.out.part(at)) };
                Vnni::attend(query, all.head_dim, cache, all.len + token, scratch, out);
            }
        }
    }
}

pub(super) struct Vnni;

impl Products for Vnni {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        // SAFETY: `Vnni` is used only by `attend_q8` above, which has the features.
        unsafe { key_dots(keys, query, out) }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { mix(values, weights, out) }
    }
}

/// Keys are laid out as a matrix of 8-bit weights is, four positions interleaved.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
    let sum: i32 = query.iter().map(|&q| i32::from(q)).sum();
    let start = _mm512_maskz_set1_epi32(0xF, sum * -128);
    let mut keys = keys.chunks_exact((QUAD * query.len()).max(1));
    let (sixteens, rest) = out.split_at_mut(out.len() / 16 * 16);
    for out in sixteens.chunks_exact_mut(16) {
        let [Some(a), Some(b), Some(c), Some(d)] = [keys.next(), keys.next(), keys.next(), keys.next()]
        else {
            return;
        };
        let [a, b, c, d] = quad_dots([a, b, c, d], query, start);
        // SAFETY: sixteen places.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(sum_chunks(a, b, c, d))) };
    }
    for (out, keys) in rest.chunks_mut(QUAD).zip(keys) {
        let [dots] = quad_dots([keys], query, start);
        let zero = _mm512_setzero_si512();
        let total = _mm512_castsi512_ps(sum_chunks(dots, zero, zero, zero));
        // SAFETY: the mask covers only the places that there are.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), (1 << out.len()) - 1, total) };
    }
}

/// The query with `Q` times four keys: each four sums are spread over a vector's 128-bit lanes, to
/// which `start` has been added.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn quad_dots<const Q: usize>(keys: [&[i8]; Q], query: &[i8], start: __m512i) -> [__m512i; Q] {
    let spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    let flip = _mm512_set1_epi8(-128);
    let mut dots = [start; Q];
    let (sixteens, rest) = query.as_chunks::<16>();
    let begin = QUAD * (query.len() - rest.len());
    for (i, query) in sixteens.iter().enumerate() {
        // SAFETY: sixteen bytes.
        let x = unsafe { _mm512_castsi128_si512(_mm_loadu_si128(query.as_ptr().cast())) };
        let x = _mm512_permutexvar_epi32(spread, x);
        for (dots, keys) in dots.iter_mut().zip(keys) {
            // SAFETY: four keys are four times as long as the query.
            let w = unsafe { _mm512_loadu_si512(keys.as_ptr().add(i * 64).cast()) };
            *dots = _mm512_dpbusd_epi32(*dots, _mm512_xor_si512(w, flip), x);
        }
    }
    if !rest.is_empty() {
        // SAFETY: the masks cover only the bytes that there are: as many dwords of keys as the
        // query has bytes here.
        let x = unsafe { _mm_maskz_loadu_epi8((1 << rest.len()) - 1, rest.as_ptr()) };
        let x = _mm512_permutexvar_epi32(spread, _mm512_castsi128_si512(x));
        for (dots, keys) in dots.iter_mut().zip(keys) {
            // SAFETY: as above.
            let w =
                unsafe { _mm512_maskz_loadu_epi32((1 << rest.len()) - 1, keys.as_ptr().add(begin).cast()) };
            *dots = _mm512_dpbusd_epi32(*dots, _mm512_xor_si512(w, flip), x);
        }
    }
    dots
}

/// Numbers of a head that are mixed at once.
const WIDE: usize = 64;

/// The sums of weight · value, a part of the head at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
    let head_dim = out.len();
    for (part, out) in out.chunks_mut(WIDE).enumerate() {
        let Some(values) = values.get(part * WIDE * QUAD..) else { return };
        match out.len().div_ceil(16) {
            1 => mix_part::<1>(values, head_dim, weights, out),
            2 => mix_part::<2>(values, head_dim, weights, out),
            3 => mix_part::<3>(values, head_dim, weights, out),
            _ => mix_part::<4>(values, head_dim, weights, out),
        }
    }
}

/// `V` vectors' worth of a head, whose values begin `values`. Weights have 15 bits: their low and
/// high bytes are multiplied apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn mix_part<const V: usize>(values: &[i8], head_dim: usize, weights: &[i16], out: &mut [f32]) {
    let low_bytes = _mm512_set1_epi32(0x0604_0200);
    let high_bytes = _mm512_set1_epi32(0x0705_0301);
    let zero = _mm512_setzero_si512();
    let (mut low, mut high) = ([zero; V], [zero; V]);
    // All vectors but the last are full.
    let in_last = out.len().saturating_sub(16 * (V - 1)).min(16);
    let mask = ((1_u32 << in_last) - 1) as u16;
    for (values, weights) in values.chunks(QUAD * head_dim).zip(weights.as_chunks::<QUAD>().0) {
        if values.len() < QUAD * out.len() {
            break;
        }
        // SAFETY: four weights of eight bytes in all.
        let four = _mm512_set1_epi64(unsafe { weights.as_ptr().cast::<i64>().read_unaligned() });
        let (w_low, w_high) = (_mm512_shuffle_epi8(four, low_bytes), _mm512_shuffle_epi8(four, high_bytes));
        for i in 0..V {
            let mask = if i + 1 == V { mask } else { u16::MAX };
            // SAFETY: the mask covers only this quad's values.
            let v = unsafe { _mm512_maskz_loadu_epi32(mask, values.as_ptr().add(i * 64).cast()) };
            low[i] = _mm512_dpbusd_epi32(low[i], w_low, v);
            high[i] = _mm512_dpbusd_epi32(high[i], w_high, v);
        }
    }
    for (i, out) in out.chunks_mut(16).enumerate().take(V) {
        let sum = _mm512_add_epi32(low[i], _mm512_slli_epi32::<8>(high[i]));
        let mask = ((1_u32 << out.len()) - 1) as u16;
        // SAFETY: the mask covers only the places that there are.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, _mm512_castsi512_ps(sum)) };
    }
}
