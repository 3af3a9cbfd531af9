//! `smidgen train`: text becomes a model.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;
use smidgen_runtime::Pool;
use smidgen_trainer::data::TokenCache;
use smidgen_trainer::fit::Budget;
use smidgen_trainer::run::config::{
    self, DataConfig, Length, ModelConfig, OptimizerChoice, RunConfig, ScheduleChoice, TokenizerChoice,
    TrainingConfig, suggested_ffn, suggested_heads, suggested_lr,
};
use smidgen_trainer::run::finish::{self, Exported};
use smidgen_trainer::run::{Outcome, Run, bits_per_byte, was_stopped};

use super::plan;
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
    #[arg(long, value_name = "DIR", conflicts_with = "NewRun")]
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
}

/// What decides the result.
#[derive(Debug, clap::Args)]
struct NewRun {
    /// A text file, a JSONL file (objects with a field `text`), a folder of such files, a pattern such
    /// as 'books/*.txt', or - for standard input; may be given several times. Without it: built-in stories.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// The run's folder; it must not exist or be empty. Default: a fresh one below runs.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The family of model [default: llama]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Transformer blocks [default: 4]
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Width [default: 64]
    #[arg(long, value_name = "N")]
    dim: Option<u32>,
    /// Query heads [default: heads of 16; in wide models of 64]
    #[arg(long, value_name = "N")]
    heads: Option<u32>,
    /// Key and value heads [default: half as many; with gpt2 as many]
    #[arg(long, value_name = "N")]
    kv_heads: Option<u32>,
    /// Hidden width of the feed-forward [default: about 8/3 of the width; with gpt2 4 times]
    #[arg(long, value_name = "N")]
    ffn: Option<u32>,
    /// Tokens a sequence [default: 256]
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// Tokens in the vocabulary, at most [default: 2048]
    #[arg(long, value_name = "N")]
    vocab: Option<u32>,
    /// How text becomes tokens: byte-pair encoding, or a token a character [default: bpe]
    #[arg(long, value_enum)]
    tokenizer: Option<Tokenizer>,
    /// Sequences that are learned from at once [default: 4]
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
    /// Batches for one step: as if the batch were so many times larger, in the memory of one [default: 1]
    #[arg(long, value_name = "N")]
    accumulate: Option<u32>,
    /// Train for so many steps.
    #[arg(long, value_name = "N", group = "length")]
    steps: Option<u64>,
    /// Train for about so many minutes [default: 2]
    #[arg(long, value_name = "N", group = "length")]
    minutes: Option<f64>,
    /// Train on as many tokens as so many passes over the text have.
    #[arg(long, value_name = "N", group = "length")]
    epochs: Option<f64>,
    /// The highest learning rate [default: by the width]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// Steps in which the learning rate rises [default: 100, at most a tenth of all]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// AdamW's decay of matrices [default: 0.1]
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// The norm that gradients are cut to, 0 for none [default: 1]
    #[arg(long, value_name = "X")]
    grad_clip: Option<f64>,
    /// What turns gradients into steps: AdamW, or Muon for the blocks' matrices [default: muon]
    #[arg(long, value_enum)]
    optimizer: Option<Optimizer>,
    /// How the learning rate falls: along a cosine, or in a cooldown at the end [default: wsd]
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// The part of the run that is the cooldown [default: 0.3]
    #[arg(long, value_name = "PART")]
    cooldown: Option<f64>,
    /// The last learning rate, as a part of the highest [default: 0.05]
    #[arg(long, value_name = "PART")]
    final_lr: Option<f64>,
    /// AdamW's memory of gradients [default: 0.9]
    #[arg(long, value_name = "X")]
    beta1: Option<f64>,
    /// AdamW's memory of squared gradients [default: 0.95]
    #[arg(long, value_name = "X")]
    beta2: Option<f64>,
    /// The part of embeddings and branches that is dropped at random [default: 0]
    #[arg(long, value_name = "PART")]
    dropout: Option<f64>,
    /// The weight of a penalty on large logits [default: 0]
    #[arg(long, value_name = "X")]
    z_loss: Option<f64>,
    /// Normalize queries and keys head by head, as Qwen3 does (llama only).
    #[arg(long)]
    qk_norm: bool,
    /// Learn an output layer of its own instead of using the embedding.
    #[arg(long)]
    untied: bool,
    /// Train the last part of the run for the arithmetic of a model file of this type: weights and
    /// activations are rounded as they will be there.
    #[arg(long, value_enum, value_name = "TYPE")]
    qat: Option<Quant>,
    /// How large that part is [default: 0.15]
    #[arg(long, value_name = "PART", requires = "qat")]
    qat_part: Option<f64>,
    /// Start from this checkpoint (a Hugging Face directory, a run's checkpoint, a .smidgen file or
    /// anything else that convert reads), in its shape and with its tokenizer.
    #[arg(long, value_name = "PATH", conflicts_with_all = [
        "arch", "layers", "dim", "heads", "kv_heads", "ffn", "vocab", "tokenizer", "qk_norm", "untied",
    ])]
    from: Option<PathBuf>,
    /// A budget instead of a shape: flash=512K,ram=96K,tokens-per-second=20@64MHz (the last may be left out), or a chip's name
    /// such as rp2350; says what it chooses. See `smidgen plan`.
    #[arg(long, value_name = "BUDGET", conflicts_with_all = [
        "from", "arch", "layers", "dim", "heads", "kv_heads", "ffn", "context", "vocab", "tokenizer",
        "quant", "qat", "untied", "qk_norm",
    ])]
    fit: Option<Budget>,
    /// Tokens of held-out text that a look takes, at most [default: 32768]
    #[arg(long, value_name = "N")]
    eval_tokens: Option<u32>,
    /// The newest checkpoints that are kept, besides the best [default: 2]
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    /// Let the model write so many tokens at every look, into sample-STEP.txt [default: 0]
    #[arg(long, value_name = "N")]
    sample_tokens: Option<u32>,
    /// Steps between two looks at the held-out text [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    eval_every: Option<u64>,
    /// Steps between two checkpoints [default: at each look]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    /// Where the random numbers begin: weights, batches, stories [default: 42]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The type of matrices in the model file at the end [default: q8; with --qat its type]
    #[arg(long, value_enum)]
    quant: Option<Quant>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arch {
    Gpt2,
    Llama,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tokenizer {
    Bpe,
    Char,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Optimizer {
    Adamw,
    Muon,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Schedule {
    Cosine,
    Wsd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Quant {
    F32,
    F16,
    Q8,
    Q4,
}

impl NewRun {
    /// The configuration, in the shape that the budget allows if there is one.
    fn fitted(&self) -> Result<RunConfig> {
        let mut config = self.config();
        if let Some(budget) = &self.fit {
            let choice = plan::choose(budget)?;
            eprint!("{}", plan::describe(&choice, budget.speed));
            config.data.vocab_size = choice.vocab_size;
            config.quant = choice.quant;
            if choice.quant == config::Quant::Q4 {
                config.training.qat = Some(choice.quant);
            }
            if self.lr.is_none() {
                config.training.lr = suggested_lr(choice.model.dim);
            }
            config.model = choice.model;
        }
        Ok(config)
    }

    /// The defaults with what was asked for instead.
    fn config(&self) -> RunConfig {
        let base = RunConfig::default();
        let arch = match self.arch {
            Some(Arch::Gpt2) => config::Arch::Gpt2,
            Some(Arch::Llama) | None => config::Arch::Llama,
        };
        let dim = self.dim.unwrap_or(base.model.dim);
        let heads = self.heads.unwrap_or_else(|| suggested_heads(dim));
        let half = if heads.is_multiple_of(2) { heads / 2 } else { heads };
        let model = ModelConfig {
            arch,
            layers: self.layers.unwrap_or(base.model.layers),
            dim,
            heads,
            kv_heads: self.kv_heads.unwrap_or(if arch == config::Arch::Gpt2 { heads } else { half }),
            ffn: self.ffn.unwrap_or_else(|| suggested_ffn(arch, dim)),
            context: match (self.context, &self.from) {
                (Some(context), _) => context,
                // The checkpoint's.
                (None, Some(_)) => 0,
                (None, None) => base.model.context,
            },
            qk_norm: self.qk_norm,
            tied: !self.untied,
            ..base.model
        };
        let data = DataConfig {
            paths: self.data.clone(),
            tokenizer: match self.tokenizer {
                Some(Tokenizer::Char) => TokenizerChoice::Char,
                Some(Tokenizer::Bpe) | None => TokenizerChoice::Bpe,
            },
            vocab_size: self.vocab.unwrap_or(base.data.vocab_size),
            ..base.data
        };
        let defaults = base.training;
        let training = TrainingConfig {
            length: match (self.steps, self.minutes, self.epochs) {
                (Some(steps), ..) => Length::Steps(steps),
                (_, Some(minutes), _) => Length::Minutes(minutes),
                (.., Some(epochs)) => Length::Epochs(epochs),
                _ => defaults.length,
            },
            batch: self.batch.unwrap_or(defaults.batch),
            accumulate: self.accumulate.unwrap_or(defaults.accumulate),
            // 0 means: suitable for a model that is not known yet.
            lr: self.lr.unwrap_or_else(|| if self.from.is_some() { 0.0 } else { suggested_lr(dim) }),
            optimizer: match self.optimizer {
                Some(Optimizer::Adamw) => OptimizerChoice::AdamW,
                Some(Optimizer::Muon) => OptimizerChoice::Muon,
                None => defaults.optimizer,
            },
            schedule: match self.schedule {
                Some(Schedule::Cosine) => ScheduleChoice::Cosine,
                Some(Schedule::Wsd) => ScheduleChoice::Wsd,
                None => defaults.schedule,
            },
            cooldown: self.cooldown.unwrap_or(defaults.cooldown),
            final_lr: self.final_lr.unwrap_or(defaults.final_lr),
            beta1: self.beta1.unwrap_or(defaults.beta1),
            beta2: self.beta2.unwrap_or(defaults.beta2),
            dropout: self.dropout.unwrap_or(defaults.dropout),
            z_loss: self.z_loss.unwrap_or(defaults.z_loss),
            qat: self.qat.map(Into::into),
            qat_part: self.qat_part.unwrap_or(defaults.qat_part),
            eval_tokens: self.eval_tokens.unwrap_or(defaults.eval_tokens),
            keep: self.keep.unwrap_or(defaults.keep),
            sample_tokens: self.sample_tokens.unwrap_or(defaults.sample_tokens),
            warmup: self.warmup.unwrap_or(defaults.warmup),
            weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
            grad_clip: self.grad_clip.unwrap_or(defaults.grad_clip),
            seed: self.seed.unwrap_or(defaults.seed),
            eval_every: self.eval_every.unwrap_or(defaults.eval_every),
            save_every: self.save_every.unwrap_or(defaults.save_every),
        };
        let quant = self.quant.or(self.qat).map_or(base.quant, Into::into);
        RunConfig { data, model, training, quant, from: self.from.clone() }
    }
}

impl From<Quant> for config::Quant {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::F32 => Self::F32,
            Quant::F16 => Self::F16,
            Quant::Q8 => Self::Q8,
            Quant::Q4 => Self::Q4,
        }
    }
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
        None => Run::create(args.new.fitted()?, args.new.out.as_deref())?,
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

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn config(line: &str) -> RunConfig {
        let config = Cli::try_parse_from(line.split(' ')).unwrap().args.new.config();
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
            "train --threads 0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        assert!(Cli::try_parse_from("train --resume runs/x --threads 3".split(' ')).is_ok());
    }
}
