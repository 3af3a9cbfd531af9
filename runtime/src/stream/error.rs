//! What can go wrong when weights are read: the reader's errors besides the runtime's own.

use core::fmt;

use crate::error::{LoadError, SampleError, StepError};

/// Why a model can't be loaded from a reader.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum StreamLoadError<E> {
    /// The reader's error.
    Read(E),
    /// The file is no model that this version can run.
    Load(LoadError),
    /// The file has bytes that a reader's 32-bit offsets do not reach.
    TooLong {
        /// Bytes of the file.
        file_len: u64,
    },
    /// The memory is too small.
    OutOfMemory {
        /// Bytes needed, exactly, from an address that is a multiple of 64.
        needed: u64,
        /// Bytes that were usable.
        given: usize,
    },
    /// The buffer does not hold four rows of the widest matrix (one, if its numbers are floats).
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// [`StreamOptions::buffer`](super::StreamOptions::buffer), rounded up to a multiple of 64.
        given: usize,
    },
}

impl<E: fmt::Display> fmt::Display for StreamLoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "reading the model file: {error}"),
            Self::Load(error) => error.fmt(f),
            Self::TooLong { file_len } => {
                write!(f, "the file says it has {file_len} bytes; at most 4,294,967,295 can be read")
            }
            Self::OutOfMemory { needed, given } => {
                write!(f, "the model's parts need {needed} bytes of memory, {given} were given")
            }
            Self::BufferTooSmall { needed, given } => {
                write!(f, "the buffer for weights has {given} bytes, {needed} are the least for this model")
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for StreamLoadError<E> {}

impl<E> From<LoadError> for StreamLoadError<E> {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// Why tokens could not be taken in, or none be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum StreamError<E> {
    /// The reader's error.
    Read(E),
    /// What would be wrong with a model in memory too.
    Step(StepError),
    /// No token could be chosen.
    Sample(SampleError),
    /// Special tokens were asked for in a text, and the tokenizer, which stays in the file, does not look
    /// for them.
    SpecialTokens,
}

impl<E: fmt::Display> fmt::Display for StreamError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "reading the model file: {error}"),
            Self::Step(error) => error.fmt(f),
            Self::Sample(error) => error.fmt(f),
            Self::SpecialTokens => f.write_str(
                "special tokens in texts need a tokenizer in memory, and this one stays in the file",
            ),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for StreamError<E> {}

impl<E> From<StepError> for StreamError<E> {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}
