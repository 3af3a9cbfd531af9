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
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
