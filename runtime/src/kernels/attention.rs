//! Attention of one head over its cache. With the 8-bit cache both products are exact integers.

use crate::format::QUAD;
use crate::math::{dot, exp, sum_of, to_weight};
use crate::quant::{activation_scale, max_magnitude_bits, round_to_i32};

/// The 8-bit keys and values of one head in one layer.
#[derive(Clone, Copy, Debug)]
pub struct HeadCacheQ8<'a> {
    /// `[positions / 4][padded head_dim / 4][4 positions][4]`.
    pub keys: &'a [i8],
    /// One byte a position ([`kv_scale`]).
    pub key_scales: &'a [u8],
    /// `[positions / 4][head_dim][4 positions]`.
    pub values: &'a [i8],
    /// One byte a position ([`kv_scale`]).
    pub value_scales: &'a [u8],
}

/// 2⁻²⁴, the least scale, as the bits of an f32.
const LEAST_SCALE: u32 = (127 - 24) << 23;
/// Stands for keys or values that are infinite or not a number.
pub(super) const NO_NUMBER: u8 = 255;

/// What a scale's byte means: five bits of exponent and three of fraction, 2⁻²⁴ to 224.
#[inline(always)]
pub(super) fn scale_of(code: u8) -> f32 {
    if code == NO_NUMBER { f32::NAN } else { scale_of_number(code) }
}

/// The same where it is known to be a number.
#[inline(always)]
pub(super) fn scale_of_number(code: u8) -> f32 {
    f32::from_bits((u32::from(code) << 20) + LEAST_SCALE)
}

/// The byte of a head's scale at one position: the least that is not below max / 127.
#[inline(always)]
pub fn kv_scale(values: &[f32]) -> u8 {
    let max_bits = max_magnitude_bits(values);
    if max_bits >= 0x7F80_0000 {
        return NO_NUMBER;
    }
    let bits = (f32::from_bits(max_bits) / 127.0).to_bits();
    (bits.saturating_sub(LEAST_SCALE).saturating_add(0xF_FFFF) >> 20).min(254) as u8
}

/// One number of a key or value as an integer.
#[inline(always)]
fn quantize(x: f32, inverse: f32) -> i8 {
    round_to_i32((x * inverse).clamp(-127.0, 127.0)) as i8
}

/// 1 / scale, or 0 where there is no number.
#[inline(always)]
fn inverse_of(code: u8) -> f32 {
    if code == NO_NUMBER { 0.0 } else { 1.0 / scale_of(code) }
}

/// Puts one position's key of one head in its place.
#[inline(always)]
pub fn store_key(key: &[f32], scale: u8, position: usize, keys: &mut [i8]) {
    let inverse = inverse_of(scale);
    let padded = key.len().next_multiple_of(4);
    let quad = (position / QUAD) * QUAD * padded + (position % QUAD) * 4;
    for (i, x) in key.iter().enumerate() {
        if let Some(place) = keys.get_mut(quad + (i / 4) * 16 + i % 4) {
            *place = if inverse == 0.0 { 0 } else { quantize(*x, inverse) };
        }
    }
}

/// Puts one position's value of one head in its place.
#[inline(always)]
pub fn store_value(value: &[f32], scale: u8, position: usize, values: &mut [i8]) {
    let inverse = inverse_of(scale);
    let quad = (position / QUAD) * QUAD * value.len() + position % QUAD;
    for (i, x) in value.iter().enumerate() {
        if let Some(place) = values.get_mut(quad + i * QUAD) {
            *place = if inverse == 0.0 { 0 } else { quantize(*x, inverse) };
        }
    }
}

/// Σ of attention weights stays below this, so that Σ weight · value stays below 2³¹.
const WEIGHT_SUM: f32 = 16.0e6;

/// Scratch for one head's attention: as many places as positions.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// Scores, then probabilities (not yet divided by their sum).
    pub scores: &'a mut [f32],
    /// Integer weights.
    pub weights: &'a mut [i16],
    /// The query as integers, head_dim padded to 4.
    pub query: &'a mut [i8],
}

/// The steps of attention that a level may compute in its own way, to the same bits. Both integer
/// products write integers as the bits of floats: the places are reused for what follows.
pub trait Products {
    /// For each position the inner product of its key with the query (as long as a padded head).
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]);

    /// For each of a head's numbers the sum over positions of weight · value, modulo 2³². Weights are
    /// what [`Products::weigh`] wrote: not negative, and as many as there are positions rounded up to
    /// a multiple of four.
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]);

    /// For each position its key's inner product with the query, times both scales.
    #[inline(always)]
    fn scores(keys: &[i8], key_scales: &[u8], query: &[i8], scale: f32, out: &mut [f32]) {
        Self::key_dots(keys, query, out);
        for (score, &key_scale) in out.iter_mut().zip(key_scales) {
            *score = score.to_bits() as i32 as f32 * (scale * scale_of(key_scale));
        }
    }

    /// Replaces scores by e^(score − largest) and returns their sum.
    #[inline(always)]
    fn exponentials(scores: &mut [f32]) -> f32 {
        exponentials(scores)
    }

    /// The largest of some scales' bytes; 0 of none.
    #[inline(always)]
    fn largest(scales: &[u8]) -> u8 {
        let mut max = 0;
        for &scale in scales {
            max = max.max(scale);
        }
        max
    }

    /// Each position's exponential times its value's scale times `factor`, rounded to an integer, in
    /// the order in which the level's [`Products::mix`] takes them; zeros beyond.
    #[inline(always)]
    fn weigh(exponentials: &[f32], value_scales: &[u8], factor: f32, weights: &mut [i16]) {
        weights.fill(0);
        for ((weight, p), &scale) in weights.iter_mut().zip(exponentials).zip(value_scales) {
            *weight = to_weight(*p * (scale_of(scale) * factor));
        }
    }
}

/// Attention of one query over the first `len` positions of an 8-bit cache.
#[inline(always)]
pub fn attend_q8<P: Products>(
    query: &[f32],
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    let (scale, inverse) = activation_scale(max_magnitude_bits(query));
    scratch.query.fill(0);
    if inverse != 0.0 {
        for (quant, x) in scratch.query.iter_mut().zip(query) {
            *quant = round_to_i32(x * inverse) as i8;
        }
    }
    let scale = scale * (1.0 / libm::sqrtf(query.len() as f32));
    let padded_len = len.next_multiple_of(QUAD);
    let (Some(scores), Some(weights), Some(key_scales), Some(value_scales)) = (
        scratch.scores.get_mut(..len),
        scratch.weights.get_mut(..padded_len),
        cache.key_scales.get(..padded_len),
        cache.value_scales.get(..len),
    ) else {
        return;
    };
    P::scores(cache.keys, key_scales, scratch.query, scale, scores);
    let sum = P::exponentials(scores);
    // Fold each value's scale into its exponential, then round once to 16 bits.
    let max_scale = scale_of(P::largest(value_scales));
    let peak = if sum * 32767.0 > WEIGHT_SUM { WEIGHT_SUM / sum } else { 32767.0 };
    let factor = peak / max_scale;
    P::weigh(scores, value_scales, factor, weights);
    let unit = 1.0 / (factor * sum);
    P::mix(cache.values, weights, out);
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
    let scale = 1.0 / libm::sqrtf(query.len() as f32);
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
