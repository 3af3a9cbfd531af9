use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// pcg32_srandom_r(42, 54) of the reference implementation's demo.
#[test]
fn the_random_numbers_are_the_reference_implementations() {
    let mut random = Pcg32::new(42);
    let got: [u32; 6] = core::array::from_fn(|_| random.next());
    let want = [0xa15c_02b7, 0x7b47_f409, 0xba1d_3330, 0x83d2_f293, 0xbfa4_784b, 0xcbed_606e];
    assert_eq!(got, want);
}

fn options(temperature: f32, top_p: f32) -> SamplerOptions {
    SamplerOptions { temperature, top_p, ..SamplerOptions::default() }
}

fn probabilities(options: SamplerOptions, logits: &[f32]) -> Vec<f64> {
    let mut weights = logits.to_vec();
    let total = Sampler::new(options, 0).unwrap().weigh(&mut weights, &[]).unwrap();
    weights.iter().map(|weight| f64::from(weight.to_bits()) / total as f64).collect()
}

#[test]
fn softmax_and_temperature_match_worked_numbers() {
    let close = |got: &[f64], want: &[f64]| {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 0.001, "{got} is not {want}");
        }
    };
    close(&probabilities(options(1.0, 1.0), &[3.2, 1.3, -2.1]), &[0.866, 0.130, 0.004]);
    let logits = [0.4_f32, 0.3, 0.2, 0.1].map(f32::ln);
    close(&probabilities(options(0.5, 1.0), &logits), &[0.533, 0.300, 0.133, 0.033]);
    close(&probabilities(options(2.0, 1.0), &logits), &[0.325, 0.281, 0.230, 0.163]);
}

#[test]
fn top_p_keeps_the_smallest_set_and_ties_go_to_low_ids() {
    let logits = [0.1_f32, 0.4, 0.2, 0.3].map(f32::ln);
    let kept =
        |top_p| probabilities(options(1.0, top_p), &logits).iter().map(|p| *p > 0.0).collect::<Vec<_>>();
    assert_eq!(kept(0.0), [false, true, false, false]);
    assert_eq!(kept(0.39), [false, true, false, false]);
    assert_eq!(kept(0.41), [false, true, false, true]);
    assert_eq!(kept(0.71), [false, true, true, true]);
    assert_eq!(kept(0.95), [true; 4]);
    assert_eq!(kept(1.0), [true; 4]);
    let equal = probabilities(options(1.0, 0.5), &[1.0; 8]);
    assert_eq!(equal, [0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    for (wrong, name) in [
        (options(-1.0, 0.9), "temperature"),
        (options(2.1, 0.9), "temperature"),
        (options(f32::NAN, 0.9), "temperature"),
        (options(1.0, 1.5), "top_p"),
        (SamplerOptions { min_p: -0.1, ..options(1.0, 1.0) }, "min_p"),
        (SamplerOptions { repeat_penalty: 0.5, ..options(1.0, 1.0) }, "repeat_penalty"),
    ] {
        match Sampler::new(wrong, 0).unwrap_err() {
            SampleError::OutOfRange { parameter, .. } => assert_eq!(parameter, name),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn logits_that_are_no_numbers_are_never_chosen() {
    let mut sampler = Sampler::new(options(1.0, 1.0), 1).unwrap();
    for _ in 0..50 {
        let mut logits = [f32::NAN, f32::INFINITY, -3.0, f32::NEG_INFINITY, 1.0];
        assert!([2, 4].contains(&sampler.sample(&mut logits, &[]).unwrap()));
    }
    assert_eq!(sampler.sample(&mut [f32::NAN; 3], &[]), Err(SampleError::NoFiniteLogit));
    assert_eq!(Sampler::greedy().sample(&mut [], &[]), Err(SampleError::NoFiniteLogit));
    assert_eq!(Sampler::greedy().sample(&mut [1.0, 3.0, 3.0, f32::NAN], &[]), Ok(1));
}

#[test]
fn the_penalty_counts_each_recent_token_once() {
    let options =
        SamplerOptions { repeat_penalty: 2.0, repeat_last: 3, temperature: 0.0, ..options(0.0, 1.0) };
    let mut logits = [4.0, -1.0, 3.0, 1.0];
    Sampler::new(options, 0).unwrap().sample(&mut logits, &[2, 0, 0, 1]).unwrap();
    assert_eq!(logits, [2.0, -2.0, 3.0, 1.0]);
}

#[test]
fn weights_are_the_exponentials() {
    let max = 3.25_f32;
    for i in 0..200_000 {
        let logit = max - i as f32 * 0.000_211;
        for temperature in [0.05_f32, 0.8, 1.0, 2.0] {
            let sharpness = core::f32::consts::LOG2_E / temperature;
            let exact = (f64::from(logit - max) / f64::from(temperature)).exp() * f64::from(ONE);
            let got = f64::from(weight(logit, max, sharpness));
            assert!((got - exact).abs() <= exact * 4e-6 + 1.0, "{logit}, {temperature}: {got}, {exact}");
        }
    }
    for logit in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN, f32::MIN] {
        assert_eq!(weight(logit, max, 1.0), 0, "{logit}");
    }
    assert_eq!(weight(max, max, f32::INFINITY), ONE);
    assert_eq!(weight(max.next_down(), max, f32::INFINITY), 0);
}

/// Few candidates are only a faster way.
#[test]
fn a_draw_among_few_is_the_draw_among_all() {
    let mut random = Pcg32::new(5);
    let mut were_few = 0;
    for case in 0..3000_u32 {
        let n = 1 + random.next() % 700;
        let spread = [0.5_f32, 4.0, 12.0][case as usize % 3];
        let equal = case % 5 == 0;
        let logits: Vec<f32> = (0..n)
            .map(|_| (random.next() >> 8) as f32 / 16_777_216.0 * spread)
            .map(|x| if equal { x.round() } else { x })
            .collect();
        let options = SamplerOptions {
            top_p: (random.next() % 1000) as f32 / 1000.0,
            min_p: [0.0, 0.05][case as usize % 2],
            ..SamplerOptions::default()
        };
        let sampler = Sampler::new(options, case.into()).unwrap();
        let mut weights = logits.clone();
        let total = weigh_all(&mut weights, options.temperature).unwrap();
        were_few += u32::from(Few::gather(&weights, total, share_of(total, options.top_p).max(1)).is_some());
        let got = sampler.clone().sample(&mut logits.clone(), &[]).unwrap();
        let mut weights = logits.clone();
        let total = sampler.weigh(&mut weights, &[]).unwrap();
        let draw = sampler.random.clone().below(total);
        let mut sum = 0;
        let want = weights.iter().position(|weight| {
            sum += u64::from(weight.to_bits());
            draw < sum
        });
        assert_eq!(Some(got as usize), want, "case {case}");
    }
    assert!((300..2700).contains(&were_few), "{were_few}");
}

#[test]
fn shares_are_exact() {
    let mut random = Pcg32::new(3);
    for i in 0..20_000_u32 {
        let part = match i % 4 {
            0 => f32::from_bits(random.next() % 0x3F80_0000),
            1 => i as f32 / 20_000.0,
            2 => 1.0 - f32::EPSILON / 2.0,
            _ => f32::from_bits(i),
        };
        let total = u64::from(random.next()) << (random.next() % 28) | 1;
        let share = (f64::from(part) * 4_294_967_296.0) as u128;
        let want = (u128::from(total) * share).div_ceil(1 << 32) as u64;
        assert_eq!(share_of(total, part), want, "{part} of {total}");
    }
}

#[test]
fn draws_are_the_top_half_of_the_product() {
    let (mut random, mut same) = (Pcg32::new(11), Pcg32::new(11));
    for i in 0..10_000_u32 {
        let n = u64::from(i) << (i % 50) | 1;
        let bits = u64::from(same.next()) << 32 | u64::from(same.next());
        assert_eq!(random.below(n), ((u128::from(bits) * u128::from(n)) >> 64) as u64);
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = [0.4_f32, 0.3, 0.2, 0.1].map(f32::ln);
    let mut sampler = Sampler::new(options(1.0, 1.0), 7).unwrap();
    let mut counts = [0_u32; 4];
    for _ in 0..20_000 {
        counts[sampler.sample(&mut logits.clone(), &[]).unwrap() as usize] += 1;
    }
    // Three standard deviations of 20,000 draws are below 210.
    for (count, want) in counts.iter().zip([8000, 6000, 4000, 2000]) {
        assert!(count.abs_diff(want) < 210, "{counts:?}");
    }
}

proptest! {
    /// Against sorting, which is what top-k and top-p say in words.
    #[test]
    fn selection_equals_sorting(
        weights in prop_oneof![
            prop::collection::vec(prop_oneof![0_u32..40, 0..=ONE], 1..60),
            // More than few, all between the same powers of two, many of them equal.
            prop::collection::vec(ONE / 2..ONE / 2 + 300, 30..400),
            prop::collection::vec(prop_oneof![Just(77_u32), 70_u32..90, ONE / 2..ONE], 30..400),
        ],
        k in 1_u64..200,
        share in 0.0_f64..1.0,
    ) {
        let as_floats = || weights.iter().map(|&w| f32::from_bits(w)).collect::<Vec<f32>>();
        let by_sorting = |amount: &dyn Fn(u32) -> u64, target: u64| {
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by_key(|&i| (core::cmp::Reverse(weights[i]), i));
            let (mut kept, mut sum) = (std::vec![0_u32; weights.len()], 0);
            for i in order {
                if sum >= target { break; }
                kept[i] = weights[i];
                if weights[i] > 0 { sum += amount(weights[i]); }
            }
            kept
        };
        let mut got = as_floats();
        keep_most_probable(&mut got, Amount::One, k);
        prop_assert_eq!(got.iter().map(|w| w.to_bits()).collect::<Vec<_>>(), by_sorting(&|_| 1, k));
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        let target = ((total as f64 * share) as u64).max(1);
        let mut got = as_floats();
        let kept = keep_most_probable(&mut got, Amount::Weight, target);
        prop_assert_eq!(kept, sum(&got));
        prop_assert_eq!(got.iter().map(|w| w.to_bits()).collect::<Vec<_>>(), by_sorting(&u64::from, target));
    }
}
