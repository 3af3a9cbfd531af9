//! Copies of A and B in the order in which the micro-kernels read them.
//!
//! Packed B is cut into blocks of K and, within a block, into panels of `NR` columns:
//! `[block][panel][k][NR]`, the last panel filled up with zeros. Lengths and ranges of K are in
//! words here (see [`super::kernel::K_BLOCK`]) unless they are said to be in elements.

use super::kernel::{A_ROW_STRIDE, K_BLOCK, Kernel, Layout};
use super::view::MatRef;
use std::ops::Range;

/// f32s whose start is aligned to 64 bytes.
#[derive(Default)]
pub(super) struct Aligned {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Aligned {
    /// The first `len` elements, of any value; grows when there are fewer.
    pub(super) fn get(&mut self, len: usize) -> &mut [f32] {
        let n_lines = len.div_ceil(16);
        if self.lines.len() < n_lines {
            self.lines.resize(n_lines, Line([0.0; 16]));
        }
        // SAFETY: a `Line` is 16 f32s without padding, and there are at least `len / 16` lines.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

/// How K is cut: into equal blocks (but for rounding) of at most [`K_BLOCK`] words. Depends on K
/// and the kernel's precision alone, because it decides the order of every sum.
#[derive(Clone, Copy)]
pub(super) struct KBlocks {
    /// Words.
    k: usize,
    /// Length of every block but the last.
    step: usize,
}

impl KBlocks {
    /// For `k` elements.
    pub(super) fn new<K: Kernel>(k: usize) -> Self {
        let k = k.div_ceil(K::K_PER_WORD);
        let n = k.div_ceil(K_BLOCK).max(1);
        Self { k, step: k.div_ceil(n).next_multiple_of(8).clamp(8, K_BLOCK) }
    }

    /// At least one block, so that a product over nothing still writes its zeros.
    pub(super) fn count(&self) -> usize {
        self.k.div_ceil(self.step).max(1)
    }

    /// All words.
    pub(super) fn words(&self) -> usize {
        self.k
    }

    pub(super) fn range(&self, block: usize) -> Range<usize> {
        (block * self.step).min(self.k)..((block + 1) * self.step).min(self.k)
    }
}

/// The elements of a range of words, of `k` elements in all.
pub(super) fn elements<K: Kernel>(words: &Range<usize>, k: usize) -> Range<usize> {
    (words.start * K::K_PER_WORD).min(k)..(words.end * K::K_PER_WORD).min(k)
}

/// Packs columns `first..first + NR` (as many as exist) and rows `words` of B.
/// `dst` is one panel: `[words.len(), NR]`.
///
/// # Safety
/// The CPU has the kernel's instructions.
pub(super) unsafe fn pack_b_panel<K: Kernel>(
    dst: &mut [f32],
    b: &MatRef<'_>,
    words: &Range<usize>,
    first: usize,
) {
    let cols = (b.cols - first).min(K::NR);
    debug_assert_eq!(dst.len(), words.len() * K::NR);
    let k = elements::<K>(words, b.rows);
    if k.is_empty() {
        return;
    }
    if b.transposed {
        let src = &b.data[first * b.stride + k.start..];
        // SAFETY: the caller's promise.
        unsafe { K::pack_columns(dst, src, b.stride, cols, k.len()) };
        return;
    }
    let src = &b.data[k.start * b.stride + first..];
    if cols == K::NR {
        // SAFETY: the caller's promise.
        unsafe { K::pack_rows(dst, src, b.stride, k.len()) };
        return;
    }
    // The last panel, row by row (or pair by pair) through a copy filled up with zeros.
    let mut rows = [0.0f32; 2 * WIDEST];
    let step = K::K_PER_WORD;
    for (i, to) in dst.chunks_exact_mut(K::NR).enumerate() {
        let here = (k.len() - i * step).min(step);
        for (row, to) in rows.chunks_exact_mut(K::NR).enumerate().take(here) {
            to[..cols].copy_from_slice(&src[(i * step + row) * b.stride..][..cols]);
        }
        // SAFETY: the caller's promise.
        unsafe { K::pack_rows(to, &rows, K::NR, here) };
    }
}

/// No kernel's panels are wider.
const WIDEST: usize = 32;

/// Packs rows `rows` and columns `words` of A into `dst`, which has [`super::kernel::A_TILE`]
/// words.
///
/// # Safety
/// The CPU has the kernel's instructions.
pub(super) unsafe fn pack_a_tile<K: Kernel>(
    dst: &mut [f32],
    a: &MatRef<'_>,
    rows: Range<usize>,
    words: &Range<usize>,
) -> Layout {
    let k = elements::<K>(words, a.cols);
    if a.transposed {
        if !k.is_empty() {
            let src = &a.data[k.start * a.stride + rows.start..];
            // SAFETY: the caller's promise.
            unsafe { K::pack_a_columns(dst, src, a.stride, rows.len(), k.len()) };
        }
        Layout::Columns
    } else {
        for (to, i) in dst.chunks_exact_mut(A_ROW_STRIDE).zip(rows) {
            // SAFETY: the caller's promise.
            unsafe { K::pack_a_row(to, &a.data[i * a.stride..][k.clone()]) };
        }
        Layout::Rows
    }
}

/// Asks for the next tile of A while the current one is being multiplied: its rows lie where
/// the hardware does not expect them.
pub(super) struct Ahead<'a> {
    data: &'a [f32],
    stride: usize,
    /// Stored rows (or columns) that have not been asked for.
    outer: Range<usize>,
    /// Elements of each.
    inner: Range<usize>,
    /// How many of them to ask for at a time.
    step: usize,
}

impl<'a> Ahead<'a> {
    /// For the tile of rows `rows` and columns `k`, in `calls` calls of [`Ahead::some`].
    pub(super) fn new(a: &MatRef<'a>, rows: Range<usize>, k: Range<usize>, calls: usize) -> Self {
        let (outer, inner) = if a.transposed { (k, rows) } else { (rows, k) };
        let step = outer.len().div_ceil(calls.max(1));
        Self { data: a.data, stride: a.stride, outer, inner, step }
    }

    /// Asks for the next part.
    #[inline]
    pub(super) fn some(&mut self) {
        /// Elements of a cache line.
        const LINE: usize = 16;
        let end = (self.outer.start + self.step).min(self.outer.end);
        for outer in self.outer.start..end {
            let start = outer * self.stride;
            let mut at = start + self.inner.start;
            while at < start + self.inner.end {
                super::kernel::prefetch(self.data.as_ptr().wrapping_add(at));
                at += LINE;
            }
            // Where the row does not begin with a line, it ends in one more.
            super::kernel::prefetch(
                self.data.as_ptr().wrapping_add((start + self.inner.end).saturating_sub(1)),
            );
        }
        self.outer.start = end;
    }
}
