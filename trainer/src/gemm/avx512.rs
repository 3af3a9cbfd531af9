//! AVX-512: 14 × 32 elements of C in 28 registers, two registers of B, one broadcast of A.

// Registers are addressed by row and vector in all loops; iterators would hide the grid.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::kernel::{A_COLUMN_STRIDE, A_ROW_STRIDE, Kernel, Layout, Tile, prefetch};

pub(super) struct Avx512;

pub(super) const LANES: usize = 16;
/// Columns of a tile.
pub(super) const NR: usize = 2 * LANES;

impl Kernel for Avx512 {
    const MR: usize = 14;
    const NR: usize = NR;

    unsafe fn tile(t: &Tile) {
        // SAFETY: the caller's promise.
        unsafe { any_tile(t) }
    }

    unsafe fn pack_rows(dst: &mut [f32], src: &[f32], stride: usize, k: usize) {
        // SAFETY: the caller's promise about the CPU.
        unsafe { pack_rows(dst, src, stride, k) }
    }

    unsafe fn pack_columns(dst: &mut [f32], src: &[f32], stride: usize, cols: usize, k: usize) {
        // SAFETY: the caller's promise about the CPU.
        unsafe { pack_columns(dst, src, stride, cols, k) }
    }
}

/// Calls `tile` for a number of rows.
macro_rules! by_rows {
    ($t:ident, $vectors:literal, $a_by_rows:literal: $($rows:literal)+) => {
        match $t.rows {
            // SAFETY: the caller's promise; the sizes are those of the tile.
            $($rows => unsafe { tile::<$rows, $vectors, $a_by_rows>($t) },)+
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(super) use by_rows;

/// Defines `any_tile`, of which the levels of AVX-512 differ in one instruction alone.
macro_rules! define_tile {
    ($features:literal, $multiply_add:expr) => {
        /// # Safety
        /// As [`Kernel::tile`].
        unsafe fn any_tile(t: &Tile) {
            match (t.cols > LANES, t.layout) {
                (true, Layout::Rows) => by_rows!(t, 2, true: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                (true, Layout::Columns) => by_rows!(t, 2, false: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                (false, Layout::Rows) => by_rows!(t, 1, true: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                (false, Layout::Columns) => by_rows!(t, 1, false: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            }
        }

        /// # Safety
        /// As [`Kernel::tile`], with `R == t.rows`, `V` vectors covering `t.cols`.
        #[target_feature(enable = $features)]
        unsafe fn tile<const R: usize, const V: usize, const A_BY_ROWS: bool>(t: &Tile) {
            let (row_step, k_step) = if A_BY_ROWS { (A_ROW_STRIDE, 1) } else { (1, A_COLUMN_STRIDE) };
            // C is needed at the end; asked for now, it is there.
            for r in 0..R {
                let (c, add) = (t.c.wrapping_add(r * t.c_stride), t.add.wrapping_add(r * t.add_stride));
                prefetch(c);
                prefetch(c.wrapping_add(t.cols - 1));
                prefetch(add);
                prefetch(add.wrapping_add(t.cols - 1));
            }
            let mut acc = [[_mm512_setzero_ps(); V]; R];
            let (mut a, mut b) = (t.a, t.b);
            for _ in 0..t.k {
                // SAFETY: `b` walks over k rows of NR aligned elements, `a` over k columns of R
                // elements in the layout that the constants spell.
                unsafe {
                    let mut row = [_mm512_setzero_ps(); V];
                    for v in 0..V {
                        row[v] = _mm512_load_ps(b.add(v * LANES));
                    }
                    for r in 0..R {
                        let x = _mm512_set1_ps(*a.add(r * row_step));
                        for v in 0..V {
                            acc[r][v] = $multiply_add(x, row[v], acc[r][v]);
                        }
                    }
                    a = a.add(k_step);
                    b = b.add(NR);
                }
            }
            let last_mask = (u32::MAX >> (V * LANES - t.cols + 16)) as __mmask16;
            for v in 0..V {
                let mask = if v + 1 == V { last_mask } else { __mmask16::MAX };
                let at = v * LANES;
                for r in 0..R {
                    // SAFETY: the mask ends at `cols`; lanes that it switches off are not touched, so
                    // addresses beyond the row are never read or written.
                    unsafe {
                        let mut x = acc[r][v];
                        if !t.bias.is_null() {
                            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, t.bias.wrapping_add(at)));
                        }
                        if !t.add.is_null() {
                            let from = t.add.wrapping_add(r * t.add_stride + at);
                            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, from));
                        }
                        _mm512_mask_storeu_ps(t.c.wrapping_add(r * t.c_stride + at), mask, x);
                    }
                }
            }
        }
    };
}
pub(super) use define_tile;

define_tile!("avx512f", _mm512_fmadd_ps);

/// As [`Kernel::pack_rows`], where a copy of 32 elements is two instructions each way.
#[target_feature(enable = "avx512f")]
fn pack_rows(dst: &mut [f32], src: &[f32], stride: usize, k: usize) {
    for (i, to) in dst.chunks_exact_mut(NR).enumerate().take(k) {
        let from = &src[i * stride..][..NR];
        for (to, from) in to.chunks_exact_mut(LANES).zip(from.chunks_exact(LANES)) {
            // SAFETY: both have 16 elements.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_loadu_ps(from.as_ptr())) };
        }
    }
}

/// As [`Kernel::pack_columns`]; 16 columns × 16 elements at a time through registers.
#[target_feature(enable = "avx512f")]
fn pack_columns(dst: &mut [f32], src: &[f32], stride: usize, cols: usize, k: usize) {
    for half in 0..NR / LANES {
        let first = half * LANES;
        let n = cols.saturating_sub(first).min(LANES);
        let mut at = 0;
        while at < k {
            let depth = (k - at).min(LANES);
            let mask = ((1u32 << depth) - 1) as __mmask16;
            let mut block = [_mm512_setzero_ps(); LANES];
            for (j, lanes) in block.iter_mut().enumerate().take(n) {
                let column = &src[(first + j) * stride + at..][..depth];
                // SAFETY: the mask reads the `depth` elements of `column` only.
                *lanes = unsafe { _mm512_maskz_loadu_ps(mask, column.as_ptr()) };
            }
            let block = transpose(block);
            let rows = dst[at * NR..].chunks_exact_mut(NR);
            for (row, lanes) in rows.zip(block).take(depth) {
                let to = &mut row[first..first + LANES];
                // SAFETY: `to` has room for 16 elements.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), lanes) };
            }
            at += LANES;
        }
    }
}

/// Exchanges rows and columns of a 16 × 16 block.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose(r: [__m512; LANES]) -> [__m512; LANES] {
    let zero = _mm512_setzero_ps();
    // Pairs of rows, then pairs of pairs: each 128-bit lane becomes a transposed 4 × 4 block.
    let mut t = [zero; LANES];
    for i in 0..LANES / 2 {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    let mut u = [zero; LANES];
    for i in 0..LANES / 4 {
        let (a, b) = (_mm512_castps_pd(t[4 * i]), _mm512_castps_pd(t[4 * i + 2]));
        let (c, d) = (_mm512_castps_pd(t[4 * i + 1]), _mm512_castps_pd(t[4 * i + 3]));
        u[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        u[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        u[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        u[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
    // Then the 4 × 4 blocks themselves.
    let mut out = [zero; LANES];
    for i in 0..4 {
        let ab_even = _mm512_shuffle_f32x4::<0x88>(u[i], u[4 + i]);
        let ab_odd = _mm512_shuffle_f32x4::<0xdd>(u[i], u[4 + i]);
        let cd_even = _mm512_shuffle_f32x4::<0x88>(u[8 + i], u[12 + i]);
        let cd_odd = _mm512_shuffle_f32x4::<0xdd>(u[8 + i], u[12 + i]);
        out[i] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
        out[4 + i] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
        out[8 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even);
        out[12 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd);
    }
    out
}
