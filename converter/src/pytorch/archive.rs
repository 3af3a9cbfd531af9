//! A `.pt` or `.bin` file: its pickle, and where each tensor's numbers lie.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::pickle::{Number, Pickle, Tensor, Value};
use super::{legacy, zip};
use crate::error::Error;
use crate::source::{Bytes, Element, TensorSource, map};

/// A larger description is no description of tensors.
pub(super) const MAX_PICKLE: usize = 64 << 20;

/// A tensor's name without what `torch.compile` and data parallel training put before it.
pub(crate) fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix("_orig_mod.").or_else(|| name.strip_prefix("module.")) {
        name = rest;
    }
    name
}

/// A tensor of the archive: it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: usize,
    pub(crate) number: Number,
    pub(crate) shape: Vec<usize>,
}

/// A mapped archive.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Bytes,
    entries: BTreeMap<String, Range<usize>>,
    /// `NAME/`, which stands before all entries' names.
    root: String,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let bytes = map(path)?;
        let entries = match bytes.starts_with(b"PK") {
            true => zip::entries(path, &bytes)?,
            false => legacy::entries(path, &bytes)?,
        };
        let mut roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let root = match (roots.next(), roots.next()) {
            (Some(root), None) => root.to_owned(),
            _ => {
                return Err(Error::unsupported(
                    path,
                    "a zip archive that torch.save did not write (no data.pkl)",
                ));
            }
        };
        let archive = Self { path: path.to_path_buf(), bytes, entries, root };
        let order = archive.entry("byteorder");
        if order.is_some_and(|range| !archive.bytes[range].starts_with(b"little")) {
            return Err(Error::unsupported(path, "its numbers are big-endian"));
        }
        Ok(archive)
    }

    fn entry(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(&format!("{}{name}", self.root)).cloned()
    }

    /// Reads the pickle.
    pub(super) fn pickle(&self) -> Result<Pickle<'_>, Error> {
        let range = self.entry("data.pkl").unwrap_or_default();
        if range.len() > MAX_PICKLE {
            let reason = format!("data.pkl has {} bytes, at most {MAX_PICKLE} are read", range.len());
            return Err(Error::malformed(&self.path, reason));
        }
        Pickle::read(&self.path, &self.bytes[range.clone()], range.start)
    }

    /// Every tensor of a dictionary, by name; what wrappers put before names is left out.
    pub(super) fn tensors(
        &self,
        pickle: &Pickle<'_>,
        dict: Value<'_>,
    ) -> Result<BTreeMap<String, Entry>, Error> {
        let mut tensors = BTreeMap::new();
        for (key, value) in pickle.pairs(dict).unwrap_or_default() {
            let (Value::Text(name), Some(tensor)) = (key, pickle.tensor(*value)) else { continue };
            let name = unwrapped(name);
            tensors.insert(name.to_owned(), self.place(name, tensor)?);
        }
        Ok(tensors)
    }

    fn place(&self, name: &str, tensor: &Tensor<'_>) -> Result<Entry, Error> {
        let bad = |reason: String| Error::malformed(&self.path, format!("tensor `{name}`: {reason}"));
        let key = tensor.key;
        let range =
            self.entry(&format!("data/{key}")).ok_or_else(|| bad(format!("there is no data/{key}")))?;
        let size = tensor.number.size();
        if tensor.storage_len.checked_mul(size).is_none_or(|len| len > range.len()) {
            return Err(bad(format!(
                "data/{key} has {} bytes, {} numbers of {size} are claimed",
                range.len(),
                tensor.storage_len
            )));
        }
        let numbers = tensor.shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
        let end = numbers.and_then(|numbers| numbers.checked_add(tensor.offset));
        if end.is_none_or(|end| end > tensor.storage_len) {
            let Tensor { shape, offset, storage_len, .. } = tensor;
            return Err(bad(format!(
                "{shape:?} from number {offset} on does not lie in its storage of {storage_len}"
            )));
        }
        let mut expected = 1;
        for (dim, stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
            if *dim != 1 && *stride != expected {
                let Tensor { shape, strides, .. } = tensor;
                let reason =
                    format!("{shape:?} is stored with strides {strides:?}; save it with .contiguous()");
                return Err(Error::unsupported(&self.path, format!("tensor `{name}`: {reason}")));
            }
            expected *= dim;
        }
        Ok(Entry {
            at: range.start + tensor.offset * size,
            number: tensor.number,
            shape: tensor.shape.clone(),
        })
    }

    /// A tensor's numbers, of exactly this shape.
    pub(super) fn source(&self, name: &str, entry: &Entry, shape: &[usize]) -> Result<TensorSource, Error> {
        if entry.shape != shape {
            let (path, found) = (self.path.clone(), entry.shape.clone());
            return Err(Error::Shape { path, tensor: name.into(), found, expected: shape.to_vec() });
        }
        let element = match entry.number {
            Number::F32 => Element::F32,
            Number::F16 => Element::F16,
            Number::Bf16 => Element::Bf16,
            Number::Other(found, _) => {
                let (path, found) = (self.path.clone(), found.into());
                return Err(Error::TensorType { path, tensor: name.into(), found });
            }
        };
        let (rows, cols) = if let [rows, cols] = *shape { (rows, cols) } else { (1, shape[0]) };
        Ok(TensorSource::mapped(rows, cols, &self.bytes, entry.at, element))
    }

    /// A plain dictionary of tensors, as `pytorch_model.bin` is one.
    pub(crate) fn state_dict(&self) -> Result<BTreeMap<String, Entry>, Error> {
        let pickle = self.pickle()?;
        let tensors = self.tensors(&pickle, pickle.root)?;
        if tensors.is_empty() {
            return Err(Error::malformed(&self.path, "holds no dictionary of tensors"));
        }
        Ok(tensors)
    }
}
