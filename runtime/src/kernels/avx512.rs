//! AVX-512 with VNNI: one instruction multiplies 64 pairs of bytes. It wants one side unsigned, so
//! weights are taken plus 128 (Q8) or as they are stored, plus 8 (Q4), and 128 or 8 times the sum of
//! the activations is taken off again. All of it is exact, so the bits are the definition's.

use core::arch::x86_64::*;
use core::ops::Range;

use super::attention::{self, HeadCacheQ8, Products, Scratch};
use super::{Activations, Quantized};
use crate::format::{BLOCK, GROUP, QUAD};
use crate::tensor::Planes;
use crate::workers::Disjoint;

/// Groups in a block.
const GROUPS: usize = BLOCK / GROUP;
/// Rows that prefill takes at once: one lane each.
const SLAB: usize = 16;
/// From so many vectors on, weights are first put in the order that the tile wants.
const TILE_FROM: usize = 3;
/// Blocks that a tile takes at once: what it needs of the weights is 16 KB then, half of the first cache.
const TILE_BLOCKS: usize = 2;
const TILE_GROUPS: usize = TILE_BLOCKS * GROUPS;
/// Blocks whose exact sums are kept before they are added up: up to 4096 columns.
const KEPT: usize = 16;
/// How many bytes ahead of their use weights are asked for.
const AHEAD: usize = 2048;

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
        if !fits(&x, planes.padded_cols) {
            continue;
        }
        // SAFETY: this caller's own places, one part at a time.
        let out = unsafe { out.part(i * stride + tiled..i * stride + rows.end) };
        let (slabs, rest) = out.split_at_mut(whole.saturating_sub(tiled).min(out.len()));
        for (s, out) in slabs.chunks_exact_mut(SLAB).enumerate() {
            // SAFETY: features as here; quads below `weights.quads`, activations of full length;
            // `out` is sixteen floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), weights.sixteen(tiled / QUAD + s * 4, &x)) };
        }
        for (q, out) in rest.chunks_mut(QUAD).enumerate() {
            // SAFETY: as above; the mask covers only the floats that there are.
            unsafe {
                let sums = weights.four(whole.max(tiled) / QUAD + q, &x);
                _mm512_mask_storeu_ps(out.as_mut_ptr(), (1 << out.len()) - 1, sums);
            }
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

    /// The products of four quads of rows with one vector.
    ///
    /// Quads are read one after the other, so that memory sees one stream (side by side they came
    /// half as fast from DRAM); what will be one vector of sums is kept until all four have it.
    ///
    /// # Safety
    /// `first + 4` is at most `self.quads`; `x` [`fits`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn sixteen(&self, first: usize, x: &Quantized<'_>) -> __m512 {
        let mut sums = _mm512_setzero_ps();
        let mut exact = [[_mm512_setzero_si512(); KEPT]; 4];
        let mut begin = 0;
        while begin < self.blocks {
            let blocks = (self.blocks - begin).min(KEPT);
            let [a, b, c, d] = &mut exact;
            // SAFETY: the four quads and these blocks exist.
            unsafe {
                self.dots(first, begin, blocks, x, a);
                self.dots(first + 1, begin, blocks, x, b);
                self.dots(first + 2, begin, blocks, x, c);
                self.dots(first + 3, begin, blocks, x, d);
            }
            for (i, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate().take(blocks) {
                let total = sum_chunks(*a, *b, *c, *d);
                // SAFETY: as above, and vectors have a scale for each block.
                let (scales, x_scale) =
                    unsafe { (self.slab_scales(first, begin + i), *x.scales.get_unchecked(begin + i)) };
                let factor = _mm512_mul_ps(scales, _mm512_set1_ps(x_scale));
                sums = _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(total), factor));
            }
            begin += blocks;
        }
        sums
    }

    /// The products of one quad of rows with one vector: four sums in the low lanes.
    ///
    /// # Safety
    /// `quad` is below `self.quads`; `x` [`fits`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn four(&self, quad: usize, x: &Quantized<'_>) -> __m512 {
        let mut sums = _mm512_setzero_ps();
        let mut exact = [_mm512_setzero_si512(); KEPT];
        let zero = _mm512_setzero_si512();
        for block in 0..self.blocks {
            // SAFETY: the quad and the block exist; vectors have a scale for each block.
            let (scales, x_scale) = unsafe {
                self.dots(quad, block, 1, x, &mut exact);
                (self.scales(quad, block), *x.scales.get_unchecked(block))
            };
            let scales = widen_scales(_mm256_castsi128_si256(scales));
            let total = sum_chunks(exact[0], zero, zero, zero);
            let factor = _mm512_mul_ps(scales, _mm512_set1_ps(x_scale));
            sums = _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(total), factor));
        }
        sums
    }

    /// The exact sums of one quad in some blocks, one vector a block: in lane 4c + r
    /// what chunk c of every sixteen (or, with 4 bits, 32) columns gives to row r.
    ///
    /// # Safety
    /// The quad and blocks `begin..begin + blocks` exist; `x` [`fits`];
    /// `blocks` is at most [`KEPT`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn dots(
        &self,
        quad: usize,
        begin: usize,
        blocks: usize,
        x: &Quantized<'_>,
        out: &mut [__m512i; KEPT],
    ) {
        // Lane i of four dwords of x goes to the four rows of chunk i.
        let own = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        let spread_even = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
        let spread_odd = _mm512_set_epi32(7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3, 1, 1, 1, 1);
        let flip = _mm512_set1_epi8(-128);
        let nibble = _mm512_set1_epi8(15);
        let bytes = self.groups * group_bytes(BITS);
        // SAFETY: the quad and blocks exist.
        let (mut weights, mut xs, multipliers) = unsafe {
            (
                self.planes.quants.as_ptr().add(quad * bytes + begin * GROUPS * group_bytes(BITS)),
                x.quants.as_ptr().add(begin * BLOCK),
                self.planes.multipliers.as_ptr().add(quad * self.groups * QUAD),
            )
        };
        for (i, out) in out.iter_mut().enumerate().take(blocks) {
            let mut exact = _mm512_setzero_si512();
            let mut shifted = _mm512_setzero_si512();
            let mut group = (begin + i) * GROUPS;
            let end = (group + GROUPS).min(self.groups);
            while group < end {
                // Multipliers of up to four groups: lane i of 128 bits is group i's.
                let n = (end - group).min(4);
                let mask = ((1_u32 << (4 * n)) - 1) as u16;
                // SAFETY: the mask covers only the sums that there are.
                let group_sums = unsafe { _mm_maskz_loadu_epi32((1 << n) - 1, x.sums.as_ptr().add(group)) };
                let group_sums = _mm512_castps_si512(_mm512_permutevar_ps(
                    _mm512_castsi512_ps(_mm512_broadcast_i32x4(group_sums)),
                    own,
                ));
                // SAFETY: the mask covers only the multipliers that there are.
                let factors = unsafe { _mm_maskz_loadu_epi8(mask, multipliers.add(group * QUAD).cast()) };
                let factors = _mm512_cvtepu8_epi32(factors);
                shifted = _mm512_add_epi32(shifted, _mm512_mullo_epi32(factors, group_sums));
                macro_rules! group {
                    ($lane:literal) => {
                        let (x0, x1) = if BITS == 8 {
                            // SAFETY: 32 activations of this group are there.
                            let low = unsafe { _mm_loadu_si128(xs.cast()) };
                            // SAFETY: as above.
                            let high = unsafe { _mm_loadu_si128(xs.add(16).cast()) };
                            let spread = |x| {
                                let x = _mm512_castsi512_ps(_mm512_broadcast_i32x4(x));
                                _mm512_castps_si512(_mm512_permutevar_ps(x, own))
                            };
                            (spread(low), spread(high))
                        } else {
                            // SAFETY: as above.
                            let x = _mm512_castsi256_si512(unsafe { _mm256_loadu_si256(xs.cast()) });
                            (
                                _mm512_permutexvar_epi32(spread_even, x),
                                _mm512_permutexvar_epi32(spread_odd, x),
                            )
                        };
                        // SAFETY: 64 bytes of the group are there in either width; a prefetch reads nothing.
                        let w0 = unsafe {
                            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
                            _mm512_loadu_si512(weights.cast())
                        };
                        let zero = _mm512_setzero_si512();
                        let dots = if BITS == 8 {
                            // SAFETY: a group of four rows of 8 bits is 128 bytes.
                            let w1 = unsafe {
                                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 64).cast());
                                _mm512_loadu_si512(weights.add(64).cast())
                            };
                            let dots = _mm512_dpbusd_epi32(zero, _mm512_xor_si512(w0, flip), x0);
                            _mm512_dpbusd_epi32(dots, _mm512_xor_si512(w1, flip), x1)
                        } else {
                            let low = _mm512_and_si512(w0, nibble);
                            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(w0), nibble);
                            _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, low, x0), high, x1)
                        };
                        let factor = _mm512_shuffle_i32x4::<{ $lane * 0x55 }>(factors, factors);
                        exact = _mm512_add_epi32(exact, _mm512_mullo_epi32(dots, factor));
                        // SAFETY: on to the next group; at most one past the last.
                        unsafe {
                            weights = weights.add(group_bytes(BITS));
                            xs = xs.add(GROUP);
                        }
                    };
                }
                group!(0);
                if n > 1 {
                    group!(1);
                }
                if n > 2 {
                    group!(2);
                }
                if n > 3 {
                    group!(3);
                }
                group += n;
            }
            // What the weights were shifted by, times what it was multiplied with.
            let shifted =
                if BITS == 8 { _mm512_slli_epi32::<7>(shifted) } else { _mm512_slli_epi32::<3>(shifted) };
            *out = _mm512_sub_epi32(exact, shifted);
        }
    }

    /// `S` times sixteen rows with every vector.
    ///
    /// # Safety
    /// Rows `first..first + 16 · S` exist, and their places in `out` are the caller's.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn slabs<const S: usize>(
        &self,
        first: usize,
        input: &Activations<'_>,
        out: &Disjoint<'_, f32>,
        stride: usize,
    ) {
        let cols = self.planes.padded_cols;
        let n = input.n;
        if input.quants.len() < n * cols
            || input.scales.len() < n * self.blocks
            || input.sums.len() < n * self.groups
        {
            return;
        }
        let quad = first / QUAD;
        let zero = _mm512_setzero_si512();
        let mut tile = Tile {
            columns: [[zero; S]; TILE_GROUPS * 8],
            multipliers: [[zero; S]; TILE_GROUPS],
            scales: [[_mm512_setzero_ps(); S]; TILE_BLOCKS],
            begin: 0,
            groups: 0,
            first,
        };
        while tile.begin < self.blocks {
            let blocks = (self.blocks - tile.begin).min(TILE_BLOCKS);
            let begin = tile.begin * GROUPS;
            tile.groups = (self.groups - begin).min(TILE_GROUPS);
            for s in 0..S {
                let quad = quad + s * (SLAB / QUAD);
                for g in 0..tile.groups {
                    // SAFETY: the slab's four quads and this group exist.
                    let (columns, multipliers) =
                        unsafe { (self.transpose(quad, begin + g), self.slab_multipliers(quad, begin + g)) };
                    for (c, column) in columns.into_iter().enumerate() {
                        tile.columns[g * 8 + c][s] = column;
                    }
                    tile.multipliers[g][s] = multipliers;
                }
                for block in 0..blocks {
                    // SAFETY: as above.
                    tile.scales[block][s] = unsafe { self.slab_scales(quad, tile.begin + block) };
                }
            }
            let mut i = 0;
            // SAFETY: vectors i..i + T exist, lengths were checked above; `out` is ours.
            unsafe {
                while i + 6 <= n {
                    self.tile::<6, S>(&tile, input, i, out, stride);
                    i += 6;
                }
                while i + 2 <= n {
                    self.tile::<2, S>(&tile, input, i, out, stride);
                    i += 2;
                }
                if i < n {
                    self.tile::<1, S>(&tile, input, i, out, stride);
                }
            }
            tile.begin += blocks;
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

    /// The multipliers of sixteen rows in one group.
    ///
    /// # Safety
    /// Quads `quad..quad + 4` and the group exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn slab_multipliers(&self, quad: usize, group: usize) -> __m512i {
        let mut bytes = [0_u8; SLAB];
        for (q, bytes) in bytes.chunks_exact_mut(QUAD).enumerate() {
            let at = ((quad + q) * self.groups + group) * QUAD;
            // SAFETY: lengths were checked in `new`.
            bytes.copy_from_slice(unsafe { self.planes.multipliers.get_unchecked(at..at + QUAD) });
        }
        // SAFETY: sixteen bytes.
        _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    /// One group of four quads as eight vectors: four neighbouring columns of sixteen rows each,
    /// unsigned.
    ///
    /// # Safety
    /// Quads `quad..quad + 4` and the group exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn transpose(&self, quad: usize, group: usize) -> [__m512i; 8] {
        let bytes = self.groups * group_bytes(BITS);
        let at = |q: usize| (quad + q) * bytes + group * group_bytes(BITS);
        let mut out = [_mm512_setzero_si512(); 8];
        for half in 0..BITS / 4 {
            // SAFETY: as promised; the prefetch, of the next slab's, reads nothing.
            let w = |q: usize| unsafe {
                let w = self.planes.quants.as_ptr().add(at(q) + half * 64);
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(4 * bytes).cast());
                _mm512_loadu_si512(w.cast())
            };
            let chunks = transpose_lanes(w(0), w(1), w(2), w(3));
            for (c, chunk) in chunks.into_iter().enumerate() {
                if BITS == 8 {
                    out[half * 4 + c] = _mm512_xor_si512(chunk, _mm512_set1_epi8(-128));
                } else {
                    let nibble = _mm512_set1_epi8(15);
                    out[2 * c] = _mm512_and_si512(chunk, nibble);
                    out[2 * c + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(chunk), nibble);
                }
            }
        }
        out
    }

    /// Some blocks of `S` times sixteen rows with `T` vectors: adds to (or, from the first block on,
    /// begins) their sums. Everything that grows stays in registers: 2 · T · S of 32.
    ///
    /// # Safety
    /// The tile's rows and vectors `first_vector..first_vector + T` exist in all three slices of `input`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn tile<const T: usize, const S: usize>(
        &self,
        tile: &Tile<S>,
        input: &Activations<'_>,
        first_vector: usize,
        out: &Disjoint<'_, f32>,
        stride: usize,
    ) {
        let cols = self.planes.padded_cols;
        let zero = _mm512_setzero_si512();
        // SAFETY: vectors up to first_vector + T have cols quants, a sum a group, a scale a block.
        let (mut x, sums, x_scales) = unsafe {
            (
                input.quants.as_ptr().add(first_vector * cols + tile.begin * BLOCK),
                input.sums.as_ptr().add(first_vector * self.groups + tile.begin * GROUPS),
                input.scales.as_ptr().add(first_vector * self.blocks + tile.begin),
            )
        };
        let mut totals = [[_mm512_setzero_ps(); S]; T];
        if tile.begin > 0 {
            for (t, totals) in totals.iter_mut().enumerate() {
                let at = (first_vector + t) * stride + tile.first;
                // SAFETY: the caller's own places.
                let out = unsafe { out.part(at..at + SLAB * S) };
                for (total, out) in totals.iter_mut().zip(out.chunks_exact(SLAB)) {
                    // SAFETY: sixteen floats.
                    *total = unsafe { _mm512_loadu_ps(out.as_ptr()) };
                }
            }
        }
        for (block, scales) in tile.scales.iter().enumerate().take(tile.groups.div_ceil(GROUPS)) {
            let mut exact = [[zero; S]; T];
            for g in block * GROUPS..((block + 1) * GROUPS).min(tile.groups) {
                let mut dots = [[zero; S]; T];
                for (t, dots) in dots.iter_mut().enumerate() {
                    // SAFETY: as above: this vector's sum of this group.
                    let sum = _mm512_set1_epi32(unsafe { *sums.add(t * self.groups + g) });
                    let sum =
                        if BITS == 8 { _mm512_slli_epi32::<7>(sum) } else { _mm512_slli_epi32::<3>(sum) };
                    *dots = [_mm512_sub_epi32(zero, sum); S];
                }
                for c in 0..8 {
                    // SAFETY: g < tile.groups, so this column is there.
                    let w = unsafe { tile.columns.get_unchecked(g * 8 + c) };
                    for (t, dots) in dots.iter_mut().enumerate() {
                        // SAFETY: as above: the 32 activations of this group.
                        let four = unsafe { x.add(t * cols + 4 * c).cast::<i32>().read_unaligned() };
                        let four = _mm512_set1_epi32(four);
                        for (dots, w) in dots.iter_mut().zip(w) {
                            *dots = _mm512_dpbusd_epi32(*dots, *w, four);
                        }
                    }
                }
                // SAFETY: on to the next group, at most one past the last; g < tile.groups.
                let multipliers = unsafe {
                    x = x.add(GROUP);
                    tile.multipliers.get_unchecked(g)
                };
                for (exact, dots) in exact.iter_mut().zip(&dots) {
                    for ((exact, dots), multiplier) in exact.iter_mut().zip(dots).zip(multipliers) {
                        *exact = _mm512_add_epi32(*exact, _mm512_mullo_epi32(*dots, *multiplier));
                    }
                }
            }
            for (t, (totals, exact)) in totals.iter_mut().zip(&exact).enumerate() {
                // SAFETY: as above: this vector's scale of this block.
                let x_scale = _mm512_set1_ps(unsafe { *x_scales.add(t * self.blocks + block) });
                for ((total, exact), scales) in totals.iter_mut().zip(exact).zip(scales) {
                    let term = _mm512_mul_ps(_mm512_cvtepi32_ps(*exact), _mm512_mul_ps(*scales, x_scale));
                    *total = _mm512_add_ps(*total, term);
                }
            }
        }
        for (t, totals) in totals.iter().enumerate() {
            let at = (first_vector + t) * stride + tile.first;
            // SAFETY: the caller's own places.
            let out = unsafe { out.part(at..at + SLAB * S) };
            for (total, out) in totals.iter().zip(out.chunks_exact_mut(SLAB)) {
                // SAFETY: sixteen floats.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *total) };
            }
        }
    }
}

/// Some blocks of `S` times sixteen rows, ready to be multiplied.
struct Tile<const S: usize> {
    /// Four neighbouring columns of sixteen rows each.
    columns: [[__m512i; S]; TILE_GROUPS * 8],
    multipliers: [[__m512i; S]; TILE_GROUPS],
    scales: [[__m512; S]; TILE_BLOCKS],
    /// The first block.
    begin: usize,
    groups: usize,
    first: usize,
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

/// [`attention::attend_q8`] compiled for these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn attend_q8(
    query: &[f32],
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    attention::attend_q8::<Vnni>(query, cache, len, scratch, out);
}

struct Vnni;

impl Products for Vnni {
    #[inline(always)]
    fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
        // SAFETY: `Vnni` is used only by `attend_q8` above, which has the features.
        unsafe { key_dots(keys, query, out) }
    }

    #[inline(always)]
    fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { mix(values, weights, out) }
    }
}

/// Keys are laid out as a matrix of 8-bit weights is, four positions interleaved.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn key_dots(keys: &[i8], query: &[i8], out: &mut [f32]) {
    let spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    let flip = _mm512_set1_epi8(-128);
    let bytes = QUAD * query.len();
    let quads = out.len().div_ceil(QUAD).min(keys.len() / bytes.max(1));
    let sum: i32 = query.iter().map(|&q| i32::from(q)).sum();
    let start = _mm512_maskz_set1_epi32(0xF, sum * -128);
    let mut quad = 0;
    while quad < quads {
        let n = (quads - quad).min(4);
        let mut dots = [start; 4];
        for begin in (0..query.len()).step_by(16) {
            let len = (query.len() - begin).min(16);
            // SAFETY: the mask covers only the bytes that there are.
            let x = unsafe {
                _mm_maskz_loadu_epi8(((1_u32 << len) - 1) as u16, query.as_ptr().add(begin).cast())
            };
            let x = _mm512_permutexvar_epi32(spread, _mm512_castsi128_si512(x));
            let mask = if len == 16 { u16::MAX } else { ((1_u32 << len) - 1) as u16 };
            for (q, dots) in dots.iter_mut().take(n).enumerate() {
                // SAFETY: quad + q < quads, and the mask covers only the key's own chunks:
                // `len` columns of four positions are `len` dwords.
                let w = unsafe {
                    _mm512_maskz_loadu_epi32(
                        mask,
                        keys.as_ptr().add((quad + q) * bytes + begin * QUAD).cast(),
                    )
                };
                *dots = _mm512_dpbusd_epi32(*dots, _mm512_xor_si512(w, flip), x);
            }
        }
        let total = sum_chunks(dots[0], dots[1], dots[2], dots[3]);
        if let Some(out) = out.get_mut(quad * QUAD..) {
            let n = out.len().min(n * QUAD);
            // SAFETY: the mask covers only the places that there are.
            unsafe {
                _mm512_mask_storeu_ps(out.as_mut_ptr(), ((1_u32 << n) - 1) as u16, _mm512_castsi512_ps(total))
            };
        }
        quad += n;
    }
}

/// Weights have 15 bits: their low and high bytes are multiplied apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn mix(values: &[i8], weights: &[i16], out: &mut [f32]) {
    const WIDE: usize = 4;
    let low_bytes = _mm512_set1_epi32(0x0604_0200);
    let high_bytes = _mm512_set1_epi32(0x0705_0301);
    let bytes = QUAD * out.len();
    let quads = (weights.len() / QUAD).min(values.len() / bytes.max(1));
    for (part, out) in out.chunks_mut(16 * WIDE).enumerate() {
        let mut low = [_mm512_setzero_si512(); WIDE];
        let mut high = [_mm512_setzero_si512(); WIDE];
        let masks: [u16; WIDE] = core::array::from_fn(|i| {
            let n = out.len().saturating_sub(16 * i).min(16);
            ((1_u32 << n) - 1) as u16
        });
        let vectors = out.len().div_ceil(16);
        for quad in 0..quads {
            // SAFETY: four weights of eight bytes in all.
            let four = unsafe { weights.as_ptr().add(quad * QUAD).cast::<i64>().read_unaligned() };
            let four = _mm512_set1_epi64(four);
            let (w_low, w_high) =
                (_mm512_shuffle_epi8(four, low_bytes), _mm512_shuffle_epi8(four, high_bytes));
            for i in 0..vectors {
                // SAFETY: the mask covers only this quad's values.
                let v = unsafe {
                    let at = quad * bytes + (part * WIDE + i) * 64;
                    _mm512_maskz_loadu_epi32(masks[i], values.as_ptr().add(at).cast())
                };
                low[i] = _mm512_dpbusd_epi32(low[i], w_low, v);
                high[i] = _mm512_dpbusd_epi32(high[i], w_high, v);
            }
        }
        for i in 0..vectors {
            let sum = _mm512_add_epi32(low[i], _mm512_slli_epi32::<8>(high[i]));
            // SAFETY: the mask covers only the places that there are.
            unsafe {
                _mm512_mask_storeu_ps(out.as_mut_ptr().add(16 * i), masks[i], _mm512_castsi512_ps(sum))
            };
        }
    }
}
