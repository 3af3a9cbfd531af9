//! `smidgen bench`: how fast a model file reads and writes on this machine.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use smidgen_runtime::{Layout, Level, Model, Pool, SessionOptions};

use super::open::{self, Kv, SessionMemory, show_bytes};

/// Measure tokens a second.
///
/// Two tests for each number of threads, each from an empty context as in llama-bench: taking in a
/// prompt, and generating token by token. After one run to warm up come those that count; the
/// median is told with the slowest and the fastest.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen bench story.smidgen
  smidgen bench story.smidgen --prompt 512 --tokens 128 --threads 1,2 --repeat 9
  smidgen bench story.smidgen --level scalar --json")]
pub struct Args {
    /// The model file.
    file: PathBuf,
    /// Tokens of the prompt; 0 leaves this test out. Default: 512, or what the model allows.
    #[arg(long, value_name = "N")]
    prompt: Option<usize>,
    /// Tokens to generate; 0 leaves this test out. Default: 128, or what the model allows.
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Numbers of threads, one after the other. Default: as generate has it.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Vec<u16>,
    /// How keys and values are kept; as the file says unless told.
    #[arg(long, value_enum)]
    kv: Option<Kv>,
    /// Which instructions to use (scalar, …); the best unless told.
    #[arg(long, value_name = "NAME")]
    level: Option<String>,
    /// Runs that count.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One test with one number of threads.
#[derive(Serialize)]
struct Test {
    test: &'static str,
    tokens: usize,
    threads: usize,
    median: f64,
    least: f64,
    most: f64,
    session_bytes: usize,
}

#[derive(Serialize)]
struct Report {
    file: String,
    name: String,
    architecture: &'static str,
    file_bytes: usize,
    level: &'static str,
    kv: &'static str,
    repeat: u32,
    /// Tokens a second.
    tests: Vec<Test>,
    /// Of this process, the file's pages included; where the system tells.
    peak_memory_bytes: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// Names the flag or file and the number that is wrong.
pub fn run(args: Args) -> Result<()> {
    let file = open::open(&args.file)?;
    let model = open::load(&file)?;
    let path = args.file.display();
    let level = open::level(args.level.as_deref())?;
    let most = model.config().context_len as usize;
    let prompt = args.prompt.unwrap_or(most.min(512));
    let tokens = args.tokens.unwrap_or(most.min(128));
    for (flag, n) in [("--prompt", prompt), ("--tokens", tokens)] {
        if n > most {
            bail!("{flag} is {n}, and {path} allows contexts of 1 to {most} tokens");
        }
    }
    if prompt == 0 && tokens == 0 {
        bail!("--prompt and --tokens are both 0: nothing to measure");
    }
    let threads: Vec<usize> = match args.threads.as_slice() {
        [] => vec![open::threads(None, &file)],
        asked => asked.iter().copied().map(usize::from).collect(),
    };

    let mut tests = Vec::new();
    for threads in threads {
        // Threads of an earlier number are gone: they would spin beside these.
        let pool = Pool::new(threads);
        for (test, n, block) in [("prompt", prompt, open::prompt_block(&model)), ("tokens", tokens, 1)] {
            if n > 0 {
                let options = SessionOptions {
                    kv_type: args.kv.map(Into::into),
                    prompt_block: block.min(n),
                    workers: threads,
                    ..SessionOptions::new(n)
                };
                tests.push(measure(test, n, &model, options, level, &pool, args.repeat)?);
            }
        }
    }
    let report = Report {
        file: args.file.display().to_string(),
        name: model.meta().name.into(),
        architecture: model.config().architecture.name(),
        file_bytes: file.bytes().len(),
        level: level.name(),
        kv: args.kv.map_or(model.kv_type(), Into::into).name(),
        repeat: args.repeat,
        tests,
        peak_memory_bytes: peak_memory(),
    };
    let text = if args.json { serde_json::to_string(&report)? + "\n" } else { table(&report)? };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// Times the first `n` tokens of a sequence, as one prompt or one by one.
fn measure(
    test: &'static str,
    n: usize,
    model: &Model<'_>,
    options: SessionOptions,
    level: Level,
    pool: &Pool,
    repeat: u32,
) -> Result<Test> {
    let layout = Layout::new(model.config(), model.kv_type(), options)?;
    let mut memory = SessionMemory::new(&layout)?;
    let mut session = memory.session(model, options, level, pool)?;
    // Which tokens they are does not matter, only that their embeddings lie far apart.
    let vocab_size = u64::from(model.config().vocab_size);
    let ids: Vec<u32> = (0..n as u64)
        .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % vocab_size)
        .map(|id| id as u32)
        .collect();
    let mut rates = Vec::new();
    for _ in 0..=repeat {
        session.rewind(0);
        let begin = Instant::now();
        for part in ids.chunks(if test == "prompt" { n } else { 1 }) {
            session.feed(part)?;
        }
        rates.push(n as f64 / begin.elapsed().as_secs_f64().max(1e-9));
    }
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    let median = (rates[(rates.len() - 1) / 2] + rates[rates.len() / 2]) / 2.0;
    let (least, most) = (rates[0], rates[rates.len() - 1]);
    Ok(Test { test, tokens: n, threads: pool.threads(), median, least, most, session_bytes: layout.total })
}

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(
        out,
        "{} ({}, {}), level {}, {} keys and values, median of {}\n",
        report.name,
        report.architecture,
        show_bytes(report.file_bytes),
        report.level,
        report.kv,
        report.repeat,
    )?;
    writeln!(
        out,
        "{:<7} {:>6} {:>8} {:>11}   {:<23} {:>12}",
        "test", "tokens", "threads", "tokens/s", "slowest … fastest", "session"
    )?;
    for test in &report.tests {
        writeln!(
            out,
            "{:<7} {:>6} {:>8} {:>11.1}   {:<23} {:>12}",
            test.test,
            test.tokens,
            test.threads,
            test.median,
            format!("{:.1} … {:.1}", test.least, test.most),
            show_bytes(test.session_bytes),
        )?;
    }
    if let Some(peak) = report.peak_memory_bytes {
        writeln!(out, "\npeak memory of the process, file included: {}", show_bytes(peak))?;
    }
    Ok(out)
}

/// The most memory that this process has had so far; Linux says it.
fn peak_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kib| kib * 1024)
}
