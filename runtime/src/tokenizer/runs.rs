//! What characters are, in few bytes of flash: two kilobytes for letters, numbers and white space.

/// A small number for every character. Characters in a row with the same number are a run; a run is its
/// length, with the number in the lowest `BITS` bits, as a varint (seven bits a byte, the lowest first).
/// Made by `runtime/tools/unicode_tables.py`.
#[derive(Debug)]
pub(super) struct Runs<const BITS: u32> {
    /// The first character of every [`BLOCK`] runs, above [`OFFSET_BITS`] bits that say how many more
    /// bytes than runs come before.
    pub(super) blocks: &'static [u32],
    pub(super) runs: &'static [u8],
}

/// Runs in a block.
const BLOCK: usize = 16;
const OFFSET_BITS: u32 = 11;

/// The run that a character is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// Its first character.
    begin: u32,
    /// How many they are.
    len: u32,
    /// The number of each.
    pub(super) number: u32,
}

impl Run {
    /// Whether `c` is in it, too: none is in [`Run::default`].
    #[inline]
    pub(super) fn has(self, c: char) -> bool {
        u32::from(c).wrapping_sub(self.begin) < self.len
    }
}

impl<const BITS: u32> Runs<BITS> {
    /// The run that `c` is in.
    pub(super) fn find(&self, c: char) -> Run {
        let code = u32::from(c);
        let after = self.blocks.partition_point(|block| block >> OFFSET_BITS <= code);
        let at = after.saturating_sub(1);
        let block = self.blocks.get(at).copied().unwrap_or(0);
        let start = at * BLOCK + (block & ((1 << OFFSET_BITS) - 1)) as usize;
        let mut begin = block >> OFFSET_BITS;
        let mut bytes = self.runs.get(start..).unwrap_or(&[]).iter();
        while let Some(run) = varint(&mut bytes) {
            let len = run >> BITS;
            if code < begin + len {
                return Run { begin, len, number: run & ((1 << BITS) - 1) };
            }
            begin += len;
        }
        // Not reached: the runs are all characters.
        Run::default()
    }

    /// Whether the number of `c` is not 0.
    #[cfg(any(feature = "unicode", test))]
    pub(super) fn contains(&self, c: char) -> bool {
        self.find(c).number != 0
    }
}

#[inline]
fn varint(bytes: &mut core::slice::Iter<'_, u8>) -> Option<u32> {
    let first = *bytes.next()?;
    if first < 0x80 {
        return Some(u32::from(first));
    }
    let mut number = u32::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let byte = *bytes.next()?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::unicode_tables::CLASSES;

    #[test]
    fn runs_are_all_characters() {
        let mut run = Run::default();
        let mut runs = 0;
        for c in '\0'..=char::MAX {
            if !run.has(c) {
                let found = CLASSES.find(c);
                assert!(found.number != run.number || runs == 0, "{c:?}");
                assert_eq!(found.begin, run.begin + run.len, "{c:?}");
                (run, runs) = (found, runs + 1);
            }
            assert_eq!(CLASSES.find(c), run, "{c:?}");
        }
        assert_eq!(run.begin + run.len, 0x11_0000);
        assert_eq!(CLASSES.blocks.len(), usize::div_ceil(runs, BLOCK));
    }

    #[test]
    fn a_run_has_its_own() {
        let run = Run { begin: 0x61, len: 3, number: 1 };
        assert_eq!(['`', 'a', 'c', 'd'].map(|c| run.has(c)), [false, true, true, false]);
        assert!(!Run::default().has('\0'));
    }
}
