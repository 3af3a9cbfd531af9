//! Attention of sixteen tokens' queries at once, one lane each: what a prompt does most beside its
//! products. A key's or value's four bytes go to all lanes, so nothing is added up across lanes, and
//! scores, exponentials and weights of one position are vectors.

mod mix;
mod score;
mod weigh;

use core::arch::x86_64::*;

use super::attention::Vnni;
use crate::format::QUAD;
use crate::kernels::attention::{self, HeadCacheQ8, NO_NUMBER, Products, Queries, Scratch};

use mix::mix;
use score::score;
use weigh::weigh;

/// Queries at once.
const LANES: usize = 16;
/// From so many on, sixteen at once are faster than one by one.
pub(super) const LEAST: usize = 7;
/// The widest head, in fours of numbers: a query's place is on the stack.
const WIDEST: usize = 64;
/// Floats of scratch that a quad's scores (then weights) take: sixteen bits a query.
const QUAD_SCRATCH: usize = QUAD * LANES / 2;

/// What is known of each lane's query and of the positions that it looks at.
struct Lanes {
    /// Four neighbouring numbers, plus 128, of sixteen queries each.
    queries: [[u32; LANES]; WIDEST],
    /// As in [`attention::ScoreScale`].
    fraction: [i32; LANES],
    shift: [u32; LANES],
    coarse: [u32; LANES],
    narrow: u32,
    /// The largest scale of the values that it looks at.
    largest_value: [u8; LANES],
    /// Its numbers, or those that it looks at, are none.
    no_number: [bool; LANES],
}

/// Attention of `n` (at most 16) tokens' queries, of head `head` of those that share this cache, from
/// token `first` on. `false` if nothing was done: the head is too wide, or the scratch too small.
///
/// # Safety
/// [`Queries`]' contract, and the CPU has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn attend(
    all: &Queries<'_>,
    first: usize,
    n: usize,
    head: usize,
    cache: &HeadCacheQ8<'_>,
    scratch: &mut Scratch<'_>,
) -> bool {
    let head_dim = all.head_dim;
    let fours = head_dim.div_ceil(4);
    let len = all.len + first;
    let quads = (len + n.max(1) - 1).div_ceil(QUAD);
    let (Some(key_scales), Some(value_scales)) =
        (cache.key_scales.get(..quads * QUAD), cache.value_scales.get(..quads * QUAD))
    else {
        return false;
    };
    let fits = fours <= WIDEST
        && scratch.scores.len() >= quads * QUAD_SCRATCH
        && scratch.query.len() == 4 * fours
        && cache.keys.len() >= quads * QUAD * 4 * fours
        && cache.values.len() >= quads * QUAD * head_dim
        && (1..=LANES).contains(&n)
        && len > 0;
    if !fits {
        return false;
    }
    // SAFETY: as promised.
    let lanes = unsafe { lanes(all, first, n, head, len, [key_scales, value_scales], scratch.query) };
    let scores: *mut i16 = scratch.scores.as_mut_ptr().cast();
    // SAFETY: all lengths were checked.
    unsafe {
        let max = score(&lanes, cache.keys.as_ptr(), fours, key_scales, len, scores);
        let units = weigh(&lanes, max, value_scales, len, scores);
        let mut outs = [core::ptr::null_mut(); LANES];
        for (lane, place) in outs.iter_mut().enumerate().take(n) {
            let at = all.place(first + lane, head);
            let out = all.out.part(at..at + head_dim);
            if out.len() != head_dim {
                return true;
            }
            *place = out.as_mut_ptr();
        }
        let places = outs.get(..n).unwrap_or(&[]);
        let mut d = 0;
        while d + 8 <= head_dim {
            mix::<8>(cache.values.as_ptr(), head_dim, d, quads, scores, units, places);
            d += 8;
        }
        while d < head_dim {
            mix::<1>(cache.values.as_ptr(), head_dim, d, quads, scores, units, places);
            d += 1;
        }
    }
    true
}

/// Makes the queries integers, and lays them out by fours of numbers. Lanes that have none are like the
/// first one.
///
/// # Safety
/// [`Queries`]' contract.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn lanes(
    all: &Queries<'_>,
    first: usize,
    n: usize,
    head: usize,
    len: usize,
    [key_scales, value_scales]: [&[u8]; 2],
    query: &mut [i8],
) -> Lanes {
    let mut lanes = Lanes {
        queries: [[0; LANES]; WIDEST],
        fraction: [0; LANES],
        shift: [31; LANES],
        coarse: [0; LANES],
        narrow: 0,
        largest_value: [0; LANES],
        no_number: [false; LANES],
    };
    let largest = |scales: &[u8]| Vnni::largest(scales.get(..len).unwrap_or(&[]));
    let (mut largest_key, mut largest_value) = (largest(key_scales), largest(value_scales));
    for lane in 0..n.min(LANES) {
        if lane > 0 {
            let of_last = |scales: &[u8]| scales.get(len + lane - 1).copied().unwrap_or(0);
            largest_key = largest_key.max(of_last(key_scales));
            largest_value = largest_value.max(of_last(value_scales));
        }
        let at = all.place(first + lane, head);
        // SAFETY: as promised.
        let floats = unsafe { all.queries.shared(at..at + all.head_dim) };
        let scale = attention::quantize_query(floats, largest_key, query);
        lanes.largest_value[lane] = largest_value;
        lanes.no_number[lane] = scale.is_none() || largest_key.max(largest_value) == NO_NUMBER;
        let Some(scale) = scale else { continue };
        lanes.fraction[lane] = scale.fraction;
        lanes.shift[lane] = scale.shift;
        lanes.coarse[lane] = scale.coarse;
        lanes.narrow = scale.narrow;
        for (queries, four) in lanes.queries.iter_mut().zip(query.as_chunks::<4>().0) {
            queries[lane] = u32::from_le_bytes(four.map(|q| q as u8)) ^ 0x8080_8080;
        }
    }
    lanes
}

/// Lanes whose tokens look at a position, `len` being what the first one looks at.
#[inline]
fn looking_at(position: usize, len: usize) -> u16 {
    let beyond = (position + 1).saturating_sub(len);
    if beyond < LANES { u16::MAX << beyond } else { 0 }
}

/// [`attention::parts_of`] of four scales.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn parts_of_four(scales: [u8; QUAD]) -> ([i32; QUAD], [i32; QUAD]) {
    let scales = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(i32::from_le_bytes(scales)));
    let fraction = _mm_or_si128(_mm_and_si128(scales, _mm_set1_epi32(7)), _mm_set1_epi32(8));
    let exponent = _mm_srli_epi32::<3>(scales);
    let (mut fractions, mut exponents) = ([0; QUAD], [0; QUAD]);
    // SAFETY: four numbers each.
    unsafe {
        _mm_storeu_si128(fractions.as_mut_ptr().cast(), fraction);
        _mm_storeu_si128(exponents.as_mut_ptr().cast(), exponent);
    }
    (fractions, exponents)
}
