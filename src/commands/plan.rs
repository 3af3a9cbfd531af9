//! `smidgen plan`: what a model needs, before it is trained.

use std::io::{self, Write};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use smidgen_trainer::fit::{self, Budget, Choice, Core, Needs, Speed};
use smidgen_trainer::run::config::{self, RunConfig};

use super::shape::{Quant, ShapeArgs};
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
    shape: ShapeArgs,
    /// The type of matrices [default: q8]
    #[arg(long, value_enum)]
    quant: Option<Quant>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn asks_for_a_shape(&self) -> bool {
        self.shape.is_given() || self.quant.is_some()
    }

    fn choice(&self) -> Result<Choice> {
        let quant = self.quant.map_or(RunConfig::default().quant, Into::into);
        let (model, vocab_size) = (self.shape.model(), self.shape.vocab_size());
        let config = model.with_vocab(vocab_size)?;
        let needs = fit::needs(&config, config::Quant::into(quant))?;
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
        Some(budget) if !args.asks_for_a_shape() => choose(budget)?,
        _ => args.choice()?,
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
    let Needs { parameters, file_bytes, session_bytes, kv_bytes, logits_bytes, token_bytes, .. } = needs;
    let (instructions, tokens_per_second, speed) = predicted(choice, speed);
    let quant = format!("{quant:?}").to_lowercase();
    let trained = if quant == "q4" { " (train it for that: --qat q4)" } else { "" };
    let guess = if speed.core.is_measured() { "" } else { ", a guess for this kind of core" };
    format!(
        "model   {} layers, width {}, {} heads ({} kv), ffn {}, context {}, vocabulary {}: {} parameters\n\
         file    {} bytes, matrices {quant}{trained}\n\
         flash   {} bytes with the runtime and a small program\n\
         RAM     {} bytes: {} for the session, the rest for stack and buffers\n\
         session {} for keys and values, {} for logits, {} for tokens, {} for activations\n\
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
        count(*kv_bytes),
        count(*logits_bytes),
        count(*token_bytes),
        count(session_bytes - kv_bytes - logits_bytes - token_bytes),
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
        "kv_bytes": needs.kv_bytes,
        "logits_bytes": needs.logits_bytes,
        "token_bytes": needs.token_bytes,
        "ram_bytes": needs.session_bytes + fit::OTHER_RAM,
        "instructions_per_token": instructions.round(),
        "instructions_are_measured": speed.core.is_measured(),
        "mhz": speed.mhz,
        "tokens_per_second": tokens_per_second,
    })
}
