//! Generated text through embedded-io's writers is the text that `Display` gives, whole or cut off where a
//! writer fails.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use smidgen_runtime::{
    Finish, Generate, Memory, Model, Sampler, SamplerOptions, Session, SessionOptions, include_model,
    memory_needed,
};

static FILE: &[u8] = include_model!("../../examples/models/stories.smidgen");
const OPTIONS: SessionOptions = SessionOptions::new(64);
const BYTES: usize = memory_needed(FILE, OPTIONS);

/// Any text, so that tokens of single bytes come, too.
const WILD: SamplerOptions = SamplerOptions {
    temperature: 2.0,
    top_p: 1.0,
    top_k: 0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    repeat_last: 0,
};

fn with_generate<T>(seed: u64, run: impl FnOnce(&mut Generate<'_, '_>) -> T) -> T {
    let model = Model::load(FILE).unwrap();
    let mut memory = Box::new(Memory::<BYTES>::new());
    let mut session = Session::new(&model, &mut *memory, OPTIONS).unwrap();
    session.prompt("Once upon a time").unwrap();
    let mut sampler = Sampler::new(WILD, seed).unwrap();
    run(&mut session.generate(&mut sampler))
}

/// A loop around the iterator.
fn displayed(seed: u64, tokens: usize) -> (String, usize) {
    with_generate(seed, |generate| {
        let pieces: Vec<String> = generate.by_ref().take(tokens).map(|token| token.to_string()).collect();
        (pieces.concat() + &generate.flush().to_string(), pieces.len())
    })
}

fn written(seed: u64, tokens: usize, room: usize) -> (Result<usize, embedded_io::SliceWriteError>, String) {
    let mut place = vec![0_u8; room];
    with_generate(seed, |generate| {
        let mut rest = &mut place[..];
        let result = generate.write_to(&mut rest, tokens);
        let left = rest.len();
        (result, String::from_utf8_lossy(&place[..room - left]).into_owned())
    })
}

/// These writers never wait.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn writers_take_the_text_that_is_displayed() {
    let mut replaced = 0;
    for seed in 0..30 {
        for tokens in [0, 1, 40] {
            let (text, n) = displayed(seed, tokens);
            let (result, blocking) = written(seed, tokens, 10_000);
            assert_eq!((result, &blocking), (Ok(n), &text), "seed {seed}");
            let mut place = [0_u8; 10_000];
            let (count, left) = with_generate(seed, |generate| {
                let mut rest = &mut place[..];
                let count = now(generate.write_to_async(&mut rest, tokens));
                (count, rest.len())
            });
            let end = place.len() - left;
            assert_eq!((count, &place[..end]), (Ok(n), text.as_bytes()), "seed {seed}");
            replaced += text.matches('\u{fffd}').count();
        }
    }
    // Otherwise this has not seen what it is here for.
    assert!(replaced > 0);
}

#[test]
fn the_end_of_the_context_ends_the_text_and_is_told() {
    with_generate(1, |generate| {
        let mut place = [0_u8; 10_000];
        let n = generate.write_to(&mut &mut place[..], usize::MAX).unwrap();
        assert!(n < 64);
        assert!(matches!(generate.finish(), Some(Finish::ContextFull | Finish::EndOfText)));
        assert_eq!(generate.write_to(&mut &mut place[..], 5), Ok(0));
    });
}

#[test]
fn a_writer_that_fails_ends_it() {
    let (text, _) = displayed(3, 40);
    for room in 0..text.len() {
        let (result, begin) = written(3, 40, room);
        assert_eq!(result, Err(embedded_io::SliceWriteError::Full), "{room}");
        assert!(text.starts_with(&begin), "{begin:?}");
    }
}
