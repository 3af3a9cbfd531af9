//! The search for a group's multiplier: of all that are tried the one with the least squared error.
//!
//! Two groups are searched side by side, some multipliers of each at once: that fills vectors, and changes
//! no bit of any error, each of which is summed in the order of the weights.

use crate::format::GROUP;
use crate::quant::ROUND;

/// A group of weights, filled up with zeros, and the multipliers to be tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a> {
    pub(crate) weights: &'a [f32; GROUP],
    /// What each weight's error counts, if they differ; none is negative.
    pub(crate) importance: Option<&'a [f32; GROUP]>,
    /// The largest magnitude.
    pub(crate) max: f32,
    pub(crate) narrowest: u32,
    /// With this nothing clips.
    pub(crate) widest: u32,
}

/// For each group the first multiplier, from the narrowest up, that has the least error. `SIDE` of each
/// group are tried at a time; `LANES` is twice that.
#[inline(always)]
pub(crate) fn best_multipliers<const SIDE: usize, const LANES: usize>(
    groups: &[Group<'_>; 2],
    scale: f32,
    range: (i32, i32),
) -> [u32; 2] {
    let mut chosen = [groups[0].widest, groups[1].widest];
    let mut best = [f32::INFINITY; 2];
    // From the widest down, because what clips much can be left out. A group that is done tries its
    // narrowest again, which changes nothing.
    let mut last = chosen;
    loop {
        let mut first = [0; 2];
        for (i, group) in groups.iter().enumerate() {
            first[i] = group.narrowest.max((last[i] + 1).saturating_sub(SIDE as u32));
        }
        let mut steps = [0.0; LANES];
        for (lane, step) in steps.iter_mut().enumerate() {
            *step = (first[lane / SIDE] + (lane % SIDE) as u32) as f32 * scale;
        }
        let errors = match (groups[0].importance, groups[1].importance) {
            (Some(a), Some(b)) => errors::<LANES, true>(groups, [a, b], &steps, range),
            _ => errors::<LANES, false>(groups, [groups[0].weights, groups[1].weights], &steps, range),
        };
        // Through memory: or else the compiler takes the lanes apart for what follows, and computes the
        // errors in pieces of vectors.
        let errors = core::hint::black_box(errors);
        let mut done = true;
        for (i, group) in groups.iter().enumerate() {
            let count = (last[i] - first[i] + 1) as usize;
            let (error, at) = least::<SIDE>(&errors[i * SIDE..], count);
            // Of equal errors the narrower multiplier's counts.
            if error < f32::INFINITY && error <= best[i] {
                (best[i], chosen[i]) = (error, first[i] + at);
            }
            last[i] = group.narrowest;
            if first[i] > group.narrowest && clipped(group, (first[i] - 1) as f32 * scale, range) <= best[i] {
                last[i] = first[i] - 1;
                done = false;
            }
        }
        if done {
            return chosen;
        }
    }
}

/// The least of the first `count` errors and the first place that has it.
#[inline(always)]
fn least<const SIDE: usize>(errors: &[f32], count: usize) -> (f32, u32) {
    // What is not negative compares as integers do.
    let mut keys = [u32::MAX; SIDE];
    for (place, (key, error)) in keys.iter_mut().zip(errors).enumerate() {
        *key = if place < count { error.to_bits() } else { u32::MAX };
    }
    let least = keys.iter().fold(u32::MAX, |least, key| least.min(*key));
    let mut at = SIDE as u32;
    for (place, key) in keys.iter().enumerate() {
        at = at.min(if *key == least { place as u32 } else { SIDE as u32 });
    }
    (f32::from_bits(least), at)
}

/// The largest weight's part of the error, if it is clipped: by more the narrower the step. Once this alone
/// is more than the best sum, so is every sum with a narrower step.
#[inline(always)]
fn clipped(group: &Group<'_>, step: f32, (least, most): (i32, i32)) -> f32 {
    let (mut weight, mut importance) = (group.max, 1.0);
    if group.importance.is_some() || least != -most {
        let largest = group.max.to_bits();
        let place = group.weights.iter().position(|weight| weight.to_bits() & 0x7FFF_FFFF == largest);
        let place = place.unwrap_or_default();
        weight = group.weights[place];
        importance = group.importance.map_or(1.0, |all| all[place]);
    }
    let (least, most) = (least as f32, most as f32);
    let quotient = weight / step;
    if quotient > least && quotient < most {
        return 0.0;
    }
    let difference = difference(weight, step, (least, most));
    difference * difference * importance
}

/// What is left of a weight that is rounded to a multiple of the step.
#[inline(always)]
fn difference(weight: f32, step: f32, (least, most): (f32, f32)) -> f32 {
    // As `round_to_i32` does, without leaving the floats: quotients are far below 2^22.
    let quant = (weight / step + ROUND) - ROUND;
    let quant = if quant < least { least } else { quant };
    let quant = if quant > most { most } else { quant };
    weight - quant * step
}

/// Squared errors of rounding both groups to multiples of their steps.
#[inline(always)]
fn errors<const LANES: usize, const WEIGHED: bool>(
    groups: &[Group<'_>; 2],
    importance: [&[f32; GROUP]; 2],
    steps: &[f32; LANES],
    (least, most): (i32, i32),
) -> [f32; LANES] {
    let range = (least as f32, most as f32);
    let mut errors = [0.0; LANES];
    for i in 0..GROUP {
        let weights = [groups[0].weights[i], groups[1].weights[i]];
        let importance = [importance[0][i], importance[1][i]];
        for (lane, (error, step)) in errors.iter_mut().zip(steps).enumerate() {
            let half = usize::from(lane >= LANES / 2);
            let difference = difference(weights[half], *step, range);
            let square = difference * difference;
            *error += if WEIGHED { square * importance[half] } else { square };
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::round_to_i32;

    /// Every multiplier in turn, and the sums as they are written down.
    fn by_definition(group: &Group<'_>, scale: f32, (least, most): (i32, i32)) -> u32 {
        let mut best = (f32::INFINITY, group.widest);
        for multiplier in group.narrowest..=group.widest {
            let step = multiplier as f32 * scale;
            let mut error = 0.0_f32;
            for (i, weight) in group.weights.iter().enumerate() {
                let quant = round_to_i32(weight / step).clamp(least, most);
                let difference = weight - quant as f32 * step;
                error += difference * difference * group.importance.map_or(1.0, |all| all[i]);
            }
            if error < best.0 {
                best = (error, multiplier);
            }
        }
        best.1
    }

    #[test]
    fn the_search_finds_what_the_definition_says() {
        let mut state = 7_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let (mut narrower, mut left_out) = (0, 0);
        for case in 0..4000 {
            let range = if case % 2 == 0 { (-127, 127) } else { (-8, 7) };
            let mut weights = [[0.0; GROUP]; 2];
            for (i, weight) in weights.as_flattened_mut().iter_mut().enumerate() {
                let x = random();
                *weight = match case / 2 % 5 {
                    0 => x,
                    1 => x * x * x * 1e-3,
                    2 if i % 9 > 0 => 0.0,
                    // Multiples of something: errors of zero, and ties.
                    3 => (x * 20.0) as i32 as f32,
                    4 if i % 32 > 0 => x * 0.01,
                    _ => x * 1e6,
                };
            }
            let mut importance = [[0.0; GROUP]; 2];
            for value in importance.as_flattened_mut() {
                *value = random().max(0.0) * 3.0;
            }
            let largest = |weights: &[f32]| weights.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            let scale = largest(weights.as_flattened()).max(1e-20) / (range.1 as f32 * 255.0);
            let groups: [Group<'_>; 2] = core::array::from_fn(|i| {
                let max = largest(&weights[i]);
                let widest = (max / (range.1 as f32 * scale)).ceil().clamp(1.0, 255.0) as u32;
                let narrowest =
                    (widest * if range.1 == 7 { 5 } else { 28 } / if range.1 == 7 { 8 } else { 32 }).max(1);
                let importance = (case % 3 == 0).then_some(&importance[i]);
                Group { weights: &weights[i], importance, max, narrowest, widest }
            });
            let want = [by_definition(&groups[0], scale, range), by_definition(&groups[1], scale, range)];
            assert_eq!(best_multipliers::<4, 8>(&groups, scale, range), want, "case {case}");
            assert_eq!(best_multipliers::<8, 16>(&groups, scale, range), want, "case {case}");
            for (group, chosen) in groups.iter().zip(want) {
                narrower += usize::from(chosen < group.widest);
                left_out += usize::from(clipped(group, group.narrowest as f32 * scale, range) > 0.0);
            }
        }
        assert!(narrower > 1000 && left_out > 1000, "{narrower} {left_out}");
    }
}
