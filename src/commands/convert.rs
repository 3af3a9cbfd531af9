//! `smidgen convert`: a checkpoint becomes a model file.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use smidgen_converter::calibrate::{self, Calibration, Method};
use smidgen_converter::convert::KeepRule;
use smidgen_converter::quality::{self, Agreement, EvalOptions};
use smidgen_converter::{Checkpoint, ConvertOptions, ConvertReport, ModelFile, TokenizerChoice};
use smidgen_runtime::format::DType;

use super::open::Kv;

/// Make a model file of a checkpoint.
///
/// Reads Hugging Face directories (gpt2, llama, mistral, qwen2, qwen3; safetensors or pickled), GGUF
/// files (llama, gpt2, qwen2, qwen3), PyTorch checkpoints of nanoGPT and llama2.c, .bin files of
/// llama2.c and llm.c, and smidgen's own files; what a path holds is seen in its content. The file
/// appears whole or not at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen convert runs/story/checkpoint-001000 -o story.smidgen
  smidgen convert SmolLM2-135M -o smol.smidgen --quant q4 --keep down=q8,embedding=q4
  smidgen convert stories260K.bin --tokenizer tok512.bin -o stories.smidgen --eval stories.txt
  smidgen convert runs/story/checkpoint-001000 -o story.smidgen --quant q4 --calibrate corpus.txt

Types: f32 and f16 are floats; q8 and q4 are integers in groups of 32 with two levels of scale.
With q4, embeddings and head are q8 unless --keep says otherwise.")]
pub struct Args {
    /// The checkpoint: a directory or a file.
    path: PathBuf,
    /// The model file to write.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// The type of matrices; norms and biases are always f32.
    #[arg(long, value_enum, default_value_t = Quant::Q8)]
    quant: Quant,
    /// Other types for some matrices, such as embedding=f16 or down.0=q8 (layer 0 only).
    #[arg(long, value_name = "NAME=TYPE,…", value_delimiter = ',')]
    keep: Vec<KeepRule>,
    /// A tokenizer.json, a directory with one, or llama2.c's tokenizer.bin; "none" for no tokenizer.
    /// Default: the checkpoint's own.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// A shorter context than the checkpoint's, in tokens.
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// How keys and values are kept by default; f32 in f32 files, else q8.
    #[arg(long, value_enum)]
    kv: Option<Kv>,
    /// The model's name in the file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A text of the kind that the model is for: 8192 tokens of it tell which columns matter, and q8
    /// and q4 lose less.
    #[arg(long, value_name = "TEXT")]
    calibrate: Option<PathBuf>,
    /// How what the text shows is used.
    #[arg(long, value_enum, default_value_t = How::Gptq, requires = "calibrate")]
    calibration: How,
    /// A text on which to tell what the conversion lost.
    #[arg(long, value_name = "TEXT")]
    eval: Option<PathBuf>,
    /// Print one JSON object with every tensor.
    #[arg(long)]
    json: bool,
}

/// The types of the format, as the command line says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Quant {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers.
    Q8,
    /// 4-bit integers.
    Q4,
}

impl From<Quant> for DType {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::F32 => Self::F32,
            Quant::F16 => Self::F16,
            Quant::Q8 => Self::Q8,
            Quant::Q4 => Self::Q4,
        }
    }
}

/// Ways of calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// Columns behind a rounded one make good its error.
    Gptq,
    /// Errors count by the mean square of their column's input: quick, for large models.
    Weighted,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    file: String,
    #[serde(flatten)]
    convert: ConvertReport,
    /// Against the checkpoint in f32.
    quality: Option<Agreement>,
}

/// Runs the command.
///
/// # Errors
/// Names the file, key or tensor that is wrong.
pub fn run(args: Args) -> Result<()> {
    let mut checkpoint = open(&args.path, args.tokenizer.as_deref())?;
    if let Some(name) = args.name {
        checkpoint.name = name;
    }
    // Before the long part: a text that isn't there should not cost a conversion.
    let text = args.eval.as_deref().map(read_text).transpose()?;
    let calibration = args.calibrate.as_deref().map(|path| see(&checkpoint, path, args.calibration));
    let options = ConvertOptions {
        keep: args.keep,
        context: args.context,
        kv_type: args.kv.map(Into::into),
        calibration: calibration.transpose()?.map(Arc::new),
        ..ConvertOptions::new(args.quant.into())
    };
    let bar = progress_bar(checkpoint.tensors.len() as u64, "{msg:20} [{bar:30}] {pos}/{len} tensors");
    let report = smidgen_converter::convert(&checkpoint, &args.out, &options, |progress| {
        bar.set_position(progress.done as u64);
        bar.set_message(progress.role.name());
    })?;
    bar.finish_and_clear();
    let quality = text.map(|text| measure(&checkpoint, &args.out, &text)).transpose()?;
    let mut out = io::stdout().lock();
    if args.json {
        let report = Report { file: args.out.display().to_string(), convert: report, quality };
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
        if let Some(quality) = quality {
            writeln!(out, "{}", show(&quality))?;
        }
    }
    Ok(())
}

/// Lets the checkpoint read the text that it is calibrated with.
fn see(checkpoint: &Checkpoint, path: &Path, how: How) -> Result<Calibration> {
    let text = read_text(path)?;
    let method = match how {
        How::Gptq => Method::Gptq,
        How::Weighted => Method::Weighted,
    };
    let bar = progress_bar(1000, "calibrating          [{bar:30}] {percent} %, {eta} left");
    let seen =
        calibrate::calibrate(checkpoint, &text, method, |part| bar.set_position((part * 1000.0) as u64))?;
    bar.finish_and_clear();
    eprintln!("note: calibrated with {} tokens of {}", seen.tokens, path.display());
    Ok(seen)
}

/// Opens a checkpoint and tells its reader's notes.
///
/// # Errors
/// As for [`smidgen_converter::open`].
pub fn open(path: &Path, tokenizer: Option<&Path>) -> Result<Checkpoint> {
    let choice = match tokenizer {
        None => TokenizerChoice::Found,
        Some(path) if path == Path::new("none") => TokenizerChoice::None,
        Some(path) => TokenizerChoice::From(path.to_path_buf()),
    };
    let checkpoint = smidgen_converter::open(path, &choice)?;
    for note in &checkpoint.notes {
        eprintln!("note: {note}");
    }
    Ok(checkpoint)
}

/// Reads a text to measure on.
///
/// # Errors
/// Names the file, and where it is no UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// A bar on stderr where a person sees it; nothing else where stderr goes to a file.
pub fn progress_bar(length: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// The new file against the checkpoint in f32.
fn measure(checkpoint: &Checkpoint, out: &Path, text: &str) -> Result<Agreement> {
    let file = ModelFile::open(out)?;
    let model = file.load()?;
    let options =
        EvalOptions { context: Some(model.config().context_len as usize), ..EvalOptions::default() };
    eprintln!("note: measuring against the checkpoint in f32");
    Ok(quality::with_exact(checkpoint, |exact| quality::agreement(exact, &model, text, options))?)
}

/// An agreement in words.
pub fn show(quality: &Agreement) -> String {
    let Agreement { tokens, same_top, kl_nats, first_nats, second_nats, first_perplexity, second_perplexity } =
        quality;
    format!(
        "loss over {tokens} tokens: {first_nats:.4} nats a token before, {second_nats:.4} after ({:+.4}); \
         perplexity {first_perplexity:.3} and {second_perplexity:.3}; same top token {:.1} %, divergence {kl_nats:.4} nats",
        second_nats - first_nats,
        100.0 * same_top,
    )
}
