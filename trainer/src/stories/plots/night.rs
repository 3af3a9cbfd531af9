//! Evenings and beds: noises, sleep, and illness.

use super::super::cast::{Sky, is_child};
use super::super::scenes::{KIND, TIMID};
use super::super::tale::Tale;
use super::super::words::*;

/// A noise, what it might be, what it is, and what is done about it.
struct Noise {
    sound: &'static str,
    /// What else there is to say about the night.
    night: &'static str,
    fear: &'static str,
    truth: &'static str,
    alone: &'static str,
    together: &'static str,
}

static NOISES: [Noise; 7] = [
    Noise {
        sound: "Tap, tap, tap",
        night: "Outside, the wind was blowing.",
        fear: "somebody at the window",
        truth: "a branch that tapped on the window in the wind",
        alone: "<You only want to come in where it is warm,> {h.said} to the branch.",
        together: "They tied the branch back with a string.",
    },
    Noise {
        sound: "Drip, drip, drip",
        night: "Outside, it was raining.",
        fear: "a wet monster",
        truth: "the rain that came through a hole in the roof",
        alone: "{H~} put a bucket under it and counted the drops.",
        together: "They put a bucket under it, and {h} counted the drops.",
    },
    Noise {
        sound: "Scratch, scratch",
        night: "It was very quiet.",
        fear: "a monster with long claws",
        truth: "a tiny beetle in a paper bag",
        alone: "{H~} opened the bag and let the beetle out.",
        together: "They opened the bag and let the beetle out.",
    },
    Noise {
        sound: "Whoo, whoo",
        night: "The moon was big and round.",
        fear: "a ghost",
        truth: "an owl in a tree",
        alone: "<Good night, owl,> {h.said}. <Whoo,> said the owl.",
        together: "<Good night, owl,> {h.said}. <Whoo,> said the owl.",
    },
    Noise {
        sound: "Bang, bang, bang",
        night: "Outside, there was a storm.",
        fear: "a giant",
        truth: "the gate, because somebody had left it open",
        alone: "{H~} closed the gate, and the banging stopped.",
        together: "They closed the gate, and the banging stopped.",
    },
    Noise {
        sound: "Creak, creak",
        night: "The night was cold and dark.",
        fear: "a monster on the stairs",
        truth: "the old rocking chair, which moved in the wind",
        alone: "{H~} shut the window, and the chair stood still.",
        together: "{G} shut the window, and the chair stood still.",
    },
    Noise {
        sound: "Grr, grr",
        night: "Everybody was asleep.",
        fear: "a hungry lion",
        truth: "{g}, who was snoring in the big chair",
        alone: "{H} put a blanket over {g} and gave {g.him} a kiss.",
        together: "",
    },
];

/// A noise in the night is something quite small.
pub(super) fn noise(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_kin();
    t.sky = Sky::Night;
    let noise = &NOISES[t.rng.below(NOISES.len())];
    (t.s, t.u, t.v) = (noise.sound, noise.fear, noise.truth);
    t.open(Some(TIMID));
    t.say("{Day} {h} lay in bed and could not sleep.");
    t.say(noise.night);
    t.say("Then {h.he} heard [something|a noise]. {S}! [What was that?|There it was again. {S}!]");
    t.say(
        "[<It is {u}!> {h} thought, and pulled the blanket over {h.his} head.|{H~} thought of {u}, and \
         {h.his} heart beat fast.|<Maybe it is {u},> {h.whispered}.]",
    );
    t.maybe(1, 2, "[{H.his} knees shook.|{H~} held {h.his} pillow tight.|{H~} did not move at all.]");
    let alone = noise.together.is_empty() || t.rng.chance(1, 2);
    if alone {
        t.say(
            "[But then {h.he} said to {h.himself}, <I will be brave.>|<I want to know what it is,> {h.he} \
             said at last.|{H~} counted to three: <One, two, three!>] {H~} took a [light|candle|lantern] \
             and went to look, [one small step at a time|slowly, on the tips of {h.his} toes].",
        );
    } else {
        t.say(
            "<{G}!> {h.called}. {G} came with a [light|candle|lantern]. [<I heard a noise,> {h.said}. <I \
             think it is {u}.>|<What is the matter?> {g.asked}. <There is {u}!> {h.said}.] <Let us go and \
             look,> {g.said}[, and took {h.his} {h.paw}|].",
        );
    }
    t.say("[{S}! And what was it?|{S}! It was very near now.|{S}!] It was only {v}[!|.]");
    t.say(if alone { noise.alone } else { noise.together });
    t.say("[It was not {u} at all.|{H~} had to laugh.|How {h.he} laughed!]");
    t.say("Then {h.he} went back to bed and slept until [the morning|the sun came up].");
    t.maybe(
        3,
        4,
        "[When you look at a thing in the light, it is not so big.|Now {h} is not so afraid of the \
         dark.|{H} had been afraid, but {h.he} had been brave too.|After that, when {h} heard a noise, \
         {h.he} went to see what it was.]",
    );
}

/// Why somebody cannot sleep, and what helps.
struct Worry {
    says: &'static str,
    remedy: &'static str,
    recall: &'static str,
}

static WORRIES: [Worry; 6] = [
    Worry {
        says: "I am too hot",
        remedy: "{G} opened the window, and the cool air came in.",
        recall: "cool air",
    },
    Worry {
        says: "I am cold",
        remedy: "{G} brought another blanket, {a} {o.adj} one, and put it over {h.him}.",
        recall: "{a} {o.adj} blanket",
    },
    Worry {
        says: "I am thirsty",
        remedy: "{G} brought {h.him} a cup of water, and {h.he} drank it all.",
        recall: "water",
    },
    Worry {
        says: "I am hungry",
        remedy: "{G} brought {h.him} a piece of bread, and {h.he} ate it all up.",
        recall: "bread",
    },
    Worry {
        says: "It is too dark",
        remedy: "{G} lit a little lamp and put it by the bed.",
        recall: "a lamp",
    },
    Worry {
        says: "I feel alone",
        remedy: "{G} sat down on the bed and held {h.his} {h.paw}.",
        recall: "somebody to hold {h.his} {h.paw}",
    },
];

/// One thing after another keeps the hero awake.
pub(super) fn sleepless(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_kin();
    t.sky = Sky::Night;
    t.o = t.some_thing(&[&BLANKET]);
    let [a, b]: [usize; 2] = t.some(&[0, 1, 2, 3, 4, 5]);
    // Too hot and then cold would undo itself.
    let b = if a + b == 1 { 5 } else { b };
    let (first, second) = (&WORRIES[a], &WORRIES[b]);
    t.open(None);
    t.say("{Day} {h} lay in bed, but {h.he} could not sleep.");
    t.s = first.says;
    t.u = first.recall;
    t.say("<{S},> {h.called}.");
    t.say(first.remedy);
    t.say(
        "[<Now sleep well,> {g.said}.|<Good night,> {g.said}.|<Is that better?> {g.asked}. <Yes,> \
         {h.said}.]",
    );
    t.say("[But soon {h} called again.|But {h} was still awake.|It was quiet, but not for long.]");
    t.s = second.says;
    t.v = second.recall;
    t.say("<{S},> {h.he} said.");
    t.say(second.remedy);
    t.say(
        "[Now {h} had {u} and {v}, but still {h.he} was not asleep.|Now {h.he} had {u} and {v}. But sleep \
         did not come.]",
    );
    match t.rng.below(3) {
        0 => {
            t.w = t.pick(&["sheep", "stars", "ducks", "little boats", "rabbits"]);
            t.n = 4 + t.rng.below(7);
            t.say(
                "<Then count {w},> {g.said}. <One, two, three,> {h.said}. {H~} came as far as {n}. Then \
                 {h.his} eyes closed.",
            );
        }
        1 => {
            t.choose_place();
            t.o = t.some_thing(TREASURES);
            t.k = t.stranger(ELDERS);
            t.say(
                "<Tell me a story,> {h.said}. So {g} told {h.him} about {k.a} who lost {k.his} {o.f} \
                 {p.in}. <Did {k.he} find it?> {h} asked, but before {g} could answer, {h.he} was asleep.",
            );
        }
        _ => {
            t.say(
                "{G} sang a [little|quiet|soft] song about the moon. {H} sang along, more and more \
                 quietly, and at the end only {g} was singing.",
            );
        }
    }
    t.say(
        "[<Good night,> {g.whispered}, and closed the door.|{G} kissed {h.him} and put out the \
         light.|Outside, the stars came out, one by one.|And the moon looked in at the window and \
         smiled.|{G} was so tired that {g.he} fell asleep too.]",
    );
}

/// A friend is ill and is cheered up; later the kindness comes back.
pub(super) fn ill(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.choose_place();
    t.o = t.some_thing(&[&BOOK, &SHELL, &FEATHER, &STONE, &BEARTOY, &DRUM, &BELL, &SCARF]);
    t.open(Some(KIND));
    let reason = t.rng.below(4);
    t.v = if is_child(t.f) { "{f}" } else { "{f} the {f.kind}" };
    t.say(
        "[Every day {h} played with {h.his} friend {f} {p.in}.|{H.his} best friend was {f}[| the \
         {f.kind}]. They always played {p.in}.] But one day {f} did not come. <Where is {f}?> {h} \
         thought.",
    );
    t.say(
        "[{H~} went to {f.s} {f.home} and knocked.|So {h} {h.go} to {f.s} {f.home}.] {F} was in bed. \
         [{F.his} nose was red.|{F.he} looked very pale.|{F.he} had a blanket up to {f.his} chin.]",
    );
    let (says, brings, again) = [
        ("My throat hurts", "warm milk with honey", "the warm milk"),
        ("I have a cold", "a pot of hot soup", "the hot soup"),
        ("My head hurts", "a cool cloth for {f.his} head", "the cool cloth"),
        ("My foot hurts, and I cannot walk", "a soft pillow for {f.his} foot", "the soft pillow"),
    ][reason];
    (t.u, t.v, t.w) = (says, brings, again);
    t.say("<{U},> {f.said}. [<I am so bored.>|<I must stay in bed all week.>|]");
    t.say(
        "[{H} ran home and came back with {v}.|So {h} brought {v}.] {H~} also brought {h.his} {o.f}, [so \
         that {f} had something to look at|because {f} liked it|and {f} held it in {f.his} {f.paws}]. \
         [Then {h.he} told {f.him} a funny story.|<You can keep it until you are well,> {h.he} said.|They \
         laughed together, and {f} felt better.]",
    );
    t.n = 2 + t.rng.below(4);
    t.say(
        "[After {n} days|{N} days later], {f} was well again. [<Thank you,> {f.said}. <It was {w} that \
         helped.>|<What helped the most?> {h.asked}. <{W},> {f.said}, <and you.>] [And {f.he} gave back \
         the {o.n}.|]",
    );
    // A sore throat and a cold are caught; a headache and a bad foot are not.
    if reason < 2 && t.rng.chance(2, 3) {
        t.say(
            "But now {h} had to stay in bed. <{U},> {h.he} said. [And who came to see {h.him}? It was {f}, \
             and {f.he} had {v}!|The very same day, {f} knocked at the door and brought {v}.]",
        );
    }
    t.moral = "[That is what friends are for.|A good friend comes when you are ill.|It is nice to be well, \
               but it is even nicer to have a friend.]";
    t.finish();
}
