//! Small vocabularies made here, checked against merging as its definition says, and hostile tables.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

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
    let mut scratch = vec![0; scratch_words(text.len() + 1)];
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

/// Merging by definition: the pair of lowest rank, leftmost first, until there is none.
fn merge_naively(mut symbols: Vec<u32>, rank: impl Fn(u32, u32) -> Option<(i64, u32)>) -> Vec<u32> {
    loop {
        let best = symbols.windows(2).enumerate().filter_map(|(at, pair)| {
            let (rank, made) = rank(pair[0], pair[1])?;
            Some((rank, at, made))
        });
        let Some((_, at, made)) = best.min() else {
            return symbols;
        };
        symbols[at] = made;
        symbols.remove(at + 1);
    }
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
fn special_tokens_are_text_unless_asked_for() {
    let mut spec = byte_level(&[("<", "|")]);
    spec.pre_tokenizer = PreTokenizer::Gpt2;
    spec.tokens.push(TokenSpec { token_type: TokenType::Control, ..normal("<|end|>") });
    spec.tokens.push(TokenSpec { token_type: TokenType::UserDefined, ..normal("<|user|>") });
    spec.added =
        vec![Added { id: 257, lstrip: true, rstrip: false }, Added { id: 258, lstrip: false, rstrip: true }];
    spec.bos = Some(257);
    spec.end_tokens = vec![257];
    let owned = OwnedTokenizer::build(&spec).unwrap();
    let t = owned.tokenizer();
    assert_eq!(encode(&t, "a \n<|end|>", Special::Parsed, true), [257, 97, 257]);
    assert_eq!(encode(&t, "<|user|>  b", Special::Plain, false), [258, 98]);
    let plain = encode(&t, "<|end|>", Special::Plain, false);
    assert_eq!(plain, [256, 101, 110, 100, 124, 62]);
    assert_eq!(decode(&t, &plain), "<|end|>");
    assert_eq!(decode(&t, &[257, 97, 258, 257]), "a<|user|>");
    assert!(t.is_end(257) && !t.is_end(258));
    assert_eq!(
        (t.find_special("<|end|>"), t.find_special("<|"), t.find_special("?!")),
        (Some(257), Some(256), None)
    );
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
fn text_that_needs_nfc_is_refused_where_nfc_is_wanted() {
    let mut spec = byte_level(&[]);
    spec.normalizer = Normalizer::Nfc;
    let owned = OwnedTokenizer::build(&spec).unwrap();
    let t = owned.tokenizer();
    assert_eq!(encode(&t, "é", Special::Plain, false), [0xc3, 0xa9]);
    let mut out = [0; 9];
    assert_eq!(
        t.encode("ae\u{301}", Special::Plain, false, &mut out, &mut [0; 30]),
        Err(EncodeError::NeedsNfc { at: 2 })
    );
}

#[test]
fn word_piece_is_refused_by_name() {
    let spec = spec(TokenizerKind::WordPiece, vec![normal("a")]);
    assert_eq!(
        OwnedTokenizer::build(&spec),
        Err(BuildError::Tables(TokenizerError::Unsupported { what: "WordPiece" }))
    );
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

/// A vocabulary over a small alphabet whose merges are drawn at random: some make what another
/// made, and (with `shuffle`) ids are not in the order of merging.
fn random_merges() -> impl Strategy<Value = TokenizerSpec> {
    (
        prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(draws, seed, shuffle)| {
            let mut texts: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
            let mut merges = vec![];
            for (left, right) in draws {
                let (left, right) = (left.index(texts.len()), right.index(texts.len()));
                let joined = format!("{}{}", texts[left], texts[right]);
                if joined.len() > 400 || merges.contains(&(left as u32, right as u32)) {
                    continue;
                }
                merges.push((left as u32, right as u32));
                if !texts.contains(&joined) {
                    texts.push(joined);
                }
            }
            let mut order: Vec<usize> = (0..texts.len()).collect();
            if shuffle {
                order.sort_by_key(|&i| (i as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
            let new_id = |old: u32| order.iter().position(|&i| i == old as usize).unwrap() as u32;
            let tokens = order.iter().map(|&i| normal(texts[i].as_str())).collect();
            let merges = merges.into_iter().map(|(l, r)| (new_id(l), new_id(r))).collect();
            TokenizerSpec { merges, ..spec(TokenizerKind::ByteLevelBpe, tokens) }
        })
}

/// A vocabulary with random scores, many of them equal, and byte fallback.
fn scored_pieces() -> impl Strategy<Value = TokenizerSpec> {
    prop::collection::vec(("[ab ]{1,4}", -3i8..3), 0..20).prop_map(|pieces| {
        let mut tokens: Vec<TokenSpec> = vec![];
        for (text, score) in [("a".into(), 0), ("b".into(), 0), (" ".into(), 0)].into_iter().chain(pieces) {
            if tokens.iter().all(|t| t.bytes != text.as_bytes()) {
                tokens.push(TokenSpec { score: score.into(), ..normal(text) });
            }
        }
        tokens.extend((0..=255u8).map(|byte| TokenSpec { token_type: TokenType::Byte, ..normal([byte]) }));
        spec(TokenizerKind::SentencePieceBpe, tokens)
    })
}

fn any_vocabulary() -> impl Strategy<Value = TokenizerSpec> {
    prop_oneof![random_merges(), scored_pieces()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn merging_is_as_the_merge_list_says(spec in random_merges(), text in "[abc]{0,60}") {
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let t = owned.tokenizer();
        let symbols = text.bytes().map(|byte| t.find(&[byte]).unwrap()).collect();
        let expected = merge_naively(symbols, |left, right| {
            let rank = spec.merges.iter().position(|&pair| pair == (left, right))?;
            Some((rank as i64, t.find(&[t.bytes(left), t.bytes(right)].concat())?))
        });
        prop_assert_eq!(encode(&t, &text, Special::Plain, false), expected);
        prop_assert_eq!(TokenizerSpec::from_tokenizer(&t), spec);
    }

    #[test]
    fn sentencepiece_merges_by_score_then_leftmost(spec in scored_pieces(), text in "[ab ]{0,40}") {
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let t = owned.tokenizer();
        let symbols = text.bytes().map(|byte| t.find(&[byte]).unwrap()).collect();
        let expected = merge_naively(symbols, |left, right| {
            let made = t.find(&[t.bytes(left), t.bytes(right)].concat())?;
            Some((-spec.tokens[made as usize].score as i64, made))
        });
        prop_assert_eq!(encode(&t, &text, Special::Plain, false), expected);
    }

    #[test]
    fn any_text_comes_back(text in "\\PC{0,30}|[ab ]{0,30}|.{0,30}") {
        let owned = OwnedTokenizer::build(&byte_level(&[("a", "b"), ("ab", " "), ("\u{e9}", "")][..2])).unwrap();
        let t = owned.tokenizer();
        prop_assert_eq!(decode(&t, &encode(&t, &text, Special::Parsed, false)), text);
    }

    #[test]
    fn any_ids_decode(spec in any_vocabulary(), ids in prop::collection::vec(any::<u32>(), 0..20)) {
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let t = owned.tokenizer();
        let small: Vec<u32> = ids.iter().map(|id| id % (t.n_tokens() + 2)).collect();
        let bytes: Vec<u8> = small.iter().flat_map(|&id| t.bytes(id)).copied().collect();
        prop_assert_eq!(decode(&t, &small), String::from_utf8_lossy(&bytes));
        decode(&t, &ids);
    }

    #[test]
    fn hostile_tables_are_refused_or_harmless(
        spec in any_vocabulary(),
        damage in prop::collection::vec((0..10usize, any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
        n_tokens in prop::option::of(any::<u8>()),
        text in "[ab ]{0,20}",
    ) {
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let valid = owned.data();
        let mut tables: Vec<Vec<u8>> = [
            valid.text, valid.offsets, valid.sorted, valid.byte_tokens, valid.types, valid.left_len,
            valid.ranks, valid.extra_merges, valid.scores, valid.added,
        ].map(Vec::from).to_vec();
        for (table, at, value, how) in damage {
            let table = &mut tables[table];
            match how {
                0 => table.push(value),
                1 => drop(table.pop()),
                _ if !table.is_empty() => { let at = at.index(table.len()); table[at] = value; }
                _ => {}
            }
        }
        let data = TokenizerData {
            text: &tables[0], offsets: &tables[1], sorted: &tables[2], byte_tokens: &tables[3],
            types: &tables[4], left_len: &tables[5], ranks: &tables[6], extra_merges: &tables[7],
            scores: &tables[8], added: &tables[9],
            n_tokens: n_tokens.map_or(valid.n_tokens, u32::from),
            ..valid
        };
        if let Ok(t) = Tokenizer::new(data) {
            let ids = encode(&t, &text, Special::Parsed, true);
            decode(&t, &ids);
        }
    }

    #[test]
    fn arbitrary_tables_never_panic(
        bytes in prop::collection::vec(prop::collection::vec(0u8..8, 0..40), 11),
        numbers in prop::array::uniform2(0u32..12),
        kind in 0..2u8,
    ) {
        let data = TokenizerData {
            kind: [TokenizerKind::ByteLevelBpe, TokenizerKind::SentencePieceBpe][usize::from(kind)],
            pre_tokenizer: PreTokenizer::None, normalizer: Normalizer::None,
            add_bos: true, add_space_prefix: false, ignore_merges: true,
            n_tokens: numbers[0], max_token_bytes: numbers[1], bos: Some(1), unknown: None,
            end_tokens: &bytes[0], text: &bytes[1], offsets: &bytes[2], sorted: &bytes[3],
            byte_tokens: &bytes[4], types: &bytes[5], left_len: &bytes[6], ranks: &bytes[7],
            extra_merges: &bytes[8], scores: &bytes[9], added: &bytes[10],
        };
        if let Err(error) = Tokenizer::new(data) {
            prop_assert!(error.to_string().starts_with("tokenizer: "));
        }
        // Even over tables that were never validated nothing panics.
        let t = Tokenizer::trusted(data);
        let _ = t.encode("abc \u{1}\u{2}", Special::Parsed, true, &mut [0; 9], &mut [0; 60]);
        decode(&t, &[0, 1, 2, u32::MAX]);
    }
}
