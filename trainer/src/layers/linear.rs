//! Linear layers: `y = x · Wᵀ + bias`, with W stored `[out, in]`.

use super::add_column_sums;
use crate::gemm::{Add, Level, MatMut, MatRef, matmul_at};
use crate::parallel::Pool;

/// The sizes of a linear layer applied to some rows, and how it is computed.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Tokens.
    pub rows: usize,
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
    /// The instructions of its products, and so their precision.
    pub level: Level,
}

/// `y = x · weightᵀ (+ bias) (+ residual)`.
///
/// `y` and `residual` are `[rows, outputs]`, `x` is `[rows, inputs]`, `weight`
/// `[outputs, inputs]`, `bias` `[outputs]`.
pub fn forward(
    pool: &Pool,
    shape: Shape,
    y: &mut [f32],
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
) {
    let Shape { rows, inputs, outputs, level } = shape;
    let residual = residual.map(|r| MatRef::new(r, rows, outputs));
    let add = match (bias, residual) {
        (None, None) => Add::Nothing,
        (Some(bias), None) => Add::Row(bias),
        (None, Some(residual)) => Add::Matrix(residual),
        (Some(bias), Some(residual)) => Add::RowAndMatrix(bias, residual),
    };
    let (x, weight) = (MatRef::new(x, rows, inputs), MatRef::new(weight, outputs, inputs));
    matmul_at(level, pool, MatMut::new(y, rows, outputs), x, weight.t(), add);
}

/// `d_x = d_y · weight`: the gradient of the input, replacing what was there.
pub fn backward_input(pool: &Pool, shape: Shape, d_x: &mut [f32], d_y: &[f32], weight: &[f32]) {
    let Shape { rows, inputs, outputs, level } = shape;
    let (d_y, weight) = (MatRef::new(d_y, rows, outputs), MatRef::new(weight, outputs, inputs));
    matmul_at(level, pool, MatMut::new(d_x, rows, inputs), d_y, weight, Add::Nothing);
}

/// `d_weight += d_yᵀ · x` and `d_bias += Σ d_y`: the gradients of the parameters.
pub fn backward_weight(
    pool: &Pool,
    shape: Shape,
    d_weight: &mut [f32],
    d_bias: Option<&mut [f32]>,
    d_y: &[f32],
    x: &[f32],
) {
    let Shape { rows, inputs, outputs, level } = shape;
    let (a, b) = (MatRef::new(d_y, rows, outputs), MatRef::new(x, rows, inputs));
    matmul_at(level, pool, MatMut::new(d_weight, outputs, inputs), a.t(), b, Add::Result);
    if let Some(d_bias) = d_bias {
        add_column_sums(pool, d_bias, &d_y[..rows * outputs], outputs, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare};

    #[test]
    fn gradients_match_differences() {
        let shape = Shape { rows: 5, inputs: 7, outputs: 3, level: Level::detect() };
        let Shape { rows, inputs, outputs, .. } = shape;
        let mut numbers = Numbers::new(4);
        let (x, weight) = (numbers.vector(rows * inputs), numbers.vector(outputs * inputs));
        let (bias, residual) = (numbers.vector(outputs), numbers.vector(rows * outputs));
        let d_y = numbers.vector(rows * outputs);
        let pool = Pool::new(2);
        for (with_bias, with_residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let reference = |v: &[&[f64]]| {
                let mut y = Vec::new();
                for i in 0..rows {
                    for j in 0..outputs {
                        let sum: f64 = (0..inputs).map(|k| v[0][i * inputs + k] * v[1][j * inputs + k]).sum();
                        let bias = if with_bias { v[2][j] } else { 0.0 };
                        y.push(sum + bias + if with_residual { v[3][i * outputs + j] } else { 0.0 });
                    }
                }
                y
            };
            let mut y = vec![f32::NAN; rows * outputs];
            let (b, r) = (with_bias.then_some(&bias[..]), with_residual.then_some(&residual[..]));
            forward(&pool, shape, &mut y, &x, &weight, b, r);
            let mut d_x = vec![f32::NAN; rows * inputs];
            backward_input(&pool, shape, &mut d_x, &d_y, &weight);
            let (mut d_w, mut d_b) = (vec![0.0; outputs * inputs], vec![0.0; outputs]);
            let d_bias = with_bias.then_some(&mut d_b[..]);
            backward_weight(&pool, shape, &mut d_w, d_bias, &d_y, &x);
            let d_residual = if with_residual { d_y.clone() } else { vec![0.0; d_y.len()] };
            let inputs = [&x[..], &weight, &bias, &residual];
            compare(&inputs, reference, &y, &d_y, &[&d_x, &d_w, &d_b, &d_residual]);
        }
    }
}
