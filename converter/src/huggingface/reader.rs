//! From a directory to a checkpoint.

use std::path::Path;

use smidgen_runtime::format::Role;
use smidgen_runtime::{Architecture, Config};

use super::config::{HfConfig, Variant, read_config};
use super::weights::Weights;
use super::{names, words};
use crate::checkpoint::Checkpoint;
use crate::detect::TokenizerChoice;
use crate::error::Error;

/// Opens a Hugging Face directory: `config.json`, `model.safetensors` (or its shards), and,
/// where they are there, `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`.
///
/// # Errors
/// Names the file and the key or tensor that is missing, malformed or not supported.
pub fn open(directory: &Path, tokenizer: &TokenizerChoice) -> Result<Checkpoint, Error> {
    let hf = read_config(&directory.join("config.json"))?;
    let mut checkpoint = Checkpoint::new(hf.config, hf.rope_theta, hf.rope_scaling);
    let name =
        directory.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    checkpoint.name = name.unwrap_or_else(|| hf.model_type.into());
    checkpoint.source = format!("Hugging Face checkpoint ({})", hf.model_type);
    checkpoint.notes.clone_from(&hf.notes);
    read_tensors(directory, &hf, &mut checkpoint)?;
    checkpoint.chat_template = words::chat_template(directory)?;
    if !tokenizer.apply(&mut checkpoint)? {
        words::read_tokenizer(directory, &mut checkpoint)?;
    }
    Ok(checkpoint)
}

fn read_tensors(directory: &Path, hf: &HfConfig, checkpoint: &mut Checkpoint) -> Result<(), Error> {
    let gpt2 = hf.config.architecture == Architecture::Gpt2;
    let prefix = if gpt2 { "transformer." } else { "model." };
    let mut weights = Weights::open(directory, prefix, hf.mlx)?;
    let mut put = |layer, role, tensor| checkpoint.tensors.insert((layer, role), tensor);
    for role in names::roles().filter(|role| wanted(*role, gpt2, &hf.variant)) {
        for layer in 0..if role.is_per_layer() { hf.config.n_layers } else { 1 } {
            let tensor = if gpt2 {
                gpt2_tensor(&mut weights, &hf.config, layer, role)?
            } else {
                llama_tensor(&mut weights, &hf.config, layer, role)?
            };
            put(layer, role, tensor);
        }
    }
    if !hf.tied {
        let (rows, cols) = Role::Head.shape(&hf.config);
        put(0, Role::Head, weights.head(names::HEAD, rows, cols)?);
    }
    // Buffers of old versions, and the head's copy of a tied embedding.
    let mut harmless = vec![".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];
    if hf.tied {
        harmless.extend(["lm_head.weight", "lm_head.scales", "lm_head.biases"]);
    }
    let unused = weights.unused(&harmless)?;
    if !unused.is_empty() {
        checkpoint.notes.push(format!("tensors that the model does not use: {}", unused.join(", ")));
    }
    Ok(())
}

/// Whether a model of this kind has the role in its files. The head is asked for by itself.
fn wanted(role: Role, gpt2: bool, variant: &Variant) -> bool {
    let name = if gpt2 { names::gpt2(role) } else { names::llama(role) };
    name.is_some()
        && match role {
            Role::QBias | Role::KBias | Role::VBias => variant.qkv_bias,
            Role::OBias => variant.o_bias,
            Role::GateBias | Role::UpBias | Role::DownBias => variant.ffn_bias,
            Role::QNorm | Role::KNorm => variant.qk_norm,
            _ => true,
        }
}

type Tensor = Result<crate::source::TensorSource, Error>;

fn llama_tensor(weights: &mut Weights, config: &Config, layer: u32, role: Role) -> Tensor {
    let (rows, cols) = role.shape(config);
    let name = names::llama(role).unwrap_or_default();
    let name = if role.is_per_layer() { format!("layers.{layer}.{name}") } else { name.into() };
    if role.is_vector() { weights.vector(&name, cols) } else { weights.matrix(&name, rows, cols) }
}

fn gpt2_tensor(weights: &mut Weights, config: &Config, layer: u32, role: Role) -> Tensor {
    let (rows, cols) = role.shape(config);
    let name = names::gpt2(role).unwrap_or_default();
    let name = if role.is_per_layer() { format!("h.{layer}.{name}") } else { name.into() };
    let part = match role {
        Role::Q | Role::QBias => Some(0),
        Role::K | Role::KBias => Some(1),
        Role::V | Role::VBias => Some(2),
        _ => None,
    };
    match (role.is_vector(), part) {
        (true, None) => weights.vector(&name, cols),
        // A vector is one row: its parts are columns.
        (true, Some(part)) => Ok(weights.vector(&name, 3 * cols)?.columns(part * cols..(part + 1) * cols)),
        (false, Some(part)) => {
            let whole = weights.matrix(&name, cols, 3 * rows)?;
            Ok(whole.transposed().rows(part * rows..(part + 1) * rows))
        }
        // Conv1D is [in, out]; embeddings are not.
        (false, None) if role.is_per_layer() => Ok(weights.matrix(&name, cols, rows)?.transposed()),
        (false, None) => weights.matrix(&name, rows, cols),
    }
}
