//! AVX2: bytes are multiplied in pairs into 16 bits by an instruction that wants one side unsigned
//! and saturates. So Q8 weights give their magnitude and the activation takes the weight's sign:
//! at most 2 · 128 · 127, which fits. Q4 weights are unsigned as they are stored.

use core::arch::x86_64::*;
use core::ops::Range;

use super::attention::{HeadCacheQ8, Products, Scratch};
use super::{Activations, Quantized};
use crate::format::{BLOCK, GROUP, QUAD};
use crate::tensor::Planes;
use crate::workers::Disjoint;

/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;
/// Vectors that share one reading of the weights.
const TILE: usize = 4;

/// Bytes of one group of a quad's quants.
const fn group_bytes(bits: usize) -> usize {
    QUAD * GROUP * bits / 8
}

/// The product of some rows with every vector; see [`super::matmul`]. `BITS` is 8 or 4.
///
/// # Safety
/// The CPU has AVX2; nobody else uses these places of `out`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn matmul_quantized<const BITS: usize>(
    planes: &Planes<'_>,
    input: &Activations<'_>,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    let quads = planes.quants.len() / (groups * group_bytes(BITS)).max(1);
    let lengths_hold = planes.multipliers.len() >= quads * groups * QUAD
        && planes.scales.len() >= quads * blocks * QUAD
        && input.quants.len() >= input.n * planes.padded_cols
        && input.scales.len() >= input.n * blocks
        && input.sums.len() >= input.n * groups;
    if !lengths_hold {
        return;
    }
    for row in (rows.start..rows.end.min(quads * QUAD)).step_by(QUAD) {
        let mut i = 0;
        while i < input.n {
            let take = if i + TILE <= input.n { TILE } else { 1 };
            let xs: [Quantized<'_>; TILE] =
                core::array::from_fn(|t| input.quantized((i + t).min(input.n - 1), planes.padded_cols));
            let mut sums = [_mm_setzero_ps(); TILE];
            if take == TILE {
                // SAFETY: the quad exists and all lengths hold (checked above).
                sums = unsafe { quad::<BITS, TILE>(planes, row / QUAD, xs) };
            } else {
                // SAFETY: as above.
                [sums[0]] = unsafe { quad::<BITS, 1>(planes, row / QUAD, [xs[0]]) };
            }
            for (t, sums) in sums.iter().take(take).enumerate() {
                let mut four = [0.0_f32; QUAD];
                // SAFETY: four floats.
                unsafe { _mm_storeu_ps(four.as_mut_ptr(), *sums) };
                let begin = (i + t) * stride + row;
                // SAFETY: this caller's own places.
                let out = unsafe { out.part(begin..begin + (rows.end - row).min(QUAD)) };
                for (out, sum) in out.iter_mut().zip(four) {
                    *out = sum;
                }
            }
            i += take;
        }
    }
}

/// Four rows with `T` vectors.
///
/// # Safety
/// The quad exists, and vectors have as many quants, scales and sums as the planes call for.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn quad<const BITS: usize, const T: usize>(
    planes: &Planes<'_>,
    quad: usize,
    xs: [Quantized<'_>; T],
) -> [__m128; T] {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    let ones = _mm256_set1_epi16(1);
    let nibble = _mm256_set1_epi8(15);
    // Even columns of 8 bits are stored plus 128.
    let flip = _mm256_set1_epi16(0x80);
    // The two dwords of eight columns, each for the four rows of its chunk.
    let spread = _mm256_set_epi32(1, 1, 1, 1, 0, 0, 0, 0);
    let spread_even = _mm256_set_epi32(2, 2, 2, 2, 0, 0, 0, 0);
    let spread_odd = _mm256_set_epi32(3, 3, 3, 3, 1, 1, 1, 1);
    let mut sums = [_mm_setzero_ps(); T];
    // SAFETY: the caller's promise about lengths, here and for all pointers below.
    let weights = unsafe { planes.quants.as_ptr().add(quad * groups * group_bytes(BITS)) };
    for block in 0..blocks {
        let mut exact = [_mm256_setzero_si256(); T];
        for group in block * GROUPS..((block + 1) * GROUPS).min(groups) {
            let mut dots = [_mm256_setzero_si256(); T];
            for part in 0..group_bytes(BITS) / 32 {
                // SAFETY: as above.
                let w =
                    unsafe { _mm256_loadu_si256(weights.add(group * group_bytes(BITS) + part * 32).cast()) };
                let w = if BITS == 8 { _mm256_xor_si256(w, flip) } else { w };
                for (dots, x) in dots.iter_mut().zip(&xs) {
                    let pairs = if BITS == 8 {
                        // SAFETY: eight activations.
                        let x = unsafe {
                            _mm_loadl_epi64(x.quants.as_ptr().add(group * GROUP + part * 8).cast())
                        };
                        let x = _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(x), spread);
                        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                    } else {
                        // SAFETY: sixteen activations.
                        let x = unsafe {
                            _mm_loadu_si128(x.quants.as_ptr().add(group * GROUP + part * 16).cast())
                        };
                        let x = _mm256_castsi128_si256(x);
                        let low = _mm256_and_si256(w, nibble);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(w), nibble);
                        let even = _mm256_maddubs_epi16(low, _mm256_permutevar8x32_epi32(x, spread_even));
                        let odd = _mm256_maddubs_epi16(high, _mm256_permutevar8x32_epi32(x, spread_odd));
                        _mm256_add_epi16(even, odd)
                    };
                    *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(pairs, ones));
                }
            }
            let at = (quad * groups + group) * QUAD;
            // SAFETY: four multipliers.
            let four = unsafe { planes.multipliers.as_ptr().add(at).cast::<i32>().read_unaligned() };
            let multipliers = _mm256_cvtepu8_epi32(_mm_set1_epi32(four));
            for ((exact, dots), x) in exact.iter_mut().zip(dots).zip(&xs) {
                let mut dots = dots;
                if BITS == 4 {
                    // Stored plus 8; taken off in the lanes of one chunk only.
                    // SAFETY: a sum for each group.
                    let sum = unsafe { *x.sums.get_unchecked(group) };
                    let off = _mm256_set_m128i(_mm_setzero_si128(), _mm_set1_epi32(sum.wrapping_mul(-8)));
                    dots = _mm256_add_epi32(dots, off);
                }
                *exact = _mm256_add_epi32(*exact, _mm256_mullo_epi32(dots, multipliers));
            }
        }
        // SAFETY: four scales.
        let scales =
            unsafe { _mm_loadl_epi64(planes.scales.as_ptr().add((quad * blocks + block) * QUAD).cast()) };
        let scales = _mm_castsi128_ps(_mm_slli_epi32::<16>(_mm_cvtepu16_epi32(scales)));
        for ((sums, exact), x) in sums.iter_mut().zip(exact).zip(&xs) {
            let total = _mm_add_epi32(_mm256_castsi256_si128(exact), _mm256_extracti128_si256::<1>(exact));
            // SAFETY: a scale for each block.
            let x_scale = _mm_set1_ps(unsafe { *x.scales.get_unchecked(block) });
            *sums = _mm_add_ps(*sums, _mm_mul_ps(_mm_cvtepi32_ps(total), _mm_mul_ps(scales, x_scale)));
        }
    }
    sums
}

/// [`Products::attend`] compiled for these instructions.
#[target_feature(enable = "avx2")]
pub(super) fn attend_q8(
    queries: &[f32],
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    Avx2::attend(queries, head_dim, cache, len, scratch, out);
}

struct Avx2;

impl Products for Avx2 {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        // SAFETY: `Avx2` is used only by `attend_q8` above, which has the features.
        unsafe { key_dots(keys, query, out) }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { mix(values, weights, out) }
    }
}

/// Keys are laid out as a matrix of 8-bit weights is, four positions interleaved; they are never −128.
#[inline]
#[target_feature(enable = "avx2")]
fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
    let ones = _mm_set1_epi16(1);
    let quads = out.chunks_mut(QUAD).zip(keys.chunks_exact(QUAD * query.len()));
    for (out, keys) in quads {
        let mut dots = _mm_setzero_si128();
        for (keys, query) in keys.as_chunks::<16>().0.iter().zip(query.as_chunks::<4>().0) {
            // SAFETY: sixteen bytes.
            let w = unsafe { _mm_loadu_si128(keys.as_ptr().cast()) };
            let x = _mm_set1_epi32(i32::from_le_bytes(query.map(|q| q as u8)));
            let pairs = _mm_maddubs_epi16(_mm_abs_epi8(w), _mm_sign_epi8(x, w));
            dots = _mm_add_epi32(dots, _mm_madd_epi16(pairs, ones));
        }
        let mut four = [0.0_f32; QUAD];
        // SAFETY: four floats.
        unsafe { _mm_storeu_ps(four.as_mut_ptr(), _mm_castsi128_ps(dots)) };
        for (out, dot) in out.iter_mut().zip(four) {
            *out = dot;
        }
    }
}

/// Four positions of four numbers at a time, in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
    let bytes = QUAD * out.len();
    for (part, out) in out.chunks_mut(4).enumerate() {
        let mut sums = _mm256_setzero_si256();
        let quads = values.chunks_exact(bytes).zip(weights.as_chunks::<QUAD>().0);
        for (values, weights) in quads {
            let mut v = [0_i8; 16];
            for (v, value) in v.iter_mut().zip(values.get(part * 16..).unwrap_or(&[])) {
                *v = *value;
            }
            // SAFETY: sixteen bytes, and eight.
            let (v, w) = unsafe {
                (_mm_loadu_si128(v.as_ptr().cast()), weights.as_ptr().cast::<i64>().read_unaligned())
            };
            let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(v), _mm256_set1_epi64x(w));
            sums = _mm256_add_epi32(sums, products);
        }
        let mut lanes = [0_i32; 8];
        // SAFETY: eight integers.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums) };
        for (out, pair) in out.iter_mut().zip(lanes.as_chunks::<2>().0) {
            *out = f32::from_bits(pair[0].wrapping_add(pair[1]) as u32);
        }
    }
}
