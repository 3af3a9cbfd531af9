//! How the time of a byte grows with a text that is hard on purpose: no space to cut at, one letter
//! again and again, marks without a letter, the beginning of a special token. Linear time is a flat row, n log n one that rises a little.
//!
//! ```text
//! cargo run --release -p smidgen-converter --example tokenizer_curve -- TOKENIZER…
//! ```
//! Prints rows of a Markdown table: nanoseconds a byte, the best of three, by the runtime's own path
//! (no cache) with memory allotted before.

use std::path::Path;
use std::time::Instant;

use smidgen_converter::tokenizer;
use smidgen_runtime::tokenizer::{OwnedTokenizer, Special, Tokenizer};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() {
    println!("| tokenizer | text | {} |", SIZES.map(|size| format!("{} kB", size / 1000)).join(" | "));
    println!("|---|---|{}", "---|".repeat(SIZES.len()));
    for path in std::env::args().skip(1) {
        let spec = tokenizer::open(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
        let owned = OwnedTokenizer::build(&spec).unwrap_or_else(|error| panic!("{error}"));
        let tokenizer = owned.tokenizer();
        let called = path.rsplit("tok/").next().unwrap_or(&path);
        // The longest word that WordPiece looks up, of a letter that is a token and goes on with others.
        let word = "a".repeat(100) + " ";
        for (name, pattern) in [
            ("one letter", "a"),
            ("the alphabet", "abcdefghijklmnopqrstuvwxyz"),
            ("words of 100 letters", &word),
            ("spaces", " "),
            ("line ends", "\n"),
            ("digits", "7"),
            ("what special tokens begin with", "<"),
            ("Korean without a space", "안녕하세요대한민국"),
            ("two marks in turn", "\u{301}\u{323}"),
            ("emoji with joiners", "👨\u{200d}👩\u{200d}👧"),
        ] {
            let cells = SIZES.map(|size| format!("{:.0}", nanoseconds(&tokenizer, pattern, size)));
            println!("| {called} | {name} | {} |", cells.join(" | "));
        }
    }
}

/// Nanoseconds a byte of `size` bytes of `pattern` again and again.
fn nanoseconds(tokenizer: &Tokenizer<'_>, pattern: &str, size: usize) -> f64 {
    let text = pattern.repeat(size / pattern.len());
    let mut scratch = vec![0; 200 + 6 * text.len()];
    let mut run = || {
        let start = Instant::now();
        let mut tokens = 0;
        tokenizer.encode_each(&text, Special::Plain, false, &mut scratch, |_| tokens += 1).expect("room");
        std::hint::black_box(tokens);
        start.elapsed().as_nanos() as f64 / text.len() as f64
    };
    (0..3).map(|_| run()).fold(f64::INFINITY, f64::min)
}
