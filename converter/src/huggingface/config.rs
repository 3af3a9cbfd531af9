//! `config.json`: dimensions and variants of the model types that the runtime can run.
//!
//! Absent keys have the defaults of the `transformers` configuration classes, and so do null ones
//! unless null means something there.

use std::path::Path;

use serde_json::Value;
use smidgen_runtime::config::{MAX_DIMENSION, MAX_LAYERS};
use smidgen_runtime::format::RopeScaling;
use smidgen_runtime::{Architecture, Config};

use super::json::{Object, describe, read_json};
use crate::error::Error;

/// Which biases and norms a Llama-like model has besides its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) qkv_bias: bool,
    pub(crate) o_bias: bool,
    pub(crate) ffn_bias: bool,
    pub(crate) qk_norm: bool,
}

/// Weights packed by MLX: `bits` wide, a scale and a bias for every `group` of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MlxGroups {
    pub(crate) bits: u32,
    pub(crate) group: usize,
}

/// What a `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct HfConfig {
    /// Dimensions.
    pub config: Config,
    /// `gpt2`, `llama`, `mistral`, `qwen2` or `qwen3`.
    pub model_type: &'static str,
    /// The rotary base; 0 for GPT-2.
    pub rope_theta: f32,
    /// How rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// True if the head is the embedding.
    pub tied: bool,
    /// What had to be decided, for people to read.
    pub notes: Vec<String>,
    pub(crate) variant: Variant,
    pub(crate) mlx: Option<MlxGroups>,
}

const MODEL_TYPES: [&str; 5] = ["gpt2", "llama", "mistral", "qwen2", "qwen3"];

/// Reads a `config.json`.
///
/// # Errors
/// Names the key, what it is, and what it may be.
pub fn read_config(path: &Path) -> Result<HfConfig, Error> {
    parse(path, &read_json(path)?)
}

pub(crate) fn parse(path: &Path, value: &Value) -> Result<HfConfig, Error> {
    let root = Object::root(path, value)?;
    let model_type = root.string("model_type")?;
    let known = MODEL_TYPES.into_iter().find(|name| Some(*name) == model_type);
    let model_type = known.ok_or_else(|| root.error("model_type", MODEL_TYPES.join(", ")))?;
    let mut config = if model_type == "gpt2" { gpt2(&root)? } else { llama(&root, model_type)? };
    config.mlx = quantization(path, &root)?;
    // Head counts first: their message names the keys that people see.
    let Config { n_heads, n_kv_heads, .. } = config.config;
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(root.error("num_key_value_heads", format!("a divisor of the {n_heads} heads")));
    }
    config.config.validate().map_err(|source| Error::Load { path: path.to_path_buf(), source })?;
    Ok(config)
}

fn gpt2(root: &Object<'_>) -> Result<HfConfig, Error> {
    let dimension =
        |key: &str, default| Ok::<u32, Error>(root.integer(key, 1..=MAX_DIMENSION)?.unwrap_or(default));
    one_of(root, "activation_function", &["gelu_new", "gelu_pytorch_tanh", "gelu_fast"])?;
    must_be(root, "scale_attn_weights", true)?;
    must_be(root, "scale_attn_by_inverse_layer_idx", false)?;
    must_be(root, "add_cross_attention", false)?;
    let dim = dimension("n_embd", 768)?;
    let n_heads = dimension("n_head", 12)?;
    if !dim.is_multiple_of(n_heads) {
        return Err(root.error("n_head", format!("a divisor of n_embd = {dim}")));
    }
    let context_key = if root.get("n_positions").is_some() { "n_positions" } else { "n_ctx" };
    let config = Config {
        architecture: Architecture::Gpt2,
        n_layers: root.integer("n_layer", 1..=MAX_LAYERS)?.unwrap_or(12),
        dim,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: dim / n_heads,
        ffn_dim: dimension("n_inner", dim.saturating_mul(4))?,
        vocab_size: dimension("vocab_size", 50_257)?,
        context_len: dimension(context_key, 1024)?,
        norm_eps: root.float("layer_norm_epsilon", 0.0)?.unwrap_or(1e-5),
    };
    Ok(HfConfig {
        config,
        model_type: "gpt2",
        rope_theta: 0.0,
        rope_scaling: RopeScaling::None,
        tied: root.boolean("tie_word_embeddings")?.unwrap_or(true),
        notes: Vec::new(),
        variant: Variant { qkv_bias: true, o_bias: true, ffn_bias: true, qk_norm: false },
        mlx: None,
    })
}

fn llama(root: &Object<'_>, model_type: &'static str) -> Result<HfConfig, Error> {
    let dimension =
        |key: &str, default| Ok::<u32, Error>(root.integer(key, 1..=MAX_DIMENSION)?.unwrap_or(default));
    let qwen = model_type.starts_with("qwen");
    let (vocab, ffn, context) = match model_type {
        "mistral" => (32_000, 14_336, 131_072),
        "qwen2" | "qwen3" => (151_936, 22_016, 32_768),
        _ => (32_000, 11_008, 2_048),
    };
    one_of(root, "hidden_act", &["silu", "swish"])?;
    let dim = dimension("hidden_size", 4096)?;
    let n_heads = dimension("num_attention_heads", 32)?;
    let default_kv = match model_type {
        "mistral" if !root.contains("num_key_value_heads") => 8,
        "qwen2" | "qwen3" if !root.contains("num_key_value_heads") => 32,
        _ => n_heads,
    };
    let n_kv_heads = dimension("num_key_value_heads", default_kv)?;
    let head_dim = match root.integer("head_dim", 1..=4096)? {
        Some(head_dim) => head_dim,
        None if model_type == "qwen3" && !root.contains("head_dim") => 128,
        None if dim.is_multiple_of(n_heads) => dim / n_heads,
        None => return Err(root.error("num_attention_heads", format!("a divisor of hidden_size = {dim}"))),
    };
    let (rope_theta, rope_scaling) = rope(root)?;
    let mut config = Config {
        architecture: Architecture::Llama,
        n_layers: root.integer("num_hidden_layers", 1..=MAX_LAYERS)?.unwrap_or(32),
        dim,
        n_heads,
        n_kv_heads,
        head_dim,
        ffn_dim: dimension("intermediate_size", ffn)?,
        vocab_size: dimension("vocab_size", vocab)?,
        context_len: dimension("max_position_embeddings", context)?,
        norm_eps: root.float("rms_norm_eps", 0.0)?.unwrap_or(1e-6),
    };
    let mut notes = Vec::new();
    if let Some(window) = sliding_window(root, model_type)?
        && window < config.context_len
    {
        notes.push(format!(
            "the model attends to {window} tokens at a time (sliding_window): its context becomes {window}, not {}",
            config.context_len
        ));
        config.context_len = window;
    }
    let attention_bias = !qwen && model_type != "mistral" || model_type == "qwen3";
    let attention_bias = attention_bias && root.boolean("attention_bias")?.unwrap_or(false);
    Ok(HfConfig {
        config,
        model_type,
        rope_theta,
        rope_scaling,
        tied: root.boolean("tie_word_embeddings")?.unwrap_or(false),
        notes,
        variant: Variant {
            qkv_bias: attention_bias || model_type == "qwen2",
            o_bias: attention_bias,
            ffn_bias: model_type == "llama" && root.boolean("mlp_bias")?.unwrap_or(false),
            qk_norm: model_type == "qwen3",
        },
        mlx: None,
    })
}

/// Up to as many positions as the window holds, windowed attention is full attention.
fn sliding_window(root: &Object<'_>, model_type: &str) -> Result<Option<u32>, Error> {
    let used = match model_type {
        "mistral" => true,
        "qwen2" | "qwen3" => root.boolean("use_sliding_window")?.unwrap_or(false),
        _ => false,
    };
    if !used || root.contains("sliding_window") && root.get("sliding_window").is_none() {
        return Ok(None);
    }
    Ok(Some(root.integer("sliding_window", 1..=u32::MAX)?.unwrap_or(4096)))
}

/// Old configurations say `rope_theta` and `rope_scaling`, new ones `rope_parameters`.
fn rope(root: &Object<'_>) -> Result<(f32, RopeScaling), Error> {
    let (rope, prefix) = match root.object("rope_parameters", "rope_parameters.")? {
        Some(object) => (Some(object), "rope_parameters"),
        None => (root.object("rope_scaling", "rope_scaling.")?, "rope_scaling"),
    };
    // The smallest base that still turns: theta^(-2i/d) must not grow with i.
    const LEAST: f32 = 1.0;
    let outer = root.float("rope_theta", LEAST)?;
    let inner = rope.map(|rope| rope.float("rope_theta", LEAST)).transpose()?.flatten();
    let theta = inner.or(outer).unwrap_or(10_000.0);
    for object in rope.iter().chain([root]) {
        if let Some(part) = object.float("partial_rotary_factor", 0.0)?
            && part != 1.0
        {
            return Err(object.error("partial_rotary_factor", "1 (heads rotated whole)"));
        }
    }
    let Some(rope) = rope else { return Ok((theta, RopeScaling::None)) };
    let key = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    let required = |key: &str, least| rope.float(key, least)?.ok_or_else(|| rope.error(key, "a number"));
    let scaling = match rope.string(key)? {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: required("factor", 1.0)? },
        Some("llama3") => {
            let (low, high) =
                (required("low_freq_factor", f32::MIN_POSITIVE)?, required("high_freq_factor", 0.0)?);
            if high <= low {
                return Err(rope.error("high_freq_factor", format!("more than low_freq_factor = {low}")));
            }
            let context = "original_max_position_embeddings";
            RopeScaling::Llama3 {
                factor: required("factor", 1.0)?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_context: rope
                    .integer(context, 1..=u32::MAX)?
                    .ok_or_else(|| rope.error(context, "an integer"))?,
            }
        }
        Some(_) => return Err(rope.error(key, format!("default, linear or llama3 in {prefix}"))),
    };
    Ok((theta, scaling))
}

/// MLX's affine groups are read; other kinds of packed weights are refused by name.
fn quantization(path: &Path, root: &Object<'_>) -> Result<Option<MlxGroups>, Error> {
    if let Some(object) = root.object("quantization_config", "quantization_config.")?
        && let Some(method) = object.get("quant_method")
    {
        return Err(Error::unsupported(
            path,
            format!("weights packed by {} are not read; convert the original checkpoint", describe(method)),
        ));
    }
    let (key, prefix) = match root.get("quantization") {
        Some(_) => ("quantization", "quantization."),
        None => ("quantization_config", "quantization_config."),
    };
    let Some(object) = root.object(key, prefix)? else { return Ok(None) };
    one_of(&object, "mode", &["affine"])?;
    if let Some((name, _)) = object.iter().find(|(_, value)| value.is_object()) {
        return Err(object.error(name, "no exceptions for single layers"));
    }
    let bits = object.integer("bits", 2..=8)?.unwrap_or(4);
    if ![2, 4, 8].contains(&bits) {
        return Err(object.error("bits", "2, 4 or 8"));
    }
    let group = object.integer("group_size", 32..=128)?.unwrap_or(64);
    if !group.is_power_of_two() {
        return Err(object.error("group_size", "32, 64 or 128"));
    }
    Ok(Some(MlxGroups { bits, group: group as usize }))
}

/// A string key that, if it is there, has one of a few values.
fn one_of(object: &Object<'_>, key: &str, allowed: &[&str]) -> Result<(), Error> {
    match object.string(key)? {
        Some(value) if !allowed.contains(&value) => Err(object.error(key, allowed.join(" or "))),
        _ => Ok(()),
    }
}

fn must_be(object: &Object<'_>, key: &str, wanted: bool) -> Result<(), Error> {
    match object.boolean(key)? {
        Some(found) if found != wanted => {
            Err(object.error(key, format!("{wanted} (nothing else is supported)")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
