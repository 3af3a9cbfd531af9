//! Text in, batches out: documents are streamed from their [`source`], tokenized once into
//! memory-mapped files of [`tokens`], and cut into windows by [`batches`].

pub mod batches;
mod error;
pub(crate) mod files;
pub(crate) mod parts;
mod reader;
pub mod source;
pub mod tokens;

pub use batches::{Batches, ValidationWindows};
pub use error::DataError;
pub use source::{Corpus, Piece};
pub use tokens::{TokenFiles, Tokens};
