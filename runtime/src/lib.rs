//! Inference for small language models with neither `std` nor an allocator.
//!
//! A model file is loaded in place, validated once, and then runs in memory that the caller
//! gives: tokenization, forward pass, softmax, sampling. The same file, prompt and seed give the
//! same logits to the last bit on every CPU.
#![no_std]
#![warn(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod cast;
pub mod config;
mod error;
pub mod format;
mod model;
pub mod quant;
pub mod tensor;
pub mod tokenizer;

pub use config::{Architecture, Config};
pub use error::{LoadError, SampleError, SessionError, StepError};
pub use model::Model;
