//! Activations as pairs of 16 bits, in the order in which words of weights take them.

use core::arch::asm;
use core::mem::MaybeUninit;

use crate::format::{BLOCK, GROUP};

/// Groups in a block.
pub(super) const GROUPS: usize = BLOCK / GROUP;

/// Words of one group of activations as pairs: what sums start from, then 32 of 16 bits.
pub(super) const PAIR_WORDS: usize = 1 + GROUP / 2;

/// Some groups of activations, at least one, as [`quads_q8`](super::quads) takes them.
///
/// # Safety
/// So many groups are there, and [`PAIR_WORDS`] words for each.
#[inline(always)]
unsafe fn fill_q8(quants: *const i8, words: *mut u32, n_groups: usize) {
    // SAFETY: as promised.
    unsafe {
        asm!(
            r"
            .macro smidgen_fill x
            sxtab16 {sum}, {sum}, \x
            sxtb16 {odd}, \x, ror #8
            bic \x, #0xFF00FF00
            lsl \x, #8
            ssub16 \x, \x, {odd}
            strd {odd}, \x, [{words}], #8
            .endm
            3:
            mov {sum}, #0
            add {end}, {at}, #32
            2:
            ldrd {a}, {b}, [{at}], #8
            smidgen_fill {a}
            smidgen_fill {b}
            cmp {at}, {end}
            bne 2b
            mov {a}, #0x80008000
            smuad {sum}, {sum}, {a}
            str {sum}, [{words}, #-68]
            add {words}, #4
            subs {n}, #1
            bne 3b
            .purgem smidgen_fill
            ",
            at = inout(reg) quants => _, end = out(reg) _, n = inout(reg) n_groups => _,
            words = inout(reg) words.add(1) => _, a = out(reg) _, b = out(reg) _, odd = out(reg) _,
            sum = out(reg) _, options(nostack),
        );
    }
}

/// Some groups of activations, at least one, as [`quads_q4`](super::quads) takes them: of each eight, in the order in which a word has
/// their weights, each one less 16 times the one before; words of the first and fifth, of the second and
/// sixth, and so on.
///
/// # Safety
/// So many groups are there, and [`PAIR_WORDS`] words for each.
#[inline(always)]
unsafe fn fill_q4(quants: *const i8, words: *mut u32, n_groups: usize) {
    // SAFETY: as promised.
    unsafe {
        asm!(
            r"
            .macro smidgen_sixteen out, x
            bic \out, \x, #0xF000F000
            lsl \out, \out, #4
            .endm
            3:
            mov {sum}, #0
            add {end}, {at}, #32
            2:
            ldrd {a}, {c}, [{at}], #8
            sxtab16 {sum}, {sum}, {a}
            sxtab16 {sum}, {sum}, {a}, ror #8
            sxtab16 {sum}, {sum}, {c}
            sxtab16 {sum}, {sum}, {c}, ror #8
            sxtb16 {t}, {a}
            sxtb16 {u}, {c}, ror #8
            lsl {v}, {u}, #20
            ssub16 {v}, {t}, {v}
            smidgen_sixteen {t}, {t}
            sxtb16 {c}, {c}
            ssub16 {t}, {c}, {t}
            strd {v}, {t}, [{words}], #8
            smidgen_sixteen {t}, {c}
            sxtb16 {a}, {a}, ror #8
            ssub16 {t}, {a}, {t}
            smidgen_sixteen {v}, {a}
            ssub16 {v}, {u}, {v}
            strd {t}, {v}, [{words}], #8
            cmp {at}, {end}
            bne 2b
            mvn {a}, #0x00070007
            smuad {sum}, {sum}, {a}
            str {sum}, [{words}, #-68]
            add {words}, #4
            subs {n}, #1
            bne 3b
            .purgem smidgen_sixteen
            ",
            at = inout(reg) quants => _, end = out(reg) _, n = inout(reg) n_groups => _,
            words = inout(reg) words.add(1) => _, a = out(reg) _, c = out(reg) _,
            t = out(reg) _, u = out(reg) _, v = out(reg) _, sum = out(reg) _, options(nostack),
        );
    }
}

/// One input's activations as pairs: what the products of several matrices with it have in common, if it
/// is one vector of one block.
pub(crate) struct Prepared {
    pub(super) pairs: [MaybeUninit<[u32; PAIR_WORDS]>; GROUPS],
    /// Bits of the weights, and groups, that they are good for; 0 for none.
    pub(super) good_for: (usize, usize),
}

impl Prepared {
    /// Nothing yet.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { pairs: [MaybeUninit::uninit(); GROUPS], good_for: (0, 0) }
    }

    /// [`Job::pairs_end`](super::quads::Job::pairs_end) of so many groups and columns.
    #[inline(always)]
    pub(super) fn end(&self, bits: usize, n_groups: usize, cols: usize) -> *const u8 {
        let begin = self.pairs.as_ptr();
        if bits == 4 && n_groups > 1 && (n_groups - 1) * GROUP + GROUP / 2 >= cols {
            begin.wrapping_add(n_groups - 1).cast()
        } else {
            begin.wrapping_add(n_groups).cast::<u8>().wrapping_sub(1)
        }
    }
}

/// Some groups of activations as pairs.
///
/// # Safety
/// So many groups are there, at most [`GROUPS`].
#[inline(never)]
pub(super) unsafe fn fill_groups(bits: usize, x: *const i8, prepared: &mut Prepared, n_groups: usize) {
    let words = prepared.pairs.as_mut_ptr().cast();
    match bits {
        // SAFETY: as promised.
        4 if cfg!(feature = "q4") => unsafe { fill_q4(x, words, n_groups) },
        // SAFETY: as promised.
        _ if cfg!(feature = "q8") => unsafe { fill_q8(x, words, n_groups) },
        _ => {}
    }
}
