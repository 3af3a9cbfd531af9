//! Softmax and cross-entropy, on some rows of logits at a time: for a large vocabulary the
//! logits of a whole batch would be the largest thing in memory.

use super::math::{exp, max, sum_map, vectorized};
use super::rows_per_job;
use crate::parallel::{Pool, RowsMut};

/// A target that says: no loss here.
pub const IGNORE: u32 = u32::MAX;

/// How many targets count. Their number is what a mean loss is divided by.
pub fn count(targets: &[u32]) -> usize {
    targets.iter().filter(|&&t| t != IGNORE).count()
}

/// Each row's loss in nats, `ln Σ eˣ − x[target]`, 0 where the target is [`IGNORE`].
///
/// `logits` is `[rows, vocab]`, `losses` and `targets` `[rows]`. With `scale`, the logits are
/// replaced by the gradient of `scale · Σ losses`: `scale · (softmax − one at the target)`; to it
/// `z_loss` adds that of `scale · z_loss · (ln Σ eˣ)²` (Chowdhery et al., "PaLM", 2022).
///
/// # Panics
/// When a target is neither below `vocab` nor [`IGNORE`].
pub fn forward(
    pool: &Pool,
    losses: &mut [f32],
    logits: &mut [f32],
    targets: &[u32],
    vocab: usize,
    scale: Option<f32>,
    z_loss: f32,
) {
    let split = (RowsMut::new(losses, 1), RowsMut::new(logits, vocab));
    pool.for_rows(targets.len(), rows_per_job(vocab), split, |range, (losses, logits)| {
        let rows = losses.iter_mut().zip(logits.chunks_exact_mut(vocab));
        for ((loss, row), &target) in rows.zip(&targets[range]) {
            *loss = match (target, scale) {
                (IGNORE, None) => 0.0,
                (IGNORE, Some(_)) => {
                    row.fill(0.0);
                    0.0
                }
                (target, scale) => {
                    assert!((target as usize) < vocab, "target {target} of a vocabulary of {vocab}");
                    one_row(row, target as usize, scale, z_loss)
                }
            };
        }
    });
}

vectorized! {
    fn one_row(row: &mut [f32], target: usize, scale: Option<f32>, z_loss: f32) -> f32 {
        let largest = max(row);
        let at_target = row[target] - largest;
        let Some(scale) = scale else {
            return sum_map(row, |x| exp(x - largest)).ln() - at_target;
        };
        for x in row.iter_mut() {
            *x = exp(*x - largest);
        }
        let sum = sum_map(row, |x| x);
        let factor = scale * (1.0 + 2.0 * z_loss * (sum.ln() + largest)) / sum;
        for x in row.iter_mut() {
            *x *= factor;
        }
        row[target] -= scale;
        sum.ln() - at_target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare};

    #[test]
    fn gradients_match_differences() {
        let (rows, vocab) = (5, 37);
        let targets = [3, IGNORE, 36, 0, 3];
        let mut logits: Vec<f32> = Numbers::new(8).vector(rows * vocab).iter().map(|x| x * 4.0).collect();
        logits[4 * vocab] = 90.0;
        let reference = |v: &[&[f64]]| {
            let rows = v[0].chunks(vocab).zip(targets);
            rows.map(|(row, target)| {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                if target == IGNORE { 0.0 } else { sum.ln() - row[target as usize] }
            })
            .collect::<Vec<_>>()
        };
        let pool = Pool::new(2);
        let mut losses = vec![f32::NAN; rows];
        forward(&pool, &mut losses, &mut logits.clone(), &targets, vocab, None, 0.0);
        let (mut again, mut gradient) = (vec![f32::NAN; rows], logits.clone());
        forward(&pool, &mut again, &mut gradient, &targets, vocab, Some(0.25), 0.0);
        compare(&[&logits], reference, &losses, &[0.25; 5], &[&gradient]);
        assert!(losses.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(count(&targets), 4);
        assert!(gradient[vocab..2 * vocab].iter().all(|&x| x == 0.0));
    }

    #[test]
    fn the_penalty_on_large_logits_is_in_the_gradient_alone() {
        let (rows, vocab, z_loss) = (3, 20, 0.03);
        let targets = [7, 0, 19];
        let logits: Vec<f32> = Numbers::new(9).vector(rows * vocab).iter().map(|x| x * 3.0 + 1.0).collect();
        let reference = |v: &[&[f64]]| {
            let rows = v[0].chunks(vocab).zip(targets);
            rows.map(|(row, target)| {
                let log_sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
                log_sum - row[target as usize] + f64::from(z_loss) * log_sum * log_sum
            })
            .collect::<Vec<_>>()
        };
        let pool = Pool::new(1);
        let (mut losses, mut gradient) = (vec![f32::NAN; rows], logits.clone());
        forward(&pool, &mut losses, &mut gradient, &targets, vocab, Some(0.5), z_loss);
        let in_f64: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let penalized: Vec<f32> = reference(&[&in_f64]).iter().map(|&x| x as f32).collect();
        compare(&[&logits], reference, &penalized, &[0.5; 3], &[&gradient]);
        let mut plain = vec![f32::NAN; rows];
        forward(&pool, &mut plain, &mut logits.clone(), &targets, vocab, None, 0.0);
        assert!(losses.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn not_a_number_shows() {
        let mut losses = [0.0];
        forward(&Pool::new(1), &mut losses, &mut [f32::NAN, 1.0], &[1], 2, None, 0.0);
        assert!(losses[0].is_nan());
    }

    #[test]
    #[should_panic(expected = "target 2 of a vocabulary of 2")]
    fn unknown_target() {
        forward(&Pool::new(1), &mut [0.0], &mut [0.0, 1.0], &[2], 2, None, 0.0);
    }
}
