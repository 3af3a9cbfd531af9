//! How often each distinct pre-token occurs.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::merges::PairHasher;

/// Pre-tokens and their counts, in the order in which they first came: so the same text gives the
/// same lists, whatever the hash.
#[derive(Clone, Debug, Default)]
pub(super) struct WordCounts {
    index: HashMap<Box<str>, usize, BuildHasherDefault<PairHasher>>,
    counts: Vec<u64>,
}

impl WordCounts {
    pub(super) fn add(&mut self, word: &str, times: u64) {
        if let Some(&at) = self.index.get(word) {
            self.counts[at] += times;
        } else {
            self.index.insert(word.into(), self.counts.len());
            self.counts.push(times);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Words with their counts, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let mut words: Vec<(&str, usize)> = self.index.iter().map(|(word, &at)| (&**word, at)).collect();
        words.sort_unstable_by_key(|&(_, at)| at);
        words.into_iter().map(|(word, at)| (word, self.counts[at]))
    }
}
