//! Models whose weights are read: the same bits as in memory, whatever the buffer; errors of the reader
//! come out and leave the session as it was; hostile files are refused as they are in memory.

mod common;

use std::ops::Range;

use common::{AlignedBytes, TestModel, gpt2, llama, model};
use smidgen_runtime::format::{DType, Role};
use smidgen_runtime::stream::{
    self, Region, RegionEnds, StreamError, StreamLayout, StreamLoadError, StreamModel, StreamOptions,
    StreamPlan, WeightReader, least_buffer,
};
use smidgen_runtime::{
    KvType, Model, Sampler, SamplerOptions, Session, SessionOptions, StepError, memory_needed,
};

/// Grouped heads, and widths of which none fills a block, a group or a quad.
fn models() -> Vec<TestModel> {
    let mut all = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        all.push(model(llama(60, 2, (6, 3, 10), 300, 61), dtype, true, 11));
        all.push(model(gpt2(48, 2, 4, 53), dtype, true, 12));
    }
    // The embedding is the head.
    all.push(model(llama(32, 2, (4, 2, 8), 48, 24), DType::Q8, false, 13));
    all
}

/// A reader that counts, fails when it is told to, and checks that what was announced comes.
struct Watched<'a> {
    file: &'a [u8],
    calls: usize,
    bytes: u64,
    /// The call that fails.
    fails_at: usize,
    announced: Vec<Range<u32>>,
    as_announced: usize,
}

impl<'a> Watched<'a> {
    fn new(file: &'a [u8]) -> Self {
        Self { file, calls: 0, bytes: 0, fails_at: usize::MAX, announced: Vec::new(), as_announced: 0 }
    }
}

/// The number of the call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed(usize);

impl WeightReader for Watched<'_> {
    type Error = Failed;

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Failed> {
        assert!(!into.is_empty());
        self.calls += 1;
        if self.calls - 1 == self.fails_at {
            into.fill(0xA5);
            self.announced.clear();
            return Err(Failed(self.fails_at));
        }
        self.bytes += into.len() as u64;
        if !self.announced.is_empty() {
            assert_eq!(self.announced.remove(0), at..at + into.len() as u32);
            self.as_announced += 1;
        }
        into.copy_from_slice(&self.file[at as usize..at as usize + into.len()]);
        Ok(())
    }

    fn announce(&mut self, next: &[Range<u32>]) {
        assert!(self.announced.is_empty() && !next.is_empty());
        self.announced = next.to_vec();
    }
}

/// All bytes of a streamed model's memory.
fn memory(file: &[u8], options: StreamOptions) -> AlignedBytes {
    AlignedBytes::new(&vec![0xA5; stream::memory_needed(file, options)])
}

/// The logits behind every token, in memory.
fn in_memory(file: &[u8], tokens: &[u32], kv_type: KvType) -> Vec<Vec<u32>> {
    let model = Model::load(file).unwrap();
    let options = SessionOptions { kv_type: Some(kv_type), ..SessionOptions::new(tokens.len()) };
    let mut memory = vec![0; memory_needed(file, options) + 64];
    let mut session = Session::new(&model, &mut memory, options).unwrap();
    tokens.iter().map(|&token| bits(session.step(token).unwrap())).collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

const TOKENS: [u32; 9] = [3, 20, 7, 7, 0, 11, 23, 2, 19];

#[test]
fn logits_are_those_of_the_model_in_memory_whatever_the_buffer() {
    for test in models() {
        let least = least_buffer(&test.file).unwrap();
        for kv_type in [KvType::Q8, KvType::F32] {
            let want = in_memory(&test.file, &TOKENS, kv_type);
            let mut reads = Vec::new();
            for buffer in [least, least + 64, 2 * least + 192, 5 * least, 1 << 20] {
                for block in [1, 4] {
                    let stream_options = StreamOptions::new(buffer);
                    let mut memory = memory(&test.file, stream_options);
                    let reader = Watched::new(&test.file);
                    let mut model = StreamModel::load(reader, memory.as_mut(), stream_options).unwrap();
                    assert_eq!(model.hot_bytes(), 0);
                    let options = SessionOptions {
                        kv_type: Some(kv_type),
                        prompt_block: block,
                        ..SessionOptions::new(TOKENS.len())
                    };
                    let mut memory = vec![0; memory_needed(&test.file, options) + 64];
                    let mut session = model.session(&mut memory, options).unwrap();
                    if block == 1 {
                        for (token, want) in TOKENS.iter().zip(&want) {
                            assert_eq!(&bits(session.step(*token).unwrap()), want, "{buffer}");
                        }
                    } else {
                        session.feed(&TOKENS[..7]).unwrap();
                        assert_eq!(&bits(session.logits()), &want[6], "{buffer}");
                        session.feed(&TOKENS[7..]).unwrap();
                        assert_eq!(&bits(session.logits()), &want[8], "{buffer}");
                        assert_eq!(session.tokens(), TOKENS);
                    }
                    if block == 1 {
                        reads.push(model.into_reader().calls);
                    }
                }
            }
            assert!(reads.is_sorted_by(|fewer, more| fewer >= more) && reads[0] > reads[4], "{reads:?}");
        }
    }
}

#[test]
fn matrices_in_memory_are_not_read_and_what_is_read_is_told() {
    for test in models() {
        let all: usize = Model::load(&test.file)
            .unwrap()
            .tensors()
            .map(|(_, role, matrix)| if role.is_vector() { 0 } else { 5 * matrix.rows * matrix.cols })
            .sum();
        let want = in_memory(&test.file, &TOKENS, KvType::Q8);
        let mut told = Vec::new();
        for hot in [0, 2000, 9000, 40_000, all] {
            let stream_options = StreamOptions { hot, ..StreamOptions::new(8192) };
            let mut memory = memory(&test.file, stream_options);
            let reader = Watched::new(&test.file);
            let mut model = StreamModel::load(reader, memory.as_mut(), stream_options).unwrap();
            assert!(
                model.hot_bytes() <= model.layout().hot && model.layout().hot == hot.next_multiple_of(64)
            );
            let per_token = model.bytes_read_per_token();
            told.push(per_token);
            let options = SessionOptions { kv_type: Some(KvType::Q8), ..SessionOptions::new(TOKENS.len()) };
            let mut memory = vec![0; memory_needed(&test.file, options) + 64];
            let before = (model.reader().bytes, model.reader().calls);
            let mut session = model.session(&mut memory, options).unwrap();
            for (token, want) in TOKENS.iter().zip(&want) {
                assert_eq!(&bits(session.step(*token).unwrap()), want, "{hot}");
            }
            assert_eq!(model.reader().bytes - before.0, per_token * TOKENS.len() as u64, "{hot}");

            // And all of it is known before.
            let data_at = u64::from_le_bytes(test.file[80..88].try_into().unwrap()) as usize;
            let plan = StreamPlan::new(&test.file[..data_at], stream_options, None).unwrap();
            assert_eq!(&plan.layout, model.layout());
            assert_eq!(plan.hot_bytes, model.hot_bytes());
            assert_eq!(plan.bytes_per_token, per_token);
            let reads = (model.reader().calls - before.1) as u64;
            assert_eq!(reads, plan.reads_per_token * TOKENS.len() as u64, "{hot}");
            assert_eq!(Ok(plan.least_buffer), least_buffer(&test.file));
        }
        assert!(told.is_sorted_by(|more, less| more >= less) && told[0] > told[3], "{told:?}");
        // Of all matrices only rows of embeddings are left, of which there is one a token.
        assert!(told[4] < 2100, "{told:?}");
    }
}

/// With candidates the head comes in pieces of its own: one pass over it, if one is enough.
#[test]
fn reads_of_a_session_with_candidates_are_known_before() {
    let file = AlignedBytes::new(include_bytes!("../../examples/models/stories.smidgen"));
    for buffer in [1024, 4096, 100_000] {
        let stream_options = StreamOptions { hot: 50_000, ..StreamOptions::new(buffer) };
        let options = SessionOptions { candidates: 64, ..SessionOptions::new(8) };
        let mut parts = memory(&file, stream_options);
        let mut model = StreamModel::load(Watched::new(&file), parts.as_mut(), stream_options).unwrap();
        let mut memory = vec![0; memory_needed(&file, options) + 64];
        let begin = model.reader().calls;
        let mut session = model.session(&mut memory, options).unwrap();
        let plan = StreamPlan::new(&file, stream_options, Some(session.layout().logits)).unwrap();
        session.feed(&[3]).unwrap();
        // Greedy: never a second pass.
        let greedy = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
        session.sample_bounded(&mut Sampler::new(greedy, 1).unwrap()).unwrap();
        assert_eq!((model.reader().calls - begin) as u64, plan.reads_per_token, "{buffer}");
    }
}

#[test]
fn the_caller_names_what_stays() {
    let test = &models()[4];
    let options = StreamOptions { hot: 1 << 20, ..StreamOptions::new(8192) };
    let mut memory = memory(&test.file, options);
    let named = |layer, role| layer == 1 && role == Role::Down;
    let model = StreamModel::load_with(Region(&test.file), memory.as_mut(), options, named).unwrap();
    assert!(model.model().tensor(1, Role::Down).is_some());
    for (layer, role) in [(0, Role::Down), (1, Role::Up), (0, Role::Embedding)] {
        assert!(model.model().tensor(layer, role).is_none());
    }
    assert_eq!(model.model().vector(1, Role::AttnNorm).map(<[f32]>::len), Some(60));
    let read: u64 = model.bytes_read_per_token();
    let mut memory = self::memory(&test.file, StreamOptions { hot: 0, ..options });
    let none = StreamModel::load(Region(&test.file), memory.as_mut(), StreamOptions { hot: 0, ..options });
    // 60 rows of 300 columns, padded to 320: quants, ten multipliers, two scales a row.
    assert_eq!(none.unwrap().bytes_read_per_token() - read, 60 * (320 + 10 + 4));
}

#[test]
fn sizes_are_exact() {
    for test in models() {
        let least = least_buffer(&test.file).unwrap();
        let options = StreamOptions { hot: 100, ..StreamOptions::new(least) };
        // The first 128 bytes are enough to tell.
        assert_eq!(
            stream::memory_needed(&test.file[..128], options),
            stream::memory_needed(&test.file, options)
        );
        let layout = StreamLayout::new(&test.file, options).unwrap();
        assert_eq!(layout.total, layout.head + layout.vectors + layout.hot + layout.buffer);
        let mut memory = memory(&test.file, options);
        let needed = memory.len();
        assert_eq!(needed, layout.total);
        let short = &mut memory.as_mut()[..needed - 1];
        let error = StreamModel::load(Region(&test.file), short, options).unwrap_err();
        assert_eq!(error, StreamLoadError::OutOfMemory { needed: needed as u64, given: needed - 1 });
        StreamModel::load(Region(&test.file), memory.as_mut(), options).unwrap();

        for buffer in (0..least).step_by(64) {
            let options = StreamOptions::new(buffer);
            let mut memory = self::memory(&test.file, options);
            match StreamModel::load(Region(&test.file), memory.as_mut(), options).unwrap_err() {
                StreamLoadError::BufferTooSmall { needed, given } => {
                    assert!(given == buffer && needed > buffer && needed <= least, "{given} {needed}");
                }
                other => panic!("{other:?}"),
            }
        }
        // A head that is cut can't tell.
        let data_at = u64::from_le_bytes(test.file[80..88].try_into().unwrap());
        let cut = least_buffer(&test.file[..data_at as usize - 1]).unwrap_err();
        let found = data_at - 1;
        assert_eq!(cut, smidgen_runtime::LoadError::Truncated { needed: data_at, found });
    }
}

#[test]
fn a_reader_that_fails_at_any_call_is_heard_and_may_try_again() {
    for test in [&models()[4], &models()[3], &models()[8]] {
        let options = StreamOptions { hot: 3000, ..StreamOptions::new(2048) };
        let load = |reader: Watched<'_>| {
            let mut memory = memory(&test.file, options);
            StreamModel::load(reader, memory.as_mut(), options).map(|model| model.into_reader().calls)
        };
        let calls = load(Watched::new(&test.file)).unwrap();
        for fails_at in 0..calls {
            let error = load(Watched { fails_at, ..Watched::new(&test.file) }).unwrap_err();
            assert_eq!(error, StreamLoadError::Read(Failed(fails_at)));
        }

        let want = in_memory(&test.file, &TOKENS, KvType::Q8);
        let mut memory = memory(&test.file, options);
        let mut model = StreamModel::load(Watched::new(&test.file), memory.as_mut(), options).unwrap();
        let session_options =
            SessionOptions { kv_type: Some(KvType::Q8), prompt_block: 3, ..SessionOptions::new(9) };
        let mut memory = vec![0; memory_needed(&test.file, session_options) + 64];
        let begin = model.reader().calls;
        model.session(&mut memory, session_options).unwrap().feed(&TOKENS[..8]).unwrap();
        let calls = model.reader().calls - begin;
        assert!(calls > 20);
        let mut heard = 0;
        for nth in 0..calls {
            let reader = model.reader_mut();
            reader.fails_at = reader.calls + nth;
            let failing = StreamError::Read(Failed(reader.fails_at));
            let mut session = model.session(&mut memory, session_options).unwrap();
            if let Err(error) = session.feed(&TOKENS[..3]) {
                assert_eq!((error, session.position()), (failing, 0));
                session.feed(&TOKENS[..3]).unwrap();
            } else {
                let error = session.feed(&TOKENS[3..8]).unwrap_err();
                assert_eq!((error, session.position()), (failing, 3));
            }
            heard += 1;
            session.feed(&TOKENS[3..8]).unwrap();
            assert_eq!(bits(session.logits()), want[7], "call {nth}");
            assert_eq!(bits(session.step(TOKENS[8]).unwrap()), want[8], "call {nth}");
        }
        assert_eq!(heard, calls);
    }
}

#[test]
fn a_file_that_ends_early_is_an_error_of_its_reader() {
    let test = &models()[4];
    let options = StreamOptions::new(2048);
    let len = test.file.len();
    for cut in [0, 127, 128, 300, len / 2, len - 1] {
        let mut memory = memory(&test.file, options);
        let error = StreamModel::load(Region(&test.file[..cut]), memory.as_mut(), options).unwrap_err();
        assert!(
            matches!(error, StreamLoadError::Read(RegionEnds { len, at, wanted })
                if len == cut && at as usize + wanted > cut),
            "{error}"
        );
    }
}

#[test]
fn what_a_session_in_memory_refuses_is_refused() {
    let test = &models()[4];
    let options = StreamOptions::new(2048);
    let mut memory = memory(&test.file, options);
    let mut model = StreamModel::load(Region(&test.file), memory.as_mut(), options).unwrap();
    let mut memory = vec![0; 1 << 20];
    let mut session = model.session(&mut memory, SessionOptions::new(3)).unwrap();
    let refused = |error: StreamError<RegionEnds>| match error {
        StreamError::Step(error) => error,
        other => panic!("{other}"),
    };
    let unknown = session.step(61).map(<[f32]>::len).unwrap_err();
    assert_eq!(refused(unknown), StepError::UnknownToken { token: 61, vocab_size: 61 });
    assert_eq!(refused(session.feed(&[]).unwrap_err()), StepError::EmptyPrompt);
    assert_eq!(refused(session.prompt("a").unwrap_err()), StepError::NoTokenizer);
    session.feed(&[1, 2, 3]).unwrap();
    assert_eq!(refused(session.feed(&[4]).unwrap_err()), StepError::ContextFull { context: 3 });
    session.rewind(1);
    session.feed(&[4]).unwrap();
    assert_eq!(session.tokens(), [1, 4]);
}

/// With a tokenizer and words: the repository's own small model.
#[test]
fn whole_stories_are_the_same() {
    let file = AlignedBytes::new(include_bytes!("../../examples/models/stories.smidgen"));
    let options = SessionOptions::new(200);
    let mut memory = vec![0; memory_needed(&file, options) + 64];
    let mut sampler = Sampler::new(SamplerOptions::default(), 42).unwrap();
    let model = Model::load(&file).unwrap();
    let mut session = Session::new(&model, &mut memory, options).unwrap();
    session.prompt("Once upon a time").unwrap();
    let mut generate = session.generate(&mut sampler);
    let want: String = generate.by_ref().map(|generated| generated.to_string()).collect();
    assert!(want.len() > 300, "{want}");
    let finish = generate.finish();

    for (buffer, hot) in [(least_buffer(&file).unwrap(), 0), (4096, 20_000), (100_000, 1 << 20)] {
        let stream_options = StreamOptions { hot, ..StreamOptions::new(buffer) };
        let mut parts = self::memory(&file, stream_options);
        let mut streamed = StreamModel::load(Region(&file), parts.as_mut(), stream_options).unwrap();
        let mut sampler = Sampler::new(SamplerOptions::default(), 42).unwrap();
        let options = SessionOptions { prompt_block: 4, ..options };
        let mut memory = vec![0; memory_needed(&file, options) + 64];
        let mut session = streamed.session(&mut memory, options).unwrap();
        session.prompt("Once upon a time").unwrap();
        let mut generate = session.generate(&mut sampler);
        let got: String = generate.by_ref().map(|generated| generated.unwrap().to_string()).collect();
        assert_eq!((got, generate.finish()), (want.clone(), finish));
    }
}
