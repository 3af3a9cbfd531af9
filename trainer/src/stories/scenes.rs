//! Scenes that many plots share: how a story opens, the way somewhere, how it ends.

use super::cast::Sky;
use super::tale::Tale;
use super::words::{ELDERS, SNACKS};

/// Something in a character that brings the trouble about, and so shapes the lesson.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trait {
    /// "who was ...": an adjective.
    pub(super) adjective: &'static str,
    /// How it shows: a sentence about the hero.
    pub(super) shows: &'static str,
}

pub(super) const FORGETFUL: Trait = Trait {
    adjective: "forgetful",
    shows: "[{H~} often forgot where {h.he} [had put|left] things.|{H~} never put {h.his} things \
            away.|{H~} was always [thinking about something else|in a hurry], and so {h.he} forgot \
            things.]",
};
pub(super) const GREEDY: Trait = Trait {
    adjective: "greedy",
    shows: "[{H~} always wanted the biggest piece.|{H~} did not like to share.|When there was something \
            good to eat, {h.he} wanted all of it.|However much {h.he} had, {h.he} wanted more.]",
};
pub(super) const PROUD: Trait = Trait {
    adjective: "proud",
    shows: "[{H~} always said that {h.he} was the best.|{H~} liked to talk about how [fast|clever] {h.he} \
            was.|{H~} thought that nobody was as fast as {h.he} was.]",
};
pub(super) const SHY: Trait = Trait {
    adjective: "shy",
    shows: "[{H~} did not talk much.|When somebody said hello, {h.he} looked at {h.his} feet.|{H~} wanted \
            to play with the others, but {h.he} did not know how to ask.]",
};
pub(super) const STUBBORN: Trait = Trait {
    adjective: "stubborn",
    shows: "[{H~} did not like to be told what to do.|{H~} said no to almost everything.|When somebody \
            told {h.him} something, {h.he} did not listen.]",
};
pub(super) const IMPATIENT: Trait = Trait {
    adjective: "impatient",
    shows: "[{H~} did not like to wait.|{H~} wanted everything right now.|To {h}, waiting was the hardest \
            thing in the world.]",
};
pub(super) const NAUGHTY: Trait = Trait {
    adjective: "naughty",
    shows: "[{H~} loved to play tricks.|{H~} thought that tricks were very funny.|{H~} liked to fool \
            everybody.]",
};
pub(super) const TIMID: Trait = Trait {
    adjective: "timid",
    shows: "[{H~} was afraid of the dark.|{H~} was afraid of many things, and most of all of the \
            dark.|Loud noises made {h.him} jump.]",
};
pub(super) const CURIOUS: Trait = Trait {
    adjective: "curious",
    shows: "[{H~} wanted to know everything.|{H~} asked questions all day long.|{H~} looked into every \
            hole and under every stone.]",
};
pub(super) const KIND: Trait = Trait {
    adjective: "kind",
    shows: "[{H~} liked to help.|{H~} was good to everybody, big or small.|When somebody was sad, {h.he} \
            always stopped to help.]",
};

/// What somebody loves to do, where nothing in the story hangs on it.
const LIKES: &str = "[{H~} [liked|loved] to [sing|paint|dance|draw|play outside|look at the clouds|dig in \
                     the sand|listen to stories|jump in puddles|pick flowers|look for round stones|run in \
                     the grass|watch the birds].|{H~} had [bright|big brown|kind|quick] eyes and a \
                     [warm|big|sweet|shy] smile.|Every day {h~} [played outside|sang a little song|went \
                     out to see what was new].|{H~} [laughed a lot|was almost never sad|was always \
                     busy].|]";

impl Tale<'_> {
    /// Presents the hero, with or without the trait that the story is about.
    pub(super) fn open(&mut self, nature: Option<Trait>) {
        match nature {
            Some(nature) => {
                self.nature = nature.adjective;
                self.say(
                    "[Once upon a time[,|] there was {a} {h.adj} {h.kind} named {h}. {H~} was [very \
                     |]{trait}.|Once upon a time, {a} {trait} {h.adj} {h.kind} named {h} lived in a \
                     [small|cozy] {h.home} {r}.|Once upon a time there was {a} {trait} {h.kind} named \
                     {h}.|{h} was {a} {h.adj} {h.kind}, and {h.he} was [very|very|quite] {trait}.|There \
                     once was {a} {trait} [little|young] {h.kind} called {h}.|In a [small|cozy] {h.home} \
                     {r} lived {a} {h.adj} {h.kind} named {h}, who was very {trait}.|Long ago there lived \
                     {a} {h.adj} {h.kind} whose name was {h}. Everybody knew that {h} was {trait}.]",
                );
                self.say(nature.shows);
            }
            None => {
                self.say(
                    "[Once upon a time[,|] there was {a} {h.adj} {h.kind} named {h}.[| {H~} lived in a \
                     [small|cozy|warm] {h.home} {r}.]|Once upon a time, {a} {h.adj} {h.kind} named {h} \
                     lived in a [small|cozy|warm] {h.home} {r}.|Once there was {a} {h.adj} {h.kind} called \
                     {h}.|In a [small|cozy|warm] {h.home} {r} lived {a} {h.adj} {h.kind}. [{H.his} name \
                     was {h}.|Everybody called {h.him} {h}.]|There once was {a} {h.adj} {h.kind} named \
                     {h}, who lived in a [small|cozy] {h.home} {r}.|{h} was {a} {h.adj} {h.kind} who lived \
                     in a [small|cozy|warm] {h.home} {r}.]",
                );
                self.maybe(1, 2, LIKES);
            }
        }
    }

    /// Packs food for the road in `y`; [`Tale::snack`] or the end must find a use for it.
    pub(super) fn pack(&mut self) {
        if self.g.name.is_empty() {
            self.cast_kin();
        }
        self.y = self.some_thing(SNACKS);
        self.packed = true;
        self.say(
            "[Before {h.he} left, {h~} put {y.a} in {h.his} bag.|{H~} took {y.a} along, in case {h.he} got \
             hungry.|{G} gave {h.him} {y.a} for the way.|In {h.his} bag was {y.a} for lunch.]",
        );
    }

    /// The way to somewhere: something to see, and sometimes something to add up.
    pub(super) fn on_the_way(&mut self) {
        let seen = self.pick(self.p.sights);
        self.z = super::cast::Thing { noun: seen, adjective: self.pick(seen.adjectives) };
        match self.rng.below(3) {
            0 => {
                self.i = 1 + self.rng.below(4);
                self.j = 1 + self.rng.below(4);
                self.n = self.i + self.j;
                self.saw = "{n.z}";
                self.say(
                    "[On the way|Along the path], {h~} [saw|counted] {i.z}, and then {j} more. [That made \
                     {n}.|That made {n} in all.|<{I} and {j} make {n},> {h.said}.]",
                );
            }
            1 => {
                self.n = 2 + self.rng.below(8);
                self.saw = "{n} {z.fs}";
                self.say(
                    "[On the way, {h~} counted {n} {z.fs}.|{N} {z.fs} were there too, and {h} [waved \
                     to|smiled at] every one of them.|{H~} saw {n} {z.fs}.]",
                );
            }
            _ => {
                self.saw = "the {z.f}";
                self.say(
                    "[On the way, {h~} saw {z.a}.|{A} {z.f} was [there|near the path], and {h} stopped to \
                     look at it.]",
                );
            }
        }
    }

    /// Somebody on the way asks where the hero is going: the answer is what the story said.
    pub(super) fn neighbor(&mut self, carrying: bool) {
        self.e = self.stranger(ELDERS);
        self.say(
            "[On the way, {h~} met {e.a}.|{A} {e.adj} {e.kind} looked over the fence.] <[Where are you \
             going|Where are you off to], [{h}|little one|little {h.kind}]?> {e.asked}.",
        );
        self.say_if(
            carrying,
            "<{P.to},> {h.said}[, <and I am taking my {o.f} along|, <with my {o.f}].>",
            "<{P.to},> {h.said}.",
        );
        self.say(match self.sky {
            Sky::Sunny => "<It is a fine day for that,> {e.said}.",
            Sky::Windy => "<[Hold on to your hat|Take care in this wind]!> {e.said}.",
            Sky::Rainy => "<You will get wet!> {e.said}.",
            Sky::Snowy => "<Keep your nose warm!> {e.said}.",
            _ => "<[Have fun|Take care|Be home before dark]!> {e.said}.",
        });
    }

    /// Somebody is told good-bye and everyone is home again, fed and in bed, or under way.
    pub(super) fn finish(&mut self) {
        if self.packed {
            self.packed = false;
            self.say(
                "[Then {h} was hungry, so {h.he} ate the {y}.|Then {h} remembered the {y.n} in {h.his} \
                 bag. [It tasted very good.|It was just the right time to eat it.]|{H~} sat down and ate \
                 the {y.n} at last. [It was so good!|]]",
            );
        }
        if self.rng.chance(1, 3) {
            self.glad();
        }
        let moral = self.moral;
        if !moral.is_empty() && self.rng.chance(4, 5) {
            self.say(moral);
            if self.rng.chance(3, 5) {
                return;
            }
        }
        if !self.saw.is_empty() && self.rng.chance(3, 5) {
            self.say(
                "[That night, {h} dreamed [of|about] {saw}.|In bed, {h} [told {h.himself}|thought] about \
                 {saw}, and then {h.he} fell asleep.|When {h} closed {h.his} eyes that night, {h.he} could \
                 still see {saw}.]",
            );
            return;
        }
        let pattern = match (self.sky, self.rng.below(5)) {
            (Sky::Rainy, 0..3) => {
                "[Outside, the rain [still fell|tapped on the roof], but {h} was warm and dry.|Then the \
                 rain stopped, and there was a rainbow over the [hill|trees].|When the clouds went away, \
                 the whole world was [clean and bright|shining].]"
            }
            (Sky::Windy, 0..3) => {
                "[By evening the wind was still, and {h} slept well.|At last the wind lay down to sleep, \
                 and so did {h}.|Outside, the wind blew and blew, but in {h.his} {h.home} {h} was safe and \
                 warm.]"
            }
            (Sky::Snowy, 0..3) => {
                "[That night the snow fell softly, and {h} slept under a warm blanket.|Outside, the snow \
                 came down again, but {h} was warm.]"
            }
            (Sky::Sunny, 0..3) => {
                "[The sun went down, red and gold, and {h} was happy.|When the sun went down, {h} was \
                 tired and happy.|All day long, the sun had been warm on {h.his} back.]"
            }
            _ => return self.evening(),
        };
        self.say(pattern);
    }
}
