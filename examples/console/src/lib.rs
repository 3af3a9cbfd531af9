//! A console for any board that has a UART and a clock: type a prompt, watch the story come, read what it
//! took.
//!
//! [`serve`] is all that firmware needs: it loads the model and talks over anything with embedded-io's
//! `Read` and `Write`. What is typed is echoed, and the story goes on right behind it, so that the
//! terminal shows, byte for byte, what `smidgen generate` prints. A line that begins with a slash is a
//! [command](Command).
#![no_std]
#![warn(missing_docs)]

mod board;
mod command;
mod console;
mod decimal;
mod line;
mod settings;
mod stored;
mod terminal;
#[cfg(feature = "workers")]
mod two_cores;
mod usage;

pub use board::{Board, Unit};
pub use command::{Command, CommandError};
#[cfg(feature = "workers")]
pub use console::serve_with;
pub use console::{Console, ConsoleError, serve};
pub use decimal::{Thousandths, decimal};
pub use line::{Edit, LONGEST_LINE, Line};
pub use settings::Settings;
pub use stored::Stored;
pub use terminal::Terminal;
#[cfg(feature = "workers")]
pub use two_cores::TwoCores;
pub use usage::Usage;

use smidgen_runtime::format::Prefix;
use smidgen_runtime::hot_needed;

/// The longest sequence for a model, in tokens: `asked` (what the environment said when this was built)
/// or what the model was made for, but at most `most`.
///
/// # Panics
/// If `asked` is no number or this is no model file: in a constant, an error of the compiler.
pub const fn context(file: &[u8], asked: Option<&str>, most: usize) -> usize {
    if let Some(text) = asked {
        return match usize::from_str_radix(text, 10) {
            Ok(context) => context,
            Err(_) => panic!("SMIDGEN_CONTEXT is not a number"),
        };
    }
    match Prefix::read_config(file) {
        Ok((config, _)) if (config.context_len as usize) < most => config.context_len as usize,
        Ok(_) => most,
        Err(_) => panic!("SMIDGEN_MODEL is not a model file that this version of smidgen reads"),
    }
}

/// The bytes of RAM for copies of a model's tensors, if there may be as many as `asked` (what the environment
/// said when this was built): what fits of them, or none.
///
/// # Panics
/// If `asked` is no number or so few that nothing fits, or this is no model file: in a constant, an error of
/// the compiler.
pub const fn hot(file: &[u8], asked: Option<&str>) -> usize {
    match asked {
        None => 0,
        Some(text) => match usize::from_str_radix(text, 10) {
            Ok(at_most) => hot_needed(file, at_most),
            Err(_) => panic!("SMIDGEN_HOT is not a number"),
        },
    }
}
