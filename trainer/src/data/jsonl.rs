//! A file of JSON objects, one a line, whose field `text` is a document.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{DataError, io_error};
use super::reader::{PIECE_BYTES, cut_before};

/// What a line is read as; all other fields are passed over.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// Whether a line is an object with a text, as every line of such a file must be.
pub(crate) fn is_document(line: &[u8]) -> bool {
    serde_json::from_slice::<Line<'_>>(line).is_ok()
}

pub(super) struct JsonlReader {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
    /// What is left of a document that is longer than a piece; what is before `begin` is used up.
    document: String,
    begin: usize,
}

impl JsonlReader {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            file: BufReader::with_capacity(1 << 18, file),
            line: Vec::new(),
            number: 0,
            bytes: 0,
            document: String::new(),
            begin: 0,
        })
    }

    /// Bytes of the file that have been read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// The next stretch of text and whether it ends its document.
    pub(super) fn next_piece(&mut self) -> Result<Option<(String, bool)>, DataError> {
        while self.begin == self.document.len() {
            if !self.next_document()? {
                return Ok(None);
            }
        }
        let rest = &self.document[self.begin..];
        let ends = rest.len() <= PIECE_BYTES;
        let piece = if ends { rest } else { &rest[..cut_before(rest, PIECE_BYTES)] }.to_owned();
        self.begin += piece.len();
        Ok(Some((piece, ends)))
    }

    /// Reads a line; false at the file's end. Lines and texts of white space alone leave nothing.
    fn next_document(&mut self) -> Result<bool, DataError> {
        self.document.clear();
        self.begin = 0;
        self.line.clear();
        let read = self.file.read_until(b'\n', &mut self.line).map_err(io_error("read", &self.path))?;
        self.bytes += read as u64;
        self.number += 1;
        if read == 0 {
            return Ok(false);
        }
        let mut line = &self.line[..];
        if self.number == 1 {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.trim_ascii().is_empty() {
            return Ok(true);
        }
        let Line { text } = serde_json::from_slice(line).map_err(|error| DataError::BadLine {
            path: self.path.clone(),
            line: self.number,
            why: error.to_string(),
        })?;
        self.document.push_str(text.trim());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Result<Vec<(String, bool)>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text.jsonl");
        std::fs::write(&path, text).unwrap();
        let mut reader = JsonlReader::open(&path)?;
        let mut all = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            all.push(piece);
        }
        assert_eq!(reader.bytes_read(), text.len() as u64);
        Ok(all)
    }

    #[test]
    fn a_line_is_a_document() {
        let text = "\u{feff}{\"id\": 1, \"text\": \"one\\n\\u00e9 \"}\n\n{\"text\":\"  \"}\r\n\
                    {\"text\": \"<|endoftext|> is text here\", \"more\": [1, {}]}";
        let want = ["one\né", "<|endoftext|> is text here"].map(|text| (text.to_owned(), true));
        assert_eq!(pieces(text).unwrap(), want);
        assert_eq!(pieces("").unwrap(), []);
    }

    #[test]
    fn long_documents_come_in_pieces() {
        let words = "some words ".repeat(PIECE_BYTES / 4);
        let all = pieces(&format!("{{\"text\": \"{words}\"}}\n{{\"text\": \"short\"}}\n")).unwrap();
        assert!(all.len() == 4 && all.iter().all(|(piece, _)| piece.len() <= PIECE_BYTES));
        assert_eq!(all.iter().map(|(_, ends)| *ends).collect::<Vec<_>>(), [false, false, true, true]);
        let joined: String = all[..3].iter().map(|(piece, _)| &piece[..]).collect();
        assert_eq!(joined, words.trim());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (line, says) in [
            ("{\"body\": \"x\"}", "missing field `text`"),
            ("{\"text\": 5}", "invalid type"),
            ("plain text", "expected value"),
            ("{\"text\": \"x\"", "EOF"),
        ] {
            let error = pieces(&format!("{{\"text\": \"fine\"}}\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains("text.jsonl: line 2: ") && error.contains(says), "{error}");
        }
    }
}
