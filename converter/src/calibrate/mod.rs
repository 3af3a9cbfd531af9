//! Calibration: what goes into every matrix when the model reads a text, so that quantizing spends its
//! error where it is felt least.
//!
//! Two ways. *Weighted*: each column's error counts by the mean square of what it is multiplied with,
//! when scales are searched. *GPTQ* (Frantar et al., arXiv:2210.17323): besides, the error of each
//! rounded column is made good by the columns behind it, as far as their inputs go together.

mod forward;
mod gptq;

use std::collections::BTreeMap;

use rayon::prelude::*;
use smidgen_runtime::format::Role;
use smidgen_runtime::tokenizer::{CachedEncoder, OwnedTokenizer, Special};

pub(crate) use gptq::quantize_row;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::tokenizer::TokenizerFileError;

/// Tokens that are read unless told otherwise.
const TOKENS: usize = 8192;
/// Tokens that the model sees at once, at most.
const WINDOW: usize = 512;
/// Bytes that GPTQ's factors may take together.
const MAX_FACTORS: u64 = 1 << 30;

/// How what was seen is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Columns' errors count by the mean square of their inputs.
    Weighted,
    /// Besides, later columns make good the errors of earlier ones.
    #[default]
    Gptq,
}

/// Where a matrix's input comes from: matrices of one input share what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Input {
    Attention,
    Attended,
    FeedForward,
    Hidden,
    Head,
}

impl Input {
    /// The input of the matrix of this role. An embedding is looked up, even where it is the head, too.
    const fn of(role: Role) -> Option<Self> {
        Some(match role {
            Role::Q | Role::K | Role::V => Self::Attention,
            Role::O => Self::Attended,
            Role::Gate | Role::Up => Self::FeedForward,
            Role::Down => Self::Hidden,
            Role::Head => Self::Head,
            _ => return None,
        })
    }
}

/// What is known of one matrix's input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// Mean square of every column's input, relative to their mean; never below a thousandth.
    pub(crate) importance: Vec<f32>,
    /// `[cols, cols]`, upper triangular: its product with its own transpose before it is the inverse of the inputs'
    /// second moments.
    pub(crate) factor: Option<Vec<f32>>,
}

/// What went into a model's matrices while it read a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Tokens that were read.
    pub tokens: usize,
    seen: BTreeMap<(u32, Input), Seen>,
}

impl Calibration {
    pub(crate) fn of(&self, layer: u32, role: Role) -> Option<&Seen> {
        self.seen.get(&(layer, Input::of(role)?))
    }
}

/// Lets a checkpoint read the beginning of a text, in f32, one layer after the other: in memory are one
/// layer's weights and what goes into it for 8192 tokens at most. GPTQ's factors
/// (`4 (3 dim² + ffn²)` bytes a layer) may take 1 GiB. The result does not depend on how many cores there are.
/// `progress` is called with the part that is done, 0 to 1.
///
/// # Errors
/// If the checkpoint has no tokenizer, the text can't be encoded or is empty, or the factors are too many.
pub fn calibrate(
    checkpoint: &Checkpoint,
    text: &str,
    method: Method,
    mut progress: impl FnMut(f64),
) -> Result<Calibration, Error> {
    checkpoint.check()?;
    let config = &checkpoint.config;
    let refuse = |reason: String| Error::Option(format!("--calibrate: {reason}"));
    let (dim, wide) = (u64::from(config.dim), u64::from(config.ffn_dim));
    let factors =
        4 * u64::from(config.n_layers) * (2 * dim * dim + (config.q_dim() as u64).pow(2) + wide * wide);
    if method == Method::Gptq && factors > MAX_FACTORS {
        return Err(refuse(format!(
            "GPTQ of this model takes {} MiB, at most {} are allowed; say --calibration weighted",
            factors >> 20,
            MAX_FACTORS >> 20
        )));
    }
    let windows = windows(checkpoint, text)?;
    let tokens = windows.iter().map(Vec::len).sum();
    if tokens == 0 {
        return Err(refuse("the text is empty".into()));
    }
    let mut seen = BTreeMap::new();
    let steps = f64::from(config.n_layers + 1);
    let mut rows: Vec<Vec<f32>> = forward::embed(checkpoint, &windows)?;
    for layer in 0..config.n_layers {
        progress(f64::from(layer) / steps);
        let weights = forward::Layer::read(checkpoint, layer);
        let inputs: Vec<forward::Inputs> = rows.par_iter_mut().map(|rows| weights.run(rows)).collect();
        type Part = (Input, fn(&forward::Inputs) -> &[f32], usize);
        let parts: [Part; 4] = [
            (Input::Attention, |inputs| &inputs.attention, config.dim as usize),
            (Input::Attended, |inputs| &inputs.attended, config.q_dim()),
            (Input::FeedForward, |inputs| &inputs.feed_forward, config.dim as usize),
            (Input::Hidden, |inputs| &inputs.hidden, config.ffn_dim as usize),
        ];
        for (input, get, cols) in parts {
            let all: Vec<&[f32]> = inputs.iter().map(get).collect();
            seen.insert((layer, input), look(&all, cols, method));
        }
    }
    progress(1.0 - 1.0 / steps);
    if checkpoint.has(Role::Head) {
        let all = forward::finish(checkpoint, &rows);
        let all: Vec<&[f32]> = all.iter().map(|rows| &rows[..]).collect();
        seen.insert((0, Input::Head), look(&all, config.dim as usize, method));
    }
    progress(1.0);
    Ok(Calibration { tokens, seen })
}

/// The text's first tokens, as the model reads them.
fn windows(checkpoint: &Checkpoint, text: &str) -> Result<Vec<Vec<u32>>, Error> {
    let none = || Error::Option("--calibrate: the checkpoint has no tokenizer to read the text with".into());
    let spec = checkpoint.tokenizer.as_ref().ok_or_else(none)?;
    let built = OwnedTokenizer::build(spec);
    let owned =
        built.map_err(|source| TokenizerFileError::Build { path: (&checkpoint.name).into(), source })?;
    let mut tokens = Vec::new();
    // Enough text for the tokens, cut between characters: no token has more bytes than this.
    let end = text.floor_char_boundary(text.len().min(TOKENS * 64));
    let encoded =
        CachedEncoder::new(owned.tokenizer()).encode(&text[..end], Special::Plain, false, &mut tokens);
    encoded.map_err(|error| Error::Option(format!("--calibrate: {error}")))?;
    tokens.truncate(TOKENS);
    let window = WINDOW.min(checkpoint.config.context_len as usize);
    let bos = spec.bos.filter(|_| spec.add_bos && window > 1);
    let with_bos = |tokens: &[u32]| bos.into_iter().chain(tokens.iter().copied()).collect();
    Ok(tokens.chunks(window - usize::from(bos.is_some())).map(with_bos).collect())
}

/// What inputs of `cols` numbers each have in common.
fn look(all: &[&[f32]], cols: usize, method: Method) -> Seen {
    let mut squares = vec![0.0_f64; cols];
    for row in all.iter().flat_map(|rows| rows.chunks(cols)) {
        squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x * x));
    }
    let mean = squares.iter().sum::<f64>() / cols as f64;
    let relative = |square: f64| if mean > 0.0 { (square / mean).max(1e-3) as f32 } else { 1.0 };
    let importance = squares.iter().map(|square| relative(*square)).collect();
    let factor = (method == Method::Gptq && mean > 0.0).then(|| gptq::factor(gptq::moments(all, cols), cols));
    Seen { importance, factor: factor.flatten() }
}

#[cfg(test)]
mod tests;
