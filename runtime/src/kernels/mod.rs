//! The arithmetic. [`scalar`] is its definition; every other level must equal it to the bit.
//!
//! Each level is one file with the same functions. Products differ, because integers may be
//! added in any order; everything in floats is one piece of code ([`elementwise`],
//! [`attention`], [`crate::math`]) that every level compiles for its own instructions.

pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[doc(hidden)]
pub mod bench;
#[cfg(smidgen_dsp)]
mod cortex_m;
#[cfg(smidgen_dsp)]
pub(crate) use cortex_m::Prepared;
#[cfg(all(smidgen_dsp, target_abi = "eabihf"))]
pub(crate) use cortex_m::draw;
pub mod elementwise;
mod level;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod scalar;
#[cfg(feature = "wide")]
mod wide;

use core::ops::Range;

#[cfg(target_arch = "x86_64")]
use crate::format::QUAD;
use crate::tensor::{Matrix, Weights};
use crate::workers::Disjoint;

use attention::{HeadCacheQ8, Products, Queries, Scratch};
use level::Kind;
pub use level::Level;

/// The right-hand side of a product: `n` vectors of `cols` activations, as floats and, if the
/// matrix is quantized, as integers.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// How many vectors.
    pub n: usize,
    /// Their length.
    pub cols: usize,
    /// `[n, cols]`.
    pub values: &'a [f32],
    /// `[n, padded_cols]`, zero past `cols`; −127 to 127.
    pub quants: &'a [i8],
    /// `[n, blocks]`.
    pub scales: &'a [f32],
    /// Sums of each group's integers, `[n, groups]`: levels whose multiplier takes one unsigned
    /// side shift the weights and take the shift back by these.
    pub sums: &'a [i32],
}

/// One vector's integers.
#[derive(Clone, Copy, Debug)]
pub struct Quantized<'a> {
    /// `[padded_cols]`.
    pub quants: &'a [i8],
    /// `[blocks]`.
    pub scales: &'a [f32],
    /// `[groups]`.
    pub sums: &'a [i32],
}

impl<'a> Activations<'a> {
    /// One vector's integers, for a matrix of `padded_cols` columns.
    #[cfg_attr(smidgen_dsp, allow(dead_code))] // which is then the only level, and takes none apart
    #[inline]
    pub(crate) fn quantized(&self, index: usize, padded_cols: usize) -> Quantized<'a> {
        let (groups, blocks) =
            (padded_cols / crate::format::GROUP, padded_cols.div_ceil(crate::format::BLOCK));
        Quantized {
            quants: self.quants.get(index * padded_cols..(index + 1) * padded_cols).unwrap_or(&[]),
            scales: self.scales.get(index * blocks..(index + 1) * blocks).unwrap_or(&[]),
            sums: self.sums.get(index * groups..(index + 1) * groups).unwrap_or(&[]),
        }
    }

    /// One vector's floats.
    #[inline]
    pub(crate) fn vector(&self, index: usize) -> &'a [f32] {
        self.values.get(index * self.cols..(index + 1) * self.cols).unwrap_or(&[])
    }
}

/// What a level makes of an input for its products with several matrices: here nothing.
#[cfg(not(smidgen_dsp))]
pub(crate) struct Prepared;

#[cfg(not(smidgen_dsp))]
impl Prepared {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self
    }
}

/// The product of some rows of a matrix with every vector: `out[i · stride + row]` for each row
/// in `rows` (a range that begins at a multiple of four). `prepared` is new for each input.
///
/// # Safety
/// Nobody else may read or write those places of `out` meanwhile; what is prepared was so by products with
/// this input.
#[cfg_attr(not(smidgen_dsp), allow(unused_variables))]
pub(crate) unsafe fn matmul(
    level: Level,
    matrix: &Matrix<'_>,
    input: &Activations<'_>,
    prepared: &mut Prepared,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    match (level.kind(), &matrix.weights) {
        // In all arms the level's existence proves that the CPU has its instructions, and the
        // places of `out` are this caller's alone (this function's contract).
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as said.
        (Kind::Avx512, Weights::Q8(planes)) => unsafe {
            avx512::matmul_quantized::<8>(planes, input, rows, out, stride);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        (Kind::Avx512, Weights::Q4(planes)) => unsafe {
            avx512::matmul_quantized::<4>(planes, input, rows, out, stride);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        (Kind::Avx2, Weights::Q8(planes)) => unsafe {
            avx2::matmul_quantized::<8>(planes, input, rows, out, stride);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        (Kind::Avx2, Weights::Q4(planes)) => unsafe {
            avx2::matmul_quantized::<4>(planes, input, rows, out, stride);
        },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        (Kind::Neon, Weights::Q8(planes)) => unsafe {
            neon::matmul_quantized::<8, false>(planes, input, rows, out, stride);
        },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        (Kind::Neon, Weights::Q4(planes)) => unsafe {
            neon::matmul_quantized::<4, false>(planes, input, rows, out, stride);
        },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        (Kind::NeonDot, Weights::Q8(planes)) => unsafe {
            neon::matmul_quantized::<8, true>(planes, input, rows, out, stride);
        },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        (Kind::NeonDot, Weights::Q4(planes)) => unsafe {
            neon::matmul_quantized::<4, true>(planes, input, rows, out, stride);
        },
        #[cfg(smidgen_dsp)]
        // SAFETY: as above.
        (Kind::CortexM, Weights::Q8(planes)) if cfg!(feature = "q8") => unsafe {
            cortex_m::matmul_quantized(8, planes, input, prepared, rows, out, stride);
        },
        #[cfg(smidgen_dsp)]
        // SAFETY: as above.
        (Kind::CortexM, Weights::Q4(planes)) if cfg!(feature = "q4") => unsafe {
            cortex_m::matmul_quantized(4, planes, input, prepared, rows, out, stride);
        },
        #[cfg(feature = "wide")]
        // SAFETY: as above.
        (Kind::Wide, Weights::Q8(planes)) => unsafe {
            wide::matmul_quantized::<8>(planes, input, rows, out, stride);
        },
        #[cfg(feature = "wide")]
        // SAFETY: as above.
        (Kind::Wide, Weights::Q4(planes)) => unsafe {
            wide::matmul_quantized::<4>(planes, input, rows, out, stride);
        },
        _ => {
            for i in 0..input.n {
                // SAFETY: as above, and the slice is gone before the next one is made.
                let out = unsafe { out.part(i * stride + rows.start..i * stride + rows.end) };
                match &matrix.weights {
                    Weights::F32(all) if cfg!(feature = "f32") => {
                        matvec_f32(level, all, input.vector(i), rows.start, out);
                    }
                    Weights::F16(all) if cfg!(feature = "f16") => {
                        matvec_f16(level, all, input.vector(i), rows.start, out);
                    }
                    #[cfg(smidgen_scalar)]
                    Weights::Q8(planes) if cfg!(feature = "q8") => {
                        let x = input.quantized(i, planes.padded_cols);
                        scalar::matvec_q8(planes, &x, rows.start, out);
                    }
                    #[cfg(smidgen_scalar)]
                    Weights::Q4(planes) if cfg!(feature = "q4") => {
                        let x = input.quantized(i, planes.padded_cols);
                        scalar::matvec_q4(planes, &x, rows.start, out);
                    }
                    // The level's own, above, or not compiled in: refused when the model was loaded.
                    _ => {}
                }
            }
        }
    }
}

/// Functions that are the same code on every level: each is compiled once for each level's
/// instructions, and the dispatcher takes the level's.
macro_rules! for_every_level {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $definition:path;)*) => {
        $(
            $(#[$doc])*
            #[allow(clippy::too_many_arguments)]
            pub(crate) fn $name(level: Level, $($arg: $type),*) $(-> $ret)? {
                match level.kind() {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the level's existence proves that the CPU has its instructions.
                    Kind::Avx512 => unsafe { for_avx512::$name($($arg),*) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Kind::Avx2 => unsafe { for_avx2::$name($($arg),*) },
                    // NEON is part of the target: the definition is compiled for it already.
                    #[cfg(target_arch = "aarch64")]
                    Kind::Neon | Kind::NeonDot => $definition($($arg),*),
                    #[cfg(smidgen_dsp)]
                    Kind::CortexM => cortex_m::for_cortex_m::$name($($arg),*),
                    #[cfg(feature = "wide")]
                    Kind::Wide => $definition($($arg),*),
                    #[cfg(smidgen_scalar)]
                    Kind::Scalar => $definition($($arg),*),
                }
            }
        )*
        #[cfg(target_arch = "x86_64")]
        mod for_avx512 {
            use super::*;
            $(
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                #[allow(clippy::too_many_arguments)]
                pub(super) fn $name($($arg: $type),*) $(-> $ret)? { $definition($($arg),*) }
            )*
        }
        #[cfg(target_arch = "x86_64")]
        mod for_avx2 {
            use super::*;
            $(
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                pub(super) fn $name($($arg: $type),*) $(-> $ret)? { $definition($($arg),*) }
            )*
        }
    };
}

for_every_level! {
    /// [`scalar::matvec_f32`].
    fn matvec_f32(weights: &[f32], x: &[f32], first_row: usize, out: &mut [f32]) = scalar::matvec_f32;
    /// [`scalar::matvec_f16`].
    fn matvec_f16(weights: &[u16], x: &[f32], first_row: usize, out: &mut [f32]) = scalar::matvec_f16;
    /// [`elementwise::rms_norm`].
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = elementwise::rms_norm;
    /// [`elementwise::rms_norm_in_place`].
    fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) = elementwise::rms_norm_in_place;
    /// [`elementwise::layer_norm`].
    fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) = elementwise::layer_norm;
    /// [`elementwise::add`].
    fn add(x: &[f32], out: &mut [f32]) = elementwise::add;
    /// [`elementwise::silu_mul`].
    fn silu_mul(gate: &mut [f32], up: &[f32]) = elementwise::silu_mul;
    /// [`elementwise::gelu_all`].
    fn gelu_all(x: &mut [f32]) = elementwise::gelu_all;
    /// [`elementwise::rotate`].
    fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32]) = elementwise::rotate;
    /// [`elementwise::quantize`].
    fn quantize(values: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [i32]) = elementwise::quantize;
    /// [`attention::store_key`].
    fn store_key(key: &[f32], position: usize, keys: &mut [i8]) -> u8 = attention::store_key;
    /// [`attention::store_value`].
    fn store_value(value: &[f32], position: usize, values: &mut [i8]) -> u8 = attention::store_value;
    /// [`attention::attend_f32`].
    fn attend_f32(query: &[f32], keys: &[f32], values: &[f32], len: usize, scores: &mut [f32], out: &mut [f32]) = attention::attend_f32;
}

/// [`Products::attend`] of the level.
pub(crate) fn attend_q8(
    level: Level,
    queries: &[f32],
    head_dim: usize,
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    match level.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level's existence proves that the CPU has its instructions.
        Kind::Avx512 => unsafe { avx512::attend_q8(queries, head_dim, cache, len, scratch, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Kind::Avx2 => unsafe { avx2::attend_q8(queries, head_dim, cache, len, scratch, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Kind::Neon => unsafe { neon::attend_q8::<false>(queries, head_dim, cache, len, scratch, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Kind::NeonDot => unsafe { neon::attend_q8::<true>(queries, head_dim, cache, len, scratch, out) },
        #[cfg(smidgen_dsp)]
        Kind::CortexM => cortex_m::Dsp::attend(queries, head_dim, cache, len, scratch, out),
        #[cfg(feature = "wide")]
        Kind::Wide => wide::Wide::attend(queries, head_dim, cache, len, scratch, out),
        #[cfg(smidgen_scalar)]
        Kind::Scalar => scalar::Scalar::attend(queries, head_dim, cache, len, scratch, out),
    }
}

/// Attention of some tokens' queries, as [`attend_q8`] of each.
///
/// # Safety
/// Of each token, nobody writes to these queries or touches their places in `out` meanwhile.
pub(crate) unsafe fn attend_tokens_q8(
    level: Level,
    all: &Queries<'_>,
    cache: &HeadCacheQ8<'_>,
    scratch: &mut Scratch<'_>,
) {
    #[cfg(target_arch = "x86_64")]
    if level.kind() == Kind::Avx512 {
        // SAFETY: the level's existence proves that the CPU has its instructions; the rest as promised.
        return unsafe { avx512::attend_tokens_q8(all, cache, scratch) };
    }
    for token in 0..all.n {
        let at = all.place(token, 0)..all.place(token, all.heads);
        // SAFETY: as promised.
        let (queries, out) = unsafe { (all.queries.shared(at.clone()), all.out.part(at)) };
        attend_q8(level, queries, all.head_dim, cache, all.len + token, scratch, out);
    }
}

/// [`attention::store_key`] of four tokens' heads that have the places `quad` for themselves, and their
/// scales; `KEYS` false: values. `None` if the level has no code of its own for that.
#[cfg(target_arch = "x86_64")]
pub(crate) fn store_quad<const KEYS: bool>(
    level: Level,
    heads: [&[f32]; QUAD],
    quad: &mut [i8],
) -> Option<[u8; QUAD]> {
    if level.kind() != Kind::Avx512 {
        return None;
    }
    // SAFETY: the level's existence proves that the CPU has its instructions.
    unsafe { avx512::store_quad::<KEYS>(heads, quad) }
}
