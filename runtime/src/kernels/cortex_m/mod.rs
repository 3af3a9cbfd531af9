//! Cortex-M4, M7 (and M33 with the extension): SMLAD multiplies two pairs of 16 bits and adds both
//! products. Words of weights are such pairs as they are, and again after a mask. Activations are made
//! pairs that fit them once for a product, and serve four rows at a time.

mod attention;
#[cfg(target_abi = "eabihf")]
pub(crate) mod draw;
mod matmul;
mod pairs;
mod quads;
mod query;
mod seldom;
mod small;
#[cfg(target_abi = "eabihf")]
mod steps;
mod two;

use core::arch::asm;

pub(super) use attention::Dsp;
pub(super) use matmul::matmul_quantized;
pub(crate) use pairs::Prepared;

/// What `for_every_level!` takes for this level: the definition where nothing here is faster.
pub(super) mod for_cortex_m {
    pub(in crate::kernels) use super::attention::{store_key, store_value};
    pub(in crate::kernels) use super::seldom::{
        attend_f32, gelu_all, layer_norm, matvec_f16, matvec_f32, rms_norm_in_place,
    };

    #[cfg(target_abi = "eabihf")]
    pub(in crate::kernels) use super::steps::{add, quantize, rms_norm, rotate, silu_mul};
    #[cfg(not(target_abi = "eabihf"))]
    pub(in crate::kernels) use crate::kernels::elementwise::{add, quantize, rms_norm, rotate, silu_mul};
}

/// Bytes 0 and 2, sign-extended to 16 bits.
#[inline(always)]
fn even_bytes(word: u32) -> u32 {
    let out;
    // SAFETY: plain arithmetic; this module is compiled only for targets that have it.
    unsafe {
        asm!("sxtb16 {out}, {word}", out = lateout(reg) out, word = in(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Bytes 1 and 3, sign-extended to 16 bits.
#[inline(always)]
fn odd_bytes(word: u32) -> u32 {
    let out;
    // SAFETY: as in `even_bytes`.
    unsafe {
        asm!("sxtb16 {out}, {word}, ror #8", out = lateout(reg) out, word = in(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Four bytes as they lie in memory.
#[inline(always)]
fn word(bytes: &[i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(|byte| byte as u8))
}

/// The largest magnitude of some numbers, as bits: see [`crate::quant::max_magnitude_bits`].
#[inline(never)]
fn largest_magnitude(values: &[f32]) -> u32 {
    let (fours, rest) = values.as_chunks::<4>();
    let mut max = 0_u32;
    if !fours.is_empty() {
        // Without their sign, floats compare as integers. A larger one is seldom.
        // SAFETY: reads the fours.
        unsafe {
            asm!(
                r"
                2:
                ldm r12!, {{r0-r3}}
                3:
                cmp r4, r0, lsl #1
                blo 4f
                cmp r4, r1, lsl #1
                blo 5f
                cmp r4, r2, lsl #1
                blo 6f
                cmp r4, r3, lsl #1
                blo 7f
                cmp r12, lr
                bne 2b
                b 8f
                4:
                lsl r4, r0, #1
                b 3b
                5:
                lsl r4, r1, #1
                b 3b
                6:
                lsl r4, r2, #1
                b 3b
                7:
                lsl r4, r3, #1
                b 3b
                8:
                ",
                inout("r12") fours.as_ptr() => _, in("lr") fours.as_ptr_range().end, inout("r4") max,
                out("r0") _, out("r1") _, out("r2") _, out("r3") _, options(nostack, readonly),
            );
        }
    }
    rest.iter().fold(max >> 1, |max, x| max.max(x.to_bits() & 0x7FFF_FFFF))
}
