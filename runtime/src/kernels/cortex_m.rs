//! Cortex-M4, M7 (and M33 with the extension): SMLAD multiplies two pairs of 16 bits and adds both
//! products. SXTB16 makes such pairs of bytes 0 and 2 of a word, or of 1 and 3; of 4-bit weights a
//! mask does. Activations stay in registers while four rows go by.

use core::arch::asm;
use core::ops::Range;

use super::Activations;
use super::attention::Products;
use crate::format::{BLOCK, GROUP, QUAD};
use crate::quant::bf16_to_f32;
use crate::tensor::Planes;
use crate::workers::Disjoint;

/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;

/// Bytes of one group of a quad's quants.
const fn group_bytes(bits: usize) -> usize {
    QUAD * GROUP * bits / 8
}

/// `sum + a.low · b.low + a.high · b.high`, in signed 16-bit halves.
#[inline(always)]
fn smlad(a: u32, b: u32, sum: i32) -> i32 {
    let out;
    // SAFETY: plain arithmetic; this module is compiled only for targets that have it.
    unsafe {
        asm!("smlad {out}, {a}, {b}, {sum}", out = lateout(reg) out, a = in(reg) a, b = in(reg) b,
            sum = in(reg) sum, options(pure, nomem, nostack));
    }
    out
}

/// Bytes 0 and 2, sign-extended to 16 bits.
#[inline(always)]
fn even_bytes(word: u32) -> u32 {
    let out;
    // SAFETY: as in `smlad`.
    unsafe {
        asm!("sxtb16 {out}, {word}", out = lateout(reg) out, word = in(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Bytes 1 and 3, sign-extended to 16 bits.
#[inline(always)]
fn odd_bytes(word: u32) -> u32 {
    let out;
    // SAFETY: as in `smlad`.
    unsafe {
        asm!("sxtb16 {out}, {word}, ror #8", out = lateout(reg) out, word = in(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// The low halves of two words as a pair.
#[inline(always)]
fn low_halves(first: u32, second: u32) -> u32 {
    first & 0xFFFF | second << 16
}

/// The high halves of two words as a pair.
#[inline(always)]
fn high_halves(first: u32, second: u32) -> u32 {
    first >> 16 | second & 0xFFFF_0000
}

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
    let (groups, blocks, cols) = (planes.groups(), planes.blocks(), planes.padded_cols);
    let quads = planes.quants.len() / (groups * group_bytes(BITS)).max(1);
    let lengths_hold = planes.multipliers.len() >= quads * groups * QUAD
        && planes.scales.len() >= quads * blocks * QUAD
        && input.quants.len() >= input.n * cols
        && input.scales.len() >= input.n * blocks
        && input.sums.len() >= input.n * groups
        && input.quants.as_ptr().align_offset(4) == 0
        && planes.quants.as_ptr().align_offset(4) == 0;
    if !lengths_hold {
        return;
    }
    for row in (rows.start..rows.end.min(quads * QUAD)).step_by(QUAD) {
        let quad = row / QUAD;
        for i in 0..input.n {
            // SAFETY: this caller's own places.
            let out = unsafe { out.part(i * stride + row..i * stride + (row + QUAD).min(rows.end)) };
            // SAFETY: the planes and the vector are as long as their shapes say (checked above),
            // so every pointer here stays inside them.
            unsafe {
                let weights = planes.quants.as_ptr().add(quad * groups * group_bytes(BITS)).cast::<u32>();
                let multipliers = planes.multipliers.as_ptr().add(quad * groups * QUAD);
                let scales = planes.scales.as_ptr().add(quad * blocks * QUAD);
                let x = input.quants.as_ptr().add(i * cols).cast::<u32>();
                let sums = input.sums.as_ptr().add(i * groups);
                let mut totals = [0.0_f32; QUAD];
                for block in 0..blocks {
                    let mut exact = [0_i32; QUAD];
                    for group in block * GROUPS..((block + 1) * GROUPS).min(groups) {
                        let start = if BITS == 4 { -8 * *sums.add(group) } else { 0 };
                        let weights = weights.add(group * group_bytes(BITS) / 4);
                        let x = x.add(group * GROUP / 4);
                        let dots = if BITS == 4 { group_q4(weights, x, start) } else { group_q8(weights, x) };
                        let multipliers = multipliers.add(group * QUAD);
                        for (r, (exact, dot)) in exact.iter_mut().zip(dots).enumerate() {
                            *exact += dot * i32::from(*multipliers.add(r));
                        }
                    }
                    let x_scale = *input.scales.as_ptr().add(i * blocks + block);
                    for (r, (total, exact)) in totals.iter_mut().zip(exact).enumerate() {
                        *total += exact as f32 * (bf16_to_f32(*scales.add(block * QUAD + r)) * x_scale);
                    }
                }
                for (out, total) in out.iter_mut().zip(totals) {
                    *out = total;
                }
            }
        }
    }
}

/// Four rows of 32 columns of 8 bits.
///
/// # Safety
/// 32 words of weights and 8 of activations are there.
#[inline(always)]
unsafe fn group_q8(weights: *const u32, x: *const u32) -> [i32; QUAD] {
    let mut dots = [0; QUAD];
    for chunk in 0..GROUP / 4 {
        // SAFETY: the caller's promise.
        let x = unsafe { *x.add(chunk) };
        let (x_even, x_odd) = (even_bytes(x), odd_bytes(x));
        for (r, dot) in dots.iter_mut().enumerate() {
            // SAFETY: as above.
            let w = unsafe { *weights.add(chunk * QUAD + r) };
            *dot = smlad(odd_bytes(w), x_odd, smlad(even_bytes(w), x_even, *dot));
        }
    }
    dots
}

/// Four rows of 32 columns of 4 bits, which are stored plus 8: `start` takes that off.
///
/// # Safety
/// 16 words of weights and 8 of activations are there.
#[inline(always)]
unsafe fn group_q4(weights: *const u32, x: *const u32, start: i32) -> [i32; QUAD] {
    const NIBBLES: u32 = 0x000F_000F;
    let mut dots = [start; QUAD];
    for chunk in 0..GROUP / 8 {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe { (*x.add(2 * chunk), *x.add(2 * chunk + 1)) };
        let (low_even, low_odd) = (even_bytes(low), odd_bytes(low));
        let (high_even, high_odd) = (even_bytes(high), odd_bytes(high));
        for (r, dot) in dots.iter_mut().enumerate() {
            // SAFETY: as above.
            let w = unsafe { *weights.add(chunk * QUAD + r) };
            *dot = smlad(w & NIBBLES, low_even, *dot);
            *dot = smlad(w >> 8 & NIBBLES, low_odd, *dot);
            *dot = smlad(w >> 4 & NIBBLES, high_even, *dot);
            *dot = smlad(w >> 12 & NIBBLES, high_odd, *dot);
        }
    }
    dots
}

/// The integer products of attention.
pub(super) struct Dsp;

impl Products for Dsp {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        let quads = out.chunks_mut(QUAD).zip(keys.chunks_exact(QUAD * query.len()));
        for (out, keys) in quads {
            let mut dots = [0; QUAD];
            for (keys, query) in keys.as_chunks::<16>().0.iter().zip(query.as_chunks::<4>().0) {
                let x = word(query);
                let (x_even, x_odd) = (even_bytes(x), odd_bytes(x));
                for (dot, key) in dots.iter_mut().zip(keys.as_chunks::<4>().0) {
                    let w = word(key);
                    *dot = smlad(odd_bytes(w), x_odd, smlad(even_bytes(w), x_even, *dot));
                }
            }
            for (out, dot) in out.iter_mut().zip(dots) {
                *out = f32::from_bits(dot as u32);
            }
        }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        let bytes = QUAD * out.len();
        for (part, out) in out.chunks_mut(4).enumerate() {
            let mut sums = [0; 4];
            let quads = values.chunks_exact(bytes).zip(weights.as_chunks::<QUAD>().0);
            for (values, &[a, b, c, d]) in quads {
                // Bytes 0 and 2 of a word of values meet weights 0 and 2.
                let (first, second) = (half_words(a, b), half_words(c, d));
                let (w_even, w_odd) = (low_halves(first, second), high_halves(first, second));
                let values = values.get(part * 16..).unwrap_or(&[]).as_chunks::<4>().0;
                for (sum, value) in sums.iter_mut().zip(values) {
                    let v = word(value);
                    *sum = smlad(odd_bytes(v), w_odd, smlad(even_bytes(v), w_even, *sum));
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = f32::from_bits(sum as u32);
            }
        }
    }
}

/// Four bytes as they lie in memory.
#[inline(always)]
fn word(bytes: &[i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(|byte| byte as u8))
}

/// Two weights as they lie in memory.
#[inline(always)]
fn half_words(low: i16, high: i16) -> u32 {
    u32::from(low as u16) | u32::from(high as u16) << 16
}
