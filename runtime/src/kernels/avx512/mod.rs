//! AVX-512 with VNNI: one instruction multiplies 64 pairs of bytes. It wants one side unsigned, so
//! weights are taken plus 128 (Q8) or as they are stored, plus 8 (Q4), and 128 or 8 times the sum of
//! the activations is taken off again. All of it is exact, so the bits are the definition's.

mod attention;
mod decode;
mod prefill;
mod prompt;
mod store;

use core::arch::x86_64::*;
use core::ops::Range;

use super::{Activations, Quantized};
use crate::format::{BLOCK, GROUP, QUAD};
use crate::tensor::Planes;
use crate::workers::Disjoint;

pub(super) use attention::{attend_q8, attend_tokens_q8};
pub(super) use store::store_quad;

/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;
/// Rows that prefill takes at once: one lane each.
const SLAB: usize = 16;
/// From so many vectors on, weights are first put in the order that the tile wants.
const TILE_FROM: usize = 3;

/// Bytes of one group of a quad's quants.
const fn group_bytes(bits: usize) -> usize {
    QUAD * GROUP * bits / 8
}

/// The product of some rows with every vector; see [`super::matmul`]. `BITS` is 8 or 4.
///
/// # Safety
/// The CPU has the features; nobody else uses these places of `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn matmul_quantized<const BITS: usize>(
    planes: &Planes<'_>,
    input: &Activations<'_>,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    let Some(weights) = Weights::<BITS>::new(planes) else { return };
    let rows = rows.start..rows.end.min(weights.quads * QUAD);
    let whole = rows.start + rows.len() / SLAB * SLAB;
    let tiled = if input.n >= TILE_FROM { whole } else { rows.start };
    let mut row = rows.start;
    // SAFETY: these rows lie inside those that this caller may write.
    unsafe {
        while row + 2 * SLAB <= tiled {
            weights.slabs::<2>(row, input, out, stride);
            row += 2 * SLAB;
        }
        if row < tiled {
            weights.slabs::<1>(row, input, out, stride);
        }
    }
    for i in 0..input.n {
        let x = input.quantized(i, planes.padded_cols);
        if fits(&x, planes.padded_cols) {
            // SAFETY: this caller's own places; the rows' quads are below `weights.quads`.
            unsafe { weights.decode(tiled / QUAD, &x, out.part(i * stride + tiled..i * stride + rows.end)) };
        }
    }
}

/// Every slice has the length that the kernels below read.
fn fits(x: &Quantized<'_>, padded_cols: usize) -> bool {
    x.quants.len() == padded_cols
        && x.scales.len() == padded_cols.div_ceil(BLOCK)
        && x.sums.len() == padded_cols / GROUP
}

/// A quantized matrix whose planes are known to be as long as its shape says.
struct Weights<'a, const BITS: usize> {
    planes: &'a Planes<'a>,
    groups: usize,
    blocks: usize,
    quads: usize,
}

impl<'a, const BITS: usize> Weights<'a, BITS> {
    fn new(planes: &'a Planes<'a>) -> Option<Self> {
        let (groups, blocks) = (planes.groups(), planes.blocks());
        let quads = planes.quants.len() / (groups * group_bytes(BITS)).max(1);
        let whole = planes.padded_cols.is_multiple_of(GROUP)
            && planes.multipliers.len() >= quads * groups * QUAD
            && planes.scales.len() >= quads * blocks * QUAD;
        whole.then_some(Self { planes, groups, blocks, quads })
    }

    /// The scales of four rows in one block.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn scales(&self, quad: usize, block: usize) -> __m128i {
        // SAFETY: quad < self.quads and block < self.blocks, so four u16 are there.
        unsafe {
            _mm_loadl_epi64(self.planes.scales.as_ptr().add((quad * self.blocks + block) * QUAD).cast())
        }
    }

    /// The scales of sixteen rows in one block.
    ///
    /// # Safety
    /// Quads `quad..quad + 4` and the block exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn slab_scales(&self, quad: usize, block: usize) -> __m512 {
        // SAFETY: as promised.
        let (low, high) = unsafe {
            (
                _mm_unpacklo_epi64(self.scales(quad, block), self.scales(quad + 1, block)),
                _mm_unpacklo_epi64(self.scales(quad + 2, block), self.scales(quad + 3, block)),
            )
        };
        widen_scales(_mm256_set_m128i(high, low))
    }
}

/// bf16 as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen_scales(scales: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(scales)))
}

/// Transposes four by four lanes of 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_lanes(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    let ab_low = _mm512_shuffle_i32x4::<0x44>(a, b);
    let ab_high = _mm512_shuffle_i32x4::<0xEE>(a, b);
    let cd_low = _mm512_shuffle_i32x4::<0x44>(c, d);
    let cd_high = _mm512_shuffle_i32x4::<0xEE>(c, d);
    [
        _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0xDD>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xDD>(ab_high, cd_high),
    ]
}

/// Adds up the four 128-bit lanes of each vector: the sums of `a` in lane 0, of `b` in lane 1, …
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_chunks(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    let [w, x, y, z] = transpose_lanes(a, b, c, d);
    _mm512_add_epi32(_mm512_add_epi32(w, x), _mm512_add_epi32(y, z))
}
