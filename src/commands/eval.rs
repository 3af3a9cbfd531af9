//! `smidgen eval`: how well a model predicts a text.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use smidgen_converter::quality::{self, EvalOptions, Quality};
use smidgen_converter::{Kind, ModelFile, detect};
use smidgen_runtime::Model;
use smidgen_trainer::run::{held_out, is_run};

use super::convert::{open, progress_bar, read_text, show};
use super::open::Kv;

/// Measure how well a model predicts a text.
///
/// The loss in nats a token, the perplexity, and bits a byte of text (which can be compared between
/// tokenizers), computed by the runtime itself on all cores. Checkpoints are measured in f32.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen eval story.smidgen --data validation.txt
  smidgen eval runs/story/checkpoint-001000 --data validation.txt --max-tokens 10000 --json
  smidgen eval runs/story/model.smidgen --data runs/story
  smidgen eval story-q8.smidgen --data validation.txt --against story-q4.smidgen")]
pub struct Args {
    /// A model file or a checkpoint.
    path: PathBuf,
    /// The text, in UTF-8; or the folder of a run: its held-out text, in the windows that training
    /// looks at, so that the loss can be compared with training's.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Another model of the same vocabulary: tell how far they agree.
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Tokens that the model sees at once; all that it was made for unless told.
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Stop after so many tokens.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// How keys and values are kept; as the file says unless told.
    #[arg(long, value_enum)]
    kv: Option<Kv>,
    /// The tokenizer of a checkpoint that has none of its own.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a, T> {
    model: &'a Path,
    against: Option<&'a Path>,
    data: &'a Path,
    #[serde(flatten)]
    result: T,
}

/// Runs the command.
///
/// # Errors
/// Names the file that can't be read, encoded or run.
pub fn run(args: Args) -> Result<()> {
    let tokenizer = args.tokenizer.as_deref();
    if is_run(&args.data) {
        return run_on_held_out(&args);
    }
    let text = read_text(&args.data)?;
    let options =
        EvalOptions { context: args.context, max_tokens: args.max_tokens, kv_type: args.kv.map(Into::into) };
    let (model, data) = (&*args.path, &*args.data);
    let against = args.against.as_deref();
    let line = if let Some(other) = against {
        let result = with_model(model, tokenizer, |first| {
            with_model(other, tokenizer, |second| Ok(quality::agreement(first, second, &text, options)?))
        })?;
        let report = Report { model, against, data, result };
        if args.json { serde_json::to_string(&report)? } else { show(&result) }
    } else {
        let bar = progress_bar(1000, "[{bar:40}] {percent} %, {eta} left");
        let progress = |part: f64| bar.set_position((part * 1000.0) as u64);
        let result =
            with_model(model, tokenizer, |model| Ok(quality::evaluate(model, &text, options, progress)?))?;
        bar.finish_and_clear();
        let report = Report { model, against, data, result };
        if args.json { serde_json::to_string(&report)? } else { in_words(&result) }
    };
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// On what a training run looks at.
fn run_on_held_out(args: &Args) -> Result<()> {
    if args.against.is_some() || args.context.is_some() || args.max_tokens.is_some() {
        bail!("--against, --context and --max-tokens need a text; {} is a run's folder", args.data.display());
    }
    let windows = held_out(&args.data)?;
    let bar = progress_bar(1000, "[{bar:40}] {percent} %, {eta} left");
    let progress = |part: f64| bar.set_position((part * 1000.0) as u64);
    let kv = args.kv.map(Into::into);
    let result = with_model(&args.path, args.tokenizer.as_deref(), |model| {
        Ok(quality::evaluate_windows(model, &windows, kv, progress)?)
    })?;
    bar.finish_and_clear();
    let report = Report { model: &args.path, against: None, data: &args.data, result };
    let line = if args.json { serde_json::to_string(&report)? } else { in_words(&result) };
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

fn in_words(quality: &Quality) -> String {
    let Quality { tokens, bytes, nats_per_token, perplexity, bits_per_byte } = quality;
    format!(
        "{tokens} tokens, {bytes} bytes: {nats_per_token:.4} nats a token, perplexity {perplexity:.3}, \
         {bits_per_byte:.4} bits a byte"
    )
}

/// Calls `f` with the model of a file, or with that of a checkpoint in f32.
fn with_model<T>(
    path: &Path,
    tokenizer: Option<&Path>,
    f: impl FnOnce(&Model<'_>) -> Result<T>,
) -> Result<T> {
    if detect(path)? == Kind::Smidgen {
        if tokenizer.is_some() {
            bail!("{}: --tokenizer is for checkpoints; a model file has its own", path.display());
        }
        return f(&ModelFile::open(path)?.load()?);
    }
    let checkpoint = open(path, tokenizer)?;
    quality::with_exact(&checkpoint, f)
}
