//! Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024): the
//! momentum of a matrix is made orthogonal before it is a step, so that all directions move alike.
//!
//! For the matrices of the blocks only; embeddings, head, norms and biases are AdamW's. A step is
//! scaled to the size of AdamW's (Liu et al., "Muon is scalable for LLM training", 2025), so that
//! both share a learning rate and a decay.

use std::cell::RefCell;
use std::ops::Range;

use half::bf16;

use crate::gemm::{Add, Level, MatMut, MatRef, matmul_at};
use crate::layers::math::{sum_map, vectorized};
use crate::layers::sized;
use crate::model::{Param, ParamLayout, Precision};
use crate::moments::{Moments, Part, Stored, key, random};
use crate::parallel::{Pool, SharedMut};

/// Newton–Schulz steps.
const STEPS: usize = 5;
/// Of x ↦ a·x + b·x³ + c·x⁵, which drives singular values from (0, 1] to about 1 in five steps.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// The root mean square of a step for a learning rate of 1; AdamW's is about this.
const STEP_SIZE: f32 = 0.2;

/// What Muon is told once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonOptions {
    /// How much of the sum of gradients stays from one step to the next.
    pub momentum: f32,
    /// The part of a matrix that is taken away in each step, times the learning rate.
    pub weight_decay: f32,
}

impl Default for MuonOptions {
    fn default() -> Self {
        Self { momentum: 0.95, weight_decay: 0.1 }
    }
}

/// One matrix, `[rows, cols]` from `offset` on in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Matrix {
    offset: usize,
    rows: usize,
    cols: usize,
}

impl Matrix {
    fn range(self) -> Range<usize> {
        self.offset..self.offset + self.rows * self.cols
    }
}

/// The optimizer. Its state, a momentum for each parameter, is the caller's.
#[derive(Clone, Debug)]
pub struct Muon {
    /// What it was told.
    pub options: MuonOptions,
    /// Of the products that make a step orthogonal. What comes out is rough at any precision: singular
    /// values between 0.7 and 1.2.
    pub precision: Precision,
    matrices: Vec<Matrix>,
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Muon {
    /// Whether a parameter is one of Muon's: a matrix of a block.
    pub fn takes(param: &Param) -> bool {
        param.shape.len() == 2 && (param.name.contains(".h.") || param.name.contains(".layers."))
    }

    /// An optimizer for the block matrices of that layout.
    pub fn new(layout: &ParamLayout, options: MuonOptions) -> Self {
        let mut matrices = Vec::new();
        for param in layout.params().iter().filter(|param| Self::takes(param)) {
            // GPT-2's queries, keys and values are three matrices that are stored as one.
            let parts = if param.name.ends_with("c_attn.weight") { 3 } else { 1 };
            let (rows, cols) = (param.shape[0] / parts, param.shape[1]);
            let offset = |part| param.offset + part * rows * cols;
            matrices.extend((0..parts).map(|part| Matrix { offset: offset(part), rows, cols }));
        }
        // The largest first: threads then end at about the same time.
        matrices.sort_by_key(|matrix| (std::cmp::Reverse(matrix.rows * matrix.cols), matrix.offset));
        Self { options, precision: Precision::default(), matrices }
    }

    /// One step at the learning rate `lr`. `params`, `grads` and `momentum` are arenas of the
    /// layout, of which only the matrices are touched; `grad_factor` scales the gradients first.
    /// `count` is the number of the step, which decides how a momentum in bf16 is rounded.
    #[allow(clippy::too_many_arguments)]
    pub fn update(
        &self,
        pool: &Pool,
        params: &mut [f32],
        grads: &[f32],
        momentum: &mut Moments,
        count: u64,
        lr: f32,
        grad_factor: f32,
    ) {
        let (params, momentum) = (SharedMut::new(params), momentum.share());
        let key = key(count);
        let level = self.precision.level();
        // A matrix is one thread's: products of single matrices are too small to share out.
        pool.run(self.matrices.len(), |index| {
            let matrix = self.matrices[index];
            // SAFETY: matrices do not overlap, and the slices end with the job.
            let (params, momentum) =
                unsafe { (params.range(matrix.range()), momentum.range(matrix.range())) };
            let mut scratch = SCRATCH.take();
            let n = params.len();
            let small = matrix.rows.min(matrix.cols);
            let (step, rest) = sized(&mut scratch, 2 * n + 2 * small * small).split_at_mut(n);
            let grads = &grads[matrix.range()];
            let keep = self.options.momentum;
            match momentum {
                Part::F32(momentum) => mix_f32(momentum, step, grads, keep, grad_factor),
                Part::Bf16(momentum) => {
                    mix_bf16(momentum, step, grads, keep, grad_factor, matrix.offset as u32, key);
                }
            }
            orthogonalize(level, pool, step, matrix.rows, matrix.cols, rest);
            let size = STEP_SIZE * (matrix.rows.max(matrix.cols) as f32).sqrt();
            let keep = 1.0 - f64::from(lr) * f64::from(self.options.weight_decay);
            apply(params, step, keep as f32, lr * size);
            SCRATCH.set(scratch);
        });
    }
}

vectorized! {
    fn mix_f32(momentum: &mut [f32], step: &mut [f32], grads: &[f32], keep: f32, factor: f32) {
        mix(momentum, step, grads, keep, factor, 0, 0);
    }
}

vectorized! {
    fn mix_bf16(
        momentum: &mut [bf16],
        step: &mut [f32],
        grads: &[f32],
        keep: f32,
        factor: f32,
        first: u32,
        key: u32,
    ) {
        mix(momentum, step, grads, keep, factor, first, key);
    }
}

/// Nesterov's momentum: the step looks one gradient ahead.
#[inline(always)]
fn mix<M: Stored>(
    momentum: &mut [M],
    step: &mut [f32],
    grads: &[f32],
    keep: f32,
    factor: f32,
    first: u32,
    key: u32,
) {
    for (i, ((momentum, step), &grad)) in momentum.iter_mut().zip(step.iter_mut()).zip(grads).enumerate() {
        let grad = grad * factor;
        let mean = keep * momentum.get() + grad;
        *step = keep * mean + grad;
        *momentum = M::put(mean, random(first.wrapping_add(i as u32), key)[0]);
    }
}

vectorized! {
    fn apply(params: &mut [f32], step: &[f32], keep: f32, size: f32) {
        for (param, &step) in params.iter_mut().zip(step) {
            *param = keep * *param - size * step;
        }
    }
}

vectorized! {
    fn scale(x: &mut [f32], by: f32) {
        x.iter_mut().for_each(|x| *x *= by);
    }
}

vectorized! {
    fn sum_of_squares(x: &[f32]) -> f32 {
        sum_map(x, |x| x * x)
    }
}

vectorized! {
    /// `b = b1 · a + b2 · b`.
    fn blend(b: &mut [f32], a: &[f32], of_a: f32, of_b: f32) {
        b.iter_mut().zip(a).for_each(|(b, &a)| *b = of_a * a + of_b * *b);
    }
}

/// Replaces `x` `[rows, cols]` by about the nearest matrix whose singular values are all 1 (those
/// that come out are between 0.7 and 1.2; a zero matrix stays zero). `scratch` holds
/// `rows · cols + 2 · min(rows, cols)²`.
fn orthogonalize(level: Level, pool: &Pool, x: &mut [f32], rows: usize, cols: usize, scratch: &mut [f32]) {
    let n = rows * cols;
    let norm = sum_of_squares(x).sqrt();
    scale(x, 1.0 / (norm + 1e-7));
    let small = rows.min(cols);
    let (next, rest) = scratch.split_at_mut(n);
    let (a, rest) = rest.split_at_mut(small * small);
    let b = &mut rest[..small * small];
    let [by_1, by_3, by_5] = COEFFICIENTS;
    let (mut from, mut to) = (x, next);
    for _ in 0..STEPS {
        // On the shorter side, of which the products are smaller: A = X Xᵀ, or Xᵀ X.
        let x = MatRef::new(from, rows, cols);
        let (left, right) = if rows <= cols { (x, x.t()) } else { (x.t(), x) };
        matmul_at(level, pool, MatMut::new(a, small, small), left, right, Add::Nothing);
        let square = MatRef::new(a, small, small);
        matmul_at(level, pool, MatMut::new(b, small, small), square, square, Add::Nothing);
        blend(b, a, by_3, by_5);
        b.iter_mut().step_by(small + 1).for_each(|diagonal| *diagonal += by_1);
        let (b, out) = (MatRef::new(b, small, small), MatMut::new(to, rows, cols));
        if rows <= cols {
            matmul_at(level, pool, out, b, x, Add::Nothing);
        } else {
            matmul_at(level, pool, out, x, b, Add::Nothing);
        }
        std::mem::swap(&mut from, &mut to);
    }
    // An odd number of steps: the result is in the scratch, and `to` is the caller's matrix.
    const { assert!(STEPS % 2 == 1) };
    to.copy_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::MomentType;
    use crate::rng::Rng;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed);
        (0..n).map(|_| rng.below(2001) as f32 / 1000.0 - 1.0).collect()
    }

    #[test]
    fn singular_values_become_one() {
        let precisions = [Precision::F32, Precision::best()];
        let sizes = [(8, 8), (16, 40), (40, 16), (1, 9)];
        for (precision, (rows, cols)) in precisions.into_iter().flat_map(|p| sizes.map(|size| (p, size))) {
            let mut x = random(rows * cols, 5);
            let before = x.clone();
            let small = rows.min(cols);
            let mut scratch = vec![0.0; rows * cols + 2 * small * small];
            orthogonalize(precision.level(), &Pool::new(1), &mut x, rows, cols, &mut scratch);
            // All of X Xᵀ's eigenvalues near 1: its trace is about its size, and so is its square's.
            let gram = |i: usize, j: usize| -> f64 {
                let at = |k: usize, i: usize| {
                    f64::from(if rows <= cols { x[i * cols + k] } else { x[k * cols + i] })
                };
                (0..rows.max(cols)).map(|k| at(k, i) * at(k, j)).sum()
            };
            for i in 0..small {
                assert!((0.45..1.5).contains(&gram(i, i)), "{rows}×{cols}: {}", gram(i, i));
                for j in 0..i {
                    assert!(gram(i, j).abs() < 0.4, "{rows}×{cols}: {}", gram(i, j));
                }
            }
            // And it points where it did.
            let dot: f32 = x.iter().zip(&before).map(|(a, b)| a * b).sum();
            assert!(dot > 0.0);
        }
        let mut zeros = vec![0.0; 12];
        orthogonalize(Level::detect(), &Pool::new(1), &mut zeros, 3, 4, &mut [0.0; 30]);
        assert_eq!(zeros, [0.0; 12]);
    }

    #[test]
    fn steps_move_matrices_alone_and_do_not_depend_on_threads() {
        let shapes = [
            ("model.embed_tokens.weight", vec![20, 8]),
            ("model.layers.0.self_attn.q_proj.weight", vec![8, 8]),
            ("model.layers.0.input_layernorm.weight", vec![8]),
            ("transformer.h.0.attn.c_attn.weight", vec![24, 8]),
        ];
        let layout: ParamLayout =
            shapes.iter().map(|(name, shape)| (name.to_string(), shape.clone())).collect();
        let muon = Muon::new(&layout, MuonOptions { weight_decay: 0.5, ..MuonOptions::default() });
        assert_eq!(muon.matrices.len(), 4, "c_attn is three");
        let grads = random(layout.len(), 1);
        let run = |threads, kind| {
            let (mut params, mut momentum) = (random(layout.len(), 2), Moments::zeros(kind, layout.len()));
            for step in 0..3 {
                muon.update(&Pool::new(threads), &mut params, &grads, &mut momentum, step, 0.1, 0.5);
            }
            (params, momentum)
        };
        assert!(run(3, MomentType::Bf16) == run(1, MomentType::Bf16));
        let (params, momentum) = run(1, MomentType::F32);
        assert!(run(3, MomentType::F32) == (params.clone(), momentum));
        for param in layout.params() {
            let moved = params[param.range()] != random(layout.len(), 2)[param.range()];
            assert_eq!(moved, Muon::takes(param), "{}", param.name);
        }
        // Each step takes 5 % away and adds 0.2 · √8 · 0.1 in every direction, against the gradient.
        let first = Muon { matrices: vec![muon.matrices[0]], ..muon.clone() };
        let range = first.matrices[0].range();
        let (mut once, mut momentum) =
            (random(layout.len(), 2), Moments::zeros(MomentType::F32, layout.len()));
        first.update(&Pool::new(1), &mut once, &grads, &mut momentum, 0, 0.1, 1.0);
        let start = random(layout.len(), 2);
        let step: Vec<f32> = range.clone().map(|i| once[i] - 0.95 * start[i]).collect();
        let rms = (step.iter().map(|x| x * x).sum::<f32>() / step.len() as f32).sqrt();
        assert!((0.012..0.025).contains(&rms), "{rms}");
        let against: f32 = step.iter().zip(&grads[range]).map(|(step, grad)| step * grad).sum();
        assert!(against < 0.0);
    }
}
