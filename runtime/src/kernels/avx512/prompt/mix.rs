//! The sums of weight · value.

use core::arch::x86_64::*;

use super::LANES;
use crate::format::QUAD;

/// Mixes `D` of a head's numbers from number `first` on, and writes them to each lane's place.
///
/// # Safety
/// There are so many quads of values and weights, `first + D` numbers a head, and places for them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn mix<const D: usize>(
    values: *const i8,
    head_dim: usize,
    first: usize,
    quads: usize,
    weights: *const i16,
    units: __m512,
    places: &[*mut f32],
) {
    let zero = _mm512_setzero_si512();
    let (mut low, mut high) = ([zero; D], [zero; D]);
    for quad in 0..quads {
        // SAFETY: as promised.
        let (w_low, w_high, values) = unsafe {
            let weights = weights.add(quad * QUAD * LANES);
            (
                _mm512_loadu_si512(weights.cast()),
                _mm512_loadu_si512(weights.add(2 * LANES).cast()),
                values.add((quad * head_dim + first) * QUAD),
            )
        };
        for i in 0..D {
            // SAFETY: four positions' value.
            let v = _mm512_set1_epi32(unsafe { values.add(i * QUAD).cast::<i32>().read_unaligned() });
            low[i] = _mm512_dpbusd_epi32(low[i], w_low, v);
            high[i] = _mm512_dpbusd_epi32(high[i], w_high, v);
        }
    }
    let mut mixed = [_mm512_setzero_ps(); D];
    for ((mixed, low), high) in mixed.iter_mut().zip(low).zip(high) {
        let sum = _mm512_add_epi32(low, _mm512_slli_epi32::<8>(high));
        *mixed = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), units);
    }
    let (fours, rest) = mixed.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        for (j, lanes) in transpose_numbers(*four).into_iter().enumerate() {
            // A 128-bit lane has four numbers of one query: of the j-th of each four.
            let of_queries: [__m128; 4] = [
                _mm512_castps512_ps128(lanes),
                _mm512_extractf32x4_ps::<1>(lanes),
                _mm512_extractf32x4_ps::<2>(lanes),
                _mm512_extractf32x4_ps::<3>(lanes),
            ];
            for (numbers, &place) in
                of_queries.into_iter().zip(places.get(j..).unwrap_or(&[]).iter().step_by(4))
            {
                // SAFETY: as promised.
                unsafe { _mm_storeu_ps(place.add(first + 4 * i), numbers) };
            }
        }
    }
    for (i, mixed) in rest.iter().enumerate() {
        let mut numbers = [0.0; LANES];
        // SAFETY: sixteen floats, and as promised.
        unsafe {
            _mm512_storeu_ps(numbers.as_mut_ptr(), *mixed);
            for (number, place) in numbers.iter().zip(places) {
                place.add(first + 4 * fours.len() + i).write(*number);
            }
        }
    }
}

/// Transposes four by four floats within each 128-bit lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_numbers([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    let pairs = |x, y| {
        let (low, high) = (_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
        (_mm512_castps_pd(low), _mm512_castps_pd(high))
    };
    let ((ab_low, ab_high), (cd_low, cd_high)) = (pairs(a, b), pairs(c, d));
    [
        _mm512_unpacklo_pd(ab_low, cd_low),
        _mm512_unpackhi_pd(ab_low, cd_low),
        _mm512_unpacklo_pd(ab_high, cd_high),
        _mm512_unpackhi_pd(ab_high, cd_high),
    ]
    .map(|x| _mm512_castpd_ps(x))
}
