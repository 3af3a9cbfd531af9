//! Drawing without all logits in memory: the head's product comes some tokens at a time, as often as it
//! takes, and the draw is the one that [`Sampler::sample`] makes of all logits together.
//!
//! One pass mostly does. It keeps the best candidates, whose weights follow exactly once the largest
//! logit is known, and a sum of all weights that is a little uncertain, since the largest logit was not
//! known from the beginning. If the least and the greatest that the sum can be keep the same tokens, and
//! those are all among the candidates, nothing is left open. Else further passes weigh all tokens.

use core::f32::consts::LOG2_E;

use super::{ONE, Sampler, reached, share_of, weight};
use crate::error::SampleError;

/// Logits that can be computed again and again.
pub(crate) trait Logits {
    /// Why they could not be.
    type Error;

    /// Calls `each` with the first token and the logits of some neighbours, until it has seen all.
    fn pass(&mut self, each: &mut dyn FnMut(u32, &mut [f32])) -> Result<(), Self::Error>;
}

/// Why nothing was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NotDrawn<E> {
    Sample(SampleError),
    Read(E),
}

impl<E> From<SampleError> for NotDrawn<E> {
    fn from(error: SampleError) -> Self {
        Self::Sample(error)
    }
}

impl Sampler {
    /// Chooses a token: the one that [`Sampler::sample`] would choose of all `logits`, of which there are
    /// `vocab_size`. `best` is scratch: the more, the fewer passes.
    #[inline(never)]
    pub(crate) fn sample_bounded<L: Logits>(
        &mut self,
        logits: &mut L,
        vocab_size: usize,
        best: &mut [u64],
        history: &[u32],
    ) -> Result<u32, NotDrawn<L::Error>> {
        let greedy = self.options.temperature == 0.0;
        let sharpness = LOG2_E / self.options.temperature;
        let keys = if greedy { &mut [] } else { best };
        let mut best = Best { keys, n: 0, left_out: false };
        let mut sum = RunningSum { largest: None, sum: 0, changes: 0 };
        let options = &*self;
        logits
            .pass(&mut |first, logits| {
                options.penalize_from(first as usize, logits, history);
                let rises = sum.take_in_largest(first, logits, sharpness);
                if greedy {
                    return;
                }
                for (&logit, token) in logits.iter().zip(first..) {
                    if let (true, Some((_, largest))) = (logit.is_finite(), sum.largest) {
                        sum.sum += u64::from(weight(logit, largest, sharpness));
                        best.offer(logit, token);
                    }
                }
                sum.changes += u32::from(rises);
            })
            .map_err(NotDrawn::Read)?;
        let (token, largest) = sum.largest.ok_or(SampleError::NoFiniteLogit)?;
        if greedy {
            return Ok(token);
        }
        let edge = best.weigh(largest, sharpness);
        if let Some(kept) = self.surely_kept(best.sorted(), edge, sum.bounds(vocab_size), vocab_size) {
            return Ok(self.draw_of(best.first(kept)));
        }
        let mut all = Weights { logits: &mut *logits, sampler: self, history, largest, sharpness };
        let (cut, total) = all.cut(vocab_size)?;
        let draw = self.random.below(total);
        let (mut sum, mut chosen) = (0, None);
        let mut all = Weights { logits, sampler: self, history, largest, sharpness };
        let mut ties = cut.ties;
        all.pass(&mut |token, weight| {
            if chosen.is_none() && cut.keeps(weight, &mut ties) {
                sum += u64::from(weight);
                if draw < sum {
                    chosen = Some(token);
                }
            }
        })?;
        Ok(chosen.ok_or(SampleError::NoFiniteLogit)?)
    }

    /// How many of the candidates, the most probable first, the filters keep: if that is certain, because
    /// all tokens that are not among them have weights of at most `edge` (none: there are no such
    /// tokens) and the sum of all weights is within `bounds`.
    fn surely_kept(
        &self,
        candidates: impl Iterator<Item = u32> + Clone,
        edge: Option<u32>,
        bounds: (u64, u64),
        vocab_size: usize,
    ) -> Option<usize> {
        let least = self.least().max(1);
        let all = || candidates.clone().filter(|&weight| weight > 0);
        // Of equals to those left out, some that are left out may have lower ids.
        let certain = all().take_while(|&weight| edge.is_none_or(|edge| weight > edge)).count();
        let is_certain = |kept: usize| edge.is_none() || kept <= certain;
        let sum = |n: usize| all().take(n).map(u64::from).sum::<u64>();
        let mut kept = usize::MAX;
        let mut totals = if edge.is_none() { (sum(usize::MAX), sum(usize::MAX)) } else { bounds };
        let top_k = self.options.top_k as usize;
        if top_k > 0 && top_k < vocab_size {
            kept = top_k;
            if !is_certain(kept) {
                return None;
            }
            totals = (sum(kept), sum(kept));
        }
        if self.options.top_p < 1.0 {
            let reaching = |total: u64| {
                let target = share_of(total, self.options.top_p).max(1);
                let mut sum = 0;
                let reached = all().take(kept).position(|weight| {
                    sum += u64::from(weight);
                    sum >= target
                });
                reached.map(|at| at + 1)
            };
            let (fewest, most) = (reaching(totals.0), reaching(totals.1));
            if fewest != most || !most.is_none_or(is_certain) || most.is_none() && edge.is_some() {
                return None;
            }
            kept = most.unwrap_or(kept);
        }
        if kept == usize::MAX && edge.is_some_and(|edge| least <= edge) {
            return None;
        }
        Some(all().take(kept).take_while(|&weight| weight >= least).count())
    }

    /// Draws of these weights with their tokens (weight · 2³² + token), in order of the tokens.
    fn draw_of(&mut self, kept: &mut [u64]) -> u32 {
        for key in &mut *kept {
            *key = key.rotate_left(32);
        }
        sort(kept);
        let weight = |key: u64| key & 0xFFFF_FFFF;
        let draw = self.random.below(kept.iter().map(|key| weight(*key)).sum());
        let mut sum = 0;
        let chosen = kept.iter().find(|key| {
            sum += weight(**key);
            draw < sum
        });
        // Some one is: what is drawn is less than the sum.
        chosen.map_or(0, |key| (key >> 32) as u32)
    }
}

/// The largest finite logit so far with its token, and the sum of all weights relative to it.
struct RunningSum {
    largest: Option<(u32, f32)>,
    sum: u64,
    /// How often what was summed had to be made smaller.
    changes: u32,
}

impl RunningSum {
    /// Looks for a new largest one and makes the sum relative to it. True if that changed it.
    fn take_in_largest(&mut self, first: u32, logits: &[f32], sharpness: f32) -> bool {
        let before = self.largest;
        for (&logit, token) in logits.iter().zip(first..) {
            if logit.is_finite() && self.largest.is_none_or(|(_, largest)| logit > largest) {
                self.largest = Some((token, logit));
            }
        }
        let (Some((_, before)), Some((_, largest))) = (before, self.largest) else { return false };
        if before == largest {
            return false;
        }
        // The factor has 30 bits behind its point; as many bits of the sum as there is room for.
        let factor = u64::from(weight(before, largest, sharpness));
        let shift = 30_u32.saturating_sub(self.sum.leading_zeros());
        self.sum = (((self.sum >> shift) * factor) >> 30) << shift;
        true
    }

    /// Between which numbers the sum of all weights lies that are relative to the largest logit. A weight
    /// is within 4 · 10⁻⁶ of the power that it stands for, and one unit, and so is each factor; rounding
    /// the distance from the largest logit in f32 adds no more than 2 · 10⁻⁶ where it matters.
    fn bounds(&self, vocab_size: usize) -> (u64, u64) {
        if self.changes == 0 {
            return (self.sum, self.sum);
        }
        let changes = u64::from(self.changes) + 1;
        let slack = (self.sum >> 16).saturating_mul(changes) + 2 * vocab_size as u64 + changes;
        (self.sum.saturating_sub(slack), self.sum.saturating_add(slack))
    }
}

/// The best candidates: first by logit (a heap whose root is the worst), then by weight.
struct Best<'a> {
    keys: &'a mut [u64],
    n: usize,
    /// Whether there were others.
    left_out: bool,
}

impl Best<'_> {
    /// A finite logit's key: larger for a larger one, of equals for a lower token.
    fn key(logit: f32, token: u32) -> u64 {
        // Zero has one sign.
        let bits = (logit + 0.0).to_bits();
        let ordered = bits ^ ((bits as i32 >> 31) as u32 | 1 << 31);
        u64::from(ordered) << 32 | u64::from(!token)
    }

    fn logit(key: u64) -> f32 {
        let ordered = (key >> 32) as u32;
        f32::from_bits(ordered ^ ((!ordered as i32 >> 31) as u32 | 1 << 31))
    }

    #[inline(always)]
    fn offer(&mut self, logit: f32, token: u32) {
        let key = Self::key(logit, token);
        if self.n < self.keys.len() {
            if let Some(place) = self.keys.get_mut(self.n) {
                *place = key;
            }
            self.n += 1;
            if self.n == self.keys.len() {
                // Ascending order is such a heap.
                sort(self.keys);
            }
            return;
        }
        self.left_out = true;
        if let Some(worst) = self.keys.first_mut()
            && key > *worst
        {
            *worst = key;
            sift(self.keys, 0, |a, b| a < b);
        }
    }

    /// Makes keys of weights (weight · 2³² + !token), sorts them, the most probable last. Gives the
    /// largest weight that something left out can have.
    fn weigh(&mut self, largest: f32, sharpness: f32) -> Option<u32> {
        let n = self.n.min(self.keys.len());
        self.keys = core::mem::take(&mut self.keys).split_at_mut(n).0;
        for key in &mut *self.keys {
            let weight = weight(Self::logit(*key), largest, sharpness);
            *key = u64::from(weight) << 32 | (*key & 0xFFFF_FFFF);
        }
        sort(self.keys);
        // Without candidates, nothing is known of those left out.
        self.left_out.then(|| self.keys.first().map_or(ONE, |key| (key >> 32) as u32))
    }

    /// The candidates' weights, the largest first.
    fn sorted(&self) -> impl Iterator<Item = u32> + Clone {
        self.keys.iter().rev().map(|key| (key >> 32) as u32)
    }

    /// The first so many of them, as weight · 2³² + token.
    fn first(&mut self, n: usize) -> &mut [u64] {
        let skip = self.keys.len().saturating_sub(n);
        let kept = self.keys.get_mut(skip..).unwrap_or(&mut []);
        for key in &mut *kept {
            *key ^= 0xFFFF_FFFF;
        }
        kept
    }
}

/// Ascending order (Williams 1964): `sort_unstable` is larger, and can panic as far as a linker sees.
fn sort(keys: &mut [u64]) {
    for root in (0..keys.len() / 2).rev() {
        sift(keys, root, |a, b| a > b);
    }
    for end in (1..keys.len()).rev() {
        let Some((heap, rest)) = keys.split_at_mut_checked(end) else { return };
        if let (Some(first), Some(last)) = (heap.first_mut(), rest.first_mut()) {
            core::mem::swap(first, last);
        }
        sift(heap, 0, |a, b| a > b);
    }
}

/// Moves the root of a heap down to where `above` holds of it and what is below.
#[inline(always)]
fn sift(heap: &mut [u64], mut root: usize, above: impl Fn(u64, u64) -> bool) {
    while let Some(&left) = heap.get(2 * root + 1) {
        let (mut child, mut key) = (2 * root + 1, left);
        if let Some(&right) = heap.get(child + 1)
            && above(right, left)
        {
            (child, key) = (child + 1, right);
        }
        let Some(place) = heap.get_mut(root) else { return };
        if !above(key, *place) {
            return;
        }
        let moved = core::mem::replace(place, key);
        if let Some(place) = heap.get_mut(child) {
            *place = moved;
        }
        root = child;
    }
}

/// Which weights are kept: those above `low`, and of those equal to it the first `ties`, in order of id.
#[derive(Clone, Copy)]
struct Cut {
    low: u32,
    ties: u64,
}

impl Cut {
    /// Whether it keeps the next token's weight.
    fn keeps(&self, weight: u32, ties: &mut u64) -> bool {
        let tie = weight == self.low && *ties > 0;
        *ties -= u64::from(tie);
        weight > self.low || tie
    }
}

/// The weights of all tokens, pass by pass.
struct Weights<'a, L> {
    logits: &'a mut L,
    sampler: &'a Sampler,
    history: &'a [u32],
    largest: f32,
    sharpness: f32,
}

impl<L: Logits> Weights<'_, L> {
    fn pass(&mut self, each: &mut dyn FnMut(u32, u32)) -> Result<(), NotDrawn<L::Error>> {
        let Self { logits, sampler, history, largest, sharpness } = self;
        let one = &mut |first: u32, logits: &mut [f32]| {
            sampler.penalize_from(first as usize, logits, history);
            for (&logit, token) in logits.iter().zip(first..) {
                each(token, weight(logit, *largest, *sharpness));
            }
        };
        logits.pass(one).map_err(NotDrawn::Read)
    }

    fn sum(&mut self, cut: Cut) -> Result<u64, NotDrawn<L::Error>> {
        let (mut sum, mut ties) = (0, cut.ties);
        self.pass(&mut |_, weight| {
            if cut.keeps(weight, &mut ties) {
                sum += u64::from(weight);
            }
        })?;
        Ok(sum)
    }

    /// What all filters keep, and the sum of it.
    fn cut(&mut self, vocab_size: usize) -> Result<(Cut, u64), NotDrawn<L::Error>> {
        let options = self.sampler.options;
        let mut cut = Cut { low: 1, ties: u64::MAX };
        if options.top_k > 0 && (options.top_k as usize) < vocab_size {
            cut = self.find(|_| 1, options.top_k.into())?.0;
        }
        let mut total = self.sum(cut)?;
        if options.top_p < 1.0 {
            let target = share_of(total, options.top_p).max(1);
            // What top-k keeps reaches the target, so this keeps no more.
            (cut, total) = self.find(u64::from, target)?;
        }
        let least = self.sampler.least();
        if least > cut.low {
            cut = Cut { low: least, ties: u64::MAX };
            total = self.sum(cut)?;
        }
        Ok((cut, total))
    }

    /// The fewest largest weights whose amounts reach the target, the lowest ids among equals, and what
    /// they amount to: `keep_most_probable` in passes.
    fn find(&mut self, amount: impl Fn(u32) -> u64, target: u64) -> Result<(Cut, u64), NotDrawn<L::Error>> {
        let mut buckets = [0_u64; 32];
        self.pass(&mut |_, weight| {
            if weight > 0 {
                buckets[weight.ilog2() as usize % 32] += amount(weight);
            }
        })?;
        let mut above = 0;
        let all = Cut { low: 1, ties: u64::MAX };
        let Some(power) = reached(&buckets, &mut above, target) else { return Ok((all, above)) };
        let (mut low, mut width) = (1_u32 << power, 1_u32 << power);
        while width > 1 {
            let shift = width.ilog2().saturating_sub(5);
            let mut buckets = [0_u64; 32];
            self.pass(&mut |_, weight| {
                let distance = weight.wrapping_sub(low);
                if distance < width {
                    buckets[(distance >> shift) as usize % 32] += amount(weight);
                }
            })?;
            let Some(part) = reached(&buckets, &mut above, target) else { return Ok((all, above)) };
            low += (part as u32) << shift;
            width = 1 << shift;
        }
        let each = amount(low).max(1);
        let ties = (target - above.min(target)).div_ceil(each);
        Ok((Cut { low, ties }, above + ties * each))
    }
}

#[cfg(test)]
mod tests;
