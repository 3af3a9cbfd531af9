//! What every command that runs a model begins with: the file, mapped and checked, and memory for
//! a session.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use smidgen_converter::{Error, ModelFile};
use smidgen_runtime::tokenizer::Tokenizer;
use smidgen_runtime::{KvType, Layout, Level, LoadError, Model, Session, SessionOptions, Workers};

/// Tokens of a prompt that go through the model side by side: enough that weights are read rarely, few
/// enough that activations stay in the cache, and take little memory beside a small model's file.
pub fn prompt_block(model: &Model<'_>) -> usize {
    if model.config().dim < 512 { 192 } else { 256 }
}

/// The model file of this name, in memory that is fast to read.
///
/// # Errors
/// Names the file and what the system says.
pub fn open(path: &Path) -> Result<ModelFile> {
    if path.is_dir() {
        bail!("{}: is a directory; {MAKE_ONE}", path.display());
    }
    Ok(ModelFile::read(path)?)
}

const MAKE_ONE: &str = "`smidgen convert` makes a model file of a checkpoint";

/// The file's model, checked from the first byte to the last.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load(file: &ModelFile) -> Result<Model<'_>> {
    file.load().map_err(|error| match error {
        Error::Load { source: LoadError::NotASmidgenFile, .. } => anyhow!("{error}; {MAKE_ONE}"),
        _ => error.into(),
    })
}

/// The model's tokenizer.
///
/// # Errors
/// If the file has none.
pub fn tokenizer<'a>(file: &ModelFile, model: &Model<'a>) -> Result<Tokenizer<'a>> {
    let missing = "has no tokenizer; convert its checkpoint again with --tokenizer";
    model.tokenizer().copied().ok_or_else(|| anyhow!("{}: {missing}", file.path().display()))
}

/// Memory for a session, one byte of zeros after the other.
#[derive(Debug)]
pub struct SessionMemory(Vec<u8>);

impl SessionMemory {
    /// As much as this layout needs, wherever it begins.
    ///
    /// # Errors
    /// If the machine has not so much.
    pub fn new(layout: &Layout) -> Result<Self> {
        // The session begins at the first multiple of 64.
        let bytes = layout.total.saturating_add(63);
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes).map_err(|_| {
            anyhow!("a session needs {}, more than there is; try a shorter --context", show_bytes(bytes))
        })?;
        memory.resize(bytes, 0);
        Ok(Self(memory))
    }

    /// Begins a session in this memory, which must be of this model and these options.
    ///
    /// # Errors
    /// If it is not.
    pub fn session<'m>(
        &'m mut self,
        model: &'m Model<'m>,
        options: SessionOptions,
        level: Level,
        workers: &'m dyn Workers,
    ) -> Result<Session<'m>> {
        Ok(Session::with_workers(model, &mut self.0[..], options, level, workers)?)
    }
}

/// How keys and values are kept, as the command line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kv {
    /// 8-bit integers with a scale a head.
    Q8,
    /// 32-bit floats.
    F32,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::Q8 => Self::Q8,
            Kv::F32 => Self::F32,
        }
    }
}

/// The kernels of this name, or the best of this CPU.
///
/// # Errors
/// Names the levels that this CPU has.
pub fn level(name: Option<&str>) -> Result<Level> {
    let Some(name) = name else { return Ok(Level::detect()) };
    Level::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Level::available().map(|level| level.name()).collect();
        anyhow!("--level is {name}, and this CPU has {}", names.join(", "))
    })
}

/// As many threads as there are cores, unless somebody says how many; but one for each megabyte of
/// the file at most, because below that threads wait for each other longer than they work.
pub fn threads(asked: Option<u16>, file: &ModelFile) -> usize {
    asked.map_or_else(
        || {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            cores.min(file.bytes().len().div_ceil(1_000_000))
        },
        usize::from,
    )
}

/// A number of bytes as people say it.
pub fn show_bytes(bytes: usize) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
