//! Friends, gifts, wishes, and things one learns to do.

use super::super::cast::{Noun, Sky, is_child};
use super::super::scenes::{GREEDY, SHY};
use super::super::tale::Tale;
use super::super::words::*;

/// What somebody likes, and the gifts that go with it.
struct Liking {
    likes: &'static str,
    gifts: &'static [&'static Noun],
    made: &'static str,
}

static LIKINGS: [Liking; 6] = [
    Liking { likes: "music", gifts: &[&DRUM, &BELL, &WHISTLE], made: "a song about {f}" },
    Liking { likes: "the sea", gifts: &[&SHELL, &BOAT], made: "a little boat out of bark and a leaf" },
    Liking { likes: "stories", gifts: &[&BOOK], made: "a little book with a story about {f}" },
    Liking { likes: "flowers", gifts: &[&BASKET, &FLOWERPOT], made: "a crown of daisies" },
    Liking { likes: "pretty clothes", gifts: &[&HAT, &SCARF, &RIBBON], made: "a necklace of red berries" },
    Liking { likes: "birds", gifts: &[&FEATHER, &WHISTLE], made: "a bird house out of old wood" },
];

/// A gift that suits the friend is lost, and what the hero makes instead is better.
pub(super) fn gift(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    let liking = &LIKINGS[t.rng.below(LIKINGS.len())];
    t.o = t.some_thing(liking.gifts);
    (t.s, t.u) = (liking.likes, liking.made);
    t.choose_sky();
    t.v = if is_child(t.f) { "{f}" } else { "{f} the {f.kind}" };
    t.open(None);
    t.say(
        "{H.his} best friend was {v}, who loved {s} more than anything. [Tomorrow was {f.s} birthday.|Soon \
         it was {f.s} birthday.]",
    );
    t.say(
        "[<What can I give {f.him}?> {h} thought. <{F.he} loves {s}!>|{H} thought about it all day.] So \
         {h.he} got {o.a} for {f.him} and put it in a box.",
    );
    let ok = t.rng.chance(1, 3);
    if ok {
        t.say(
            "{Day} {h} brought the box to {f}. {F} opened it. <Oh! {A} {o.f}!> {f.he} cried. <How did you \
             know?> <Because you love {s},> {h.said}.",
        );
        t.say(
            "[{F} gave {h.him} the biggest piece of cake.|Then there was cake for everybody.|They sang and \
             danced until the evening.] [The {o.n} stood next to {f.s} bed from then on.|{F} kept the \
             {o.n} for a long, long time.|]",
        );
    } else {
        let lost = t.pick(&[
            "On the way, the {o.n} fell into the river, and the water took it away.",
            "But on the way {h.he} slipped, and the {o.n} fell down and broke.",
            "But the wind blew the {o.n} away, over the hill and far off.",
            "But when {h.he} looked in {h.his} bag, there was a hole in it, and the {o.n} was gone.",
        ]);
        t.say("When the day came, {h} set out for {f.s} {f.home}.");
        t.say(lost);
        t.say(
            "[{H} sat down and cried.|<Oh no!> {h.cried}. <Now I have nothing!>|Now {h} had no gift.] But \
             then {h.he} had an idea. {F} loved {s}, so {h} made {u}.",
        );
        t.say(
            "<I had {o.a} for you, but it is gone,> {h.said}. <I made you this.> [{F} smiled from ear to \
             ear.|{F} hugged {h.him}.] <I like it more than any {o.n} in the world,> {f.he} said, <because \
             you made it.>",
        );
    }
    t.moral = "[The best gifts come from the heart.|It is nice to get a gift, but it is even nicer to give \
               one.|A gift is good when you think of the one who gets it.]";
    t.finish();
}

/// Somebody shy finds a friend through something both of them like.
pub(super) fn shy(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.choose_place();
    t.choose_sky();
    let (doing, start) = t.pick(&[
        ("building a tower of stones", "The tower fell down, and the {f.kind} looked sad."),
        (
            "drawing in the sand with a stick",
            "The stick broke, and the {f.kind} looked around for \
                another.",
        ),
        ("making a boat out of a leaf", "The boat sank, because it had no bottom."),
        ("looking for four-leaf clover", "The {f.kind} looked and looked and had not found one."),
        ("catching leaves that fell from the tree", "One leaf landed right on {h.s} head."),
        ("making a chain of daisies", "The chain broke, because it was too short."),
        ("throwing stones into the water", "One stone jumped three times on the water."),
        ("playing ball alone", "The ball rolled away and stopped at {h.s} feet."),
    ]);
    (t.s, t.t) = (doing, start);
    t.open(Some(SHY));
    t.say(
        "{Day} {h} saw [somebody new|a new face] {p.in}. It was {a} {f.kind} who was {s}, all alone. [{H} \
         wanted to say hello, but no word came out.|<Should I go there?> {h} thought. {H.his} heart beat \
         fast.|{H} hid behind a tree and watched.]",
    );
    t.outdoors();
    t.say(start);
    let (act, line) = match doing.split(' ').next() {
        Some("building") => ("brought a big flat stone", "Put this one at the bottom"),
        Some("drawing") => ("found a new stick", "You can have this one"),
        Some("making") if doing.contains("boat") => ("held out a piece of bark", "This does not sink"),
        Some("making") => ("picked some more daisies", "Here are more"),
        Some("looking") => ("looked down and saw one right there", "Here is one"),
        Some("catching") => ("took it and held it out", "This one is yours"),
        Some("throwing") => ("forgot to be shy", "How do you do that"),
        _ => ("picked it up and held it out", "Here is your ball"),
    };
    (t.u, t.v) = (act, line);
    t.say("Then {h} {u}.");
    t.say_if(
        line.starts_with("How"),
        "<{V}?> {h.he} asked. <I will show you,> said the {f.kind}. <My name is {f}. What is yours?>",
        "<{V},> {h.he} said, very quietly. <Thank you,> said the {f.kind}. <My name is {f}. What is \
         yours?>",
    );
    t.say(
        "<I am {h},> {h.said}. [<I am new here,> said {f}. <I do not know anybody.> <Now you know me,> \
         {h.said}.|<I wanted to say hello too,> said {f}, <but I am so shy.> <So am I!> {h.said}, and both \
         of them laughed.]",
    );
    t.say(
        "They played together until [the sun went down|it was time to go home]. <Will you come again \
         tomorrow?> {f.asked}. <Yes,> {h.said}, and it was not quiet at all.",
    );
    t.moral = "[From then on, {h} was not so shy.|One small word can make a friend.|To make a friend, \
               somebody has to say hello first.|{H} told {h.himself}: it is not so hard to say hello.]";
    t.finish();
}

/// A wish comes true too well and has to be taken back.
pub(super) fn wish(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_kin();
    let (want, first, then, undo) = t.pick(&[
        (
            "everything I touch would turn into cake",
            "The chair turned into cake, and the table too. It was so good!",
            "But then {h.he} touched {h.his} pillow, and it was cake, and so was the bed. {H~} could not \
             sleep, and {h.his} tummy hurt.",
            "everything would be as it was",
        ),
        (
            "it would never be night",
            "The sun stood in the sky and did not go down. {H} played and played.",
            "But soon {h.he} was so tired, and it was much too bright to sleep. The birds were tired too, \
             and the flowers hung their heads.",
            "the night would come back",
        ),
        (
            "I were as tall as a tree",
            "{H} grew and grew, and could see over all the roofs.",
            "But {h.he} did not fit into {h.his} {h.home} any more, and nobody could hear {h.him}, because \
             {h.he} was so high up.",
            "I were small again",
        ),
        (
            "it would snow all year",
            "Snow fell, and {h} rode down the hill all day long.",
            "But the snow did not stop. There were no flowers and no berries, and everybody was cold and \
             hungry.",
            "spring would come",
        ),
        (
            "I never had to hear the word no",
            "<May I have cake for breakfast?> <Yes,> said {g}. <May I jump on the bed?> <Yes,> said {g}.",
            "But then the bed broke, and {h.his} tummy hurt. <Does it hurt?> {h} asked. <Yes,> said {g}. \
             That was all {g.he} could say.",
            "{g} could say no again",
        ),
        (
            "all the toys in the world were mine",
            "Toys came in through the door and the window: balls, dolls, drums and trains.",
            "But soon there was no room to play, and outside the other children had nothing left and were \
             sad.",
            "everybody had their toys back",
        ),
        (
            "I could fly",
            "Up {h.he} went, over the trees and the river. It was wonderful!",
            "But {h.he} did not know how to come down. The wind blew {h.him} farther and farther from \
             home, and it got cold.",
            "I stood on my feet again",
        ),
    ]);
    (t.s, t.u) = (want, undo);
    let (who, intro) = t.pick(&[
        ("the star", "saw a star fall. <Make a wish,> said the star"),
        (
            "the fish",
            "found a golden fish on the sand and put it back into the water. <You may make a wish,> said \
             the fish",
        ),
        ("the fairy", "helped a tiny fairy out of a spider web. <You may make a wish,> said the fairy"),
        ("the old woman", "carried a bag for an old woman. <You may make a wish,> said the old woman"),
        ("the lamp", "found an old lamp and rubbed it. <Make a wish,> said the lamp"),
    ]);
    t.sky = if who == "the star" { Sky::Night } else { Sky::Any };
    let nature = t.rng.chance(1, 2).then_some(GREEDY);
    t.open(nature);
    (t.v, t.w) = (who, intro);
    t.say("{Day} {h} {w}.");
    t.say(
        "[<I wish that {s},> {h.said}.|{H} did not think for long. <I wish that {s}!> {h.he} said.] [And \
         so it was.|And it came true.|Whoosh! It came true.]",
    );
    t.say(first);
    t.say(then);
    t.say(
        "{H} called {v}. <[Please, I wish|I was wrong. I wish] that {u},> {h.he} said. {V} \
         [smiled|laughed]. <[Then let it be so|Are you sure? Good]!>",
    );
    t.say(
        "[And everything was as before.|Then all was well again.] [{H} ran to {g} and hugged \
         {g.him}.|<Where were you?> asked {g}. {H} only smiled.|How good it was to be home with {g}!]",
    );
    t.say(
        "[Think before you wish.|Now {h} knew that what {h.he} had was good enough.|If {h} finds {v} \
         again, {h.he} will wish for something small.|Too much of a good thing is too much.]",
    );
}
