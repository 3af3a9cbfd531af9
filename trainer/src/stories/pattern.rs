//! The small language that sentences are written in.
//!
//! A pattern is plain text with four additions:
//! - `[a|b|c]` one of the options (they nest; an option may be empty);
//! - `{key}` something from the state: a letter for a person (`h` hero, `f` friend, `g` family,
//!   `k` and `e` others), a thing (`o`, `x`, `y`, `z`), a place (`p`, `q`), a number (`i`, `j`,
//!   `m`, `n`) or a phrase (`r` to `w`; `b`, `c`, `l` for details), then which form of it. A
//!   capital letter capitalises the result;
//! - `{a}` "a" or "an", by the word that turns out to follow;
//! - `<` and `>` quotation marks.
//!
//! `{h~}` is the name, or a pronoun where no reader can take it for somebody else.

use super::cast::{Place, Thing, is_child};
use super::tale::{Tale, seat};

impl Tale<'_> {
    pub(super) fn expand(&mut self, pattern: &'static str) {
        let bytes = pattern.as_bytes();
        let mut start = 0;
        let mut at = 0;
        while at < bytes.len() {
            let special = bytes[at];
            if !matches!(special, b'[' | b'{' | b'<' | b'>') {
                at += 1;
                continue;
            }
            self.put(&pattern[start..at]);
            match special {
                b'[' => {
                    let (option, end) = self.choose(pattern, at + 1);
                    self.expand(option);
                    at = end;
                }
                b'{' => {
                    let end = at + bytes[at..].iter().position(|&b| b == b'}').unwrap_or(0);
                    self.slot(&pattern[at + 1..end]);
                    at = end + 1;
                }
                _ => {
                    self.out.push('"');
                    at += 1;
                }
            }
            start = at;
        }
        self.put(&pattern[start..]);
    }

    /// Chooses an option of the bracket that opened just before `from`; also where it closed.
    fn choose(&mut self, pattern: &'static str, from: usize) -> (&'static str, usize) {
        let mut starts = [0usize; 32];
        starts[0] = from;
        let (mut options, mut depth, mut at) = (1, 0, from);
        let bytes = pattern.as_bytes();
        loop {
            match bytes[at] {
                b'[' => depth += 1,
                b']' if depth == 0 => break,
                b']' => depth -= 1,
                b'|' if depth == 0 => {
                    starts[options] = at + 1;
                    options += 1;
                }
                _ => {}
            }
            at += 1;
        }
        starts[options] = at + 1;
        let pick = self.rng.below(options);
        (&pattern[starts[pick]..starts[pick + 1] - 1], at + 1)
    }

    fn put(&mut self, text: &str) {
        // An empty option leaves the spaces on both its sides: one of them goes.
        let text = if text.starts_with(' ') && self.out.ends_with(' ') { &text[1..] } else { text };
        let Some(first) = text.bytes().find(|b| *b != b' ') else {
            self.out.push_str(text);
            return;
        };
        if let Some(at) = self.article.take()
            && matches!(first, b'a' | b'e' | b'i' | b'o' | b'u')
        {
            self.out.insert(at, 'n');
        }
        if core::mem::take(&mut self.capital) {
            self.out.push(text.as_bytes()[0].to_ascii_uppercase() as char);
            self.out.push_str(&text[1..]);
        } else {
            self.out.push_str(text);
        }
    }

    fn slot(&mut self, key: &'static str) {
        let first = key.as_bytes()[0];
        self.capital = first.is_ascii_uppercase();
        let form = &key[1..];
        match (first.to_ascii_lowercase(), form) {
            (b'a', "") => {
                self.put("a");
                self.article = Some(self.out.len());
            }
            (b'd', "ay") => self.day(),
            (role @ (b'h' | b'f' | b'g' | b'k' | b'e'), _) => self.person(role, form),
            (b'o', _) => self.thing(self.o, form),
            (b'x', _) => self.thing(self.x, form),
            (b'y', _) => self.thing(self.y, form),
            (b'z', _) => self.thing(self.z, form),
            (b'p', _) => self.place(self.p, form),
            (b'q', _) => self.place(self.q, form),
            (b'i', _) => self.number(self.i, form),
            (b'j', _) => self.number(self.j, form),
            (b'm', _) => self.number(self.m, form),
            (b'n', _) => self.number(self.n, form),
            (b't', "rait") => self.put(self.nature),
            (b's', "aw") => self.expand(self.saw),
            (b'b', "") => self.expand(self.b),
            (b'c', "") => self.expand(self.c),
            (b'l', "") => self.expand(self.l),
            (b'r', "") => self.expand(self.r),
            (b's', "") => self.expand(self.s),
            (b't', "") => self.expand(self.t),
            (b'u', "") => self.expand(self.u),
            (b'v', "") => self.expand(self.v),
            (b'w', "") => self.expand(self.w),
            _ => panic!("stories: no such key: {{{key}}}"),
        }
    }

    fn day(&mut self) {
        self.capital = false;
        self.expand(self.sky.day());
    }

    fn place(&mut self, place: &'static Place, form: &str) {
        match form {
            "" => self.put(place.noun),
            ".in" => self.put(place.within),
            ".to" => self.put(place.to),
            _ => panic!("stories: no such form of a place: {form}"),
        }
    }

    fn thing(&mut self, thing: Thing, form: &str) {
        let (noun, adjective) = (thing.noun, thing.adjective);
        match form {
            "" => {
                if self.rng.chance(1, 3) {
                    self.put(adjective);
                    self.out.push(' ');
                }
                self.put(noun.one);
            }
            ".n" => self.put(noun.one),
            ".s" => self.put(noun.many),
            ".adj" => self.put(adjective),
            ".f" | ".a" | ".fs" => {
                if form == ".a" {
                    self.put("a");
                    self.article = Some(self.out.len());
                    self.out.push(' ');
                }
                self.put(adjective);
                self.out.push(' ');
                self.put(if form == ".fs" { noun.many } else { noun.one });
            }
            ".an" => {
                self.put("a");
                self.article = Some(self.out.len());
                self.out.push(' ');
                self.put(noun.one);
            }
            _ => panic!("stories: no such form of a thing: {form}"),
        }
    }

    fn number(&mut self, number: usize, form: &str) {
        const WORDS: [&str; 21] = [
            "no",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ];
        const ORDER: [&str; 8] = ["", "first", "second", "third", "fourth", "fifth", "sixth", "seventh"];
        let thing = match form {
            "" => return self.put(WORDS[number]),
            ".th" => return self.put(ORDER[number]),
            ".was" => return self.put(if number == 1 { "was" } else { "were" }),
            ".is" => return self.put(if number == 1 { "is" } else { "are" }),
            ".o" => self.o,
            ".x" => self.x,
            ".y" => self.y,
            ".z" => self.z,
            _ => panic!("stories: no such form of a number: {form}"),
        };
        self.put(WORDS[number]);
        self.out.push(' ');
        self.put(if number == 1 { thing.noun.one } else { thing.noun.many });
    }

    fn name(&mut self, role: u8) {
        self.mention(role);
        self.pronouns = 0;
        let person = self.who(role);
        if person.name.is_empty() {
            self.put("the");
            self.out.push(' ');
            self.put(person.kind.noun);
        } else {
            self.put(person.name);
        }
    }

    fn person(&mut self, role: u8, form: &str) {
        let person = self.who(role);
        let she = usize::from(person.she);
        const HE: [&str; 2] = ["he", "she"];
        const HIM: [&str; 2] = ["him", "her"];
        const HIS: [&str; 2] = ["his", "her"];
        match form {
            "" => self.name(role),
            ".s" => {
                self.name(role);
                self.put("'s");
            }
            "~" | "~s" => {
                let owner = form == "~s";
                if self.clear(role) && self.pronouns < 4 && self.rng.chance(4, 5) {
                    self.mention(role);
                    self.pronouns += 1;
                    self.put(if owner { HIS[she] } else { HE[she] });
                } else {
                    self.name(role);
                    if owner {
                        self.put("'s");
                    }
                }
            }
            ".he" | ".him" | ".his" | ".himself" => {
                // Told by a pronoun, somebody is near, too.
                self.mentioned[seat(role)] = self.sentence;
                self.put(match form {
                    ".he" => HE[she],
                    ".him" => HIM[she],
                    ".his" => HIS[she],
                    _ => ["himself", "herself"][she],
                });
            }
            ".voc" => {
                if person.name.is_empty() {
                    self.capital = true;
                    self.put(person.kind.noun);
                } else {
                    self.put(person.name);
                }
            }
            ".a" => {
                self.mention(role);
                self.put("a");
                self.article = Some(self.out.len());
                self.out.push(' ');
                self.put(person.adjective);
                self.out.push(' ');
                self.put(person.kind.noun);
            }
            ".intro" => {
                let child = is_child(person);
                let friend = child || self.rng.chance(1, 2);
                if friend {
                    self.put(HIS[usize::from(self.h.she)]);
                    self.put(" friend ");
                }
                self.name(role);
                if !child && (!friend || self.rng.chance(1, 2)) {
                    self.put(" the ");
                    self.put(person.kind.noun);
                }
            }
            ".adj" => self.put(person.adjective),
            ".kind" => self.put(person.kind.noun),
            ".home" => self.put(person.kind.home),
            ".go" => self.put(person.kind.gait),
            ".paw" => self.put(person.kind.paw),
            ".paws" => self.put(person.kind.paws),
            ".food" => self.put(person.kind.food),
            ".said" | ".asked" | ".cried" | ".called" | ".whispered" | ".laughed" => {
                let verb = &form[1..];
                match self.rng.below(4) {
                    0 if self.clear(role) => {
                        self.mention(role);
                        self.put(HE[she]);
                        self.out.push(' ');
                        self.put(verb);
                    }
                    1 => {
                        self.name(role);
                        self.out.push(' ');
                        self.put(verb);
                    }
                    _ => {
                        self.put(verb);
                        self.out.push(' ');
                        self.name(role);
                    }
                }
            }
            _ => panic!("stories: no such form of a person: {form}"),
        }
    }
}
