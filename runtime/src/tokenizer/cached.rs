//! Encoding much text on a host: each distinct stretch is merged once.

use std::collections::HashMap;
use std::string::String;
use std::vec::Vec;

use super::bpe::scratch_words;
use super::encode::{Special, Stretch};
use super::error::EncodeError;
use super::view::Tokenizer;

/// Stretches that are remembered at most; text has far fewer distinct words.
const MAX_ENTRIES: usize = 1 << 18;
/// Longer stretches are rarely words, and would fill the memory.
const MAX_STRETCH: usize = 64;

/// An encoder that remembers the words it has seen: the tokens of [`Tokenizer::encode`], several
/// times faster on long text, with an allocator. One for each thread.
#[derive(Clone, Debug)]
pub struct CachedEncoder<'a> {
    tokenizer: Tokenizer<'a>,
    /// Where each stretch's tokens are in `tokens`.
    known: HashMap<String, (u32, u32), WordHash>,
    tokens: Vec<u32>,
    scratch: Vec<u32>,
}

impl<'a> CachedEncoder<'a> {
    /// An encoder that has seen nothing yet.
    pub fn new(tokenizer: Tokenizer<'a>) -> Self {
        Self { tokenizer, known: HashMap::default(), tokens: Vec::new(), scratch: Vec::new() }
    }

    /// The tokenizer that it encodes with.
    pub fn tokenizer(&self) -> Tokenizer<'a> {
        self.tokenizer
    }

    /// Appends the tokens of `text` to `out`: what [`Tokenizer::encode`] gives.
    ///
    /// # Errors
    /// [`EncodeError::NeedsNfc`]; memory grows as needed.
    pub fn encode(
        &mut self,
        text: &str,
        special: Special,
        add_bos: bool,
        out: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let tokenizer = self.tokenizer;
        out.extend(tokenizer.bos().filter(|_| add_bos));
        tokenizer.stretches(text, special, |stretch| match stretch {
            Stretch::Token(id) => {
                out.push(id);
                Ok(())
            }
            Stretch::Text { text, space_prefix } => self.encode_stretch(text, space_prefix, out),
        })
    }

    fn encode_stretch(
        &mut self,
        text: &str,
        space_prefix: bool,
        out: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        let remember = !space_prefix && text.len() <= MAX_STRETCH;
        if remember && let Some(&(start, end)) = self.known.get(text) {
            out.extend_from_slice(self.tokens.get(start as usize..end as usize).unwrap_or(&[]));
            return Ok(());
        }
        let words = scratch_words(text.len() + 1);
        if self.scratch.len() < words {
            self.scratch.resize(words, 0);
        }
        let first = out.len();
        self.tokenizer.encode_stretch(text, space_prefix, &mut self.scratch, |id| out.push(id))?;
        if remember && self.known.len() < MAX_ENTRIES {
            // At most 2¹⁸ stretches of 64 bytes: positions fit u32.
            let start = self.tokens.len() as u32;
            self.tokens.extend(out.iter().skip(first));
            self.known.insert(text.into(), (start, self.tokens.len() as u32));
        }
        Ok(())
    }
}

/// Hashes words eight bytes at a time, multiplying and folding: several times faster than the
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
