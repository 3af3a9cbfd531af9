//! Files appear whole or not at all: written under another name, synced, renamed.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, io_at};

/// Creates or replaces `path` with what `write` puts into the file it is given. If anything fails,
/// whatever stood at `path` still does, and nothing else is left behind.
///
/// # Errors
/// Whatever `write` says, or the file system.
pub fn write_file<T, E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        return Err(io_at(directory)(io::Error::from(io::ErrorKind::NotFound)).into());
    }
    if path.is_dir() {
        return Err(io_at(path)(io::Error::from(io::ErrorKind::IsADirectory)).into());
    }
    // In the same directory: a rename is atomic only within one file system.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".smidgen-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What File::create would ask for; the process's umask takes away from it.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file: NamedTempFile = builder.tempfile_in(directory).map_err(io_at(directory))?;
    let value = write(file.as_file_mut())?;
    file.as_file().sync_all().map_err(io_at(path))?;
    file.persist(path).map_err(|error| io_at(path)(error.error))?;
    // The rename itself must survive a power cut, too.
    #[cfg(unix)]
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_at(directory))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.smidgen");
        std::fs::write(&path, "old").unwrap();
        let result: Result<(), Error> = write_file(&path, |file| {
            file.write_all(b"half of the new").unwrap();
            Err(Error::Option("the disk is full".into()))
        });
        assert!(matches!(result, Err(Error::Option(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["model.smidgen"]);
    }

    #[test]
    fn a_write_replaces_and_leaves_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.smidgen");
        std::fs::write(&path, "old").unwrap();
        write_file(&path, |file| file.write_all(b"new").map_err(io_at(&path))).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["model.smidgen"]);
    }

    #[test]
    fn directories_are_not_replaced_and_missing_ones_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let nothing = |_: &mut File| Ok::<(), Error>(());
        assert!(write_file(directory.path(), nothing).is_err());
        let error = write_file(&directory.path().join("absent/file"), nothing).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
