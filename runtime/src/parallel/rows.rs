//! Matrices taken apart by rows, so that jobs on several threads write their own.

use core::marker::PhantomData;
use core::ops::Range;

use super::Pool;

impl Pool {
    /// Cuts `rows` rows into pieces of `rows_per_job` (the last may be shorter) and calls
    /// `work(range of rows, those rows of every matrix in out)` for each piece.
    ///
    /// # Panics
    /// When a matrix of `out` does not have `rows` rows.
    pub fn for_rows<S: SplitRows>(
        &self,
        rows: usize,
        rows_per_job: usize,
        out: S,
        work: impl Fn(Range<usize>, S::Piece) + Sync,
    ) {
        out.check(rows);
        let per_job = rows_per_job.max(1);
        self.run(rows.div_ceil(per_job), |job| {
            let range = job * per_job..((job + 1) * per_job).min(rows);
            // SAFETY: each job has a number of its own, so ranges do not overlap, and `check`
            // has proved that they are within every matrix.
            let piece = unsafe { out.piece(range.clone()) };
            work(range, piece);
        });
    }
}

/// A mutable matrix `[rows, width]` that [`Pool::for_rows`] takes apart by rows.
pub struct RowsMut<'a, T> {
    all: SharedMut<'a, T>,
    width: usize,
}

impl<'a, T> RowsMut<'a, T> {
    /// Sees `data` as rows of `width` elements.
    pub fn new(data: &'a mut [T], width: usize) -> Self {
        Self { all: SharedMut::new(data), width }
    }
}

/// A mutable slice that [`Pool::for_rows`] takes apart by blocks of `block` elements, each of
/// which counts as a row; the last may be shorter.
pub struct BlocksMut<'a, T> {
    all: SharedMut<'a, T>,
    block: usize,
}

impl<'a, T> BlocksMut<'a, T> {
    /// Sees `data` as blocks of `block` elements.
    pub fn new(data: &'a mut [T], block: usize) -> Self {
        Self { all: SharedMut::new(data), block: block.max(1) }
    }
}

/// What [`Pool::for_rows`] can cut: a [`RowsMut`], a [`BlocksMut`], or a tuple of them.
///
/// # Safety
/// `piece` of ranges that do not overlap must give memory that does not overlap.
pub unsafe trait SplitRows: Sync {
    /// Some rows: slices of the matrices.
    type Piece;

    /// Panics unless there are `rows` rows.
    fn check(&self, rows: usize);

    /// The given rows.
    ///
    /// # Safety
    /// The range is within the rows that `check` accepted, and no other piece that overlaps it
    /// is alive.
    unsafe fn piece(&self, rows: Range<usize>) -> Self::Piece;
}

// SAFETY: rows `a..b` are elements `a * width..b * width`: disjoint rows, disjoint elements.
unsafe impl<'a, T: Send> SplitRows for RowsMut<'a, T> {
    type Piece = &'a mut [T];

    fn check(&self, rows: usize) {
        assert_eq!(self.all.len, rows * self.width, "matrix of {rows} rows of {}", self.width);
    }

    unsafe fn piece(&self, rows: Range<usize>) -> Self::Piece {
        // SAFETY: the caller's promise.
        unsafe { self.all.range(rows.start * self.width..rows.end * self.width) }
    }
}

// SAFETY: blocks `a..b` are elements `a * block..b * block`: disjoint blocks, disjoint elements.
unsafe impl<'a, T: Send> SplitRows for BlocksMut<'a, T> {
    type Piece = &'a mut [T];

    fn check(&self, rows: usize) {
        assert_eq!(self.all.len.div_ceil(self.block), rows, "blocks of {} elements", self.block);
    }

    unsafe fn piece(&self, rows: Range<usize>) -> Self::Piece {
        let end = (rows.end * self.block).min(self.all.len);
        // SAFETY: the caller's promise.
        unsafe { self.all.range(rows.start * self.block..end) }
    }
}

macro_rules! split_tuple {
    ($($name:ident $index:tt),+) => {
        // SAFETY: each member keeps the promise by itself, and members do not overlap.
        unsafe impl<$($name: SplitRows),+> SplitRows for ($($name,)+) {
            type Piece = ($($name::Piece,)+);

            fn check(&self, rows: usize) {
                $(self.$index.check(rows);)+
            }

            unsafe fn piece(&self, rows: Range<usize>) -> Self::Piece {
                // SAFETY: the caller's promise.
                unsafe { ($(self.$index.piece(rows.clone()),)+) }
            }
        }
    };
}
split_tuple!(A 0, B 1);
split_tuple!(A 0, B 1, C 2);
split_tuple!(A 0, B 1, C 2, D 3);

/// A mutable slice of which jobs take parts that a row split cannot express.
pub struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out as `&mut [T]` to other threads, which `T: Send` allows; that
// they do not overlap is promised at each call of `range`.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: it stands for the `&mut [T]` that it was made of.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Borrows `data` until the last part is gone.
    pub fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No other part that overlaps `range` is alive.
    ///
    /// # Panics
    /// When the range does not lie within the slice.
    #[allow(clippy::mut_from_ref)] // the reason to be of this type; see its safety section
    pub unsafe fn range(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        // SAFETY: within the slice (just checked), alive for 'a, and not shared by the
        // caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn rows_are_cut_completely() {
        let pool = Pool::new(3);
        let (mut a, mut b) = (vec![0usize; 7 * 3], vec![0usize; 7]);
        pool.for_rows(7, 2, (RowsMut::new(&mut a, 3), RowsMut::new(&mut b, 1)), |range, (a, b)| {
            assert_eq!(a.len(), range.len() * 3);
            for (row, (a, b)) in range.zip(a.chunks_exact_mut(3).zip(b)) {
                a.fill(row);
                *b = row;
            }
        });
        assert_eq!(b, (0..7).collect::<Vec<_>>());
        assert!(a.iter().enumerate().all(|(i, &x)| x == i / 3));
    }
}
