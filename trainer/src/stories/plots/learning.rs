//! Riddles, maps, days of the week: stories with something to know in them.

use super::super::cast::Kind;
use super::super::scenes::{CURIOUS, KIND};
use super::super::tale::Tale;
use super::super::words::*;

/// An animal by what it is and does.
struct Riddle {
    kind: &'static Kind,
    hints: [&'static str; 3],
    wrong: &'static str,
    why_not: &'static str,
}

static RIDDLES: [Riddle; 9] = [
    Riddle {
        kind: &RABBIT,
        hints: ["I have long ears", "I eat carrots", "I hop"],
        wrong: "frog",
        why_not: "A frog has no long ears",
    },
    Riddle {
        kind: &FROG,
        hints: ["I am green", "I can swim and hop", "I sing by the pond at night"],
        wrong: "turtle",
        why_not: "A turtle does not hop",
    },
    Riddle {
        kind: &OWL,
        hints: ["I sleep all day", "I have big eyes", "I say whoo"],
        wrong: "cat",
        why_not: "A cat does not say whoo",
    },
    Riddle {
        kind: &TURTLE,
        hints: ["I am slow", "I carry my house on my back", "I can swim"],
        wrong: "snail",
        why_not: "A snail cannot swim",
    },
    Riddle {
        kind: &HEN,
        hints: ["I have wings", "I live on a farm", "I lay an egg every day"],
        wrong: "cow",
        why_not: "A cow has no wings",
    },
    Riddle {
        kind: &COW,
        hints: ["I am big", "I eat grass", "I give milk"],
        wrong: "horse",
        why_not: "You do not milk a horse",
    },
    Riddle {
        kind: &HEDGEHOG,
        hints: ["I am small", "I sleep all winter", "Nobody wants to hug me, because I prick"],
        wrong: "mouse",
        why_not: "A mouse does not prick",
    },
    Riddle {
        kind: &SQUIRREL,
        hints: ["I live in a tree", "I have a big tail", "I hide nuts for the winter"],
        wrong: "robin",
        why_not: "A robin does not hide nuts",
    },
    Riddle {
        kind: &MOLE,
        hints: ["I have soft black fur", "I cannot see well", "I dig tunnels under the grass"],
        wrong: "badger",
        why_not: "A badger is not so small, and it can see",
    },
];

/// A voice behind something gives hints until the hero knows who it is.
pub(super) fn riddle(t: &mut Tale<'_>) {
    t.cast_hero();
    t.choose_place();
    t.choose_sky();
    let riddle = loop {
        let riddle = &RIDDLES[t.rng.below(RIDDLES.len())];
        if riddle.kind.noun != t.h.kind.noun && riddle.wrong != t.h.kind.noun {
            break riddle;
        }
    };
    t.k = t.stranger(&[riddle.kind]);
    [t.s, t.t, t.u] = riddle.hints;
    (t.v, t.w) = (riddle.wrong, riddle.why_not);
    t.open(Some(CURIOUS));
    if t.rng.chance(1, 3) {
        t.pack();
    }
    t.say(
        "{Day} {h} was {p.in} when {h.he} heard a voice behind [a bush|a wall|a big stone|a tree]. <Guess \
         who I am,> it said.",
    );
    t.say(
        "[<Give me a hint,> {h.said}.|<Say something about you,> {h.said}.] <{S},> said the voice. [{H} \
         thought about it.|<That is not enough,> {h.said}.]",
    );
    t.say("<{T},> said the voice. <Are you {a} {v}?> {h.asked}. <No! {W}.> [The voice laughed.|]");
    t.say("<Then one more hint, please,> {h.said}. <{U},> said the voice.");
    t.say(
        "<[I know|Now I know]!> {h.cried}. <You are {a} {k.kind}!> [And out came {k.a}.|And it was true: \
         out came {k.a}.]",
    );
    t.say(
        "[<You are clever,> {k.said}.|<How did you know?> {k.asked}. <Because you said: {u},> {h.said}.] \
         [<Now it is your turn.>|<Let us be friends.>|]",
    );
    if t.packed {
        t.packed = false;
        t.say("{H} took the {y.n} out of {h.his} bag, and they shared it.");
    }
    t.say(
        "[They played the game until it was time to go home.|From then on, {h} and {k} played this game \
         every day.|At home, {h} played the game with everybody.]",
    );
    t.finish();
}

/// A map with steps, followed in order.
pub(super) fn map(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.choose_sky();
    [t.s, t.t, t.u] = t.some(&[
        "big oak tree",
        "red gate",
        "old well",
        "flat stone",
        "apple tree",
        "wooden bench",
        "bird house",
        "little bridge",
        "rose bush",
        "gray rock",
    ]);
    t.i = 3 + t.rng.below(8);
    t.j = 2 + t.rng.below(6);
    t.o = t.some_thing(&[&RING, &BELL, &COIN, &SHELL, &MARBLE, &BUTTON, &STONE, &KEY]);
    let owner = t.rng.chance(1, 2);
    t.open(Some(CURIOUS));
    t.v = t.pick(&[
        "an old book",
        "a bottle by the water",
        "an old coat",
        "a box under the stairs",
        "a hole in the wall",
    ]);
    t.say("{Day} {h} found a piece of paper in {v}. It was a map! {H} [ran to|showed it to] {f.intro}.");
    t.say(
        "<Start at the {s},> {f} read. <Go {i} steps to the {t}. Then go {j} steps to the {u}, and \
           dig.>",
    );
    t.say(
        "They started at the {s}. [They counted {i} steps, and there was the {t}.|{I} steps, and they were \
         at the {t}.] [Then they counted {j} steps, and there was the {u}.|{J} more steps, and there stood \
         the {u}.]",
    );
    t.m = t.i + t.j;
    t.maybe(1, 3, "<{I} and {j} make {m} steps,> {f.said}.");
    t.say(
        "[They dug and dug.|{H} dug first, and then {f} dug.] [Clink!|Bump!] There was a little box, and \
         in it lay {o.a}[!|.]",
    );
    if owner {
        t.k = t.stranger(ELDERS);
        t.say(
            "[There was a note with it|Under it was a note]: <This {o.n} belongs to {k} by the {s}.> So \
             they brought it back. {K} had tears in {k.his} eyes. <I hid it when I was young,> {k.he} \
             said, <and then I forgot where.>",
        );
        t.say(
            "[<For that you shall both have {k.food},> {k.he} said.|{K} told them stories until the \
             evening.|<Keep the map,> {k.he} said, <and hide something of your own.>]",
        );
    } else {
        t.say(
            "[<Who gets it?> {f.asked}. <You have it today, and I have it tomorrow,> {h.said}.|<It is \
             yours and mine,> {h.said}.|<We found it together, so it belongs to both of us,> {f.said}.]",
        );
        t.say(
            "Then they put [something|a toy] of their own into the box and put the map back where it had \
             been, for [somebody else|the next one] to find.",
        );
    }
    t.finish();
}

const WORKS: &[(&Kind, &str, &str)] = &[
    (&OWL, "helped the owl fix {k.his} nest", "a soft feather"),
    (&MOUSE, "carried cheese for the mouse", "a tiny cake"),
    (&BEAR, "looked for honey with the bear", "a jar of honey"),
    (&COW, "brushed the cow", "a jug of milk"),
    (&HEN, "counted the eggs of the hen", "six eggs"),
    (&SQUIRREL, "picked nuts with the squirrel", "a bag of nuts"),
    (&GOAT, "mended the fence of the goat", "a piece of cheese"),
    (&BEAVER, "carried sticks for the beaver", "a wooden spoon"),
    (&HORSE, "brought water to the horse", "a basket of apples"),
    (&MOLE, "pulled weeds with the mole", "a big potato"),
    (&DUCK, "looked after the eggs of the duck", "a white feather"),
    (&FROG, "sang with the frog", "a water lily"),
];

/// Every day somebody is helped; on Sunday they all come back.
pub(super) fn week(t: &mut Tale<'_>) {
    t.cast_hero();
    let hero = t.h.kind.noun;
    let works = loop {
        let works: [(&Kind, &str, &str); 3] = t.some(WORKS);
        if works.iter().all(|work| work.0.noun != hero) {
            break works;
        }
    };
    let days = t.pick(&[
        ["Monday", "Tuesday", "Wednesday"],
        ["Monday", "Wednesday", "Friday"],
        ["Tuesday", "Thursday", "Saturday"],
        ["Wednesday", "Thursday", "Friday"],
    ]);
    t.k = t.stranger(&[works[0].0]);
    [t.s, t.t, t.u] = days;
    t.open(Some(KIND));
    (t.v, t.w) = (works[0].1, works[1].1);
    let third = works[2].1;
    t.say("On {s}, {h} {v}. [It took all day.|That was hard work.|]");
    t.say("On {t}, {h.he} {w}.");
    t.w = third;
    t.say("And on {u}, {h.he} {w}.");
    t.say(
        "[On Sunday|When Sunday came], {h} was [ill|so tired that {h.he} stayed in bed|sad, because it was \
         {h.his} birthday and nobody seemed to know]. [Then there was a knock at the door.|Knock, knock!]",
    );
    (t.v, t.w) = (works[0].2, works[1].2);
    t.t = works[1].0.noun;
    t.say("It was {k} with {v}. [Behind {k.him} came|Then came] the {t} with {w}.");
    t.t = works[2].0.noun;
    t.v = works[2].2;
    t.say(
        "And last of all came the {t} with {v}. [<You helped us,> they said, <and now we help you.>|<All \
         week you helped us,> said the {t}. <Today is your day.>]",
    );
    t.say(
        "[They sang and ate and laughed, and {h} felt fine again.|{H} did not know what to say. {H.he} \
         laughed and cried at the same time.|They all sat on {h.his} bed and told stories.]",
    );
    t.moral = "[What you give comes back to you.|If you are good to others, they are good to you.|It had \
               been a good week.]";
    t.finish();
}

/// A young animal, its mother, and what she says.
struct Family {
    young: &'static str,
    mother: &'static Kind,
    call: &'static str,
    home: &'static str,
}

static FAMILIES: [Family; 8] = [
    Family { young: "duckling", mother: &DUCK, call: "Quack, quack", home: "on the pond" },
    Family { young: "calf", mother: &COW, call: "Moo", home: "in the barn" },
    Family { young: "chick", mother: &HEN, call: "Cluck, cluck", home: "in the hen house" },
    Family { young: "kitten", mother: &CAT, call: "Meow", home: "by the fire" },
    Family { young: "foal", mother: &HORSE, call: "Neigh", home: "in the stable" },
    Family { young: "baby owl", mother: &OWL, call: "Whoo, whoo", home: "in the old oak tree" },
    Family { young: "piglet", mother: &PIG, call: "Oink, oink", home: "in the mud" },
    Family { young: "baby goat", mother: &GOAT, call: "Meh, meh", home: "on the rocks" },
];

/// A lost little one is brought to its mother, by her voice.
pub(super) fn mother(t: &mut Tale<'_>) {
    t.cast_child_hero();
    t.choose_place();
    t.choose_sky();
    let [family, wrong]: [&Family; 2] = t.some(&FAMILIES.each_ref());
    let young = family.young;
    t.s = young;
    t.t = family.call;
    t.u = family.home;
    t.k = t.stranger(&[family.mother]);
    t.k.she = true;
    t.e = t.stranger(&[wrong.mother]);
    t.e.she = true;
    t.open(Some(KIND));
    t.say("{Day} {h} found a little {s} {p.in}. It was all alone, and it [cried|shook|was cold].");
    t.say(
        "[<Where is your mother?> {h.asked}. <I do not know,> said the {s}.|<I want my mother,> said the \
         {s}. <Do not cry,> {h.said}. <We will find her.>] <What does she say?> {h.asked}. <{T},> said the \
         {s}.",
    );
    t.w = wrong.call;
    t.v = wrong.home;
    t.say(
        "So they went to look. First they came to {e}, who was {v}. <{W},> {e.said}. [<That is not my \
         mother,> said the {s}.|The {s} shook its head. <My mother does not say that.>]",
    );
    t.outdoors();
    t.maybe(
        1,
        2,
        "[The {s} was tired, so {h} carried it.|{H} put {h.his} coat around the {s}.|<I am hungry,> said \
         the {s}, and {h} gave it a bit of bread.]",
    );
    t.say(
        "Then, from far away, they heard something: <{T}!> <That is her!> cried the {s}. And there, {u}, \
         was {k}. [The {s} ran to her as fast as it could.|How glad they were!]",
    );
    t.say(
        "<Thank you for bringing my little one home,> {k.said}. [<Come and see us again.>|<You have a good \
         heart.>|]",
    );
    t.moral = "[On the way back, {h} ran, because {h.he} wanted to see {h.his} own mother too.|That \
               evening, {h} gave {h.his} mother a very big hug.|After that, {h} went to see the {s} every \
               day, and saw how it grew.]";
    t.say(t.moral);
}
