//! How fast full training steps are (forward, backward, clipping, AdamW) on this machine, and
//! what part of its peak that is, measured in the same run.
//!
//! `cargo run --release -p smidgen-trainer --example step_speed -- a [threads] [seconds] [f32|bf16]`
//!
//! Configurations: `a` and `b` are GPT-2 without biases on characters (4 layers × 4 heads × 128,
//! context 64, batch 12; 6 × 6 × 384, context 256, batch 16), `c` a Llama of 15 million
//! parameters with 32,000 tokens (context 256, batch 8), `d` GPT-2 124M (context 256, batch 4).

mod peak;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use peak::peak;

use smidgen_runtime::config::{Architecture, Config};
use smidgen_trainer::model::{Model, ModelError, ModelOptions, Precision, Workspace, forward_backward};
use smidgen_trainer::moments::MomentType;
use smidgen_trainer::optimizer::{AdamW, AdamWOptions};
use smidgen_trainer::parallel::Pool;
use smidgen_trainer::rng::Rng;

struct Case {
    config: Config,
    options: ModelOptions,
    batch: usize,
}

fn case(name: &str) -> Option<Case> {
    let gpt2 = |n_layers, n_heads, dim, context_len, vocab_size| Config {
        architecture: Architecture::Gpt2,
        n_layers,
        dim,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: dim / n_heads,
        ffn_dim: 4 * dim,
        vocab_size,
        context_len,
        norm_eps: 1e-5,
    };
    let with_bias = ModelOptions::default();
    let plain = ModelOptions { bias: false, ..with_bias };
    Some(match name {
        "a" => Case { config: gpt2(4, 4, 128, 64, 65), options: plain, batch: 12 },
        "b" => Case { config: gpt2(6, 6, 384, 256, 65), options: plain, batch: 16 },
        "c" => {
            let config =
                Config { architecture: Architecture::Llama, ffn_dim: 768, ..gpt2(6, 6, 288, 256, 32_000) };
            Case { config, options: with_bias, batch: 8 }
        }
        "d" => Case { config: gpt2(12, 12, 768, 256, 50_257), options: with_bias, batch: 4 },
        _ => return None,
    })
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or("a", String::as_str);
    let number =
        |index: usize, otherwise: f64| args.get(index).map_or(Some(otherwise), |text| text.parse().ok());
    let all_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let precision = match args.get(3).map(String::as_str) {
        None => Some(Precision::best()),
        Some("f32") => Some(Precision::F32),
        Some("bf16") => Some(Precision::Bf16).filter(|bf16| bf16.is_available()),
        Some(_) => None,
    };
    let (Some(case), Some(threads), Some(seconds), Some(precision)) =
        (case(name), number(1, all_cores as f64), number(2, 5.0), precision)
    else {
        eprintln!("usage: step_speed [a|b|c|d] [threads] [seconds] [f32, or bf16 where the CPU has it]");
        return ExitCode::FAILURE;
    };
    match measure(&case, threads as usize, Duration::from_secs_f64(seconds), precision) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(case: &Case, threads: usize, time: Duration, precision: Precision) -> Result<(), ModelError> {
    let pool = Pool::new(threads);
    let mut model = Model::new(case.config, case.options)?;
    model.init(1);
    let seq_len = case.config.context_len as usize;
    let mut ws = Workspace::new(&model, case.batch, seq_len)?;
    ws.precision = precision;
    // As `smidgen train` does unless told.
    let kind = if precision == Precision::Bf16 { MomentType::Bf16 } else { MomentType::F32 };
    let mut optimizer = AdamW::new(&model.layout, AdamWOptions::default()).with_moments(kind);
    let n = ws.rows();
    let mut rng = Rng::new(2);
    let tokens: Vec<u32> = (0..=n).map(|_| rng.below(case.config.vocab_size as usize) as u32).collect();

    let mut step = |model: &mut Model| {
        let start = Instant::now();
        ws.zero_grads();
        forward_backward(model, &mut ws, &pool, &tokens[..n], &tokens[1..], 1.0);
        optimizer.update(&pool, &mut model.params, ws.grads(), 1e-4, Some(1.0));
        start.elapsed().as_secs_f64()
    };
    // The first steps touch all memory for the first time.
    step(&mut model);
    step(&mut model);
    let start = Instant::now();
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    while start.elapsed() < time || times.len() < 3 {
        // The peak in between, so that both see the same noise.
        if times.len() % 16 == 0 {
            peaks.push(peak(&pool, precision));
        }
        times.push(step(&mut model));
    }
    times.sort_by(f64::total_cmp);
    peaks.sort_by(f64::total_cmp);
    let (median, best, peak) = (times[times.len() / 2], times[0], peaks[peaks.len() / 2] / 1e9);

    let positions = model.param("transformer.wpe.weight").map_or(0, <[f32]>::len);
    let n_params = model.params.len() - positions;
    let attention = 12 * case.config.n_layers as usize * case.config.q_dim() * seq_len;
    let flops = (6 * n_params + attention) as f64 * n as f64;
    println!("{n_params} parameters, {n} tokens a step, {} threads", pool.threads());
    println!(
        "workspace {:.0} MiB, parameters and optimizer {:.0} MiB",
        ws.bytes() as f64 / f64::from(1 << 20),
        ((4 + 2 * if kind == MomentType::Bf16 { 2 } else { 4 }) * model.params.len()) as f64
            / f64::from(1 << 20)
    );
    for (what, time) in [("median", median), ("best", best)] {
        println!(
            "{what} of {} steps: {:.0} tokens/s, {:.2} ms, {:.1} GFLOP/s, {:.0} % of {peak:.0}",
            times.len(),
            n as f64 / time,
            time * 1e3,
            flops / time / 1e9,
            flops / time / 1e7 / peak,
        );
    }
    Ok(())
}
