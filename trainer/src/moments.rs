//! What an optimizer remembers of gradients, a number for each parameter, in f32 or in half the memory.
//!
//! bf16 has f32's range and 8 binary digits. A mean that moves by less than half of its last digit in a
//! step would stand still if it were rounded to the nearest: one of squares with β₂ = 0.999 could never
//! fall. So it is rounded up or down at random, in such parts that on average it is right (Gupta et al.,
//! "Deep learning with limited numerical precision", 2015). The random bits are a hash of the parameter's
//! place and the step: no state, no order, and a resumed run has the same ones.

use std::ops::Range;

use half::bf16;

use crate::parallel::SharedMut;
use crate::rng::Rng;

/// How a number is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentType {
    /// Exactly.
    #[default]
    F32,
    /// Rounded at random.
    Bf16,
}

/// A number for each parameter, in the order of the arena.
#[derive(Clone, Debug, PartialEq)]
pub enum Moments {
    /// As they are.
    F32(Vec<f32>),
    /// Rounded.
    Bf16(Vec<bf16>),
}

impl Moments {
    /// So many zeros.
    pub fn zeros(kind: MomentType, len: usize) -> Self {
        match kind {
            MomentType::F32 => Self::F32(vec![0.0; len]),
            MomentType::Bf16 => Self::Bf16(vec![bf16::ZERO; len]),
        }
    }

    /// How they are kept.
    pub fn kind(&self) -> MomentType {
        match self {
            Self::F32(_) => MomentType::F32,
            Self::Bf16(_) => MomentType::Bf16,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As floats.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.clone(),
            Self::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        }
    }

    /// To be shared out among threads.
    pub(crate) fn share(&mut self) -> SharedMoments<'_> {
        match self {
            Self::F32(values) => SharedMoments::F32(SharedMut::new(values)),
            Self::Bf16(values) => SharedMoments::Bf16(SharedMut::new(values)),
        }
    }
}

/// [`Moments`] of which threads change parts.
pub(crate) enum SharedMoments<'a> {
    F32(SharedMut<'a, f32>),
    Bf16(SharedMut<'a, bf16>),
}

impl<'a> SharedMoments<'a> {
    /// The part of those parameters.
    ///
    /// # Safety
    /// No other part that overlaps `range` is alive.
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> Part<'a> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(values) => Part::F32(values.range(range)),
                Self::Bf16(values) => Part::Bf16(values.range(range)),
            }
        }
    }
}

/// Some parameters' moments.
pub(crate) enum Part<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

/// A number as it is kept.
pub(crate) trait Stored: Copy {
    /// What it is.
    fn get(self) -> f32;
    /// What is kept of a number, by 16 random bits.
    fn put(value: f32, random: u32) -> Self;
}

impl Stored for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn put(value: f32, _random: u32) -> Self {
        value
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// One of the two neighbours: adds a random number below a unit of the last digit and cuts off what
    /// is behind it.
    #[inline(always)]
    fn put(value: f32, random: u32) -> Self {
        bf16::from_bits((value.to_bits().wrapping_add(random) >> 16) as u16)
    }
}

/// The key of a step's random bits.
pub(crate) fn key(step: u64) -> u32 {
    Rng::at(step, 0).next_u64() as u32
}

/// Two times 16 random bits for a parameter: the finalizer of MurmurHash3.
#[inline(always)]
pub(crate) fn random(index: u32, key: u32) -> [u32; 2] {
    let mut hash = index ^ key;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^= hash >> 16;
    [hash >> 16, hash & 0xFFFF]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `floats` rounded, as an optimizer does it with its first or second moment.
    fn rounded(floats: &[f32], step: u64, which: usize) -> Vec<f32> {
        let put = |(i, &x): (usize, &f32)| bf16::put(x, random(i as u32, key(step))[which]).get();
        floats.iter().enumerate().map(put).collect()
    }

    #[test]
    fn rounding_is_to_a_neighbour_and_right_on_average() {
        // A quarter and seven eighths of the way from 1 to its neighbour, either sign, and what needs none.
        for (value, want) in [(1.0 + 1.0 / 512.0, 0.25), (-1.0 - 7.0 / 1024.0, 0.875), (1.5, 0.0), (0.0, 0.0)]
        {
            let n = 100_000;
            let values = rounded(&vec![value; n], 7, 1);
            let low = bf16::from_bits((value.to_bits() >> 16) as u16).to_f32();
            let high = bf16::from_bits((value.to_bits() >> 16) as u16 + 1).to_f32();
            assert!(values.iter().all(|&x| x == low || x == high), "{value}");
            let part = values.iter().filter(|&&x| x == high).count() as f64 / n as f64;
            assert!((part - want).abs() < 0.006, "{value}: {part}, not {want}");
        }
    }

    #[test]
    fn steps_and_neighbours_are_independent() {
        let floats = vec![1.0f32 + 1.0 / 256.0; 100_000];
        let [a, b, second] = [(1, 0), (2, 0), (1, 1)].map(|(step, which)| rounded(&floats, step, which));
        let both = |pairs: Vec<(f32, f32)>| pairs.iter().filter(|(a, b)| *a > 1.0 && *b > 1.0).count();
        let across = both(a.iter().copied().zip(b.iter().copied()).collect());
        let along = both(a.windows(2).map(|pair| (pair[0], pair[1])).collect());
        let moments = both(a.iter().copied().zip(second.iter().copied()).collect());
        for count in [across, along, moments] {
            assert!((24_300..25_700).contains(&count), "{count} of 100,000, not a quarter");
        }
        assert_eq!(rounded(&floats, 1, 0), a, "the same step, the same bits");
    }

    #[test]
    fn a_mean_that_moves_little_does_not_stand_still() {
        // 0.999 of it stays: to the nearest bf16 it would never fall.
        let mut values = vec![1.0f32; 10_000];
        for step in 0..1000 {
            values = rounded(&values.iter().map(|x| x * 0.999).collect::<Vec<_>>(), step, 0);
        }
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e4;
        assert!((mean - 0.3677).abs() < 0.005, "{mean}");
    }
}
