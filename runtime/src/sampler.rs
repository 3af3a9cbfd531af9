//! From logits to a token.
//!
//! Probabilities are integers here (e^((logit − largest) / temperature) · 2³⁰), so that sums are
//! exact and their order does not matter: no sorting, and the same draw everywhere. The order of
//! filters is Hugging Face's: repetition penalty, temperature, top-k, top-p, min-p.

use crate::error::SampleError;

mod bounded;

pub(crate) use bounded::{Logits, NotDrawn};

/// How to choose among the next tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SamplerOptions {
    /// 0 to 2: below 1 sharpens, above 1 flattens, 0 always takes the most probable (the lowest
    /// id among equals).
    pub temperature: f32,
    /// 0 to 1: keep the fewest most probable tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep only the `top_k` most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// 0 to 1: keep tokens at least this probable relative to the most probable; 0 keeps all.
    pub min_p: f32,
    /// 1 to 10: logits of recent tokens are divided (or multiplied, if negative) by this; 1 does
    /// nothing (Keskar et al., CTRL, 2019).
    pub repeat_penalty: f32,
    /// How many of the last tokens count as recent.
    pub repeat_last: u32,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { temperature: 0.8, top_p: 0.9, top_k: 0, min_p: 0.0, repeat_penalty: 1.0, repeat_last: 64 }
    }
}

/// Chooses tokens; the same seed chooses the same.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: Pcg32,
}

impl Sampler {
    /// A sampler with these options.
    ///
    /// # Errors
    /// [`SampleError::OutOfRange`] names the first option that is out of range or not a number.
    pub fn new(options: SamplerOptions, seed: u64) -> Result<Self, SampleError> {
        let ranges = [
            ("temperature", options.temperature, 0.0, 2.0),
            ("top_p", options.top_p, 0.0, 1.0),
            ("min_p", options.min_p, 0.0, 1.0),
            ("repeat_penalty", options.repeat_penalty, 1.0, 10.0),
        ];
        for (parameter, value, min, max) in ranges {
            if !(value >= min && value <= max) {
                return Err(SampleError::OutOfRange { parameter, value, min, max });
            }
        }
        Ok(Self { options, random: Pcg32::new(seed) })
    }

    /// Always the most probable token.
    pub fn greedy() -> Self {
        let options = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
        Self { options, random: Pcg32::new(0) }
    }

    /// The options.
    pub const fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// Chooses a token. The logits are used up by it. `history` is the sequence so far.
    ///
    /// # Errors
    /// [`SampleError::NoFiniteLogit`] if every logit is infinite or not a number.
    // Its stack must not lie under the forward pass's.
    #[inline(never)]
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32, SampleError> {
        self.penalize(logits, history);
        if self.options.temperature == 0.0 {
            return most_probable(logits).map(|(token, _)| token);
        }
        let total = weigh_all(logits, self.options.temperature)?;
        // Mostly top-p leaves few tokens.
        if self.options.top_k == 0 && self.options.top_p < 1.0 {
            let target = share_of(total, self.options.top_p).max(1);
            if let Some(mut few) = Few::gather(logits, total, target) {
                few.keep(target);
                let least = self.least();
                let draw = self.random.below(few.kept(least).map(|(weight, _)| weight).sum());
                let mut sum = 0;
                let chosen = few.kept(least).find(|&(weight, _)| {
                    sum += weight;
                    draw < sum
                });
                return chosen.map(|(_, token)| token).ok_or(SampleError::NoFiniteLogit);
            }
        }
        let total = self.filter(logits, total);
        let draw = self.random.below(total);
        let mut sum = 0;
        for (token, weight) in logits.iter().enumerate() {
            sum += u64::from(weight.to_bits());
            if draw < sum {
                return Ok(token as u32);
            }
        }
        Err(SampleError::NoFiniteLogit)
    }

    /// Replaces each logit by the bits of its token's integer weight (0 for tokens filtered out)
    /// and returns the sum of weights: a token's probability is its weight over that sum.
    ///
    /// # Errors
    /// [`SampleError::NoFiniteLogit`] if every logit is infinite or not a number.
    pub fn weigh(&self, logits: &mut [f32], history: &[u32]) -> Result<u64, SampleError> {
        self.penalize(logits, history);
        let total = weigh_all(logits, self.options.temperature)?;
        Ok(self.filter(logits, total))
    }

    /// The least weight that min-p keeps.
    fn least(&self) -> u32 {
        (self.options.min_p * ONE as f32) as u32
    }

    /// Makes the weights of tokens that are filtered out 0; returns the sum of the others.
    #[inline(never)]
    fn filter(&self, logits: &mut [f32], mut total: u64) -> u64 {
        if self.options.top_k > 0 && (self.options.top_k as usize) < logits.len() {
            keep_most_probable(logits, Amount::One, u64::from(self.options.top_k));
            total = sum(logits);
        }
        if self.options.top_p < 1.0 {
            let target = share_of(total, self.options.top_p).max(1);
            total = keep_most_probable(logits, Amount::Weight, target);
        }
        if self.options.min_p > 0.0 {
            let least = self.least();
            for weight in &mut *logits {
                if weight.to_bits() < least {
                    *weight = 0.0;
                }
            }
            total = sum(logits);
        }
        total
    }

    /// Divides positive logits of recent tokens, multiplies negative ones: once a token, however
    /// often it occurred.
    fn penalize(&self, logits: &mut [f32], history: &[u32]) {
        self.penalize_from(0, logits, history);
    }

    /// The same of the logits of some neighbours, of which `first` is the first token.
    #[inline(always)]
    fn penalize_from(&self, first: usize, logits: &mut [f32], history: &[u32]) {
        let penalty = self.options.repeat_penalty;
        if penalty == 1.0 {
            return;
        }
        let skip = history.len().saturating_sub(self.options.repeat_last as usize);
        let recent = history.get(skip..).unwrap_or(&[]);
        for (i, &token) in recent.iter().enumerate() {
            if recent.iter().take(i).any(|&before| before == token) {
                continue;
            }
            if let Some(logit) = logits.get_mut((token as usize).wrapping_sub(first)) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
}

/// The weight of the most probable token.
const ONE: u32 = 1 << 30;

/// Coefficients of 2^−s for s from −½ to ½ in 2⁻³⁰, from the highest power down: within 3 · 10⁻⁶ of it.
pub(crate) static POWER: [i32; 5] = [10_289_547, -60_029_107, 257_956_794, -744_236_429, ONE as i32];

/// e^((logit − max) / temperature) · [`ONE`], where `sharpness` is log₂ e / temperature; 0 for what is no
/// finite number. The logit is not above `max`.
#[inline(always)]
fn weight(logit: f32, max: f32, sharpness: f32) -> u32 {
    if !logit.is_finite() {
        return 0;
    }
    // The power of two in 2⁻²⁷, as far as that goes: cut off, and NaN is 0.
    let distance = ((max - logit) * sharpness * 134_217_728.0) as u32;
    let whole = (distance >> 27) + (distance >> 26 & 1);
    let part = (distance << 5) as i32;
    let [highest, others @ ..] = POWER;
    let step = |power: i32, add: i32| ((i64::from(power) * i64::from(part)) >> 32) as i32 + add;
    (others.into_iter().fold(highest, step) as u32).checked_shr(whole).unwrap_or(0)
}

/// Replaces each logit by the bits of its token's weight, before any filter; returns their sum.
fn weigh_all(logits: &mut [f32], temperature: f32) -> Result<u64, SampleError> {
    let sharpness = core::f32::consts::LOG2_E / temperature;
    #[cfg(all(smidgen_dsp, target_abi = "eabihf"))]
    {
        use crate::kernels::draw;
        let (mut max, sum) = draw::largest_and_sum(logits);
        if !sum.is_finite() {
            (_, max) = most_probable(logits)?;
            for logit in logits.iter_mut().filter(|logit| !logit.is_finite()) {
                *logit = f32::NEG_INFINITY;
            }
        } else if logits.is_empty() {
            return Err(SampleError::NoFiniteLogit);
        }
        let (mut total, rest) = draw::weigh_fours(logits, max, sharpness);
        for logit in rest {
            let weight = weight(*logit, max, sharpness);
            total += u64::from(weight);
            *logit = f32::from_bits(weight);
        }
        Ok(total)
    }
    #[cfg(not(all(smidgen_dsp, target_abi = "eabihf")))]
    {
        let (_, max) = most_probable(logits)?;
        let mut total = 0;
        for logit in logits {
            let weight = weight(*logit, max, sharpness);
            total += u64::from(weight);
            *logit = f32::from_bits(weight);
        }
        Ok(total)
    }
}

/// So many tokens are looked at one by one.
const CANDIDATES: usize = 64;

/// The tokens that top-p can keep, in order of id, if they are few.
struct Few {
    /// Weight and token; of those that are kept the weight has [`KEPT`] added.
    all: [(u32, u32); CANDIDATES],
    n: usize,
}

/// Weights are below this.
const KEPT: u32 = 1 << 31;

impl Few {
    /// The least that is kept and all that is not make up more than what the target leaves, and the
    /// least is the largest of them: tokens whose weight is not above the mean of that are not kept.
    fn gather(weights: &[f32], total: u64, target: u64) -> Option<Self> {
        let mut few = Self { all: [(0, 0); CANDIDATES], n: 0 };
        // What a shift gives is less than the quotient, which is on the safe side.
        let shift = u32::try_from(weights.len()).ok()?.max(1).ilog2() + 1;
        let least = u32::try_from((total - target.min(total)) >> shift).unwrap_or(ONE).min(ONE);
        let (fours, rest) = weights.as_chunks::<4>();
        let mut token = 0;
        for &[a, b, c, d] in fours {
            // A difference below zero has the highest bit.
            let above = |weight: f32| least.wrapping_sub(weight.to_bits());
            if (above(a) | above(b) | above(c) | above(d)) & KEPT != 0 {
                few.take(&[a, b, c, d], token, least)?;
            }
            token += 4;
        }
        few.take(rest, token, least)?;
        Some(few)
    }

    /// Adds those above `least` of some neighbours, the first of which is `token`.
    #[inline(never)]
    fn take(&mut self, weights: &[f32], token: u32, least: u32) -> Option<()> {
        for (weight, token) in weights.iter().map(|weight| weight.to_bits()).zip(token..) {
            if weight > least {
                *self.all.get_mut(self.n)? = (weight, token);
                self.n += 1;
            }
        }
        Some(())
    }

    /// Keeps the fewest largest, the lowest ids among equals, whose weights reach the target.
    fn keep(&mut self, target: u64) {
        let mut sum = 0;
        while sum < target {
            let mut largest = &mut (0, 0);
            for candidate in self.all.iter_mut().take(self.n) {
                if candidate.0 as i32 > largest.0 as i32 {
                    largest = candidate;
                }
            }
            if largest.0 == 0 {
                return;
            }
            sum += u64::from(largest.0);
            largest.0 |= KEPT;
        }
    }

    /// Weights and tokens of those that are kept and have a weight of `least` or more.
    fn kept(&self, least: u32) -> impl Iterator<Item = (u64, u32)> {
        let all = self.all.iter().take(self.n).filter(move |(weight, _)| *weight >= KEPT + least);
        all.map(|(weight, token)| (u64::from(weight - KEPT), *token))
    }
}

/// The least whole number that is not below `total` times `part` (0 to less than 1), which is taken in
/// 2⁻³²: exact for every f32 that matters here.
fn share_of(total: u64, part: f32) -> u64 {
    let bits = part.to_bits();
    let (exponent, fraction) = (bits >> 23, bits & 0x7F_FFFF);
    // part = digits · 2^(exponent − 150), below 2⁻¹¹⁸ whatever the digits.
    let digits = fraction | 1 << 23;
    let share = match exponent.checked_sub(118) {
        Some(up) => digits << up.min(8),
        None => digits.checked_shr(118 - exponent).unwrap_or(0),
    };
    let (high, low) = (total >> 32, total & 0xFFFF_FFFF);
    high * u64::from(share) + (low * u64::from(share)).div_ceil(1 << 32)
}

/// The largest finite logit and its token, the lowest id among equals.
fn most_probable(logits: &[f32]) -> Result<(u32, f32), SampleError> {
    let larger = |best: Option<(u32, f32)>, (token, &logit): (usize, &f32)| match best {
        Some((_, max)) if logit > max => Some((token as u32, logit)),
        None if logit > f32::NEG_INFINITY => Some((token as u32, logit)),
        best => best,
    };
    let mut best = logits.iter().enumerate().fold(None, larger);
    if best.is_some_and(|(_, max)| max == f32::INFINITY) {
        best = logits.iter().enumerate().filter(|(_, logit)| logit.is_finite()).fold(None, larger);
    }
    best.ok_or(SampleError::NoFiniteLogit)
}

fn sum(weights: &[f32]) -> u64 {
    weights.iter().map(|weight| u64::from(weight.to_bits())).sum()
}

/// So many weights are looked at one by one.
const FEW: usize = 32;

/// What a weight counts for.
#[derive(Clone, Copy)]
enum Amount {
    /// One each: top-k.
    One,
    /// Itself: top-p.
    Weight,
}

impl Amount {
    fn of(self, weight: u32) -> u64 {
        match self {
            Self::One => 1,
            Self::Weight => weight.into(),
        }
    }
}

/// Keeps the fewest largest weights whose `amount`s reach `target` (at least 1), the lowest ids among
/// equals; the others become 0. Returns what the kept ones amount to.
///
/// Adds up the amounts of weights between powers of two, finds between which two the target is
/// reached, and cuts that interval in parts until few weights, or only equal ones, are left in it.
#[inline(never)]
fn keep_most_probable(weights: &mut [f32], amount: Amount, target: u64) -> u64 {
    /// Buckets that are powers of two.
    const POWERS: u32 = 32;
    let amount = |weight| amount.of(weight);
    // What weights above the interval amount to.
    let mut above = 0;
    let (mut low, mut width, mut shift) = (1_u32, KEPT, POWERS);
    loop {
        // At most 32 parts.
        let mut buckets = [0_u64; 32];
        for weight in weights.iter().map(|weight| weight.to_bits()) {
            let distance = weight.wrapping_sub(low);
            if distance < width {
                let part = if shift == POWERS { weight.leading_zeros() ^ 31 } else { distance >> shift };
                buckets[part as usize % 32] += amount(weight);
            }
        }
        let Some(part) = reached(&buckets, &mut above, target) else { return above };
        (low, width) = if shift == POWERS {
            (1 << part, 1 << part)
        } else {
            (low + ((part as u32) << shift), 1 << shift)
        };
        let mut few = [(0_u32, 0_usize); FEW];
        let mut n = 0;
        for (i, place) in weights.iter_mut().enumerate() {
            let weight = place.to_bits();
            if weight < low {
                *place = 0.0;
            } else if weight - low < width {
                if let Some(place) = few.get_mut(n) {
                    *place = (weight, i);
                }
                n += 1;
            }
        }
        if let Some(few) = few.get_mut(..n) {
            return keep_of_few(weights, few, amount, target, above);
        }
        if width == 1 {
            break;
        }
        shift = width.ilog2().saturating_sub(5);
    }
    // Many equal ones: as many as are needed.
    for place in weights.iter_mut().filter(|place| place.to_bits() == low) {
        if above < target {
            above += amount(low);
        } else {
            *place = 0.0;
        }
    }
    above
}

/// The highest bucket with which the target is reached; those before it are added to `above`.
fn reached(buckets: &[u64; 32], above: &mut u64, target: u64) -> Option<usize> {
    for (i, &amount) in buckets.iter().enumerate().rev() {
        if *above + amount >= target {
            return Some(i);
        }
        *above += amount;
    }
    None
}

/// The end of [`keep_most_probable`]: the largest of these weights (with their places, in order) stay
/// until the target is reached.
fn keep_of_few(
    weights: &mut [f32],
    few: &mut [(u32, usize)],
    amount: impl Fn(u32) -> u64,
    target: u64,
    mut above: u64,
) -> u64 {
    while above < target {
        let mut largest = &mut (0, 0);
        for candidate in &mut *few {
            if candidate.0 > largest.0 {
                largest = candidate;
            }
        }
        if largest.0 == 0 {
            break;
        }
        above += amount(largest.0);
        largest.0 = 0; // kept
    }
    for &mut (weight, place) in few {
        if let (Some(place), true) = (weights.get_mut(place), weight > 0) {
            *place = 0.0;
        }
    }
    above
}

/// PCG-XSH-RR 64/32 (O'Neill 2014), stream 54: 64 bits of state, the same numbers everywhere.
#[derive(Clone, Debug)]
struct Pcg32 {
    state: u64,
}

impl Pcg32 {
    const INCREMENT: u64 = 54 << 1 | 1;

    fn new(seed: u64) -> Self {
        let mut random = Self { state: 0 };
        random.next();
        random.state = random.state.wrapping_add(seed);
        random.next();
        random
    }

    fn next(&mut self) -> u32 {
        let state = self.state;
        self.state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(Self::INCREMENT);
        ((((state >> 18) ^ state) >> 27) as u32).rotate_right((state >> 59) as u32)
    }

    /// Uniform below `n` (at least 1): the top half of the product of 64 random bits and `n`.
    fn below(&mut self, n: u64) -> u64 {
        let high = u64::from(self.next());
        let low = u64::from(self.next());
        let (n_high, n_low) = (n >> 32, n & 0xFFFF_FFFF);
        let middle = high * n_low + ((low * n_low) >> 32);
        let other = low * n_high + (middle & 0xFFFF_FFFF);
        high * n_high + (middle >> 32) + (other >> 32)
    }
}

#[cfg(test)]
mod tests;
