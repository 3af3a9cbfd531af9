//! Things that get lost or stuck, and how they come back.

use super::super::scenes::{FORGETFUL, KIND};
use super::super::tale::Tale;
use super::super::words::{ELDERS, INDOORS, TREASURES};

/// What somebody puts a thing down for.
const ERRANDS: &[&str] = &[
    "chase a butterfly",
    "pick some flowers",
    "look at a snail",
    "drink some water",
    "watch the ants",
    "climb a tree",
    "eat some berries",
    "help a beetle",
    "smell the flowers",
    "look for worms",
    "listen to a bird",
];

/// The hero leaves a thing somewhere, looks for it in the wrong places, and finds it where it
/// was left.
pub(super) fn lost(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_kin();
    t.choose_place();
    t.choose_sky();
    t.o = t.some_thing(TREASURES);
    t.open(Some(FORGETFUL));
    t.say(
        "[{H~} had {o.a} that {h.he} loved very much.|{H~} had {o.a}. It was a gift from {g}.|The thing \
         {h} loved most was {h.his} {o.f}.|{G} had given {h.him} {o.a}.]",
    );
    t.say(
        "{Day} {h} [took the {o.n} along {p.to}|went {p.to} with the {o.n}|{h.go} {p.to} with {h.his} \
         {o.n}].",
    );
    match t.rng.below(8) {
        0 => t.on_the_way(),
        1 => t.neighbor(true),
        2 | 3 => t.outdoors(),
        _ => {}
    }
    t.s = t.pick(t.p.spots);
    t.w = t.pick(ERRANDS);
    t.say(
        "[There {h~} put the {o.n} down {s} to {w}.|{H~} put it down {s}, because {h.he} wanted to \
         {w}.|{H~} stopped to {w}, and put the {o.n} down {s}.]",
    );
    t.say(
        "[Then it was time to go home.|Soon it got late, and {h} ran home.|Then {g} called, and {h} ran \
         home.|When the sun was low, {h} went home.]",
    );
    t.say(
        "[At bedtime, the {o.n} was gone!|But at home there was no {o.n}.|At home, {h~} wanted to show the \
         {o.n} to {g}, but it was not there.]",
    );
    t.say(
        "[<Where is my {o}?> {h.cried}.|<My {o.n} is gone!> {h.cried}.|<Oh no! I lost my {o}!> {h.cried}.]",
    );
    [t.t, t.u] = t.some(INDOORS);
    t.say(
        "{H~} looked {t}[, but it was not there.|. No {o.n}.] {H~} looked {u}[, but [there was only \
         dust|{h.he} found only an old sock|it was not there].|. No {o.n} there.]",
    );
    let met = t.rng.chance(1, 3);
    t.say(
        "[<Think,> {g.said}. <Where did you have it last?>|<When did you see it last?> {g.asked}.|<What \
         did you do today?> {g.asked}.] [{H} thought hard.|{H} thought and thought.|{H} closed {h.his} \
         eyes and thought.] [<I stopped to {w},> {h.he} said[ slowly|].|<I put it down to {w}!> {h.he} \
         said.]",
    );
    if met {
        t.k = t.stranger(ELDERS);
        t.say(
            "They went back {p.to}. There, {s}, sat {k.a}, and next to {k.him} lay the {o.f}. <I [kept it \
             safe|looked after it] for you,> {k.said}. <Thank you!> {h.said}[, and gave {k.him} a hug|].",
        );
    } else {
        t.say(
            "[They went back {p.to} together|They took a lantern and went back {p.to}|{H} ran back {p.to} \
             as fast as {h.he} could]. [And there, {s}, was the {o.f}!|There it was, {s}: the {o.f}!|{H} \
             looked {s}, and there was the {o.f}!]",
        );
    }
    t.maybe(
        1,
        4,
        "[{H} hugged the {o.n}.|{H} was so happy that {h.he} danced.|{H} held it tight all the way home.]",
    );
    t.moral = "[After that, {h} always looked behind {h.him} before {h.he} went home.|From then on, {h} \
               put {h.his} things back in their place.|Now {h} has a special place for the {o}, and that \
               is where it stays.|<Next time I will take better care of it,> {h.said}.]";
    t.finish();
}

/// A thing gets stuck; the hero tries in vain; somebody who can do it helps.
pub(super) fn stuck(t: &mut Tale<'_>) {
    t.cast_hero();
    let obstacle = t.choose_obstacle();
    t.choose_sky();
    t.open(None);
    t.say("{Day} {h} [was playing outside with|went out with|took a walk with] {h.his} {o.f}.");
    if t.rng.chance(1, 3) {
        t.pack();
    }
    t.outdoors();
    t.say(obstacle.cause);
    t.say("[Now the {o.n} was {s}.|There it was, {s}.|<My {o.n}!> {h.cried}. It was {s}.]");
    let [a, b] = t.some(obstacle.tries);
    t.say(a);
    t.maybe(1, 4, "<I will try again,> {h.he} said.");
    t.say(b);
    t.say(
        "[{H~} sat down and [cried|was very sad].|A tear ran down {h.his} nose.|{H~} did not know what to \
         do.|{H~} sat down and thought.]",
    );
    t.say(
        "[Just then {k.a} came by.|{A} {k.adj} {k.kind} heard {h.him} and came closer.|Then {k.a} came \
         along.] <[What is wrong|Why are you so sad|What is the matter], [little one|little {h.kind}]?> \
         {k.asked}. [<My {o.n} is {s},> {h.said}.|<My {o.n} is {s}, and I cannot get it,> {h.said}.]",
    );
    t.say(
        "[<I can help you,> {k.said}.|<That is easy for {a} {k.kind},> {k.said}.|<Let me try,> \
           {k.said}.]",
    );
    t.say("{v}");
    if t.packed && t.rng.chance(2, 3) {
        t.packed = false;
        t.say(
            "[<Thank you!> {h.said}.|{H} was so glad.] {H~} took the {y} out of {h.his} bag, and [they \
             shared it|they ate it together|gave it to {k}].",
        );
    } else {
        t.say(
            "[<Thank you, {k.voc}!> {h.said}.|<Oh, thank you!> {h.said}. <You are a good friend.>|{H} was \
             so glad. <How can I thank you?> {h.he} asked. <[Just be my friend|Come and see me again],> \
             {k.said}.|{H} thanked {k} and gave {k.him} some {k.food}.]",
        );
    }
    t.moral = "[{H} had learned that it is good to ask for help.|Now {h} knew: what one cannot do, two \
               can.|From that day on, {h} and {k} were friends.|Everybody is good at something, and {h} \
               never forgot it.]";
    t.finish();
}

/// The hero helps an animal, and later, when a thing gets stuck, that animal helps back.
pub(super) fn returned(t: &mut Tale<'_>) {
    t.cast_hero();
    let obstacle = t.choose_obstacle();
    t.choose_place();
    t.open(Some(KIND));
    // A firefly has no paws for thorns, and is no eater of lunches.
    let trouble = if t.k.kind.noun == "firefly" { 4 } else { t.rng.below(4) };
    if t.rng.chance(1, 2) {
        t.say("{Day} {h} met {k.a} {p.in}.");
    } else {
        t.say("{Day} {h} {h.go} {p.to}.");
        t.outdoors();
        t.say("[There|Then] {h.he} met {k.a}.");
    }
    let (told, done, thanks) = [
        (
            "<[Ow|Ouch]!> {k.said}. <There is a thorn in my {k.paw}.>",
            "{H} pulled the thorn out, very gently.",
            "[Remember the thorn|You took the thorn out of my {k.paw}]",
        ),
        (
            "<I am so hungry,> {k.said}. <I have not eaten all day.>",
            "{H} gave {k.him} half of {h.his} lunch[, and they ate together|].",
            "[You shared your lunch with me|When I was hungry, you gave me your lunch]",
        ),
        (
            "<I am so thirsty,> {k.said}, <and I am too tired to walk to the water.>",
            "{H} ran to the river and brought {k.him} a cup of cold water.",
            "[You brought me water|When I was thirsty, you brought me water]",
        ),
        (
            "{K.his} foot was caught between two roots. <I cannot get out,> {k.said}.",
            "{H} pushed the roots apart, and {k} was free.",
            "[You set me free|When I was caught, you set me free]",
        ),
        (
            "{K.his} wing was caught in a spider web. <Help me,> {k.said}.",
            "{H} broke the threads, one by one, until {k} could fly again.",
            "[You took me out of the web|When I was caught in the web, you set me free]",
        ),
    ][trouble];
    t.say(told);
    t.say(done);
    t.w = thanks;
    t.say(
        "[<Thank you,> {k.said}. <I will not forget it.>|<You are kind,> {k.said}. <One day I will help \
         you too.>]",
    );
    t.say(
        "[A week later|The next day|Some days later|Not long after that], {h} was [out|playing] with \
         {h.his} {o.f}.",
    );
    t.say(obstacle.cause);
    let attempt = t.pick(obstacle.tries);
    t.say(attempt);
    t.say("[<Who can help me?> {h.cried}.|{H~} sat down and was sad.|{H~} wanted to cry.]");
    t.say(
        "[Then {h.he} heard a [voice|friendly voice]. It was {k}!|And who came along? It was {k}!|But {k} \
         had heard {h.him} and came at once.] [<{w},> {k.said}. <Now it is my turn.>|<{w}, and now I will \
         help you,> {k.said}.]",
    );
    t.say("{v}");
    t.moral = "[A good deed comes back.|Whoever helps will be helped.|It is good to be kind, because \
               kindness comes back.|{H} was glad that {h.he} had been kind.|From then on they were best \
               friends.]";
    t.say(
        "[{H} took the {o} and laughed.|<Thank you!> {h.said}.|<You did not forget!> {h.said}. <A friend \
         never forgets,> {k.said}.]",
    );
    t.finish();
}
