//! The activations of some tokens of a block, and how a block is cut by tokens.

use core::ops::Range;

use crate::format::QUAD;
use crate::memory::Layout;
use crate::workers::{Disjoint, share};

/// The places for some tokens' activations, and one worker's scratch.
pub(super) struct Part<'m> {
    pub(super) tokens: &'m [u32],
    pub(super) residual: &'m mut [f32],
    pub(super) normed: &'m mut [f32],
    pub(super) hidden: &'m mut [f32],
    pub(super) quants: &'m mut [i8],
    pub(super) scales: &'m mut [f32],
    pub(super) sums: &'m mut [i32],
    pub(super) rotary: &'m mut [f32],
    pub(super) query: &'m mut [i8],
    /// Logits come at the very end: until then their place is attention's.
    pub(super) scores: &'m mut [f32],
}

/// A block's places, from which each job takes those of its tokens.
pub(super) struct Places<'m> {
    tokens: &'m [u32],
    residual: Disjoint<'m, f32>,
    normed: Disjoint<'m, f32>,
    hidden: Disjoint<'m, f32>,
    quants: Disjoint<'m, i8>,
    scales: Disjoint<'m, f32>,
    sums: Disjoint<'m, i32>,
    rotary: Disjoint<'m, f32>,
    query: Disjoint<'m, i8>,
    scores: Disjoint<'m, f32>,
}

impl<'m> Places<'m> {
    pub(super) fn new(part: Part<'m>) -> Self {
        Self {
            tokens: part.tokens,
            residual: Disjoint::new(part.residual),
            normed: Disjoint::new(part.normed),
            hidden: Disjoint::new(part.hidden),
            quants: Disjoint::new(part.quants),
            scales: Disjoint::new(part.scales),
            sums: Disjoint::new(part.sums),
            rotary: Disjoint::new(part.rotary),
            query: Disjoint::new(part.query),
            scores: Disjoint::new(part.scores),
        }
    }

    /// The places of some tokens, of a block that has room for `block`, and scratch number `job` of
    /// `jobs`.
    ///
    /// # Safety
    /// While the part lives, nobody else has one of any of these tokens, or this scratch.
    pub(super) unsafe fn part(
        &self,
        tokens: Range<usize>,
        block: usize,
        layout: &Layout,
        head_dim: usize,
        (job, jobs): (usize, usize),
    ) -> Part<'m> {
        let of = |all: usize| {
            let each = all / block.max(1);
            tokens.start * each..tokens.end * each
        };
        let padded = head_dim.next_multiple_of(4);
        // SAFETY: as promised: different tokens, different places.
        unsafe {
            Part {
                tokens: self.tokens.get(tokens.clone()).unwrap_or(&[]),
                residual: self.residual.part(of(layout.residual)),
                normed: self.normed.part(of(layout.normed)),
                hidden: self.hidden.part(of(layout.hidden)),
                quants: self.quants.part(of(layout.quants)),
                scales: self.scales.part(of(layout.scales)),
                sums: self.sums.part(of(layout.sums)),
                rotary: self.rotary.part(of(layout.rotary)),
                query: self.query.part(job * padded..(job + 1) * padded),
                scores: self.scores.part(share(layout.logits, 1, job, jobs)),
            }
        }
    }
}

/// Which of `n` tokens from `position` on are job `job`'s of `jobs`. No two share a quad of positions,
/// in which keys and values are interleaved.
pub(super) fn tokens_of(position: usize, n: usize, job: usize, jobs: usize) -> Range<usize> {
    let in_quad = position % QUAD;
    let whole = share(in_quad + n, QUAD, job, jobs);
    whole.start.saturating_sub(in_quad)..whole.end.saturating_sub(in_quad)
}

/// `slice[begin..begin + len]`, or what there is of it.
pub(super) fn part(slice: &[f32], begin: usize, len: usize) -> &[f32] {
    slice.get(begin..).and_then(|rest| rest.get(..len)).unwrap_or(&[])
}

/// `slice[..len]`, or what there is of it.
pub(super) fn part_mut<T>(slice: &mut [T], len: usize) -> &mut [T] {
    let len = len.min(slice.len());
    &mut slice[..len]
}

/// `slice[..at]` and the rest; an end that is not there is empty.
pub(super) fn split_mut<T>(slice: &mut [T], at: usize) -> (&mut [T], &mut [T]) {
    slice.split_at_mut(at.min(slice.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_all_tokens_and_no_quad_in_common() {
        for position in 0..9 {
            for n in 1..40 {
                for jobs in 1..5 {
                    let mut next = 0;
                    for job in 0..jobs {
                        let tokens = tokens_of(position, n, job, jobs);
                        assert_eq!(tokens.start, next);
                        next = tokens.end;
                        assert!(next == n || next == 0 || (position + next).is_multiple_of(QUAD));
                    }
                    assert_eq!(next, n);
                }
            }
        }
    }
}
