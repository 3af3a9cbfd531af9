//! A matrix B that is packed once and multiplied from the left many times, without threads:
//! for products inside a job.

use super::kernel::Kernel;
use super::pack::{Aligned, KBlocks};
use super::{Add, Level, MatMut, MatRef, Output, Part, pack_all, with_kernel};

/// A packed matrix `[k, n]`. Keep it to use its memory again.
pub struct PackedB {
    buffer: Aligned,
    k: usize,
    n: usize,
    level: Level,
}

impl PackedB {
    /// Without a matrix yet; products will run at `level`.
    ///
    /// # Panics
    /// When this CPU does not have the level.
    pub fn new(level: Level) -> Self {
        assert!(level.is_available(), "this CPU does not have {level:?}");
        Self { buffer: Aligned::default(), k: 0, n: 0, level }
    }

    /// Packs `b` in place of what was there.
    pub fn pack(&mut self, b: MatRef<'_>) {
        (self.k, self.n) = (b.rows, b.cols);
        with_kernel!(self.level, pack(&mut self.buffer, &b));
    }

    /// `c = a · b + add` with the first `a.cols` rows and `c.cols` columns of the packed B.
    ///
    /// # Panics
    /// When `a` has more columns than B has rows, `c` more columns than B, or `c` and `a`
    /// differ in rows.
    pub fn multiply(&mut self, c: MatMut<'_>, a: MatRef<'_>, add: Add<'_>) {
        assert!(a.cols <= self.k, "{} columns of A, {} rows of B", a.cols, self.k);
        assert!(c.cols <= self.n, "{} columns of C, {} of B", c.cols, self.n);
        assert_eq!(c.rows, a.rows, "rows of C, of A");
        if c.rows > 0 && c.cols > 0 {
            let output = Output::new(c, add);
            with_kernel!(self.level, multiply(self, output, a));
        }
    }
}

/// # Safety
/// The CPU has the kernel's instructions.
unsafe fn pack<K: Kernel>(buffer: &mut Aligned, b: &MatRef<'_>) {
    let packed = buffer.get(KBlocks::new::<K>(b.rows).words() * b.cols.next_multiple_of(K::NR));
    // SAFETY: the caller's promise.
    unsafe { pack_all::<K>(packed, b, |n, job| (0..n).for_each(job)) };
}

/// # Safety
/// The CPU has the kernel's instructions.
unsafe fn multiply<K: Kernel>(b: &mut PackedB, output: Output, a: MatRef<'_>) {
    let n_panels = b.n.div_ceil(K::NR);
    let blocks = KBlocks::new::<K>(b.k);
    let packed = b.buffer.get(blocks.words() * n_panels * K::NR);
    let part = Part { output, a, packed, blocks, n_panels };
    // SAFETY: all of C by this thread, whose `&mut` became `output`, and the caller's promise.
    unsafe { part.multiply::<K>(0..output.rows, 0..output.cols.div_ceil(K::NR)) };
}
