//! How much memory a model takes that is not in memory.

use crate::error::LoadError;
use crate::format::{DType, ENTRY_LEN, Outline, Prefix, QUAD, Role, TensorSize, align_up, u32_at, u64_at};

/// How much of a model is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Bytes of the buffer that matrices go through; rounded up to a multiple of 64. [`least_buffer`] is
    /// enough; more is fewer, longer reads. Results do not depend on it.
    pub buffer: usize,
    /// Bytes for matrices that stay in memory: at load as many are copied as fit, in the file's order.
    /// Each saves as many bytes of reading a token as it takes.
    pub hot: usize,
    /// The tokenizer's tables and the model's metadata stay in the file, too (feature `stored-tokenizer`):
    /// an entry is read when it is needed, and ids and texts are the same. For large vocabularies; the
    /// buffer must hold the longest token. Texts come from
    /// [`StreamGenerate::next_text`](super::StreamGenerate::next_text).
    pub stored_tokenizer: bool,
}

impl StreamOptions {
    /// A buffer of so many bytes, no matrix in memory, and the tokenizer there.
    pub const fn new(buffer: usize) -> Self {
        Self { buffer, hot: 0, stored_tokenizer: false }
    }
}

/// The parts of a streamed model's memory, in bytes, each a multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLayout {
    /// The file up to its tensors' data: prefix, metadata, tokenizer, table; with a stored tokenizer the
    /// table alone.
    pub head: usize,
    /// Norms, biases and frequencies.
    pub vectors: usize,
    /// Matrices that stay.
    pub hot: usize,
    /// The buffer for the others.
    pub buffer: usize,
    /// All of it.
    pub total: usize,
}

impl StreamLayout {
    /// The parts for a file of which `begin` are the first 128 bytes, or more.
    ///
    /// # Errors
    /// Whatever makes the prefix unusable; [`LoadError::BadMetadata`] too where a size overflows this
    /// machine's `usize`.
    pub const fn new(begin: &[u8], options: StreamOptions) -> Result<Self, LoadError> {
        let (config, _) = match Prefix::read_config(begin) {
            Ok(read) => read,
            Err(error) => return Err(error),
        };
        let data_at = u64_at(begin, 80);
        if data_at > (usize::MAX / 2) as u64 {
            return Err(LoadError::BadMetadata);
        }
        let mut vectors = 0_usize;
        let mut number = 0;
        while number < 64 {
            if let Some(role) = Role::from_u8(number) {
                let (roles_at, times) = if role.is_per_layer() { (68, config.n_layers) } else { (64, 1) };
                if role.is_vector() && u32_at(begin, roles_at) & role.bit() != 0 {
                    // At most 2¹⁰ layers of 2²² bytes: 32 bits may not be enough.
                    let (_, cols) = role.shape(&config);
                    let all = align_up(4 * cols).checked_mul(times as usize);
                    vectors = match all {
                        Some(all) => vectors.saturating_add(all),
                        None => usize::MAX,
                    };
                }
            }
            number += 1;
        }
        let tensors = u32_at(begin, 64).count_ones() as usize
            + config.n_layers as usize * u32_at(begin, 68).count_ones() as usize;
        let head = if options.stored_tokenizer { tensors * ENTRY_LEN } else { data_at as usize };
        let mut layout = Self {
            head: align_up(head),
            vectors,
            hot: align_up(options.hot),
            buffer: align_up(options.buffer),
            total: 0,
        };
        let total = layout.head.saturating_add(layout.vectors).saturating_add(layout.hot);
        layout.total = total.saturating_add(layout.buffer);
        if layout.total > isize::MAX as usize {
            return Err(LoadError::BadMetadata);
        }
        Ok(layout)
    }
}

/// The bytes of memory that [`StreamModel::load`](super::StreamModel::load) needs, of which a file's first
/// 128 bytes tell; a session's come on top ([`memory_needed`](crate::memory_needed) takes the same bytes).
///
/// # Panics
/// If the file does not begin as a model file does: in a constant, that is a compile error.
#[track_caller]
pub const fn memory_needed(begin: &[u8], options: StreamOptions) -> usize {
    match StreamLayout::new(begin, options) {
        Ok(layout) => layout.total,
        Err(_) => {
            panic!("not a model file that this version of smidgen reads, or one too large for this machine")
        }
    }
}

/// The least [`StreamOptions::buffer`] for a file, of which `head` are all bytes before the tensors' data,
/// or more: four rows of the widest matrix, one row where they are floats.
///
/// # Errors
/// A prefix that is unusable, [`LoadError::Truncated`], or a table of which sizes can't be told.
pub const fn least_buffer(head: &[u8]) -> Result<usize, LoadError> {
    let outline = match Outline::new(head) {
        Ok(outline) => outline,
        Err(error) => return Err(error),
    };
    let mut least = 0;
    let mut index = 0;
    while index < outline.n_tensors {
        let tensor = match outline.tensor(index) {
            Ok(tensor) => tensor,
            Err(error) => return Err(error),
        };
        if !tensor.role.is_vector() {
            let Some(bytes) = slab_bytes(tensor.dtype, row_unit(tensor.dtype), tensor.cols) else {
                return Err(LoadError::BadMetadata);
            };
            if bytes > least {
                least = bytes;
            }
        }
        index += 1;
    }
    Ok(align_up(least))
}

/// How many rows are the least that can be read.
pub(super) const fn row_unit(dtype: DType) -> usize {
    if dtype.is_quantized() { QUAD } else { 1 }
}

/// Bytes of so many rows in the buffer: they lie there like a matrix of their own.
pub(super) const fn slab_bytes(dtype: DType, rows: usize, cols: usize) -> Option<usize> {
    match TensorSize::new(dtype, rows, cols) {
        Some(size) => Some(size.total),
        None => None,
    }
}
