//! What the compiler calls to copy, to clear and to compare memory, in 240 bytes. Those of its own library
//! are fast and take 2 KB of a Cortex-M's flash; a model's time goes elsewhere.
//!
//! A program that links this crate (`use smidgen_small_mem as _;`) has these in the place of those.
#![no_std]
// Or the compiler would know these loops, and call memcpy in memcpy.
#![no_builtins]

use core::ffi::c_int;

/// Copies from the beginning to the end, by words where both sides are aligned.
///
/// # Safety
/// `n` bytes are there on both sides; where the sides overlap, `to` is before `from`.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, n: usize) {
    let mut i = 0;
    // SAFETY: within the `n` bytes, and the words are aligned.
    unsafe {
        if (to as usize | from as usize).is_multiple_of(4) {
            while i + 4 <= n {
                *to.add(i).cast::<u32>() = *from.add(i).cast::<u32>();
                i += 4;
            }
        }
        while i < n {
            *to.add(i) = *from.add(i);
            i += 1;
        }
    }
}

/// Fills with the word's bytes, which are all the same.
///
/// # Safety
/// `n` bytes are there.
#[inline(always)]
unsafe fn fill(to: *mut u8, n: usize, word: u32) {
    let mut i = 0;
    // SAFETY: within the `n` bytes, and the words are aligned.
    unsafe {
        if (to as usize).is_multiple_of(4) {
            while i + 4 <= n {
                *to.add(i).cast::<u32>() = word;
                i += 4;
            }
        }
        while i < n {
            *to.add(i) = word as u8;
            i += 1;
        }
    }
}

/// C's.
///
/// # Safety
/// As in C.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy(to, from, n) };
    to
}

/// C's.
///
/// # Safety
/// As in C.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise; what overlaps is copied from the side that is overwritten last.
    unsafe {
        if (to as usize).wrapping_sub(from as usize) >= n {
            copy(to, from, n);
        } else {
            let mut i = n;
            while i > 0 {
                i -= 1;
                *to.add(i) = *from.add(i);
            }
        }
    }
    to
}

/// C's.
///
/// # Safety
/// As in C.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: c_int, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { fill(to, n, (byte as u8 as u32) * 0x0101_0101) };
    to
}

/// C's.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> c_int {
    let mut i = 0;
    while i < n {
        // SAFETY: within the `n` bytes.
        let difference = unsafe { c_int::from(*a.add(i)) - c_int::from(*b.add(i)) };
        if difference != 0 {
            return difference;
        }
        i += 1;
    }
    0
}

/// The names by which Arm's run-time ABI has the same.
#[cfg(target_arch = "arm")]
mod aeabi {
    use super::{memcpy, memmove, memset};

    macro_rules! names {
        ($($name:ident $arguments:tt => $call:ident($($value:expr),*);)*) => {
            $(names!(@ $name $arguments => $call($($value),*));)*
        };
        (@ $name:ident($($argument:ident: $type:ty),*) => $call:ident($($value:expr),*)) => {
            /// Arm's.
            ///
            /// # Safety
            /// As in the run-time ABI.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $call($($value),*) };
            }
        };
    }

    names! {
        __aeabi_memcpy(to: *mut u8, from: *const u8, n: usize) => memcpy(to, from, n);
        __aeabi_memcpy4(to: *mut u8, from: *const u8, n: usize) => memcpy(to, from, n);
        __aeabi_memcpy8(to: *mut u8, from: *const u8, n: usize) => memcpy(to, from, n);
        __aeabi_memmove(to: *mut u8, from: *const u8, n: usize) => memmove(to, from, n);
        __aeabi_memmove4(to: *mut u8, from: *const u8, n: usize) => memmove(to, from, n);
        __aeabi_memmove8(to: *mut u8, from: *const u8, n: usize) => memmove(to, from, n);
        __aeabi_memset(to: *mut u8, n: usize, byte: i32) => memset(to, byte, n);
        __aeabi_memset4(to: *mut u8, n: usize, byte: i32) => memset(to, byte, n);
        __aeabi_memset8(to: *mut u8, n: usize, byte: i32) => memset(to, byte, n);
        __aeabi_memclr(to: *mut u8, n: usize) => memset(to, 0, n);
        __aeabi_memclr4(to: *mut u8, n: usize) => memset(to, 0, n);
        __aeabi_memclr8(to: *mut u8, n: usize) => memset(to, 0, n);
    }
}
