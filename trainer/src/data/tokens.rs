//! A corpus as token ids in files, made once and then mapped into memory.
//!
//! A folder holds `train.bin` and `validation.bin` (ids as little-endian u16, or u32 where the
//! vocabulary has more than 65,536 tokens, nothing else) and `tokens.json`, which says what they
//! are. `tokens.json` is written last: where it is, the files are whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::error::{DataError, io_error};
use super::files::{sync_folder, write_json};
use super::parts::{for_parts, next_batch};
use super::source::{Corpus, Piece};
use crate::parallel::Pool;
use crate::rng::Rng;

/// One document in this many is held out.
const HELD_OUT: u64 = 50;
/// Held-out documents must be at least this part of all tokens, else the text's end is held out.
const LEAST_HELD_OUT: f64 = 0.005;
/// And at most this part.
const MOST_HELD_OUT: f64 = 0.15;
/// The part at the text's end that is held out where documents are too few or too uneven.
const TAIL: u64 = 10;

const TRAIN: &str = "train.bin";
const VALIDATION: &str = "validation.bin";
const DESCRIPTION: &str = "tokens.json";

/// `tokens.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// 16 or 32.
    bits: u32,
    vocab_size: u32,
    /// Tokens in `train.bin`; those of `held_out_tail` are no training data.
    train_tokens: u64,
    /// Tokens in `validation.bin`.
    validation_tokens: u64,
    /// If not 0, validation is this many tokens at the end of `train.bin` instead.
    held_out_tail: u64,
    documents: u64,
    /// Bytes of text of all documents.
    text_bytes: u64,
    /// Over all ids in their order; equal for equal data.
    fingerprint: u64,
}

/// Token ids in a file, training or validation.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl<'a> Tokens<'a> {
    /// Ids in memory instead of a file, as the little-endian bytes of u16 (or u32 if `wide`).
    pub fn from_bytes(bytes: &'a [u8], wide: bool) -> Self {
        Self { bytes, wide }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / if self.wide { 4 } else { 2 }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies the ids from `start` on until `out` is full.
    ///
    /// # Panics
    /// If there are too few.
    pub fn copy_to(&self, start: usize, out: &mut [u32]) {
        if self.wide {
            let bytes = &self.bytes[start * 4..(start + out.len()) * 4];
            for (id, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *id = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        } else {
            let bytes = &self.bytes[start * 2..(start + out.len()) * 2];
            for (id, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *id = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
        }
    }

    /// The first `n` of them.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn first(&self, n: usize) -> Self {
        self.part(0..n)
    }

    fn part(&self, range: Range<usize>) -> Self {
        let width = if self.wide { 4 } else { 2 };
        Self { bytes: &self.bytes[range.start * width..range.end * width], wide: self.wide }
    }
}

/// A tokenized corpus, open for reading.
#[derive(Debug)]
pub struct TokenFiles {
    description: Description,
    train: Mapped,
    validation: Mapped,
}

/// Appends the ids of a text, or says why it cannot.
pub type Encoder<'a> = Box<dyn FnMut(&str, &mut Vec<u32>) -> Result<(), String> + Send + 'a>;

/// How text becomes ids while files are made.
pub struct Encoding<'a> {
    /// Number of ids there are.
    pub vocab_size: u32,
    /// The id put between documents.
    pub end_of_text: u32,
    /// Makes an encoder for one thread.
    pub new_encoder: &'a dyn Fn() -> Encoder<'a>,
}

impl TokenFiles {
    /// Tokenizes `corpus` into `folder`, on all threads of `pool`, holding a few mebibytes
    /// of text in memory at a time. `progress` is told bytes done and bytes in all.
    ///
    /// Every document goes whole into training or validation by a hash of its number (1 in 50
    /// into validation). Where that leaves validation with less than half a percent or more than
    /// 15 % of the tokens, or less than a window of `context + 1`, the last tenth of the text is
    /// validation instead.
    ///
    /// # Errors
    /// Unreadable text, a tokenizer that refuses it, too few tokens for a window of
    /// `context + 1` in either part, a full disk, or `stop` being set. Nothing is left behind.
    pub fn build(
        corpus: &Corpus,
        encoding: &Encoding<'_>,
        folder: &Path,
        context: usize,
        pool: &Pool,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, DataError> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let result = build_files(corpus, encoding, folder, context, pool, stop, progress);
        match result {
            Ok(()) => Self::open(folder),
            Err(error) => {
                for name in [TRAIN, VALIDATION] {
                    let _ = fs::remove_file(part_path(folder, name));
                }
                Err(error)
            }
        }
    }

    /// True if `folder` has finished token files.
    pub fn exist(folder: &Path) -> bool {
        folder.join(DESCRIPTION).exists()
    }

    /// Opens the files that [`build`](Self::build) has made.
    ///
    /// # Errors
    /// Missing files, or sizes that are not what `tokens.json` says.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(DESCRIPTION);
        let json = fs::read(&path).map_err(io_error("read", &path))?;
        let description: Description = serde_json::from_slice(&json)
            .map_err(|error| DataError::BadTokens { path: path.clone(), what: error.to_string() })?;
        let width = match description.bits {
            16 => 2,
            32 => 4,
            bits => {
                let what = format!("`bits` is {bits}, not 16 or 32");
                return Err(DataError::BadTokens { path, what });
            }
        };
        if description.held_out_tail > description.train_tokens {
            let what = format!(
                "`held_out_tail` is {}, more than `train_tokens`, {}",
                description.held_out_tail, description.train_tokens
            );
            return Err(DataError::BadTokens { path, what });
        }
        let map = |name, tokens: u64| Mapped::open(&folder.join(name), tokens.checked_mul(width));
        Ok(Self {
            train: map(TRAIN, description.train_tokens)?,
            validation: map(VALIDATION, description.validation_tokens)?,
            description,
        })
    }

    /// What is trained on.
    pub fn train(&self) -> Tokens<'_> {
        let all = self.all_train();
        all.part(0..all.len() - self.description.held_out_tail as usize)
    }

    /// What is held out.
    pub fn validation(&self) -> Tokens<'_> {
        let all = self.all_train();
        match self.description.held_out_tail as usize {
            0 => Tokens::from_bytes(self.validation.bytes(), self.wide()),
            tail => all.part(all.len() - tail..all.len()),
        }
    }

    /// Documents in both.
    pub fn documents(&self) -> u64 {
        self.description.documents
    }

    /// Bytes of text per token, over the whole corpus; end-of-text tokens have no bytes.
    pub fn bytes_per_token(&self) -> f64 {
        let tokens = self.description.train_tokens + self.description.validation_tokens;
        self.description.text_bytes as f64 / tokens.max(1) as f64
    }

    /// Equal for equal tokens in equal order.
    pub fn fingerprint(&self) -> u64 {
        self.description.fingerprint
    }

    fn all_train(&self) -> Tokens<'_> {
        Tokens::from_bytes(self.train.bytes(), self.wide())
    }

    fn wide(&self) -> bool {
        self.description.bits == 32
    }
}

/// A file in memory; an empty one cannot be mapped.
#[derive(Debug)]
struct Mapped(Option<Mmap>);

impl Mapped {
    fn open(path: &Path, expected: Option<u64>) -> Result<Self, DataError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let found = file.metadata().map_err(io_error("read", path))?.len();
        if Some(found) != expected {
            let expected = expected.unwrap_or(u64::MAX);
            let what = format!("{found} bytes, but {DESCRIPTION} says {expected}");
            return Err(DataError::BadTokens { path: path.to_path_buf(), what });
        }
        if found == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the mapping is read-only, and the file was renamed into place when it was whole;
        // nothing of ours writes to it again. Bytes are only ever read as integers, for which
        // every bit pattern is valid.
        let map = unsafe { Mmap::map(&file) }.map_err(io_error("map", path))?;
        Ok(Self(Some(map)))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

fn part_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.part"))
}

fn build_files(
    corpus: &Corpus,
    encoding: &Encoding<'_>,
    folder: &Path,
    context: usize,
    pool: &Pool,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), DataError> {
    // An earlier description must not vouch for the new files.
    match fs::remove_file(folder.join(DESCRIPTION)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io_error("remove", &folder.join(DESCRIPTION))(error));
        }
        _ => {}
    }
    let wide = encoding.vocab_size > 1 << 16;
    let mut train = Sink::create(part_path(folder, TRAIN), wide)?;
    let mut validation = Sink::create(part_path(folder, VALIDATION), wide)?;
    for sink in [&mut train, &mut validation] {
        sink.put(&[encoding.end_of_text])?;
    }
    let total = corpus.total_bytes();
    let mut pieces = corpus.pieces();
    let mut encoders: Vec<_> = (0..pool.threads()).map(|_| (encoding.new_encoder)()).collect();
    let (mut documents, mut text_bytes) = (0, 0);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(DataError::Stopped);
        }
        progress(pieces.bytes_read().min(total), total);
        let batch = next_batch(&mut pieces)?;
        if batch.is_empty() {
            break;
        }
        for (piece, ids) in batch.iter().zip(encode_all(pool, &batch, &mut encoders)?) {
            let sink = if is_held_out(piece.document) { &mut validation } else { &mut train };
            sink.put(&ids)?;
            text_bytes += piece.text.len() as u64;
            if piece.ends_document {
                sink.put(&[encoding.end_of_text])?;
                documents += 1;
            }
        }
    }
    if documents == 0 {
        let why = "only white space".to_owned();
        return Err(DataError::NoText { searched: corpus.describe(), why });
    }
    progress(total, total);

    let mut held_out_tail = 0;
    let all = train.tokens + validation.tokens;
    let part = validation.tokens as f64 / all as f64;
    let window = context as u64 + 1;
    if !(LEAST_HELD_OUT..=MOST_HELD_OUT).contains(&part) || validation.tokens < window {
        // What was held out goes to the end, of which a tenth becomes validation.
        train.append(&mut validation)?;
        held_out_tail = (train.tokens / TAIL).max(window).min(train.tokens);
    }
    let (n_train, n_validation) = if held_out_tail == 0 {
        (train.tokens, validation.tokens)
    } else {
        (train.tokens - held_out_tail, held_out_tail)
    };
    for (part, found) in [("training", n_train), ("validation", n_validation)] {
        if found < window {
            return Err(DataError::TooFewTokens { part, found, context });
        }
    }
    let description = Description {
        bits: if wide { 32 } else { 16 },
        vocab_size: encoding.vocab_size,
        train_tokens: train.tokens,
        validation_tokens: validation.tokens,
        held_out_tail,
        documents,
        text_bytes,
        fingerprint: train.fingerprint ^ validation.fingerprint.rotate_left(1),
    };
    train.finish(&folder.join(TRAIN))?;
    validation.finish(&folder.join(VALIDATION))?;
    sync_folder(folder).map_err(io_error("write", folder))?;
    let path = folder.join(DESCRIPTION);
    write_json(&path, &description).map_err(io_error("write", &path))
}

/// True for 1 document in [`HELD_OUT`], whatever its text.
fn is_held_out(document: u64) -> bool {
    Rng::at(0x68656c64, document).next_u64().is_multiple_of(HELD_OUT)
}

fn encode_all(
    pool: &Pool,
    batch: &[Piece],
    encoders: &mut [Encoder<'_>],
) -> Result<Vec<Vec<u32>>, DataError> {
    let parts = for_parts(pool, batch, encoders, |encode, part| {
        let encode_piece = |piece: &Piece| {
            let mut ids = Vec::with_capacity(piece.text.len() / 2);
            match encode(&piece.text, &mut ids) {
                Ok(()) => Ok(ids),
                Err(why) => Err(DataError::Tokenizer { document: piece.document, why }),
            }
        };
        part.iter().map(encode_piece).collect::<Result<Vec<_>, _>>()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// A token file while it is written.
struct Sink {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: Vec<u8>,
    wide: bool,
    tokens: u64,
    fingerprint: u64,
}

impl Sink {
    fn create(path: PathBuf, wide: bool) -> Result<Self, DataError> {
        // Readable, because a small one is appended to the other.
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = BufWriter::with_capacity(1 << 18, file.map_err(io_error("create", &path))?);
        Ok(Self { path, file, bytes: Vec::new(), wide, tokens: 0, fingerprint: 0 })
    }

    fn put(&mut self, ids: &[u32]) -> Result<(), DataError> {
        self.bytes.clear();
        for &id in ids {
            self.fingerprint = (self.fingerprint ^ u64::from(id)).wrapping_mul(0x0100_0000_01b3);
            if self.wide {
                self.bytes.extend(id.to_le_bytes());
            } else {
                self.bytes.extend((id as u16).to_le_bytes());
            }
        }
        self.tokens += ids.len() as u64;
        self.file.write_all(&self.bytes).map_err(io_error("write", &self.path))
    }

    /// Moves all of `other` to this one's end.
    fn append(&mut self, other: &mut Self) -> Result<(), DataError> {
        use std::io::{Seek, SeekFrom};
        let read = io_error("read", &other.path);
        let write = io_error("write", &self.path);
        other.file.flush().map_err(io_error("write", &other.path))?;
        let file = other.file.get_mut();
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        std::io::copy(file, &mut self.file).map_err(write)?;
        let emptied = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
        emptied.map_err(io_error("write", &other.path))?;
        self.tokens += std::mem::take(&mut other.tokens);
        self.fingerprint ^= std::mem::take(&mut other.fingerprint).rotate_left(2);
        Ok(())
    }

    fn finish(mut self, target: &Path) -> Result<(), DataError> {
        self.file.flush().map_err(io_error("write", &self.path))?;
        self.file.get_ref().sync_all().map_err(io_error("write", &self.path))?;
        fs::rename(&self.path, target).map_err(io_error("write", target))
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
