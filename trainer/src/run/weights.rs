//! The model's arena as a [`Checkpoint`], and back: what is saved is what everybody can read.

use std::path::Path;
use std::sync::Arc;

use smidgen_converter::{Checkpoint, ConvertOptions, TensorSource};
use smidgen_runtime::Architecture;
use smidgen_runtime::format::{DType, Need, Role, RopeScaling};
use smidgen_runtime::tokenizer::TokenizerSpec;

use super::error::TrainError;
use crate::model::Model;
use crate::qat::QuantizedMatrix;

/// Where one tensor of a checkpoint lies in the arena: `[rows, cols]`, row-major.
struct Slot {
    layer: u32,
    role: Role,
    rows: usize,
    cols: usize,
    offset: usize,
}

/// All tensors of a model. GPT-2's joined queries, keys and values are three.
fn slots(model: &Model) -> Vec<Slot> {
    let gpt2 = model.config.architecture == Architecture::Gpt2;
    let mut slots = Vec::new();
    for param in model.layout.params() {
        let (layer, name) = split_layer(&param.name);
        let roles = if gpt2 { gpt2_roles(name) } else { llama_roles(name) };
        let mut offset = param.offset;
        for &role in roles {
            let (rows, cols) = role.shape(&model.config);
            slots.push(Slot { layer, role, rows, cols, offset });
            offset += rows * cols;
        }
        debug_assert_eq!(offset, param.range().end, "{} is as large as its roles", param.name);
    }
    slots
}

/// `transformer.h.3.ln_1.weight` is layer 3 and `ln_1.weight`.
fn split_layer(name: &str) -> (u32, &str) {
    let name = name.trim_start_matches("transformer.").trim_start_matches("model.");
    let in_layer = name.strip_prefix("h.").or_else(|| name.strip_prefix("layers."));
    let split = in_layer.and_then(|rest| rest.split_once('.'));
    match split.and_then(|(layer, rest)| Some((layer.parse().ok()?, rest))) {
        Some(found) => found,
        None => (0, name),
    }
}

fn llama_roles(name: &str) -> &'static [Role] {
    match name {
        "embed_tokens.weight" => &[Role::Embedding],
        "norm.weight" => &[Role::FinalNorm],
        "lm_head.weight" => &[Role::Head],
        "input_layernorm.weight" => &[Role::AttnNorm],
        "self_attn.q_proj.weight" => &[Role::Q],
        "self_attn.k_proj.weight" => &[Role::K],
        "self_attn.v_proj.weight" => &[Role::V],
        "self_attn.o_proj.weight" => &[Role::O],
        "self_attn.q_proj.bias" => &[Role::QBias],
        "self_attn.k_proj.bias" => &[Role::KBias],
        "self_attn.v_proj.bias" => &[Role::VBias],
        "self_attn.q_norm.weight" => &[Role::QNorm],
        "self_attn.k_norm.weight" => &[Role::KNorm],
        "post_attention_layernorm.weight" => &[Role::FfnNorm],
        "mlp.gate_proj.weight" => &[Role::Gate],
        "mlp.up_proj.weight" => &[Role::Up],
        "mlp.down_proj.weight" => &[Role::Down],
        other => unreachable!("the model has a parameter {other:?} that has no role"),
    }
}

fn gpt2_roles(name: &str) -> &'static [Role] {
    match name {
        "wte.weight" => &[Role::Embedding],
        "wpe.weight" => &[Role::PositionEmbedding],
        "ln_f.weight" => &[Role::FinalNorm],
        "ln_f.bias" => &[Role::FinalNormBias],
        "lm_head.weight" => &[Role::Head],
        "ln_1.weight" => &[Role::AttnNorm],
        "ln_1.bias" => &[Role::AttnNormBias],
        "attn.c_attn.weight" => &[Role::Q, Role::K, Role::V],
        "attn.c_attn.bias" => &[Role::QBias, Role::KBias, Role::VBias],
        "attn.c_proj.weight" => &[Role::O],
        "attn.c_proj.bias" => &[Role::OBias],
        "ln_2.weight" => &[Role::FfnNorm],
        "ln_2.bias" => &[Role::FfnNormBias],
        "mlp.c_fc.weight" => &[Role::Up],
        "mlp.c_fc.bias" => &[Role::UpBias],
        "mlp.c_proj.weight" => &[Role::Down],
        "mlp.c_proj.bias" => &[Role::DownBias],
        other => unreachable!("the model has a parameter {other:?} that has no role"),
    }
}

/// The matrices of a model with the types that a model file of type `dtype` has for them.
pub(super) fn quantized_matrices(model: &Model, dtype: DType) -> Vec<QuantizedMatrix> {
    let options = ConvertOptions::new(dtype);
    let matrices = slots(model).into_iter().filter(|slot| !slot.role.is_vector());
    matrices
        .map(|Slot { layer, role, rows, cols, offset }| QuantizedMatrix {
            offset,
            rows,
            cols,
            dtype: options.type_of(role, layer),
        })
        .collect()
}

/// A copy of the model as a checkpoint.
pub(super) fn to_checkpoint(model: &Model, tokenizer: &TokenizerSpec, name: &str) -> Checkpoint {
    let rope_theta = match model.config.architecture {
        Architecture::Gpt2 => 0.0,
        _ => model.options.rope_theta,
    };
    let mut checkpoint = Checkpoint::new(model.config, rope_theta, RopeScaling::None);
    checkpoint.name = name.to_owned();
    checkpoint.source = format!("trained by smidgen {}", env!("CARGO_PKG_VERSION"));
    checkpoint.tokenizer = Some(tokenizer.clone());
    let arena: Arc<[f32]> = model.params[..].into();
    for slot in slots(model) {
        let tensor = TensorSource::shared(slot.rows, slot.cols, Arc::clone(&arena), slot.offset);
        checkpoint.tensors.insert((slot.layer, slot.role), tensor);
    }
    checkpoint
}

/// Sets all parameters of a new model to those of a checkpoint of the same shape, whose context
/// may be longer; biases that it does not have are 0.
pub(super) fn start_from(model: &mut Model, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    for slot in slots(model) {
        let values = &mut model.params[slot.offset..slot.offset + slot.rows * slot.cols];
        if slot.role.need(checkpoint.config.architecture) == Need::May
            && slot.role != Role::Head
            && !checkpoint.has(slot.role)
        {
            values.fill(0.0);
        } else {
            checkpoint.tensor(slot.layer, slot.role)?.read_rows(0..slot.rows, values);
        }
    }
    Ok(())
}

/// Sets all parameters of `model` to those of a checkpoint of the same dimensions.
pub(super) fn read_into(model: &mut Model, checkpoint: &Checkpoint, path: &Path) -> Result<(), TrainError> {
    if checkpoint.config != model.config {
        let what =
            format!("config.json describes {:?}, but the run trains {:?}", checkpoint.config, model.config);
        return Err(TrainError::BadFile { path: path.to_path_buf(), what });
    }
    for slot in slots(model) {
        let tensor = checkpoint.tensor(slot.layer, slot.role)?;
        let values = &mut model.params[slot.offset..slot.offset + slot.rows * slot.cols];
        tensor.read_rows(0..slot.rows, values);
    }
    Ok(())
}
