//! Attention of one head over its cache. With the 8-bit cache everything is integers from the query's
//! quantizing to the end: exact in any order, and no floats for cores that have none.

use crate::format::QUAD;
use crate::math::{dot, exp, sum_of};
use crate::quant::{TINY, max_magnitude_bits, round_to_i32};
use crate::workers::Disjoint;

/// The 8-bit keys and values of one head in one layer.
#[derive(Clone, Copy, Debug)]
pub struct HeadCacheQ8<'a> {
    /// `[positions / 4][padded head_dim / 4][4 positions][4]`.
    pub keys: &'a [i8],
    /// One byte a position (`kv_scale`).
    pub key_scales: &'a [u8],
    /// `[positions / 4][head_dim][4 positions]`.
    pub values: &'a [i8],
    /// One byte a position (`kv_scale`).
    pub value_scales: &'a [u8],
}

/// 2⁻²⁴, the least scale, as the bits of an f32.
const LEAST_SCALE: u32 = (127 - 24) << 23;
/// The byte of the largest scale, with which numbers may still be too large.
pub(super) const LARGEST_SCALE: u8 = 254;
/// Stands for keys or values that are infinite or not a number.
pub(super) const NO_NUMBER: u8 = 255;

/// What a scale's byte means: five bits of exponent and three of fraction, 2⁻²⁴ to 224.
#[inline(always)]
fn scale_of(code: u8) -> f32 {
    f32::from_bits((u32::from(code) << 20) + LEAST_SCALE)
}

/// The byte of a head's scale at one position: the least that is not below max / 127.
#[inline(always)]
pub(super) fn kv_scale(max_bits: u32) -> u8 {
    if max_bits >= 0x7F80_0000 {
        return NO_NUMBER;
    }
    let bits = (f32::from_bits(max_bits) / 127.0).to_bits();
    (bits.saturating_sub(LEAST_SCALE).saturating_add(0xF_FFFF) >> 20).min(LARGEST_SCALE.into()) as u8
}

/// One number of a key or value as an integer.
#[inline(always)]
pub(super) fn quantize(x: f32, inverse: f32) -> i8 {
    round_to_i32((x * inverse).clamp(-127.0, 127.0)) as i8
}

/// 1 / scale, or 0 where there is no number.
#[inline(always)]
pub(super) fn inverse_of(code: u8) -> f32 {
    if code == NO_NUMBER { 0.0 } else { 1.0 / scale_of(code) }
}

/// Puts one position's key of one head in its place and returns its scale.
#[inline(always)]
pub fn store_key(key: &[f32], position: usize, keys: &mut [i8]) -> u8 {
    store::<4>(key, position, keys)
}

/// Puts one position's value of one head in its place and returns its scale.
#[inline(always)]
pub fn store_value(value: &[f32], position: usize, values: &mut [i8]) -> u8 {
    store::<1>(value, position, values)
}

/// The same for both: four positions take turns of `UNIT` numbers.
#[inline(always)]
fn store<const UNIT: usize>(head: &[f32], position: usize, places: &mut [i8]) -> u8 {
    /// Numbers that are made integers side by side before each goes to its place.
    const PART: usize = 64;
    let scale = kv_scale(max_magnitude_bits(head));
    let inverse = inverse_of(scale);
    let begin = position / QUAD * QUAD * head.len().next_multiple_of(UNIT);
    for (part, numbers) in head.chunks(PART).enumerate() {
        let mut quants = [0; PART];
        if inverse != 0.0 {
            for (quant, x) in quants.iter_mut().zip(numbers) {
                *quant = quantize(*x, inverse);
            }
        }
        let mut at = begin + part * PART * QUAD + position % QUAD * UNIT;
        for quants in quants.as_chunks::<UNIT>().0.iter().take(numbers.len().div_ceil(UNIT)) {
            let Some(place) = places.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<UNIT>()) else {
                break;
            };
            *place = *quants;
            at += UNIT * QUAD;
        }
    }
    scale
}

/// The queries of some tokens, of the heads that share one key head, and where what they attend to goes.
///
/// Of each token nobody writes to these queries, or touches their places in `out`, while they attend.
pub struct Queries<'a> {
    /// Floats, after norm and rotation.
    pub(crate) queries: &'a Disjoint<'a, f32>,
    /// Laid out as `queries` is.
    pub(crate) out: &'a Disjoint<'a, f32>,
    /// Where the first token's first head begins in both.
    pub(crate) begin: usize,
    /// From a token to the next one.
    pub(crate) stride: usize,
    /// Tokens.
    pub(crate) n: usize,
    /// Heads of each, one after the other.
    pub(crate) heads: usize,
    /// Numbers of a head.
    pub(crate) head_dim: usize,
    /// Positions that the first token looks at; every next one looks at one more.
    pub(crate) len: usize,
}

impl Queries<'_> {
    /// Where a token's head begins.
    #[inline(always)]
    pub(crate) fn place(&self, token: usize, head: usize) -> usize {
        self.begin + token * self.stride + head * self.head_dim
    }
}

/// Scratch for one key head's attention.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// At least as many places as positions; more let some levels take several tokens at once. With an 8-bit cache they hold twice as many integers of 16 bits:
    /// scores, then weights, of two queries.
    pub scores: &'a mut [f32],
    /// A query as integers, head_dim padded to 4.
    pub query: &'a mut [i8],
}

/// The steps of attention that a level may compute in its own way, to the same bits. Both integer
/// products write integers as the bits of floats.
pub trait Products: Sized {
    /// For each position the inner product of its key with the query (as long as a padded head).
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]);

    /// For each of a head's numbers the sum over positions of weight · value, modulo 2³². Weights are
    /// not negative, and as many as there are positions rounded up to a multiple of four.
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]);

    /// The largest of some scales' bytes; 0 of none.
    #[inline(always)]
    fn largest(scales: &[u8]) -> u8 {
        let mut max = 0;
        for &scale in scales {
            max = max.max(scale);
        }
        max
    }

    /// Replaces scores by weights, in the order in which the level's [`Products::mix`] takes them, with
    /// zeros beyond those that have a scale, and returns the sum of the exponentials.
    #[inline(always)]
    fn weigh(scores: &mut [i16], max: i16, coarse: u32, value_scales: &[u8], largest: u8) -> u64 {
        weigh(scores, max, coarse, value_scales, largest)
    }

    /// Attention of some queries of `head_dim` numbers, which lie one after the other, over the first
    /// `len` positions.
    #[inline(always)]
    fn attend(
        queries: &[f32],
        head_dim: usize,
        cache: &HeadCacheQ8<'_>,
        len: usize,
        scratch: &mut Scratch<'_>,
        out: &mut [f32],
    ) {
        for at in (0..queries.len()).step_by(head_dim.max(1)) {
            let (Some(query), Some(out)) = (queries.get(at..at + head_dim), out.get_mut(at..at + head_dim))
            else {
                return;
            };
            attend_one::<Self>(query, cache, len, scratch, out);
        }
    }
}

/// Scores are counted in these parts of a power of two.
const FRACTION_BITS: i32 = 8;
/// Scores stay below two to this, as an i16 does.
const SCORE_BITS: i32 = 15;
/// Differences of scores from here on are all one: their exponentials are below 2⁻³¹.
pub(super) const FAR: i32 = (32 << FRACTION_BITS) - 1;
/// So many positions' exponentials add up to no more than [`MOST_SUM`] says, whatever they are.
pub(super) const FEW: usize = 512;
/// Exponentials have 26 bits after the point, and their sum so many less.
pub(super) const SUM_SHIFT: u32 = 6;
/// Bits of a sum of exponentials, each at most 2²⁰ there, that needs no smaller weights: Σ weight is
/// below 15.8 million then, and Σ weight · value below 2³¹.
const MOST_SUM: u32 = 29;
/// A weight has so many bits less than the product of its exponential and its scale's fraction.
pub(super) const WEIGHT_SHIFT: u32 = 15;

/// What makes scores of inner products: see [`ScoreScale::score`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ScoreScale {
    /// Bits that inner products of very wide heads lose first.
    pub(super) narrow: u32,
    /// 8 to 15, the query's.
    pub(super) fraction: i32,
    /// From here the key's exponent is taken away: that many bits go. Not below any of the keys'.
    pub(super) shift: u32,
    /// By how many bits scores are coarser than 2⁻⁸.
    pub(super) coarse: u32,
}

/// 8 to 15, and the exponent, of a scale's byte.
#[inline(always)]
pub(super) fn parts_of(code: u8) -> (i32, u32) {
    (i32::from(code & 7) + 8, u32::from(code >> 3))
}

impl ScoreScale {
    /// The score of a position, in units of 2^(coarse − 8), as a power of two's exponent.
    #[inline(always)]
    pub(super) fn score(self, dot: i32, key_scale: u8) -> i16 {
        let (fraction, exponent) = parts_of(key_scale);
        let product = (dot >> self.narrow) * (self.fraction * fraction);
        (product >> (self.shift - exponent).min(31)) as i16
    }
}

/// A query's scale, of which 1/√head_dim and log₂ e are parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryScale {
    /// fraction + 8 · exponent; the scale is (8 + fraction) · 2^(exponent − 130).
    code: u32,
    /// What makes its numbers integers, to be rounded.
    pub(super) inverse: f32,
}

impl QueryScale {
    /// The scale of a query of `head_dim` numbers, rounded up to four bits. `None` if some number of it is
    /// none.
    #[inline(always)]
    pub(super) fn new(max_bits: u32, head_dim: usize) -> Option<Self> {
        if max_bits >= 0x7F80_0000 {
            return None;
        }
        let factor = core::f32::consts::LOG2_E * (1.0 / super::elementwise::sqrt(head_dim as f32));
        let max = f32::from_bits(max_bits);
        let max = if max < TINY { TINY } else { max };
        let code = ((max / 127.0 * factor).to_bits() + 0xF_FFFF) >> 20;
        Some(Self { code, inverse: factor / f32::from_bits(code << 20) })
    }

    /// 8 to 15.
    #[inline(always)]
    pub(super) fn fraction(self) -> i32 {
        (self.code & 7) as i32 + 8
    }

    /// What makes scores of inner products with a query of `head_dim` integers whose magnitudes add up to
    /// `mass`.
    #[inline(always)]
    pub(super) fn scores(self, mass: i32, head_dim: usize, largest_key_scale: u8) -> ScoreScale {
        let narrow = (head_dim.max(1) - 1).checked_ilog2().map_or(0, |bits| (bits + 1).saturating_sub(9));
        let fraction = self.fraction();
        // The query's scale is fraction · 2^(exponent − 130), a key's fraction · 2^(exponent − 27).
        let exact = 157 - FRACTION_BITS - (self.code >> 3) as i32;
        let (key_fraction, key_exponent) = parts_of(largest_key_scale);
        let bound = ((mass * 127) >> narrow) * (fraction * key_fraction);
        let bits = 32 - bound.leading_zeros() as i32;
        let shift = exact.max(key_exponent as i32 + (bits - SCORE_BITS).max(0));
        ScoreScale { narrow, fraction, shift: shift as u32, coarse: ((shift - exact) as u32).min(16) }
    }
}

/// Makes a query integers. `None` if some number of it is none.
#[inline(always)]
pub(super) fn quantize_query(query: &[f32], largest_key_scale: u8, quants: &mut [i8]) -> Option<ScoreScale> {
    let scale = QueryScale::new(max_magnitude_bits(query), query.len())?;
    quants.fill(0);
    let mut mass = 0;
    for (quant, x) in quants.iter_mut().zip(query) {
        let integer = round_to_i32(x * scale.inverse) as i8;
        mass += i32::from(integer).abs();
        *quant = integer;
    }
    Some(scale.scores(mass, query.len(), largest_key_scale))
}

/// 2^(16 − f / 256) for f in 0 to 255, within 10⁻⁴ of it.
#[inline(always)]
pub(super) const fn power(f: i32) -> i32 {
    65_536 - ((f * (45_327 - ((f * (15_156 - ((f * 2_601) >> 8))) >> 8))) >> 8)
}

/// [`power`] · 2¹⁰ as a table: for cores on which looking up is cheaper than multiplying.
pub(super) static POWERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut f = 0;
    while f < 256 {
        table[f] = (power(f as i32) as u32) << 10;
        f += 1;
    }
    table
};

/// 2²⁶ · 2^−(max − score), the scores in units of 2^(coarse − 8).
#[inline(always)]
pub(super) fn exponential(score: i16, max: i16, coarse: u32) -> u32 {
    let distance = ((i32::from(max) - i32::from(score)).min(FAR) << coarse).min(FAR);
    let fraction = distance & 255;
    let power = if cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32")) {
        (power(fraction) as u32) << 10
    } else {
        POWERS[(fraction & 255) as usize]
    };
    power >> (distance >> FRACTION_BITS)
}

/// An exponential times its value's scale as an integer of 15 bits: rounded, halves up.
#[inline(always)]
pub(super) fn weight(exponential: u32, value_scale: u8, shift: u32) -> i16 {
    let (fraction, exponent) = parts_of(value_scale);
    let product = exponential * fraction as u32;
    (((product >> ((shift - exponent).min(31) - 1)) + 1) >> 1) as i16
}

/// [`Products::weigh`] with weights in the order of positions.
#[inline(always)]
pub(super) fn weigh(scores: &mut [i16], max: i16, coarse: u32, value_scales: &[u8], largest: u8) -> u64 {
    let n = value_scales.len();
    let shift = WEIGHT_SHIFT + parts_of(largest).1;
    let mut sum = 0_u64;
    let (all, beyond) = scores.split_at_mut(n.min(scores.len()));
    beyond.fill(0);
    if n <= FEW {
        let mut sum = 0;
        for (score, &value_scale) in all.iter_mut().zip(value_scales) {
            let p = exponential(*score, max, coarse);
            sum += p >> SUM_SHIFT;
            *score = weight(p, value_scale, shift);
        }
        return sum.into();
    }
    for scores in all.chunks(FEW) {
        let exponentials = scores.iter().map(|&score| exponential(score, max, coarse) >> SUM_SHIFT);
        sum += u64::from(exponentials.sum::<u32>());
    }
    let shift = shift + smaller_by(sum);
    for (score, &value_scale) in all.iter_mut().zip(value_scales) {
        *score = weight(exponential(*score, max, coarse), value_scale, shift);
    }
    sum
}

/// By how many bits weights must be smaller so that their sum stays in bounds.
#[inline(always)]
pub(super) fn smaller_by(sum: u64) -> u32 {
    (64 - sum.saturating_sub(1).leading_zeros()).saturating_sub(MOST_SUM)
}

/// What a sum of weights times values is multiplied with, the weights being in these units.
#[inline(always)]
pub(super) fn unit(sum: u64, largest_value_scale: u8) -> f32 {
    let (_, exponent) = parts_of(largest_value_scale);
    f32::from_bits((exponent + 109) << 23) / (sum >> smaller_by(sum)) as i32 as f32
}

/// The positions of a cache, if it and the scratch have so many: key scales, value scales.
#[inline(always)]
pub(super) fn scales_of<'a>(cache: &HeadCacheQ8<'a>, len: usize) -> Option<(&'a [u8], &'a [u8])> {
    Some((cache.key_scales.get(..len)?, cache.value_scales.get(..len)?))
}

/// Positions whose inner products are looked at together.
const PART: usize = if cfg!(target_pointer_width = "64") { 512 } else { 32 };

/// Attention of one query over the first `len` positions of an 8-bit cache.
#[inline(always)]
pub(super) fn attend_one<P: Products>(
    query: &[f32],
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    let padded_len = len.next_multiple_of(QUAD);
    let Some((key_scales, value_scales)) = scales_of(cache, len) else { return };
    let Some(scores) = crate::cast::f32_as_i16_mut(scratch.scores).get_mut(..padded_len) else { return };
    let (largest_key, largest_value) = (P::largest(key_scales), P::largest(value_scales));
    let scale = quantize_query(query, largest_key, scratch.query);
    let (Some(scale), false) = (scale, largest_key.max(largest_value) == NO_NUMBER) else {
        out.fill(f32::NAN);
        return;
    };
    let mut max = i16::MIN;
    let mut dots = [0.0; PART];
    for (part, (scores, key_scales)) in scores.chunks_mut(PART).zip(key_scales.chunks(PART)).enumerate() {
        let keys = cache.keys.get(part * PART * scratch.query.len()..).unwrap_or(&[]);
        let Some(dots) = dots.get_mut(..key_scales.len()) else { return };
        P::key_dots(keys, scratch.query, dots);
        for ((score, dot), &key_scale) in scores.iter_mut().zip(dots).zip(key_scales) {
            *score = scale.score(dot.to_bits() as i32, key_scale);
            max = max.max(*score);
        }
    }
    let sum = P::weigh(scores, max, scale.coarse, value_scales, largest_value);
    P::mix(cache.values, scores, out);
    let unit = unit(sum, largest_value);
    for out in out {
        *out = out.to_bits() as i32 as f32 * unit;
    }
}

/// Attention of one query over the first `len` positions of an f32 cache `[positions, head_dim]`.
#[inline(always)]
pub fn attend_f32(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    len: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let scale = 1.0 / super::elementwise::sqrt(query.len() as f32);
    let Some(scores) = scores.get_mut(..len) else { return };
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(query.len().max(1))) {
        *score = dot(query, key) * scale;
    }
    let sum = exponentials(scores);
    out.fill(0.0);
    for (p, value) in scores.iter().zip(values.chunks_exact(query.len().max(1))) {
        for (out, v) in out.iter_mut().zip(value) {
            *out += p * v;
        }
    }
    let inverse = 1.0 / sum;
    for out in out {
        *out *= inverse;
    }
}

/// Replaces scores by e^(score − largest) and returns their sum.
#[inline(always)]
fn exponentials(scores: &mut [f32]) -> f32 {
    // The largest does not depend on the order, so sixteen are looked at side by side.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (sixteens, rest) = scores.as_chunks::<16>();
    let mut maxima = [f32::NEG_INFINITY; 16];
    for scores in sixteens {
        maxima = core::array::from_fn(|i| larger(maxima[i], scores[i]));
    }
    let mut max = f32::NEG_INFINITY;
    for &candidate in maxima.iter().chain(rest) {
        max = larger(max, candidate);
    }
    for score in &mut *scores {
        *score = exp(*score - max);
    }
    sum_of(scores, |p| p)
}
