//! Every level of kernels against the definition, bit by bit, where models seldom reach: odd sizes,
//! addresses of every alignment, the largest integers, groups and scales of zero, subnormal scales,
//! activations that are huge, infinite or no numbers.

mod common;

use common::Random;
use smidgen_runtime::Level;
use smidgen_runtime::format::{BLOCK, DType, GROUP, QUAD, TensorSize};
use smidgen_runtime::kernels::attention::{HeadCacheQ8, Scratch};
use smidgen_runtime::kernels::{Activations, bench};
use smidgen_runtime::tensor::{Matrix, Planes, Weights, q8_flip};

/// Numbers that begin `shift` elements after an address that is a multiple of 64.
struct Shifted<T>(Vec<T>, usize);

impl<T: Copy + Default> Shifted<T> {
    fn new(len: usize, shift: usize, mut value: impl FnMut(usize) -> T) -> Self {
        let mut all = vec![T::default(); len + 64 + shift];
        let begin = all.as_ptr().align_offset(64) + shift;
        all.truncate(begin + len);
        all[begin..].iter_mut().enumerate().for_each(|(i, place)| *place = value(i));
        Self(all, begin)
    }
}

impl<T> std::ops::Deref for Shifted<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0[self.1..]
    }
}

/// How the integers of a case are chosen.
const KINDS: [&str; 5] = ["any", "largest", "smallest", "alternating", "zero"];

fn integer(kind: &str, i: usize, random: &mut Random, least: i8) -> i8 {
    match kind {
        "any" => (random.next() as i8).max(least),
        "largest" => 127,
        "smallest" => least,
        "alternating" => [127, least][i % 2],
        _ => 0,
    }
}

/// f32 values that break careless arithmetic.
const EXTREMES: [f32; 12] =
    [0.0, -0.0, 1.0, -1.5, 1e-45, -1e-40, 1e-30, 3e38, -3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

/// bf16 patterns: zero, subnormals, the least normal, ordinary ones, the largest.
const SCALES: [u16; 8] = [0, 1, 0x007F, 0x0080, 0x3C12, 0x3F80, 0x4000, 0x7F7F];

fn others() -> impl Iterator<Item = Level> {
    Level::available().filter(|level| *level != Level::SCALAR)
}

/// Equal as bits; what is no number need only be none.
fn same(want: &[f32], got: &[f32], what: &str) {
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        let equal = want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan();
        assert!(equal, "{what}: number {i} is {got:e}, not {want:e}");
    }
}

#[test]
fn products_of_extreme_integers_and_scales() {
    let mut random = Random(1);
    for case in 0..600 {
        let cols = 1 + random.below(700) as usize;
        let (rows, n) = (1 + random.below(21) as usize, 1 + random.below(19) as usize);
        let padded = cols.next_multiple_of(GROUP);
        let (groups, blocks, quads) = (padded / GROUP, padded.div_ceil(BLOCK), rows.div_ceil(QUAD));
        let mut shift = || random.below(64) as usize;
        let shifts = [shift(), shift(), shift(), shift()];
        let kind = KINDS[case % 5];
        let x_kind = KINDS[case / 5 % 5];
        let quants = Shifted::new(n * padded, shifts[0], |i| match i % padded < cols {
            true => integer(x_kind, i, &mut random, -127),
            false => 0,
        });
        let sums: Vec<i32> =
            quants.chunks_exact(GROUP).map(|group| group.iter().map(|&x| i32::from(x)).sum()).collect();
        let odd = case % 3 == 0;
        let x_scales: Vec<f32> = (0..n * blocks)
            .map(|_| if odd { EXTREMES[random.below(12) as usize] } else { random.signed().abs() })
            .collect();
        for bits in [8, 4] {
            // 0 in a multiplier is a group of zeros.
            let multipliers = Shifted::new(quads * QUAD * groups, shifts[1], |_| {
                [0, 255, random.next() as u8][random.below(3) as usize]
            });
            let bytes = Shifted::new(quads * QUAD * padded * bits / 8, shifts[2], |i| match bits {
                8 => integer(kind, i, &mut random, -128) as u8 ^ q8_flip(i),
                _ => [random.next() as u8, 0xFF, 0x00, 0xF0, 0x88][case % 5],
            });
            let scales = Shifted::new(quads * QUAD * blocks, shifts[3], |_| {
                if odd { SCALES[random.below(8) as usize] } else { 0x3C00 + random.below(0x300) as u16 }
            });
            let planes =
                Planes { quants: &bytes, multipliers: &multipliers, scales: &scales, padded_cols: padded };
            let weights = if bits == 8 { Weights::Q8(planes) } else { Weights::Q4(planes) };
            let matrix = Matrix { rows, cols, weights };
            let input = Activations { n, cols, values: &[], quants: &quants, scales: &x_scales, sums: &sums };
            let mut want = vec![f32::NAN; n * rows];
            bench::matmul(Level::SCALAR, &matrix, &input, &mut want);
            for level in others() {
                let mut got = vec![f32::NAN; n * rows];
                bench::matmul(level, &matrix, &input, &mut got);
                let what = format!(
                    "{} case {case}: [{rows}, {cols}] of {bits} bits ({kind}) with {n} ({x_kind})",
                    level.name()
                );
                same(&want, &got, &what);
            }
        }
    }
}

#[test]
fn products_of_extreme_floats() {
    let mut random = Random(2);
    for case in 0..300 {
        let cols = 1 + random.below(130) as usize;
        let (rows, n) = (1 + random.below(9) as usize, 1 + random.below(5) as usize);
        let shift = random.below(16) as usize;
        let mut float = |extreme: bool| {
            if extreme && random.below(8) == 0 {
                EXTREMES[random.below(12) as usize]
            } else {
                random.signed()
            }
        };
        let values = Shifted::new(n * cols, shift, |_| float(case % 2 == 0));
        let floats = Shifted::new(rows * cols, shift / 2, |_| float(case % 4 == 0));
        // All patterns of 16 bits: subnormals, infinities and what is no number too.
        let halves = Shifted::new(rows * cols, shift, |_| random.next() as u16);
        for weights in [Weights::F32(&floats), Weights::F16(&halves)] {
            let matrix = Matrix { rows, cols, weights };
            let input = Activations { n, cols, values: &values, quants: &[], scales: &[], sums: &[] };
            let mut want = vec![0.0; n * rows];
            bench::matmul(Level::SCALAR, &matrix, &input, &mut want);
            for level in others() {
                let mut got = vec![0.0; n * rows];
                bench::matmul(level, &matrix, &input, &mut got);
                same(&want, &got, &format!("{} case {case}: [{rows}, {cols}] with {n}", level.name()));
            }
        }
    }
}

#[test]
fn attention_over_extreme_caches() {
    let mut random = Random(3);
    for case in 0..600 {
        let head_dim = 1 + random.below(140) as usize;
        let padded = head_dim.next_multiple_of(4);
        let len = 1 + random.below(if case % 10 == 9 { 1300 } else { 90 }) as usize;
        let positions = len.next_multiple_of(QUAD);
        let kind = KINDS[case % 5];
        let shift = random.below(64) as usize;
        let keys = Shifted::new(positions * padded, shift, |i| integer(kind, i, &mut random, -127));
        let values = Shifted::new(positions * head_dim, shift / 3, |i| integer(kind, i, &mut random, -127));
        // 255 stands for what is no number.
        let codes = [200, 255, 256][case % 3];
        let mut codes = |_| random.below(codes) as u8;
        let key_scales = Shifted::new(positions, shift, &mut codes);
        let value_scales = Shifted::new(positions, shift / 2, &mut codes);
        let size = [0.01, 1.0, 40.0, 1e30][case % 4];
        // Heads that share keys.
        let query: Vec<f32> = (0..head_dim * (1 + case % 4))
            .map(|_| match random.below(if case % 7 == 0 { 9 } else { 1 << 40 }) {
                0 => EXTREMES[random.below(12) as usize],
                _ => random.signed() * size,
            })
            .collect();
        let cache = HeadCacheQ8 {
            keys: &keys,
            key_scales: &key_scales,
            values: &values,
            value_scales: &value_scales,
        };
        let run = |level| {
            let mut scores = vec![0.0; positions];
            let mut integers = vec![0; padded];
            let mut scratch = Scratch { scores: &mut scores, query: &mut integers };
            let mut out = vec![0.0; query.len()];
            bench::attend_q8(level, &query, head_dim, &cache, len, &mut scratch, &mut out);
            out
        };
        let want = run(Level::SCALAR);
        for level in others() {
            let what = format!("{} case {case}: {len} positions of {head_dim} ({kind})", level.name());
            same(&want, &run(level), &what);
        }
    }
}

#[test]
fn attention_of_several_tokens_at_once() {
    let mut random = Random(13);
    for case in 0..400 {
        let head_dim = 1 + random.below(if case % 9 == 8 { 300 } else { 100 }) as usize;
        let padded = head_dim.next_multiple_of(4);
        let len = 1 + random.below(if case % 10 == 9 { 1300 } else { 60 }) as usize;
        let n = 1 + random.below(40) as usize;
        let positions = (len + n - 1).next_multiple_of(QUAD);
        let kind = KINDS[case % 5];
        let shift = random.below(64) as usize;
        let keys = Shifted::new(positions * padded, shift, |i| integer(kind, i, &mut random, -127));
        let values = Shifted::new(positions * head_dim, shift / 3, |i| integer(kind, i, &mut random, -127));
        // 255 stands for what is no number: perhaps only late ones have it, at which few tokens look.
        let codes = [200, 255, 200][case % 3];
        let mut codes = |i: usize| match (case % 3, i >= len && random.below(9) == 0) {
            (2, true) => 255,
            _ => random.below(codes) as u8,
        };
        let key_scales = Shifted::new(positions, shift, &mut codes);
        let value_scales = Shifted::new(positions, shift / 2, &mut codes);
        let size = [0.01, 1.0, 40.0, 1e30][case % 4];
        let heads = 1 + case % 3;
        let queries: Vec<f32> = (0..n * heads * head_dim)
            .map(|_| match random.below(if case % 7 == 0 { 900 } else { 1 << 40 }) {
                0 => EXTREMES[random.below(12) as usize],
                _ => random.signed() * size,
            })
            .collect();
        let cache = HeadCacheQ8 {
            keys: &keys,
            key_scales: &key_scales,
            values: &values,
            value_scales: &value_scales,
        };
        // With little scratch levels cannot take several at once.
        let run = |level, scores: usize| {
            let (mut scores, mut integers) = (vec![0.0; scores], vec![0; padded]);
            let mut scratch = Scratch { scores: &mut scores, query: &mut integers };
            let (mut queries, mut out) = (queries.clone(), vec![0.0; queries.len()]);
            bench::attend_tokens_q8(level, &mut queries, n, head_dim, &cache, len, &mut scratch, &mut out);
            out
        };
        let want = run(Level::SCALAR, positions);
        for level in others() {
            for scores in [positions, 8 * positions, 32 * positions] {
                let what = format!(
                    "{} case {case}: {n} tokens from {len} on, of {head_dim} ({kind}), scratch {scores}",
                    level.name()
                );
                same(&want, &run(level, scores), &what);
            }
        }
    }
}

#[test]
fn elementwise_steps_on_extreme_values() {
    let mut random = Random(4);
    for case in 0..600 {
        let len = 1 + random.below(600) as usize;
        let shift = random.below(16) as usize;
        let mut float = |_| match random.below([1 << 40, 40, 3][case % 3]) {
            0 => EXTREMES[random.below(12) as usize],
            _ => random.signed() * [1e-3, 1.0, 100.0][random.below(3) as usize],
        };
        let x = Shifted::new(len, shift, &mut float);
        let (weight, bias) = (Shifted::new(len, shift / 2, &mut float), Shifted::new(len, 0, &mut float));
        let padded = len.next_multiple_of(GROUP);
        let run = |level| {
            let mut all = Vec::new();
            let mut out = vec![0.0; len];
            bench::rms_norm(level, &x, &weight, 1e-5, &mut out);
            all.extend_from_slice(&out);
            bench::layer_norm(level, &x, &weight, Some(&bias), 1e-5, &mut out);
            all.extend_from_slice(&out);
            bench::layer_norm(level, &x, &weight, None, 1e-5, &mut out);
            all.extend_from_slice(&out);
            out.copy_from_slice(&x);
            bench::silu_mul(level, &mut out, &bias);
            all.extend_from_slice(&out);
            out.copy_from_slice(&x);
            bench::gelu_all(level, &mut out);
            all.extend_from_slice(&out);
            let mut quants = vec![0; padded];
            let (mut scales, mut sums) = (vec![0.0; padded.div_ceil(BLOCK)], vec![0; padded / GROUP]);
            bench::quantize(level, &x, &mut quants, &mut scales, &mut sums);
            all.extend_from_slice(&scales);
            (all, quants, sums)
        };
        let want = run(Level::SCALAR);
        for level in others() {
            let (got, what) = (run(level), format!("{} case {case}: {len} numbers", level.name()));
            same(&want.0, &got.0, &what);
            assert!((&want.1, &want.2) == (&got.1, &got.2), "{what}: other integers");
        }
    }
}

/// All that a matrix takes in a file, by the number of its weights.
#[test]
fn bits_per_weight_with_scales_and_alignment() {
    for (dtype, most) in [(DType::Q8, 8.4), (DType::Q4, 4.4)] {
        for (rows, cols) in [(288, 288), (768, 768), (2048, 5632), (32_000, 512)] {
            let size = TensorSize::new(dtype, rows, cols).expect("such a matrix");
            let bits = 8.0 * size.total as f64 / (rows * cols) as f64;
            // Rows of 288 are one block of 256 and a rest that has a scale of its own.
            assert!(bits <= most, "{}: {bits} bits a weight in [{rows}, {cols}]", dtype.name());
        }
    }
}

/// `--cfg smidgen_level="scalar"` in RUSTFLAGS.
#[test]
fn a_level_can_be_forced_when_compiling() {
    if cfg!(smidgen_level = "scalar") {
        assert_eq!(Level::detect(), Level::SCALAR);
    } else if cfg!(smidgen_level = "wide") {
        assert_eq!(Level::detect().name(), "wide");
    } else {
        assert_eq!(Some(Level::detect()), Level::available().last());
    }
}
