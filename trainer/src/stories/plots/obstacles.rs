//! Ways for a thing to get stuck, and who can get it back: what a helper can do depends on
//! what it is.

use super::super::cast::{Kind, Noun};
use super::super::tale::Tale;
use super::super::words::*;

/// Where a thing (`o`) can get stuck.
pub(in super::super) struct Obstacle {
    things: &'static [&'static Noun],
    /// What happens, as a sentence.
    pub(in super::super) cause: &'static str,
    /// Where it is now.
    pub(in super::super) place: &'static str,
    /// Sentences in which the hero fails, in any order.
    pub(in super::super) tries: &'static [&'static str],
    /// Who can help, and how.
    helpers: &'static [(&'static Kind, &'static str)],
}

const CLIMB: &str = "[{K} climbed [up the tree|from branch to branch] and [pushed the {o.n} down|brought \
                     the {o.n} down].|Up and up climbed {k}, to the very top, and down came the {o.n}.]";
const FLY: &str = "[{K} flew up into the tree and brought the {o.n} down.|{K} opened {k.his} wings, flew \
                   to the top of the tree, and pulled the {o.n} free.]";
const SWIM: &str = "[{K} jumped into the water, swam out, and pushed the {o.n} back to the shore.|Splash! \
                    {K} swam to the {o.n} and brought it back.]";
const DIG: &str = "[{K} dug and dug[, and the earth flew|], and soon there was the {o.n}.|{K} began to \
                   dig. The hole got bigger and bigger, and at the bottom lay the {o.n}.]";
const SQUEEZE: &str = "[{K} was so small that {k.he} could run right down into the hole. Soon {k.he} came \
                       back with the {o.n}.|{K} ran down the little hole and came up again, pulling the \
                       {o.n} behind {k.him}.]";
const LIFT: &str = "[{K} put {k.his} head against the stone and pushed. The stone rolled away!|{K} pushed \
                    once, and the heavy stone rolled away.]";
const CHEW: &str = "[{K} was not afraid of thorns. {K.he} ate the branches, one by one, until the {o.n} \
                    was free.]";
const PLUCK: &str = "[{K} was so small that the thorns did not touch {k.him}. {K.he} hopped into the bush \
                     and pulled the {o.n} out.]";
const SHINE: &str = "[{K} flew into the cave, and {k.his} little light shone on the walls. There, in the \
                     corner, was the {o.n}!|{K} went first and made light. <There it is!> {h.cried}, and \
                     picked up the {o.n}.]";

static OBSTACLES: [Obstacle; 7] = [
    Obstacle {
        things: &[&KITE, &BALLOON, &HAT, &SCARF, &RIBBON],
        cause: "[Suddenly the wind [took|caught] the {o.n} and carried it up into a tall tree.|Then a \
                strong wind came. Whoosh! It blew the {o.n} into the top of a tree.]",
        place: "high up in the tree",
        tries: &[
            "{H~} jumped [as high as {h.he} could|up and down], but the branch was too high.",
            "{H~} shook the tree, but the {o.n} did not come down.",
            "{H~} [threw a stick at it|pushed at it with a long stick], but it did not move.",
        ],
        helpers: &[
            (&SQUIRREL, CLIMB),
            (&CROW, FLY),
            (&ROBIN, FLY),
            (&OWL, FLY),
            (&KITTEN, CLIMB),
            (&CAT, CLIMB),
        ],
    },
    Obstacle {
        things: &[&BALL, &DOLL, &BEARTOY],
        cause: "[{H~} threw the {o.n} up high, much too high, and it landed in a tree.|Up went the {o.n}, \
                but it did not come down again. It was stuck in a tree.]",
        place: "in the tree",
        tries: &[
            "{H~} jumped [as high as {h.he} could|up and down], but the branch was too high.",
            "{H~} shook the tree, but only leaves came down.",
            "{H~} threw a stick at it, but now the stick was stuck too.",
        ],
        helpers: &[(&SQUIRREL, CLIMB), (&CROW, FLY), (&OWL, FLY), (&KITTEN, CLIMB), (&CAT, CLIMB)],
    },
    Obstacle {
        things: &[&BALL, &BOAT, &HAT, &BUCKET, &BASKET, &DRUM],
        cause: "[Then the {o.n} fell into the pond and floated away from the shore.|But the {o.n} rolled \
                down the bank. Splash! It fell into the pond.]",
        place: "in the middle of the pond",
        tries: &[
            "{H~} reached for it with a stick, but the stick was too short.",
            "{H~} threw little stones to make waves, but the {o.n} only went farther away.",
            "{H~} took one step into the water, but it was too deep.",
        ],
        helpers: &[(&DUCK, SWIM), (&OTTER, SWIM), (&FROG, SWIM), (&TURTLE, SWIM), (&BEAVER, SWIM)],
    },
    Obstacle {
        things: &[&RING, &KEY, &COIN, &MARBLE, &BELL, &BUTTON],
        cause: "[Then the {o.n} slipped out of {h.his} {h.paw} and fell into a hole in the ground.|But the \
                {o.n} rolled away, faster and faster, and fell into a little hole.]",
        place: "deep down in the hole",
        tries: &[
            "{H~} put {h.his} {h.paw} into the hole, but it was too deep.",
            "{H~} tried with a stick, but that only pushed the {o.n} deeper.",
            "{H~} looked into the hole, but it was too dark to see.",
        ],
        helpers: &[
            (&MOLE, DIG),
            (&BADGER, DIG),
            (&RABBIT, DIG),
            (&FOX, DIG),
            (&PUPPY, DIG),
            (&MOUSE, SQUEEZE),
        ],
    },
    Obstacle {
        things: &[&BOOK, &DOLL, &BASKET, &BLANKET, &SCARF, &HAT, &UMBRELLA],
        cause: "{H~} put the {o.n} down beside the path. Then a big stone rolled down and stopped right on \
                top of it.",
        place: "under the heavy stone",
        tries: &[
            "{H~} pushed the stone, but it was too heavy.",
            "{H~} pulled at the {o.n}, but it did not come out.",
            "{H~} tried to lift the stone with a stick, but the stick broke.",
        ],
        helpers: &[(&BEAR, LIFT), (&HORSE, LIFT), (&COW, LIFT)],
    },
    Obstacle {
        things: &[&SCARF, &RIBBON, &BLANKET, &HAT, &BALL, &FEATHER],
        cause: "[Then a gust of wind blew the {o.n} right into a thorn bush.|But the {o.n} fell down the \
                bank and into a bush full of thorns.]",
        place: "in the middle of the thorns",
        tries: &[
            "{H~} reached into the bush, but the thorns pricked {h.him}. <Ouch!>",
            "{H~} shook the bush, but the {o.n} did not come free.",
            "{H~} tried with a stick, but the stick got stuck as well.",
        ],
        helpers: &[(&GOAT, CHEW), (&ROBIN, PLUCK)],
    },
    Obstacle {
        things: &[&BALL, &MARBLE, &COIN, &DRUM],
        cause: "Then the {o.n} rolled away, down the path and into a dark cave.",
        place: "somewhere in the dark cave",
        tries: &[
            "{H~} looked into the cave, but it was too dark to see.",
            "{H~} felt along the ground, but there was only cold stone.",
            "{H~} took three steps into the dark and bumped {h.his} nose.",
        ],
        helpers: &[(&FIREFLY, SHINE)],
    },
];

impl Tale<'_> {
    /// Chooses an obstacle the hero cannot overcome alone, the thing `o` that gets stuck, the
    /// helper `k` and how the helper does it (told through `v`).
    pub(in super::super) fn choose_obstacle(&mut self) -> &'static Obstacle {
        let hero = self.h.kind.noun;
        let obstacle = loop {
            let obstacle = &OBSTACLES[self.rng.below(OBSTACLES.len())];
            if obstacle.helpers.iter().all(|(kind, _)| kind.noun != hero) {
                break obstacle;
            }
        };
        self.o = self.some_thing(obstacle.things);
        let (kind, how) = self.pick(obstacle.helpers);
        self.k = self.stranger(&[kind]);
        self.v = how;
        self.s = obstacle.place;
        obstacle
    }
}
