//! Sessions that keep candidates instead of all logits: the same stories, in less memory.

mod common;

use common::{AlignedBytes, gpt2, llama, model};
use smidgen_runtime::format::DType;
use smidgen_runtime::stream::{self, Region, StreamModel, StreamOptions, least_buffer};
use smidgen_runtime::{
    Layout, Level, Model, Pool, SampleError, Sampler, SamplerOptions, Serial, Session, SessionOptions,
    Workers, memory_needed,
};

fn options() -> Vec<SamplerOptions> {
    let base = SamplerOptions::default();
    vec![
        SamplerOptions { temperature: 0.0, repeat_penalty: 1.2, ..base },
        base,
        SamplerOptions { temperature: 1.5, top_p: 0.97, ..base },
        SamplerOptions { top_k: 20, min_p: 0.02, repeat_penalty: 1.3, ..base },
        SamplerOptions { temperature: 1.0, top_p: 1.0, ..base },
    ]
}

/// Whole stories of the repository's own small model, mapped and read.
#[test]
fn stories_are_those_of_sessions_with_all_logits() {
    let file = AlignedBytes::new(include_bytes!("../../examples/models/stories.smidgen"));
    let model = Model::load(&file).unwrap();
    for (seed, sampler_options) in options().into_iter().enumerate() {
        let options = SessionOptions::new(120);
        let mut memory = vec![0; memory_needed(&file, options) + 64];
        let mut session = Session::new(&model, &mut memory, options).unwrap();
        session.prompt("Once upon a time").unwrap();
        let mut sampler = Sampler::new(sampler_options, seed as u64).unwrap();
        let want: Vec<u32> = session.generate(&mut sampler).map(|generated| generated.token).collect();
        assert!(want.len() > 60);
        for candidates in [1, 64, 1000] {
            let bounded = SessionOptions { candidates, ..options };
            let mut memory = vec![0; memory_needed(&file, bounded) + 64];
            let mut session = Session::new(&model, &mut memory, bounded).unwrap();
            session.prompt("Once upon a time").unwrap();
            assert!(session.logits().is_empty());
            let mut sampler = Sampler::new(sampler_options, seed as u64).unwrap();
            let got: Vec<u32> =
                session.generate_bounded(&mut sampler).map(|generated| generated.token).collect();
            assert_eq!(got, want, "{candidates} candidates, {sampler_options:?}");
        }
        let stream_options = StreamOptions::new(least_buffer(&file).unwrap());
        let mut parts = vec![0; stream::memory_needed(&file, stream_options) + 64];
        let mut streamed = StreamModel::load(Region(&file), &mut parts, stream_options).unwrap();
        let bounded = SessionOptions { candidates: 64, ..options };
        let mut memory = vec![0; memory_needed(&file, bounded) + 64];
        let mut session = streamed.session(&mut memory, bounded).unwrap();
        session.prompt("Once upon a time").unwrap();
        let mut sampler = Sampler::new(sampler_options, seed as u64).unwrap();
        let got: Vec<u32> =
            session.generate_bounded(&mut sampler).map(|generated| generated.unwrap().token).collect();
        assert_eq!(got, want, "streamed, {sampler_options:?}");
    }
}

/// Heads of every type, more tokens than logits fit, on every level and with other cores.
#[test]
fn every_head_gives_the_same_draws_on_every_level() {
    let pool = Pool::new(3);
    for dtype in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        for test in [
            model(llama(60, 1, (6, 3, 10), 100, 1037), dtype, true, 1),
            model(gpt2(40, 1, 4, 2050), dtype, true, 2),
            model(llama(32, 1, (4, 2, 8), 48, 777), dtype, false, 3),
        ] {
            let model = Model::load(&test.file).unwrap();
            let options = SessionOptions { workers: 2, ..SessionOptions::new(20) };
            let mut memory = vec![0; memory_needed(&test.file, options) + 64];
            let mut session = Session::new(&model, &mut memory, options).unwrap();
            let mut want = Vec::new();
            for (seed, sampler_options) in self::options().into_iter().enumerate() {
                session.rewind(0);
                session.feed(&[3, 1, 7]).unwrap();
                let mut sampler = Sampler::new(sampler_options, seed as u64).unwrap();
                want.push(
                    session.generate(&mut sampler).map(|generated| generated.token).collect::<Vec<_>>(),
                );
            }
            for level in Level::available() {
                for workers in [&Serial as &dyn Workers, &pool] {
                    let bounded = SessionOptions { candidates: 16, ..options };
                    let mut memory = vec![0; memory_needed(&test.file, bounded) + 64];
                    let mut session =
                        Session::with_workers(&model, &mut memory, bounded, level, workers).unwrap();
                    for (seed, sampler_options) in self::options().into_iter().enumerate() {
                        session.rewind(0);
                        session.feed(&[3, 1, 7]).unwrap();
                        let mut sampler = Sampler::new(sampler_options, seed as u64).unwrap();
                        let got: Vec<u32> =
                            session.generate_bounded(&mut sampler).map(|generated| generated.token).collect();
                        assert_eq!(got, want[seed], "{level:?}, {sampler_options:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn candidates_take_less_memory_than_logits() {
    let config = llama(32, 1, (4, 2, 8), 48, 50_257);
    let of = |candidates| {
        let options = SessionOptions { candidates, ..SessionOptions::new(64) };
        Layout::new(&config, smidgen_runtime::KvType::Q8, options).unwrap()
    };
    let (all, few) = (of(0), of(64));
    assert_eq!((all.logits, all.candidates), (50_257, 0));
    assert_eq!((few.logits, few.candidates), (256, 64));
    assert_eq!(all.total - few.total, (50_257_usize * 4).next_multiple_of(64) - 1024 - 512);
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    let test = model(llama(32, 1, (4, 2, 8), 48, 24), DType::Q8, false, 3);
    let model = Model::load(&test.file).unwrap();
    let options = SessionOptions { candidates: 4, ..SessionOptions::new(8) };
    let mut memory = vec![0; memory_needed(&test.file, options) + 64];
    let mut session = Session::new(&model, &mut memory, options).unwrap();
    let mut sampler = Sampler::greedy();
    assert_eq!(session.sample_bounded(&mut sampler), Err(SampleError::NoFiniteLogit), "nothing taken in");
    assert_eq!(session.step(3).unwrap(), [0.0; 0]);
    assert_eq!(session.sample(&mut sampler), Err(SampleError::NoFiniteLogit), "there are no logits");
    let first = session.sample_bounded(&mut sampler).unwrap();
    assert_eq!(session.sample_bounded(&mut sampler), Ok(first), "again");
}
