//! Little-endian number tables inside byte slices, read by index, never out of bounds.

/// A table of u32, four bytes each.
#[derive(Clone, Copy, Debug)]
pub(super) struct U32s<'a>(&'a [[u8; 4]]);

impl<'a> U32s<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    pub(super) fn len(self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn get(self, index: usize) -> Option<u32> {
        self.0.get(index).map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u32> + 'a {
        self.0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

/// A table of token ids: two bytes each where the vocabulary allows, else four.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids<'a> {
    bytes: &'a [u8],
    wide: bool,
}

/// The largest vocabulary whose ids are stored in two bytes; all ones must remain free for "none".
const NARROW_IDS: u32 = 0xffff;

/// Bytes of an id in tables whose width depends on the vocabulary: 2 or 4.
pub(super) fn id_size(n_tokens: u32) -> usize {
    if n_tokens > NARROW_IDS { 4 } else { 2 }
}

impl<'a> Ids<'a> {
    pub(super) fn new(bytes: &'a [u8], n_tokens: u32) -> Self {
        Self { bytes, wide: id_size(n_tokens) == 4 }
    }

    pub(super) fn len(self) -> usize {
        self.bytes.len() / if self.wide { 4 } else { 2 }
    }

    /// What stands for no id: all ones.
    pub(super) fn none(self) -> u32 {
        if self.wide { u32::MAX } else { u32::from(u16::MAX) }
    }

    #[inline]
    pub(super) fn get(self, index: usize) -> Option<u32> {
        if self.wide {
            U32s::new(self.bytes).get(index)
        } else {
            self.bytes.as_chunks().0.get(index).map(|bytes| u32::from(u16::from_le_bytes(*bytes)))
        }
    }
}
