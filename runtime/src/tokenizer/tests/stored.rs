//! A tokenizer that stays in its file, against the same one in memory.

use proptest::prelude::*;

use super::random::any_vocabulary;
use super::*;
use crate::format::{Meta, PREFIX_LEN};
use crate::stream::{Region, StreamError};
use crate::tokenizer::stored::StoredTokenizer;
use crate::{LoadError, StepError};

/// A file's bytes up to its tensor table, and where the tokenizer begins.
fn head(owned: &OwnedTokenizer) -> (Vec<u8>, usize) {
    let mut file = vec![0; PREFIX_LEN];
    file.extend(postcard::to_allocvec(&Meta { name: "a name", extra: "{}", ..Meta::NONE }).unwrap());
    let begin = file.len();
    file.extend(postcard::to_allocvec(&Some(owned.data())).unwrap());
    file.extend(postcard::to_allocvec(&7_u32).unwrap());
    (file, begin)
}

fn load(file: &[u8]) -> Option<StoredTokenizer> {
    let loaded = StoredTokenizer::load(&mut Region(file), file.len() as u32, &mut [0; 64]);
    loaded.ok().and_then(|(stored, _)| stored)
}

fn encode_stored(stored: &StoredTokenizer, file: &[u8], text: &str, bos: bool) -> Vec<u32> {
    let (mut out, mut scratch) = (vec![0; text.len() + 2], vec![0; 3 * (text.len() + 1)]);
    let n = stored.encode(&mut Region(file), text, bos, &mut out, &mut scratch).unwrap();
    out.truncate(n);
    out
}

/// The same ids, and of every id the same bytes and role.
fn same(spec: &TokenizerSpec, text: &str) {
    let owned = OwnedTokenizer::build(spec).unwrap();
    let t = owned.tokenizer();
    let (file, _) = head(&owned);
    let (stored, n_tensors) =
        StoredTokenizer::load(&mut Region(&file), file.len() as u32, &mut [0; 64]).unwrap();
    let stored = stored.unwrap();
    assert_eq!(n_tensors, 7);
    for bos in [false, true] {
        assert_eq!(
            encode_stored(&stored, &file, text, bos),
            encode(&t, text, Special::Plain, bos),
            "{text:?}"
        );
    }
    let mut buffer = [0; 512];
    for id in 0..t.n_tokens() + 2 {
        let bytes = match t.token_type(id) {
            TokenType::Normal | TokenType::UserDefined | TokenType::Byte => t.bytes(id),
            _ => &[],
        };
        assert_eq!(stored.text_of(&mut Region(&file), id, &mut buffer), Ok(bytes));
        assert_eq!(stored.is_end(&mut Region(&file), id), Ok(t.is_end(id)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn ids_and_texts_are_the_same(spec in any_vocabulary(), text in "[abc ]{0,60}|[ab \u{2581}é]{0,40}|\\PC{0,20}") {
        same(&spec, &text);
        same(&TokenizerSpec { add_space_prefix: true, ..spec }, &text);
    }

    /// Whatever a head says: no panic, and an end.
    #[test]
    fn hostile_heads_are_refused_or_do_no_harm(
        spec in any_vocabulary(),
        text in "[abc ]{0,30}",
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let (mut file, begin) = head(&owned);
        for (at, byte) in changes {
            let at = begin + at.index(file.len() - begin);
            file[at] = byte;
        }
        if let Some(stored) = load(&file) {
            encode_stored(&stored, &file, &text, true);
            for id in [0, 1, 100, 300, u32::MAX / 4, u32::MAX] {
                stored.text_of(&mut Region(&file), id, &mut [0; 512]).unwrap();
            }
        }
        // And a file that is cut, or that changed behind the loader's back.
        let stored = load(&head(&owned).0).unwrap();
        let mut scratch = [0; 256];
        let _ = stored.encode(&mut Region(&file), &text, true, &mut [0; 64], &mut scratch);
        for end in [0, 150, file.len() / 2] {
            prop_assert!(load(&file[..end]).is_none());
            let _ = stored.encode(&mut Region(&file[..end]), &text, true, &mut [0; 64], &mut scratch);
        }
    }
}

#[test]
fn vocabularies_that_are_hashed_or_in_order() {
    for n in [3, 30, 200] {
        let texts: Vec<String> = (0..n).map(|i| format!("{}{}", "ab".repeat(i % 3 + 1), i)).collect();
        let mut merged: Vec<TokenSpec> = (0..=255_u8).map(|byte| normal([byte])).collect();
        let first = merged.len() as u32;
        merged.extend(["ab", "abab"].map(normal));
        let merges = vec![(u32::from(b'a'), u32::from(b'b')), (first, first)];
        let bytes = TokenizerSpec { merges, ..spec(TokenizerKind::ByteLevelBpe, merged) };
        let scored: Vec<TokenSpec> = texts.iter().map(|text| normal(text.as_str())).collect();
        for text in ["abab abab0", "ab1 zz", "  abababab\u{2581}ab "] {
            same(&bytes, text);
            same(&spec(TokenizerKind::SentencePieceBpe, scored_with(&scored)), text);
        }
    }
}

/// With single characters, which merging begins with.
fn scored_with(pieces: &[TokenSpec]) -> Vec<TokenSpec> {
    let mut all: Vec<TokenSpec> = ["a", "b", " ", "0", "1"].map(normal).to_vec();
    all.extend(pieces.iter().filter(|piece| piece.bytes.len() > 1).cloned());
    all
}

#[test]
fn what_can_not_be_read_is_refused_by_name() {
    let words = TokenSpec { token_type: TokenType::UserDefined, ..normal("word") };
    let mut with_word = byte_level(&[("a", "b")]);
    with_word.tokens.push(words);
    with_word.added.push(Added::new(with_word.tokens.len() as u32 - 1));
    let (file, _) = head(&OwnedTokenizer::build(&with_word).unwrap());
    let error = StoredTokenizer::load(&mut Region(&file), file.len() as u32, &mut [0; 64]).unwrap_err();
    assert!(error.to_string().contains("a word that a user added"), "{error}");

    let owned = OwnedTokenizer::build(&byte_level(&[("a", "b")])).unwrap();
    let (file, _) = head(&owned);
    let stored = load(&file).unwrap();
    let error = stored.encode(&mut Region(&file), "abcabc", false, &mut [0; 9], &mut [0; 6]).unwrap_err();
    let StreamError::Step(StepError::Encode(EncodeError::ScratchTooSmall { needed: 18, capacity: 6 })) =
        error
    else {
        panic!("{error}")
    };
    let error = StoredTokenizer::load(&mut Region(&file), file.len() as u32 - 1, &mut [0; 64]).unwrap_err();
    assert_eq!(error, LoadError::BadMetadata.into());
}
