//! The model's arena as a [`Checkpoint`], and back: what is saved is what everybody can read.

use std::path::Path;
use std::sync::Arc;

use smidgen_converter::{Checkpoint, ConvertOptions, KeepRule, TensorSource};
use smidgen_runtime::Architecture;
use smidgen_runtime::format::{Need, Role, RopeScaling};
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

/// Every rule must say something about a matrix that the model has: a run must not find out at its
/// end that its model file cannot be made.
pub(super) fn check_types(model: &Model, rules: &[KeepRule]) -> Result<(), TrainError> {
    let slots = slots(model);
    match rules.iter().find(|rule| !slots.iter().any(|slot| rule.covers(slot.role, slot.layer))) {
        Some(rule) => Err(TrainError::option("--keep-types", rule, "of matrices that the model has".into())),
        None => Ok(()),
    }
}

/// The matrices of a model with the types that a model file made by `options` has for them.
pub(super) fn quantized_matrices(model: &Model, options: &ConvertOptions) -> Vec<QuantizedMatrix> {
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use smidgen_converter::convert::write;
    use smidgen_runtime::{KvType, Layout, Model as Running, Session, SessionOptions};

    use super::*;
    use crate::bpe::BpeTrainer;
    use crate::model::{Regime, Workspace, forward_loss};
    use crate::parallel::Pool;
    use crate::qat::FakeQuant;
    use crate::rng::Rng;
    use crate::run::config::{Arch, ModelConfig};
    use smidgen_runtime::format::DType;

    /// A model whose weights have outliers, so that rounding shows.
    fn model(arch: Arch, qk_norm: bool) -> Model {
        let kv_heads = if arch == Arch::Gpt2 { 4 } else { 2 };
        // Widths that are no multiple of 32 and more than one block of 256.
        let shape = ModelConfig {
            arch,
            layers: 2,
            dim: 72,
            heads: 4,
            kv_heads,
            ffn: 300,
            context: 24,
            qk_norm,
            ..ModelConfig::default()
        };
        let mut model = Model::new(shape.with_vocab(257).unwrap(), shape.options()).unwrap();
        model.init(1);
        let mut rng = Rng::new(4);
        for value in &mut model.params {
            *value *= 1.0 + rng.below(40) as f32 / 10.0;
        }
        model
    }

    /// The mean loss of a model file, computed by the runtime with f32 keys and values.
    fn by_the_runtime(file: &[u8], tokens: &[u32]) -> f64 {
        let mut bytes = vec![0; file.len() + 64];
        let begin = bytes.as_ptr().align_offset(64);
        bytes[begin..begin + file.len()].copy_from_slice(file);
        let model = Running::load(&bytes[begin..begin + file.len()]).unwrap();
        let kv_type = Some(KvType::F32);
        let options = SessionOptions { kv_type, prompt_block: 24, ..SessionOptions::new(24) };
        let layout = Layout::new(model.config(), model.kv_type(), options).unwrap();
        let mut memory = vec![0; layout.total + 64];
        let mut session = Session::new(&model, &mut memory, options).unwrap();
        let (inputs, targets) = (&tokens[..24], &tokens[1..]);
        let mut sum = 0.0;
        let each = |index: usize, logits: &[f32]| {
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            sum += total.ln() - f64::from(logits[targets[index] as usize]);
        };
        session.feed_with_logits(inputs, each).unwrap();
        sum / 24.0
    }

    #[test]
    fn what_is_trained_is_what_runs() {
        let tokenizer = BpeTrainer::new(257, smidgen_runtime::tokenizer::PreTokenizer::Gpt2)
            .finish(&["<|endoftext|>"])
            .unwrap();
        let mut rng = Rng::new(9);
        let tokens: Vec<u32> = (0..25).map(|_| rng.below(257) as u32).collect();
        let pool = Pool::new(2);
        for (arch, qk_norm) in [(Arch::Llama, false), (Arch::Llama, true), (Arch::Gpt2, false)] {
            let mut model = model(arch, qk_norm);
            let mut workspace = Workspace::forward_only(&model, 1, 24).unwrap();
            let mut loss = |model: &Model, round_activations| {
                workspace.regime = Regime { round_activations, ..Regime::default() };
                f64::from(forward_loss(model, &mut workspace, &pool, &tokens[..24], &tokens[1..]))
            };
            let exact = loss(&model, false);
            let kept = "k=q8,v=q8,down.1=q8".split(',').map(|rule| rule.parse().unwrap()).collect();
            for (dtype, keep) in [(DType::Q8, vec![]), (DType::Q4, vec![]), (DType::Q4, kept)] {
                let options = ConvertOptions { keep, ..ConvertOptions::new(dtype) };
                let mut fake = FakeQuant::new(model.params.len(), quantized_matrices(&model, &options));
                fake.swap_in(&pool, &mut model.params);
                // Steps that no search would choose.
                let grads: Vec<f32> = (0..model.params.len()).map(|i| (i as f32).sin()).collect();
                fake.swap_back(&mut model.params);
                (0..20).for_each(|count| fake.learn(&pool, &model.params, &grads, 5e-3, count));
                fake.swap_in(&pool, &mut model.params);
                let trained = loss(&model, true);
                // What is saved while rounding, and the model file of that.
                let checkpoint = to_checkpoint(&model, &tokenizer, "test");
                fake.swap_back(&mut model.params);
                let mut file = Cursor::new(Vec::new());
                write(&checkpoint, &mut file, Path::new("test"), &options, |_| {}).unwrap();
                let runs = by_the_runtime(&file.into_inner(), &tokens);
                let (off, rounding) = ((trained - runs).abs(), (exact - runs).abs());
                // Sums in another order may tip an activation that lies between two integers.
                assert!(off < 2e-3, "{arch:?} {dtype:?}: {trained}, runs with {runs}");
                assert!(dtype == DType::Q8 || rounding > 10.0 * off, "{arch:?}: {off} of {rounding}");
            }
        }
    }
}
