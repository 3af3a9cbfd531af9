//! Dividing, trading and cooking together: stories that count.

use super::super::cast::{Kind, Sky, Thing};
use super::super::scenes::{GREEDY, KIND};
use super::super::tale::Tale;
use super::super::words::*;

/// Treats divided evenly, perhaps with one left over for somebody small.
pub(super) fn shared(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.e = t.another(t.rng.clone().chance(1, 3));
    t.cast_kin();
    t.choose_sky();
    t.o = t.some_thing(TREATS);
    let friends = 1 + t.rng.below(2);
    let each = 1 + t.rng.below(3);
    let left_over = t.rng.chance(1, 3);
    t.m = friends + 1;
    t.j = each;
    t.n = t.m * each + usize::from(left_over);
    t.open(None);
    t.say(
        "{Day} {g} [gave {h.him} a [bag|basket] of {o.s}|came home with a [bag|basket] of {o.s}]. [{H} \
         counted them. There were {n}.|There were {n} {o.s} in it.|{H} counted: there were {n}.]",
    );
    if friends == 2 {
        t.say(
            "[Then {f} and {e} came to play.|{H} took them outside, where {h.his} friends {f} and {e} were \
             playing.] [<May we have some?> asked {f}.|<Those look good!> said {f}. <May we have some?> \
             asked {e}.|They looked at the {o.s} and were very hungry.]",
        );
    } else {
        t.say(
            "[Then {f.intro} came to play.|{H} took them outside and met {f.intro}.] [<May I have some?> \
             {f.asked}.|<Those look good!> {f.said}.|{F} looked at the {o.s} and was very hungry.]",
        );
    }
    if t.rng.chance(1, 2) {
        t.say(
            "[{H} wanted to keep them all. But then {h.he} looked at {f} and felt bad.|At first {h} held \
             the {o.s} tight. But it is no fun to eat alone.|<They are mine,> {h.said}. But then {f} \
             looked so sad that {h.he} changed {h.his} mind.]",
        );
    } else {
        t.say(
            "[<Of course,> {h.said}.|<Yes, let us share,> {h.said}.|<There is enough for everybody,> \
             {h.said}.]",
        );
    }
    match (friends, each) {
        (2, 1) => t.say("<One for you, one for you, and one for me,> {h.he} said."),
        (2, 2) => t.say("<Two for you, two for you, and two for me,> {h.he} said."),
        (2, _) => t.say("<Three for you, three for you, and three for me,> {h.he} said."),
        (_, 1) => t.say("<One for you and one for me,> {h.he} said."),
        (_, 2) => t.say("<Two for you and two for me,> {h.he} said."),
        _ => t.say("<Three for you and three for me,> {h.he} said."),
    }
    if left_over {
        t.k = t.stranger(&[&ROBIN, &CROW, &MOUSE, &SQUIRREL, &HEN]);
        t.say(
            "[One {o.n} was left.|But there was one {o.n} too many.] <Who gets the last one?> {f.asked}. \
             Just then {k.a} [looked at them|came by]. [<You look hungry,> {h.said}, and gave {k.him} the \
             last {o.n}.|So they gave it to {k}.] [Now everybody had something.|{K} was very glad.]",
        );
        t.maybe(
            1,
            2,
            "[The next morning {k} came back and brought {h} a [small|white|pretty] flower.|From then on, \
             {k} came to see them every day.]",
        );
    } else {
        t.say(
            "[Everybody had the same, and everybody was glad.|They sat down [under a tree|in the grass] \
             and ate.|Nobody had more, and nobody had less.]",
        );
    }
    t.moral = "[The {o.s} tasted better because they were shared.|{H} learned that sharing makes things \
               taste better.|A thing that is shared is twice as good.|<Sharing is fun,> {h.said}.]";
    t.finish();
}

/// The hero keeps everything, eats too much, and is sorry.
pub(super) fn greedy(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.cast_kin();
    t.choose_sky();
    t.o = t.some_thing(TREATS);
    t.n = 5 + t.rng.below(8);
    t.open(Some(GREEDY));
    t.say(
        "{Day} {h} [found|got] {n} {o.fs}[| in the kitchen| in a basket]. [They smelled so good!|<All for \
         me!> {h.said}.|]",
    );
    t.say(
        "{F.intro} [came by|saw them]. <[May|Can] I have one, please?> {f.asked}. [<No,> {h.said}. <They \
         are all mine.>|<No! Go away,> {h.said}.|<No,> {h.said}, <I want them all.>] {F} went away [with \
         nothing|and was sad].",
    );
    t.i = t.n - 1 - t.rng.below(2);
    t.m = t.n - t.i;
    t.say(
        "So {h} ate [one {o.n} after the other|and ate]. [After {i.o}, {h.he} did not want any more.|{H~} \
         ate {i.o}, and then {h.he} could not eat any more.] [There {m.was} still {m} left.|Only {m} \
         {m.was} left.]",
    );
    t.say(
        "[Oh, how {h.his} tummy hurt!|Then {h.his} tummy began to hurt.|<Ow, my tummy!> {h.cried}.] {G} \
         put {h.him} to bed. [<You ate too many,> {g.said}.|<That was too much for one little tummy,> \
         {g.said}.|<What did you eat?> {g.asked}. <I ate {i.o},> {h.said}.]",
    );
    t.u = if t.m == 1 { "the last {o.n}" } else { "the last {m.o}" };
    t.say(
        "[The next day,|When {h.his} tummy was better,|In the morning,] {h} [went to see {f}|{h.go} to \
         {f}]. <I am sorry,> {h.he} said. <[This is for you|Please take this].> And {h.he} gave {f.him} \
         {u}.",
    );
    t.say(
        "[<Thank you,> {f.said}. <Let us share!>|{F} smiled, and they shared.|<We can share!> {f.said}. \
         And so they did.]",
    );
    t.moral = "[From then on, {h} always shared.|{H} was not greedy any more.|{H} had learned that too \
               much of a good thing is not good.|<A little is enough,> {h.said}, <and the rest is for my \
               friends.>]";
    t.finish();
}

/// What somebody has, who has it, and what they want for it, with where to get that.
struct Deal {
    owner: &'static Kind,
    wish: &'static str,
    maker: &'static Kind,
    price: &'static str,
    source: &'static str,
}

static DEALS: [Deal; 6] = [
    Deal {
        owner: &CAT,
        wish: "milk",
        maker: &COW,
        price: "clover",
        source: "[{H} ran to the meadow, where the clover grew, and picked as much as {h.he} could carry.]",
    },
    Deal {
        owner: &BAKER,
        wish: "eggs",
        maker: &HEN,
        price: "corn",
        source: "[{H} went to the field and asked the farmer for some corn. <Take some,> said the farmer.]",
    },
    Deal {
        owner: &MOUSE,
        wish: "cheese",
        maker: &GOAT,
        price: "hay",
        source: "[{H} went to the barn, where there was a lot of hay, and took some.]",
    },
    Deal {
        owner: &HEDGEHOG,
        wish: "apples",
        maker: &HORSE,
        price: "water",
        source: "[{H} went to the well and brought back a full bucket.]",
    },
    Deal {
        owner: &FOX,
        wish: "eggs",
        maker: &DUCK,
        price: "bread",
        source: "[{H} went home and asked for a piece of bread.]",
    },
    Deal {
        owner: &SQUIRREL,
        wish: "nuts",
        maker: &CROW,
        price: "berries",
        source: "[{H} went to the berry bush and picked some berries.]",
    },
];

/// A chain of trades that is walked up and then down again.
pub(super) fn trade(t: &mut Tale<'_>) {
    t.cast_hero();
    let hero = t.h.kind.noun;
    let deal = loop {
        let deal = &DEALS[t.rng.below(DEALS.len())];
        if deal.owner.noun != hero && deal.maker.noun != hero {
            break deal;
        }
    };
    t.o = t.some_thing(TREASURES);
    t.k = t.stranger(&[deal.owner]);
    t.e = t.stranger(&[deal.maker]);
    t.choose_sky();
    t.u = deal.wish;
    t.v = deal.price;
    t.open(None);
    t.say(
        "{Day} {h} [met|saw] {k.a} who had {o.a}. [{H} liked it very much.|How {h} wanted it!|It was just \
         what {h} wanted.]",
    );
    t.say(
        "<[May I have your {o.n}|Will you give me your {o.n}], please?> {h.asked}. <Yes,> {k.said}, <if \
         you bring me some {u}.>",
    );
    t.outdoors();
    t.say(
        "So {h} {h.go} to {e}. <[Please, may I have|Can I have] some {u}?> {h.he} asked. <Yes,> {e.said}, \
         <if you bring me some {v}[| first].>",
    );
    t.say(deal.source);
    t.maybe(
        1,
        3,
        "[It was a lot of work.|It took a long time.|{H~} was getting tired, but {h.he} did not stop.]",
    );
    t.say(
        "[{H} gave the {v} to {e}, and {e} gave {h.him} the {u}.|{E} got the {v} and gave {h} the {u}.] \
         [Then {h} gave the {u} to {k}, and {k} gave {h.him} the {o.f}.|{H} brought the {u} to {k}, and at \
         last {h.he} got the {o.f}!]",
    );
    t.say(
        "[Now everybody had what they wanted: {e} had {v}, {k} had {u}, and {h} had the {o.n}.|<Now we are \
         all happy,> {k.said}.|{H} held the {o.n} and laughed.|]",
    );
    t.moral = "[{H} was proud, because {h.he} had worked for it.|If you want something, you must give \
               something.|A thing you work for is the best thing of all.]";
    t.finish();
}

const PARTS: &[&str] = &[
    "a carrot",
    "a potato",
    "an onion",
    "a tomato",
    "some beans",
    "some peas",
    "some corn",
    "a bit of salt",
    "a big turnip",
    "some mushrooms",
    "some noodles",
];

/// Soup from what everybody brings; the list returns when it is cooked.
pub(super) fn soup(t: &mut Tale<'_>) {
    t.cast_animal_hero();
    t.f = t.another(false);
    t.k = t.stranger(HEROES);
    t.e = t.stranger(HEROES);
    t.sky = t.pick(&[Sky::Rainy, Sky::Snowy, Sky::Windy, Sky::Any]);
    [t.s, t.t, t.u] = t.some(PARTS);
    t.open(None);
    t.say(
        "{Day} {h} wanted to make soup, but {h.he} had only a pot [of|and some] water. [<That will not be \
         good soup,> {h.he} said.|{H.his} cupboard was empty.|]",
    );
    if t.rng.chance(1, 2) {
        t.say("So {h} [asked|went to] {f.intro}. <I have {s},> {f.said}.");
        t.say(
            "Together they went to {k.a}. <Do you have something for our soup?> {h.asked}. <I have {t},> \
             {k.said}.",
        );
        t.say("Then they [met|asked] {e.a}. {E} had {u}.");
    } else {
        t.say(
            "[There was a knock at the door.|Knock, knock!] It was {f.intro}. <I am hungry,> {f.said}, \
             <but all I have is {s}.>",
        );
        t.say("<Put it in the pot!> {h.said}. Then {k.a} came by with {t}. In it went!");
        t.say("Last came {e.a}. <I have only {u},> {e.said}. <That is just what we need,> {h.said}.");
    }
    t.say(
        "So into the pot went {s}, {t} and {u}. [{H} stirred and stirred.|The soup [bubbled|cooked] for an \
         hour.|Soon it smelled wonderful.]",
    );
    t.n = 4;
    t.say(
        "[They got {n} bowls and {n} spoons, and everybody ate.|All {n} of them ate until the pot was \
         empty.|They sat around the pot, all {n} of them, and ate.] [<This is the best soup in the world,> \
         {k.said}.|<What made it so good?> {e.asked}. <All of us,> {h.said}.]",
    );
    t.moral = "[Alone, nobody had a meal. Together, they had a feast.|A little from everybody makes a \
               lot.|When everybody gives a little, there is enough for all.|Together they had made \
               something good.]";
    t.finish();
}

/// A list is bought with coins; what is left buys something for somebody.
pub(super) fn market(t: &mut Tale<'_>) {
    t.cast_child_hero();
    t.cast_kin();
    t.choose_sky();
    let [x, y] = t.some(SNACKS);
    t.x = Thing { noun: x, adjective: x.adjectives[0] };
    t.z = Thing { noun: y, adjective: y.adjectives[0] };
    t.o = t.some_thing(&[&BALLOON, &RIBBON, &WHISTLE, &BUTTON, &MARBLE, &FEATHER, &BELL]);
    t.i = 2 + t.rng.below(4);
    t.j = 2 + t.rng.below(4);
    t.m = 1 + t.rng.below(3);
    t.n = t.i + t.j + t.m;
    t.open(Some(KIND));
    t.say(
        "{Day} {g} gave {h.him} {n} coins. <Please go to the market,> {g.said}. <Buy some {x.s} and some \
         {z.s}.>",
    );
    t.say(
        "[{H} sang all the way: <{X.s} and {z.s}, {x.s} and {z.s}!>|<{X.s} and {z.s},> {h.said} to \
         {h.himself}, so that {h.he} would not forget.|{H} put the coins in {h.his} pocket and walked to \
         the market.]",
    );
    t.say("The {x.s} cost {i} coins. [{H} counted them out.|{H} paid.|]");
    let between = t.n - t.i;
    let before = core::mem::replace(&mut t.n, between);
    t.say("[Then {h.he} had {n} coins.|That left {n}.]");
    t.say("The {z.s} cost {j} coins. [That left only {m}.|So {h.he} had {m} left.]");
    t.n = before;
    if t.m == 1 {
        t.say("<What can I buy for one coin?> {h.asked}.");
    } else {
        t.say("<What can I buy for {m} coins?> {h.asked}.");
    }
    if t.rng.chance(1, 2) {
        t.say("The woman at the market showed {h.him} {o.a}. {H} thought of {g} and bought it.");
        t.say(
            "At home, {h} put the {x.s} and the {z.s} on the table. <And this is for you,> {h.he} said, \
             and gave {g} the {o.f}. [{G} was so glad that {g.he} kissed {h.him}.|<Oh, how pretty!> \
             {g.said}.|{G} laughed and hugged {h.him}.]",
        );
    } else {
        t.k = t.stranger(&[&CAT, &PUPPY, &CROW]);
        t.say(
            "But outside sat {k.a}, thin and hungry. So {h} spent the last of the money on some {k.food} \
             for {k}.",
        );
        t.say(
            "{K} ate and ate and went home with {h.him}. <Who is this?> {g.asked}. <A new friend,> \
             {h.said}. {G} [laughed|smiled], took the {x.s} and the {z.s}, and let {k} in.",
        );
    }
    t.finish();
}
