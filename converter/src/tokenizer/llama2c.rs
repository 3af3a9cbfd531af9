//! llama2.c's `tokenizer.bin`: u32 longest token, then per token {f32 score, u32 length, bytes}.
//!
//! The file does not say how many tokens it holds, nor which of them are special: token 0 is
//! unknown, 1 begins and 2 ends a text, 3 to 258 are the bytes, as SentencePiece numbers them.

use std::fs;
use std::path::Path;

use smidgen_runtime::tokenizer::{
    Added, Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::TokenizerFileError;

const UNKNOWN: usize = 0;
const BOS: usize = 1;
const EOS: usize = 2;
const FIRST_BYTE: usize = 3;

/// Reads `tokenizer.bin`, whose vocabulary has `vocab_size` tokens (the model's header says so).
///
/// Both BOS and EOS end a text: llama2.c's models put BOS between texts, and its program stops
/// there.
///
/// # Errors
/// [`TokenizerFileError`] if the file has fewer or more tokens, or they are not numbered as above.
pub fn read_file(path: &Path, vocab_size: usize) -> Result<TokenizerSpec, TokenizerFileError> {
    let bytes = fs::read(path).map_err(|source| TokenizerFileError::Io { path: path.into(), source })?;
    parse(&bytes, path, vocab_size)
}

/// [`read_file`] of bytes that are in memory; `path` is for errors.
///
/// # Errors
/// As for [`read_file`].
pub fn parse(bytes: &[u8], path: &Path, vocab_size: usize) -> Result<TokenizerSpec, TokenizerFileError> {
    let mut reader = Reader { bytes, at: 0, path, vocab_size };
    let longest = reader.u32(0)?;
    let mut tokens = Vec::new();
    for id in 0..vocab_size {
        let score = f32::from_bits(reader.u32(id)?);
        let length = reader.u32(id)?;
        if length > longest {
            let reason = format!("has {length} bytes, but max_token_length is {longest}");
            return Err(TokenizerFileError::field(path, format!("token {id}"), reason));
        }
        tokens.push(token(id, reader.take(id, length as usize)?, score, path)?);
    }
    if reader.at != bytes.len() {
        return Err(reader.length_error(vocab_size.saturating_sub(1), reader.at));
    }
    if vocab_size < FIRST_BYTE + 256 {
        let reason = format!("{vocab_size} tokens have no room for 3 special ones and 256 bytes");
        return Err(TokenizerFileError::field(path, "vocab_size", reason));
    }
    let added = |id: usize| Added::new(id as u32);
    let spec = TokenizerSpec {
        kind: TokenizerKind::SentencePieceBpe,
        pre_tokenizer: PreTokenizer::None,
        normalizer: Normalizer::None,
        add_bos: true,
        add_space_prefix: true,
        ignore_merges: false,
        tokens,
        merges: Vec::new(),
        bos: Some(BOS as u32),
        unknown: Some(UNKNOWN as u32),
        end_tokens: vec![BOS as u32, EOS as u32],
        added: vec![added(UNKNOWN), added(BOS), added(EOS)],
    };
    match OwnedTokenizer::build(&spec) {
        Ok(_) => Ok(spec),
        Err(source) => Err(TokenizerFileError::Build { path: path.into(), source }),
    }
}

/// How many tokens a `tokenizer.bin` holds, by its lengths; `None` if it is none.
pub(crate) fn count_tokens(bytes: &[u8]) -> Option<usize> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let longest = word(0)?;
    let (mut at, mut n) = (4, 0);
    while at < bytes.len() {
        let length = word(at + 4)?;
        at = at.checked_add(8)?.checked_add(length)?;
        if length > longest || at > bytes.len() {
            return None;
        }
        n += 1;
    }
    (n > 0).then_some(n)
}

fn token(id: usize, text: &[u8], score: f32, path: &Path) -> Result<TokenSpec, TokenizerFileError> {
    // llama2.c's exporter writes "\n<s>\n", to print it so.
    let (bytes, token_type) = match id {
        UNKNOWN => (text.to_vec(), TokenType::Unknown),
        BOS | EOS => (text.trim_ascii().to_vec(), TokenType::Control),
        FIRST_BYTE..259 => {
            let byte = (id - FIRST_BYTE) as u8;
            if text != format!("<0x{byte:02X}>").as_bytes() {
                let found = String::from_utf8_lossy(text).into_owned();
                let reason = format!("is {found:?} where <0x{byte:02X}> belongs");
                return Err(TokenizerFileError::field(path, format!("token {id}"), reason));
            }
            (vec![byte], TokenType::Byte)
        }
        _ => (text.to_vec(), TokenType::Normal),
    };
    Ok(TokenSpec { bytes, token_type, score })
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    path: &'b Path,
    vocab_size: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, token: usize, length: usize) -> Result<&'b [u8], TokenizerFileError> {
        let end = self.at.saturating_add(length);
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.length_error(token, end))?;
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self, token: usize) -> Result<u32, TokenizerFileError> {
        let bytes = self.take(token, 4)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn length_error(&self, token: usize, end: usize) -> TokenizerFileError {
        TokenizerFileError::Length {
            path: self.path.into(),
            token,
            vocab_size: self.vocab_size,
            end,
            file_len: self.bytes.len(),
        }
    }
}
