//! Where a tensor's numbers come from. Nothing is read until it is asked for, and rows can be
//! asked for in slabs, so a checkpoint may be larger than memory.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use smidgen_runtime::format::DType;
use smidgen_runtime::tensor::Matrix;

use crate::convert::for_each_width;
use crate::error::{Error, io_at};
use crate::gguf::GgmlType;

/// A file in memory, shared by the tensors that lie in it.
pub(crate) type Bytes = Arc<Mmap>;

/// Maps a file that is not empty.
pub(crate) fn map(path: &Path) -> Result<Bytes, Error> {
    let file = File::open(path).map_err(io_at(path))?;
    let metadata = file.metadata().map_err(io_at(path))?;
    if !metadata.is_file() {
        return Err(Error::malformed(path, "not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(Error::malformed(path, "the file is empty"));
    }
    // SAFETY: the map is only read. A checkpoint that another program truncates meanwhile would
    // end this process, as it would any reader that maps its input.
    let map = unsafe { Mmap::map(&file) }.map_err(io_at(path))?;
    if map.starts_with(b"version https://git-lfs.github.com/") {
        let reason = "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`";
        return Err(Error::malformed(path, reason));
    }
    Ok(Arc::new(map))
}

/// A plain float type in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// How numbers are stored: a row-major matrix of some number of columns.
#[derive(Clone, Debug)]
enum Storage {
    /// Values in memory.
    Floats { values: Arc<[f32]>, at: usize },
    /// Plain floats in a file, at any alignment.
    Mapped { bytes: Bytes, at: usize, element: Element },
    /// Signed bytes with an f32 scale for every `group` of them, counted over the whole tensor (llama2.c).
    Grouped8 { bytes: Bytes, quants_at: usize, scales_at: usize, group: usize },
    /// `bits`-wide unsigned integers in 32-bit words, with a scale and a bias a group of a row (MLX).
    Affine { bytes: [Bytes; 3], at: [usize; 3], bits: u32, group: usize, scale: Element },
    /// ggml's blocks, whole ones in every row (GGUF).
    Ggml { bytes: Bytes, at: usize, kind: GgmlType },
    /// A matrix of a smidgen model file.
    Packed { bytes: Bytes, at: usize, dtype: DType },
}

/// Which stored number is at a row and column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Row `r` is stored row `first + r`.
    Rows { first: usize },
    /// Row `r` is stored column `first + r`.
    Columns { first: usize },
    /// Rows of a rotary projection stored in pairs (2i, 2i + 1), read in halves (i, i + head_dim / 2).
    PairsToHalves { head_dim: usize },
}

/// A `[rows, cols]` matrix of f32, to be read when needed.
#[derive(Clone, Debug)]
pub struct TensorSource {
    rows: usize,
    cols: usize,
    stored_rows: usize,
    stored_cols: usize,
    /// Where rows begin, for matrices read as they are stored.
    first_col: usize,
    storage: Storage,
    layout: Layout,
}

impl TensorSource {
    fn stored(rows: usize, cols: usize, storage: Storage) -> Self {
        let layout = Layout::Rows { first: 0 };
        Self { rows, cols, stored_rows: rows, stored_cols: cols, first_col: 0, storage, layout }
    }

    /// A `[rows, cols]` row-major matrix in memory.
    ///
    /// # Panics
    /// If `values` is not `rows · cols` long.
    pub fn owned(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), rows * cols, "a [{rows}, {cols}] matrix");
        Self::shared(rows, cols, values.into(), 0)
    }

    /// A `[rows, cols]` row-major matrix in an arena of parameters, from its `at`-th value on.
    ///
    /// # Panics
    /// If it does not lie in the arena.
    pub fn shared(rows: usize, cols: usize, arena: Arc<[f32]>, at: usize) -> Self {
        assert!(at + rows * cols <= arena.len(), "a [{rows}, {cols}] matrix from {at} of {}", arena.len());
        Self::stored(rows, cols, Storage::Floats { values: arena, at })
    }

    /// Floats in a mapped file. The caller has checked that they lie in it.
    pub(crate) fn mapped(rows: usize, cols: usize, bytes: &Bytes, at: usize, element: Element) -> Self {
        debug_assert!(at + rows * cols * element.size() <= bytes.len());
        Self::stored(rows, cols, Storage::Mapped { bytes: bytes.clone(), at, element })
    }

    /// llama2.c's grouped bytes. The caller has checked that they lie in the file.
    pub(crate) fn grouped8(
        (rows, cols): (usize, usize),
        bytes: &Bytes,
        (quants_at, scales_at): (usize, usize),
        group: usize,
    ) -> Self {
        debug_assert!(scales_at + (rows * cols).div_ceil(group) * 4 <= bytes.len());
        Self::stored(rows, cols, Storage::Grouped8 { bytes: bytes.clone(), quants_at, scales_at, group })
    }

    /// MLX's affine groups: words, scales, biases. The caller has checked that they lie in their files.
    pub(crate) fn affine(
        (rows, cols): (usize, usize),
        parts: [(Bytes, usize); 3],
        bits: u32,
        group: usize,
        scale: Element,
    ) -> Self {
        let at = [parts[0].1, parts[1].1, parts[2].1];
        let bytes = parts.map(|(bytes, _)| bytes);
        Self::stored(rows, cols, Storage::Affine { bytes, at, bits, group, scale })
    }

    /// ggml's blocks. The caller has checked that rows are whole blocks and lie in the file.
    pub(crate) fn ggml(rows: usize, cols: usize, bytes: &Bytes, at: usize, kind: GgmlType) -> Self {
        debug_assert!(cols.is_multiple_of(kind.block()));
        Self::stored(rows, cols, Storage::Ggml { bytes: bytes.clone(), at, kind })
    }

    /// A matrix of a model file that [`smidgen_runtime::Model::load`] has accepted.
    pub(crate) fn packed(rows: usize, cols: usize, bytes: &Bytes, at: usize, dtype: DType) -> Self {
        Self::stored(rows, cols, Storage::Packed { bytes: bytes.clone(), at, dtype })
    }

    /// Rows and columns.
    pub const fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// True if a row's numbers are stored far from each other.
    pub(crate) const fn is_transposed(&self) -> bool {
        matches!(self.layout, Layout::Columns { .. })
    }

    /// The type that the numbers have where they are stored.
    pub fn stored_type(&self) -> &'static str {
        match self.storage {
            Storage::Floats { .. } | Storage::Mapped { element: Element::F32, .. } => "f32",
            Storage::Mapped { element: Element::F16, .. } => "f16",
            Storage::Mapped { element: Element::Bf16, .. } => "bf16",
            Storage::Grouped8 { .. } => "i8 groups",
            Storage::Affine { bits: 8, .. } => "mlx q8",
            Storage::Affine { bits: 4, .. } => "mlx q4",
            Storage::Affine { .. } => "mlx q2",
            Storage::Ggml { kind, .. } => kind.name(),
            Storage::Packed { dtype, .. } => dtype.name(),
        }
    }

    /// The same numbers, rows `range` only.
    ///
    /// # Panics
    /// If the range does not lie in the rows, or the matrix has its rotary rows permuted.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let layout = match self.layout {
            Layout::Rows { first } => Layout::Rows { first: first + range.start },
            Layout::Columns { first } => Layout::Columns { first: first + range.start },
            Layout::PairsToHalves { .. } => panic!("rows of a permuted matrix"),
        };
        Self { rows: range.len(), layout, ..self.clone() }
    }

    /// The same numbers, columns `range` only.
    ///
    /// # Panics
    /// If the range does not lie in the columns, or the matrix is not read as it is stored.
    #[must_use]
    pub fn columns(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.cols, "columns {range:?} of {}", self.cols);
        assert!(matches!(self.layout, Layout::Rows { .. }), "columns of a view");
        Self { first_col: self.first_col + range.start, cols: range.len(), ..self.clone() }
    }

    /// The transposed matrix.
    ///
    /// # Panics
    /// If it is a part or a permutation of what is stored.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let whole = (self.rows, self.cols) == (self.stored_rows, self.stored_cols);
        assert!(whole && self.layout == Layout::Rows { first: 0 }, "transposing a view");
        Self { rows: self.cols, cols: self.rows, layout: Layout::Columns { first: 0 }, ..self.clone() }
    }

    /// The matrix with the rows of each head brought from rotary pairs (2i, 2i + 1) to halves
    /// (i, i + head_dim / 2).
    ///
    /// # Panics
    /// If rows are not whole heads of even width, or it is a view already.
    #[must_use]
    pub fn pairs_to_halves(&self, head_dim: usize) -> Self {
        assert!(head_dim.is_multiple_of(2) && self.rows.is_multiple_of(head_dim), "whole heads");
        assert_eq!(self.layout, Layout::Rows { first: 0 }, "permuting a view");
        Self { layout: Layout::PairsToHalves { head_dim }, ..self.clone() }
    }

    /// Reads all numbers, row-major.
    pub fn read(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        self.read_rows(0..self.rows, &mut values);
        values
    }

    /// Reads some rows, row-major, into `out` (`range.len() · cols` long).
    ///
    /// # Panics
    /// If the range does not lie in the rows, or `out` has another length.
    pub fn read_rows(&self, range: Range<usize>, out: &mut [f32]) {
        assert!(range.end <= self.rows, "rows {range:?} of {}", self.rows);
        assert_eq!(out.len(), range.len() * self.cols, "rows {range:?} of {} columns", self.cols);
        if out.is_empty() {
            return;
        }
        match self.layout {
            Layout::Rows { first } => {
                for (row, out) in range.zip(out.chunks_exact_mut(self.cols)) {
                    self.decode(first + row, self.first_col, out);
                }
            }
            Layout::PairsToHalves { head_dim } => {
                for (row, out) in range.zip(out.chunks_exact_mut(self.cols)) {
                    let (head, i, half) = (row / head_dim, row % head_dim, head_dim / 2);
                    let pair = if i < half { 2 * i } else { 2 * (i - half) + 1 };
                    self.decode(head * head_dim + pair, 0, out);
                }
            }
            Layout::Columns { first } => {
                let mut stored = vec![0.0; range.len()];
                for col in 0..self.cols {
                    self.decode(col, first + range.start, &mut stored);
                    for (row, value) in stored.iter().enumerate() {
                        out[row * self.cols + col] = *value;
                    }
                }
            }
        }
    }

    /// Tells the system that the file's pages behind these numbers are not needed for now: they are
    /// read again if they are. What is mapped then takes no memory.
    pub fn release(&self) {
        #[cfg(unix)]
        {
            let (bytes, at, len) = match &self.storage {
                Storage::Mapped { bytes, at, element } => {
                    (bytes, *at, self.stored_rows * self.stored_cols * element.size())
                }
                Storage::Ggml { bytes, at, kind } => {
                    (bytes, *at, self.stored_rows * self.stored_cols / kind.block() * kind.bytes())
                }
                _ => return,
            };
            // Parts of pages are left to the next tensor in them.
            // SAFETY: the map is of a file and shared, and never written: dropped pages come back
            // from the file with the same bytes.
            let _ = unsafe { bytes.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, at, len) };
        }
    }

    /// Decodes a run of one stored row.
    fn decode(&self, row: usize, first_col: usize, out: &mut [f32]) {
        let index = row * self.stored_cols + first_col;
        match &self.storage {
            Storage::Floats { values, at } => out.copy_from_slice(&values[at + index..][..out.len()]),
            Storage::Mapped { bytes, at, element } => {
                decode_floats(*element, &bytes[at + index * element.size()..], out);
            }
            Storage::Grouped8 { bytes, quants_at, scales_at, group } => {
                for (i, out) in out.iter_mut().enumerate() {
                    let scale = scales_at + (index + i) / group * 4;
                    let mut factor = [0.0];
                    decode_floats(Element::F32, &bytes[scale..], &mut factor);
                    *out = f32::from(bytes[quants_at + index + i] as i8) * factor[0];
                }
            }
            Storage::Affine { bytes, at, bits, group, scale } => {
                let per_word = (32 / bits) as usize;
                let words = &bytes[0][at[0] + row * self.stored_cols / per_word * 4..];
                let groups_at = row * self.stored_cols / group * scale.size();
                for (i, out) in out.iter_mut().enumerate() {
                    let col = first_col + i;
                    let word =
                        u32::from_le_bytes(words[col / per_word * 4..][..4].try_into().expect("four bytes"));
                    let shift = (col % per_word) as u32 * bits;
                    let quant = (word >> shift) & ((1 << bits) - 1);
                    let place = groups_at + col / group * scale.size();
                    let (mut factor, mut bias) = ([0.0], [0.0]);
                    decode_floats(*scale, &bytes[1][at[1] + place..], &mut factor);
                    decode_floats(*scale, &bytes[2][at[2] + place..], &mut bias);
                    *out = quant as f32 * factor[0] + bias[0];
                }
            }
            Storage::Ggml { bytes, at, kind } => {
                let mut block = [0.0; 256];
                let (mut out, mut index) = (out, index);
                while !out.is_empty() {
                    // Views of a row may begin and end inside a block.
                    let (number, skip) = (index / kind.block(), index % kind.block());
                    let n = out.len().min(kind.block() - skip);
                    let values = &mut block[..kind.block()];
                    kind.decode(&bytes[at + number * kind.bytes()..][..kind.bytes()], values);
                    let (now, rest) = out.split_at_mut(n);
                    now.copy_from_slice(&values[skip..skip + n]);
                    (out, index) = (rest, index + n);
                }
            }
            Storage::Packed { bytes, at, dtype } => {
                let matrix = Matrix::new(*dtype, self.stored_rows, self.stored_cols, &bytes[*at..])
                    .expect("a loaded model's matrices lie in its file");
                if first_col == 0 && out.len() == self.stored_cols {
                    return matrix.row(row, out);
                }
                let mut whole = vec![0.0; self.stored_cols];
                matrix.row(row, &mut whole);
                out.copy_from_slice(&whole[first_col..][..out.len()]);
            }
        }
    }
}

for_each_width! {
    /// Little-endian floats of any alignment as f32.
    fn decode_floats(element: Element, bytes: &[u8], out: &mut [f32]) -> () {
        let bytes = &bytes[..out.len() * element.size()];
        match element {
            Element::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Element::F16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = half_to_f32(u16::from_le_bytes(*bytes));
                }
            }
            Element::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
        }
    }
}

/// A binary16 as f32, without a branch: many go through a vector together.
#[inline(always)]
fn half_to_f32(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    // The exponents' middles lie 112 apart. Exact, for what is not normal, too.
    let scaled = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
    // Infinities and what is no number stay so.
    let special = if magnitude >= 0x0F80_0000 { 0x7F80_0000 } else { 0 };
    f32::from_bits(scaled | special | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(rows: usize, cols: usize) -> TensorSource {
        TensorSource::owned(rows, cols, (0..rows * cols).map(|i| i as f32).collect())
    }

    #[test]
    fn views_pick_the_numbers_they_name() {
        let source = counting(3, 2); // 0 1 / 2 3 / 4 5
        assert_eq!(source.rows(1..3).read(), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(source.transposed().read(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        // One column of a Conv1D matrix, as c_attn is cut.
        assert_eq!(source.transposed().rows(1..2).read(), [1.0, 3.0, 5.0]);
        assert_eq!(source.transposed().rows(1..2).shape(), (1, 3));
    }

    #[test]
    fn rotary_pairs_become_halves_in_every_head() {
        let source = counting(8, 1).pairs_to_halves(4);
        assert_eq!(source.read(), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn slabs_are_parts_of_the_whole() {
        for source in [counting(7, 3), counting(7, 3).transposed(), counting(8, 3).pairs_to_halves(4)] {
            let (rows, cols) = source.shape();
            let whole = source.read();
            for first in 0..rows {
                let mut slab = vec![0.0; (rows - first) * cols];
                source.read_rows(first..rows, &mut slab);
                assert_eq!(slab, whole[first * cols..]);
            }
        }
    }

    #[test]
    fn halves_are_read_as_they_are() {
        for bits in 0..=u16::MAX {
            let (ours, wanted) = (half_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == wanted.to_bits() || ours.is_nan() && wanted.is_nan(),
                "{bits:#06x}: {ours}"
            );
        }
    }

    #[test]
    fn an_arena_is_shared_not_copied() {
        let arena: Arc<[f32]> = (0..10).map(|i| i as f32).collect();
        let source = TensorSource::shared(2, 2, arena.clone(), 3);
        assert_eq!(source.read(), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(Arc::strong_count(&arena), 2);
    }
}
