//! Lines that begin with a slash.

use core::fmt;
use core::str::FromStr;

use smidgen_runtime::Sampler;

use crate::decimal::decimal;
use crate::settings::Settings;

/// What to do besides telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `/temperature 0.5`, `/top_p`, `/top_k`, `/seed`, `/tokens`: the settings have changed.
    Set,
    /// `/memory`: show what model, session and firmware take.
    Memory,
    /// `/settings`: show them.
    Settings,
    /// `/help`.
    Help,
}

/// Why a command was not obeyed; the settings are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// There is no such command.
    Unknown,
    /// The value is missing or no number.
    NoNumber {
        /// Of which setting.
        name: &'static str,
    },
    /// The value is outside its range.
    OutOfRange {
        /// Of which setting.
        name: &'static str,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no such command; /help lists them"),
            Self::NoNumber { name } => write!(f, "/{name} takes a number"),
            Self::OutOfRange { name } => write!(f, "{name} is out of range"),
        }
    }
}

/// What `/help` says.
pub const HELP: &str = "\
/temperature 0.8  0 to 2: below 1 sharpens, 0 always takes the most probable token
/top_p 0.9        0 to 1: choose among the fewest most probable tokens of this probability
/top_k 0          choose among so many most probable tokens; 0 for all
/seed 42          where the random numbers begin
/tokens 256       how many tokens at most
/settings         show these
/memory           show what model, session and firmware take
Enter ends a line, Backspace takes back, Ctrl-C begins anew.
";

impl Command {
    /// Reads a command and changes the settings that it names.
    ///
    /// # Errors
    /// Tells which value is wrong.
    pub fn obey(line: &str, settings: &mut Settings) -> Result<Self, CommandError> {
        let line = line.trim();
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let value = value.trim();
        let mut changed = *settings;
        match name {
            "/temperature" => changed.sampler.temperature = number("temperature", decimal(value))?,
            "/top_p" => changed.sampler.top_p = number("top_p", decimal(value))?,
            "/top_k" => changed.sampler.top_k = whole("top_k", value)?,
            "/seed" => changed.seed = whole("seed", value)?,
            "/tokens" => changed.tokens = whole("tokens", value)?,
            "/memory" => return Ok(Self::Memory),
            "/settings" => return Ok(Self::Settings),
            "/help" => return Ok(Self::Help),
            _ => return Err(CommandError::Unknown),
        }
        if Sampler::new(changed.sampler, changed.seed).is_err() {
            let name = if name == "/top_p" { "top_p" } else { "temperature" };
            return Err(CommandError::OutOfRange { name });
        }
        *settings = changed;
        Ok(Self::Set)
    }
}

fn number<T>(name: &'static str, value: Option<T>) -> Result<T, CommandError> {
    value.ok_or(CommandError::NoNumber { name })
}

fn whole<T: FromStr>(name: &'static str, text: &str) -> Result<T, CommandError> {
    number(name, text.parse().ok())
}
