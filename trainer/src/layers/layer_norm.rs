//! LayerNorm (Ba, Kiros and Hinton, "Layer Normalization", 2016), with or without bias.

use super::math::{sum_map, sum_map2, sum_map3, vectorized};
use super::{ROWS_PER_SUM, add_column_sums, rows_per_job, sized};
use crate::parallel::{BlocksMut, Pool, RowsMut};

/// `out = (x − mean) / √(variance + eps) · weight + bias`, by rows.
///
/// `out` and `x` are `[rows, dim]`, with dim the length of `weight`; `stats`, `[rows, 2]`,
/// receives each row's mean and the reciprocal of its root.
pub fn forward(
    pool: &Pool,
    out: &mut [f32],
    stats: &mut [f32],
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
) {
    let dim = weight.len();
    let split = (RowsMut::new(out, dim), RowsMut::new(stats, 2));
    pool.for_rows(x.len() / dim, rows_per_job(dim), split, |range, (out, stats)| {
        let x = &x[range.start * dim..range.end * dim];
        forward_rows(out, stats, x, weight, bias, eps);
    });
}

vectorized! {
    fn forward_rows(
        out: &mut [f32],
        stats: &mut [f32],
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        eps: f32,
    ) {
        let dim = weight.len();
        let rows = out.chunks_exact_mut(dim).zip(x.chunks_exact(dim));
        for ((out, x), stats) in rows.zip(stats.chunks_exact_mut(2)) {
            let mean = sum_map(x, |x| x) / dim as f32;
            let variance = sum_map(x, |x| (x - mean) * (x - mean)) / dim as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            stats.copy_from_slice(&[mean, scale]);
            normalize(out, x, stats, weight, bias);
        }
    }
}

/// `out` of [`forward`] once more, to the bit, from what it left in `stats`.
pub fn again(pool: &Pool, out: &mut [f32], stats: &[f32], x: &[f32], weight: &[f32], bias: Option<&[f32]>) {
    let dim = weight.len();
    pool.for_rows(x.len() / dim, rows_per_job(dim), RowsMut::new(out, dim), |range, out| {
        let x = &x[range.start * dim..range.end * dim];
        normalize_rows(out, x, &stats[range.start * 2..], weight, bias);
    });
}

vectorized! {
    fn normalize_rows(out: &mut [f32], x: &[f32], stats: &[f32], weight: &[f32], bias: Option<&[f32]>) {
        let dim = weight.len();
        let rows = out.chunks_exact_mut(dim).zip(x.chunks_exact(dim));
        for ((out, x), stats) in rows.zip(stats.chunks_exact(2)) {
            normalize(out, x, stats, weight, bias);
        }
    }
}

#[inline(always)]
fn normalize(out: &mut [f32], x: &[f32], stats: &[f32], weight: &[f32], bias: Option<&[f32]>) {
    let (mean, scale) = (stats[0], stats[1]);
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *out = (x - mean) * scale * w;
    }
    if let Some(bias) = bias {
        for (out, &b) in out.iter_mut().zip(bias) {
            *out += b;
        }
    }
}

/// Adds the gradients of the input (`d_x`), the weight and the bias, given that of the output.
///
/// `stats` is what [`forward`] left; `partial` is memory for sums, kept for use again.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    pool: &Pool,
    d_x: &mut [f32],
    d_weight: &mut [f32],
    d_bias: Option<&mut [f32]>,
    d_out: &[f32],
    x: &[f32],
    stats: &[f32],
    weight: &[f32],
    partial: &mut Vec<f32>,
) {
    let dim = weight.len();
    let block = ROWS_PER_SUM * dim;
    let n_blocks = x.len().div_ceil(block);
    let partial = sized(partial, n_blocks * 2 * dim);
    let split = (BlocksMut::new(d_x, block), RowsMut::new(partial, 2 * dim));
    pool.for_rows(n_blocks, 1, split, |range, (d_x, sums)| {
        let elements = range.start * block..range.start * block + d_x.len();
        let stats = &stats[range.start * ROWS_PER_SUM * 2..];
        backward_rows(d_x, sums, &d_out[elements.clone()], &x[elements], stats, weight);
    });
    add_column_sums(pool, d_weight, partial, 2 * dim, 0);
    if let Some(d_bias) = d_bias {
        add_column_sums(pool, d_bias, partial, 2 * dim, dim);
    }
}

vectorized! {
    fn backward_rows(
        d_x: &mut [f32],
        sums: &mut [f32],
        d_out: &[f32],
        x: &[f32],
        stats: &[f32],
        weight: &[f32],
    ) {
        let dim = weight.len();
        sums.fill(0.0);
        let (d_weight, d_bias) = sums.split_at_mut(dim);
        let rows = d_x.chunks_exact_mut(dim).zip(d_out.chunks_exact(dim)).zip(x.chunks_exact(dim));
        for (((d_x, d_out), x), stats) in rows.zip(stats.chunks_exact(2)) {
            let (mean, scale) = (stats[0], stats[1]);
            let each = d_weight.iter_mut().zip(d_bias.iter_mut()).zip(d_out.iter().zip(x));
            for ((d_w, d_b), (&d, &x)) in each {
                *d_w += d * ((x - mean) * scale);
                *d_b += d;
            }
            // The output does not change when x is shifted or scaled: what of the gradient
            // points there must go.
            let shift = sum_map2(d_out, weight, |d, w| d * w) / dim as f32;
            let stretch = sum_map3(d_out, weight, x, |d, w, x| d * w * ((x - mean) * scale));
            let stretch = stretch / dim as f32;
            let each = d_x.iter_mut().zip(d_out).zip(x.iter().zip(weight));
            for ((d_x, &d), (&x, &w)) in each {
                *d_x += scale * (d * w - shift - (x - mean) * scale * stretch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare};

    fn reference(x: &[f64], weight: &[f64], bias: Option<&[f64]>, eps: f64) -> Vec<f64> {
        let dim = weight.len();
        let mut out = Vec::new();
        for row in x.chunks(dim) {
            let mean = row.iter().sum::<f64>() / dim as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
            out.extend(
                (0..dim).map(|j| {
                    (row[j] - mean) / (variance + eps).sqrt() * weight[j] + bias.map_or(0.0, |b| b[j])
                }),
            );
        }
        out
    }

    #[test]
    fn gradients_match_differences() {
        for (rows, dim, with_bias) in [(3, 5, true), (2, 35, false), (67, 4, true)] {
            let mut numbers = Numbers::new(2);
            let (x, weight) = (numbers.vector(rows * dim), numbers.vector(dim));
            let (bias, d_out) = (numbers.vector(dim), numbers.vector(rows * dim));
            let bias_used = with_bias.then_some(&bias[..]);
            let pool = Pool::new(2);
            let mut out = vec![f32::NAN; rows * dim];
            let mut stats = vec![f32::NAN; rows * 2];
            forward(&pool, &mut out, &mut stats, &x, &weight, bias_used, 1e-5);
            let mut twice = vec![f32::NAN; rows * dim];
            again(&pool, &mut twice, &stats, &x, &weight, bias_used);
            assert!(twice == out);
            let (mut d_x, mut d_w, mut d_b) = (vec![0.0; rows * dim], vec![0.0; dim], vec![0.0; dim]);
            let mut partial = vec![f32::NAN; 3];
            let d_bias = with_bias.then_some(&mut d_b[..]);
            backward(&pool, &mut d_x, &mut d_w, d_bias, &d_out, &x, &stats, &weight, &mut partial);
            compare(
                &[&x, &weight, &bias],
                |v| reference(v[0], v[1], with_bias.then_some(v[2]), f64::from(1e-5f32)),
                &out,
                &d_out,
                &[&d_x, &d_w, &d_b],
            );
        }
    }
}
