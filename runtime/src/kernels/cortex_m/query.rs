//! Queries as integers for [`two`](super::two), and the largest of some numbers.

#[cfg(target_abi = "eabihf")]
use core::arch::asm;
use core::mem::MaybeUninit;

use crate::kernels::attention::{QueryScale, ScoreScale};

/// The widest head that two queries are multiplied with at once.
pub(super) const WIDEST: usize = 64;

/// Two queries as pairs of 16 bits: of each four numbers 0 and 2, then 1 and 3, of the first; then of
/// the second. Each is multiplied with its scale's fraction.
pub(super) struct TwoPairs {
    words: [[MaybeUninit<u32>; 4]; WIDEST / 4],
    /// How many fours of each are there.
    n: [usize; 2],
}

impl TwoPairs {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { words: [[MaybeUninit::uninit(); 4]; WIDEST / 4], n: [0; 2] }
    }

    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const u32 {
        self.words.as_ptr().cast()
    }

    /// Puts in the first query (0) or the second (1), a multiple of four numbers and at most [`WIDEST`].
    /// `None` if some number of it is none.
    #[inline(never)]
    pub(super) fn fill(&mut self, which: usize, query: &[f32], largest_key: u8) -> Option<ScoreScale> {
        let scale = QueryScale::new(super::largest_magnitude(query), query.len())?;
        let fraction = scale.fraction();
        let fours = query.as_chunks().0;
        let mass = fill(&mut self.words, 2 * which, fours, scale.inverse, fraction);
        *self.n.get_mut(which)? = fours.len();
        // Magnitudes have been multiplied as well.
        Some(scale.scores(mass.checked_div(fraction).unwrap_or(0), query.len(), largest_key))
    }

    /// Multiplies a query by 2^`bits`, for which its numbers must have room.
    pub(super) fn multiply(&mut self, which: usize, bits: u32) {
        if bits == 0 {
            return;
        }
        // Where the lower half's uppermost bits get to.
        let across = ((1 << bits) - 1) << 16;
        for words in self.words.iter_mut().take(self.n.get(which).copied().unwrap_or(0)) {
            for word in words.iter_mut().skip(2 * which).take(2) {
                // SAFETY: `fill` has written so many of this query's words.
                let word = unsafe { word.assume_init_mut() };
                *word = (*word << bits) & !across;
            }
        }
    }
}

/// Numbers times `inverse`, rounded, times `fraction`, into two of each four words; the sum of magnitudes.
#[cfg(target_abi = "eabihf")]
#[inline(always)]
fn fill(
    words: &mut [[MaybeUninit<u32>; 4]],
    at: usize,
    fours: &[[f32; 4]],
    inverse: f32,
    fraction: i32,
) -> i32 {
    let mut mass = 0;
    if fours.is_empty() || fours.len() > words.len() || at > 2 {
        return mass;
    }
    // An integer is in the lowest bits of its sum with 1.5 · 2²³.
    // SAFETY: reads the fours and writes two words for each, which are there (checked above).
    unsafe {
        asm!(
            r"
            vmov s4, s5, r0, r1
            mov r8, #0x00010001
            mov r9, #0
            2:
            vldmia r12!, {{s0-s3}}
            vmul.f32 s0, s0, s4
            vmul.f32 s1, s1, s4
            vmul.f32 s2, s2, s4
            vmul.f32 s3, s3, s4
            vadd.f32 s0, s0, s5
            vadd.f32 s1, s1, s5
            vadd.f32 s2, s2, s5
            vadd.f32 s3, s3, s5
            vmov r0, r1, s0, s1
            vmov r2, r3, s2, s3
            smulbb r0, r0, r4
            smulbb r1, r1, r4
            smulbb r2, r2, r4
            smulbb r3, r3, r4
            pkhbt r0, r0, r2, lsl #16
            pkhbt r1, r1, r3, lsl #16
            strd r0, r1, [r5], #16
            ssub16 r2, r9, r0
            sel r0, r2, r0
            smlad r10, r0, r8, r10
            ssub16 r2, r9, r1
            sel r1, r2, r1
            smlad r10, r1, r8, r10
            cmp r12, lr
            bne 2b
            ",
            inout("r0") inverse.to_bits() => _, inout("r1") crate::math::EXP[1].to_bits() => _,
            out("r2") _, out("r3") _, in("r4") fraction, inout("r5") words.as_mut_ptr().cast::<u32>().add(at) => _,
            out("r8") _, out("r9") _, inout("r10") mass, inout("r12") fours.as_ptr() => _,
            in("lr") fours.as_ptr_range().end, out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, options(nostack),
        );
    }
    mass
}

/// The same where there are no instructions for floats.
#[cfg(not(target_abi = "eabihf"))]
#[inline(always)]
fn fill(
    words: &mut [[MaybeUninit<u32>; 4]],
    at: usize,
    fours: &[[f32; 4]],
    inverse: f32,
    fraction: i32,
) -> i32 {
    let mut mass = 0;
    for (words, four) in words.iter_mut().zip(fours) {
        let [a, b, c, d] = four.map(|x| {
            let x = i32::from(crate::quant::round_to_i32(x * inverse) as i8) * fraction;
            mass += x.abs();
            x as u32
        });
        if let Some([even, odd]) = words.get_mut(at..).and_then(|words| words.first_chunk_mut()) {
            even.write(a & 0xFFFF | c << 16);
            odd.write(b & 0xFFFF | d << 16);
        }
    }
    mass
}
