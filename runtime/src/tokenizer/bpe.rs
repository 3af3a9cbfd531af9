//! Merging the symbols of one stretch of text, pair by pair, in O(n log n) and three words a byte.
//!
//! Symbols lie at the byte position where they begin, so that a symbol's length leads to the next
//! one; its last position leads back to its first. A tournament tree over the positions knows the
//! best pair: lowest key first, leftmost among equals. That order is what GPT-2's, Hugging Face's
//! and SentencePiece's queues come to.

mod short;

use super::view::Tokenizer;

/// No pair begins here.
const NO_PAIR: u32 = u32::MAX;
/// A cell that holds no symbol but the position where the symbol ending here begins.
const BACK: u32 = 1 << 31;
/// A symbol that is no token: a character (or byte) that the vocabulary lacks, in the low bits.
const UNKNOWN: u32 = 1 << 30;
/// Whether words are merged in a way of their own, which is a little faster: on a chip it is not worth its
/// 650 bytes, encoding being a thousandth of what a prompt takes.
const SHORT_APART: bool = cfg!(not(target_os = "none"));

/// Words of scratch memory that [`Tokenizer::encode`] needs for one stretch of `bytes` bytes.
///
/// A stretch is a pre-token in byte-level BPE. SentencePiece has no pre-tokens, but where no token
/// goes on after a space behind a word, which is how its vocabularies are trained unless asked
/// otherwise, a stretch is a word with the spaces before it; else it is the whole text. Count one
/// more byte for SentencePiece's space prefix. So 3 × (longest word + 1) words suffice, and
/// 3 × (text + 1) always do.
pub const fn scratch_words(bytes: usize) -> usize {
    bytes.saturating_mul(3)
}

/// The symbols of one stretch, in scratch memory.
pub(super) struct Symbols<'s> {
    /// Per position: a symbol, or a [`BACK`] reference.
    cells: &'s mut [u32],
    /// Per position where a symbol begins: the key of the pair that it begins.
    keys: &'s mut [u32],
    /// The tournament's inner nodes, 1 to n − 1: the winning position below each.
    tree: &'s mut [u32],
    /// Positions used.
    len: usize,
}

/// One symbol after merging.
pub(super) enum Symbol {
    /// A token.
    Token(u32),
    /// A character or byte that no token is.
    Unknown(u32),
}

impl<'s> Symbols<'s> {
    /// No symbols yet. There is room for a third of `scratch` in bytes of text.
    pub(super) fn new(scratch: &'s mut [u32]) -> Self {
        let room = (scratch.len() / 3).min((UNKNOWN - 1) as usize);
        let (cells, rest) = scratch.split_at_mut(room);
        // A third of the length each: they are there, but the compiler does not divide that far.
        let (keys, rest) = rest.split_at_mut(room.min(rest.len()));
        let (tree, _) = rest.split_at_mut(room.min(rest.len()));
        Self { cells, keys, tree, len: 0 }
    }

    /// Bytes of text that fit.
    pub(super) fn room(&self) -> usize {
        self.cells.len()
    }

    /// Appends token `id`, which is `length` bytes long. Beyond the room it is dropped: the caller
    /// has compared the text with [`room`](Self::room).
    pub(super) fn push_token(&mut self, id: u32, length: usize) {
        self.push(id, length);
    }

    /// Appends a character or byte that no token is.
    pub(super) fn push_unknown(&mut self, code: u32) {
        self.push(UNKNOWN | code, 1);
    }

    fn push(&mut self, symbol: u32, length: usize) {
        let end = self.len.saturating_add(length);
        if length == 0 || end > self.cells.len() {
            return;
        }
        self.place(self.len, length, symbol);
        self.len = end;
    }

    /// Merges until no pair can be merged.
    pub(super) fn merge_all(&mut self, tokenizer: &Tokenizer<'_>) {
        if SHORT_APART && self.len <= short::MAX {
            return self.merge_short(tokenizer);
        }
        self.merge_by_tree(tokenizer);
    }

    /// [`Symbols::merge_all`] however few there are.
    pub(super) fn merge_by_tree(&mut self, tokenizer: &Tokenizer<'_>) {
        self.start(tokenizer);
        let keys_are_ids = tokenizer.keys_are_ids();
        // Every merge makes one symbol of two.
        for _ in 1..self.len {
            let at = self.best();
            let key = self.key(at);
            if key == NO_PAIR {
                return;
            }
            // A key stands for a pair, so all of these are there; were they not, merging would end.
            let (Some(left), Some(next)) = (self.token(at), self.next(tokenizer, at)) else {
                return;
            };
            let Some(right) = self.token(next) else {
                return;
            };
            let id = if keys_are_ids {
                key
            } else {
                match tokenizer.merge(left, right) {
                    Some(merge) => merge.id,
                    None => return,
                }
            };
            self.place(at, tokenizer.bytes(id).len(), id);
            self.set_key(next, NO_PAIR);
            let key = self.pair_key(tokenizer, at);
            self.set_key(at, key);
            if let Some(previous) = self.previous(at) {
                let key = self.pair_key(tokenizer, previous);
                self.set_key(previous, key);
            }
        }
    }

    /// Calls `each` with every symbol in order.
    pub(super) fn for_each(&self, tokenizer: &Tokenizer<'_>, mut each: impl FnMut(Symbol)) {
        let mut at = 0;
        while at < self.len {
            let cell = self.cell(at);
            each(if cell & UNKNOWN == 0 { Symbol::Token(cell) } else { Symbol::Unknown(cell & !UNKNOWN) });
            at += self.length(tokenizer, cell);
        }
    }

    /// First keys and tree.
    fn start(&mut self, tokenizer: &Tokenizer<'_>) {
        let n = self.len;
        let mut next = 0;
        for at in 0..n {
            let mut key = NO_PAIR;
            if at == next {
                key = self.pair_key(tokenizer, at);
                next += self.length(tokenizer, self.cell(at));
            }
            if let Some(slot) = self.keys.get_mut(at) {
                *slot = key;
            }
        }
        for node in (1..n).rev() {
            self.play(node);
        }
    }

    /// The position of the best pair, or any position if there is none.
    fn best(&self) -> usize {
        if self.len < 2 { 0 } else { self.tree.get(1).map_or(0, |&at| at as usize) }
    }

    /// Sets the key at a position and replays its games.
    fn set_key(&mut self, at: usize, key: u32) {
        if let Some(slot) = self.keys.get_mut(at) {
            if *slot == key {
                return;
            }
            *slot = key;
        }
        let mut node = (self.len + at) / 2;
        while node >= 1 {
            self.play(node);
            node /= 2;
        }
    }

    /// Decides one inner node. Leaf `i` of the tournament is node `len + i`.
    fn play(&mut self, node: usize) {
        let left = self.winner(2 * node);
        let right = self.winner(2 * node + 1);
        let best = if (self.key(left), left) <= (self.key(right), right) { left } else { right };
        if let Some(slot) = self.tree.get_mut(node) {
            *slot = best as u32;
        }
    }

    fn winner(&self, node: usize) -> usize {
        match node.checked_sub(self.len) {
            Some(leaf) => leaf,
            None => self.tree.get(node).map_or(0, |&at| at as usize),
        }
    }

    fn key(&self, at: usize) -> u32 {
        self.keys.get(at).copied().unwrap_or(NO_PAIR)
    }

    /// The key of the pair that begins at `at`.
    fn pair_key(&self, tokenizer: &Tokenizer<'_>, at: usize) -> u32 {
        let pair = || {
            let right = self.token(self.next(tokenizer, at)?)?;
            tokenizer.merge(self.token(at)?, right)
        };
        pair().map_or(NO_PAIR, |merge| merge.key)
    }

    fn cell(&self, at: usize) -> u32 {
        self.cells.get(at).copied().unwrap_or(UNKNOWN)
    }

    /// The token that begins at `at`, if it is one.
    fn token(&self, at: usize) -> Option<u32> {
        self.cells.get(at).copied().filter(|cell| cell & UNKNOWN == 0)
    }

    /// Writes a symbol of `length` ≥ 1 bytes at `at`.
    fn place(&mut self, at: usize, length: usize, symbol: u32) {
        if let Some(cells) = self.cells.get_mut(at..at.saturating_add(length)) {
            if let Some(last) = cells.last_mut() {
                *last = BACK | at as u32;
            }
            if let Some(first) = cells.first_mut() {
                *first = symbol;
            }
        }
    }

    fn length(&self, tokenizer: &Tokenizer<'_>, symbol: u32) -> usize {
        if symbol & UNKNOWN != 0 { 1 } else { tokenizer.bytes(symbol).len().max(1) }
    }

    fn next(&self, tokenizer: &Tokenizer<'_>, at: usize) -> Option<usize> {
        Some(at + self.length(tokenizer, self.cell(at))).filter(|&next| next < self.len)
    }

    fn previous(&self, at: usize) -> Option<usize> {
        let last = at.checked_sub(1)?;
        let cell = self.cell(last);
        Some(if cell & BACK != 0 { (cell & !BACK) as usize } else { last })
    }
}
