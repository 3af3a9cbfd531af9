//! A second core, here a thread: every job runs once, on whichever, and a story is the same with both.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use smidgen_console::{TwoCores, context};
use smidgen_runtime::{
    Level, Model, Sampler, SamplerOptions, Serial, Session, SessionOptions, Workers, include_model,
};

static FILE: &[u8] = include_model!("../../models/stories.smidgen");

fn story(workers: &dyn Workers) -> (Vec<u32>, Vec<u32>) {
    let model = Model::load(FILE).unwrap();
    let options = SessionOptions { workers: workers.count(), ..SessionOptions::new(context(FILE, None, 64)) };
    let mut memory = vec![0_u8; 1 << 20];
    let mut session =
        Session::with_workers(&model, &mut memory[..], options, Level::detect(), workers).unwrap();
    session.prompt("Once upon a time").unwrap();
    let mut sampler = Sampler::new(SamplerOptions::default(), 7).unwrap();
    let mut bits = Vec::new();
    for _ in 0..40 {
        let token = session.sample(&mut sampler).unwrap();
        let logits = session.step(token).unwrap();
        bits.extend(logits.iter().map(|logit| logit.to_bits()));
    }
    (session.tokens().to_vec(), bits)
}

#[test]
fn a_story_is_the_same_with_a_second_core() {
    static CORES: TwoCores = TwoCores::new();
    let want = story(&Serial);
    assert!(story(&CORES) == want, "before the other has come");
    thread::spawn(|| CORES.help());
    for _ in 0..3 {
        assert!(story(&CORES) == want, "with the other");
    }
}

#[test]
fn every_job_runs_once_whoever_asks() {
    static CORES: TwoCores = TwoCores::new();
    let helpers: Vec<_> = (0..2).map(|_| thread::spawn(|| CORES.help())).collect();
    let main = thread::current().id();
    let elsewhere = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n_jobs in (0..=2).cycle().take(3000) {
                    let counts = [const { AtomicU32::new(0) }; 2];
                    let asking = thread::current().id();
                    CORES.run(n_jobs, &|index| {
                        counts[index].fetch_add(1, Ordering::Relaxed);
                        let here = thread::current().id();
                        elsewhere.fetch_add(u32::from(here != asking && here != main), Ordering::Relaxed);
                    });
                    let counts = counts.map(|count| count.load(Ordering::Relaxed));
                    assert_eq!(counts, [u32::from(n_jobs > 0), u32::from(n_jobs > 1)]);
                }
            });
        }
    });
    assert!(elsewhere.load(Ordering::Relaxed) > 0, "nobody helped");
    assert!(helpers.iter().all(|helper| !helper.is_finished()));
}
