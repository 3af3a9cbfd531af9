//! Kernels one by one, for `benches/kernels.rs`: not part of what the crate promises.

use super::attention::{HeadCacheQ8, Queries, Scratch};
use super::{Activations, Level};
use crate::tensor::Matrix;
use crate::workers::Disjoint;

/// All rows of a matrix with every vector: `out` is `[n, rows]`.
pub fn matmul(level: Level, matrix: &Matrix<'_>, input: &Activations<'_>, out: &mut [f32]) {
    assert!(out.len() >= input.n * matrix.rows, "no room for the product");
    let out = Disjoint::new(out);
    // SAFETY: `out` is borrowed here alone.
    unsafe {
        super::matmul(level, matrix, input, &mut super::Prepared::new(), 0..matrix.rows, &out, matrix.rows)
    };
}

/// [`super::attention::Products::attend`].
pub fn attend_q8(
    level: Level,
    queries: &[f32],
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    super::attend_q8(level, queries, head_dim, cache, len, scratch, out);
}

/// The same of `n` neighbouring tokens, the first of which looks at `len` positions: `queries` and `out`
/// are `[n, heads · head_dim]`.
#[allow(clippy::too_many_arguments)]
pub fn attend_tokens_q8(
    level: Level,
    queries: &mut [f32],
    n: usize,
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    let stride = queries.len() / n.max(1);
    assert!(out.len() == queries.len(), "no room for what they attend to");
    let (queries, out) = (Disjoint::new(queries), Disjoint::new(out));
    let heads = stride / head_dim.max(1);
    let all = Queries { queries: &queries, out: &out, begin: 0, stride, n, heads, head_dim, len };
    // SAFETY: both are borrowed here alone.
    unsafe { super::attend_tokens_q8(level, &all, cache, scratch) };
}

/// [`super::elementwise::quantize`].
pub fn quantize(level: Level, values: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    super::quantize(level, values, quants, scales, sums);
}

/// [`super::elementwise::rms_norm`].
pub fn rms_norm(level: Level, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    super::rms_norm(level, x, weight, eps, out);
}

/// [`super::elementwise::layer_norm`].
pub fn layer_norm(level: Level, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    super::layer_norm(level, x, weight, bias, eps, out);
}

/// [`super::elementwise::silu_mul`].
pub fn silu_mul(level: Level, gate: &mut [f32], up: &[f32]) {
    super::silu_mul(level, gate, up);
}

/// [`super::elementwise::gelu_all`].
pub fn gelu_all(level: Level, x: &mut [f32]) {
    super::gelu_all(level, x);
}
