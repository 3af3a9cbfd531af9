//! A chip's second core as a worker.

use core::cell::{Cell, UnsafeCell};
use core::mem;
use core::sync::atomic::{AtomicU32, Ordering};

use critical_section::Mutex;
use smidgen_runtime::Workers;

/// Nobody is in [`TwoCores::help`] yet.
const ABSENT: u32 = 0;
/// The helper waits for work.
const IDLE: u32 = 1;
/// The helper has work, or is at it.
const BUSY: u32 = 2;

type Job = dyn Fn(usize) + Sync;

/// Two cores that share a session's work: one runs the session, the other stays in [`TwoCores::help`].
/// Put it in a `static`.
///
/// Rows and heads are split, never a sum, so the text is that of one core. Until the other has come, and
/// for whoever asks while it is busy, one does it all.
#[derive(Debug)]
pub struct TwoCores {
    state: AtomicU32,
    /// Whether somebody is in `run`. Not an atomic swap: a Cortex-M0+ has none.
    taken: Mutex<Cell<bool>>,
    /// Written while `state` is `IDLE` by whoever has `taken`, read while it is `BUSY` by the helper.
    job: UnsafeCell<Option<&'static Job>>,
}

// SAFETY: `job` is the only part that is not shareable by itself, and is written and read as it says.
unsafe impl Sync for TwoCores {}

impl Default for TwoCores {
    fn default() -> Self {
        Self::new()
    }
}

impl TwoCores {
    /// Alone until somebody helps.
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(ABSENT),
            taken: Mutex::new(Cell::new(false)),
            job: UnsafeCell::new(None),
        }
    }

    /// Works for the other core, for ever: what the second core runs. A second helper only waits.
    pub fn help(&self) -> ! {
        let first = critical_section::with(|_| {
            let absent = self.state.load(Ordering::Relaxed) == ABSENT;
            if absent {
                self.state.store(IDLE, Ordering::Release);
            }
            absent
        });
        loop {
            while !first || self.state.load(Ordering::Acquire) != BUSY {
                wait();
            }
            // SAFETY: while the state is `BUSY`, nobody writes; the job lives until it is no more.
            if let Some(job) = unsafe { *self.job.get() } {
                job(1);
            }
            self.state.store(IDLE, Ordering::Release);
            wake();
        }
    }
}

impl Workers for TwoCores {
    fn count(&self) -> usize {
        2
    }

    fn run(&self, n_jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        let free = n_jobs == 2 && !critical_section::with(|token| self.taken.borrow(token).replace(true));
        if !free || self.state.load(Ordering::Acquire) != IDLE {
            (0..n_jobs).for_each(job);
        } else {
            // SAFETY: only the lifetime changes, and the helper is done with it when this function ends.
            let lasting = unsafe { mem::transmute::<&(dyn Fn(usize) + Sync + '_), &'static Job>(job) };
            // SAFETY: the state is `IDLE` and this has `taken`: nobody else writes, and nobody reads.
            unsafe { *self.job.get() = Some(lasting) };
            self.state.store(BUSY, Ordering::Release);
            wake();
            job(0);
            while self.state.load(Ordering::Acquire) == BUSY {
                wait();
            }
        }
        if free {
            critical_section::with(|token| self.taken.borrow(token).set(false));
        }
    }
}

/// Waits for the other core, which may have been faster: an event that has come already ends it at once.
fn wait() {
    #[cfg(all(target_arch = "arm", target_os = "none"))]
    // SAFETY: waits for an event or interrupt, and touches nothing.
    unsafe {
        core::arch::asm!("wfe", options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "arm", target_os = "none")))]
    core::hint::spin_loop();
}

/// Has the other core look again, when what was stored before has arrived.
fn wake() {
    #[cfg(all(target_arch = "arm", target_os = "none"))]
    // SAFETY: a barrier and an event.
    unsafe {
        core::arch::asm!("dsb", "sev", options(nostack, preserves_flags));
    }
}
