//! Checkpoints in, model file out.
//!
//! Every reader ends in one neutral [`Checkpoint`]; everything after it
//! (quantizer, report, writer) knows nothing of where the model came from.
#![warn(missing_docs)]

pub mod atomic;
mod bytes;
pub mod calibrate;
mod checkpoint;
pub mod convert;
mod detect;
mod error;
#[cfg(test)]
mod formats_tests;
pub mod gguf;
#[cfg(test)]
mod hostile_tests;
pub mod huggingface;
pub mod llama2c;
pub mod llmc;
mod model_file;
pub mod pytorch;
pub mod quality;
mod rope;
pub mod smidgen;
mod source;
#[cfg(test)]
mod test_formats;
#[cfg(test)]
mod test_models;
pub mod tokenizer;

pub use checkpoint::Checkpoint;
pub use convert::{ConvertOptions, ConvertReport, KeepRule, convert};
pub use detect::{Kind, TokenizerChoice, detect, open};
pub use error::Error;
pub use model_file::ModelFile;
pub use rope::frequencies;
pub use source::TensorSource;
