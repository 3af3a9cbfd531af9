//! A pool of threads for work that takes microseconds.
//!
//! A training step of a small model is hundreds of loops, many shorter than it takes the
//! operating system to wake a thread. So a worker first spins for a while after each run and
//! only then sleeps, and the caller works too instead of waiting.
//!
//! Which thread does which job is chance; therefore jobs write to disjoint places and every
//! sum is cut into jobs by its size alone. Results then do not depend on the number of threads.

use std::any::Any;
use std::boxed::Box;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::workers::Workers;

/// How long a worker without work stays awake: longer than the serial stretches of a step,
/// shorter than anyone would notice on an idle machine.
const SPIN: Duration = Duration::from_micros(100);

/// Set in the gate while workers may join the current run.
const OPEN: usize = 1 << (usize::BITS - 1);

/// A number that threads fight over, alone on its cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Lonely<T>(T);

/// The work of one run. The pointer lives as long as the run does.
#[derive(Clone, Copy)]
struct Task {
    call: *const (dyn Fn(usize) + Sync),
    n_jobs: usize,
}

struct Shared {
    /// Counts runs; workers watch it.
    epoch: Lonely<AtomicUsize>,
    /// `OPEN` and the number of workers inside the current run.
    gate: Lonely<AtomicUsize>,
    /// The next job that nobody has taken.
    next: Lonely<AtomicUsize>,
    sleepers: AtomicUsize,
    stop: AtomicBool,
    task: UnsafeCell<Option<Task>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `task` is written only by the thread that holds `Pool::busy`, while the gate is
// closed and empty, and read only by workers inside the gate; the gate's release/acquire
// operations order the two. The closure it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the closure is only ever called through a shared reference.
unsafe impl Send for Shared {}

/// Threads that wait for work. The caller of [`Pool::run`] is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads (at least one: the caller).
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: Lonely::default(),
            gate: Lonely::default(),
            next: Lonely::default(),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            task: UnsafeCell::new(None),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                // Fewer threads than asked for change the speed and nothing else.
                std::thread::Builder::new()
                    .name(std::format!("pool-{index}"))
                    .spawn(move || shared.serve())
                    .ok()
            })
            .collect();
        Self { shared, workers, busy: AtomicBool::new(false) }
    }

    /// A pool with a thread for each core that this process may use.
    pub fn with_all_cores() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// How many threads work in a run, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(0)`, `job(1)`, … `job(n_jobs - 1)`, each once, in any order and on any thread,
    /// and returns when all are done.
    ///
    /// A run inside a job, or on a pool that is busy with another thread's run, is done by the
    /// caller alone.
    ///
    /// # Panics
    /// When a job does, after the others have ended.
    pub fn run(&self, n_jobs: usize, job: impl Fn(usize) + Sync) {
        let alone = n_jobs <= 1 || self.workers.is_empty();
        if alone || self.busy.swap(true, Ordering::Acquire) {
            (0..n_jobs).for_each(job);
            return;
        }
        let shared = &*self.shared;
        let call: *const (dyn Fn(usize) + Sync + '_) = &job;
        // SAFETY: only the lifetime changes. `Run::drop` below, which runs even when a job
        // panics, does not return before every worker has left this run, and none can enter
        // later; so nobody calls through the pointer after `job` is gone.
        let call: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(call) };
        // SAFETY: `busy` is ours and the gate is closed and empty, so nobody reads `task` now.
        unsafe { *shared.task.get() = Some(Task { call, n_jobs }) };
        // When a caller's own job panicked, a worker's panic of the same run is still here.
        *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        shared.next.0.store(0, Ordering::Relaxed);
        shared.gate.0.store(OPEN, Ordering::Release);
        shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            self.workers.iter().for_each(|w| w.thread().unpark());
        }
        let run = Run { pool: self };
        shared.take_jobs(n_jobs, &job);
        drop(run);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

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

impl Workers for Pool {
    fn count(&self) -> usize {
        self.threads()
    }

    fn run(&self, n_jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        Self::run(self, n_jobs, job);
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

/// Closes the gate and waits until the workers inside have left.
struct Run<'a> {
    pool: &'a Pool,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let gate = &self.pool.shared.gate.0;
        // After a panic in the caller's own job, nobody needs to begin the remaining ones.
        if std::thread::panicking() {
            self.pool.shared.next.0.store(usize::MAX / 2, Ordering::Relaxed);
        }
        let mut inside = gate.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let mut spins = 0u32;
        while inside != 0 {
            spins += 1;
            // A worker may have lost its core to another process: let it have ours.
            if spins > 10_000 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
            inside = gate.load(Ordering::Acquire);
        }
        self.pool.busy.store(false, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every job's panic, so it always ends well.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn take_jobs(&self, n_jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        loop {
            let index = self.next.0.fetch_add(1, Ordering::Relaxed);
            if index >= n_jobs {
                return;
            }
            job(index);
        }
    }

    /// A worker's life.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait_for_run_after(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if !self.enter() {
                continue;
            }
            // SAFETY: inside the gate `task` is not written, and the closure is alive.
            let work = unsafe { (*self.task.get()).map(|task| (&*task.call, task.n_jobs)) };
            if let Some((job, n_jobs)) = work {
                let done = catch_unwind(AssertUnwindSafe(|| self.take_jobs(n_jobs, job)));
                if let Err(payload) = done {
                    self.next.0.store(usize::MAX / 2, Ordering::Relaxed);
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
                }
            }
            self.gate.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Joins the current run, unless it is over.
    fn enter(&self) -> bool {
        let joined = |gate| (gate & OPEN != 0).then_some(gate + 1);
        self.gate.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, joined).is_ok()
    }

    fn wait_for_run_after(&self, seen: usize) -> usize {
        loop {
            let start = Instant::now();
            while start.elapsed() < SPIN {
                for _ in 0..64 {
                    let epoch = self.epoch.0.load(Ordering::Acquire);
                    if epoch != seen {
                        return epoch;
                    }
                    std::hint::spin_loop();
                }
            }
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            // Either this load sees the new run, or its caller sees the sleeper.
            if self.epoch.0.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
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
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn every_job_runs_once() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for n_jobs in [0, 1, 2, 3, 100] {
                let counts: Vec<AtomicUsize> = (0..n_jobs).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..200 {
                    pool.run(n_jobs, |job| {
                        counts[job].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 200));
            }
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            std::thread::sleep(SPIN * 20);
            let caller = std::thread::current().id();
            let start = Instant::now();
            let other = AtomicBool::new(false);
            // The caller may not finish before the worker has taken a job.
            pool.run(2, |_| {
                if std::thread::current().id() != caller {
                    other.store(true, Ordering::Release);
                }
                while !other.load(Ordering::Acquire) && start.elapsed().as_secs() < 20 {
                    std::thread::yield_now();
                }
            });
            assert!(other.load(Ordering::Acquire), "the worker never came");
        }
    }

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

    #[test]
    fn a_run_within_a_run_works() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(5, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.load(Ordering::Relaxed), 20);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for bad in [0, 63] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, |job| assert_ne!(job, bad, "bad job"));
            }));
            assert!(result.is_err());
            let sum = AtomicUsize::new(0);
            pool.run(10, |job| {
                sum.fetch_add(job, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 45);
        }
    }
}
