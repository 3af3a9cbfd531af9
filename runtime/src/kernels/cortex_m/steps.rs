//! Norms, activations and quantizing with an FPU: eight numbers at a time in registers, to the bits of
//! [`elementwise`]. `VMLA` and `VMLS` round the product before they add or subtract it.

use core::arch::asm;

use crate::format::BLOCK;
use crate::kernels::elementwise;
use crate::math::{EXP, sum_lanes};
use crate::quant::activation_scale;

/// [`elementwise::rms_norm`].
#[inline(never)]
pub(in crate::kernels) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (eights, rest) = x.as_chunks::<8>();
    if eights.is_empty() || x.len() != weight.len() || x.len() != out.len() {
        return elementwise::rms_norm(x, weight, eps, out);
    }
    let mut lanes = [0.0_f32; 8];
    // SAFETY: reads the eights and writes the sums.
    unsafe {
        asm!(
            r"
            vldm {lanes}, {{s0-s7}}
            2:
            vldmia {x}!, {{s8-s15}}
            vmla.f32 s0, s8, s8
            vmla.f32 s1, s9, s9
            vmla.f32 s2, s10, s10
            vmla.f32 s3, s11, s11
            vmla.f32 s4, s12, s12
            vmla.f32 s5, s13, s13
            vmla.f32 s6, s14, s14
            vmla.f32 s7, s15, s15
            cmp {x}, {end}
            bne 2b
            vstm {lanes}, {{s0-s7}}
            ",
            x = inout(reg) eights.as_ptr() => _, end = in(reg) eights.as_ptr_range().end,
            lanes = in(reg) lanes.as_mut_ptr(), out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _, out("s9") _, out("s10") _,
            out("s11") _, out("s12") _, out("s13") _, out("s14") _, out("s15") _, options(nostack),
        );
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x * x;
    }
    let mean = sum_lanes(lanes) / x.len() as f32;
    let inverse = 1.0 / elementwise::sqrt(mean + eps);
    // SAFETY: reads the eights and as many weights, writes as many places.
    unsafe {
        asm!(
            r"
            vmov s16, {inverse}
            2:
            vldmia {x}!, {{s0-s7}}
            vldmia {weight}!, {{s8-s15}}
            vmul.f32 s0, s0, s16
            vmul.f32 s1, s1, s16
            vmul.f32 s2, s2, s16
            vmul.f32 s3, s3, s16
            vmul.f32 s4, s4, s16
            vmul.f32 s5, s5, s16
            vmul.f32 s6, s6, s16
            vmul.f32 s7, s7, s16
            vmul.f32 s0, s0, s8
            vmul.f32 s1, s1, s9
            vmul.f32 s2, s2, s10
            vmul.f32 s3, s3, s11
            vmul.f32 s4, s4, s12
            vmul.f32 s5, s5, s13
            vmul.f32 s6, s6, s14
            vmul.f32 s7, s7, s15
            vstmia {out}!, {{s0-s7}}
            cmp {x}, {end}
            bne 2b
            ",
            x = inout(reg) eights.as_ptr() => _, end = in(reg) eights.as_ptr_range().end,
            weight = inout(reg) weight.as_ptr() => _, out = inout(reg) out.as_mut_ptr() => _,
            inverse = in(reg) inverse.to_bits(), out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _, out("s9") _, out("s10") _,
            out("s11") _, out("s12") _, out("s13") _, out("s14") _, out("s15") _, out("s16") _,
            options(nostack),
        );
    }
    let done = x.len() - rest.len();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight).skip(done) {
        *out = x * inverse * weight;
    }
}

/// [`elementwise::add`].
#[inline(never)]
pub(in crate::kernels) fn add(x: &[f32], out: &mut [f32]) {
    let n = x.len().min(out.len());
    let (Some(x), Some(out)) = (x.get(..n), out.get_mut(..n)) else { return };
    let (eights, rest) = x.as_chunks::<8>();
    if !eights.is_empty() {
        // SAFETY: reads the eights, and adds to as many places.
        unsafe {
            asm!(
                r"
                2:
                vldmia {x}!, {{s0-s7}}
                vldm {out}, {{s8-s15}}
                vadd.f32 s8, s8, s0
                vadd.f32 s9, s9, s1
                vadd.f32 s10, s10, s2
                vadd.f32 s11, s11, s3
                vadd.f32 s12, s12, s4
                vadd.f32 s13, s13, s5
                vadd.f32 s14, s14, s6
                vadd.f32 s15, s15, s7
                vstmia {out}!, {{s8-s15}}
                cmp {x}, {end}
                bne 2b
                ",
                x = inout(reg) eights.as_ptr() => _, end = in(reg) eights.as_ptr_range().end,
                out = inout(reg) out.as_mut_ptr() => _, out("s0") _, out("s1") _, out("s2") _,
                out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _,
                out("s9") _, out("s10") _, out("s11") _, out("s12") _, out("s13") _, out("s14") _,
                out("s15") _, options(nostack),
            );
        }
    }
    for (out, x) in out.iter_mut().zip(x).skip(n - rest.len()) {
        *out += x;
    }
}

/// [`elementwise::quantize`], but for the sums: whoever makes pairs of these integers adds them up.
#[inline(never)]
pub(in crate::kernels) fn quantize(values: &[f32], quants: &mut [i8], scales: &mut [f32], _: &mut [i32]) {
    let of_block = quants.chunks_mut(BLOCK).zip(values.chunks(BLOCK)).zip(scales);
    for ((quants, values), scale) in of_block {
        *scale = block(values, quants);
    }
}

/// [`quantize_activations`](crate::quant::quantize_activations).
#[inline(always)]
fn block(values: &[f32], quants: &mut [i8]) -> f32 {
    let n = values.len().min(quants.len());
    let (fours, rest) = values.get(..n).unwrap_or(&[]).as_chunks::<4>();
    let max = super::largest_magnitude(values.get(..n).unwrap_or(&[]));
    let (scale, inverse) = activation_scale(max);
    let (body, beyond) = quants.split_at_mut(n);
    beyond.fill(0);
    if inverse == 0.0 {
        body.fill(0);
        return scale;
    }
    if !fours.is_empty() {
        // SAFETY: reads the fours, of which there are some, and writes as many bytes. An integer is in the lowest
        // bits of its sum with 1.5 · 2²³.
        unsafe {
            asm!(
                r"
            .macro smidgen_quantize a, b, c, d
            vmul.f32 \a, \a, s8
            vmul.f32 \b, \b, s8
            vmul.f32 \c, \c, s8
            vmul.f32 \d, \d, s8
            vadd.f32 \a, \a, s9
            vadd.f32 \b, \b, s9
            vadd.f32 \c, \c, s9
            vadd.f32 \d, \d, s9
            vmov r0, r1, \a, \b
            vmov r2, r3, \c, \d
            bfi r0, r1, #8, #8
            bfi r2, r3, #8, #8
            .endm
            vmov s8, s9, r4, r0
            tst r8, #16
            beq 3f
            vldmia r12!, {{s4-s7}}
            b 4f
            3:
            vldmia r12!, {{s0-s7}}
            smidgen_quantize s0, s1, s2, s3
            pkhbt r4, r0, r2, lsl #16
            str r4, [r5], #4
            4:
            smidgen_quantize s4, s5, s6, s7
            pkhbt r4, r0, r2, lsl #16
            str r4, [r5], #4
            cmp r12, lr
            bne 3b
            .purgem smidgen_quantize
            ",
                inout("r12") fours.as_ptr() => _, in("lr") fours.as_ptr_range().end, in("r8") fours.len() * 16,
                inout("r0") EXP[1].to_bits() => _, inout("r4") inverse.to_bits() => _,
                inout("r5") body.as_mut_ptr() => _, out("r1") _, out("r2") _, out("r3") _, out("s0") _, out("s1") _,
                out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _,
                out("s9") _, options(nostack),
            );
        }
    }
    let done = n - rest.len();
    for (quant, value) in body.iter_mut().zip(values).skip(done) {
        *quant = crate::quant::round_to_i32(value * inverse) as i8;
    }
    scale
}

/// Fours of floats times `inverse`, rounded, as bytes: each four 16 bytes after the last, its bytes
/// side by side (`unit` 4), or each four bytes after the one before (1).
///
/// # Safety
/// The bytes are there, and 4-aligned; the products are −127 to 127.
#[inline(always)]
pub(super) unsafe fn scatter(fours: &[[f32; 4]], inverse: f32, to: *mut i8, unit: usize) {
    macro_rules! scatter {
        ($($store:literal)*) => {
            asm!(
                "vmov s4, s5, r0, r1",
                "2:",
                "vldmia r12!, {{s0-s3}}",
                "vmul.f32 s0, s0, s4",
                "vmul.f32 s1, s1, s4",
                "vmul.f32 s2, s2, s4",
                "vmul.f32 s3, s3, s4",
                "vadd.f32 s0, s0, s5",
                "vadd.f32 s1, s1, s5",
                "vadd.f32 s2, s2, s5",
                "vadd.f32 s3, s3, s5",
                "vmov r0, r1, s0, s1",
                "vmov r2, r3, s2, s3",
                $($store,)*
                "cmp r12, lr",
                "bne 2b",
                inout("r0") inverse.to_bits() => _, inout("r1") EXP[1].to_bits() => _, out("r2") _, out("r3") _,
                inout("r4") to => _, inout("r12") fours.as_ptr() => _, in("lr") fours.as_ptr_range().end,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, options(nostack),
            )
        };
    }
    if fours.is_empty() {
        return;
    }
    // An integer is in the lowest bits of its sum with 1.5 · 2²³.
    // SAFETY: reads the fours, and writes as promised.
    unsafe {
        if unit == 4 {
            scatter!(
                "bfi r0, r1, #8, #8"
                "bfi r2, r3, #8, #8"
                "pkhbt r0, r0, r2, lsl #16"
                "str r0, [r4], #16"
            );
        } else {
            scatter!(
                "strb r1, [r4, #4]"
                "strb r2, [r4, #8]"
                "strb r3, [r4, #12]"
                "strb r0, [r4], #16"
            );
        }
    }
}

/// [`elementwise::rotate`].
#[inline(never)]
pub(in crate::kernels) fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    if half == 0 || !heads.len().is_multiple_of(2 * half) || heads.is_empty() || sin.len() < half {
        return;
    }
    let range = heads.as_mut_ptr_range();
    // SAFETY: reads and writes both halves of each head, and reads as many cosines and sines.
    unsafe {
        asm!(
            r"
            3:
            add {high}, {low}, {size}
            mov {middle}, {high}
            2:
            vldmia {cos}!, {{s0}}
            vldmia {sin}!, {{s1}}
            vldr s2, [{low}]
            vldr s3, [{high}]
            vmul.f32 s4, s2, s0
            vmul.f32 s5, s3, s0
            vmls.f32 s4, s3, s1
            vmla.f32 s5, s2, s1
            vstmia {low}!, {{s4}}
            vstmia {high}!, {{s5}}
            cmp {low}, {middle}
            bne 2b
            sub {cos}, {size}
            sub {sin}, {size}
            mov {low}, {high}
            cmp {high}, {end}
            bne 3b
            ",
            cos = inout(reg) cos.as_ptr() => _, sin = inout(reg) sin.as_ptr() => _,
            low = inout(reg) range.start => _, high = out(reg) _, middle = out(reg) _, end = in(reg) range.end,
            size = in(reg) 4 * half, out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _,
            options(nostack),
        );
    }
}

/// [`elementwise::silu_mul`].
#[inline(never)]
pub(in crate::kernels) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    let n = gate.len().min(up.len());
    let (Some(gate), Some(up)) = (gate.get_mut(..n), up.get(..n)) else { return };
    let (fours, rest) = gate.as_chunks_mut::<4>();
    let (up, up_rest) = up.as_chunks::<4>();
    let n = fours.len().min(up.len());
    let mut done = 0;
    while let (Some(gate), Some(up)) = (fours.get_mut(done..n), up.get(done..n))
        && !gate.is_empty()
    {
        // SAFETY: so many of both are there.
        let here = unsafe { silu_mul_fours(gate.as_mut_ptr(), up.as_ptr(), gate.len()) };
        if let (Some(gate), Some(up)) = (gate.get_mut(here), up.get(here)) {
            silu_mul_plain(gate, up);
        }
        done += here + 1;
    }
    silu_mul_plain(rest, up_rest);
}

/// The definition, apart: it is called for few numbers.
#[inline(never)]
fn silu_mul_plain(gate: &mut [f32], up: &[f32]) {
    elementwise::silu_mul(gate, up);
}

/// The same of some fours of numbers, at least one, up to the first in which a number is no number or
/// |x| is 44 or more; gives how many were done.
///
/// # Safety
/// So many are there.
#[inline(always)]
unsafe fn silu_mul_fours(gate: *mut [f32; 4], up: *const [f32; 4], fours: usize) -> usize {
    let mut at = gate;
    // The bits of n + 1.5 · 2²³ less these are 0 to 127 where x is in range, and such n can be added to an
    // exponent.
    let least = EXP[1].to_bits() - 64;
    // SAFETY: reads the constants, and both slices; writes the first.
    //
    // Coefficients are loaded again for each number, because they become what the polynomial is up to
    // there. In s20 is first x, then x + n · ln 2, which is −r of `exp(−x)`.
    unsafe {
        asm!(
            r"
            .macro smidgen_silu x, r, up, bits
            vldm {constants}, {{s1-s10}}
            vmls.f32 s1, \x, s0
            vmov \bits, s1
            vsub.f32 s1, s1, s12
            vmla.f32 \r, s1, s2
            vmla.f32 \r, s1, s3
            vmls.f32 s5, s4, \r
            vmls.f32 s6, s5, \r
            vmls.f32 s7, s6, \r
            vmls.f32 s8, s7, \r
            vmls.f32 s9, s8, \r
            vmul.f32 s14, \r, \r
            vnmls.f32 \r, s9, s14
            vadd.f32 \r, \r, s10
            add {power}, {one}, \bits, lsl #23
            vmov s14, {power}
            vmla.f32 s10, \r, s14
            vdiv.f32 \x, \x, s10
            vmul.f32 \x, \x, \up
            sub \bits, {least}
            .endm
            vldm {constants}!, {{s0}}
            vldr s12, [{constants}]
            2:
            vldm {at}, {{s16-s19}}
            vldm {at}, {{s20-s23}}
            vldmia {up}!, {{s24-s27}}
            smidgen_silu s16, s20, s24, {all}
            smidgen_silu s17, s21, s25, {bits}
            orr {all}, {bits}
            smidgen_silu s18, s22, s26, {bits}
            orr {all}, {bits}
            smidgen_silu s19, s23, s27, {bits}
            orr {all}, {bits}
            cmp {all}, #127
            bhi 3f
            vstmia {at}!, {{s16-s19}}
            cmp {at}, {end}
            bne 2b
            3:
            .purgem smidgen_silu
            ",
            at = inout(reg) at, up = inout(reg) up => _, end = in(reg) gate.add(fours), all = out(reg) _,
            bits = out(reg) _, power = out(reg) _, constants = inout(reg) EXP.as_ptr() => _,
            least = in(reg) least, one = in(reg) 127_u32 << 23, out("s0") _, out("s1") _, out("s2") _,
            out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _, out("s9") _,
            out("s10") _, out("s12") _, out("s14") _, out("s16") _, out("s17") _, out("s18") _,
            out("s19") _, out("s20") _, out("s21") _, out("s22") _, out("s23") _, out("s24") _,
            out("s25") _, out("s26") _, out("s27") _, options(nostack),
        );
    }
    (at as usize - gate as usize) / 16
}
