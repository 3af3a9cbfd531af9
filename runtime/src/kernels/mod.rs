//! The arithmetic. [`scalar`] is its definition; every other level must equal it to the bit.

pub mod attention;
pub mod elementwise;
pub mod scalar;

use core::ops::Range;

use crate::tensor::{Matrix, Weights};
use crate::workers::Disjoint;

/// Which instructions the kernels use. All levels give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Level {
    /// Plain code: the definition of the arithmetic.
    #[default]
    Scalar,
}

impl Level {
    /// The best level of the CPU this runs on.
    pub fn detect() -> Self {
        Self::Scalar
    }

    /// The level of this name, if this CPU has it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "scalar" => Some(Self::Scalar),
            _ => None,
        }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
        }
    }

    /// Every level that this CPU has, the definition first.
    pub fn available() -> &'static [Level] {
        &[Self::Scalar]
    }
}

/// The right-hand side of a product: `n` vectors of `cols` activations, as floats and, if the
/// matrix is quantized, as integers.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// How many vectors.
    pub n: usize,
    /// Their length.
    pub cols: usize,
    /// `[n, cols]`.
    pub values: &'a [f32],
    /// `[n, padded_cols]`, zero past `cols`.
    pub quants: &'a [i8],
    /// `[n, blocks]`.
    pub scales: &'a [f32],
}

impl<'a> Activations<'a> {
    /// One vector's integers and scales, for a matrix of `padded_cols` columns.
    pub(crate) fn quantized(&self, index: usize, padded_cols: usize) -> (&'a [i8], &'a [f32]) {
        let blocks = padded_cols.div_ceil(crate::format::BLOCK);
        let quants = self.quants.get(index * padded_cols..(index + 1) * padded_cols);
        let scales = self.scales.get(index * blocks..(index + 1) * blocks);
        (quants.unwrap_or(&[]), scales.unwrap_or(&[]))
    }

    /// One vector's floats.
    pub(crate) fn vector(&self, index: usize) -> &'a [f32] {
        self.values.get(index * self.cols..(index + 1) * self.cols).unwrap_or(&[])
    }
}

/// The product of some rows of a matrix with every vector: `out[i · stride + row]` for each row
/// in `rows` (a range that begins at a multiple of four).
///
/// # Safety
/// Nobody else may read or write those places of `out` meanwhile.
pub(crate) unsafe fn matmul(
    level: Level,
    matrix: &Matrix<'_>,
    input: &Activations<'_>,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    let Level::Scalar = level;
    for i in 0..input.n {
        // SAFETY: these places are this caller's alone (this function's contract), and the
        // slice is gone before the next one is made.
        let out = unsafe { out.part(i * stride + rows.start..i * stride + rows.end) };
        match matrix.weights {
            Weights::F32(all) => scalar::matvec_f32(all, input.vector(i), rows.start, out),
            Weights::F16(all) => scalar::matvec_f16(all, input.vector(i), rows.start, out),
            Weights::Q8(planes) => {
                let (quants, scales) = input.quantized(i, planes.padded_cols);
                scalar::matvec_q8(&planes, quants, scales, rows.start, out);
            }
            Weights::Q4(planes) => {
                let (quants, scales) = input.quantized(i, planes.padded_cols);
                scalar::matvec_q4(&planes, quants, scales, rows.start, out);
            }
        }
    }
}
