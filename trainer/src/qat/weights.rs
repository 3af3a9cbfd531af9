//! Weights as the model file will hold them, as floats.

use smidgen_runtime::format::{BLOCK, DType, GROUP};
use smidgen_runtime::quant::{TINY, bf16_ceil, bf16_to_f32, max_magnitude_bits, round_to_i32};

use std::ops::Range;

use super::steps::{self, Lesson, Steps};
use crate::layers::math::vectorized;
use crate::parallel::{Pool, SharedMut};

/// Candidates for a group's multiplier that are tried side by side.
const LANES: usize = 16;
/// Elements of a job.
const JOB: usize = 1 << 13;
/// The least part of the multiplier that clips nothing that is tried, with 4 bits.
pub(super) const NARROWEST_Q4: (u32, u32) = (5, 8);

/// A matrix of the arena and the type that it will have in the model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizedMatrix {
    /// Its first element in the arena.
    pub offset: usize,
    /// Its rows.
    pub rows: usize,
    /// Its columns: each row is quantized by itself.
    pub cols: usize,
    /// Its type.
    pub dtype: DType,
}

impl QuantizedMatrix {
    /// Groups of a row whose steps are learned: with 8 bits the nearest step is as good as any.
    fn groups_per_row(&self) -> usize {
        if self.dtype == DType::Q4 { self.cols.div_ceil(GROUP) } else { 0 }
    }
}

/// A second arena, with quantized weights, to run passes with. Steps of 4-bit matrices are found
/// at the first rounding and then learned; those of others are searched at every rounding.
#[derive(Clone, Debug)]
pub struct FakeQuant {
    matrices: Vec<QuantizedMatrix>,
    /// The first group of each matrix in the steps.
    first_groups: Vec<usize>,
    /// Matrix and rows of each job.
    jobs: Vec<(usize, Range<usize>)>,
    /// The rounded arena; the exact one while they are exchanged.
    params: Vec<f32>,
    steps: Steps,
    /// Whether the steps are known.
    begun: bool,
}

impl FakeQuant {
    /// An arena of `len` elements in which these matrices are quantized.
    pub fn new(len: usize, matrices: Vec<QuantizedMatrix>) -> Self {
        let (mut jobs, mut first_groups, mut groups) = (Vec::new(), Vec::new(), 0);
        for (index, matrix) in matrices.iter().enumerate() {
            let rows = (JOB / matrix.cols.max(1)).max(1);
            let starts = (0..matrix.rows).step_by(rows);
            jobs.extend(starts.map(|start| (index, start..(start + rows).min(matrix.rows))));
            first_groups.push(groups);
            groups += matrix.groups_per_row() * matrix.rows;
        }
        let steps = Steps::new(groups);
        Self { matrices, first_groups, jobs, params: vec![0.0; len], steps, begun: false }
    }

    /// What is known of the steps; nothing before the first rounding.
    pub fn steps(&self) -> Option<&Steps> {
        self.begun.then_some(&self.steps)
    }

    /// Goes on with steps that were known, of as many groups.
    pub fn set_steps(&mut self, steps: Steps) {
        assert_eq!(steps.scales.len(), self.steps.scales.len(), "groups");
        (self.steps, self.begun) = (steps, true);
    }

    /// Groups whose steps are learned.
    pub fn groups(&self) -> usize {
        self.steps.scales.len()
    }

    /// Exchanges `params` for the same numbers with matrices as the model file would hold them.
    /// Until [`Self::swap_back`], `params` are not to be changed.
    pub fn swap_in(&mut self, pool: &Pool, params: &mut Vec<f32>) {
        self.params.copy_from_slice(params);
        let arena = SharedMut::new(&mut self.params);
        let (scales, multipliers) =
            (SharedMut::new(&mut self.steps.scales), SharedMut::new(&mut self.steps.multipliers));
        pool.run(self.jobs.len(), |job| {
            let (index, rows) = &self.jobs[job];
            let matrix = self.matrices[*index];
            let QuantizedMatrix { offset, cols, dtype, .. } = matrix;
            // SAFETY: matrices do not overlap and neither do rows; the slice ends with the job.
            let values = unsafe { arena.range(offset + rows.start * cols..offset + rows.end * cols) };
            let per_row = matrix.groups_per_row();
            if per_row == 0 {
                values.chunks_mut(cols).for_each(|row| round_weights(dtype, row));
                return;
            }
            let first = self.first_groups[*index];
            let groups = first + rows.start * per_row..first + rows.end * per_row;
            // SAFETY: every row has groups of its own; the slices end with the job.
            let (scales, multipliers) = unsafe { (scales.range(groups.clone()), multipliers.range(groups)) };
            let steps = scales.chunks_mut(per_row).zip(multipliers.chunks_mut(per_row));
            for (row, (scales, multipliers)) in values.chunks_mut(cols).zip(steps) {
                if !self.begun {
                    steps::find(row, scales, multipliers);
                }
                steps::round(row, scales, multipliers);
            }
        });
        self.begun = true;
        std::mem::swap(&mut self.params, params);
    }

    /// Gives the exact numbers back.
    pub fn swap_back(&mut self, params: &mut Vec<f32>) {
        std::mem::swap(&mut self.params, params);
    }

    /// The exact numbers, between [`Self::swap_in`] and [`Self::swap_back`].
    pub fn exact(&self) -> &[f32] {
        &self.params
    }

    /// Steps learn at the learning rate `lr`: `exact` are the exact numbers, `grads` the
    /// gradients of the rounded ones, `count` the updates that there were.
    pub fn learn(&mut self, pool: &Pool, exact: &[f32], grads: &[f32], lr: f32, count: u64) {
        let Steps { scales, multipliers, m, v } = &mut self.steps;
        let state = [multipliers, m, v].map(|values| SharedMut::new(values));
        pool.run(self.jobs.len(), |job| {
            let (index, rows) = &self.jobs[job];
            let matrix = self.matrices[*index];
            let per_row = matrix.groups_per_row();
            for row in rows.clone().take_while(|_| per_row > 0) {
                let first = self.first_groups[*index] + row * per_row;
                let (groups, start) = (first..first + per_row, matrix.offset + row * matrix.cols);
                let elements = start..start + matrix.cols;
                let lesson = Lesson { exact: &exact[elements.clone()], grads: &grads[elements], lr, count };
                // SAFETY: every row has groups of its own; the slices end with the job.
                let [multipliers, m, v] =
                    [&state[0], &state[1], &state[2]].map(|values| unsafe { values.range(groups.clone()) });
                steps::learn(&lesson, &scales[groups.clone()], multipliers, m, v);
            }
        });
    }
}

/// Replaces a row of a matrix by what a model file of that type would hold.
pub fn round_weights(dtype: DType, row: &mut [f32]) {
    match dtype {
        DType::F16 => row.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32()),
        DType::Q8 => row.chunks_mut(BLOCK).for_each(|block| round_block(block, (-127, 127), (31, 32))),
        DType::Q4 => row.chunks_mut(BLOCK).for_each(|block| round_block(block, steps::Q4, NARROWEST_Q4)),
        // F32 is exact; there is no other.
        _ => {}
    }
}

/// `smidgen_runtime::quant::quantize_block` and back to floats. `narrowest` is the least part of
/// the multiplier that is tried.
fn round_block(block: &mut [f32], (least, most): (i32, i32), narrowest: (u32, u32)) {
    let max = f32::from_bits(max_magnitude_bits(block));
    if !(TINY..f32::MAX).contains(&max) {
        block.fill(0.0);
        return;
    }
    let scale = bf16_to_f32(bf16_ceil(max / (most as f32 * 255.0)));
    for group in block.chunks_mut(GROUP) {
        let max = f32::from_bits(max_magnitude_bits(group));
        if max < TINY {
            group.fill(0.0);
            continue;
        }
        let widest = (max / (most as f32 * scale)).ceil().clamp(1.0, 255.0) as u32;
        let first = (widest * narrowest.0 / narrowest.1).max(1);
        let step = best_multiplier(group, scale, first, widest, least, most) as f32 * scale;
        for weight in group.iter_mut() {
            *weight = round_to_i32(*weight / step).clamp(least, most) as f32 * step;
        }
    }
}

vectorized! {
    /// The multiplier from `first` to `widest` that has the least error.
    pub(super) fn best_multiplier(
        group: &[f32],
        scale: f32,
        first: u32,
        widest: u32,
        least: i32,
        most: i32,
    ) -> u32 {
        let mut best = (f32::INFINITY, widest);
        for begin in (first..=widest).step_by(LANES) {
            let mut steps = [0.0f32; LANES];
            for (lane, step) in steps.iter_mut().enumerate() {
                *step = (begin + lane as u32) as f32 * scale;
            }
            let mut errors = [0.0f32; LANES];
            for &weight in group {
                for lane in 0..LANES {
                    let quant = round_to_i32(weight / steps[lane]).clamp(least, most);
                    let difference = weight - quant as f32 * steps[lane];
                    errors[lane] += difference * difference;
                }
            }
            for (multiplier, &error) in (begin..=widest).zip(&errors) {
                if error < best.0 {
                    best = (error, multiplier);
                }
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use smidgen_runtime::quant::quantize_block;

    /// What the runtime's quantizer makes of a row, as floats.
    fn by_the_runtime(dtype: DType, row: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        for values in row.chunks(BLOCK) {
            let block = quantize_block(dtype, values, None);
            let scale = bf16_to_f32(block.scale);
            out.extend(
                block.quants[..values.len()]
                    .iter()
                    .enumerate()
                    .map(|(i, &quant)| f32::from(quant) * (f32::from(block.multipliers[i / GROUP]) * scale)),
            );
        }
        out
    }

    #[test]
    fn every_bit_is_the_runtimes() {
        let mut rng = Rng::new(1);
        for dtype in [DType::Q8, DType::Q4] {
            for width in [1, 5, 32, 33, 172, 256, 300, 513] {
                for kind in 0..4 {
                    let mut row: Vec<f32> = (0..width)
                        .map(|i| {
                            let x = rng.below(20_001) as f32 / 10_000.0 - 1.0;
                            match kind {
                                0 => x,
                                1 => x * x * x * 1e-3,
                                2 if i % 50 < 40 => 0.0,
                                2 => x * 1e6,
                                _ => 0.0,
                            }
                        })
                        .collect();
                    let want = by_the_runtime(dtype, &row);
                    round_weights(dtype, &mut row);
                    assert!(row == want, "{dtype:?}, {width} columns, kind {kind}");
                }
            }
        }
    }

    #[test]
    fn only_matrices_change_and_come_back() {
        let mut rng = Rng::new(2);
        let exact: Vec<f32> = (0..5000).map(|_| rng.below(1000) as f32 / 999.0 - 0.4).collect();
        for dtype in [DType::Q8, DType::Q4] {
            let matrix = QuantizedMatrix { offset: 100, rows: 60, cols: 70, dtype };
            let results = [1, 3].map(|threads| {
                let pool = Pool::new(threads);
                let mut fake = FakeQuant::new(exact.len(), vec![matrix]);
                let mut params = exact.clone();
                for count in 0..30 {
                    fake.swap_in(&pool, &mut params);
                    fake.swap_back(&mut params);
                    assert!(params == exact);
                    fake.learn(&pool, &exact, &exact, 0.01, count);
                }
                fake.swap_in(&pool, &mut params);
                assert!(fake.exact() == exact);
                params
            });
            assert!(results[0] == results[1], "threads");
            let [rounded, _] = results;
            assert!(rounded[..100] == exact[..100] && rounded[4300..] == exact[4300..]);
            // The runtime's quantizer finds every step again, learned or not, and another search
            // would not have.
            for (row, exact) in rounded[100..4300].chunks(70).zip(exact[100..4300].chunks(70)) {
                assert!(row == by_the_runtime(dtype, row));
                assert_eq!(row == by_the_runtime(dtype, exact), dtype == DType::Q8);
            }
        }
    }

    #[test]
    fn steps_go_where_the_loss_falls() {
        // The loss is half the squared distance to the exact weights, and steps begin twice too large.
        let mut rng = Rng::new(3);
        let exact: Vec<f32> = (0..4096).map(|_| rng.below(1000) as f32 / 999.0 - 0.5).collect();
        let matrix = QuantizedMatrix { offset: 0, rows: 16, cols: 256, dtype: DType::Q4 };
        let pool = Pool::new(1);
        let mut fake = FakeQuant::new(exact.len(), vec![matrix]);
        let mut distances = Vec::new();
        for count in 0..200 {
            let mut params = exact.clone();
            fake.swap_in(&pool, &mut params);
            if count == 0 {
                fake.swap_back(&mut params);
                let mut steps = fake.steps().unwrap().clone();
                steps.multipliers.iter_mut().for_each(|x| *x = (*x * 2.0).min(255.0));
                steps.scales.iter_mut().for_each(|x| *x *= 2.0);
                fake.set_steps(steps);
                fake.swap_in(&pool, &mut params);
            }
            let grads: Vec<f32> = params.iter().zip(&exact).map(|(q, w)| q - w).collect();
            distances.push(grads.iter().map(|g| g * g).sum::<f32>());
            fake.swap_back(&mut params);
            fake.learn(&pool, &exact, &grads, 0.01, count);
        }
        assert!(distances[199] < 0.5 * distances[0], "{} to {}", distances[0], distances[199]);
    }
}
