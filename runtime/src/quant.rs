//! From floats to integers: weights once, when a file is written; activations at every product.
//!
//! Weights have two levels of scale: 32 columns share a u8 multiplier, 256 columns a bf16 scale,
//! so a weight is `quant · multiplier · scale` and a product over 256 columns is one exact
//! integer. Activations have one f32 scale for 256 columns.

use crate::format::{BLOCK, DType, GROUP};
use crate::grid;
use crate::search::{Group, best_multipliers};

/// Adding and subtracting this rounds a small float to an integer, ties to even, on every CPU.
pub(crate) const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23

/// Rounds to the nearest integer, ties to even. Exact for |x| < 2^22; anything else, infinities
/// and NaN included, gives some integer.
#[inline(always)]
pub fn round_to_i32(x: f32) -> i32 {
    ((x + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
}

/// A bf16 bit pattern as f32, exactly.
#[inline(always)]
pub const fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// The least bf16 that is not below a positive finite `x` (so that nothing clips).
#[inline(always)]
pub const fn bf16_ceil(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0xFFFF) >> 16) as u16
}

/// An IEEE binary16 bit pattern as f32, exactly.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32_const()
}

/// Below this, a block of activations or a head of keys counts as zero: its scale's inverse
/// would overflow.
pub const TINY: f32 = 1e-30;

/// The largest magnitude, compared as integers: no float comparisons, NaN counts as larger than
/// infinity.
#[inline(always)]
pub fn max_magnitude_bits(values: &[f32]) -> u32 {
    let mut max = 0;
    for value in values {
        let bits = value.to_bits() & 0x7FFF_FFFF;
        if bits > max {
            max = bits;
        }
    }
    max
}

/// The scale that a block of this largest magnitude gets, and its inverse: `(max / 127, 127 / max)`.
/// A block that is zero, nearly zero, infinite or not a number gets zeros or NaN: `(0, 0)` or `(NaN, 0)`.
#[inline(always)]
pub fn activation_scale(max_bits: u32) -> (f32, f32) {
    let max = f32::from_bits(max_bits);
    if max_bits >= 0x7F80_0000 {
        (f32::NAN, 0.0)
    } else if max < TINY {
        (0.0, 0.0)
    } else {
        (max / 127.0, 127.0 / max)
    }
}

/// Quantizes at most [`BLOCK`] activations to i8 and returns their scale. `quants` may be longer
/// than `values`: the rest becomes zero.
#[inline(always)]
pub fn quantize_activations(values: &[f32], quants: &mut [i8]) -> f32 {
    let (scale, inverse) = activation_scale(max_magnitude_bits(values));
    let (body, rest) = quants.split_at_mut(values.len().min(quants.len()));
    rest.fill(0);
    if inverse == 0.0 {
        body.fill(0);
    } else {
        for (quant, value) in body.iter_mut().zip(values) {
            *quant = round_to_i32(value * inverse) as i8;
        }
    }
    scale
}

/// One row's block of at most [`BLOCK`] weights, quantized: what [`quantize_block`] fills.
#[derive(Clone, Debug)]
pub struct QuantBlock {
    /// The integers; zero past the end of the row.
    pub quants: [i8; BLOCK],
    /// A multiplier for every 32 columns; zero where all of them are.
    pub multipliers: [u8; BLOCK / GROUP],
    /// bf16 bit pattern.
    pub scale: u16,
}

/// Quantizes at most [`BLOCK`] finite weights to Q8 or Q4, searching each group's multiplier for
/// the least squared error. `importance`, if given, weighs each column's error; none is negative. Weights
/// that are those of such a block already come back exactly.
///
/// It is inlined so that a caller compiled for wider vectors has it in them, with the same result.
#[inline(always)]
pub fn quantize_block(dtype: DType, weights: &[f32], importance: Option<&[f32]>) -> QuantBlock {
    let mut block = QuantBlock { quants: [0; BLOCK], multipliers: [0; BLOCK / GROUP], scale: 0 };
    let (least, most): (i32, i32) = if matches!(dtype, DType::Q4) { (-8, 7) } else { (-127, 127) };
    let weights = &weights[..weights.len().min(BLOCK)];
    let max = f32::from_bits(max_magnitude_bits(weights));
    if !(TINY..f32::MAX).contains(&max) {
        return block;
    }
    if let Some(block) = grid::recognise(weights, (least, most), max) {
        return block;
    }
    // The largest group gets multiplier 255 or a little less; a search may take less still.
    block.scale = bf16_ceil(max / (most as f32 * 255.0));
    let scale = bf16_to_f32(block.scale);
    let (mut padded, mut weighed) = ([0.0; BLOCK], [1.0; BLOCK]);
    padded[..weights.len()].copy_from_slice(weights);
    if let Some(importance) = importance {
        weighed.iter_mut().zip(importance).for_each(|(place, importance)| *place = *importance);
    }
    let pairs = padded.as_chunks::<GROUP>().0.as_chunks::<2>().0;
    let weighed = weighed.as_chunks::<GROUP>().0.as_chunks::<2>().0;
    let places = block.quants.as_chunks_mut::<GROUP>().0.as_chunks_mut::<2>().0;
    let multipliers = block.multipliers.as_chunks_mut::<2>().0;
    let needed = weights.len().div_ceil(2 * GROUP);
    for (((pair, weighed), places), multipliers) in
        pairs.iter().zip(weighed).zip(places).zip(multipliers).take(needed)
    {
        // One by one: closures are not compiled with the caller's vectors.
        let groups = [
            to_be_searched(dtype, &pair[0], importance.map(|_| &weighed[0]), most as f32 * scale),
            to_be_searched(dtype, &pair[1], importance.map(|_| &weighed[1]), most as f32 * scale),
        ];
        let chosen = match dtype {
            DType::Q4 => best_multipliers::<8, 16>(&groups, scale, (least, most)),
            _ => best_multipliers::<4, 8>(&groups, scale, (least, most)),
        };
        for (i, group) in groups.iter().enumerate() {
            if group.max < TINY {
                continue;
            }
            multipliers[i] = chosen[i] as u8;
            let step = chosen[i] as f32 * scale;
            for (quant, weight) in places[i].iter_mut().zip(group.weights) {
                *quant = round_to_i32(weight / step).clamp(least, most) as i8;
            }
        }
    }
    block
}

/// A group and the multipliers that are tried; `reach` is what multiplier 1 stands for at most.
#[inline(always)]
fn to_be_searched<'a>(
    dtype: DType,
    weights: &'a [f32; GROUP],
    importance: Option<&'a [f32; GROUP]>,
    reach: f32,
) -> Group<'a> {
    let max = f32::from_bits(max_magnitude_bits(weights));
    // Steps from "nothing clips" down to a part of it: where few weights are large, clipping them costs
    // less than coarse steps for all.
    let widest = ceil(max / reach).clamp(1.0, 255.0) as u32;
    let narrowest = match dtype {
        DType::Q4 => (widest * 5 / 8).max(1),
        _ => (widest * 31 / 32).max(1),
    };
    Group { weights, importance, max, narrowest, widest }
}

/// The least integer that is not below an `x` of no more than 2^22.
#[inline(always)]
fn ceil(x: f32) -> f32 {
    let near = (x + ROUND) - ROUND;
    if near < x { near + 1.0 } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_with_ties_to_even() {
        for (x, want) in [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.7, 127), (-127.0, -127)] {
            assert_eq!(round_to_i32(x), want, "{x}");
        }
    }

    #[test]
    fn bf16_scales_never_fall_below_what_they_stand_for() {
        let mut x = 1.0e-20_f32;
        while x < 1.0e20 {
            let up = bf16_to_f32(bf16_ceil(x));
            assert!(up >= x && up <= x * 1.008, "{x} became {up}");
            x *= 1.37;
        }
    }

    #[test]
    fn activations_keep_their_extremes_and_their_error_is_half_a_step() {
        let values: [f32; 100] = core::array::from_fn(|i| libm::sinf(i as f32 * 0.7) * 3.0 - 0.2);
        let mut quants = [1_i8; 256];
        let scale = quantize_activations(&values, &mut quants);
        for (quant, value) in quants.iter().zip(&values) {
            assert!((f32::from(*quant) * scale - value).abs() <= scale * 0.5001);
        }
        assert!(quants[100..].iter().all(|&q| q == 0));
        assert!(quants.iter().any(|&q| q.unsigned_abs() == 127));
    }

    #[test]
    fn blocks_that_are_zero_or_not_finite_quantize_to_zero() {
        let mut quants = [1_i8; 4];
        assert_eq!(quantize_activations(&[0.0, -0.0, 1e-39, 0.0], &mut quants), 0.0);
        assert_eq!(quants, [0; 4]);
        assert!(quantize_activations(&[1.0, f32::NAN, 0.0, 0.0], &mut quants).is_nan());
        assert!(quantize_activations(&[1.0, f32::NEG_INFINITY, 0.0, 0.0], &mut quants).is_nan());
        assert_eq!(quants, [0; 4]);
    }

    #[test]
    fn weights_come_back_within_half_a_step_in_q8() {
        let weights: [f32; 200] = core::array::from_fn(|i| libm::cosf((i * i) as f32) * 0.05);
        let block = quantize_block(DType::Q8, &weights, None);
        let scale = bf16_to_f32(block.scale);
        for (i, weight) in weights.iter().enumerate() {
            let step = f32::from(block.multipliers[i / GROUP]) * scale;
            let back = f32::from(block.quants[i]) * step;
            // Up to 1/32 may clip where that lessens the error over all.
            assert!((back - weight).abs() <= 0.05 / 127.0 * 4.5, "{i}: {weight} became {back}");
        }
        assert!(block.quants[200..].iter().all(|&q| q == 0));
    }
}
