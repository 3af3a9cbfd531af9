//! Compares the levels of kernels on the chip, bit by bit, where stories do not reach: heads wider than
//! what is taken at once, scores far below the largest, scales that are no numbers, rows that end in the
//! middle of four, columns that end in the middle of a block.
#![no_std]
#![no_main]

use core::fmt::Write;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use smidgen_runtime::Level;
use smidgen_runtime::kernels::attention::{HeadCacheQ8, Scratch};
use smidgen_runtime::kernels::{Activations, bench};
use smidgen_runtime::tensor::{Matrix, Planes, Weights};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Ok(mut err) = hio::hstderr() {
        let _ = writeln!(err, "{info}");
    }
    loop {
        debug::exit(debug::EXIT_FAILURE);
    }
}

/// Numbers as good as random (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, n: u32) -> usize {
        ((u64::from(self.bits()) * u64::from(n)) >> 32) as usize
    }

    /// In −1 to 1.
    fn signed(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 8_388_608.0 - 1.0
    }
}

#[repr(align(64))]
struct Aligned<T>(T);

const POSITIONS: usize = 64;
const WIDEST: usize = 300;
const COLS: usize = 608;
const ROWS: usize = 12;

/// Everything that is compared lies here, not on the stack.
struct Arena {
    keys: Aligned<[i8; POSITIONS * WIDEST]>,
    values: Aligned<[i8; POSITIONS * WIDEST]>,
    key_scales: Aligned<[u8; POSITIONS]>,
    value_scales: Aligned<[u8; POSITIONS]>,
    scores: [f32; POSITIONS],
    query: Aligned<[i8; WIDEST]>,
    quants: Aligned<[u8; ROWS * COLS]>,
    multipliers: Aligned<[u8; ROWS * COLS / 32]>,
    scales: Aligned<[u16; ROWS * 3]>,
    activations: Aligned<[i8; 2 * COLS]>,
}

#[entry]
fn main() -> ! {
    static mut ARENA: Arena = Arena {
        keys: Aligned([0; POSITIONS * WIDEST]),
        values: Aligned([0; POSITIONS * WIDEST]),
        key_scales: Aligned([0; POSITIONS]),
        value_scales: Aligned([0; POSITIONS]),
        scores: [0.0; POSITIONS],
        query: Aligned([0; WIDEST]),
        quants: Aligned([0; ROWS * COLS]),
        multipliers: Aligned([0; ROWS * COLS / 32]),
        scales: Aligned([0; ROWS * 3]),
        activations: Aligned([0; 2 * COLS]),
    };
    let mut random = Random(1);
    for case in 0..400 {
        attention(ARENA, &mut random, case);
        product(ARENA, &mut random, case);
    }
    if let Ok(mut out) = hio::hstdout() {
        let _ = writeln!(out, "equal 400 on {}", Level::detect().name());
    }
    loop {
        debug::exit(debug::EXIT_SUCCESS);
    }
}

fn attention(arena: &mut Arena, random: &mut Random, case: usize) {
    let head_dim: usize = [4, 8, 10, 16, 33, 64, 128, 256, 260, 300][random.below(10)];
    let padded = head_dim.next_multiple_of(4);
    let len = 1 + random.below(POSITIONS as u32);
    // Heads that share keys.
    let n = 1 + random.below(3);
    let mut query = [0.0; 3 * WIDEST];
    let query = &mut query[..n * head_dim];
    let size = [0.01, 1.0, 40.0][random.below(3)];
    for x in &mut *query {
        *x = random.signed() * size;
    }
    for byte in arena.keys.0.iter_mut().chain(&mut arena.values.0) {
        *byte = (random.below(255) as i32 - 127) as i8;
    }
    // Every scale that there is; now and then one that stands for what is no number.
    let codes = [200, 255, 256][case % 3];
    for scale in arena.key_scales.0.iter_mut().chain(&mut arena.value_scales.0) {
        *scale = random.below(codes) as u8;
    }
    let mut results = [[0.0_f32; 3 * WIDEST]; 2];
    for (level, out) in [Level::SCALAR, Level::detect()].into_iter().zip(&mut results) {
        let cache = HeadCacheQ8 {
            keys: &arena.keys.0[..POSITIONS * padded],
            key_scales: &arena.key_scales.0,
            values: &arena.values.0[..POSITIONS * head_dim],
            value_scales: &arena.value_scales.0,
        };
        let mut scratch = Scratch { scores: &mut arena.scores, query: &mut arena.query.0[..padded] };
        bench::attend_q8(level, query, head_dim, &cache, len, &mut scratch, &mut out[..n * head_dim]);
    }
    same(&results[0], &results[1], "attention", case, head_dim, len);
}

fn product(arena: &mut Arena, random: &mut Random, case: usize) {
    // Columns with padding, and without.
    let cols = 32 * (1 + random.below(COLS as u32 / 32));
    let within = cols - random.below(32);
    let rows = 1 + random.below(ROWS as u32);
    let n = 1 + random.below(2);
    for byte in arena.quants.0.iter_mut().chain(&mut arena.multipliers.0) {
        *byte = random.bits() as u8;
    }
    for scale in &mut arena.scales.0 {
        *scale = 0x3000 + random.below(0x1000) as u16;
    }
    for (i, x) in arena.activations.0.iter_mut().enumerate() {
        *x = if i % cols < within { (random.below(255) as i32 - 127) as i8 } else { 0 };
    }
    let (blocks, groups, quads) = (cols.div_ceil(256), cols / 32, rows.div_ceil(4));
    let mut scales = [0.0; 6];
    for scale in &mut scales[..n * blocks] {
        *scale = random.signed().abs();
    }
    let mut sums = [0; 2 * COLS / 32];
    for (sum, group) in sums.iter_mut().zip(arena.activations.0[..n * cols].chunks_exact(32)) {
        *sum = group.iter().map(|&x| i32::from(x)).sum();
    }
    for bits in [8, 4] {
        let planes = Planes {
            quants: &arena.quants.0[..quads * 4 * cols * bits / 8],
            multipliers: &arena.multipliers.0[..quads * 4 * groups],
            scales: &arena.scales.0[..quads * 4 * blocks],
            padded_cols: cols,
        };
        let weights = if bits == 8 { Weights::Q8(planes) } else { Weights::Q4(planes) };
        let matrix = Matrix { rows, cols: within, weights };
        let input = Activations {
            n,
            cols: within,
            values: &[],
            quants: &arena.activations.0[..n * cols],
            scales: &scales[..n * blocks],
            sums: &sums[..n * groups],
        };
        let mut results = [[0.0_f32; 2 * ROWS]; 2];
        for (level, out) in [Level::SCALAR, Level::detect()].into_iter().zip(&mut results) {
            bench::matmul(level, &matrix, &input, out);
        }
        same(&results[0], &results[1], "product", case, cols, rows);
    }
}

/// Equal as bits; what is no number need only be none.
fn same(want: &[f32], got: &[f32], what: &str, case: usize, width: usize, len: usize) {
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        let equal = want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan();
        assert!(
            equal,
            "{what} {case} of {width} by {len}: number {i} is {:#x}, not {:#x}",
            got.to_bits(),
            want.to_bits()
        );
    }
}
