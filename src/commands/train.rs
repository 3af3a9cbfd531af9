//! `smidgen train`: text becomes a model.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use serde_json::json;
use smidgen_runtime::Pool;
use smidgen_trainer::data::TokenCache;
use smidgen_trainer::run::finish::{self, Exported};
use smidgen_trainer::run::{Outcome, Run, bits_per_byte, was_stopped};

use super::shape::ShapeArgs;
use super::train_options::NewRun;
use super::train_progress::{Progress, count, duration};

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Train a model on your text, or on built-in stories.
///
/// Without arguments, about two minutes of training make a model of 300,000 parameters that tells
/// short stories. Everything goes into one folder, runs/NAME: checkpoints that Python's transformers
/// loads, metrics.jsonl, loss.svg, and at the end model.smidgen. Ctrl-C saves and stops; a run goes on
/// from there with --resume, and comes to the same bits as if it had never stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen train
  smidgen train --data books/ --minutes 30 --layers 6 --dim 192 --vocab 4096
  smidgen train --data shakespeare.txt --tokenizer char --arch gpt2 --layers 4 --heads 4 --dim 128 --context 64 --batch 12 --steps 2000
  smidgen train --qat q4 --layers 5 --dim 64
  smidgen train --fit rp2350 --minutes 20
  smidgen train --from SmolLM2-135M --data notes.jsonl --context 256 --epochs 3
  zcat corpus.jsonl.gz | smidgen train --data -
  smidgen train --resume runs/stories

Text: UTF-8 files (from a folder: *.txt, *.text, *.md, *.jsonl, *.ndjson), of any size. A line or word
<|endoftext|> ends a document; without it a file is one document; of JSONL every line is one. About a
fiftieth of the documents is held out to measure what was learned; of a single one, the last tenth.
Tokens are kept in $SMIDGEN_CACHE (~/.cache/smidgen/tokens unless set; empty for none) by the text's
content, so that a second run need not make them again.

Exit code: 0 when trained to the end, 1 for an error, 2 for wrong usage, 130 after Ctrl-C.")]
pub struct Args {
    /// Go on with this run (its folder, or one of its checkpoints), with the settings it began with.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["NewRun", "ShapeArgs"])]
    resume: Option<PathBuf>,
    /// Threads; as many as cores unless told. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Neither look for the text's tokens in the user's cache nor add them to it.
    #[arg(long)]
    no_cache: bool,
    /// Print one JSON object at the end instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    new: NewRun,
    // Beside it, not in it: a group with a group inside cannot be in conflict with anything.
    #[command(flatten)]
    shape: ShapeArgs,
}

/// Trains.
///
/// # Errors
/// Settings out of range, unreadable text, a full disk, training that ran away.
pub fn run(args: Args) -> Result<()> {
    // The second Ctrl-C does not wait for the step to end.
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    let run = match &args.resume {
        Some(path) => Run::resume(path)?,
        None => Run::create(args.new.fitted(&args.shape)?, args.new.out.as_deref())?,
    };
    let run = run.with_cache(if args.no_cache { None } else { TokenCache::of_user() });
    let config = run.config().clone();
    let shown = relative(run.folder().path());
    let pool = args.threads.map_or_else(Pool::with_all_cores, |threads| Pool::new(threads.into()));
    let mut progress = Progress::new(&shown);
    let result = run.train(&pool, &STOP, &mut progress);
    progress.finish();
    let outcome = match result {
        Err(error) if was_stopped(&error) => {
            eprintln!("stopped before training began; nothing was kept");
            process::exit(130);
        }
        result => result?,
    };
    let plot = finish::plot(&outcome.folder)?;
    if !outcome.finished {
        let of = outcome.total_steps.map_or(String::new(), |total| format!(" of {}", count(total)));
        eprintln!("stopped after step {}{of}; saved. Go on with:", count(outcome.step));
        eprintln!("  smidgen train --resume {}", shown.display());
        process::exit(130);
    }
    let exported = finish::export(&outcome, &config)?;
    let sample = finish::sample(&exported.path, config.training.seed)?;
    if args.json {
        return print_json(&outcome, &exported, &plot, &sample);
    }
    summarize(&outcome, &exported, &plot);
    eprintln!("\nWhat it writes:\n");
    writeln!(io::stdout(), "{}", sample.trim())?;
    eprintln!("\nNext: smidgen generate {} --prompt 'Once upon a time'", relative(&exported.path).display());
    Ok(())
}

fn summarize(outcome: &Outcome, exported: &Exported, plot: &Path) {
    let Outcome { step, tokens, seconds, .. } = outcome;
    eprintln!("{} steps, {} tokens in {}", count(*step), count(*tokens), duration(*seconds));
    if let Some(best) = outcome.best {
        let loss = best.validation_loss;
        let bits = bits_per_byte(loss, outcome.bytes_per_token);
        eprintln!("held-out text: {loss:.4} nats a token, {bits:.4} bits a byte (step {})", count(best.step));
    }
    let size = format!("the model file, {:.0} kB", exported.bytes as f64 / 1e3);
    for (path, what) in [
        (&*exported.path, &*size),
        (&exported.checkpoint, "the same for Python's transformers, `smidgen convert` and --resume"),
        (plot, "the loss curve"),
    ] {
        eprintln!("  {:<36} {what}", relative(path).display());
    }
}

fn print_json(outcome: &Outcome, exported: &Exported, plot: &Path, sample: &str) -> Result<()> {
    let loss = outcome.best.map(|best| best.validation_loss);
    let object = json!({
        "run": outcome.folder,
        "model": exported.path,
        "model_bytes": exported.bytes,
        "checkpoint": exported.checkpoint,
        "plot": plot,
        "steps": outcome.step,
        "tokens": outcome.tokens,
        "seconds": outcome.seconds,
        "validation_loss": loss,
        "bits_per_byte": loss.map(|loss| bits_per_byte(loss, outcome.bytes_per_token)),
        "sample": sample,
    });
    writeln!(io::stdout(), "{object:#}")?;
    Ok(())
}

/// The path as a user of this directory would write it.
fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    match here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf)) {
        Some(relative) if !relative.as_os_str().is_empty() => relative,
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use smidgen_trainer::run::config::{self, Length, RunConfig};

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn config(line: &str) -> RunConfig {
        let args = Cli::try_parse_from(line.split(' ')).unwrap().args;
        let config = args.new.config(&args.shape);
        config.validate().unwrap();
        config
    }

    #[test]
    fn without_flags_it_is_the_default() {
        assert_eq!(config("train"), RunConfig::default());
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line = "train --data a.txt --data b.txt c.txt --arch gpt2 --layers 4 --heads 4 --dim 128 \
                    --context 64 --batch 12 --steps 2000 --tokenizer char --quant f32 --lr 1e-3";
        let config = config(line);
        assert_eq!(config.data.paths, ["a.txt", "b.txt", "c.txt"].map(PathBuf::from));
        assert_eq!((config.model.kv_heads, config.model.ffn), (4, 512));
        assert_eq!(config.training.length, Length::Steps(2000));
        assert_eq!((config.training.lr, config.quant), (1e-3, config::Quant::F32));
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "train --resume runs/x --steps 5",
            "train --steps 5 --minutes 1",
            "train --resume runs/x --data a.txt",
            "train --resume runs/x --layers 5",
            "train --from x --dim 64",
            "train --fit rp2350 --context 64",
            "train --threads 0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        assert!(Cli::try_parse_from("train --resume runs/x --threads 3".split(' ')).is_ok());
    }
}
