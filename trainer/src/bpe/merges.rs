//! Learning merges from counted words, with pair counts kept up to date merge by merge.
//!
//! Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), with the
//! bookkeeping of Hugging Face's `BpeTrainer`, which decides ties and overlaps (`aaa` holds the pair
//! `aa` twice): a queue of pairs, each with the words where it has newly come up, and counts that
//! change by what each merge takes away and adds around itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

type Pair = (u32, u32);
type PairMap<T> = HashMap<Pair, T, BuildHasherDefault<PairHasher>>;

/// A pair that waits to be merged in some words. Ordered: highest count, then lowest ids.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    count: i64,
    pair: Reverse<Pair>,
    words: Vec<u32>,
}

/// Learns merges until `texts` (bytes of each token, by id; it grows) has `vocab_size` tokens or no
/// pair occurs `min_frequency` times. Tokens below `first_plain` are never made by a merge.
pub(super) fn learn(
    words: impl Iterator<Item = (Vec<u32>, u64)>,
    texts: &mut Vec<Vec<u8>>,
    first_plain: usize,
    vocab_size: usize,
    min_frequency: u64,
) -> Vec<Pair> {
    let mut words: Vec<(Vec<u32>, i64)> = words.map(|(word, count)| (word, count as i64)).collect();
    let mut ids: HashMap<Vec<u8>, u32> =
        (0..).zip(texts.iter().cloned()).skip(first_plain).map(|(id, text)| (text, id)).collect();
    let (mut counts, mut found) = count_pairs(&words);
    let mut queue = BinaryHeap::new();
    enqueue(&mut queue, &mut found, &counts);
    let mut merges = Vec::new();
    while texts.len() < vocab_size {
        let Some(mut top) = queue.pop() else { break };
        let pair = top.pair.0;
        let count = counts.get(&pair).copied().unwrap_or(0);
        if count != top.count {
            // Other merges have taken from it since it was queued.
            top.count = count;
            queue.push(top);
            continue;
        }
        if count < min_frequency as i64 {
            break;
        }
        let text = [&texts[pair.0 as usize][..], &texts[pair.1 as usize]].concat();
        let made = *ids.entry(text.clone()).or_insert_with(|| {
            texts.push(text);
            texts.len() as u32 - 1
        });
        merges.push(pair);
        for &at in &top.words {
            let (word, times) = &mut words[at as usize];
            merge_in(word, pair, made, |pair, change| {
                *counts.entry(pair).or_insert(0) += change * *times;
                if change > 0 {
                    note(found.entry(pair).or_default(), at);
                }
            });
        }
        enqueue(&mut queue, &mut found, &counts);
    }
    merges
}

/// Counts of all pairs, and the words in which each occurs.
fn count_pairs(words: &[(Vec<u32>, i64)]) -> (PairMap<i64>, PairMap<Vec<u32>>) {
    let mut counts: PairMap<i64> = HashMap::default();
    let mut found: PairMap<Vec<u32>> = HashMap::default();
    for (at, (word, times)) in (0..).zip(words) {
        for pair in word.windows(2) {
            let pair = (pair[0], pair[1]);
            *counts.entry(pair).or_insert(0) += times;
            note(found.entry(pair).or_default(), at);
        }
    }
    (counts, found)
}

/// Adds a word to a pair's list once. Words come in order, so that it can only be the last.
fn note(words: &mut Vec<u32>, at: u32) {
    if words.last() != Some(&at) {
        words.push(at);
    }
}

fn enqueue(queue: &mut BinaryHeap<Waiting>, found: &mut PairMap<Vec<u32>>, counts: &PairMap<i64>) {
    for (pair, words) in found.drain() {
        let count = counts.get(&pair).copied().unwrap_or(0);
        if count > 0 {
            queue.push(Waiting { count, pair: Reverse(pair), words });
        }
    }
}

/// Replaces `pair` by `made` from left to right; tells `change` which pairs around each place are
/// gone (−1) and which are new (+1).
fn merge_in(word: &mut Vec<u32>, pair: Pair, made: u32, mut change: impl FnMut(Pair, i64)) {
    let mut kept = 0;
    let mut read = 0;
    while read < word.len() {
        let symbol = word[read];
        if symbol == pair.0 && word.get(read + 1) == Some(&pair.1) {
            if kept > 0 {
                change((word[kept - 1], pair.0), -1);
                change((word[kept - 1], made), 1);
            }
            if let Some(&next) = word.get(read + 2) {
                change((pair.1, next), -1);
                change((made, next), 1);
            }
            word[kept] = made;
            read += 2;
        } else {
            word[kept] = symbol;
            read += 1;
        }
        kept += 1;
    }
    word.truncate(kept);
}

/// A fast hash for small keys; nobody chooses them to collide but by the text that they train on.
#[derive(Clone, Debug, Default)]
pub(super) struct PairHasher(u64);

impl PairHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }
}
