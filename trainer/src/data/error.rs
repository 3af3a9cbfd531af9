//! Why text could not be turned into batches.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the data pipeline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A path or pattern given as data leads to no text.
    #[error("no text in {searched}: {why}")]
    NoText {
        /// What was searched, as the user wrote it.
        searched: String,
        /// What was found instead.
        why: String,
    },
    /// A glob pattern that is none.
    #[error("{pattern:?} is not a valid pattern: {why}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that is not UTF-8.
    #[error(
        "{}: not UTF-8 at byte {offset} (0x{byte:02x}); convert it first, e.g. `iconv -t utf-8`",
        path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Where the first bad byte stands, from the file's begin.
        offset: u64,
        /// That byte.
        byte: u8,
    },
    /// A line of a JSONL file is no object with a text.
    #[error("{}: line {line}: {why}; each line must be an object with a field `text`", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What does not fit.
        why: String,
    },
    /// Too few tokens for even one window.
    #[error(
        "too little text: {part} has {found} tokens, but a context of {context} needs at least {}; \
         give more text or a smaller context",
        context + 1
    )]
    TooFewTokens {
        /// "training" or "validation".
        part: &'static str,
        /// Tokens there are.
        found: u64,
        /// The context length in tokens.
        context: usize,
    },
    /// A file of tokens is not what its description says.
    #[error("{}: {what}", path.display())]
    BadTokens {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The tokenizer refused a text.
    #[error("cannot tokenize document {document}: {why}")]
    Tokenizer {
        /// Counted from zero over all files.
        document: u64,
        /// Its reason.
        why: String,
    },
    /// Reading or writing failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Adds the file and what was tried to an I/O error.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Io { action, path, source }
}
