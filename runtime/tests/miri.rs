//! Whole models, small enough for Miri: loading in place, carving, forward passes whose rows and
//! heads are split among threads. Miri sees what no equality can: overlapping borrows, reads
//! outside an allocation, races.

mod common;

use common::{gpt2, llama, model};
use smidgen_runtime::config::Config;
use smidgen_runtime::format::DType;
use smidgen_runtime::{Level, Model, Session, SessionOptions, Workers};

/// A thread for every job: nothing between Miri and the jobs but std.
struct Threads;

impl Workers for Threads {
    fn count(&self) -> usize {
        2
    }

    fn run(&self, n_jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for index in 0..n_jobs {
                scope.spawn(move || job(index));
            }
        });
    }
}

/// Logits behind some tokens at once and one more, alone and with two workers: two tokens, which are
/// cut by rows and heads, and six, which under Miri are enough to be cut by tokens.
fn same_with_threads(config: Config, dtype: DType) {
    let config = Config { context_len: 8, ..config };
    let test = model(config, dtype, true, 1);
    let model = Model::load(&test.file).unwrap();
    for block in [&[1, 2][..], &[1, 2, 3, 4, 5, 6]] {
        let options = SessionOptions { prompt_block: block.len(), workers: 2, ..SessionOptions::new(8) };
        let mut memory = vec![0_u8; 1 << 14];
        let mut session = Session::new(&model, &mut memory[..], options).unwrap();
        session.feed(block).unwrap();
        let want = session.step(3).unwrap().to_vec();
        assert!(want.iter().all(|logit| logit.is_finite()) && want.iter().any(|&logit| logit != 0.0));

        let mut memory = vec![0_u8; 1 << 14];
        let mut session =
            Session::with_workers(&model, &mut memory[..], options, Level::SCALAR, &Threads).unwrap();
        session.feed(block).unwrap();
        assert_eq!(session.step(3).unwrap(), want);
    }
}

#[test]
fn llama_q8() {
    same_with_threads(llama(8, 1, (2, 1, 4), 12, 9), DType::Q8);
}

#[test]
fn llama_f32() {
    same_with_threads(llama(8, 1, (2, 1, 4), 12, 9), DType::F32);
}

#[test]
fn gpt2_q4() {
    same_with_threads(gpt2(8, 1, 2, 9), DType::Q4);
}

#[test]
fn gpt2_f16() {
    same_with_threads(gpt2(8, 1, 2, 9), DType::F16);
}
