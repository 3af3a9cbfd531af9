//! Weights that have been quantized before: recognised, so that quantizing is a fixed point.
//!
//! A file's weight is `quant · multiplier · scale`, and all three have so few bits that the
//! product is exact in f32. A block of such products need not be searched for scales, it shows
//! them: the scale divides every weight, a group's step every weight of the group. Whoever
//! chooses other scales than a search would (training for the arithmetic of the file does) stores
//! floats, and finds its scales in the file.

use crate::format::{BLOCK, GROUP};
use crate::quant::{QuantBlock, bf16_to_f32};

/// A positive number as `odd · 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Odd {
    odd: u32,
    exponent: i32,
}

impl Odd {
    /// The magnitude of a finite number; none for zero and for what is too small to be normal.
    fn of(x: f32) -> Option<Self> {
        let bits = x.to_bits() & 0x7FFF_FFFF;
        let biased = (bits >> 23) as i32;
        if biased == 0 {
            return None;
        }
        let significand = (bits & 0x007F_FFFF) | 0x0080_0000;
        let zeros = significand.trailing_zeros();
        Some(Self { odd: significand >> zeros, exponent: biased - 150 + zeros as i32 })
    }

    /// The largest number of which both are multiples.
    fn common(self, other: Self) -> Self {
        let (mut a, mut b) = (self.odd, other.odd);
        // Both are odd, and so is their divisor: halving what is even loses nothing.
        while a != b {
            if a < b {
                core::mem::swap(&mut a, &mut b);
            }
            a -= b;
            a >>= a.trailing_zeros();
        }
        Self { odd: a, exponent: self.exponent.min(other.exponent) }
    }

    /// How many times `unit` is in this, of which it is a divisor; `u32::MAX` if it is more often
    /// than that.
    fn times(self, unit: Self) -> u32 {
        let shift = (self.exponent - unit.exponent) as u32;
        let times = self.odd / unit.odd;
        if shift > times.leading_zeros() { u32::MAX } else { times << shift }
    }

    /// One `k`th of this as a bf16, if it is one.
    fn part(self, k: u32) -> Option<u16> {
        let zeros = k.trailing_zeros();
        let (odd, exponent) = (k >> zeros, self.exponent - zeros as i32);
        if !self.odd.is_multiple_of(odd) {
            return None;
        }
        let odd = self.odd / odd;
        // The leading one and seven bits after it are what a bf16 has.
        let length = 32 - odd.leading_zeros() as i32;
        let biased = exponent + length - 1 + 127;
        if length > 8 || !(1..=254).contains(&biased) {
            return None;
        }
        Some((biased as u16) << 7 | ((odd << (8 - length)) as u16 & 0x7F))
    }
}

/// A group's step in units of the scale, and by how much its numbers of steps are multiplied.
#[derive(Clone, Copy, Default)]
struct Steps {
    /// The largest step that divides all weights, in units of all groups' common step.
    step: u32,
    /// The largest weight above and below zero, in steps.
    most: u32,
    least: u32,
}

/// True only if no block's floats are these: where the odd parts of a few of a group's weights have none in
/// common, its step is its lowest bit, and the largest weight is no more than `limit` of them. Weights that
/// were bf16 would otherwise take a hundred steps to show that they are on no grid.
#[inline(always)]
fn surely_none(weights: &[f32], limit: f32) -> bool {
    weights.chunks(GROUP).any(|weights| {
        let mut common = None::<Odd>;
        for odd in weights.iter().take(8).filter_map(|weight| Odd::of(*weight)) {
            common = Some(common.map_or(odd, |so_far| so_far.common(odd)));
            if common.is_some_and(|common| common.odd == 1) {
                break;
            }
        }
        if common.is_none_or(|common| common.odd != 1) {
            return false;
        }
        // The exponent of the lowest bit that is set, by the float that such a bit is: this goes through
        // vectors.
        let (mut least, mut largest) = (i32::MAX, 0);
        for weight in weights {
            let bits = weight.to_bits() & 0x7FFF_FFFF;
            let significand = (bits & 0x007F_FFFF) | 0x0080_0000;
            let lowest = (significand & significand.wrapping_neg()) as i32 as f32;
            let exponent = (bits >> 23) as i32 + (lowest.to_bits() >> 23) as i32;
            least = least.min(if bits == 0 { i32::MAX } else { exponent });
            largest = largest.max(bits);
        }
        let exponent = least - 277;
        exponent < -126 || exponent < 120 && f32::from_bits(largest) > limit * power_of_two(exponent)
    })
}

/// The block that these at most [`BLOCK`] finite weights, not all zero, are the floats of: quants
/// from `least` to `most` times multipliers times a scale, each exactly. None if there is none.
#[inline]
pub(crate) fn recognise(weights: &[f32], (least, most): (i32, i32), max: f32) -> Option<QuantBlock> {
    // A scale is not below this, because 255 is the largest multiplier; so a common step below it
    // ends the search: mostly after two or three weights of which nobody made a grid.
    let smallest = max / (-least.min(-most) as f32 * 255.0 * 1.01);
    if surely_none(weights, most.max(-least) as f32) {
        return None;
    }
    let mut groups = [None::<Odd>; BLOCK / GROUP];
    let mut common = None::<Odd>;
    for (group, weights) in groups.iter_mut().zip(weights.chunks(GROUP)) {
        for &weight in weights {
            if weight == 0.0 {
                continue;
            }
            let odd = Odd::of(weight)?;
            *group = Some(group.map_or(odd, |so_far| so_far.common(odd)));
            let all = common.map_or(odd, |so_far| so_far.common(odd));
            common = Some(all);
            if all.exponent < -126 || all.odd as f32 * power_of_two(all.exponent) < smallest {
                return None;
            }
        }
    }
    let common = common?;
    let mut steps = [Steps::default(); BLOCK / GROUP];
    for ((steps, group), weights) in steps.iter_mut().zip(groups).zip(weights.chunks(GROUP)) {
        let Some(group) = group else { continue };
        steps.step = group.times(common);
        for &weight in weights {
            let times = Odd::of(weight).map_or(0, |odd| odd.times(group));
            if weight < 0.0 {
                steps.least = steps.least.max(times);
            } else {
                steps.most = steps.most.max(times);
            }
        }
    }
    // The scale is the common step or, where every multiplier has a factor in common with the
    // others or with all of its quants, a whole part of it.
    let parts = (common.odd as f32 * power_of_two(common.exponent) / smallest) as u32;
    for k in 1..=parts {
        let Some(scale) = common.part(k) else { continue };
        let Some(multipliers) = multipliers(&steps, k, (least, most)) else { continue };
        let mut block = QuantBlock { quants: [0; BLOCK], multipliers, scale };
        let scale = bf16_to_f32(scale);
        let groups = block.quants.chunks_mut(GROUP).zip(block.multipliers).zip(weights.chunks(GROUP));
        for ((quants, multiplier), weights) in groups.filter(|((_, multiplier), _)| *multiplier > 0) {
            let step = f32::from(multiplier) * scale;
            quants.iter_mut().zip(weights).for_each(|(quant, weight)| *quant = (weight / step) as i8);
        }
        return Some(block);
    }
    None
}

/// Every group's multiplier for a scale of one `k`th of the common step: the largest that is a
/// u8, which makes for the smallest quants.
fn multipliers(
    steps: &[Steps; BLOCK / GROUP],
    k: u32,
    (least, most): (i32, i32),
) -> Option<[u8; BLOCK / GROUP]> {
    let mut multipliers = [0; BLOCK / GROUP];
    for (multiplier, group) in multipliers.iter_mut().zip(steps).filter(|(_, group)| group.step > 0) {
        let step = group.step.checked_mul(k)?;
        let larger = (1..=most.max(-least) as u32).find(|&j| step.is_multiple_of(j) && step / j <= 255)?;
        let fits = |times: u32, limit: i32| times.checked_mul(larger).is_some_and(|n| n <= limit as u32);
        if !fits(group.most, most) || !fits(group.least, -least) {
            return None;
        }
        *multiplier = (step / larger) as u8;
    }
    Some(multipliers)
}

/// 2 to this power, from −126 to 127.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::DType;
    use crate::quant::quantize_block;
    use proptest::prelude::*;

    fn floats(block: &QuantBlock) -> [f32; BLOCK] {
        let scale = bf16_to_f32(block.scale);
        core::array::from_fn(|i| {
            f32::from(block.quants[i]) * (f32::from(block.multipliers[i / GROUP]) * scale)
        })
    }

    fn range(dtype: DType) -> (i32, i32) {
        if matches!(dtype, DType::Q4) { (-8, 7) } else { (-127, 127) }
    }

    proptest! {
        /// Any block at all that a file may hold, however unlike what the search would choose.
        #[test]
        fn every_block_of_a_file_comes_back(
            seed in any::<u64>(),
            len in 1..=BLOCK,
            q4 in any::<bool>(),
            largest in prop_oneof![Just(1_u32), Just(7), Just(255)],
            factor in prop_oneof![Just(1_u32), Just(2), Just(3), Just(6)],
            exponent in 60_u16..180,
        ) {
            let dtype = if q4 { DType::Q4 } else { DType::Q8 };
            let (least, most) = range(dtype);
            let mut state = seed;
            let mut next = |n: u32| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u32 % n
            };
            let mut block = QuantBlock { quants: [0; BLOCK], multipliers: [0; BLOCK / GROUP], scale: 0 };
            block.scale = exponent << 7 | next(128) as u16;
            for group in 0..len.div_ceil(GROUP) {
                // Zero now and then, and factors in common.
                block.multipliers[group] = (next(largest / factor + 2) * factor).min(255) as u8;
                for i in group * GROUP..((group + 1) * GROUP).min(len) {
                    let span = (most - least + 1) as u32;
                    block.quants[i] = (least + next(span) as i32) as i8;
                }
            }
            let weights = floats(&block);
            let again = quantize_block(dtype, &weights[..len], None);
            prop_assert!(floats(&again)[..len] == weights[..len]);
            // And what has come back once is the same block for ever.
            let third = quantize_block(dtype, &floats(&again)[..len], Some(&[2.0; BLOCK]));
            prop_assert_eq!((third.quants, third.multipliers, third.scale),
                            (again.quants, again.multipliers, again.scale));
        }

        /// What the search made of any weights is recognised.
        #[test]
        fn quantizing_twice_is_quantizing_once(
            weights in prop::collection::vec(-1.0_f32..1.0, 1..=BLOCK),
            q4 in any::<bool>(),
        ) {
            let dtype = if q4 { DType::Q4 } else { DType::Q8 };
            let once = floats(&quantize_block(dtype, &weights, None));
            let twice = floats(&quantize_block(dtype, &once[..weights.len()], None));
            prop_assert!(once == twice);
        }
    }

    #[test]
    fn weights_off_every_grid_are_none() {
        let weights: [f32; 64] = core::array::from_fn(|i| libm::sinf(i as f32 + 0.3));
        for dtype in [DType::Q8, DType::Q4] {
            assert!(recognise(&weights, range(dtype), 1.0).is_none());
            // One weight among many on a grid.
            let mut weights: [f32; 64] = core::array::from_fn(|i| (i as f32 % 7.0 - 3.0) * 0.125);
            assert!(recognise(&weights, range(dtype), 0.375).is_some());
            weights[40] += 1e-6;
            assert!(recognise(&weights, range(dtype), 0.375).is_none());
        }
    }

    /// A group whose only weight is −8 steps below zero: 8 times the multiplier, which no quant above zero is.
    #[test]
    fn the_least_quant_alone_comes_back() {
        let mut weights = [0.0; 64];
        (weights[0], weights[1], weights[40]) = (7.0 * 201.0, 201.0, -8.0 * 235.0);
        let block = recognise(&weights, range(DType::Q4), 1880.0).unwrap();
        assert_eq!((block.multipliers[0], block.multipliers[1]), (201, 235));
        assert_eq!(floats(&block)[..64], weights);
    }

    #[test]
    fn parts_are_exact() {
        let three_eighths = Odd::of(0.375).unwrap();
        assert_eq!(three_eighths, Odd { odd: 3, exponent: -3 });
        assert_eq!(three_eighths.part(3).map(bf16_to_f32), Some(0.125));
        assert_eq!(three_eighths.part(6).map(bf16_to_f32), Some(0.0625));
        assert_eq!(three_eighths.part(5), None);
        assert_eq!(Odd { odd: 257, exponent: 0 }.part(1), None, "nine bits");
        assert_eq!(Odd::of(6.0).unwrap().common(Odd::of(-1.25).unwrap()), Odd { odd: 1, exponent: -2 });
        assert_eq!(Odd::of(6.0).unwrap().times(Odd { odd: 3, exponent: -1 }), 4);
        assert_eq!(Odd::of(1e-40), None);
    }
}
