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
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    for (at, (number, line)) in lines.enumerate() {
        let wrong = |reason: &str| TokenizerFileError::field(path, format!("line {number}"), reason);
        let (bytes, rank) =
            line.trim().split_once(' ').ok_or_else(|| wrong("is not a token and its rank"))?;
        let bytes = from_base64(bytes).ok_or_else(|| wrong("has a token that is not base64"))?;
        if bytes.len() > MAX_TOKEN_BYTES {
            return Err(wrong(&format!("has a token of {} bytes, more than {MAX_TOKEN_BYTES}", bytes.len())));
        }
        let rank: usize = rank.parse().map_err(|_| wrong("has a rank that is no number"))?;
        // Some encodings leave ranks out, but wild ranks must not claim all memory.
        if rank > 2 * at + 1000 {
            return Err(wrong(&format!("has rank {rank} after {at} tokens")));
        }
        if tokens.len() <= rank {
            tokens.resize(rank + 1, None);
        }
        if tokens[rank].replace(bytes).is_some() {
            return Err(wrong(&format!("has rank {rank}, as an earlier line")));
        }
    }
    let (pattern, special) = encoding(tokens.len(), path)?;
    build(tokens, pattern, &special, path)
}

type Special = Vec<(String, usize)>;

/// What else there is to say of the encoding with `n` ranks (the highest and one, if some are left
/// out): its pattern, and its special tokens with their ids.
fn encoding(n: usize, path: &Path) -> Result<(PreTokenizer, Special), TokenizerFileError> {
    let named = |tokens: &[(&str, usize)]| tokens.iter().map(|(name, id)| ((*name).into(), *id)).collect();
    Ok(match n {
        // r50k (GPT-2), and p50k, whose further ranks stand behind the special token.
        50_256 | 50_257 | 50_281 => (PreTokenizer::Gpt2, named(&[("<|endoftext|>", 50_256)])),
        100_256 => (
            PreTokenizer::Cl100k,
            named(&[
                ("<|endoftext|>", 100_257),
                ("<|fim_prefix|>", 100_258),
                ("<|fim_middle|>", 100_259),
                ("<|fim_suffix|>", 100_260),
                ("<|endofprompt|>", 100_276),
            ]),
        ),
        151_643 => (
            PreTokenizer::Qwen2,
            named(&[("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)]),
        ),
        128_000 => (PreTokenizer::Llama3, llama3_special().map(|(at, name)| (name, 128_000 + at)).collect()),
        199_998 => {
            let what = "o200k's pattern (199998 ranks)";
            return Err(TokenizerFileError::unsupported(path, "the number of ranks", what));
        }
        _ => (PreTokenizer::Llama3, Vec::new()),
    })
}

/// Llama 3's 256 special tokens: five that have a name, and those that are kept for later.
fn llama3_special() -> impl Iterator<Item = (usize, String)> {
    let named = |at: usize| match at {
        0 => Some("begin_of_text"),
        1 => Some("end_of_text"),
        6 => Some("start_header_id"),
        7 => Some("end_header_id"),
        9 => Some("eot_id"),
        _ => None,
    };
    let unnamed = (0..256).filter(move |at| named(*at).is_none());
    let reserved = unnamed.zip(0..).map(|(at, number)| (at, format!("<|reserved_special_token_{number}|>")));
    (0..256).filter_map(move |at| Some((at, format!("<|{}|>", named(at)?)))).chain(reserved)
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
    build(tokens, PreTokenizer::Gpt2, &[("<|endoftext|>".into(), end as usize)], path)
}

/// The longest token: no vocabulary's is near, and what makes merges of a token costs its square.
const MAX_TOKEN_BYTES: usize = 4096;

/// What an llm.c tokenizer begins with.
pub const LLMC_MAGIC: u32 = 20_240_328;

fn build(
    tokens: Vec<Option<Vec<u8>>>,
    pre_tokenizer: PreTokenizer,
    special: &[(String, usize)],
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
            matches!(&name[..], "<|endoftext|>" | "<|end_of_text|>" | "<|eot_id|>" | "<|im_end|>")
        })
        .map(|(_, id)| *id as u32)
        .collect();
    let bos = special.iter().find(|(name, _)| name == "<|begin_of_text|>").map(|(_, id)| *id as u32);
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
    let normal = (0u32..).zip(tokens).filter(|(_, token)| token.token_type == TokenType::Normal);
    let longer = normal.filter(|(_, token)| token.bytes.len() > 1);
    Ok(longer.filter_map(|(rank, token)| merge_of(&token.bytes, rank, &ids)).collect())
}

/// The last merge that makes `bytes`, the token of `rank`. A token that no merge of two tokens makes
/// is only ever a whole word.
fn merge_of(bytes: &[u8], rank: u32, ids: &HashMap<&[u8], u32>) -> Option<(u32, u32)> {
    // Where each part begins, and the end; and the token that each part and the next one make.
    let mut cuts: Vec<usize> = (0..=bytes.len()).collect();
    let joined = |cuts: &[usize], at: usize| {
        let (start, end) = (cuts.get(at)?, cuts.get(at + 2)?);
        ids.get(&bytes[*start..*end]).copied().filter(|id| *id < rank)
    };
    let mut made: Vec<Option<u32>> = (0..bytes.len() - 1).map(|at| joined(&cuts, at)).collect();
    while made.len() > 1 {
        let best = (0..).zip(&made).filter_map(|(at, id)| Some(((*id)?, at))).min();
        let Some((_, at)) = best else { break };
        cuts.remove(at + 1);
        made.remove(at);
        for at in [at.checked_sub(1), (at < made.len()).then_some(at)].into_iter().flatten() {
            made[at] = joined(&cuts, at);
        }
    }
    let [start, middle, end] = cuts[..] else { return None };
    Some((*ids.get(&bytes[start..middle])?, *ids.get(&bytes[middle..end])?))
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
