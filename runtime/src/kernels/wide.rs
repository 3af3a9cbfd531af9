//! The portable level: vectors of the `wide` crate, whatever the target has for them. Four rows of
//! four columns are sixteen 16-bit numbers, multiplied and added in pairs.

use core::ops::Range;

use ::wide::{i8x16, i16x16, i32x8};

use super::attention::Products;
use super::scalar;
use super::{Activations, Quantized};
use crate::format::{BLOCK, GROUP, QUAD};
use crate::quant::bf16_to_f32;
use crate::tensor::Planes;
use crate::workers::Disjoint;

/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;
/// What makes the bytes of 8-bit weights signed: even columns' are stored plus 128.
const FLIP: [i8; 16] = [-128, 0, -128, 0, -128, 0, -128, 0, -128, 0, -128, 0, -128, 0, -128, 0];

/// The product of some rows with every vector; see [`super::matmul`]. `BITS` is 8 or 4.
///
/// # Safety
/// Nobody else uses these places of `out`.
pub(super) unsafe fn matmul_quantized<const BITS: usize>(
    planes: &Planes<'_>,
    input: &Activations<'_>,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    for i in 0..input.n {
        let x = input.quantized(i, planes.padded_cols);
        // SAFETY: this caller's own places.
        let out = unsafe { out.part(i * stride + rows.start..i * stride + rows.end) };
        for (q, out) in out.chunks_mut(QUAD).enumerate() {
            for (out, sum) in out.iter_mut().zip(quad::<BITS>(planes, rows.start / QUAD + q, &x)) {
                *out = sum;
            }
        }
    }
}

/// Four activations, four times.
#[inline(always)]
fn spread(x: &[i8; 4]) -> i16x16 {
    let [a, b, c, d] = *x;
    i16x16::from_i8x16(i8x16::from([a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d]))
}

/// Adds up neighbouring lanes: four rows' sums.
#[inline(always)]
fn pairs(sums: i32x8) -> [i32; QUAD] {
    let s = sums.to_array();
    [s[0].wrapping_add(s[1]), s[2].wrapping_add(s[3]), s[4].wrapping_add(s[5]), s[6].wrapping_add(s[7])]
}

/// Four rows with one vector.
fn quad<const BITS: usize>(planes: &Planes<'_>, quad: usize, x: &Quantized<'_>) -> [f32; QUAD] {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    let bytes = groups * GROUP * QUAD * BITS / 8;
    let weights = planes.quants.get(quad * bytes..).unwrap_or(&[]).as_chunks::<16>().0;
    let multipliers = planes.multipliers.get(quad * groups * QUAD..).unwrap_or(&[]).as_chunks::<QUAD>().0;
    let scales = planes.scales.get(quad * blocks * QUAD..).unwrap_or(&[]).as_chunks::<QUAD>().0;
    let activations = x.quants.as_chunks::<4>().0;
    let mut sums = [0.0_f32; QUAD];
    let of_block = weights.chunks(GROUPS * BITS).zip(multipliers.chunks(GROUPS));
    let of_block = of_block.zip(activations.chunks(BLOCK / 4)).zip(x.sums.chunks(GROUPS));
    for ((((weights, multipliers), x), group_sums), (scales, x_scale)) in
        of_block.zip(scales.iter().zip(x.scales))
    {
        let mut exact = [0_i32; QUAD];
        let groups =
            weights.chunks_exact(BITS).zip(multipliers).zip(x.chunks_exact(GROUP / 4)).zip(group_sums);
        for (((weights, multipliers), x), &group_sum) in groups {
            let mut dots = i32x8::splat(0);
            if BITS == 8 {
                for (w, x) in weights.iter().zip(x) {
                    let w = i8x16::from(w.map(|byte| byte as i8)) ^ i8x16::from(FLIP);
                    let w = i16x16::from_i8x16(w);
                    dots += w.dot(spread(x));
                }
            } else {
                for (w, x) in weights.iter().zip(x.as_chunks::<2>().0) {
                    let w = w.map(i16::from);
                    let low = i16x16::from(w.map(|nibbles| nibbles & 15));
                    let high = i16x16::from(w.map(|nibbles| nibbles >> 4));
                    dots += low.dot(spread(&x[0])) + high.dot(spread(&x[1]));
                }
            }
            // Four bits are stored plus 8.
            let off = if BITS == 4 { group_sum.wrapping_mul(-8) } else { 0 };
            for ((exact, dot), &multiplier) in exact.iter_mut().zip(pairs(dots)).zip(multipliers) {
                *exact = exact.wrapping_add(dot.wrapping_add(off).wrapping_mul(i32::from(multiplier)));
            }
        }
        for ((sum, exact), &scale) in sums.iter_mut().zip(exact).zip(scales) {
            *sum += exact as f32 * (bf16_to_f32(scale) * x_scale);
        }
    }
    sums
}

/// The integer products of attention.
pub(super) struct Wide;

impl Products for Wide {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        let quads = out.chunks_mut(QUAD).zip(keys.chunks_exact(QUAD * query.len()));
        for (out, keys) in quads {
            let mut dots = i32x8::splat(0);
            for (keys, query) in keys.as_chunks::<16>().0.iter().zip(query.as_chunks::<4>().0) {
                dots += i16x16::from_i8x16(i8x16::from(*keys)).dot(spread(query));
            }
            for (out, dot) in out.iter_mut().zip(pairs(dots)) {
                *out = f32::from_bits(dot as u32);
            }
        }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        scalar::Scalar::mix(values, weights, out);
    }
}
