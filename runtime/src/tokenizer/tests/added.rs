//! Added tokens, and the space before a text.

use super::*;

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
