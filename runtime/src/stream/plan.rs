//! What a streamed model will take, of its file's head alone: for planning.

use super::layout::{StreamLayout, StreamOptions, least_buffer, row_unit};
use super::source::Stored;
use crate::error::LoadError;
use crate::format::{Outline, Role, TensorSize, align_up, u32_at};

/// What a streamed model takes in memory, and what a token reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamPlan {
    /// How the memory is divided.
    pub layout: StreamLayout,
    /// The least buffer that will do: with a smaller one the model is not loaded.
    pub least_buffer: usize,
    /// Bytes of matrices that stay in memory, padding included
    /// ([`StreamModel::hot_bytes`](super::StreamModel::hot_bytes)).
    pub hot_bytes: usize,
    /// Bytes that a token on its own reads
    /// ([`StreamModel::bytes_read_per_token`](super::StreamModel::bytes_read_per_token)).
    pub bytes_per_token: u64,
    /// Calls of the reader for them.
    pub reads_per_token: u64,
}

impl StreamPlan {
    /// The plan for a file of which `head` are all bytes before the tensors' data, or more.
    ///
    /// In a session with candidates, logits are computed as many at a time as its layout has
    /// [`logits`](crate::Layout::logits), and reads are those of one pass over the head.
    ///
    /// # Errors
    /// What makes the head unusable.
    pub fn new(head: &[u8], options: StreamOptions, logits: Option<usize>) -> Result<Self, LoadError> {
        let layout = StreamLayout::new(head, options)?;
        let outline = Outline::new(head)?;
        let (mut hot, mut bytes, mut reads) = (0_usize, 0, 0);
        for index in 0..outline.n_tensors {
            let tensor = outline.tensor(index)?;
            if tensor.role.is_vector() {
                continue;
            }
            let size = |rows| TensorSize::new(tensor.dtype, rows, tensor.cols).ok_or(LoadError::BadMetadata);
            let total = size(tensor.rows)?;
            let looked_up = matches!(tensor.role, Role::Embedding | Role::PositionEmbedding);
            let whole = !looked_up || tensor.role == Role::Embedding && !outline.has_head;
            if whole && total.total <= layout.hot - hot {
                hot += align_up(total.total);
                continue;
            }
            let planes = if tensor.dtype.is_quantized() { 3 } else { 1 };
            if looked_up {
                bytes += size(row_unit(tensor.dtype))?.stored();
                reads += planes;
            }
            if whole {
                let is_head = matches!(tensor.role, Role::Embedding | Role::Head);
                let places = if is_head { logits } else { None };
                let at_once = Stored::of(&tensor).rows_at_once(layout.buffer, places);
                bytes += total.stored();
                reads += tensor.rows.div_ceil(at_once) as u64 * planes;
            }
        }
        let mut least_buffer = least_buffer(head)?;
        if options.stored_tokenizer {
            least_buffer = least_buffer.max(align_up(u32_at(head, 96) as usize));
        }
        Ok(Self { layout, least_buffer, hot_bytes: hot, bytes_per_token: bytes, reads_per_token: reads })
    }
}
