//! Against the draws of the sampler that has all logits.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::sampler::{Pcg32, SamplerOptions, weigh_all};

/// Logits in slabs of some size, each pass counted; the one that fails.
struct Slabs {
    logits: Vec<f32>,
    slab: usize,
    passes: usize,
    fails_at: usize,
}

impl Slabs {
    fn new(logits: &[f32], slab: usize) -> Self {
        Self { logits: logits.to_vec(), slab, passes: 0, fails_at: usize::MAX }
    }
}

impl Logits for Slabs {
    type Error = usize;

    fn pass(&mut self, each: &mut dyn FnMut(u32, &mut [f32])) -> Result<(), usize> {
        self.passes += 1;
        if self.passes == self.fails_at {
            return Err(self.passes);
        }
        let mut first = 0;
        for logits in self.logits.clone().chunks_mut(self.slab) {
            each(first, logits);
            first += logits.len() as u32;
        }
        Ok(())
    }
}

struct Case {
    logits: Vec<f32>,
    options: SamplerOptions,
    history: Vec<u32>,
    slab: usize,
    candidates: usize,
}

/// Logits of several shapes: peaked as a trained model's are, flat, equal ones, none that is a number.
fn case(random: &mut Pcg32, number: u32) -> Case {
    let mut below = |n: u32| random.next() % n;
    let n = 1 + below([20, 700, 3000][number as usize % 3]);
    let spread = [0.0, 0.5, 4.0, 12.0, 40.0][below(5) as usize];
    let shape = below(6);
    let logits = (0..n).map(|i| {
        let x = (below(1 << 24) as f32 / 16_777_216.0).powi(3) * spread;
        match shape {
            0 => x.round(),
            1 if i % 5 == 0 => [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0][below(5) as usize],
            // Ever larger: the sum is made smaller with each slab.
            2 => i as f32 * 0.01 * spread,
            3 => -x,
            _ => x,
        }
    });
    let logits: Vec<f32> = logits.collect();
    let pick = |choices: &[f32], at: u32| choices[at as usize % choices.len()];
    let options = SamplerOptions {
        temperature: pick(&[0.0, 0.3, 0.8, 0.8, 1.0, 2.0], below(6)),
        top_p: pick(&[0.0, 0.5, 0.9, 0.9, 0.95, 0.999, 1.0], below(7)),
        top_k: [0, 0, 0, 1, 5, 40, 1000][below(7) as usize],
        min_p: pick(&[0.0, 0.0, 0.05, 0.5, 1.0], below(5)),
        repeat_penalty: pick(&[1.0, 1.0, 1.3], below(3)),
        repeat_last: 20,
    };
    let history = (0..30).map(|_| below(n)).collect();
    let slab = [1, 4, 60, 256, 5000][below(5) as usize];
    let candidates = [0, 1, 7, 64, 300][below(5) as usize];
    Case { logits, options, history, slab, candidates }
}

#[test]
fn draws_are_those_of_all_logits_together() {
    let mut random = Pcg32::new(9);
    let (mut one_pass, mut more) = (0, 0);
    for number in 0..20_000 {
        let Case { logits, options, history, slab, candidates } = case(&mut random, number);
        let (mut whole, mut bounded) =
            (Sampler::new(options, number.into()).unwrap(), Sampler::new(options, number.into()).unwrap());
        let mut slabs = Slabs::new(&logits, slab);
        let mut best = vec![0; candidates];
        // Twice: the random numbers go on alike.
        for _ in 0..2 {
            let want = whole.sample(&mut logits.clone(), &history);
            let got = bounded.sample_bounded(&mut slabs, logits.len(), &mut best, &history);
            assert_eq!(got, want.map_err(NotDrawn::Sample), "case {number}: {options:?}, {candidates}");
        }
        if slabs.passes == 2 {
            one_pass += 1
        } else {
            more += 1
        }
        assert!(slabs.passes <= 2 * 20, "{}", slabs.passes);
    }
    assert!(one_pass > 5000 && more > 5000, "{one_pass} {more}");
}

/// What a model's user has: a large vocabulary, a peaked distribution, the default options.
#[test]
fn one_pass_is_enough_for_a_usual_draw_over_a_large_vocabulary() {
    let mut random = Pcg32::new(4);
    let mut passes = 0;
    for seed in 0..60 {
        // Zipf's law, about: a logit falls by 1.6 where a rank grows by e.
        let logits: Vec<f32> = (0..50_257)
            .map(|_| libm::logf(((random.next() >> 8) as f32 + 1.0) / 16_777_216.0) * -1.6)
            .collect();
        let options = SamplerOptions::default();
        let mut slabs = Slabs::new(&logits, 256);
        let mut bounded = Sampler::new(options, seed).unwrap();
        let got = bounded.sample_bounded(&mut slabs, logits.len(), &mut [0; 64], &[]).unwrap();
        assert_eq!(got, Sampler::new(options, seed).unwrap().sample(&mut logits.clone(), &[]).unwrap());
        passes += slabs.passes;
    }
    assert_eq!(passes, 60);
}

#[test]
fn the_sum_of_all_weights_lies_within_its_bounds() {
    let mut random = Pcg32::new(2);
    let mut uncertain = 0;
    for number in 0..4000 {
        let Case { logits, options, slab, .. } = case(&mut random, number);
        let temperature = options.temperature.max(0.05);
        let sharpness = LOG2_E / temperature;
        let mut sum = RunningSum { largest: None, sum: 0, changes: 0 };
        let mut first = 0;
        for slab in logits.chunks(slab) {
            let rises = sum.take_in_largest(first, slab, sharpness);
            sum.changes += u32::from(rises);
            first += slab.len() as u32;
            let Some((_, largest)) = sum.largest else { continue };
            sum.sum += slab.iter().map(|&logit| u64::from(weight(logit, largest, sharpness))).sum::<u64>();
        }
        let Ok(exact) = weigh_all(&mut logits.clone(), temperature) else {
            assert!(sum.largest.is_none());
            continue;
        };
        let (least, most) = sum.bounds(logits.len());
        assert!((least..=most).contains(&exact), "case {number}: {exact} in {least}..={most}");
        // And they are close: no more than a thousandth apart where few changes were made.
        assert!(sum.changes > 20 || most - least <= exact / 500 + 4 * logits.len() as u64, "{number}");
        uncertain += u32::from(least < most);
    }
    assert!(uncertain > 1000, "{uncertain}");
}

#[test]
fn a_pass_that_fails_is_heard_and_a_draw_may_be_tried_again() {
    // Flat: more than one pass.
    let logits: Vec<f32> = (0..500).map(|i| (i % 7) as f32 * 0.01).collect();
    let sampler = Sampler::new(SamplerOptions { top_k: 100, ..SamplerOptions::default() }, 3).unwrap();
    let draw = |fails_at| {
        let mut slabs = Slabs { fails_at, ..Slabs::new(&logits, 64) };
        let drawn = sampler.clone().sample_bounded(&mut slabs, logits.len(), &mut [0; 16], &[]);
        (drawn, slabs.passes)
    };
    let (drawn, passes) = draw(usize::MAX);
    assert!(drawn.is_ok() && passes > 10);
    for fails_at in 1..=passes {
        assert_eq!(draw(fails_at).0, Err(NotDrawn::Read(fails_at)));
    }
}

#[test]
fn heaps_sort() {
    let mut random = Pcg32::new(1);
    for n in 0..200 {
        let mut keys: Vec<u64> = (0..n).map(|_| (random.next() % 50).into()).collect();
        let mut want = keys.clone();
        want.sort_unstable();
        sort(&mut keys);
        assert_eq!(keys, want);
    }
}
