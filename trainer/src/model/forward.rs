//! The forward pass: tokens to logits and loss.

use super::Model;
use super::layout::{Block, Span, Weighted};
use super::regime::{Regime, Site};
use super::workspace::{BlockState, Workspace};
use crate::gemm::Level;
use crate::layers::attention::{Inputs, Strided};
use crate::layers::linear::{self, Shape};
use crate::layers::{cross_entropy, embedding, gelu, layer_norm, qk_norm, rms_norm, sized, swiglu};
use crate::parallel::Pool;

/// The mean cross-entropy, in nats, of predicting `targets` from `inputs`, both
/// `[batch, seq_len]`; targets that are [`cross_entropy::IGNORE`] do not count, and without any
/// that count the loss is 0.
///
/// # Panics
/// When there are not `ws.rows()` inputs and targets, or one is not in the vocabulary.
pub fn forward_loss(model: &Model, ws: &mut Workspace, pool: &Pool, inputs: &[u32], targets: &[u32]) -> f32 {
    assert_eq!(targets.len(), ws.rows(), "targets, tokens in a batch");
    forward(model, ws, pool, inputs);
    let vocab = model.config.vocab_size as usize;
    let chunk = ws.logits.len() / vocab;
    for start in (0..ws.rows()).step_by(chunk) {
        let rows = start..(start + chunk).min(ws.rows());
        let logits = &mut ws.logits[..rows.len() * vocab];
        head(model, pool, ws.precision.level(), logits, &ws.normed, rows.start);
        let losses = &mut ws.losses[rows.clone()];
        cross_entropy::forward(pool, losses, logits, &targets[rows], vocab, None, 0.0);
    }
    mean_loss(&ws.losses, targets)
}

/// The logits of every token, `[batch, seq_len, vocab]`, into `out`.
///
/// # Panics
/// When there are not `ws.rows()` inputs, or one is not in the vocabulary.
pub fn logits(model: &Model, ws: &mut Workspace, pool: &Pool, inputs: &[u32], out: &mut Vec<f32>) {
    forward(model, ws, pool, inputs);
    out.clear();
    out.resize(ws.rows() * model.config.vocab_size as usize, 0.0);
    head(model, pool, ws.precision.level(), out, &ws.normed, 0);
}

/// The logits of some rows, from row `start` of the final norm's output on.
pub(super) fn head(
    model: &Model,
    pool: &Pool,
    level: Level,
    logits: &mut [f32],
    normed: &[f32],
    start: usize,
) {
    let (inputs, outputs) = (model.config.dim as usize, model.config.vocab_size as usize);
    let shape = Shape { rows: logits.len() / outputs, inputs, outputs, level };
    let weight = model.roles.head.of(&model.params);
    linear::forward(pool, shape, logits, &normed[start * inputs..], weight, None, None);
}

/// The mean of the losses that count, summed in the order of the rows.
pub(super) fn mean_loss(losses: &[f32], targets: &[u32]) -> f32 {
    let sum: f64 = losses.iter().map(|&x| f64::from(x)).sum();
    (sum / cross_entropy::count(targets).max(1) as f64) as f32
}

/// Everything up to and with the final norm.
pub(super) fn forward(model: &Model, ws: &mut Workspace, pool: &Pool, inputs: &[u32]) {
    assert_eq!(inputs.len(), ws.rows(), "inputs, tokens in a batch");
    let (roles, params) = (&model.roles, &model.params);
    let positions = roles.positions.map(|p| p.of(params));
    let table = roles.embedding.of(params);
    let dim = model.config.dim as usize;
    embedding::forward(pool, &mut ws.stream, inputs, table, positions, dim, ws.seq_len);
    ws.regime.drop_out(pool, Site::Embedding, &mut ws.stream);
    let last = ws.blocks.len() - 1;
    for (i, block) in roles.blocks.iter().enumerate() {
        // Without a backward pass to come, all blocks share the memory of one.
        let state = i.min(last);
        std::mem::swap(&mut ws.blocks[state].x, &mut ws.stream);
        run_block(model, block, ws, pool, state, i);
        if let Some(kept) = ws.kept.get_mut(i) {
            std::mem::swap(kept, &mut ws.blocks[state].x);
        }
    }
    norm(model, ws.regime, pool, roles.final_norm, &ws.stream, &mut ws.final_stats, &mut ws.normed);
}

/// One block: from its state's `x` to the stream.
pub(super) fn run_block(
    model: &Model,
    block: &Block,
    ws: &mut Workspace,
    pool: &Pool,
    index: usize,
    layer: usize,
) {
    let (rows, seq_len, regime, level) = (ws.rows(), ws.seq_len, ws.regime, ws.precision.level());
    let state = &mut ws.blocks[index];
    let (dim, ffn) = (model.config.dim as usize, model.config.ffn_dim as usize);
    let (q_dim, kv_dim) = (model.config.q_dim(), model.config.kv_dim());
    let shape = |inputs, outputs| Shape { rows, inputs, outputs, level };
    let apply = |layer: Weighted, shape, y: &mut [f32], x: &[f32], residual: Option<&[f32]>| {
        let bias = layer.bias.map(|b| b.of(&model.params));
        linear::forward(pool, shape, y, x, layer.weight.of(&model.params), bias, residual);
    };

    norm(model, regime, pool, block.norm_1, &state.x, &mut state.stats_1, &mut ws.normed);
    apply(block.qkv, shape(dim, q_dim + 2 * kv_dim), &mut state.qkv, &ws.normed, None);
    place(model, block, ws, pool, index);
    let state = &mut ws.blocks[index];
    let (attended, log_sums) = (&mut state.attended, &mut state.log_sums);
    let x = attention_inputs(model, &state.qkv, &state.qk);
    model.attention(seq_len, level).forward(pool, attended, log_sums, x);
    // The backward pass of attention needs its output as it was.
    let needed = if regime.round_activations || regime.drops() { rows * (q_dim + dim) } else { 0 };
    let (rounded, branch) = sized(&mut ws.scratch, needed).split_at_mut(needed.min(rows * q_dim));
    let attended = if regime.round_activations {
        rounded.copy_from_slice(&state.attended);
        regime.round(pool, rounded, q_dim);
        &*rounded
    } else {
        &state.attended
    };
    if regime.drops() {
        apply(block.attention_out, shape(q_dim, dim), branch, attended, None);
        regime.add_branch(pool, Site::Attention(layer), &mut state.middle, branch, &state.x);
    } else {
        apply(block.attention_out, shape(q_dim, dim), &mut state.middle, attended, Some(&state.x));
    }

    norm(model, regime, pool, block.norm_2, &state.middle, &mut state.stats_2, &mut ws.normed);
    apply(block.up, shape(dim, model.up_width()), &mut state.up, &ws.normed, None);
    if model.is_llama() {
        swiglu::forward(pool, &mut ws.activated, &state.up, ffn);
    } else {
        gelu::forward(pool, &mut ws.activated, &state.up);
    }
    regime.round(pool, &mut ws.activated, ffn);
    if regime.drops() {
        apply(block.down, shape(ffn, dim), branch, &ws.activated, None);
        regime.add_branch(pool, Site::FeedForward(layer), &mut ws.stream, branch, &state.middle);
    } else {
        apply(block.down, shape(ffn, dim), &mut ws.stream, &ws.activated, Some(&state.middle));
    }
}

/// Normalizes and rotates queries and keys, where the model does.
fn place(model: &Model, block: &Block, ws: &mut Workspace, pool: &Pool, index: usize) {
    if !model.is_llama() {
        return;
    }
    let BlockState { qkv, qk, qk_scales, .. } = &mut ws.blocks[index];
    let n_heads = (model.config.n_heads + model.config.n_kv_heads) as usize;
    let (stride, qk_dim) = (qkv_stride(model), n_heads * model.config.head_dim as usize);
    match qk_weights(model, block) {
        Some(weights) => {
            let shape = qk_shape(model);
            qk_norm::forward(pool, shape, qk, qk_scales, qkv, weights, model.config.norm_eps);
            ws.rope.forward(pool, qk, qk_dim, n_heads);
        }
        None => ws.rope.forward(pool, qkv, stride, n_heads),
    }
}

/// Elements of a row of queries, keys and values.
pub(super) fn qkv_stride(model: &Model) -> usize {
    model.config.q_dim() + 2 * model.config.kv_dim()
}

pub(super) fn qk_shape(model: &Model) -> qk_norm::Shape {
    let (n_heads, n_kv_heads) = (model.config.n_heads as usize, model.config.n_kv_heads as usize);
    qk_norm::Shape { n_heads, n_kv_heads, stride: qkv_stride(model) }
}

pub(super) fn qk_weights<'a>(model: &'a Model, block: &Block) -> Option<qk_norm::Weights<'a>> {
    let of = |span: Span| span.of(&model.params);
    Some(qk_norm::Weights { q: of(block.q_norm?), k: of(block.k_norm?) })
}

/// Where attention finds its inputs.
pub(super) fn attention_inputs<'a>(model: &Model, qkv: &'a [f32], qk: &'a [f32]) -> Inputs<'a> {
    let (q_dim, kv_dim) = (model.config.q_dim(), model.config.kv_dim());
    let from = |data: &'a [f32], start: usize, stride| Strided { data: &data[start..], stride };
    let stride = qkv_stride(model);
    let v = from(qkv, q_dim + kv_dim, stride);
    if model.options.qk_norm {
        let stride = q_dim + kv_dim;
        Inputs { q: from(qk, 0, stride), k: from(qk, q_dim, stride), v }
    } else {
        Inputs { q: from(qkv, 0, stride), k: from(qkv, q_dim, stride), v }
    }
}

/// What the product after a norm sees.
fn norm(
    model: &Model,
    regime: Regime,
    pool: &Pool,
    layer: Weighted,
    x: &[f32],
    stats: &mut [f32],
    out: &mut [f32],
) {
    let (weight, eps) = (layer.weight.of(&model.params), model.config.norm_eps);
    if model.is_llama() {
        rms_norm::forward(pool, out, stats, x, weight, eps);
    } else {
        let bias = layer.bias.map(|b| b.of(&model.params));
        layer_norm::forward(pool, out, stats, x, weight, bias, eps);
    }
    regime.round(pool, out, model.config.dim as usize);
}

/// The same once more, on the way back, from the statistics that it left.
pub(super) fn norm_again(
    model: &Model,
    regime: Regime,
    pool: &Pool,
    layer: Weighted,
    x: &[f32],
    stats: &[f32],
    out: &mut [f32],
) {
    let weight = layer.weight.of(&model.params);
    if model.is_llama() {
        rms_norm::again(pool, out, stats, x, weight);
    } else {
        layer_norm::again(pool, out, stats, x, weight, layer.bias.map(|b| b.of(&model.params)));
    }
    regime.round(pool, out, model.config.dim as usize);
}
