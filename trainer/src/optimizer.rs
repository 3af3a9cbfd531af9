//! AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) with clipping
//! of the gradients' norm, in one pass over parameters, gradients and state.

use std::ops::Range;

use half::bf16;

use crate::layers::math::{sum_map, vectorized};
use crate::model::{Param, ParamLayout};
use crate::moments::{MomentType, Moments, Part, Stored, key, random};
use crate::parallel::{Pool, RowsMut, SharedMut};

/// Elements of one job, and of one partial sum of the norm. Part of the definition of the
/// result: it decides the order of that sum.
const CHUNK: usize = 1 << 14;

/// What AdamW is told once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// How much of the mean of gradients stays from one step to the next.
    pub beta_1: f32,
    /// How much of the mean of squared gradients stays.
    pub beta_2: f32,
    /// Added to the root of that mean.
    pub eps: f32,
    /// The part of a matrix that is taken away in each step, times the learning rate. Biases
    /// and norms do not decay.
    pub weight_decay: f32,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.95, eps: 1e-8, weight_decay: 0.1 }
    }
}

/// The optimizer and its state. To resume, set `m`, `v` and `step` to what they were.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// What it was told.
    pub options: AdamWOptions,
    /// The running mean of gradients, in the order of the parameters.
    pub m: Moments,
    /// The running mean of squared gradients.
    pub v: Moments,
    /// Steps done.
    pub step: u64,
    /// Parts of the parameters that are one job, and whether they decay.
    jobs: Vec<(Range<usize>, bool)>,
}

impl AdamW {
    /// An optimizer for parameters of that layout, before its first step.
    pub fn new(layout: &ParamLayout, options: AdamWOptions) -> Self {
        Self::for_params(layout, options, |_| true)
    }

    /// An optimizer for those parameters alone that `takes` says; the others it never touches,
    /// but the norm that gradients are clipped to is that of all.
    pub fn for_params(layout: &ParamLayout, options: AdamWOptions, takes: impl Fn(&Param) -> bool) -> Self {
        // Neighbours that decay alike are one stretch, so that small tensors cost no jobs.
        let mut stretches: Vec<(Range<usize>, bool)> = Vec::new();
        for param in layout.params().iter().filter(|param| takes(param)) {
            match stretches.last_mut() {
                Some((range, decay)) if *decay == param.decay && range.end == param.offset => {
                    range.end = param.range().end
                }
                _ => stretches.push((param.range(), param.decay)),
            }
        }
        let jobs = stretches.into_iter().flat_map(|(range, decay)| {
            let end = range.end;
            range.step_by(CHUNK).map(move |start| (start..(start + CHUNK).min(end), decay))
        });
        let zeros = Moments::zeros(MomentType::F32, layout.len());
        Self { options, m: zeros.clone(), v: zeros, step: 0, jobs: jobs.collect() }
    }

    /// The same, before its first step, with moments of that type.
    pub fn with_moments(self, kind: MomentType) -> Self {
        let zeros = Moments::zeros(kind, self.m.len());
        Self { m: zeros.clone(), v: zeros, ..self }
    }

    /// One step: `params` move against `grads` at the learning rate `lr`, with the gradients
    /// scaled down to a norm of `max_norm` where theirs is larger. Returns the norm before.
    ///
    /// A norm that is not finite changes nothing, neither parameters nor state: the caller
    /// sees it in what is returned.
    ///
    /// # Panics
    /// When parameters, gradients and state differ in length, or the moments in type.
    pub fn update(
        &mut self,
        pool: &Pool,
        params: &mut [f32],
        grads: &[f32],
        lr: f32,
        max_norm: Option<f32>,
    ) -> f32 {
        let lengths = [params.len(), grads.len(), self.v.len()];
        assert_eq!(lengths, [self.m.len(); 3], "parameters, gradients, state");
        assert_eq!(self.m.kind(), self.v.kind(), "both moments are of one type");
        let norm = grad_norm(pool, grads);
        if !norm.is_finite() {
            return norm;
        }
        self.step += 1;
        let AdamWOptions { beta_1, beta_2, eps, weight_decay } = self.options;
        let steps = self.step.min(i32::MAX as u64) as i32;
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(steps);
        let rates = Rates {
            beta_1,
            beta_2,
            eps,
            grad_factor: max_norm.map_or(1.0, |max| clip_factor(norm, max)),
            step_size: (f64::from(lr) / correction(beta_1)) as f32,
            root_factor: (1.0 / correction(beta_2).sqrt()) as f32,
        };
        let keep = (1.0 - f64::from(lr) * f64::from(weight_decay)) as f32;
        let (params, m, v) = (SharedMut::new(params), self.m.share(), self.v.share());
        let key = key(self.step);
        pool.run(self.jobs.len(), |job| {
            let (range, decay) = &self.jobs[job];
            // SAFETY: parameters do not overlap, so neither do the jobs' ranges, in any of the
            // three; the slices end with the job.
            let (params, m, v) =
                unsafe { (params.range(range.clone()), m.range(range.clone()), v.range(range.clone())) };
            let (grads, keep) = (&grads[range.clone()], if *decay { keep } else { 1.0 });
            match (m, v) {
                (Part::F32(m), Part::F32(v)) => update_f32(params, m, v, grads, &rates, keep),
                (Part::Bf16(m), Part::Bf16(v)) => {
                    update_bf16(params, m, v, grads, &rates, keep, range.start as u32, key);
                }
                _ => unreachable!("both moments are of one type"),
            }
        });
        norm
    }
}

/// The factor that brings gradients of a norm down to at most `max_norm`.
pub fn clip_factor(norm: f32, max_norm: f32) -> f32 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The Euclidean norm of all gradients.
pub fn grad_norm(pool: &Pool, grads: &[f32]) -> f32 {
    let n_chunks = grads.len().div_ceil(CHUNK);
    let mut sums = vec![0.0f64; n_chunks];
    pool.for_rows(n_chunks, 1, RowsMut::new(&mut sums, 1), |range, sum| {
        let end = (range.end * CHUNK).min(grads.len());
        sum[0] = f64::from(sum_of_squares(&grads[range.start * CHUNK..end]));
    });
    sums.iter().sum::<f64>().sqrt() as f32
}

/// The numbers of one step.
struct Rates {
    beta_1: f32,
    beta_2: f32,
    eps: f32,
    grad_factor: f32,
    /// Learning rate over the correction of the first mean.
    step_size: f32,
    /// One over the root of the correction of the second.
    root_factor: f32,
}

vectorized! {
    fn sum_of_squares(x: &[f32]) -> f32 {
        sum_map(x, |x| x * x)
    }
}

vectorized! {
    fn update_f32(params: &mut [f32], m: &mut [f32], v: &mut [f32], grads: &[f32], rates: &Rates, keep: f32) {
        update_each(params, m, v, grads, rates, keep, 0, 0);
    }
}

vectorized! {
    fn update_bf16(
        params: &mut [f32],
        m: &mut [bf16],
        v: &mut [bf16],
        grads: &[f32],
        rates: &Rates,
        keep: f32,
        first: u32,
        key: u32,
    ) {
        update_each(params, m, v, grads, rates, keep, first, key);
    }
}

/// Parameters from `first` on. A step is made with the moments as they are before they are rounded.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn update_each<M: Stored>(
    params: &mut [f32],
    m: &mut [M],
    v: &mut [M],
    grads: &[f32],
    rates: &Rates,
    keep: f32,
    first: u32,
    key: u32,
) {
    let &Rates { beta_1, beta_2, eps, grad_factor, step_size, root_factor } = rates;
    let each = params.iter_mut().zip(m.iter_mut().zip(v.iter_mut())).zip(grads);
    for (i, ((param, (m, v)), &grad)) in each.enumerate() {
        let grad = grad * grad_factor;
        let mean = beta_1 * m.get() + (1.0 - beta_1) * grad;
        let square = beta_2 * v.get() + (1.0 - beta_2) * grad * grad;
        *param = keep * *param - step_size * mean / (square.sqrt() * root_factor + eps);
        let [for_m, for_v] = random(first.wrapping_add(i as u32), key);
        (*m, *v) = (M::put(mean, for_m), M::put(square, for_v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Model, ModelOptions, Workspace, forward_backward};
    use crate::schedule::Schedule;
    use smidgen_runtime::config::{Architecture, Config};

    fn tiny(architecture: Architecture) -> Model {
        let config = Config {
            architecture,
            n_layers: 2,
            dim: 32,
            n_heads: 4,
            n_kv_heads: 4,
            head_dim: 8,
            ffn_dim: 64,
            vocab_size: 40,
            context_len: 16,
            norm_eps: 1e-5,
        };
        let mut model = Model::new(config, ModelOptions::default()).unwrap();
        model.init(1);
        model
    }

    #[test]
    fn a_batch_can_be_learnt_by_heart() {
        let kinds = [MomentType::F32, MomentType::Bf16];
        let both = [Architecture::Gpt2, Architecture::Llama];
        for (architecture, kind) in both.into_iter().flat_map(|one| kinds.map(|kind| (one, kind))) {
            let mut model = tiny(architecture);
            let pool = Pool::new(2);
            let mut ws = Workspace::new(&model, 3, 16).unwrap();
            let mut optimizer = AdamW::new(&model.layout, AdamWOptions::default()).with_moments(kind);
            let mut rng = crate::rng::Rng::new(2);
            let tokens: Vec<u32> = (0..49).map(|_| rng.below(40) as u32).collect();
            let schedule = Schedule::cosine(1e-2, 1e-3, 10, 150);
            let mut loss = f32::NAN;
            for step in 0..150 {
                ws.zero_grads();
                loss = forward_backward(&model, &mut ws, &pool, &tokens[..48], &tokens[1..], 1.0);
                let (params, lr) = (&mut model.params, schedule.learning_rate(step));
                optimizer.update(&pool, params, ws.grads(), lr, Some(1.0));
            }
            assert!(loss < 0.05, "{architecture:?}, {kind:?}: {loss}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads_and_a_stop_between() {
        let run = |threads: usize, stop: bool, kind| {
            let mut model = tiny(Architecture::Gpt2);
            let pool = Pool::new(threads);
            let mut optimizer = AdamW::new(&model.layout, AdamWOptions::default()).with_moments(kind);
            for step in 0..4 {
                if stop && step == 2 {
                    let mut again = AdamW::new(&model.layout, optimizer.options);
                    (again.m, again.v, again.step) = (optimizer.m, optimizer.v, optimizer.step);
                    optimizer = again;
                }
                let grads: Vec<f32> =
                    (0..model.params.len()).map(|i| ((i * 7 + step) as f32).sin()).collect();
                optimizer.update(&pool, &mut model.params, &grads, 1e-3, Some(1.0));
            }
            model.params.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        for kind in [MomentType::F32, MomentType::Bf16] {
            let want = run(1, false, kind);
            for threads in [1, 2, 3, 7] {
                assert!(run(threads, true, kind) == want, "{threads} threads, {kind:?}");
            }
        }
    }

    #[test]
    fn the_norm_is_that_of_all_elements() {
        for n in [0, 1, 17, CHUNK, 3 * CHUNK + 5] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32).cos()).collect();
            let want = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let got = f64::from(grad_norm(&Pool::new(2), &x));
            assert!((got - want).abs() <= 1e-6 * want, "{got}, not {want}");
        }
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn gradients_that_are_no_numbers_do_no_harm() {
        let mut model = tiny(Architecture::Gpt2);
        let mut optimizer = AdamW::new(&model.layout, AdamWOptions::default());
        let before = model.params.clone();
        let mut grads = vec![1.0; before.len()];
        grads[5] = f32::NAN;
        let pool = Pool::new(1);
        assert!(optimizer.update(&pool, &mut model.params, &grads, 0.1, Some(1.0)).is_nan());
        assert_eq!((optimizer.step, model.params), (0, before));
    }
}
