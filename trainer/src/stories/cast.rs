//! Who and what a story can be about, and how a cast is chosen.

use super::tale::Tale;
use super::words::{ANIMAL_NAMES, BOYS, FOREST_PLACES, GIRLS, HEROES, KIN_NAMES, KIN_SHE, VILLAGE_PLACES};

/// A kind of person or animal.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) noun: &'static str,
    pub(super) home: &'static str,
    /// Where such a home stands: phrases.
    pub(super) stands: &'static [&'static str],
    /// The past tense of how it goes.
    pub(super) gait: &'static str,
    pub(super) paw: &'static str,
    pub(super) paws: &'static str,
    /// What it likes to eat: a plural or a mass noun.
    pub(super) food: &'static str,
}

/// Somebody in a story. Without a name, "the owl".
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) kind: &'static Kind,
    pub(super) adjective: &'static str,
    pub(super) she: bool,
}

impl Person {
    pub(super) const NOBODY: Self = Self { name: "", kind: &super::words::GIRL, adjective: "", she: true };
}

/// A countable noun with the adjectives that suit it.
#[derive(Debug)]
pub(super) struct Noun {
    pub(super) one: &'static str,
    pub(super) many: &'static str,
    pub(super) adjectives: &'static [&'static str],
}

/// One particular thing: the same adjective every time it is told in full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thing {
    pub(super) noun: &'static Noun,
    pub(super) adjective: &'static str,
}

impl Thing {
    pub(super) const NOTHING: Self =
        Self { noun: &Noun { one: "", many: "", adjectives: &[] }, adjective: "" };
}

/// Somewhere out of doors.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) noun: &'static str,
    pub(super) within: &'static str,
    pub(super) to: &'static str,
    /// Where a small thing can lie there.
    pub(super) spots: &'static [&'static str],
    /// What there is to see and count: plurals.
    pub(super) sights: &'static [&'static Noun],
}

impl Place {
    pub(super) const NOWHERE: &'static Self = &Self { noun: "", within: "", to: "", spots: &[], sights: &[] };
}

/// The weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sky {
    Any,
    Sunny,
    Rainy,
    Windy,
    Snowy,
    Night,
}

impl Sky {
    /// How a day with this weather begins: a pattern that ends before a clause.
    pub(super) fn day(self) -> &'static str {
        match self {
            Sky::Any => {
                "[One day,|One day,|One day,|One morning,|One afternoon,|Early one morning,|One \
                 Saturday,|One Sunday,|One fine day,|After breakfast one day,]"
            }
            Sky::Sunny => {
                "[One sunny [day|morning|afternoon],|One [bright|warm|lovely] [day|morning],|It \
                 was a [sunny|warm|hot|bright] day, and|The sun was shining, and|One day, when the \
                 sun was [out|bright and warm],]"
            }
            Sky::Rainy => {
                "[One rainy [day|morning|afternoon],|It was a [rainy|wet|gray] day, and|One \
                 [wet|gray|rainy] [day|morning],|One day, [when it rained and rained|while the \
                 rain fell],]"
            }
            Sky::Windy => {
                "[One windy [day|morning|afternoon],|It was a [windy|very windy] day, and|One day, \
                 when the wind was [strong|blowing hard],|The wind blew hard that day, and]"
            }
            Sky::Snowy => {
                "[One snowy [day|morning],|One cold [day|morning|winter day],|It was a \
                 [snowy|cold] day, and|One day, [after a night of snow|when the snow was deep|when \
                 everything was white with snow],]"
            }
            Sky::Night => {
                "[One night,|One [dark|cold|quiet] night,|One night, after supper,|Late one \
                 [night|evening],]"
            }
        }
    }
}

impl Tale<'_> {
    /// Casts the hero: a child or an animal, and where the home stands.
    pub(super) fn cast_hero(&mut self) {
        if self.rng.chance(11, 20) {
            self.cast_child_hero();
        } else {
            self.cast_animal_hero();
        }
    }

    pub(super) fn cast_child_hero(&mut self) {
        let she = self.rng.chance(1, 2);
        self.h = self.child(she);
        self.r = self.pick(self.h.kind.stands);
    }

    pub(super) fn cast_animal_hero(&mut self) {
        self.h = self.animal();
        self.r = self.pick(self.h.kind.stands);
    }

    /// Whether the hero is a girl or a boy.
    pub(super) fn hero_is_child(&self) -> bool {
        is_child(self.h)
    }

    /// Casts a named friend of the hero, more often than not of the other gender, which keeps
    /// he and she clear.
    pub(super) fn cast_friend(&mut self) {
        self.f = self.another(self.hero_is_child() && self.rng.clone().below(3) > 0);
    }

    /// Casts the hero's family member.
    pub(super) fn cast_kin(&mut self) {
        let at = self.rng.below(KIN_NAMES.len());
        self.g = Person { name: KIN_NAMES[at], kind: self.h.kind, adjective: "dear", she: KIN_SHE[at] };
    }

    /// An unnamed animal or grown-up that is not in the story yet.
    pub(super) fn stranger(&mut self, kinds: &[&'static Kind]) -> Person {
        let kind = loop {
            let kind = self.pick(kinds);
            if self.cast().iter().all(|p| p.kind.noun != kind.noun) {
                break kind;
            }
        };
        let other = self.rng.chance(2, 3);
        let she = matches!(kind.noun, "cow" | "hen") || self.h.she != other;
        Person { name: "", kind, adjective: self.unused_adjective(), she }
    }

    fn unused_adjective(&mut self) -> &'static str {
        loop {
            let adjective = self.pick(&["old", "kind", "friendly", "gentle", "quiet", "wise"]);
            if self.cast().iter().all(|p| p.adjective != adjective) {
                return adjective;
            }
        }
    }

    /// A named child or animal that is not in the story yet.
    pub(super) fn another(&mut self, child: bool) -> Person {
        loop {
            let person = if child {
                let she = if self.rng.chance(3, 4) { !self.h.she } else { self.h.she };
                self.child(she)
            } else {
                self.animal()
            };
            let cast = self.cast();
            if cast.iter().all(|p| p.name != person.name)
                && (child || cast.iter().all(|p| p.kind.noun != person.kind.noun))
            {
                return person;
            }
        }
    }

    fn cast(&self) -> [Person; 5] {
        [self.h, self.f, self.g, self.k, self.e]
    }

    fn child(&mut self, she: bool) -> Person {
        let name = if she { self.pick(GIRLS) } else { self.pick(BOYS) };
        Person {
            name,
            kind: if she { &super::words::GIRL } else { &super::words::BOY },
            adjective: self.pick(&["little", "little", "small", "young"]),
            she,
        }
    }

    fn animal(&mut self) -> Person {
        Person {
            name: self.pick(ANIMAL_NAMES),
            kind: self.pick(HEROES),
            adjective: self.pick(&["little", "little", "small", "young"]),
            she: self.rng.chance(1, 2),
        }
    }

    /// A thing out of a list, with an adjective of its own.
    pub(super) fn some_thing(&mut self, nouns: &[&'static Noun]) -> Thing {
        let noun = self.pick(nouns);
        Thing { noun, adjective: self.pick(noun.adjectives) }
    }

    /// Chooses `p`, a place that suits the hero.
    pub(super) fn choose_place(&mut self) {
        self.p = if self.hero_is_child() { self.pick(VILLAGE_PLACES) } else { self.pick(FOREST_PLACES) };
    }

    /// Weather that suits being out of doors.
    pub(super) fn choose_sky(&mut self) {
        self.sky = self.pick(&[Sky::Any, Sky::Any, Sky::Any, Sky::Sunny, Sky::Sunny, Sky::Windy]);
    }
}

/// Whether somebody is a girl or a boy.
pub(super) fn is_child(person: Person) -> bool {
    matches!(person.kind.noun, "girl" | "boy")
}
