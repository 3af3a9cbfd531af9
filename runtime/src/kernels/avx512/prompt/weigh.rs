//! Scores become exponentials, and those times their values' scales weights.

use core::arch::x86_64::*;

use super::{LANES, Lanes, looking_at, parts_of_four};
use crate::format::QUAD;
use crate::kernels::attention::{self, FAR, FEW, SUM_SHIFT, WEIGHT_SHIFT, parts_of};

/// How scores become exponentials: what is the same for all positions.
struct Exponent {
    /// In both halves, of 16 bits.
    max: __m512i,
    limit: __m512i,
    coarse: __m512i,
}

impl Exponent {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn new(max: __m512i, coarse: &[u32; LANES]) -> Self {
        let mut limits = [0; LANES];
        for (limit, coarse) in limits.iter_mut().zip(coarse) {
            *limit = (FAR as u32 >> coarse) + 1;
        }
        // SAFETY: sixteen numbers each.
        let (limit, coarse) = unsafe {
            (_mm512_loadu_si512(limits.as_ptr().cast()), _mm512_loadu_si512(coarse.as_ptr().cast()))
        };
        // From 13 on, all differences but none are far.
        let coarse = _mm512_min_epu32(coarse, _mm512_set1_epi32(13));
        Self { max: twice(max), limit: twice(limit), coarse: twice(coarse) }
    }

    /// [`attention::exponential`] of two positions' scores, which lie at `scores`.
    ///
    /// # Safety
    /// There are thirty-two.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn exponentials(&self, scores: *const i16) -> [__m512i; 2] {
        // SAFETY: as promised.
        let scores = unsafe { _mm512_loadu_si512(scores.cast()) };
        let far = _mm512_set1_epi16(FAR as i16);
        // Differences have 16 bits; what is beyond the limit is far when it has been shifted.
        let distance = _mm512_min_epu16(_mm512_sub_epi16(self.max, scores), self.limit);
        let distance = _mm512_min_epu16(_mm512_sllv_epi16(distance, self.coarse), far);
        // The polynomial of [`attention::power`]: a product with 256 · f, halved sixteen times.
        let f = _mm512_slli_epi16::<8>(distance);
        let cubic = _mm512_mulhi_epu16(f, _mm512_set1_epi16(2_601));
        let square = _mm512_mulhi_epu16(f, _mm512_sub_epi16(_mm512_set1_epi16(15_156), cubic));
        let below = _mm512_mulhi_epu16(f, _mm512_sub_epi16(_mm512_set1_epi16(45_327_u16 as i16), square));
        let places = _mm512_srli_epi16::<8>(distance);
        let half = |below: __m256i, places: __m256i| {
            let power = _mm512_sub_epi32(_mm512_set1_epi32(1 << 16), _mm512_cvtepu16_epi32(below));
            _mm512_srlv_epi32(_mm512_slli_epi32::<10>(power), _mm512_cvtepu16_epi32(places))
        };
        [
            half(_mm512_castsi512_si256(below), _mm512_castsi512_si256(places)),
            half(_mm512_extracti64x4_epi64::<1>(below), _mm512_extracti64x4_epi64::<1>(places)),
        ]
    }
}

/// Sixteen numbers as 16 bits each, twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn twice(x: __m512i) -> __m512i {
    _mm512_broadcast_i64x4(_mm512_cvtepi32_epi16(x))
}

/// Replaces scores by weights, and returns what each lane's sums are multiplied with: see
/// [`attention::weigh`]. Of a quad's sixteen times four weights, first come all low bytes, those of a
/// lane side by side, then all high bytes.
///
/// # Safety
/// There are scores for all of `value_scales`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn weigh(
    lanes: &Lanes,
    max: __m512i,
    value_scales: &[u8],
    len: usize,
    scores: *mut i16,
) -> __m512 {
    let exponent = Exponent::new(max, &lanes.coarse);
    let mut sums = [0_u64; LANES];
    let few = value_scales.len() <= FEW;
    if !few {
        for (part, scales) in value_scales.chunks(FEW).enumerate() {
            let mut sum = _mm512_setzero_si512();
            for p in (0..scales.len()).step_by(2) {
                let at = part * FEW + p;
                // SAFETY: there are two positions more; both have scores.
                let both = unsafe { exponent.exponentials(scores.add(at * LANES)) };
                for (i, p) in both.into_iter().enumerate() {
                    let p = _mm512_srli_epi32::<SUM_SHIFT>(p);
                    sum = _mm512_mask_add_epi32(sum, looking_at(at + i, len), sum, p);
                }
            }
            add_to(&mut sums, sum);
        }
    }
    let mut shifts = [0; LANES];
    for ((shift, largest), sum) in shifts.iter_mut().zip(lanes.largest_value).zip(sums) {
        *shift = WEIGHT_SHIFT + parts_of(largest).1 + attention::smaller_by(sum) - 1;
    }
    // SAFETY: sixteen numbers.
    let shift = unsafe { _mm512_loadu_si512(shifts.as_ptr().cast()) };
    let mut sum = _mm512_setzero_si512();
    let seen_by_all = len / QUAD;
    for (quad, scales) in value_scales.as_chunks::<QUAD>().0.iter().enumerate() {
        // SAFETY: as promised.
        let place = unsafe { scores.add(quad * QUAD * LANES) };
        // SAFETY: four positions' scores.
        unsafe {
            if quad < seen_by_all {
                let all = [u16::MAX; QUAD];
                weigh_quad::<false>(&exponent, *scales, shift, all, place, &mut sum);
            } else {
                let looking = core::array::from_fn(|p| looking_at(quad * QUAD + p, len));
                weigh_quad::<true>(&exponent, *scales, shift, looking, place, &mut sum);
            }
        }
    }
    if few {
        add_to(&mut sums, sum);
    }
    let mut units = [f32::NAN; LANES];
    for (lane, unit) in units.iter_mut().enumerate() {
        if !lanes.no_number[lane] && sums[lane] > 0 {
            *unit = attention::unit(sums[lane], lanes.largest_value[lane]);
        }
    }
    // SAFETY: sixteen floats.
    unsafe { _mm512_loadu_ps(units.as_ptr()) }
}

/// The same of four positions. `TAIL`: only lanes of `looking` look at them.
///
/// # Safety
/// Their scores are at `place`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn weigh_quad<const TAIL: bool>(
    exponent: &Exponent,
    scales: [u8; QUAD],
    shift: __m512i,
    looking: [u16; QUAD],
    place: *mut i16,
    sum: &mut __m512i,
) {
    // SAFETY: as promised.
    let [[a, b], [c, d]] =
        unsafe { [exponent.exponentials(place), exponent.exponentials(place.add(2 * LANES))] };
    let mut weights = [a, b, c, d];
    let (fractions, exponents) = parts_of_four(scales);
    for p in 0..QUAD {
        let part = _mm512_srli_epi32::<SUM_SHIFT>(weights[p]);
        *sum = if TAIL {
            _mm512_mask_add_epi32(*sum, looking[p], *sum, part)
        } else {
            _mm512_add_epi32(*sum, part)
        };
        let product = _mm512_mullo_epi32(weights[p], _mm512_set1_epi32(fractions[p]));
        let shift = _mm512_sub_epi32(shift, _mm512_set1_epi32(exponents[p]));
        let doubled = _mm512_srlv_epi32(product, shift);
        let rounded = _mm512_srli_epi32::<1>(_mm512_add_epi32(doubled, _mm512_set1_epi32(1)));
        weights[p] = if TAIL { _mm512_maskz_mov_epi32(looking[p], rounded) } else { rounded };
    }
    // SAFETY: this quad's scores, which nobody needs any more.
    unsafe { store_bytes(weights, place) };
}

/// Adds sixteen numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn add_to(sums: &mut [u64; LANES], more: __m512i) {
    let mut numbers = [0_u32; LANES];
    // SAFETY: sixteen numbers.
    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), more) };
    for (sum, more) in sums.iter_mut().zip(numbers) {
        *sum += u64::from(more);
    }
}

/// Four positions' weights as bytes: low ones, then high ones, each lane's four side by side.
///
/// # Safety
/// `place` has room for 128 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn store_bytes([a, b, c, d]: [__m512i; QUAD], place: *mut i16) {
    // low a, low b, high a, high b; the same of c and d.
    let order = _mm512_set1_epi32(0x0301_0200);
    let order = _mm512_add_epi8(order, _mm512_set4_epi32(0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0));
    let pair = |x, y| _mm512_shuffle_epi8(_mm512_or_si512(x, _mm512_slli_epi32::<16>(y)), order);
    let (ab, cd) = (pair(a, b), pair(c, d));
    let low = _mm512_mask_blend_epi16(0xAAAA_AAAA, ab, _mm512_slli_epi32::<16>(cd));
    let high = _mm512_mask_blend_epi16(0xAAAA_AAAA, _mm512_srli_epi32::<16>(ab), cd);
    // SAFETY: as promised.
    unsafe {
        _mm512_storeu_si512(place.cast(), low);
        _mm512_storeu_si512(place.add(2 * LANES).cast(), high);
    }
}
