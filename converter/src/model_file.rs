//! A model file in memory.

use std::path::{Path, PathBuf};

use smidgen_runtime::Model;

use crate::error::Error;
use crate::source::{Bytes, map};

/// A mapped model file.
#[derive(Clone, Debug)]
pub struct ModelFile {
    path: PathBuf,
    bytes: Bytes,
}

impl ModelFile {
    /// Maps a file, without looking at it yet.
    ///
    /// # Errors
    /// If it can't be opened, or is empty.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_path_buf(), bytes: map(path)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, from an address that the runtime accepts (maps begin at a page).
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Validates the file, which reads all of it.
    ///
    /// # Errors
    /// [`Error::Load`] with what [`Model::load`] says.
    pub fn load(&self) -> Result<Model<'_>, Error> {
        Model::load(&self.bytes).map_err(|source| Error::Load { path: self.path.clone(), source })
    }
}
