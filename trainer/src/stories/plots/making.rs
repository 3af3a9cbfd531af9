//! A cake and a snowman.

use super::super::cast::Sky;
use super::super::scenes::{FORGETFUL, IMPATIENT};
use super::super::tale::Tale;
use super::super::words::*;

/// What is forgotten in a cake, and what that does.
const SLIPS: &[(&str, &str, &str)] = &[
    (
        "took salt and not sugar",
        "It was so salty that {h.he} had to drink three cups of water",
        "Sugar is in the blue box, and salt is in the white one",
    ),
    ("forgot the eggs", "It fell apart into a hundred crumbs", "The eggs hold it together"),
    (
        "forgot to look at the clock",
        "It was as black as coal",
        "When the clock says four, it must come \
            out",
    ),
    ("left out the baking powder", "It was as flat as a plate", "The powder makes it rise"),
    (
        "put in five spoons of powder, where there should be one",
        "It was so big that it came out of the oven",
        "One spoon is enough",
    ),
    ("put in too much water", "It was as soft as soup", "One cup of water is enough"),
];

/// A cake goes wrong for a reason, and right the second time.
pub(super) fn cake(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.cast_kin();
    t.sky = t.pick(&[Sky::Rainy, Sky::Snowy, Sky::Any, Sky::Any]);
    let (slip, result, rule) = t.pick(SLIPS);
    (t.s, t.t, t.u) = (slip, result, rule);
    t.o = t.some_thing(&[&STRAWBERRY, &CHERRY, &BERRY, &NUT, &APPLE, &PEAR]);
    let nature = t.pick(&[FORGETFUL, IMPATIENT]);
    t.open(Some(nature));
    t.n = 4 + t.rng.below(5);
    t.say(
        "{Day} {h} wanted to bake a cake for {f}[, who was {n} years old that day|, because it was {f.his} \
         birthday|, because {f} was sad]. {F} loved {o.s}[ more than anything|].",
    );
    t.say(
        "{H} took flour and milk and {o.s} and began. [But {h.he} was in a hurry and|But {h.he} was \
         thinking of something else and|{H~} sang so loud that {h.he}] {s}.",
    );
    let taste = slip.contains("salt");
    t.say_if(
        taste,
        "When the cake was done, {h} tasted it. <Oh no!> {h.he} cried. {T}[!|.]",
        "[An hour later {h} looked into the oven.|Then {h.he} looked at the cake.] <Oh no!> {h.he} cried. \
         {T}[!|.]",
    );
    t.say(
        "[<What did I do wrong?> {h.asked}.|{H} wanted to throw the spoon at the wall.|<I will never bake \
         again,> {h.said}.] {G} [looked at it|came and tasted it]. <{U},> {g.he} said. <[Come, we will try \
         again|Do it once more, and slowly].>",
    );
    t.say(
        "This time {h} was careful. <{U},> {h.he} said to {h.himself}. [And the second cake was golden and \
         round.|Soon the whole {h.home} smelled wonderful.]",
    );
    t.say(
        "[They put {o.s} on top|On top they put {n} {o.s}] and brought it to {f}. <Oh, {o.s}!> {f.cried}. \
         <How did you know?> [<You told me once,> {h.said}.|{H} only smiled.] [And what became of the \
         first cake? The birds ate it.|]",
    );
    t.moral = "[A mistake is good for something, if you learn from it.|The second time is often better \
               than the first.|{H} never forgot that again.]";
    t.finish();
}

/// A snowman gets what he needs, melts, and leaves it behind.
pub(super) fn snowman(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.sky = Sky::Snowy;
    t.o = t.some_thing(&[&HAT, &SCARF]);
    t.s = t.pick(&["a carrot", "a pine cone", "a red berry", "a potato", "a short stick"]);
    t.t = t.pick(&[
        "two black stones",
        "two blue buttons",
        "two brown nuts",
        "two bits of coal",
        "two bottle caps",
    ]);
    t.u = t.pick(&["a broom", "a long branch", "an old umbrella", "a wooden spoon"]);
    t.open(None);
    t.say("{Day} {h} and {f.intro} made a snowman[| out of three big balls|, as tall as the two of them].");
    t.say(
        "<He has no nose,> {h.said}, and gave him {s}. <He cannot see,> {f.said}, and gave him {t} for \
         eyes. [In his hand they put {u}.|He also got {u}.]",
    );
    t.say(
        "[<He looks cold,> {h.said}.|<Is he not cold?> {h.asked}.] {H~} took off {h.his} own {o.f} and put \
         it on the snowman.",
    );
    t.n = 2 + t.rng.below(5);
    t.say(
        "[Every day|For {n} days] they came to see him. <What is your name?> {f.asked}. [He did not \
         answer, so they called him Mister Cold.|He did not answer, so they called him Bill.]",
    );
    t.say(
        "Then the sun got warm, and one morning he was gone. In the wet grass lay {s}, {t}, {u} and the \
         {o.f}.",
    );
    t.say(
        "[{F} was sad.|{H} was sad.|They were both very sad.] <Where did he go?> {f.asked}. <He is water \
         now,> {h.said}. <[The flowers will drink him|He went to the river, and the river goes to the \
         sea].>",
    );
    t.say(
        "{H} took the {o.n} home[ and dried it|]. [<We will need it next winter,> {h.he} said.|It hung by \
         the door until the next winter.]",
    );
}
