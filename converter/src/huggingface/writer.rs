//! From a checkpoint to a directory that Python's `transformers` loads.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use smidgen_runtime::format::{Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use super::names;
use crate::atomic::write_file;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, io_at};
use crate::tokenizer;

/// Floats that are in memory at once while a tensor is copied.
const SLAB: usize = 1 << 20;

/// Writes `model.safetensors` (F32), `config.json`, `generation_config.json` and, if there is a
/// tokenizer, its files into a directory, which is created if it is not there. Each file appears
/// whole or not at all; the weights come before the `config.json` that describes them.
///
/// # Errors
/// If the model is none that `transformers` has a class for, or a file can't be written.
pub fn write_directory(directory: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    checkpoint.check()?;
    let config = config_json(checkpoint)?;
    let tensors = stored_tensors(checkpoint);
    fs::create_dir_all(directory).map_err(io_at(directory))?;
    if let Some(spec) = &checkpoint.tokenizer {
        tokenizer::huggingface::write_directory(spec, directory)?;
    }
    if !checkpoint.chat_template.is_empty() {
        write_text(&directory.join("chat_template.jinja"), &checkpoint.chat_template)?;
    }
    let path = directory.join("model.safetensors");
    write_file(&path, |file| write_safetensors(file, &path, checkpoint, &tensors))?;
    let mut generation = token_ids(checkpoint);
    generation.insert("do_sample".into(), true.into());
    write_json(&directory.join("generation_config.json"), generation)?;
    write_json(&directory.join("config.json"), config)
}

fn write_json(path: &Path, map: Map<String, Value>) -> Result<(), Error> {
    write_text(path, &format!("{:#}\n", Value::Object(map)))
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_file(path, |file| file.write_all(text.as_bytes()).map_err(io_at(path)))
}

/// How a tensor of the file is made from those of the checkpoint.
enum Content {
    /// As it is.
    Plain(u32, Role),
    /// Matrices one below the other, then transposed: GPT-2's Conv1D.
    Transposed(u32, Vec<Role>),
    /// Vectors one behind the other.
    Joined(u32, Vec<Role>),
    /// A bias that the checkpoint does not have.
    Zeros,
}

struct Stored {
    name: String,
    shape: Vec<usize>,
    content: Content,
}

/// The tensors of the file, in its order.
fn stored_tensors(checkpoint: &Checkpoint) -> Vec<Stored> {
    let config = &checkpoint.config;
    let gpt2 = config.architecture == Architecture::Gpt2;
    let mut tensors = Vec::new();
    for role in names::roles() {
        let Some(name) = (if gpt2 { names::gpt2(role) } else { names::llama(role) }) else { continue };
        // Keys and values are written with the queries.
        let with_queries = matches!(role, Role::K | Role::KBias | Role::V | Role::VBias);
        if gpt2 && with_queries || !gpt2 && !checkpoint.has(role) {
            continue;
        }
        for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
            tensors.push(if gpt2 {
                stored_gpt2(checkpoint, layer, role, name)
            } else {
                let layer_name = format!("model.layers.{layer}.{name}");
                let name = if role.is_per_layer() { layer_name } else { format!("model.{name}") };
                Stored { name, shape: shape_of(config, role), content: Content::Plain(layer, role) }
            });
        }
    }
    if checkpoint.has(Role::Head) {
        let content = Content::Plain(0, Role::Head);
        tensors.push(Stored { name: names::HEAD.into(), shape: shape_of(config, Role::Head), content });
    }
    tensors
}

fn stored_gpt2(checkpoint: &Checkpoint, layer: u32, role: Role, name: &str) -> Stored {
    let layer_name = format!("transformer.h.{layer}.{name}");
    let name = if role.is_per_layer() { layer_name } else { format!("transformer.{name}") };
    let (rows, cols) = role.shape(&checkpoint.config);
    let (shape, content) = match role {
        Role::Q => (vec![cols, 3 * rows], Content::Transposed(layer, vec![Role::Q, Role::K, Role::V])),
        Role::QBias => (vec![3 * cols], Content::Joined(layer, vec![Role::QBias, Role::KBias, Role::VBias])),
        Role::O | Role::Up | Role::Down => (vec![cols, rows], Content::Transposed(layer, vec![role])),
        _ => (shape_of(&checkpoint.config, role), Content::Plain(layer, role)),
    };
    // transformers' GPT-2 has all biases; a model without them has zeros there.
    let content = if checkpoint.has(role) { content } else { Content::Zeros };
    Stored { name, shape, content }
}

fn shape_of(config: &Config, role: Role) -> Vec<usize> {
    let (rows, cols) = role.shape(config);
    if role.is_vector() { vec![cols] } else { vec![rows, cols] }
}

fn write_safetensors(
    file: &mut File,
    path: &Path,
    checkpoint: &Checkpoint,
    tensors: &[Stored],
) -> Result<(), Error> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut at = 0;
    for tensor in tensors {
        let end = at + 4 * tensor.shape.iter().product::<usize>();
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [at, end] });
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut header = Value::Object(header).to_string();
    // Data begins at a multiple of eight bytes, as the reference implementation has it.
    header.extend(core::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut sink = Sink { out: BufWriter::new(file), path };
    sink.bytes(&(header.len() as u64).to_le_bytes())?;
    sink.bytes(header.as_bytes())?;
    for tensor in tensors {
        write_content(&mut sink, checkpoint, tensor)?;
    }
    sink.out.flush().map_err(io_at(path))
}

struct Sink<'a> {
    out: BufWriter<&'a mut File>,
    path: &'a Path,
}

impl Sink<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(io_at(self.path))
    }

    fn floats(&mut self, values: &[f32]) -> Result<(), Error> {
        values.iter().try_for_each(|value| self.bytes(&value.to_le_bytes()))
    }
}

fn write_content(sink: &mut Sink<'_>, checkpoint: &Checkpoint, tensor: &Stored) -> Result<(), Error> {
    match &tensor.content {
        Content::Plain(layer, role) => {
            let source = checkpoint.tensor(*layer, *role)?;
            let (rows, cols) = source.shape();
            let slab_rows = (SLAB / cols.max(1)).max(1);
            for first in (0..rows).step_by(slab_rows) {
                let range = first..rows.min(first + slab_rows);
                let mut values = vec![0.0; range.len() * cols];
                source.read_rows(range, &mut values);
                sink.floats(&values)?;
            }
        }
        Content::Transposed(layer, roles) => {
            let parts: Vec<_> =
                roles.iter().map(|role| checkpoint.read(*layer, *role)).collect::<Result<_, _>>()?;
            let cols = tensor.shape[0];
            for col in 0..cols {
                for part in &parts {
                    let column: Vec<f32> = part.chunks(cols).map(|row| row[col]).collect();
                    sink.floats(&column)?;
                }
            }
        }
        Content::Joined(layer, roles) => {
            for role in roles {
                sink.floats(&checkpoint.read(*layer, *role)?)?;
            }
        }
        Content::Zeros => {
            for _ in 0..tensor.shape.iter().product() {
                sink.floats(&[0.0])?;
            }
        }
    }
    Ok(())
}

/// `bos_token_id` and `eos_token_id` as `transformers` wants them.
fn token_ids(checkpoint: &Checkpoint) -> Map<String, Value> {
    let (mut bos, mut eos) = (Value::Null, Value::Null);
    if let Some(spec) = &checkpoint.tokenizer {
        bos = json!(spec.bos);
        eos = match &spec.end_tokens[..] {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        };
    }
    Map::from_iter([("bos_token_id".into(), bos), ("eos_token_id".into(), eos)])
}

/// The f64 that prints as the f32 does.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn config_json(checkpoint: &Checkpoint) -> Result<Map<String, Value>, Error> {
    let value = match checkpoint.config.architecture {
        Architecture::Gpt2 => gpt2_config(checkpoint)?,
        _ => llama_config(checkpoint)?,
    };
    let Value::Object(mut map) = value else { unreachable!("both are objects") };
    map.insert("vocab_size".into(), checkpoint.config.vocab_size.into());
    map.insert("tie_word_embeddings".into(), (!checkpoint.has(Role::Head)).into());
    map.insert("dtype".into(), "float32".into());
    map.insert("torch_dtype".into(), "float32".into()); // what transformers below 5 reads
    map.extend(token_ids(checkpoint));
    Ok(map)
}

fn gpt2_config(checkpoint: &Checkpoint) -> Result<Value, Error> {
    let config = &checkpoint.config;
    if config.n_kv_heads != config.n_heads || config.q_dim() != config.dim as usize {
        let Config { dim, n_heads, n_kv_heads, head_dim, .. } = config;
        return Err(no_class(
            checkpoint,
            format!(
                "GPT-2 has as many key heads as query heads, together as wide as the model; \
                 this one has {n_heads} and {n_kv_heads} heads of {head_dim}, width {dim}"
            ),
        ));
    }
    Ok(json!({
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "n_embd": config.dim,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.ffn_dim,
        "n_positions": config.context_len,
        "n_ctx": config.context_len,
        "layer_norm_epsilon": decimal(config.norm_eps),
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }))
}

fn llama_config(checkpoint: &Checkpoint) -> Result<Value, Error> {
    let config = &checkpoint.config;
    let has = |role| checkpoint.has(role);
    let all = |roles: &[Role]| roles.iter().all(|role| has(*role));
    let any = |roles: &[Role]| roles.iter().any(|role| has(*role));
    let (qkv, ffn) =
        ([Role::QBias, Role::KBias, Role::VBias], [Role::GateBias, Role::UpBias, Role::DownBias]);
    let norms = [Role::QNorm, Role::KNorm];
    let (model_type, class) = match (any(&qkv), has(Role::OBias), any(&ffn), any(&norms)) {
        (false, false, false, false) => ("llama", "LlamaForCausalLM"),
        (true, false, false, false) if all(&qkv) => ("qwen2", "Qwen2ForCausalLM"),
        (bias, o_bias, ffn_bias, false) if bias == o_bias && all(&qkv) == bias && all(&ffn) == ffn_bias => {
            ("llama", "LlamaForCausalLM")
        }
        (bias, o_bias, false, true) if bias == o_bias && all(&qkv) == bias && all(&norms) => {
            ("qwen3", "Qwen3ForCausalLM")
        }
        _ => {
            let extra = [&qkv[..], &[Role::OBias], &ffn, &norms].concat();
            let names: Vec<_> = extra.into_iter().filter(|role| has(*role)).map(Role::name).collect();
            return Err(no_class(checkpoint, format!("no model class has just {}", names.join(", "))));
        }
    };
    let mut map = json!({
        "model_type": model_type,
        "architectures": [class],
        "hidden_act": "silu",
        "hidden_size": config.dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "max_position_embeddings": config.context_len,
        "rms_norm_eps": decimal(config.norm_eps),
        "rope_theta": decimal(checkpoint.rope_theta),
        "rope_scaling": rope_scaling(checkpoint.rope_scaling),
        "attention_dropout": 0.0,
    });
    if model_type != "qwen2" {
        map["attention_bias"] = has(Role::OBias).into();
    }
    if model_type == "llama" {
        map["mlp_bias"] = has(Role::GateBias).into();
    }
    Ok(map)
}

fn rope_scaling(scaling: RopeScaling) -> Value {
    match scaling {
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": decimal(factor) }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "rope_type": "llama3",
            "factor": decimal(factor),
            "low_freq_factor": decimal(low_freq_factor),
            "high_freq_factor": decimal(high_freq_factor),
            "original_max_position_embeddings": original_context,
        }),
        _ => Value::Null,
    }
}

fn no_class(checkpoint: &Checkpoint, reason: String) -> Error {
    Error::Inconsistent {
        name: checkpoint.name.clone(),
        reason: format!("can't be a Hugging Face model: {reason}"),
    }
}
