//! What the layers' inner loops are made of: sums with a fixed order, and an exponential that
//! the compiler vectorizes.
//!
//! `vectorized!` compiles a loop for several levels of instructions and picks one at run time.
//! The loops use plain multiplications and additions in a written order, so all levels give the
//! same bits.

/// Running sums of a reduction; one AVX-512 register, or two or four narrower ones.
const LANES: usize = 16;

/// Defines a function whose body is compiled for AVX-512, for AVX2 and for the build's target,
/// and which runs the best of them that the CPU has.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                if $crate::layers::math::has_avx512() {
                    // SAFETY: the CPU has the instructions.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has the instructions.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorized;

/// Whether the CPU has all that the AVX-512 version of a [`vectorized!`] function may use.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Σ f(a, b, c) over three slices of one length: sixteen running sums by index mod 16, then a
/// tree.
#[inline(always)]
pub(crate) fn sum_map3(a: &[f32], b: &[f32], c: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a, a_tail) = a.as_chunks::<LANES>();
    let (b, b_tail) = b.as_chunks::<LANES>();
    let (c, c_tail) = c.as_chunks::<LANES>();
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for i in 0..LANES {
            sums[i] += f(a[i], b[i], c[i]);
        }
    }
    for (sum, ((&a, &b), &c)) in sums.iter_mut().zip(a_tail.iter().zip(b_tail).zip(c_tail)) {
        *sum += f(a, b, c);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Σ f(a, b), in the order of [`sum_map3`].
#[inline(always)]
pub(crate) fn sum_map2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    sum_map3(a, b, b, |a, b, _| f(a, b))
}

/// Σ f(a), in the order of [`sum_map3`].
#[inline(always)]
pub(crate) fn sum_map(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum_map3(a, a, a, |a, _, _| f(a))
}

/// The largest element; negative infinity for none, any value when one is not a number.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, tail) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            best[i] = larger(chunk[i], best[i]);
        }
    }
    for (best, &x) in best.iter_mut().zip(tail) {
        *best = larger(x, *best);
    }
    best.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// eˣ within 2 units in the last place; 0 below −87, infinity from 88.4 on, NaN for NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; then 2ⁿ by its exponent bits and eʳ by its Taylor
/// polynomial of degree 7 (next term below 6e-9).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > 89.0 { 89.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let scale = f32::from_bits((exponent.wrapping_add(127) << 23) as u32);
    // A result this small would only make later arithmetic slow (subnormals).
    if x < -87.0 { 0.0 } else { p * scale }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

vectorized! {
    /// `target[j] += rows[i * stride + first + j]`, in ascending i.
    pub(crate) fn add_rows(target: &mut [f32], rows: &[f32], stride: usize, first: usize) {
        for row in rows.chunks(stride) {
            for (t, &x) in target.iter_mut().zip(&row[first..]) {
                *t += x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in -8700..=8830 {
            let x = i as f32 / 100.0;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 2.4e-7, "exp({x}) = {got}, not {want}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_see_every_element() {
        for n in 0..70 {
            let a: Vec<f32> = (1..=n).map(|i| i as f32).collect();
            assert_eq!(sum_map(&a, |x| 2.0 * x), (n * (n + 1)) as f32);
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&a), largest);
            let reversed: Vec<f32> = a.iter().rev().copied().collect();
            assert_eq!(max(&reversed), largest);
        }
    }
}
