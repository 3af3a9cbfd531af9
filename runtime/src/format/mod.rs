//! The model file, version 1: postcard by the book, read in place.
//!
//! ```text
//! Prefix     128 bytes, every field of fixed width: magic, checksum, dimensions
//! Meta       postcard: name, origin, rotary positions, chat template
//! tokenizer  postcard: Option<TokenizerData>
//! tensors    postcard: a sequence of TensorEntry, 20 bytes each
//! padding    postcard bytes, so that data begins at a multiple of 64
//! data       postcard bytes: the tensors' planes, each at a multiple of 64
//! ```
//! `docs/format.md` says what every byte means.

mod dtype;
mod meta;
mod outline;
#[cfg(feature = "std")]
mod pack;
mod prefix;
mod reader;
mod role;
mod table;
#[cfg(feature = "std")]
pub mod writer;

pub use dtype::{BLOCK, DType, GROUP, QUAD, TensorSize};
pub use meta::{Meta, RopeScaling};
pub(crate) use outline::{Outline, Outlined, u64_at};
pub(crate) use prefix::u32_at;
pub use prefix::{KvType, MAGIC, PREFIX_LEN, Prefix, VERSION};
pub(crate) use reader::{PRE_TOKENIZERS, Reader};
pub use role::{GLOBAL_ROLES, LAYER_ROLES, Need, Role};
pub use table::{ENTRY_LEN, TensorEntry};

/// Every plane, and the file itself in memory, begins at a multiple of this many bytes.
pub const ALIGNMENT: usize = 64;

/// The next multiple of [`ALIGNMENT`], saturating.
pub const fn align_up(bytes: usize) -> usize {
    match bytes.checked_add(ALIGNMENT - 1) {
        Some(sum) => sum & !(ALIGNMENT - 1),
        None => usize::MAX & !(ALIGNMENT - 1),
    }
}
