//! Plain Rust: loops of constant length that the compiler turns into the target's vectors.

// Registers are addressed by row and column; iterators would hide the grid.
#![allow(clippy::needless_range_loop)]

use super::kernel::{A_COLUMN_STRIDE, A_ROW_STRIDE, Kernel, Layout, Tile};

pub(super) struct Portable;

/// Multiply and add: fused only where one instruction does it, since elsewhere it is a call.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

impl Kernel for Portable {
    // NEON has 32 vector registers of four lanes, SSE2 16.
    const MR: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };
    const NR: usize = 8;

    unsafe fn tile(t: &Tile) {
        match t.layout {
            // SAFETY: the caller's promise.
            Layout::Rows => unsafe { tile::<true>(t) },
            // SAFETY: the caller's promise.
            Layout::Columns => unsafe { tile::<false>(t) },
        }
    }
}

/// # Safety
/// As [`Kernel::tile`].
unsafe fn tile<const A_BY_ROWS: bool>(t: &Tile) {
    const R: usize = Portable::MR;
    const N: usize = Portable::NR;
    let (row_step, k_step) = if A_BY_ROWS { (A_ROW_STRIDE, 1) } else { (1, A_COLUMN_STRIDE) };
    let mut acc = [[0.0f32; N]; R];
    for k in 0..t.k {
        // SAFETY: row k of a panel of NR columns.
        let row = unsafe { *t.b.add(k * N).cast::<[f32; N]>() };
        for r in 0..R {
            // SAFETY: an element of the tile of A, whose buffer has room for MR rows even where
            // fewer are used (what is there is multiplied and then ignored).
            let x = unsafe { *t.a.add(r * row_step + k * k_step) };
            for j in 0..N {
                acc[r][j] = multiply_add(x, row[j], acc[r][j]);
            }
        }
    }
    for (r, acc) in acc.iter().enumerate().take(t.rows) {
        for (j, &x) in acc.iter().enumerate().take(t.cols) {
            // SAFETY: r < rows and j < cols.
            unsafe {
                let mut x = x;
                if !t.bias.is_null() {
                    x += *t.bias.add(j);
                }
                if !t.add.is_null() {
                    x += *t.add.add(r * t.add_stride + j);
                }
                *t.c.add(r * t.c_stride + j) = x;
            }
        }
    }
}
