//! Floats into the bytes of a tensor type, a slab of rows at a time: slabs are independent, so
//! they can be packed in parallel and their floats need not be in memory together.

use core::ops::Range;
use std::vec::Vec;

use super::{BLOCK, DType, GROUP, QUAD, TensorSize};
use crate::quant::{QuantBlock, bf16_to_f32, f16_to_f32, quantize_block};
use crate::tensor::{q4_index, q8_flip, q8_index};

/// What packing lost, as sums over the numbers packed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PackLoss {
    /// Sum of squared differences between what was given and what will be read.
    pub squared_error: f64,
    /// Sum of squares of what was given.
    pub squared_sum: f64,
}

impl PackLoss {
    /// Root mean squared error, relative to the root mean square of the numbers; 0 if all are zero.
    pub fn relative(&self) -> f64 {
        if self.squared_sum > 0.0 { (self.squared_error / self.squared_sum).sqrt() } else { 0.0 }
    }

    /// Takes in numbers and what will be read for them, in this order: sixteen sums side by side,
    /// as many numbers at a time as f32 adds well.
    #[inline(always)]
    fn take_in(&mut self, given: &[f32], read: &[f32]) {
        const LANES: usize = 16;
        for (given, read) in given.chunks(BLOCK).zip(read.chunks(BLOCK)) {
            let (mut errors, mut squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            let (given_lanes, given_rest) = given.as_chunks::<LANES>();
            let (read_lanes, read_rest) = read.as_chunks::<LANES>();
            for (given, read) in given_lanes.iter().zip(read_lanes) {
                for lane in 0..LANES {
                    let difference = given[lane] - read[lane];
                    errors[lane] += difference * difference;
                    squares[lane] += given[lane] * given[lane];
                }
            }
            for (lane, (given, read)) in given_rest.iter().zip(read_rest).enumerate() {
                errors[lane] += (given - read) * (given - read);
                squares[lane] += given * given;
            }
            // Through memory, or else the compiler takes the lanes apart for the sums, and the loop with them.
            let (errors, squares) = core::hint::black_box((errors, squares));
            self.squared_error += errors.iter().map(|error| f64::from(*error)).sum::<f64>();
            self.squared_sum += squares.iter().map(|square| f64::from(*square)).sum::<f64>();
        }
    }
}

impl core::iter::Sum for PackLoss {
    fn sum<I: Iterator<Item = Self>>(losses: I) -> Self {
        losses.fold(Self::default(), |sum, loss| Self {
            squared_error: sum.squared_error + loss.squared_error,
            squared_sum: sum.squared_sum + loss.squared_sum,
        })
    }
}

/// Some rows of a tensor, with the places of their bytes.
#[derive(Debug)]
pub struct Slab<'a> {
    dtype: DType,
    rows: Range<usize>,
    cols: usize,
    quants: &'a mut [u8],
    multipliers: &'a mut [u8],
    scales: &'a mut [u8],
}

/// Cuts the bytes of a `[rows, cols]` tensor into slabs of `slab_rows` rows (the last may have
/// fewer). `bytes` must be zeros.
///
/// # Panics
/// If `bytes` has not the length that [`TensorSize`] gives, or `slab_rows` is no multiple of
/// [`QUAD`], or zero.
pub fn slabs(dtype: DType, rows: usize, cols: usize, slab_rows: usize, bytes: &mut [u8]) -> Vec<Slab<'_>> {
    let size = TensorSize::new(dtype, rows, cols).expect("it is in memory, so its size fits");
    assert_eq!(bytes.len(), size.total, "a [{rows}, {cols}] tensor of type {}", dtype.name());
    assert!(slab_rows > 0 && slab_rows.is_multiple_of(QUAD), "slabs of {slab_rows} rows");
    let (mut quants, rest) = bytes.split_at_mut(size.multipliers_at);
    let (mut multipliers, mut scales) = rest.split_at_mut(size.scales_at - size.multipliers_at);
    match dtype {
        DType::F32 | DType::F16 => {}
        DType::Q8 => quants.as_chunks_mut().0.fill([q8_flip(0), q8_flip(1)]),
        DType::Q4 => quants.fill(0x88),
    }
    let mut slabs = Vec::with_capacity(rows.div_ceil(slab_rows));
    for first in (0..rows).step_by(slab_rows) {
        let rows = first..rows.min(first + slab_rows);
        let size = TensorSize::new(dtype, rows.len(), cols).expect("smaller than the whole");
        slabs.push(Slab {
            dtype,
            rows,
            cols,
            quants: quants.split_off_mut(..size.quants_len).expect("slabs are parts of the whole"),
            multipliers: multipliers.split_off_mut(..size.multipliers_len).expect("as above"),
            scales: scales.split_off_mut(..size.scales_len).expect("as above"),
        });
    }
    slabs
}

/// A trait, not a closure: closures are not compiled with their caller's vectors.
trait Quantizer {
    fn quantize(&mut self, row: usize, block: usize, values: &[f32]) -> QuantBlock;
}

/// The runtime's own search.
struct Search<'a> {
    dtype: DType,
    importance: Option<&'a [f32]>,
}

impl Quantizer for Search<'_> {
    #[inline(always)]
    fn quantize(&mut self, _: usize, block: usize, values: &[f32]) -> QuantBlock {
        let importance = self.importance.and_then(|all| all.get(block * BLOCK..));
        quantize_block(self.dtype, values, importance)
    }
}

/// A caller's.
struct By<F>(F);

impl<F: FnMut(usize, usize, &[f32]) -> QuantBlock> Quantizer for By<F> {
    fn quantize(&mut self, row: usize, block: usize, values: &[f32]) -> QuantBlock {
        (self.0)(row, block, values)
    }
}

impl Slab<'_> {
    /// Which rows of the tensor these are.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Fills the slab from its rows' numbers, `[rows, cols]` row-major and finite. `importance`, if
    /// given, weighs each column's error in the search for scales.
    ///
    /// It is inlined so that a caller compiled for wider vectors has it in them, with the same result.
    ///
    /// # Panics
    /// If `values` is not `rows · cols` long.
    #[inline(always)]
    pub fn pack(&mut self, values: &[f32], importance: Option<&[f32]>) -> PackLoss {
        self.fill(values, Search { dtype: self.dtype, importance })
    }

    /// [`Slab::pack`] with a quantizer of one's own, which gets the row within the slab, the block's
    /// number within the row and the block's numbers, and is asked only where the type is Q8 or Q4.
    ///
    /// # Panics
    /// If `values` is not `rows · cols` long.
    pub fn pack_with(
        &mut self,
        values: &[f32],
        quantize: impl FnMut(usize, usize, &[f32]) -> QuantBlock,
    ) -> PackLoss {
        self.fill(values, By(quantize))
    }

    #[inline(always)]
    fn fill(&mut self, values: &[f32], mut quantizer: impl Quantizer) -> PackLoss {
        let (rows, cols) = (self.rows.len(), self.cols);
        assert_eq!(values.len(), rows * cols, "a [{rows}, {cols}] slab");
        let mut loss = PackLoss::default();
        match self.dtype {
            DType::F32 => {
                for (place, value) in self.quants.as_chunks_mut().0.iter_mut().zip(values) {
                    *place = value.to_le_bytes();
                }
                loss.take_in(values, values);
            }
            DType::F16 => {
                for (values, places) in values.chunks(BLOCK).zip(self.quants.chunks_mut(2 * BLOCK)) {
                    let mut read = [0.0; BLOCK];
                    for ((place, read), value) in
                        places.as_chunks_mut().0.iter_mut().zip(&mut read).zip(values)
                    {
                        let half = half::f16::from_f32_const(*value);
                        *place = half.to_le_bytes();
                        *read = f16_to_f32(half.to_bits());
                    }
                    loss.take_in(values, &read[..values.len()]);
                }
            }
            DType::Q8 | DType::Q4 => {
                for (row, values) in values.chunks(cols.max(1)).enumerate() {
                    for (b, values) in values.chunks(BLOCK).enumerate() {
                        let block = quantizer.quantize(row, b, values);
                        self.put(row, b, &block);
                        let scale = bf16_to_f32(block.scale);
                        let mut read = [0.0; BLOCK];
                        for (c, read) in read.iter_mut().enumerate() {
                            *read = f32::from(block.quants[c])
                                * (f32::from(block.multipliers[c / GROUP]) * scale);
                        }
                        loss.take_in(values, &read[..values.len()]);
                    }
                }
            }
        }
        loss
    }

    /// Puts the `b`-th block of a row into its places.
    #[inline(always)]
    fn put(&mut self, row: usize, b: usize, block: &QuantBlock) {
        let (quad, lane) = (row / QUAD, row % QUAD);
        let padded_cols = self.cols.next_multiple_of(GROUP);
        let groups = padded_cols / GROUP;
        let blocks = padded_cols.div_ceil(BLOCK);
        let at = ((quad * blocks + b) * QUAD + lane) * 2;
        self.scales[at..at + 2].copy_from_slice(&block.scale.to_le_bytes());
        let present = (padded_cols - b * BLOCK).min(BLOCK);
        for (g, &multiplier) in block.multipliers[..present / GROUP].iter().enumerate() {
            let group = b * (BLOCK / GROUP) + g;
            self.multipliers[(quad * groups + group) * QUAD + lane] = multiplier;
        }
        // Quants past the end of the row are zeros, as the padding has to be.
        if self.dtype == DType::Q8 {
            for (c, quants) in block.quants[..present].as_chunks::<4>().0.iter().enumerate() {
                let at = q8_index(padded_cols, row, b * BLOCK + 4 * c);
                let bytes: [u8; 4] = core::array::from_fn(|i| quants[i] as u8 ^ q8_flip(i));
                self.quants[at..at + 4].copy_from_slice(&bytes);
            }
        } else {
            for (c, quants) in block.quants[..present].as_chunks::<8>().0.iter().enumerate() {
                // Columns 0 to 3 of eight in the low nibbles, 4 to 7 in the high ones.
                let (at, _) = q4_index(padded_cols, row, b * BLOCK + 8 * c);
                let nibble = |i: usize| (quants[i] + 8) as u8 & 15;
                let bytes: [u8; 4] = core::array::from_fn(|i| nibble(i) | nibble(i + 4) << 4);
                self.quants[at..at + 4].copy_from_slice(&bytes);
            }
        }
    }
}

/// Appends a `[rows, cols]` row-major matrix in the bytes of its type. `importance`, if given, has
/// one weight a column for the quantizer's error.
///
/// # Panics
/// If `values` is not `rows · cols` long.
pub fn pack_matrix(
    dtype: DType,
    rows: usize,
    cols: usize,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) -> PackLoss {
    let size = TensorSize::new(dtype, rows, cols).expect("it fits in memory, so its size does");
    let begin = out.len();
    out.resize(begin + size.total, 0);
    let slab_rows = rows.max(1).next_multiple_of(QUAD);
    let mut slabs = slabs(dtype, rows, cols, slab_rows, &mut out[begin..]);
    slabs.iter_mut().map(|slab| slab.pack(values, importance)).sum()
}
