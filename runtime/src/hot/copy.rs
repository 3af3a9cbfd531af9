//! The copying itself.

use core::fmt;

use super::{is_read_whole, places_len, whose_turn};
use crate::format::{ALIGNMENT, Role, align_up};
use crate::model::Model;

/// Nothing of the model fits into the memory given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HotError {
    /// Bytes needed for the first tensor that might be copied.
    pub needed: usize,
    /// Bytes that were usable.
    pub given: usize,
}

impl fmt::Display for HotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, given } = self;
        write!(f, "copying the smallest part of the model takes {needed} bytes of memory, {given} were given")
    }
}

impl core::error::Error for HotError {}

impl<'a> Model<'a> {
    /// The same model, with tensors copied into `memory` and used from there: as many as fit, first those of
    /// the layers, which every token is multiplied with, then the head, which a prompt's tokens are not but
    /// for the last. What is only looked up by row stays where it is. Results do not depend on it, to the bit.
    ///
    /// [`hot_needed`](crate::hot_needed) tells how much of `memory` that uses, from its first multiple of 64 on.
    ///
    /// # Errors
    /// [`HotError`] if nothing fits.
    #[inline(never)]
    pub fn with_hot(mut self, memory: &'a mut [u8]) -> Result<Self, HotError> {
        let skip = memory.as_ptr().align_offset(ALIGNMENT).min(memory.len());
        let hot = memory.get_mut(skip..).unwrap_or(&mut []);
        let [n_global, n_tensors] = self.n_tensors();
        let has_head = self.entry(0, Role::Head).is_some();
        let first = places_len(n_tensors);
        let (mut used, mut least) = (first, usize::MAX);
        if let Some(places) = hot.get_mut(..first) {
            places.fill(0);
        }
        for turn in 0..n_tensors {
            let index = whose_turn(turn, n_global, n_tensors);
            let Some((role, bytes)) = self.stored(index) else { continue };
            if !is_read_whole(role, has_head) {
                continue;
            }
            least = least.min(bytes.len());
            let room = hot.get_mut(used..).and_then(|room| room.get_mut(..bytes.len()));
            let (Some(room), Ok(at)) = (room, u32::try_from(used)) else { continue };
            room.copy_from_slice(bytes);
            if let Some(place) = hot.get_mut(4 * index..).and_then(|places| places.first_chunk_mut()) {
                *place = at.to_le_bytes();
                used += align_up(bytes.len());
            }
        }
        if used == first {
            return Err(HotError { needed: first.saturating_add(least), given: hot.len() });
        }
        self.hot = hot;
        Ok(self)
    }

    /// Bytes of tensors that were copied by [`Model::with_hot`].
    pub fn hot_bytes(&self) -> usize {
        let [_, n_tensors] = self.n_tensors();
        let copied = (0..n_tensors).filter(|&index| place(self.hot, index).is_some());
        copied.filter_map(|index| self.stored(index)).map(|(_, bytes)| bytes.len()).sum()
    }
}

/// Where the copy of a tensor is, if there is one: before the copies stand their places, a u32 each.
#[inline]
pub(crate) fn place(hot: &[u8], index: usize) -> Option<&[u8]> {
    let at = u32::from_le_bytes(*hot.get(4 * index..)?.first_chunk()?);
    if at == 0 { None } else { hot.get(at as usize..) }
}
