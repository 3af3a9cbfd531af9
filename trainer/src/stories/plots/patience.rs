//! Slow and steady: a race, and a seed that grows.

use super::super::cast::Kind;
use super::super::scenes::{IMPATIENT, PROUD};
use super::super::tale::Tale;
use super::super::words::*;

/// The fast one stops on the way; the slow one does not.
pub(super) fn race(t: &mut Tale<'_>) {
    t.cast_animal_hero();
    let fast: &[&'static Kind] = &[&RABBIT, &FOX, &PUPPY, &SQUIRREL, &KITTEN];
    t.h.kind = t.pick(fast);
    t.r = t.pick(t.h.kind.stands);
    t.f = t.another(false);
    t.f.kind = t.pick(&[&TURTLE, &HEDGEHOG, &DUCK, &MOLE]);
    t.k = t.stranger(&[&OWL, &CROW, &GOAT, &COW]);
    t.choose_sky();
    t.s = t.pick(&["the old mill", "the tall pine tree", "the red bridge", "the well", "the big gray rock"]);
    t.o = t.some_thing(TREATS);
    t.open(Some(PROUD));
    t.say(
        "{Day} {h} [met|laughed at] {f} the {f.kind}. <You are so slow!> {h.said}. <[Let us race|I will \
         race you] to {s},> {f.said}. [<Whoever wins gets this {o.f}.>|]",
    );
    t.say(
        "{K} counted: <One, two, three, go!> [{H} ran like the wind|Off went {h}], and soon {f} was far \
         behind.",
    );
    t.outdoors();
    let (stop, meanwhile, late) = t.pick(&[
        (
            "<I have so much time,> {h} thought. <I will take a nap.> And {h.he} lay down in the grass and \
             fell asleep.",
            "{F} walked past {h}, who was snoring.",
            "When {h} woke up, the sun was low.",
        ),
        (
            "There {h.he} saw a bush full of berries. <I have time,> {h} thought, and ate and ate.",
            "{F} walked past the berry bush and did not stop.",
            "When the last berry was gone, {h.his} tummy was so full that {h.he} could not run.",
        ),
        (
            "At the pond {h.he} stopped to look at {h.himself} in the water. <How fine I look!> {h.he} \
             said.",
            "{F} walked past the pond and did not stop.",
            "At last {h} looked up and remembered the race.",
        ),
        (
            "Then a butterfly came by. <I can catch it,> {h} thought, <and still win.> {H~} ran after it, \
             far from the path.",
            "{F} stayed on the path.",
            "The butterfly flew away, and {h} had to look for the path.",
        ),
    ]);
    t.say(stop);
    t.say("But {f} [went on, step by step|did not stop. Step, step, step|kept walking].");
    t.say(meanwhile);
    t.say(late);
    t.say(
        "[{H~} ran as fast as {h.he} could, but|{H~} ran and ran. Too late:] {f} was already at {s}. [<{F} \
         wins!> {k.called}.|<{F} is the winner,> {k.said}.]",
    );
    t.say(
        "[<You are not slow at all,> {h.said}. <You just do not stop.>|{H} looked at {h.his} feet. <Well \
         done,> {h.he} said.|<How did you do that?> {h.asked}. <Step by step,> {f.said}.]",
    );
    t.moral = "[Slow and steady wins the race.|After that, {h} did not laugh at slow animals.|{H} learned \
               that being fast is not enough.|From then on, {h} did one thing at a time.]";
    t.finish();
}

/// What grows from a seed.
struct Crop {
    seed: &'static str,
    sprout: &'static str,
    fruit: &'static str,
    use_of: &'static str,
}

static CROPS: [Crop; 6] = [
    Crop {
        seed: "pumpkin",
        sprout: "a long green vine",
        fruit: "a big orange pumpkin",
        use_of: "[{G} made a pumpkin pie, and everybody had a piece.|Together they made a pumpkin pie.]",
    },
    Crop {
        seed: "sunflower",
        sprout: "a tall stem",
        fruit: "a yellow sunflower, as big as a plate",
        use_of: "[{H} gave it to {g}, who put it in the best vase.|In the fall it gave seeds, and the \
                 birds came to eat them.]",
    },
    Crop {
        seed: "bean",
        sprout: "a thin stem that climbed up a stick",
        fruit: "a row of long green beans",
        use_of: "[They cooked bean soup, enough for three days.|Together they made bean soup.]",
    },
    Crop {
        seed: "strawberry",
        sprout: "little white flowers",
        fruit: "nine red strawberries",
        use_of: "[They ate them with cream.|They ate some, and made jam of the rest.]",
    },
    Crop {
        seed: "tomato",
        sprout: "little yellow flowers",
        fruit: "six round red tomatoes",
        use_of: "[They ate two right away and made soup of the other four.|Three were for {h} and three \
                 were for {g}.]",
    },
    Crop {
        seed: "carrot",
        sprout: "leaves like green feathers",
        fruit: "an orange carrot, as long as an arm",
        use_of: "[Together they pulled it out and made a carrot cake.|Crunch! It was the sweetest carrot \
                 that {h} had ever eaten.]",
    },
];

/// Waiting for a seed to grow.
pub(super) fn seed(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_kin();
    let crop = &CROPS[t.rng.below(CROPS.len())];
    (t.s, t.t, t.u, t.v) = (crop.seed, crop.sprout, crop.fruit, crop.use_of);
    t.o = t.some_thing(&[&CUP, &BUCKET]);
    t.open(Some(IMPATIENT));
    t.say(
        "[In spring|One day in spring|One morning], {g} gave {h.him} a {s} seed. {H} [planted it in the \
         garden|put it into the earth] and [watered it with {h.his} {o.f}|gave it water from {h.his} \
         {o.f}].",
    );
    t.say(
        "[The next morning {h.he} ran out to look. Nothing!|{H~} sat down and waited. Nothing happened.] \
         <Why does it not grow?> {h.asked}. <[Seeds need time|You must wait],> {g.said}. <[Sun and rain \
         and time|Water it every day].>",
    );
    t.n = 3 + t.rng.below(6);
    t.say(
        "[{H} wanted to dig the seed up to look at it, but {g} shook {g.his} head.|<Grow!> {h.said} to the \
         seed. But seeds do not listen.|{H} sang to it, because {g} said that plants like songs.|]",
    );
    t.say(
        "[On the first day there was nothing. On the second day there was nothing.|One day it rained, and \
         one day the sun shone.] But [after {n} days|on day {n}|{n} days later] there was something \
         green!",
    );
    t.say(
        "[Every day|Day after day] {h~} brought water in the {o.f}. First came {t}, and then, at the end \
         of summer, {u}!",
    );
    t.say("{v}");
    t.say(
        "[It was worth the wait.|<It was good that we waited,> {h.said}.|<It took so long!> {h.said}. \
         <That is why it is so good,> {g.said}.]",
    );
    t.say(
        "[Good things need time.|{H} was not so impatient any more.|Now, when {h} has to wait, {h.he} \
         thinks of the little {s} seed.|And one seed was put away for the next spring.]",
    );
}
