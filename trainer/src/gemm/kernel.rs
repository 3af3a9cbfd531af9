//! What a micro-kernel is: the innermost product, of which each level has one.

/// Most words of a row of A that go together in a block of K, and the distance between them where
/// each row is contiguous: 14 rows of 384 and a little padding stay in a 32 KiB L1 cache.
///
/// Packed matrices are 32-bit words: an f32 each, or two neighbours in k as bf16, the first in
/// the low half. What is said below of element (i, k) of a packed matrix is said of words.
pub(super) const K_BLOCK: usize = 384;

/// Words between two rows of A in [`Layout::Rows`]. Not a multiple of a large power of two,
/// so that the rows do not fall into the same cache sets.
pub(super) const A_ROW_STRIDE: usize = K_BLOCK + 16;

/// Words between two columns of A in [`Layout::Columns`]; no kernel takes more rows.
pub(super) const A_COLUMN_STRIDE: usize = 16;

/// Room for a packed tile of A in either layout.
pub(super) const A_TILE: usize = A_ROW_STRIDE * A_COLUMN_STRIDE;

/// How a tile of A lies in its buffer. Both are copies of what is contiguous in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Element (i, k) at `i * A_ROW_STRIDE + k`: from an A stored by rows.
    Rows,
    /// Element (i, k) at `k * A_COLUMN_STRIDE + i`: from an A stored by columns.
    Columns,
}

/// One tile's work: `C[rows, cols] = bias + add + Σₖ A[rows, k] · B[k, cols]`, where the sum
/// over k is one chain in ascending order for every element, whatever the tile's size.
///
/// `rows` is in `1..=MR`, `cols` in `1..=NR`; `a` points to `rows × k` words in `layout`,
/// `b` to `k × NR` words, row after row, aligned to 64 bytes; `c`, and `add` unless null,
/// to `rows` rows of `cols` elements at their strides; `bias`, unless null, to `cols` elements.
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) k: usize,
    pub(super) layout: Layout,
    pub(super) a: *const f32,
    pub(super) b: *const f32,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    pub(super) bias: *const f32,
    pub(super) add: *const f32,
    pub(super) add_stride: usize,
}

/// Asks for the cache line at an address, which need not be a valid one.
#[inline(always)]
pub(super) fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction, and it never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// A micro-kernel for one level of instructions.
pub(super) trait Kernel {
    /// Most rows of a tile.
    const MR: usize;
    /// Most columns of a tile, and the width of a packed panel of B.
    const NR: usize;

    /// Computes one tile.
    ///
    /// # Safety
    /// The pointers are as [`Tile`] says, and the CPU has the level's instructions.
    unsafe fn tile(tile: &Tile);

    /// Elements of K in a packed word.
    const K_PER_WORD: usize = 1;

    /// Packs NR columns of `k` elements each, stored by rows (`src[i * stride + j]`), as words
    /// `dst[i * NR + j]`.
    ///
    /// # Safety
    /// The CPU has the level's instructions.
    unsafe fn pack_rows(dst: &mut [f32], src: &[f32], stride: usize, k: usize) {
        for (i, to) in dst.chunks_exact_mut(Self::NR).enumerate().take(k) {
            to.copy_from_slice(&src[i * stride..][..Self::NR]);
        }
    }

    /// Packs `cols` columns of `k` elements each, stored by columns (`src[j * stride + i]`), as
    /// words `dst[i * NR + j]`, with zeros for columns `cols..NR`.
    ///
    /// # Safety
    /// The CPU has the level's instructions.
    unsafe fn pack_columns(dst: &mut [f32], src: &[f32], stride: usize, cols: usize, k: usize) {
        if cols < Self::NR {
            dst.fill(0.0);
        }
        for j in 0..cols {
            let column = &src[j * stride..][..k];
            for (row, &x) in dst.chunks_exact_mut(Self::NR).zip(column) {
                row[j] = x;
            }
        }
    }

    /// Packs a row of A for [`Layout::Rows`]: `from`, of any length, as words.
    ///
    /// # Safety
    /// The CPU has the level's instructions.
    unsafe fn pack_a_row(to: &mut [f32], from: &[f32]) {
        to[..from.len()].copy_from_slice(from);
    }

    /// Packs columns of A for [`Layout::Columns`]: `n` rows of each of `k` columns, stored by
    /// columns (`src[i * stride + r]`).
    ///
    /// # Safety
    /// The CPU has the level's instructions.
    unsafe fn pack_a_columns(dst: &mut [f32], src: &[f32], stride: usize, n: usize, k: usize) {
        for (i, to) in dst.chunks_exact_mut(A_COLUMN_STRIDE).enumerate().take(k) {
            let at = i * stride;
            // A copy of constant length is one instruction; what it copies beyond the rows is
            // never read.
            if let Some(from) = src.get(at..at + A_COLUMN_STRIDE) {
                to.copy_from_slice(from);
            } else {
                to[..n].copy_from_slice(&src[at..at + n]);
            }
        }
    }
}

/// Instructions that products may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust, vectorized by the compiler for the build's target (SSE2, NEON, …).
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F.
    Avx512,
    /// x86-64 with AVX-512 BF16: both factors are rounded to bf16 (8 significant bits, to
    /// nearest even), sums stay f32.
    Avx512Bf16,
}

impl Level {
    /// The best level that this CPU has and that computes in f32.
    pub fn detect() -> Self {
        *[Self::Avx512, Self::Avx2].iter().find(|level| level.is_available()).unwrap_or(&Self::Portable)
    }

    /// The level whose factors are bf16, where this CPU has the instructions.
    pub fn detect_bf16() -> Option<Self> {
        Some(Self::Avx512Bf16).filter(|level| level.is_available())
    }

    /// Whether this CPU has the instructions.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            Self::Avx512Bf16 => {
                is_x86_feature_detected!("avx512bf16")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512f")
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        matches!(self, Self::Portable)
    }
}
