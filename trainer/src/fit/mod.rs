//! A budget instead of a shape: what a model of some dimensions needs on a chip, and the
//! dimensions that make the most of one.
//!
//! Sizes are exact: the runtime's own [`smidgen_runtime::Layout`] and the model file's writer say
//! them. Instructions are an estimate, fitted to what the emulator counted on a Cortex-M4F.

mod budget;
mod chips;
mod needs;
mod search;

pub use budget::{Budget, BudgetError, Speed};
pub use chips::{CHIPS, Chip, Core};
pub use needs::{Needs, head, needs, needs_of};
pub use search::{Choice, search};

/// What a firmware has besides the model file, in bytes of flash: the runtime and a small program
/// around it, as `examples/cortex-m` measures them.
pub const CODE_BYTES: u64 = 80_000;
/// What a firmware needs besides the session, in bytes of RAM: a stack of some 4,000, and
/// buffers.
pub const OTHER_RAM: u64 = 8_000;
