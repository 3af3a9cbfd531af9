//! Rotary positions (Su et al., "RoFormer", 2021): element i of a head's first half is rotated
//! with element i of its second half, as Hugging Face's models do.

use super::math::vectorized;
use super::rows_per_job;
use crate::parallel::{Pool, RowsMut};

/// Cosines and sines for every position.
#[derive(Clone, Debug)]
pub struct Rope {
    /// `[seq_len, head_dim / 2]`.
    cos: Vec<f32>,
    /// `[seq_len, head_dim / 2]`.
    sin: Vec<f32>,
    half: usize,
    seq_len: usize,
}

impl Rope {
    /// The tables for positions `0..seq_len`, with pair i turning by `theta^(-2i / head_dim)`
    /// radians a position.
    pub fn new(seq_len: usize, head_dim: usize, theta: f32) -> Self {
        let half = head_dim / 2;
        let angles = (0..seq_len).flat_map(|position| {
            (0..half).map(move |i| {
                let frequency = f64::from(theta).powf(-2.0 * i as f64 / head_dim as f64);
                position as f64 * frequency
            })
        });
        let (cos, sin) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        Self { cos, sin, half, seq_len }
    }

    /// Rotates, in place, the first `n_heads` heads of every row of `x`, `[rows, stride]`;
    /// row i is at position `i % seq_len`.
    pub fn forward(&self, pool: &Pool, x: &mut [f32], stride: usize, n_heads: usize) {
        self.turn(pool, x, stride, n_heads, false);
    }

    /// Rotates back: from the gradient of the output, in place, that of the input.
    pub fn backward(&self, pool: &Pool, d_x: &mut [f32], stride: usize, n_heads: usize) {
        self.turn(pool, d_x, stride, n_heads, true);
    }

    fn turn(&self, pool: &Pool, x: &mut [f32], stride: usize, n_heads: usize, back: bool) {
        let rows = x.len() / stride;
        pool.for_rows(rows, rows_per_job(stride), RowsMut::new(x, stride), |range, x| {
            for (row, x) in range.zip(x.chunks_exact_mut(stride)) {
                self.turn_row(&mut x[..n_heads * 2 * self.half], row % self.seq_len, back);
            }
        });
    }

    /// Rotates the heads of one row at a position.
    pub(crate) fn turn_row(&self, heads: &mut [f32], position: usize, back: bool) {
        let at = position * self.half..(position + 1) * self.half;
        turn_heads(heads, &self.cos[at.clone()], &self.sin[at], if back { -1.0 } else { 1.0 });
    }
}

vectorized! {
    fn turn_heads(heads: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        let half = cos.len();
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for ((a, b), (&cos, &sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                let (x, y, sin) = (*a, *b, sin * direction);
                *a = x * cos - y * sin;
                *b = y * cos + x * sin;
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
        let (batch, seq_len, head_dim, n_heads, stride) = (2, 3, 6, 2, 17);
        let mut numbers = Numbers::new(7);
        let x = numbers.vector(batch * seq_len * stride);
        let d_out = numbers.vector(x.len());
        let reference = |v: &[&[f64]]| {
            let mut out = v[0].to_vec();
            for (i, row) in out.chunks_mut(stride).enumerate() {
                for head in row[..n_heads * head_dim].chunks_mut(head_dim) {
                    for j in 0..head_dim / 2 {
                        let angle = (i % seq_len) as f64 / 100f64.powf(2.0 * j as f64 / head_dim as f64);
                        let (a, b) = (head[j], head[j + head_dim / 2]);
                        head[j] = a * angle.cos() - b * angle.sin();
                        head[j + head_dim / 2] = b * angle.cos() + a * angle.sin();
                    }
                }
            }
            out
        };
        let pool = Pool::new(2);
        let rope = Rope::new(seq_len, head_dim, 100.0);
        let (mut out, mut d_x) = (x.clone(), d_out.clone());
        rope.forward(&pool, &mut out, stride, n_heads);
        rope.backward(&pool, &mut d_x, stride, n_heads);
        compare(&[&x], reference, &out, &d_out, &[&d_x]);
    }
}
