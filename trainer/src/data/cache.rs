//! Tokens of texts that were tokenized before, found again by the text's content.
//!
//! An entry is a folder named after a fingerprint of everything that decides the tokens. Files are
//! shared with runs by hard links, so neither takes space twice, and either may be deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{DataError, io_error};
use super::tokens::TokenFiles;

/// A folder of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCache {
    folder: PathBuf,
}

impl TokenCache {
    /// The cache in this folder, which need not exist.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The user's own: `$SMIDGEN_CACHE`, or `smidgen/tokens` in the system's folder for caches.
    /// None if there is no such folder, or if the variable is empty.
    pub fn of_user() -> Option<Self> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        if let Some(folder) = variable("SMIDGEN_CACHE") {
            return (!folder.as_os_str().is_empty()).then(|| Self::new(folder));
        }
        let system = variable("XDG_CACHE_HOME")
            .or_else(|| variable("LOCALAPPDATA"))
            .or_else(|| variable("HOME").map(|home| home.join(".cache")));
        system.filter(|folder| folder.is_absolute()).map(|folder| Self::new(folder.join("smidgen/tokens")))
    }

    /// Puts the entry's files into `run`: tokens into `run/tokens`, the others beside it. False if
    /// there is no such entry or it is damaged; then `run` is as it was.
    ///
    /// # Errors
    /// A full disk and the like in `run`; a cache that cannot be read counts as empty.
    pub(crate) fn fetch(&self, key: &str, run: &Path) -> Result<bool, DataError> {
        let entry = self.folder.join(key);
        if TokenFiles::open(&entry.join("tokens")).is_err() {
            return Ok(false);
        }
        let part = run.join(".cached.part");
        let copied = remove(&part).and_then(|()| link_all(&entry, &part));
        if copied.is_err() {
            let _ = remove(&part);
            return Ok(false);
        }
        let moved = move_all(&part, run);
        moved.map_err(io_error("write", run))?;
        Ok(true)
    }

    /// Makes an entry of a run's tokens and of the `others` beside them, if there is none. A cache
    /// that cannot be written is no reason to fail: false then.
    pub(crate) fn add(&self, key: &str, run: &Path, others: &[&str]) -> bool {
        let (entry, part) =
            (self.folder.join(key), self.folder.join(format!(".{key}.{}.part", std::process::id())));
        if entry.exists() {
            return true;
        }
        let made = remove(&part)
            .and_then(|()| link_all(&run.join("tokens"), &part.join("tokens")))
            .and_then(|()| others.iter().try_for_each(|name| link(&run.join(name), &part.join(name))))
            .and_then(|()| fs::rename(&part, &entry));
        if made.is_err() {
            let _ = remove(&part);
        }
        // Another process may have made the same entry meanwhile.
        made.is_ok() || entry.exists()
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    if folder.exists() { fs::remove_dir_all(folder) } else { Ok(()) }
}

/// The same file under another name, or a copy where the file system has no such thing.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &target)?
        } else {
            link(&entry.path(), &target)?
        }
    }
    Ok(())
}

/// Moves everything in `from` to `to`, the tokens last: where they are, all is there.
fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_by_key(|name| name == "tokens");
    for name in names {
        let target = to.join(&name);
        if target.is_dir() {
            fs::remove_dir_all(&target)?;
        }
        fs::rename(from.join(&name), target)?;
    }
    fs::remove_dir(from)
}
