//! `smidgen generate`: a prompt in, text out as it comes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use smidgen_runtime::tokenizer::{CachedEncoder, Special, Tokenizer};
use smidgen_runtime::{Finish, Layout, Pool, SampleError, Sampler, SamplerOptions, Session, SessionOptions};

use super::open::{self, Kv, SessionMemory, show_bytes};

/// Continue a text.
///
/// The prompt and what follows it go to stdout as they come, with one line break at the end; figures
/// go to stderr. The same file, prompt, flags and seed print the same bytes on every machine,
/// whatever its CPU and number of threads.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen generate story.smidgen --prompt 'Once upon a time' --tokens 200
  smidgen generate story.smidgen --temperature 0              the same story every time
  smidgen generate story.smidgen --seed 7 --top-p 0.95 --temperature 1
  smidgen generate chat.smidgen --special --prompt-file chat.txt --json

Exit code: 0 when the text is complete, 1 for an error, 2 for wrong usage, 130 after Ctrl-C.")]
pub struct Args {
    /// The model file.
    file: PathBuf,
    /// The text to go on from; without one the model begins a text of its own.
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_file", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file that holds the prompt, byte for byte; - is standard input.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// How many tokens at most.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// 0 to 2: below 1 sharpens, above 1 flattens, 0 always takes the most probable token.
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// 0 to 1: choose among the fewest most probable tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 0.9, allow_negative_numbers = true)]
    top_p: f32,
    /// Choose among the K most probable tokens; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// 0 to 1: choose among tokens at least this probable relative to the most probable.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// 1 to 10: makes recent tokens less probable; 1 does nothing.
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repeat_penalty: f32,
    /// How many of the last tokens count as recent.
    #[arg(long, value_name = "N", default_value_t = 64)]
    repeat_last: u32,
    /// Where the random numbers begin.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Threads; as many as cores unless told or the model is tiny. The text does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// How keys and values are kept; as the file says unless told.
    #[arg(long, value_enum)]
    kv: Option<Kv>,
    /// Room for this many tokens, prompt included; as many as needed unless told.
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// When the context is full, forget the older half of it and go on, instead of ending. The first
    /// KEEP tokens (1 unless told) always stay. What is left is read again at its new place, so the
    /// text is what a fresh start from there would give.
    #[arg(long, value_name = "KEEP", num_args = 0..=1, default_missing_value = "1", require_equals = true)]
    slide: Option<usize>,
    /// Which instructions to use (scalar, …); the best unless told. The text does not depend on it.
    #[arg(long, value_name = "NAME")]
    level: Option<String>,
    /// Special tokens in the prompt, such as <|im_start|>, are special; else they are plain text.
    #[arg(long)]
    special: bool,
    /// Write the f32 logits of every choice to FILE: little-endian, [choices, vocab_size]. The
    /// choice that ends the text counts.
    #[arg(long, value_name = "FILE")]
    dump_logits: Option<PathBuf>,
    /// Print one JSON object at the end instead of text.
    #[arg(long, conflicts_with = "ids")]
    json: bool,
    /// Print token ids instead of text: the prompt's in one line, the new ones in the next.
    #[arg(long)]
    ids: bool,
}

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
const EXIT_INTERRUPTED: i32 = 130;

/// Runs the command.
///
/// # Errors
/// Names the flag or file and the number that is wrong.
pub fn run(args: Args) -> Result<()> {
    let file = open::open(&args.file)?;
    let model = open::load(&file)?;
    let path = args.file.display();
    let tokenizer = open::tokenizer(&file, &model)?;
    let mut sampler = Sampler::new(args.sampler_options(), args.seed).map_err(name_flag)?;
    let level = open::level(args.level.as_deref())?;
    let text = args.prompt_text()?;
    let special = if args.special { Special::Parsed } else { Special::Plain };
    let prompt = encode(&tokenizer, &text, special).map_err(|error| anyhow!("{path}: {error:#}"))?;

    let most = model.config().context_len as usize;
    let context = args.context.unwrap_or_else(|| most.min(prompt.len().saturating_add(args.tokens as usize)));
    if !(1..=most).contains(&context) {
        bail!("--context is {context}, and {path} allows 1 to {most} tokens");
    }
    if prompt.len() > context {
        bail!("the prompt has {} tokens, and the context holds {context}", prompt.len());
    }
    let pool = Pool::new(open::threads(args.threads, &file));
    let options = SessionOptions {
        kv_type: args.kv.map(Into::into),
        prompt_block: prompt.len().min(open::prompt_block(&model)),
        workers: pool.threads(),
        ..SessionOptions::new(context)
    };
    let layout = Layout::new(model.config(), model.kv_type(), options)?;
    let mut memory = SessionMemory::new(&layout)?;
    let mut session = memory.session(&model, options, level, &pool)?;

    // A second Ctrl-C does not wait for the present step.
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            process::exit(EXIT_INTERRUPTED);
        }
    })?;
    let mut out = Output::new(&args, &text, &prompt)?;
    let story = match &args.dump_logits {
        None => tell(&args, &mut session, &mut sampler, &prompt, &mut out, None)?,
        Some(path) => smidgen_converter::atomic::write_file(path, |file| {
            let mut dump = Dump { path, file: BufWriter::new(file) };
            let story = tell(&args, &mut session, &mut sampler, &prompt, &mut out, Some(&mut dump))?;
            dump.file.flush().with_context(|| path.display().to_string())?;
            Ok::<_, anyhow::Error>(story)
        })?,
    };

    let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let (read, write) = (rate(prompt.len(), story.read_time), rate(story.tokens.len(), story.write_time));
    if args.json {
        let report = json!({
            "prompt": text,
            "text": story.text,
            "prompt_tokens": prompt,
            "tokens": story.tokens,
            "finish": story.end.name(),
            "seed": args.seed,
            "context": context,
            "threads": pool.threads(),
            "level": level.name(),
            "kv": layout.kv_type.name(),
            "file_bytes": file.bytes().len(),
            "session_bytes": layout.total,
            "kv_bytes": layout.kv_bytes(),
            "prompt_tokens_per_second": read,
            "tokens_per_second": write,
        });
        writeln!(out.stdout, "{report}")?;
    } else {
        writeln!(out.stdout)?;
    }
    out.stdout.flush()?;
    // Nobody may be listening there.
    let _ = write!(
        io::stderr(),
        "prompt  {:>6} tokens  {read:>9.1} tokens/s\n\
         text    {:>6} tokens  {write:>9.1} tokens/s  ({})\n\
         memory  {} for a context of {context} ({} of it keys and values, {}); file {}\n",
        prompt.len(),
        story.tokens.len(),
        story.end.words(),
        show_bytes(layout.total),
        show_bytes(layout.kv_bytes()),
        layout.kv_type.name(),
        show_bytes(file.bytes().len()),
    );
    if matches!(story.end, Stop::Interrupted) {
        process::exit(EXIT_INTERRUPTED);
    }
    Ok(())
}

impl Args {
    fn sampler_options(&self) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last: self.repeat_last,
        }
    }

    fn prompt_text(&self) -> Result<String> {
        let Some(path) = &self.prompt_file else {
            return Ok(self.prompt.clone().unwrap_or_default());
        };
        let mut bytes = Vec::new();
        let read = if path == Path::new("-") {
            io::stdin().lock().read_to_end(&mut bytes)
        } else {
            File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
        };
        let name = path.display();
        read.with_context(|| format!("--prompt-file {name}"))?;
        if bytes.is_empty() {
            bail!("--prompt-file {name}: is empty");
        }
        String::from_utf8(bytes).map_err(|error| {
            anyhow!("--prompt-file {name}: is not UTF-8 (at byte {})", error.utf8_error().valid_up_to())
        })
    }
}

/// The sampler's parameter as the user wrote it.
pub(super) fn name_flag(error: SampleError) -> anyhow::Error {
    match error {
        SampleError::OutOfRange { parameter, value, min, max } => {
            anyhow!("--{} is {value}, must be between {min} and {max}", parameter.replace('_', "-"))
        }
        _ => anyhow!(error),
    }
}

/// The prompt's tokens; those of no text at all are what a text begins with.
pub(super) fn encode(tokenizer: &Tokenizer<'_>, text: &str, special: Special) -> Result<Vec<u32>> {
    if text.is_empty() {
        // GPT-2 has no token for the beginning: there a text begins where another ended.
        let begin = tokenizer.bos().or_else(|| tokenizer.end_tokens().next());
        return begin.map(|id| vec![id]).context("has no token that begins a text: give a --prompt");
    }
    let mut ids = Vec::new();
    CachedEncoder::new(*tokenizer).encode(text, special, tokenizer.adds_bos(), &mut ids)?;
    if ids.is_empty() {
        bail!("the vocabulary has no token for anything in the prompt");
    }
    Ok(ids)
}

/// Where text, ids or JSON go.
struct Output {
    stdout: io::StdoutLock<'static>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Ids,
    Json,
}

impl Output {
    /// Prints the prompt already: the model may take a while.
    fn new(args: &Args, text: &str, prompt: &[u32]) -> io::Result<Self> {
        let form = match (args.json, args.ids) {
            (true, _) => Form::Json,
            (_, true) => Form::Ids,
            _ => Form::Text,
        };
        let mut stdout = io::stdout().lock();
        match form {
            Form::Text => stdout.write_all(text.as_bytes())?,
            Form::Ids => {
                let ids: Vec<_> = prompt.iter().map(u32::to_string).collect();
                writeln!(stdout, "{}", ids.join(" "))?;
            }
            Form::Json => {}
        }
        stdout.flush()?;
        Ok(Self { stdout, form })
    }
}

/// A file of logits.
struct Dump<'a> {
    path: &'a Path,
    file: BufWriter<&'a mut File>,
}

/// What was generated.
struct Story {
    tokens: Vec<u32>,
    text: String,
    end: Stop,
    read_time: Duration,
    write_time: Duration,
}

/// Why it ended.
enum Stop {
    Tokens,
    EndOfText,
    ContextFull,
    Interrupted,
}

impl Stop {
    fn name(&self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::EndOfText => "end_of_text",
            Self::ContextFull => "context_full",
            Self::Interrupted => "interrupted",
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Tokens => "as many as asked for",
            Self::EndOfText => "the model ended its text",
            Self::ContextFull => "the context is full",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Tokens of a prompt between two looks whether to stop: some whole blocks, whatever their size.
const PROMPT_PART: usize = 1536;

/// Takes the prompt in and generates, printing pieces as they come.
fn tell(
    args: &Args,
    session: &mut Session<'_>,
    sampler: &mut Sampler,
    prompt: &[u32],
    out: &mut Output,
    mut dump: Option<&mut Dump<'_>>,
) -> Result<Story> {
    let mut story = Story {
        tokens: Vec::new(),
        text: String::new(),
        end: Stop::Tokens,
        read_time: Duration::ZERO,
        write_time: Duration::ZERO,
    };
    let begin = Instant::now();
    // In parts, so that Ctrl-C need not wait for all of a long prompt.
    for part in prompt.chunks(PROMPT_PART) {
        session.feed(part)?;
        if INTERRUPTED.load(Ordering::Relaxed) {
            story.end = Stop::Interrupted;
            return Ok(story);
        }
    }
    story.read_time = begin.elapsed();

    let begin = Instant::now();
    let mut generated = session.generate(sampler);
    if let Some(keep) = args.slide {
        generated = generated.sliding(keep);
    }
    while story.tokens.len() < args.tokens as usize {
        if INTERRUPTED.load(Ordering::Relaxed) {
            story.end = Stop::Interrupted;
            break;
        }
        if let Some(dump) = &mut dump
            && generated.finish().is_none()
        {
            for logit in generated.session().logits() {
                let written = dump.file.write_all(&logit.to_le_bytes());
                written.with_context(|| dump.path.display().to_string())?;
            }
        }
        let Some(token) = generated.next() else { break };
        story.tokens.push(token.token);
        match out.form {
            Form::Text => token.piece.try_for_each_str(|part| out.stdout.write_all(part.as_bytes()))?,
            Form::Ids => {
                let space = if story.tokens.len() > 1 { " " } else { "" };
                write!(out.stdout, "{space}{}", token.token)?;
            }
            Form::Json => token.piece.for_each_str(|part| story.text.push_str(part)),
        }
        out.stdout.flush()?;
    }
    story.write_time = begin.elapsed();
    match generated.finish() {
        Some(Finish::EndOfText) => story.end = Stop::EndOfText,
        Some(Finish::ContextFull) => story.end = Stop::ContextFull,
        Some(Finish::Failed(error)) => return Err(error.into()),
        _ => {}
    }
    let rest = generated.flush();
    match out.form {
        Form::Text => rest.try_for_each_str(|part| out.stdout.write_all(part.as_bytes()))?,
        Form::Json => rest.for_each_str(|part| story.text.push_str(part)),
        Form::Ids => {}
    }
    Ok(story)
}
