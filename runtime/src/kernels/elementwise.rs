//! Norms, rotations and activations over one vector: the one definition for all levels.

use crate::format::{BLOCK, GROUP};
use crate::math::{gelu, silu, sum_of};
use crate::quant::quantize_activations;

/// √x, correctly rounded.
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    #[cfg(all(target_arch = "arm", target_abi = "eabihf", target_os = "none"))]
    {
        let mut bits = x.to_bits();
        // SAFETY: plain arithmetic; such a target has the instruction.
        unsafe {
            core::arch::asm!("vmov s0, {bits}", "vsqrt.f32 s0, s0", "vmov {bits}, s0",
                bits = inout(reg) bits, out("s0") _, options(pure, nomem, nostack, preserves_flags));
        }
        f32::from_bits(bits)
    }
    #[cfg(all(target_arch = "x86_64", target_feature = "sse"))]
    {
        use core::arch::x86_64::{_mm_cvtss_f32, _mm_set_ss, _mm_sqrt_ss};
        // SAFETY: such a target has the instructions.
        unsafe { _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))) }
    }
    #[cfg(not(any(
        all(target_arch = "arm", target_abi = "eabihf", target_os = "none"),
        all(target_arch = "x86_64", target_feature = "sse"),
    )))]
    libm::sqrtf(x)
}

/// `1 / √(mean(x²) + eps)`.
// On a chip once for both norms; elsewhere each level compiles it for its own instructions.
#[cfg_attr(target_os = "none", inline(never))]
#[cfg_attr(not(target_os = "none"), inline(always))]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / sqrt(sum_of(x, |x| x * x) / x.len() as f32 + eps)
}

/// `out = x / √(mean(x²) + eps) · weight`, each x multiplied by the root's inverse first.
#[inline(always)]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let inverse = inverse_rms(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * weight;
    }
}

/// The same, in place: Qwen 3's norm of each head.
#[inline(always)]
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let inverse = inverse_rms(x, eps);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * inverse * weight;
    }
}

/// `out = (x − mean) / √(variance + eps) · weight + bias`; without a bias where there is none.
#[inline(always)]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let mean = sum_of(x, |x| x) / n;
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / n;
    let inverse = 1.0 / sqrt(variance + eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (x - mean) * inverse * weight;
    }
    if let Some(bias) = bias {
        add(bias, out);
    }
}

/// `out += x`.
#[inline(always)]
pub fn add(x: &[f32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// SwiGLU: `gate = silu(gate) · up`.
#[inline(always)]
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = silu(*gate) * up;
    }
}

/// GELU in place.
#[inline(always)]
pub fn gelu_all(x: &mut [f32]) {
    for x in x {
        *x = gelu(*x);
    }
}

/// Rotates heads in place, one after the other: number `i` of each with number `i + d/2` by the angle whose
/// cosine and sine are given (d/2 each).
#[inline(always)]
pub fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    for head in heads.chunks_mut((2 * cos.len()).max(1)) {
        let (low, high) = head.split_at_mut(head.len() / 2);
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            let (a, b) = (*low, *high);
            *low = a * cos - b * sin;
            *high = b * cos + a * sin;
        }
    }
}

/// One vector of activations as integers: a scale for each 256 columns, a sum for each 32.
/// `quants` is padded to a multiple of 32 columns.
#[inline(always)]
pub fn quantize(values: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    let of_block = quants.chunks_mut(BLOCK).zip(values.chunks(BLOCK)).zip(scales);
    for ((quants, values), scale) in of_block {
        *scale = quantize_activations(values, quants);
    }
    for (sum, quants) in sums.iter_mut().zip(quants.chunks_exact(GROUP)) {
        *sum = quants.iter().map(|&quant| i32::from(quant)).sum();
    }
}
