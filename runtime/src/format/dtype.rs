//! Tensor types, and how many bytes each of their planes takes.

use super::align_up;

/// Columns that share one multiplier in a quantized tensor.
pub const GROUP: usize = 32;
/// Columns that share one scale, in weights and in activations; inside it sums are exact integers.
pub const BLOCK: usize = 256;
/// Rows that are interleaved in a quantized tensor.
pub const QUAD: usize = 4;

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
#[repr(u8)]
pub enum DType {
    /// 32-bit floats, row-major.
    F32 = 1,
    /// 16-bit floats (IEEE binary16), row-major.
    F16 = 2,
    /// 8-bit integers, two-level scales, four rows interleaved.
    Q8 = 3,
    /// 4-bit integers, two-level scales, four rows interleaved.
    Q4 = 4,
}

impl DType {
    /// The type that the file's byte names.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::F32),
            2 => Some(Self::F16),
            3 => Some(Self::Q8),
            4 => Some(Self::Q4),
            _ => None,
        }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// True for the integer types.
    pub const fn is_quantized(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
    }
}

/// Where the planes of one tensor lie, relative to its first byte, and how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSize {
    /// Bytes of numbers (floats, or quants).
    pub quants_len: usize,
    /// Where the u8 group multipliers begin.
    pub multipliers_at: usize,
    /// How many there are.
    pub multipliers_len: usize,
    /// Where the bf16 block scales begin.
    pub scales_at: usize,
    /// Bytes of them.
    pub scales_len: usize,
    /// Bytes of the whole tensor.
    pub total: usize,
}

impl TensorSize {
    /// Bytes of its planes, without what fills up between them.
    pub(crate) const fn stored(&self) -> u64 {
        self.quants_len as u64 + self.multipliers_len as u64 + self.scales_len as u64
    }

    /// The planes of a `[rows, cols]` tensor; `None` if a size overflows this machine's `usize`.
    #[inline]
    pub const fn new(dtype: DType, rows: usize, cols: usize) -> Option<Self> {
        macro_rules! attempt {
            ($option:expr) => {
                match $option {
                    Some(value) => value,
                    None => return None,
                }
            };
        }
        let element = match dtype {
            DType::F32 => 4,
            DType::F16 => 2,
            DType::Q8 | DType::Q4 => 0,
        };
        if element > 0 {
            let total = attempt!(attempt!(rows.checked_mul(cols)).checked_mul(element));
            return Some(Self {
                quants_len: total,
                multipliers_at: total,
                multipliers_len: 0,
                scales_at: total,
                scales_len: 0,
                total,
            });
        }
        let rows = attempt!(rows.checked_next_multiple_of(QUAD));
        let cols = attempt!(cols.checked_next_multiple_of(GROUP));
        let numbers = attempt!(rows.checked_mul(cols));
        let quants_len = if matches!(dtype, DType::Q4) { numbers / 2 } else { numbers };
        let multipliers_len = numbers / GROUP;
        let scales_len = attempt!(rows.checked_mul(cols.div_ceil(BLOCK) * 2));
        let multipliers_at = align_up(quants_len);
        let scales_at = attempt!(multipliers_at.checked_add(align_up(multipliers_len)));
        let total = attempt!(scales_at.checked_add(scales_len));
        Some(Self { quants_len, multipliers_at, multipliers_len, scales_at, scales_len, total })
    }
}
