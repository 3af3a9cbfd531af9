//! Faults, what they lead to, and how they are put right.

use super::super::cast::{Noun, Sky};
use super::super::scenes::{NAUGHTY, STUBBORN};
use super::super::tale::Tale;
use super::super::words::*;

/// What breaks, and what mends it.
struct Break {
    thing: &'static Noun,
    broke: &'static str,
    mend: &'static str,
    mended: &'static str,
}

static VASE: Noun = noun_of("vase", "vases");
static PLATE: Noun = noun_of("plate", "plates");
static CHAIR: Noun = noun_of("chair", "chairs");
static CURTAIN: Noun = noun_of("curtain", "curtains");
static PICTURE: Noun = noun_of("picture", "pictures");
static TEAPOT: Noun = noun_of("teapot", "teapots");
static CUSHION: Noun = noun_of("cushion", "cushions");
static FENCE: Noun = noun_of("fence", "fences");

const fn noun_of(one: &'static str, many: &'static str) -> Noun {
    Noun { one, many, adjectives: &["blue", "yellow", "green", "white", "old", "pretty"] }
}

static BREAKS: [Break; 8] = [
    Break {
        thing: &VASE,
        broke: "Crash! The {x.n} fell and broke into {n} pieces.",
        mend: "glue",
        mended: "They glued the {n} pieces together, one by one.",
    },
    Break {
        thing: &PLATE,
        broke: "Crash! The {x.n} fell and broke into {n} pieces.",
        mend: "glue",
        mended: "They glued the {n} pieces together, one by one.",
    },
    Break {
        thing: &TEAPOT,
        broke: "Crash! The {x.n} fell down, and now it was in {n} pieces.",
        mend: "glue",
        mended: "They put glue on the {n} pieces and pressed them together.",
    },
    Break {
        thing: &CHAIR,
        broke: "Crack! The {x.n} fell over, and a leg broke off.",
        mend: "a hammer and a nail",
        mended: "They nailed the leg on again.",
    },
    Break {
        thing: &FENCE,
        broke: "Crack! A board of the {x.n} broke in two.",
        mend: "a hammer and some nails",
        mended: "They nailed a new board to the {x.n}.",
    },
    Break {
        thing: &CURTAIN,
        broke: "Rip! There was a big hole in the {x.n}.",
        mend: "a needle and thread",
        mended: "They sewed up the hole until nobody could see it.",
    },
    Break {
        thing: &CUSHION,
        broke: "Rip! The {x.n} tore open, and feathers flew all over the room.",
        mend: "a needle and thread",
        mended: "They put the feathers back and sewed the {x.n} up.",
    },
    Break {
        thing: &PICTURE,
        broke: "Bump! The {x.n} fell off the wall and tore in two.",
        mend: "tape",
        mended: "They put the two halves together with tape.",
    },
];

/// Something breaks; the hero hides it, or tells, and tells in the end.
pub(super) fn truth(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_kin();
    let case = &BREAKS[t.rng.below(BREAKS.len())];
    t.sky = t.pick(&[Sky::Rainy, Sky::Rainy, Sky::Snowy, Sky::Any]);
    t.o = t.some_thing(&[&BALL, &CAR, &DRUM, &TRAIN, &BALLOON]);
    t.x = t.some_thing(&[case.thing]);
    t.n = 2 + t.rng.below(6);
    (t.u, t.v) = (case.broke, case.mend);
    let fence = case.thing.one == "fence";
    if fence {
        t.sky = Sky::Sunny;
    }
    t.open(None);
    t.say_if(
        fence,
        "{Day} {h} was playing in the yard with {h.his} {o.f}.",
        "{Day} {h} was playing inside with {h.his} {o.f}.",
    );
    t.say(
        "[<Be careful,> {g.said}, but {h} did not listen.|{H~} jumped and ran, faster and faster.|<Not so \
         wild,> {g.called}. But {h} ran and jumped.] {u}",
    );
    t.say("[{H} was very still.|<Oh no!> {h} thought.|{H.his} heart beat fast.] It was {g.s} {x.f}!");
    let hides = t.rng.chance(3, 5);
    if hides {
        t.say_if(
            fence,
            "{H~} hid the {o.n} and ran away.",
            "[{H~} hid behind the door.|{H~} put a blanket over it and went to {h.his} room.|{H~} shut the \
             door and ran outside.]",
        );
        t.say(
            "<Who broke the {x.n}?> {g.asked}. [{H} looked at the floor|{H.his} face was hot|{H} felt bad \
             inside|First {h} said nothing].",
        );
    } else {
        t.say(
            "[{H~} wanted to hide, but that felt wrong.|{H~} could say that it was the cat. But that was \
             not true.] So {h.he} went to {g}.",
        );
    }
    t.say(
        "[<I broke your {x.n},> {h.said}. <I was playing with the {o.n}. I am sorry.>|<It was me,> {h.he} \
         said. <I broke the {x.n} with my {o.n}, and I am sorry.>]",
    );
    t.say(
        "[{G} was sad about the {x.n}, but {g.he} was not angry.|{G} looked at the {x.n} and then at {h}.] \
         <[Thank you for telling me|I am glad that you told me the truth],> {g.he} said. <[Let us mend \
         it|Come, we can mend it].>",
    );
    t.say("{G} got {v}.");
    t.say(case.mended);
    t.say(
        "[It took a long time, but it was nice to work together.|The {x} was not quite the same, but {g} \
         liked it even more.|At the end it looked almost new.|]",
    );
    t.moral = "[After that, {h} played with the {o.n} outside.|{H} felt light again, because {h.he} had \
               told the truth.|The truth is hard to say, but it makes you feel better.|{H} learned that \
               you can mend almost anything, if you tell.]";
    t.finish();
}

/// What is cried for fun, and what comes of it.
pub(super) fn cry_wolf(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.k = t.stranger(&[&GOAT, &HORSE, &COW, &BEAR, &BADGER]);
    let (cry, comes, end) = t.pick(&[
        (
            "Help! I fell into the water",
            "{H~} slipped on a wet stone and fell into the pond. The water was cold and deep.",
            "{H} held on to a branch until {h.he} could climb out alone, wet and cold.",
        ),
        (
            "Help! A snake",
            "A long green snake came out of the grass and looked at {h.him}.",
            "At last the snake went away, but {h} had never been so afraid.",
        ),
        (
            "Help! Bees! Bees",
            "{H~} stepped on a nest, and out came the bees.",
            "The bees stung {h.him} on the nose before {h.he} could get away.",
        ),
        (
            "Help! My foot is stuck",
            "{H.his} foot slipped between two stones, and {h.he} could not get it out.",
            "It took {h.him} until the evening to get the foot out alone.",
        ),
        (
            "Help! I am lost",
            "{H~} went too far into the trees and did not know the way.",
            "It was dark when {h} found the way home, tired and hungry.",
        ),
    ]);
    (t.s, t.u, t.v) = (cry, comes, end);
    t.choose_sky();
    t.open(Some(NAUGHTY));
    t.say(
        "{Day} {h} cried, <{s}!> {F.intro} and {k} came [running|at once|as fast as they could]. [But {h} \
         only laughed. <I fooled you!> {h.he} said.|{H} laughed until {h.his} tummy hurt. <It was only a \
         joke!> {h.he} said.|But nothing was wrong. <I fooled you!> {h.cried}.]",
    );
    t.say(
        "[{F} did not laugh.|{F} was angry.|<That is not funny,> {f.said}.] [The next day|In the \
         afternoon|A little later], {h} did it again: <{s}!> [Again they came, and again {h} \
         laughed.|Again they ran, and again it was only a trick.|They came once more, and {h} laughed once \
         more.]",
    );
    t.say("[But then it was true.|But the third time it was no trick.|And then it really happened.]");
    t.say("{u} <{s}!> {h.he} cried.");
    t.say(
        "[But this time nobody came.|<That is only a trick,> {f} said to {k}, and they stayed where they \
         were.|{F} and {k} heard it. <We do not believe {h.him},> {k.said}.] {v}",
    );
    t.say(
        "<Why did you not come?> {h} asked {f}. <We did not believe you,> {f.said}. [<You said it two \
         times, and it was not true.>|<It was a trick the first time and the second time.>]",
    );
    t.say(
        "[<I will not do it again,> {h.said}, and {h.he} did not.|{H} was sorry, and said so.|From then \
         on, {h} told the truth.]",
    );
    t.maybe(
        1,
        2,
        "[If you play tricks, nobody believes you when you need help.|{H} still likes jokes, but {h.he} \
         never cries for help in fun.]",
    );
}

/// What to take along, against what, and what happens without it.
struct Advice {
    take: &'static Noun,
    sky: Sky,
    warns: &'static str,
    then: &'static str,
    suffers: &'static str,
    remedy: &'static str,
}

static COAT: Noun =
    Noun { one: "coat", many: "coats", adjectives: &["warm", "blue", "red", "green", "thick"] };

static ADVICE: [Advice; 6] = [
    Advice {
        take: &COAT,
        sky: Sky::Windy,
        warns: "It will be cold",
        then: "The wind got colder and colder.",
        suffers: "{H.his} nose was red, and {h.he} [shook|shivered] with cold.",
        remedy: "<You look cold,> {f.said}. <Come, my coat is big enough for two.>",
    },
    Advice {
        take: &UMBRELLA,
        sky: Sky::Any,
        warns: "It will rain",
        then: "Soon dark clouds came, and the rain began to fall.",
        suffers: "Soon {h.he} was wet from head to foot.",
        remedy: "<You are all wet!> {f.said}. <Come under my umbrella.>",
    },
    Advice {
        take: &HAT,
        sky: Sky::Sunny,
        warns: "The sun is hot today",
        then: "The sun got hotter and hotter.",
        suffers: "{H.his} head hurt, and {h.he} felt sick.",
        remedy: "<Sit here in the shade,> {f.said}, and gave {h.him} some water.",
    },
    Advice {
        take: &SCARF,
        sky: Sky::Snowy,
        warns: "There is snow outside",
        then: "Snow fell on {h.his} neck.",
        suffers: "It was so cold that {h.his} teeth went clack, clack, clack.",
        remedy: "<Here,> {f.said}. <My scarf is long. Take one end.>",
    },
    Advice {
        take: &SANDWICH,
        sky: Sky::Any,
        warns: "You will be hungry",
        then: "By noon {h.his} tummy began to growl.",
        suffers: "{H~} was so hungry that {h.he} could not play.",
        remedy: "<I have enough for two,> {f.said}, and gave {h.him} half of {f.his} lunch.",
    },
    Advice {
        take: &LANTERN,
        sky: Sky::Any,
        warns: "It gets dark early",
        then: "Soon it got dark, and {h.he} was still far from home.",
        suffers: "{H~} could not see the path and bumped into a tree.",
        remedy: "Then {h.he} saw a light. It was {f.intro}. <Come, my lantern shines for both of us,> \
                 {f.said}.",
    },
];

/// Good advice is not taken, and then it is missed.
pub(super) fn advice(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.cast_kin();
    t.choose_place();
    let case = &ADVICE[t.rng.below(ADVICE.len())];
    t.sky = case.sky;
    t.o = t.some_thing(&[case.take]);
    (t.s, t.u, t.v) = (case.warns, case.then, case.suffers);
    t.open(Some(STUBBORN));
    t.say(
        "{Day} {h} wanted to go {p.to}. <[Take your {o.n} with you|Do not forget your {o.n}],> {g.said}. \
         <{S}.>",
    );
    t.say(
        "[<I do not want to,> {h.said}, and went out without it.|<No!> {h.said}. <I do not need it.> And \
         off {h.he} went.|But {h} left the {o.f} at home.]",
    );
    t.say(
        "[At first it was fun {p.in}.|For a while {h.he} played {p.in}, and all was well.|{H~} {h.go} \
         {p.to} and sang.]",
    );
    if !matches!(case.sky, Sky::Snowy) {
        t.outdoors();
    }
    t.say("{u}");
    t.say("{v}");
    t.say(
        "[<I wish I had my {o.n},> {h} thought.|Now {h} thought of the {o.f} at home.|<{G} was right,> {h} \
         thought.]",
    );
    t.say_if(
        case.remedy.starts_with("Then"),
        "",
        "[Then {f.intro} came by.|Just then {h} met {f.intro}.|There {h.he} met {f.intro}.]",
    );
    t.say(case.remedy);
    t.say(
        "[<Thank you,> {h.said}. <You were clever to bring it.>|{H} was glad. <I should have listened,> \
         {h.he} said.|<Thank you, {f},> {h.said}.]",
    );
    t.say(
        "[The next day, when {h} went out, {g} did not have to say a word. {H} took the {o.f} along.|The \
         next time {g} said, <Take your {o.n},> {h} took it at once.|After that, {h} never went out \
         without {h.his} {o.f}.]",
    );
    t.maybe(
        1,
        3,
        "[And {g} smiled.|It is good to listen to those who know.|{H} even took two, one for {h.himself} \
         and one for {f}.]",
    );
}
