//! From a GGUF file to a checkpoint.

use std::path::Path;

use smidgen_runtime::config::{MAX_DIMENSION, MAX_LAYERS};
use smidgen_runtime::format::{Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use super::file::{File, Value};
use super::{names, tokenizer};
use crate::checkpoint::Checkpoint;
use crate::detect::TokenizerChoice;
use crate::error::Error;
use crate::source::TensorSource;

/// The architectures that are read. Mistral's files say `llama`.
const ARCHITECTURES: [&str; 4] = ["llama", "gpt2", "qwen2", "qwen3"];

/// Opens a GGUF file of version 2 or 3.
///
/// # Errors
/// Names the key or tensor that is missing, malformed or not supported.
pub fn open(path: &Path, choice: &TokenizerChoice) -> Result<Checkpoint, Error> {
    let file = File::open(path)?;
    let arch = architecture(&file)?;
    if file.tensors.is_empty() {
        return Err(Error::unsupported(path, "a GGUF file without tensors (a vocabulary only)"));
    }
    let config = dimensions(&file, arch)?;
    let (theta, scaling) = rope(&file, arch, &config)?;
    let mut checkpoint = Checkpoint::new(config, theta, scaling);
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    checkpoint.name = file.text("general.name")?.map_or(stem, Into::into);
    checkpoint.source = format!("GGUF file ({arch})");
    checkpoint.chat_template = file.text("tokenizer.chat_template")?.unwrap_or_default().into();
    if file.get(&format!("{arch}.attention.sliding_window")).is_some() {
        checkpoint.notes.push(format!("windowed attention: the context is {} tokens", config.context_len));
    }
    read_tensors(&file, arch, &mut checkpoint)?;
    stretched(&file, arch, &mut checkpoint)?;
    if !choice.apply(&mut checkpoint)? {
        match tokenizer::read(&file)? {
            Some((spec, notes)) => {
                checkpoint.tokenizer = Some(spec);
                checkpoint.notes.extend(notes);
            }
            None => checkpoint.notes.push("the file has no tokenizer: the model gets none".into()),
        }
    }
    Ok(checkpoint)
}

fn architecture(file: &File) -> Result<&'static str, Error> {
    let key = "general.architecture";
    let name = file.text(key)?;
    let known = ARCHITECTURES.into_iter().find(|known| Some(*known) == name);
    known.ok_or_else(|| file.key_error(key, ARCHITECTURES.join(", ")))
}

fn dimensions(file: &File, arch: &str) -> Result<Config, Error> {
    let key = |name: &str| format!("{arch}.{name}");
    let optional = |name: &str, max: u32| {
        let key = key(name);
        match file.integer(&key, max)? {
            Some(0) => Err(file.key_error(&key, format!("an integer from 1 to {max}"))),
            value => Ok(value),
        }
    };
    let required = |name: &str, max: u32| {
        optional(name, max)?.ok_or_else(|| file.key_error(&key(name), format!("an integer from 1 to {max}")))
    };
    for (name, why) in
        [("expert_count", "mixtures of experts"), ("attention.value_residual", "value residuals")]
    {
        if file.integer(&key(name), u32::MAX)?.is_some_and(|count| count > 0) {
            return Err(file.key_error(&key(name), format!("0 ({why} are not supported)")));
        }
    }
    let gpt2 = arch == "gpt2";
    let dim = required("embedding_length", MAX_DIMENSION)?;
    let n_heads = required("attention.head_count", 1 << 12)?;
    let n_kv_heads = optional("attention.head_count_kv", n_heads)?.unwrap_or(n_heads);
    let head_dim = match optional("attention.key_length", 1 << 12)? {
        Some(head_dim) => head_dim,
        None if dim.is_multiple_of(n_heads) => dim / n_heads,
        None => {
            return Err(file.key_error(&key("attention.head_count"), format!("a divisor of the width {dim}")));
        }
    };
    for name in ["attention.value_length", "rope.dimension_count"] {
        if optional(name, u32::MAX)?.is_some_and(|value| value != head_dim)
            && !(gpt2 && name.starts_with("rope"))
        {
            return Err(file.key_error(&key(name), format!("the head's width {head_dim}")));
        }
    }
    let embedding = file.tensors.get("token_embd.weight");
    let Some(vocab_size) = embedding.and_then(|entry| entry.dims.get(1)) else {
        return Err(Error::MissingTensor { path: file.path.clone(), tensor: "token_embd.weight".into() });
    };
    let eps_key = key(if gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" });
    let mut config = Config {
        architecture: if gpt2 { Architecture::Gpt2 } else { Architecture::Llama },
        n_layers: required("block_count", MAX_LAYERS)?,
        dim,
        n_heads,
        n_kv_heads,
        head_dim,
        ffn_dim: required("feed_forward_length", MAX_DIMENSION)?,
        vocab_size: u32::try_from(*vocab_size).unwrap_or(u32::MAX),
        context_len: required("context_length", MAX_DIMENSION)?,
        norm_eps: file.float(&eps_key)?.ok_or_else(|| file.key_error(&eps_key, "a float"))?,
    };
    // Up to as many positions as the window holds, windowed attention is full attention.
    if let Some(window) = optional("attention.sliding_window", u32::MAX)? {
        config.context_len = config.context_len.min(window);
    }
    config.validate().map_err(|source| Error::Load { path: file.path.clone(), source })?;
    Ok(config)
}

/// Rotary base and stretching, as far as keys say it.
fn rope(file: &File, arch: &str, config: &Config) -> Result<(f32, RopeScaling), Error> {
    if config.architecture == Architecture::Gpt2 {
        return Ok((0.0, RopeScaling::None));
    }
    let key = |name: &str| format!("{arch}.rope.{name}");
    let theta = file.float(&key("freq_base"))?.unwrap_or(10_000.0);
    if theta < 1.0 {
        return Err(file.key_error(&key("freq_base"), "at least 1"));
    }
    let kind = key("scaling.type");
    // Files of before 2023-10 have the factor by another name; one without a type is linear.
    let factor_key =
        [key("scaling.factor"), key("scale_linear")].into_iter().find(|key| file.get(key).is_some());
    let factor = match &factor_key {
        None => 1.0,
        Some(key) => match file.float(key)? {
            Some(factor) if factor >= 1.0 => factor,
            Some(factor) if factor != 0.0 => return Err(file.key_error(key, "at least 1")),
            _ => 1.0,
        },
    };
    let scaling = match file.text(&kind)? {
        Some("none") => RopeScaling::None,
        None | Some("linear") if factor == 1.0 => RopeScaling::None,
        None | Some("linear") => RopeScaling::Linear { factor },
        Some(_) => return Err(file.key_error(&kind, "none or linear")),
    };
    Ok((theta, scaling))
}

/// `rope_freqs.weight` divides the frequencies one by one: Llama 3's stretching, of which the
/// parameters are not in the file.
fn stretched(file: &File, arch: &str, checkpoint: &mut Checkpoint) -> Result<(), Error> {
    const NAME: &str = "rope_freqs.weight";
    let config = checkpoint.config;
    if config.architecture == Architecture::Gpt2 || !file.tensors.contains_key(NAME) {
        return Ok(());
    }
    let half = config.head_dim as usize / 2;
    let factors = file.tensor(NAME, None, half)?.read();
    let base = crate::frequencies(checkpoint.rope_theta, RopeScaling::None, half * 2);
    if factors.iter().any(|factor| !factor.is_finite() || *factor < 1e-3) {
        return Err(Error::malformed(
            &file.path,
            format!("tensor `{NAME}` has a factor that is no positive number"),
        ));
    }
    if factors.iter().all(|factor| *factor == 1.0) {
        return Ok(());
    }
    let wanted: Vec<f32> = base.iter().zip(&factors).map(|(base, factor)| base / factor).collect();
    let original = file.integer(&format!("{arch}.rope.scaling.original_context_length"), MAX_DIMENSION)?;
    let factor = factors.iter().copied().fold(1.0, f32::max);
    let guess = RopeScaling::Llama3 {
        factor,
        low_freq_factor: file.float("smidgen.rope.low_freq_factor")?.unwrap_or(1.0),
        high_freq_factor: file.float("smidgen.rope.high_freq_factor")?.unwrap_or(4.0),
        original_context: original.unwrap_or(8192),
    };
    let guessed = crate::frequencies(checkpoint.rope_theta, guess, half * 2);
    let fits = guessed.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs());
    let frequencies = if fits {
        checkpoint.rope_scaling = guess;
        guessed
    } else {
        checkpoint
            .notes
            .push("rotary frequencies are the file's own; how they were made is not known".into());
        wanted
    };
    checkpoint.tensors.insert((0, Role::RopeFrequencies), TensorSource::owned(1, half, frequencies));
    Ok(())
}

fn read_tensors(file: &File, arch: &str, checkpoint: &mut Checkpoint) -> Result<(), Error> {
    let config = checkpoint.config;
    let gpt2 = config.architecture == Architecture::Gpt2;
    let head_dim = config.head_dim as usize;
    let mut used = vec!["rope_freqs.weight".to_owned()];
    for role in (0..64).filter_map(Role::from_u8) {
        for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
            let Some(name) = names::full_name(role, layer, gpt2) else { continue };
            if gpt2 && matches!(role, Role::Gate | Role::GateBias | Role::QNorm | Role::KNorm) {
                continue;
            }
            use smidgen_runtime::format::Need;
            match role.need(config.architecture) {
                Need::MustNot => continue,
                Need::May if !file.tensors.contains_key(&name) => continue,
                _ => used.push(name.clone()),
            }
            // Many writers repeat the embedding as the head.
            if role == Role::Head && file.same("token_embd.weight", &name) {
                checkpoint
                    .notes
                    .push("output.weight is token_embd.weight again: the head is the embedding".into());
                continue;
            }
            let tensor = if gpt2 {
                gpt2_tensor(file, &config, role, &name)?
            } else {
                let (rows, cols) = role.shape(&config);
                let tensor = file.tensor(&name, (!role.is_vector()).then_some(rows), cols)?;
                match role {
                    Role::Q | Role::K if arch == "llama" => tensor.pairs_to_halves(head_dim),
                    Role::QBias | Role::KBias if arch == "llama" => {
                        // One row: its columns are permuted as the matrix's rows are.
                        let column = TensorSource::owned(cols, 1, tensor.read());
                        TensorSource::owned(1, cols, column.pairs_to_halves(head_dim).read())
                    }
                    _ => tensor,
                }
            };
            checkpoint.tensors.insert((layer, role), tensor);
        }
    }
    let unused = file.tensors.keys().find(|name| !used.contains(name));
    match unused {
        Some(name) => {
            let reason = format!("tensor `{name}` has no place in a model of architecture {arch}");
            Err(Error::unsupported(&file.path, reason))
        }
        None => Ok(()),
    }
}

fn gpt2_tensor(file: &File, config: &Config, role: Role, name: &str) -> Result<TensorSource, Error> {
    let (rows, cols) = role.shape(config);
    let part = match role {
        Role::Q | Role::QBias => 0,
        Role::K | Role::KBias => 1,
        Role::V | Role::VBias => 2,
        _ => return file.tensor(name, (!role.is_vector()).then_some(rows), cols),
    };
    if role.is_vector() {
        let whole = file.tensor(name, None, 3 * cols)?;
        return Ok(whole.columns(part * cols..(part + 1) * cols));
    }
    Ok(file.tensor(name, Some(3 * rows), cols)?.rows(part * rows..(part + 1) * rows))
}

/// The file's keys and values as people read them, arrays by their length.
///
/// # Errors
/// As for [`open`], but for what only the model needs.
pub fn metadata(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let file = File::open(path)?;
    let show = |key: &str| match file.get(key) {
        Some(Value::Unsigned(value)) => value.to_string(),
        Some(Value::Signed(value)) => value.to_string(),
        Some(Value::Float(value)) => (value as f32).to_string(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Text(text)) => text.chars().take(200).collect(),
        Some(Value::Array { len, .. }) => format!("{len} values"),
        None => String::new(),
    };
    Ok(file.keys().map(|key| (key.to_owned(), show(key))).collect())
}
