//! Small things that happen around a story: what is seen and heard, what there is for supper,
//! what somebody is like. They fit where and when the story is.

use super::cast::Sky;
use super::tale::Tale;

/// Small animals and what each does.
const CREATURES: &[(&str, &str)] = &[
    ("bird", "[sang|sat and sang|whistled] [in a tree|on a branch|above {h.his} head]"),
    ("bee", "[hummed|buzzed] [from flower to flower|over the grass|past {h.his} ear|around {h.his} head]"),
    ("frog", "[jumped out of the way|looked out of the grass|sat very still in the grass]"),
    ("cloud", "[sailed by|moved slowly over the hill|looked like a [sheep|boat|bear|big hat|fish]]"),
    ("snail", "[crept over the path|sat on a leaf|looked out of its house]"),
    ("leaf", "[danced in the air|fell on {h.his} head|floated down]"),
    ("ladybug", "[landed on {h.his} nose|walked up a stem|flew away over the grass]"),
    ("beetle", "[crossed the path|hurried by|climbed up a stem]"),
    ("grasshopper", "[jumped over {h.his} feet|sang in the grass]"),
    ("moth", "[slept on a tree|flew by without a sound]"),
    ("worm", "[looked out of the ground|went back into its hole]"),
    ("dog", "[barked far away|ran by|slept in the sun]"),
];

const LOOKS: &[&str] = &[
    "little", "tiny", "round", "brown", "gray", "white", "yellow", "small", "green", "funny", "lonely",
    "lazy",
];

impl Tale<'_> {
    /// Something small that happens out of doors, half the time.
    pub(super) fn outdoors(&mut self) {
        match self.rng.below(8) {
            0 | 1 => {
                let (creature, does) = self.pick(CREATURES);
                let looks = loop {
                    let looks = self.pick(LOOKS);
                    let odd = matches!(
                        (looks, creature),
                        ("lonely" | "lazy", "leaf") | ("tiny" | "green" | "yellow", "cloud" | "dog")
                    ) || looks == "green" && matches!(creature, "bird" | "bee" | "worm" | "moth");
                    if !odd {
                        break looks;
                    }
                };
                (self.b, self.c, self.l) = (looks, creature, does);
                self.say("{A} {b} {c} {l}.");
            }
            2 => self.say(
                "[The air smelled of [flowers|warm grass|apples|pine trees|rain|earth].|The grass was \
                 [soft|wet|tall|warm] under {h.his} feet.|Far away, a [bell rang|train whistled|cow \
                 mooed|door banged|river rushed|rooster crowed].|{H} [hummed a [little|happy|quiet] \
                 song|kicked a stone along the path|sang as {h.he} went|counted {h.his} steps|jumped over \
                 a [puddle|log|root]].]",
            ),
            3 => self.say(match self.sky {
                Sky::Sunny => {
                    "[The sky was blue from end to end.|There was [no|not a] cloud in the sky.|It was so \
                     warm that even the [bees|birds|cats] were lazy.|Light and shadow danced on the \
                     path.]"
                }
                Sky::Windy => {
                    "[The trees bent and the leaves flew.|Clouds raced over the sky.|The wind pulled at \
                     {h.his} [ears|nose|back] and pushed from behind.|Leaves danced around {h.his} feet.]"
                }
                Sky::Snowy => {
                    "[The snow crunched under {h.his} feet.|{H.his} breath made little clouds.|Every \
                     branch had a white hat.|Snow lay on the roofs and on the fences.]"
                }
                Sky::Rainy => {
                    "[Drops ran down the window.|There were puddles everywhere.|The rain drummed on the \
                     roof.|Everything smelled of rain.]"
                }
                _ => {
                    "[It was a quiet day.|The sky was [gray|blue|full of little clouds].|There was nothing \
                     to do, and that was nice.|Nobody was in a hurry.]"
                }
            }),
            _ => {}
        }
    }

    /// What the hero feels like, half the time.
    pub(super) fn glad(&mut self) {
        match self.rng.below(6) {
            0 => self.say(
                "{H} was as happy as [a bird in spring|a bee in a flower|a fish in water|a bear with a pot \
                 of honey|a king|a mouse in a cheese|a duck in the rain|the sun].",
            ),
            1 => self.say(
                "{H} [jumped up and down for joy|laughed out loud|danced on one foot|clapped and \
                 sang|turned around three times|ran in a circle and laughed|threw {h.his} hat into the \
                 air|wanted to hug the whole world].",
            ),
            _ => {}
        }
    }

    /// How an evening ends, in one of many ways.
    pub(super) fn evening(&mut self) {
        match self.rng.below(4) {
            0 => {
                let [a, b] = self.some(&[
                    "soup", "bread", "cheese", "eggs", "apples", "potatoes", "pancakes", "carrots", "beans",
                    "porridge", "noodles", "corn", "pears", "nuts", "cake",
                ]);
                (self.b, self.c) = (a, b);
                self.say(
                    "[For supper they had {b} and {c}, and {h} ate [it all|two plates of it|until {h.he} \
                     was full].|That evening they had {b} for supper, and {c} after that.|At home they had \
                     {b} with {c}, and then it was time for bed.]",
                );
            }
            1 => self.say(
                "[<Tomorrow,> {h.said}, <I will [sing|run|dance|play|read|paint] [all day|all \
                 morning|before breakfast|until supper].>|<What will we do tomorrow?> {h.asked}. But \
                 nobody knew yet.|<Good night, [moon|stars|sky|world|little bed],> {h.said}.]",
            ),
            2 => self.say(
                "[Then the moon came up over the [hill|trees|roofs|barn|water], [round and yellow|thin and \
                 white|big and bright], and {h} [slept|yawned|went to sleep].|One by one the \
                 [stars|lights] came out, and {h} counted them until {h.his} eyes closed.|That night {h} \
                 dreamed of [a ship|a white horse|the sea|a mountain of cake|a bird that could \
                 talk|flying|a long train].]",
            ),
            _ => self.say(
                "[It was the best day of all.|That night, {h} went to bed with a smile.|And that was \
                 that.|In the {h.home} {r}, {h} slept well.|That evening, {h} was tired but very \
                 happy.|What a day it had been!|Then it was time for [supper|bed].|And {h} was happy.|At \
                 supper that night, {h} told the whole story.|{H} never forgot that day.]",
            ),
        }
    }
}
