//! One text file, streamed as UTF-8 and cut into documents and pieces.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{DataError, io_error};
use super::source::SEPARATOR;

/// Pieces are not longer than this, in bytes.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// How far back from the end of a full piece a good place to cut is looked for.
const CUT_SEARCH: usize = 1 << 12;

pub(super) struct FileReader {
    path: PathBuf,
    file: File,
    /// Checked text; what is before `begin` is used up.
    text: String,
    begin: usize,
    /// From the file, not yet checked; holds at most the begin of one character between reads.
    raw: Vec<u8>,
    /// The file's bytes that `text` and everything before it was made of.
    checked: u64,
    at_end: bool,
    /// The next piece is the first of its document.
    fresh: bool,
}

impl FileReader {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            text: String::new(),
            begin: 0,
            raw: Vec::new(),
            checked: 0,
            at_end: false,
            fresh: true,
        })
    }

    /// Bytes of the file that have been read and checked.
    pub(super) fn bytes_read(&self) -> u64 {
        self.checked
    }

    /// The next stretch of text and whether it ends its document.
    pub(super) fn next_piece(&mut self) -> Result<Option<(String, bool)>, DataError> {
        loop {
            // White space before a document may be longer than a buffer.
            if self.fresh {
                let text = &self.text[self.begin..];
                self.begin += text.len() - text.trim_start().len();
            }
            let text = &self.text[self.begin..];
            let separator = text.find(SEPARATOR);
            // The document's end, if it has been read.
            let end = separator.or(self.at_end.then_some(text.len()));
            match end {
                Some(end) if end <= PIECE_BYTES => {
                    let piece = text[..end].trim_end();
                    let piece = (!piece.is_empty()).then(|| piece.to_owned());
                    let was_fresh = std::mem::replace(&mut self.fresh, true);
                    self.begin += end + separator.map_or(0, |_| SEPARATOR.len());
                    match piece {
                        Some(piece) => return Ok(Some((piece, true))),
                        // An earlier piece has promised an end that is now only white space:
                        // one space keeps the promise.
                        None if !was_fresh => return Ok(Some((" ".to_owned(), true))),
                        None if separator.is_none() => return Ok(None),
                        None => {}
                    }
                }
                // Twice the piece, so that a separator that is only half read is beyond the cut.
                _ if text.len() >= 2 * PIECE_BYTES || end.is_some() => {
                    let cut = cut_before(text, PIECE_BYTES);
                    let piece = text[..cut].to_owned();
                    self.begin += cut;
                    self.fresh = false;
                    return Ok(Some((piece, false)));
                }
                _ => self.read_more()?,
            }
        }
    }

    fn read_more(&mut self) -> Result<(), DataError> {
        self.text.drain(..self.begin);
        self.begin = 0;
        let carried = self.raw.len();
        let read = (&mut self.file)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut self.raw)
            .map_err(io_error("read", &self.path))?;
        self.at_end = read == 0;
        let valid = match std::str::from_utf8(&self.raw) {
            Ok(_) => self.raw.len(),
            // The last character may continue in the next read.
            Err(error) if error.error_len().is_none() && !self.at_end => error.valid_up_to(),
            Err(error) => {
                return Err(DataError::NotUtf8 {
                    path: self.path.clone(),
                    offset: self.checked + error.valid_up_to() as u64,
                    byte: self.raw[error.valid_up_to()],
                });
            }
        };
        debug_assert!(carried < 4);
        let mut text = std::str::from_utf8(&self.raw[..valid]).unwrap_or_default();
        if self.checked == 0 {
            text = text.trim_start_matches('\u{feff}');
        }
        self.text.push_str(text);
        self.raw.drain(..valid);
        self.checked += valid as u64;
        Ok(())
    }
}

/// A place at or before `limit` where cutting changes no token: before a space between two
/// letters, which begins a pre-token under every pattern there is. Failing that, any character.
pub(super) fn cut_before(text: &str, limit: usize) -> usize {
    let bytes = text.as_bytes();
    let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
    (limit.saturating_sub(CUT_SEARCH).max(1)..=limit)
        .rev()
        .find(|&at| bytes[at] == b' ' && letter(at - 1) && letter(at + 1))
        .unwrap_or_else(|| text.floor_char_boundary(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Result<Vec<(String, bool)>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text.txt");
        std::fs::write(&path, bytes).unwrap();
        let mut reader = FileReader::open(&path)?;
        let mut all = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            all.push(piece);
        }
        assert_eq!(reader.bytes_read(), bytes.len() as u64);
        Ok(all)
    }

    #[test]
    fn a_long_document_is_cut_between_words_and_loses_nothing() {
        let text = "The quick brown fox. Été, naïve words ".repeat(150_000);
        let text = text.trim_end();
        let all = pieces(text.as_bytes()).unwrap();
        assert!(all.len() > 5);
        for (i, (piece, ends)) in all.iter().enumerate() {
            assert!(piece.len() <= PIECE_BYTES);
            assert_eq!(*ends, i == all.len() - 1);
            assert!(i == 0 || piece.starts_with(' '));
        }
        let joined: String = all.iter().map(|(piece, _)| &piece[..]).collect();
        assert!(joined == text);
    }

    #[test]
    fn characters_and_separators_across_reads_survive() {
        // Separators at every offset around the read size, in text of three-byte characters.
        for shift in 0..SEPARATOR.len() + 4 {
            let first = "語".repeat((PIECE_BYTES - SEPARATOR.len()) / 3) + &"x".repeat(shift);
            let all = pieces(format!("{first}{SEPARATOR} z").as_bytes()).unwrap();
            assert_eq!(all.last().unwrap(), &("z".to_owned(), true));
            assert_eq!(all.iter().filter(|(_, ends)| *ends).count(), 2, "shift {shift}");
            let joined: String = all[..all.len() - 1].iter().map(|(piece, _)| &piece[..]).collect();
            assert!(joined == first, "shift {shift}");
        }
    }

    #[test]
    fn white_space_is_no_document() {
        let spaces = " \n".repeat(PIECE_BYTES);
        let text = format!("{spaces}{SEPARATOR}{SEPARATOR}{spaces}a\n{SEPARATOR}{spaces}");
        assert_eq!(pieces(text.as_bytes()).unwrap(), [("a".to_owned(), true)]);
        assert_eq!(pieces(b"").unwrap(), []);
        // A document that began ends, even if only white space is left of it.
        let long = "x".repeat(PIECE_BYTES) + &spaces;
        let all = pieces(long.as_bytes()).unwrap();
        assert!(all.last().unwrap().1 && all.iter().filter(|(_, ends)| *ends).count() == 1);
    }

    #[test]
    fn bad_utf8_is_told_with_its_offset() {
        let mut text = "é".repeat(PIECE_BYTES).into_bytes(); // two reads
        let at = PIECE_BYTES + 10;
        text[at] = 0xff;
        let Err(DataError::NotUtf8 { offset, byte, .. }) = pieces(&text) else { panic!() };
        assert_eq!((offset, byte), (at as u64, 0xff));
        // A character cut off by the file's end.
        let Err(DataError::NotUtf8 { offset, .. }) = pieces(b"ab\xe4\xb8") else { panic!() };
        assert_eq!(offset, 2);
    }
}
