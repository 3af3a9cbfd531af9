//! How fast the products of training steps are on this machine, and what part of its measured
//! peak that is.
//!
//! `cargo run --release -p smidgen-trainer --example gemm_speed -- [a|b|c|d|square] [threads]`
//!
//! The shapes are those of `step_speed`'s configurations: for every linear layer the forward
//! product (NT), the gradient of its input (NN) and that of its weight (TN).

mod peak;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use smidgen_trainer::gemm::{Add, Level, MatMut, MatRef, matmul_at};
use smidgen_trainer::model::Precision;
use smidgen_trainer::parallel::Pool;

/// How long one product is measured.
const TIME: Duration = Duration::from_millis(80);

/// A linear layer applied to some rows.
struct Layer {
    name: &'static str,
    rows: usize,
    inputs: usize,
    outputs: usize,
}

fn layers(config: &str) -> Option<Vec<Layer>> {
    let of = |rows, list: &[(&'static str, usize, usize)]| {
        Some(list.iter().map(|&(name, inputs, outputs)| Layer { name, rows, inputs, outputs }).collect())
    };
    match config {
        "a" => of(
            768,
            &[("qkv", 128, 384), ("out", 128, 128), ("up", 128, 512), ("down", 512, 128), ("head", 128, 65)],
        ),
        "b" => of(
            4096,
            &[
                ("qkv", 384, 1152),
                ("out", 384, 384),
                ("up", 384, 1536),
                ("down", 1536, 384),
                ("head", 384, 65),
            ],
        ),
        "c" => of(
            2048,
            &[
                ("qkv", 288, 864),
                ("out", 288, 288),
                ("up", 288, 1536),
                ("down", 768, 288),
                ("head, a part", 288, 8000),
            ],
        ),
        "d" => of(
            1024,
            &[
                ("qkv", 768, 2304),
                ("out", 768, 768),
                ("up", 768, 3072),
                ("down", 3072, 768),
                ("head, a part", 768, 12_564),
            ],
        ),
        "square" => {
            Some([768, 1024, 2048].map(|n| Layer { name: "square", rows: n, inputs: n, outputs: n }).into())
        }
        _ => None,
    }
}

/// Which of a layer's products.
#[derive(Clone, Copy)]
enum Product {
    Forward,
    BackwardInput,
    BackwardWeight,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let configs: Vec<&str> = match args.first().map(String::as_str) {
        None | Some("all") => vec!["a", "b", "c", "d"],
        Some(one) => vec![one],
    };
    let all_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.get(1).map_or(Some(all_cores), |text| text.parse().ok());
    let Some(threads) = threads.filter(|_| configs.iter().all(|config| layers(config).is_some())) else {
        eprintln!("usage: gemm_speed [all|a|b|c|d|square] [threads]");
        return ExitCode::FAILURE;
    };
    let pool = Pool::new(threads);
    let precisions: Vec<Precision> =
        [Precision::F32, Precision::Bf16].into_iter().filter(|precision| precision.is_available()).collect();
    for config in configs {
        println!("\n{config}, {threads} threads: GFLOP/s (of the peak)");
        println!("{:<14} {:<4} {:>6} {:>6} {:>6}  {:?}", "layer", "", "m", "n", "k", precisions);
        for layer in layers(config).unwrap_or_default() {
            measure_layer(&pool, &layer, &precisions);
        }
    }
    ExitCode::SUCCESS
}

fn measure_layer(pool: &Pool, layer: &Layer, precisions: &[Precision]) {
    let &Layer { name, rows, inputs, outputs } = layer;
    let numbers = |n: usize| (0..n).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect::<Vec<f32>>();
    let mut buffers = [numbers(rows * inputs), numbers(outputs * inputs), numbers(rows * outputs)];
    for product in [Product::Forward, Product::BackwardInput, Product::BackwardWeight] {
        let (what, [m, n, k]) = match product {
            Product::Forward => ("NT", [rows, outputs, inputs]),
            Product::BackwardInput => ("NN", [rows, inputs, outputs]),
            Product::BackwardWeight => ("TN", [outputs, inputs, rows]),
        };
        print!("{name:<14} {what:<4} {m:>6} {n:>6} {k:>6} ");
        for &precision in precisions {
            let level = match precision {
                Precision::F32 => Level::detect(),
                Precision::Bf16 => Level::detect_bf16().unwrap_or(Level::detect()),
            };
            let mut run = || multiply(pool, level, product, layer, &mut buffers);
            run();
            let mut times = Vec::new();
            let start = Instant::now();
            while start.elapsed() < TIME || times.len() < 3 {
                let start = Instant::now();
                run();
                times.push(start.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            let peak = peak::peak(pool, precision);
            let speed = 2.0 * (m * n * k) as f64 / times[times.len() / 2];
            print!(" {:>6.0} ({:>3.0} %)", speed / 1e9, 100.0 * speed / peak);
        }
        println!();
    }
    black_box(&buffers);
}

/// One product; `buffers` are the input, the weight and the output, or the gradients of such.
fn multiply(pool: &Pool, level: Level, product: Product, layer: &Layer, buffers: &mut [Vec<f32>; 3]) {
    let &Layer { rows, inputs, outputs, .. } = layer;
    let [x, w, y] = buffers;
    match product {
        Product::Forward => {
            let (a, b) = (MatRef::new(x, rows, inputs), MatRef::new(w, outputs, inputs).t());
            matmul_at(level, pool, MatMut::new(y, rows, outputs), a, b, Add::Nothing);
        }
        Product::BackwardInput => {
            let (a, b) = (MatRef::new(y, rows, outputs), MatRef::new(w, outputs, inputs));
            matmul_at(level, pool, MatMut::new(x, rows, inputs), a, b, Add::Nothing);
        }
        Product::BackwardWeight => {
            let (a, b) = (MatRef::new(y, rows, outputs).t(), MatRef::new(x, rows, inputs));
            matmul_at(level, pool, MatMut::new(w, outputs, inputs), a, b, Add::Nothing);
        }
    }
}
