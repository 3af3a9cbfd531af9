//! AVX-512 BF16: as AVX-512, with two products of bf16 factors for each f32 lane and instruction.

// Registers are addressed by row and vector in all loops; iterators would hide the grid.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::avx512::{LANES, NR, by_rows, define_tile, transpose};
use super::kernel::{A_COLUMN_STRIDE, A_ROW_STRIDE, Kernel, Layout, Tile, prefetch};

pub(super) struct Avx512Bf16;

/// Elements that become one register of bf16.
const PAIRS: usize = 2 * LANES;

impl Kernel for Avx512Bf16 {
    const MR: usize = 14;
    const NR: usize = NR;
    const K_PER_WORD: usize = 2;

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

    unsafe fn pack_a_row(to: &mut [f32], from: &[f32]) {
        // SAFETY: the caller's promise about the CPU.
        unsafe { pack_a_row(to, from) }
    }

    unsafe fn pack_a_columns(dst: &mut [f32], src: &[f32], stride: usize, n: usize, k: usize) {
        // SAFETY: the caller's promise about the CPU.
        unsafe { pack_a_columns(dst, src, stride, n, k) }
    }
}

define_tile!("avx512f,avx512bw,avx512bf16", dot);

/// `sum + a · b`, lane by lane of two products.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn dot(a: __m512, b: __m512, sum: __m512) -> __m512 {
    // SAFETY: both types are 64 bytes of which any value is valid.
    let (a, b) =
        unsafe { (std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b)) };
    _mm512_dpbf16_ps(sum, a, b)
}

/// Two registers as bf16, the elements of `low` first.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn round(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both types are 64 bytes of which any value is valid.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Puts the elements of two registers side by side as bf16: words of (low, high).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn pair(low: __m512, high: __m512) -> __m512i {
    let mut order = [0u16; PAIRS];
    for (i, place) in order.iter_mut().enumerate() {
        *place = (i / 2 + i % 2 * LANES) as u16;
    }
    // SAFETY: 64 bytes each.
    let order = unsafe { std::mem::transmute::<[u16; PAIRS], __m512i>(order) };
    _mm512_permutexvar_epi16(order, round(low, high))
}

/// The first `n` of 16 lanes, all for more.
fn lanes(n: usize) -> __mmask16 {
    if n >= LANES { __mmask16::MAX } else { (1 << n) - 1 }
}

/// The elements of `from`, as many as it has of 16; zeros for the others.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(from: &[f32]) -> __m512 {
    // SAFETY: the mask reads what is in `from` only.
    unsafe { _mm512_maskz_loadu_ps(lanes(from.len()), from.as_ptr()) }
}

/// Writes words to the beginning of `to`, as many as it has room for.
#[target_feature(enable = "avx512f")]
#[inline]
fn store(to: &mut [f32], words: __m512i) {
    // SAFETY: the mask writes what is in `to` only.
    unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), lanes(to.len()), words) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_rows(dst: &mut [f32], src: &[f32], stride: usize, k: usize) {
    for (i, to) in dst.chunks_exact_mut(NR).enumerate().take(k.div_ceil(2)) {
        let first = &src[2 * i * stride..][..NR];
        let second = if 2 * i + 1 < k { &src[(2 * i + 1) * stride..][..NR] } else { &[0.0; NR] };
        let both = first.chunks_exact(LANES).zip(second.chunks_exact(LANES));
        for (to, (first, second)) in to.chunks_exact_mut(LANES).zip(both) {
            store(to, pair(load(first), load(second)));
        }
    }
}

/// As [`Kernel::pack_columns`]; 16 columns × 32 elements at a time through registers.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_columns(dst: &mut [f32], src: &[f32], stride: usize, cols: usize, k: usize) {
    for half in 0..NR / LANES {
        let first = half * LANES;
        let n = cols.saturating_sub(first).min(LANES);
        let mut at = 0;
        while at < k {
            let depth = (k - at).min(PAIRS);
            let mut block = [_mm512_setzero_ps(); LANES];
            for (j, words) in block.iter_mut().enumerate().take(n) {
                let column = &src[(first + j) * stride + at..][..depth];
                let (low, high) = column.split_at(depth.min(LANES));
                *words = _mm512_castsi512_ps(round(load(low), load(high)));
            }
            let block = transpose(block);
            let rows = dst[at / 2 * NR..].chunks_exact_mut(NR);
            for (row, words) in rows.zip(block).take(depth.div_ceil(2)) {
                store(&mut row[first..first + LANES], _mm512_castps_si512(words));
            }
            at += PAIRS;
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_a_row(to: &mut [f32], from: &[f32]) {
    let (chunks, tail) = from.as_chunks::<PAIRS>();
    for (to, from) in to.chunks_exact_mut(LANES).zip(chunks) {
        let (low, high) = from.split_at(LANES);
        store(to, round(load(low), load(high)));
    }
    if !tail.is_empty() {
        let (low, high) = tail.split_at(tail.len().min(LANES));
        let to = &mut to[chunks.len() * LANES..][..tail.len().div_ceil(2)];
        store(to, round(load(low), load(high)));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_a_columns(dst: &mut [f32], src: &[f32], stride: usize, n: usize, k: usize) {
    for (i, to) in dst.chunks_exact_mut(A_COLUMN_STRIDE).enumerate().take(k.div_ceil(2)) {
        let first = load(&src[2 * i * stride..][..n]);
        let second =
            if 2 * i + 1 < k { load(&src[(2 * i + 1) * stride..][..n]) } else { _mm512_setzero_ps() };
        store(to, pair(first, second));
    }
}
