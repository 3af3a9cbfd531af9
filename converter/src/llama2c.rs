//! Karpathy's llama2.c: `.bin` checkpoints of versions 0 (no magic), 1 (f32) and 2 (i8 groups).
//!
//! The formats are those of `export.py` in <https://github.com/karpathy/llama2.c>. Rotary rows are
//! stored in pairs and read in halves; the epsilon of the norms (1e-5) and the rotary base (10,000)
//! are constants of that program.

use std::path::Path;

use smidgen_runtime::config::{MAX_DIMENSION, MAX_LAYERS};
use smidgen_runtime::format::{Role, RopeScaling};
use smidgen_runtime::{Architecture, Config};

use crate::checkpoint::Checkpoint;
use crate::detect::TokenizerChoice;
use crate::error::Error;
use crate::source::{Bytes, Element, TensorSource, map};

/// `ak42` as `export.py` writes it; other writers put the bytes the other way round.
const MAGIC: u32 = 0x616b_3432;
/// Bytes before the weights in versions 1 and 2.
const HEADER: usize = 256;

/// A file's header, checked against the file's length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    config: Config,
    tied: bool,
    version: u32,
    group: usize,
}

/// True if the bytes begin like versions 1 and later, which have a magic number.
pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && (i32_at(bytes, 0) as u32 == MAGIC || (i32_at(bytes, 0) as u32).swap_bytes() == MAGIC)
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Opens a checkpoint. Unless `tokenizer` says otherwise, its tokenizer is the `tokenizer.bin`
/// beside it, if that has as many tokens.
///
/// # Errors
/// Says which field of the header is out of range, or how many bytes the file should have.
pub fn open(path: &Path, tokenizer: &TokenizerChoice) -> Result<Checkpoint, Error> {
    let bytes = map(path)?;
    let header = Header::read(path, &bytes)?;
    let mut checkpoint = Checkpoint::new(header.config, 10_000.0, RopeScaling::None);
    checkpoint.name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    checkpoint.source = format!("llama2.c checkpoint version {}", header.version);
    for ((layer, role), tensor) in header.tensors(&bytes) {
        checkpoint.tensors.insert((layer, role), tensor);
    }
    let beside = path.with_file_name("tokenizer.bin");
    if !tokenizer.apply(&mut checkpoint)? {
        if !beside.exists() {
            checkpoint.notes.push("there is no tokenizer.bin beside it: the model gets no tokenizer".into());
        } else {
            // It does not say how many tokens it has; one of another size is another model's.
            match crate::tokenizer::llama2c::read_file(&beside, header.config.vocab_size as usize) {
                Ok(spec) => checkpoint.tokenizer = Some(spec),
                Err(error) => checkpoint.notes.push(format!("the tokenizer beside it is not taken: {error}")),
            }
        }
    }
    Ok(checkpoint)
}

impl Header {
    pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let bad = |reason: String| Err(Error::malformed(path, reason));
        let version = if has_magic(bytes) { i32_at(bytes, 4) } else { 0 };
        let (fields_at, header_len) = match version {
            0 => (0, 28),
            1 | 2 => (8, HEADER),
            other => return bad(format!("llama2.c version {other} is not known, only 0, 1 and 2")),
        };
        if bytes.len() < header_len {
            return bad(format!("has {} bytes, a llama2.c header has {header_len}", bytes.len()));
        }
        let field = |index: usize, name: &str, max: u32| {
            let value = i32_at(bytes, fields_at + 4 * index);
            // Version 0 marks a head of its own by a negative vocabulary.
            let size =
                if version == 0 && name == "vocab_size" { value.unsigned_abs() } else { value.max(0) as u32 };
            if (1..=max).contains(&size) {
                return Ok(size);
            }
            let swapped = value.swap_bytes();
            let hint = if (1..=max as i32).contains(&swapped) {
                format!("; with its bytes swapped it is {swapped}: was the file written big-endian?")
            } else {
                String::new()
            };
            let seems = if version == 0 { "no known format; as a " } else { "" };
            let reason = format!("{seems}llama2.c header: {name} is {value}, must be 1 to {max}{hint}");
            Err(Error::malformed(path, reason))
        };
        let dim = field(0, "dim", MAX_DIMENSION)?;
        let ffn_dim = field(1, "hidden_dim", MAX_DIMENSION)?;
        let n_layers = field(2, "n_layers", MAX_LAYERS)?;
        let n_heads = field(3, "n_heads", dim)?;
        let n_kv_heads = field(4, "n_kv_heads", n_heads)?;
        let vocab_size = field(5, "vocab_size", MAX_DIMENSION)?;
        let context_len = field(6, "max_seq_len", MAX_DIMENSION)?;
        if !dim.is_multiple_of(n_heads) {
            return bad(format!("llama2.c header: dim is {dim}, not a multiple of {n_heads} heads"));
        }
        let config = Config {
            architecture: Architecture::Llama,
            n_layers,
            dim,
            n_heads,
            n_kv_heads,
            head_dim: dim / n_heads,
            ffn_dim,
            vocab_size,
            context_len,
            norm_eps: 1e-5,
        };
        config.validate().map_err(|source| Error::Load { path: path.to_path_buf(), source })?;
        let tied = if version == 0 { i32_at(bytes, fields_at + 20) > 0 } else { bytes[36] != 0 };
        let group = if version == 2 { i32_at(bytes, 37) } else { 1 };
        if !(1..=MAX_DIMENSION as i32).contains(&group) {
            return bad(format!("llama2.c header: group size is {group}, must be 1 to {MAX_DIMENSION}"));
        }
        let header = Self { config, tied, version: version as u32, group: group as usize };
        let expected = header.file_len();
        if bytes.len() as u64 != expected {
            let tied = if tied { "shared" } else { "own" };
            return bad(format!(
                "has {} bytes, but a llama2.c version {version} model of dim {dim}, hidden {ffn_dim}, {n_layers} layers, \
                 {n_heads} heads, {n_kv_heads} kv heads, vocabulary {vocab_size}, context {context_len}, {tied} head has {expected}",
                bytes.len()
            ));
        }
        Ok(header)
    }

    /// Every tensor in the file's order; `None` for version 0's rotary tables.
    fn order(&self) -> Vec<Option<(Role, usize)>> {
        let layers = self.config.n_layers as usize;
        let per_layer = |role| Some((role, layers));
        let once = |role| Some((role, 1));
        let [q, k, v, o] = [Role::Q, Role::K, Role::V, Role::O].map(per_layer);
        let [gate, down, up] = [Role::Gate, Role::Down, Role::Up].map(per_layer);
        let (attn_norm, ffn_norm) = (per_layer(Role::AttnNorm), per_layer(Role::FfnNorm));
        let (embedding, final_norm) = (once(Role::Embedding), once(Role::FinalNorm));
        let mut order = if self.version == 0 {
            vec![embedding, attn_norm, q, k, v, o, ffn_norm, gate, down, up, final_norm, None]
        } else {
            vec![attn_norm, ffn_norm, final_norm, embedding, q, k, v, o, gate, down, up]
        };
        if !self.tied {
            order.push(once(Role::Head));
        }
        order
    }

    fn header_len(&self) -> usize {
        if self.version == 0 { 28 } else { HEADER }
    }

    /// Bytes of one tensor. No dimension exceeds 2^20, so nothing overflows.
    fn bytes_of(&self, role: Role) -> u64 {
        let (rows, cols) = role.shape(&self.config);
        let numbers = rows as u64 * cols as u64;
        if self.version == 2 && !role.is_vector() {
            // Groups are counted over the whole tensor: they go on from row to row, and the last may be
            // shorter.
            numbers + numbers.div_ceil(self.group as u64) * 4
        } else {
            numbers * 4
        }
    }

    /// Bytes of version 0's two tables of sines and cosines.
    fn rotary_tables(&self) -> u64 {
        u64::from(self.config.context_len) * u64::from(self.config.head_dim) * 4
    }

    fn file_len(&self) -> u64 {
        let part = |part: Option<(Role, usize)>| match part {
            Some((role, times)) => self.bytes_of(role) * times as u64,
            None => self.rotary_tables(),
        };
        self.header_len() as u64 + self.order().into_iter().map(part).sum::<u64>()
    }

    /// Sources for all tensors; the file's length has been checked.
    fn tensors(&self, bytes: &Bytes) -> Vec<((u32, Role), TensorSource)> {
        let mut at = self.header_len();
        let mut tensors = Vec::new();
        for part in self.order() {
            let Some((role, times)) = part else {
                at += self.rotary_tables() as usize;
                continue;
            };
            let shape = role.shape(&self.config);
            for layer in 0..times as u32 {
                let tensor = if self.version == 2 && !role.is_vector() {
                    let scales_at = at + shape.0 * shape.1;
                    TensorSource::grouped8(shape, bytes, (at, scales_at), self.group)
                } else {
                    TensorSource::mapped(shape.0, shape.1, bytes, at, Element::F32)
                };
                let rotary = matches!(role, Role::Q | Role::K);
                let head_dim = self.config.head_dim as usize;
                tensors.push(((layer, role), if rotary { tensor.pairs_to_halves(head_dim) } else { tensor }));
                at += self.bytes_of(role) as usize;
            }
        }
        tensors
    }
}

#[cfg(test)]
#[path = "llama2c_tests.rs"]
mod tests;
