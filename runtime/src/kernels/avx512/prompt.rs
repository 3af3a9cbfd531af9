//! Attention of sixteen tokens' queries at once, one lane each: what a prompt does most beside its
//! products. A key's or value's four bytes go to all lanes, so nothing is added up across lanes, and
//! scores, exponentials and weights of one position are vectors.

use core::arch::x86_64::*;

use crate::kernels::attention::{
    self, FAR, FEW, HeadCacheQ8, NO_NUMBER, Products, Queries, SUM_SHIFT, Scratch, WEIGHT_SHIFT, parts_of,
};

use super::attention::Vnni;

/// Queries at once.
const LANES: usize = 16;
/// From so many on, sixteen at once are faster than one by one.
pub(super) const LEAST: usize = 7;
/// The widest head, in fours of numbers: a query's place is on the stack.
const WIDEST: usize = 64;
/// Positions whose four bytes are side by side.
const QUAD: usize = crate::format::QUAD;
/// Floats of scratch that a quad's scores (then weights) take: sixteen bits a query.
const QUAD_SCRATCH: usize = QUAD * LANES / 2;

/// What is known of each lane's query and of the positions that it looks at.
struct Lanes {
    /// Four neighbouring numbers, plus 128, of sixteen queries each.
    queries: [[u32; LANES]; WIDEST],
    /// As in [`attention::ScoreScale`].
    fraction: [i32; LANES],
    shift: [u32; LANES],
    coarse: [u32; LANES],
    narrow: u32,
    /// The largest scale of the values that it looks at.
    largest_value: [u8; LANES],
    /// Its numbers, or those that it looks at, are none.
    no_number: [bool; LANES],
}

/// Attention of `n` (at most 16) tokens' queries, of head `head` of those that share this cache, from
/// token `first` on. `false` if nothing was done: the head is too wide, or the scratch too small.
///
/// # Safety
/// [`Queries`]' contract, and the CPU has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn attend(
    all: &Queries<'_>,
    first: usize,
    n: usize,
    head: usize,
    cache: &HeadCacheQ8<'_>,
    scratch: &mut Scratch<'_>,
) -> bool {
    let head_dim = all.head_dim;
    let fours = head_dim.div_ceil(4);
    let len = all.len + first;
    let quads = (len + n.max(1) - 1).div_ceil(QUAD);
    let (Some(key_scales), Some(value_scales)) =
        (cache.key_scales.get(..quads * QUAD), cache.value_scales.get(..quads * QUAD))
    else {
        return false;
    };
    let fits = fours <= WIDEST
        && scratch.scores.len() >= quads * QUAD_SCRATCH
        && scratch.query.len() == 4 * fours
        && cache.keys.len() >= quads * QUAD * 4 * fours
        && cache.values.len() >= quads * QUAD * head_dim
        && (1..=LANES).contains(&n)
        && len > 0;
    if !fits {
        return false;
    }
    // SAFETY: as promised.
    let lanes = unsafe { lanes(all, first, n, head, len, [key_scales, value_scales], scratch.query) };
    let scores: *mut i16 = scratch.scores.as_mut_ptr().cast();
    // SAFETY: all lengths were checked.
    unsafe {
        let max = score(&lanes, cache.keys.as_ptr(), fours, key_scales, len, scores);
        let units = weigh(&lanes, max, value_scales, len, scores);
        let mut outs = [core::ptr::null_mut(); LANES];
        for (lane, place) in outs.iter_mut().enumerate().take(n) {
            let at = all.place(first + lane, head);
            let out = all.out.part(at..at + head_dim);
            if out.len() != head_dim {
                return true;
            }
            *place = out.as_mut_ptr();
        }
        let places = outs.get(..n).unwrap_or(&[]);
        let mut d = 0;
        while d + 8 <= head_dim {
            mix::<8>(cache.values.as_ptr(), head_dim, d, quads, scores, units, places);
            d += 8;
        }
        while d < head_dim {
            mix::<1>(cache.values.as_ptr(), head_dim, d, quads, scores, units, places);
            d += 1;
        }
    }
    true
}

/// Makes the queries integers, and lays them out by fours of numbers. Lanes that have none are like the
/// first one.
///
/// # Safety
/// [`Queries`]' contract.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn lanes(
    all: &Queries<'_>,
    first: usize,
    n: usize,
    head: usize,
    len: usize,
    [key_scales, value_scales]: [&[u8]; 2],
    query: &mut [i8],
) -> Lanes {
    let mut lanes = Lanes {
        queries: [[0; LANES]; WIDEST],
        fraction: [0; LANES],
        shift: [31; LANES],
        coarse: [0; LANES],
        narrow: 0,
        largest_value: [0; LANES],
        no_number: [false; LANES],
    };
    let largest = |scales: &[u8]| Vnni::largest(scales.get(..len).unwrap_or(&[]));
    let (mut largest_key, mut largest_value) = (largest(key_scales), largest(value_scales));
    for lane in 0..n.min(LANES) {
        if lane > 0 {
            let of_last = |scales: &[u8]| scales.get(len + lane - 1).copied().unwrap_or(0);
            largest_key = largest_key.max(of_last(key_scales));
            largest_value = largest_value.max(of_last(value_scales));
        }
        let at = all.place(first + lane, head);
        // SAFETY: as promised.
        let floats = unsafe { all.queries.shared(at..at + all.head_dim) };
        let scale = attention::quantize_query(floats, largest_key, query);
        lanes.largest_value[lane] = largest_value;
        lanes.no_number[lane] = scale.is_none() || largest_key.max(largest_value) == NO_NUMBER;
        let Some(scale) = scale else { continue };
        lanes.fraction[lane] = scale.fraction;
        lanes.shift[lane] = scale.shift;
        lanes.coarse[lane] = scale.coarse;
        lanes.narrow = scale.narrow;
        for (queries, four) in lanes.queries.iter_mut().zip(query.as_chunks::<4>().0) {
            queries[lane] = u32::from_le_bytes(four.map(|q| q as u8)) ^ 0x8080_8080;
        }
    }
    lanes
}

/// Lanes whose tokens look at a position, `len` being what the first one looks at.
#[inline]
fn looking_at(position: usize, len: usize) -> u16 {
    let beyond = (position + 1).saturating_sub(len);
    if beyond < LANES { u16::MAX << beyond } else { 0 }
}

/// `all` from quad `begin` to quad `end`, in pairs and then perhaps one.
#[inline(always)]
fn in_pairs(begin: usize, end: usize) -> (core::iter::StepBy<core::ops::Range<usize>>, Option<usize>) {
    let pairs = (end - begin) / 2 * 2;
    ((begin..begin + pairs).step_by(2), (begin + pairs < end).then_some(begin + pairs))
}

/// Writes every position's scores, sixteen of 16 bits, and returns each lane's largest. The last
/// positions are not looked at by all lanes.
///
/// # Safety
/// There are keys and scratch for all of `key_scales`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn score(
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

/// [`parts_of`] of four scales.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn parts_of_four(scales: [u8; QUAD]) -> ([i32; QUAD], [i32; QUAD]) {
    let scales = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(i32::from_le_bytes(scales)));
    let fraction = _mm_or_si128(_mm_and_si128(scales, _mm_set1_epi32(7)), _mm_set1_epi32(8));
    let exponent = _mm_srli_epi32::<3>(scales);
    let (mut fractions, mut exponents) = ([0; QUAD], [0; QUAD]);
    // SAFETY: four numbers each.
    unsafe {
        _mm_storeu_si128(fractions.as_mut_ptr().cast(), fraction);
        _mm_storeu_si128(exponents.as_mut_ptr().cast(), exponent);
    }
    (fractions, exponents)
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
unsafe fn weigh(lanes: &Lanes, max: __m512i, value_scales: &[u8], len: usize, scores: *mut i16) -> __m512 {
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

/// Mixes `D` of a head's numbers from number `first` on, and writes them to each lane's place.
///
/// # Safety
/// There are so many quads of values and weights, `first + D` numbers a head, and places for them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn mix<const D: usize>(
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
