//! What to tell: from the environment at build time, then from the semihosting command line.
//!
//! The command line is words `key=value`, `prompt=` last, which takes the rest of the line:
//! `tokens=50 temperature=0 seed=7 prompt=The cat sat`. What comes before the first known key is
//! the program's name. Keys: `mode` (`story`, `timer`, `panic`, `fault`, `overflow`), `tokens`,
//! `temperature`, `top_p`, `seed`, `dump` (a file on the host for the logits of every choice), `prompt`.

use core::fmt;
use core::str::FromStr;

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Tells a story.
    Story,
    /// Measures a loop of known length, to check the clock.
    Timer,
    /// Panics, to check that a panic is a failure for whoever started the program.
    Panic,
    /// Reads where no memory is, to check the same of a fault.
    Fault,
    /// Recurses until the stack is full, to check the same of an overflow.
    Overflow,
}

/// What to tell, and how.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    pub mode: Mode,
    pub prompt: &'a str,
    pub tokens: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub seed: u64,
    pub dump: Option<&'a str>,
}

/// A setting that can't be understood.
#[derive(Clone, Copy, Debug)]
pub struct SettingsError {
    key: &'static str,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str("a word on the command line is not a known key=value")
        } else {
            write!(f, "the value of {} can't be understood", self.key)
        }
    }
}

/// The environment at build time, in the order in which they are taken in.
const BUILT_IN: [(&str, Option<&str>); 4] = [
    ("tokens", option_env!("SMIDGEN_TOKENS")),
    ("temperature", option_env!("SMIDGEN_TEMPERATURE")),
    ("top_p", option_env!("SMIDGEN_TOP_P")),
    ("seed", option_env!("SMIDGEN_SEED")),
];

impl<'a> Settings<'a> {
    /// The settings that the build and then `command_line` say.
    pub fn new(command_line: &'a str) -> Result<Self, SettingsError> {
        let mut settings = Self {
            mode: Mode::Story,
            prompt: option_env!("SMIDGEN_PROMPT").unwrap_or("Once upon a time"),
            tokens: 100,
            temperature: 0.8,
            top_p: 0.9,
            seed: 42,
            dump: None,
        };
        for (key, value) in BUILT_IN {
            if let Some(value) = value {
                settings.set(key, value)?;
            }
        }
        let mut rest = command_line.trim_matches(['\0', ' ']);
        let mut seen_key = false;
        while !rest.is_empty() {
            if let Some(prompt) = rest.strip_prefix("prompt=") {
                settings.prompt = prompt;
                break;
            }
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after.trim_start_matches(' ');
            let known = match word.split_once('=') {
                Some((key, value)) => settings.set(key, value)?,
                None => false,
            };
            if seen_key && !known {
                return Err(SettingsError { key: "" });
            }
            seen_key |= known;
        }
        Ok(settings)
    }

    /// Takes in one setting; false if there is none of this name.
    fn set(&mut self, key: &str, value: &'a str) -> Result<bool, SettingsError> {
        match key {
            "mode" => {
                self.mode = match value {
                    "story" => Mode::Story,
                    "timer" => Mode::Timer,
                    "panic" => Mode::Panic,
                    "fault" => Mode::Fault,
                    "overflow" => Mode::Overflow,
                    _ => return Err(SettingsError { key: "mode" }),
                }
            }
            "tokens" => self.tokens = number("tokens", value)?,
            "seed" => self.seed = number("seed", value)?,
            "temperature" => self.temperature = fraction("temperature", value)?,
            "top_p" => self.top_p = fraction("top_p", value)?,
            "dump" => self.dump = Some(value),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn number<T: FromStr>(key: &'static str, text: &str) -> Result<T, SettingsError> {
    text.parse().map_err(|_| SettingsError { key })
}

fn fraction(key: &'static str, text: &str) -> Result<f32, SettingsError> {
    smidgen_console::decimal(text).ok_or(SettingsError { key })
}
