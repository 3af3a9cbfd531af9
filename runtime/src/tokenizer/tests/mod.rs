//! Small vocabularies made here.

mod added;
mod normalized;
mod random;
#[cfg(feature = "std")]
mod stored;

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use super::*;

fn normal(bytes: impl Into<Vec<u8>>) -> TokenSpec {
    TokenSpec { bytes: bytes.into(), token_type: TokenType::Normal, score: 0.0 }
}

fn spec(kind: TokenizerKind, tokens: Vec<TokenSpec>) -> TokenizerSpec {
    TokenizerSpec {
        kind,
        pre_tokenizer: PreTokenizer::None,
        normalizer: Normalizer::None,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: false,
        tokens,
        merges: vec![],
        bos: None,
        unknown: None,
        end_tokens: vec![],
        added: vec![],
    }
}

/// All bytes, then what `merges` make, in their order.
fn byte_level(merges: &[(&str, &str)]) -> TokenizerSpec {
    let mut tokens: Vec<TokenSpec> = (0..=255u8).map(|byte| normal([byte])).collect();
    let mut pairs = vec![];
    for (left, right) in merges {
        let find = |tokens: &[TokenSpec], text: &str| tokens.iter().position(|t| t.bytes == text.as_bytes());
        let pair = (find(&tokens, left).unwrap() as u32, find(&tokens, right).unwrap() as u32);
        pairs.push(pair);
        let joined = format!("{left}{right}");
        if find(&tokens, &joined).is_none() {
            tokens.push(normal(joined));
        }
    }
    TokenizerSpec { merges: pairs, ..spec(TokenizerKind::ByteLevelBpe, tokens) }
}

fn encode(tokenizer: &Tokenizer<'_>, text: &str, special: Special, add_bos: bool) -> Vec<u32> {
    let mut out = vec![0; text.len() + 2];
    let mut scratch = vec![0; 100 + 5 * (text.len() + 1)];
    let n = tokenizer.encode(text, special, add_bos, &mut out, &mut scratch).unwrap();
    out.truncate(n);
    let mut cached = vec![];
    CachedEncoderCheck::run(tokenizer, text, special, add_bos, &mut cached);
    assert!(cached.is_empty() || cached == out, "{text:?}");
    out
}

/// The cache needs `std`; without that feature there is nothing to compare.
struct CachedEncoderCheck;

impl CachedEncoderCheck {
    #[cfg(feature = "std")]
    fn run(tokenizer: &Tokenizer<'_>, text: &str, special: Special, add_bos: bool, out: &mut Vec<u32>) {
        let mut encoder = CachedEncoder::new(*tokenizer);
        encoder.encode(text, special, false, &mut vec![]).unwrap();
        encoder.encode(text, special, add_bos, out).unwrap();
    }

    #[cfg(not(feature = "std"))]
    fn run(_: &Tokenizer<'_>, _: &str, _: Special, _: bool, _: &mut Vec<u32>) {}
}

fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> String {
    let mut decoder = Decoder::new();
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id).to_string()).collect();
    text += &decoder.finish().to_string();
    text
}

#[test]
fn merges_by_rank_not_by_length() {
    let owned =
        OwnedTokenizer::build(&byte_level(&[("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")])).unwrap();
    let t = owned.tokenizer();
    // "bc" comes first, then only (a, bc), the last merge, makes "abc".
    assert_eq!(encode(&t, "abc", Special::Plain, false), [t.find(b"abc").unwrap()]);
    assert_eq!(encode(&t, "ab", Special::Plain, false), [t.find(b"ab").unwrap()]);
    let without = OwnedTokenizer::build(&byte_level(&[("b", "c"), ("a", "b"), ("ab", "c")])).unwrap();
    let t = without.tokenizer();
    assert!(t.data().ranks.is_empty() && t.data().extra_merges.is_empty(), "one byte a merge is enough");
    assert_eq!(encode(&t, "abc", Special::Plain, false), [97, t.find(b"bc").unwrap()]);
}

#[test]
fn missing_bytes_vanish_or_are_unknown() {
    let mut spec = spec(TokenizerKind::ByteLevelBpe, vec![normal("a"), normal("b"), normal("ab")]);
    spec.merges = vec![(0, 1)];
    let owned = OwnedTokenizer::build(&spec).unwrap();
    assert_eq!(encode(&owned.tokenizer(), "a!b", Special::Plain, false), [2]);
    spec.tokens.push(TokenSpec { token_type: TokenType::Unknown, ..normal("<unk>") });
    spec.unknown = Some(3);
    let owned = OwnedTokenizer::build(&spec).unwrap();
    assert_eq!(encode(&owned.tokenizer(), "a!?b", Special::Plain, false), [0, 3, 3, 1]);
}

#[test]
fn sentencepiece_falls_back_to_bytes() {
    let mut tokens = vec![TokenSpec { token_type: TokenType::Unknown, ..normal("<unk>") }];
    tokens.extend((0..=255u8).map(|byte| TokenSpec { token_type: TokenType::Byte, ..normal([byte]) }));
    for (text, score) in [(" ", -9.0), ("a", -8.0), (" a", -1.0), ("aa", -0.5), ("é", -7.0)] {
        tokens.push(TokenSpec { score, ..normal(text) });
    }
    let mut spec = TokenizerSpec {
        add_space_prefix: true,
        unknown: Some(0),
        ..spec(TokenizerKind::SentencePieceBpe, tokens)
    };
    let owned = OwnedTokenizer::build(&spec).unwrap();
    let t = owned.tokenizer();
    let id = |text: &str| t.find(text.as_bytes()).unwrap();
    assert_eq!(encode(&t, "aa a", Special::Plain, false), [id(" "), id("aa"), id(" a")]);
    assert_eq!(encode(&t, "▁a", Special::Plain, false), [id(" "), id(" a")], "▁ is a space");
    assert_eq!(encode(&t, "é\nß", Special::Plain, false), [id(" "), id("é"), 1 + 10, 1 + 0xc3, 1 + 0x9f]);
    assert_eq!(encode(&t, "", Special::Plain, false), []);
    for text in ["aa a", " a", "é\nß", "  "] {
        assert_eq!(decode(&t, &encode(&t, text, Special::Plain, false)), text);
    }
    // Without byte tokens a run of unknown characters is one unknown token.
    for token in &mut spec.tokens {
        if token.token_type == TokenType::Byte {
            token.token_type = TokenType::Unused;
        }
    }
    let owned = OwnedTokenizer::build(&spec).unwrap();
    assert_eq!(encode(&owned.tokenizer(), "xyaz", Special::Plain, false), [id(" "), 0, id("a"), 0]);
}

#[test]
fn too_little_memory_says_how_much() {
    let owned = OwnedTokenizer::build(&byte_level(&[])).unwrap();
    let t = owned.tokenizer();
    let (mut out, mut scratch) = ([0; 2], [0; 9]);
    assert_eq!(
        t.encode("abc", Special::Plain, false, &mut out, &mut scratch),
        Err(EncodeError::OutOfSpace { needed: 3, capacity: 2 })
    );
    assert_eq!(out, [97, 98]);
    assert_eq!(
        t.encode("abcd", Special::Plain, false, &mut out, &mut scratch),
        Err(EncodeError::ScratchTooSmall { needed: scratch_words(4), capacity: 9 })
    );
}

#[test]
fn many_tokens_are_hashed_and_found() {
    let owned = OwnedTokenizer::build(&byte_level(&[("a", "b"), ("ab", "a")])).unwrap();
    let t = owned.tokenizer();
    assert!(t.index.is_hashed() && t.index.ids.len() > 256);
    for id in 0..t.n_tokens() {
        assert_eq!(t.find(t.bytes(id)), Some(id));
        assert_eq!(t.is_whole(id), id >= 256, "{id}");
    }
    assert_eq!((t.find(b"ba"), t.find(b""), t.find_joined(b"ab", b"a")), (None, None, Some(257)));
    // A token that its own text does not become: "bc" comes first.
    let owned = OwnedTokenizer::build(&byte_level(&[("b", "c"), ("a", "b"), ("ab", "c")])).unwrap();
    assert!(!owned.tokenizer().is_whole(258) && owned.tokenizer().is_whole(257));
}

#[test]
fn whole_texts_decode_as_the_reference_has_them() {
    let mut tokens: Vec<TokenSpec> =
        (0..=255u8).map(|byte| TokenSpec { token_type: TokenType::Byte, ..normal([byte]) }).collect();
    tokens.extend([normal(" a"), TokenSpec { token_type: TokenType::Control, ..normal("<s>") }]);
    let spec = TokenizerSpec { add_space_prefix: true, ..spec(TokenizerKind::SentencePieceBpe, tokens) };
    let owned = OwnedTokenizer::build(&spec).unwrap();
    let t = owned.tokenizer();
    for (ids, whole, streamed) in [
        (&[256, 0xc3, 0xa9, 256][..], "aé a", "aé a"),
        (&[257, 256, 0xc3, 257, 0xa9], "aé", "aé"),
        (&[256, 0xc3, 0xa9, 0xff, 256], "a\u{fffd}\u{fffd}\u{fffd} a", "aé\u{fffd} a"),
        (&[0xe4, 0xbd, 256], "\u{fffd}\u{fffd} a", "\u{fffd}\u{fffd} a"),
        (&[256, 0xe4, 0xbd], "a\u{fffd}\u{fffd}", "a\u{fffd}\u{fffd}"),
        // Bytes that spell the character which stands for broken ones.
        (&[0xef, 0xbf, 0xbd, 0xc3, 0xa9], "\u{fffd}é", "\u{fffd}é"),
        (&[257, 257, 257, 256], "a", "a"),
    ] {
        let mut text = String::new();
        t.decode_each(ids, |part| text += part);
        assert_eq!((&text[..], &decode(&t, ids)[..]), (whole, streamed), "{ids:?}");
    }
}

#[test]
fn a_long_word_takes_no_quadratic_time() {
    let owned = OwnedTokenizer::build(&byte_level(&[("a", "a"), ("aa", "aa"), ("aaaa", "aaaa")])).unwrap();
    let t = owned.tokenizer();
    let text = "a".repeat(300_001);
    let ids = encode(&t, &text, Special::Plain, false);
    assert_eq!(ids.len(), 300_000 / 8 + 1);
    assert_eq!(decode(&t, &ids), text);
}
