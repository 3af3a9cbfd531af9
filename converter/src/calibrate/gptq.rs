//! Column by column: each rounded weight's error is taken over by the weights behind it (Frantar et al.,
//! "GPTQ", arXiv:2210.17323), in the order in which they are stored.

use rayon::prelude::*;
use smidgen_runtime::format::{BLOCK, DType, GROUP};
use smidgen_runtime::quant::{QuantBlock, bf16_to_f32, quantize_block, round_to_i32};

use super::Seen;

/// What is added to every column's second moment, as a part of their mean.
const DAMPING: f64 = 0.01;

/// `[cols, cols]` sums of products of inputs.
pub(super) fn moments(all: &[&[f32]], cols: usize) -> Vec<f64> {
    let mut moments = vec![0.0; cols * cols];
    moments.par_chunks_mut(cols).enumerate().for_each(|(i, sums)| {
        for x in all.iter().flat_map(|rows| rows.chunks_exact(cols)) {
            let a = f64::from(x[i]);
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += a * f64::from(*x));
        }
    });
    moments
}

/// The upper triangular U with `Uᵀ U` the inverse of the damped moments; `None` if there is none
/// (inputs that are not finite).
pub(super) fn factor(mut h: Vec<f64>, n: usize) -> Option<Vec<f32>> {
    let mean = (0..n).map(|i| h[i * n + i]).sum::<f64>() / n as f64;
    (0..n).for_each(|i| h[i * n + i] += DAMPING * mean);
    // First R, upper triangular, with R Rᵀ = H, from the last column to the first; then its inverse.
    for j in (0..n).rev() {
        let (before, rest) = h.split_at_mut(j * n);
        let row = &mut rest[..n];
        let square = row[j] - row[j + 1..].iter().map(|x| x * x).sum::<f64>();
        if !(square > 0.0 && square.is_finite()) {
            return None;
        }
        row[j] = square.sqrt();
        let row = &*row;
        let step = |above: &mut [f64]| {
            let dot: f64 = above[j + 1..].iter().zip(&row[j + 1..]).map(|(a, b)| a * b).sum();
            above[j] = (above[j] - dot) / row[j];
        };
        if n < 256 {
            before.chunks_mut(n).for_each(step);
        } else {
            before.par_chunks_mut(n).with_min_len(64).for_each(step);
        }
    }
    let columns: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|j| {
            let mut column = vec![0.0; j + 1];
            column[j] = 1.0 / h[j * n + j];
            for i in (0..j).rev() {
                let row = &h[i * n..][..n];
                let dot: f64 = row[i + 1..=j].iter().zip(&column[i + 1..]).map(|(a, b)| a * b).sum();
                column[i] = -dot / row[i];
            }
            column
        })
        .collect();
    let mut factor = vec![0.0; n * n];
    for (j, column) in columns.iter().enumerate() {
        column.iter().enumerate().for_each(|(i, value)| factor[i * n + j] = *value as f32);
    }
    Some(factor)
}

/// Quantizes one row of a matrix to Q8 or Q4: its blocks in order.
pub(crate) fn quantize_row(dtype: DType, weights: &[f32], seen: &Seen) -> Vec<QuantBlock> {
    let cols = weights.len();
    let (least, most) = if dtype == DType::Q4 { (-8, 7) } else { (-127, 127) };
    let mut weights = weights.to_vec();
    let mut blocks = Vec::with_capacity(cols.div_ceil(BLOCK));
    for first in (0..cols).step_by(BLOCK) {
        let end = cols.min(first + BLOCK);
        // Scales are searched for the weights as they have become by now.
        let mut block = quantize_block(dtype, &weights[first..end], Some(&seen.importance[first..end]));
        let Some(factor) = &seen.factor else {
            blocks.push(block);
            continue;
        };
        let scale = bf16_to_f32(block.scale);
        for j in first..end {
            let step = f32::from(block.multipliers[(j - first) / GROUP]) * scale;
            let quant = if step > 0.0 { round_to_i32(weights[j] / step).clamp(least, most) } else { 0 };
            block.quants[j - first] = quant as i8;
            let row = &factor[j * cols..][..cols];
            let error = (weights[j] - quant as f32 * step) / row[j];
            weights[j + 1..].iter_mut().zip(&row[j + 1..]).for_each(|(weight, u)| *weight -= error * u);
        }
        blocks.push(block);
    }
    blocks
}
