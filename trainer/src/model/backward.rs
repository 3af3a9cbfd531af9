//! The backward pass: from the loss to the gradients of all parameters.

use super::Model;
use super::forward::{
    attention_inputs, forward, head, mean_loss, norm_again, qk_shape, qk_weights, qkv_stride, run_block,
};
use super::layout::{Block, Span, Weighted};
use super::regime::{Regime, Site};
use super::workspace::{BlockState, Gradients, Workspace};
use crate::gemm::Level;
use crate::layers::linear::{self, Shape};
use crate::layers::rope::Rope;
use crate::layers::{cross_entropy, embedding, gelu, layer_norm, qk_norm, rms_norm, sized, swiglu};
use crate::parallel::Pool;

/// The loss of [`super::forward_loss`], and its gradients times `grad_scale` (1 / the number of
/// batches in a step), added to those in the workspace.
///
/// # Panics
/// As [`super::forward_loss`], and when the workspace is for the forward pass alone.
pub fn forward_backward(
    model: &Model,
    ws: &mut Workspace,
    pool: &Pool,
    inputs: &[u32],
    targets: &[u32],
    grad_scale: f32,
) -> f32 {
    assert_eq!(targets.len(), ws.rows(), "targets, tokens in a batch");
    let Some(mut gradients) = ws.gradients.take() else {
        panic!("a workspace for the forward pass alone has no memory for gradients");
    };
    forward(model, ws, pool, inputs);
    let g = &mut gradients;
    loss_and_head(model, ws, g, pool, targets, grad_scale);
    g.x.fill(0.0);
    norm(model, pool, model.roles.final_norm, g, &ws.stream, &ws.final_stats);
    let (regime, level) = (ws.regime, ws.precision.level());
    for (layer, block) in model.roles.blocks.iter().enumerate().rev() {
        let index = layer.min(ws.blocks.len() - 1);
        if let Some(kept) = ws.kept.get_mut(layer) {
            std::mem::swap(kept, &mut ws.blocks[index].x);
            run_block(model, block, ws, pool, index, layer);
        }
        let state = &mut ws.blocks[index];
        let (rows, seq_len) = (inputs.len(), ws.seq_len);
        let pass = Pass { model, block, layer, regime, level, pool, rows, seq_len };
        pass.feed_forward(state, &mut ws.activated, &mut ws.normed, g);
        pass.attention(state, &ws.rope, &mut ws.normed, g);
    }
    let (table, positions) = both(&mut g.params, model.roles.embedding, model.roles.positions);
    let dim = model.config.dim as usize;
    regime.drop_out(pool, Site::Embedding, &mut g.x);
    embedding::backward(pool, table, positions, inputs, &g.x, dim, ws.seq_len);
    ws.gradients = Some(gradients);
    mean_loss(&ws.losses, targets)
}

/// The losses, the head's gradient and that of the final norm's output, some rows at a time.
fn loss_and_head(
    model: &Model,
    ws: &mut Workspace,
    g: &mut Gradients,
    pool: &Pool,
    targets: &[u32],
    grad_scale: f32,
) {
    let (dim, vocab) = (model.config.dim as usize, model.config.vocab_size as usize);
    let scale = grad_scale / cross_entropy::count(targets).max(1) as f32;
    let (weight, level) = (model.roles.head, ws.precision.level());
    let chunk = ws.logits.len() / vocab;
    for start in (0..ws.rows()).step_by(chunk) {
        let rows = start..(start + chunk).min(ws.rows());
        let logits = &mut ws.logits[..rows.len() * vocab];
        head(model, pool, level, logits, &ws.normed, rows.start);
        let (losses, targets) = (&mut ws.losses[rows.clone()], &targets[rows.clone()]);
        cross_entropy::forward(pool, losses, logits, targets, vocab, Some(scale), ws.regime.z_loss);
        let shape = Shape { rows: rows.len(), inputs: dim, outputs: vocab, level };
        let elements = rows.start * dim..rows.end * dim;
        let to = &mut g.normed[elements.clone()];
        linear::backward_input(pool, shape, to, logits, weight.of(&model.params));
        let (d_weight, x) = (weight.of_mut(&mut g.params), &ws.normed[elements]);
        linear::backward_weight(pool, shape, d_weight, None, logits, x);
    }
}

/// One block's way back. `g.x` is the gradient of the residual stream throughout.
struct Pass<'a> {
    model: &'a Model,
    block: &'a Block,
    layer: usize,
    regime: Regime,
    level: Level,
    pool: &'a Pool,
    rows: usize,
    seq_len: usize,
}

impl Pass<'_> {
    fn feed_forward(
        &self,
        state: &mut BlockState,
        activated: &mut [f32],
        normed: &mut [f32],
        g: &mut Gradients,
    ) {
        let (model, block, pool) = (self.model, self.block, self.pool);
        let (dim, ffn) = (model.config.dim as usize, model.config.ffn_dim as usize);
        let (down, up) = (self.shape(ffn, dim), self.shape(dim, model.up_width()));
        let weight = block.down.weight.of(&model.params);
        let d_branch = self.branch(Site::FeedForward(self.layer), &g.x, &mut g.scratch);
        linear::backward_input(pool, down, activated, d_branch, weight);
        if model.is_llama() {
            swiglu::backward(pool, &mut state.up, activated, ffn);
        } else {
            gelu::backward(pool, &mut state.up, activated);
        }
        self.regime.round(pool, activated, ffn);
        let (d_weight, d_bias) = both(&mut g.params, block.down.weight, block.down.bias);
        linear::backward_weight(pool, down, d_weight, d_bias, d_branch, activated);
        let weight = block.up.weight.of(&model.params);
        linear::backward_input(pool, up, &mut g.normed, &state.up, weight);
        let (d_weight, d_bias) = both(&mut g.params, block.up.weight, block.up.bias);
        norm_again(model, self.regime, pool, block.norm_2, &state.middle, &state.stats_2, normed);
        linear::backward_weight(pool, up, d_weight, d_bias, &state.up, normed);
        norm(model, pool, block.norm_2, g, &state.middle, &state.stats_2);
    }

    fn attention(&self, state: &BlockState, rope: &Rope, normed: &mut [f32], g: &mut Gradients) {
        let (model, block, pool) = (self.model, self.block, self.pool);
        let (dim, q_dim) = (model.config.dim as usize, model.config.q_dim());
        let (out, qkv) = (self.shape(q_dim, dim), self.shape(dim, qkv_stride(model)));
        let weight = block.attention_out.weight.of(&model.params);
        let d_branch = self.branch(Site::Attention(self.layer), &g.x, &mut g.scratch);
        linear::backward_input(pool, out, &mut g.attended, d_branch, weight);
        let (d_weight, d_bias) = both(&mut g.params, block.attention_out.weight, block.attention_out.bias);
        let attended = if self.regime.round_activations {
            let rounded = sized(&mut g.rounded, self.rows * q_dim);
            rounded.copy_from_slice(&state.attended);
            self.regime.round(pool, rounded, q_dim);
            &*rounded
        } else {
            &state.attended
        };
        linear::backward_weight(pool, out, d_weight, d_bias, d_branch, attended);
        let x = attention_inputs(model, &state.qkv, &state.qk);
        let (attended, log_sums) = (&state.attended, &state.log_sums);
        let attention = model.attention(self.seq_len, self.level);
        attention.backward(pool, &mut g.qkv, &g.attended, attended, log_sums, x);
        if model.is_llama() {
            let n_heads = (model.config.n_heads + model.config.n_kv_heads) as usize;
            rope.backward(pool, &mut g.qkv, qkv_stride(model), n_heads);
        }
        if let (Some(weights), Some(q), Some(k)) = (qk_weights(model, block), block.q_norm, block.k_norm) {
            let (d_q, d_k) = both(&mut g.params, q, Some(k));
            let (shape, scales) = (qk_shape(model), &state.qk_scales);
            let (d_qkv, partial) = (&mut g.qkv, &mut g.partial);
            let d_k = d_k.unwrap_or_default();
            qk_norm::backward(pool, shape, d_qkv, d_q, d_k, &state.qkv, scales, weights, partial);
        }
        let weight = block.qkv.weight.of(&model.params);
        linear::backward_input(pool, qkv, &mut g.normed, &g.qkv, weight);
        let (d_weight, d_bias) = both(&mut g.params, block.qkv.weight, block.qkv.bias);
        norm_again(model, self.regime, pool, block.norm_1, &state.x, &state.stats_1, normed);
        linear::backward_weight(pool, qkv, d_weight, d_bias, &g.qkv, normed);
        norm(model, pool, block.norm_1, g, &state.x, &state.stats_1);
    }

    /// The gradient of a branch's output, given that of the stream: the same but for dropout.
    fn branch<'b>(&self, site: Site, stream: &'b [f32], scratch: &'b mut Vec<f32>) -> &'b [f32] {
        if !self.regime.drops() {
            return stream;
        }
        let dropped = sized(scratch, stream.len());
        dropped.copy_from_slice(stream);
        self.regime.drop_out(self.pool, site, dropped);
        dropped
    }

    fn shape(&self, inputs: usize, outputs: usize) -> Shape {
        Shape { rows: self.rows, inputs, outputs, level: self.level }
    }
}

/// Adds to `g.x` the gradient of a norm's input, given that of its output in `g.normed`.
fn norm(model: &Model, pool: &Pool, layer: Weighted, g: &mut Gradients, x: &[f32], stats: &[f32]) {
    let weight = layer.weight.of(&model.params);
    let (d_weight, d_bias) = both(&mut g.params, layer.weight, layer.bias);
    let (d_x, d_out, partial) = (&mut g.x, &g.normed, &mut g.partial);
    if model.is_llama() {
        rms_norm::backward(pool, d_x, d_weight, d_out, x, stats, weight, partial);
    } else {
        layer_norm::backward(pool, d_x, d_weight, d_bias, d_out, x, stats, weight, partial);
    }
}

/// Two parts of the gradients at once.
fn both(grads: &mut [f32], first: Span, second: Option<Span>) -> (&mut [f32], Option<&mut [f32]>) {
    let Some(second) = second else {
        return (first.of_mut(grads), None);
    };
    match grads.get_disjoint_mut([first.range(), second.range()]) {
        Ok([a, b]) => (a, Some(b)),
        Err(_) => unreachable!("parameters do not overlap"),
    }
}
