//! Where every parameter lies in the arena, and what Hugging Face calls it.

use std::collections::HashMap;
use std::ops::Range;

use smidgen_runtime::config::{Architecture, Config};

use super::ModelOptions;

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name in a Hugging Face checkpoint.
    pub name: String,
    /// Its shape, stored by rows. Linear layers are `[out, in]` (Hugging Face stores those of
    /// GPT-2 the other way round).
    pub shape: Vec<usize>,
    /// Its first element in the arena.
    pub offset: usize,
    /// Whether weight decay applies: to matrices, not to biases and norms.
    pub decay: bool,
}

impl Param {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its elements in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// All parameters in the order of the arena, without gaps.
#[derive(Clone, Debug, Default)]
pub struct ParamLayout {
    params: Vec<Param>,
    by_name: HashMap<String, usize>,
    len: usize,
}

impl ParamLayout {
    /// The parameters in the order of the arena.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.by_name.get(name).map(|&index| &self.params[index])
    }

    /// Elements of the arena.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, name: String, shape: &[usize]) -> Span {
        let param =
            Param { name: name.clone(), shape: shape.to_vec(), offset: self.len, decay: shape.len() >= 2 };
        let span = Span { start: param.offset, end: param.offset + param.len() };
        self.len = span.end;
        self.by_name.insert(name, self.params.len());
        self.params.push(param);
        span
    }
}

impl FromIterator<(String, Vec<usize>)> for ParamLayout {
    /// Lays out tensors of these names and shapes one after the other.
    fn from_iter<I: IntoIterator<Item = (String, Vec<usize>)>>(params: I) -> Self {
        let mut layout = Self::default();
        for (name, shape) in params {
            layout.push(name, &shape);
        }
        layout
    }
}

/// A part of the arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.end
    }

    pub(super) fn of(self, arena: &[f32]) -> &[f32] {
        &arena[self.range()]
    }

    pub(super) fn of_mut(self, arena: &mut [f32]) -> &mut [f32] {
        &mut arena[self.range()]
    }

    /// From the beginning of this to the end of `last`, which follows it.
    fn through(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }
}

/// A weight and, where the model has it, its bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighted {
    pub(super) weight: Span,
    pub(super) bias: Option<Span>,
}

/// A block's parameters. Queries, keys and values are one matrix here whatever the checkpoint
/// calls them, and so are gate and up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) norm_1: Weighted,
    pub(super) qkv: Weighted,
    pub(super) q_norm: Option<Span>,
    pub(super) k_norm: Option<Span>,
    pub(super) attention_out: Weighted,
    pub(super) norm_2: Weighted,
    pub(super) up: Weighted,
    pub(super) down: Weighted,
}

/// All of a model's parameters by what they are for.
#[derive(Clone, Debug)]
pub(super) struct Roles {
    pub(super) embedding: Span,
    pub(super) positions: Option<Span>,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: Weighted,
    pub(super) head: Span,
}

/// Lays out the parameters of a model.
pub(super) fn plan(config: &Config, options: &ModelOptions) -> (ParamLayout, Roles) {
    let mut layout = ParamLayout::default();
    let roles = match config.architecture {
        Architecture::Gpt2 => gpt2(config, options, &mut layout),
        _ => llama(config, options, &mut layout),
    };
    (layout, roles)
}

fn gpt2(config: &Config, options: &ModelOptions, layout: &mut ParamLayout) -> Roles {
    let [dim, ffn, vocab, context] =
        [config.dim, config.ffn_dim, config.vocab_size, config.context_len].map(|x| x as usize);
    let embedding = layout.push("transformer.wte.weight".into(), &[vocab, dim]);
    let positions = layout.push("transformer.wpe.weight".into(), &[context, dim]);
    let mut add = |name: &str, shape: &[usize]| {
        let weight = layout.push(format!("transformer.{name}.weight"), shape);
        let bias = format!("transformer.{name}.bias");
        Weighted { weight, bias: options.bias.then(|| layout.push(bias, &shape[..1])) }
    };
    let blocks = (0..config.n_layers)
        .map(|i| Block {
            norm_1: add(&format!("h.{i}.ln_1"), &[dim]),
            qkv: add(&format!("h.{i}.attn.c_attn"), &[3 * dim, dim]),
            q_norm: None,
            k_norm: None,
            attention_out: add(&format!("h.{i}.attn.c_proj"), &[dim, dim]),
            norm_2: add(&format!("h.{i}.ln_2"), &[dim]),
            up: add(&format!("h.{i}.mlp.c_fc"), &[ffn, dim]),
            down: add(&format!("h.{i}.mlp.c_proj"), &[dim, ffn]),
        })
        .collect();
    let final_norm = add("ln_f", &[dim]);
    let head = head(config, options, layout, embedding);
    Roles { embedding, positions: Some(positions), blocks, final_norm, head }
}

fn llama(config: &Config, options: &ModelOptions, layout: &mut ParamLayout) -> Roles {
    let [dim, ffn, vocab, head_dim] =
        [config.dim, config.ffn_dim, config.vocab_size, config.head_dim].map(|x| x as usize);
    let (q_dim, kv_dim) = (config.q_dim(), config.kv_dim());
    let plain = |weight| Weighted { weight, bias: None };
    let embedding = layout.push("model.embed_tokens.weight".into(), &[vocab, dim]);
    let mut add = |name: String, shape: &[usize]| layout.push(format!("model.{name}"), shape);
    let blocks = (0..config.n_layers)
        .map(|i| {
            // This order is that of the arena: q, k and v adjacent, gate and up too.
            let mut add = |name: &str, shape: &[usize]| add(format!("layers.{i}.{name}"), shape);
            let norm_1 = plain(add("input_layernorm.weight", &[dim]));
            let q = add("self_attn.q_proj.weight", &[q_dim, dim]);
            add("self_attn.k_proj.weight", &[kv_dim, dim]);
            let v = add("self_attn.v_proj.weight", &[kv_dim, dim]);
            let bias = options.qkv_bias.then(|| {
                let q = add("self_attn.q_proj.bias", &[q_dim]);
                add("self_attn.k_proj.bias", &[kv_dim]);
                q.through(add("self_attn.v_proj.bias", &[kv_dim]))
            });
            let mut head_norm =
                |name: &str| options.qk_norm.then(|| add(&format!("self_attn.{name}"), &[head_dim]));
            let (q_norm, k_norm) = (head_norm("q_norm.weight"), head_norm("k_norm.weight"));
            let attention_out = plain(add("self_attn.o_proj.weight", &[dim, q_dim]));
            let norm_2 = plain(add("post_attention_layernorm.weight", &[dim]));
            let gate = add("mlp.gate_proj.weight", &[ffn, dim]);
            let up = plain(gate.through(add("mlp.up_proj.weight", &[ffn, dim])));
            let down = plain(add("mlp.down_proj.weight", &[dim, ffn]));
            let qkv = Weighted { weight: q.through(v), bias };
            Block { norm_1, qkv, q_norm, k_norm, attention_out, norm_2, up, down }
        })
        .collect();
    let final_norm = plain(add("norm.weight".into(), &[dim]));
    let head = head(config, options, layout, embedding);
    Roles { embedding, positions: None, blocks, final_norm, head }
}

fn head(config: &Config, options: &ModelOptions, layout: &mut ParamLayout, embedding: Span) -> Span {
    if options.tied_embeddings {
        return embedding;
    }
    layout.push("lm_head.weight".into(), &[config.vocab_size as usize, config.dim as usize])
}
