//! ggml's block types: how many numbers a block holds, in how many bytes, and what they are.
//!
//! Layouts are those of `ggml-common.h` in <https://github.com/ggml-org/llama.cpp>; numbers come out
//! as its reference functions (`dequantize_row_*`) give them, to the bit.

use half::f16;

/// A tensor type of a GGUF file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum GgmlType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q4K = 12,
    Q5K = 13,
    Q6K = 14,
    Bf16 = 30,
}

/// Names of the types that GGUF numbers, read or not, for messages.
const NAMES: [&str; 40] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
];

/// What a type number is called.
pub(crate) fn name_of(number: u32) -> &'static str {
    NAMES.get(number as usize).copied().unwrap_or("unknown")
}

impl GgmlType {
    pub(crate) const fn from_u32(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        name_of(self as u32)
    }

    /// Numbers in a block; a row is whole blocks.
    pub(crate) const fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The numbers of one block.
    ///
    /// # Panics
    /// If `bytes` or `out` has another length than a block's, or this is a plain float type.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert!(bytes.len() == self.bytes() && out.len() == self.block(), "one block");
        match self {
            Self::Q4_0 => {
                let d = half_at(bytes, 0);
                for (i, &byte) in bytes[2..].iter().enumerate() {
                    out[i] = (f32::from(byte & 15) - 8.0) * d;
                    out[i + 16] = (f32::from(byte >> 4) - 8.0) * d;
                }
            }
            Self::Q4_1 => {
                let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
                for (i, &byte) in bytes[4..].iter().enumerate() {
                    out[i] = f32::from(byte & 15) * d + m;
                    out[i + 16] = f32::from(byte >> 4) * d + m;
                }
            }
            Self::Q5_0 => {
                let d = half_at(bytes, 0);
                fifth_bits(&bytes[2..], |i, quant| out[i] = (f32::from(quant) - 16.0) * d);
            }
            Self::Q5_1 => {
                let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
                fifth_bits(&bytes[4..], |i, quant| out[i] = f32::from(quant) * d + m);
            }
            Self::Q8_0 => {
                let d = half_at(bytes, 0);
                for (out, &byte) in out.iter_mut().zip(&bytes[2..]) {
                    *out = f32::from(byte as i8) * d;
                }
            }
            Self::Q4K => {
                let (d, min) = (half_at(bytes, 0), half_at(bytes, 2));
                let (scales, quants) = (&bytes[4..16], &bytes[16..]);
                for (i, out) in out.iter_mut().enumerate() {
                    let (scale, offset) = six_bit_scale(scales, i / 32);
                    let byte = quants[i / 64 * 32 + i % 32];
                    let quant = if i / 32 % 2 == 0 { byte & 15 } else { byte >> 4 };
                    *out = d * f32::from(scale) * f32::from(quant) - min * f32::from(offset);
                }
            }
            Self::Q5K => {
                let (d, min) = (half_at(bytes, 0), half_at(bytes, 2));
                let (scales, high, quants) = (&bytes[4..16], &bytes[16..48], &bytes[48..]);
                for (i, out) in out.iter_mut().enumerate() {
                    let (scale, offset) = six_bit_scale(scales, i / 32);
                    let byte = quants[i / 64 * 32 + i % 32];
                    let low = if i / 32 % 2 == 0 { byte & 15 } else { byte >> 4 };
                    let quant = low | (high[i % 32] >> (i / 32) & 1) << 4;
                    *out = d * f32::from(scale) * f32::from(quant) - min * f32::from(offset);
                }
            }
            Self::Q6K => {
                let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
                let d = half_at(bytes, 208);
                for (i, out) in out.iter_mut().enumerate() {
                    // Two halves of 128; in each four runs of 32 that share the high bits' bytes.
                    let (part, run, l) = (i / 128, i / 32 % 4, i % 32);
                    let byte = low[part * 64 + run % 2 * 32 + l];
                    let nibble = if run < 2 { byte & 15 } else { byte >> 4 };
                    let quant = nibble | (high[part * 32 + l] >> (2 * run) & 3) << 4;
                    let scale = scales[i / 16] as i8;
                    *out = d * f32::from(scale) * (f32::from(quant) - 32.0);
                }
            }
            Self::F32 | Self::F16 | Self::Bf16 => panic!("plain floats have no blocks"),
        }
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The 32 numbers of five bits: u32 of fifth bits, then 16 bytes of low and high nibbles.
fn fifth_bits(bytes: &[u8], mut put: impl FnMut(usize, u8)) {
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, &byte) in bytes[4..20].iter().enumerate() {
        put(i, byte & 15 | ((high >> i & 1) as u8) << 4);
        put(i + 16, byte >> 4 | ((high >> (i + 16) & 1) as u8) << 4);
    }
}

/// The `j`-th of eight (scale, minimum) pairs of 6 bits in 12 bytes.
fn six_bit_scale(bytes: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (bytes[j] & 63, bytes[j + 4] & 63)
    } else {
        let shared = bytes[j + 4];
        (shared & 15 | bytes[j - 4] >> 6 << 4, shared >> 4 | bytes[j] >> 6 << 4)
    }
}

/// Appends numbers as Q8_0 blocks, as ggml's reference quantizer makes them.
///
/// # Panics
/// If they are no whole blocks.
pub(crate) fn encode_q8_0(values: &[f32], out: &mut Vec<u8>) {
    assert!(values.len().is_multiple_of(32), "whole blocks");
    for block in values.chunks(32) {
        let max = block.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        let d = max / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out.extend(f16::from_f32(d).to_le_bytes());
        // roundf: halves away from zero.
        out.extend(block.iter().map(|value| libm::roundf(value * inverse) as i8 as u8));
    }
}

#[cfg(test)]
#[path = "quants_tests.rs"]
pub(crate) mod tests;
