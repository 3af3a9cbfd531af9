//! Where documents come from: the built-in stories, or the user's text files.
//!
//! Documents are streamed in pieces of about a mebibyte, so a corpus (or one file of it) may be
//! far larger than memory.

use std::path::{Path, PathBuf};

use super::error::{DataError, io_error};
use super::hash::Hasher;
use super::jsonl::JsonlReader;
use super::reader::FileReader;
use crate::stories::Stories;

/// Ends a document within a file.
pub const SEPARATOR: &str = "<|endoftext|>";

/// What is taken from a folder. A file that is named outright may be called anything.
const TEXT_EXTENSIONS: [&str; 5] = ["txt", "text", "md", "jsonl", "ndjson"];
/// Files of JSON objects, one a line.
const JSON_EXTENSIONS: [&str; 2] = ["jsonl", "ndjson"];

/// A stretch of one document, cut where a tokenizer would cut too wherever there is such a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text, never empty.
    pub text: String,
    /// Which document it is of, counted from 0 over the whole corpus.
    pub document: u64,
    /// No further piece of the document follows.
    pub ends_document: bool,
}

/// One file of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size when the corpus was opened.
    pub bytes: u64,
}

/// A collection of documents that can be read any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Corpus {
    /// The built-in stories: endless, so an amount must be said.
    Stories {
        /// Which stories.
        seed: u64,
        /// Stories are told until there are this many bytes.
        bytes: u64,
    },
    /// Text files, none of them empty.
    Files(Vec<TextFile>),
}

impl Corpus {
    /// Finds the files that `paths` mean: each is a file, a folder (searched to any depth for
    /// `.txt`, `.text`, `.md`, `.jsonl` and `.ndjson`, hidden ones left out) or a pattern with `*`, `?`, `[…]`, `**`.
    /// Files come in order of `paths` and, within one, of their names; none comes twice.
    ///
    /// # Errors
    /// A path that does not exist or where there is no text, naming what was searched.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, DataError> {
        let mut files: Vec<TextFile> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for path in paths {
            let path = path.as_ref();
            let found = find(path)?;
            let mut empty = 0;
            for file in &found {
                let bytes = std::fs::metadata(file).map_err(io_error("read", file))?.len();
                // The same file by two ways would count twice, and leak into validation.
                let identity = file.canonicalize().map_err(io_error("read", file))?;
                if bytes == 0 {
                    empty += 1;
                } else if seen.insert(identity) {
                    files.push(TextFile { path: file.clone(), bytes });
                }
            }
            if empty == found.len() {
                let why = match empty {
                    1 => "the file is empty".to_owned(),
                    n => format!("all {n} files are empty"),
                };
                return Err(DataError::NoText { searched: path.display().to_string(), why });
            }
        }
        if files.is_empty() {
            let why = "no file was named".to_owned();
            return Err(DataError::NoText { searched: "the data".to_owned(), why });
        }
        Ok(Self::Files(files))
    }

    /// Bytes of text, about: what [`Pieces::bytes_read`] ends at.
    pub fn total_bytes(&self) -> u64 {
        match self {
            Self::Stories { bytes, .. } => *bytes,
            Self::Files(files) => files.iter().map(|file| file.bytes).sum(),
        }
    }

    /// All documents from the first on, in pieces. Files are split at `<|endoftext|>`; a file
    /// without it is one document. Of `.jsonl` and `.ndjson` every line is one: its field `text`. White space around a document is dropped, and so are
    /// documents of nothing else.
    pub fn pieces(&self) -> Pieces<'_> {
        let from = match self {
            Self::Stories { seed, bytes } => From::Stories { stories: Stories::new(*seed), bytes: *bytes },
            Self::Files(files) => From::Files { files: files.iter(), reader: None },
        };
        Pieces { from, document: 0, bytes_read: 0 }
    }

    /// Takes in everything that decides the documents: the files' content and kind, not their names.
    pub(crate) fn hash(&self, hasher: &mut Hasher) -> Result<(), DataError> {
        match self {
            Self::Stories { seed, bytes } => {
                // Another version may tell other stories.
                hasher.field(env!("CARGO_PKG_VERSION").as_bytes()).field(b"stories");
                hasher.bytes(&seed.to_le_bytes()).bytes(&bytes.to_le_bytes());
            }
            Self::Files(files) => {
                for TextFile { path, .. } in files {
                    let json = has_extension(path, &JSON_EXTENSIONS);
                    hasher.field(if json { b"jsonl" } else { b"text" }).file(path)?;
                }
            }
        }
        Ok(())
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Stories { seed, bytes } => {
                format!("built-in stories (seed {seed}, {:.1} MB)", *bytes as f64 / 1e6)
            }
            Self::Files(files) => match &files[..] {
                [file] => file.path.display().to_string(),
                files => format!("{} files from {}", files.len(), files[0].path.display()),
            },
        }
    }
}

fn find(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let no_text = |why: String| DataError::NoText { searched: path.display().to_string(), why };
    if path.is_dir() {
        let mut files = Vec::new();
        walk(path, &mut files)?;
        if files.is_empty() {
            return Err(no_text(format!(
                "the folder has no file named *.{}",
                TEXT_EXTENSIONS.join(" or *.")
            )));
        }
        return Ok(files);
    }
    if path.exists() {
        return Ok(vec![path.to_path_buf()]);
    }
    let text = path.to_string_lossy();
    if !text.contains(['*', '?', '[']) {
        return Err(no_text("there is no such file or folder".to_owned()));
    }
    let matches = glob::glob(&text)
        .map_err(|error| DataError::BadPattern { pattern: text.to_string(), why: error.msg.into() })?;
    let mut files = Vec::new();
    for entry in matches {
        let entry = entry.map_err(|error| DataError::Io {
            action: "read",
            path: error.path().to_path_buf(),
            source: error.into(),
        })?;
        if entry.is_dir() {
            walk(&entry, &mut files)?;
        } else {
            files.push(entry);
        }
    }
    if files.is_empty() {
        return Err(no_text("no file matches the pattern".to_owned()));
    }
    Ok(files)
}

/// Adds the text files below `folder` in order of their names.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io_error("read", folder))? {
        entries.push(entry.map_err(io_error("read", folder))?);
    }
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        // A link to a folder could lead in circles; a link to a file is as good as the file.
        let kind = entry.file_type().map_err(io_error("read", &path))?;
        if kind.is_dir() {
            walk(&path, files)?;
        } else if path.is_file() && has_extension(&path, &TEXT_EXTENSIONS) {
            files.push(path);
        }
    }
    Ok(())
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|text| found.eq_ignore_ascii_case(text)))
}

/// An open file of either kind.
enum Reader {
    Text(FileReader),
    Json(JsonlReader),
}

impl Reader {
    fn open(path: &Path) -> Result<Self, DataError> {
        if has_extension(path, &JSON_EXTENSIONS) {
            return Ok(Self::Json(JsonlReader::open(path)?));
        }
        Ok(Self::Text(FileReader::open(path)?))
    }

    fn bytes_read(&self) -> u64 {
        match self {
            Self::Text(reader) => reader.bytes_read(),
            Self::Json(reader) => reader.bytes_read(),
        }
    }

    fn next_piece(&mut self) -> Result<Option<(String, bool)>, DataError> {
        match self {
            Self::Text(reader) => reader.next_piece(),
            Self::Json(reader) => reader.next_piece(),
        }
    }
}

/// The documents of a [`Corpus`], in pieces.
pub struct Pieces<'a> {
    from: From<'a>,
    document: u64,
    bytes_read: u64,
}

enum From<'a> {
    Stories { stories: Stories, bytes: u64 },
    Files { files: std::slice::Iter<'a, TextFile>, reader: Option<Reader> },
}

impl Pieces<'_> {
    /// How many bytes of text have been read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (text, ends_document) = match &mut self.from {
            From::Stories { stories, bytes } => {
                if self.bytes_read >= *bytes {
                    return None;
                }
                let text = stories.next()?;
                self.bytes_read += text.len() as u64;
                (text, true)
            }
            From::Files { files, reader } => loop {
                let open = match reader {
                    Some(open) => open,
                    None => {
                        let file = files.next()?;
                        match Reader::open(&file.path) {
                            Ok(open) => reader.insert(open),
                            Err(error) => return Some(Err(error)),
                        }
                    }
                };
                let before = open.bytes_read();
                let next = open.next_piece();
                self.bytes_read += open.bytes_read() - before;
                match next {
                    Ok(Some(piece)) => break piece,
                    Ok(None) => *reader = None,
                    Err(error) => return Some(Err(error)),
                }
            },
        };
        let piece = Piece { text, document: self.document, ends_document };
        self.document += u64::from(ends_document);
        Some(Ok(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn documents(corpus: &Corpus) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for piece in corpus.pieces() {
            let piece = piece.unwrap();
            if piece.document as usize == all.len() {
                all.push(String::new());
            }
            all.last_mut().unwrap().push_str(&piece.text);
        }
        all
    }

    #[test]
    fn folders_files_and_patterns() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("b/.hidden")).unwrap();
        fs::write(at("z.txt"), "one<|endoftext|>\ntwo\n<|endoftext|>\n").unwrap();
        fs::write(at("b/a.md"), "\u{feff}three\n").unwrap();
        fs::write(at("b/c.json"), "no").unwrap();
        fs::write(at("b/d.jsonl"), "{\"text\": \"four\"}\n{\"text\": \"five\"}\n").unwrap();
        fs::write(at("b/.hidden/x.txt"), "no").unwrap();
        fs::write(at("empty.txt"), "").unwrap();
        let corpus = Corpus::open(&[dir.path()]).unwrap();
        assert_eq!(documents(&corpus), ["three", "four", "five", "one", "two"]);
        // By a pattern, a name and again by the folder: each file once.
        let corpus = Corpus::open(&[at("*.txt"), at("b/c.json"), at("b/c.json")]).unwrap();
        assert_eq!(documents(&corpus), ["one", "two", "no"]);
        assert_eq!(corpus.total_bytes(), 37);
        let mut pieces = corpus.pieces();
        while pieces.next().is_some() {}
        assert_eq!(pieces.bytes_read(), 37);
    }

    #[test]
    fn nothing_to_read_names_what_was_searched() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("empty.txt"), "").unwrap();
        fs::create_dir(at("folder")).unwrap();
        for (name, says) in [
            ("missing.txt", "no such file"),
            ("*.md", "no file matches"),
            ("folder", "no file named *.txt or"),
            ("empty.txt", "the file is empty"),
            ("a[", "not a valid pattern"),
        ] {
            let error = Corpus::open(&[at(name)]).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(name), "{error}");
        }
        assert!(Corpus::open::<&str>(&[]).is_err());
    }

    #[test]
    fn stories_are_as_many_as_asked_for() {
        let corpus = Corpus::Stories { seed: 1, bytes: 10_000 };
        let told = documents(&corpus);
        let bytes: usize = told.iter().map(String::len).sum();
        assert!(bytes >= 10_000 && bytes - told.last().unwrap().len() < 10_000);
        assert_eq!(told, documents(&corpus), "the same each time");
    }
}
