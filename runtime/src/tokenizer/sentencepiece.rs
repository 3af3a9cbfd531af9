//! SentencePiece's own: where its texts may be cut.

/// SentencePiece writes a space so; in our tables it is a space again.
pub(super) const SPACE_MARK: char = '\u{2581}';

/// A text cut before every space that follows something else: the words, each behind its spaces.
///
/// SentencePiece knows no pre-tokens: it merges over the whole text. But where no token has a space
/// behind something else, no merge ever crosses such a place, and the words can be merged one by
/// one, in memory for one word. (Not where the vocabulary has such tokens: then the text is one.)
pub(super) struct Words<'t> {
    rest: &'t str,
    cut: Cut,
}

/// Where a text may be cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nowhere: some token goes on over a space behind a word.
    Nowhere,
    /// Before every space behind something else.
    Words,
    /// Before every space: the tokenizer says so.
    EverySpace,
}

impl<'t> Words<'t> {
    pub(super) fn new(text: &'t str, cut: Cut) -> Self {
        Self { rest: text, cut }
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        // Where every space is a cut, the stretch's own first one is not.
        let mut after = false;
        let end = match self.cut {
            Cut::Nowhere => None,
            cut => self.rest.char_indices().find(|&(_, c)| {
                let space = matches!(c, ' ' | SPACE_MARK);
                let found = space && after;
                after = !space || cut == Cut::EverySpace;
                found
            }),
        };
        let (word, rest) = end.and_then(|(at, _)| self.rest.split_at_checked(at)).unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(word)
    }
}
