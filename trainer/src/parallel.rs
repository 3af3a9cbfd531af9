//! The thread pool: the runtime's own, which generation uses too.

pub use smidgen_runtime::parallel::*;
