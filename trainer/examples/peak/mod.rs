//! The most that this machine can multiply and add, to judge what it does.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use smidgen_trainer::model::Precision;
use smidgen_trainer::parallel::Pool;

/// Floating-point operations a second of all threads, when they do nothing but multiply-adds of
/// that precision in registers.
pub(crate) fn peak(pool: &Pool, precision: Precision) -> f64 {
    const ROUNDS: usize = 400_000;
    let start = Instant::now();
    let done: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
    pool.run(done.len(), |job| done[job].store(spin(ROUNDS, precision), Ordering::Relaxed));
    let n: usize = done.iter().map(|n| n.load(Ordering::Relaxed)).sum();
    n as f64 / start.elapsed().as_secs_f64()
}

/// Independent sums, enough to hide an instruction's latency.
const CHAINS: usize = 12;

/// Multiplies and adds for some rounds; says how many operations that was.
fn spin(rounds: usize, precision: Precision) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;

        #[target_feature(enable = "avx512f,avx512bf16")]
        fn multiply_add(sum: __m512, a: __m512, b: __m512) -> __m512 {
            // SAFETY: both types are 64 bytes of which any value is valid.
            let (a, b) = unsafe {
                (std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b))
            };
            _mm512_dpbf16_ps(sum, a, b)
        }

        macro_rules! level {
            ($name:ident, $features:literal, $set:ident, $multiply_add:ident) => {
                #[target_feature(enable = $features)]
                fn $name(rounds: usize) {
                    let (a, b) = ($set(black_box(0.999)), $set(black_box(0.001)));
                    let mut sums = [b; CHAINS];
                    for _ in 0..rounds {
                        for sum in &mut sums {
                            *sum = $multiply_add(*sum, a, b);
                        }
                    }
                    black_box(sums);
                }
            };
        }
        level!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
        level!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);
        level!(avx512_bf16, "avx512f,avx512bf16", _mm512_set1_ps, multiply_add);
        if precision == Precision::Bf16 {
            // SAFETY: the CPU has the instructions, or bf16 would not be available.
            unsafe { avx512_bf16(rounds) };
            return rounds * CHAINS * 32 * 2;
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has the instructions.
            unsafe { avx512(rounds) };
            return rounds * CHAINS * 16 * 2;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has the instructions.
            unsafe { avx2(rounds) };
            return rounds * CHAINS * 8 * 2;
        }
    }
    let (a, b) = (black_box([0.999f32; 4]), black_box([0.001f32; 4]));
    let mut sums = [b; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            for lane in 0..4 {
                sum[lane] = sum[lane] * a[lane] + b[lane];
            }
        }
    }
    black_box(sums);
    rounds * CHAINS * 4 * 2
}
