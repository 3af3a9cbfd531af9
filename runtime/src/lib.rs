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

mod built;
mod cast;
pub mod config;
mod error;
pub mod format;
mod forward;
mod grid;
mod hot;
#[cfg(any(feature = "embedded-io", feature = "embedded-io-async"))]
mod io;
pub mod kernels;
pub mod math;
mod memory;
mod model;
#[cfg(feature = "std")]
pub mod parallel;
pub mod quant;
mod rotation;
mod sampler;
mod search;
mod session;
pub mod stream;
pub mod tensor;
pub mod tokenizer;
mod utf8;
mod workers;

pub use config::{Architecture, Config};
pub use error::{LoadError, SampleError, SessionError, StepError};
pub use format::KvType;
#[cfg(feature = "hot")]
pub use hot::HotError;
pub use hot::{hot_fitting, hot_needed};
pub use kernels::Level;
#[doc(hidden)]
pub use memory::Aligned;
pub use memory::{Layout, Memory, SessionOptions, memory_needed};
pub use model::Model;
#[cfg(feature = "std")]
pub use parallel::Pool;
pub use sampler::{Sampler, SamplerOptions};
pub use session::{Finish, Generate, Generated, Session};
pub use workers::{Serial, Workers};
