//! The word lists: names, kinds, things and places.

use super::cast::{Kind, Noun, Place};

pub(super) const GIRLS: &[&str] = &[
    "Lily", "Mia", "Anna", "Rose", "Sue", "Lucy", "Ella", "Nora", "Ruby", "Ivy", "Emma", "Kate", "Zoe",
    "Molly", "Daisy", "Amy", "Sara", "Jane", "Tess", "Lena", "Maya", "Nina", "Clara", "Polly", "Alice",
    "Grace", "Meg", "Ada",
];

pub(super) const BOYS: &[&str] = &[
    "Tom", "Ben", "Max", "Sam", "Tim", "Jack", "Leo", "Dan", "Finn", "Joe", "Noah", "Luke", "Peter", "Will",
    "Adam", "Eli", "Hugo", "Oscar", "Theo", "Ned", "Billy", "Charlie", "Jim", "Ray", "Henry", "Bob", "Fred",
    "Oliver",
];

pub(super) const ANIMAL_NAMES: &[&str] = &[
    "Pip", "Dot", "Biscuit", "Pepper", "Button", "Clover", "Hazel", "Fern", "Patch", "Poppy", "Toffee",
    "Bramble", "Teddy", "Muffin", "Ginger", "Bubbles", "Rusty", "Penny", "Maple", "Twig", "Pebble", "Sunny",
    "Misty", "Tuft", "Nibbles", "Cocoa", "Dusty", "Momo", "Tiko", "Bobo", "Fluff", "Spot",
];

pub(super) const KIN_NAMES: &[&str] = &["Mom", "Mom", "Dad", "Mama", "Papa", "Grandma", "Grandpa"];
pub(super) const KIN_SHE: &[bool] = &[true, true, false, true, false, true, false];

const HOUSES: &[&str] = &[
    "by the sea",
    "near the forest",
    "on a hill",
    "at the edge of the village",
    "next to the mill",
    "by the river",
    "across from the park",
    "at the end of the street",
    "behind the school",
    "near the farm",
];
const BURROWS: &[&str] = &[
    "under the old oak tree",
    "on a green hill",
    "at the edge of the forest",
    "behind the barn",
    "near the river",
    "under a wild rose bush",
];
const BY_WATER: &[&str] =
    &["by the pond", "near the lake", "beside the river", "behind the mill", "under the bridge"];
const IN_TREES: &[&str] = &[
    "high in a pine tree",
    "in the old oak tree",
    "in the tallest tree of the forest",
    "at the top of a birch tree",
];
const ON_FARMS: &[&str] =
    &["on a small farm", "next to the barn", "at the end of the lane", "behind the big barn"];

/// A kind from its noun, home, where that stands, gait, paw, paws and food.
const fn kind(
    noun: &'static str,
    home: &'static str,
    stands: &'static [&'static str],
    gait: &'static str,
    paw: [&'static str; 2],
    food: &'static str,
) -> Kind {
    Kind { noun, home, stands, gait, paw: paw[0], paws: paw[1], food }
}

const HAND: [&str; 2] = ["hand", "hands"];
const PAW: [&str; 2] = ["paw", "paws"];
const FOOT: [&str; 2] = ["foot", "feet"];
const WING: [&str; 2] = ["wing", "wings"];

pub(super) static GIRL: Kind = kind("girl", "house", HOUSES, "walked", HAND, "pancakes");
pub(super) static BOY: Kind = kind("boy", "house", HOUSES, "walked", HAND, "pancakes");
pub(super) static BAKER: Kind = kind("baker", "shop", HOUSES, "walked", HAND, "eggs");

pub(super) static RABBIT: Kind = kind("rabbit", "burrow", BURROWS, "hopped", PAW, "carrots");
pub(super) static MOUSE: Kind = kind("mouse", "hole", BURROWS, "ran", PAW, "cheese");
pub(super) static FOX: Kind = kind("fox", "den", BURROWS, "trotted", PAW, "grapes");
pub(super) static BEAR: Kind = kind("bear", "cave", BURROWS, "walked", PAW, "honey");
pub(super) static DUCK: Kind = kind("duck", "nest", BY_WATER, "waddled", WING, "corn");
pub(super) static FROG: Kind = kind("frog", "hole", BY_WATER, "hopped", FOOT, "bugs");
pub(super) static SQUIRREL: Kind = kind("squirrel", "nest", IN_TREES, "scampered", PAW, "nuts");
pub(super) static HEDGEHOG: Kind = kind("hedgehog", "burrow", BURROWS, "trotted", PAW, "berries");
pub(super) static TURTLE: Kind = kind("turtle", "home", BY_WATER, "crawled", FOOT, "lettuce");
pub(super) static KITTEN: Kind = kind("kitten", "basket", ON_FARMS, "trotted", PAW, "milk");
pub(super) static PUPPY: Kind = kind("puppy", "dog house", ON_FARMS, "ran", PAW, "bones");
pub(super) static PIG: Kind = kind("pig", "pen", ON_FARMS, "trotted", FOOT, "turnips");
pub(super) static LAMB: Kind = kind("lamb", "shed", ON_FARMS, "skipped", FOOT, "clover");
pub(super) static OTTER: Kind = kind("otter", "den", BY_WATER, "ran", PAW, "fish");
pub(super) static BADGER: Kind = kind("badger", "den", BURROWS, "walked", PAW, "mushrooms");

pub(super) static OWL: Kind = kind("owl", "nest", IN_TREES, "flew", WING, "berries");
pub(super) static CROW: Kind = kind("crow", "nest", IN_TREES, "flew", WING, "seeds");
pub(super) static ROBIN: Kind = kind("robin", "nest", IN_TREES, "flew", WING, "worms");
pub(super) static MOLE: Kind = kind("mole", "tunnel", BURROWS, "shuffled", PAW, "worms");
pub(super) static BEAVER: Kind = kind("beaver", "lodge", BY_WATER, "waddled", PAW, "bark");
pub(super) static HORSE: Kind = kind("horse", "stable", ON_FARMS, "trotted", FOOT, "apples");
pub(super) static COW: Kind = kind("cow", "barn", ON_FARMS, "walked", FOOT, "clover");
pub(super) static GOAT: Kind = kind("goat", "shed", ON_FARMS, "trotted", FOOT, "hay");
pub(super) static HEN: Kind = kind("hen", "coop", ON_FARMS, "walked", WING, "corn");
pub(super) static DEER: Kind = kind("deer", "thicket", BURROWS, "walked", FOOT, "leaves");
pub(super) static CAT: Kind = kind("cat", "basket", ON_FARMS, "walked", PAW, "fish");

/// Animals that can be the hero or a friend.
pub(super) const HEROES: &[&Kind] = &[
    &RABBIT, &MOUSE, &FOX, &BEAR, &DUCK, &FROG, &SQUIRREL, &HEDGEHOG, &TURTLE, &KITTEN, &PUPPY, &PIG, &LAMB,
    &OTTER, &BADGER,
];

/// Grown-up animals that a young one meets and asks.
pub(super) const ELDERS: &[&Kind] = &[&OWL, &CROW, &ROBIN, &MOLE, &BEAVER, &HORSE, &COW, &GOAT, &DEER, &HEN];

const fn noun(one: &'static str, many: &'static str, adjectives: &'static [&'static str]) -> Noun {
    Noun { one, many, adjectives }
}

const COLORS: &[&str] =
    &["red", "blue", "green", "yellow", "orange", "purple", "pink", "white", "striped", "spotted"];
const METAL: &[&str] = &["shiny", "golden", "silver", "little", "old"];
const WOOD: &[&str] = &["wooden", "red", "blue", "green", "yellow", "little", "new"];
const SOFT: &[&str] = &["soft", "brown", "white", "fluffy", "old", "little", "gray"];

pub(super) static BALL: Noun = noun("ball", "balls", COLORS);
pub(super) static KITE: Noun = noun("kite", "kites", COLORS);
pub(super) static BALLOON: Noun = noun("balloon", "balloons", COLORS);
pub(super) static BOAT: Noun = noun("toy boat", "toy boats", WOOD);
pub(super) static HAT: Noun = noun("hat", "hats", COLORS);
pub(super) static SCARF: Noun = noun("scarf", "scarves", COLORS);
pub(super) static RIBBON: Noun = noun("ribbon", "ribbons", COLORS);
pub(super) static RING: Noun = noun("ring", "rings", METAL);
pub(super) static KEY: Noun = noun("key", "keys", METAL);
pub(super) static BELL: Noun = noun("bell", "bells", METAL);
pub(super) static COIN: Noun = noun("coin", "coins", METAL);
pub(super) static MARBLE: Noun = noun("marble", "marbles", COLORS);
pub(super) static BUTTON: Noun = noun("button", "buttons", COLORS);
pub(super) static DRUM: Noun = noun("drum", "drums", WOOD);
pub(super) static CAR: Noun = noun("toy car", "toy cars", WOOD);
pub(super) static TRAIN: Noun = noun("toy train", "toy trains", WOOD);
pub(super) static WHISTLE: Noun = noun("whistle", "whistles", METAL);
pub(super) static DOLL: Noun = noun("doll", "dolls", &["little", "soft", "new", "wooden", "old"]);
pub(super) static BEARTOY: Noun = noun("teddy bear", "teddy bears", SOFT);
pub(super) static BLANKET: Noun = noun("blanket", "blankets", COLORS);
pub(super) static BOOK: Noun = noun("book", "books", &["red", "blue", "green", "old", "new", "big"]);
pub(super) static BASKET: Noun = noun("basket", "baskets", &["little", "brown", "round", "yellow", "old"]);
pub(super) static BUCKET: Noun = noun("bucket", "buckets", COLORS);
pub(super) static UMBRELLA: Noun = noun("umbrella", "umbrellas", COLORS);
pub(super) static CUP: Noun = noun("cup", "cups", COLORS);
pub(super) static FLOWERPOT: Noun = noun("flower pot", "flower pots", COLORS);
pub(super) static SHELL: Noun = noun("shell", "shells", &["pink", "white", "smooth", "round", "shiny"]);
pub(super) static STONE: Noun =
    noun("stone", "stones", &["smooth", "round", "white", "shiny", "gray", "flat"]);
pub(super) static FEATHER: Noun =
    noun("feather", "feathers", &["blue", "white", "long", "soft", "gray", "black"]);
pub(super) static LANTERN: Noun = noun("lantern", "lanterns", &["little", "red", "old", "bright"]);

/// Toys and treasures that a child carries about.
pub(super) const TREASURES: &[&Noun] = &[
    &BALL, &KITE, &BOAT, &HAT, &SCARF, &RING, &BELL, &MARBLE, &DRUM, &CAR, &TRAIN, &WHISTLE, &DOLL, &BEARTOY,
    &BLANKET, &BOOK, &BUCKET, &UMBRELLA, &CUP, &SHELL, &STONE, &FEATHER, &BUTTON, &KEY, &COIN, &RIBBON,
    &BASKET,
];

const RIPE: &[&str] = &["red", "sweet", "ripe", "big", "juicy"];

pub(super) static APPLE: Noun = noun("apple", "apples", &["red", "green", "sweet", "big", "ripe"]);
pub(super) static PEAR: Noun = noun("pear", "pears", &["green", "yellow", "sweet", "juicy", "ripe"]);
pub(super) static PLUM: Noun = noun("plum", "plums", &["purple", "sweet", "ripe", "juicy"]);
pub(super) static PEACH: Noun = noun("peach", "peaches", &["soft", "sweet", "ripe", "juicy"]);
pub(super) static CARROT: Noun = noun("carrot", "carrots", &["orange", "long", "fresh", "big"]);
pub(super) static COOKIE: Noun = noun("cookie", "cookies", &["round", "warm", "sweet", "big"]);
pub(super) static BUN: Noun = noun("bun", "buns", &["warm", "soft", "sweet", "round"]);
pub(super) static MUFFIN: Noun = noun("muffin", "muffins", &["warm", "soft", "sweet", "little"]);
pub(super) static NUT: Noun = noun("nut", "nuts", &["brown", "big", "round"]);
pub(super) static BERRY: Noun = noun("berry", "berries", RIPE);
pub(super) static STRAWBERRY: Noun = noun("strawberry", "strawberries", RIPE);
pub(super) static CHERRY: Noun = noun("cherry", "cherries", RIPE);
pub(super) static PANCAKE: Noun = noun("pancake", "pancakes", &["warm", "round", "thin", "sweet"]);
pub(super) static SANDWICH: Noun = noun("sandwich", "sandwiches", &["cheese", "big", "fresh", "egg"]);

/// Treats that can be counted and shared.
pub(super) const TREATS: &[&Noun] = &[
    &APPLE,
    &PEAR,
    &PLUM,
    &PEACH,
    &CARROT,
    &COOKIE,
    &BUN,
    &MUFFIN,
    &NUT,
    &BERRY,
    &STRAWBERRY,
    &CHERRY,
    &PANCAKE,
];

/// Food for the road.
pub(super) const SNACKS: &[&Noun] =
    &[&APPLE, &PEAR, &PLUM, &PEACH, &CARROT, &COOKIE, &BUN, &MUFFIN, &SANDWICH, &PANCAKE];

static BUTTERFLY: Noun = noun("butterfly", "butterflies", COLORS);
static BEE: Noun = noun("bee", "bees", &["busy"]);
static SNAIL: Noun = noun("snail", "snails", &["slow"]);
static LADYBUG: Noun = noun("ladybug", "ladybugs", &["red"]);
static PIGEON: Noun = noun("pigeon", "pigeons", &["gray"]);
static CRAB: Noun = noun("crab", "crabs", &["red"]);
static GULL: Noun = noun("gull", "gulls", &["white"]);
static SAIL: Noun = noun("sailboat", "sailboats", &["white"]);
static WOODPECKER: Noun = noun("woodpecker", "woodpeckers", &["busy"]);
static BLUEBIRD: Noun = noun("bluebird", "bluebirds", &["little"]);
static MUSHROOM: Noun = noun("mushroom", "mushrooms", &["red"]);
static GRASSHOPPER: Noun = noun("grasshopper", "grasshoppers", &["green"]);
static COWS: Noun = noun("cow", "cows", &["brown"]);
static HENS: Noun = noun("hen", "hens", &["brown"]);
static GEESE: Noun = noun("goose", "geese", &["white"]);
static SWAN: Noun = noun("swan", "swans", &["white"]);
static DRAGONFLY: Noun = noun("dragonfly", "dragonflies", &["blue"]);
static CLOUD: Noun = noun("cloud", "clouds", &["white"]);
static LILY: Noun = noun("water lily", "water lilies", &["white"]);

static GARDEN: Place = Place {
    noun: "garden",
    within: "in the garden",
    to: "to the garden",
    spots: &[
        "under a rose bush",
        "behind the watering can",
        "beside the gate",
        "next to the bean plants",
        "on the bench",
    ],
    sights: &[&BUTTERFLY, &BEE, &SNAIL, &LADYBUG],
};
static PARK: Place = Place {
    noun: "park",
    within: "in the park",
    to: "to the park",
    spots: &["under a bench", "behind the slide", "by the swings", "next to the fountain"],
    sights: &[&PIGEON, &BUTTERFLY, &BALLOON],
};
pub(super) static BEACH: Place = Place {
    noun: "beach",
    within: "on the beach",
    to: "to the beach",
    spots: &["behind a sand castle", "under an old boat", "next to a big shell", "beside a flat rock"],
    sights: &[&CRAB, &GULL, &SAIL],
};
pub(super) static FOREST: Place = Place {
    noun: "forest",
    within: "in the forest",
    to: "to the forest",
    spots: &["under a fern", "behind a mossy log", "at the foot of a tall tree", "next to a mushroom"],
    sights: &[&WOODPECKER, &BLUEBIRD, &MUSHROOM],
};
pub(super) static MEADOW: Place = Place {
    noun: "meadow",
    within: "in the meadow",
    to: "to the meadow",
    spots: &["in the tall grass", "beside a round stone", "under a daisy", "next to an old fence"],
    sights: &[&BUTTERFLY, &GRASSHOPPER, &COWS, &BEE],
};
static FARM: Place = Place {
    noun: "farm",
    within: "on the farm",
    to: "to the farm",
    spots: &["behind the barn", "under the cart", "next to the hen house", "on a pile of hay"],
    sights: &[&COWS, &HENS, &GEESE],
};
pub(super) static RIVER: Place = Place {
    noun: "river",
    within: "by the river",
    to: "to the river",
    spots: &["under the bridge", "on a flat stone", "behind the reeds", "beside an old log"],
    sights: &[&SWAN, &DRAGONFLY, &GEESE],
};
static HILL: Place = Place {
    noun: "hill",
    within: "on the hill",
    to: "up the hill",
    spots: &["behind a round rock", "under the apple tree", "beside the path", "in the soft moss"],
    sights: &[&CLOUD, &KITE, &BLUEBIRD],
};
pub(super) static POND: Place = Place {
    noun: "pond",
    within: "by the pond",
    to: "to the pond",
    spots: &["among the reeds", "under a willow tree", "beside a log", "next to a gray stone"],
    sights: &[&DRAGONFLY, &LILY, &GEESE],
};

/// Where children go.
pub(super) const VILLAGE_PLACES: &[&Place] =
    &[&GARDEN, &PARK, &BEACH, &FOREST, &MEADOW, &FARM, &RIVER, &HILL, &POND];

/// Where animals go.
pub(super) const FOREST_PLACES: &[&Place] = &[&FOREST, &MEADOW, &RIVER, &HILL, &POND];

/// Where a small thing can be at home: not where it was left.
pub(super) const INDOORS: &[&str] = &[
    "under the bed",
    "behind the door",
    "under the table",
    "behind the big chair",
    "on the shelf",
    "under the pillow",
    "in the corner",
    "in the cupboard",
];

pub(super) static FIREFLY: Kind = kind("firefly", "leaf", IN_TREES, "flew", WING, "dew");
