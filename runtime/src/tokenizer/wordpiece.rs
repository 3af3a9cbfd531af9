//! WordPiece: the longest token that a word begins with, then again for the rest behind `##`.

use super::view::Tokenizer;

/// What a token that goes on with a word begins with.
pub(super) const CONTINUES: &[u8] = b"##";

impl Tokenizer<'_> {
    /// Calls `each` with the tokens of `word`, or with the unknown token if any of it is none.
    /// Words have a bounded length, so the time is linear in the text.
    pub(super) fn word_pieces(&self, word: &str, mut each: impl FnMut(u32)) {
        let pieces = || WordPieces { tokenizer: self, rest: word, first: true };
        if pieces().all(|piece| piece.is_some()) {
            pieces().flatten().for_each(each);
        } else if let Some(unknown) = self.unknown() {
            each(unknown);
        }
    }
}

/// The tokens of a word; `None`, once, where there is none.
struct WordPieces<'w> {
    tokenizer: &'w Tokenizer<'w>,
    rest: &'w str,
    first: bool,
}

impl Iterator for WordPieces<'_> {
    type Item = Option<u32>;

    fn next(&mut self) -> Option<Option<u32>> {
        let prefix = if self.first { &[] } else { CONTINUES };
        let longest = self.rest.floor_char_boundary(self.tokenizer.max_token_bytes() as usize);
        let mut piece = self.rest.get(..longest)?;
        if self.rest.is_empty() {
            return None;
        }
        while let Some((last, _)) = piece.char_indices().next_back() {
            if let Some(id) = self.tokenizer.find_joined(prefix, piece.as_bytes()) {
                self.rest = self.rest.get(piece.len()..).unwrap_or("");
                self.first = false;
                return Some(Some(id));
            }
            piece = piece.get(..last).unwrap_or("");
        }
        self.rest = "";
        Some(None)
    }
}
