use super::plots::{PLOTS, Plot};
use super::tale::Tale;
use super::{Stories, WORDS, text};
use crate::rng::Rng;
use std::collections::HashSet;

/// FNV-1a, 64 bits, of the first thousand stories of seed 0, a line break after each. A change
/// here changes every corpus: it must be meant.
const FIRST_THOUSAND: u64 = 0xc9bb_4654_6edc_05ce;

const NUMBERS: [&str; 21] = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Words without punctuation, in lower case.
fn words(story: &str) -> impl Iterator<Item = String> + '_ {
    story
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}

fn number(word: &str) -> Option<usize> {
    NUMBERS.iter().position(|n| word.eq_ignore_ascii_case(n))
}

/// Tells plot `plot` with draws for `index`, and shows the text and the final state to `check`.
fn tell_plot(plot: Plot, index: u64, check: impl FnOnce(&str, &Tale<'_>)) {
    let mut rng = Rng::at(99, index);
    let mut out = String::new();
    let mut tale = Tale::new(&mut out, &mut rng);
    plot(&mut tale);
    let told = tale.out.clone();
    check(&told, &tale);
}

fn plot_of(wanted: &str) -> Plot {
    PLOTS.iter().find(|(name, _)| *name == wanted).expect("a plot of that name").1
}

#[test]
fn same_text_on_every_machine() {
    let mut all = String::new();
    let mut stories = Stories::new(0);
    for _ in 0..1000 {
        stories.tell(&mut all);
        all.push('\n');
    }
    assert_eq!(fnv(all.as_bytes()), FIRST_THOUSAND, "{:#018x}", fnv(all.as_bytes()));
}

#[test]
fn starts_anywhere() {
    let from_start: Vec<String> = Stories::new(5).skip(40).take(3).collect();
    let at_once: Vec<String> = Stories::starting_at(5, 40).take(3).collect();
    assert_eq!(from_start, at_once);
    assert_ne!(Stories::new(5).next(), Stories::new(6).next());
}

#[test]
fn text_stops_after_the_bytes_asked_for() {
    let told: Vec<String> = text(1, 10_000).collect();
    let bytes: usize = told.iter().map(String::len).sum();
    let without_last = bytes - told.last().map_or(0, String::len);
    assert!(without_last < 10_000 && bytes >= 10_000, "{without_last} {bytes}");
}

/// What a proofreader would mark, in any story.
fn faults(story: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: &str| faults.push(what.to_owned());
    if !story.is_ascii() || story.bytes().any(|b| b < b' ') {
        fault("not plain ASCII in one paragraph");
    }
    for mark in ["  ", " .", " ,", " !", " ?", "..", ",.", "!.", "?.", ".,", "!,", "?,", "\",", "\"."] {
        if story.contains(mark) {
            fault(mark);
        }
    }
    if let Some(mark) = story.chars().find(|c| "{}[]|<>_*".contains(*c)) {
        fault(&format!("unfinished pattern: {mark}"));
    }
    if !story.trim_start_matches('"').starts_with(|c: char| c.is_ascii_uppercase()) {
        fault("no capital at the start");
    }
    if !story.ends_with(['.', '!', '?', '"']) {
        fault("no end");
    }
    // Quotation marks open after a space and close before one, in turn.
    let bytes = story.as_bytes();
    let mut open = false;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != b'"' {
            continue;
        }
        if open {
            if !matches!(bytes[at - 1], b'.' | b',' | b'!' | b'?') && !story[..at].ends_with("too small") {
                fault("a quotation that does not end in punctuation");
            }
            if bytes.get(at + 1).is_some_and(|next| *next != b' ') {
                fault("no space after a quotation");
            }
        } else if at > 0 && bytes[at - 1] != b' ' {
            fault("no space before a quotation");
        }
        open = !open;
    }
    if open {
        fault("a quotation that never ends");
    }
    let (mut ended, mut may_end) = (true, false);
    for word in story.split(' ') {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
        if ended && !word.trim_start_matches('"').starts_with(|c: char| c.is_ascii_uppercase()) {
            fault(&format!("a sentence begins with {word}"));
        }
        if !(ended || may_end)
            && ["Then", "The", "It", "They", "He", "She", "And", "But", "There", "That", "When", "What", "On"]
                .contains(&word)
        {
            fault(&format!("no full stop before {word}"));
        }
        if bare.is_empty() {
            fault(&format!("not a word: {word}"));
        }
        // After "!" or "?" inside a quotation the sentence may go on: "Oh no!" cried Tom.
        ended = word.ends_with(['.', '!', '?']) || word.ends_with(".\"");
        may_end = word.ends_with("!\"") || word.ends_with("?\"") || word.ends_with(':');
    }
    let list: Vec<&str> = story.split(' ').collect();
    for pair in list.windows(2) {
        let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u']);
        match pair[0].trim_start_matches('"') {
            "a" | "A" if vowel => fault(&format!("a {}", pair[1])),
            "an" | "An" if !vowel && !pair[1].starts_with("hour") => fault(&format!("an {}", pair[1])),
            first if first.eq_ignore_ascii_case(pair[1]) && !first.ends_with(',') => {
                fault(&format!("twice: {first}"));
            }
            _ => {}
        }
    }
    for wrong in ["was were", "one apples", " a some ", " the the ", "named .", "n't"] {
        if story.contains(wrong) {
            fault(wrong);
        }
    }
    faults
}

#[test]
fn a_proofreader_finds_nothing() {
    for (index, story) in Stories::new(1).take(12_000).enumerate() {
        let faults = faults(&story);
        assert!(faults.is_empty(), "story {index}: {faults:?}\n{story}");
        let count = story.split(' ').count();
        assert!(WORDS.contains(&count), "story {index}: {count} words");
    }
}

#[test]
fn the_proofreader_can_read() {
    let wrong = [
        "a man came.",
        "A man  came.",
        "A apple fell.",
        "An bear came.",
        "He said, \"Yes.",
        "A man came",
        "A {h} came.",
        "It fell. then it lay.",
        "It fell Then it lay.",
        "The the man came.",
        "\"Yes\" he said.",
    ];
    for story in wrong {
        assert!(!faults(story).is_empty(), "{story}");
    }
    assert_eq!(faults("\"Oh no!\" cried Tom. \"An apple fell.\" It lay."), [""; 0]);
}

#[test]
fn every_plot_fits() {
    for (name, plot) in PLOTS {
        let fits = (0..300)
            .filter(|index| {
                let mut fits = false;
                tell_plot(*plot, *index, |story, _| fits = WORDS.contains(&story.split(' ').count()));
                fits
            })
            .count();
        assert!(fits > 270, "{name}: {fits} of 300 are 60 to 200 words long");
    }
}

#[test]
fn he_and_she_are_who_they_are() {
    // The snowman is a he that is nobody's role.
    for (name, plot) in PLOTS.iter().filter(|(name, _)| *name != "snowman") {
        for index in 0..300 {
            tell_plot(*plot, index, |story, tale| {
                let cast: Vec<bool> = tale.mentioned().map(|person| person.she).collect();
                for word in words(story) {
                    let she = match word.as_str() {
                        "he" | "him" | "his" | "himself" => false,
                        "she" | "her" | "herself" | "hers" => true,
                        _ => continue,
                    };
                    // The lost little one's mother and the old woman are nobody's role.
                    let other = story.contains("mother")
                        || story.contains("old woman")
                        || story.contains("lost his")
                        || story.contains("lost her");
                    assert!(other || cast.contains(&she), "{name}: nobody is {word}\n{story}");
                }
            });
        }
    }
}

#[test]
fn what_is_lost_is_what_is_found() {
    for index in 0..500 {
        tell_plot(plot_of("lost"), index, |story, tale| {
            let thing = format!("{} {}", tale.o.adjective, tale.o.noun.one);
            let first = story.find(&thing).expect("the thing is presented");
            let last = story.rfind(&thing).expect("the thing is found");
            assert!(first < last, "{story}");
            let (put, found) = (story.find(tale.s), story.rfind(tale.s));
            assert!(put < found && put.is_some(), "{story}");
            assert!(![tale.t, tale.u].contains(&tale.s), "{story}");
        });
    }
}

#[test]
fn the_way_back_is_the_way_there_turned_around() {
    for index in 0..300 {
        tell_plot(plot_of("way_home"), index, |story, tale| {
            let there = (story.find(tale.s), story.find(tale.t));
            let back = (story.rfind(&format!("the {}", tale.s)), story.rfind(&format!("the {}", tale.t)));
            assert!(there.0 < there.1 && back.0 > back.1, "{story}");
        });
    }
}

#[test]
fn numbers_add_up() {
    let mut sums = 0;
    for story in Stories::new(2).take(12_000) {
        let list: Vec<String> = words(&story).collect();
        for five in list.windows(5) {
            let [a, and, b, make, sum] = five else { continue };
            if and == "and"
                && make == "make"
                && let (Some(a), Some(b), Some(sum)) = (number(a), number(b), number(sum))
            {
                assert_eq!(a + b, sum, "{story}");
                sums += 1;
            }
        }
        // The market: so many coins, two prices, what is left.
        if story.contains("go to the market") {
            let coins: Vec<usize> = list
                .windows(2)
                .filter(|two| two[1] == "coins" || two[1] == "coin")
                .filter_map(|two| number(&two[0]))
                .collect();
            let costs: Vec<usize> =
                list.windows(2).filter(|two| two[0] == "cost").filter_map(|two| number(&two[1])).collect();
            assert_eq!(coins[0], costs[0] + costs[1] + coins[coins.len() - 1], "{story}");
            sums += 1;
        }
    }
    assert!(sums > 500, "only {sums} sums");
}

#[test]
fn stories_differ() {
    let mut seen = HashSet::new();
    let mut vocabulary = HashSet::new();
    let mut openings = HashSet::new();
    let n = 20_000;
    for story in Stories::new(3).take(n) {
        openings.insert(story.split(' ').take(12).collect::<Vec<_>>().join(" "));
        vocabulary.extend(words(&story));
        seen.insert(fnv(story.as_bytes()));
    }
    assert!(n - seen.len() <= 3, "{} duplicates", n - seen.len());
    assert!((1_000..1_600).contains(&vocabulary.len()), "{} words", vocabulary.len());
    assert!(openings.len() > n / 4, "{} openings", openings.len());
}
