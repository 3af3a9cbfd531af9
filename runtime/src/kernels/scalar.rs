//! The definition of every product, in plain code. `docs/numerics.md` says the same in words.

use crate::format::{BLOCK, GROUP, QUAD};
use crate::math;
use crate::quant::{bf16_to_f32, f16_to_f32};
use crate::tensor::Planes;

use super::Quantized;
use super::attention::Products;

/// `out[r] = weights[first_row + r] · x`, the product of element i in running sum i mod 8.
#[inline(always)]
pub fn matvec_f32(weights: &[f32], x: &[f32], first_row: usize, out: &mut [f32]) {
    for (r, out) in out.iter_mut().enumerate() {
        let begin = (first_row + r) * x.len();
        *out = math::dot(weights.get(begin..begin + x.len()).unwrap_or(&[]), x);
    }
}

/// The same with weights in IEEE binary16, each made f32 (exactly) before it is multiplied.
#[inline(always)]
pub fn matvec_f16(weights: &[u16], x: &[f32], first_row: usize, out: &mut [f32]) {
    for (r, out) in out.iter_mut().enumerate() {
        let begin = (first_row + r) * x.len();
        let row = weights.get(begin..begin + x.len()).unwrap_or(&[]);
        let mut lanes = [0.0; 8];
        let (row_chunks, row_rest) = row.as_chunks::<8>();
        let (x_chunks, x_rest) = x.as_chunks::<8>();
        for (row, x) in row_chunks.iter().zip(x_chunks) {
            for ((lane, &w), x) in lanes.iter_mut().zip(row).zip(x) {
                *lane += f16_to_f32(w) * x;
            }
        }
        for ((lane, &w), x) in lanes.iter_mut().zip(row_rest).zip(x_rest) {
            *lane += f16_to_f32(w) * x;
        }
        *out = math::sum_lanes(lanes);
    }
}

/// One word of a Q8 plane: four columns of one row, the even ones plus 128.
#[inline(always)]
fn dot_chunk_q8(weights: &[u8; 4], x: &[i8; 4]) -> i32 {
    // Written out: as a loop, it would be one where code has to be small.
    let ([a, b, c, d], [x0, x1, x2, x3]) = (*weights, *x);
    let even = i32::from(a) * i32::from(x0) + i32::from(c) * i32::from(x2);
    even + i32::from(b as i8) * i32::from(x1) + i32::from(d as i8) * i32::from(x3)
}

/// What a group's sums start from so that [`dot_chunk_q8`] makes them right.
#[inline(always)]
fn start_q8(x: &[i8; GROUP], _: i32) -> i32 {
    let mut even = 0;
    for [a, _, b, _, c, _, d, _] in x.as_chunks::<8>().0 {
        even += i32::from(*a) + i32::from(*b) + i32::from(*c) + i32::from(*d);
    }
    -128 * even
}

/// The same for [`dot_chunk_q4`].
#[inline(always)]
fn start_q4(_: &[i8; GROUP], sum: i32) -> i32 {
    -8 * sum
}

/// One word of a Q4 plane: eight columns of one row, four in the low nibbles, four in the high, each
/// plus 8.
#[inline(always)]
fn dot_chunk_q4(weights: &[u8; 4], x: &[i8; 8]) -> i32 {
    let (low, high) = x.split_at(4);
    let mut sum = 0;
    for ((w, low), high) in weights.iter().zip(low).zip(high) {
        sum += i32::from(w & 15) * i32::from(*low) + i32::from(w >> 4) * i32::from(*high);
    }
    sum
}

/// A product with a quantized matrix. For each row and each block of 256 columns:
/// an exact integer, Σ over groups of multiplier · Σ over columns of quant · x; as f32 (rounded
/// to nearest even), times (row's scale · x's scale); added to the row's sum in column order.
#[inline(always)]
fn matvec_quantized<const COLS: usize>(
    planes: &Planes<'_>,
    x: &Quantized<'_>,
    first_row: usize,
    out: &mut [f32],
    start: impl Fn(&[i8; GROUP], i32) -> i32,
    dot_chunk: impl Fn(&[u8; 4], &[i8; COLS]) -> i32,
) {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    // A group of four rows takes this many bytes: COLS columns of a row are one 4-byte word.
    let group_bytes = GROUP / COLS * 4 * QUAD;
    for (q, out) in out.chunks_mut(QUAD).enumerate() {
        let quad = first_row / QUAD + q;
        let quants = planes.quants.get(quad * groups * group_bytes..).unwrap_or(&[]);
        let multipliers = planes.multipliers.get(quad * groups * QUAD..).unwrap_or(&[]);
        let scales = planes.scales.get(quad * blocks * QUAD..).unwrap_or(&[]);
        let mut chunks = quants.as_chunks::<{ 4 * QUAD }>().0.iter();
        let mut multipliers = multipliers.as_chunks::<QUAD>().0.iter();
        let mut sums = [0.0_f32; QUAD];
        let mut group_sums = x.sums.iter();
        for ((x, x_scale), scales) in x.quants.chunks(BLOCK).zip(x.scales).zip(scales.as_chunks::<QUAD>().0) {
            let mut exact = [0_i32; QUAD];
            let groups = x.as_chunks::<GROUP>().0.iter().zip(&mut group_sums).zip(&mut multipliers);
            for ((x, sum), multipliers) in groups {
                let mut dots = [start(x, *sum); QUAD];
                for (x, words) in x.as_chunks::<COLS>().0.iter().zip(&mut chunks) {
                    for (dot, word) in dots.iter_mut().zip(words.as_chunks::<4>().0) {
                        *dot += dot_chunk(word, x);
                    }
                }
                for ((exact, dot), multiplier) in exact.iter_mut().zip(dots).zip(multipliers) {
                    *exact += dot * i32::from(*multiplier);
                }
            }
            for ((sum, exact), &scale) in sums.iter_mut().zip(exact).zip(scales) {
                *sum += exact as f32 * (bf16_to_f32(scale) * x_scale);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum;
        }
    }
}

/// [`matvec_f32`] for 8-bit weights and activations; `first_row` is a multiple of four.
pub fn matvec_q8(planes: &Planes<'_>, x: &Quantized<'_>, first_row: usize, out: &mut [f32]) {
    matvec_quantized::<4>(planes, x, first_row, out, start_q8, dot_chunk_q8);
}

/// [`matvec_f32`] for 4-bit weights and 8-bit activations; `first_row` is a multiple of four.
pub fn matvec_q4(planes: &Planes<'_>, x: &Quantized<'_>, first_row: usize, out: &mut [f32]) {
    matvec_quantized::<8>(planes, x, first_row, out, start_q4, dot_chunk_q4);
}

/// The definition's integer products of attention.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Products for Scalar {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        let quads = out.chunks_mut(QUAD).zip(keys.chunks_exact((QUAD * query.len()).max(1)));
        for (out, keys) in quads {
            let mut dots = [0_i32; QUAD];
            let chunks = keys.as_chunks::<{ 4 * QUAD }>().0.iter().zip(query.as_chunks::<4>().0);
            for (keys, query) in chunks {
                for (dot, keys) in dots.iter_mut().zip(keys.as_chunks::<4>().0) {
                    for (k, q) in keys.iter().zip(query) {
                        *dot += i32::from(*k) * i32::from(*q);
                    }
                }
            }
            for (out, dot) in out.iter_mut().zip(dots) {
                *out = f32::from_bits(dot as u32);
            }
        }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        out.fill(0.0);
        let quads = values.chunks_exact((QUAD * out.len()).max(1)).zip(weights.as_chunks::<QUAD>().0);
        for (values, weights) in quads {
            for (out, values) in out.iter_mut().zip(values.as_chunks::<QUAD>().0) {
                let mut sum = out.to_bits() as i32;
                for (v, w) in values.iter().zip(weights) {
                    sum = sum.wrapping_add(i32::from(*v) * i32::from(*w));
                }
                *out = f32::from_bits(sum as u32);
            }
        }
    }
}
