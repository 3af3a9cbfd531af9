//! AVX2 and FMA: 6 × 16 elements of C in 12 registers, two of B, one broadcast of A.

// Registers are addressed by row and vector in all loops; iterators would hide the grid.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::kernel::{A_COLUMN_STRIDE, A_ROW_STRIDE, Kernel, Layout, Tile};

pub(super) struct Avx2;

const LANES: usize = 8;
const VECTORS: usize = 2;

impl Kernel for Avx2 {
    const MR: usize = 6;
    const NR: usize = LANES * VECTORS;

    unsafe fn tile(t: &Tile) {
        macro_rules! by_rows {
            ($a_by_rows:literal: $($rows:literal)+) => {
                match t.rows {
                    // SAFETY: the caller's promise; the number of rows is that of the tile.
                    $($rows => unsafe { tile::<$rows, $a_by_rows>(t) },)+
                    rows => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        match t.layout {
            Layout::Rows => by_rows!(true: 1 2 3 4 5 6),
            Layout::Columns => by_rows!(false: 1 2 3 4 5 6),
        }
    }
}

/// # Safety
/// As [`Kernel::tile`], with `R == t.rows`.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize, const A_BY_ROWS: bool>(t: &Tile) {
    let (row_step, k_step) = if A_BY_ROWS { (A_ROW_STRIDE, 1) } else { (1, A_COLUMN_STRIDE) };
    let mut acc = [[_mm256_setzero_ps(); VECTORS]; R];
    let (mut a, mut b) = (t.a, t.b);
    for _ in 0..t.k {
        // SAFETY: `b` walks over k rows of NR aligned elements, `a` over k columns of R
        // elements in the layout that the constants spell.
        unsafe {
            let row = [_mm256_load_ps(b), _mm256_load_ps(b.add(LANES))];
            for r in 0..R {
                let x = _mm256_set1_ps(*a.add(r * row_step));
                for v in 0..VECTORS {
                    acc[r][v] = _mm256_fmadd_ps(x, row[v], acc[r][v]);
                }
            }
            a = a.add(k_step);
            b = b.add(Avx2::NR);
        }
    }
    let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for v in 0..VECTORS {
        let at = v * LANES;
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(t.cols as i32 - at as i32), lane);
        for r in 0..R {
            // SAFETY: the mask ends at `cols`; lanes that it switches off are not touched, so
            // addresses beyond the row are never read or written.
            unsafe {
                let mut x = acc[r][v];
                if !t.bias.is_null() {
                    x = _mm256_add_ps(x, _mm256_maskload_ps(t.bias.wrapping_add(at), mask));
                }
                if !t.add.is_null() {
                    let from = t.add.wrapping_add(r * t.add_stride + at);
                    x = _mm256_add_ps(x, _mm256_maskload_ps(from, mask));
                }
                _mm256_maskstore_ps(t.c.wrapping_add(r * t.c_stride + at), mask, x);
            }
        }
    }
}
