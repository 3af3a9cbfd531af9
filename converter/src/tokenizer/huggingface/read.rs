//! `tokenizer.json`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use smidgen_runtime::tokenizer::{
    Added, Normalizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::fields::Field;
use super::{bert, pattern, root};
use crate::tokenizer::{TokenizerFileError, char_to_byte, merge_scores};

/// SentencePiece's mark for a space.
const SPACE_MARK: char = '\u{2581}';

/// The tokenizer that the JSON describes, without end tokens: they are told elsewhere.
pub(super) fn parse(json: &Value, path: &Path) -> Result<TokenizerSpec, TokenizerFileError> {
    let json = root(json, path);
    let model = json.get("model");
    if model.type_name() == "WordPiece" {
        return bert::read(&json, &model);
    }
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
        (spec.pre_tokenizer, spec.add_space_prefix) = sentencepiece_prefix(&json)?;
        if spec.ignore_merges {
            return Err(model.get("ignore_merges").unsupported("ignoring merges over whole texts"));
        }
    } else {
        (spec.pre_tokenizer, spec.add_space_prefix) = pattern::recognize(&json.get("pre_tokenizer"))?;
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
    apply_template(&json.get("post_processor"), &mut spec)?;
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

/// How a SentencePiece-style tokenizer puts a space before the text, and where it cuts; refuses what
/// is not SentencePiece's.
fn sentencepiece_prefix(json: &Field<'_>) -> Result<(PreTokenizer, bool), TokenizerFileError> {
    let pre_tokenizer = json.get("pre_tokenizer");
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
            "Prepend" if part.get("prepend").str()? == "▁" && !prefix && !replaced => prefix = true,
            "Replace" if space.exists() && space.str()? == " " && part.get("content").str()? == "▁" => {
                replaced = true
            }
            _ => return Err(part.unsupported_component()),
        }
    }
    if !pre_tokenizer.exists() {
        return match replaced {
            true => Ok((PreTokenizer::None, prefix)),
            false => Err(normalizer.unsupported("byte_fallback without ▁ for spaces")),
        };
    }
    // Gemma's cuts at spaces, of which the normalizer has left none.
    let cut = pre_tokenizer.get("pattern").get("String");
    if pre_tokenizer.type_name() == "Split" && replaced && cut.exists() && cut.str()? == " " {
        return Ok((PreTokenizer::None, prefix));
    }
    if pre_tokenizer.type_name() != "Metaspace" || prefix {
        return Err(pre_tokenizer.unsupported_component());
    }
    let mark = pre_tokenizer.get("replacement");
    if mark.exists() && mark.str()? != "▁" {
        return Err(mark.unsupported(format!("{:?} for spaces", mark.str()?)));
    }
    let scheme = pre_tokenizer.get("prepend_scheme");
    let scheme_name = match scheme.exists() {
        true => scheme.str()?,
        // What it was called before.
        false if pre_tokenizer.get("add_prefix_space").bool_or(true)? => "always",
        false => "never",
    };
    let split = pre_tokenizer.get("split").bool_or(true)?;
    Ok(match (scheme_name, split) {
        ("always", false) => (PreTokenizer::Metaspace, true),
        ("always", true) => (PreTokenizer::MetaspaceWords, true),
        ("first", false) => (PreTokenizer::MetaspaceFirst, true),
        ("first", true) => (PreTokenizer::MetaspaceFirstWords, true),
        ("never", false) => (PreTokenizer::None, false),
        ("never", true) => (PreTokenizer::MetaspaceWords, false),
        (other, _) => return Err(scheme.unsupported(format!("{other:?}"))),
    })
}

/// What a post-processor puts before and behind a text: one token each at most.
pub(super) fn apply_template(field: &Field<'_>, spec: &mut TokenizerSpec) -> Result<(), TokenizerFileError> {
    let (bos, closing) = template(field)?;
    let n_tokens = spec.tokens.len();
    if let Some(id) = [bos, closing].into_iter().flatten().find(|id| *id as usize >= n_tokens) {
        return Err(field.error(format!("puts token {id} of {n_tokens} around a text")));
    }
    spec.bos = bos;
    spec.add_bos = bos.is_some();
    if let Some(id) = closing {
        match spec.added.iter_mut().find(|added| added.id == id) {
            Some(added) => added.closes = true,
            None => {
                return Err(
                    field.unsupported(format!("token {id} behind a text, which is not among added_tokens,"))
                );
            }
        }
    }
    Ok(())
}

fn template(field: &Field<'_>) -> Result<(Option<u32>, Option<u32>), TokenizerFileError> {
    match field.type_name() {
        "" | "ByteLevel" => Ok((None, None)),
        "Sequence" => {
            let mut found = (None, None);
            for part in field.get("processors").list()? {
                let (bos, closing) = template(&part)?;
                if (bos.is_some() || closing.is_some()) && found != (None, None) {
                    return Err(part.unsupported("putting more tokens around a text that has some"));
                }
                found = (found.0.or(bos), found.1.or(closing));
            }
            Ok(found)
        }
        "BertProcessing" | "RobertaProcessing" => {
            let id = |name: &str| match &field.get(name).list()?[..] {
                [_, id] => Ok(Some(id.u32()?)),
                _ => Err(field.get(name).error("is not a token with its id")),
            };
            Ok((id("cls")?, id("sep")?))
        }
        "TemplateProcessing" => {
            let single = field.get("single");
            let parts = single.list()?;
            let is_text = |part: &Field<'_>| part.get("Sequence").exists();
            let special = |part: &Field<'_>| {
                let name = part.get("SpecialToken").get("id").str()?;
                match &field.get("special_tokens").get(name).get("ids").list()?[..] {
                    [id] => Ok(Some(id.u32()?)),
                    ids => Err(single.unsupported(format!("a special token of {} ids", ids.len()))),
                }
            };
            match &parts[..] {
                [text] if is_text(text) => Ok((None, None)),
                [bos, text] if is_text(text) => Ok((special(bos)?, None)),
                [text, closing] if is_text(text) => Ok((None, special(closing)?)),
                [bos, text, closing] if is_text(text) => Ok((special(bos)?, special(closing)?)),
                _ => Err(single.unsupported("more than one token before or behind the text")),
            }
        }
        _ => Err(field.unsupported_component()),
    }
}

/// The longest spelling of a token: no vocabulary's is near, and finding all pairs that make a token
/// costs its square.
const MAX_TOKEN_TEXT: usize = 8192;

/// Strings and ids, as the file has them.
pub(super) struct Vocabulary<'j> {
    field: Field<'j>,
    ids: HashMap<&'j str, u32>,
    n_tokens: u32,
    /// Added tokens: content, and whether it is special.
    pub(super) added: Vec<(Added, &'j str, bool)>,
}

impl<'j> Vocabulary<'j> {
    pub(super) fn read(json: &Field<'j>) -> Result<Self, TokenizerFileError> {
        let field = json.get("model").get("vocab");
        let mut ids = HashMap::new();
        for (text, id) in field.object()? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            if text.len() > MAX_TOKEN_TEXT {
                let reason = format!("has a token of {} bytes, more than {MAX_TOKEN_TEXT}", text.len());
                return Err(field.error(reason));
            }
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

    pub(super) fn id(&self, name: &Field<'_>) -> Result<u32, TokenizerFileError> {
        let text = name.str()?;
        self.ids.get(text).copied().ok_or_else(|| name.error(format!("{text:?} is not in the vocabulary")))
    }

    /// Every token's meaning and role.
    pub(super) fn tokens(
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
                None if kind == TokenizerKind::WordPiece => (text.into(), TokenType::Normal),
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
