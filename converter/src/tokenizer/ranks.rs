//! Byte-level vocabularies without a merge list: tiktoken's ranks, and llm.c's tokenizer.
//!
//! Both list tokens in order of rank. The merge that makes a token is the last one that merging its
//! bytes by the ranks below its own comes to: two parts, always.

use std::collections::HashMap;
use std::path::Path;

use smidgen_runtime::config::MAX_DIMENSION;
use smidgen_runtime::tokenizer::{
    Added, Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::TokenizerFileError;

/// Makes the tokenizer of the text of a tiktoken file, lines of "base64 rank"; `path` is for errors.
/// How many ranks there are says which of tiktoken's encodings it is, with its pattern and its
/// special tokens; any other number is taken for Llama 3's.
///
/// # Errors
/// [`TokenizerFileError`] names the line.
pub fn parse_tiktoken(text: &str, path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let mut tokens: Vec<Option<Vec<u8>>> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |reason: &str| TokenizerFileError::field(path, format!("line {number}"), reason);
        let (bytes, rank) =
            line.trim().split_once(' ').ok_or_else(|| wrong("is not a token and its rank"))?;
        let bytes = from_base64(bytes).ok_or_else(|| wrong("has a token that is not base64"))?;
        let rank: usize = rank.parse().map_err(|_| wrong("has a rank that is no number"))?;
        // A wild rank must not claim all memory.
        if rank > tokens.len() + 100_000 {
            return Err(wrong(&format!("has rank {rank} after {} tokens", tokens.len())));
        }
        if tokens.len() <= rank {
            tokens.resize(rank + 1, None);
        }
        if tokens[rank].replace(bytes).is_some() {
            return Err(wrong(&format!("has rank {rank}, as an earlier line")));
        }
    }
    let n = tokens.len();
    let (pattern, special): (_, &[(&str, usize)]) = match n {
        50256 | 50257 => (PreTokenizer::Gpt2, &[("<|endoftext|>", 50256)]),
        100_256 => (
            PreTokenizer::Cl100k,
            &[
                ("<|endoftext|>", 100_257),
                ("<|fim_prefix|>", 100_258),
                ("<|fim_middle|>", 100_259),
                ("<|fim_suffix|>", 100_260),
                ("<|endofprompt|>", 100_276),
            ],
        ),
        151_643 => (
            PreTokenizer::Qwen2,
            &[("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)],
        ),
        128_000 => (
            PreTokenizer::Llama3,
            &[
                ("<|begin_of_text|>", 128_000),
                ("<|end_of_text|>", 128_001),
                ("<|start_header_id|>", 128_006),
                ("<|end_header_id|>", 128_007),
                ("<|eot_id|>", 128_009),
            ],
        ),
        199_998 => {
            let what = "o200k's pattern (199998 ranks)";
            return Err(TokenizerFileError::unsupported(path, "the number of ranks", what));
        }
        _ => (PreTokenizer::Llama3, &[]),
    };
    build(tokens, pattern, special, path)
}

/// Makes the tokenizer of llm.c's file: 256 words of header (magic, version, tokens, and from version
/// 2 the end token), then each token behind its length in one byte.
///
/// # Errors
/// [`TokenizerFileError`] names the token.
pub fn parse_llmc(bytes: &[u8], path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let word = |at: usize| bytes.get(4 * at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let field = |name: &str, reason: String| TokenizerFileError::field(path, name, reason);
    let (Some(magic), Some(version), Some(n), Some(end)) = (word(0), word(1), word(2), word(3)) else {
        return Err(field("header", format!("has only {} bytes of 1024", bytes.len())));
    };
    if magic != LLMC_MAGIC {
        return Err(field("magic", format!("is {magic}, an llm.c tokenizer's is {LLMC_MAGIC}")));
    }
    if !(1..=2).contains(&version) {
        return Err(field("version", format!("is {version}, known are 1 and 2")));
    }
    if !(257..=MAX_DIMENSION).contains(&n) {
        return Err(field("vocab_size", format!("is {n}, must be 257 to {MAX_DIMENSION}")));
    }
    // Version 1 does not say which token ends a text: llm.c takes GPT-2's.
    let end = if version == 2 { end } else { 50256 };
    if end >= n {
        return Err(field("eot_token", format!("is {end}, not below vocab_size {n}")));
    }
    let mut at = 1024;
    let mut tokens = Vec::new();
    for token in 0..n as usize {
        let length = usize::from(bytes.get(at).copied().unwrap_or(0));
        let end = at + 1 + length;
        let Some(text) = bytes.get(at + 1..end) else {
            let (vocab_size, file_len) = (n as usize, bytes.len());
            return Err(TokenizerFileError::Length { path: path.into(), token, vocab_size, end, file_len });
        };
        tokens.push(Some(text.to_vec()));
        at = end;
    }
    if at != bytes.len() {
        return Err(field("file", format!("has {} bytes behind its last token", bytes.len() - at)));
    }
    let name = "<|endoftext|>";
    build(tokens, PreTokenizer::Gpt2, &[(name, end as usize)], path)
}

/// What an llm.c tokenizer begins with.
pub const LLMC_MAGIC: u32 = 20_240_328;

fn build(
    tokens: Vec<Option<Vec<u8>>>,
    pre_tokenizer: PreTokenizer,
    special: &[(&str, usize)],
    path: &Path,
) -> Result<TokenizerSpec, TokenizerFileError> {
    let n = special.iter().map(|(_, id)| id + 1).max().unwrap_or(0).max(tokens.len());
    let hole = TokenSpec { bytes: Vec::new(), token_type: TokenType::Unused, score: 0.0 };
    let mut listed = vec![hole; n];
    for (slot, bytes) in listed.iter_mut().zip(tokens) {
        if let Some(bytes) = bytes {
            *slot = TokenSpec { bytes, token_type: TokenType::Normal, score: 0.0 };
        }
    }
    for (name, id) in special {
        listed[*id] =
            TokenSpec { bytes: name.as_bytes().to_vec(), token_type: TokenType::Control, score: 0.0 };
    }
    let merges = merges(&listed, path)?;
    let end: Vec<u32> = special
        .iter()
        .filter(|(name, _)| {
            matches!(*name, "<|endoftext|>" | "<|end_of_text|>" | "<|eot_id|>" | "<|im_end|>")
        })
        .map(|(_, id)| *id as u32)
        .collect();
    let bos = special.iter().find(|(name, _)| *name == "<|begin_of_text|>").map(|(_, id)| *id as u32);
    let spec = TokenizerSpec {
        kind: TokenizerKind::ByteLevelBpe,
        pre_tokenizer,
        normalizer: if pre_tokenizer == PreTokenizer::Qwen2 { Normalizer::Nfc } else { Normalizer::None },
        add_bos: bos.is_some(),
        add_space_prefix: false,
        // tiktoken looks a whole word up before it merges.
        ignore_merges: true,
        tokens: listed,
        merges,
        bos: bos.or(end.first().copied()),
        unknown: None,
        end_tokens: end,
        added: special.iter().map(|(_, id)| Added::new(*id as u32)).collect(),
    };
    match OwnedTokenizer::build(&spec) {
        Ok(_) => Ok(spec),
        Err(source) => Err(TokenizerFileError::Build { path: path.into(), source }),
    }
}

/// The merge that makes each token of more than one byte, in order of rank.
fn merges(tokens: &[TokenSpec], path: &Path) -> Result<Vec<(u32, u32)>, TokenizerFileError> {
    let mut ids: HashMap<&[u8], u32> = HashMap::new();
    for (id, token) in (0..).zip(tokens).filter(|(_, token)| token.token_type == TokenType::Normal) {
        if ids.insert(&token.bytes, id).is_some() {
            return Err(TokenizerFileError::field(path, format!("token {id}"), "comes twice"));
        }
    }
    let mut merges = Vec::new();
    let normal = (0u32..).zip(tokens).filter(|(_, token)| token.token_type == TokenType::Normal);
    for (rank, token) in normal.filter(|(_, token)| token.bytes.len() > 1) {
        let bytes = &token.bytes[..];
        // Where each part begins, and the end.
        let mut cuts: Vec<usize> = (0..=bytes.len()).collect();
        while cuts.len() > 3 {
            let id = |at: usize| ids.get(&bytes[cuts[at]..cuts[at + 2]]).copied().filter(|id| *id < rank);
            let best = (0..cuts.len() - 2).filter_map(|at| Some((id(at)?, at))).min();
            let Some((_, at)) = best else { break };
            cuts.remove(at + 1);
        }
        // A token that no merge of two tokens makes is only ever a whole word.
        if let [start, middle, end] = cuts[..]
            && let (Some(&left), Some(&right)) =
                (ids.get(&bytes[start..middle]), ids.get(&bytes[middle..end]))
        {
            merges.push((left, right));
        }
    }
    Ok(merges)
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    (!bytes.is_empty() && text.len().is_multiple_of(4)).then_some(bytes)
}
