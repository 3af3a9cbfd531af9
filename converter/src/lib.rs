//! Checkpoints in, model file out.
//!
//! Every reader ends in one neutral [`Checkpoint`](checkpoint::Checkpoint); everything after it
//! (quantizer, report, writer) knows nothing of where the model came from.
#![warn(missing_docs)]

pub mod tokenizer;
