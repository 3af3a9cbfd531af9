//! SwiGLU (Shazeer, "GLU Variants Improve Transformer", 2020): `silu(gate) · up`.

use super::math::{sigmoid, vectorized};
use super::rows_per_job;
use crate::parallel::{Pool, RowsMut};

/// `out = gate · sigmoid(gate) · up`, elementwise.
///
/// `gate_up` is `[rows, 2 · width]`: a row's gates, then its ups; `out` is `[rows, width]`.
pub fn forward(pool: &Pool, out: &mut [f32], gate_up: &[f32], width: usize) {
    let rows = RowsMut::new(out, width);
    pool.for_rows(gate_up.len() / (2 * width), rows_per_job(width), rows, |range, out| {
        forward_rows(out, &gate_up[range.start * 2 * width..], width);
    });
}

vectorized! {
    fn forward_rows(out: &mut [f32], gate_up: &[f32], width: usize) {
        for (out, row) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
            let (gate, up) = row.split_at(width);
            for (out, (&gate, &up)) in out.iter_mut().zip(gate.iter().zip(up)) {
                *out = gate * sigmoid(gate) * up;
            }
        }
    }
}

/// Takes the input in `gate_up` and the gradient of the output in `y`; leaves the gradient of
/// the input in `gate_up` and the output in `y`, which the next layer's weights need for theirs.
pub fn backward(pool: &Pool, gate_up: &mut [f32], y: &mut [f32], width: usize) {
    let rows = y.len() / width;
    let split = (RowsMut::new(gate_up, 2 * width), RowsMut::new(y, width));
    pool.for_rows(rows, rows_per_job(width), split, |_, (gate_up, y)| {
        backward_rows(gate_up, y, width);
    });
}

vectorized! {
    fn backward_rows(gate_up: &mut [f32], y: &mut [f32], width: usize) {
        for (row, y) in gate_up.chunks_exact_mut(2 * width).zip(y.chunks_exact_mut(width)) {
            let (gate, up) = row.split_at_mut(width);
            for ((gate, up), y) in gate.iter_mut().zip(up).zip(y) {
                let (g, u, d_out) = (*gate, *up, *y);
                let open = sigmoid(g);
                let silu = g * open;
                *y = silu * u;
                *gate = d_out * u * (open + silu * (1.0 - open));
                *up = d_out * silu;
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
        let (rows, width) = (5, 19);
        let mut numbers = Numbers::new(6);
        let mut x: Vec<f32> = numbers.vector(rows * 2 * width).iter().map(|x| x * 5.0).collect();
        (x[0], x[1]) = (-100.0, 100.0);
        let d_out = numbers.vector(rows * width);
        let reference = |v: &[&[f64]]| {
            let mut out = Vec::new();
            for row in v[0].chunks(2 * width) {
                out.extend((0..width).map(|j| row[j] / (1.0 + (-row[j]).exp()) * row[width + j]));
            }
            out
        };
        let pool = Pool::new(2);
        let mut out = vec![f32::NAN; rows * width];
        forward(&pool, &mut out, &x, width);
        let (mut d_x, mut y) = (x.clone(), d_out.clone());
        backward(&pool, &mut d_x, &mut y, width);
        assert_eq!(y, out, "the output comes back");
        compare(&[&x], reference, &out, &d_out, &[&d_x]);
    }
}
