//! GELU in its tanh form (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016), which
//! GPT-2 uses. With u = √(2/π)·(x + 0.044715·x³), ½·x·(1 + tanh u) is x·sigmoid(2u).

use super::ELEMENTS_PER_JOB;
use super::math::{sigmoid, vectorized};
use crate::parallel::{BlocksMut, Pool};

/// 2·√(2/π).
const SLOPE: f32 = 1.595_769;
/// SLOPE · 0.044715.
const CUBIC: f32 = 0.071_354_816;

/// `out = gelu(x)`, elementwise.
pub fn forward(pool: &Pool, out: &mut [f32], x: &[f32]) {
    assert_eq!(out.len(), x.len(), "output, input");
    let n_jobs = x.len().div_ceil(ELEMENTS_PER_JOB);
    pool.for_rows(n_jobs, 1, BlocksMut::new(out, ELEMENTS_PER_JOB), |range, out| {
        forward_block(out, &x[range.start * ELEMENTS_PER_JOB..]);
    });
}

vectorized! {
    fn forward_block(out: &mut [f32], x: &[f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x * sigmoid(x * (SLOPE + CUBIC * (x * x)));
        }
    }
}

/// Takes the input in `x` and the gradient of the output in `y`; leaves the gradient of the
/// input in `x` and the output in `y`, which the next layer's weights need for theirs.
pub fn backward(pool: &Pool, x: &mut [f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "input, gradient");
    let n_jobs = x.len().div_ceil(ELEMENTS_PER_JOB);
    let split = (BlocksMut::new(x, ELEMENTS_PER_JOB), BlocksMut::new(y, ELEMENTS_PER_JOB));
    pool.for_rows(n_jobs, 1, split, |_, (x, y)| backward_block(x, y));
}

vectorized! {
    fn backward_block(x: &mut [f32], y: &mut [f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            let (value, d_out) = (*x, *y);
            let square = value * value;
            let gate = sigmoid(value * (SLOPE + CUBIC * square));
            let slope = value * gate * (1.0 - gate) * (SLOPE + 3.0 * CUBIC * square);
            *y = value * gate;
            *x = d_out * (gate + slope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare};

    #[test]
    fn gradients_match_differences() {
        let mut numbers = Numbers::new(5);
        let mut x: Vec<f32> = numbers.vector(203).iter().map(|x| x * 6.0).collect();
        x.extend([0.0, -30.0, 30.0, -200.0, 200.0]);
        let d_out = numbers.vector(x.len());
        let reference = |v: &[&[f64]]| {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            v[0].iter()
                .map(|x| 0.5 * x * (1.0 + (scale * (x + 0.044715 * x.powi(3))).tanh()))
                .collect::<Vec<_>>()
        };
        let pool = Pool::new(2);
        let mut out = vec![f32::NAN; x.len()];
        forward(&pool, &mut out, &x);
        let (mut d_x, mut y) = (x.clone(), d_out.clone());
        backward(&pool, &mut d_x, &mut y);
        assert_eq!(y, out, "the output comes back");
        compare(&[&x], reference, &out, &d_out, &[&d_x]);
    }
}
