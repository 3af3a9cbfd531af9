//! The layers of GPT-2 and Llama, each with its forward pass and its hand-written backward pass.
//!
//! Activations are matrices `[rows, width]` with one row a token. Backward functions add to the
//! gradients of parameters; whether they add to or replace the gradient of the input is said
//! by each. Sums over rows are cut by size alone, so nothing depends on the number of threads.
//!
//! Residual additions cost nothing of their own: they are [`crate::gemm::Add::Matrix`] of the
//! product that they follow.

pub mod attention;
#[cfg(test)]
pub(crate) mod check;
pub mod cross_entropy;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod math;
pub mod qk_norm;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

use crate::parallel::{Pool, RowsMut};

/// Elements of an elementwise loop that make one job: some microseconds.
pub(crate) const ELEMENTS_PER_JOB: usize = 1 << 13;

/// Rows of `width` elements that make one job of an elementwise loop.
pub(crate) fn rows_per_job(width: usize) -> usize {
    (ELEMENTS_PER_JOB / width.max(1)).max(1)
}

/// Rows whose contributions to a parameter's gradient are summed in one go. Part of the
/// definition of the result: it decides the order of those sums.
pub(crate) const ROWS_PER_SUM: usize = 64;

/// The first `len` elements of a buffer that is kept for use again.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// `target[j] += Σ rows[i, j]` in ascending i, for `rows` `[_, stride]` from column `first` on.
pub(crate) fn add_column_sums(pool: &Pool, target: &mut [f32], rows: &[f32], stride: usize, first: usize) {
    let cols = target.len();
    pool.for_rows(cols, 128, RowsMut::new(target, 1), |range, target| {
        let from = first + range.start;
        math::add_rows(target, rows, stride, from);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_sums_add_up() {
        let (n, stride, first, cols) = (37, 301, 5, 290);
        let rows: Vec<f32> = (0..n * stride).map(|i| (i % 101) as f32).collect();
        let mut target = vec![1.0; cols];
        add_column_sums(&Pool::new(3), &mut target, &rows, stride, first);
        for (j, &got) in target.iter().enumerate() {
            let want: f32 = (0..n).map(|i| rows[i * stride + first + j]).sum();
            assert_eq!(got, want + 1.0, "integers add up exactly");
        }
    }
}
