//! A GGUF file's header: key-value pairs and tensor entries, checked against the file's length.
//!
//! Nothing is copied but names: arrays stay in the file until they are asked for, so memory is
//! bounded by the number of keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::quants::{GgmlType, name_of};
use crate::bytes::Reader;
use crate::error::Error;
use crate::source::{Bytes, Element, TensorSource, map};

/// Longer names are no names.
const MAX_NAME: usize = 1 << 16;

/// A key's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// `len` elements of type `element`, the first of them `at` that byte of the file.
    Array {
        element: u32,
        len: usize,
        at: usize,
    },
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Innermost first.
    pub(crate) dims: Vec<usize>,
    kind: GgmlType,
    at: usize,
    len: usize,
}

/// A mapped file with its header.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    bytes: Bytes,
    /// Key → (value type, offset of the value).
    keys: BTreeMap<String, (u32, usize)>,
    pub(crate) tensors: BTreeMap<String, Entry>,
}

/// Bytes of a scalar of this type; `None` for strings, arrays and what is unknown.
const fn scalar_size(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl File {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let bytes = map(path)?;
        let (keys, tensors) = read_header(path, &bytes)?;
        Ok(Self { path: path.to_path_buf(), bytes, keys, tensors })
    }

    /// An error about a key.
    pub(crate) fn key_error(&self, key: &str, expected: impl Into<String>) -> Error {
        let found = match self.get(key) {
            None => "missing".into(),
            Some(Value::Unsigned(value)) => value.to_string(),
            Some(Value::Signed(value)) => value.to_string(),
            Some(Value::Float(value)) => value.to_string(),
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Text(text)) => format!("{:?}", text.chars().take(60).collect::<String>()),
            Some(Value::Array { len, .. }) => format!("an array of {len}"),
        };
        Error::Key { path: self.path.clone(), key: key.into(), expected: expected.into(), found }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Value<'_>> {
        let &(kind, at) = self.keys.get(key)?;
        // The header was read through once: reading it again can't fail.
        read_value(&mut Reader::new(&self.path, &self.bytes, at), key, kind).ok()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    pub(crate) fn integer(&self, key: &str, max: u32) -> Result<Option<u32>, Error> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(value)) => u32::try_from(value).ok(),
            Some(Value::Signed(value)) => u32::try_from(value).ok(),
            Some(_) => None,
        };
        let number = number.filter(|number| *number <= max);
        number.map(Some).ok_or_else(|| self.key_error(key, format!("an integer up to {max}")))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f32>, Error> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Float(value)) => Some(value as f32).filter(|value| value.is_finite()),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.key_error(key, "a finite float"))
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.key_error(key, "true or false")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.key_error(key, "a string")),
        }
    }

    /// An array of strings. Old writers put raw bytes there: they need not be UTF-8.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&[u8]>>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array { element: 8, len, at }) => {
                let mut reader = Reader::new(&self.path, &self.bytes, at);
                let mut texts = Vec::with_capacity(len);
                for _ in 0..len {
                    let length = reader.length(key)?;
                    texts.push(reader.take(length, key)?);
                }
                Ok(Some(texts))
            }
            Some(_) => Err(self.key_error(key, "an array of strings")),
        }
    }

    /// An array of 32-bit numbers (or bytes) as their bits: element type and values.
    pub(crate) fn words(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array { element: 4..=6, len, at }) => {
                let mut reader = Reader::new(&self.path, &self.bytes, at);
                (0..len).map(|_| reader.u32(key)).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(self.key_error(key, "an array of 32-bit numbers")),
        }
    }

    /// A tensor of this shape (`[rows, cols]`, or a vector of `cols`).
    pub(crate) fn tensor(&self, name: &str, rows: Option<usize>, cols: usize) -> Result<TensorSource, Error> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(Error::MissingTensor { path: self.path.clone(), tensor: name.into() });
        };
        let expected = match rows {
            Some(rows) => vec![cols, rows],
            None => vec![cols],
        };
        // A dimension of 1 is often left out at the end.
        let trimmed = |dims: &[usize]| {
            let kept = dims.iter().rposition(|dim| *dim != 1).map_or(1, |last| last + 1);
            dims.get(..kept).unwrap_or(dims).to_vec()
        };
        if trimmed(&entry.dims) != trimmed(&expected) {
            let (path, found) = (self.path.clone(), entry.dims.clone());
            return Err(Error::Shape { path, tensor: format!("{name} (innermost first)"), found, expected });
        }
        let rows = rows.unwrap_or(1);
        Ok(match entry.kind {
            GgmlType::F32 => TensorSource::mapped(rows, cols, &self.bytes, entry.at, Element::F32),
            GgmlType::F16 => TensorSource::mapped(rows, cols, &self.bytes, entry.at, Element::F16),
            GgmlType::Bf16 => TensorSource::mapped(rows, cols, &self.bytes, entry.at, Element::Bf16),
            kind => TensorSource::ggml(rows, cols, &self.bytes, entry.at, kind),
        })
    }

    /// True if both tensors are there and are the same bytes.
    pub(crate) fn same(&self, a: &str, b: &str) -> bool {
        match (self.tensors.get(a), self.tensors.get(b)) {
            (Some(a), Some(b)) => {
                let bytes = |entry: &Entry| &self.bytes[entry.at..entry.at + entry.len];
                a.kind == b.kind && a.dims == b.dims && bytes(a) == bytes(b)
            }
            _ => false,
        }
    }
}

type Header = (BTreeMap<String, (u32, usize)>, BTreeMap<String, Entry>);

fn read_header(path: &Path, bytes: &[u8]) -> Result<Header, Error> {
    let mut reader = Reader::new(path, bytes, 0);
    if reader.take(4, "the magic")? != b"GGUF" {
        return Err(Error::malformed(path, "does not begin with GGUF"));
    }
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        let hint = if (2..=3).contains(&version.swap_bytes()) { " (a big-endian file?)" } else { "" };
        return Err(Error::unsupported(
            path,
            format!("GGUF version {version}{hint} is not read, only 2 and 3"),
        ));
    }
    let n_tensors = reader.length("the number of tensors")?;
    let n_keys = reader.length("the number of keys")?;
    // A tensor takes at least 33 bytes and a key 13: more than fit are refused before any is read.
    for (what, count, least) in [("tensors", n_tensors, 33), ("keys", n_keys, 13)] {
        if count > reader.left() / least {
            let left = reader.left();
            return Err(Error::malformed(
                path,
                format!("claims {count} {what}, but only {left} bytes follow"),
            ));
        }
    }
    let mut keys = BTreeMap::new();
    for _ in 0..n_keys {
        let name = read_name(&mut reader, "a key")?;
        let kind = reader.u32(&name)?;
        let at = reader.at();
        read_value(&mut reader, &name, kind)?;
        if keys.insert(name.clone(), (kind, at)).is_some() {
            return Err(Error::malformed(path, format!("key `{name}` is there twice")));
        }
    }
    let mut listed = Vec::new();
    for _ in 0..n_tensors {
        let name = read_name(&mut reader, "a tensor's name")?;
        let n_dims = reader.u32(&name)?;
        if !(1..=4).contains(&n_dims) {
            return Err(Error::malformed(
                path,
                format!("tensor `{name}` has {n_dims} dimensions, 1 to 4 are possible"),
            ));
        }
        let dims = (0..n_dims).map(|_| reader.length(&name)).collect::<Result<Vec<_>, _>>()?;
        let number = reader.u32(&name)?;
        let offset = reader.length(&name)?;
        listed.push((name, dims, number, offset));
    }
    let alignment = match keys.get("general.alignment") {
        None => 32,
        Some(&(4, at)) => Reader::new(path, bytes, at).u32("general.alignment")? as usize,
        Some(_) => 0,
    };
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        return Err(Error::malformed(
            path,
            format!("general.alignment is {alignment}, must be a power of two"),
        ));
    }
    let data_at = reader.at().next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, dims, number, offset) in listed {
        let entry = place(path, bytes.len(), data_at, (&name, dims, number, offset))?;
        if tensors.insert(name.clone(), entry).is_some() {
            return Err(Error::malformed(path, format!("tensor `{name}` is there twice")));
        }
    }
    Ok((keys, tensors))
}

fn place(
    path: &Path,
    file_len: usize,
    data_at: usize,
    (name, dims, number, offset): (&str, Vec<usize>, u32, usize),
) -> Result<Entry, Error> {
    let Some(kind) = GgmlType::from_u32(number) else {
        let reason = format!(
            "tensor `{name}` has type {number} ({}); read are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K",
            name_of(number)
        );
        return Err(Error::unsupported(path, reason));
    };
    let (block, bytes) = (kind.block(), kind.bytes());
    if !dims[0].is_multiple_of(block) {
        let reason =
            format!("tensor `{name}` has rows of {}, no multiple of {}'s {block}", dims[0], kind.name());
        return Err(Error::malformed(path, reason));
    }
    let numbers = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
    let len = numbers.and_then(|numbers| (numbers / block).checked_mul(bytes));
    let at = data_at.checked_add(offset);
    match (len, at, at.zip(len).and_then(|(at, len)| at.checked_add(len))) {
        (Some(len), Some(at), Some(end)) if end <= file_len => Ok(Entry { dims, kind, at, len }),
        _ => Err(Error::malformed(
            path,
            format!(
                "tensor `{name}` {dims:?} of type {} at offset {offset} does not end in the file's {file_len} bytes",
                kind.name()
            ),
        )),
    }
}

fn read_name(reader: &mut Reader<'_>, what: &str) -> Result<String, Error> {
    let at = reader.at();
    let length = reader.length(what)?;
    if length > MAX_NAME {
        return Err(
            reader.error(format!("{what} at byte {at} has {length} bytes, at most {MAX_NAME} are possible"))
        );
    }
    let bytes = reader.take(length, what)?;
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| reader.error(format!("{what} at byte {at} is not UTF-8")))
}

/// Reads a value, passing over an array's elements.
fn read_value<'a>(reader: &mut Reader<'a>, key: &str, kind: u32) -> Result<Value<'a>, Error> {
    let at = reader.at();
    let scalar = |reader: &mut Reader<'a>, size: usize| -> Result<u64, Error> {
        let bytes = reader.take(size, key)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    Ok(match kind {
        0 => Value::Unsigned(scalar(reader, 1)?),
        1 => Value::Signed(i64::from(scalar(reader, 1)? as i8)),
        2 => Value::Unsigned(scalar(reader, 2)?),
        3 => Value::Signed(i64::from(scalar(reader, 2)? as i16)),
        4 => Value::Unsigned(scalar(reader, 4)?),
        5 => Value::Signed(i64::from(scalar(reader, 4)? as i32)),
        6 => Value::Float(f64::from(f32::from_bits(scalar(reader, 4)? as u32))),
        7 => match scalar(reader, 1)? {
            value @ 0..=1 => Value::Bool(value == 1),
            value => {
                return Err(
                    reader.error(format!("key `{key}` at byte {at} is the bool {value}, expected 0 or 1"))
                );
            }
        },
        8 => {
            let length = reader.length(key)?;
            let bytes = reader.take(length, key)?;
            let text = std::str::from_utf8(bytes);
            Value::Text(text.map_err(|_| reader.error(format!("key `{key}` at byte {at} is not UTF-8")))?)
        }
        9 => {
            let element = reader.u32(key)?;
            let len = reader.length(key)?;
            let begin = reader.at();
            if let Some(size) = scalar_size(element) {
                reader.take(len.saturating_mul(size), key)?;
            } else if element == 8 {
                if len > reader.left() / 8 {
                    let left = reader.left();
                    return Err(reader
                        .error(format!("key `{key}` claims {len} strings, but only {left} bytes follow")));
                }
                for _ in 0..len {
                    let length = reader.length(key)?;
                    reader.take(length, key)?;
                }
            } else {
                return Err(reader.error(format!(
                    "key `{key}` at byte {at} is an array of type {element}, which is not read"
                )));
            }
            Value::Array { element, len, at: begin }
        }
        10 => Value::Unsigned(scalar(reader, 8)?),
        11 => Value::Signed(scalar(reader, 8)? as i64),
        12 => Value::Float(f64::from_bits(scalar(reader, 8)?)),
        other => {
            return Err(
                reader.error(format!("key `{key}` at byte {at} has value type {other}, known are 0 to 12"))
            );
        }
    })
}
