//! After the last step: the model file, a text that it wrote, and the loss curve.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use smidgen_converter::{Checkpoint, ConvertOptions, ModelFile, TokenizerChoice, convert, huggingface};
use smidgen_runtime::{Layout, Model, Sampler, SamplerOptions, Session, SessionOptions};

use super::config::RunConfig;
use super::error::TrainError;
use super::metrics;
use super::plot::write_loss_curve;
use super::train::Outcome;

/// Tokens that the sample has at most.
const SAMPLE_TOKENS: usize = 300;

/// The model file of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// The checkpoint that it was made of: the one with the lowest loss on held-out text.
    pub checkpoint: PathBuf,
}

/// Makes `model.smidgen` of the best checkpoint.
///
/// # Errors
/// A checkpoint that cannot be read, or a full disk.
pub fn export(outcome: &Outcome, config: &RunConfig) -> Result<Exported, TrainError> {
    let best = outcome.best.map(|best| outcome.folder.join(format!("checkpoint-{:06}", best.step)));
    let checkpoint = best.filter(|path| path.is_dir()).unwrap_or_else(|| outcome.checkpoint.clone());
    let mut source = huggingface::open(&checkpoint, &TokenizerChoice::Found)?;
    if let Some(name) = outcome.folder.file_name() {
        source.name = name.to_string_lossy().into_owned();
    }
    source.source = format!(
        "trained by smidgen {} on {}: {} steps, {} tokens",
        env!("CARGO_PKG_VERSION"),
        config.data.name(),
        outcome.step,
        outcome.tokens
    );
    let path = outcome.folder.join("model.smidgen");
    let report = convert(&source, &path, &config.convert_options(), |_| {})?;
    Ok(Exported { path, bytes: report.file_bytes, checkpoint })
}

/// Lets a checkpoint write a text as the model file that is made of it by these options would.
pub(super) fn sample_checkpoint(
    checkpoint: &Checkpoint,
    options: &ConvertOptions,
    seed: u64,
    tokens: u32,
) -> Result<String, TrainError> {
    let path = Path::new(&checkpoint.name);
    let mut file = Cursor::new(Vec::new());
    smidgen_converter::convert::write(checkpoint, &mut file, path, options, |_| {})?;
    // The runtime wants its file at a multiple of 64.
    let file = file.into_inner();
    let mut memory = vec![0; file.len() + 64];
    let begin = memory.as_ptr().align_offset(64);
    let aligned = &mut memory[begin..begin + file.len()];
    aligned.copy_from_slice(&file);
    let failed = |error: smidgen_runtime::LoadError| TrainError::Run {
        path: path.to_path_buf(),
        why: error.to_string(),
    };
    sample_model(&Model::load(aligned).map_err(failed)?, path, seed, tokens as usize)
}

/// Lets a model file write a text with the runtime: temperature 0.8, top-p 0.9.
///
/// # Errors
/// A file that does not run.
pub fn sample(model: &Path, seed: u64) -> Result<String, TrainError> {
    let file = ModelFile::open(model)?;
    sample_model(&file.load()?, model, seed, SAMPLE_TOKENS)
}

fn sample_model(model: &Model<'_>, path: &Path, seed: u64, tokens: usize) -> Result<String, TrainError> {
    let failed = |why: String| TrainError::Run { path: path.to_path_buf(), why };
    let options = SessionOptions::new(model.config().context_len as usize);
    let layout = Layout::new(model.config(), model.kv_type(), options);
    let mut memory = vec![0; layout.map_err(|error| failed(error.to_string()))?.total + 64];
    let mut session = Session::new(model, &mut memory, options).map_err(|error| failed(error.to_string()))?;
    let begin = model.tokenizer().and_then(|tokenizer| tokenizer.bos());
    let begin = begin.ok_or_else(|| failed("the tokenizer has no token that begins a text".to_owned()))?;
    session.feed(&[begin]).map_err(|error| failed(error.to_string()))?;
    let mut sampler =
        Sampler::new(SamplerOptions::default(), seed).map_err(|error| failed(error.to_string()))?;
    let mut generate = session.generate(&mut sampler);
    let mut text = String::new();
    for generated in generate.by_ref().take(tokens) {
        text.push_str(&generated.to_string());
    }
    text.push_str(&generate.flush().to_string());
    Ok(text)
}

/// Draws `loss.svg` from the `metrics.jsonl` in a run's folder.
///
/// # Errors
/// Metrics that cannot be read, or a full disk.
pub fn plot(folder: &Path) -> Result<PathBuf, TrainError> {
    let rows = metrics::read(&folder.join("metrics.jsonl"))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let path = folder.join("loss.svg");
    write_loss_curve(&path, &rows, &name)?;
    Ok(path)
}
