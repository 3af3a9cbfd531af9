//! `smidgen plan`: what a model needs, before it is trained.

use std::io::{self, Write};

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use serde_json::{Value, json};
use smidgen_trainer::fit::{self, Budget, Choice, Core, Needs, Speed};
use smidgen_trainer::run::config::{self, ModelConfig, Quant, RunConfig, suggested_ffn, suggested_heads};

use super::train_progress::count;

/// Tell what a model needs on a chip: flash, RAM, instructions a token.
///
/// Of a shape, or of the best shape for a budget, which is what `smidgen train --fit` would train.
/// Sizes are the runtime's and the writer's own arithmetic; instructions are an estimate, fitted to
/// counts of a Cortex-M4F in an emulator.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen plan --fit rp2350
  smidgen plan --fit flash=512K,ram=96K,tokens-per-second=20@64MHz
  smidgen plan --layers 5 --dim 64 --heads 8 --kv-heads 4 --vocab 512 --context 512 --fit stm32f411

A budget is flash=BYTES,ram=BYTES[,tokens-per-second=N@CLOCK], or a chip: rp2040, rp2350, stm32f103,
stm32f401, stm32f411, stm32f746, stm32g474, stm32h743, nrf52832, nrf52840, nrf5340, esp32-s3, esp32-c3
(and any of the limits besides, for a part of it). It is for the whole firmware.

Exit code: 0 if the model fits the budget, 1 if not, 2 for wrong usage.")]
pub struct Args {
    /// The budget: limits, or a chip's name.
    #[arg(long, value_name = "BUDGET")]
    fit: Option<Budget>,
    #[command(flatten)]
    shape: Shape,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Dimensions; without any, the budget decides them, or else they are those that `train` has.
#[derive(Debug, clap::Args)]
struct Shape {
    /// The family of model [default: llama]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Transformer blocks [default: 4]
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Width [default: 64]
    #[arg(long, value_name = "N")]
    dim: Option<u32>,
    /// Query heads.
    #[arg(long, value_name = "N")]
    heads: Option<u32>,
    /// Key and value heads.
    #[arg(long, value_name = "N")]
    kv_heads: Option<u32>,
    /// Hidden width of the feed-forward.
    #[arg(long, value_name = "N")]
    ffn: Option<u32>,
    /// Tokens a sequence [default: 256]
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// Tokens in the vocabulary [default: 2048]
    #[arg(long, value_name = "N")]
    vocab: Option<u32>,
    /// The type of matrices [default: q8]
    #[arg(long, value_enum)]
    quant: Option<Type>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arch {
    Gpt2,
    Llama,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Type {
    F32,
    F16,
    Q8,
    Q4,
}

impl Shape {
    fn is_given(&self) -> bool {
        let numbers = [self.layers, self.dim, self.heads, self.kv_heads, self.ffn, self.context, self.vocab];
        numbers.iter().any(Option::is_some) || self.arch.is_some() || self.quant.is_some()
    }

    fn choice(&self) -> Result<Choice> {
        let base = RunConfig::default();
        let arch = match self.arch {
            Some(Arch::Gpt2) => config::Arch::Gpt2,
            Some(Arch::Llama) | None => config::Arch::Llama,
        };
        let quant = match self.quant {
            Some(Type::F32) => Quant::F32,
            Some(Type::F16) => Quant::F16,
            Some(Type::Q4) => Quant::Q4,
            Some(Type::Q8) | None => Quant::Q8,
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
            context: self.context.unwrap_or(base.model.context),
            ..base.model
        };
        let vocab_size = self.vocab.unwrap_or(base.data.vocab_size);
        let config = model.with_vocab(vocab_size)?;
        let needs = fit::needs(&config, quant.into())?;
        Ok(Choice { model, vocab_size, quant, config, needs })
    }
}

/// The best model for a budget.
///
/// # Errors
/// None fits.
pub fn choose(budget: &Budget) -> Result<Choice> {
    fit::search(budget).ok_or_else(|| {
        anyhow!(
            "nothing fits {} bytes of flash and {} of RAM: the runtime alone takes {} and {}",
            count(budget.flash),
            count(budget.ram),
            count(fit::CODE_BYTES),
            count(fit::OTHER_RAM)
        )
    })
}

/// Prints the plan.
///
/// # Errors
/// Dimensions that make no model, or a model that does not fit.
pub fn run(args: Args) -> Result<()> {
    let choice = match &args.fit {
        Some(budget) if !args.shape.is_given() => choose(budget)?,
        _ => args.shape.choice()?,
    };
    let speed = args.fit.and_then(|budget| budget.speed);
    let text = if args.json { format!("{:#}\n", as_json(&choice, speed)) } else { describe(&choice, speed) };
    io::stdout().write_all(text.as_bytes())?;
    match &args.fit {
        Some(budget) if !budget.allows(&choice.config, &choice.needs) => Err(anyhow!(
            "this does not fit {} bytes of flash, {} of RAM",
            count(budget.flash),
            count(budget.ram)
        )),
        _ => Ok(()),
    }
}

/// The processor that speed is predicted for: the budget's, or a Cortex-M4F of 100 MHz.
fn predicted(choice: &Choice, speed: Option<Speed>) -> (f64, f64, Speed) {
    let speed = speed.unwrap_or(Speed { tokens_per_second: 0.0, mhz: 100.0, core: Core::Dsp, cycles: 1.5 });
    let instructions = choice.needs.instructions(&choice.config, speed.core);
    (instructions, speed.mhz * 1e6 / (instructions * speed.cycles), speed)
}

/// What was chosen and what it needs, in words.
pub fn describe(choice: &Choice, speed: Option<Speed>) -> String {
    let Choice { model, vocab_size, quant, needs, .. } = choice;
    let Needs { parameters, file_bytes, session_bytes, .. } = needs;
    let (instructions, tokens_per_second, speed) = predicted(choice, speed);
    let quant = format!("{quant:?}").to_lowercase();
    let trained = if quant == "q4" { " (train it for that: --qat q4)" } else { "" };
    let guess = if speed.core.is_measured() { "" } else { ", a guess for this kind of core" };
    format!(
        "model   {} layers, width {}, {} heads ({} kv), ffn {}, context {}, vocabulary {}: {} parameters\n\
         file    {} bytes, matrices {quant}{trained}\n\
         flash   {} bytes with the runtime and a small program\n\
         RAM     {} bytes: {} for the session, the rest for stack and buffers\n\
         speed   {:.2} million instructions a token on the mean of a whole context{guess}: about {tokens_per_second:.1} \
         tokens/s at {:.0} MHz\n",
        model.layers,
        model.dim,
        model.heads,
        model.kv_heads,
        model.ffn,
        model.context,
        count((*vocab_size).into()),
        count(*parameters),
        count(*file_bytes),
        count(file_bytes + fit::CODE_BYTES),
        count(session_bytes + fit::OTHER_RAM),
        count(*session_bytes),
        instructions / 1e6,
        speed.mhz,
    )
}

fn as_json(choice: &Choice, speed: Option<Speed>) -> Value {
    let Choice { model, vocab_size, quant, needs, .. } = choice;
    let (instructions, tokens_per_second, speed) = predicted(choice, speed);
    json!({
        "arch": model.arch,
        "layers": model.layers,
        "dim": model.dim,
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "ffn": model.ffn,
        "context": model.context,
        "vocab": vocab_size,
        "quant": quant,
        "parameters": needs.parameters,
        "file_bytes": needs.file_bytes,
        "flash_bytes": needs.file_bytes + fit::CODE_BYTES,
        "session_bytes": needs.session_bytes,
        "ram_bytes": needs.session_bytes + fit::OTHER_RAM,
        "instructions_per_token": instructions.round(),
        "instructions_are_measured": speed.core.is_measured(),
        "mhz": speed.mhz,
        "tokens_per_second": tokens_per_second,
    })
}
