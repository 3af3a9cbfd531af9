//! A model as every reader hands it over and every writer takes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use smidgen_runtime::format::{Need, Role, RopeScaling};
use smidgen_runtime::tokenizer::TokenizerSpec;
use smidgen_runtime::{Config, LoadError};

use crate::error::Error;
use crate::rope;
use crate::source::TensorSource;

/// A model with its tokenizer, whatever file it came from: dimensions, words, and tensors in the
/// runtime's roles, shapes (`[rows, cols]` with one row an output) and rotary order (halves).
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Dimensions.
    pub config: Config,
    /// The rotary base; 0 for models with learned positions.
    pub rope_theta: f32,
    /// How rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Every tensor by layer (0 for those of the whole model) and role, not yet read.
    pub tensors: BTreeMap<(u32, Role), TensorSource>,
    /// The tokenizer.
    pub tokenizer: Option<TokenizerSpec>,
    /// The model's name.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// The conversation template (Jinja), or empty.
    pub chat_template: String,
    /// Anything else, as a JSON object, or empty.
    pub extra: String,
    /// What the reader had to decide or leave out, for people to read.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint with neither tensors nor words; Llama models get their rotary frequencies.
    pub fn new(config: Config, rope_theta: f32, rope_scaling: RopeScaling) -> Self {
        let mut checkpoint = Self {
            config,
            rope_theta,
            rope_scaling,
            tensors: BTreeMap::new(),
            tokenizer: None,
            name: String::new(),
            source: String::new(),
            chat_template: String::new(),
            extra: String::new(),
            notes: Vec::new(),
        };
        if Role::RopeFrequencies.need(config.architecture) == Need::Must {
            let values = rope::frequencies(rope_theta, rope_scaling, config.head_dim as usize);
            let tensor = TensorSource::owned(1, values.len(), values);
            checkpoint.tensors.insert((0, Role::RopeFrequencies), tensor);
        }
        checkpoint
    }

    /// Where a tensor's numbers are.
    ///
    /// # Errors
    /// [`Error::NoTensor`] if the model has none for this layer and role.
    pub fn tensor(&self, layer: u32, role: Role) -> Result<&TensorSource, Error> {
        self.tensors.get(&(layer, role)).ok_or(Error::NoTensor { layer, role })
    }

    /// True if the model (in layer 0, where it is per layer) has this tensor.
    pub fn has(&self, role: Role) -> bool {
        self.tensors.contains_key(&(0, role))
    }

    /// Reads a whole tensor, `[rows, cols]` row-major.
    ///
    /// # Errors
    /// [`Error::NoTensor`] if the model has none for this layer and role.
    pub fn read(&self, layer: u32, role: Role) -> Result<Vec<f32>, Error> {
        Ok(self.tensor(layer, role)?.read())
    }

    /// Checks that every tensor the architecture needs is there in every layer, in its shape, that
    /// none is that it has no place for, and that the tokenizer fits the embedding.
    ///
    /// # Errors
    /// Names the first tensor or number that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let load = |source| Error::Load { path: PathBuf::from(&self.name), source };
        let wrong = |reason| Error::Inconsistent { name: self.name.clone(), reason };
        self.config.validate().map_err(load)?;
        for role in (0..64).filter_map(Role::from_u8) {
            match role.need(self.config.architecture) {
                Need::Must if !self.has(role) => return Err(load(LoadError::MissingTensor(role))),
                Need::MustNot if self.has(role) => return Err(load(LoadError::UnexpectedTensor(role))),
                _ => {}
            }
            let layers = if role.is_per_layer() { self.config.n_layers } else { 1 };
            if self.has(role)
                && let Some(layer) = (0..layers).find(|layer| !self.tensors.contains_key(&(*layer, role)))
            {
                return Err(Error::NoTensor { layer, role });
            }
        }
        for (&(layer, role), tensor) in &self.tensors {
            let (shape, name) = (role.shape(&self.config), role.name());
            if tensor.shape() != shape {
                let reason =
                    format!("tensor {name} of layer {layer} is {:?}, expected {shape:?}", tensor.shape());
                return Err(wrong(reason));
            }
            if layer >= if role.is_per_layer() { self.config.n_layers } else { 1 } {
                return Err(wrong(format!(
                    "there is a tensor {name} of layer {layer}, which does not exist"
                )));
            }
            if role.is_per_layer() && !self.has(role) {
                return Err(Error::NoTensor { layer: 0, role });
            }
        }
        let tokens = self.tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.tokens.len());
        if tokens > self.config.vocab_size as usize {
            let rows = self.config.vocab_size;
            return Err(wrong(format!(
                "the tokenizer has {tokens} tokens but the embedding only {rows} rows"
            )));
        }
        Ok(())
    }

    /// How many numbers the model learned (rotary frequencies are not learned).
    pub fn parameters(&self) -> u64 {
        let learned = self.tensors.iter().filter(|((_, role), _)| *role != Role::RopeFrequencies);
        learned.map(|(_, tensor)| tensor.shape().0 as u64 * tensor.shape().1 as u64).sum()
    }
}
