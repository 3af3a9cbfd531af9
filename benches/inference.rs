//! Generation speed on random weights (speed does not depend on them), beside the machine's own
//! ceilings measured in the same run.
//!
//! ```text
//! cargo bench --bench inference -- [--shape 260k,15m,110m,gpt2] [--quant q8,q4] [--threads 1,2]
//!                                  [--level avx512] [--prompt 512] [--tokens 128] [--repeat 5]
//! ```
//!
//! `compare.py` uses two more modes, each of which prints one JSON object:
//!
//! ```text
//! --write FILE --shape 15m --quant q8 [--context 1024]   a model of random weights into a file
//! --ceilings BYTES --threads 1                           reading that many bytes; multiplying
//! ```

mod ceilings;
mod noise;
mod shapes;

use std::hint::black_box;
use std::time::Instant;

use smidgen_runtime::format::DType;
use smidgen_runtime::{KvType, Layout, Level, Model, Pool, Session, SessionOptions};

struct Options {
    shapes: Vec<String>,
    quants: Vec<String>,
    threads: Vec<usize>,
    level: Level,
    prompt: usize,
    tokens: usize,
    repeat: usize,
    /// Tokens that a written model has room for; the shape's own unless told.
    context: Option<u32>,
}

/// What stands behind a flag.
fn flag(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn options() -> Options {
    let value = |name: &str, default: &str| flag(name).unwrap_or(default.to_owned());
    let list = |flag, default| value(flag, default).split(',').map(str::to_owned).collect::<Vec<_>>();
    let number = |flag, default: &str| value(flag, default).parse().expect("a number");
    let level = value("--level", Level::detect().name());
    Options {
        shapes: list("--shape", "260k,15m,110m,gpt2"),
        quants: list("--quant", "q8,q4"),
        threads: list("--threads", "1,2").iter().map(|n| n.parse().expect("a number")).collect(),
        level: Level::from_name(&level).unwrap_or_else(|| panic!("this CPU has no level {level}")),
        prompt: number("--prompt", "512"),
        tokens: number("--tokens", "128"),
        repeat: number("--repeat", "5"),
        context: flag("--context").map(|n| n.parse().expect("a number")),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test --benches` runs this too: nothing to test there.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    if let Some(path) = flag("--write") {
        return write(&path, &options());
    }
    if let Some(bytes) = flag("--ceilings") {
        return print_ceilings(bytes.parse().expect("a number of bytes"), &options());
    }
    let options = options();
    let pools: Vec<Pool> = options.threads.iter().map(|&n| Pool::new(n)).collect();
    for pool in &pools {
        let threads = pool.threads();
        let (dram, l3) = (ceilings::read_bandwidth(pool, 256 << 20), ceilings::read_bandwidth(pool, 8 << 20));
        let peak =
            ceilings::int8_peak(pool).map_or("not measured".to_owned(), |peak| format!("{peak:.0} GMAC/s"));
        println!(
            "{threads} thread(s): reads DRAM at {dram:.1} GB/s, 8 MiB in cache at {l3:.1} GB/s; int8 {peak}"
        );
    }
    println!(
        "level {}; decode {} tokens, prefill {}, median of {}",
        options.level.name(),
        options.tokens,
        options.prompt,
        options.repeat
    );
    println!(
        "{:>6} {:>4} {:>8} {:>4} {:>12} {:>9} {:>12} {:>9}",
        "shape", "type", "MB", "thr", "decode tok/s", "GB/s", "prefill", "GMAC/s"
    );
    for shape in shapes::SHAPES.iter().filter(|shape| options.shapes.iter().any(|name| name == shape.name)) {
        for quant in &options.quants {
            let file = shapes::random_model(shape, dtype(quant));
            let model = Model::load(&file).expect("a whole model");
            for pool in &pools {
                measure(shape, &model, &file, quant, pool, &options);
            }
        }
    }
}

fn dtype(quant: &str) -> DType {
    match quant {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "q8" => DType::Q8,
        "q4" => DType::Q4,
        other => panic!("no such type: {other}"),
    }
}

/// Writes the first shape asked for, in the first type, and prints what a token of it costs.
fn write(path: &str, options: &Options) {
    let name = &options.shapes[0];
    let shape = shapes::SHAPES.into_iter().find(|shape| shape.name == *name);
    let mut shape = shape.unwrap_or_else(|| panic!("no such shape: {name}"));
    shape.numbers[6] = options.context.unwrap_or(shape.numbers[6]);
    let file = shapes::random_model(&shape, dtype(&options.quants[0]));
    std::fs::write(path, &file[..]).unwrap_or_else(|error| panic!("{path}: {error}"));
    let model = Model::load(&file).expect("a whole model");
    let report = serde_json::json!({
        "file_bytes": file.len(),
        "bytes_per_token": shape.bytes_per_token(&model),
        "macs_per_prompt_token": shape.macs_per_prompt_token(&model),
    });
    println!("{report}");
}

/// Prints what the machine can do with the first number of threads.
fn print_ceilings(bytes: usize, options: &Options) {
    let pool = Pool::new(options.threads[0]);
    let report = serde_json::json!({
        "threads": pool.threads(),
        "bytes": bytes,
        "read_gb_s": ceilings::read_bandwidth(&pool, bytes),
        "int8_gmac_s": ceilings::int8_peak(&pool),
    });
    println!("{report}");
}

fn measure(
    shape: &shapes::Shape,
    model: &Model<'_>,
    file: &[u8],
    quant: &str,
    pool: &Pool,
    options: &Options,
) {
    let context = (options.prompt.max(options.tokens) + 1).min(model.config().context_len as usize);
    let session_options = SessionOptions {
        kv_type: Some(KvType::Q8),
        prompt_block: 128,
        workers: pool.threads(),
        ..SessionOptions::new(context)
    };
    let layout = Layout::new(model.config(), model.kv_type(), session_options).expect("options in range");
    let mut memory = vec![0_u8; layout.total + 63];
    let mut session =
        Session::with_workers(model, &mut memory[..], session_options, options.level, pool).expect("room");
    let tokens: Vec<u32> = (0..context as u32).map(|i| i * 7919 % model.config().vocab_size).collect();
    let prompt = &tokens[..options.prompt.min(context)];
    let decode = &tokens[..options.tokens.min(context)];
    let (mut decode_rate, mut prefill_rate) = (Vec::new(), Vec::new());
    for _ in 0..options.repeat {
        session.rewind(0);
        let begin = Instant::now();
        for &token in decode {
            black_box(session.step(token).expect("room"));
        }
        decode_rate.push(decode.len() as f64 / begin.elapsed().as_secs_f64());
        session.rewind(0);
        let begin = Instant::now();
        session.feed(prompt).expect("room");
        black_box(session.logits());
        prefill_rate.push(prompt.len() as f64 / begin.elapsed().as_secs_f64());
    }
    let (decode_rate, prefill_rate) = (median(decode_rate), median(prefill_rate));
    println!(
        "{:>6} {:>4} {:>8.1} {:>4} {:>12.0} {:>9.1} {:>12.0} {:>9.0}",
        shape.name,
        quant,
        file.len() as f64 / 1e6,
        pool.threads(),
        decode_rate,
        // What a token reads: every weight once (but of an embedding that is not the head, one row).
        decode_rate * shape.bytes_per_token(model) / 1e9,
        prefill_rate,
        prefill_rate * shape.macs_per_prompt_token(model) / 1e9,
    );
}
