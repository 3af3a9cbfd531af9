//! Everything that can be wrong with a tokenizer's tables, looked for once, when a model is loaded.

use super::data::{Normalizer, PreTokenizer, TokenType, TokenizerData, TokenizerKind};
use super::error::TokenizerError;
use super::index::MAX_RUN;
use super::tables::id_size;
use super::view::{Tokenizer, WHOLE};

/// More tokens than any vocabulary has; ids and positions must leave room for two flag bits.
pub(super) const MAX_TOKENS: u32 = 1 << 28;

/// An added token takes the white space to its left with it.
pub(super) const STRIP_LEFT: u32 = 1;
/// An added token takes the white space to its right with it.
pub(super) const STRIP_RIGHT: u32 = 2;
/// An added token is matched only where no word goes on at either end.
pub(super) const SINGLE_WORD: u32 = 4;
/// An added token is matched in normalized text.
pub(super) const NORMALIZED: u32 = 8;
/// An added token ends a text that is encoded for the model.
pub(super) const CLOSES: u32 = 16;
const KNOWN_FLAGS: u32 = STRIP_LEFT | STRIP_RIGHT | SINGLE_WORD | NORMALIZED | CLOSES;

/// Whether this build has the tables that words and normal forms need.
const HAS_UNICODE: bool = cfg!(feature = "unicode");

/// Refuses what this version, or this build of it, does not do.
pub(super) fn supported(data: &TokenizerData<'_>) -> Result<(), TokenizerError> {
    use PreTokenizer as P;
    let unsupported = |what| Err(TokenizerError::Unsupported { what });
    match (data.kind, data.pre_tokenizer, data.normalizer) {
        (TokenizerKind::ByteLevelBpe, ..) if !cfg!(feature = "bpe") => {
            unsupported("byte-level BPE in a build without the feature `bpe`")
        }
        (TokenizerKind::SentencePieceBpe, ..) if !cfg!(feature = "sentencepiece") => {
            unsupported("SentencePiece in a build without the feature `sentencepiece`")
        }
        (TokenizerKind::WordPiece, ..) if !HAS_UNICODE => {
            unsupported("WordPiece in a build without the feature `unicode`")
        }
        (TokenizerKind::WordPiece, P::Bert, normalizer)
            if normalizer.bert_rules().is_some() && !data.add_space_prefix =>
        {
            Ok(())
        }
        (TokenizerKind::WordPiece, ..) => {
            unsupported("WordPiece without BERT's pre-tokenizer and normalizer")
        }
        (_, P::Bert, _) => unsupported("BERT's pre-tokenizer outside WordPiece"),
        (_, _, normalizer) if normalizer.bert_rules().is_some() => {
            unsupported("BERT's normalizer outside WordPiece")
        }
        (
            TokenizerKind::SentencePieceBpe,
            P::None | P::Metaspace | P::MetaspaceFirst | P::MetaspaceWords | P::MetaspaceFirstWords,
            Normalizer::None,
        ) => Ok(()),
        (TokenizerKind::SentencePieceBpe, ..) => {
            unsupported("a byte-level pre-tokenizer or a normalizer with SentencePiece")
        }
        (_, P::Metaspace | P::MetaspaceFirst | P::MetaspaceWords | P::MetaspaceFirstWords, _) => {
            unsupported("SentencePiece's pre-tokenizer with byte-level BPE")
        }
        (TokenizerKind::ByteLevelBpe, P::None | P::Gpt2, Normalizer::None) => Ok(()),
        (TokenizerKind::ByteLevelBpe, ..) if data.add_space_prefix => {
            unsupported("a space prefix with a normalizer or another pattern than GPT-2's")
        }
        (TokenizerKind::ByteLevelBpe, ..) => Ok(()),
    }
}

/// Checks the number of tokens and the size of every table.
pub(super) fn shapes(data: &TokenizerData<'_>) -> Result<(), TokenizerError> {
    if !(1..=MAX_TOKENS).contains(&data.n_tokens) {
        return Err(TokenizerError::TokenCount { n_tokens: data.n_tokens });
    }
    let n = data.n_tokens as usize;
    let ids = id_size(data.n_tokens);
    let by_score = !data.scores.is_empty();
    let by_merges = !by_score && data.kind.of_validated() != TokenizerKind::WordPiece;
    let merges_only = |wanted| if by_merges { wanted } else { 0 };
    let or_empty = |table: &[u8], wanted| if table.is_empty() { 0 } else { wanted };
    let byte_level = data.kind.of_validated() == TokenizerKind::ByteLevelBpe;
    for (table, found, wanted) in [
        ("offsets", data.offsets.len(), n.saturating_add(1).saturating_mul(4)),
        ("types", data.types.len(), n),
        (
            "byte_tokens",
            data.byte_tokens.len(),
            if byte_level { 256 * ids } else { or_empty(data.byte_tokens, 256 * ids) },
        ),
        ("left_len", data.left_len.len(), merges_only(n)),
        ("ranks", data.ranks.len(), merges_only(or_empty(data.ranks, n.saturating_mul(4)))),
        (
            "scores",
            data.scores.len(),
            if data.kind.of_validated() == TokenizerKind::SentencePieceBpe {
                or_empty(data.scores, n.saturating_mul(4))
            } else {
                0
            },
        ),
    ] {
        if found != wanted {
            return Err(TokenizerError::TableLength { table, found, wanted });
        }
    }
    for (table, bytes, entry) in [
        ("index", data.index, ids),
        ("extra_merges", data.extra_merges, 12),
        ("added", data.added, 8),
        ("end_tokens", data.end_tokens, 4),
    ] {
        if !bytes.len().is_multiple_of(entry) {
            return Err(TokenizerError::TableLength { table, found: bytes.len(), wanted: entry });
        }
    }
    Ok(())
}

/// Checks every entry of every table.
pub(super) fn contents(t: &Tokenizer<'_>) -> Result<(), TokenizerError> {
    offsets(t)?;
    for (id, &found) in (0..).zip(t.data.types) {
        if TokenType::from_u8(found & !WHOLE).is_none() {
            return Err(TokenizerError::TokenType { id, found });
        }
    }
    special_ids(t)?;
    index(t)?;
    byte_tokens(t)?;
    merges(t)?;
    for (id, bits) in (0..).zip(t.scores.iter()) {
        if !f32::from_bits(bits).is_finite() {
            return Err(TokenizerError::Score { id });
        }
    }
    added(t)
}

fn offsets(t: &Tokenizer<'_>) -> Result<(), TokenizerError> {
    let text_len = t.data.text.len();
    let mut previous = 0;
    let mut longest = 0;
    for (id, offset) in (0..).zip(t.offsets.iter()) {
        let first = id == 0;
        let last = id == t.data.n_tokens;
        if offset < previous || (first && offset != 0) || (last && offset as usize != text_len) {
            return Err(TokenizerError::Offset { id, offset, text_len });
        }
        longest = longest.max(offset - previous);
        previous = offset;
    }
    if longest != t.data.max_token_bytes {
        return Err(TokenizerError::MaxTokenBytes { stated: t.data.max_token_bytes, found: longest });
    }
    Ok(())
}

fn in_range(t: &Tokenizer<'_>, table: &'static str, index: usize, id: u32) -> Result<(), TokenizerError> {
    let n_tokens = t.data.n_tokens;
    if id < n_tokens { Ok(()) } else { Err(TokenizerError::IdOutOfRange { table, index, id, n_tokens }) }
}

fn special_ids(t: &Tokenizer<'_>) -> Result<(), TokenizerError> {
    for (table, id) in [("bos", t.data.bos), ("unknown", t.data.unknown)] {
        if let Some(id) = id {
            in_range(t, table, 0, id)?;
        }
    }
    for (index, id) in t.end_tokens.iter().enumerate() {
        in_range(t, "end_tokens", index, id)?;
    }
    Ok(())
}

fn is_ordinary(t: &Tokenizer<'_>, id: u32) -> bool {
    matches!(t.token_type(id), TokenType::Normal | TokenType::UserDefined) && !t.bytes(id).is_empty()
}

/// The index lists what text can become, nothing twice. Sorted, its tokens' bytes increase; hashed, every
/// token is found by its bytes, and no search is long.
fn index(t: &Tokenizer<'_>) -> Result<(), TokenizerError> {
    let hashed = t.index.is_hashed();
    let mut previous: &[u8] = &[];
    let mut run = 0;
    for index in 0..t.index.ids.len() {
        let Some(id) = t.index.ids.get(index) else { break };
        if hashed && id == t.index.ids.none() {
            run = 0;
            continue;
        }
        run += 1;
        in_range(t, "index", index, id)?;
        let bytes = t.bytes(id);
        let in_place = if hashed { run <= MAX_RUN && t.find(bytes) == Some(id) } else { bytes > previous };
        if !in_place || !is_ordinary(t, id) {
            return Err(TokenizerError::Index { index, id });
        }
        previous = bytes;
    }
    Ok(())
}

fn byte_tokens(t: &Tokenizer<'_>) -> Result<(), TokenizerError> {
    let none = if id_size(t.data.n_tokens) == 4 { u32::MAX } else { u32::from(u16::MAX) };
    for byte in 0..=u8::MAX {
        let Some(id) = t.byte_tokens.get(usize::from(byte)) else {
            break;
        };
        if id < t.data.n_tokens {
            let usable =
                !matches!(t.token_type(id), TokenType::Control | TokenType::Unknown | TokenType::Unused);
            if t.bytes(id) != [byte] || !usable {
                return Err(TokenizerError::ByteToken { byte, id });
            }
        } else if id != none {
            in_range(t, "byte_tokens", usize::from(byte), id)?;
        }
    }
    Ok(())
}

fn merges(t: &Tokenizer<'_>) -> Result<(), TokenizerError> {
    for (id, &length) in (0..).zip(t.data.left_len) {
        if length == 0 {
            continue;
        }
        let parts = t.bytes(id).split_at_checked(usize::from(length));
        let real = parts.is_some_and(|(left, right)| is_symbol(t, left) && is_symbol(t, right));
        if !real || t.find(t.bytes(id)) != Some(id) {
            return Err(TokenizerError::Merge { table: "left_len", index: id as usize });
        }
    }
    let table = t.extra_merges;
    let mut previous = None;
    for index in 0..table.len() / 3 {
        let (Some(left), Some(right)) = (table.get(3 * index), table.get(3 * index + 1)) else {
            break;
        };
        in_range(t, "extra_merges", index, left)?;
        in_range(t, "extra_merges", index, right)?;
        let real = is_symbol(t, t.bytes(left)) && is_symbol(t, t.bytes(right));
        let made = t.find_joined(t.bytes(left), t.bytes(right)).is_some();
        if !real || !made || previous >= Some((left, right)) {
            return Err(TokenizerError::Merge { table: "extra_merges", index });
        }
        previous = Some((left, right));
    }
    Ok(())
}

/// Whether `bytes` can stand in a text as one token before or after merging.
fn is_symbol(t: &Tokenizer<'_>, bytes: &[u8]) -> bool {
    t.find(bytes).is_some() || matches!(bytes, [byte] if t.byte_token(*byte).is_some())
}

fn added(t: &Tokenizer<'_>) -> Result<(), TokenizerError> {
    let mut shortest = usize::MAX;
    for (index, (id, flags)) in t.added().enumerate() {
        in_range(t, "added", index, id)?;
        let length = t.bytes(id).len();
        if length == 0 || length > shortest || flags & !KNOWN_FLAGS != 0 {
            return Err(TokenizerError::Added { index, id, flags });
        }
        if !cfg!(feature = "special-tokens") && t.token_type(id) == TokenType::UserDefined {
            return Err(TokenizerError::Unsupported {
                what: "a word that a user added in a build without the feature `special-tokens`",
            });
        }
        if flags & SINGLE_WORD != 0 && !HAS_UNICODE {
            let what = "an added token matched as a whole word in a build without the feature `unicode`";
            return Err(TokenizerError::Unsupported { what });
        }
        if flags & NORMALIZED != 0 && t.data.kind.of_validated() == TokenizerKind::WordPiece {
            return Err(TokenizerError::Unsupported {
                what: "an added token matched in BERT's normalized text",
            });
        }
        shortest = length;
    }
    Ok(())
}
