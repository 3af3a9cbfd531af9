//! BERT's `vocab.txt`: one token a line, its id the line's number from 0.

use std::collections::HashMap;
use std::path::Path;

use smidgen_runtime::tokenizer::{
    Added, BertRules, Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind,
    TokenizerSpec,
};

use super::TokenizerFileError;

/// What a `vocab.txt` does not say: `tokenizer_config.json` beside it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What happens to text first. `None`: words are lower-cased and lose their accents (BERT uncased)
    /// unless the vocabulary has words with capitals (then BERT cased).
    pub rules: Option<BertRules>,
    /// What pads, is unknown, begins, ends and is masked.
    pub special: [String; 5],
}

impl Default for Options {
    fn default() -> Self {
        Self { rules: None, special: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from) }
    }
}

/// Makes the tokenizer of the text of a `vocab.txt`; `path` is for errors.
///
/// # Errors
/// [`TokenizerFileError`] if there is no unknown token.
pub fn parse(text: &str, path: &Path, options: &Options) -> Result<TokenizerSpec, TokenizerFileError> {
    let mut lines: Vec<&str> = text.split('\n').map(|line| line.trim_end_matches('\r')).collect();
    if lines.last() == Some(&"") {
        lines.pop();
    }
    from_tokens(lines.into_iter().map(String::from).collect(), path, options)
}

/// The tokenizer of a list of tokens as `vocab.txt` spells them.
fn from_tokens(
    texts: Vec<String>,
    path: &Path,
    options: &Options,
) -> Result<TokenizerSpec, TokenizerFileError> {
    // A token that comes twice is the last one, as in Hugging Face's reader; the other is no token.
    let ids: HashMap<&str, u32> = texts.iter().map(|text| &text[..]).zip(0..).collect();
    let id = |name: &str| ids.get(name).copied();
    let [_, unknown_name, cls, sep, _] = &options.special;
    let Some(unknown) = id(unknown_name) else {
        let reason = "is missing, and says what BERT's unknown words are";
        return Err(TokenizerFileError::field(path, &unknown_name[..], reason));
    };
    let is_special = |text: &String| options.special.contains(text);
    let capital = |text: &String| {
        !is_special(text)
            && !text.starts_with("[unused")
            && text.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let guessed = || match texts.iter().any(capital) {
        true => Normalizer::BertCased,
        false => Normalizer::BertUncased,
    };
    let normalizer = options.rules.map_or_else(guessed, Normalizer::bert);
    let (cls, sep) = (id(cls), id(sep));
    let added = options.special.iter().filter_map(|name| id(name));
    let added = added.map(|id| Added { closes: Some(id) == sep, ..Added::new(id) }).collect();
    let token = |(at, text): (u32, &String)| {
        if id(text) != Some(at) {
            return TokenSpec { bytes: Vec::new(), token_type: TokenType::Unused, score: 0.0 };
        }
        let token_type = match text {
            text if text == unknown_name => TokenType::Unknown,
            special if is_special(special) => TokenType::Control,
            _ => TokenType::Normal,
        };
        TokenSpec { bytes: text.as_bytes().to_vec(), token_type, score: 0.0 }
    };
    let spec = TokenizerSpec {
        kind: TokenizerKind::WordPiece,
        pre_tokenizer: PreTokenizer::Bert,
        normalizer,
        add_bos: cls.is_some(),
        add_space_prefix: false,
        ignore_merges: false,
        tokens: (0..).zip(&texts).map(token).collect(),
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
    from_tokens(tokens.iter().map(spelled).collect(), path, &Options::default())
}
