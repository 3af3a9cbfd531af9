//! Reading numbers from bytes that anyone may have written: every refusal names file and offset.

use std::path::Path;

use crate::error::Error;

/// A place in a file's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

macro_rules! numbers {
    ($($name:ident: $type:ty;)*) => {
        $(pub(crate) fn $name(&mut self, what: &str) -> Result<$type, Error> {
            let bytes = self.take(size_of::<$type>(), what)?;
            Ok(<$type>::from_le_bytes(bytes.try_into().expect("as many bytes as were asked for")))
        })*
    };
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(path: &'a Path, bytes: &'a [u8], at: usize) -> Self {
        Self { path, bytes, at }
    }

    /// Where the next byte comes from.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Bytes behind this place.
    pub(crate) const fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next `len` bytes; `what` says for whom.
    pub(crate) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            let (at, has) = (self.at, self.bytes.len());
            return Err(self.error(format!("{what} at byte {at} needs {len} bytes, but the file has {has}")));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    numbers! {
        u32: u32;
        u64: u64;
    }

    /// A length that memory could hold.
    pub(crate) fn length(&mut self, what: &str) -> Result<usize, Error> {
        let value = self.u64(what)?;
        usize::try_from(value).map_err(|_| self.error(format!("{what} is {value}")))
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        Error::malformed(self.path, reason)
    }
}
