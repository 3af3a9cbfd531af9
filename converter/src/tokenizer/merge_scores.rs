//! From the merge list that Hugging Face makes of a SentencePiece vocabulary back to scores.
//!
//! SentencePiece merges the pair whose result has the highest score. Its vocabularies come in
//! `tokenizer.json` as a list of all pairs that make a token, by falling score: twice as many pairs
//! as tokens. Where a list is exactly that, one number a token says the same, and merging is
//! SentencePiece's own (leftmost first among equals, where Hugging Face goes by list).

use std::collections::{HashMap, HashSet};

use smidgen_runtime::tokenizer::{TokenSpec, TokenType};

/// A score for each token, such that merging by score is merging by `merges`; `None` where the list
/// says something that scores cannot: not all pairs, or a token's pairs among another's.
pub(super) fn scores(tokens: &[TokenSpec], merges: &[(u32, u32)]) -> Option<Vec<f32>> {
    let ids: HashMap<&[u8], u32> = (0..)
        .zip(tokens)
        .filter(|(_, token)| token.token_type == TokenType::Normal)
        .map(|(id, token)| (&token.bytes[..], id))
        .collect();
    if !lists_every_pair(tokens, &ids, merges) {
        return None;
    }
    // First and last rank of each token's pairs.
    let mut spans: HashMap<u32, (usize, usize)> = HashMap::new();
    for (rank, &(left, right)) in merges.iter().enumerate() {
        let joined = [&tokens.get(left as usize)?.bytes[..], &tokens.get(right as usize)?.bytes].concat();
        let made = *ids.get(&joined[..])?;
        spans.entry(made).or_insert((rank, rank)).1 = rank;
    }
    let mut spans: Vec<_> = spans.into_iter().map(|(id, (first, last))| (first, last, id)).collect();
    spans.sort_unstable();
    // Tokens whose pairs are mixed had the same score.
    let mut groups: Vec<Vec<u32>> = Vec::new();
    let mut reach = None;
    for (first, last, id) in spans {
        match groups.last_mut() {
            Some(group) if Some(first) < reach => group.push(id),
            _ => groups.push(vec![id]),
        }
        reach = reach.max(Some(last));
    }
    let mut scores = vec![-(groups.len() as f32); tokens.len()];
    for (place, group) in groups.iter().enumerate() {
        if group.len() > 1
            && !all_are_runs_of_one_byte(group.iter().map(|&id| &tokens[id as usize].bytes[..]))
        {
            return None;
        }
        for &id in group {
            scores[id as usize] = -(place as f32);
        }
    }
    Some(scores)
}

fn lists_every_pair(tokens: &[TokenSpec], ids: &HashMap<&[u8], u32>, merges: &[(u32, u32)]) -> bool {
    let listed: HashSet<(u32, u32)> = merges.iter().copied().collect();
    let every_split = |token: &TokenSpec| {
        let Ok(text) = std::str::from_utf8(&token.bytes) else { return true };
        text.char_indices().skip(1).all(|(at, _)| {
            let (left, right) = token.bytes.split_at(at);
            match (ids.get(left), ids.get(right)) {
                (Some(&left), Some(&right)) => listed.contains(&(left, right)),
                _ => true,
            }
        })
    };
    tokens.iter().filter(|token| token.token_type == TokenType::Normal).all(every_split)
}

/// Llama's runs of spaces share one score. Whatever the order in which such runs grow, they meet no
/// other token's pairs.
fn all_are_runs_of_one_byte<'b>(texts: impl Iterator<Item = &'b [u8]>) -> bool {
    let mut bytes = texts.flatten();
    let first = bytes.next();
    bytes.all(|byte| Some(byte) == first)
}
