//! What few models on such a core need, out of the way of the others: inlined it would make the frames of
//! those who call it larger for everybody.

use crate::kernels::{attention, elementwise, scalar};

macro_rules! apart {
    ($($definition:path: fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            #[inline(never)]
            #[allow(clippy::too_many_arguments)]
            pub(in crate::kernels) fn $name($($arg: $type),*) {
                $definition($($arg),*);
            }
        )*
    };
}

apart! {
    elementwise::rms_norm_in_place: fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32);
    elementwise::layer_norm: fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]);
    elementwise::gelu_all: fn gelu_all(x: &mut [f32]);
    scalar::matvec_f32: fn matvec_f32(weights: &[f32], x: &[f32], first_row: usize, out: &mut [f32]);
    scalar::matvec_f16: fn matvec_f16(weights: &[u16], x: &[f32], first_row: usize, out: &mut [f32]);
    attention::attend_f32: fn attend_f32(query: &[f32], keys: &[f32], values: &[f32], len: usize, scores: &mut [f32], out: &mut [f32]);
}
