//! RMSNorm of every query head and every key head before their rotation, with one weight for
//! all query heads and one for all key heads, as Qwen3 has it.

use super::rms_norm::{backward_rows, forward_rows};
use super::{ROWS_PER_SUM, add_column_sums, rows_per_job, sized};
use crate::parallel::{BlocksMut, Pool, RowsMut};

/// The two weights, each `[head_dim]`.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// Of the query heads.
    pub q: &'a [f32],
    /// Of the key heads.
    pub k: &'a [f32],
}

/// Sizes: how many heads of each kind a row begins with, and how long a row is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Query heads.
    pub n_heads: usize,
    /// Key heads, after the query heads.
    pub n_kv_heads: usize,
    /// Elements from one row of q, k and v to the next.
    pub stride: usize,
}

/// Normalizes the query and key heads of `qkv`, `[rows, stride]`, into `out`,
/// `[rows, (n_heads + n_kv_heads) · head_dim]`; `scales`, `[rows, n_heads + n_kv_heads]`,
/// receives the reciprocals of the roots.
pub fn forward(
    pool: &Pool,
    shape: Shape,
    out: &mut [f32],
    scales: &mut [f32],
    qkv: &[f32],
    weights: Weights<'_>,
    eps: f32,
) {
    let n_scales = shape.n_heads + shape.n_kv_heads;
    let (width, q_dim) = (n_scales * weights.q.len(), shape.n_heads * weights.q.len());
    let split = (RowsMut::new(out, width), RowsMut::new(scales, n_scales));
    let rows = qkv.len() / shape.stride;
    pool.for_rows(rows, rows_per_job(width), split, |range, (out, scales)| {
        let rows = out.chunks_exact_mut(width).zip(scales.chunks_exact_mut(n_scales));
        for ((out, scales), x) in rows.zip(qkv[range.start * shape.stride..].chunks(shape.stride)) {
            let (q_out, k_out) = out.split_at_mut(q_dim);
            let (q_scales, k_scales) = scales.split_at_mut(shape.n_heads);
            forward_rows(q_out, q_scales, &x[..q_dim], weights.q, eps);
            forward_rows(k_out, k_scales, &x[q_dim..width], weights.k, eps);
        }
    });
}

/// Replaces, in `d_qkv` `[rows, stride]`, the gradients of the normalized heads by those of
/// the heads, and adds the gradients of the weights.
///
/// `qkv` and `scales` are those of [`forward`]; `partial` is memory for sums, kept for use
/// again.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    pool: &Pool,
    shape: Shape,
    d_qkv: &mut [f32],
    d_q_weight: &mut [f32],
    d_k_weight: &mut [f32],
    qkv: &[f32],
    scales: &[f32],
    weights: Weights<'_>,
    partial: &mut Vec<f32>,
) {
    let Shape { n_heads, n_kv_heads, stride } = shape;
    let (head_dim, n_scales) = (weights.q.len(), n_heads + n_kv_heads);
    let (q_dim, width) = (n_heads * head_dim, n_scales * head_dim);
    let rows = qkv.len() / stride;
    let n_blocks = rows.div_ceil(ROWS_PER_SUM);
    // For each block two sums, and a copy of the row that is being replaced.
    let room = 2 * head_dim + width;
    let partial = sized(partial, n_blocks * room);
    let split = (BlocksMut::new(d_qkv, ROWS_PER_SUM * stride), RowsMut::new(partial, room));
    pool.for_rows(n_blocks, 1, split, |range, (d_qkv, room)| {
        let (sums, d_out) = room.split_at_mut(2 * head_dim);
        sums.fill(0.0);
        let (d_q_weight, d_k_weight) = sums.split_at_mut(head_dim);
        for (i, d_row) in d_qkv.chunks_exact_mut(stride).enumerate() {
            let row = range.start * ROWS_PER_SUM + i;
            let (x, scales) = (&qkv[row * stride..], &scales[row * n_scales..]);
            let d_x = &mut d_row[..width];
            d_out.copy_from_slice(d_x);
            d_x.fill(0.0);
            let (d_q, d_k) = d_x.split_at_mut(q_dim);
            let (x_q, x_k) = x[..width].split_at(q_dim);
            backward_rows(d_q, d_q_weight, &d_out[..q_dim], x_q, scales, weights.q);
            let scales = &scales[n_heads..];
            backward_rows(d_k, d_k_weight, &d_out[q_dim..], x_k, scales, weights.k);
        }
    });
    add_column_sums(pool, d_q_weight, partial, room, 0);
    add_column_sums(pool, d_k_weight, partial, room, head_dim);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare};

    #[test]
    fn gradients_match_differences() {
        let (rows, head_dim) = (70, 3);
        let shape = Shape { n_heads: 2, n_kv_heads: 1, stride: 11 };
        let width = 3 * head_dim;
        let mut numbers = Numbers::new(9);
        let (x, d_out) = (numbers.vector(rows * shape.stride), numbers.vector(rows * width));
        let (q, k) = (numbers.vector(head_dim), numbers.vector(head_dim));
        let reference = |v: &[&[f64]]| {
            let mut out = Vec::new();
            for row in v[0].chunks(shape.stride) {
                for (h, head) in row[..width].chunks(head_dim).enumerate() {
                    let mean = head.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
                    let root = (mean + f64::from(1e-3f32)).sqrt();
                    let weight = if h < 2 { v[1] } else { v[2] };
                    out.extend(head.iter().zip(weight).map(|(x, w)| x / root * w));
                }
            }
            out
        };
        let pool = Pool::new(2);
        let weights = Weights { q: &q, k: &k };
        let mut out = vec![f32::NAN; rows * width];
        let mut scales = vec![f32::NAN; rows * 3];
        forward(&pool, shape, &mut out, &mut scales, &x, weights, 1e-3);
        // What is beside the heads stays; there is no gradient there.
        let mut d_x = vec![0.0; x.len()];
        for (to, from) in d_x.chunks_mut(shape.stride).zip(d_out.chunks(width)) {
            to[..width].copy_from_slice(from);
        }
        let (mut d_q, mut d_k, mut partial) = (vec![0.0; head_dim], vec![0.0; head_dim], vec![]);
        backward(&pool, shape, &mut d_x, &mut d_q, &mut d_k, &x, &scales, weights, &mut partial);
        compare(&[&x, &q, &k], reference, &out, &d_out, &[&d_x, &d_q, &d_k]);
    }
}
