//! Byte-level vocabularies give back every text to the byte; streams give what whole texts give; and
//! neither way allocates. Tokenizers and texts are read from `../shared/data`, skipped where absent.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use smidgen_converter::tokenizer;
use smidgen_runtime::tokenizer::{Decoder, Normalizer, OwnedTokenizer, Special, Tokenizer, TokenizerKind};

/// The system's allocator, counting each thread's calls.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent", path.display());
    None
}

/// The tokenizers that are there.
fn tokenizers(names: &[&str]) -> Vec<OwnedTokenizer> {
    let open = |path: PathBuf| OwnedTokenizer::build(&tokenizer::open(&path).unwrap()).unwrap();
    names.iter().filter_map(|name| data(name)).map(open).collect()
}

const ALL: [&str; 6] = [
    "tok/gpt2/tokenizer.json",
    "tok/smollm",
    "tok/qwen2",
    "tok/llama_tokenizer.json",
    "llama2c/tok512.bin",
    "tok/bert-base-uncased_vocab.txt",
];

/// Memory from the caller, enough for a text.
struct Memory {
    ids: Vec<u32>,
    scratch: Vec<u32>,
}

impl Memory {
    fn of(text: &str) -> Self {
        Self { ids: vec![0; 2 * text.len() + 2], scratch: vec![0; 200 + 8 * (text.len() + 1)] }
    }

    fn encode(&mut self, tokenizer: &Tokenizer<'_>, text: &str) -> &[u32] {
        let n = tokenizer.encode(text, Special::Plain, false, &mut self.ids, &mut self.scratch).unwrap();
        &self.ids[..n]
    }
}

/// Hostile texts, and every code point that is a character, in order and with space between.
fn texts() -> Vec<String> {
    let files = ["text/UTF-8-test_kuhn.txt", "text/blns.txt", "text/ko_constitution.txt"];
    let read = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let mut texts: Vec<String> = files.into_iter().filter_map(data).map(read).collect();
    texts.push(('\0'..=char::MAX).collect());
    texts.push(('\0'..=char::MAX).flat_map(|c| [c, ' ', 'x']).collect());
    texts
}

#[test]
fn byte_level_gives_every_text_back() {
    // Qwen 2's normalizer changes texts on purpose: what comes back is the text in NFC.
    for owned in tokenizers(&["tok/gpt2/tokenizer.json", "tok/smollm", "llmc/gpt2_tokenizer_poro.bin"]) {
        let tokenizer = owned.tokenizer();
        assert_eq!(
            (tokenizer.kind(), tokenizer.normalizer()),
            (TokenizerKind::ByteLevelBpe, Normalizer::None)
        );
        // SmolLM's vocabulary has not every byte: it was trained without, and drops what it lacks.
        let has_all = (0..=u8::MAX).all(|byte| tokenizer.find(&[byte]).is_some());
        let kept = |text: &str| -> Vec<u8> {
            text.bytes().filter(|byte| has_all || tokenizer.find(&[*byte]).is_some()).collect()
        };
        for text in texts() {
            let mut memory = Memory::of(&text);
            let ids = memory.encode(&tokenizer, &text);
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.bytes(id)).copied().collect();
            assert!(bytes == kept(&text), "{:?}…", &text[..text.floor_char_boundary(40)]);
            if has_all {
                let mut decoder = Decoder::new();
                let mut streamed = String::new();
                ids.iter().for_each(|&id| decoder.push(&tokenizer, id).for_each_str(|part| streamed += part));
                decoder.finish().for_each_str(|part| streamed += part);
                assert!(streamed == text);
            }
        }
    }
}

/// Streams of any ids are whole texts, but for SentencePiece's broken runs of byte tokens.
#[test]
fn streams_are_whole_texts() {
    for owned in tokenizers(&ALL) {
        let tokenizer = owned.tokenizer();
        let mut state = 1u64;
        let mut next = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % u64::from(below)) as u32
        };
        let mut compared = 0;
        for _ in 0..20_000 {
            let below = if next(2) == 0 { tokenizer.n_tokens() } else { tokenizer.n_tokens().min(300) };
            let ids: Vec<u32> = (0..next(12)).map(|_| next(below)).collect();
            let mut whole = String::new();
            tokenizer.decode_each(&ids, |part| whole += part);
            let mut decoder = Decoder::new();
            let mut streamed = String::new();
            for &id in &ids {
                decoder.push(&tokenizer, id).for_each_str(|part| streamed += part);
            }
            decoder.finish().for_each_str(|part| streamed += part);
            if tokenizer.kind() == TokenizerKind::SentencePieceBpe && whole.contains('\u{fffd}') {
                assert!(streamed.contains('\u{fffd}'), "{ids:?}");
            } else {
                assert_eq!(streamed, whole, "{ids:?}");
                compared += 1;
            }
        }
        assert!(compared > 5000, "only {compared}");
    }
}

#[test]
fn nothing_is_allocated() {
    let text =
        "Once upon a time, naïve cafe\u{301} 12345 한국어 漢字 \u{1f468}\u{200d}\u{1f469} <|endoftext|>\n\n";
    let text = text.repeat(20) + &"a".repeat(500) + &"\u{301}\u{323}".repeat(200);
    let mut memory = Memory::of(&text);
    let tables = tokenizers(&ALL);
    for owned in &tables {
        let before = calls();
        // From the tables as they lie in a file: load, encode and decode.
        let tokenizer = Tokenizer::new(owned.data()).unwrap();
        let mut bytes = 0;
        for special in [Special::Plain, Special::Parsed] {
            let n = tokenizer
                .encode(&text, special, true, &mut memory.ids, &mut memory.scratch)
                .expect("there is room");
            let ids = &memory.ids[..n];
            let mut decoder = Decoder::new();
            for &id in ids {
                decoder.push(&tokenizer, id).for_each_str(|part| bytes += part.len());
            }
            decoder.finish().for_each_str(|part| bytes += part.len());
            tokenizer.decode_each(ids, |part| bytes += part.len());
        }
        assert_eq!(calls() - before, 0);
        assert!(bytes > 4000, "{bytes}");
    }
    let before = calls();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(calls() - before, 1, "the counter counts");
}

/// What a tokenizer takes in the model file, in bytes a token.
#[test]
fn tables_are_small() {
    for (name, tables, text) in [
        ("tok/gpt2/tokenizer.json", 9.27, 6.39),
        ("tok/llama_tokenizer.json", 12.25, 5.52),
        ("tok/bert-base-uncased_vocab.txt", 8.26, 6.59),
    ] {
        let Some(path) = data(name) else { continue };
        let owned = OwnedTokenizer::build(&tokenizer::open(&path).unwrap()).unwrap();
        let data = owned.data();
        let all = [
            data.offsets,
            data.index,
            data.byte_tokens,
            data.types,
            data.left_len,
            data.ranks,
            data.extra_merges,
            data.scores,
            data.added,
            data.end_tokens,
        ];
        let per_token = |bytes: usize| bytes as f64 / f64::from(data.n_tokens);
        let found = (per_token(all.iter().map(|table| table.len()).sum()), per_token(data.text.len()));
        println!("{name}: {:.2} bytes a token besides {:.2} of text", found.0, found.1);
        assert!(found.0 <= tables && found.1 <= text, "{name}: {found:?}");
    }
}
