//! The arithmetic between a model's logits and the choice of a token, in f64 and in the order of
//! the textbook. (The runtime does the same in integers, so that every machine agrees; a test holds
//! the two together.)

/// e^logit over the sum of all of them: positive numbers that add up to one.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    // Subtracting the largest first changes nothing in the ratios and keeps e^x finite.
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// Softmax of the logits divided by the temperature; at 0 all goes to the largest (the first of
/// equals).
pub fn with_temperature(logits: &[f64], temperature: f64) -> Vec<f64> {
    if temperature == 0.0 {
        let best = ranked(logits).first().copied();
        return (0..logits.len()).map(|i| if Some(i) == best { 1.0 } else { 0.0 }).collect();
    }
    softmax(&logits.iter().map(|logit| logit / temperature).collect::<Vec<_>>())
}

/// Keeps the fewest largest probabilities that together reach `top_p` (at least one, the first
/// among equals), and makes them add up to one again.
pub fn with_top_p(probabilities: &[f64], top_p: f64) -> Vec<f64> {
    if top_p >= 1.0 {
        return probabilities.to_vec();
    }
    let mut kept = vec![0.0; probabilities.len()];
    let mut sum = 0.0;
    for i in ranked(probabilities) {
        kept[i] = probabilities[i];
        sum += probabilities[i];
        if sum >= top_p {
            break;
        }
    }
    kept.iter().map(|p| p / sum).collect()
}

/// How surprised one is by what had this probability: −ln p, in nats.
pub fn cross_entropy(p: f64) -> f64 {
    // + 0 makes the −0 of a certainty a plain 0.
    -p.ln() + 0.0
}

/// The slope of the loss in each logit: probability minus one for the true token, minus zero for
/// the others. Training moves each logit against it.
pub fn gradient(probabilities: &[f64], target: usize) -> Vec<f64> {
    let mut slope = probabilities.to_vec();
    slope[target] -= 1.0;
    slope
}

/// Indices from the largest value to the smallest, the lower index first among equals.
pub fn ranked(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_runtime::{Sampler, SamplerOptions};

    #[track_caller]
    fn close(got: &[f64], want: &[f64], within: f64) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < within, "{got} is not {want}");
        }
    }

    fn logits_of(probabilities: [f64; 4]) -> Vec<f64> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn softmax_of_three_logits_is_what_one_works_out_on_paper() {
        close(&softmax(&[3.2, 1.3, -2.1]), &[0.866, 0.130, 0.004], 0.0005);
        close(&softmax(&[1000.0, 1000.0]), &[0.5, 0.5], 1e-12);
        close(&softmax(&[f64::NEG_INFINITY, 0.0]), &[0.0, 1.0], 1e-12);
    }

    #[test]
    fn cross_entropy_of_likely_and_unlikely() {
        assert!((cross_entropy(0.866) - 0.144).abs() < 0.0005);
        assert!((cross_entropy(0.01) - 4.605).abs() < 0.0005);
        assert_eq!(cross_entropy(1.0).to_bits(), 0);
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        let logits = logits_of([0.4, 0.3, 0.2, 0.1]);
        close(&with_temperature(&logits, 0.5), &[0.533, 0.300, 0.133, 0.033], 0.0005);
        close(&with_temperature(&logits, 2.0), &[0.325, 0.281, 0.230, 0.163], 0.001);
        close(&with_temperature(&logits, 1.0), &[0.4, 0.3, 0.2, 0.1], 1e-12);
        assert_eq!(with_temperature(&[1.0, 5.0, 5.0], 0.0), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        let p = [0.1, 0.4, 0.2, 0.3];
        close(&with_top_p(&p, 0.5), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0], 1e-12);
        close(&with_top_p(&p, 0.0), &[0.0, 1.0, 0.0, 0.0], 1e-12);
        close(&with_top_p(&p, 1.0), &p, 1e-12);
        close(&with_top_p(&[0.25; 4], 0.5), &[0.5, 0.5, 0.0, 0.0], 1e-12);
    }

    /// Against differences of the loss itself.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let logits = [0.3, -1.2, 2.0, 0.7];
        let loss = |logits: &[f64]| cross_entropy(softmax(logits)[1]);
        let slope = gradient(&softmax(&logits), 1);
        for (i, slope) in slope.iter().enumerate() {
            let (mut up, mut down) = (logits, logits);
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let measured = (loss(&up) - loss(&down)) / 2e-5;
            assert!((measured - slope).abs() < 1e-8, "{i}: {slope} is not {measured}");
        }
        assert!(slope.iter().sum::<f64>().abs() < 1e-12);
    }

    #[test]
    fn the_runtime_draws_with_these_probabilities() {
        let logits: Vec<f32> = (0..200).map(|i| ((i * i) % 97) as f32 * 0.11 - 4.0).collect();
        let exact: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        for (temperature, top_p) in [(1.0, 1.0), (0.5, 0.9), (1.7, 0.33), (0.8, 0.05)] {
            let options = SamplerOptions { temperature, top_p, ..SamplerOptions::default() };
            let mut weights = logits.clone();
            let total = Sampler::new(options, 0).unwrap().weigh(&mut weights, &[]).unwrap() as f64;
            let runtime: Vec<f64> = weights.iter().map(|w| f64::from(w.to_bits()) / total).collect();
            let here = with_top_p(&with_temperature(&exact, temperature.into()), top_p.into());
            close(&runtime, &here, 1e-6);
        }
    }
}
