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
    spec.added = vec![Added { lstrip: true, ..Added::new(257) }, Added { rstrip: true, ..Added::new(258) }];
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

#[cfg(feature = "unicode")]
#[test]
fn text_is_put_into_nfc_where_nfc_is_wanted() {
    let mut spec = byte_level(&[("a", "b")]);
    spec.normalizer = Normalizer::Nfc;
    for pattern in [PreTokenizer::None, PreTokenizer::Qwen2] {
        spec.pre_tokenizer = pattern;
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let t = owned.tokenizer();
        assert_eq!(encode(&t, "é", Special::Plain, false), [0xc3, 0xa9]);
        for text in ["ab abe\u{301}ab ab", "e\u{301} ab", "ab\ne\u{301}", "x e\u{301}e\u{301} x e\u{301}"] {
            let composed = text.replace("e\u{301}", "é");
            assert_eq!(
                encode(&t, text, Special::Plain, false),
                encode(&t, &composed, Special::Plain, false),
                "{text:?}"
            );
        }
        let mut out = [0; 9];
        assert_eq!(
            t.encode("ab e\u{301}x y", Special::Plain, false, &mut out, &mut [0; 3]),
            Err(EncodeError::ScratchTooSmall {
                needed: if pattern == PreTokenizer::None { 8 } else { 4 },
                capacity: 3
            })
        );
    }
}

#[cfg(not(feature = "unicode"))]
#[test]
fn text_that_needs_nfc_is_refused_where_nfc_is_wanted() {
    let mut spec = byte_level(&[]);
    spec.normalizer = Normalizer::Nfc;
    let owned = OwnedTokenizer::build(&spec).unwrap();
    let t = owned.tokenizer();
    assert_eq!(encode(&t, "é", Special::Plain, false), [0xc3, 0xa9]);
    assert_eq!(
        t.encode("ae\u{301}", Special::Plain, false, &mut [0; 9], &mut [0; 30]),
        Err(EncodeError::NeedsNfc { at: 2 })
    );
}

fn bert(normalizer: Normalizer) -> TokenizerSpec {
    let texts = ["[UNK]", "[CLS]", "[SEP]", "un", "##able", "##a", "!", "caf", "##e", "漢", "u", "é", "é"];
    let mut spec = spec(TokenizerKind::WordPiece, texts.map(normal).to_vec());
    for (token, role) in
        spec.tokens.iter_mut().zip([TokenType::Unknown, TokenType::Control, TokenType::Control])
    {
        token.token_type = role;
    }
    spec.pre_tokenizer = PreTokenizer::Bert;
    spec.normalizer = normalizer;
    spec.unknown = Some(0);
    spec.added = vec![Added::new(0), Added::new(1), Added { closes: true, ..Added::new(2) }];
    spec
}

#[cfg(feature = "unicode")]
#[test]
fn words_are_pieces_or_unknown() {
    let owned = OwnedTokenizer::build(&bert(Normalizer::BertUncased)).unwrap();
    let t = owned.tokenizer();
    assert_eq!(encode(&t, "UNABLE! café", Special::Plain, false), [3, 4, 6, 7, 8]);
    assert_eq!(encode(&t, "un漢\u{0}un caf\u{301}fe", Special::Plain, false), [3, 9, 3, 0]);
    assert_eq!(encode(&t, "[CLS]un [SEP]", Special::Parsed, false), [1, 3, 2]);
    assert_eq!(encode(&t, "[SEP]", Special::Plain, false), [0, 0, 0]);
    assert_eq!(t.closing(), Some(2));
    let longest = format!("un{}", "a".repeat(98));
    assert_eq!(encode(&t, &longest, Special::Plain, false).len(), 99);
    assert_eq!(encode(&t, &(longest + "a"), Special::Plain, false), [0]);
    assert_eq!(decode(&t, &[1, 3, 4, 6, 7, 8, 2]), "unable! cafe");
    assert_eq!(decode(&t, &[4, 3]), "##able un");
    let owned = OwnedTokenizer::build(&bert(Normalizer::BertCased)).unwrap();
    assert_eq!(encode(&owned.tokenizer(), "un Un é", Special::Plain, false), [3, 0, 11]);
    let owned = OwnedTokenizer::build(&bert(Normalizer::BertAccents)).unwrap();
    assert_eq!(encode(&owned.tokenizer(), "UN É", Special::Plain, false), [3, 11]);
}

#[test]
fn word_piece_is_refused_where_it_cannot_be() {
    let what = if cfg!(feature = "unicode") {
        "WordPiece without BERT's pre-tokenizer and normalizer"
    } else {
        "WordPiece in a build without the feature `unicode`"
    };
    let spec = TokenizerSpec { normalizer: Normalizer::None, ..bert(Normalizer::None) };
    assert_eq!(OwnedTokenizer::build(&spec), Err(BuildError::Tables(TokenizerError::Unsupported { what })));
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
fn added_tokens_keep_their_rules() {
    let mut spec = byte_level(&[]);
    for (text, added) in [
        ("<a>", Added::new(256)),
        ("cat", Added { single_word: cfg!(feature = "unicode"), ..Added::new(257) }),
        ("<a> x", Added { normalized: true, ..Added::new(258) }),
        ("<m>", Added { lstrip: true, rstrip: true, ..Added::new(259) }),
    ] {
        spec.tokens.push(TokenSpec { token_type: TokenType::UserDefined, ..normal(text) });
        spec.added.push(added);
    }
    spec.tokens[256].token_type = TokenType::Control;
    let owned = OwnedTokenizer::build(&spec).unwrap();
    assert_eq!(TokenizerSpec::from_tokenizer(&owned.tokenizer()).added.len(), 4);
    let t = owned.tokenizer();
    let ids = |text: &str| encode(&t, text, Special::Parsed, false);
    // What is matched raw comes first, though the other is longer.
    assert_eq!(ids("<a> x"), [256, 32, 120]);
    assert_eq!(encode(&t, "<a> x", Special::Plain, false), [258]);
    assert_eq!(ids("y <m> \n<m> z"), [121, 259, 259, 122]);
    // "<m>" takes both line ends, of which "\n" is a token too: what is behind that goes on as text.
    let mut again = spec.clone();
    again.tokens.push(TokenSpec { token_type: TokenType::UserDefined, ..normal("\t") });
    again.added.push(Added::new(260));
    let again = OwnedTokenizer::build(&again).unwrap();
    assert_eq!(encode(&again.tokenizer(), "<m>\t\nz", Special::Parsed, false), [259, 260, 10, 122]);
    #[cfg(feature = "unicode")]
    assert_eq!(
        ids("cat.cat cats _cat é\u{301}cat"),
        [&[257, 46, 257][..], &" cats _cat é\u{301}cat".bytes().map(u32::from).collect::<Vec<_>>()].concat()
    );
}

#[test]
fn a_space_comes_before_the_text_as_the_file_says() {
    let mut tokens: Vec<TokenSpec> = [" ", "a", " a", "é"].map(normal).to_vec();
    tokens.extend(["<s>", "<n>"].map(|text| TokenSpec { token_type: TokenType::Control, ..normal(text) }));
    let mut spec = TokenizerSpec { add_space_prefix: true, ..spec(TokenizerKind::SentencePieceBpe, tokens) };
    spec.added = vec![Added::new(4), Added { normalized: true, ..Added::new(5) }];
    for (pattern, text, wanted) in [
        (PreTokenizer::None, "a", &[2][..]),
        (PreTokenizer::None, " a", &[0, 2]),
        (PreTokenizer::None, "a<s>a", &[2, 4, 2]),
        (PreTokenizer::None, "<s> a", &[4, 0, 2]),
        // Matched in the normalized text, behind a space that it takes.
        (PreTokenizer::None, "<n> a", &[5, 2]),
        (PreTokenizer::None, " <n>a", &[0, 5, 1]),
        (PreTokenizer::None, "a <n>", &[2, 5]),
        (PreTokenizer::Metaspace, "a<s>a<s> a", &[2, 4, 2, 4, 2]),
        (PreTokenizer::MetaspaceFirst, "a<s>a<s> a", &[2, 4, 1, 4, 2]),
        (PreTokenizer::MetaspaceFirst, " a<n>a", &[2, 5, 1]),
        (PreTokenizer::MetaspaceFirst, "<s>a", &[4, 1]),
        (PreTokenizer::MetaspaceWords, "a  a", &[2, 0, 2]),
        (PreTokenizer::MetaspaceFirstWords, "a", &[2]),
    ] {
        spec.pre_tokenizer = pattern;
        let owned = OwnedTokenizer::build(&spec).unwrap();
        assert_eq!(encode(&owned.tokenizer(), text, Special::Parsed, false), wanted, "{pattern:?} {text:?}");
    }
}

#[cfg(feature = "unicode")]
#[test]
fn a_token_in_spaced_text_looks_behind_its_space() {
    let mut tokens: Vec<TokenSpec> = [" ", "a", " a", "\t"].map(normal).to_vec();
    tokens
        .extend(["<l>", "<w>"].map(|text| TokenSpec { token_type: TokenType::UserDefined, ..normal(text) }));
    let mut spec = TokenizerSpec { add_space_prefix: true, ..spec(TokenizerKind::SentencePieceBpe, tokens) };
    let added = |id| Added { normalized: true, ..Added::new(id) };
    spec.added = vec![Added { lstrip: true, ..added(4) }, Added { single_word: true, ..added(5) }];
    let owned = OwnedTokenizer::build(&spec).unwrap();
    for (text, wanted) in [
        ("a\t <l>", &[2, 4][..]),
        ("\t <l>", &[0, 4]),
        ("a  <l>", &[2, 0, 4]),
        ("a <w>", &[2, 0]),
        ("a\t <w>", &[2, 3, 5]),
    ] {
        assert_eq!(encode(&owned.tokenizer(), text, Special::Plain, false), wanted, "{text:?}");
    }
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
        let per_byte = spec.kind == TokenizerKind::SentencePieceBpe;
        let expected: String = bytes.utf8_chunks().map(|chunk| {
            let broken = if per_byte { chunk.invalid().len() } else { chunk.invalid().len().min(1) };
            chunk.valid().to_string() + &"\u{fffd}".repeat(broken)
        }).collect();
        prop_assert_eq!(decode(&t, &small), expected);
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
            valid.text, valid.offsets, valid.index, valid.byte_tokens, valid.types, valid.left_len,
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
            text: &tables[0], offsets: &tables[1], index: &tables[2], byte_tokens: &tables[3],
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
            end_tokens: &bytes[0], text: &bytes[1], offsets: &bytes[2], index: &bytes[3],
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
