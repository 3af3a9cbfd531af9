//! A weight matrix as it lies in the file.

use crate::cast;
use crate::format::{BLOCK, DType, GROUP, QUAD, TensorSize};
use crate::quant::{bf16_to_f32, f16_to_f32};

/// A `[rows, cols]` matrix, borrowed from the model file.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Rows: outputs of the product.
    pub rows: usize,
    /// Columns: inputs of the product.
    pub cols: usize,
    /// The numbers.
    pub weights: Weights<'a>,
}

/// The numbers of a [`Matrix`].
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Row-major, `rows · cols` floats.
    F32(&'a [f32]),
    /// Row-major, `rows · cols` IEEE binary16 bit patterns.
    F16(&'a [u16]),
    /// 8-bit integers.
    Q8(Planes<'a>),
    /// 4-bit integers.
    Q4(Planes<'a>),
}

/// The three planes of a quantized matrix; `docs/format.md` draws their order. Rows are padded
/// to a multiple of [`QUAD`], columns to a multiple of [`GROUP`].
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// Four rows interleaved in 4-byte chunks.
    pub quants: &'a [u8],
    /// `[quad][group][row of the quad]`.
    pub multipliers: &'a [u8],
    /// bf16 bit patterns, `[quad][block][row of the quad]`.
    pub scales: &'a [u16],
    /// Columns with padding.
    pub padded_cols: usize,
}

impl<'a> Planes<'a> {
    /// Groups in a row.
    pub const fn groups(&self) -> usize {
        self.padded_cols / GROUP
    }

    /// Blocks in a row.
    pub const fn blocks(&self) -> usize {
        self.padded_cols.div_ceil(BLOCK)
    }
}

impl<'a> Matrix<'a> {
    /// Views `bytes` (of exactly the size that [`TensorSize`] gives, 64-aligned) as a matrix.
    pub fn new(dtype: DType, rows: usize, cols: usize, bytes: &'a [u8]) -> Option<Self> {
        let size = TensorSize::new(dtype, rows, cols)?;
        let quants = bytes.get(..size.quants_len)?;
        let planes = || {
            let multipliers = bytes.get(size.multipliers_at..)?.get(..size.multipliers_len)?;
            let scales = bytes.get(size.scales_at..)?.get(..size.scales_len)?;
            let scales = cast::as_u16(scales)?;
            let padded_cols = cols.checked_next_multiple_of(GROUP)?;
            Some(Planes { quants, multipliers, scales, padded_cols })
        };
        let weights = match dtype {
            DType::F32 => Weights::F32(cast::as_f32(quants)?),
            DType::F16 => Weights::F16(cast::as_u16(quants)?),
            DType::Q8 => Weights::Q8(planes()?),
            DType::Q4 => Weights::Q4(planes()?),
        };
        Some(Self { rows, cols, weights })
    }

    /// Some of its rows as a matrix of their own; they begin at a multiple of [`QUAD`].
    pub(crate) fn slab(&self, rows: core::ops::Range<usize>) -> Option<Self> {
        let n = rows.end.min(self.rows).checked_sub(rows.start)?;
        let of = |rows| TensorSize::new(self.dtype(), rows, self.cols);
        let (skip, take) = (of(rows.start)?, of(n)?);
        let planes = |planes: Planes<'a>| {
            Some(Planes {
                quants: planes.quants.get(skip.quants_len..)?.get(..take.quants_len)?,
                multipliers: planes.multipliers.get(skip.multipliers_len..)?.get(..take.multipliers_len)?,
                scales: planes.scales.get(skip.scales_len / 2..)?.get(..take.scales_len / 2)?,
                padded_cols: planes.padded_cols,
            })
        };
        let floats = rows.start * self.cols..(rows.start + n) * self.cols;
        let weights = match self.weights {
            Weights::F32(all) => Weights::F32(all.get(floats)?),
            Weights::F16(all) => Weights::F16(all.get(floats)?),
            Weights::Q8(all) => Weights::Q8(planes(all)?),
            Weights::Q4(all) => Weights::Q4(planes(all)?),
        };
        Some(Self { rows: n, cols: self.cols, weights })
    }

    /// Its type.
    pub const fn dtype(&self) -> DType {
        match self.weights {
            Weights::F32(_) => DType::F32,
            Weights::F16(_) => DType::F16,
            Weights::Q8(_) => DType::Q8,
            Weights::Q4(_) => DType::Q4,
        }
    }

    /// Writes one row as floats. `out` has [`Matrix::cols`] places; a row that is not there gives zeros.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let cols = self.cols.min(out.len());
        let out = &mut out[..cols];
        out.fill(0.0);
        if row >= self.rows {
            return;
        }
        let range = row * self.cols..(row + 1) * self.cols;
        match self.weights {
            Weights::F32(all) if cfg!(feature = "f32") => {
                if let Some(values) = all.get(range) {
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = *value;
                    }
                }
            }
            Weights::F16(all) if cfg!(feature = "f16") => {
                if let Some(values) = all.get(range) {
                    for (out, &bits) in out.iter_mut().zip(values) {
                        *out = f16_to_f32(bits);
                    }
                }
            }
            Weights::Q8(planes) if cfg!(feature = "q8") => {
                for (group, out) in out.chunks_mut(GROUP).enumerate() {
                    let factor = planes.factor(row, group);
                    for (col, out) in out.iter_mut().enumerate() {
                        let byte = planes.quants.get(q8_index(planes.padded_cols, row, group * GROUP + col));
                        *out = f32::from((byte.copied().unwrap_or(0) ^ q8_flip(col)) as i8) * factor;
                    }
                }
            }
            Weights::Q4(planes) if cfg!(feature = "q4") => {
                for (group, out) in out.chunks_mut(GROUP).enumerate() {
                    let factor = planes.factor(row, group);
                    for (col, out) in out.iter_mut().enumerate() {
                        let (index, shift) = q4_index(planes.padded_cols, row, group * GROUP + col);
                        let byte = planes.quants.get(index).copied().unwrap_or(0);
                        *out = f32::from((byte >> shift & 15) as i8 - 8) * factor;
                    }
                }
            }
            // Not compiled in: refused when the model was loaded.
            _ => {}
        }
    }
}

impl Planes<'_> {
    /// What one quant of this group is worth: multiplier × scale, rounded once.
    fn factor(&self, row: usize, group: usize) -> f32 {
        let (quad, lane) = (row / QUAD, row % QUAD);
        let multiplier = self.multipliers.get((quad * self.groups() + group) * QUAD + lane);
        let block = group / (BLOCK / GROUP);
        let scale = self.scales.get((quad * self.blocks() + block) * QUAD + lane);
        f32::from(multiplier.copied().unwrap_or(0)) * bf16_to_f32(scale.copied().unwrap_or(0))
    }
}

/// Where the 8-bit quant of a row and column lies in its plane.
pub const fn q8_index(padded_cols: usize, row: usize, col: usize) -> usize {
    (row / QUAD) * QUAD * padded_cols + (col / 4) * 16 + (row % QUAD) * 4 + col % 4
}

/// What an 8-bit quant's bits are stored with: those of even columns are flipped in the highest, which is
/// plus 128. So a half of a word is, as a signed number, 256 times an odd column's quant plus an even
/// one's byte, and a 16-bit multiply-accumulate takes it as it is.
#[inline(always)]
pub const fn q8_flip(col: usize) -> u8 {
    if col.is_multiple_of(2) { 0x80 } else { 0 }
}

/// Where the 4-bit quant of a row and column lies: its byte and the shift to its nibble. A
/// 4-byte chunk holds eight columns, byte `j` column `j` low and column `4 + j` high: the low
/// nibbles are four neighbours for a byte-wise product, and masks of a 32-bit word give the pairs
/// that a 16-bit multiply-accumulate takes.
pub const fn q4_index(padded_cols: usize, row: usize, col: usize) -> (usize, u32) {
    let byte = (row / QUAD) * QUAD * padded_cols / 2 + (col / 8) * 16 + (row % QUAD) * 4 + col % 4;
    (byte, if col % 8 < 4 { 0 } else { 4 })
}
