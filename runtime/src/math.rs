//! The elementwise functions, written once: plain multiplies and adds in one order, no fused
//! operations, no platform library. Every SIMD level compiles this very code for its instructions,
//! so all of them agree to the bit.

/// Adding and subtracting this rounds to an integer, ties to even.
pub(crate) const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23

/// What [`exp`] is made of, in the order in which it is needed: log₂ e, [`ROUND`], ln 2 in two parts,
/// the polynomial's coefficients from the highest power down to r², and 1.
pub(crate) const EXP: [f32; 11] = [
    core::f32::consts::LOG2_E,
    ROUND,
    0.693_359_4,
    -2.121_944_4e-4,
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
    1.0,
];

/// e^x with an error below 2 units in the last place; 0 below −87, constant above 88.
///
/// Range reduction x = n·ln 2 + r with ln 2 in two parts, then the degree-5 polynomial of
/// Cephes' `expf` on |r| ≤ ln 2 / 2.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = if x > 88.0 { 88.0 } else { x };
    let e = exp_in_range(clamped);
    if x < -87.0 { 0.0 } else { e }
}

/// [`exp`] where x is known to be between −87 and 88; elsewhere some number.
#[inline(always)]
pub(crate) fn exp_in_range(x: f32) -> f32 {
    let [log2_e, round, ln_2_high, ln_2_low, p5, p4, p3, p2, p1, p0, one] = EXP;
    let shifted = x * log2_e + round;
    let n = shifted - round;
    let r = (x - n * ln_2_high) - n * ln_2_low;
    let p = ((((p5 * r + p4) * r + p3) * r + p2) * r + p1) * r + p0;
    let p = p * (r * r) + r + one;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(round.to_bits() as i32);
    p * f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// x · σ(x), SwiGLU's activation.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GPT-2's GELU, ½x(1 + tanh(√(2/π)(x + 0.044715x³))), as x · σ(2√(2/π)(x + 0.044715x³)).
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;
    let inner = TWICE_SQRT_2_OVER_PI * (x + 0.044_715 * (x * x * x));
    x / (1.0 + exp(-inner))
}

/// The sum of eight running sums in its one order: halves, quarters, last pair.
#[inline(always)]
pub fn sum_lanes(s: [f32; 8]) -> f32 {
    let t = [s[0] + s[4], s[1] + s[5], s[2] + s[6], s[3] + s[7]];
    (t[0] + t[2]) + (t[1] + t[3])
}

/// Sums `f` of every element: element i goes to running sum i mod 8.
#[inline(always)]
pub fn sum_of(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f(*value);
    }
    sum_lanes(lanes)
}

/// The inner product of two vectors of one length: product i goes to running sum i mod 8.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    sum_lanes(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_of_the_last_place_over_its_whole_range() {
        let mut worst = 0.0_f64;
        let mut x = -87.0_f32;
        while x < 88.0 {
            let want = f64::from(x).exp();
            let ulp = f64::from(f32::from_bits((want as f32).to_bits() + 1)) - f64::from(want as f32);
            worst = worst.max((f64::from(exp(x)) - want).abs() / ulp);
            x += 0.000_917;
        }
        assert!(worst < 2.0, "{worst} units in the last place");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-87.1), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1e9).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_match_their_definitions() {
        for i in -80..80 {
            let x = i as f32 * 0.1;
            let d = f64::from(x);
            let silu_want = d / (1.0 + (-d).exp());
            let tanh = ((2.0 / core::f64::consts::PI).sqrt() * (d + 0.044715 * d * d * d)).tanh();
            let gelu_want = 0.5 * d * (1.0 + tanh);
            assert!((f64::from(silu(x)) - silu_want).abs() < 2e-6, "silu({x})");
            assert!((f64::from(gelu(x)) - gelu_want).abs() < 2e-6, "gelu({x})");
        }
    }

    #[test]
    fn sums_take_every_element_whatever_the_length() {
        for n in 0..40 {
            let a: std::vec::Vec<f32> = (0..n).map(|i| (i + 1) as f32).collect();
            let want: f32 = (1..=n).map(|i| (i * i) as f32).sum();
            assert_eq!(dot(&a, &a), want);
            assert_eq!(sum_of(&a, |x| x * x), want);
        }
    }
}
