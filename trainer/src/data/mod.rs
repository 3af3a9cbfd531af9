//! Text in, batches out: documents are streamed from their [`source`], tokenized once into
//! memory-mapped files of [`tokens`], and cut into windows by [`batches`].

pub mod batches;
pub mod cache;
mod error;
pub(crate) mod files;
pub(crate) mod hash;
pub(crate) mod jsonl;
pub(crate) mod parts;
mod reader;
pub mod source;
pub mod tokens;

pub use batches::{Batches, ValidationWindows};
pub use cache::TokenCache;
pub use error::DataError;
pub use source::{Corpus, Piece};
pub use tokens::{TokenFiles, Tokens};
