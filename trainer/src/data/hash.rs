//! A fast fingerprint of content: 128 bits, for telling files apart, not for keeping secrets.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{DataError, io_error};

/// Two odd constants with bits all over: 2⁶⁴ over the golden ratio, and over √3.
const KEYS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0x93C4_67E3_7DB0_C7A5];

/// A fingerprint in the making. Equal bytes in equal order give equal fingerprints, however they
/// are cut into calls.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    state: [u64; 2],
    /// Bytes that do not fill a word yet.
    rest: [u8; 8],
    length: u64,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        Self { state: KEYS, rest: [0; 8], length: 0 }
    }

    fn word(&mut self, word: u64) {
        for (state, key) in self.state.iter_mut().zip(KEYS) {
            // The full product, folded: every bit of the word reaches every bit of the state.
            let product = u128::from(*state ^ word).wrapping_mul(u128::from(key) << 1 | 1);
            *state = (product as u64) ^ (product >> 64) as u64 ^ state.rotate_left(23);
        }
    }

    pub(crate) fn bytes(&mut self, mut bytes: &[u8]) -> &mut Self {
        let filled = (self.length % 8) as usize;
        self.length += bytes.len() as u64;
        if filled > 0 {
            let taken = bytes.len().min(8 - filled);
            self.rest[filled..filled + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if filled + taken < 8 {
                return self;
            }
            self.word(u64::from_le_bytes(self.rest));
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.rest[..rest.len()].copy_from_slice(rest);
        self
    }

    /// Takes in something of unknown length such that nothing that follows can be mistaken for it.
    pub(crate) fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes(&(bytes.len() as u64).to_le_bytes()).bytes(bytes)
    }

    /// Takes in a file's content, and how long it is.
    pub(crate) fn file(&mut self, path: &Path) -> Result<&mut Self, DataError> {
        let mut file = File::open(path).map_err(io_error("open", path))?;
        let mut buffer = vec![0; 1 << 20];
        let mut length = 0u64;
        loop {
            match file.read(&mut buffer).map_err(io_error("read", path))? {
                0 => break,
                n => {
                    length += n as u64;
                    self.bytes(&buffer[..n]);
                }
            }
        }
        Ok(self.bytes(&length.to_le_bytes()))
    }

    /// The fingerprint of all that was taken in, as 32 hexadecimal digits.
    pub(crate) fn finish(&self) -> String {
        let mut last = self.clone();
        let filled = (last.length % 8) as usize;
        last.rest[filled..].fill(0);
        last.word(u64::from_le_bytes(last.rest));
        last.word(last.length);
        last.word(0);
        format!("{:016x}{:016x}", last.state[0], last.state[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> String {
        Hasher::new().bytes(bytes).finish()
    }

    #[test]
    fn cuts_do_not_matter_and_bytes_do() {
        let bytes: Vec<u8> = (1..101u8).collect();
        for cut in 0..100 {
            assert_eq!(Hasher::new().bytes(&bytes[..cut]).bytes(&bytes[cut..]).finish(), of(&bytes));
        }
        let mut seen = std::collections::HashSet::new();
        for length in 0..100 {
            seen.insert(of(&bytes[..length]));
            seen.insert(of(&vec![0; length + 1]));
            let mut changed = bytes.clone();
            changed[length] ^= 1;
            seen.insert(of(&changed));
        }
        assert_eq!(seen.len(), 300);
        let fields = |a: &[u8], b: &[u8]| Hasher::new().field(a).field(b).finish();
        assert_ne!(fields(b"ab", b"c"), fields(b"a", b"bc"));
    }

    #[test]
    fn one_bit_changes_half_of_all() {
        let number = |bytes: &[u8]| u128::from_str_radix(&of(bytes), 16).unwrap();
        let base = [7u8; 40];
        for bit in 0..320 {
            let mut other = base;
            other[bit / 8] ^= 1 << (bit % 8);
            let differ = (number(&base) ^ number(&other)).count_ones();
            assert!((35..95).contains(&differ), "bit {bit}: {differ}");
        }
    }
}
