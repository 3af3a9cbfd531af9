//! The memory of a pass: activations for one batch size and sequence length, and gradients.

use super::{Model, ModelError, Precision, Regime};
use crate::layers::rope::Rope;

/// Elements of the logits that exist at a time. With it, and not with the batch, grows the
/// memory that a large vocabulary takes. For each part of the logits the whole head is packed
/// twice and its gradient read and written once, so few parts are better.
const LOGITS: usize = 1 << 25;

/// What blocks leave for the backward pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Nothing: there will be none.
    Nothing,
    /// Their inputs.
    Inputs,
    /// All that it needs.
    Everything,
}

/// What a block leaves for its backward pass. One row a token. What norms give is not among it: from
/// their inputs it comes again, faster than all of it could be kept.
#[derive(Default)]
pub(super) struct BlockState {
    /// The residual stream before the block, `[rows, dim]`.
    pub(super) x: Vec<f32>,
    /// Of the first norm; LayerNorm: `[rows, 2]`; RMSNorm: `[rows]`.
    pub(super) stats_1: Vec<f32>,
    /// Queries, keys, values, `[rows, q_dim + 2·kv_dim]`; rotated unless `qk` has that.
    pub(super) qkv: Vec<f32>,
    /// With q/k norms: normalized and rotated queries and keys, `[rows, q_dim + kv_dim]`.
    pub(super) qk: Vec<f32>,
    /// With q/k norms: `[rows, n_heads + n_kv_heads]`.
    pub(super) qk_scales: Vec<f32>,
    /// `[rows, n_heads]`.
    pub(super) log_sums: Vec<f32>,
    /// Attention's output, `[rows, q_dim]`.
    pub(super) attended: Vec<f32>,
    /// The residual stream between attention and feed-forward, `[rows, dim]`.
    pub(super) middle: Vec<f32>,
    /// Of the second norm.
    pub(super) stats_2: Vec<f32>,
    /// Before the activation, `[rows, ffn_dim]` or, gate and up, `[rows, 2·ffn_dim]`.
    pub(super) up: Vec<f32>,
}

/// Memory for gradients, absent where only the forward pass will run.
#[derive(Default)]
pub(super) struct Gradients {
    /// Of the parameters.
    pub(super) params: Vec<f32>,
    /// Of the residual stream, `[rows, dim]`.
    pub(super) x: Vec<f32>,
    /// Of a norm's output, `[rows, dim]`.
    pub(super) normed: Vec<f32>,
    /// `[rows, q_dim + 2·kv_dim]`.
    pub(super) qkv: Vec<f32>,
    /// `[rows, q_dim]`.
    pub(super) attended: Vec<f32>,
    /// Sums over some rows.
    pub(super) partial: Vec<f32>,
    /// A branch's gradient with dropout; grows when it is first needed.
    pub(super) scratch: Vec<f32>,
    /// Rounded activations; grows when it is first needed.
    pub(super) rounded: Vec<f32>,
}

/// Activations and gradients for batches of `batch` sequences of `seq_len` tokens.
pub struct Workspace {
    /// What passes do besides.
    pub regime: Regime,
    /// In what products are computed; f32 unless set.
    pub precision: Precision,
    /// Rounded activations, or a branch before dropout; grows when it is first needed.
    pub(super) scratch: Vec<f32>,
    pub(super) batch: usize,
    pub(super) seq_len: usize,
    pub(super) rope: Rope,
    /// For every block, or a single one where only the forward pass will run or blocks run
    /// again in the backward pass.
    pub(super) blocks: Vec<BlockState>,
    /// The residual stream before every block, `[rows, dim]`, where blocks run again.
    pub(super) kept: Vec<Vec<f32>>,
    /// The residual stream after the last block run, `[rows, dim]`.
    pub(super) stream: Vec<f32>,
    /// What the last norm that ran gave, `[rows, dim]`.
    pub(super) normed: Vec<f32>,
    /// Of the final norm.
    pub(super) final_stats: Vec<f32>,
    /// After the activation, `[rows, ffn_dim]`; in the backward pass at first its gradient.
    pub(super) activated: Vec<f32>,
    /// `[chunk, vocab]`.
    pub(super) logits: Vec<f32>,
    /// Each row's loss.
    pub(super) losses: Vec<f32>,
    pub(super) gradients: Option<Gradients>,
}

impl Workspace {
    /// Memory for training.
    ///
    /// # Errors
    /// [`ModelError::BadBatch`] when `batch` or `seq_len` is 0 or `seq_len` exceeds the model's
    /// context.
    pub fn new(model: &Model, batch: usize, seq_len: usize) -> Result<Self, ModelError> {
        Self::plan(model, batch, seq_len, Kept::Everything)
    }

    /// Memory for training that keeps of each block only its input and computes the rest again
    /// when the backward pass comes to it (Chen et al., "Training Deep Nets with Sublinear Memory
    /// Cost", 2016): the same bits, about a third more time, activations of one block.
    ///
    /// # Errors
    /// As [`Workspace::new`].
    pub fn with_checkpoints(model: &Model, batch: usize, seq_len: usize) -> Result<Self, ModelError> {
        Self::plan(model, batch, seq_len, Kept::Inputs)
    }

    /// Memory for the forward pass alone: that of one block and no gradients.
    ///
    /// # Errors
    /// As [`Workspace::new`].
    pub fn forward_only(model: &Model, batch: usize, seq_len: usize) -> Result<Self, ModelError> {
        Self::plan(model, batch, seq_len, Kept::Nothing)
    }

    fn plan(model: &Model, batch: usize, seq_len: usize, kept: Kept) -> Result<Self, ModelError> {
        let config = &model.config;
        let context_len = config.context_len as usize;
        if batch == 0 || seq_len == 0 || seq_len > context_len {
            return Err(ModelError::BadBatch { batch, seq_len, context_len });
        }
        let rows = batch * seq_len;
        let of = |width: usize| vec![0.0f32; rows * width];
        let [dim, ffn, n_heads, n_kv_heads, head_dim, vocab] = [
            config.dim,
            config.ffn_dim,
            config.n_heads,
            config.n_kv_heads,
            config.head_dim,
            config.vocab_size,
        ]
        .map(|x| x as usize);
        let (q_dim, kv_dim) = (config.q_dim(), config.kv_dim());
        let stats = || of(model.stats_width());
        let has_qk = usize::from(model.options.qk_norm);
        let block = || BlockState {
            x: of(dim),
            stats_1: stats(),
            qkv: of(q_dim + 2 * kv_dim),
            qk: of(has_qk * (q_dim + kv_dim)),
            qk_scales: of(has_qk * (n_heads + n_kv_heads)),
            log_sums: of(n_heads),
            attended: of(q_dim),
            middle: of(dim),
            stats_2: stats(),
            up: of(model.up_width()),
        };
        let chunk = rows_of_logits(rows, vocab);
        Ok(Self {
            regime: Regime::default(),
            precision: Precision::default(),
            scratch: Vec::new(),
            batch,
            seq_len,
            rope: Rope::new(if model.is_llama() { seq_len } else { 0 }, head_dim, model.options.rope_theta),
            blocks: (0..if kept == Kept::Everything { config.n_layers } else { 1 })
                .map(|_| block())
                .collect(),
            kept: (0..if kept == Kept::Inputs { config.n_layers } else { 0 }).map(|_| of(dim)).collect(),
            stream: of(dim),
            normed: of(dim),
            final_stats: stats(),
            activated: of(ffn),
            logits: vec![0.0; chunk * vocab],
            losses: of(1),
            gradients: (kept != Kept::Nothing).then(|| Gradients {
                params: vec![0.0; model.layout.len()],
                x: of(dim),
                normed: of(dim),
                qkv: of(q_dim + 2 * kv_dim),
                attended: of(q_dim),
                partial: Vec::new(),
                scratch: Vec::new(),
                rounded: Vec::new(),
            }),
        })
    }

    /// Sequences in a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Tokens in a sequence.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Tokens in a batch.
    pub fn rows(&self) -> usize {
        self.batch * self.seq_len
    }

    /// The gradients of all parameters, in the order of [`Model::layout`]; empty for a
    /// workspace of the forward pass alone.
    pub fn grads(&self) -> &[f32] {
        self.gradients.as_ref().map_or(&[], |g| &g.params)
    }

    /// The gradients, to change.
    pub fn grads_mut(&mut self) -> &mut [f32] {
        self.gradients.as_mut().map_or(&mut [], |g| &mut g.params)
    }

    /// Sets all gradients of parameters to 0, before the first batch of a step.
    pub fn zero_grads(&mut self) {
        self.grads_mut().fill(0.0);
    }

    /// Bytes of all activations and gradients.
    pub fn bytes(&self) -> usize {
        let block = |b: &BlockState| {
            let norms = b.stats_1.len() + b.stats_2.len();
            let vectors = [&b.x, &b.qkv, &b.qk, &b.qk_scales, &b.log_sums, &b.attended, &b.middle, &b.up];
            vectors.iter().map(|v| v.len()).sum::<usize>() + norms
        };
        let gradients = self.gradients.as_ref().map_or(0, |g| {
            let vectors =
                [&g.params, &g.x, &g.normed, &g.qkv, &g.attended, &g.partial, &g.scratch, &g.rounded];
            vectors.iter().map(|v| v.len()).sum()
        });
        let rest = [
            &self.stream,
            &self.normed,
            &self.final_stats,
            &self.activated,
            &self.logits,
            &self.losses,
            &self.scratch,
        ];
        let elements = self.blocks.iter().map(block).sum::<usize>()
            + self.kept.iter().map(Vec::len).sum::<usize>()
            + rest.iter().map(|v| v.len()).sum::<usize>()
            + gradients;
        elements * size_of::<f32>()
    }
}

/// Rows whose logits exist at a time: equal parts of all rows, decided by sizes alone.
pub(super) fn rows_of_logits(rows: usize, vocab: usize) -> usize {
    let most = (LOGITS / vocab).clamp(1, rows);
    rows.div_ceil(rows.div_ceil(most))
}
