//! Normal forms, and WordPiece, which has its own.

use super::*;

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
