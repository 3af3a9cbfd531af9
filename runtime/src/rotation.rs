//! Cosines and sines of positions, the same on every CPU and without f64.

/// Cosine and sine of an angle that is not negative; NaN of what is no number, and of infinity.
///
/// The angle becomes a part of a turn as an integer of 32 bits, of which the nearest quarter is taken
/// off; then come the polynomials of Cephes' `cosf` and `sinf` for |x| ≤ π / 4. The error is below
/// 2 · 10⁻⁷ up to 4,096 radians.
pub(crate) fn cos_sin(angle: f32) -> (f32, f32) {
    /// 2⁴⁰ / 2π.
    const TURNS: u64 = 174_992_710_548;
    const RADIANS: f32 = 1.462_918_1e-9; // 2π / 2³²
    if !angle.is_finite() {
        return (f32::NAN, f32::NAN);
    }
    let bits = angle.to_bits();
    let (exponent, fraction) = (bits >> 23 & 0xFF, bits & 0x7F_FFFF | 1 << 23);
    // angle = fraction · 2^(exponent − 150): its turns are that · TURNS / 2⁴⁰, below one in 2⁻³².
    let product = u64::from(fraction) * TURNS;
    let turn = match exponent.checked_sub(158) {
        None => product.checked_shr(158 - exponent).unwrap_or(0),
        Some(up) => product.checked_shl(up).unwrap_or(0),
    } as u32;
    let quarter = turn.wrapping_add(1 << 29) >> 30;
    let x = turn.wrapping_sub(quarter << 30) as i32 as f32 * RADIANS;
    let z = x * x;
    let sin = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * x + x;
    let cos = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    match quarter {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_and_sines_of_positions() {
        let mut worst = [0.0_f64; 2];
        for i in 0..400_000_u32 {
            // Small angles, those of usual contexts, those of long ones.
            let (angle, long) = match i % 3 {
                0 => (i as f32 * 1.7e-6, 0),
                1 => (i as f32 * 0.010_237, 0),
                _ => (i as f32 * 0.327_9, 1),
            };
            let (cos, sin) = cos_sin(angle);
            let error = (f64::from(cos) - f64::from(angle).cos()).abs();
            worst[long] = worst[long].max(error).max((f64::from(sin) - f64::from(angle).sin()).abs());
        }
        assert!(worst[0] < 2e-7 && worst[1] < 3e-6, "{worst:?}");
        assert_eq!(cos_sin(0.0), (1.0, 0.0));
        assert!(cos_sin(f32::INFINITY).0.is_nan() && cos_sin(f32::NAN).1.is_nan());
    }
}
