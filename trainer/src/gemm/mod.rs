//! Matrix products: `C = A · B`, any sizes, A and B stored by rows or by columns. Matrices are
//! f32; at [`Level::Avx512Bf16`] the factors are rounded to bf16 as they are packed.
//!
//! The way of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication",
//! 2008): B is copied once into panels as wide as a micro-kernel's tile, which stay in the L2
//! cache while tiles of A, copied into L1, pass over them.
//!
//! K is cut by its length alone (`pack::KBlocks`) and each element of C is one chain of
//! additions over k, so a product has the same bits for any number of threads: threads share
//! out the elements of C, never a sum.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod kernel;
mod pack;
mod packed;
mod portable;
#[cfg(test)]
mod tests;
mod view;

use std::cell::RefCell;
use std::ops::Range;

use crate::parallel::{Pool, SharedMut};
use kernel::{Kernel, Layout, Tile};
use pack::{Aligned, KBlocks};

pub use kernel::Level;
pub use packed::PackedB;
pub use view::{Add, MatMut, MatRef};

/// Words of a block of B that stay in L2 while A passes over them.
const B_IN_L2: usize = 5 << 15;
/// Words of B that are packed at a time: a part of the L3 cache.
const SLAB: usize = 1 << 20;
/// Words of B that a job packs.
const PACK_JOB: usize = 1 << 14;
/// Multiplications below which handing work to another thread takes longer than doing it.
const SERIAL: usize = 1 << 18;

thread_local! {
    /// B, on the thread that asked for the product.
    static PACKED: RefCell<Aligned> = RefCell::default();
    /// A tile of A, on every thread.
    static A_TILE: RefCell<Aligned> = RefCell::default();
}

/// Calls a function for the level's kernel.
macro_rules! with_kernel {
    ($level:expr, $function:ident($($argument:expr),*)) => {
        match $level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a level is only ever taken when `Level::is_available`.
            Level::Avx512 => unsafe { $function::<crate::gemm::avx512::Avx512>($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx512Bf16 => unsafe {
                $function::<crate::gemm::avx512_bf16::Avx512Bf16>($($argument),*)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx2 => unsafe { $function::<crate::gemm::avx2::Avx2>($($argument),*) },
            // SAFETY: plain Rust needs no instructions of its own.
            _ => unsafe { $function::<crate::gemm::portable::Portable>($($argument),*) },
        }
    };
}
use with_kernel;

/// `c = a · b + add`, with `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]`, at the best f32 level of
/// this CPU.
///
/// # Panics
/// When the shapes do not fit together.
pub fn matmul(pool: &Pool, c: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>, add: Add<'_>) {
    matmul_at(Level::detect(), pool, c, a, b, add);
}

/// [`matmul`] at a level of the caller's choice.
///
/// # Panics
/// When the shapes do not fit together, or this CPU does not have the level.
pub fn matmul_at(level: Level, pool: &Pool, c: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>, add: Add<'_>) {
    assert!(level.is_available(), "this CPU does not have {level:?}");
    assert_eq!(a.cols, b.rows, "columns of A, rows of B");
    assert_eq!((c.rows, c.cols), (a.rows, b.cols), "shape of C, of A · B");
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    let output = Output::new(c, add);
    with_kernel!(level, product(pool, output, a, b));
}

/// Where a product goes and what is added to it, as checked pointers.
#[derive(Clone, Copy)]
struct Output {
    c: *mut f32,
    c_stride: usize,
    rows: usize,
    cols: usize,
    bias: *const f32,
    add: *const f32,
    add_stride: usize,
}

// SAFETY: it stands for a `&mut [f32]` (C) and two `&[f32]`, of which jobs touch disjoint
// rectangles of C.
unsafe impl Sync for Output {}

impl Output {
    fn new(c: MatMut<'_>, add: Add<'_>) -> Self {
        let row = |row: &[f32]| {
            assert_eq!(row.len(), c.cols, "elements of the row to add");
            row.as_ptr()
        };
        let matrix = |m: MatRef<'_>| {
            assert!(!m.transposed, "the matrix to add must be stored by rows");
            assert_eq!((m.rows, m.cols), (c.rows, c.cols), "shape of the matrix to add");
            (m.data.as_ptr(), m.stride)
        };
        let null = std::ptr::null();
        let (bias, (add, add_stride)) = match add {
            Add::Nothing => (null, (null, 0)),
            Add::Result => (null, (c.data.as_mut_ptr().cast_const(), c.stride)),
            Add::Row(r) => (row(r), (null, 0)),
            Add::Matrix(m) => (null, matrix(m)),
            Add::RowAndMatrix(r, m) => (row(r), matrix(m)),
        };
        let (rows, cols, c_stride) = (c.rows, c.cols, c.stride);
        Self { c: c.data.as_mut_ptr(), c_stride, rows, cols, bias, add, add_stride }
    }

    /// The part in columns `cols`.
    fn columns(self, cols: Range<usize>) -> Self {
        let shifted = |p: *const f32| {
            if p.is_null() { p } else { p.wrapping_add(cols.start) }
        };
        Self {
            c: self.c.wrapping_add(cols.start),
            cols: cols.len(),
            bias: shifted(self.bias),
            add: shifted(self.add),
            ..self
        }
    }
}

/// Packs B slab by slab and multiplies.
///
/// # Safety
/// The CPU has the kernel's instructions.
unsafe fn product<K: Kernel>(pool: &Pool, output: Output, a: MatRef<'_>, b: MatRef<'_>) {
    let serial = output.rows * output.cols * a.cols < SERIAL;
    let for_each = |n: usize, job: &(dyn Fn(usize) + Sync)| {
        if serial { (0..n).for_each(job) } else { pool.run(n, job) }
    };
    let blocks = KBlocks::new::<K>(a.cols);
    let slab = (SLAB / blocks.words().max(1)).max(K::NR * 8).next_multiple_of(K::NR);
    // Taken out, not borrowed: a job that multiplies on this thread needs one too.
    let mut buffer = PACKED.take();
    for first in (0..output.cols).step_by(slab) {
        let cols = first..(first + slab).min(output.cols);
        let b = b.columns(cols.clone());
        let packed = buffer.get(blocks.words() * b.cols.next_multiple_of(K::NR));
        // SAFETY: the caller's promise.
        unsafe { pack_all::<K>(packed, &b, for_each) };
        let part = Part { output: output.columns(cols), a, packed, blocks, n_panels: b.cols.div_ceil(K::NR) };
        let jobs = Jobs::new::<K>(&part, if serial { 1 } else { pool.threads() });
        for_each(jobs.count(), &|job| {
            let (rows, panels) = jobs.get(job);
            // SAFETY: jobs are disjoint rectangles of C, and the caller's promise.
            unsafe { part.multiply::<K>(rows, panels) };
        });
    }
    PACKED.set(buffer);
}

/// Packs all of B, `[block of K][panel]`.
///
/// # Safety
/// The CPU has the kernel's instructions.
unsafe fn pack_all<K: Kernel>(
    packed: &mut [f32],
    b: &MatRef<'_>,
    for_each: impl Fn(usize, &(dyn Fn(usize) + Sync)),
) {
    let (blocks, n_panels) = (KBlocks::new::<K>(b.rows), b.cols.div_ceil(K::NR));
    let n_units = blocks.count() * n_panels;
    let per_job = (PACK_JOB * n_units / packed.len().max(1)).max(1);
    let to = SharedMut::new(packed);
    for_each(n_units.div_ceil(per_job), &|job| {
        for unit in job * per_job..((job + 1) * per_job).min(n_units) {
            let (block, panel) = (unit / n_panels, unit % n_panels);
            let k = blocks.range(block);
            let start = (k.start * n_panels + panel * k.len()) * K::NR;
            // SAFETY: each unit has its own place in the packed matrix.
            let dst = unsafe { to.range(start..start + k.len() * K::NR) };
            // SAFETY: the caller's promise.
            unsafe { pack::pack_b_panel::<K>(dst, b, &k, panel * K::NR) };
        }
    });
}

/// A product with a packed B.
struct Part<'a> {
    output: Output,
    a: MatRef<'a>,
    packed: &'a [f32],
    /// How the K of the packed B is cut; `a` may have fewer columns.
    blocks: KBlocks,
    /// Panels that the packed B has; the output may have fewer.
    n_panels: usize,
}

impl Part<'_> {
    /// Computes the given rows and panels (of NR columns) of C.
    ///
    /// # Safety
    /// No other thread touches these elements of C, and the CPU has the kernel's instructions.
    unsafe fn multiply<K: Kernel>(&self, rows: Range<usize>, panels: Range<usize>) {
        let mut buffer = A_TILE.take();
        let a_tile = buffer.get(kernel::A_TILE);
        let tiles = Tiles::new(rows, K::MR);
        for block in 0..self.blocks.count() {
            let k = self.k_range::<K>(block);
            if block > 0 && k.is_empty() {
                break;
            }
            for index in 0..tiles.count {
                let rows = tiles.range(index);
                // SAFETY: the caller's promise.
                let layout = unsafe { pack::pack_a_tile::<K>(a_tile, &self.a, rows.clone(), &k) };
                let (next_rows, next_k) = if index + 1 < tiles.count {
                    (tiles.range(index + 1), k.clone())
                } else {
                    (tiles.range(0), self.k_range::<K>(block + 1))
                };
                let next_k = pack::elements::<K>(&next_k, self.a.cols);
                let mut ahead = pack::Ahead::new(&self.a, next_rows, next_k, panels.len());
                for panel in panels.clone() {
                    ahead.some();
                    let tile = self.tile::<K>(a_tile, layout, rows.clone(), block, panel);
                    // SAFETY: the views were checked against the shapes when they were made, so
                    // every pointer has the rows and columns that `tile` says; the packed start
                    // is a multiple of NR f32s in a 64-byte aligned buffer (of 32 bytes at
                    // NR = 8, which only the portable kernel has); and the caller's promise.
                    unsafe { K::tile(&tile) };
                }
            }
        }
        A_TILE.set(buffer);
    }

    /// Words of a row of A in a block; none after the last.
    fn k_range<K: Kernel>(&self, block: usize) -> Range<usize> {
        let (k, words) = (self.blocks.range(block), self.a.cols.div_ceil(K::K_PER_WORD));
        k.start.min(words)..k.end.min(words)
    }

    fn tile<K: Kernel>(
        &self,
        a: &[f32],
        layout: Layout,
        rows: Range<usize>,
        block: usize,
        panel: usize,
    ) -> Tile {
        let out = &self.output;
        let (k, packed_k) = (self.k_range::<K>(block).len(), self.blocks.range(block));
        let at = (packed_k.start * self.n_panels + panel * packed_k.len()) * K::NR;
        let first = panel * K::NR;
        let c = out.c.wrapping_add(rows.start * out.c_stride + first);
        let shifted = |p: *const f32, by| if p.is_null() { p } else { p.wrapping_add(by) };
        // Later blocks add to what the first left.
        let (bias, add, add_stride) = if block == 0 {
            let by = rows.start * out.add_stride + first;
            (shifted(out.bias, first), shifted(out.add, by), out.add_stride)
        } else {
            (std::ptr::null(), c.cast_const(), out.c_stride)
        };
        Tile {
            rows: rows.len(),
            cols: (out.cols - first).min(K::NR),
            k,
            layout,
            a: a.as_ptr(),
            b: self.packed[at..at + k * K::NR].as_ptr(),
            c,
            c_stride: out.c_stride,
            bias,
            add,
            add_stride,
        }
    }
}

/// Rows cut into tiles of nearly equal height, at most the kernel's.
struct Tiles {
    rows: Range<usize>,
    count: usize,
}

impl Tiles {
    fn new(rows: Range<usize>, max: usize) -> Self {
        Self { count: rows.len().div_ceil(max), rows }
    }

    fn range(&self, tile: usize) -> Range<usize> {
        let at = |i: usize| self.rows.start + self.rows.len() * i / self.count;
        at(tile)..at(tile + 1)
    }
}

/// C cut into rectangles. May depend on the number of threads, as no sum does.
struct Jobs {
    rows: Tiles,
    panels: Tiles,
}

impl Jobs {
    fn new<K: Kernel>(part: &Part<'_>, threads: usize) -> Self {
        let most = (B_IN_L2 / (part.blocks.range(0).len().max(1) * K::NR)).max(1);
        let panels = Tiles::new(0..part.output.cols.div_ceil(K::NR), most);
        // Some more jobs than threads, so that one that is held up does not hold up all.
        let wanted = if threads == 1 { 1 } else { (4 * threads).div_ceil(panels.count) };
        let rows = part.output.rows;
        let count = wanted.min(rows.div_ceil(2 * K::MR)).max(1);
        Self { rows: Tiles { rows: 0..rows, count }, panels }
    }

    fn count(&self) -> usize {
        self.rows.count * self.panels.count
    }

    /// Rows and panels; neighbouring jobs share their panels.
    fn get(&self, job: usize) -> (Range<usize>, Range<usize>) {
        let (panels, rows) = (job / self.rows.count, job % self.rows.count);
        (self.rows.range(rows), self.panels.range(panels))
    }
}
