//! The forward pass against a second implementation in f64, and against itself in other cuts.

mod common;

use common::{Random, TestModel, gpt2, llama, model};
use smidgen_runtime::config::{Architecture, Config};
use smidgen_runtime::format::{DType, KvType, Role};
use smidgen_runtime::{
    Layout, Level, Model, Pool, Sampler, SamplerOptions, Serial, Session, SessionOptions, Workers,
};

/// The textbook in f64, from the f32 weights, without a cache: logits behind every token.
struct Reference<'a>(&'a TestModel);

impl Reference<'_> {
    fn get(&self, layer: usize, role: Role) -> Option<Vec<f64>> {
        self.0.tensor(layer, role).map(|values| values.iter().map(|&x| f64::from(x)).collect())
    }

    fn linear(&self, layer: usize, weight: Role, bias: impl Into<Option<Role>>, x: &[f64]) -> Vec<f64> {
        let w = self.get(layer, weight).unwrap();
        let bias = bias.into().and_then(|bias| self.get(layer, bias));
        let product = |(row, w): (usize, &[f64])| {
            let sum: f64 = w.iter().zip(x).map(|(w, x)| w * x).sum();
            sum + bias.as_ref().map_or(0.0, |bias| bias[row])
        };
        w.chunks(x.len()).enumerate().map(product).collect()
    }

    fn norm(&self, layer: usize, weight: Role, bias: Role, x: &[f64]) -> Vec<f64> {
        let w = self.get(layer, weight).unwrap();
        let eps = f64::from(self.0.config.norm_eps);
        let n = x.len() as f64;
        let mean = match self.0.config.architecture {
            Architecture::Gpt2 => x.iter().sum::<f64>() / n,
            _ => 0.0,
        };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let b = self.get(layer, bias);
        let one = |(i, x): (usize, &f64)| {
            (x - mean) / (variance + eps).sqrt() * w[i] + b.as_ref().map_or(0.0, |b| b[i])
        };
        x.iter().enumerate().map(one).collect()
    }

    fn head(&self, layer: usize, norm: Role, position: usize, head: &[f64]) -> Vec<f64> {
        let config = &self.0.config;
        let mut x = head.to_vec();
        if let Some(weight) = self.get(layer, norm) {
            let ms = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let root = (ms + f64::from(config.norm_eps)).sqrt();
            x.iter_mut().zip(weight).for_each(|(x, w)| *x = *x / root * w);
        }
        if config.architecture == Architecture::Llama {
            let frequencies = self.get(0, Role::RopeFrequencies).unwrap();
            let half = x.len() / 2;
            for i in 0..half {
                let (sin, cos) = (position as f64 * frequencies[i]).sin_cos();
                let (a, b) = (x[i], x[i + half]);
                (x[i], x[i + half]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
        x
    }

    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let config = self.0.config;
        let (dim, head_dim) = (config.dim as usize, config.head_dim as usize);
        let embedding = self.get(0, Role::Embedding).unwrap();
        let positions = self.get(0, Role::PositionEmbedding);
        let embed = |(position, &token): (usize, &u32)| {
            let row = &embedding[token as usize * dim..][..dim];
            let add = |i: usize| positions.as_ref().map_or(0.0, |p| p[position * dim + i]);
            row.iter().enumerate().map(|(i, x)| x + add(i)).collect::<Vec<f64>>()
        };
        let mut xs: Vec<Vec<f64>> = tokens.iter().enumerate().map(embed).collect();
        for layer in 0..config.n_layers as usize {
            let normed: Vec<_> =
                xs.iter().map(|x| self.norm(layer, Role::AttnNorm, Role::AttnNormBias, x)).collect();
            let of = |w, b| normed.iter().map(|x| self.linear(layer, w, b, x)).collect::<Vec<_>>();
            let (q, k, v) = (of(Role::Q, Role::QBias), of(Role::K, Role::KBias), of(Role::V, Role::VBias));
            for t in 0..tokens.len() {
                let mut attended = Vec::new();
                for h in 0..config.n_heads as usize {
                    let kv = h / config.heads_per_kv() * head_dim;
                    let query = self.head(layer, Role::QNorm, t, &q[t][h * head_dim..][..head_dim]);
                    let score = |s: usize| {
                        let key = self.head(layer, Role::KNorm, s, &k[s][kv..][..head_dim]);
                        query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / (head_dim as f64).sqrt()
                    };
                    let p: Vec<f64> = (0..=t).map(|s| score(s).exp()).collect();
                    let sum: f64 = p.iter().sum();
                    let mix = |i: usize| (0..=t).map(|s| p[s] / sum * v[s][kv + i]).sum::<f64>();
                    attended.extend((0..head_dim).map(mix));
                }
                let out = self.linear(layer, Role::O, Role::OBias, &attended);
                xs[t].iter_mut().zip(out).for_each(|(x, y)| *x += y);
            }
            for x in &mut xs {
                let normed = self.norm(layer, Role::FfnNorm, Role::FfnNormBias, x);
                let mut up = self.linear(layer, Role::Up, Role::UpBias, &normed);
                if config.architecture == Architecture::Llama {
                    let gate = self.linear(layer, Role::Gate, Role::GateBias, &normed);
                    up.iter_mut().zip(gate).for_each(|(u, g)| *u *= g / (1.0 + (-g).exp()));
                } else {
                    let gelu = |x: f64| {
                        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                        0.5 * x * (1.0 + inner.tanh())
                    };
                    up.iter_mut().for_each(|u| *u = gelu(*u));
                }
                let down = self.linear(layer, Role::Down, Role::DownBias, &up);
                x.iter_mut().zip(down).for_each(|(x, y)| *x += y);
            }
        }
        let head = if self.0.tensor(0, Role::Head).is_some() { Role::Head } else { Role::Embedding };
        let last = |x: &Vec<f64>| {
            let normed = self.norm(0, Role::FinalNorm, Role::FinalNormBias, x);
            self.linear(0, head, None, &normed)
        };
        xs.iter().map(last).collect()
    }
}

/// Odd sizes on purpose: heads of 8, 10 and 36, feed-forwards that no group divides.
fn shapes() -> Vec<Config> {
    vec![
        llama(64, 2, (8, 4, 8), 172, 97),
        llama(40, 2, (4, 2, 10), 100, 61),
        llama(300, 1, (3, 1, 36), 517, 33),
        gpt2(48, 2, 4, 70),
        gpt2(264, 1, 6, 35),
    ]
}

fn tokens(config: &Config, n: usize) -> Vec<u32> {
    let mut random = Random(5);
    (0..n).map(|_| random.below(u64::from(config.vocab_size)) as u32).collect()
}

fn run(
    test: &TestModel,
    tokens: &[u32],
    options: SessionOptions,
    level: Level,
    workers: &dyn Workers,
) -> Vec<u32> {
    let model = Model::load(&test.file).unwrap();
    let layout = Layout::new(model.config(), model.kv_type(), options).unwrap();
    let mut memory = vec![0_u8; layout.total + 63];
    let mut session = Session::with_workers(&model, &mut memory[..], options, level, workers).unwrap();
    let mut bits = Vec::new();
    for block in tokens.chunks(options.prompt_block) {
        let add = |_: usize, logits: &[f32]| bits.extend(logits.iter().map(|x| x.to_bits()));
        session.feed_with_logits(block, add).unwrap();
    }
    bits
}

fn serial(test: &TestModel, tokens: &[u32], kv_type: KvType) -> Vec<u32> {
    let options = SessionOptions { kv_type: Some(kv_type), ..SessionOptions::new(tokens.len()) };
    run(test, tokens, options, Level::SCALAR, &Serial)
}

/// Root-mean-square of the difference over that of the reference.
fn distance(bits: &[u32], want: &[Vec<f64>]) -> f64 {
    let want: Vec<f64> = want.concat();
    assert_eq!(bits.len(), want.len());
    let pairs = bits.iter().map(|&b| f64::from(f32::from_bits(b))).zip(&want);
    let error: f64 = pairs.map(|(got, want)| (got - want).powi(2)).sum();
    (error / want.iter().map(|x| x * x).sum::<f64>()).sqrt()
}

#[test]
fn f32_logits_equal_the_textbooks() {
    for (config, full) in shapes().into_iter().flat_map(|config| [(config, false), (config, true)]) {
        let test = model(config, DType::F32, full, 1);
        let tokens = tokens(&config, 13);
        let want = Reference(&test).logits(&tokens);
        let error = distance(&serial(&test, &tokens, KvType::F32), &want);
        assert!(error < 2e-6, "{config:?}: {error}");
        // An 8-bit cache rounds keys and values to 1/254 of the largest of a head.
        let error = distance(&serial(&test, &tokens, KvType::Q8), &want);
        assert!(error > 1e-6 && error < 0.02, "{config:?} with an 8-bit cache: {error}");
    }
}

#[test]
fn quantized_logits_are_near_the_textbooks() {
    // Rounding errors of random weights add up like noise: 8 bits leave about 1/250 of the
    // largest weight of a group, 4 bits about 1/15. F16 keeps 11 bits.
    for (dtype, bound) in [(DType::F16, 2e-3), (DType::Q8, 0.04), (DType::Q4, 0.45)] {
        for config in shapes() {
            let test = model(config, dtype, true, 2);
            let tokens = tokens(&config, 9);
            let want = Reference(&test).logits(&tokens);
            let error = distance(&serial(&test, &tokens, KvType::F32), &want);
            assert!(error > 1e-6 && error < bound, "{dtype:?} {config:?}: {error}");
        }
    }
}

#[test]
fn every_cut_level_and_thread_count_gives_the_same_bits() {
    let pools = [Pool::new(2), Pool::new(3)];
    for dtype in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        for (config, kv_type) in shapes().into_iter().flat_map(|c| [(c, KvType::Q8), (c, KvType::F32)]) {
            let test = model(config, dtype, true, 3);
            let tokens = tokens(&config, 21);
            let want = serial(&test, &tokens, kv_type);
            for level in Level::available() {
                let cuts: [(usize, &dyn Workers); 4] =
                    [(1, &Serial), (5, &pools[0]), (16, &pools[1]), (64, &Serial)];
                for (prompt_block, workers) in cuts {
                    let options = SessionOptions {
                        kv_type: Some(kv_type),
                        prompt_block,
                        workers: workers.count(),
                        ..SessionOptions::new(tokens.len() + 2)
                    };
                    let got = run(&test, &tokens, options, level, workers);
                    assert!(got == want, "{dtype:?} {level:?} block {prompt_block} {config:?}");
                }
            }
        }
    }
}

/// Heads of 16 and 32, which levels may store four tokens at a time, and a vocabulary that leaves scratch
/// for sixteen tokens' attention at once.
#[test]
fn tokens_side_by_side_give_the_same_bits() {
    let pool = Pool::new(2);
    for config in [llama(64, 2, (4, 2, 16), 96, 900), gpt2(96, 1, 3, 900)] {
        let config = Config { context_len: 75, ..config };
        let test = model(config, DType::Q8, true, 6);
        let tokens = tokens(&config, 75);
        let want = serial(&test, &tokens, KvType::Q8);
        for level in Level::available() {
            for (prompt_block, workers) in [(75, &Serial as &dyn Workers), (18, &Serial), (64, &pool)] {
                let options = SessionOptions {
                    prompt_block,
                    workers: workers.count(),
                    ..SessionOptions::new(tokens.len())
                };
                let got = run(&test, &tokens, options, level, workers);
                assert!(got == want, "{level:?} block {prompt_block} {config:?}");
            }
        }
    }
}

/// Blocks so large that they are cut by tokens, from a position that is no multiple of four.
#[test]
fn a_block_cut_by_tokens_gives_the_same_bits() {
    let pools = [Pool::new(2), Pool::new(3)];
    for (dtype, kv_type) in [(DType::Q8, KvType::Q8), (DType::Q4, KvType::Q8), (DType::Q8, KvType::F32)] {
        for config in shapes() {
            let config = Config { context_len: 99, ..config };
            let test = model(config, dtype, true, 4);
            let tokens = tokens(&config, 99);
            let want = serial(&test, &tokens, kv_type);
            for pool in &pools {
                // Blocks of 50 and 49, of 83 and 16.
                for prompt_block in [50, 83] {
                    let workers = pool.threads();
                    let context = tokens.len();
                    let options = SessionOptions {
                        kv_type: Some(kv_type),
                        prompt_block,
                        workers,
                        ..SessionOptions::new(context)
                    };
                    let got = run(&test, &tokens, options, Level::detect(), pool);
                    assert!(got == want, "{dtype:?} {workers} workers, block {prompt_block} {config:?}");
                }
            }
        }
    }
}

/// `SMIDGEN_REQUIRE_LEVELS=avx2,avx512` says what the machine that runs the tests is known to have:
/// a level that is not found there is an error, not one test less.
#[test]
fn every_level_that_must_be_here_is() {
    let required = std::env::var("SMIDGEN_REQUIRE_LEVELS").unwrap_or_default();
    let found: Vec<_> = Level::available().map(Level::name).collect();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(Level::names().any(|known| known == name), "{name}: no such level on this architecture");
        assert!(found.contains(&name), "{name} is required, and this CPU was found to have {found:?}");
    }
    // What every machine has.
    assert!(found.contains(&"scalar") && found.contains(&"wide"), "{found:?}");
    eprintln!("levels under test: {found:?}");
}

#[test]
fn a_rewound_session_goes_on_as_if_nothing_had_happened() {
    let config = llama(64, 2, (8, 4, 8), 172, 97);
    let test = model(config, DType::Q8, false, 4);
    let model = Model::load(&test.file).unwrap();
    let mut memory = vec![0_u8; 1 << 20];
    let mut session = Session::new(&model, &mut memory[..], SessionOptions::new(20)).unwrap();
    session.feed(&[1, 2, 3]).unwrap();
    let want = session.step(4).unwrap().to_vec();
    for token in [9, 8, 7] {
        session.step(token).unwrap();
    }
    session.rewind(3);
    assert_eq!(session.tokens(), [1, 2, 3]);
    assert_eq!(session.step(4).unwrap(), want);
}

#[test]
fn a_sequence_that_begins_alike_reuses_the_cache_and_changes_no_bit() {
    let config = llama(64, 2, (8, 4, 8), 172, 97);
    let test = model(config, DType::Q8, false, 4);
    let model = Model::load(&test.file).unwrap();
    let fresh = |tokens: &[u32]| {
        let mut memory = vec![0_u8; 1 << 20];
        let mut session = Session::new(&model, &mut memory[..], SessionOptions::new(20)).unwrap();
        session.feed(tokens).unwrap();
        session.logits().to_vec()
    };
    let mut memory = vec![0_u8; 1 << 20];
    let mut session = Session::new(&model, &mut memory[..], SessionOptions::new(20)).unwrap();
    let cases: [(&[u32], usize); 5] =
        [(&[1, 2, 3, 4], 0), (&[1, 2, 3, 9, 8], 3), (&[1, 2, 3, 9, 8], 4), (&[1, 2], 1), (&[7, 2], 0)];
    for (tokens, reused) in cases {
        assert_eq!(session.go_on_as(tokens), Ok(reused));
        assert_eq!(session.tokens(), tokens);
        assert_eq!(session.logits(), fresh(tokens));
    }
    session.go_on_as(&[97]).unwrap_err();
    session.go_on_as(&[]).unwrap_err();
    assert_eq!(session.tokens(), [7, 2]);
    assert_eq!(session.step(5).unwrap(), fresh(&[7, 2, 5]));
}

#[test]
fn a_full_context_slides_into_what_a_new_session_would_be() {
    let config = llama(64, 2, (8, 4, 8), 172, 97);
    let test = model(config, DType::Q8, false, 4);
    let model = Model::load(&test.file).unwrap();
    let mut memory = vec![0_u8; 1 << 20];
    let mut other = memory.clone();
    let mut session = Session::new(&model, &mut memory[..], SessionOptions::new(11)).unwrap();
    let mut fresh = Session::new(&model, &mut other[..], SessionOptions::new(11)).unwrap();
    session.feed(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).unwrap();
    assert_eq!(session.slide(2), 5);
    assert_eq!(session.tokens(), [1, 2, 8, 9, 10, 11]);
    fresh.feed(&[1, 2, 8, 9, 10, 11]).unwrap();
    assert_eq!(session.logits(), fresh.logits());
    assert_eq!(session.step(50).unwrap(), fresh.step(50).unwrap());
    // With nothing that could be forgotten, nothing happens.
    session.rewind(3);
    assert_eq!((session.slide(2), session.slide(99), session.position()), (0, 0, 3));

    // Generation ends where the context does, unless it slides.
    let greedy = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
    let mut sampler = Sampler::new(greedy, 1).unwrap();
    session.rewind(0);
    session.feed(&[1, 2, 3]).unwrap();
    assert_eq!(session.generate(&mut sampler).count(), 9);
    session.rewind(0);
    session.feed(&[1, 2, 3]).unwrap();
    assert_eq!(session.generate(&mut sampler).sliding(1).take(100).count(), 100);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    use smidgen_runtime::{SessionError, StepError};
    let config = llama(64, 1, (2, 2, 32), 64, 50);
    let test = model(config, DType::Q8, false, 4);
    let model = Model::load(&test.file).unwrap();
    let options = SessionOptions::new(4);
    let needed = Layout::new(&config, KvType::Q8, options).unwrap().total;
    let mut memory = smidgen_runtime::Memory::<65536>::new();
    let mut short = memory.clone();
    let short = &mut short.as_mut()[..needed - 1];
    let error = Session::new(&model, short, options).unwrap_err();
    assert_eq!(error, SessionError::OutOfMemory { needed, given: needed - 1 });
    let asked = SessionOptions::new(65);
    let error = Session::new(&model, &mut memory, asked).unwrap_err();
    assert_eq!(error, SessionError::BadContext { asked: 65, max: 64 });

    let mut session = Session::new(&model, &mut memory, options).unwrap();
    assert_eq!(session.feed(&[]), Err(StepError::EmptyPrompt));
    assert_eq!(session.feed(&[1, 50]), Err(StepError::UnknownToken { token: 50, vocab_size: 50 }));
    assert_eq!(session.feed(&[1; 5]), Err(StepError::ContextFull { context: 4 }));
    assert_eq!(session.prompt("text"), Err(StepError::NoTokenizer));
    assert_eq!(session.position(), 0);
    session.feed(&[1; 4]).unwrap();
    assert_eq!(session.step(1), Err(StepError::ContextFull { context: 4 }));
}
