//! NEON: four rows of four columns are one vector, which SDOT (where the CPU has it) multiplies with
//! four activations in one instruction; without it, products widen to 16 bits and are added in pairs.

use core::arch::aarch64::*;
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

/// Sums in progress of four rows: one vector with SDOT, else two whose pairs belong together.
#[derive(Clone, Copy)]
struct Dots<const SDOT: bool>(int32x4_t, int32x4_t);

impl<const SDOT: bool> Dots<SDOT> {
    #[inline]
    #[target_feature(enable = "neon")]
    fn zero() -> Self {
        Self(vdupq_n_s32(0), vdupq_n_s32(0))
    }

    /// Adds four rows' products with four activations (each row's four times the same in `x`).
    #[inline]
    #[target_feature(enable = "neon")]
    fn add(self, w: int8x16_t, x: int8x16_t) -> Self {
        if SDOT {
            let mut sum = self.0;
            // SAFETY: `SDOT` is true only where the level has proved the instruction.
            unsafe {
                core::arch::asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                    sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            Self(sum, self.1)
        } else {
            let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
            let high = vmull_high_s8(w, x);
            Self(vpadalq_s16(self.0, low), vpadalq_s16(self.1, high))
        }
    }

    /// The four rows' sums.
    #[inline]
    #[target_feature(enable = "neon")]
    fn total(self) -> int32x4_t {
        if SDOT { self.0 } else { vpaddq_s32(self.0, self.1) }
    }
}

/// The product of some rows with every vector; see [`super::matmul`]. `BITS` is 8 or 4.
///
/// # Safety
/// The CPU has the features; nobody else uses these places of `out`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn matmul_quantized<const BITS: usize, const SDOT: bool>(
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
            let mut sums = [vdupq_n_f32(0.0); TILE];
            if take == TILE {
                // SAFETY: the quad exists and all lengths hold (checked above).
                sums = unsafe { quad::<BITS, SDOT, TILE>(planes, row / QUAD, xs) };
            } else {
                // SAFETY: as above.
                [sums[0]] = unsafe { quad::<BITS, SDOT, 1>(planes, row / QUAD, [xs[0]]) };
            }
            for (t, sums) in sums.iter().take(take).enumerate() {
                let mut four = [0.0_f32; QUAD];
                // SAFETY: four floats.
                unsafe { vst1q_f32(four.as_mut_ptr(), *sums) };
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

/// Four activations, four times.
///
/// # Safety
/// Four bytes are there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn spread(x: *const i8) -> int8x16_t {
    // SAFETY: the caller's promise.
    vreinterpretq_s8_s32(vdupq_n_s32(unsafe { x.cast::<i32>().read_unaligned() }))
}

/// Four rows with `T` vectors.
///
/// # Safety
/// The quad exists, and vectors have as many quants, scales and sums as the planes call for.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn quad<const BITS: usize, const SDOT: bool, const T: usize>(
    planes: &Planes<'_>,
    quad: usize,
    xs: [Quantized<'_>; T],
) -> [float32x4_t; T] {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    let mut sums = [vdupq_n_f32(0.0); T];
    // Even columns of 8 bits are stored plus 128.
    let flip = vreinterpretq_u8_u16(vdupq_n_u16(0x80));
    // SAFETY: the caller's promise about lengths, here and for all pointers below.
    let weights = unsafe { planes.quants.as_ptr().add(quad * groups * group_bytes(BITS)) };
    for block in 0..blocks {
        let mut exact = [vdupq_n_s32(0); T];
        for group in block * GROUPS..((block + 1) * GROUPS).min(groups) {
            let mut dots = [Dots::<SDOT>::zero(); T];
            for part in 0..group_bytes(BITS) / 16 {
                // SAFETY: as above.
                let w = unsafe { vld1q_u8(weights.add(group * group_bytes(BITS) + part * 16)) };
                let w = if BITS == 8 { veorq_u8(w, flip) } else { w };
                for (dots, x) in dots.iter_mut().zip(&xs) {
                    // SAFETY: a group has 32 activations: four or eight for each part.
                    let x = unsafe { x.quants.as_ptr().add(group * GROUP + part * 32 / BITS) };
                    *dots = if BITS == 8 {
                        // SAFETY: as above.
                        dots.add(vreinterpretq_s8_u8(w), unsafe { spread(x) })
                    } else {
                        let low = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15)));
                        let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(w));
                        // SAFETY: as above.
                        let (even, odd) = unsafe { (spread(x), spread(x.add(4))) };
                        dots.add(low, even).add(high, odd)
                    };
                }
            }
            let at = (quad * groups + group) * QUAD;
            // SAFETY: four multipliers.
            let four = unsafe { planes.multipliers.as_ptr().add(at).cast::<u32>().read_unaligned() };
            let wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
            let multipliers = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
            for ((exact, dots), x) in exact.iter_mut().zip(dots).zip(&xs) {
                let mut total = dots.total();
                if BITS == 4 {
                    // Quants are stored plus 8.
                    // SAFETY: a sum for each group.
                    let sum = unsafe { *x.sums.get_unchecked(group) };
                    total = vaddq_s32(total, vdupq_n_s32(sum.wrapping_mul(-8)));
                }
                *exact = vmlaq_s32(*exact, total, multipliers);
            }
        }
        // SAFETY: four scales.
        let scales = unsafe { vld1_u16(planes.scales.as_ptr().add((quad * blocks + block) * QUAD)) };
        let scales = vreinterpretq_f32_u32(vshll_n_u16::<16>(scales));
        for ((sums, exact), x) in sums.iter_mut().zip(exact).zip(&xs) {
            // SAFETY: a scale for each block.
            let x_scale = vdupq_n_f32(unsafe { *x.scales.get_unchecked(block) });
            let term = vmulq_f32(vcvtq_f32_s32(exact), vmulq_f32(scales, x_scale));
            *sums = vaddq_f32(*sums, term);
        }
    }
    sums
}

/// [`Products::attend`] compiled for these instructions.
#[target_feature(enable = "neon")]
pub(super) fn attend_q8<const SDOT: bool>(
    queries: &[f32],
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    Neon::<SDOT>::attend(queries, head_dim, cache, len, scratch, out);
}

struct Neon<const SDOT: bool>;

impl<const SDOT: bool> Products for Neon<SDOT> {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        // SAFETY: `Neon` is used only by `attend_q8` above, whose level has proved the features.
        unsafe { key_dots::<SDOT>(keys, query, out) }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { mix(values, weights, out) }
    }
}

/// Keys are laid out as a matrix of 8-bit weights is, four positions interleaved.
#[inline]
#[target_feature(enable = "neon")]
fn key_dots<const SDOT: bool>(keys: &[i8], query: &[i8], out: &mut [f32]) {
    let quads = out.chunks_mut(QUAD).zip(keys.chunks_exact(QUAD * query.len()));
    for (out, keys) in quads {
        let mut dots = Dots::<SDOT>::zero();
        for (keys, query) in keys.as_chunks::<16>().0.iter().zip(query.as_chunks::<4>().0) {
            // SAFETY: sixteen bytes and four.
            let (w, x) = unsafe { (vld1q_s8(keys.as_ptr()), spread(query.as_ptr())) };
            dots = dots.add(w, x);
        }
        let mut four = [0_i32; QUAD];
        // SAFETY: four integers.
        unsafe { vst1q_s32(four.as_mut_ptr(), dots.total()) };
        for (out, dot) in out.iter_mut().zip(four) {
            *out = f32::from_bits(dot as u32);
        }
    }
}

/// Four numbers at a time, four positions each, in 16 bits.
#[inline]
#[target_feature(enable = "neon")]
fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
    let bytes = QUAD * out.len();
    for (part, out) in out.chunks_mut(4).enumerate() {
        let mut sums = [vdupq_n_s32(0); 4];
        let quads = values.chunks_exact(bytes).zip(weights.as_chunks::<QUAD>().0);
        for (values, weights) in quads {
            let mut v = [0_i8; 16];
            for (v, value) in v.iter_mut().zip(values.get(part * 16..).unwrap_or(&[])) {
                *v = *value;
            }
            // SAFETY: sixteen bytes, and four weights.
            let (v, w) = unsafe { (vld1q_s8(v.as_ptr()), vld1_s16(weights.as_ptr())) };
            let (low, high) = (vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v));
            sums[0] = vmlal_s16(sums[0], vget_low_s16(low), w);
            sums[1] = vmlal_s16(sums[1], vget_high_s16(low), w);
            sums[2] = vmlal_s16(sums[2], vget_low_s16(high), w);
            sums[3] = vmlal_s16(sums[3], vget_high_s16(high), w);
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = f32::from_bits(vaddvq_s32(sum) as u32);
        }
    }
}
