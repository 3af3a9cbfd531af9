//! Rotary frequencies, computed once when a checkpoint is read: the runtime finds them in its file.

use core::f32::consts::TAU;

use smidgen_runtime::format::RopeScaling;

/// Radians a position for each of the `head_dim / 2` rotary pairs: `theta^(-2i / head_dim)`,
/// then stretched.
///
/// The power is taken in f64 (by `libm`, so that every host writes the same file) and everything
/// after it in f32, rounded where Hugging Face's `modeling_rope_utils` rounds: the same bits, but
/// where PyTorch's own power is not the nearest f32.
pub fn frequencies(theta: f32, scaling: RopeScaling, head_dim: usize) -> Vec<f32> {
    let base = |i: usize| {
        let exponent = (2 * i) as f32 / head_dim as f32;
        1.0 / libm::pow(f64::from(theta), f64::from(exponent)) as f32
    };
    (0..head_dim / 2).map(base).map(|frequency| scale(frequency, scaling)).collect()
}

fn scale(frequency: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let original = original_context as f32;
            let wavelength = TAU / frequency;
            if wavelength > original / low_freq_factor {
                frequency / factor
            } else if wavelength < original / high_freq_factor {
                frequency
            } else {
                let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
        _ => frequency,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(frequencies: Vec<f32>) -> Vec<u32> {
        frequencies.into_iter().map(f32::to_bits).collect()
    }

    // Golden bits: PyTorch 2.15 with `1.0 / (base ** (torch.arange(0, d, 2).float() / d))`, and
    // `ROPE_INIT_FUNCTIONS` of transformers 5.23.

    #[test]
    fn plain_frequencies_are_torchs() {
        let small =
            [0x3F800000, 0x3EA1E89B, 0x3DCCCCCD, 0x3D0186E3, 0x3C23D70A, 0x3B4F3E38, 0x3A83126F, 0x39A5CB60];
        assert_eq!(bits(frequencies(10_000.0, RopeScaling::None, 16)), small);
        let large = [
            0x3F800000, 0x3F4E4BAD, 0x3F263DE0, 0x3F05F6EF, 0x3ED7E89B, 0x3EADFCFF, 0x3E8C3504, 0x3E61F835,
            0x3E361887, 0x3E12BD91, 0x3DEC7FD6, 0x3DBE94C6, 0x3D99940D, 0x3D778513, 0x3D47763F, 0x3D20BC1D,
            0x3D0186E3, 0x3CD0C1A8, 0x3CA8398B, 0x3C879008, 0x3C5A7BF2, 0x3C301052, 0x3C0DE12D, 0x3BE4AA46,
            0x3BB8449C, 0x3B947DAE, 0x3B6F520E, 0x3B40DAC5, 0x3B1B690D, 0x3AFA78F0, 0x3AC9D75C, 0x3AA2A6F7,
            0x3A83126F, 0x3A533F28, 0x3A2A3B44, 0x3A092E02, 0x39DD1725, 0x39B229FB, 0x398F9272, 0x39676492,
            0x393A7753, 0x39164324, 0x38F22CE2, 0x38C327B5, 0x389D43A4, 0x387D75D4, 0x384C3FBE, 0x382497AB,
            0x3804A2B2, 0x37D5C441, 0x37AC431D, 0x378AD0ED, 0x375FBA4F, 0x37344A0E, 0x371148E3, 0x36EA2732,
            0x36BCB0C1, 0x36980E02, 0x36751070, 0x36457BAB, 0x361F23E4, 0x36003DEC, 0x35CEAF79, 0x35A68E4C,
        ];
        // PyTorch's vectorized power misses the nearest f32 in one of these 64: its last bit differs.
        let ours = bits(frequencies(1_000_000.0, RopeScaling::None, 128));
        let different: Vec<_> = ours.iter().zip(&large).filter(|(a, b)| a != b).collect();
        assert_eq!(different.len(), 1);
        assert!(different.iter().all(|(a, b)| a.abs_diff(**b) == 1));
    }

    #[test]
    fn llama3_scaling_is_transformers_to_the_bit() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        let golden = [
            0x3F800000, 0x3F29E1C6, 0x3EE177BC, 0x3E959EE3, 0x3E4693B0, 0x3E03C6A0, 0x3DAEE4AD, 0x3D681E67,
            0x3D1A08C8, 0x3CCC6F49, 0x3C87A9C3, 0x3C340D6D, 0x3BEEF74F, 0x3B9E9402, 0x3B527720, 0x3AB3D11D,
            0x3A0995D2, 0x393B2DD2, 0x38A3418D, 0x3858AC81, 0x380FC8F8, 0x37BED4F4, 0x377D45C3, 0x3728126B,
            0x36DF10C4, 0x369406CB, 0x36447610, 0x36025F34, 0x35AD07A7, 0x3565A54D, 0x351864A7, 0x34CA41B0,
        ];
        assert_eq!(bits(frequencies(500_000.0, scaling, 64)), golden);
    }

    #[test]
    fn linear_scaling_is_transformers_to_the_bit() {
        let golden =
            [0x3ECCCCCD, 0x3E0186E2, 0x3D23D70A, 0x3C4F3E38, 0x3B83126E, 0x3AA5CB60, 0x39D1B718, 0x3904A2B3];
        assert_eq!(bits(frequencies(10_000.0, RopeScaling::Linear { factor: 2.5 }, 16)), golden);
    }
}
