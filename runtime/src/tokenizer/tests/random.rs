//! Random vocabularies against merging by its definition, random ids, and hostile tables.

use proptest::prelude::*;

use super::super::bpe::{Symbol, Symbols};
use super::*;

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

pub(super) fn any_vocabulary() -> impl Strategy<Value = TokenizerSpec> {
    prop_oneof![random_merges(), scored_pieces()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn few_symbols_merge_in_the_tree_as_beside_it(spec in any_vocabulary(), text in "[abc ]{0,32}") {
        let owned = OwnedTokenizer::build(&spec).unwrap();
        let t = owned.tokenizer();
        let merged = |merge: fn(&mut Symbols<'_>, &Tokenizer<'_>)| {
            let mut scratch = [0; 3 * 32];
            let mut symbols = Symbols::new(&mut scratch);
            text.bytes().filter_map(|byte| t.find(&[byte])).for_each(|id| symbols.push_token(id, 1));
            merge(&mut symbols, &t);
            let mut ids = vec![];
            symbols.for_each(&t, |symbol| if let Symbol::Token(id) = symbol { ids.push(id) });
            ids
        };
        prop_assert_eq!(merged(|symbols, t| symbols.merge_by_tree(t)), merged(|symbols, t| symbols.merge_all(t)));
    }

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
