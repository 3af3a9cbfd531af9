//! Merging a word: few symbols, whose best pair is found by looking at all of them.

use super::super::view::Tokenizer;
use super::{NO_PAIR, Symbols};

/// Bytes of the longest stretch that is merged here.
pub(super) const MAX: usize = 32;

impl Symbols<'_> {
    /// Merges a stretch of at most [`MAX`] bytes. The order of merging is the tournament's.
    pub(super) fn merge_short(&mut self, tokenizer: &Tokenizer<'_>) {
        let mut ids = [0; MAX];
        // The key of each symbol's pair with the next one.
        let mut keys = [NO_PAIR; MAX];
        let mut n = 0;
        let mut at = 0;
        while at < self.len
            && let Some(slot) = ids.get_mut(n)
        {
            *slot = self.cell(at);
            at += self.length(tokenizer, *slot);
            n += 1;
        }
        let pair_key = |ids: &[u32; MAX], at: usize| match (ids.get(at), ids.get(at + 1)) {
            (Some(&left), Some(&right)) if (left | right) & super::UNKNOWN == 0 => {
                tokenizer.merge(left, right).map_or(NO_PAIR, |merge| merge.key)
            }
            _ => NO_PAIR,
        };
        for (at, key) in keys.iter_mut().enumerate().take(n.saturating_sub(1)) {
            *key = pair_key(&ids, at);
        }
        let keys_are_ids = tokenizer.keys_are_ids();
        while n > 1 {
            let mut best = (NO_PAIR, 0);
            for (at, &key) in keys.iter().enumerate().take(n - 1) {
                if key < best.0 {
                    best = (key, at);
                }
            }
            let (key, at) = best;
            if key == NO_PAIR {
                break;
            }
            let made = match (ids.get(at), ids.get(at + 1)) {
                _ if keys_are_ids => Some(key),
                (Some(&left), Some(&right)) => tokenizer.merge(left, right).map(|merge| merge.id),
                _ => None,
            };
            let (Some(made), Some(slot)) = (made, ids.get_mut(at)) else { break };
            *slot = made;
            remove(&mut ids, at + 1, n);
            remove(&mut keys, at + 1, n);
            n -= 1;
            let last = n - 1;
            if let Some(key) = keys.get_mut(at) {
                *key = if at < last { pair_key(&ids, at) } else { NO_PAIR };
            }
            if let Some(before) = at.checked_sub(1)
                && let Some(key) = keys.get_mut(before)
            {
                *key = pair_key(&ids, before);
            }
        }
        let mut at = 0;
        for &id in ids.iter().take(n) {
            let length = self.length(tokenizer, id);
            self.place(at, length, id);
            at += length;
        }
    }
}

/// Takes entry `at` out of the first `n`.
fn remove(entries: &mut [u32; MAX], at: usize, n: usize) {
    let mut next = at + 1;
    while next < n {
        if let Some(&moved) = entries.get(next)
            && let Some(slot) = entries.get_mut(next - 1)
        {
            *slot = moved;
        }
        next += 1;
    }
}
