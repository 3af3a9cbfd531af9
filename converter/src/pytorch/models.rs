//! Training checkpoints that carry their dimensions: nanoGPT's and llama2.c's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use smidgen_runtime::config::{MAX_DIMENSION, MAX_LAYERS};
use smidgen_runtime::format::{Need, Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use super::archive::{Archive, Entry};
use super::pickle::{Pickle, Value};
use crate::checkpoint::Checkpoint;
use crate::detect::TokenizerChoice;
use crate::error::Error;
use crate::source::TensorSource;

/// Opens a checkpoint with `model` and `model_args`.
///
/// # Errors
/// Names the key or tensor that is missing, malformed or not supported.
pub fn open(path: &Path, tokenizer: &TokenizerChoice) -> Result<Checkpoint, Error> {
    let archive = Archive::open(path)?;
    let pickle = archive.pickle()?;
    let (model, arguments) = (pickle.get(pickle.root, "model"), pickle.get(pickle.root, "model_args"));
    let Some((model, arguments)) = model.zip(arguments) else {
        let hint = "weights by themselves have no dimensions; give the directory with their config.json";
        return Err(Error::unsupported(
            path,
            format!("has no `model` and `model_args` as nanoGPT has them: {hint}"),
        ));
    };
    let tensors = archive.tensors(&pickle, model)?;
    let mut reader =
        Reader { archive: &archive, tensors, arguments: (&pickle, arguments), used: BTreeSet::new() };
    let mut checkpoint = if reader.tensors.contains_key("tok_embeddings.weight") {
        reader.llama()?
    } else {
        reader.nanogpt()?
    };
    let unused = reader.tensors.keys().find(|name| {
        let buffer = name.ends_with(".attn.bias") || name.starts_with("freqs_") || name.ends_with("mask");
        !reader.used.contains(*name) && !buffer
    });
    if let Some(name) = unused {
        let reason = format!("tensor `{name}` has no place in a model of {}'s kind", checkpoint.source);
        return Err(Error::unsupported(path, reason));
    }
    checkpoint.name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    if !tokenizer.apply(&mut checkpoint)? {
        let note = "the checkpoint has no tokenizer: the model gets none (say --tokenizer)";
        checkpoint.notes.push(note.into());
    }
    Ok(checkpoint)
}

struct Reader<'a> {
    archive: &'a Archive,
    tensors: BTreeMap<String, Entry>,
    arguments: (&'a Pickle<'a>, Value<'a>),
    used: BTreeSet<String>,
}

impl Reader<'_> {
    fn argument(&self, names: &[&str], max: u32) -> Result<Option<u32>, Error> {
        let (pickle, arguments) = self.arguments;
        let Some((name, value)) = names.iter().find_map(|name| Some((name, pickle.get(arguments, name)?)))
        else {
            return Ok(None);
        };
        let number = match value {
            Value::None => return Ok(None),
            Value::Int(value) => u32::try_from(value).ok().filter(|value| (1..=max).contains(value)),
            _ => None,
        };
        number.map(Some).ok_or_else(|| Error::Key {
            path: self.archive.path.clone(),
            key: format!("model_args.{name}"),
            expected: format!("an integer from 1 to {max}"),
            found: format!("{value:?}").chars().take(60).collect(),
        })
    }

    fn required(&self, names: &[&str], max: u32) -> Result<u32, Error> {
        self.argument(names, max)?.ok_or_else(|| Error::Key {
            path: self.archive.path.clone(),
            key: format!("model_args.{}", names[0]),
            expected: format!("an integer from 1 to {max}"),
            found: "missing".into(),
        })
    }

    /// A dimension of a tensor that must be there.
    fn dimension(&self, name: &str, axis: usize) -> Result<u32, Error> {
        let missing = || Error::MissingTensor { path: self.archive.path.clone(), tensor: name.into() };
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        let dim = entry.shape.get(axis).and_then(|dim| u32::try_from(*dim).ok());
        dim.ok_or_else(|| {
            Error::malformed(&self.archive.path, format!("tensor `{name}` has shape {:?}", entry.shape))
        })
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorSource, Error> {
        let missing = || Error::MissingTensor { path: self.archive.path.clone(), tensor: name.into() };
        let source = self.archive.source(name, self.tensors.get(name).ok_or_else(missing)?, shape)?;
        self.used.insert(name.into());
        Ok(source)
    }

    fn shape(role: Role, config: &Config) -> Vec<usize> {
        let (rows, cols) = role.shape(config);
        if role.is_vector() { vec![cols] } else { vec![rows, cols] }
    }

    /// The head, unless it is the embedding (the same numbers, whether stored once or twice).
    fn head(&mut self, name: &str, embedding: &str, checkpoint: &mut Checkpoint) -> Result<(), Error> {
        if !self.tensors.contains_key(name) {
            return Ok(());
        }
        let shape = Self::shape(Role::Head, &checkpoint.config);
        let head = self.tensor(name, &shape)?;
        let entry = |name: &str| self.tensors.get(name);
        let bytes = |entry: &Entry| {
            let len = entry.shape.iter().product::<usize>() * entry.number.size();
            &self.archive.bytes[entry.at..entry.at + len]
        };
        let tied = entry(name)
            .zip(entry(embedding))
            .is_some_and(|(a, b)| a.number == b.number && (a.at == b.at || bytes(a) == bytes(b)));
        if !tied {
            checkpoint.tensors.insert((0, Role::Head), head);
        }
        Ok(())
    }

    fn validated(&self, config: Config, source: &str, theta: f32) -> Result<Checkpoint, Error> {
        let load = |source| Error::Load { path: self.archive.path.clone(), source };
        config.validate().map_err(load)?;
        let mut checkpoint = Checkpoint::new(config, theta, RopeScaling::None);
        checkpoint.source = source.into();
        Ok(checkpoint)
    }

    fn nanogpt(&mut self) -> Result<Checkpoint, Error> {
        let dim = self.dimension("transformer.wte.weight", 1)?;
        let n_heads = self.required(&["n_head", "num_heads"], 1 << 12)?;
        if !dim.is_multiple_of(n_heads) {
            let reason = format!("model_args.n_head is {n_heads}, must divide the width {dim}");
            return Err(Error::malformed(&self.archive.path, reason));
        }
        let foreign = self.tensors.keys().find(|name| {
            // Forks with other feed-forwards or norms: told by what is there, before what is missing.
            name.starts_with("transformer.h.0.")
                && !nanogpt_names().any(|known| {
                    name.strip_prefix("transformer.h.0.")
                        .is_some_and(|name| known == plain(name) || name == "attn.bias")
                })
        });
        if let Some(name) = foreign {
            let reason =
                format!("tensor `{name}` has no place in a nanoGPT (a fork that computes something else?)");
            return Err(Error::unsupported(&self.archive.path, reason));
        }
        let config = Config {
            architecture: Architecture::Gpt2,
            n_layers: self.required(&["n_layer", "num_layers"], MAX_LAYERS)?,
            dim,
            n_heads,
            n_kv_heads: n_heads,
            head_dim: dim / n_heads,
            ffn_dim: self.dimension("transformer.h.0.mlp.c_fc.weight", 0)?,
            vocab_size: self.dimension("transformer.wte.weight", 0)?,
            context_len: self.dimension("transformer.wpe.weight", 0)?,
            norm_eps: 1e-5,
        };
        let mut checkpoint = self.validated(config, "nanoGPT checkpoint", 0.0)?;
        let note = "nanoGPT's GELU is computed in its tanh form, which differs by less than 0.0005";
        checkpoint.notes.push(note.into());
        for role in (0..64).filter_map(Role::from_u8) {
            let Some(name) = crate::huggingface::gpt2_name(role) else { continue };
            for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
                let full = if role.is_per_layer() {
                    format!("transformer.h.{layer}.{name}")
                } else {
                    format!("transformer.{name}")
                };
                let full = self.spelled(full);
                if !self.tensors.contains_key(&full) && role.need(Architecture::Gpt2) == Need::May
                    || !self.tensors.contains_key(&full) && role.is_vector() && name.ends_with("bias")
                {
                    continue;
                }
                let mut shape = Self::shape(role, &config);
                let part = match role {
                    Role::Q | Role::QBias => Some(0),
                    Role::K | Role::KBias => Some(1),
                    Role::V | Role::VBias => Some(2),
                    _ => None,
                };
                let tensor = match part {
                    None => self.tensor(&full, &shape)?,
                    Some(part) => {
                        let n = shape[0];
                        shape[0] *= 3;
                        let (whole, range) = (self.tensor(&full, &shape)?, part * n..(part + 1) * n);
                        if role.is_vector() { whole.columns(range) } else { whole.rows(range) }
                    }
                };
                checkpoint.tensors.insert((layer, role), tensor);
            }
        }
        self.head("lm_head.weight", "transformer.wte.weight", &mut checkpoint)?;
        Ok(checkpoint)
    }

    /// The name as this file spells it: some say gamma and beta for a norm's weight and bias.
    fn spelled(&self, name: String) -> String {
        if self.tensors.contains_key(&name) || !name.contains("ln_") {
            return name;
        }
        let other = name.replace(".weight", ".gamma").replace(".bias", ".beta");
        if self.tensors.contains_key(&other) { other } else { name }
    }

    fn llama(&mut self) -> Result<Checkpoint, Error> {
        let dim = self.dimension("tok_embeddings.weight", 1)?;
        let n_heads = self.required(&["n_heads"], 1 << 12)?;
        let n_kv_heads = self.argument(&["n_kv_heads"], n_heads)?.unwrap_or(n_heads);
        if !dim.is_multiple_of(n_heads) {
            let reason = format!("model_args.n_heads is {n_heads}, must divide the width {dim}");
            return Err(Error::malformed(&self.archive.path, reason));
        }
        let (pickle, arguments) = self.arguments;
        let norm_eps = match pickle.get(arguments, "norm_eps") {
            Some(Value::Float(eps)) => eps as f32,
            _ => 1e-5,
        };
        let config = Config {
            architecture: Architecture::Llama,
            n_layers: self.required(&["n_layers"], MAX_LAYERS)?,
            dim,
            n_heads,
            n_kv_heads,
            head_dim: dim / n_heads,
            ffn_dim: self.dimension("layers.0.feed_forward.w1.weight", 0)?,
            vocab_size: self.dimension("tok_embeddings.weight", 0)?,
            context_len: self.argument(&["max_seq_len"], MAX_DIMENSION)?.unwrap_or(2048),
            norm_eps,
        };
        let mut checkpoint = self.validated(config, "llama2.c training checkpoint", 10_000.0)?;
        for role in (0..64).filter_map(Role::from_u8) {
            let name = match role {
                Role::Embedding => "tok_embeddings",
                Role::FinalNorm => "norm",
                Role::AttnNorm => "attention_norm",
                Role::Q => "attention.wq",
                Role::K => "attention.wk",
                Role::V => "attention.wv",
                Role::O => "attention.wo",
                Role::FfnNorm => "ffn_norm",
                Role::Gate => "feed_forward.w1",
                Role::Up => "feed_forward.w3",
                Role::Down => "feed_forward.w2",
                _ => continue,
            };
            for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
                let full = if role.is_per_layer() {
                    format!("layers.{layer}.{name}.weight")
                } else {
                    format!("{name}.weight")
                };
                let tensor = self.tensor(&full, &Self::shape(role, &config))?;
                let rotary = matches!(role, Role::Q | Role::K);
                let tensor = if rotary { tensor.pairs_to_halves(config.head_dim as usize) } else { tensor };
                checkpoint.tensors.insert((layer, role), tensor);
            }
        }
        self.head("output.weight", "tok_embeddings.weight", &mut checkpoint)?;
        Ok(checkpoint)
    }
}

/// A layer's name with the usual words for a norm's parts.
fn plain(name: &str) -> String {
    name.replace(".gamma", ".weight").replace(".beta", ".bias")
}

fn nanogpt_names() -> impl Iterator<Item = &'static str> {
    (0..64)
        .filter_map(Role::from_u8)
        .filter(|role| role.is_per_layer())
        .filter_map(crate::huggingface::gpt2_name)
}
