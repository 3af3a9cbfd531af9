//! `smidgen tokenizer`: vocabularies trained, text into ids, ids into text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use smidgen_converter::tokenizer;
use smidgen_runtime::tokenizer::{CachedEncoder, OwnedTokenizer, PreTokenizer, Special, Tokenizer};
use smidgen_trainer::bpe::{BpeTrainer, char_level};

/// Train a vocabulary, or turn text into token ids and back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen tokenizer train stories.txt --vocab 4096 -o tokenizer.json
  smidgen tokenizer encode --tokenizer tokenizer.json story.txt
  smidgen tokenizer encode --tokenizer model.smidgen --jsonl < texts.jsonl > ids.jsonl
  smidgen tokenizer decode --tokenizer gpt2.gguf --jsonl < ids.jsonl
  smidgen tokenizer convert --tokenizer model.smidgen -o tokenizer.json")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Train a byte-level BPE (or character-level) vocabulary on text files
    Train(Train),
    /// Turn text into token ids
    Encode(Encode),
    /// Turn token ids into text
    Decode(Decode),
    /// Write any tokenizer as tokenizer.json
    Convert(Convert),
}

/// Writes a `tokenizer.json` that Hugging Face's `tokenizers` and `transformers` read.
///
/// Every line of the files is a text by itself, with its line end, as Hugging Face's trainer reads
/// files; the merges are the same as that trainer's.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen tokenizer train stories.txt --vocab 4096 -o tokenizer.json
  smidgen tokenizer train a.txt b.txt --vocab 32000 --pattern llama3 --special '<|endoftext|>,<|user|>' -o tok.json
  smidgen tokenizer train shakespeare.txt --chars -o chars.json")]
struct Train {
    /// Text files, UTF-8.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where tokenizer.json goes: a file, or a directory that is there.
    #[arg(long, short, default_value = "tokenizer.json")]
    output: PathBuf,
    /// Tokens in all: special ones, the 256 bytes, and merges.
    #[arg(long, default_value_t = 4096)]
    vocab: usize,
    /// How text is cut before merging.
    #[arg(long, value_enum, default_value = "gpt2")]
    pattern: Pattern,
    /// Special tokens, separated by commas; the first begins and ends texts.
    #[arg(long, value_delimiter = ',', default_value = "<|endoftext|>")]
    special: Vec<String>,
    /// Merge no pair that occurs fewer times.
    #[arg(long, default_value_t = 1)]
    min_frequency: u64,
    /// One token a character instead of BPE (--vocab and --pattern say nothing then).
    #[arg(long)]
    chars: bool,
    /// Threads that count words; the result is the same [default: all cores].
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Pattern {
    /// GPT-2's.
    Gpt2,
    /// Single digits, then GPT-2's (SmolLM).
    Smollm,
    /// Llama 3's: numbers in threes.
    Llama3,
    /// Qwen 2's: Llama 3's with single digits.
    Qwen2,
    /// GPT-4's.
    Cl100k,
    /// No cutting: merges cross words (slow, and texts must be short lines).
    None,
}

/// Prints one line of ids a text, with spaces between them, or with --jsonl `{"ids": [...]}`.
///
/// The tokenizer is a tokenizer.json, a directory with one or with vocab.json and merges.txt, BERT's
/// vocab.txt, llama2.c's tokenizer.bin, llm.c's tokenizer, a tiktoken file, a GGUF file, or a smidgen
/// model file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen tokenizer encode --tokenizer tokenizer.json story.txt
  echo '{\"text\": \"Once upon a time\"}' | smidgen tokenizer encode --tokenizer story.smidgen --jsonl
  smidgen tokenizer encode --tokenizer Qwen2-0.5B --parse-special --add-special chat.txt")]
struct Encode {
    /// The tokenizer: any file or directory that holds one.
    #[arg(long, short)]
    tokenizer: PathBuf,
    /// Files to read instead of standard input. Without --jsonl each is one text.
    files: Vec<PathBuf>,
    /// Read `{"text": "..."}` lines.
    #[arg(long)]
    jsonl: bool,
    /// Special tokens in the text, such as <|endoftext|>, become their ids. Without this they are
    /// text like any other, so that nobody's text can steer the model.
    #[arg(long)]
    parse_special: bool,
    /// Put around each text what the model wants there (BOS, or BERT's CLS and SEP).
    #[arg(long)]
    add_special: bool,
    /// Encode as a chip does, without an allocator and without remembering words: the same ids.
    #[arg(long)]
    no_cache: bool,
}

/// Prints the text of ids (spaces or line ends between them), or with --jsonl `{"text": "..."}` for
/// each line `{"ids": [...]}`. Special tokens have no text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  echo 7454 2402 257 640 | smidgen tokenizer decode --tokenizer gpt2/tokenizer.json
  smidgen tokenizer decode --tokenizer story.smidgen --jsonl < ids.jsonl")]
struct Decode {
    /// The tokenizer: any file or directory that holds one.
    #[arg(long, short)]
    tokenizer: PathBuf,
    /// Files to read instead of standard input.
    files: Vec<PathBuf>,
    /// Read `{"ids": [...]}` lines.
    #[arg(long)]
    jsonl: bool,
}

/// Writes the `tokenizer.json` with which Hugging Face's `tokenizers` and `transformers` give the same
/// ids; into a directory also a `tokenizer_config.json` that says what begins and ends a text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen tokenizer convert --tokenizer tokenizer.bin -o tokenizer.json
  smidgen tokenizer convert --tokenizer model.smidgen -o my-model/")]
struct Convert {
    /// The tokenizer: any file or directory that holds one.
    #[arg(long, short)]
    tokenizer: PathBuf,
    /// Where tokenizer.json goes: a file, or a directory that is there.
    #[arg(long, short)]
    output: PathBuf,
}

#[derive(Deserialize, Serialize)]
struct TextLine {
    text: String,
}

#[derive(Deserialize, Serialize)]
struct IdsLine {
    ids: Vec<u32>,
}

pub fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Train(args) => train(args),
        Action::Encode(args) => encode(args),
        Action::Decode(args) => decode(args),
        Action::Convert(args) => convert(&args),
    }
}

fn train(args: Train) -> Result<()> {
    let special: Vec<&str> =
        args.special.iter().map(String::as_str).filter(|token| !token.is_empty()).collect();
    let spec = if args.chars {
        let texts = args.files.iter().map(|path| read_text(path)).collect::<Result<Vec<_>>>()?;
        char_level(texts.iter().map(String::as_str), &special)?
    } else {
        let pattern = match args.pattern {
            Pattern::Gpt2 => PreTokenizer::Gpt2,
            Pattern::Smollm => PreTokenizer::DigitsGpt2,
            Pattern::Llama3 => PreTokenizer::Llama3,
            Pattern::Qwen2 => PreTokenizer::Qwen2,
            Pattern::Cl100k => PreTokenizer::Cl100k,
            Pattern::None => PreTokenizer::None,
        };
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.unwrap_or_else(cores);
        let mut trainer = BpeTrainer::new(args.vocab, pattern).min_frequency(args.min_frequency);
        let mut bytes = 0;
        for path in &args.files {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            bytes += trainer.feed_lines(file, threads).with_context(|| path.display().to_string())?;
        }
        eprintln!("{bytes} bytes, {} distinct words", trainer.distinct_words());
        trainer.finish(&special)?
    };
    let wanted = args.vocab;
    if !args.chars && spec.tokens.len() < wanted {
        eprintln!("note: the text has pairs for {} tokens only, not for {wanted}", spec.tokens.len());
    }
    let output = if args.output.is_dir() { args.output.join("tokenizer.json") } else { args.output };
    tokenizer::huggingface::write_file(&spec, &output)?;
    eprintln!("{}: {} tokens", output.display(), spec.tokens.len());
    Ok(())
}

fn encode(args: Encode) -> Result<()> {
    let owned = open(&args.tokenizer)?;
    let tokenizer = owned.tokenizer();
    let special = if args.parse_special { Special::Parsed } else { Special::Plain };
    let mut encoder = CachedEncoder::new(tokenizer);
    let mut scratch = Vec::new();
    let mut ids_of = |text: &str| -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if args.no_cache {
            encode_without_cache(&tokenizer, text, special, args.add_special, &mut scratch, &mut ids)?;
        } else {
            encoder.encode(text, special, args.add_special && tokenizer.adds_bos(), &mut ids)?;
        }
        ids.extend(tokenizer.closing().filter(|_| args.add_special));
        Ok(ids)
    };
    let mut out = BufWriter::new(io::stdout().lock());
    each_input(&args.files, |name, input| {
        if !args.jsonl {
            let mut text = String::new();
            input.read_to_string(&mut text).with_context(|| name.to_owned())?;
            let ids: Vec<String> = ids_of(&text)?.iter().map(u32::to_string).collect();
            return Ok(writeln!(out, "{}", ids.join(" "))?);
        }
        each_line(name, input, |line: TextLine| {
            let ids = ids_of(&line.text)?;
            serde_json::to_writer(&mut out, &IdsLine { ids })?;
            Ok(out.write_all(b"\n")?)
        })
    })?;
    Ok(out.flush()?)
}

/// The runtime's own path, with memory that grows until it is enough.
fn encode_without_cache(
    tokenizer: &Tokenizer<'_>,
    text: &str,
    special: Special,
    add_special: bool,
    scratch: &mut Vec<u32>,
    ids: &mut Vec<u32>,
) -> Result<()> {
    use smidgen_runtime::tokenizer::EncodeError;
    loop {
        ids.clear();
        let add_bos = add_special && tokenizer.adds_bos();
        match tokenizer.encode_each(text, special, add_bos, scratch, |id| ids.push(id)) {
            Err(EncodeError::ScratchTooSmall { needed, capacity }) => {
                scratch.resize(needed.max(2 * capacity), 0);
            }
            done => return Ok(done?),
        }
    }
}

fn decode(args: Decode) -> Result<()> {
    let owned = open(&args.tokenizer)?;
    let tokenizer = owned.tokenizer();
    let text_of = |ids: &[u32], name: &str| -> Result<String> {
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id >= tokenizer.n_tokens()) {
            bail!("{name}: ids[{at}] is {id}, and the vocabulary has {} tokens", tokenizer.n_tokens());
        }
        let mut text = String::new();
        tokenizer.decode_each(ids, |part| text += part);
        Ok(text)
    };
    let mut out = BufWriter::new(io::stdout().lock());
    each_input(&args.files, |name, input| {
        if !args.jsonl {
            let mut text = String::new();
            input.read_to_string(&mut text).with_context(|| name.to_owned())?;
            let ids = text.split_whitespace().enumerate().map(|(at, word)| {
                word.parse().with_context(|| format!("{name}: ids[{at}] is {word:?}, not a token id"))
            });
            let ids: Vec<u32> = ids.collect::<Result<_>>()?;
            return Ok(out.write_all(text_of(&ids, name)?.as_bytes())?);
        }
        each_line(name, input, |line: IdsLine| {
            serde_json::to_writer(&mut out, &TextLine { text: text_of(&line.ids, name)? })?;
            Ok(out.write_all(b"\n")?)
        })
    })?;
    Ok(out.flush()?)
}

fn convert(args: &Convert) -> Result<()> {
    let spec = tokenizer::open(&args.tokenizer)?;
    if args.output.is_dir() {
        tokenizer::huggingface::write_directory(&spec, &args.output)?;
    } else {
        tokenizer::huggingface::write_file(&spec, &args.output)?;
    }
    eprintln!("{}: {} tokens", args.output.display(), spec.tokens.len());
    Ok(())
}

fn open(path: &Path) -> Result<OwnedTokenizer> {
    let spec = tokenizer::open(path)?;
    OwnedTokenizer::build(&spec).with_context(|| path.display().to_string())
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Calls `each` with every file and its name, or with standard input.
fn each_input(files: &[PathBuf], mut each: impl FnMut(&str, &mut dyn BufRead) -> Result<()>) -> Result<()> {
    if files.is_empty() {
        return each("standard input", &mut io::stdin().lock());
    }
    for path in files {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| name.clone())?;
        each(&name, &mut BufReader::new(file))?;
    }
    Ok(())
}

/// Calls `each` with every line's object; an error says which line. Empty lines are passed over.
fn each_line<L: for<'de> Deserialize<'de>>(
    name: &str,
    input: &mut dyn BufRead,
    mut each: impl FnMut(L) -> Result<()>,
) -> Result<()> {
    for (number, line) in (1..).zip(input.lines()) {
        let place = || format!("{name}: line {number}");
        let line = line.with_context(place)?;
        if !line.trim().is_empty() {
            each(serde_json::from_str(&line).with_context(place)?).map_err(|error| {
                match error.downcast::<io::Error>() {
                    Ok(io) => io.into(),
                    Err(error) => error.context(place()),
                }
            })?;
        }
    }
    Ok(())
}
