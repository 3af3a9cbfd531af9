//! How fast text is encoded, with and without remembering words; `benches/compare/run_tokenizers.py` runs it
//! in turn with `tiktoken` and Hugging Face's `tokenizers`.
//!
//! ```text
//! cargo run --release -p smidgen-converter --example tokenizer_speed -- TOKENIZER TEXT [MEGABYTES [RUNS]]
//! ```
//! One thread, the median of the runs (5) behind one that warms up; every line of the text is encoded by
//! itself, as the peers do. Prints a line of JSON for each way. `tokenizer_curve` has texts that are hard
//! on purpose.

use std::path::Path;
use std::time::Instant;

use smidgen_converter::tokenizer;
use smidgen_runtime::tokenizer::{CachedEncoder, OwnedTokenizer, Special, scratch_words};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tokenizer_path, text_path, rest @ ..] = &arguments[..] else {
        eprintln!("usage: tokenizer_speed TOKENIZER TEXT [MEGABYTES [RUNS]]");
        std::process::exit(2);
    };
    let number = |at: usize, default| rest.get(at).and_then(|number| number.parse().ok()).unwrap_or(default);
    let (megabytes, runs): (usize, usize) = (number(0, 10), number(1, 5));
    let spec = tokenizer::open(Path::new(tokenizer_path)).unwrap_or_else(|error| panic!("{error}"));
    let owned = OwnedTokenizer::build(&spec).unwrap_or_else(|error| panic!("{error}"));
    let tokenizer = owned.tokenizer();
    let text = std::fs::read_to_string(text_path).unwrap_or_else(|error| panic!("{text_path}: {error}"));
    let text = &text[..text.floor_char_boundary(megabytes << 20)];
    let longest = text.split_inclusive('\n').map(str::len).max().unwrap_or(0);
    let mut scratch = vec![0; 2 * scratch_words(longest + 1)];

    let mut count = 0;
    report("without an allocator", text.len(), runs, || {
        count = 0;
        for line in text.split_inclusive('\n') {
            tokenizer.encode_each(line, Special::Plain, false, &mut scratch, |_| count += 1).expect("room");
        }
        count
    });
    let mut ids = Vec::new();
    report("remembering words", text.len(), runs, || {
        let mut encoder = CachedEncoder::new(tokenizer);
        ids.clear();
        for line in text.split_inclusive('\n') {
            encoder.encode(line, Special::Plain, false, &mut ids).expect("encodes");
        }
        ids.len()
    });
    assert_eq!(ids.len(), count);
}

/// The median of the runs.
fn report(name: &str, bytes: usize, runs: usize, mut run: impl FnMut() -> usize) {
    let mut tokens = run();
    let mut seconds: Vec<f64> = (0..runs.max(1))
        .map(|_| {
            let start = Instant::now();
            tokens = run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let rate = bytes as f64 / seconds[seconds.len() / 2] / 1e6;
    println!(r#"{{"name": "{name}", "mb_s": {rate:.2}, "tokens": {tokens}}}"#);
}
