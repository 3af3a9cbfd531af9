//! Attention of one query in as little code as can be: for builds whose models mostly have two at once.

use super::attention::largest;
use crate::format::QUAD;
use crate::kernels::attention::{
    HeadCacheQ8, NO_NUMBER, SUM_SHIFT, Scratch, WEIGHT_SHIFT, exponential, parts_of, quantize_query,
    scales_of, smaller_by, unit, weight,
};

/// [`attend_one`](crate::kernels::attention::attend_one), one number after the other.
pub(super) fn attend_small(
    query: &[f32],
    cache: &HeadCacheQ8<'_>,
    len: usize,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) {
    let Some((key_scales, value_scales)) = scales_of(cache, len) else { return };
    let Some(scores) = crate::cast::f32_as_i16_mut(scratch.scores).get_mut(..len) else { return };
    let (largest_key, largest_value) = (largest(key_scales), largest(value_scales));
    let scale = quantize_query(query, largest_key, scratch.query);
    let (Some(scale), false) = (scale, largest_key.max(largest_value) == NO_NUMBER) else {
        out.fill(f32::NAN);
        return;
    };
    let mut max = i16::MIN;
    for (position, (score, &key_scale)) in scores.iter_mut().zip(key_scales).enumerate() {
        // Four positions take turns of four numbers.
        let mut at = place(position, scratch.query.len(), 4);
        let mut dot = 0;
        for query in scratch.query.as_chunks::<4>().0 {
            for (key, query) in cache.keys.get(at..).unwrap_or(&[]).iter().zip(query) {
                dot += i32::from(*key) * i32::from(*query);
            }
            at += 4 * QUAD;
        }
        *score = scale.score(dot, key_scale);
        max = max.max(*score);
    }
    let mut sum = 0;
    for score in &*scores {
        sum += u64::from(exponential(*score, max, scale.coarse) >> SUM_SHIFT);
    }
    let shift = WEIGHT_SHIFT + parts_of(largest_value).1 + smaller_by(sum);
    for (score, &value_scale) in scores.iter_mut().zip(value_scales) {
        *score = weight(exponential(*score, max, scale.coarse), value_scale, shift);
    }
    let unit = unit(sum, largest_value);
    let head_dim = out.len();
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = 0_i32;
        for (position, weight) in scores.iter().enumerate() {
            // And of one number here.
            let value = cache.values.get(place(position, head_dim, 1) + i * QUAD).copied().unwrap_or(0);
            sum = sum.wrapping_add(i32::from(value) * i32::from(*weight));
        }
        *out = sum as f32 * unit;
    }
}

/// Where a position's first number is, if four positions take turns of `unit` of their `width`.
fn place(position: usize, width: usize, unit: usize) -> usize {
    position / QUAD * QUAD * width + position % QUAD * unit
}
