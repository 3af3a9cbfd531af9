//! `tokenizer.json`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use smidgen_runtime::tokenizer::{
    Added, Normalizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::fields::Field;
use super::{pattern, root};
use crate::tokenizer::{TokenizerFileError, char_to_byte, merge_scores};

/// SentencePiece's mark for a space.
const SPACE_MARK: char = '\u{2581}';

/// The tokenizer that the JSON describes, without end tokens: they are told elsewhere.
pub(super) fn parse(json: &Value, path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let json = root(json, path);
    let model = json.get("model");
    // Files from before the model had a `type` are all BPE.
    if !matches!(model.type_name(), "BPE" | "") || !model.exists() {
        return Err(model.unsupported_component());
    }
    refuse_model_options(&model)?;
    let sentencepiece = model.get("byte_fallback").bool_or(false)?;
    let mut spec = TokenizerSpec {
        kind: if sentencepiece { TokenizerKind::SentencePieceBpe } else { TokenizerKind::ByteLevelBpe },
        pre_tokenizer: PreTokenizer::None,
        normalizer: Normalizer::None,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: model.get("ignore_merges").bool_or(false)?,
        tokens: Vec::new(),
        merges: Vec::new(),
        bos: None,
        unknown: None,
        end_tokens: Vec::new(),
        added: Vec::new(),
    };
    if sentencepiece {
        spec.add_space_prefix = sentencepiece_prefix(&json)?;
    } else {
        spec.pre_tokenizer = pattern::recognize(&json.get("pre_tokenizer"))?;
        spec.normalizer = byte_level_normalizer(&json.get("normalizer"))?;
        let decoder = json.get("decoder");
        if decoder.exists() && decoder.type_name() != "ByteLevel" {
            return Err(decoder.unsupported_component());
        }
    }
    let vocab = Vocabulary::read(&json)?;
    let unknown = model.get("unk_token");
    if unknown.exists() {
        spec.unknown = Some(vocab.id(&unknown)?);
        if !sentencepiece && model.get("fuse_unk").bool_or(false)? {
            return Err(model.get("fuse_unk").unsupported("fusing unknown bytes"));
        }
    }
    spec.tokens = vocab.tokens(spec.kind, spec.unknown)?;
    spec.added = vocab.added.iter().map(|(added, _, _)| *added).collect();
    spec.merges = merges(&model.get("merges"), &vocab)?;
    if sentencepiece && let Some(scores) = merge_scores::scores(&spec.tokens, &spec.merges) {
        for (token, score) in spec.tokens.iter_mut().zip(scores) {
            token.score = score;
        }
        spec.merges.clear();
    }
    spec.bos = template_bos(&json.get("post_processor"))?;
    spec.add_bos = spec.bos.is_some();
    Ok(spec)
}

fn refuse_model_options(model: &Field<'_>) -> Result<(), TokenizerFileError> {
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let field = model.get(key);
        if field.exists() && !field.str()?.is_empty() {
            return Err(field.unsupported(format!("{:?}", field.str()?)));
        }
    }
    let dropout = model.get("dropout");
    match dropout.value() {
        Some(value) if value.as_f64() != Some(0.0) => Err(dropout.unsupported(format!("dropout of {value}"))),
        _ => Ok(()),
    }
}

fn byte_level_normalizer(field: &Field<'_>) -> Result<Normalizer, TokenizerFileError> {
    match field.type_name() {
        _ if !field.exists() => Ok(Normalizer::None),
        "NFC" => Ok(Normalizer::Nfc),
        "Sequence" => match &field.get("normalizers").list()?[..] {
            [] => Ok(Normalizer::None),
            [one] if one.type_name() == "NFC" => Ok(Normalizer::Nfc),
            [one] => Err(one.unsupported_component()),
            [_, other, ..] => Err(other.unsupported_component()),
        },
        _ => Err(field.unsupported_component()),
    }
}

/// Whether a SentencePiece-style tokenizer puts a space before the text; refuses what is not
/// SentencePiece's.
fn sentencepiece_prefix(json: &Field<'_>) -> Result<bool, TokenizerFileError> {
    let pre_tokenizer = json.get("pre_tokenizer");
    if pre_tokenizer.exists() {
        return Err(pre_tokenizer.unsupported_component());
    }
    let normalizer = json.get("normalizer");
    let parts = match normalizer.type_name() {
        "Sequence" => normalizer.get("normalizers").list()?,
        _ if normalizer.exists() => vec![normalizer.clone()],
        _ => Vec::new(),
    };
    let (mut prefix, mut replaced) = (false, false);
    for part in &parts {
        let space = part.get("pattern").get("String");
        match part.type_name() {
            "Prepend" if part.get("prepend").str()? == "▁" && !prefix => prefix = true,
            "Replace" if space.exists() && space.str()? == " " && part.get("content").str()? == "▁" => {
                replaced = true
            }
            _ => return Err(part.unsupported_component()),
        }
    }
    if replaced { Ok(prefix) } else { Err(normalizer.unsupported("byte_fallback without ▁ for spaces")) }
}

/// The token that a post-processor puts before a text, if it does; refuses one that does more.
fn template_bos(field: &Field<'_>) -> Result<Option<u32>, TokenizerFileError> {
    match field.type_name() {
        "" | "ByteLevel" => Ok(None),
        "Sequence" => {
            let mut bos = None;
            for part in field.get("processors").list()? {
                bos = bos.or(template_bos(&part)?);
            }
            Ok(bos)
        }
        "TemplateProcessing" => {
            let single = field.get("single");
            match &single.list()?[..] {
                [text] if text.get("Sequence").exists() => Ok(None),
                [bos, text] if bos.get("SpecialToken").exists() && text.get("Sequence").exists() => {
                    let name = bos.get("SpecialToken").get("id").str()?;
                    match &field.get("special_tokens").get(name).get("ids").list()?[..] {
                        [id] => Ok(Some(id.u32()?)),
                        ids => Err(single.unsupported(format!("a special token of {} ids", ids.len()))),
                    }
                }
                _ => Err(single.unsupported("anything but one token before the text")),
            }
        }
        _ => Err(field.unsupported_component()),
    }
}

/// Strings and ids, as the file has them.
struct Vocabulary<'j> {
    field: Field<'j>,
    ids: HashMap<&'j str, u32>,
    n_tokens: u32,
    /// Added tokens: content, and whether it is special.
    added: Vec<(Added, &'j str, bool)>,
}

impl<'j> Vocabulary<'j> {
    fn read(json: &Field<'j>) -> Result<Self, TokenizerFileError> {
        let field = json.get("model").get("vocab");
        let mut ids = HashMap::new();
        for (text, id) in field.object()? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| {
                field.error(format!(
                    "{text:?} has no id but {}",
                    field.object().map_or(&Value::Null, |o| &o[text])
                ))
            })?;
            ids.insert(&text[..], id);
        }
        let mut added = Vec::new();
        let list = json.get("added_tokens");
        for token in if list.exists() { list.list()? } else { Vec::new() } {
            let content = token.get("content").str()?;
            let id = token.get("id").u32()?;
            if let Some(known) = ids.insert(content, id)
                && known != id
            {
                return Err(token.error(format!("{content:?} has id {id}, but {known} in the vocabulary")));
            }
            let flag = |name| token.get(name).bool_or(false);
            let flags = Added {
                lstrip: flag("lstrip")?,
                rstrip: flag("rstrip")?,
                single_word: flag("single_word")?,
                normalized: flag("normalized")?,
                ..Added::new(id)
            };
            added.push((flags, content, token.get("special").bool_or(false)?));
        }
        let Some(last) = ids.values().copied().max() else { return Err(field.error("is empty")) };
        // Some vocabularies have holes, but a wild id must not claim all memory.
        if last as usize > 2 * ids.len() + 1000 {
            return Err(field.error(format!("has {} tokens, but one with id {last}", ids.len())));
        }
        Ok(Self { field, ids, n_tokens: last + 1, added })
    }

    fn id(&self, name: &Field<'_>) -> Result<u32, TokenizerFileError> {
        let text = name.str()?;
        self.ids.get(text).copied().ok_or_else(|| name.error(format!("{text:?} is not in the vocabulary")))
    }

    /// Every token's meaning and role.
    fn tokens(
        &self,
        kind: TokenizerKind,
        unknown: Option<u32>,
    ) -> Result<Vec<TokenSpec>, TokenizerFileError> {
        let hole = TokenSpec { bytes: Vec::new(), token_type: TokenType::Unused, score: 0.0 };
        let mut tokens = vec![hole; self.n_tokens as usize];
        let added: HashMap<u32, (&str, bool)> =
            self.added.iter().map(|(added, content, special)| (added.id, (*content, *special))).collect();
        for (&text, &id) in &self.ids {
            let (bytes, token_type) = match added.get(&id) {
                Some((content, _)) if *content != text => {
                    return Err(self.field.error(format!("id {id} is both {text:?} and {content:?}")));
                }
                _ if unknown == Some(id) => (text.into(), TokenType::Unknown),
                Some((_, true)) => (text.into(), TokenType::Control),
                Some((_, false)) => (text.into(), TokenType::UserDefined),
                None if kind == TokenizerKind::SentencePieceBpe => sentencepiece_token(text),
                None => (self.byte_level_token(text)?, TokenType::Normal),
            };
            let token = &mut tokens[id as usize];
            if token.token_type != TokenType::Unused {
                return Err(self.field.error(format!("id {id} is given twice, once to {text:?}")));
            }
            *token = TokenSpec { bytes, token_type, score: 0.0 };
        }
        Ok(tokens)
    }

    fn byte_level_token(&self, text: &str) -> Result<Vec<u8>, TokenizerFileError> {
        text.chars()
            .map(|c| {
                let reason = || {
                    self.field
                        .error(format!("{text:?} has {c:?}, which is no byte of a byte-level vocabulary"))
                };
                char_to_byte(c).ok_or_else(reason)
            })
            .collect()
    }
}

/// A piece, with spaces for `▁`, or the byte that `<0x0A>` stands for.
fn sentencepiece_token(text: &str) -> (Vec<u8>, TokenType) {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => (vec![byte], TokenType::Byte),
        None => (text.replace(SPACE_MARK, " ").into_bytes(), TokenType::Normal),
    }
}

/// Pairs of ids by rank, from `"a b"` or `["a", "b"]`.
fn merges(field: &Field<'_>, vocab: &Vocabulary<'_>) -> Result<Vec<(u32, u32)>, TokenizerFileError> {
    let mut merges = Vec::new();
    for merge in field.list()? {
        let parts: Vec<&str> = match merge.value() {
            Some(Value::String(pair)) => pair.split(' ').collect(),
            Some(Value::Array(pair)) => pair.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let [left, right] = parts[..] else {
            let shown = merge.value().unwrap_or(&Value::Null);
            return Err(merge.error(format!("{shown} is not two tokens with a space between them")));
        };
        let id = |text: &str| {
            vocab
                .ids
                .get(text)
                .copied()
                .ok_or_else(|| merge.error(format!("{text:?} is not in the vocabulary")))
        };
        let joined = format!("{left}{right}");
        id(&joined)?;
        merges.push((id(left)?, id(right)?));
    }
    Ok(merges)
}
