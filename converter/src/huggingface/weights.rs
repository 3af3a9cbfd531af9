//! Tensors of a directory by name: one safetensors file, or shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::config::MlxGroups;
use super::json::{Object, read_json};
use crate::error::Error;
use crate::pytorch;
use crate::source::{Bytes, Element, TensorSource, map};

struct Entry {
    file: usize,
    at: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// The tensors of a checkpoint, and which of them were asked for.
pub(crate) struct Weights {
    directory: PathBuf,
    files: Vec<(PathBuf, Bytes)>,
    entries: BTreeMap<String, Entry>,
    used: BTreeSet<String>,
    /// Stands before the names of the transformer's own tensors; many exporters leave it out.
    prefix: &'static str,
    mlx: Option<MlxGroups>,
}

impl Weights {
    /// Opens `model.safetensors`, or what `model.safetensors.index.json` lists; or else
    /// `pytorch_model.bin`, or what `pytorch_model.bin.index.json` lists.
    pub(crate) fn open(
        directory: &Path,
        prefix: &'static str,
        mlx: Option<MlxGroups>,
    ) -> Result<Self, Error> {
        let mut weights = Self {
            directory: directory.to_path_buf(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            used: BTreeSet::new(),
            prefix,
            mlx,
        };
        let single = directory.join("model.safetensors");
        let index = directory.join("model.safetensors.index.json");
        let pickled = directory.join("pytorch_model.bin");
        let pickled_index = directory.join("pytorch_model.bin.index.json");
        if single.exists() {
            weights.add_file(single)?;
        } else if index.exists() {
            for name in shards(&index)? {
                weights.add_file(directory.join(name))?;
            }
        } else if pickled.exists() {
            weights.add_pickle(pickled)?;
        } else if pickled_index.exists() {
            for name in shards(&pickled_index)? {
                weights.add_pickle(directory.join(name))?;
            }
        } else {
            let reason = "has neither model.safetensors nor pytorch_model.bin, nor an index of either";
            return Err(Error::unsupported(directory, reason));
        }
        Ok(weights)
    }

    fn add_file(&mut self, path: PathBuf) -> Result<(), Error> {
        let bytes = map(&path)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| {
            let len = bytes.len();
            let claimed = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
            let reason = format!(
                "not a valid safetensors file: {error} (its first 8 bytes claim {claimed} bytes of header, it has {len} in all)"
            );
            Error::malformed(&path, reason)
        })?;
        for (name, info) in metadata.tensors() {
            let entry = Entry {
                file: self.files.len(),
                at: 8 + header + info.data_offsets.0,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            self.add(&path, pytorch::unwrapped(&name).into(), entry)?;
        }
        self.files.push((path, bytes));
        Ok(())
    }

    fn add(&mut self, path: &Path, name: String, entry: Entry) -> Result<(), Error> {
        let text = format!("tensor `{name}` is also in ");
        match self.entries.insert(name, entry) {
            Some(first) => {
                // The file that is being read is not in the list yet.
                let other = self.files.get(first.file).map_or(path, |(other, _)| other);
                Err(Error::malformed(path, text + &other.display().to_string()))
            }
            None => Ok(()),
        }
    }

    fn add_pickle(&mut self, path: PathBuf) -> Result<(), Error> {
        let archive = pytorch::Archive::open(&path)?;
        for (name, pytorch::Entry { at, number, shape }) in archive.state_dict()? {
            let dtype = match number {
                pytorch::Number::F32 => Dtype::F32,
                pytorch::Number::F16 => Dtype::F16,
                pytorch::Number::Bf16 => Dtype::BF16,
                pytorch::Number::Other("F64", _) => Dtype::F64,
                pytorch::Number::Other(..) => Dtype::I64,
            };
            self.add(&path, name, Entry { file: self.files.len(), at, dtype, shape })?;
        }
        self.files.push((path, archive.bytes));
        Ok(())
    }

    /// The full name of a tensor, with the prefix or without, whichever there is.
    fn full_name(&self, name: &str) -> String {
        let prefixed = format!("{}{name}", self.prefix);
        if !self.entries.contains_key(&prefixed) && self.entries.contains_key(name) {
            name.into()
        } else {
            prefixed
        }
    }

    /// A `[rows, cols]` matrix.
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<TensorSource, Error> {
        let full = self.full_name(name);
        if let (Some(groups), Some(Entry { dtype: Dtype::U32, .. })) = (self.mlx, self.entries.get(&full)) {
            return self.mlx_matrix(name, &full, rows, cols, groups);
        }
        self.floats(full, &[rows, cols])
    }

    /// The output projection, which stands outside the prefix.
    pub(crate) fn head(&mut self, name: &str, rows: usize, cols: usize) -> Result<TensorSource, Error> {
        let prefix = core::mem::take(&mut self.prefix);
        let head = self.matrix(name, rows, cols);
        self.prefix = prefix;
        head
    }

    /// A vector of `len` numbers, as one row.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<TensorSource, Error> {
        self.floats(self.full_name(name), &[len])
    }

    fn floats(&mut self, name: String, shape: &[usize]) -> Result<TensorSource, Error> {
        let (bytes, at, dtype) = self.take(&name, shape)?;
        let element = self.element(&name, dtype)?;
        let (rows, cols) = if let [rows, cols] = *shape { (rows, cols) } else { (1, shape[0]) };
        Ok(TensorSource::mapped(rows, cols, &bytes, at, element))
    }

    fn mlx_matrix(
        &mut self,
        name: &str,
        full: &str,
        rows: usize,
        cols: usize,
        MlxGroups { bits, group }: MlxGroups,
    ) -> Result<TensorSource, Error> {
        if !cols.is_multiple_of(group) {
            let path = self.path_of(full);
            let reason = format!("tensor `{full}` has {cols} columns, no multiple of the group size {group}");
            return Err(Error::malformed(&path, reason));
        }
        let (words, words_at, _) = self.take(full, &[rows, cols / (32 / bits as usize)])?;
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let mut scale_type = None;
        let mut part = |kind: &str| {
            let full = self.full_name(&format!("{stem}.{kind}"));
            let (bytes, at, dtype) = self.take(&full, &[rows, cols / group])?;
            let element = self.element(&full, dtype)?;
            if *scale_type.get_or_insert(element) != element {
                let reason = format!("`{full}` has another type than the scales beside it");
                return Err(Error::malformed(&self.path_of(&full), reason));
            }
            Ok((bytes, at))
        };
        let (scales, biases) = (part("scales")?, part("biases")?);
        let element = scale_type.unwrap_or(Element::F32);
        Ok(TensorSource::affine((rows, cols), [(words, words_at), scales, biases], bits, group, element))
    }

    /// Finds a tensor of exactly this shape and notes that it is used.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<(Bytes, usize, Dtype), Error> {
        let Some(entry) = self.entries.get(name) else {
            return Err(Error::MissingTensor { path: self.directory.clone(), tensor: name.into() });
        };
        let (path, bytes) = &self.files[entry.file];
        if entry.shape != shape {
            return Err(Error::Shape {
                path: path.clone(),
                tensor: name.into(),
                found: entry.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        self.used.insert(name.into());
        Ok((bytes.clone(), entry.at, entry.dtype))
    }

    fn element(&self, name: &str, dtype: Dtype) -> Result<Element, Error> {
        match dtype {
            Dtype::F32 => Ok(Element::F32),
            Dtype::F16 => Ok(Element::F16),
            Dtype::BF16 => Ok(Element::Bf16),
            other => Err(Error::TensorType {
                path: self.path_of(name),
                tensor: name.into(),
                found: format!("{other:?}"),
            }),
        }
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.entries
            .get(name)
            .map_or_else(|| self.directory.clone(), |entry| self.files[entry.file].0.clone())
    }

    /// Tensors that nobody asked for: an error if they belong to a layer (the model computes
    /// something that we don't), otherwise their names.
    pub(crate) fn unused(&self, harmless: &[&str]) -> Result<Vec<String>, Error> {
        let unused = self.entries.keys().filter(|name| !self.used.contains(*name));
        let unused: Vec<&String> =
            unused.filter(|name| !harmless.iter().any(|suffix| name.ends_with(suffix))).collect();
        if let Some(name) = unused.iter().find(|name| name.contains("layers.") || name.contains("h.")) {
            let reason = format!("tensor `{name}` has no place in a model of this config.json");
            return Err(Error::unsupported(&self.path_of(name), reason));
        }
        Ok(unused.into_iter().cloned().collect())
    }
}

/// The file names in a shard index. They must be plain names: an index that points out of its
/// directory is refused.
fn shards(index: &Path) -> Result<BTreeSet<String>, Error> {
    let value = read_json(index)?;
    let root = Object::root(index, &value)?;
    let Some(weight_map) = root.object("weight_map", "weight_map.")? else {
        return Err(root.error("weight_map", "an object of tensor names and their files"));
    };
    let mut names = BTreeSet::new();
    for (tensor, _) in weight_map.iter() {
        let name = weight_map.string(tensor)?.unwrap_or_default();
        let mut components = Path::new(name).components();
        let plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
        if !plain || name.contains(['/', '\\', '\0']) {
            return Err(weight_map.error(tensor, "the name of a file beside the index"));
        }
        names.insert(name.to_owned());
    }
    if names.is_empty() {
        return Err(root.error("weight_map", "at least one tensor"));
    }
    Ok(names)
}
