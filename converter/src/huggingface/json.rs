//! Typed access to JSON files that anyone may have written: every refusal names file and key.

use core::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, io_at};

/// Larger configuration files are not configuration files.
const MAX_BYTES: u64 = 64 << 20;

/// Reads and parses a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value, Error> {
    let length = std::fs::metadata(path).map_err(io_at(path))?.len();
    if length > MAX_BYTES {
        let reason = format!("has {length} bytes, a JSON file may have {MAX_BYTES}");
        return Err(Error::malformed(path, reason));
    }
    let bytes = std::fs::read(path).map_err(io_at(path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

/// An object of a JSON file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    path: &'a Path,
    /// What stands before a key of this object in messages, with its dot.
    prefix: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The file's root, which must be an object.
    pub(crate) fn root(path: &'a Path, value: &'a Value) -> Result<Self, Error> {
        match value {
            Value::Object(map) => Ok(Self { path, prefix: "", map }),
            other => {
                Err(Error::malformed(path, format!("the root is {}, expected an object", describe(other))))
            }
        }
    }

    /// The value of a key; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// True if the key is there, even if it is null.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// An error that names a key of this object.
    pub(crate) fn error(&self, key: &str, expected: impl Into<String>) -> Error {
        Error::Key {
            path: self.path.to_path_buf(),
            key: format!("{}{key}", self.prefix),
            expected: expected.into(),
            found: self.map.get(key).map_or_else(|| "missing".into(), describe),
        }
    }

    pub(crate) fn integer(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .map(Some)
            .ok_or_else(|| self.error(key, format!("an integer from {} to {}", range.start(), range.end())))
    }

    /// A finite number that is at least `least`.
    pub(crate) fn float(&self, key: &str, least: f32) -> Result<Option<f32>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().map(|number| number as f32);
        number
            .filter(|number| number.is_finite() && *number >= least)
            .map(Some)
            .ok_or_else(|| self.error(key, format!("a number of at least {least}")))
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.error(key, "true or false"))
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.error(key, "a string"))
    }

    pub(crate) fn object(&self, key: &str, prefix: &'a str) -> Result<Option<Object<'a>>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Object { path: self.path, prefix, map })),
            Some(_) => Err(self.error(key, "an object")),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }
}

/// A value as an error message shows it: never longer than a line.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(map) => format!("an object of {} keys", map.len()),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{:?}…", text.chars().take(60).collect::<String>())
        }
        other => other.to_string(),
    }
}
