//! The runtime's quantizer, compiled for the vectors that this CPU has.

use smidgen_runtime::format::writer::{PackLoss, Slab};

/// Defines a function whose body is compiled for each width of vectors; all compute the same bits,
/// because nothing in it depends on the width and Rust contracts no products into sums.
macro_rules! for_each_width {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) -> $result {
            #[inline(always)]
            fn plain($($arg: $type),*) -> $result $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                fn widest($($arg: $type),*) -> $result {
                    plain($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) -> $result {
                    plain($($arg),*)
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: this CPU has the features that the function is compiled for.
                    return unsafe { widest($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { wide($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

pub(crate) use for_each_width;

for_each_width! {
    /// [`Slab::pack`].
    pub(super) fn pack(slab: &mut Slab<'_>, values: &[f32], importance: Option<&[f32]>) -> PackLoss {
        slab.pack(values, importance)
    }
}

for_each_width! {
    /// The largest magnitude as bits, NaN above infinity.
    pub(super) fn largest(values: &[f32]) -> u32 {
        smidgen_runtime::quant::max_magnitude_bits(values)
    }
}
