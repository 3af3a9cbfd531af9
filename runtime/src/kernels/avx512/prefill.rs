//! The product of a matrix with many vectors: bound by multiplications, so weights are put in the order
//! that one instruction wants, sixteen rows in its lanes, and stay in the first cache while all vectors pass.

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::{GROUPS, SLAB, Weights, group_bytes, transpose_lanes};
use crate::format::{BLOCK, GROUP, QUAD};
use crate::kernels::Activations;
use crate::workers::Disjoint;

/// Blocks that a tile takes at once: what it needs of the weights is 16 KB then, half of the first cache.
const TILE_BLOCKS: usize = 3;
const TILE_GROUPS: usize = TILE_BLOCKS * GROUPS;

impl<const BITS: usize> Weights<'_, BITS> {
    /// `S` times sixteen rows with every vector.
    ///
    /// # Safety
    /// Rows `first..first + 16 · S` exist, and their places in `out` are the caller's.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) unsafe fn slabs<const S: usize>(
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
        // While these rows are multiplied the next ones come nearer.
        let next = quad + S * (SLAB / QUAD);
        prefetch(self.planes.multipliers, next * self.groups * QUAD, S * SLAB * self.groups);
        prefetch(self.planes.scales, next * self.blocks * QUAD, S * SLAB * self.blocks);
        let mut tile = Tile {
            columns: [[MaybeUninit::uninit(); S]; TILE_GROUPS * 8],
            multipliers: [[MaybeUninit::uninit(); S]; TILE_GROUPS],
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
                let of_groups = tile.columns.chunks_exact_mut(8).zip(&mut tile.multipliers);
                for (g, (columns, multipliers)) in of_groups.enumerate().take(tile.groups) {
                    // SAFETY: the slab's four quads and this group exist.
                    unsafe {
                        self.transpose(quad, begin + g, columns, s);
                        multipliers[s].write(self.slab_multipliers(quad, begin + g));
                    }
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

    /// One group of four quads as eight vectors, number `s` of `columns`' eight places: four
    /// neighbouring columns of sixteen rows each, unsigned.
    ///
    /// # Safety
    /// Quads `quad..quad + 4` and the group exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn transpose<const S: usize>(
        &self,
        quad: usize,
        group: usize,
        columns: &mut [[MaybeUninit<__m512i>; S]],
        s: usize,
    ) {
        let bytes = self.groups * group_bytes(BITS);
        let at = |q: usize| (quad + q) * bytes + group * group_bytes(BITS);
        for (half, columns) in columns.chunks_exact_mut(32 / BITS).enumerate() {
            // SAFETY: as promised; the prefetch, of the next slab's, reads nothing.
            let w = |q: usize| unsafe {
                let w = self.planes.quants.as_ptr().add(at(q) + half * 64);
                _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(S * (SLAB / QUAD) * bytes).cast());
                _mm512_loadu_si512(w.cast())
            };
            let chunks = transpose_lanes(w(0), w(1), w(2), w(3));
            for (columns, chunk) in columns.chunks_exact_mut(8 / BITS).zip(chunks) {
                if BITS == 8 {
                    columns[0][s].write(_mm512_xor_si512(chunk, _mm512_set1_epi16(i16::MIN)));
                } else {
                    let nibble = _mm512_set1_epi8(15);
                    columns[0][s].write(_mm512_and_si512(chunk, nibble));
                    columns[1][s].write(_mm512_and_si512(_mm512_srli_epi16::<4>(chunk), nibble));
                }
            }
        }
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
        // What the weights' shift adds to each product, taken off before.
        let mut shifts = [[0_i32; TILE_GROUPS]; T];
        let all = (1_u64 << tile.groups) - 1;
        for (t, shifts) in shifts.iter_mut().enumerate() {
            for (i, shifts) in shifts.chunks_exact_mut(GROUPS).enumerate() {
                // SAFETY: as above: this vector's sums of this block's groups, and a place for each.
                unsafe {
                    let some = (all >> (i * GROUPS)) as u8;
                    let sums =
                        _mm256_maskz_loadu_epi32(some, sums.wrapping_add(t * self.groups + i * GROUPS));
                    let shift = _mm256_mullo_epi32(sums, _mm256_set1_epi32(-(1 << (BITS - 1))));
                    _mm256_storeu_si256(shifts.as_mut_ptr().cast(), shift);
                }
            }
        }
        let mut places = [core::ptr::null_mut::<f32>(); T];
        for (t, place) in places.iter_mut().enumerate() {
            let at = (first_vector + t) * stride + tile.first;
            // SAFETY: the caller's own places.
            let out = unsafe { out.part(at..at + SLAB * S) };
            if out.len() < SLAB * S {
                return;
            }
            *place = out.as_mut_ptr();
        }
        let mut totals = [[_mm512_setzero_ps(); S]; T];
        if tile.begin > 0 {
            for (totals, place) in totals.iter_mut().zip(places) {
                for (s, total) in totals.iter_mut().enumerate() {
                    // SAFETY: S times sixteen floats.
                    *total = unsafe { _mm512_loadu_ps(place.add(s * SLAB)) };
                }
            }
        }
        for (block, scales) in tile.scales.iter().enumerate().take(tile.groups.div_ceil(GROUPS)) {
            let mut exact = [[zero; S]; T];
            for g in block * GROUPS..((block + 1) * GROUPS).min(tile.groups) {
                let mut dots = [[zero; S]; T];
                for (dots, shifts) in dots.iter_mut().zip(&shifts) {
                    *dots = [_mm512_set1_epi32(shifts[g]); S];
                }
                for c in 0..8 {
                    // SAFETY: nothing happens here. But what is read of `x` stays behind this line: the
                    // compiler would read all columns' first, for which there are no registers left.
                    unsafe { asm!("/* {0} */", inout(reg) x, options(nostack, preserves_flags)) };
                    // SAFETY: g < tile.groups, so this column has been written.
                    let w = unsafe { tile.columns.get_unchecked(g * 8 + c).map(|w| w.assume_init()) };
                    for (t, dots) in dots.iter_mut().enumerate() {
                        // SAFETY: as above: the 32 activations of this group.
                        let four = unsafe { x.add(t * cols + 4 * c).cast::<i32>().read_unaligned() };
                        let four = _mm512_set1_epi32(four);
                        for (dots, w) in dots.iter_mut().zip(w) {
                            *dots = _mm512_dpbusd_epi32(*dots, w, four);
                        }
                    }
                }
                // SAFETY: on to the next group, at most one past the last; g < tile.groups.
                let multipliers = unsafe {
                    x = x.add(GROUP);
                    tile.multipliers.get_unchecked(g).map(|multipliers| multipliers.assume_init())
                };
                for (exact, dots) in exact.iter_mut().zip(&dots) {
                    for ((exact, dots), multiplier) in exact.iter_mut().zip(dots).zip(multipliers) {
                        *exact = if BITS == 8 {
                            _mm512_add_epi32(*exact, _mm512_mullo_epi32(*dots, multiplier))
                        } else {
                            // Thirty-two products of at most 8 · 127 have 16 bits: the lower half of
                            // each sum times the multiplier, and the upper, its sign, times zero.
                            _mm512_dpwssd_epi32(*exact, *dots, multiplier)
                        };
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
        for (totals, place) in totals.iter().zip(places) {
            for (s, total) in totals.iter().enumerate() {
                // SAFETY: as above.
                unsafe { _mm512_storeu_ps(place.add(s * SLAB), *total) };
            }
        }
    }
}

/// Asks for `plane[begin..begin + len]`, as far as it is there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn prefetch<T>(plane: &[T], begin: usize, len: usize) {
    let part = plane.get(begin..).unwrap_or(&[]);
    for line in part.get(..len).unwrap_or(part).chunks(64 / size_of::<T>()) {
        _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
    }
}

/// Some blocks of `S` times sixteen rows, ready to be multiplied.
struct Tile<const S: usize> {
    /// Four neighbouring columns of sixteen rows each.
    columns: [[MaybeUninit<__m512i>; S]; TILE_GROUPS * 8],
    multipliers: [[MaybeUninit<__m512i>; S]; TILE_GROUPS],
    scales: [[__m512; S]; TILE_BLOCKS],
    /// The first block.
    begin: usize,
    groups: usize,
    first: usize,
}
