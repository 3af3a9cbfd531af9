//! What can go wrong between a checkpoint and a model file: each error names the file, the key
//! or tensor, what was expected and what is there.

use std::io;
use std::path::{Path, PathBuf};

use smidgen_runtime::LoadError;
use smidgen_runtime::format::Role;
use smidgen_runtime::format::writer::WriteError;

use crate::tokenizer::TokenizerFileError;

/// Why a checkpoint can't be read, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file is not JSON.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A key of a JSON file has a value that can't be.
    #[error("{}: `{key}` is {found}, expected {expected}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key, with its path (`rope_scaling.factor`).
        key: String,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The checkpoint is of a kind that is well-formed and not supported.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported, and what is.
        reason: String,
    },
    /// A file's structure is broken.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the numbers.
        reason: String,
    },
    /// A tensor that the architecture needs is not in the checkpoint.
    #[error("{}: tensor `{tensor}` is missing", path.display())]
    MissingTensor {
        /// The file or directory.
        path: PathBuf,
        /// The name in the checkpoint.
        tensor: String,
    },
    /// A tensor has another shape than the dimensions call for.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The name in the checkpoint.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the configuration calls for.
        expected: Vec<usize>,
    },
    /// A tensor has a number type that is not read.
    #[error("{}: tensor `{tensor}` has type {found}, expected F32, F16 or BF16", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The name in the checkpoint.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A checkpoint has no such tensor.
    #[error("the checkpoint has no tensor {} in layer {layer}", role.name())]
    NoTensor {
        /// The layer asked for.
        layer: u32,
        /// The role asked for.
        role: Role,
    },
    /// A weight can't be stored.
    #[error("tensor {tensor}, row {row}, column {col} is {value}: {reason}")]
    BadWeight {
        /// Role and layer.
        tensor: String,
        /// Its row.
        row: usize,
        /// Its column.
        col: usize,
        /// The weight.
        value: f32,
        /// Why not.
        reason: &'static str,
    },
    /// An option of the conversion is out of range or names nothing.
    #[error("{0}")]
    Option(String),
    /// The dimensions are no valid model, or a `.smidgen` file is refused.
    #[error("{}: {source}", path.display())]
    Load {
        /// The file or checkpoint.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The model file can't be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// The tokenizer can't be read or written.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerFileError),
    /// The checkpoint's parts don't fit together.
    #[error("{name}: {reason}")]
    Inconsistent {
        /// The checkpoint's name.
        name: String,
        /// What does not fit, with the numbers.
        reason: String,
    },
    /// The runtime can't run the model.
    #[error("{}: {reason}", path.display())]
    Run {
        /// The model file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Names the file of an I/O error.
pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}

impl Error {
    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_path_buf(), reason: reason.into() }
    }

    pub(crate) fn unsupported(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_path_buf(), reason: reason.into() }
    }
}
