//! A pool of threads for work that takes microseconds.
//!
//! A training step of a small model is hundreds of loops, many shorter than it takes the
//! operating system to wake a thread. So a worker first spins for a while after each run and
//! only then sleeps, and the caller works too instead of waiting.
//!
//! Which thread does which job is chance; therefore jobs write to disjoint places and every
//! sum is cut into jobs by its size alone. Results then do not depend on the number of threads.

mod pool;
mod rows;

pub use pool::Pool;
pub use rows::{BlocksMut, RowsMut, SharedMut, SplitRows};
