//! How well a model file predicts a text, measured through the runtime itself.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use smidgen_runtime::format::{DType, KvType};
use smidgen_runtime::tokenizer::{CachedEncoder, Special};
use smidgen_runtime::{Model, Session, SessionOptions, StepError};

use crate::convert::ConvertOptions;
use crate::error::Error;
use crate::{Checkpoint, ModelFile};

/// How to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvalOptions {
    /// Tokens that the model sees at once; `None` for all that it was made for.
    pub context: Option<usize>,
    /// Stop after so many tokens; `None` for the whole text.
    pub max_tokens: Option<usize>,
    /// How keys and values are kept; `None` for what the file says.
    pub kv_type: Option<KvType>,
}

/// How well a text was predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Bytes of text in them.
    pub bytes: u64,
    /// Mean negative log-likelihood of a token, in nats.
    pub nats_per_token: f64,
    /// e to that.
    pub perplexity: f64,
    /// The same likelihood in bits for each byte of text: comparable between tokenizers.
    pub bits_per_byte: f64,
}

/// How much two models say the same of a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Tokens that were compared.
    pub tokens: u64,
    /// The part of tokens for which both models hold the same token most likely.
    pub same_top: f64,
    /// Mean Kullback-Leibler divergence of the second model from the first, in nats.
    pub kl_nats: f64,
    /// The first model's loss, in nats a token.
    pub first_nats: f64,
    /// The second model's loss, in nats a token.
    pub second_nats: f64,
    /// e to the first model's loss.
    pub first_perplexity: f64,
    /// e to the second model's loss.
    pub second_perplexity: f64,
}

/// Prompts go through the model so many tokens at a time.
const BLOCK: usize = 64;

/// A stretch of text as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The tokens that it is given, from an empty cache on: at least one.
    pub inputs: Vec<u32>,
    /// `targets[i]` is what follows `inputs[i]`.
    pub targets: Vec<u32>,
}

/// Cuts tokens into windows of at most `context` inputs. With `bos` each begins with it, so that
/// every token is predicted once; without, every token but the text's first.
fn windows(tokens: &[u32], bos: Option<u32>, context: usize) -> Vec<Window> {
    if bos.is_some() {
        let window = |targets: &[u32]| Window {
            inputs: bos.into_iter().chain(targets[..targets.len() - 1].iter().copied()).collect(),
            targets: targets.to_vec(),
        };
        return tokens.chunks(context).map(window).collect();
    }
    let targets = tokens.get(1..).unwrap_or_default();
    let window = |(inputs, targets): (&[u32], &[u32])| Window {
        inputs: inputs[..targets.len()].to_vec(),
        targets: targets.to_vec(),
    };
    tokens.chunks(context).zip(targets.chunks(context)).map(window).collect()
}

/// The text as windows, and how many bytes the predicted tokens are.
fn prepare(model: &Model<'_>, text: &str, options: EvalOptions) -> Result<(Vec<Window>, u64), Error> {
    let run = |reason: String| Error::Run { path: PathBuf::from(model.meta().name), reason };
    let tokenizer = *model.tokenizer().ok_or_else(|| run(StepError::NoTokenizer.to_string()))?;
    let max = model.config().context_len as usize;
    let context = options.context.unwrap_or(max);
    if context == 0 || context > max {
        return Err(run(format!(
            "a context of {context} tokens was asked for; this model allows 1 to {max}"
        )));
    }
    let mut tokens = Vec::new();
    let mut encoder = CachedEncoder::new(tokenizer);
    encoder.encode(text, Special::Plain, false, &mut tokens).map_err(|error| run(error.to_string()))?;
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let first_unpredicted = usize::from(bos.is_none());
    let total = tokens.len();
    if let Some(max_tokens) = options.max_tokens {
        tokens.truncate(max_tokens.saturating_add(first_unpredicted));
    }
    if tokens.len() <= first_unpredicted {
        return Err(run(format!("the text has {} tokens, too few to predict any", tokens.len())));
    }
    let bytes_of = |tokens: &[u32]| tokens.iter().map(|&id| tokenizer.bytes(id).len() as u64).sum::<u64>();
    let predicted = bytes_of(&tokens[first_unpredicted..]);
    // The whole text is counted as it is written: a tokenizer may add a space of its own.
    let bytes = if tokens.len() == total {
        text.len() as u64 - bytes_of(&tokens[..first_unpredicted])
    } else {
        predicted
    };
    Ok((windows(&tokens, bos, context), bytes))
}

/// Runs a window through a model and calls `each` with the index and the logits of every input.
fn run_window(
    model: &Model<'_>,
    memory: &mut Vec<u8>,
    kv_type: Option<KvType>,
    inputs: &[u32],
    mut each: impl FnMut(usize, &[f32]),
) -> Result<(), Error> {
    let run = |reason: String| Error::Run { path: PathBuf::from(model.meta().name), reason };
    let prompt_block = BLOCK.min(inputs.len());
    let options = SessionOptions { kv_type, prompt_block, ..SessionOptions::new(inputs.len()) };
    let layout = smidgen_runtime::Layout::new(model.config(), model.kv_type(), options)
        .map_err(|error| run(error.to_string()))?;
    // A vector of bytes may begin anywhere: leave room to begin at a multiple of 64.
    memory.resize(memory.len().max(layout.total + 64), 0);
    let mut session = Session::new(model, memory, options).map_err(|error| run(error.to_string()))?;
    for (block, tokens) in inputs.chunks(prompt_block).enumerate() {
        session
            .feed_with_logits(tokens, |index, logits| each(block * prompt_block + index, logits))
            .map_err(|error| run(error.to_string()))?;
    }
    Ok(())
}

/// ln of the sum of e to each logit, in f64.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    max + sum.ln()
}

/// Measures a model on a text. Windows go through the model side by side; the result does not
/// depend on how many cores there are. `progress` is called with the part that is done, 0 to 1.
///
/// # Errors
/// If the model has no tokenizer, the text is too short or can't be encoded, or the context is
/// longer than the model's.
pub fn evaluate(
    model: &Model<'_>,
    text: &str,
    options: EvalOptions,
    progress: impl Fn(f64) + Sync,
) -> Result<Quality, Error> {
    let (windows, bytes) = prepare(model, text, options)?;
    measure(model, &windows, bytes, options.kv_type, progress)
}

/// [`evaluate`] on windows of tokens that were chosen already, such as those that a training run
/// looks at.
///
/// # Errors
/// A window longer than the model's context, without tokens, or with one that is not in its
/// vocabulary.
pub fn evaluate_windows(
    model: &Model<'_>,
    windows: &[Window],
    kv_type: Option<KvType>,
    progress: impl Fn(f64) + Sync,
) -> Result<Quality, Error> {
    let fits = |token: &u32| *token < model.config().vocab_size;
    for (number, Window { inputs, targets }) in windows.iter().enumerate() {
        if inputs.is_empty()
            || inputs.len() != targets.len()
            || inputs.len() > model.config().context_len as usize
            || !inputs.iter().chain(targets).all(fits)
        {
            let reason = format!(
                "window {number} of {} tokens, {} to predict: not one for a context of {} and a vocabulary of {}",
                inputs.len(),
                targets.len(),
                model.config().context_len,
                model.config().vocab_size
            );
            return Err(Error::Run { path: PathBuf::from(model.meta().name), reason });
        }
    }
    let bytes = model.tokenizer().map_or(0, |tokenizer| {
        let targets = windows.iter().flat_map(|window| &window.targets);
        targets.map(|&id| tokenizer.bytes(id).len() as u64).sum()
    });
    measure(model, windows, bytes, kv_type, progress)
}

fn measure(
    model: &Model<'_>,
    windows: &[Window],
    bytes: u64,
    kv_type: Option<KvType>,
    progress: impl Fn(f64) + Sync,
) -> Result<Quality, Error> {
    let done = core::sync::atomic::AtomicUsize::new(0);
    let losses: Vec<f64> = windows
        .par_iter()
        .map_init(Vec::new, |memory, window| {
            let mut nats = 0.0;
            run_window(model, memory, kv_type, &window.inputs, |index, logits| {
                let target = window.targets[index] as usize;
                nats += log_sum_exp(logits) - f64::from(logits[target]);
            })?;
            let done = done.fetch_add(1, core::sync::atomic::Ordering::Relaxed) + 1;
            progress(done as f64 / windows.len() as f64);
            Ok(nats)
        })
        .collect::<Result<_, Error>>()?;
    let tokens: u64 = windows.iter().map(|window| window.targets.len() as u64).sum();
    let nats: f64 = losses.iter().sum();
    Ok(Quality {
        tokens,
        bytes,
        nats_per_token: nats / tokens as f64,
        perplexity: (nats / tokens as f64).exp(),
        bits_per_byte: nats / core::f64::consts::LN_2 / bytes as f64,
    })
}

/// Compares what two models of the same vocabulary say of a text (which the first one's tokenizer
/// encodes).
///
/// # Errors
/// As for [`evaluate`], or if their vocabularies are not of one size.
pub fn agreement(
    first: &Model<'_>,
    second: &Model<'_>,
    text: &str,
    options: EvalOptions,
) -> Result<Agreement, Error> {
    let sizes = (first.config().vocab_size, second.config().vocab_size);
    if sizes.0 != sizes.1 {
        let reason = format!("has {} tokens in its vocabulary, the other model {}", sizes.0, sizes.1);
        return Err(Error::Run { path: PathBuf::from(first.meta().name), reason });
    }
    let shorter = first.config().context_len.min(second.config().context_len) as usize;
    let options = EvalOptions { context: Some(options.context.unwrap_or(shorter)), ..options };
    let (windows, _) = prepare(first, text, options)?;
    let sums: Vec<[f64; 4]> = windows
        .par_iter()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(memory, kept), window| {
                kept.clear();
                run_window(first, memory, options.kv_type, &window.inputs, |_, logits| {
                    kept.extend_from_slice(logits)
                })?;
                let mut sums = [0.0; 4];
                run_window(second, memory, options.kv_type, &window.inputs, |index, b| {
                    let a = &kept[index * b.len()..][..b.len()];
                    let each = compare(a, b, window.targets[index] as usize);
                    sums.iter_mut().zip(each).for_each(|(sum, one)| *sum += one);
                })?;
                Ok(sums)
            },
        )
        .collect::<Result<_, Error>>()?;
    let tokens: u64 = windows.iter().map(|window| window.targets.len() as u64).sum();
    let mean = |i: usize| sums.iter().map(|sums| sums[i]).sum::<f64>() / tokens as f64;
    let (first_nats, second_nats) = (mean(2), mean(3));
    Ok(Agreement {
        tokens,
        same_top: mean(0),
        kl_nats: mean(1),
        first_nats,
        second_nats,
        first_perplexity: first_nats.exp(),
        second_perplexity: second_nats.exp(),
    })
}

/// Calls `f` with a checkpoint's model in f32, from a file that exists only so long.
///
/// # Errors
/// As for [`convert`](crate::convert()), or what `f` says.
pub fn with_exact<T, E: From<Error>>(
    checkpoint: &Checkpoint,
    f: impl FnOnce(&Model<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let directory = tempfile::tempdir().map_err(|source| Error::Io { path: std::env::temp_dir(), source })?;
    let path = directory.path().join("exact.smidgen");
    crate::convert(checkpoint, &path, &ConvertOptions::new(DType::F32), |_| ())?;
    f(&ModelFile::open(&path)?.load()?)
}

/// For one position: 1 if both have the same top token, the divergence of `b` from `a`, both losses.
fn compare(a: &[f32], b: &[f32], target: usize) -> [f64; 4] {
    let top = |logits: &[f32]| {
        let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
        (0..logits.len()).fold(0, better)
    };
    let (norm_a, norm_b) = (log_sum_exp(a), log_sum_exp(b));
    let mut divergence = 0.0;
    for (&a, &b) in a.iter().zip(b) {
        let (log_a, log_b) = (f64::from(a) - norm_a, f64::from(b) - norm_b);
        divergence += log_a.exp() * (log_a - log_b);
    }
    let same = if top(a) == top(b) { 1.0 } else { 0.0 };
    [same, divergence, norm_a - f64::from(a[target]), norm_b - f64::from(b[target])]
}

#[cfg(test)]
mod tests;
