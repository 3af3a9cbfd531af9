//! One story being told: who and what is in it, what has been said, and who was named when.
//! [`super::pattern`] is the language that its sentences are written in.

use super::cast::{Person, Place, Sky, Thing};
use crate::rng::Rng;

/// The state of one story and the text told so far.
pub(super) struct Tale<'a> {
    pub(super) out: &'a mut String,
    pub(super) rng: &'a mut Rng,
    pub(super) h: Person,
    pub(super) f: Person,
    pub(super) g: Person,
    pub(super) k: Person,
    pub(super) e: Person,
    pub(super) o: Thing,
    pub(super) x: Thing,
    pub(super) y: Thing,
    pub(super) z: Thing,
    pub(super) p: &'static Place,
    pub(super) q: &'static Place,
    pub(super) i: usize,
    pub(super) j: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    /// Where the hero's home stands.
    pub(super) r: &'static str,
    pub(super) s: &'static str,
    pub(super) t: &'static str,
    pub(super) u: &'static str,
    pub(super) v: &'static str,
    pub(super) w: &'static str,
    /// Phrases for what happens by the way, so that it disturbs nothing else.
    pub(super) b: &'static str,
    pub(super) c: &'static str,
    pub(super) l: &'static str,
    /// The hero's leading trait: an adjective, `{trait}`.
    pub(super) nature: &'static str,
    /// The weather, told by `{day}` and remembered at the end.
    pub(super) sky: Sky,
    /// Food packed at the start (in `y`) and not yet eaten.
    pub(super) packed: bool,
    /// What the hero saw on the way, for the end: a phrase with an article or a number.
    pub(super) saw: &'static str,
    /// What the hero learned, as a pattern; empty for a story without a lesson.
    pub(super) moral: &'static str,
    /// Where `{a}` waits for its next letter.
    pub(super) article: Option<usize>,
    pub(super) capital: bool,
    /// Where this story begins in `out`.
    start: usize,
    pub(super) sentence: u32,
    /// In which call of `say` each person was mentioned last, by [`seat`]; 0 for not yet.
    pub(super) mentioned: [u32; 5],
    /// Who was mentioned last of all.
    latest: u8,
    /// How many pronouns in a row have stood for a name.
    pub(super) pronouns: u32,
}

impl<'a> Tale<'a> {
    pub(super) fn new(out: &'a mut String, rng: &'a mut Rng) -> Self {
        let start = out.len();
        let (nobody, nothing, nowhere) = (Person::NOBODY, Thing::NOTHING, Place::NOWHERE);
        Self {
            out,
            rng,
            h: nobody,
            f: nobody,
            g: nobody,
            k: nobody,
            e: nobody,
            o: nothing,
            x: nothing,
            y: nothing,
            z: nothing,
            p: nowhere,
            q: nowhere,
            i: 0,
            j: 0,
            m: 0,
            n: 0,
            r: "",
            s: "",
            t: "",
            u: "",
            v: "",
            w: "",
            b: "",
            c: "",
            l: "",
            nature: "",
            sky: Sky::Any,
            packed: false,
            saw: "",
            moral: "",
            article: None,
            capital: false,
            start,
            sentence: 0,
            mentioned: [0; 5],
            latest: 0,
            pronouns: 0,
        }
    }

    /// Tells one or more sentences (or none, where the pattern says so), with a space before
    /// them where there is text already.
    pub(super) fn say(&mut self, pattern: &'static str) {
        if self.out.len() > self.start {
            self.out.push(' ');
        }
        self.sentence += 1;
        self.expand(pattern);
        if self.out.ends_with(' ') {
            self.out.pop();
        }
    }

    /// Tells one of two patterns.
    pub(super) fn say_if(&mut self, condition: bool, then: &'static str, or: &'static str) {
        let pattern = if condition { then } else { or };
        if !pattern.is_empty() {
            self.say(pattern);
        }
    }

    /// Tells the sentences `times` out of `of`.
    pub(super) fn maybe(&mut self, times: usize, of: usize, pattern: &'static str) {
        if self.rng.chance(times, of) {
            self.say(pattern);
        }
    }

    /// One item of a list.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.rng.below(list.len())]
    }

    /// `N` different items of a list, in random order.
    pub(super) fn some<T: Copy, const N: usize>(&mut self, list: &[T]) -> [T; N] {
        let mut taken = [usize::MAX; N];
        for n in 0..N {
            let mut at = self.rng.below(list.len());
            while taken[..n].contains(&at) {
                at = self.rng.below(list.len());
            }
            taken[n] = at;
        }
        taken.map(|at| list[at])
    }

    pub(super) fn who(&self, role: u8) -> Person {
        match role {
            b'h' => self.h,
            b'f' => self.f,
            b'g' => self.g,
            b'k' => self.k,
            _ => self.e,
        }
    }

    /// Whether a pronoun now could only be read as `role`: mentioned just before, with nobody
    /// else of the same gender near. That somebody other than the hero is a he or a she may be
    /// news to the reader, so there the mention must be the very last one.
    pub(super) fn clear(&self, role: u8) -> bool {
        let near = |seat: usize| {
            let when = self.mentioned[seat];
            when > 0 && self.sentence <= when + 1
        };
        let me = self.who(role);
        near(seat(role))
            && (role == b'h' || self.latest == role)
            && ROLES
                .iter()
                .all(|other| *other == role || self.who(*other).she != me.she || !near(seat(*other)))
    }

    /// Everybody the story has mentioned.
    #[cfg(test)]
    pub(super) fn mentioned(&self) -> impl Iterator<Item = Person> {
        ROLES.iter().filter(|role| self.mentioned[seat(**role)] > 0).map(|role| self.who(*role))
    }

    pub(super) fn mention(&mut self, role: u8) {
        self.mentioned[seat(role)] = self.sentence;
        self.latest = role;
    }
}

const ROLES: [u8; 5] = *b"hfgke";

/// Where a role's mention is kept.
pub(super) fn seat(role: u8) -> usize {
    match role {
        b'h' => 0,
        b'f' => 1,
        b'g' => 2,
        b'k' => 3,
        _ => 4,
    }
}
