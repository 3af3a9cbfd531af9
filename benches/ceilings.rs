//! What the machine can do at most: reading memory, multiplying bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use smidgen_runtime::Pool;

/// GB/s at which all threads together read `bytes` each, again and again.
pub fn read_bandwidth(pool: &Pool, bytes: usize) -> f64 {
    let threads = pool.threads();
    let data: Vec<Vec<u64>> = (0..threads).map(|t| vec![t as u64 + 1; bytes / 8 / threads]).collect();
    let best = best_of(|| {
        pool.run(threads, |thread| {
            black_box(sum(&data[thread]));
        });
        bytes as f64
    });
    best / 1e9
}

/// GMAC/s of the byte product that the kernels use, operands in registers; known for VNNI only.
pub fn int8_peak(pool: &Pool) -> Option<f64> {
    const ROUNDS: usize = 200_000;
    if !has_vnni() {
        return None;
    }
    let threads = pool.threads();
    let best = best_of(|| {
        pool.run(threads, |_| {
            black_box(byte_products(ROUNDS));
        });
        (threads * ROUNDS * 16 * 64) as f64
    });
    Some(best / 1e9)
}

/// The best rate (units a second) over about a quarter of a second.
fn best_of(mut run: impl FnMut() -> f64) -> f64 {
    let (begin, mut best) = (Instant::now(), 0.0_f64);
    while begin.elapsed() < Duration::from_millis(250) {
        let once = Instant::now();
        let units = run();
        best = best.max(units / once.elapsed().as_secs_f64());
    }
    best
}

fn sum(data: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has AVX-512F.
        return unsafe { sum_avx512(data) };
    }
    data.iter().copied().fold(0, u64::wrapping_add)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_avx512(data: &[u64]) -> u64 {
    data.iter().copied().fold(0, u64::wrapping_add)
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn byte_products(rounds: usize) -> i32 {
    assert!(has_vnni());
    // SAFETY: the CPU has AVX-512 with VNNI.
    unsafe { byte_products_vnni(rounds) }
}

#[cfg(not(target_arch = "x86_64"))]
fn byte_products(_rounds: usize) -> i32 {
    unreachable!("int8_peak asks for VNNI first")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn byte_products_vnni(rounds: usize) -> i32 {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); 16];
    let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-5)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    sums.into_iter().fold(0, |total, sum| total.wrapping_add(_mm512_reduce_add_epi32(sum)))
}
