//! The threads themselves.

use std::any::Any;
use std::boxed::Box;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::workers::Workers;

/// How long a worker without work stays awake: longer than the serial stretches of a step,
/// shorter than anyone would notice on an idle machine.
const SPIN: Duration = Duration::from_micros(100);
/// How often the caller looks for a worker's end before it asks whether the worker has begun at all.
const PATIENCE: u32 = 100;

/// Alone on its cache lines. A line that wanders from core to core costs 50 to 300 ns, and a token of a
/// small model has some twenty runs: so what one side writes and the other reads is cut by direction.
#[repr(align(128))]
#[derive(Default)]
struct Lonely<T>(T);

/// The work of one run. The pointer lives as long as the run does.
#[derive(Clone, Copy)]
struct Task {
    call: *const (dyn Fn(usize) + Sync),
    n_jobs: usize,
}

/// A mailbox without work.
const IDLE: usize = 0;
/// Work that its worker has not begun: the caller may still take it back.
const READY: usize = 1;
/// Work that its worker is at.
const TAKEN: usize = 2;

/// What the caller leaves for one worker: found and taken in one look.
#[derive(Default)]
struct Mailbox {
    state: AtomicUsize,
    /// Written by the caller while `IDLE`, read by the worker while `TAKEN`.
    task: UnsafeCell<Option<Task>>,
}

/// What a worker says back.
#[derive(Default)]
struct Answer {
    /// How many runs it has ended.
    done: AtomicUsize,
    asleep: AtomicBool,
}

/// What one worker and the caller share.
#[derive(Default)]
struct Desk {
    mailbox: Lonely<Mailbox>,
    answer: Lonely<Answer>,
    /// How many runs it has been given and not lost again; the caller's own.
    given: Lonely<AtomicUsize>,
}

struct Shared {
    desks: Vec<Desk>,
    /// The next job that nobody has; the first of each thread is its own.
    next: Lonely<AtomicUsize>,
    stop: AtomicBool,
    /// Set with `panic`, so that a run without one does not look into the mutex.
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `task` is written only by the thread that holds `Pool::busy`, while the mailbox is idle,
// and read only by its worker after it has made the state `TAKEN`; release and acquire of the state
// order the two. The closure it points to is `Sync`.
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
            desks: (1..threads).map(|_| Desk::default()).collect(),
            next: Lonely::default(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                // Fewer threads than asked for change the speed and nothing else.
                std::thread::Builder::new()
                    .name(std::format!("pool-{index}"))
                    .spawn(move || shared.serve(index))
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
        let helpers = self.workers.len().min(n_jobs.saturating_sub(1));
        if helpers == 0 || self.busy.swap(true, Ordering::Acquire) {
            (0..n_jobs).for_each(job);
            return;
        }
        let shared = &*self.shared;
        let call: *const (dyn Fn(usize) + Sync + '_) = &job;
        // SAFETY: only the lifetime changes. `Run::drop` below, which runs even when a job
        // panics, does not return before every worker that has taken the task has ended it, and
        // none takes it later; so nobody calls through the pointer after `job` is gone.
        let call: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(call) };
        let run = Run { pool: self, helpers };
        shared.next.0.store(helpers + 1, Ordering::Relaxed);
        for (desk, worker) in shared.desks.iter().zip(&self.workers).take(helpers) {
            // SAFETY: `busy` is ours and the mailbox is idle, so nobody reads `task` now.
            unsafe { *desk.mailbox.0.task.get() = Some(Task { call, n_jobs }) };
            let given = desk.given.0.load(Ordering::Relaxed);
            desk.given.0.store(given.wrapping_add(1), Ordering::Relaxed);
            desk.mailbox.0.state.store(READY, Ordering::Release);
            // A worker that falls asleep in this moment may be missed. It is not waited for then:
            // its work is taken back.
            if desk.answer.0.asleep.load(Ordering::Relaxed) {
                worker.thread().unpark();
            }
        }
        shared.take_jobs(0, n_jobs, &job);
        for (index, desk) in shared.desks.iter().enumerate().take(helpers) {
            if desk.end_or_take_back() {
                job(index + 1);
            }
        }
        drop(run);
        if shared.panicked.load(Ordering::Acquire) {
            shared.panicked.store(false, Ordering::Relaxed);
            let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(payload) = panic {
                resume_unwind(payload);
            }
        }
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

/// Ends a run: takes back what no worker has begun, and waits for those that have.
struct Run<'a> {
    pool: &'a Pool,
    helpers: usize,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let shared = &*self.pool.shared;
        let panicking = std::thread::panicking();
        if panicking {
            // After a panic in the caller's own job, nobody needs to begin the remaining ones.
            shared.next.0.store(usize::MAX / 2, Ordering::Relaxed);
        }
        for desk in shared.desks.iter().take(self.helpers) {
            desk.end_or_take_back();
        }
        if panicking {
            // The caller's own panic is the one that goes on; a worker's is forgotten.
            shared.panicked.store(false, Ordering::Relaxed);
        }
        self.pool.busy.store(false, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every job's panic, so it always ends well.
            let _ = worker.join();
        }
    }
}

impl Desk {
    /// Waits until the worker has ended what it was given; or, if it has not begun by then, gives it
    /// back to the caller (true): a worker that is late, asleep or without a core, need not come.
    fn end_or_take_back(&self) -> bool {
        let given = self.given.0.load(Ordering::Relaxed);
        let mut spins = 0_u32;
        while self.answer.0.done.load(Ordering::Acquire) != given {
            spins = spins.saturating_add(1);
            if spins == PATIENCE {
                let state = &self.mailbox.0.state;
                if state.compare_exchange(READY, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    self.given.0.store(given.wrapping_sub(1), Ordering::Relaxed);
                    return true;
                }
            }
            // A worker may have lost its core to another process: let it have ours.
            if spins > 10_000 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        false
    }
}

impl Shared {
    /// Does a thread's own job, then those that are left.
    fn take_jobs(&self, own: usize, n_jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        job(own);
        // Where each thread has one job, nobody even looks at `next`.
        if n_jobs <= self.desks.len() + 1 {
            return;
        }
        while self.next.0.load(Ordering::Relaxed) < n_jobs {
            let index = self.next.0.fetch_add(1, Ordering::Relaxed);
            if index < n_jobs {
                job(index);
            }
        }
    }

    /// The life of worker `index`, which counts from 1: the caller is thread 0.
    fn serve(&self, index: usize) {
        let Some(desk) = self.desks.get(index - 1) else { return };
        while self.wait_and_take(desk) {
            // SAFETY: while the state is `TAKEN`, `task` is not written and the closure is alive.
            let work = unsafe { (*desk.mailbox.0.task.get()).map(|task| (&*task.call, task.n_jobs)) };
            if let Some((job, n_jobs)) = work {
                let done = catch_unwind(AssertUnwindSafe(|| self.take_jobs(index, n_jobs, job)));
                if let Err(payload) = done {
                    self.next.0.store(usize::MAX / 2, Ordering::Relaxed);
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
                    self.panicked.store(true, Ordering::Release);
                }
            }
            desk.mailbox.0.state.store(IDLE, Ordering::Relaxed);
            desk.answer.0.done.fetch_add(1, Ordering::Release);
        }
    }

    /// Waits for work and takes it (true), or until there will be none any more.
    fn wait_and_take(&self, desk: &Desk) -> bool {
        let state = &desk.mailbox.0.state;
        let take = || state.compare_exchange(READY, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
        loop {
            let start = Instant::now();
            while start.elapsed() < SPIN {
                for _ in 0..64 {
                    // To look is to take: a line that was only read would have to come a second time.
                    if take() {
                        return true;
                    }
                    std::hint::spin_loop();
                }
            }
            desk.answer.0.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let stop = self.stop.load(Ordering::SeqCst);
            if !stop && state.load(Ordering::Relaxed) != READY {
                std::thread::park();
            }
            desk.answer.0.asleep.store(false, Ordering::Relaxed);
            if stop {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for n_jobs in [0, 1, 2, 3, if cfg!(miri) { 9 } else { 100 }] {
                let counts: Vec<AtomicUsize> = (0..n_jobs).map(|_| AtomicUsize::new(0)).collect();
                let runs = if cfg!(miri) { 3 } else { 200 };
                for _ in 0..runs {
                    pool.run(n_jobs, |job| {
                        counts[job].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == runs));
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri may show the caller for ever that the worker is awake")]
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
