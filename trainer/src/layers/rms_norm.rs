//! RMSNorm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).

use super::math::{sum_map, sum_map3, vectorized};
use super::{ROWS_PER_SUM, add_column_sums, rows_per_job, sized};
use crate::parallel::{BlocksMut, Pool, RowsMut};

/// `out = x / √(mean of x² + eps) · weight`, by rows.
///
/// `out` and `x` are `[rows, dim]`, with dim the length of `weight`; `scales`, `[rows]`,
/// receives the reciprocals of the roots.
pub fn forward(pool: &Pool, out: &mut [f32], scales: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let dim = weight.len();
    let split = (RowsMut::new(out, dim), RowsMut::new(scales, 1));
    pool.for_rows(x.len() / dim, rows_per_job(dim), split, |range, (out, scales)| {
        forward_rows(out, scales, &x[range.start * dim..range.end * dim], weight, eps);
    });
}

vectorized! {
    /// [`forward`] for a job's rows.
    pub(crate) fn forward_rows(
        out: &mut [f32],
        scales: &mut [f32],
        x: &[f32],
        weight: &[f32],
        eps: f32,
    ) {
        let dim = weight.len();
        let rows = out.chunks_exact_mut(dim).zip(x.chunks_exact(dim));
        for ((out, x), to) in rows.zip(scales) {
            let scale = 1.0 / (sum_map(x, |x| x * x) / dim as f32 + eps).sqrt();
            normalize(out, x, scale, weight);
            *to = scale;
        }
    }
}

/// `out` of [`forward`] once more, to the bit, from what it left in `scales`.
pub fn again(pool: &Pool, out: &mut [f32], scales: &[f32], x: &[f32], weight: &[f32]) {
    let dim = weight.len();
    pool.for_rows(x.len() / dim, rows_per_job(dim), RowsMut::new(out, dim), |range, out| {
        normalize_rows(out, &x[range.start * dim..range.end * dim], &scales[range], weight);
    });
}

vectorized! {
    fn normalize_rows(out: &mut [f32], x: &[f32], scales: &[f32], weight: &[f32]) {
        let dim = weight.len();
        let rows = out.chunks_exact_mut(dim).zip(x.chunks_exact(dim));
        rows.zip(scales).for_each(|((out, x), &scale)| normalize(out, x, scale, weight));
    }
}

#[inline(always)]
fn normalize(out: &mut [f32], x: &[f32], scale: f32, weight: &[f32]) {
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}

/// Adds the gradients of the input (`d_x`) and of the weight, given that of the output.
///
/// `scales` is what [`forward`] left; `partial` is memory for sums, kept for use again.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    pool: &Pool,
    d_x: &mut [f32],
    d_weight: &mut [f32],
    d_out: &[f32],
    x: &[f32],
    scales: &[f32],
    weight: &[f32],
    partial: &mut Vec<f32>,
) {
    let dim = weight.len();
    let block = ROWS_PER_SUM * dim;
    let n_blocks = x.len().div_ceil(block);
    let partial = sized(partial, n_blocks * dim);
    let split = (BlocksMut::new(d_x, block), RowsMut::new(partial, dim));
    pool.for_rows(n_blocks, 1, split, |range, (d_x, sums)| {
        let elements = range.start * block..range.start * block + d_x.len();
        let scales = &scales[range.start * ROWS_PER_SUM..];
        sums.fill(0.0);
        backward_rows(d_x, sums, &d_out[elements.clone()], &x[elements], scales, weight);
    });
    add_column_sums(pool, d_weight, partial, dim, 0);
}

vectorized! {
    /// [`backward`] for a job's rows, with the weight's gradient added to `d_weight`.
    pub(crate) fn backward_rows(
        d_x: &mut [f32],
        d_weight: &mut [f32],
        d_out: &[f32],
        x: &[f32],
        scales: &[f32],
        weight: &[f32],
    ) {
        let dim = weight.len();
        let rows = d_x.chunks_exact_mut(dim).zip(d_out.chunks_exact(dim)).zip(x.chunks_exact(dim));
        for (((d_x, d_out), x), &scale) in rows.zip(scales) {
            // The output does not change when x is scaled: what of the gradient points along x
            // must go.
            let along = sum_map3(d_out, weight, x, |d, w, x| d * w * x);
            let along = along * scale * scale / dim as f32;
            let each = d_x.iter_mut().zip(d_weight.iter_mut());
            for ((d_x, d_w), ((&d, &x), &w)) in each.zip(d_out.iter().zip(x).zip(weight)) {
                *d_x += scale * (d * w - x * along);
                *d_w += d * x * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare};

    #[test]
    fn gradients_match_differences() {
        for (rows, dim) in [(3, 5), (2, 35), (67, 4)] {
            let mut numbers = Numbers::new(3);
            let (x, weight) = (numbers.vector(rows * dim), numbers.vector(dim));
            let d_out = numbers.vector(rows * dim);
            let reference = |v: &[&[f64]]| {
                let mut out = Vec::new();
                for row in v[0].chunks(dim) {
                    let mean = row.iter().map(|x| x * x).sum::<f64>() / dim as f64;
                    let root = (mean + f64::from(1e-5f32)).sqrt();
                    out.extend(row.iter().zip(v[1]).map(|(x, w)| x / root * w));
                }
                out
            };
            let pool = Pool::new(2);
            let mut out = vec![f32::NAN; rows * dim];
            let mut scales = vec![f32::NAN; rows];
            forward(&pool, &mut out, &mut scales, &x, &weight, 1e-5);
            let mut twice = vec![f32::NAN; rows * dim];
            again(&pool, &mut twice, &scales, &x, &weight);
            assert!(twice == out);
            let (mut d_x, mut d_w) = (vec![0.0; rows * dim], vec![0.0; dim]);
            let mut partial = Vec::new();
            backward(&pool, &mut d_x, &mut d_w, &d_out, &x, &scales, &weight, &mut partial);
            compare(&[&x, &weight], reference, &out, &d_out, &[&d_x, &d_w]);
        }
    }
}
