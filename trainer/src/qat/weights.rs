//! Weights as the model file will hold them, as floats.

use smidgen_runtime::format::{BLOCK, DType, GROUP};
use smidgen_runtime::quant::{TINY, bf16_ceil, bf16_to_f32, max_magnitude_bits, round_to_i32};

use crate::layers::math::vectorized;
use crate::parallel::{Pool, SharedMut};

/// Candidates for a group's multiplier that are tried side by side.
const LANES: usize = 16;
/// Elements of a job.
const JOB: usize = 1 << 13;

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

/// A second arena, with quantized weights, to run passes with.
#[derive(Clone, Debug)]
pub struct FakeQuant {
    matrices: Vec<QuantizedMatrix>,
    /// Matrix and rows of each job.
    jobs: Vec<(usize, std::ops::Range<usize>)>,
    params: Vec<f32>,
}

impl FakeQuant {
    /// An arena of `len` elements in which these matrices are quantized.
    pub fn new(len: usize, matrices: Vec<QuantizedMatrix>) -> Self {
        let mut jobs = Vec::new();
        for (index, matrix) in matrices.iter().enumerate() {
            let rows = (JOB / matrix.cols.max(1)).max(1);
            let starts = (0..matrix.rows).step_by(rows);
            jobs.extend(starts.map(|start| (index, start..(start + rows).min(matrix.rows))));
        }
        Self { matrices, jobs, params: vec![0.0; len] }
    }

    /// Exchanges `params` for the same numbers with matrices as the model file would hold them.
    /// Until [`Self::swap_back`], `params` are not to be changed.
    pub fn swap_in(&mut self, pool: &Pool, params: &mut Vec<f32>) {
        self.params.copy_from_slice(params);
        let arena = SharedMut::new(&mut self.params);
        pool.run(self.jobs.len(), |job| {
            let (index, rows) = &self.jobs[job];
            let QuantizedMatrix { offset, cols, dtype, .. } = self.matrices[*index];
            // SAFETY: matrices do not overlap and neither do rows; the slice ends with the job.
            let values = unsafe { arena.range(offset + rows.start * cols..offset + rows.end * cols) };
            values.chunks_mut(cols).for_each(|row| round_weights(dtype, row));
        });
        std::mem::swap(&mut self.params, params);
    }

    /// Gives the exact numbers back.
    pub fn swap_back(&mut self, params: &mut Vec<f32>) {
        std::mem::swap(&mut self.params, params);
    }
}

/// Replaces a row of a matrix by what a model file of that type would hold.
pub fn round_weights(dtype: DType, row: &mut [f32]) {
    match dtype {
        DType::F16 => row.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32()),
        DType::Q8 => row.chunks_mut(BLOCK).for_each(|block| round_block(block, (-127, 127), (31, 32))),
        DType::Q4 => row.chunks_mut(BLOCK).for_each(|block| round_block(block, (-8, 7), (5, 8))),
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
        round_group(group, scale, first, widest, least, most);
    }
}

vectorized! {
    /// Tries the multipliers from `first` to `widest` and rounds by the best.
    fn round_group(group: &mut [f32], scale: f32, first: u32, widest: u32, least: i32, most: i32) {
        let mut best = (f32::INFINITY, widest);
        for begin in (first..=widest).step_by(LANES) {
            let mut steps = [0.0f32; LANES];
            for (lane, step) in steps.iter_mut().enumerate() {
                *step = (begin + lane as u32) as f32 * scale;
            }
            let mut errors = [0.0f32; LANES];
            for &weight in &*group {
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
        let step = best.1 as f32 * scale;
        for weight in group.iter_mut() {
            *weight = round_to_i32(*weight / step).clamp(least, most) as f32 * step;
        }
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
        let matrix = QuantizedMatrix { offset: 100, rows: 60, cols: 70, dtype: DType::Q4 };
        let results = [1, 3].map(|threads| {
            let mut fake = FakeQuant::new(exact.len(), vec![matrix]);
            let mut params = exact.clone();
            fake.swap_in(&Pool::new(threads), &mut params);
            let rounded = params.clone();
            fake.swap_back(&mut params);
            assert!(params == exact);
            rounded
        });
        assert!(results[0] == results[1]);
        let [rounded, _] = results;
        assert!(rounded[..100] == exact[..100] && rounded[4300..] == exact[4300..]);
        assert!(rounded[100..170] == by_the_runtime(DType::Q4, &exact[100..170]));
        assert!(rounded[4230..4300] == by_the_runtime(DType::Q4, &exact[4230..4300]));
    }
}
