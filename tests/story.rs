//! The published 260K-parameter story model, from llama2.c's checkpoint to text: what others got
//! from it is what we get, and what eight bits cost is known.

mod common;

use std::io::Cursor;

use common::{Aligned, shared_data};
use smidgen_converter::convert::{ConvertOptions, write};
use smidgen_converter::{TokenizerChoice, open};
use smidgen_runtime::format::DType;
use smidgen_runtime::{Finish, KvType, Model, Sampler, SamplerOptions, Session, SessionOptions};

/// The checkpoint as a model file; `None`, said loudly, if it is not there.
fn stories(dtype: DType) -> Option<Aligned> {
    let path = shared_data("llama2c/stories260K.bin")?;
    let tokenizer = TokenizerChoice::From(shared_data("llama2c/tok512.bin")?);
    let checkpoint = open(&path, &tokenizer).expect("the checkpoint is readable");
    let mut sink = Cursor::new(Vec::new());
    write(&checkpoint, &mut sink, &path, &ConvertOptions::new(dtype), |_| {}).expect("it converts");
    Some(Aligned::new(&sink.into_inner()))
}

/// The bytes that any session over the model's whole context needs, and to spare.
fn memory() -> Vec<u8> {
    vec![0; 4 << 20]
}

#[test]
fn the_greedy_story_is_the_published_one() {
    let (Some(file), Some(page)) = (stories(DType::F32), shared_data("llama2c/stories260K.md")) else {
        return;
    };
    // The first block of the page that shows a run at temperature 0: a command, then its output.
    let page = std::fs::read_to_string(page).expect("the page is text");
    let (_, block) = page.split_once("-t 0.0\n").expect("the page shows a greedy run");
    let (want, _) = block.split_once("\n```").expect("the block ends");
    assert!(want.starts_with("Once upon a time") && want.ends_with("We can help you."), "{want}");

    let model = Model::load(&file).expect("a file just written");
    let mut memory = memory();
    let mut session = Session::new(&model, &mut memory, SessionOptions::new(512)).unwrap();
    let begin = model.tokenizer().and_then(|tokenizer| tokenizer.bos()).expect("it has one");
    session.feed(&[begin]).unwrap();
    let mut sampler = Sampler::greedy();
    let mut generated = session.generate(&mut sampler);
    // The published run stopped after 256 places, the first of them the begin of the text.
    let text: String = generated.by_ref().take(256).map(|token| token.to_string()).collect();
    assert_ne!(generated.finish(), Some(Finish::ContextFull));
    assert_eq!(text.trim_end(), want);
}

/// Sequences of tokens that the model draws at temperature 1, all of its vocabulary allowed.
fn draw(model: &Model<'_>, tokens: usize) -> Vec<Vec<u32>> {
    let options = SamplerOptions { temperature: 1.0, top_p: 1.0, ..SamplerOptions::default() };
    let tokenizer = model.tokenizer().expect("it has one");
    let begin = tokenizer.bos().expect("it has one");
    let mut sequences = Vec::new();
    let mut left = tokens;
    for seed in 0.. {
        let mut memory = memory();
        let mut session = Session::new(model, &mut memory, SessionOptions::new(512)).unwrap();
        let mut sampler = Sampler::new(options, seed).unwrap();
        let mut sequence = vec![begin];
        session.step(begin).unwrap();
        while left > 0 && sequence.len() < 500 {
            let token = session.sample(&mut sampler).unwrap();
            sequence.push(token);
            left -= 1;
            if tokenizer.is_end(token) || token == begin {
                break;
            }
            session.step(token).unwrap();
        }
        sequences.push(sequence);
        if left == 0 {
            break;
        }
    }
    sequences
}

/// Mean loss in nats over every token but the first of each sequence.
fn loss(model: &Model<'_>, kv_type: KvType, sequences: &[Vec<u32>]) -> f64 {
    let options = SessionOptions { kv_type: Some(kv_type), ..SessionOptions::new(512) };
    let (mut sum, mut n) = (0.0, 0);
    for sequence in sequences {
        let mut memory = memory();
        let mut session = Session::new(model, &mut memory, options).unwrap();
        for pair in sequence.windows(2) {
            let logits = session.step(pair[0]).unwrap();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
            sum += total.ln() - f64::from(logits[pair[1] as usize] - max);
            n += 1;
        }
    }
    sum / f64::from(n)
}

/// Losses are compared token by token on the same text, and still 2,000 tokens tell the mean
/// difference only to ±0.002 (one standard error): hence 20,000, which tell it to ±0.0007.
#[test]
fn what_eight_bits_cost_is_bounded() {
    let (Some(exact), Some(small)) = (stories(DType::F32), stories(DType::Q8)) else { return };
    let exact = Model::load(&exact).expect("a file just written");
    let small = Model::load(&small).expect("a file just written");
    let sequences = draw(&exact, 20_000);
    assert_eq!(sequences.iter().map(|s| s.len() - 1).sum::<usize>(), 20_000);
    let base = loss(&exact, KvType::F32, &sequences);
    let weights = loss(&small, KvType::F32, &sequences) - base;
    let both = loss(&small, KvType::Q8, &sequences) - base;
    println!("f32 {base:.4} nats; q8 weights {weights:+.4}; and q8 keys and values {both:+.4}");
    // A model knows its own text: its loss there is its entropy, far from both zero and chance.
    assert!((0.8..2.0).contains(&base), "{base}");
    // Measured +0.0016.
    assert!(weights.abs() < 0.005, "{weights}");
    // Measured +0.0037.
    assert!(both.abs() < 0.005, "{both}");
}
