//! Both products of attention: keys and values are laid out so that four positions share an instruction.

use core::arch::x86_64::*;

use super::sum_chunks;
use crate::format::QUAD;
use crate::kernels::attention::{self, HeadCacheQ8, Products, Scratch};

/// [`attention::attend_q8`] compiled for these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn attend_q8(
    query: &[f32],
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    attention::attend_q8::<Vnni>(query, cache, len, scratch, out);
}

struct Vnni;

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
    let spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    let flip = _mm512_set1_epi8(-128);
    let bytes = QUAD * query.len();
    let quads = out.len().div_ceil(QUAD).min(keys.len() / bytes.max(1));
    let sum: i32 = query.iter().map(|&q| i32::from(q)).sum();
    let start = _mm512_maskz_set1_epi32(0xF, sum * -128);
    let mut quad = 0;
    while quad < quads {
        let n = (quads - quad).min(4);
        let mut dots = [start; 4];
        for begin in (0..query.len()).step_by(16) {
            let len = (query.len() - begin).min(16);
            // SAFETY: the mask covers only the bytes that there are.
            let x = unsafe {
                _mm_maskz_loadu_epi8(((1_u32 << len) - 1) as u16, query.as_ptr().add(begin).cast())
            };
            let x = _mm512_permutexvar_epi32(spread, _mm512_castsi128_si512(x));
            let mask = if len == 16 { u16::MAX } else { ((1_u32 << len) - 1) as u16 };
            for (q, dots) in dots.iter_mut().take(n).enumerate() {
                // SAFETY: quad + q < quads, and the mask covers only the key's own chunks:
                // `len` columns of four positions are `len` dwords.
                let w = unsafe {
                    _mm512_maskz_loadu_epi32(
                        mask,
                        keys.as_ptr().add((quad + q) * bytes + begin * QUAD).cast(),
                    )
                };
                *dots = _mm512_dpbusd_epi32(*dots, _mm512_xor_si512(w, flip), x);
            }
        }
        let total = sum_chunks(dots[0], dots[1], dots[2], dots[3]);
        if let Some(out) = out.get_mut(quad * QUAD..) {
            let n = out.len().min(n * QUAD);
            // SAFETY: the mask covers only the places that there are.
            unsafe {
                _mm512_mask_storeu_ps(out.as_mut_ptr(), ((1_u32 << n) - 1) as u16, _mm512_castsi512_ps(total))
            };
        }
        quad += n;
    }
}

/// Weights have 15 bits: their low and high bytes are multiplied apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
    const WIDE: usize = 4;
    let low_bytes = _mm512_set1_epi32(0x0604_0200);
    let high_bytes = _mm512_set1_epi32(0x0705_0301);
    let bytes = QUAD * out.len();
    let quads = (weights.len() / QUAD).min(values.len() / bytes.max(1));
    for (part, out) in out.chunks_mut(16 * WIDE).enumerate() {
        let mut low = [_mm512_setzero_si512(); WIDE];
        let mut high = [_mm512_setzero_si512(); WIDE];
        let masks: [u16; WIDE] = core::array::from_fn(|i| {
            let n = out.len().saturating_sub(16 * i).min(16);
            ((1_u32 << n) - 1) as u16
        });
        let vectors = out.len().div_ceil(16);
        for quad in 0..quads {
            // SAFETY: four weights of eight bytes in all.
            let four = unsafe { weights.as_ptr().add(quad * QUAD).cast::<i64>().read_unaligned() };
            let four = _mm512_set1_epi64(four);
            let (w_low, w_high) =
                (_mm512_shuffle_epi8(four, low_bytes), _mm512_shuffle_epi8(four, high_bytes));
            for i in 0..vectors {
                // SAFETY: the mask covers only this quad's values.
                let v = unsafe {
                    let at = quad * bytes + (part * WIDE + i) * 64;
                    _mm512_maskz_loadu_epi32(masks[i], values.as_ptr().add(at).cast())
                };
                low[i] = _mm512_dpbusd_epi32(low[i], w_low, v);
                high[i] = _mm512_dpbusd_epi32(high[i], w_high, v);
            }
        }
        for i in 0..vectors {
            let sum = _mm512_add_epi32(low[i], _mm512_slli_epi32::<8>(high[i]));
            // SAFETY: the mask covers only the places that there are.
            unsafe {
                _mm512_mask_storeu_ps(out.as_mut_ptr().add(16 * i), masks[i], _mm512_castsi512_ps(sum))
            };
        }
    }
}
