//! The command-line program: reads arguments, calls a crate, prints. One file a command.

mod commands;

use std::io;
use std::process::ExitCode;

use clap::Parser;

/// Train a small language model, convert anyone's checkpoint, and run it on anything from a
/// microcontroller up.
#[derive(Parser, Debug)]
#[command(name = "smidgen", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough (`smidgen … | head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, leaving out those that it already tells itself.
fn message(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_examples() {
        for command in Cli::command().get_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("smidgen {}", command.get_name())), "{}", command.get_name());
        }
    }

    #[test]
    fn causes_are_told_once() {
        let io = io::Error::other("the disk is full");
        let inner = anyhow::Error::new(io).context("model.bin: the disk is full");
        assert_eq!(message(&inner), "model.bin: the disk is full");
        assert_eq!(message(&inner.context("while saving")), "while saving: model.bin: the disk is full");
    }
}
