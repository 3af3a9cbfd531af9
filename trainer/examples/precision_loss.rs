//! What bf16 products cost in loss: the same model, batches and steps in f32 and in bf16.
//!
//! `cargo run --release -p smidgen-trainer --example precision_loss -- FILE [steps]`
//!
//! Characters of FILE; GPT-2, 4 layers × 4 heads × 128, context 64, batch 12, the last tenth of the
//! file held out. The loss of that is printed for both.

use std::process::ExitCode;

use smidgen_runtime::config::{Architecture, Config};
use smidgen_trainer::model::{
    Model, ModelError, ModelOptions, Precision, Workspace, forward_backward, forward_loss,
};
use smidgen_trainer::optimizer::{AdamW, AdamWOptions};
use smidgen_trainer::parallel::Pool;
use smidgen_trainer::rng::Rng;
use smidgen_trainer::schedule::Schedule;

const BATCH: usize = 12;
const CONTEXT: usize = 64;
/// Batches that the held-out loss is the mean of.
const HELD_OUT: usize = 100;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let steps = args.get(1).map_or(Some(500), |text| text.parse().ok());
    let (Some(path), Some(steps)) = (args.first(), steps) else {
        eprintln!("usage: precision_loss FILE [steps]");
        return ExitCode::FAILURE;
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) if text.chars().count() >= 100 * CONTEXT => text,
        Ok(_) => {
            eprintln!("error: {path}: fewer than {} characters", 100 * CONTEXT);
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("error: {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if !Precision::Bf16.is_available() {
        eprintln!("error: this CPU has no bf16 products");
        return ExitCode::FAILURE;
    }
    let losses = [Precision::F32, Precision::Bf16].map(|precision| train(&text, steps, precision));
    match losses {
        [Ok(exact), Ok(rounded)] => {
            println!("after {steps} steps, held-out loss: f32 {exact:.4}, bf16 {rounded:.4}");
            println!("difference {:+.2} %", 100.0 * (rounded / exact - 1.0));
            ExitCode::SUCCESS
        }
        [Err(error), _] | [_, Err(error)] => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The held-out loss after some steps.
fn train(text: &str, steps: u64, precision: Precision) -> Result<f64, ModelError> {
    let mut chars: Vec<char> = text.chars().collect();
    chars.sort_unstable();
    chars.dedup();
    let tokens: Vec<u32> =
        text.chars().map(|c| chars.binary_search(&c).map_or(0, |index| index as u32)).collect();
    let (seen, held_out) = tokens.split_at(tokens.len() / 10 * 9);
    let config = Config {
        architecture: Architecture::Gpt2,
        n_layers: 4,
        dim: 128,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: 32,
        ffn_dim: 512,
        vocab_size: chars.len() as u32,
        context_len: CONTEXT as u32,
        norm_eps: 1e-5,
    };
    let mut model = Model::new(config, ModelOptions { bias: false, ..ModelOptions::default() })?;
    model.init(1);
    let pool = Pool::with_all_cores();
    let mut ws = Workspace::new(&model, BATCH, CONTEXT)?;
    ws.precision = precision;
    let mut optimizer = AdamW::new(&model.layout, AdamWOptions::default());
    let schedule = Schedule::cosine(1e-3, 1e-4, 100, steps.max(101));
    let mut rng = Rng::new(2);
    for step in 0..steps {
        let (inputs, targets) = batch(&mut rng, seen);
        ws.zero_grads();
        forward_backward(&model, &mut ws, &pool, &inputs, &targets, 1.0);
        optimizer.update(&pool, &mut model.params, ws.grads(), schedule.learning_rate(step), Some(1.0));
    }
    let mut rng = Rng::new(3);
    let losses = (0..HELD_OUT).map(|_| {
        let (inputs, targets) = batch(&mut rng, held_out);
        f64::from(forward_loss(&model, &mut ws, &pool, &inputs, &targets))
    });
    Ok(losses.sum::<f64>() / HELD_OUT as f64)
}

/// Sequences from random places, and the same one token later.
fn batch(rng: &mut Rng, tokens: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let starts: Vec<usize> = (0..BATCH).map(|_| rng.below(tokens.len() - CONTEXT)).collect();
    let from = |offset: usize| {
        starts.iter().flat_map(|start| &tokens[start + offset..start + offset + CONTEXT]).copied().collect()
    };
    (from(0), from(1))
}
