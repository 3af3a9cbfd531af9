//! The product of a matrix with one vector: bound by how fast weights come, so they are read once, as
//! one stream, and everything about the vector that all rows need is laid out before.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::{GROUPS, SLAB, Weights, group_bytes, sum_chunks, widen_scales};
use crate::format::{GROUP, QUAD};
use crate::kernels::Quantized;

/// Blocks that are taken at once: 4096 columns, whose part of the vector fills half of the first cache.
const KEPT: usize = 16;
/// How many bytes ahead of their use weights are asked for, into the second cache: the first cache's
/// line buffers alone don't cover the time that DRAM takes (three quarters of its rate, measured).
const AHEAD: usize = 12 << 10;
/// Groups whose multipliers make one vector.
const FOUR: usize = 4;

/// Up to [`KEPT`] blocks of a vector in the order of the weights' lanes.
struct Spread {
    /// Two a group: each four numbers once for each of a quad's rows.
    quants: [MaybeUninit<__m512i>; 2 * KEPT * GROUPS],
    /// One for four groups: what the shift of the weights adds, in lane 4i + r group i's for row r.
    shifts: [MaybeUninit<__m512i>; KEPT * GROUPS / FOUR],
    groups: usize,
}

impl<const BITS: usize> Weights<'_, BITS> {
    /// The products of rows from quad `first` on, one for each place of `out`, with one vector.
    ///
    /// # Safety
    /// The quads exist; `x` has [`super::fits`] this matrix.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) unsafe fn decode(&self, first: usize, x: &Quantized<'_>, out: &mut [f32]) {
        let uninit = MaybeUninit::uninit();
        let mut spread =
            Spread { quants: [uninit; 2 * KEPT * GROUPS], shifts: [uninit; KEPT * GROUPS / FOUR], groups: 0 };
        let (strips, rest) = out.split_at_mut(out.len() / SLAB * SLAB);
        for begin in (0..self.blocks).step_by(KEPT) {
            // SAFETY: these blocks are there, and the caller's promise.
            unsafe {
                self.spread(begin, x, &mut spread);
                for (i, out) in strips.chunks_exact_mut(SLAB).enumerate() {
                    self.strip::<4>(first + 4 * i, begin, &spread, x.scales, out);
                }
                for (i, out) in rest.chunks_mut(QUAD).enumerate() {
                    self.strip::<1>(first + strips.len() / QUAD + i, begin, &spread, x.scales, out);
                }
            }
        }
    }

    /// Lays out the vector's blocks from `begin` on, as many as there is room for.
    ///
    /// # Safety
    /// Block `begin` exists; `x` has [`super::fits`] this matrix.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn spread(&self, begin: usize, x: &Quantized<'_>, spread: &mut Spread) {
        // Lane i of four dwords goes to the four rows of chunk i.
        let own = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        let second = _mm512_add_epi32(own, _mm512_set1_epi32(4));
        // With 4 bits a byte's low half belongs to an even chunk, its high half to the odd one behind it.
        let even = _mm512_add_epi32(own, own);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        let indexes = if BITS == 8 { [own, second] } else { [even, odd] };
        let first = begin * GROUPS;
        spread.groups = (self.groups - first).min(KEPT * GROUPS);
        for (g, places) in spread.quants.chunks_exact_mut(2).enumerate().take(spread.groups) {
            // SAFETY: 32 numbers of this group are there.
            let quants = unsafe { _mm256_loadu_si256(x.quants.as_ptr().add((first + g) * GROUP).cast()) };
            for (place, index) in places.iter_mut().zip(indexes) {
                place.write(_mm512_permutexvar_epi32(index, _mm512_castsi256_si512(quants)));
            }
        }
        for (f, place) in spread.shifts.iter_mut().enumerate().take(spread.groups.div_ceil(FOUR)) {
            let n = (spread.groups - f * FOUR).min(FOUR);
            // SAFETY: the mask covers only the sums that there are.
            let sums = unsafe { _mm_maskz_loadu_epi32((1 << n) - 1, x.sums.as_ptr().add(first + f * FOUR)) };
            let sums = if BITS == 8 { _mm_slli_epi32::<7>(sums) } else { _mm_slli_epi32::<3>(sums) };
            place.write(_mm512_permutexvar_epi32(own, _mm512_castsi128_si512(sums)));
        }
    }

    /// Adds to (or, in the first block, begins) the sums of `Q` quads.
    ///
    /// Quads are read one after the other, so that memory sees one stream (side by side they came
    /// half as fast from DRAM); what will be one vector of sums is kept until all have it.
    ///
    /// # Safety
    /// Quads `first..first + Q` exist; `spread` was made at `begin`; there is a scale for each block;
    /// `out` is at most 4 · `Q` places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn strip<const Q: usize>(
        &self,
        first: usize,
        begin: usize,
        spread: &Spread,
        x_scales: &[f32],
        out: &mut [f32],
    ) {
        let mut exact = [[MaybeUninit::uninit(); KEPT]; Q];
        for (q, exact) in exact.iter_mut().enumerate() {
            // SAFETY: the quad and these blocks exist.
            unsafe { self.dots(first + q, begin, spread, exact) };
        }
        let mask = ((1_u32 << out.len().min(SLAB)) - 1) as u16;
        let mut sums = _mm512_setzero_ps();
        if begin > 0 {
            // SAFETY: the mask covers only the places that there are.
            sums = unsafe { _mm512_maskz_loadu_ps(mask, out.as_ptr()) };
        }
        for i in 0..spread.groups.div_ceil(GROUPS) {
            let zero = _mm512_setzero_si512();
            // SAFETY: `dots` has written as many as there are blocks.
            let of = |q: usize| exact.get(q).map_or(zero, |exact| unsafe { exact[i].assume_init() });
            let total = sum_chunks(of(0), of(1), of(2), of(3));
            // SAFETY: as promised, quads and block exist.
            let (scales, x_scale) = unsafe {
                let scales = if Q == 4 {
                    self.slab_scales(first, begin + i)
                } else {
                    widen_scales(_mm256_castsi128_si256(self.scales(first, begin + i)))
                };
                (scales, *x_scales.get_unchecked(begin + i))
            };
            let factor = _mm512_mul_ps(scales, _mm512_set1_ps(x_scale));
            sums = _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(total), factor));
        }
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, sums) };
    }

    /// The exact sums of one quad, one vector a block: in lane 4c + r what chunk c of every sixteen (or,
    /// with 4 bits, 32) columns gives to row r.
    ///
    /// # Safety
    /// The quad exists; `spread` was made at `begin`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn dots(
        &self,
        quad: usize,
        begin: usize,
        spread: &Spread,
        out: &mut [MaybeUninit<__m512i>; KEPT],
    ) {
        let flip = _mm512_set1_epi8(-128);
        let nibble = _mm512_set1_epi8(15);
        let zero = _mm512_setzero_si512();
        let first = quad * self.groups + begin * GROUPS;
        // SAFETY: the quad and block exist.
        let (mut weights, mut multipliers) = unsafe {
            (
                self.planes.quants.as_ptr().add(first * group_bytes(BITS)),
                self.planes.multipliers.as_ptr().add(first * QUAD),
            )
        };
        let mut quants = spread.quants.as_ptr().cast::<__m512i>();
        let mut shifts = spread.shifts.as_ptr().cast::<__m512i>();
        let mut left = spread.groups;
        for out in out {
            if left == 0 {
                break;
            }
            let mut exact = zero;
            for _ in 0..GROUPS / FOUR {
                let n = left.min(FOUR);
                // SAFETY: multipliers of all four groups are there, or the mask covers those that are.
                let factors = unsafe {
                    if n == FOUR {
                        _mm_loadu_si128(multipliers.cast())
                    } else {
                        _mm_maskz_loadu_epi8(((1_u32 << (4 * n)) - 1) as u16, multipliers.cast())
                    }
                };
                let factors = _mm512_cvtepu8_epi32(factors);
                macro_rules! group {
                    ($lane:literal) => {
                        // SAFETY: 64 bytes of the group are there in either width, and `spread` has
                        // written its two vectors; a prefetch reads nothing.
                        let (w0, x0, x1) = unsafe {
                            _mm_prefetch::<_MM_HINT_T1>(weights.wrapping_add(AHEAD).cast());
                            (_mm512_loadu_si512(weights.cast()), *quants, *quants.add(1))
                        };
                        let dots = if BITS == 8 {
                            // SAFETY: a group of four rows of 8 bits is 128 bytes.
                            let w1 = unsafe {
                                _mm_prefetch::<_MM_HINT_T1>(weights.wrapping_add(AHEAD + 64).cast());
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
                            quants = quants.add(2);
                        }
                    };
                }
                if n == FOUR {
                    group!(0);
                    group!(1);
                    group!(2);
                    group!(3);
                } else {
                    if n > 0 {
                        group!(0);
                    }
                    if n > 1 {
                        group!(1);
                    }
                    if n > 2 {
                        group!(2);
                    }
                }
                if n > 0 {
                    // What the weights' shift has added, times what it was multiplied with.
                    // SAFETY: `spread` has written a vector for these four groups; then on to the next.
                    unsafe {
                        exact = _mm512_sub_epi32(exact, _mm512_mullo_epi32(factors, *shifts));
                        shifts = shifts.add(1);
                        multipliers = multipliers.add(FOUR * QUAD);
                    }
                }
                left -= n;
            }
            out.write(exact);
        }
    }
}
