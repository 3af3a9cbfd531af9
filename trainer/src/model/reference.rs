//! The whole model again, in f64, one token at a time and without any of the trainer's code:
//! what gradients and losses are checked against.

use super::{Model, ParamLayout};
use crate::layers::cross_entropy::IGNORE;

/// A model's parameters in f64, found by name.
pub(super) struct Reference<'a> {
    pub(super) model: &'a Model,
    pub(super) params: Vec<f64>,
}

fn find<'p>(layout: &ParamLayout, params: &'p [f64], name: &str) -> Option<&'p [f64]> {
    layout.get(name).map(|p| &params[p.range()])
}

impl<'a> Reference<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self { model, params: model.params.iter().map(|&x| f64::from(x)).collect() }
    }

    fn get(&self, name: &str) -> &[f64] {
        find(&self.model.layout, &self.params, name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn linear(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight"));
        let bias = find(&self.model.layout, &self.params, &format!("{name}.bias"));
        let rows = weight.chunks(x.len()).enumerate();
        rows.map(|(j, row)| dot(row, x) + bias.map_or(0.0, |b| b[j])).collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight"));
        let bias = find(&self.model.layout, &self.params, &format!("{name}.bias"));
        let n = x.len() as f64;
        let llama = self.model.is_llama();
        let mean = if llama { 0.0 } else { x.iter().sum::<f64>() / n };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let root = (variance + f64::from(self.model.config.norm_eps)).sqrt();
        (0..x.len()).map(|j| (x[j] - mean) / root * weight[j] + bias.map_or(0.0, |b| b[j])).collect()
    }

    /// The mean loss of a batch.
    pub(super) fn loss(&self, inputs: &[u32], targets: &[u32], seq_len: usize) -> f64 {
        let (mut sum, mut count) = (0.0, 0);
        for (inputs, targets) in inputs.chunks(seq_len).zip(targets.chunks(seq_len)) {
            for (logits, &target) in self.logits(inputs).iter().zip(targets) {
                if target != IGNORE {
                    let total: f64 = logits.iter().map(|x| x.exp()).sum();
                    sum += total.ln() - logits[target as usize];
                    count += 1;
                }
            }
        }
        sum / f64::from(count)
    }

    /// The logits of one sequence.
    pub(super) fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let c = &self.model.config;
        let dim = c.dim as usize;
        let llama = self.model.is_llama();
        let embedding = if llama { "model.embed_tokens" } else { "transformer.wte" };
        let table = self.get(&format!("{embedding}.weight"));
        let mut xs: Vec<Vec<f64>> =
            tokens.iter().map(|&t| table[t as usize * dim..][..dim].to_vec()).collect();
        if !llama {
            for (x, position) in xs.iter_mut().zip(self.get("transformer.wpe.weight").chunks(dim)) {
                add(x, position);
            }
        }
        for i in 0..c.n_layers {
            if llama { self.llama_block(&mut xs, i) } else { self.gpt2_block(&mut xs, i) }
        }
        let head = if self.model.options.tied_embeddings { embedding } else { "lm_head" };
        let last = if llama { "model.norm" } else { "transformer.ln_f" };
        xs.iter().map(|x| self.linear(&self.norm(x, last), head)).collect()
    }

    fn gpt2_block(&self, xs: &mut [Vec<f64>], i: u32) {
        let dim = self.model.config.dim as usize;
        let h = |name: &str| format!("transformer.h.{i}.{name}");
        let qkv: Vec<_> =
            xs.iter().map(|x| self.linear(&self.norm(x, &h("ln_1")), &h("attn.c_attn"))).collect();
        let part = |n: usize| qkv.iter().map(|x| x[n * dim..][..dim].to_vec()).collect::<Vec<_>>();
        let attended = self.attention(&part(0), &part(1), &part(2));
        for (x, attended) in xs.iter_mut().zip(attended) {
            add(x, &self.linear(&attended, &h("attn.c_proj")));
            let up = self.linear(&self.norm(x, &h("ln_2")), &h("mlp.c_fc"));
            let slope = (2.0 / std::f64::consts::PI).sqrt();
            let gelu = |x: f64| 0.5 * x * (1.0 + (slope * (x + 0.044715 * x * x * x)).tanh());
            let activated: Vec<f64> = up.into_iter().map(gelu).collect();
            add(x, &self.linear(&activated, &h("mlp.c_proj")));
        }
    }

    fn llama_block(&self, xs: &mut [Vec<f64>], i: u32) {
        let h = |name: &str| format!("model.layers.{i}.{name}");
        let project = |xs: &[Vec<f64>], name: &str| -> Vec<Vec<f64>> {
            xs.iter().map(|x| self.linear(&self.norm(x, &h("input_layernorm")), &h(name))).collect()
        };
        let place = |xs: Vec<Vec<f64>>, norm: &str| -> Vec<Vec<f64>> {
            let rows = xs.into_iter().enumerate();
            rows.map(|(t, x)| self.place(&x, t, &h(norm))).collect()
        };
        let q = place(project(xs, "self_attn.q_proj"), "self_attn.q_norm");
        let k = place(project(xs, "self_attn.k_proj"), "self_attn.k_norm");
        let attended = self.attention(&q, &k, &project(xs, "self_attn.v_proj"));
        for (x, attended) in xs.iter_mut().zip(attended) {
            add(x, &self.linear(&attended, &h("self_attn.o_proj")));
            let normed = self.norm(x, &h("post_attention_layernorm"));
            let gate = self.linear(&normed, &h("mlp.gate_proj"));
            let up = self.linear(&normed, &h("mlp.up_proj"));
            let activated: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            add(x, &self.linear(&activated, &h("mlp.down_proj")));
        }
    }

    /// Heads normalized, where the model does, and rotated.
    fn place(&self, x: &[f64], position: usize, norm: &str) -> Vec<f64> {
        let d = self.model.config.head_dim as usize;
        let mut out = Vec::new();
        for head in x.chunks(d) {
            let head = if self.model.options.qk_norm { self.norm(head, norm) } else { head.to_vec() };
            let angle = |i: usize| {
                let theta = f64::from(self.model.options.rope_theta);
                position as f64 / theta.powf(2.0 * (i % (d / 2)) as f64 / d as f64)
            };
            out.extend((0..d).map(|i| {
                let other = if i < d / 2 { -head[i + d / 2] } else { head[i - d / 2] };
                head[i] * angle(i).cos() + other * angle(i).sin()
            }));
        }
        out
    }

    fn attention(&self, q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let c = &self.model.config;
        let (d, n_heads) = (c.head_dim as usize, c.n_heads as usize);
        let mut out = Vec::new();
        for (t, q) in q.iter().enumerate() {
            let mut row = vec![0.0; n_heads * d];
            for head in 0..n_heads {
                let (own, shared) = (head * d..(head + 1) * d, head / c.heads_per_kv() * d);
                let shared = shared..shared + d;
                let weights: Vec<f64> = k[..=t]
                    .iter()
                    .map(|k| dot(&q[own.clone()], &k[shared.clone()]) / (d as f64).sqrt())
                    .map(f64::exp)
                    .collect();
                let total: f64 = weights.iter().sum();
                for (weight, v) in weights.iter().zip(v) {
                    let value: Vec<f64> = v[shared.clone()].iter().map(|x| x * weight / total).collect();
                    add(&mut row[own.clone()], &value);
                }
            }
            out.push(row);
        }
        out
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], from: &[f64]) {
    assert_eq!(to.len(), from.len());
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
