//! Writing `tokenizer.json`, so that Python's `tokenizers` and `transformers` give the same ids.

use std::collections::HashMap;
use std::path::Path;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use smidgen_runtime::tokenizer::{
    Normalizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::pattern;
use crate::atomic;
use crate::error::{Error, io_at};
use crate::tokenizer::{TokenizerFileError, byte_to_char};

/// `tokenizer.json` for `spec`.
///
/// # Errors
/// [`TokenizerFileError::Unwritable`] for what Hugging Face's format cannot say.
pub fn to_json(spec: &TokenizerSpec) -> Result<String, TokenizerFileError> {
    if spec.kind == TokenizerKind::WordPiece {
        return wordpiece(spec);
    }
    let names: Vec<String> = spec.tokens.iter().map(|token| name(token, spec.kind)).collect();
    let byte_level = match spec.kind {
        TokenizerKind::ByteLevelBpe => true,
        TokenizerKind::SentencePieceBpe => false,
        other => return Err(unwritable(format!("a tokenizer of kind {other:?}"))),
    };
    let pre_tokenizer = match pattern::describe(spec.pre_tokenizer, spec.add_space_prefix) {
        Some(described) if byte_level => described,
        _ if !byte_level => metaspace(spec),
        _ => return Err(unwritable(format!("the pre-tokenizer {:?}", spec.pre_tokenizer))),
    };
    let merges = if byte_level || !spec.merges.is_empty() {
        spec.merges.clone()
    } else {
        merges_by_score(&spec.tokens)
    };
    let merges: Vec<String> = merges
        .iter()
        .map(|&(left, right)| match (names.get(left as usize), names.get(right as usize)) {
            (Some(left), Some(right)) => Ok(format!("{left} {right}")),
            _ => Err(unwritable(format!("a merge of tokens {left} and {right} of {}", names.len()))),
        })
        .collect::<Result<_, _>>()?;
    let name_of = |id: u32| names.get(id as usize).cloned();
    let file = File {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: added_tokens(spec, &names),
        normalizer: normalizer(spec),
        pre_tokenizer,
        post_processor: post_processor(spec, name_of),
        decoder: decoder(spec, byte_level),
        model: Model {
            r#type: "BPE",
            dropout: None,
            unk_token: spec.unknown.and_then(name_of),
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: !byte_level,
            byte_fallback: !byte_level,
            ignore_merges: spec.ignore_merges,
            vocab: InOrder(&names),
            merges,
        },
    };
    serde_json::to_string(&file).map_err(|error| unwritable(error.to_string()))
}

/// BERT's `tokenizer.json`.
fn wordpiece(spec: &TokenizerSpec) -> Result<String, TokenizerFileError> {
    let names: Vec<String> = spec.tokens.iter().map(|token| name(token, spec.kind)).collect();
    let name_of = |id: u32| names.get(id as usize).cloned();
    let Some(rules) = spec.normalizer.bert_rules() else {
        return Err(unwritable(format!("WordPiece with the normalizer {:?}", spec.normalizer)));
    };
    let model = WordPieceModel {
        r#type: "WordPiece",
        unk_token: spec.unknown.and_then(name_of),
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
        vocab: InOrder(&names),
    };
    let model = serde_json::to_string(&model).map_err(|error| unwritable(error.to_string()))?;
    let rest = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added_tokens(spec, &names),
        "normalizer": {"type": "BertNormalizer", "clean_text": rules.clean_text,
            "handle_chinese_chars": rules.handle_chinese_chars,
            "strip_accents": rules.strip_accents, "lowercase": rules.lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": post_processor(spec, name_of),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
    });
    // The vocabulary in order of id, which a JSON value would sort by name.
    let rest = rest.to_string();
    Ok(format!("{},\"model\":{model}}}", rest.strip_suffix('}').unwrap_or(&rest)))
}

/// The pre-tokenizer of a SentencePiece vocabulary that is not the older `Prepend`.
fn metaspace(spec: &TokenizerSpec) -> Value {
    let (scheme, split) = match spec.pre_tokenizer {
        PreTokenizer::Metaspace => ("always", false),
        PreTokenizer::MetaspaceFirst => ("first", false),
        PreTokenizer::MetaspaceWords => ("always", true),
        PreTokenizer::MetaspaceFirstWords => ("first", true),
        _ => return Value::Null,
    };
    let scheme = if spec.add_space_prefix { scheme } else { "never" };
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split})
}

/// Writes `tokenizer.json` at `path`, first under another name, so that no half file is ever seen.
///
/// # Errors
/// [`TokenizerFileError`], also if the file cannot be written.
pub fn write_file(spec: &TokenizerSpec, path: &Path) -> Result<(), TokenizerFileError> {
    write_atomically(path, &to_json(spec)?)
}

/// Writes `tokenizer.json` and `tokenizer_config.json` into `dir`, each first under another name,
/// so that no half file is ever seen.
///
/// # Errors
/// [`TokenizerFileError`], also if a file cannot be written.
pub fn write_directory(spec: &TokenizerSpec, dir: &Path) -> Result<(), TokenizerFileError> {
    let name_of = |id: u32| spec.tokens.get(id as usize).map(|token| name(token, spec.kind));
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": spec.add_bos,
        "bos_token": spec.bos.and_then(name_of),
        "eos_token": spec.end_tokens.iter().find(|&&id| Some(id) != spec.bos).or(spec.end_tokens.first()).copied().and_then(name_of),
        "unk_token": spec.unknown.and_then(name_of),
        "clean_up_tokenization_spaces": false,
    });
    write_atomically(&dir.join("tokenizer.json"), &to_json(spec)?)?;
    write_atomically(&dir.join("tokenizer_config.json"), &format!("{config:#}\n"))
}

fn write_atomically(path: &Path, text: &str) -> Result<(), TokenizerFileError> {
    use std::io::Write;
    let written = atomic::write_file(path, |file| file.write_all(text.as_bytes()).map_err(io_at(path)));
    written.map_err(|error: Error| match error {
        Error::Io { path, source } => TokenizerFileError::Io { path, source },
        other => TokenizerFileError::Io { path: path.into(), source: std::io::Error::other(other) },
    })
}

fn unwritable(what: String) -> TokenizerFileError {
    TokenizerFileError::Unwritable { what }
}

/// How a vocabulary file spells a token. Empty for a hole.
fn name(token: &TokenSpec, kind: TokenizerKind) -> String {
    match (token.token_type, kind) {
        (TokenType::Byte, _) if token.bytes.len() == 1 => format!("<0x{:02X}>", token.bytes[0]),
        (TokenType::Normal, TokenizerKind::ByteLevelBpe) => {
            token.bytes.iter().map(|&byte| byte_to_char(byte)).collect()
        }
        (TokenType::Normal, TokenizerKind::SentencePieceBpe) => {
            String::from_utf8_lossy(&token.bytes).replace(' ', "▁")
        }
        _ => String::from_utf8_lossy(&token.bytes).into_owned(),
    }
}

fn added_tokens(spec: &TokenizerSpec, names: &[String]) -> Vec<Value> {
    let mut added = spec.added.clone();
    added.sort_by_key(|added| added.id);
    let token = |id: u32| spec.tokens.get(id as usize).zip(names.get(id as usize));
    added
        .iter()
        .filter_map(|added| token(added.id).map(|(token, name)| (added, token, name)))
        .map(|(added, token, name)| {
            json!({
                "id": added.id, "content": name, "single_word": added.single_word, "lstrip": added.lstrip,
                "rstrip": added.rstrip, "normalized": added.normalized, "special": token.token_type != TokenType::UserDefined,
            })
        })
        .collect()
}

fn normalizer(spec: &TokenizerSpec) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    if spec.pre_tokenizer != PreTokenizer::None && spec.kind == TokenizerKind::SentencePieceBpe {
        return Value::Null;
    }
    match (spec.kind, spec.normalizer, spec.add_space_prefix) {
        (TokenizerKind::SentencePieceBpe, _, true) => {
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]})
        }
        (TokenizerKind::SentencePieceBpe, _, false) => replace,
        (_, Normalizer::Nfc, _) => json!({"type": "NFC"}),
        _ => Value::Null,
    }
}

fn decoder(spec: &TokenizerSpec, byte_level: bool) -> Value {
    if byte_level {
        return json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    }
    let mut parts = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if spec.add_space_prefix {
        parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": parts})
}

fn post_processor(spec: &TokenizerSpec, name_of: impl Fn(u32) -> Option<String>) -> Value {
    let named = |id: u32| Some((id, name_of(id)?));
    let bos = spec.bos.filter(|_| spec.add_bos).and_then(named);
    let closing = spec.added.iter().find(|added| added.closes).and_then(|added| named(added.id));
    if bos.is_none() && closing.is_none() {
        return Value::Null;
    }
    let special = |token: &Option<(u32, String)>, type_id: u32| {
        token.as_ref().map(|(_, name)| json!({"SpecialToken": {"id": name, "type_id": type_id}}))
    };
    let text = |id: &str, type_id: u32| Some(json!({"Sequence": {"id": id, "type_id": type_id}}));
    let single = [special(&bos, 0), text("A", 0), special(&closing, 0)];
    // BERT begins a pair once, Llama each of the two.
    let again = special(&bos, 1).filter(|_| closing.is_none());
    let pair = [again, text("B", 1), special(&closing, 1)];
    let tokens = [&bos, &closing].into_iter().flatten();
    let tokens = tokens.map(|(id, name)| (name.clone(), json!({"id": name, "ids": [id], "tokens": [name]})));
    let list = |parts: &[Option<Value>]| Value::Array(parts.iter().flatten().cloned().collect());
    json!({
        "type": "TemplateProcessing",
        "single": list(&single),
        "pair": list(&[&single[..], &pair].concat()),
        "special_tokens": Value::Object(tokens.collect()),
    })
}

/// Every pair that makes a token, best score first: the list that Hugging Face makes of a
/// SentencePiece vocabulary.
fn merges_by_score(tokens: &[TokenSpec]) -> Vec<(u32, u32)> {
    let ids: HashMap<&[u8], u32> = (0..)
        .zip(tokens)
        .filter(|(_, token)| token.token_type == TokenType::Normal)
        .map(|(id, token)| (&token.bytes[..], id))
        .collect();
    let mut merges = Vec::new();
    for token in tokens.iter().filter(|token| token.token_type == TokenType::Normal) {
        let Ok(text) = std::str::from_utf8(&token.bytes) else { continue };
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = token.bytes.split_at(at);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                merges.push((token.score, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    merges.into_iter().map(|(_, left, right)| (left, right)).collect()
}

#[derive(serde::Serialize)]
struct File<'s> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'s>,
}

#[derive(serde::Serialize)]
struct WordPieceModel<'s> {
    r#type: &'static str,
    unk_token: Option<String>,
    continuing_subword_prefix: &'static str,
    max_input_chars_per_word: u32,
    vocab: InOrder<'s>,
}

#[derive(serde::Serialize)]
struct Model<'s> {
    r#type: &'static str,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<&'static str>,
    end_of_word_suffix: Option<&'static str>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: InOrder<'s>,
    merges: Vec<String>,
}

/// A vocabulary in order of id, holes left out.
struct InOrder<'s>(&'s [String]);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (id, name) in self.0.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            map.serialize_entry(name, &id)?;
        }
        map.end()
    }
}
