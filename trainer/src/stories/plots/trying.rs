//! Trying again: skills, and things that are built.

use super::super::cast::{Place, Sky};
use super::super::scenes::IMPATIENT;
use super::super::tale::Tale;
use super::super::words::*;

/// Something hard to learn: the fault and the advice that cures it.
struct Skill {
    to_do: &'static str,
    doing: &'static str,
    did: &'static str,
    fails: &'static [&'static str],
    because: &'static str,
    advice: &'static str,
    child_only: bool,
}

static SKILLS: [Skill; 8] = [
    Skill {
        to_do: "ride a bike",
        doing: "riding",
        did: "rode all the way to the gate and back",
        fails: &[
            "{H~} fell into the grass.",
            "The bike went left and right, and then it fell over.",
            "{H~} rode into a bush.",
        ],
        because: "You look at your feet",
        advice: "Look far ahead",
        child_only: true,
    },
    Skill {
        to_do: "skate",
        doing: "skating",
        did: "skated once around the whole pond",
        fails: &[
            "Bump! {H~} sat on the ice.",
            "{H.his} feet went one way, and {h.he} went the other.",
            "{H~} fell on {h.his} back.",
        ],
        because: "Your knees are stiff",
        advice: "Bend your knees",
        child_only: false,
    },
    Skill {
        to_do: "whistle",
        doing: "whistling",
        did: "whistled a whole song",
        fails: &[
            "Only air came out.",
            "<Fff,> it went, and that was all.",
            "{H~} blew until {h.his} face was red.",
        ],
        because: "You blow too hard",
        advice: "Blow very softly",
        child_only: true,
    },
    Skill {
        to_do: "jump rope",
        doing: "jumping",
        did: "jumped twelve times in a row",
        fails: &[
            "The rope hit {h.his} feet.",
            "{H~} fell over the rope.",
            "The rope got stuck on {h.his} nose.",
        ],
        because: "You jump too late",
        advice: "Jump when you hear the rope",
        child_only: false,
    },
    Skill {
        to_do: "catch a ball",
        doing: "playing",
        did: "caught the ball six times in a row",
        fails: &[
            "The ball hit {h.him} on the nose.",
            "The ball fell on the ground.",
            "{H~} caught only air.",
        ],
        because: "You close your eyes",
        advice: "Keep your eyes on the ball",
        child_only: false,
    },
    Skill {
        to_do: "fly a kite",
        doing: "flying the kite",
        did: "made the kite fly higher than the trees",
        fails: &[
            "The kite fell down.",
            "The kite turned over and landed on its nose.",
            "The kite did not want to go up.",
        ],
        because: "You run with the wind",
        advice: "Run against the wind",
        child_only: false,
    },
    Skill {
        to_do: "swim",
        doing: "swimming",
        did: "swam all the way to the other side",
        fails: &[
            "Water got into {h.his} nose.",
            "{H~} went under like a stone.",
            "{H~} splashed a lot but did not move.",
        ],
        because: "You hold your breath and do not kick",
        advice: "Breathe and kick",
        child_only: true,
    },
    Skill {
        to_do: "walk on a log",
        doing: "walking on the log",
        did: "walked from one end of the log to the other",
        fails: &[
            "{H~} fell off on the left.",
            "{H~} fell off on the right.",
            "{H~} took two steps and fell.",
        ],
        because: "You look down",
        advice: "Look at the end of the log and hold out your arms",
        child_only: false,
    },
];

/// Trying until it works.
pub(super) fn learn(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    let child = t.hero_is_child();
    let skill = loop {
        let skill = &SKILLS[t.rng.below(SKILLS.len())];
        if child || !skill.child_only {
            break skill;
        }
    };
    t.sky = match skill.to_do {
        "skate" => Sky::Snowy,
        "fly a kite" => Sky::Windy,
        _ => Sky::Sunny,
    };
    (t.s, t.t, t.u, t.v, t.w) = (skill.to_do, skill.did, skill.because, skill.advice, skill.doing);
    let nature = t.rng.chance(1, 2).then_some(IMPATIENT);
    t.open(nature);
    t.say("{Day} {h} saw {h.his} friend {f}, who could {s} very well. <I want to {s} too!> {h.said}.");
    let mut fails: [&'static str; 3] = [skill.fails[0], skill.fails[1], skill.fails[2]];
    t.rng.shuffle(&mut fails);
    t.n = 2 + t.rng.below(2);
    t.say("[So {h.he} tried.|<It looks easy,> {h.he} thought, and tried.]");
    t.say(fails[0]);
    t.say("[{H~} tried a second time.|<Again,> {h.said}.]");
    t.say(fails[1]);
    if t.n == 3 {
        t.say("[{H~} tried a third time.|One more time!]");
        t.say(fails[2]);
    }
    t.say(
        "[<I will never learn it,> {h.said}, and sat down. <Yes, you will,> {f.said}.|<I cannot do it!> \
         {h.cried}. <Not yet,> {f.said}.|{H} wanted to give up. <Do not stop now,> {f.said}.] <[I needed a \
         whole week|I could not do it at first]. {U}. {V}!>",
    );
    t.say(
        "[<{V},> {h} said to {h.himself}, and tried again.|So {h} tried once more.|{H} wiped {h.his} nose \
         and tried again.] And this time it worked! {H} {t}.",
    );
    t.say(
        "[<I can {s}!> {h.cried}.|<Look at me! I can {s}!> {h.cried}.] [{F} cheered.|{F} jumped for \
         joy.|{F} laughed and was glad too.]",
    );
    t.say(
        "[They went on {w} until it got dark.|After that, they went {w} every day.|Then they went on {w} \
         together.]",
    );
    t.n += 1;
    t.moral = "[It took {n} tries, but it was worth it.|If you fall, get up again.|{H} was glad that \
               {h.he} had not given up.|Nobody can do everything at once.]";
    t.finish();
}

/// What is built first of what, where, how it breaks and why, and what holds instead.
struct Building {
    /// Where it must be; anywhere if empty.
    near: &'static [&'static Place],
    what: &'static str,
    weak: &'static str,
    breaks: &'static str,
    why: &'static str,
    strong: &'static str,
    test: &'static str,
}

static BUILDINGS: [Building; 8] = [
    Building {
        near: &[],
        what: "a little house",
        weak: "straw",
        breaks: "the wind blew it down",
        why: "Straw is too light",
        strong: "stones",
        test: "The wind came back and blew as hard as it could, but the house stood.",
    },
    Building {
        near: &[],
        what: "a little house",
        weak: "paper",
        breaks: "the rain made it soft, and it fell in",
        why: "Paper does not like water",
        strong: "wood",
        test: "When it rained again, they sat inside and were dry.",
    },
    Building {
        near: &[&FOREST, &MEADOW],
        what: "a bridge over the brook",
        weak: "thin sticks",
        breaks: "it broke in the middle",
        why: "Thin sticks are too weak",
        strong: "a thick log",
        test: "They walked over it, first one, then the other, and then both together.",
    },
    Building {
        near: &[&BEACH],
        what: "a tower",
        weak: "sand",
        breaks: "a wave washed it away",
        why: "It stood too near the water",
        strong: "flat stones, high up on the bank",
        test: "The waves came, but they did not reach it.",
    },
    Building {
        near: &[],
        what: "a swing",
        weak: "an old string",
        breaks: "the string broke",
        why: "The string is too old",
        strong: "a thick new rope",
        test: "Up and down they went, higher and higher, and the rope held.",
    },
    Building {
        near: &[&POND, &RIVER],
        what: "a boat",
        weak: "leaves",
        breaks: "it sank",
        why: "Leaves let the water in",
        strong: "bark",
        test: "They put it on the water, and it swam like a duck.",
    },
    Building {
        near: &[],
        what: "a tower",
        weak: "round stones",
        breaks: "it fell over",
        why: "Round stones roll",
        strong: "flat stones",
        test: "They blew at it and even jumped beside it, but the tower stood.",
    },
    Building {
        near: &[],
        what: "a bed for a bird",
        weak: "hard sticks",
        breaks: "the bird did not like it",
        why: "Sticks are too hard",
        strong: "moss and soft feathers",
        test: "The bird sat down in it and began to sing.",
    },
];

/// What something is built of, what breaks it, and what holds.
pub(super) fn build(t: &mut Tale<'_>) {
    t.cast_hero();
    t.cast_friend();
    t.choose_place();
    t.k = t.stranger(ELDERS);
    let plan = &BUILDINGS[t.rng.below(BUILDINGS.len())];
    if !plan.near.is_empty() {
        t.p = t.pick(plan.near);
    }
    (t.s, t.t, t.u, t.v, t.w) = (plan.what, plan.weak, plan.breaks, plan.why, plan.strong);
    t.choose_sky();
    t.open(None);
    t.say(
        "{Day} {h} and {f.intro} wanted to build {s} {p.in}. They took {t} and worked all [morning|day]. \
         <It is [wonderful|very fine],> {h.said}.",
    );
    t.say(
        "But [soon|then|the next day] {u}. [{F} was sad.|<Oh no!> {f.cried}.|<All that work!> {h.said}.] \
         <[Let us stop|We will never do it],> {f.said}.",
    );
    t.say(
        "[{A} {k.adj} {k.kind} had watched them.|Then {k.a} came by and looked.] [<What did we do wrong?> \
         {f.asked}.|] <{V},> said {k}. <Take {w}.>",
    );
    t.say(
        "So they [looked for|went to get] {w}. {H} carried, and {f} built. It took longer than the first \
         time, but they did not stop.",
    );
    t.say(plan.test);
    t.say(
        "[<Now it is good,> {k.said}.|<We did it!> {h.cried}.|They called {k} to see it, and {k} was proud \
         of them.]",
    );
    t.moral = "[A thing that is made well will last.|When something breaks, you can learn from it.|The \
               second try was better than the first, because now they knew why.]";
    t.finish();
}
