//! The built-in corpus: an endless supply of short children's stories, so that somebody with
//! no text at hand can train a model at once.
//!
//! The stories are told, not stored. A plot draws who and what it is about, then tells scenes
//! whose sentences follow from what happened before: a thing is found where it was put, the
//! helper that comes can do what is needed, the lesson fits the fault, numbers add up, he and
//! she stay who they are. So there is much to learn: spelling and grammar soon, names and
//! pronouns later, and facts from the beginning of a story that return at its end last.
//!
//! Everything is drawn with integer arithmetic from [`Rng`], so a seed gives the same text on
//! every machine.

mod cast;
mod details;
mod pattern;
mod plots;
mod scenes;
mod tale;
#[cfg(test)]
mod tests;
mod words;

use crate::rng::Rng;
use tale::Tale;

/// The least and the most words in a story.
const WORDS: core::ops::RangeInclusive<usize> = 60..=200;

/// Endless stories, the same for the same seed on every machine.
///
/// Each story is plain ASCII text of 60 to 200 words in one paragraph, without line breaks, so
/// one story a line makes a corpus. Another seed gives other stories of the same kind: a
/// held-out set, for example.
///
/// ```
/// let mut stories = smidgen_trainer::stories::Stories::new(0);
/// let story = stories.next().unwrap();
/// assert!(story.is_ascii() && story.split(' ').count() >= 60);
/// ```
#[derive(Debug, Clone)]
pub struct Stories {
    seed: u64,
    next: u64,
}

impl Stories {
    /// The stories that `seed` names, from the first one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::starting_at(seed, 0)
    }

    /// The same stories from number `index` (counted from 0) on, at once: a story does not
    /// depend on the ones before it, so threads can each tell their share.
    #[must_use]
    pub fn starting_at(seed: u64, index: u64) -> Self {
        Self { seed, next: index }
    }

    /// Appends the next story to `out`, which saves a `String` for each.
    pub fn tell(&mut self, out: &mut String) {
        let mut rng = Rng::at(self.seed, self.next);
        self.next = self.next.wrapping_add(1);
        let start = out.len();
        // A story's length is known once it is told; nearly all fit at once.
        loop {
            let (_, plot) = plots::PLOTS[rng.below(plots::PLOTS.len())];
            plot(&mut Tale::new(out, &mut rng));
            let words = out.as_bytes()[start..].iter().filter(|b| **b == b' ').count() + 1;
            if WORDS.contains(&words) {
                break;
            }
            out.truncate(start);
        }
    }
}

impl Iterator for Stories {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut story = String::with_capacity(1024);
        self.tell(&mut story);
        Some(story)
    }
}

/// Stories for `seed` until at least `bytes` bytes have been told.
pub fn text(seed: u64, bytes: usize) -> impl Iterator<Item = String> {
    let mut told = 0;
    Stories::new(seed).take_while(move |story| {
        let wanted = told < bytes;
        told += story.len();
        wanted
    })
}
