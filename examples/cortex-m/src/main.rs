//! Tells a story on a Cortex-M: the model stays in flash, its state in a `static` whose size the
//! compiler knows, and nothing is ever allocated.
//!
//! The text goes to semihosting's standard output, figures about flash, RAM and instructions to
//! its standard error. Settings come from the environment when this is built (`SMIDGEN_MODEL`,
//! `SMIDGEN_CONTEXT`, `SMIDGEN_PROMPT`, `SMIDGEN_TOKENS`, `SMIDGEN_TEMPERATURE`, `SMIDGEN_TOP_P`,
//! `SMIDGEN_SEED`, with feature `hot` `SMIDGEN_HOT`) and can be changed by the semihosting command line (see [`settings`]).
#![no_std]
#![no_main]
#![warn(missing_docs)]

mod board;
mod checks;
mod faults;
mod host;
mod report;
mod settings;

use core::fmt::{self, Write};

use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
#[cfg(feature = "hot")]
use smidgen_runtime::HotError;
use smidgen_runtime::format::Prefix;
use smidgen_runtime::{
    Layout, LoadError, Memory, Model, SampleError, Sampler, SamplerOptions, Session, SessionError,
    SessionOptions, StepError, include_model, memory_needed,
};

use board::Stopwatch;
use host::{DumpFile, HostError};
use report::Report;
use settings::{Mode, Settings, SettingsError};

/// The model, in flash.
#[cfg(not(feature = "external"))]
static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"));
/// The model, where the linker's script has external memory.
#[cfg(feature = "external")]
static FILE: &[u8] = include_model!(env!("SMIDGEN_MODEL_FILE"), section = ".external_model");

/// The longest sequence: `SMIDGEN_CONTEXT`, or what the model was made for, but at most 256.
const CONTEXT: usize = smidgen_console::context(FILE, option_env!("SMIDGEN_CONTEXT"), 256);
const OPTIONS: SessionOptions = SessionOptions::new(CONTEXT);
/// The session's parts, as `smidgen plan` lists them.
const LAYOUT: Layout = match Prefix::read_config(FILE) {
    Ok((config, kv_type)) => match Layout::new(&config, kv_type, OPTIONS) {
        Ok(layout) => layout,
        Err(_) => panic!("SMIDGEN_CONTEXT is longer than the model's"),
    },
    Err(_) => panic!("SMIDGEN_MODEL is not a model file that this version of smidgen reads"),
};
/// Known while compiling: a model that does not fit the chip does not link.
const BYTES: usize = memory_needed(FILE, OPTIONS);
/// Bytes for copies of tensors in RAM: of `SMIDGEN_HOT`, if there is such a number, those that are of use.
const HOT: usize = smidgen_console::hot(FILE, option_env!("SMIDGEN_HOT"));
const _: () = assert!(cfg!(feature = "hot") || HOT == 0, "SMIDGEN_HOT is for the feature `hot`");

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory<BYTES> = Memory::new();
    static mut HOT_MEMORY: Memory<HOT> = Memory::new();
    static mut COMMAND_LINE: [u8; 512] = [0; 512];
    board::guard_stack();
    let status = match run((MEMORY, HOT_MEMORY), COMMAND_LINE) {
        Ok(()) => EXIT_SUCCESS,
        Err(error) => {
            let _ = writeln!(host::stderr(), "error: {error}");
            EXIT_FAILURE
        }
    };
    loop {
        debug::exit(status);
    }
}

/// The session's, and that of copies.
type Memories<'a> = (&'a mut Memory<BYTES>, &'a mut Memory<HOT>);

fn run(memory: Memories<'_>, command_line: &mut [u8]) -> Result<(), Error> {
    let settings = Settings::new(host::command_line(command_line)?)?;
    match settings.mode {
        Mode::Story => tell(memory, &settings),
        Mode::Timer => {
            checks::timer();
            Ok(())
        }
        Mode::Panic => checks::panic(),
        Mode::Fault => checks::fault(),
        Mode::Overflow => checks::overflow(),
    }
}

/// Loads the model, takes in the prompt and prints what follows.
fn tell((memory, hot): Memories<'_>, settings: &Settings<'_>) -> Result<(), Error> {
    let mut out = host::stdout();
    let mut dump = settings.dump.map(DumpFile::create).transpose()?;
    let mut report = Report::new(FILE, BYTES, HOT, LAYOUT);

    let watch = Stopwatch::start();
    let model = copied(Model::load(FILE)?, hot)?;
    report.load = watch.instructions();

    let mut session = Session::new(&model, memory, OPTIONS)?;
    let options = SamplerOptions {
        temperature: settings.temperature,
        top_p: settings.top_p,
        ..SamplerOptions::default()
    };
    let mut sampler = Sampler::new(options, settings.seed)?;

    let watch = Stopwatch::start();
    report.prompt_tokens = session.prompt(settings.prompt)?;
    report.prompt = watch.instructions();
    out.write_str(settings.prompt)?;

    let mut generate = session.generate(&mut sampler);
    for _ in 0..settings.tokens {
        if let Some(dump) = &mut dump
            && generate.finish().is_none()
        {
            dump.write(generate.session().logits())?;
        }
        let watch = Stopwatch::start();
        let Some(generated) = generate.next() else { break };
        report.token(watch.instructions());
        write!(out, "{generated}")?;
    }
    writeln!(out, "{}", generate.flush())?;
    write!(host::stderr(), "{report}")?;
    Ok(())
}

/// The model with copies of its tensors in RAM.
#[cfg(feature = "hot")]
fn copied<'m>(model: Model<'m>, memory: &'m mut Memory<HOT>) -> Result<Model<'m>, Error> {
    if HOT == 0 { Ok(model) } else { Ok(model.with_hot(memory.as_mut())?) }
}

/// The model as it is.
#[cfg(not(feature = "hot"))]
fn copied<'m>(model: Model<'m>, _: &'m mut Memory<HOT>) -> Result<Model<'m>, Error> {
    Ok(model)
}

/// Whatever can go wrong, in words.
#[derive(Debug)]
enum Error {
    Settings(SettingsError),
    Host(HostError),
    Load(LoadError),
    #[cfg(feature = "hot")]
    Hot(HotError),
    Session(SessionError),
    Step(StepError),
    Sample(SampleError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Host(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
            #[cfg(feature = "hot")]
            Self::Hot(error) => error.fmt(f),
            Self::Session(error) => error.fmt(f),
            Self::Step(error) => error.fmt(f),
            // Its own words would bring the printing of floats with them: 20 KB of flash.
            Self::Sample(SampleError::OutOfRange { parameter, .. }) => {
                write!(f, "{parameter} is out of range")
            }
            Self::Sample(_) => f.write_str("no logit is a finite number"),
        }
    }
}

macro_rules! from {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}
#[cfg(feature = "hot")]
from!(Hot(HotError));
from!(
    Settings(SettingsError),
    Host(HostError),
    Load(LoadError),
    Session(SessionError),
    Step(StepError),
    Sample(SampleError)
);

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Self {
        Self::Host(HostError::Write)
    }
}
