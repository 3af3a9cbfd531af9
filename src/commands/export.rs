//! `smidgen export`: a model for other people's programs.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use smidgen_converter::gguf::{self, GgufOptions, GgufType};
use smidgen_converter::huggingface;

use super::convert::open;

/// Write a model or a checkpoint for llama.cpp (gguf) or transformers (hf).
///
/// Whatever `smidgen convert` reads can be exported. A model file's integers become the floats that
/// they stand for: export the checkpoint that it was made from if you have it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen export runs/story/checkpoint-001000 --to gguf -o stories.gguf
  smidgen export story.smidgen --to hf -o story-hf
  smidgen export SmolLM2-135M --to gguf --type q8_0 -o smol.gguf")]
pub struct Args {
    /// A model file or a checkpoint.
    path: PathBuf,
    /// For whom.
    #[arg(long, value_enum)]
    to: Format,
    /// The file (gguf) or directory (hf) to write.
    #[arg(short, long, value_name = "PATH")]
    out: PathBuf,
    /// The type of a GGUF file's matrices.
    #[arg(long = "type", value_enum, default_value_t = Type::F32)]
    dtype: Type,
    /// The tokenizer, if not the checkpoint's own; "none" for no tokenizer.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Leave the tokenizer out.
    #[arg(long)]
    no_tokenizer: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Formats of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A GGUF file, version 3, for llama.cpp.
    Gguf,
    /// A Hugging Face directory in F32, for transformers.
    Hf,
}

/// Types of a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// 32-bit floats.
    #[value(name = "f32")]
    F32,
    /// 16-bit floats.
    #[value(name = "f16")]
    F16,
    /// 8-bit integers in blocks of 32.
    #[value(name = "q8_0")]
    Q8_0,
}

#[derive(Serialize)]
struct Report {
    path: PathBuf,
    format: &'static str,
    parameters: u64,
    bytes: u64,
    tokens: usize,
}

/// Runs the command.
///
/// # Errors
/// Names what the other format has no place for, or the file that can't be read or written.
pub fn run(args: Args) -> Result<()> {
    if args.to == Format::Hf && args.dtype != Type::F32 {
        bail!("--type is for gguf; a Hugging Face directory is written in f32");
    }
    let mut checkpoint = open(&args.path, args.tokenizer.as_deref())?;
    if args.no_tokenizer {
        checkpoint.tokenizer = None;
    }
    let (format, file) = match args.to {
        Format::Gguf => {
            let dtype = match args.dtype {
                Type::F32 => GgufType::F32,
                Type::F16 => GgufType::F16,
                Type::Q8_0 => GgufType::Q8_0,
            };
            gguf::write(&args.out, &checkpoint, GgufOptions { dtype, without_tokenizer: false })?;
            ("gguf", args.out.clone())
        }
        Format::Hf => {
            huggingface::write_directory(&args.out, &checkpoint)?;
            ("hf", args.out.join("model.safetensors"))
        }
    };
    let report = Report {
        bytes: std::fs::metadata(&file)?.len(),
        path: args.out,
        format,
        parameters: checkpoint.parameters(),
        tokens: checkpoint.tokenizer.as_ref().map_or(0, |spec| spec.tokens.len()),
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        let Report { path, parameters, bytes, tokens, .. } = &report;
        writeln!(out, "{}: {parameters} parameters in {bytes} bytes, {tokens} tokens", path.display())?;
    }
    Ok(())
}
