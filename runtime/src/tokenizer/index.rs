//! From bytes to token: the `index` table, in order of bytes or hashed.

use super::tables::Ids;

/// Tokens in a row that a hash table may make a search look at.
pub(super) const MAX_RUN: usize = 4096;

/// The ids that plain text can become. A table whose last entry is no id (all ones) is a hash table
/// with open addressing: a token stands at its home or behind it, with no hole between. Any other is
/// in the order of the tokens' bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index<'a> {
    pub(super) ids: Ids<'a>,
    n_tokens: u32,
    /// Entries that are somebody's home; 0 if the table is in order.
    homes: u32,
}

impl<'a> Index<'a> {
    pub(super) fn new(ids: Ids<'a>, n_tokens: u32) -> Self {
        let len = ids.len();
        let hashed = len.checked_sub(1).and_then(|last| ids.get(last)) == Some(ids.none());
        // No vocabulary's table has 2³² entries: validation has bounded the tokens.
        Self { ids, n_tokens, homes: if hashed { homes(len) as u32 } else { 0 } }
    }

    pub(super) fn is_hashed(self) -> bool {
        self.homes != 0
    }

    /// All ids in the table, in its order.
    pub(super) fn iter(self) -> impl Iterator<Item = u32> + 'a {
        (0..self.ids.len()).filter_map(move |at| self.ids.get(at)).filter(move |&id| id < self.n_tokens)
    }

    /// Where a search for `left` + `right` in a hash table begins.
    #[inline]
    pub(super) fn home(self, left: &[u8], right: &[u8]) -> usize {
        ((u64::from(hash(left, right)) * u64::from(self.homes)) >> 32) as usize
    }
}

/// Entries of a hash table of `len` that are somebody's home; those behind them only take overflow.
pub(super) const fn homes(len: usize) -> usize {
    len - len / 16 - 1
}

/// FNV-1a over both parts, and its low bits stirred into the high ones, which choose the home.
#[inline]
pub(super) fn hash(left: &[u8], right: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = right.iter().fold(left.iter().fold(0x811c_9dc5, step), step);
    (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d)
}

/// The same of bytes from anywhere.
pub(super) fn hash_of(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = bytes.fold(0x811c_9dc5, step);
    (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d)
}
