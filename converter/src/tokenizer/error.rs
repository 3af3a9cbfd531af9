//! What can be wrong with a tokenizer's files.

use std::path::{Path, PathBuf};

use smidgen_runtime::tokenizer::BuildError;

/// Why a tokenizer file cannot be used: which file, which field, which numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerFileError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not JSON.
    #[error("{path}: not valid JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field is missing, of the wrong type, or holds what cannot be.
    #[error("{path}: {field}: {reason}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, as a path through the file.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file asks for something that is not done here.
    #[error("{path}: {field}: {what} is not supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field that asks for it.
        field: String,
        /// What it asks for.
        what: String,
    },
    /// A binary file ends too early, or goes on too long.
    #[error("{path}: token {token} of {vocab_size} ends at byte {end}, but the file has {file_len} bytes")]
    Length {
        /// The file.
        path: PathBuf,
        /// The token that does not fit, or the last one.
        token: usize,
        /// Tokens that were asked for.
        vocab_size: usize,
        /// Where it ends.
        end: usize,
        /// The file's length.
        file_len: usize,
    },
    /// The parts were read, but do not make a tokenizer.
    #[error("{path}: {source}")]
    Build {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BuildError,
    },
    /// This tokenizer cannot be said in the wanted format.
    #[error("cannot be written as tokenizer.json: {what}")]
    Unwritable {
        /// What stands in the way.
        what: String,
    },
}

impl TokenizerFileError {
    pub(super) fn field(path: &Path, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { path: path.into(), field: field.into(), reason: reason.into() }
    }

    pub(super) fn unsupported(path: &Path, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.into(), field: field.into(), what: what.into() }
    }
}
