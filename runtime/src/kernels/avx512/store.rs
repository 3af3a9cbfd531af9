//! Four neighbouring tokens' keys and values into the cache, in which their numbers lie interleaved.

use core::arch::x86_64::*;

use crate::format::QUAD;
use crate::kernels::attention::{inverse_of, kv_scale};
use crate::quant::{ROUND, max_magnitude_bits};

/// Numbers of a head that are made integers at once.
const PART: usize = 16;

/// [`crate::kernels::attention::store_key`] (`KEYS`) or `store_value` of four heads whose places are
/// `quad`. `None` if their width is not a multiple of sixteen.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(in crate::kernels) fn store_quad<const KEYS: bool>(
    heads: [&[f32]; QUAD],
    quad: &mut [i8],
) -> Option<[u8; QUAD]> {
    let head_dim = heads[0].len();
    let fits = head_dim.is_multiple_of(PART) && quad.len() == QUAD * head_dim;
    if !fits || heads.iter().any(|head| head.len() != head_dim) {
        return None;
    }
    let (mut scales, mut inverses) = ([0; QUAD], [0.0; QUAD]);
    for ((scale, inverse), head) in scales.iter_mut().zip(&mut inverses).zip(heads) {
        *scale = kv_scale(max_magnitude_bits(head));
        *inverse = inverse_of(*scale);
    }
    // Four columns of four tokens side by side: dword t · 4 + c goes to c · 4 + t.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    // The same once more with bytes.
    let bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    for (part, places) in quad.as_chunks_mut::<{ PART * QUAD }>().0.iter_mut().enumerate() {
        let mut quants = [_mm_setzero_si128(); QUAD];
        for ((quants, head), &inverse) in quants.iter_mut().zip(heads).zip(&inverses) {
            // As in the definition, where there is no number (infinity times zero is none) there is zero.
            if inverse != 0.0 {
                // SAFETY: the head has this part.
                let x = unsafe { _mm512_loadu_ps(head.as_ptr().add(part * PART)) };
                *quants = _mm512_cvtepi32_epi8(round(x, inverse));
            }
        }
        let [a, b, c, d] = quants;
        let all = _mm512_castsi128_si512(a);
        let all = _mm512_inserti32x4::<1>(all, b);
        let all = _mm512_inserti32x4::<2>(all, c);
        let all = _mm512_inserti32x4::<3>(all, d);
        let mut turned = _mm512_permutexvar_epi32(order, all);
        if !KEYS {
            turned = _mm512_shuffle_epi8(turned, bytes);
        }
        // SAFETY: sixty-four places.
        unsafe { _mm512_storeu_si512(places.as_mut_ptr().cast(), turned) };
    }
    Some(scales)
}

/// [`crate::kernels::attention::quantize`] of sixteen numbers, of which none is NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn round(x: __m512, inverse: f32) -> __m512i {
    let x = _mm512_mul_ps(x, _mm512_set1_ps(inverse));
    let x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-127.0)), _mm512_set1_ps(127.0));
    let magic = _mm512_set1_ps(ROUND);
    _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(x, magic)), _mm512_castps_si512(magic))
}
