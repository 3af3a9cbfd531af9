//! Text from standard input: it can be read only once, so it is kept in the run's folder.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::TrainError;
use crate::data::files::write_file;
use crate::data::{DataError, jsonl};

/// The path that means it.
pub(super) const STDIN: &str = "-";

/// How much is looked at to tell JSON lines from text.
const PEEK: usize = 1 << 20;

/// Standard input, of which the first line has been looked at.
pub(super) struct Stdin {
    begin: Vec<u8>,
    rest: Box<dyn BufRead>,
}

impl Stdin {
    pub(super) fn open() -> Result<Self, TrainError> {
        Self::of(Box::new(BufReader::with_capacity(1 << 18, io::stdin())))
    }

    fn of(mut rest: Box<dyn BufRead>) -> Result<Self, TrainError> {
        let mut begin = Vec::new();
        let read = (&mut rest).take(PEEK as u64).read_until(b'\n', &mut begin);
        read.map_err(TrainError::io("read", Path::new(STDIN)))?;
        if begin.is_empty() {
            let (searched, why) = ("standard input".to_owned(), "it is empty".to_owned());
            return Err(DataError::NoText { searched, why }.into());
        }
        Ok(Self { begin, rest })
    }

    /// Copies everything into a file in `folder`, named after what it seems to be: JSON lines if the
    /// first line is one with a text, else text.
    pub(super) fn keep(self, folder: &Path) -> Result<PathBuf, TrainError> {
        let json = jsonl::is_document(&self.begin);
        let path = folder.join(if json { "stdin.jsonl" } else { "stdin.txt" });
        let mut all = io::Cursor::new(self.begin).chain(self.rest);
        let copied = write_file(&path, |file| io::copy(&mut all, file).map(drop));
        copied.map_err(TrainError::io("write", &path))?;
        std::path::absolute(&path).map_err(TrainError::io("find", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_kept() {
        for (text, name) in [
            ("{\"text\": \"one\"}\n{\"text\": \"two\"}\n", "stdin.jsonl"),
            ("one\ntwo\n", "stdin.txt"),
            ("{ no JSON }", "stdin.txt"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let stdin = Stdin::of(Box::new(io::Cursor::new(text))).unwrap();
            let path = stdin.keep(dir.path()).unwrap();
            assert_eq!(path.file_name().unwrap(), name);
            assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        }
        assert!(Stdin::of(Box::new(io::empty())).is_err());
    }
}
