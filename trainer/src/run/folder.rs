//! The folder of a run: what lies where, and how checkpoints come and go without ever leaving
//! half of one under a name that means a whole one.
//!
//! ```text
//! runs/stories/
//!   run.json            what was asked for
//!   tokens/             the text as token ids
//!   tokenizer.json      the tokenizer
//!   checkpoint-001000/  model.safetensors, config.json, tokenizer.json (Hugging Face's layout),
//!                       optimizer.safetensors and trainer.json (for resuming)
//!   metrics.jsonl       a line a step, and a line a look at the held-out text
//!   loss.svg            the same as a picture
//!   sample-001000.txt   what the model wrote, if samples were asked for
//!   model.smidgen       the model file, at the end
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::TrainError;
use crate::data::files::sync_folder;

const CHECKPOINT: &str = "checkpoint-";
const CONFIG: &str = "run.json";

/// A run's folder, locked against a second process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Unlocked when it is closed, also by a crash.
    _lock: File,
}

impl RunFolder {
    /// Makes a folder for a new run; one that exists must be empty.
    ///
    /// # Errors
    /// [`TrainError::FolderInUse`], or whatever keeps the folder from being made and written to.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        fs::create_dir_all(path).map_err(TrainError::io("create", path))?;
        let mut entries = fs::read_dir(path).map_err(TrainError::io("read", path))?;
        if entries.next().is_some() {
            return Err(TrainError::FolderInUse { path: path.to_path_buf() });
        }
        Self::lock(path)
    }

    /// Makes a folder `name`, `name-2`, `name-3`, … in `parent`: the first that does not exist.
    ///
    /// # Errors
    /// Whatever keeps the folder from being made.
    pub fn create_numbered(parent: &Path, name: &str) -> Result<Self, TrainError> {
        fs::create_dir_all(parent).map_err(TrainError::io("create", parent))?;
        let mut number = 1;
        loop {
            let path = match number {
                1 => parent.join(name),
                number => parent.join(format!("{name}-{number}")),
            };
            match fs::create_dir(&path) {
                Ok(()) => return Self::lock(&path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(TrainError::io("create", &path)(error)),
            }
        }
    }

    /// Opens the folder of an earlier run and finds where it can go on: at the checkpoint that
    /// `path` is, or at the last one of the run that `path` is the folder of (`None`: at the
    /// begin, because it had not come to its first checkpoint).
    ///
    /// # Errors
    /// [`TrainError::NothingToResume`] if there is no run.
    pub fn find(path: &Path) -> Result<(Self, Option<PathBuf>), TrainError> {
        let nothing = |why: &str| TrainError::NothingToResume { path: path.to_path_buf(), why: why.into() };
        if !path.is_dir() {
            return Err(nothing("there is no such folder"));
        }
        let path = path.canonicalize().map_err(TrainError::io("read", path))?;
        if let Some(run) = path.parent()
            && checkpoint_step(&path).is_some()
            && run.join(CONFIG).exists()
        {
            return Ok((Self::lock(run)?, Some(path)));
        }
        if !path.join(CONFIG).exists() {
            return Err(nothing("the folder has no run.json, so no run was begun in it"));
        }
        let folder = Self::lock(&path)?;
        let last = folder.checkpoints()?.pop().map(|(_, path)| path);
        Ok((folder, last))
    }

    fn lock(path: &Path) -> Result<Self, TrainError> {
        let name = path.join(".lock");
        let lock = File::create(&name).map_err(TrainError::io("write", &name))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Err(TrainError::BadFile {
                path: path.to_path_buf(),
                what: "another process is training in this folder".to_owned(),
            }),
            // A file system without locks is no reason not to train.
            _ => Ok(Self { path: path.to_path_buf(), _lock: lock }),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `run.json`.
    pub fn config(&self) -> PathBuf {
        Self::config_in(&self.path)
    }

    /// `run.json` in the folder of a run, which another process may be training in.
    pub(super) fn config_in(folder: &Path) -> PathBuf {
        folder.join(CONFIG)
    }

    /// The folder of token files.
    pub fn tokens(&self) -> PathBuf {
        Self::tokens_in(&self.path)
    }

    /// The same in any run's folder.
    pub(super) fn tokens_in(folder: &Path) -> PathBuf {
        folder.join("tokens")
    }

    /// `tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.path.join("tokenizer.json")
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `loss.svg`.
    pub fn plot(&self) -> PathBuf {
        self.path.join("loss.svg")
    }

    /// The text that the model wrote after `step` steps.
    pub fn sample(&self, step: u64) -> PathBuf {
        self.path.join(format!("sample-{step:06}.txt"))
    }

    /// `model.smidgen`.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.smidgen")
    }

    /// The folder of the checkpoint after `step` steps, whether it exists or not.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join(format!("{CHECKPOINT}{step:06}"))
    }

    /// All whole checkpoints with their steps, the last one last.
    ///
    /// # Errors
    /// An unreadable folder.
    pub fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>, TrainError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(TrainError::io("read", &self.path))? {
            let path = entry.map_err(TrainError::io("read", &self.path))?.path();
            if let Some(step) = checkpoint_step(&path) {
                all.push((step, path));
            }
        }
        all.sort();
        Ok(all)
    }

    /// Makes the checkpoint of `step` from what `write` puts into the folder it is given. The
    /// checkpoint appears under its name only when every byte of it is on the disk.
    ///
    /// # Errors
    /// Whatever `write` says, or a full disk; then everything is as it was before.
    pub fn add_checkpoint<E: From<TrainError>>(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let target = self.checkpoint(step);
        let part = self.path.join(format!(".{CHECKPOINT}{step:06}.part"));
        remove(&part)?;
        fs::create_dir(&part).map_err(TrainError::io("create", &part))?;
        let written = write(&part).and_then(|()| {
            sync_all(&part).map_err(TrainError::io("write", &part))?;
            // A resumed run comes to the same step with the same bits; the older one may go.
            remove(&target)?;
            fs::rename(&part, &target).map_err(TrainError::io("write", &target))?;
            sync_folder(&self.path).map_err(TrainError::io("write", &self.path))?;
            Ok(())
        });
        if written.is_err() {
            let _ = fs::remove_dir_all(&part);
        }
        written.map(|()| target)
    }

    /// Removes all checkpoints but those of the steps in `keep`.
    ///
    /// # Errors
    /// Something that cannot be removed.
    pub fn remove_checkpoints_but(&self, keep: &[u64]) -> Result<(), TrainError> {
        for (step, path) in self.checkpoints()? {
            if !keep.contains(&step) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what writes and removals of checkpoints have left that were cut short by the end of their
    /// process.
    ///
    /// # Errors
    /// Something that cannot be removed.
    pub fn remove_leftovers(&self) -> Result<(), TrainError> {
        for entry in fs::read_dir(&self.path).map_err(TrainError::io("read", &self.path))? {
            let entry = entry.map_err(TrainError::io("read", &self.path))?;
            if entry.file_name().to_string_lossy().starts_with(&format!(".{CHECKPOINT}")) {
                fs::remove_dir_all(entry.path()).map_err(TrainError::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Removes the whole folder of a run that has come to nothing.
    pub fn discard(self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The step in a checkpoint folder's name.
fn checkpoint_step(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(CHECKPOINT)?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (all_digits && path.is_dir()).then(|| digits.parse().ok())?
}

/// Removes a folder if there is one. It loses its name first: a folder of which some files are
/// gone must not look whole.
fn remove(folder: &Path) -> Result<(), TrainError> {
    if !folder.exists() {
        return Ok(());
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let trash = folder.with_file_name(format!(".{}.old", name.trim_start_matches('.')));
    if trash.exists() {
        fs::remove_dir_all(&trash).map_err(TrainError::io("remove", &trash))?;
    }
    fs::rename(folder, &trash).map_err(TrainError::io("remove", folder))?;
    fs::remove_dir_all(&trash).map_err(TrainError::io("remove", &trash))
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> impl FnOnce(&Path) -> Result<(), TrainError> {
        move |folder| fs::write(folder.join("x"), text).map_err(TrainError::io("write", folder))
    }

    #[test]
    fn a_run_never_moves_into_anothers_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunFolder::create_numbered(dir.path(), "stories").unwrap();
        let second = RunFolder::create_numbered(dir.path(), "stories").unwrap();
        assert_eq!(first.path(), dir.path().join("stories"));
        assert_eq!(second.path(), dir.path().join("stories-2"));
        let error = RunFolder::create(first.path()).unwrap_err();
        assert!(matches!(error, TrainError::FolderInUse { .. }));
        // An empty folder that exists is fine.
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        RunFolder::create(&empty).unwrap();
        // A file in the way is told.
        fs::write(dir.path().join("file"), "").unwrap();
        let error = RunFolder::create(&dir.path().join("file/run")).unwrap_err().to_string();
        assert!(error.contains("cannot create") && error.contains("file/run"), "{error}");
    }

    #[test]
    fn two_processes_do_not_share_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&dir.path().join("run")).unwrap();
        fs::write(folder.config(), "{}").unwrap();
        let error = RunFolder::find(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        let path = folder.path().to_path_buf();
        drop(folder);
        RunFolder::find(&path).unwrap();
    }

    #[test]
    fn the_last_whole_checkpoint_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        assert!(matches!(RunFolder::find(&path), Err(TrainError::NothingToResume { .. })));
        let folder = RunFolder::create(&path).unwrap();
        fs::write(folder.config(), "{}").unwrap();
        for step in [9, 10, 1_000_000] {
            folder.add_checkpoint(step, write("old")).unwrap();
        }
        // A crash while writing: no checkpoint. An error while writing: no trace.
        fs::create_dir(path.join(".checkpoint-2000000.part")).unwrap();
        let failed = folder.add_checkpoint(3_000_000, |part| {
            write("half")(part)?;
            Err(TrainError::Tokenizer("no".into()))
        });
        assert!(failed.is_err());
        let steps: Vec<u64> = folder.checkpoints().unwrap().iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [9, 10, 1_000_000]);
        folder.add_checkpoint(10, write("new")).unwrap();
        folder.remove_checkpoints_but(&[10]).unwrap();
        folder.remove_leftovers().unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".lock", "checkpoint-000010", "run.json"]);
        assert_eq!(fs::read_to_string(folder.checkpoint(10).join("x")).unwrap(), "new");

        let checkpoint = folder.checkpoint(10).canonicalize().unwrap();
        drop(folder);
        let (folder, last) = RunFolder::find(&path).unwrap();
        assert_eq!(last, Some(checkpoint.clone()));
        drop(folder);
        let (_, this) = RunFolder::find(&checkpoint).unwrap();
        assert_eq!(this, Some(checkpoint));
    }
}
