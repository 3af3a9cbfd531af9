//! Scores of all positions: the queries' products with their keys.

use core::arch::x86_64::*;

use super::{LANES, Lanes, looking_at, parts_of_four};
use crate::format::QUAD;

/// Writes every position's scores, sixteen of 16 bits, and returns each lane's largest. The last
/// positions are not looked at by all lanes.
///
/// # Safety
/// There are keys and scratch for all of `key_scales`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn score(
    lanes: &Lanes,
    keys: *const i8,
    fours: usize,
    key_scales: &[u8],
    len: usize,
    scores: *mut i16,
) -> __m512i {
    let mut max = _mm512_set1_epi32(i16::MIN.into());
    let scales = key_scales.as_chunks::<QUAD>().0;
    let seen_by_all = len / QUAD;
    let mut keys = Keys { keys, fours, scales, len, scores, max: &mut max };
    // SAFETY: as promised.
    unsafe {
        let (pairs, one) = in_pairs(0, seen_by_all);
        for quad in pairs {
            keys.score::<2, false>(lanes, quad);
        }
        if let Some(quad) = one {
            keys.score::<1, false>(lanes, quad);
        }
        for quad in seen_by_all..scales.len() {
            keys.score::<1, true>(lanes, quad);
        }
    }
    max
}

/// What [`score`] goes through.
struct Keys<'a> {
    keys: *const i8,
    fours: usize,
    scales: &'a [[u8; QUAD]],
    len: usize,
    scores: *mut i16,
    max: &'a mut __m512i,
}

impl Keys<'_> {
    /// Quads `quad..quad + Q`. `TAIL`: not all lanes look at them.
    ///
    /// # Safety
    /// As for [`score`]; these quads exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn score<const Q: usize, const TAIL: bool>(&mut self, lanes: &Lanes, quad: usize) {
        let quad_bytes = QUAD * 4 * self.fours;
        // SAFETY: as promised.
        let keys = unsafe { self.keys.add(quad * quad_bytes) };
        let mut dots = [[_mm512_setzero_si512(); QUAD]; Q];
        for (q, dots) in dots.iter_mut().enumerate() {
            // SAFETY: this quad's keys.
            let sums = unsafe { quad_sums(keys.add(q * quad_bytes), quad_bytes) };
            for (dots, sum) in dots.iter_mut().zip(sums) {
                // What the queries' 128 adds is taken off before.
                *dots = _mm512_set1_epi32(sum);
            }
        }
        for (c, query) in lanes.queries.iter().enumerate().take(self.fours) {
            // SAFETY: sixteen numbers.
            let query = unsafe { _mm512_loadu_si512(query.as_ptr().cast()) };
            for (q, dots) in dots.iter_mut().enumerate() {
                for (p, dots) in dots.iter_mut().enumerate() {
                    let at = q * quad_bytes + (c * QUAD + p) * 4;
                    // SAFETY: four bytes of this quad's keys.
                    let four = unsafe { keys.add(at).cast::<i32>().read_unaligned() };
                    *dots = _mm512_dpbusd_epi32(*dots, query, _mm512_set1_epi32(four));
                }
            }
        }
        // SAFETY: sixteen numbers each.
        let (fraction, shift) = unsafe {
            (
                _mm512_loadu_si512(lanes.fraction.as_ptr().cast()),
                _mm512_loadu_si512(lanes.shift.as_ptr().cast()),
            )
        };
        let narrow = _mm_cvtsi32_si128(lanes.narrow as i32);
        for (q, dots) in dots.iter().enumerate() {
            let Some(scales) = self.scales.get(quad + q) else { return };
            let (fractions, exponents) = parts_of_four(*scales);
            for (p, &dots) in dots.iter().enumerate() {
                let fraction = _mm512_mullo_epi32(fraction, _mm512_set1_epi32(fractions[p]));
                let product = _mm512_mullo_epi32(_mm512_sra_epi32(dots, narrow), fraction);
                let shift = _mm512_sub_epi32(shift, _mm512_set1_epi32(exponents[p]));
                let score = _mm512_srav_epi32(product, shift);
                let position = (quad + q) * QUAD + p;
                *self.max = if TAIL {
                    _mm512_mask_max_epi32(*self.max, looking_at(position, self.len), *self.max, score)
                } else {
                    _mm512_max_epi32(*self.max, score)
                };
                // SAFETY: this position's sixteen places.
                unsafe {
                    let place = self.scores.add(position * LANES);
                    _mm256_storeu_si256(place.cast(), _mm512_cvtepi32_epi16(score));
                }
            }
        }
    }
}

/// `all` from quad `begin` to quad `end`, in pairs and then perhaps one.
#[inline(always)]
fn in_pairs(begin: usize, end: usize) -> (core::iter::StepBy<core::ops::Range<usize>>, Option<usize>) {
    let pairs = (end - begin) / 2 * 2;
    ((begin..begin + pairs).step_by(2), (begin + pairs < end).then_some(begin + pairs))
}

/// The sums of four keys' numbers, times −128.
///
/// # Safety
/// `keys` has so many bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn quad_sums(keys: *const i8, bytes: usize) -> [i32; QUAD] {
    let ones = _mm512_set1_epi8(1);
    let mut sums = _mm512_setzero_si512();
    let whole = bytes / 64 * 64;
    for at in (0..whole).step_by(64) {
        // SAFETY: sixty-four bytes.
        sums = _mm512_dpbusd_epi32(sums, ones, unsafe { _mm512_loadu_si512(keys.add(at).cast()) });
    }
    if whole < bytes {
        let mask = u16::MAX >> (LANES - (bytes - whole) / 4);
        // SAFETY: the mask covers only what there is.
        let rest = unsafe { _mm512_maskz_loadu_epi32(mask, keys.add(whole).cast()) };
        sums = _mm512_dpbusd_epi32(sums, ones, rest);
    }
    let half = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums));
    let quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    let quarter = _mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32::<7>(quarter));
    let mut out = [0; QUAD];
    // SAFETY: four numbers.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), quarter) };
    out
}
