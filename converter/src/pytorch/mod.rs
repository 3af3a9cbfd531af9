//! What `torch.save` writes: weights in a zip archive (before PyTorch 1.6: behind a row of pickles),
//! described by a pickle, of which no code is ever run.
//!
//! Read by themselves: the checkpoints of nanoGPT (and of its forks that compute the same) and of
//! llama2.c, which carry their dimensions. `pytorch_model.bin` is read with the directory it is in.

mod archive;
mod legacy;
mod models;
mod pickle;
mod zip;

pub(crate) use archive::{Archive, Entry, unwrapped};
pub use models::open;
pub(crate) use pickle::Number;

#[cfg(test)]
mod tests;
