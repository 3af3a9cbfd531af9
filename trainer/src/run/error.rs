//! Why a run could not begin, go on, or end well.

use std::io;
use std::path::{Path, PathBuf};

use smidgen_runtime::LoadError;

use crate::data::DataError;
use crate::model::ModelError;

/// An error of a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of range.
    #[error("{flag} is {value}, but must be {must}")]
    Option {
        /// The command line's name for it.
        flag: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        must: String,
    },
    /// The dimensions make no model.
    #[error("the model's shape is not possible: {0}")]
    Shape(LoadError),
    /// Something about the text.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The folder of a new run is not empty.
    #[error(
        "{} already has files in it; to go on with that run use --resume {}, for a new one another --out",
        path.display(), path.display()
    )]
    FolderInUse {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to resume.
    #[error("{}: {why}", path.display())]
    NothingToResume {
        /// What was to be resumed.
        path: PathBuf,
        /// What is missing there.
        why: String,
    },
    /// A file of the run is damaged or of another kind.
    #[error("{}: {what}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The text is no longer the one that the run began with.
    #[error(
        "the text has changed since the run began (its tokens' fingerprint is {found}, was {expected}), so the run cannot be resumed exactly; start a new one"
    )]
    DataChanged {
        /// Of the tokens there are now.
        found: String,
        /// Of those the checkpoint has learned from.
        expected: String,
    },
    /// Training ran away.
    #[error(
        "step {step}: the {what} is {value}, so training cannot go on; {kept}. A smaller --lr, a longer \
         --warmup or a smaller --grad-clip usually helps"
    )]
    NotFinite {
        /// The step that failed.
        step: u64,
        /// "loss" or "gradient's norm".
        what: &'static str,
        /// What it became.
        value: f32,
        /// Which checkpoint is still good.
        kept: String,
    },
    /// The dimensions, or the batch, make no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer could not be made.
    #[error("cannot make a tokenizer: {0}")]
    Tokenizer(String),
    /// The checkpoint could not be written or read, or not be converted.
    #[error(transparent)]
    Convert(#[from] smidgen_converter::Error),
    /// The model file did not run.
    #[error("cannot run {}: {why}", path.display())]
    Run {
        /// The model file.
        path: PathBuf,
        /// The runtime's reason.
        why: String,
    },
    /// The loss curve could not be drawn.
    #[error("cannot draw {}: {why}", path.display())]
    Plot {
        /// The picture.
        path: PathBuf,
        /// Why.
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
}

impl TrainError {
    pub(crate) fn option(flag: &'static str, value: impl ToString, must: String) -> Self {
        Self::Option { flag, value: value.to_string(), must }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
