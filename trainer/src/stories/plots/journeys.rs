//! Ways there and back: landmarks, messages, hidden friends, and the one who fits.

use super::super::cast::{Kind, Sky};
use super::super::scenes::{CURIOUS, FORGETFUL, KIND};
use super::super::tale::Tale;
use super::super::words::*;

const LANDMARKS: &[&str] = &[
    "red bridge",
    "old mill",
    "tall pine tree",
    "little pond",
    "round rock",
    "broken gate",
    "deep well",
    "stone wall",
    "hollow tree",
    "white house",
    "berry bush",
    "sleeping cow",
    "wooden sign",
];

/// The way back is the way there, turned around.
pub(super) fn way_home(t: &mut Tale<'_>) {
    t.cast_hero();
    [t.s, t.t, t.u] = t.some(LANDMARKS);
    t.choose_sky();
    t.choose_place();
    t.open(Some(CURIOUS));
    let three = t.rng.chance(1, 2);
    let (lure, gone) = t.pick(&[
        ("{a} [blue|yellow|white] butterfly", "the butterfly flew over the trees and was gone"),
        ("a white feather in the wind", "the feather flew up into the clouds"),
        ("a [funny|green] grasshopper", "the grasshopper jumped into the tall grass"),
        ("a little brown rabbit", "the rabbit ran into its hole"),
        ("a red leaf in the wind", "the wind took the leaf away over the trees"),
        ("a [green|blue] dragonfly", "the dragonfly flew away over the water"),
    ]);
    (t.v, t.w) = (lure, gone);
    if t.rng.chance(1, 6) {
        t.pack();
    }
    t.say("{Day} {h} saw {v} and [followed it|went after it].");
    if !three {
        t.outdoors();
    }
    t.say_if(
        three,
        "[First {h.he} came to the {s}, then to the {t}, and then to the {u}.|{H~} passed the {s}, then \
         the {t}, and last the {u}.]",
        "[First {h.he} came to the {s}, and then to the {t}.|{H~} passed the {s} and after that the {t}.]",
    );
    t.say(
        "Then {w}. [{H} looked around.|{H} stood still.] [<Where am I?> {h.he} said.|{H~} did not know \
         this place.|<I am lost!> {h.said}.]",
    );
    t.k = t.stranger(ELDERS);
    t.say(
        "[{A} {k.adj} {k.kind} saw {h.him}.|There sat {k.a}.] <[Do you know the way to my {h.home}|Which \
         way is home]?> {h.asked}. <[I do not know|I do not live here],> {k.said}, <but [you know it|you \
         can find it]. What did you pass [on the way|when you came]?>",
    );
    t.say_if(
        three,
        "<First the {s},> {h.said}, <then the {t}, and then the {u}.>",
        "<First the {s},> {h.said}, <and then the {t}.>",
    );
    t.say_if(
        three,
        "<Then go back to the {u} first,> {k.said}, <then to the {t}, and the {s} comes last.>",
        "<Then go back to the {t} first,> {k.said}, <and the {s} comes last.>",
    );
    if t.packed && t.rng.chance(1, 2) {
        t.packed = false;
        t.say("{H} gave {k.him} the {y.n} out of {h.his} bag to say thank you.");
    }
    t.say_if(
        three,
        "And so it was. There was the {u}! There was the {t}! And [behind|after] the {s} {h} [could \
         see|saw] {h.his} own {h.home}.",
        "And so it was. There was the {t}! And [behind|after] the {s} {h} [could see|saw] {h.his} own \
         {h.home}.",
    );
    t.moral = "[After that, {h} always looked well at the way.|Now {h} knew: the way home is the way \
               there, turned around.|{H} was still curious, but now {h.he} looked where {h.he} went.]";
    t.finish();
}

/// What is to be said, and why it matters, and what comes back.
struct News {
    words: &'static str,
    answer: &'static str,
    after: &'static str,
}

static NEWS: [News; 7] = [
    News {
        words: "come to tea at four",
        answer: "I will bring a cake",
        after: "At four there was a knock at the door, and there was the cake!",
    },
    News {
        words: "the soup is ready",
        answer: "I will bring the bread",
        after: "So they had soup and bread together.",
    },
    News {
        words: "the ice is thin, so stay off the pond",
        answer: "then I will play on the hill",
        after: "That day the ice broke, but nobody was on it.",
    },
    News {
        words: "your red hat is in our garden",
        answer: "I have looked for it all week",
        after: "And soon the red hat was on the right head again.",
    },
    News {
        words: "the baby has two teeth",
        answer: "then I must knit a hat with two stripes",
        after: "A week later there was a hat in the mail, with two stripes.",
    },
    News {
        words: "a storm is coming, so close the windows",
        answer: "stay here until it is over",
        after: "Then the storm came, but the windows were shut, and they were safe inside.",
    },
    News {
        words: "we need five eggs for the cake",
        answer: "here are six, in case one breaks",
        after: "And one did break, but there were still five for the cake.",
    },
];

/// Words are carried past things that make one forget, and an answer is carried back.
pub(super) fn message(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_kin();
    let news = &NEWS[t.rng.below(NEWS.len())];
    (t.s, t.u, t.v) = (news.words, news.answer, news.after);
    t.k = t.stranger(ELDERS);
    t.choose_sky();
    if news.words.contains("ice") {
        t.sky = Sky::Snowy;
    }
    t.choose_place();
    t.open(Some(FORGETFUL));
    t.say(
        "{Day} {g} said to {h}, <Go to {k} {p.in} and say: {S}.> [<{S},> {h.said}, and went.|<{S},> \
         {h.said}. <I will not forget.>]",
    );
    let forgets = t.rng.chance(1, 2);
    t.say("[All the way {h.he} said it to {h.himself}: <{S}, {s}.>|{H~} sang it as {h.he} went: <{S}!>]");
    if !forgets || t.rng.chance(1, 6) {
        t.on_the_way();
        t.saw = "";
    }
    if forgets {
        t.say(
            "Now what was it that {h.he} had to say? [{H} had forgotten it!|It was gone!] {H~} [went back \
             to the gate, where {h.he} had said it last|closed {h.his} eyes and thought hard], and then it \
             came back to {h.him}.",
        );
    } else {
        t.say("[But {h} did not stop.|But {h} still knew the words.]");
    }
    t.say(
        "<{S},> {h} said when {h.he} came to {k}. [<Thank you for telling me,> {k.said}.|<Good that you \
         came,> {k.said}.] <Tell {g}: {U}.>",
    );
    t.say(
        "[So {h} ran home with the new words.|{H} ran all the way home.] <{U},> {h.he} told {g}[, word for \
         word|]. {V}",
    );
    t.say(
        "[<You did not forget one word,> {g.said}.|<What a good head you have,> {g.said}.|{G} was proud of \
         {h.him}.]",
    );
    t.finish();
}

/// Hide and seek: everyone is found where they hid, the last one by a sign.
pub(super) fn hide(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.e = t.another(t.rng.clone().chance(1, 2));
    t.choose_place();
    t.choose_sky();
    t.open(None);
    [t.s, t.t, t.u] = t.some(t.p.spots);
    t.n = 5 + t.rng.below(6);
    t.say(
        "{Day} {h}, {f} and {e} played hide and seek {p.in}. {H} had to count to {n}. <One, two, three,> \
         {h.he} counted, and the others ran.",
    );
    t.say("{F} hid {s}, and {e} hid {t}.");
    t.outdoors();
    t.say("[<{N}! Here I come!> {h.cried}.|<{N}!> {h.cried} at last.]");
    t.say("[First {h.he} looked {u}. Nobody.|{H~} looked here and there.|{H~} walked very quietly.]");
    let (sign, why) = t.pick(&[
        ("a sneeze", "<A flower got into my nose,>"),
        ("somebody laugh", "<I could not stop laughing,>"),
        ("a little cough", "<I had to cough,>"),
        ("somebody hum a song", "<I always hum when I am happy,>"),
        ("somebody eat an apple", "<I was hungry,>"),
    ]);
    (t.v, t.w) = (sign, why);
    if t.rng.chance(1, 2) {
        t.say(
            "Then {h.he} saw [a foot|an ear|a shadow] {s}. <I see you, {f}!> {h.called}. {F} came out[ and \
             laughed|].",
        );
        t.say(
            "But where was {e}? [{H} and {f} looked|They looked] everywhere. Then they heard {v}. There \
             was {e}, {t}! {w} {e} said.",
        );
    } else {
        t.say(
            "Then {h.he} saw [a foot|an ear|a shadow] {t}. <I see you, {e}!> {h.called}. {E} came out[ and \
             laughed|].",
        );
        t.say(
            "But where was {f}? [{H} and {e} looked|They looked] everywhere. Then they heard {v}. There \
             was {f}, {s}! {w} {f} said.",
        );
    }
    t.say(
        "[<Now it is my turn to count,> said {e}.|They played until it got dark.|<Again!> they all cried.]",
    );
    t.finish();
}

/// Only the small one fits.
pub(super) fn small(t: &mut Tale<'_>) {
    t.cast_animal_hero();
    let small: &[&'static Kind] = &[&MOUSE, &FROG, &HEDGEHOG, &SQUIRREL];
    t.h.kind = t.pick(small);
    t.h.adjective = "tiny";
    t.r = t.pick(t.h.kind.stands);
    let bigs: &[&'static Kind] = &[&BEAR, &HORSE, &COW, &DEER, &BADGER, &FOX];
    t.k = t.stranger(bigs);
    t.e = t.stranger(bigs);
    t.o = t.some_thing(&[&RING, &KEY, &BELL, &COIN, &BUTTON]);
    t.choose_sky();
    t.open(None);
    let (wish, can, cannot) = t.pick(&[
        ("carry the wood", "Big animals can carry wood", "You are too small to carry wood"),
        ("play ball with them", "The ball is bigger than you", "You are too small for this game"),
        ("pull the cart", "This is work for big animals", "You are too small to pull a cart"),
        ("pick the apples", "The apples are high", "You are too small to reach them"),
    ]);
    (t.u, t.v, t.w) = (wish, can, cannot);
    t.say(
        "[{H~} wanted to be big.|{H~} did not like to be so small.|Everybody was bigger than {h.he} \
           was.]",
    );
    t.say(
        "{Day} {h} wanted to help {k} and {e} {u}. <{V},> {k.said}. <{W},> {e.said}. {H} went away with \
         {h.his} head down.",
    );
    t.say(
        "[But then something happened.|A little later there was a cry.] {K} had [lost|dropped] {k.his} \
         {o.f}. It had [rolled|fallen] [into a crack in the wall|between two big stones|down a narrow \
         hole|under the floor of the barn].",
    );
    t.say(
        "{K} tried to get it, but {k.his} {k.paw} was too big. {E} tried, but {e.his} {e.paw} was too big \
         too.",
    );
    t.say(
        "<Let me try,> said a small voice. It was {h}! In {h.he} went. It was dark and narrow, but not for \
         {h}. Soon {h.he} came out again with the {o}.",
    );
    t.say(
        "[<You are not too small,> {k.said}. <You are just right.>|<How good that you are small!> \
         {k.said}.|<Nobody else could have done that,> {e.said}.]",
    );
    t.say(
        "[Then they let {h} ride on {k.s} back.|After that, they never said <too small> again.|From then \
         on, they always asked {h} to come along.]",
    );
    t.moral = "[Sometimes it is good to be small.|Big or small, everybody can do something.|Now {h} did \
               not want to be big any more.]";
    t.finish();
}

/// Who took it? Signs lead to whoever leaves such signs.
struct Thief {
    kind: &'static Kind,
    signs: [&'static str; 2],
}

static THIEVES: [Thief; 8] = [
    Thief { kind: &DUCK, signs: ["a white feather", "wet footprints that came from the pond"] },
    Thief { kind: &SQUIRREL, signs: ["a nut shell", "tiny scratches on the tree"] },
    Thief { kind: &RABBIT, signs: ["a piece of carrot", "the marks of long jumps"] },
    Thief { kind: &CROW, signs: ["a black feather", "no footprints at all"] },
    Thief { kind: &BEAR, signs: ["very big footprints", "a drop of honey"] },
    Thief { kind: &KITTEN, signs: ["soft, small footprints", "white hairs and a drop of milk"] },
    Thief { kind: &MOUSE, signs: ["very tiny footprints", "a bit of cheese"] },
    Thief { kind: &FROG, signs: ["wet spots", "a bit of green pond weed"] },
];

/// Something to eat is gone, and signs tell who was hungry.
pub(super) fn thief(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    let case = loop {
        let case = &THIEVES[t.rng.below(THIEVES.len())];
        if case.kind.noun != t.h.kind.noun && case.kind.noun != t.f.kind.noun {
            break case;
        }
    };
    t.k = t.stranger(&[case.kind]);
    t.k.adjective = t.pick(&["young", "little", "small", "thin"]);
    if case.kind.noun == "bear" {
        t.k.adjective = "young";
    }
    (t.s, t.t) =
        if t.rng.chance(1, 2) { (case.signs[0], case.signs[1]) } else { (case.signs[1], case.signs[0]) };
    t.o = t.some_thing(TREATS);
    t.n = 5 + t.rng.below(5);
    t.i = 1 + t.rng.below(3);
    t.m = t.n - t.i;
    t.choose_sky();
    let nature = t.pick(&[CURIOUS, KIND]);
    t.open(Some(nature));
    t.say("{Day} {h} put {n.o} [on the table|by the window] and went out to get {h.his} friend {f}.");
    t.say(
        "When they came back, only {m} [were there|were left]. <Somebody took {i}!> {h.cried}. [<It was \
         not me,> {f.said}.|<Who was it?> {f.asked}.]",
    );
    t.say(
        "They looked for signs. [On the floor|By the door] {h} found {s}. [Outside|By the fence] {f} found \
         {t}.",
    );
    t.say(
        "[{H} thought.|They looked at each other.] <{S} and {t},> {h.said}. <I know who it was! It was {a} \
         {k.kind}!>",
    );
    t.say(
        "They followed the signs, and at the end of the path sat {k.a}[ with crumbs on {k.his} nose|]. \
         <Did you take our {o.s}?> {h.asked}. [<Yes,> {k.said}, and looked at the ground. <I was so \
         hungry.>|<I am sorry,> {k.said}. <I did not eat all day.>]",
    );
    t.say(
        "[<Next time, just ask,> {h.said}.|<You can ask us,> {f.said}. <We like to share.>] And they took \
         {k.him} along and ate the {m} {o.s} together.",
    );
    t.moral = "[It is better to ask than to take.|And the next day {k} came and asked, <May I have one, \
               please?>|From then on there were three of them.]";
    t.finish();
}
