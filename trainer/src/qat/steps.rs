//! The steps of 4-bit groups, learned (Esser et al., "Learned step size quantization", 2020): a
//! step moves against the gradient of the loss by what its change does to the rounded weights.
//!
//! Blocks keep their bf16 scale from the first rounding on; the multiplier of a group is a float
//! while it learns, and the u8 that it is rounded to counts.

use smidgen_runtime::format::{BLOCK, GROUP};
use smidgen_runtime::quant::{TINY, bf16_ceil, bf16_to_f32, max_magnitude_bits, round_to_i32};

use super::weights::{NARROWEST_Q4, best_multiplier};
use crate::layers::math::{exp, vectorized};

/// Least and most of a 4-bit quant.
pub(super) const Q4: (i32, i32) = (-8, 7);
/// How much larger than its largest weight at the beginning a block's largest group may become.
const ROOM: f32 = 1.25;
/// Of the learning rate of weights: the rate of the logarithm of steps.
const RATE: f32 = 1.0;
/// AdamW's memories, for steps.
const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.95;

/// What is known of every group, one element each, in the order of matrices, rows and columns.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// The scale of the group's block.
    pub scales: Vec<f32>,
    /// The multiplier before it is rounded, 1 to 255.
    pub multipliers: Vec<f32>,
    /// The mean of gradients.
    pub m: Vec<f32>,
    /// The mean of squared gradients.
    pub v: Vec<f32>,
}

impl Steps {
    pub(super) fn new(groups: usize) -> Self {
        let zeros = || vec![0.0; groups];
        Self { scales: zeros(), multipliers: zeros(), m: zeros(), v: zeros() }
    }

    /// The step that a scale and a multiplier make.
    pub(super) fn step(scale: f32, multiplier: f32) -> f32 {
        round_to_i32(multiplier) as f32 * scale
    }
}

/// Finds a row's steps by the search of the runtime's quantizer, with room above the largest.
pub(super) fn find(row: &[f32], scales: &mut [f32], multipliers: &mut [f32]) {
    let per_block = BLOCK / GROUP;
    let groups = scales.chunks_mut(per_block).zip(multipliers.chunks_mut(per_block));
    for (block, (scales, multipliers)) in row.chunks(BLOCK).zip(groups) {
        let max = f32::from_bits(max_magnitude_bits(block));
        // A block of zeros, or of what is no number, has some step: it rounds to zeros with any.
        let max = if (TINY..f32::MAX).contains(&max) { max } else { 1.0 };
        let scale = bf16_to_f32(bf16_ceil(max * ROOM / (Q4.1 as f32 * 255.0)));
        scales.fill(scale);
        for (group, multiplier) in block.chunks(GROUP).zip(multipliers) {
            let max = f32::from_bits(max_magnitude_bits(group));
            let widest = (max / (Q4.1 as f32 * scale)).ceil().clamp(1.0, 255.0) as u32;
            let first = (widest * NARROWEST_Q4.0 / NARROWEST_Q4.1).max(1);
            *multiplier = best_multiplier(group, scale, first, widest, Q4.0, Q4.1) as f32;
        }
    }
}

vectorized! {
    /// Rounds a row by its steps.
    pub(super) fn round(row: &mut [f32], scales: &[f32], multipliers: &[f32]) {
        for (group, (&scale, &multiplier)) in row.chunks_mut(GROUP).zip(scales.iter().zip(multipliers)) {
            let step = Steps::step(scale, multiplier);
            for weight in group {
                *weight = quant(*weight / step) * step;
            }
        }
    }
}

/// To the nearest quant. Large numbers are cut first: rounding is for small ones.
#[inline(always)]
fn quant(x: f32) -> f32 {
    let (least, most) = (Q4.0 as f32, Q4.1 as f32);
    let x = if x < least { least } else { x };
    let x = if x > most { most } else { x };
    round_to_i32(x) as f32
}

/// How the steps of a row learn from the gradients of its rounded weights: `exact` are the weights
/// before rounding, `count` the updates that there were.
pub(super) struct Lesson<'a> {
    pub(super) exact: &'a [f32],
    pub(super) grads: &'a [f32],
    pub(super) lr: f32,
    pub(super) count: u64,
}

vectorized! {
    /// One update of a row's multipliers.
    pub(super) fn learn(lesson: &Lesson<'_>, scales: &[f32], multipliers: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let count = (lesson.count + 1).min(1 << 20) as i32;
        let correct = [1.0 - BETA_1.powi(count), 1.0 - BETA_2.powi(count)];
        let groups = lesson.exact.chunks(GROUP).zip(lesson.grads.chunks(GROUP));
        let state = multipliers.iter_mut().zip(m.iter_mut().zip(v.iter_mut()));
        for (((exact, grads), &scale), (multiplier, (m, v))) in groups.zip(scales).zip(state) {
            let step = Steps::step(scale, *multiplier);
            let mut slope = 0.0;
            for (&weight, &grad) in exact.iter().zip(grads) {
                let x = weight / step;
                let rounded = quant(x);
                // Where the weight is cut off, the rounded one moves as the end of the range does.
                let cut = x > Q4.1 as f32 + 0.5 || x < Q4.0 as f32 - 0.5;
                slope += grad * if cut { rounded } else { rounded - x };
            }
            // Of the step's logarithm: all steps are equally fast whatever their size.
            let slope = slope * step;
            *m = BETA_1 * *m + (1.0 - BETA_1) * slope;
            *v = BETA_2 * *v + (1.0 - BETA_2) * slope * slope;
            let change = *m / correct[0] / ((*v / correct[1]).sqrt() + 1e-12);
            let moved = *multiplier * exp(-RATE * lesson.lr * change);
*multiplier = moved.clamp(1.0, 255.0);
        }
    }
}
