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
/// Vectors that a tile takes at once.
const TILE: usize = 12;

/// Bytes of one group of a quad's quants.
const fn group_bytes(bits: usize) -> usize {
    QUAD * GROUP * bits / 8
}

/// What is added to a weight to make it unsigned.
const fn offset(bits: usize) -> i32 {
    if bits == 8 { 128 } else { 8 }
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
    for slab in (rows.start..tiled).step_by(SLAB) {
        // SAFETY: the slab lies inside the rows that this caller may write.
        unsafe { weights.slab(slab, input, out, stride) };
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
            // SAFETY: features as here; quads below `weights.quads`, activations of full length.
            let sums = unsafe { weights.quads::<4>(tiled / QUAD + s * 4, &x) };
            // SAFETY: `out` is sixteen floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
        }
        for (q, out) in rest.chunks_mut(QUAD).enumerate() {
            // SAFETY: as above.
            let sums = unsafe { weights.quads::<1>(whole.max(tiled) / QUAD + q, &x) };
            // SAFETY: the mask covers only the floats that there are.
            unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), (1 << out.len()) - 1, sums) };
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

    /// The products of `N` (1 or 4) quads of rows with one vector: 4 · N sums in the low lanes.
    ///
    /// # Safety
    /// `first + N` is at most `self.quads`; `x` [`fits`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn quads<const N: usize>(&self, first: usize, x: &Quantized<'_>) -> __m512 {
        let mut sums = _mm512_setzero_ps();
        // Lane i of a vector of four dwords of x goes to the four rows of chunk i.
        let spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        let spread_even = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
        let spread_odd = _mm512_set_epi32(7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3, 1, 1, 1, 1);
        let flip = _mm512_set1_epi8(-128);
        let nibble = _mm512_set1_epi8(15);
        let bytes = self.groups * group_bytes(BITS);
        // SAFETY: first + N ≤ quads.
        let mut weights = unsafe { self.planes.quants.as_ptr().add(first * bytes) };
        let mut xs = x.quants.as_ptr();
        for block in 0..self.blocks {
            let begin = block * GROUPS;
            let end = (begin + GROUPS).min(self.groups);
            let mut exact = [_mm512_setzero_si512(); N];
            let mut group = begin;
            while group < end {
                // Multipliers of up to four groups: lane i of 128 bits is group i's.
                let n = (end - group).min(4);
                let mask = ((1_u32 << (4 * n)) - 1) as u16;
                let mut multipliers = [_mm512_setzero_si512(); N];
                for (q, multipliers) in multipliers.iter_mut().enumerate() {
                    let at = ((first + q) * self.groups + group) * QUAD;
                    // SAFETY: the mask covers only the multipliers that there are.
                    let bytes = unsafe {
                        _mm_maskz_loadu_epi8(mask, self.planes.multipliers.as_ptr().add(at).cast())
                    };
                    *multipliers = _mm512_cvtepu8_epi32(bytes);
                }
                for i in 0..n {
                    // SAFETY: group + i < groups = sums.len().
                    let sum = unsafe { *x.sums.get_unchecked(group + i) };
                    let start = _mm512_maskz_set1_epi32(0xF, sum.wrapping_mul(-offset(BITS)));
                    // SAFETY: 32 activations of this group are there.
                    let x32 = unsafe { _mm256_loadu_si256(xs.cast()) };
                    let x64 = _mm512_castsi256_si512(x32);
                    let (x0, x1) = if BITS == 8 {
                        let high = _mm512_castsi128_si512(_mm256_extracti128_si256::<1>(x32));
                        (_mm512_permutexvar_epi32(spread, x64), _mm512_permutexvar_epi32(spread, high))
                    } else {
                        (
                            _mm512_permutexvar_epi32(spread_even, x64),
                            _mm512_permutexvar_epi32(spread_odd, x64),
                        )
                    };
                    for (q, exact) in exact.iter_mut().enumerate() {
                        // SAFETY: the group's bytes of quad first + q.
                        let w = unsafe { weights.add(q * bytes) };
                        // SAFETY: 64 bytes of a group are there in either width.
                        let w0 = unsafe { _mm512_loadu_si512(w.cast()) };
                        let dots = if BITS == 8 {
                            // SAFETY: a group of four rows of 8 bits is 128 bytes.
                            let w1 = unsafe { _mm512_loadu_si512(w.add(64).cast()) };
                            let dots = _mm512_dpbusd_epi32(start, _mm512_xor_si512(w0, flip), x0);
                            _mm512_dpbusd_epi32(dots, _mm512_xor_si512(w1, flip), x1)
                        } else {
                            let low = _mm512_and_si512(w0, nibble);
                            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(w0), nibble);
                            _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, low, x0), high, x1)
                        };
                        let m = &multipliers[q];
                        let m = match i {
                            0 => _mm512_shuffle_i32x4::<0x00>(*m, *m),
                            1 => _mm512_shuffle_i32x4::<0x55>(*m, *m),
                            2 => _mm512_shuffle_i32x4::<0xAA>(*m, *m),
                            _ => _mm512_shuffle_i32x4::<0xFF>(*m, *m),
                        };
                        *exact = _mm512_add_epi32(*exact, _mm512_mullo_epi32(dots, m));
                    }
                    // SAFETY: on to the next group; at most one past the last.
                    unsafe {
                        weights = weights.add(group_bytes(BITS));
                        xs = xs.add(GROUP);
                    }
                }
                group += n;
            }
            // SAFETY: block < blocks = x.scales.len().
            let x_scale = _mm512_set1_ps(unsafe { *x.scales.get_unchecked(block) });
            // SAFETY: quads first..first + N are there.
            let scales = unsafe {
                let lanes = |q: usize| self.scales(first + if q < N { q } else { 0 }, block);
                let low = _mm_unpacklo_epi64(lanes(0), lanes(1));
                let high = _mm_unpacklo_epi64(lanes(2), lanes(3));
                _mm256_set_m128i(high, low)
            };
            let scales = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(scales)));
            let total = if N == 4 {
                // SAFETY: N is 4.
                unsafe {
                    sum_chunks(
                        exact[0],
                        *exact.get_unchecked(1),
                        *exact.get_unchecked(2),
                        *exact.get_unchecked(3),
                    )
                }
            } else {
                let zero = _mm512_setzero_si512();
                sum_chunks(exact[0], zero, zero, zero)
            };
            let term = _mm512_mul_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(scales, x_scale));
            sums = _mm512_add_ps(sums, term);
        }
        sums
    }

    /// Sixteen rows with every vector.
    ///
    /// # Safety
    /// Rows `first..first + 16` exist, and their places in `out` are the caller's.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn slab(&self, first: usize, input: &Activations<'_>, out: &Disjoint<'_, f32>, stride: usize) {
        let cols = self.planes.padded_cols;
        let n = input.n;
        if input.quants.len() < n * cols
            || input.scales.len() < n * self.blocks
            || input.sums.len() < n * self.groups
        {
            return;
        }
        let quad = first / QUAD;
        let mut columns = [_mm512_setzero_si512(); BLOCK / 4];
        let mut multipliers = [_mm512_setzero_si512(); GROUPS];
        for block in 0..self.blocks {
            let begin = block * GROUPS;
            let groups = (self.groups - begin).min(GROUPS);
            for g in 0..groups {
                // SAFETY: the slab's four quads and this group exist.
                unsafe { self.transpose(quad, begin + g, &mut columns[g * 8..g * 8 + 8]) };
                let mut bytes = [0_u8; SLAB];
                for (q, bytes) in bytes.chunks_exact_mut(QUAD).enumerate() {
                    let at = ((quad + q) * self.groups + begin + g) * QUAD;
                    // SAFETY: as above; lengths were checked in `new`.
                    bytes.copy_from_slice(unsafe { self.planes.multipliers.get_unchecked(at..at + QUAD) });
                }
                // SAFETY: sixteen bytes.
                multipliers[g] = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
            }
            // SAFETY: as above.
            let scales = unsafe {
                let low = _mm_unpacklo_epi64(self.scales(quad, block), self.scales(quad + 1, block));
                let high = _mm_unpacklo_epi64(self.scales(quad + 2, block), self.scales(quad + 3, block));
                _mm256_set_m128i(high, low)
            };
            let scales = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(scales)));
            let tile = Tile { columns: &columns, multipliers: &multipliers, groups, scales, block, first };
            let mut i = 0;
            while i + TILE <= n {
                // SAFETY: vectors i..i + TILE exist, lengths were checked above; `out` is ours.
                unsafe { self.tile::<TILE>(&tile, input, i, out, stride) };
                i += TILE;
            }
            while i + 4 <= n {
                // SAFETY: as above.
                unsafe { self.tile::<4>(&tile, input, i, out, stride) };
                i += 4;
            }
            while i < n {
                // SAFETY: as above.
                unsafe { self.tile::<1>(&tile, input, i, out, stride) };
                i += 1;
            }
        }
    }

    /// One group of four quads as eight vectors: four neighbouring columns of sixteen rows each,
    /// unsigned.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn transpose(&self, quad: usize, group: usize, out: &mut [__m512i]) {
        let bytes = self.groups * group_bytes(BITS);
        let at = |q: usize| (quad + q) * bytes + group * group_bytes(BITS);
        for half in 0..BITS / 4 {
            // SAFETY: quads quad..quad + 4 and the group exist (the caller's promise).
            let w = |q: usize| unsafe {
                _mm512_loadu_si512(self.planes.quants.as_ptr().add(at(q) + half * 64).cast())
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
    }

    /// One block of sixteen rows with `T` vectors: adds to (or, in the first block, begins) their sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn tile<const T: usize>(
        &self,
        tile: &Tile<'_>,
        input: &Activations<'_>,
        first_vector: usize,
        out: &Disjoint<'_, f32>,
        stride: usize,
    ) {
        let cols = self.planes.padded_cols;
        let mut exact = [_mm512_setzero_si512(); T];
        // SAFETY: vectors up to first_vector + T have cols quants and as many sums as groups.
        let (x, sums) = unsafe {
            (
                input.quants.as_ptr().add(first_vector * cols + tile.block * BLOCK),
                input.sums.as_ptr().add(first_vector * self.groups + tile.block * GROUPS),
            )
        };
        for g in 0..tile.groups {
            // SAFETY: g < groups ≤ 8, so eight vectors of columns are there.
            let w: &[__m512i; 8] = unsafe { &*tile.columns.as_ptr().add(g * 8).cast() };
            let multiplier = tile.multipliers[g];
            for (t, exact) in exact.iter_mut().enumerate() {
                // SAFETY: as above: this vector's sum and the 32 activations of this group.
                let (sum, x) = unsafe { (*sums.add(t * self.groups + g), x.add(t * cols + g * GROUP)) };
                let mut dots = _mm512_set1_epi32(sum.wrapping_mul(-offset(BITS)));
                for (c, w) in w.iter().enumerate() {
                    // SAFETY: as above.
                    let four = unsafe { x.cast::<i32>().add(c).read_unaligned() };
                    dots = _mm512_dpbusd_epi32(dots, *w, _mm512_set1_epi32(four));
                }
                *exact = _mm512_add_epi32(*exact, _mm512_mullo_epi32(dots, multiplier));
            }
        }
        for (t, exact) in exact.into_iter().enumerate() {
            let vector = first_vector + t;
            // SAFETY: this vector has a scale for each block.
            let x_scale =
                _mm512_set1_ps(unsafe { *input.scales.get_unchecked(vector * self.blocks + tile.block) });
            let term = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_mul_ps(tile.scales, x_scale));
            let at = vector * stride + tile.first;
            // SAFETY: the caller's own places.
            let out = unsafe { out.part(at..at + SLAB) };
            if out.len() == SLAB {
                // SAFETY: sixteen floats.
                unsafe {
                    let so_far =
                        if tile.block == 0 { _mm512_setzero_ps() } else { _mm512_loadu_ps(out.as_ptr()) };
                    _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(so_far, term));
                }
            }
        }
    }
}

/// One block of sixteen rows, ready to be multiplied.
struct Tile<'a> {
    columns: &'a [__m512i; BLOCK / 4],
    multipliers: &'a [__m512i; GROUPS],
    groups: usize,
    scales: __m512,
    block: usize,
    first: usize,
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
