//! The long loops of drawing a token, with an FPU: to the bits of what [`crate::sampler`] says.

use core::arch::asm;

use crate::sampler::POWER;

/// The largest of the logits, and their sum, which is no number or infinite if one of them is.
pub(crate) fn largest_and_sum(logits: &[f32]) -> (f32, f32) {
    let (eights, rest) = logits.as_chunks::<8>();
    let (mut max, mut sum) = (f32::NEG_INFINITY.to_bits(), 0_u32);
    if !eights.is_empty() {
        // SAFETY: reads the eights.
        unsafe {
            asm!(
                r"
                .macro smidgen_larger x
                vcmp.f32 \x, s8
                vadd.f32 s9, s9, \x
                vmrs APSR_nzcv, fpscr
                it gt
                vmovgt.f32 s8, \x
                .endm
                vmov s8, s9, {max}, {sum}
                2:
                vldmia {at}!, {{s0-s7}}
                smidgen_larger s0
                smidgen_larger s1
                smidgen_larger s2
                smidgen_larger s3
                smidgen_larger s4
                smidgen_larger s5
                smidgen_larger s6
                smidgen_larger s7
                cmp {at}, {end}
                bne 2b
                vmov {max}, {sum}, s8, s9
                .purgem smidgen_larger
                ",
                at = inout(reg) eights.as_ptr() => _, end = in(reg) eights.as_ptr_range().end,
                max = inout(reg) max, sum = inout(reg) sum, out("s0") _, out("s1") _, out("s2") _,
                out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _, out("s9") _, options(nostack, readonly),
            );
        }
    }
    rest.iter().fold((f32::from_bits(max), f32::from_bits(sum)), |(max, sum), &x| {
        (if x > max { x } else { max }, sum + x)
    })
}

/// Replaces each four logits, none of which is NaN or above `max`, by their weights; returns their sum,
/// and what is left over.
pub(crate) fn weigh_fours(logits: &mut [f32], max: f32, sharpness: f32) -> (u64, &mut [f32]) {
    let (fours, rest) = logits.as_chunks_mut::<4>();
    let (mut low, mut high) = (0_u32, 0_u32);
    if !fours.is_empty() {
        let range = fours.as_mut_ptr_range();
        // r4 to r8 are the polynomial's coefficients from the highest power down, r10 and r11 the sum.
        // SAFETY: reads the constants, reads and writes the fours.
        unsafe {
            asm!(
                r"
                .macro smidgen_weight x, t, u
                lsrs \t, \x, #27
                lsl \x, \x, #5
                adc \t, \t, #0
                smmla \u, r4, \x, r5
                smmla \u, \u, \x, r6
                smmla \u, \u, \x, r7
                smmla \u, \u, \x, r8
                lsr \x, \u, \t
                umlal r10, r11, \x, r9
                .endm
                push {{r6, r7}}
                vmov s4, s5, r0, r1
                ldm r2, {{r4-r8}}
                mov r9, #1
                2:
                vldm r12, {{s0-s3}}
                vsub.f32 s0, s4, s0
                vsub.f32 s1, s4, s1
                vsub.f32 s2, s4, s2
                vsub.f32 s3, s4, s3
                vmul.f32 s0, s0, s5
                vmul.f32 s1, s1, s5
                vmul.f32 s2, s2, s5
                vmul.f32 s3, s3, s5
                vcvt.u32.f32 s0, s0, #27
                vcvt.u32.f32 s1, s1, #27
                vcvt.u32.f32 s2, s2, #27
                vcvt.u32.f32 s3, s3, #27
                vmov r0, r1, s0, s1
                smidgen_weight r0, r2, r3
                smidgen_weight r1, r2, r3
                strd r0, r1, [r12], #8
                vmov r0, r1, s2, s3
                smidgen_weight r0, r2, r3
                smidgen_weight r1, r2, r3
                strd r0, r1, [r12], #8
                cmp r12, lr
                bne 2b
                pop {{r6, r7}}
                .purgem smidgen_weight
                ",
                inout("r0") max.to_bits() => _, inout("r1") sharpness.to_bits() => _,
                inout("r2") POWER.as_ptr() => _, inout("r12") range.start => _, in("lr") range.end,
                inout("r10") low, inout("r11") high, out("r3") _, out("r4") _, out("r5") _, out("r8") _,
                out("r9") _, out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _,
            );
        }
    }
    (u64::from(high) << 32 | u64::from(low), rest)
}
