//! Other cores, if the caller brings them.
//!
//! Work is split by rows and heads, never inside a sum, so results do not depend on how many
//! workers there are.

use core::marker::PhantomData;
use core::ops::Range;

/// Something that runs jobs side by side: a thread pool, or a chip's second core.
pub trait Workers: Sync {
    /// How many jobs can run at once; at least 1.
    fn count(&self) -> usize;

    /// Calls `job(0)`, … `job(n_jobs - 1)`, each exactly once, and returns when all are done.
    /// `n_jobs` is at most [`Workers::count`].
    fn run(&self, n_jobs: usize, job: &(dyn Fn(usize) + Sync));
}

/// No other cores: jobs run one after the other on the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Workers for Serial {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, n_jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        for i in 0..n_jobs {
            job(i);
        }
    }
}

/// The part of `0..total` that job `index` of `n_jobs` does, in whole units of `unit`.
#[inline]
pub(crate) fn share(total: usize, unit: usize, index: usize, n_jobs: usize) -> Range<usize> {
    let (units, n_jobs) = (total.div_ceil(unit.max(1)), n_jobs.max(1));
    let begin = units * index / n_jobs * unit;
    let end = units * (index + 1) / n_jobs * unit;
    begin.min(total)..end.min(total)
}

/// A slice that several jobs write to at places that do not overlap.
pub(crate) struct Disjoint<'a, T> {
    begin: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for an exclusive borrow whose parts are given out one job each (the
// contract of `part`); sending such parts to other threads needs only `T: Send`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { begin: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// The elements in `range`, or as many of them as there are.
    ///
    /// # Safety
    /// While the returned slice lives, nobody else may be given any of its elements.
    #[inline]
    #[allow(clippy::mut_from_ref)] // that the parts do not overlap is the caller's promise
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        // SAFETY: start ≤ end ≤ len, so the part lies inside the borrowed slice; the caller
        // promises that no part overlaps another.
        unsafe { core::slice::from_raw_parts_mut(self.begin.add(start), end - start) }
    }

    /// The same to look at.
    ///
    /// # Safety
    /// While the returned slice lives, nobody may be given any of its elements to write.
    #[inline]
    pub(crate) unsafe fn shared(&self, range: Range<usize>) -> &'a [T] {
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        // SAFETY: start ≤ end ≤ len, so the part lies inside the borrowed slice; the caller
        // promises that nobody writes to it.
        unsafe { core::slice::from_raw_parts(self.begin.add(start), end - start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for total in 0..50 {
            for n_jobs in 1..6 {
                let mut next = 0;
                for index in 0..n_jobs {
                    let part = share(total, 4, index, n_jobs);
                    assert_eq!(part.start, next);
                    next = part.end;
                }
                assert_eq!(next, total);
            }
        }
    }
}
