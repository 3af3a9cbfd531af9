//! What a file's head says of its tensors, for `const fn`s: no check but of what is read here.

use super::prefix::u32_at;
use super::{DType, ENTRY_LEN, PREFIX_LEN, Prefix, Role};
use crate::error::LoadError;

/// The table of a file of which `head` are all bytes before the tensors' data, or more.
#[derive(Clone, Copy)]
pub(crate) struct Outline<'a> {
    head: &'a [u8],
    table_at: usize,
    /// How many tensors are the whole model's, which come first, and how many there are.
    pub(crate) n_global: usize,
    pub(crate) n_tensors: usize,
    /// The head is a matrix of its own, and not the embedding.
    pub(crate) has_head: bool,
}

/// A tensor of the table.
#[derive(Clone, Copy)]
pub(crate) struct Outlined {
    pub(crate) role: Role,
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl<'a> Outline<'a> {
    /// # Errors
    /// A prefix that is unusable, [`LoadError::Truncated`], or a table that is not where it should be.
    pub(crate) const fn new(head: &'a [u8]) -> Result<Self, LoadError> {
        let n_layers = match Prefix::read_config(head) {
            Ok((config, _)) => config.n_layers,
            Err(error) => return Err(error),
        };
        let (table_at, data_at) = (u64_at(head, 72), u64_at(head, 80));
        if data_at > head.len() as u64 {
            return Err(LoadError::Truncated { needed: data_at, found: head.len() as u64 });
        }
        let (global_roles, layer_roles) = (u32_at(head, 64), u32_at(head, 68));
        let n_global = global_roles.count_ones() as u64;
        let n_tensors = n_global + n_layers as u64 * layer_roles.count_ones() as u64;
        if table_at < PREFIX_LEN as u64
            || table_at > data_at
            || n_tensors * ENTRY_LEN as u64 > data_at - table_at
        {
            return Err(LoadError::BadMetadata);
        }
        Ok(Self {
            head,
            table_at: table_at as usize,
            n_global: n_global as usize,
            n_tensors: n_tensors as usize,
            has_head: global_roles & Role::Head.bit() != 0,
        })
    }

    /// # Errors
    /// [`LoadError::BadMetadata`] for an entry of which the size can't be told.
    pub(crate) const fn tensor(&self, index: usize) -> Result<Outlined, LoadError> {
        let at = self.table_at + index * ENTRY_LEN;
        if index >= self.n_tensors {
            return Err(LoadError::BadMetadata);
        }
        let (role, dtype) = (Role::from_u8(self.head[at]), DType::from_u8(self.head[at + 1]));
        let (Some(role), Some(dtype)) = (role, dtype) else { return Err(LoadError::BadMetadata) };
        let (rows, cols) = (u32_at(self.head, at + 4) as usize, u32_at(self.head, at + 8) as usize);
        Ok(Outlined { role, dtype, rows, cols })
    }
}

#[inline(always)]
pub(crate) const fn u64_at(file: &[u8], at: usize) -> u64 {
    (u32_at(file, at) as u64) | (u32_at(file, at + 4) as u64) << 32
}
