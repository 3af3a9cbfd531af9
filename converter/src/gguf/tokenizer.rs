//! The tokenizer that a GGUF file carries, both ways.

use std::collections::HashMap;

use smidgen_runtime::tokenizer::{
    Added, Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::file::File;
use crate::error::Error;
use crate::tokenizer::{TokenizerFileError, byte_to_char, char_to_byte};

/// SentencePiece's mark for a space.
const SPACE_MARK: &str = "\u{2581}";
/// Every token that ends a text, where the usual two keys don't say it all.
pub(super) const END_TOKENS: &str = "smidgen.end_tokens";

/// The tokenizer and notes about it; `None` if the file has none.
pub(super) fn read(file: &File) -> Result<Option<(TokenizerSpec, Vec<String>)>, Error> {
    let model_key = "tokenizer.ggml.model";
    let sentencepiece = match file.text(model_key)? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("llama") => true,
        Some("gpt2") => false,
        Some("bert") => {
            let key = "tokenizer.ggml.tokens";
            let tokens = file.texts(key)?.ok_or_else(|| file.key_error(key, "an array of strings"))?;
            return Ok(Some((crate::tokenizer::wordpiece::from_gguf(&tokens, &file.path)?, Vec::new())));
        }
        Some(_) => return Err(file.key_error(model_key, "llama, gpt2 or bert (or convert with --tokenizer)")),
    };
    let mut notes = Vec::new();
    let tokens_key = "tokenizer.ggml.tokens";
    let texts = file.texts(tokens_key)?.ok_or_else(|| file.key_error(tokens_key, "an array of strings"))?;
    let n = texts.len();
    let types = file.words("tokenizer.ggml.token_type")?;
    let scores = file.words("tokenizer.ggml.scores")?;
    for (key, len) in
        [("token_type", types.as_ref().map(Vec::len)), ("scores", scores.as_ref().map(Vec::len))]
    {
        if len.is_some_and(|len| len != n) {
            return Err(
                file.key_error(&format!("tokenizer.ggml.{key}"), format!("one for each of {n} tokens"))
            );
        }
    }
    let mut tokens = Vec::with_capacity(n);
    for (id, text) in texts.iter().enumerate() {
        let number = types.as_ref().map_or(1, |types| types[id]);
        let token_type = u8::try_from(number).ok().and_then(TokenType::from_u8);
        let wrong = |reason: String| {
            Error::Tokenizer(TokenizerFileError::Field {
                path: file.path.clone(),
                field: format!("{tokens_key}[{id}]"),
                reason,
            })
        };
        let token_type = token_type.ok_or_else(|| wrong(format!("has type {number}, known are 1 to 6")))?;
        let bytes = match token_type {
            TokenType::Byte => vec![byte_token(text).ok_or_else(|| wrong("is no byte like <0x0A>".into()))?],
            TokenType::Normal if sentencepiece => match std::str::from_utf8(text) {
                Ok(text) => text.replace(SPACE_MARK, " ").into_bytes(),
                Err(_) => text.to_vec(),
            },
            TokenType::Normal => {
                let text = std::str::from_utf8(text).map_err(|_| wrong("is not UTF-8".into()))?;
                let bytes: Option<Vec<u8>> = text.chars().map(char_to_byte).collect();
                bytes.ok_or_else(|| wrong(format!("{text:?} is not in the byte-level alphabet")))?
            }
            TokenType::UserDefined if sentencepiece => {
                String::from_utf8_lossy(text).replace(SPACE_MARK, " ").into_bytes()
            }
            _ => text.to_vec(),
        };
        let score =
            scores.as_ref().filter(|_| sentencepiece).map_or(0.0, |scores| f32::from_bits(scores[id]));
        tokens.push(TokenSpec { bytes, token_type, score });
    }
    // Rows of the embedding that are no tokens, as converters (ours, too) name them.
    let is_pad = |id: usize, token: &TokenSpec| {
        token.token_type == TokenType::Unused && token.bytes == format!("[PAD{id}]").as_bytes()
    };
    while tokens.last().is_some_and(|token| is_pad(tokens.len() - 1, token)) {
        tokens.pop();
    }
    let n = tokens.len() as u32;
    let id = |key: &str| {
        let key = format!("tokenizer.ggml.{key}");
        match file.integer(&key, u32::MAX)? {
            // What converters write for "none".
            Some(u32::MAX) | None => Ok(None),
            Some(id) if id < n => Ok(Some(id)),
            Some(_) => Err(file.key_error(&key, format!("a token below {n}"))),
        }
    };
    let (pre_tokenizer, normalizer, ignore_merges) = if sentencepiece {
        (PreTokenizer::None, Normalizer::None, false)
    } else {
        pre_tokenizer(file, &mut notes)?
    };
    let has_special = |kind| tokens.iter().any(|token| token.token_type == kind);
    let default = |id: u32| sentencepiece.then_some(id).filter(|id| *id < n);
    let bos = id("bos_token_id")?.or(default(1).filter(|_| has_special(TokenType::Control)));
    let add_bos = file.boolean("tokenizer.ggml.add_bos_token")?.unwrap_or(sentencepiece || ignore_merges);
    let unknown = id("unknown_token_id")?.filter(|id| tokens[*id as usize].token_type == TokenType::Unknown);
    let spec = TokenizerSpec {
        kind: if sentencepiece { TokenizerKind::SentencePieceBpe } else { TokenizerKind::ByteLevelBpe },
        pre_tokenizer,
        normalizer,
        add_bos: add_bos && bos.is_some(),
        add_space_prefix: sentencepiece && file.boolean("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        ignore_merges,
        merges: if sentencepiece { Vec::new() } else { merges(file, &tokens)? },
        bos,
        unknown,
        end_tokens: end_tokens(file, n, [id("eos_token_id")?, id("eot_token_id")?, id("eom_token_id")?])?,
        added: (0..)
            .zip(&tokens)
            .filter(|(_, token)| {
                use TokenType::{Control, Unknown, UserDefined};
                matches!(token.token_type, Control | Unknown | UserDefined) && !token.bytes.is_empty()
            })
            .map(|(id, _)| Added::new(id))
            .collect(),
        tokens,
    };
    match OwnedTokenizer::build(&spec) {
        Ok(_) => Ok(Some((spec, notes))),
        Err(source) => Err(TokenizerFileError::Build { path: file.path.clone(), source }.into()),
    }
}

fn byte_token(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.len() == 2)?;
    u8::from_str_radix(hex, 16).ok()
}

fn end_tokens(file: &File, n: u32, usual: [Option<u32>; 3]) -> Result<Vec<u32>, Error> {
    if let Some(ids) = file.words(END_TOKENS)? {
        return match ids.iter().all(|id| *id < n) {
            true => Ok(ids),
            false => Err(file.key_error(END_TOKENS, format!("tokens below {n}"))),
        };
    }
    let mut ids = Vec::new();
    for id in usual.into_iter().flatten() {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// llama.cpp's names for ways to cut text that we have, with what comes with them there.
fn pre_tokenizer(file: &File, notes: &mut Vec<String>) -> Result<(PreTokenizer, Normalizer, bool), Error> {
    let key = "tokenizer.ggml.pre";
    Ok(match file.text(key)? {
        Some("gpt-2" | "gpt2") => (PreTokenizer::Gpt2, Normalizer::None, false),
        Some("smollm") => (PreTokenizer::DigitsGpt2, Normalizer::None, false),
        Some("llama-bpe" | "llama3" | "llama-v3") => (PreTokenizer::Llama3, Normalizer::None, true),
        Some("qwen2" | "deepseek-r1-qwen") => (PreTokenizer::Qwen2, Normalizer::Nfc, false),
        None => {
            notes.push(
                "the file does not say how text is cut (tokenizer.ggml.pre): taken for GPT-2's way".into(),
            );
            (PreTokenizer::Gpt2, Normalizer::None, false)
        }
        Some(_) => {
            let known = "gpt-2, smollm, llama-bpe or qwen2 (or convert with --tokenizer)";
            return Err(file.key_error(key, known));
        }
    })
}

fn merges(file: &File, tokens: &[TokenSpec]) -> Result<Vec<(u32, u32)>, Error> {
    let key = "tokenizer.ggml.merges";
    let listed = file.texts(key)?.ok_or_else(|| file.key_error(key, "an array of strings"))?;
    let mut ids: HashMap<&[u8], u32> = HashMap::new();
    for (id, token) in (0..).zip(tokens) {
        if token.token_type == TokenType::Normal {
            ids.entry(&token.bytes).or_insert(id);
        }
    }
    let pair = |(rank, text): (usize, &&[u8])| {
        let text = String::from_utf8_lossy(text);
        let bytes = |part: &str| part.chars().map(char_to_byte).collect::<Option<Vec<u8>>>();
        let id = |part: &str| ids.get(&bytes(part)?[..]).copied();
        // The first symbol may be a space's stand-in, never a space: any space separates.
        let (left, right) = text.split_once(' ').unwrap_or_default();
        id(left).zip(id(right)).ok_or_else(|| {
            Error::Tokenizer(TokenizerFileError::Field {
                path: file.path.clone(),
                field: format!("{key}[{rank}]"),
                reason: format!("{text:?} is not two tokens with a space between them"),
            })
        })
    };
    listed.iter().enumerate().map(pair).collect()
}

/// A tokenizer as a GGUF file says it.
pub(super) struct Words {
    pub(super) model: &'static str,
    pub(super) pre: Option<&'static str>,
    pub(super) tokens: Vec<String>,
    pub(super) types: Vec<u32>,
    pub(super) scores: Option<Vec<f32>>,
    pub(super) merges: Option<Vec<String>>,
}

/// What llama.cpp is told of a tokenizer, `rows` tokens in all.
pub(super) fn words(spec: &TokenizerSpec, rows: usize) -> Result<Words, Error> {
    let unwritable = |what: &str| {
        let what = format!("{what} (say --no-tokenizer to leave it out)");
        Error::Option(format!("the tokenizer can't be said in GGUF: {what}"))
    };
    let sentencepiece = spec.kind == TokenizerKind::SentencePieceBpe;
    let pre = match (sentencepiece, spec.pre_tokenizer) {
        (true, _) => Some("default"),
        (false, _) if spec.kind != TokenizerKind::ByteLevelBpe => return Err(unwritable("it is WordPiece")),
        _ if !sentencepiece && spec.add_space_prefix => {
            return Err(unwritable(
                "it puts a space before texts, which llama.cpp does not do for BPE over bytes",
            ));
        }
        (_, PreTokenizer::Gpt2) => Some("gpt-2"),
        (_, PreTokenizer::DigitsGpt2) => Some("smollm"),
        (_, PreTokenizer::Llama3) => Some("llama-bpe"),
        (_, PreTokenizer::Qwen2) => Some("qwen2"),
        _ => return Err(unwritable("llama.cpp has no name for its way of cutting text")),
    };
    let spell = |bytes: &[u8]| bytes.iter().map(|byte| byte_to_char(*byte)).collect::<String>();
    let text = |token: &TokenSpec| match (token.token_type, &token.bytes[..]) {
        (TokenType::Byte, [byte]) => format!("<0x{byte:02X}>"),
        (TokenType::Normal, bytes) if !sentencepiece => spell(bytes),
        (TokenType::Normal | TokenType::UserDefined, bytes) if sentencepiece => {
            String::from_utf8_lossy(bytes).replace(' ', SPACE_MARK)
        }
        (_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    let mut tokens: Vec<String> = spec.tokens.iter().map(text).collect();
    let mut types: Vec<u32> = spec.tokens.iter().map(|token| token.token_type as u32).collect();
    for id in tokens.len()..rows {
        tokens.push(format!("[PAD{id}]"));
        types.push(TokenType::Unused as u32);
    }
    let merge = |(left, right): &(u32, u32)| {
        let part =
            |id: u32| spec.tokens.get(id as usize).map_or_else(String::new, |token| spell(&token.bytes));
        format!("{} {}", part(*left), part(*right))
    };
    let scores = sentencepiece.then(|| {
        let mut scores: Vec<f32> = spec.tokens.iter().map(|token| token.score).collect();
        by_rank(spec, &mut scores);
        scores.resize(rows.max(scores.len()), 0.0);
        scores
    });
    let merges = (!sentencepiece).then(|| spec.merges.iter().map(merge).collect());
    let model = if sentencepiece { "llama" } else { "gpt2" };
    Ok(Words { model, pre, tokens, types, scores, merges })
}

/// A SentencePiece vocabulary that merges by a list gets scores that fall with the list.
fn by_rank(spec: &TokenizerSpec, scores: &mut [f32]) {
    let ids: HashMap<&[u8], usize> =
        (0..).zip(&spec.tokens).map(|(id, token)| (&token.bytes[..], id)).collect();
    for (rank, (left, right)) in spec.merges.iter().enumerate().rev() {
        let part = |id: u32| spec.tokens.get(id as usize).map_or(&[][..], |token| &token.bytes);
        let joined = [part(*left), part(*right)].concat();
        if let Some(score) = ids.get(&joined[..]).and_then(|id| scores.get_mut(*id)) {
            *score = -(rank as f32) - 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_before_bytes_is_not_lost_silently() {
        let mut spec = crate::test_models::byte_tokenizer();
        assert!(words(&spec, spec.tokens.len()).is_ok());
        spec.add_space_prefix = true;
        let error = words(&spec, spec.tokens.len()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("it puts a space before texts"), "{error}");
    }
}
