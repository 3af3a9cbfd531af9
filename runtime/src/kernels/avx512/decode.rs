//! The product of a matrix with one vector: bound by how fast weights come, so they are read once, as
//! one stream, and everything about the vector that all rows need is laid out before.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::{GROUPS, SLAB, Weights, group_bytes, sum_chunks, widen_scales};
use crate::format::{GROUP, QUAD};
use crate::kernels::Quantized;

/// Blocks whose part of the vector is laid out at once: 4096 columns fill half of the first cache.
const KEPT: usize = 16;
/// Groups whose multipliers make one vector.
const FOUR: usize = 4;
/// How many bytes ahead of their use weights are asked for, past the second cache: each is read once a
/// token. Measured on Zen 5 beside asking into the first and into the second cache, 4 to 16 KB ahead: the
/// best of them from DRAM (4 bits 1.15 times the others, 8 bits 1.05) and, from the third cache, 1.2 times
/// what asking into the second gives. One line at a time, where it is needed: asking for a block's lines at
/// once costs a fifth of DRAM's rate.
const AHEAD: usize = 8 << 10;

/// Up to [`KEPT`] blocks of a vector in the order of the weights' lanes.
struct Spread {
    /// Each four numbers once for each of a quad's rows.
    quants: [[MaybeUninit<__m512i>; 2]; KEPT * GROUPS],
    /// One for four groups: what the shift of the weights adds, in lane 4i + r group i's for row r.
    shifts: [MaybeUninit<__m512i>; KEPT * GROUPS / FOUR],
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
            Spread { quants: [[uninit; 2]; KEPT * GROUPS], shifts: [uninit; KEPT * GROUPS / FOUR] };
        for begin in (0..self.blocks).step_by(KEPT) {
            // SAFETY: these blocks are there.
            unsafe { self.spread(begin, x, &mut spread) };
            let groups = (self.groups - begin * GROUPS).min(KEPT * GROUPS);
            macro_rules! rows {
                ($rest:literal) => {
                    // SAFETY: the quads exist, and so do these blocks and the groups behind them, of
                    // which `spread` has the vector's.
                    unsafe { self.rows::<$rest>(first, begin, groups / GROUPS, &spread, x.scales, out) }
                };
            }
            match groups % GROUPS {
                0 => rows!(0),
                1 => rows!(1),
                2 => rows!(2),
                3 => rows!(3),
                4 => rows!(4),
                5 => rows!(5),
                6 => rows!(6),
                _ => rows!(7),
            }
        }
    }

    /// Where a quad's block begins; only to be read if it exists.
    fn at(&self, quad: usize, block: usize) -> *const u8 {
        self.planes.quants.as_ptr().wrapping_add((quad * self.groups + block * GROUPS) * group_bytes(BITS))
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
        let groups = (self.groups - first).min(KEPT * GROUPS);
        for (g, places) in spread.quants.iter_mut().enumerate().take(groups) {
            // SAFETY: 32 numbers of this group are there.
            let quants = unsafe { _mm256_loadu_si256(x.quants.as_ptr().add((first + g) * GROUP).cast()) };
            for (place, index) in places.iter_mut().zip(indexes) {
                place.write(_mm512_permutexvar_epi32(index, _mm512_castsi256_si512(quants)));
            }
        }
        for (f, place) in spread.shifts.iter_mut().enumerate().take(groups.div_ceil(FOUR)) {
            let n = (groups - f * FOUR).min(FOUR);
            // SAFETY: the mask covers only the sums that there are.
            let sums = unsafe { _mm_maskz_loadu_epi32((1 << n) - 1, x.sums.as_ptr().add(first + f * FOUR)) };
            let sums = if BITS == 8 { _mm_slli_epi32::<7>(sums) } else { _mm_slli_epi32::<3>(sums) };
            place.write(_mm512_permutexvar_epi32(own, _mm512_castsi128_si512(sums)));
        }
    }

    /// Adds to (or, in the first block, begins) the sums of rows from quad `first` on: the products of
    /// `whole` blocks from `begin` on and of `REST` groups behind them.
    ///
    /// # Safety
    /// Quads, blocks and groups exist; `spread` was made at `begin`; there is a scale for each block.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn rows<const REST: usize>(
        &self,
        first: usize,
        begin: usize,
        whole: usize,
        spread: &Spread,
        x_scales: &[f32],
        out: &mut [f32],
    ) {
        let (slabs, rest) = out.split_at_mut(out.len() / SLAB * SLAB);
        // SAFETY: the caller's promise.
        unsafe {
            for (i, out) in slabs.chunks_exact_mut(SLAB).enumerate() {
                self.slab::<4, REST>(first + 4 * i, begin, whole, spread, x_scales, out);
            }
            for (i, out) in rest.chunks_mut(QUAD).enumerate() {
                self.slab::<1, REST>(first + slabs.len() / QUAD + i, begin, whole, spread, x_scales, out);
            }
        }
    }

    /// The same for `Q` quads, which are read one after the other, so that memory sees one stream (side
    /// by side they came half as fast from DRAM); what will be one vector of sums is kept until all have
    /// it.
    ///
    /// # Safety
    /// As above; `out` is at most 4 · `Q` places.
    // Apart from `decode`, where its sixteen copies came to 60 KB of code.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn slab<const Q: usize, const REST: usize>(
        &self,
        first: usize,
        begin: usize,
        whole: usize,
        spread: &Spread,
        x_scales: &[f32],
        out: &mut [f32],
    ) {
        let zero = _mm512_setzero_si512();
        let mut exact = [[MaybeUninit::uninit(); 4]; KEPT];
        for q in 0..Q {
            for (i, exact) in exact.iter_mut().enumerate().take(whole) {
                // SAFETY: the quad and block exist and `spread` has the block's vector.
                exact[q].write(unsafe { self.dots::<GROUPS>(first + q, begin + i, spread, i) });
            }
            if REST > 0 {
                // SAFETY: as above, and what is left is no whole block, so `whole` is below `KEPT`.
                exact[whole][q].write(unsafe { self.dots::<REST>(first + q, begin + whole, spread, whole) });
            }
        }
        let mask = ((1_u32 << out.len().min(SLAB)) - 1) as u16;
        let mut sums = _mm512_setzero_ps();
        if begin > 0 {
            // SAFETY: the mask covers only the places that there are.
            sums = unsafe { _mm512_maskz_loadu_ps(mask, out.as_ptr()) };
        }
        for (i, exact) in exact.iter().enumerate().take(whole + usize::from(REST > 0)) {
            // SAFETY: `Q` of them were written above.
            let of = |q: usize| if q < Q { unsafe { exact[q].assume_init() } } else { zero };
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

    /// The exact sums of one quad in one block: in lane 4c + r what chunk c of every sixteen (or, with
    /// 4 bits, 32) columns gives to row r.
    ///
    /// # Safety
    /// The quad and the block exist, the block has `G` groups, and `spread` has it in place `kept`; the CPU
    /// has what [`Self::slab`] names.
    // Not left to the compiler: after changes elsewhere it called this instead, and a model of 15M with 8 bits was
    // 8 % slower. It may be forced only without naming CPU features.
    #[inline(always)]
    unsafe fn dots<const G: usize>(
        &self,
        quad: usize,
        block: usize,
        spread: &Spread,
        kept: usize,
    ) -> __m512i {
        // SAFETY: the caller's promise, of CPU, quad, block and groups: the multipliers are there, four bytes a group,
        // and masks cover only those that there are; so are the groups' bytes, and `spread` has written their
        // vectors.
        unsafe {
            let zero = _mm512_setzero_si512();
            let (quants, shifts) = (&spread.quants[kept * GROUPS..], &spread.shifts[kept * GROUPS / FOUR..]);
            let weights = self.at(quad, block);
            let multipliers =
                self.planes.multipliers.as_ptr().add((quad * self.groups + block * GROUPS) * QUAD);
            let mut exact = zero;
            for f in 0..G.div_ceil(FOUR) {
                let n = (G - f * FOUR).min(FOUR);
                let bytes = {
                    if n == FOUR {
                        _mm_loadu_si128(multipliers.add(f * FOUR * QUAD).cast())
                    } else {
                        let mask = ((1_u32 << (4 * n)) - 1) as u16;
                        _mm_maskz_loadu_epi8(mask, multipliers.add(f * FOUR * QUAD).cast())
                    }
                };
                let factors = _mm512_cvtepu8_epi32(bytes);
                let mut dots = [zero; FOUR];
                for (i, dots) in dots.iter_mut().enumerate().take(n) {
                    let g = f * FOUR + i;
                    *dots = group_dots::<BITS>(
                        weights.add(g * group_bytes(BITS)),
                        quants[g].map(|x| x.assume_init()),
                    );
                }
                if BITS == 8 {
                    let factor: [__m512i; FOUR] = [
                        _mm512_shuffle_i32x4::<0x00>(factors, factors),
                        _mm512_shuffle_i32x4::<0x55>(factors, factors),
                        _mm512_shuffle_i32x4::<0xAA>(factors, factors),
                        _mm512_shuffle_i32x4::<0xFF>(factors, factors),
                    ];
                    for (dots, factor) in dots.into_iter().zip(factor).take(n) {
                        exact = _mm512_add_epi32(exact, _mm512_mullo_epi32(dots, factor));
                    }
                } else {
                    // Sums of eight products of at most 15 · 127 have 16 bits: two groups' sums of a row
                    // side by side are multiplied and added up in one instruction.
                    let bytes = _mm512_broadcast_i32x4(bytes);
                    for (dots, order) in dots.chunks_exact(2).zip(PAIRED_MULTIPLIERS).take(n.div_ceil(2)) {
                        let pairs = _mm512_permutex2var_epi16(dots[0], pairs_order(), dots[1]);
                        let factors = _mm512_shuffle_epi8(
                            bytes,
                            _mm512_set4_epi32(order[3], order[2], order[1], order[0]),
                        );
                        exact = _mm512_dpwssd_epi32(exact, pairs, factors);
                    }
                }
                // What the weights' shift has added, times what it was multiplied with.
                let shifts = shifts[f].assume_init();
                exact = _mm512_sub_epi32(exact, _mm512_mullo_epi32(factors, shifts));
            }
            exact
        }
    }
}

/// Where, of sixteen multipliers, those of two neighbouring groups are, a pair of 16 bits for each row.
const PAIRED_MULTIPLIERS: [[i32; 4]; 2] = {
    let mut orders = [[0; 4]; 2];
    let mut i = 0;
    while i < 8 {
        let (pair, row) = (i / 4, i % 4);
        let first = 8 * pair + row;
        // A byte of 128 makes a zero.
        orders[pair][row] = (first | 0x80 << 8 | (first + 4) << 16 | 0x80 << 24) as u32 as i32;
        i += 1;
    }
    orders
};

/// The lower 16 bits of each lane of one vector and of another, side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs_order() -> __m512i {
    _mm512_set_epi32(
        0x3E_001E, 0x3C_001C, 0x3A_001A, 0x38_0018, 0x36_0016, 0x34_0014, 0x32_0012, 0x30_0010, 0x2E_000E,
        0x2C_000C, 0x2A_000A, 0x28_0008, 0x26_0006, 0x24_0004, 0x22_0002, 0x20_0000,
    )
}

/// The products of one group of a quad with the vector's, each four columns apart.
///
/// # Safety
/// The group's bytes are there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn group_dots<const BITS: usize>(weights: *const u8, x: [__m512i; 2]) -> __m512i {
    let zero = _mm512_setzero_si512();
    // SAFETY: 64 bytes are there in either width; a prefetch reads nothing.
    let first = unsafe {
        _mm_prefetch::<_MM_HINT_NTA>(weights.wrapping_add(AHEAD).cast());
        _mm512_loadu_si512(weights.cast())
    };
    if BITS == 8 {
        // Even columns are stored plus 128 already.
        let flip = _mm512_set1_epi16(i16::MIN);
        // SAFETY: a group of four rows of 8 bits is 128 bytes.
        let second = unsafe {
            _mm_prefetch::<_MM_HINT_NTA>(weights.wrapping_add(AHEAD + 64).cast());
            _mm512_loadu_si512(weights.add(64).cast())
        };
        let dots = _mm512_dpbusd_epi32(zero, _mm512_xor_si512(first, flip), x[0]);
        _mm512_dpbusd_epi32(dots, _mm512_xor_si512(second, flip), x[1])
    } else {
        let nibble = _mm512_set1_epi8(15);
        let low = _mm512_and_si512(first, nibble);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(first), nibble);
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, low, x[0]), high, x[1])
    }
}
