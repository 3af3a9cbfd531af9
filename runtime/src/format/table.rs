//! The tensor table: one fixed-width entry a tensor, so that any one can be read by its number.

use postcard::fixint::le;
use serde::{Deserialize, Serialize};

/// One row of the table. Entries stand in order of layer (those of the whole model first) and
/// of role within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// [`Role`](super::Role).
    pub role: u8,
    /// [`DType`](super::DType).
    pub dtype: u8,
    /// The block it belongs to, 0 for tensors of the whole model.
    #[serde(with = "le")]
    pub layer: u16,
    /// Rows.
    #[serde(with = "le")]
    pub rows: u32,
    /// Columns.
    #[serde(with = "le")]
    pub cols: u32,
    /// Where its first plane begins, from the begin of the data; a multiple of 64.
    #[serde(with = "le")]
    pub offset: u64,
}

/// Bytes of one entry.
pub const ENTRY_LEN: usize = 20;

impl TensorEntry {
    /// Reads an entry from its bytes.
    pub fn from_bytes(bytes: &[u8; ENTRY_LEN]) -> Self {
        let b = bytes;
        Self {
            role: b[0],
            dtype: b[1],
            layer: u16::from_le_bytes([b[2], b[3]]),
            rows: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            cols: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            offset: u64::from_le_bytes([b[12], b[13], b[14], b[15], b[16], b[17], b[18], b[19]]),
        }
    }
}
