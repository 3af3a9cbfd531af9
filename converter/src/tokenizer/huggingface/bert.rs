//! BERT's WordPiece: `tokenizer.json`, and the `tokenizer_config.json` beside a `vocab.txt`.

use std::path::Path;

use smidgen_runtime::tokenizer::{BertRules, Normalizer, PreTokenizer, TokenizerKind, TokenizerSpec};

use super::fields::Field;
use super::read::{Vocabulary, apply_template};
use super::{read_json, root};
use crate::tokenizer::TokenizerFileError;
use crate::tokenizer::wordpiece::Options;

/// BERT's tokenizer, without end tokens.
pub(super) fn read(json: &Field<'_>, model: &Field<'_>) -> Result<TokenizerSpec, TokenizerFileError> {
    let prefix = model.get("continuing_subword_prefix");
    if prefix.exists() && prefix.str()? != "##" {
        return Err(prefix.unsupported(format!("{:?}", prefix.str()?)));
    }
    let longest = model.get("max_input_chars_per_word");
    if longest.exists() && longest.u32()? != 100 {
        return Err(longest.unsupported(format!("{} instead of 100", longest.u32()?)));
    }
    let pre_tokenizer = json.get("pre_tokenizer");
    if pre_tokenizer.type_name() != "BertPreTokenizer" {
        return Err(pre_tokenizer.unsupported_component());
    }
    let normalizer = json.get("normalizer");
    if normalizer.type_name() != "BertNormalizer" {
        return Err(normalizer.unsupported_component());
    }
    let normalizer = Normalizer::bert(rules(&normalizer)?);
    let decoder = json.get("decoder");
    if decoder.exists() && decoder.type_name() != "WordPiece" {
        return Err(decoder.unsupported_component());
    }
    let vocab = Vocabulary::read(json)?;
    let unknown = vocab.id(&model.get("unk_token"))?;
    let mut spec = TokenizerSpec {
        kind: TokenizerKind::WordPiece,
        pre_tokenizer: PreTokenizer::Bert,
        normalizer,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: false,
        tokens: vocab.tokens(TokenizerKind::WordPiece, Some(unknown))?,
        merges: Vec::new(),
        bos: None,
        unknown: Some(unknown),
        end_tokens: Vec::new(),
        added: vocab.added.iter().map(|(added, _, _)| *added).collect(),
    };
    apply_template(&json.get("post_processor"), &mut spec)?;
    Ok(spec)
}

/// What a `BertNormalizer` does.
fn rules(field: &Field<'_>) -> Result<BertRules, TokenizerFileError> {
    let lowercase = field.get("lowercase").bool_or(true)?;
    Ok(BertRules {
        clean_text: field.get("clean_text").bool_or(true)?,
        handle_chinese_chars: field.get("handle_chinese_chars").bool_or(true)?,
        strip_accents: field.get("strip_accents").bool_or(lowercase)?,
        lowercase,
    })
}

/// What the `tokenizer_config.json` at `path` says of a `vocab.txt`, with `BertTokenizer`'s defaults.
///
/// # Errors
/// [`TokenizerFileError`] names the field.
pub fn bert_options(path: &Path) -> Result<Options, TokenizerFileError> {
    let json = read_json(path)?;
    let config = root(&json, path);
    let basic = config.get("do_basic_tokenize");
    if !basic.bool_or(true)? {
        return Err(basic.unsupported("turning this off"));
    }
    let lowercase = config.get("do_lower_case").bool_or(true)?;
    let mut options = Options {
        rules: Some(BertRules {
            clean_text: true,
            handle_chinese_chars: config.get("tokenize_chinese_chars").bool_or(true)?,
            strip_accents: config.get("strip_accents").bool_or(lowercase)?,
            lowercase,
        }),
        ..Options::default()
    };
    let names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"];
    for (name, special) in names.into_iter().zip(&mut options.special) {
        let field = config.get(name);
        if field.exists() {
            *special = field.token_text()?.into();
        }
    }
    Ok(options)
}
