//! A corpus as token ids in files, made once and then mapped into memory.
//!
//! A folder holds `train-00000.bin`, `train-00001.bin`, … and likewise `validation-…` (ids as
//! little-endian u16, or u32 where the vocabulary has more than 65,536 tokens, nothing else; all
//! shards but the last are of one length) and `tokens.json`, which says what they are.
//! `tokens.json` is written last: where it is, the files are whole.

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

/// Tokens in a shard: files that any file system takes and that can be copied one by one.
const SHARD_TOKENS: u64 = if cfg!(test) { 1000 } else { 1 << 28 };

const TRAIN: &str = "train";
const VALIDATION: &str = "validation";
const DESCRIPTION: &str = "tokens.json";

/// `tokens.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// 16 or 32.
    bits: u32,
    vocab_size: u32,
    /// Tokens in all shards of a part but its last.
    shard_tokens: u64,
    /// Tokens in `train-….bin`; those of `held_out_tail` are no training data.
    train_tokens: u64,
    /// Tokens in `validation-….bin`.
    validation_tokens: u64,
    /// If not 0, validation is this many tokens at the end of the training shards instead.
    held_out_tail: u64,
    documents: u64,
    /// Bytes of text of all documents.
    text_bytes: u64,
    /// Over all ids in their order; equal for equal data.
    fingerprint: u64,
}

/// Token ids in files, training or validation.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    source: Source<'a>,
    first: usize,
    len: usize,
    wide: bool,
}

/// Where the bytes are.
#[derive(Clone, Copy)]
enum Source<'a> {
    Memory(&'a [u8]),
    /// Shards of so many tokens; the last may have fewer.
    Shards(&'a [Mapped], usize),
}

impl<'a> Tokens<'a> {
    /// Ids in memory instead of a file, as the little-endian bytes of u16 (or u32 if `wide`).
    pub fn from_bytes(bytes: &'a [u8], wide: bool) -> Self {
        let len = bytes.len() / if wide { 4 } else { 2 };
        Self { source: Source::Memory(bytes), first: 0, len, wide }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the ids from `start` on until `out` is full.
    ///
    /// # Panics
    /// If there are too few.
    pub fn copy_to(&self, start: usize, out: &mut [u32]) {
        assert!(start + out.len() <= self.len, "{} tokens from {start} of {}", out.len(), self.len);
        let mut from = self.first + start;
        let mut out = out;
        match self.source {
            Source::Memory(bytes) => self.read(bytes, from, out),
            Source::Shards(shards, per_shard) => {
                while !out.is_empty() {
                    let (shard, at) = (from / per_shard, from % per_shard);
                    let here = out.len().min(per_shard - at);
                    let (now, rest) = out.split_at_mut(here);
                    self.read(shards[shard].bytes(), at, now);
                    (out, from) = (rest, from + here);
                }
            }
        }
    }

    /// Ids from the bytes of one shard.
    fn read(&self, bytes: &[u8], start: usize, out: &mut [u32]) {
        if self.wide {
            let bytes = &bytes[start * 4..(start + out.len()) * 4];
            for (id, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *id = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        } else {
            let bytes = &bytes[start * 2..(start + out.len()) * 2];
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
        assert!(range.end <= self.len, "the first {} of {} tokens", range.end, self.len);
        Self { first: self.first + range.start, len: range.len(), ..*self }
    }
}

/// A tokenized corpus, open for reading.
#[derive(Debug)]
pub struct TokenFiles {
    description: Description,
    train: Vec<Mapped>,
    validation: Vec<Mapped>,
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
                remove_parts(folder);
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
        let per_shard = description.shard_tokens;
        if per_shard == 0 {
            let what = "`shard_tokens` is 0".to_owned();
            return Err(DataError::BadTokens { path, what });
        }
        let map = |name, tokens: u64| {
            (0..tokens.div_ceil(per_shard))
                .map(|shard| {
                    let here = per_shard.min(tokens - shard * per_shard);
                    Mapped::open(&shard_path(folder, name, shard), here.checked_mul(width))
                })
                .collect::<Result<Vec<_>, _>>()
        };
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
            0 => self.tokens(&self.validation, self.description.validation_tokens),
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
        self.tokens(&self.train, self.description.train_tokens)
    }

    fn tokens<'a>(&'a self, shards: &'a [Mapped], len: u64) -> Tokens<'a> {
        let source = Source::Shards(shards, self.description.shard_tokens as usize);
        Tokens { source, first: 0, len: len as usize, wide: self.description.bits == 32 }
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

fn shard_path(folder: &Path, name: &str, shard: u64) -> PathBuf {
    folder.join(format!("{name}-{shard:05}.bin"))
}

fn part_path(folder: &Path, name: &str, shard: u64) -> PathBuf {
    folder.join(format!("{name}-{shard:05}.bin.part"))
}

/// Removes what an interrupted build has left.
fn remove_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "part") {
            let _ = fs::remove_file(entry.path());
        }
    }
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
    let mut train = Sink::create(folder, TRAIN, wide)?;
    let mut validation = Sink::create(folder, VALIDATION, wide)?;
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
        validation = Sink::create(folder, VALIDATION, wide)?;
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
        shard_tokens: SHARD_TOKENS,
        train_tokens: train.tokens,
        validation_tokens: validation.tokens,
        held_out_tail,
        documents,
        text_bytes,
        fingerprint: train.fingerprint ^ validation.fingerprint.rotate_left(1),
    };
    train.finish()?;
    validation.finish()?;
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
            // Growing once is enough for a token a byte.
            let mut ids = Vec::with_capacity(piece.text.len() / 2 + 8);
            match encode(&piece.text, &mut ids) {
                Ok(()) => Ok(ids),
                Err(why) => Err(DataError::Tokenizer { document: piece.document, why }),
            }
        };
        part.iter().map(encode_piece).collect::<Result<Vec<_>, _>>()
    });
    // Moved, not copied: of characters there are four bytes of ids for one of text.
    let mut all = Vec::with_capacity(batch.len());
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

/// A part's token files while they are written.
struct Sink {
    folder: PathBuf,
    name: &'static str,
    /// The shard that is open, and the tokens in it.
    shard: u64,
    filled: u64,
    file: BufWriter<File>,
    bytes: Vec<u8>,
    wide: bool,
    tokens: u64,
    fingerprint: u64,
}

impl Sink {
    fn create(folder: &Path, name: &'static str, wide: bool) -> Result<Self, DataError> {
        let file = Self::open(folder, name, 0)?;
        let folder = folder.to_path_buf();
        let (shard, filled, tokens, fingerprint) = (0, 0, 0, 0);
        Ok(Self { folder, name, shard, filled, file, bytes: Vec::new(), wide, tokens, fingerprint })
    }

    fn open(folder: &Path, name: &str, shard: u64) -> Result<BufWriter<File>, DataError> {
        let path = part_path(folder, name, shard);
        let file = File::create(&path).map_err(io_error("create", &path))?;
        Ok(BufWriter::with_capacity(1 << 18, file))
    }

    fn path(&self) -> PathBuf {
        part_path(&self.folder, self.name, self.shard)
    }

    fn put(&mut self, ids: &[u32]) -> Result<(), DataError> {
        for &id in ids {
            self.fingerprint = (self.fingerprint ^ u64::from(id)).wrapping_mul(0x0100_0000_01b3);
        }
        self.write(ids)
    }

    fn write(&mut self, mut ids: &[u32]) -> Result<(), DataError> {
        self.tokens += ids.len() as u64;
        while !ids.is_empty() {
            if self.filled == SHARD_TOKENS {
                self.close()?;
                self.file = Self::open(&self.folder, self.name, self.shard + 1)?;
                (self.shard, self.filled) = (self.shard + 1, 0);
            }
            let room = (SHARD_TOKENS - self.filled).min(ids.len() as u64);
            let (now, rest) = ids.split_at(room as usize);
            self.bytes.clear();
            if self.wide {
                now.iter().for_each(|id| self.bytes.extend(id.to_le_bytes()));
            } else {
                now.iter().for_each(|&id| self.bytes.extend((id as u16).to_le_bytes()));
            }
            self.file.write_all(&self.bytes).map_err(io_error("write", &self.path()))?;
            self.filled += room;
            ids = rest;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DataError> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(io_error("write", &self.path()))
    }

    /// Moves all of `other` to this one's end.
    fn append(&mut self, other: &mut Self) -> Result<(), DataError> {
        other.close()?;
        let width = if self.wide { 4 } else { 2 };
        for shard in 0..=other.shard {
            let path = part_path(&other.folder, other.name, shard);
            let here = SHARD_TOKENS.min(other.tokens - shard * SHARD_TOKENS);
            let mapped = Mapped::open(&path, Some(here * width))?;
            let all = Tokens::from_bytes(mapped.bytes(), self.wide);
            let mut ids = vec![0; all.len().min(1 << 16)];
            for start in (0..all.len()).step_by(1 << 16) {
                let ids = &mut ids[..(all.len() - start).min(1 << 16)];
                all.copy_to(start, ids);
                self.write(ids)?;
            }
            drop(mapped);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        self.fingerprint ^= other.fingerprint.rotate_left(2);
        Ok(())
    }

    /// Gives the files their names; one without tokens goes.
    fn finish(mut self) -> Result<(), DataError> {
        self.close()?;
        for shard in 0..=self.shard {
            let part = part_path(&self.folder, self.name, shard);
            if self.tokens == 0 {
                fs::remove_file(&part).map_err(io_error("remove", &part))?;
            } else {
                let target = shard_path(&self.folder, self.name, shard);
                fs::rename(&part, &target).map_err(io_error("write", &target))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
