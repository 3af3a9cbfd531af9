//! BERT's `vocab.txt`: one token a line, its id the line's number from 0.

use std::path::Path;

use smidgen_runtime::tokenizer::{
    Added, Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::TokenizerFileError;

/// Tokens that BERT's vocabularies have for other than text.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Makes the tokenizer of the text of a `vocab.txt`; `path` is for errors. Its words are lower-cased
/// and lose their accents (BERT uncased) unless the vocabulary has words with capitals.
///
/// # Errors
/// [`TokenizerFileError`] if a token comes twice, or there is no `[UNK]`.
pub fn parse(text: &str, path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let mut lines: Vec<&str> = text.split('\n').map(|line| line.trim_end_matches('\r')).collect();
    if lines.last() == Some(&"") {
        lines.pop();
    }
    from_tokens(lines.into_iter().map(String::from).collect(), path)
}

/// The tokenizer of a list of tokens as `vocab.txt` spells them.
pub(crate) fn from_tokens(texts: Vec<String>, path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let mut first = std::collections::HashMap::new();
    for (id, text) in texts.iter().enumerate() {
        if let Some(before) = first.insert(&text[..], id) {
            let reason = format!("{text:?} is token {before} already");
            return Err(TokenizerFileError::field(path, format!("line {}", id + 1), reason));
        }
    }
    let id = |name: &str| first.get(name).map(|&id| id as u32);
    let Some(unknown) = id("[UNK]") else {
        return Err(TokenizerFileError::field(
            path,
            "[UNK]",
            "is missing, and says what BERT's unknown words are",
        ));
    };
    let is_special = |text: &str| SPECIAL.contains(&text) || text.starts_with("[unused");
    let capital = |text: &String| !is_special(text) && text.bytes().any(|byte| byte.is_ascii_uppercase());
    let cased = texts.iter().any(capital);
    let (cls, sep) = (id("[CLS]"), id("[SEP]"));
    let added = SPECIAL.iter().filter_map(|name| id(name));
    let added = added.map(|id| Added { closes: Some(id) == sep, ..Added::new(id) }).collect();
    let token = |text: &String| {
        let token_type = match &text[..] {
            "[UNK]" => TokenType::Unknown,
            special if SPECIAL.contains(&special) => TokenType::Control,
            _ => TokenType::Normal,
        };
        TokenSpec { bytes: text.as_bytes().to_vec(), token_type, score: 0.0 }
    };
    let spec = TokenizerSpec {
        kind: TokenizerKind::WordPiece,
        pre_tokenizer: PreTokenizer::Bert,
        normalizer: if cased { Normalizer::BertCased } else { Normalizer::BertUncased },
        add_bos: cls.is_some(),
        add_space_prefix: false,
        ignore_merges: false,
        tokens: texts.iter().map(token).collect(),
        merges: Vec::new(),
        bos: cls,
        unknown: Some(unknown),
        end_tokens: sep.into_iter().collect(),
        added,
    };
    match OwnedTokenizer::build(&spec) {
        Ok(_) => Ok(spec),
        Err(source) => Err(TokenizerFileError::Build { path: path.into(), source }),
    }
}

/// The tokenizer of a GGUF vocabulary of model `bert`, whose words begin with `▁` and whose
/// continuations have no `##`.
///
/// # Errors
/// As for [`parse`].
pub fn from_gguf(tokens: &[&[u8]], path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let spelled = |token: &&[u8]| {
        let text = String::from_utf8_lossy(token).into_owned();
        match text.strip_prefix('\u{2581}') {
            Some(word) => word.to_owned(),
            None if text.starts_with('[') && text.ends_with(']') && text.len() > 2 => text,
            None => format!("##{text}"),
        }
    };
    from_tokens(tokens.iter().map(spelled).collect(), path)
}
