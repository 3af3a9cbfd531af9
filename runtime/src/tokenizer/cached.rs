//! Encoding much text on a host: each distinct stretch is merged once.

use std::boxed::Box;
use std::collections::HashMap;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::bpe::scratch_words;
use super::encode::{Special, Stretch};
use super::error::EncodeError;
use super::view::Tokenizer;

/// Words of up to 16 bytes and three tokens that are remembered: 1 MiB, and of two that claim the
/// same place the last stays.
const N_WORDS: usize = 1 << 15;
/// Longer stretches, or of more tokens, that are remembered at most.
const MAX_LONG: usize = 1 << 17;
/// Stretches that are longer still are rarely words, and would fill the memory.
const MAX_STRETCH: usize = 64;

/// An encoder that remembers the words it has seen: the tokens of [`Tokenizer::encode`], several
/// times faster on long text, with an allocator and some megabytes. One for each thread.
#[derive(Clone, Debug)]
pub struct CachedEncoder<'a> {
    tokenizer: Tokenizer<'a>,
    words: Box<[Word]>,
    /// Where each longer stretch's tokens are in `tokens`.
    long: HashMap<String, (u32, u32), WordHash>,
    tokens: Vec<u32>,
    scratch: Vec<u32>,
}

/// A word that has been seen: 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    key: Key,
    n_tokens: u8,
    tokens: [u32; 3],
}

/// Up to 16 bytes: the first eight and the last eight, which may overlap, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    first: u64,
    last: u64,
    length: u8,
}

impl Key {
    #[inline]
    fn of(bytes: &[u8]) -> Option<Self> {
        let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
        let (first, last) = match bytes.len() {
            1 => (u64::from(*bytes.first()?), 0),
            2 | 3 => {
                let [a, b] = *bytes.first_chunk()?;
                (u64::from(u16::from_le_bytes([a, b])), u64::from(*bytes.last()?))
            }
            4..8 => (half(bytes.first_chunk()?), half(bytes.last_chunk()?)),
            8..=16 => (u64::from_le_bytes(*bytes.first_chunk()?), u64::from_le_bytes(*bytes.last_chunk()?)),
            _ => return None,
        };
        Some(Self { first, last, length: bytes.len() as u8 })
    }

    #[inline]
    fn place(self) -> usize {
        let mixed = (self.first ^ self.last.rotate_left(29) ^ u64::from(self.length) << 56)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 49) as usize ^ (mixed >> 20) as usize & (N_WORDS - 1)
    }
}

impl<'a> CachedEncoder<'a> {
    /// An encoder that has seen nothing yet.
    pub fn new(tokenizer: Tokenizer<'a>) -> Self {
        Self {
            tokenizer,
            words: vec![Word::default(); N_WORDS].into_boxed_slice(),
            long: HashMap::default(),
            tokens: Vec::new(),
            scratch: vec![0; scratch_words(2 * MAX_STRETCH)],
        }
    }

    /// The tokenizer that it encodes with.
    pub fn tokenizer(&self) -> Tokenizer<'a> {
        self.tokenizer
    }

    /// Appends the tokens of `text` to `out`: what [`Tokenizer::encode`] gives.
    ///
    /// # Errors
    /// [`EncodeError::NeedsNfc`] in a build that cannot do that; memory grows as needed.
    pub fn encode(
        &mut self,
        text: &str,
        special: Special,
        add_bos: bool,
        out: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let before = out.len();
        loop {
            out.extend(self.tokenizer.bos().filter(|_| add_bos));
            match self.encode_with_scratch(text, special, out) {
                Err(EncodeError::ScratchTooSmall { needed, capacity }) => {
                    out.truncate(before);
                    self.scratch.resize(needed.max(capacity.saturating_mul(2)), 0);
                }
                done => return done,
            }
        }
    }

    fn encode_with_scratch(
        &mut self,
        text: &str,
        special: Special,
        out: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let Self { tokenizer, words, long, tokens, scratch } = self;
        tokenizer.stretches(text, special, scratch, |stretch, scratch| {
            let (text, space_prefix) = match stretch {
                Stretch::Token(id) => {
                    out.push(id);
                    return Ok(());
                }
                Stretch::Text { text, space_prefix } => (text, space_prefix),
            };
            let first = out.len();
            if space_prefix || text.len() > MAX_STRETCH {
                return tokenizer.encode_stretch(text, space_prefix, scratch, |id| out.push(id));
            }
            let key = Key::of(text.as_bytes());
            let mut slot = key.and_then(|key| words.get_mut(key.place()));
            if let (Some(key), Some(word)) = (key, &mut slot)
                && word.key == key
            {
                // One token is the rule, and copying a fixed number is faster than a few.
                out.extend_from_slice(&word.tokens);
                out.truncate(first + usize::from(word.n_tokens));
                return Ok(());
            }
            if let Some(&(start, end)) = long.get(text) {
                out.extend_from_slice(tokens.get(start as usize..end as usize).unwrap_or(&[]));
                return Ok(());
            }
            tokenizer.encode_stretch(text, false, scratch, |id| out.push(id))?;
            let made = out.get(first..).unwrap_or(&[]);
            match (key, slot) {
                (Some(key), Some(word)) if made.len() <= word.tokens.len() => {
                    word.key = key;
                    word.n_tokens = made.len() as u8;
                    word.tokens.iter_mut().zip(made).for_each(|(slot, &id)| *slot = id);
                }
                _ if long.len() < MAX_LONG => {
                    // At most 2¹⁷ stretches of 64 bytes: positions fit u32.
                    let start = tokens.len() as u32;
                    tokens.extend(made);
                    long.insert(text.into(), (start, tokens.len() as u32));
                }
                _ => {}
            }
            Ok(())
        })
    }
}

/// Hashes stretches eight bytes at a time, multiplying and folding: several times faster than the
/// standard hash, which guards against chosen keys. Here those only cost their own encoder time,
/// and the cache is bounded.
#[derive(Clone, Copy, Debug, Default)]
struct WordHash;

impl core::hash::BuildHasher for WordHash {
    type Hasher = WordHasher;

    fn build_hasher(&self) -> WordHasher {
        WordHasher(0)
    }
}

struct WordHasher(u64);

impl WordHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl core::hash::Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (slot, &byte) in last.iter_mut().zip(tail) {
            *slot = byte;
        }
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }
}
