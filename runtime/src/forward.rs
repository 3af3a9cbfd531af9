//! The forward pass, in reading order. Shapes: `n` tokens of a block side by side.

mod heads;
mod part;
mod source;

use crate::config::Architecture;
use crate::format::{BLOCK, GROUP, Role};
use crate::kernels::attention::Scratch;
use crate::kernels::{self, Activations, Level, Prepared, matmul};
use crate::memory::{Layout, State};
use crate::model::Model;
use crate::rotation;
use crate::tensor::Matrix;
use crate::workers::{Disjoint, Serial, Workers, share};

use heads::{Cache, Heads};
use part::{Part, Places, part, part_mut, split_mut, tokens_of};
pub(crate) use source::{InMemory, Product, Source};

/// Multiplications that are worth a job of their own.
const LEAST_WORK: usize = 80_000;
/// Tokens that are worth a job of their own: below that, bringing weights to the multiplier takes
/// longer than multiplying.
const LEAST_TOKENS: usize = if cfg!(miri) { 3 } else { 24 };

/// What every part of the forward pass looks at.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) model: &'a Model<'a>,
    pub(crate) layout: &'a Layout,
    pub(crate) workers: &'a dyn Workers,
    pub(crate) level: Level,
    /// Position of the block's first token.
    pub(crate) position: usize,
    /// Tokens in the block.
    pub(crate) n: usize,
}

impl Pass<'_> {
    /// Takes in `n` of `state.tokens` from `position` on (all below `vocab_size`): afterwards
    /// `state.residual` is `[n, dim]` and the cache holds their keys and values.
    ///
    /// A large block is cut by tokens: each worker takes its own from layer to layer, and only
    /// attention, which looks at all tokens' keys, needs the others' to be as far. A small one is cut
    /// within each product.
    pub(crate) fn forward(&self, state: &mut State<'_>) {
        let config = self.model.config();
        let n_layers = config.n_layers as usize;
        let (cache, mut all) = self.parts(state);
        let jobs = self.workers.count().min(self.n / LEAST_TOKENS).min(self.scratches());
        if jobs <= 1 || !cfg!(feature = "workers") {
            let Ok(()) = self.uncut(&mut all, &cache, &mut InMemory(self.model));
            return;
        }
        let (dim, head_dim) = (config.dim as usize, config.head_dim as usize);
        let block = self.layout.residual / dim.max(1);
        let places = Places::new(all);
        for layer in 0..=n_layers {
            self.run(jobs, |job| {
                let tokens = tokens_of(self.position, self.n, job, jobs);
                let pass = Pass {
                    workers: &Serial,
                    position: self.position + tokens.start,
                    n: tokens.len(),
                    ..*self
                };
                // SAFETY: jobs have different tokens, and each its own scratch.
                let mut own = unsafe { places.part(tokens, block, self.layout, head_dim, (job, jobs)) };
                let source = &mut InMemory(self.model);
                if let Some(before) = layer.checked_sub(1) {
                    // SAFETY: the run before this one has stored all tokens' keys and values.
                    unsafe { pass.attend(before, &mut own, &cache) };
                    let Ok(()) = pass.output(before, &mut own, source);
                    let Ok(()) = pass.feed_forward(before, &mut own, source);
                } else {
                    let Ok(()) = pass.embed(&mut own, source);
                    pass.rotary(&mut own);
                }
                if layer < n_layers {
                    let Ok(()) = pass.project(layer, &mut own, source);
                    // SAFETY: jobs share no quad of positions, and none looks at this layer yet.
                    unsafe { pass.store(layer, &mut own, &cache) };
                }
            });
        }
    }

    /// [`Pass::forward`] uncut, with matrices from wherever they are. After an error the state is good for
    /// taking the same tokens in again.
    pub(crate) fn forward_from<S: Source>(
        &self,
        source: &mut S,
        state: &mut State<'_>,
    ) -> Result<(), S::Error> {
        let (cache, mut all) = self.parts(state);
        self.uncut(&mut all, &cache, source)
    }

    /// The whole block from layer to layer.
    #[inline]
    fn uncut<S: Source>(
        &self,
        all: &mut Part<'_>,
        cache: &Cache<'_>,
        source: &mut S,
    ) -> Result<(), S::Error> {
        self.embed(all, source)?;
        self.rotary(all);
        for layer in 0..self.model.config().n_layers as usize {
            self.project(layer, all, source)?;
            self.heads(layer, all, cache);
            self.output(layer, all, source)?;
            self.feed_forward(layer, all, source)?;
        }
        Ok(())
    }

    /// The cache, and the places of the block's activations.
    #[inline(always)]
    fn parts<'s>(&self, state: &'s mut State<'_>) -> (Cache<'s>, Part<'s>) {
        let cache = Cache {
            keys_q8: Disjoint::new(state.keys_q8),
            values_q8: Disjoint::new(state.values_q8),
            key_scales: Disjoint::new(state.key_scales),
            value_scales: Disjoint::new(state.value_scales),
            keys_f32: Disjoint::new(state.keys_f32),
            values_f32: Disjoint::new(state.values_f32),
        };
        let all = Part {
            tokens: state.tokens.get(self.position..).unwrap_or(&[]),
            residual: state.residual,
            normed: state.normed,
            hidden: state.hidden,
            quants: state.quants,
            scales: state.scales,
            sums: state.sums,
            rotary: state.rotary,
            query: state.query,
            scores: state.logits,
        };
        (cache, all)
    }

    /// The logits behind one of the block's tokens, `[vocab_size]`.
    pub(crate) fn logits<S: Source>(
        &self,
        index: usize,
        source: &mut S,
        state: &mut State<'_>,
    ) -> Result<(), S::Error> {
        self.before_head(index, source, state, |source, head, input, logits| {
            let logits = part_mut(logits, self.model.config().vocab_size as usize);
            source.product(self, [(Some(head), None, logits)], &input)
        })
    }

    /// The same by some neighbouring tokens at a time, with a place for as many logits as there is.
    pub(crate) fn logits_by_slabs<S: Source>(
        &self,
        index: usize,
        source: &mut S,
        state: &mut State<'_>,
        each: &mut dyn FnMut(u32, &mut [f32]),
    ) -> Result<(), S::Error> {
        self.before_head(index, source, state, |source, head, input, logits| {
            source.by_slabs(self, &head, &input, logits, each)
        })
    }

    /// Everything between the last layer and the head: calls `product` with the head, what it is to be
    /// multiplied with, and the place for logits.
    #[inline(always)]
    fn before_head<S: Source>(
        &self,
        index: usize,
        source: &mut S,
        state: &mut State<'_>,
        product: impl FnOnce(&mut S, S::Tensor, Activations<'_>, &mut [f32]) -> Result<(), S::Error>,
    ) -> Result<(), S::Error> {
        let dim = self.model.config().dim as usize;
        let State { residual, normed, quants, scales, sums, logits, .. } = state;
        let residual = part(residual, index * dim, dim);
        let normed = part_mut(normed, dim);
        self.norm(0, Role::FinalNorm, Role::FinalNormBias, residual, normed);
        let head = source.tensor(0, Role::Head).or(source.tensor(0, Role::Embedding));
        let Some(head) = head else { return Ok(()) };
        let wanted = S::any_quantized(&[Some(head)]);
        let input = self.input(1, normed, dim, wanted, (quants, scales, sums), &|_, _| {});
        product(source, head, input, logits)
    }

    /// Token embeddings, plus learned positions where there are any.
    fn embed<S: Source>(&self, own: &mut Part<'_>, source: &mut S) -> Result<(), S::Error> {
        let dim = self.model.config().dim as usize;
        let embedding = source.tensor(0, Role::Embedding);
        let positions = match self.model.config().architecture.of_loaded() {
            Architecture::Gpt2 => source.tensor(0, Role::PositionEmbedding),
            Architecture::Llama => None,
        };
        let rows = own.residual.chunks_exact_mut(dim.max(1)).zip(own.normed.chunks_exact_mut(dim.max(1)));
        for (i, ((x, scratch), &token)) in rows.zip(own.tokens).take(self.n).enumerate() {
            if let Some(embedding) = &embedding {
                source.row(embedding, token as usize, x)?;
            }
            if let Some(positions) = &positions {
                source.row(positions, self.position + i, scratch)?;
                kernels::add(self.level, scratch, x);
            }
        }
        Ok(())
    }

    /// Cosines, then sines, of the block's positions: the same for all heads and layers.
    fn rotary(&self, own: &mut Part<'_>) {
        let Some(frequencies) = self.model.vector(0, Role::RopeFrequencies) else { return };
        let rows = own.rotary.chunks_exact_mut((2 * frequencies.len()).max(1));
        for (i, row) in rows.take(self.n).enumerate() {
            let position = (self.position + i) as f32;
            let (cos, sin) = split_mut(row, frequencies.len());
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies) {
                let angle = position * frequency;
                (*cos, *sin) = rotation::cos_sin(angle);
            }
        }
    }

    /// Q, K and V of norm(residual), side by side in `hidden`.
    fn project<S: Source>(&self, layer: usize, own: &mut Part<'_>, source: &mut S) -> Result<(), S::Error> {
        let config = self.model.config();
        let (dim, q_dim, kv_dim) = (config.dim as usize, config.q_dim(), config.kv_dim());
        let n = self.n;
        let Part { residual, normed, hidden, quants, scales, sums, .. } = own;
        let (q, rest) = split_mut(hidden, n * q_dim);
        let (k, rest) = split_mut(rest, n * kv_dim);
        let (v, _) = split_mut(rest, n * kv_dim);
        // Written out: by a closure, each would be copied where code has to be small.
        let matrices =
            [source.tensor(layer, Role::Q), source.tensor(layer, Role::K), source.tensor(layer, Role::V)];
        let bias = |role| self.model.vector(layer, role);
        let biases = [bias(Role::QBias), bias(Role::KBias), bias(Role::VBias)];
        let norm = |i: usize, row: &mut [f32]| {
            self.norm(layer, Role::AttnNorm, Role::AttnNormBias, part(residual, i * dim, dim), row);
        };
        let wanted = S::any_quantized(&matrices);
        let input = self.input(n, normed, dim, wanted, (quants, scales, sums), &norm);
        let [mq, mk, mv] = matrices;
        let [bq, bk, bv] = biases;
        source.product(self, [(mq, bq, q), (mk, bk, k), (mv, bv, v)], &input)
    }

    /// What [`Pass::project`] made, by heads.
    fn by_head<'p>(
        &self,
        layer: usize,
        hidden: &'p mut [f32],
        rotary: &'p [f32],
        cache: &'p Cache<'p>,
    ) -> Heads<'p>
    where
        Self: 'p,
    {
        let config = self.model.config();
        let (q_dim, kv_dim) = (config.q_dim(), config.kv_dim());
        let (q, rest) = split_mut(hidden, self.n * q_dim);
        let (k, rest) = split_mut(rest, self.n * kv_dim);
        let (v, rest) = split_mut(rest, self.n * kv_dim);
        let (attended, _) = split_mut(rest, self.n * q_dim);
        Heads {
            pass: *self,
            config,
            layer,
            norms: [Role::QNorm, Role::KNorm].map(|role| self.model.vector(layer, role)),
            rotary,
            cache,
            q: Disjoint::new(q),
            k: Disjoint::new(k),
            v,
            attended: Disjoint::new(attended),
        }
    }

    /// The tokens' queries and keys get ready; keys and values go into the cache.
    ///
    /// # Safety
    /// As for [`Heads::store`], of all heads.
    unsafe fn store(&self, layer: usize, own: &mut Part<'_>, cache: &Cache<'_>) {
        let heads = self.by_head(layer, own.hidden, own.rotary, cache);
        // SAFETY: `own` is this job's alone.
        unsafe { heads.prepare() };
        for kv_head in 0..self.model.config().n_kv_heads as usize {
            // SAFETY: the caller's promise.
            unsafe { heads.store(kv_head) };
        }
    }

    /// The tokens' queries attend.
    ///
    /// # Safety
    /// As for [`Heads::attend`], of all heads.
    unsafe fn attend(&self, layer: usize, own: &mut Part<'_>, cache: &Cache<'_>) {
        let mut scratch = Scratch { scores: &mut *own.scores, query: &mut *own.query };
        let heads = self.by_head(layer, own.hidden, own.rotary, cache);
        for kv_head in 0..self.model.config().n_kv_heads as usize {
            // SAFETY: the caller's promise.
            unsafe { heads.attend(kv_head, &mut scratch) };
        }
    }

    /// Both, of the whole block, heads split over the workers.
    fn heads(&self, layer: usize, own: &mut Part<'_>, cache: &Cache<'_>) {
        let config = self.model.config();
        let n_kv_heads = config.n_kv_heads as usize;
        let padded = (config.head_dim as usize).next_multiple_of(4);
        let scratch = (Disjoint::new(&mut *own.scores), Disjoint::new(&mut *own.query));
        let heads = self.by_head(layer, own.hidden, own.rotary, cache);
        // SAFETY: no job has begun.
        unsafe { heads.prepare() };
        // Both products of every query with every position.
        let work = 2 * self.n * (self.position + self.n) * config.q_dim();
        let jobs = self.jobs(work).min(n_kv_heads).min(self.scratches()).max(1);
        self.run(jobs, |job| {
            // SAFETY: each job takes its own places of the scratch.
            let mut scratch = unsafe {
                Scratch {
                    scores: scratch.0.part(share(self.layout.logits, 1, job, jobs)),
                    query: scratch.1.part(job * padded..(job + 1) * padded),
                }
            };
            for kv_head in share(n_kv_heads, 1, job, jobs) {
                // SAFETY: this head is this job's alone, and here are all tokens of the block.
                unsafe {
                    heads.store(kv_head);
                    heads.attend(kv_head, &mut scratch);
                }
            }
        });
    }

    /// For how many jobs there is scratch for attention.
    fn scratches(&self) -> usize {
        let padded = (self.model.config().head_dim as usize).next_multiple_of(4);
        (self.layout.logits / self.layout.positions.max(1)).min(self.layout.query / padded.max(1))
    }

    /// `residual += O(attention's output)`.
    fn output<S: Source>(&self, layer: usize, own: &mut Part<'_>, source: &mut S) -> Result<(), S::Error> {
        let config = self.model.config();
        let (n, dim, q_dim) = (self.n, config.dim as usize, config.q_dim());
        let Part { residual, normed, hidden, quants, scales, sums, .. } = own;
        let (_, attended) = split_mut(hidden, n * (q_dim + 2 * config.kv_dim()));
        let output = source.tensor(layer, Role::O);
        let bias = self.model.vector(layer, Role::OBias);
        let wanted = S::any_quantized(&[output]);
        let input = self.input(n, attended, q_dim, wanted, (quants, scales, sums), &|_, _| {});
        source.product(self, [(output, bias, part_mut(normed, n * dim))], &input)?;
        self.add_block(normed, residual);
        Ok(())
    }

    /// `residual += Down(activation(Gate, Up of norm(residual)))`.
    fn feed_forward<S: Source>(
        &self,
        layer: usize,
        own: &mut Part<'_>,
        source: &mut S,
    ) -> Result<(), S::Error> {
        let config = self.model.config();
        let (n, dim, ffn_dim) = (self.n, config.dim as usize, config.ffn_dim as usize);
        let Part { residual, normed, hidden, quants, scales, sums, scores, .. } = own;
        // Where memory is short, the layout has the hidden layer lie in attention's scratch.
        let places = if hidden.len() < 2 * n * ffn_dim { &mut **scores } else { &mut **hidden };
        let (up, rest) = split_mut(places, n * ffn_dim);
        let (gate, _) = split_mut(rest, n * ffn_dim);
        let matrices = [source.tensor(layer, Role::Up), source.tensor(layer, Role::Gate)];
        let biases = [self.model.vector(layer, Role::UpBias), self.model.vector(layer, Role::GateBias)];
        let norm = |i: usize, row: &mut [f32]| {
            self.norm(layer, Role::FfnNorm, Role::FfnNormBias, part(residual, i * dim, dim), row);
        };
        let wanted = S::any_quantized(&matrices);
        let input = self.input(n, normed, dim, wanted, (&mut *quants, &mut *scales, &mut *sums), &norm);
        let [up_matrix, gate_matrix] = matrices;
        let [up_bias, gate_bias] = biases;
        let down = source.tensor(layer, Role::Down);
        let bias = self.model.vector(layer, Role::DownBias);
        let wanted = S::any_quantized(&[down]);
        let input = match config.architecture.of_loaded() {
            Architecture::Gpt2 => {
                source.product(self, [(up_matrix, up_bias, &mut *up)], &input)?;
                let gelu = |_: usize, row: &mut [f32]| kernels::gelu_all(self.level, row);
                self.input(n, up, ffn_dim, wanted, (quants, scales, sums), &gelu)
            }
            Architecture::Llama => {
                let products = [(up_matrix, up_bias, &mut *up), (gate_matrix, gate_bias, &mut *gate)];
                source.product(self, products, &input)?;
                let gated = |i: usize, row: &mut [f32]| {
                    kernels::silu_mul(self.level, row, part(up, i * ffn_dim, ffn_dim));
                };
                self.input(n, gate, ffn_dim, wanted, (quants, scales, sums), &gated)
            }
        };
        source.product(self, [(down, bias, part_mut(normed, n * dim))], &input)?;
        self.add_block(normed, residual);
        Ok(())
    }

    /// One vector through the architecture's norm.
    fn norm(&self, layer: usize, weight: Role, bias: Role, x: &[f32], out: &mut [f32]) {
        let config = self.model.config();
        let weight = self.model.vector(layer, weight).unwrap_or(&[]);
        match config.architecture.of_loaded() {
            Architecture::Llama => kernels::rms_norm(self.level, x, weight, config.norm_eps, out),
            Architecture::Gpt2 => {
                let bias = self.model.vector(layer, bias);
                kernels::layer_norm(self.level, x, weight, bias, config.norm_eps, out);
            }
        }
    }

    /// `residual += new`, rows of the block split over the workers.
    fn add_block(&self, new: &[f32], residual: &mut [f32]) {
        let len = self.n * self.model.config().dim as usize;
        let Some(residual) = residual.get_mut(..len) else { return };
        let jobs = self.jobs(4 * len);
        if jobs == 1 {
            return kernels::add(self.level, new, residual);
        }
        let residual = Disjoint::new(residual);
        self.run(jobs, |job| {
            let mine = share(len, BLOCK, job, jobs);
            // SAFETY: jobs have different shares, and nothing else touches them before `run` returns.
            let residual = unsafe { residual.part(mine.clone()) };
            kernels::add(self.level, part(new, mine.start, mine.len()), residual);
        });
    }

    /// Products of several matrices with one input, rows split over the workers:
    /// `out[n, rows] = input · matrixᵀ + bias`.
    pub(crate) fn product<const M: usize>(
        &self,
        products: &mut [Product<'_, Matrix<'_>>; M],
        input: &Activations<'_>,
    ) {
        let weights = products.iter().flat_map(|(matrix, ..)| matrix).map(|matrix| matrix.rows * matrix.cols);
        let jobs = self.jobs(weights.sum::<usize>().saturating_mul(input.n));
        let products = products.each_mut().map(|(matrix, bias, out)| (&*matrix, *bias, Disjoint::new(out)));
        self.run(jobs, |job| {
            let prepared = &mut Prepared::new();
            for (matrix, bias, out) in &products {
                let Some(matrix) = matrix else { continue };
                let rows = share(matrix.rows, 4, job, jobs);
                // SAFETY: jobs have different rows, and nothing else touches `out` before `run` returns; what
                // is prepared was so for this input.
                unsafe { matmul(self.level, matrix, input, prepared, rows.clone(), out, matrix.rows) };
                let Some(bias) = bias.and_then(|bias| bias.get(rows.clone())) else { continue };
                for i in 0..input.n {
                    let begin = i * matrix.rows;
                    // SAFETY: as above.
                    let out = unsafe { out.part(begin + rows.start..begin + rows.end) };
                    kernels::add(self.level, bias, out);
                }
            }
        });
    }

    /// Over how many jobs to spread so many multiplications: handing work to another core takes as
    /// long as some ten thousands of them, so a small product stays where it is.
    fn jobs(&self, multiplications: usize) -> usize {
        if !cfg!(feature = "workers") {
            return 1;
        }
        match multiplications / LEAST_WORK {
            jobs @ 2.. => jobs.min(self.workers.count()).max(1),
            _ => 1,
        }
    }

    /// Jobs side by side; in a build without other cores there is but one.
    #[inline(always)]
    fn run(&self, jobs: usize, job: impl Fn(usize) + Sync) {
        if cfg!(feature = "workers") { self.workers.run(jobs, &job) } else { job(0) }
    }

    /// `n` vectors of `cols` floats as the right-hand side of a product: `prepare` completes row `i`
    /// where it lies, then come its integers, if some matrix wants those. Rows are split over the
    /// workers.
    // Once for its four callers.
    #[inline(never)]
    fn input<'a>(
        &self,
        n: usize,
        values: &'a mut [f32],
        cols: usize,
        wanted: bool,
        (quants, scales, sums): (&'a mut [i8], &'a mut [f32], &'a mut [i32]),
        prepare: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Activations<'a> {
        let (padded, blocks, groups) =
            (cols.next_multiple_of(GROUP), cols.div_ceil(BLOCK), cols.div_ceil(GROUP));
        // A number's exponential, its share of a norm and its quantizing are as long as so many
        // multiplications of a product.
        let jobs = self.jobs(16 * n * cols).min(n).max(1);
        // One vector without what it takes to share some out; in a build without other cores that is little.
        if n == 1 && cfg!(feature = "workers") {
            let row = part_mut(values, cols);
            prepare(0, row);
            if wanted {
                kernels::quantize(self.level, row, part_mut(quants, padded), scales, sums);
            }
        } else {
            let values = Disjoint::new(&mut *values);
            let (quants, scales, sums) =
                (Disjoint::new(&mut *quants), Disjoint::new(&mut *scales), Disjoint::new(&mut *sums));
            self.run(jobs, |job| {
                for i in share(n, 1, job, jobs) {
                    // SAFETY: jobs have different rows, and nothing else touches these before `run`
                    // returns.
                    let row = unsafe { values.part(i * cols..(i + 1) * cols) };
                    prepare(i, row);
                    if wanted {
                        // SAFETY: as above.
                        let (quants, scales, sums) = unsafe {
                            (
                                quants.part(i * padded..(i + 1) * padded),
                                scales.part(i * blocks..(i + 1) * blocks),
                                sums.part(i * groups..(i + 1) * groups),
                            )
                        };
                        kernels::quantize(self.level, row, quants, scales, sums);
                    }
                }
            });
        }
        Activations { n, cols, values, quants, scales, sums }
    }
}
