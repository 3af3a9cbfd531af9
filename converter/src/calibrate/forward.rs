//! The model in f32, as it is written down: no cache, no blocks, one layer at a time. What it computes
//! is what the runtime computes from an F32 file, but for the order of sums.

use std::collections::BTreeMap;

use smidgen_runtime::format::Role;
use smidgen_runtime::{Architecture, Config};

use crate::checkpoint::Checkpoint;
use crate::convert::for_each_width;
use crate::error::Error;

/// What goes into a layer's matrices, one row a token.
pub(super) struct Inputs {
    pub(super) attention: Vec<f32>,
    pub(super) attended: Vec<f32>,
    pub(super) feed_forward: Vec<f32>,
    pub(super) hidden: Vec<f32>,
}

/// One layer's weights in memory.
pub(super) struct Layer {
    config: Config,
    weights: BTreeMap<Role, Vec<f32>>,
    frequencies: Vec<f32>,
}

for_each_width! {
    /// `out[token][row] = weights[row] · input[token]`; `out` is as long as that.
    fn multiply(weights: &[f32], cols: usize, input: &[f32], out: &mut [f32]) -> () {
        let rows = weights.len() / cols;
        for (x, out) in input.chunks_exact(cols).zip(out.chunks_exact_mut(rows)) {
            for (weights, out) in weights.chunks_exact(cols).zip(out) {
                let mut sums = [0.0_f32; 16];
                let ((a, a_rest), (b, b_rest)) = (weights.as_chunks::<16>(), x.as_chunks::<16>());
                for (a, b) in a.iter().zip(b) {
                    for lane in 0..16 {
                        sums[lane] += a[lane] * b[lane];
                    }
                }
                for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
                    sums[lane] += a * b;
                }
                *out = sums.iter().sum();
            }
        }
    }
}

/// RMS norm, or LayerNorm for GPT-2.
fn norm(config: &Config, weight: &[f32], bias: Option<&[f32]>, x: &[f32], out: &mut [f32]) {
    let n = x.len() as f32;
    let centred = config.architecture == Architecture::Gpt2;
    let mean = if centred { x.iter().sum::<f32>() / n } else { 0.0 };
    let square = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
    let factor = 1.0 / (square + config.norm_eps).sqrt();
    for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
        *out = (x - mean) * factor * weight[i] + bias.map_or(0.0, |bias| bias[i]);
    }
}

fn norm_rows(config: &Config, weight: &[f32], bias: Option<&[f32]>, rows: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    for (x, out) in rows.chunks(weight.len()).zip(out.chunks_mut(weight.len())) {
        norm(config, weight, bias, x, out);
    }
    out
}

/// Token embeddings, plus learned positions where there are any, for every window.
pub(super) fn embed(checkpoint: &Checkpoint, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
    let dim = checkpoint.config.dim as usize;
    let embedding = checkpoint.tensor(0, Role::Embedding)?;
    let positions =
        checkpoint.has(Role::PositionEmbedding).then(|| checkpoint.read(0, Role::PositionEmbedding));
    let positions = positions.transpose()?;
    let mut all = Vec::with_capacity(windows.len());
    for tokens in windows {
        let mut rows = vec![0.0; tokens.len() * dim];
        for (i, (row, &token)) in rows.chunks_mut(dim).zip(tokens).enumerate() {
            let token = token as usize;
            embedding.read_rows(token..token + 1, row);
            if let Some(positions) = &positions {
                row.iter_mut().zip(&positions[i * dim..]).for_each(|(x, position)| *x += position);
            }
        }
        all.push(rows);
    }
    Ok(all)
}

/// What goes into the head.
pub(super) fn finish(checkpoint: &Checkpoint, all: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let read = |role| checkpoint.tensors.get(&(0, role)).map(crate::TensorSource::read);
    let (weight, bias) = (read(Role::FinalNorm).unwrap_or_default(), read(Role::FinalNormBias));
    all.iter().map(|rows| norm_rows(&checkpoint.config, &weight, bias.as_deref(), rows)).collect()
}

impl Layer {
    pub(super) fn read(checkpoint: &Checkpoint, layer: u32) -> Self {
        let here = checkpoint.tensors.iter().filter(|((at, role), _)| role.is_per_layer() && *at == layer);
        let mut weights = BTreeMap::new();
        for ((_, role), tensor) in here {
            weights.insert(*role, tensor.read());
            tensor.release();
        }
        let frequencies = checkpoint.tensors.get(&(0, Role::RopeFrequencies));
        let frequencies = frequencies.map(crate::TensorSource::read).unwrap_or_default();
        Self { config: checkpoint.config, weights, frequencies }
    }

    fn get(&self, role: Role) -> Option<&[f32]> {
        self.weights.get(&role).map(|values| &values[..])
    }

    /// The product with a matrix and its bias, if there is one; the checkpoint has been checked.
    fn product(&self, role: Role, bias: Role, input: &[f32]) -> Vec<f32> {
        let (rows, cols) = role.shape(&self.config);
        let mut out = vec![0.0; input.len() / cols * rows];
        multiply(self.get(role).unwrap_or_default(), cols, input, &mut out);
        if let Some(bias) = self.get(bias) {
            out.chunks_mut(rows).for_each(|row| row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias));
        }
        out
    }

    fn normed(&self, weight: Role, bias: Role, rows: &[f32]) -> Vec<f32> {
        norm_rows(&self.config, self.get(weight).unwrap_or_default(), self.get(bias), rows)
    }

    /// Takes a window's `[tokens, dim]` rows through the layer.
    pub(super) fn run(&self, rows: &mut [f32]) -> Inputs {
        let add = |rows: &mut [f32], more: Vec<f32>| rows.iter_mut().zip(more).for_each(|(x, y)| *x += y);
        let attention = self.normed(Role::AttnNorm, Role::AttnNormBias, rows);
        let mut q = self.product(Role::Q, Role::QBias, &attention);
        let mut k = self.product(Role::K, Role::KBias, &attention);
        let v = self.product(Role::V, Role::VBias, &attention);
        self.turn(&mut q, self.config.n_heads as usize, Role::QNorm);
        self.turn(&mut k, self.config.n_kv_heads as usize, Role::KNorm);
        let attended = self.attend(&q, &k, &v);
        add(rows, self.product(Role::O, Role::OBias, &attended));
        let feed_forward = self.normed(Role::FfnNorm, Role::FfnNormBias, rows);
        let mut hidden = self.product(Role::Up, Role::UpBias, &feed_forward);
        if self.config.architecture == Architecture::Gpt2 {
            for x in &mut hidden {
                let inner = 0.797_884_6 * (*x + 0.044_715 * *x * *x * *x);
                *x = 0.5 * *x * (1.0 + inner.tanh());
            }
        } else {
            let gate = self.product(Role::Gate, Role::GateBias, &feed_forward);
            hidden.iter_mut().zip(gate).for_each(|(x, gate)| *x *= gate / (1.0 + (-gate).exp()));
        }
        add(rows, self.product(Role::Down, Role::DownBias, &hidden));
        Inputs { attention, attended, feed_forward, hidden }
    }

    /// Norms of single heads and rotary positions.
    fn turn(&self, rows: &mut [f32], heads: usize, weight: Role) {
        let size = self.config.head_dim as usize;
        let mut old = vec![0.0; size];
        for (position, row) in rows.chunks_mut(heads * size).enumerate() {
            for head in row.chunks_mut(size) {
                if let Some(weight) = self.get(weight) {
                    old.copy_from_slice(head);
                    norm(&self.config, weight, None, &old, head);
                }
                let (low, high) = head.split_at_mut(size / 2);
                for ((a, b), frequency) in low.iter_mut().zip(high).zip(&self.frequencies) {
                    let (sin, cos) = (position as f32 * frequency).sin_cos();
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }

    fn attend(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let Config { n_heads, n_kv_heads, head_dim, .. } = self.config;
        let (heads, shared, size) = (n_heads as usize, (n_heads / n_kv_heads) as usize, head_dim as usize);
        let kv = n_kv_heads as usize * size;
        let mut out = vec![0.0; q.len()];
        let mut weights = Vec::new();
        for (at, (q, out)) in q.chunks(size).zip(out.chunks_mut(size)).enumerate() {
            let (position, first) = (at / heads, at % heads / shared * size);
            let dot = |j: usize| q.iter().zip(&k[j * kv + first..]).map(|(a, b)| a * b).sum::<f32>();
            weights.clear();
            weights.extend((0..=position).map(|j| dot(j) / (size as f32).sqrt()));
            let max = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.iter_mut().for_each(|weight| *weight = (*weight - max).exp());
            let sum: f32 = weights.iter().sum();
            for (j, weight) in weights.iter().enumerate() {
                let value = &v[j * kv + first..][..size];
                out.iter_mut().zip(value).for_each(|(out, value)| *out += weight / sum * value);
            }
        }
        out
    }
}
