//! Every kernel by itself, on every level that this CPU has.
//!
//! ```text
//! cargo bench --bench kernels                     all
//! cargo bench --bench kernels -- decode           those whose name has `decode`
//! cargo bench --bench kernels -- attend --min-time 0.5
//! ```
//!
//! One thread (but for the hand-off), operands in cache as far as they fit. Products count multiply-accumulates,
//! everything else its elements.

mod noise;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use smidgen_runtime::format::{BLOCK, DType, GROUP};
use smidgen_runtime::kernels::Activations;
use smidgen_runtime::kernels::attention::{HeadCacheQ8, Scratch, store_key, store_value};
use smidgen_runtime::kernels::bench;
use smidgen_runtime::tensor::Matrix;
use smidgen_runtime::{Level, Pool};

use noise::{Bytes, Noise};

fn main() {
    divan::main();
}

/// What a bench is called with: its level, and a size.
#[derive(Clone, Copy)]
struct Case<S> {
    level: Level,
    size: S,
}

impl<S: std::fmt::Debug> std::fmt::Display for Case<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.level.name(), self.size)
    }
}

/// Every level with every size.
fn cases<S: Copy>(sizes: &[S]) -> Vec<Case<S>> {
    sizes.iter().flat_map(|&size| Level::available().map(move |level| Case { level, size })).collect()
}

fn floats(n: usize) -> Vec<f32> {
    let mut noise = Noise::new();
    (0..n).map(|_| noise.float() - 0.08).collect()
}

/// `[rows, cols]` of the shapes that peers are compared in.
const SHAPES: [(usize, usize); 5] = [(288, 288), (768, 768), (768, 2048), (2048, 768), (32000, 288)];
/// Vectors that a prompt brings at a time.
const PROMPT_BLOCK: usize = 64;

/// Times a product of a matrix with `n` vectors.
fn product(bencher: Bencher<'_, '_>, case: Case<(usize, usize)>, dtype: DType, n: usize) {
    let (rows, cols) = case.size;
    let (padded, blocks) = (cols.next_multiple_of(GROUP), cols.div_ceil(BLOCK));
    let groups = padded / GROUP;
    let mut bytes = Vec::new();
    Noise::new().matrix(dtype, rows, cols, &mut bytes);
    let bytes = Bytes::new(&bytes);
    let matrix = Matrix::new(dtype, rows, cols, &bytes).expect("a whole matrix");
    let values = floats(n * cols);
    let (mut quants, mut scales, mut sums) =
        (vec![0_i8; n * padded], vec![0.0; n * blocks], vec![0; n * groups]);
    let parts = quants.chunks_mut(padded).zip(scales.chunks_mut(blocks)).zip(sums.chunks_mut(groups));
    for (((quants, scales), sums), values) in parts.zip(values.chunks(cols)) {
        bench::quantize(case.level, values, quants, scales, sums);
    }
    let input = Activations { n, cols, values: &values, quants: &quants, scales: &scales, sums: &sums };
    let mut out = vec![0.0; n * rows];
    bencher
        .counter(ItemsCount::new(n * rows * cols))
        .bench_local(|| bench::matmul(case.level, black_box(&matrix), black_box(&input), &mut out));
}

#[divan::bench(args = cases(&SHAPES))]
fn matmul_q8_decode(bencher: Bencher<'_, '_>, case: Case<(usize, usize)>) {
    product(bencher, case, DType::Q8, 1);
}

#[divan::bench(args = cases(&SHAPES))]
fn matmul_q4_decode(bencher: Bencher<'_, '_>, case: Case<(usize, usize)>) {
    product(bencher, case, DType::Q4, 1);
}

#[divan::bench(args = cases(&SHAPES[..4]))]
fn matmul_q8_prompt(bencher: Bencher<'_, '_>, case: Case<(usize, usize)>) {
    product(bencher, case, DType::Q8, PROMPT_BLOCK);
}

#[divan::bench(args = cases(&SHAPES[..4]))]
fn matmul_q4_prompt(bencher: Bencher<'_, '_>, case: Case<(usize, usize)>) {
    product(bencher, case, DType::Q4, PROMPT_BLOCK);
}

/// One head's attention over so many positions: scores, softmax, weighted sum of values.
#[divan::bench(args = cases(&[(48, 64), (48, 256), (64, 256), (64, 1024)]))]
fn attend_q8(bencher: Bencher<'_, '_>, case: Case<(usize, usize)>) {
    let (head_dim, positions) = case.size;
    let padded = head_dim.next_multiple_of(4);
    let (mut keys, mut values) = (vec![0_i8; positions * padded], vec![0_i8; positions * head_dim]);
    let all = floats((2 * positions + 1) * head_dim);
    let mut vectors = all.chunks(head_dim);
    let query = vectors.next().expect("enough of them");
    let (mut key_scales, mut value_scales) = (Vec::new(), Vec::new());
    for position in 0..positions {
        let (key, value) = (vectors.next().expect("enough"), vectors.next().expect("enough"));
        key_scales.push(store_key(key, position, &mut keys));
        value_scales.push(store_value(value, position, &mut values));
    }
    let cache =
        HeadCacheQ8 { keys: &keys, key_scales: &key_scales, values: &values, value_scales: &value_scales };
    let mut scores = vec![0.0; positions];
    let (mut quants, mut out) = (vec![0_i8; padded], vec![0.0; head_dim]);
    bencher.counter(ItemsCount::new(2 * positions * head_dim)).bench_local(|| {
        let mut scratch = Scratch { scores: &mut scores, query: &mut quants };
        bench::attend_q8(case.level, query, head_dim, black_box(&cache), positions, &mut scratch, &mut out);
    });
}

#[divan::bench(args = cases(&[288, 768]))]
fn quantize(bencher: Bencher<'_, '_>, case: Case<usize>) {
    let (n, values) = (case.size, floats(case.size));
    let padded = n.next_multiple_of(GROUP);
    let (mut quants, mut scales, mut sums) =
        (vec![0; padded], vec![0.0; n.div_ceil(BLOCK)], vec![0; padded / GROUP]);
    bencher.counter(ItemsCount::new(n)).bench_local(|| {
        bench::quantize(case.level, black_box(&values), &mut quants, &mut scales, &mut sums);
    });
}

#[divan::bench(args = cases(&[288, 768]))]
fn rms_norm(bencher: Bencher<'_, '_>, case: Case<usize>) {
    let (x, weight, mut out) = (floats(case.size), floats(case.size), floats(case.size));
    bencher
        .counter(ItemsCount::new(case.size))
        .bench_local(|| bench::rms_norm(case.level, black_box(&x), &weight, 1e-5, &mut out));
}

#[divan::bench(args = cases(&[768]))]
fn layer_norm(bencher: Bencher<'_, '_>, case: Case<usize>) {
    let (x, weight, mut out) = (floats(case.size), floats(case.size), floats(case.size));
    let bias = floats(case.size);
    bencher.counter(ItemsCount::new(case.size)).bench_local(|| {
        bench::layer_norm(case.level, black_box(&x), &weight, Some(&bias), 1e-5, &mut out);
    });
}

// The next two work in place: they get fresh values every time, or these would shrink to nothing.

#[divan::bench(args = cases(&[768, 2048]))]
fn silu_mul(bencher: Bencher<'_, '_>, case: Case<usize>) {
    let (gate, up) = (floats(case.size), floats(case.size));
    bencher
        .counter(ItemsCount::new(case.size))
        .with_inputs(|| gate.clone())
        .bench_local_refs(|gate| bench::silu_mul(case.level, gate, black_box(&up)));
}

#[divan::bench(args = cases(&[3072]))]
fn gelu(bencher: Bencher<'_, '_>, case: Case<usize>) {
    let x = floats(case.size);
    bencher
        .counter(ItemsCount::new(case.size))
        .with_inputs(|| x.clone())
        .bench_local_refs(|x| bench::gelu_all(case.level, black_box(x)));
}

/// Two jobs of so many additions each: what is left of half their time when another core takes one.
#[divan::bench(args = [(1, 1_000), (2, 1_000), (1, 10_000), (2, 10_000)])]
fn hand_off(bencher: Bencher<'_, '_>, (threads, additions): (usize, u32)) {
    let pool = Pool::new(threads);
    bencher.counter(ItemsCount::new(2 * additions)).bench_local(|| {
        pool.run(2, |_| (0..additions).for_each(|i| _ = black_box(i)));
    });
}
