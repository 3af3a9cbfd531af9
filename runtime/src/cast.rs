//! Views of bytes as numbers: the one place, besides memory carving, where a pointer changes type.

// The file is little-endian and is read in place.
#[cfg(target_endian = "big")]
compile_error!("smidgen-runtime reads model files in place and needs a little-endian target");

macro_rules! view {
    ($name:ident, $type:ty, $what:literal) => {
        #[doc = concat!("The bytes as ", $what, "; `None` if misaligned or of a length that does not divide.")]
        pub(crate) fn $name(bytes: &[u8]) -> Option<&[$type]> {
            let size = size_of::<$type>();
            if bytes.as_ptr().align_offset(align_of::<$type>()) != 0 || !bytes.len().is_multiple_of(size) {
                return None;
            }
            // SAFETY: the pointer is aligned (checked above), the length covers exactly these
            // bytes, every bit pattern is a value of the type, and the borrow keeps its lifetime.
            Some(unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size) })
        }
    };
}

view!(as_f32, f32, "f32");
view!(as_u16, u16, "u16");

/// Floats as words of scratch memory: same size, same alignment, every pattern valid for both.
pub(crate) fn f32_as_u32_mut(values: &mut [f32]) -> &mut [u32] {
    // SAFETY: f32 and u32 have one size and alignment, every bit pattern is valid for both, and
    // the exclusive borrow keeps its lifetime.
    unsafe { core::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

/// Floats as twice as many short integers: every pattern is valid for both.
pub(crate) fn f32_as_i16_mut(values: &mut [f32]) -> &mut [i16] {
    // SAFETY: an f32 is two i16 in size and no less aligned, every bit pattern is valid for both, and
    // the exclusive borrow keeps its lifetime.
    unsafe { core::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), 2 * values.len()) }
}
