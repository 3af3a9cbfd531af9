//! Each command: an `Args` that clap fills and a `run` that does it.

mod bench;
mod convert;
mod diff;
mod eval;
mod explain;
mod export;
mod generate;
mod inspect;
mod open;
mod plan;
mod plan_memory;
mod shape;
mod tokenizer;
mod train;
mod train_options;
mod train_progress;

/// A file of its own for each; a further command is one line here, and `mod`.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $module:ident;)*) => {
        #[derive(clap::Subcommand, Debug)]
        // One of it exists: how large it is does not matter.
        #[allow(clippy::large_enum_variant)]
        pub(crate) enum Command {
            $($(#[$doc])* $name($module::Args),)*
        }

        impl Command {
            pub(crate) fn run(self) -> anyhow::Result<()> {
                match self { $(Self::$name(args) => $module::run(args),)* }
            }
        }
    };
}

commands! {
    /// Train a model on your text, or on built-in stories
    Train = train;
    /// Tell what a model needs on a chip, or the best model for one
    Plan = plan;
    /// Make a model file of a checkpoint
    Convert = convert;
    /// Show what a model file or a checkpoint holds
    Inspect = inspect;
    /// Write a model for llama.cpp or transformers
    Export = export;
    /// Compare two models or checkpoints
    Diff = diff;
    /// Measure how well a model predicts a text
    Eval = eval;
    /// Write text with a model file
    Generate = generate;
    /// Measure how fast a model file runs
    Bench = bench;
    /// Show how a text becomes training pairs, tokens and probabilities
    Explain = explain;
    /// Train a vocabulary, or turn text into token ids and back
    Tokenizer = tokenizer;
}
