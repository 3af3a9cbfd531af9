//! `smidgen plan`: what a model needs, before it is trained.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use smidgen_runtime::format::{DType, Prefix, Role};
use smidgen_runtime::{Architecture, Config, KvType, Layout, SessionOptions};
use smidgen_trainer::fit::{self, Budget, Choice, Core, Needs, Speed};
use smidgen_trainer::run::config::{self, ModelConfig, RunConfig};

use super::open;
use super::plan_memory::{WeightArgs, Weights};
use super::shape::{Quant, ShapeArgs};
use super::train_progress::count;

/// Tell what a model needs on a chip: flash, RAM, instructions a token.
///
/// Of a model file, of a shape, or of the best shape for a budget, which is what `smidgen train --fit`
/// would train. Sizes are the runtime's and the writer's own arithmetic; instructions are an estimate,
/// fitted to counts of a Cortex-M4F in an emulator.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen plan --fit rp2350
  smidgen plan --fit flash=512K,ram=96K,tokens-per-second=20@64MHz
  smidgen plan --layers 5 --dim 64 --heads 8 --kv-heads 4 --vocab 512 --context 512 --fit stm32f411
  smidgen plan story.smidgen --context 128
  smidgen plan story.smidgen --buffer 4096 --hot 100000 --candidates 64     weights read from an SD card

A budget is flash=BYTES,ram=BYTES[,tokens-per-second=N@CLOCK], or a chip: rp2040, rp2350, stm32f103,
stm32f401, stm32f411, stm32f746, stm32g474, stm32h743, nrf52832, nrf52840, nrf5340, esp32-s3, esp32-c3
(and any of the limits besides, for a part of it). It is for the whole firmware.

Exit code: 0 if the model fits the budget, 1 if not, 2 for wrong usage.")]
pub struct Args {
    /// A model file that there is already; --context is then the session's.
    file: Option<PathBuf>,
    /// The budget: limits, or a chip's name.
    #[arg(long, value_name = "BUDGET")]
    fit: Option<Budget>,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    weights: WeightArgs,
    /// A session keeps so many of the most probable tokens instead of all logits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    candidates: usize,
    /// The type of matrices [default: q8]
    #[arg(long, value_enum, conflicts_with = "file")]
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

    /// The model of a file, and the bytes before its tensors' data.
    fn of_file(&self, path: &Path) -> Result<(Choice, Vec<u8>)> {
        if self.shape.is_more_than_context() {
            bail!("{} has its own dimensions; only --context may be given besides", path.display());
        }
        let file = open::open(path)?;
        let model = open::load(&file)?;
        let config = *model.config();
        let quant = match model.tensor(0, Role::Q).map(|matrix| matrix.dtype()) {
            Some(DType::F32) => config::Quant::F32,
            Some(DType::F16) => config::Quant::F16,
            Some(DType::Q4) => config::Quant::Q4,
            _ => config::Quant::Q8,
        };
        let gpt2 = config.architecture == Architecture::Gpt2;
        let arch = if gpt2 { config::Arch::Gpt2 } else { config::Arch::Llama };
        let context = self.shape.context.unwrap_or(config.context_len);
        let options = self.options(context);
        let needs = fit::needs_of(&model, file.bytes().len() as u64, options)?;
        let shape = ModelConfig {
            arch,
            layers: config.n_layers,
            dim: config.dim,
            heads: config.n_heads,
            kv_heads: config.n_kv_heads,
            ffn: config.ffn_dim,
            context,
            ..RunConfig::default().model
        };
        let choice = Choice { model: shape, vocab_size: config.vocab_size, quant, config, needs };
        Ok((Choice { config: Config { context_len: context, ..config }, ..choice }, head_of(file.bytes())))
    }

    fn options(&self, context: u32) -> SessionOptions {
        SessionOptions { candidates: self.candidates, ..SessionOptions::new(context as usize) }
    }
}

/// A file's bytes before its tensors' data.
fn head_of(file: &[u8]) -> Vec<u8> {
    let data_at = file.first_chunk().map_or(0, |prefix| Prefix::from_bytes(prefix).data_at);
    file.get(..usize::try_from(data_at).unwrap_or(usize::MAX)).unwrap_or(file).to_vec()
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
    let (mut choice, head) = match (&args.file, &args.fit) {
        (Some(path), _) => {
            let (choice, head) = args.of_file(path)?;
            (choice, Some(head))
        }
        (None, Some(budget)) if !args.asks_for_a_shape() => (choose(budget)?, None),
        (None, _) => (args.choice()?, None),
    };
    let kv_type = if choice.quant == config::Quant::F32 { KvType::F32 } else { KvType::Q8 };
    let kv_type = match &head {
        Some(head) => Prefix::read_config(head)?.1,
        None => kv_type,
    };
    let layout = Layout::new(&choice.config, kv_type, args.options(choice.model.context))?;
    choice.needs = choice.needs.with_session(&layout);
    let mut weights = Weights::Mapped;
    if args.weights.is_given() {
        let head = match head {
            Some(head) => head,
            None => fit::head(&choice.config, choice.quant.into())?,
        };
        let logits = if args.candidates > 0 { Some(layout.logits) } else { None };
        weights = args.weights.weights(&head, logits)?;
    }
    let speed = args.fit.and_then(|budget| budget.speed);
    let text = if args.json {
        format!("{:#}\n", as_json(&choice, speed, &weights))
    } else {
        describe_with(&choice, speed, &weights)
    };
    io::stdout().write_all(text.as_bytes())?;
    let mut taken = choice.needs;
    taken.session_bytes += weights.ram_bytes();
    if !weights.are_mapped() {
        taken.file_bytes = 0;
    }
    match &args.fit {
        Some(budget) if !budget.allows(&choice.config, &taken) => Err(anyhow!(
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

/// What was chosen and what it needs, in words, with the weights in flash that is mapped.
pub fn describe(choice: &Choice, speed: Option<Speed>) -> String {
    describe_with(choice, speed, &Weights::Mapped)
}

fn describe_with(choice: &Choice, speed: Option<Speed>, weights: &Weights) -> String {
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
         RAM     {} bytes: {} for the session, {}the rest for stack and buffers\n\
         session {} for keys and values, {} for logits, {} for tokens, {} for activations\n\
         {}\
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
        count(flash_bytes(choice, weights)),
        count(session_bytes + weights.ram_bytes() + fit::OTHER_RAM),
        count(*session_bytes),
        match weights.ram_bytes() {
            0 => String::new(),
            bytes => format!("{} for the model, ", count(bytes)),
        },
        count(*kv_bytes),
        count(*logits_bytes),
        count(*token_bytes),
        count(session_bytes - kv_bytes - logits_bytes - token_bytes),
        weights.describe(),
        instructions / 1e6,
        speed.mhz,
    )
}

/// The chip's own: all but weights that are read from elsewhere.
fn flash_bytes(choice: &Choice, weights: &Weights) -> u64 {
    fit::CODE_BYTES + if weights.are_mapped() { choice.needs.file_bytes } else { 0 }
}

fn as_json(choice: &Choice, speed: Option<Speed>, weights: &Weights) -> Value {
    let Choice { model, vocab_size, quant, needs, .. } = choice;
    let (instructions, tokens_per_second, speed) = predicted(choice, speed);
    let mut object = json!({
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
        "flash_bytes": flash_bytes(choice, weights),
        "session_bytes": needs.session_bytes,
        "kv_bytes": needs.kv_bytes,
        "logits_bytes": needs.logits_bytes,
        "token_bytes": needs.token_bytes,
        "ram_bytes": needs.session_bytes + weights.ram_bytes() + fit::OTHER_RAM,
        "instructions_per_token": instructions.round(),
        "instructions_are_measured": speed.core.is_measured(),
        "mhz": speed.mhz,
        "tokens_per_second": tokens_per_second,
    });
    weights.add_to(&mut object);
    object
}
