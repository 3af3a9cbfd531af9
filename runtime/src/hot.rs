//! Tensors of a mapped model in faster memory than its file's: a chip that reads its flash through a narrow
//! bus and a small cache copies into RAM what it has room for.

#[cfg(feature = "hot")]
mod copy;

#[cfg(feature = "hot")]
pub use copy::HotError;
#[cfg(feature = "hot")]
pub(crate) use copy::place;

use crate::error::LoadError;
use crate::format::{Outline, Role, TensorSize, align_up};

/// The bytes of memory that `Model::with_hot` (feature `hot`) puts to use for a file, of which `head` are all bytes before
/// the tensors' data, or more, if it may have at most so many; 0 if it may have none. `usize::MAX` tells
/// what all of the model takes.
///
/// ```ignore
/// const HOT: usize = hot_needed(FILE, 100_000);
/// static HOT_MEMORY: StaticCell<Memory<HOT>> = StaticCell::new();
/// ```
///
/// # Panics
/// If the file does not begin as a model file does, or nothing of it fits: in a constant, that is a compile
/// error.
#[track_caller]
pub const fn hot_needed(head: &[u8], at_most: usize) -> usize {
    match hot_fitting(head, at_most) {
        Ok(0) if at_most > 0 => panic!("no part of the model fits into so little memory for copies"),
        Ok(bytes) => bytes,
        Err(_) => panic!("not a model file that this version of smidgen reads"),
    }
}

/// [`hot_needed`] without panics: 0 if nothing fits.
///
/// # Errors
/// What makes the head unusable.
pub const fn hot_fitting(head: &[u8], at_most: usize) -> Result<usize, LoadError> {
    let outline = match Outline::new(head) {
        Ok(outline) => outline,
        Err(error) => return Err(error),
    };
    let places = places_len(outline.n_tensors);
    let mut used = places;
    let mut turn = 0;
    while turn < outline.n_tensors {
        let index = whose_turn(turn, outline.n_global, outline.n_tensors);
        let tensor = match outline.tensor(index) {
            Ok(tensor) => tensor,
            Err(error) => return Err(error),
        };
        if is_read_whole(tensor.role, outline.has_head)
            && let Some(size) = TensorSize::new(tensor.dtype, tensor.rows, tensor.cols)
            && let Some(end) = used.checked_add(align_up(size.total))
            && end <= at_most
        {
            used = end;
        }
        turn += 1;
    }
    Ok(if used == places { 0 } else { used })
}

/// Bytes of the copies' places.
const fn places_len(n_tensors: usize) -> usize {
    align_up(4 * n_tensors)
}

/// The tensor that is copied next: those of layers, which are behind the whole model's in the file, first.
const fn whose_turn(turn: usize, n_global: usize, n_tensors: usize) -> usize {
    let of_layers = n_tensors - n_global;
    if turn < of_layers { turn + n_global } else { turn - of_layers }
}

/// Whether a token takes all of the tensor, and not a row.
const fn is_read_whole(role: Role, has_head: bool) -> bool {
    match role {
        Role::PositionEmbedding => false,
        Role::Embedding => !has_head,
        _ => true,
    }
}
