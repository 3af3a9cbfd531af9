//! `smidgen diff`: how far two models are from each other, tensor by tensor and in what they say.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use smidgen_converter::quality::{self, Agreement, EvalOptions};
use smidgen_converter::{Checkpoint, ModelFile};
use smidgen_runtime::Model;
use smidgen_runtime::format::Role;

use super::convert::{open, read_text, show};

/// Compare two models or checkpoints: every tensor, and with --data what they say of a text.
///
/// Anything that `smidgen convert` reads can be compared with anything else: a model file with the
/// checkpoint that it was made from, a GGUF file with a Hugging Face directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen diff SmolLM2-135M smol.gguf
  smidgen diff runs/story/checkpoint-001000 story-q4.smidgen --data stories.txt
  smidgen diff a.smidgen b.smidgen --json")]
pub struct Args {
    /// The first model or checkpoint.
    a: PathBuf,
    /// The second.
    b: PathBuf,
    /// A text on which to compare logits (the first model's tokenizer encodes it).
    #[arg(long, value_name = "TEXT")]
    data: Option<PathBuf>,
    /// Stop after so many tokens of the text.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_tokens: usize,
    /// The tokenizer of checkpoints that have none of their own.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// List tensors that are equal, too.
    #[arg(long)]
    all: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One tensor of both.
#[derive(Serialize)]
struct Difference {
    name: &'static str,
    layer: Option<u32>,
    shape_a: Option<(usize, usize)>,
    shape_b: Option<(usize, usize)>,
    /// Largest absolute difference; none if the shapes differ or one has no such tensor.
    max: Option<f32>,
    /// Root mean squared difference, relative to the first's root mean square.
    relative: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    a: PathBuf,
    b: PathBuf,
    /// Dimensions, tokenizer and every bit of every tensor are the same.
    identical: bool,
    /// Names of what differs besides tensors.
    differs: Vec<&'static str>,
    tensors: Vec<Difference>,
    logits: Option<Agreement>,
}

/// Runs the command.
///
/// # Errors
/// Names the file that can't be read, or why the two can't be compared on a text.
pub fn run(args: Args) -> Result<()> {
    let text = args.data.as_deref().map(read_text).transpose()?;
    let tokenizer = args.tokenizer.as_deref();
    let (a, b) = (open(&args.a, tokenizer)?, open(&args.b, tokenizer)?);
    let tensors = differences(&a, &b);
    let mut differs = Vec::new();
    for (name, same) in [
        ("dimensions", a.config == b.config),
        ("rotary positions", a.rope_theta == b.rope_theta && a.rope_scaling == b.rope_scaling),
        ("tokenizer", a.tokenizer == b.tokenizer),
        ("conversation template", a.chat_template == b.chat_template),
    ] {
        if !same {
            differs.push(name);
        }
    }
    let logits = match text {
        None => None,
        Some(text) => {
            let options = EvalOptions { max_tokens: Some(args.max_tokens), ..EvalOptions::default() };
            Some(with_model(&args.a, &a, |first| {
                with_model(&args.b, &b, |second| Ok(quality::agreement(first, second, &text, options)?))
            })?)
        }
    };
    let identical = differs.is_empty() && tensors.iter().all(|tensor| tensor.max == Some(0.0));
    let report = Report { a: args.a, b: args.b, identical, differs, tensors, logits };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{}", in_words(&report, args.all))?;
    }
    Ok(())
}

/// A model file runs as it is, anything else in f32.
fn with_model<T>(path: &Path, checkpoint: &Checkpoint, f: impl FnOnce(&Model<'_>) -> Result<T>) -> Result<T> {
    if smidgen_converter::detect(path)? == smidgen_converter::Kind::Smidgen {
        return f(&ModelFile::open(path)?.load()?);
    }
    quality::with_exact(checkpoint, f)
}

fn differences(a: &Checkpoint, b: &Checkpoint) -> Vec<Difference> {
    let mut keys: Vec<(u32, Role)> = a.tensors.keys().chain(b.tensors.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .map(|(layer, role)| {
            let (first, second) = (a.tensors.get(&(layer, role)), b.tensors.get(&(layer, role)));
            let mut difference = Difference {
                name: role.name(),
                layer: role.is_per_layer().then_some(layer),
                shape_a: first.map(|tensor| tensor.shape()),
                shape_b: second.map(|tensor| tensor.shape()),
                max: None,
                relative: None,
            };
            if let (Some(first), Some(second)) = (first, second)
                && first.shape() == second.shape()
            {
                let (first, second) = (first.read(), second.read());
                let (mut max, mut error, mut square) = (0.0_f32, 0.0_f64, 0.0_f64);
                for (a, b) in first.iter().zip(&second) {
                    // Not equal, yet without a distance: NaN.
                    let distance = if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() };
                    max = if distance.is_nan() { f32::INFINITY } else { max.max(distance) };
                    error += f64::from(distance) * f64::from(distance);
                    square += f64::from(*a) * f64::from(*a);
                }
                difference.max = Some(max);
                difference.relative = Some(if error == 0.0 { 0.0 } else { (error / square).sqrt() });
            }
            difference
        })
        .collect()
}

fn in_words(report: &Report, all: bool) -> String {
    let mut lines = Vec::new();
    if report.identical {
        lines.push(format!("identical: {} tensors, to the bit", report.tensors.len()));
    }
    if !report.differs.is_empty() {
        lines.push(format!("different: {}", report.differs.join(", ")));
    }
    let shown: Vec<_> = report.tensors.iter().filter(|tensor| all || tensor.max != Some(0.0)).collect();
    if !shown.is_empty() {
        lines.push(format!("{:<22} {:>18} {:>14} {:>14}", "tensor", "shape", "largest", "rms, relative"));
    }
    let equal = report.tensors.len() - report.tensors.iter().filter(|tensor| tensor.max != Some(0.0)).count();
    for tensor in shown {
        let name =
            tensor.layer.map_or_else(|| tensor.name.into(), |layer| format!("{}.{layer}", tensor.name));
        let shape = |shape: Option<(usize, usize)>| {
            shape.map_or_else(|| "none".into(), |(r, c)| format!("[{r}, {c}]"))
        };
        lines.push(match (tensor.max, tensor.relative) {
            (Some(max), Some(relative)) => {
                format!("{name:<22} {:>18} {max:>14.3e} {:>12.4} %", shape(tensor.shape_a), 100.0 * relative)
            }
            _ => format!("{name:<22} {:>18} against {}", shape(tensor.shape_a), shape(tensor.shape_b)),
        });
    }
    if !report.identical && !all {
        lines.push(format!("{equal} of {} tensors are equal", report.tensors.len()));
    }
    if let Some(logits) = &report.logits {
        lines.push(show(logits));
    }
    lines.join("\n") + "\n"
}
