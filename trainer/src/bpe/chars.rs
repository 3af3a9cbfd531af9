//! One token a character, as nanoGPT's `shakespeare_char` has it.

use std::collections::BTreeSet;

use smidgen_runtime::tokenizer::{PreTokenizer, TokenizerKind, TokenizerSpec};

use super::{VocabularyError, normal, spec, special_tokens};

/// A vocabulary of the distinct characters of `texts`: the special tokens, if any, then the
/// characters in order of code point (nanoGPT's ids, without special tokens).
///
/// It is a SentencePiece-style BPE without a merge, which works on characters whatever their bytes.
/// A character that is not in the vocabulary encodes to nothing; U+2581 `▁` counts as a space.
///
/// # Errors
/// [`VocabularyError`] if there is no character, or a special token is empty or given twice.
pub fn char_level<'t>(
    texts: impl IntoIterator<Item = &'t str>,
    special: &[&str],
) -> Result<TokenizerSpec, VocabularyError> {
    let mut chars: BTreeSet<char> = texts.into_iter().flat_map(str::chars).collect();
    if chars.remove(&'\u{2581}') {
        chars.insert(' ');
    }
    if chars.is_empty() {
        return Err(VocabularyError::Empty);
    }
    let mut tokens = special_tokens(special)?;
    tokens.extend(chars.into_iter().map(|c| normal(c.to_string().into_bytes())));
    Ok(spec(TokenizerKind::SentencePieceBpe, PreTokenizer::None, tokens, Vec::new(), special.len()))
}
