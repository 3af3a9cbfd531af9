//! The forward pass, in reading order. Shapes: `n` tokens of a block side by side.

use crate::config::{Architecture, Config};
use crate::format::{BLOCK, GROUP, KvType, Role};
use crate::kernels::attention::{HeadCacheQ8, Scratch};
use crate::kernels::{self, Activations, Level, matmul};
use crate::memory::{Layout, State};
use crate::model::Model;
use crate::tensor::Matrix;
use crate::workers::{Disjoint, Workers, share};

/// Multiplications that are worth a job of their own.
const LEAST_WORK: usize = 40_000;

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
    pub(crate) fn forward(&self, state: &mut State<'_>) {
        let config = self.model.config();
        self.embed(state);
        self.rotary(state);
        for layer in 0..config.n_layers as usize {
            self.attention(layer, state);
            self.feed_forward(layer, state);
        }
    }

    /// The logits behind one of the block's tokens, `[vocab_size]`.
    pub(crate) fn logits(&self, index: usize, state: &mut State<'_>) {
        let dim = self.model.config().dim as usize;
        let State { residual, normed, quants, scales, sums, logits, .. } = state;
        let residual = part(residual, index * dim, dim);
        let normed = part_mut(normed, dim);
        self.norm(0, Role::FinalNorm, Role::FinalNormBias, residual, normed);
        let logits = part_mut(logits, self.model.config().vocab_size as usize);
        let head = self.model.tensor(0, Role::Head).or(self.model.tensor(0, Role::Embedding));
        let Some(head) = head else { return };
        let wanted = head.dtype().is_quantized();
        let input = self.input(1, normed, dim, wanted, (quants, scales, sums), &|_, _| {});
        self.product([(Some(head), None, logits)], &input);
    }

    /// Token embeddings, plus learned positions where there are any.
    fn embed(&self, state: &mut State<'_>) {
        let dim = self.model.config().dim as usize;
        let embedding = self.model.tensor(0, Role::Embedding);
        let positions = self.model.tensor(0, Role::PositionEmbedding);
        let tokens = state.tokens.get(self.position..).unwrap_or(&[]);
        let rows = state.residual.chunks_exact_mut(dim.max(1)).zip(state.normed.chunks_exact_mut(dim.max(1)));
        for (i, ((x, scratch), &token)) in rows.zip(tokens).take(self.n).enumerate() {
            if let Some(embedding) = &embedding {
                embedding.row(token as usize, x);
            }
            if let Some(positions) = &positions {
                positions.row(self.position + i, scratch);
                kernels::add(self.level, scratch, x);
            }
        }
    }

    /// Cosines, then sines, of the block's positions: the same for all heads and layers.
    fn rotary(&self, state: &mut State<'_>) {
        let Some(frequencies) = self.model.vector(0, Role::RopeFrequencies) else { return };
        let rows = state.rotary.chunks_exact_mut((2 * frequencies.len()).max(1));
        for (i, row) in rows.take(self.n).enumerate() {
            let position = (self.position + i) as f32;
            let (cos, sin) = split_mut(row, frequencies.len());
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies) {
                let angle = position * frequency;
                *cos = libm::cosf(angle);
                *sin = libm::sinf(angle);
            }
        }
    }

    /// `residual += O(attention(Q, K, V of norm(residual)))`.
    fn attention(&self, layer: usize, state: &mut State<'_>) {
        let config = self.model.config();
        let (dim, q_dim, kv_dim) = (config.dim as usize, config.q_dim(), config.kv_dim());
        let n = self.n;
        let State { residual, normed, hidden, quants, scales, sums, .. } = state;
        let (q, rest) = split_mut(hidden, n * q_dim);
        let (k, rest) = split_mut(rest, n * kv_dim);
        let (v, rest) = split_mut(rest, n * kv_dim);
        let (attended, _) = split_mut(rest, n * q_dim);
        let matrices = [Role::Q, Role::K, Role::V].map(|role| self.model.tensor(layer, role));
        let biases = [Role::QBias, Role::KBias, Role::VBias].map(|role| self.model.vector(layer, role));
        let norm = |i: usize, row: &mut [f32]| {
            self.norm(layer, Role::AttnNorm, Role::AttnNormBias, part(residual, i * dim, dim), row);
        };
        let wanted = any_quantized(&matrices);
        let input = self.input(n, normed, dim, wanted, (&mut *quants, &mut *scales, &mut *sums), &norm);
        let [mq, mk, mv] = matrices;
        let [bq, bk, bv] = biases;
        self.product([(mq, bq, &mut *q), (mk, bk, &mut *k), (mv, bv, &mut *v)], &input);

        let norms = [Role::QNorm, Role::KNorm].map(|role| self.model.vector(layer, role));
        let cache = Cache {
            keys_q8: Disjoint::new(state.keys_q8),
            values_q8: Disjoint::new(state.values_q8),
            key_scales: Disjoint::new(state.key_scales),
            value_scales: Disjoint::new(state.value_scales),
            keys_f32: Disjoint::new(state.keys_f32),
            values_f32: Disjoint::new(state.values_f32),
        };
        let heads = Heads {
            pass: *self,
            config,
            layer,
            norms,
            rotary: state.rotary,
            cache,
            q: Disjoint::new(q),
            k: Disjoint::new(k),
            v,
            attended: Disjoint::new(attended),
        };
        // Logits come at the very end: until then their place is attention's.
        let scratch = (Disjoint::new(state.logits), Disjoint::new(state.query));
        let n_kv_heads = config.n_kv_heads as usize;
        // Both products of every query with every position.
        let work = 2 * n * (self.position + n) * q_dim;
        let jobs =
            self.jobs(work).min(n_kv_heads).min(self.layout.logits / self.layout.positions.max(1)).max(1);
        self.workers.run(jobs, &|job| {
            let positions = self.layout.positions;
            let padded = (config.head_dim as usize).next_multiple_of(4);
            // SAFETY: each job takes its own places of the scratch.
            let mut scratch = unsafe {
                Scratch {
                    scores: scratch.0.part(job * positions..(job + 1) * positions),
                    query: scratch.1.part(job * padded..(job + 1) * padded),
                }
            };
            for kv_head in share(n_kv_heads, 1, job, jobs) {
                heads.attend(kv_head, &mut scratch);
            }
        });

        let output = self.model.tensor(layer, Role::O);
        let bias = self.model.vector(layer, Role::OBias);
        let input =
            self.input(n, attended, q_dim, any_quantized(&[output]), (quants, scales, sums), &|_, _| {});
        self.product([(output, bias, part_mut(normed, n * dim))], &input);
        self.add_block(normed, residual);
    }

    /// `residual += Down(activation(Gate, Up of norm(residual)))`.
    fn feed_forward(&self, layer: usize, state: &mut State<'_>) {
        let config = self.model.config();
        let (n, dim, ffn_dim) = (self.n, config.dim as usize, config.ffn_dim as usize);
        let State { residual, normed, hidden, quants, scales, sums, .. } = state;
        let (up, rest) = split_mut(hidden, n * ffn_dim);
        let (gate, _) = split_mut(rest, n * ffn_dim);
        let matrices = [Role::Up, Role::Gate].map(|role| self.model.tensor(layer, role));
        let biases = [Role::UpBias, Role::GateBias].map(|role| self.model.vector(layer, role));
        let norm = |i: usize, row: &mut [f32]| {
            self.norm(layer, Role::FfnNorm, Role::FfnNormBias, part(residual, i * dim, dim), row);
        };
        let wanted = any_quantized(&matrices);
        let input = self.input(n, normed, dim, wanted, (&mut *quants, &mut *scales, &mut *sums), &norm);
        let [up_matrix, gate_matrix] = matrices;
        let [up_bias, gate_bias] = biases;
        let down = self.model.tensor(layer, Role::Down);
        let bias = self.model.vector(layer, Role::DownBias);
        let wanted = any_quantized(&[down]);
        let input = match config.architecture {
            Architecture::Gpt2 => {
                self.product([(up_matrix, up_bias, &mut *up)], &input);
                let gelu = |_: usize, row: &mut [f32]| kernels::gelu_all(self.level, row);
                self.input(n, up, ffn_dim, wanted, (quants, scales, sums), &gelu)
            }
            Architecture::Llama => {
                let products = [(up_matrix, up_bias, &mut *up), (gate_matrix, gate_bias, &mut *gate)];
                self.product(products, &input);
                let gated = |i: usize, row: &mut [f32]| {
                    kernels::silu_mul(self.level, row, part(up, i * ffn_dim, ffn_dim));
                };
                self.input(n, gate, ffn_dim, wanted, (quants, scales, sums), &gated)
            }
        };
        self.product([(down, bias, part_mut(normed, n * dim))], &input);
        self.add_block(normed, residual);
    }

    /// One vector through the architecture's norm.
    fn norm(&self, layer: usize, weight: Role, bias: Role, x: &[f32], out: &mut [f32]) {
        let config = self.model.config();
        let weight = self.model.vector(layer, weight).unwrap_or(&[]);
        match config.architecture {
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
        let residual = Disjoint::new(residual);
        self.workers.run(jobs, &|job| {
            let mine = share(len, BLOCK, job, jobs);
            // SAFETY: jobs have different shares, and nothing else touches them before `run` returns.
            let residual = unsafe { residual.part(mine.clone()) };
            kernels::add(self.level, part(new, mine.start, mine.len()), residual);
        });
    }

    /// Products of several matrices with one input, rows split over the workers:
    /// `out[n, rows] = input · matrixᵀ + bias`.
    fn product<const M: usize>(&self, products: [Product<'_>; M], input: &Activations<'_>) {
        let products = products.map(|(matrix, bias, out)| (matrix, bias, Disjoint::new(out)));
        let weights = products.iter().flat_map(|(matrix, ..)| matrix).map(|matrix| matrix.rows * matrix.cols);
        let jobs = self.jobs(weights.sum::<usize>().saturating_mul(input.n));
        self.workers.run(jobs, &|job| {
            for (matrix, bias, out) in &products {
                let Some(matrix) = matrix else { continue };
                let rows = share(matrix.rows, 4, job, jobs);
                // SAFETY: jobs have different rows, and nothing else touches `out` before `run` returns.
                unsafe { matmul(self.level, matrix, input, rows.clone(), out, matrix.rows) };
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
        (multiplications / LEAST_WORK).clamp(1, self.workers.count().max(1))
    }

    /// `n` vectors of `cols` floats as the right-hand side of a product: `prepare` completes row `i`
    /// where it lies, then come its integers, if some matrix wants those. Rows are split over the
    /// workers.
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
        {
            let values = Disjoint::new(&mut *values);
            let (quants, scales, sums) =
                (Disjoint::new(&mut *quants), Disjoint::new(&mut *scales), Disjoint::new(&mut *sums));
            self.workers.run(jobs, &|job| {
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

/// A matrix, its bias, and where the product goes, `[n, rows]`; a matrix that is not there has none.
type Product<'a> = (Option<Matrix<'a>>, Option<&'a [f32]>, &'a mut [f32]);

/// `slice[begin..begin + len]`, or what there is of it.
fn part(slice: &[f32], begin: usize, len: usize) -> &[f32] {
    slice.get(begin..).and_then(|rest| rest.get(..len)).unwrap_or(&[])
}

/// `slice[..len]`, or what there is of it.
fn part_mut<T>(slice: &mut [T], len: usize) -> &mut [T] {
    let len = len.min(slice.len());
    &mut slice[..len]
}

/// `slice[..at]` and the rest; an end that is not there is empty.
fn split_mut<T>(slice: &mut [T], at: usize) -> (&mut [T], &mut [T]) {
    slice.split_at_mut(at.min(slice.len()))
}

fn any_quantized(matrices: &[Option<Matrix<'_>>]) -> bool {
    matrices.iter().flatten().any(|matrix| matrix.dtype().is_quantized())
}

/// The cache of all layers, written by several jobs at places of their own.
struct Cache<'m> {
    keys_q8: Disjoint<'m, i8>,
    values_q8: Disjoint<'m, i8>,
    key_scales: Disjoint<'m, u8>,
    value_scales: Disjoint<'m, u8>,
    keys_f32: Disjoint<'m, f32>,
    values_f32: Disjoint<'m, f32>,
}

/// One layer's attention, by key heads.
struct Heads<'p, 'm> {
    pass: Pass<'p>,
    config: &'p Config,
    layer: usize,
    norms: [Option<&'p [f32]>; 2],
    rotary: &'p [f32],
    cache: Cache<'m>,
    /// `[n, q_dim]`.
    q: Disjoint<'m, f32>,
    /// `[n, kv_dim]`.
    k: Disjoint<'m, f32>,
    /// `[n, kv_dim]`.
    v: &'p [f32],
    /// `[n, q_dim]`.
    attended: Disjoint<'m, f32>,
}

impl Heads<'_, '_> {
    /// Norm (where there is one) and rotation of one head of one token.
    fn prepare(&self, head: &mut [f32], norm: Option<&[f32]>, token: usize) {
        if let Some(weight) = norm {
            kernels::rms_norm_in_place(self.pass.level, head, weight, self.config.norm_eps);
        }
        if self.config.architecture == Architecture::Llama {
            let row = part(self.rotary, token * head.len(), head.len());
            let (cos, sin) = row.split_at(row.len() / 2);
            kernels::rotate(self.pass.level, head, cos, sin);
        }
    }

    /// Everything for one key head: its keys and values of all the block's tokens go into the cache,
    /// then its queries attend. No other head's data is written, so heads can run side by side.
    fn attend(&self, kv_head: usize, scratch: &mut Scratch<'_>) {
        let config = self.config;
        let head_dim = config.head_dim as usize;
        let padded = head_dim.next_multiple_of(4);
        let quantized = self.pass.layout.kv_type == KvType::Q8;
        let positions = self.pass.layout.positions;
        // Where this head's positions begin in the caches.
        let first = (self.layer * config.n_kv_heads as usize + kv_head) * positions;
        let of_cache = |width: usize| first * width..(first + positions) * width;
        // A head's cache, scales, queries, keys and outputs belong to this call alone, which takes
        // each part once.
        // SAFETY: as said; for the type of cache that there is not, parts are empty.
        let (keys_q8, values_q8, key_scales, value_scales) = unsafe {
            (
                self.cache.keys_q8.part(of_cache(padded)),
                self.cache.values_q8.part(of_cache(head_dim)),
                self.cache.key_scales.part(of_cache(1)),
                self.cache.value_scales.part(of_cache(1)),
            )
        };
        // SAFETY: as said.
        let (keys_f32, values_f32) = unsafe {
            (self.cache.keys_f32.part(of_cache(head_dim)), self.cache.values_f32.part(of_cache(head_dim)))
        };

        for token in 0..self.pass.n {
            let position = self.pass.position + token;
            let at = token * config.kv_dim() + kv_head * head_dim;
            // SAFETY: as said.
            let k = unsafe { self.k.part(at..at + head_dim) };
            let v = part(self.v, at, head_dim);
            self.prepare(k, self.norms[1], token);
            if quantized {
                let key_scale = kernels::store_key(self.pass.level, k, position, keys_q8);
                let value_scale = kernels::store_value(self.pass.level, v, position, values_q8);
                if let (Some(ks), Some(vs)) = (key_scales.get_mut(position), value_scales.get_mut(position)) {
                    (*ks, *vs) = (key_scale, value_scale);
                }
            } else {
                for (cache, new) in [(&mut *keys_f32, &*k), (&mut *values_f32, v)] {
                    if let Some(place) = cache.chunks_exact_mut(head_dim.max(1)).nth(position) {
                        for (place, x) in place.iter_mut().zip(new) {
                            *place = *x;
                        }
                    }
                }
            }
        }

        let cache = HeadCacheQ8 { keys: keys_q8, key_scales, values: values_q8, value_scales };
        let group = config.heads_per_kv() * head_dim;
        for token in 0..self.pass.n {
            let len = self.pass.position + token + 1;
            let at = token * config.q_dim() + kv_head * group;
            // SAFETY: as said.
            let (queries, out) = unsafe { (self.q.part(at..at + group), self.attended.part(at..at + group)) };
            for at in (0..group).step_by(head_dim.max(1)) {
                self.prepare(
                    part_mut(queries.get_mut(at..).unwrap_or(&mut []), head_dim),
                    self.norms[0],
                    token,
                );
            }
            if quantized {
                kernels::attend_q8(self.pass.level, queries, head_dim, &cache, len, scratch, out);
                continue;
            }
            for at in (0..group).step_by(head_dim.max(1)) {
                let out = part_mut(out.get_mut(at..).unwrap_or(&mut []), head_dim);
                let (query, scores) = (part(queries, at, head_dim), &mut *scratch.scores);
                kernels::attend_f32(self.pass.level, query, keys_f32, values_f32, len, scores, out);
            }
        }
    }
}
