//! Keeps an eye on a run: how fast it is, and whether the loss jumps.

use std::time::Duration;

/// Seconds over which speed is averaged.
const SPEED_MEMORY: f64 = 2.0;
/// Steps over which the usual loss is averaged.
const LOSS_MEMORY: f32 = 50.0;
/// Steps without another warning after one.
const QUIET: u64 = 100;

/// Speed of late.
#[derive(Clone, Debug)]
pub(super) struct Speed {
    tokens_per_step: f64,
    tokens: f64,
    seconds: f64,
}

impl Speed {
    pub(super) fn new(tokens_per_step: u64) -> Self {
        Self { tokens_per_step: tokens_per_step as f64, tokens: 0.0, seconds: 0.0 }
    }

    /// Takes note of a step, and gives tokens a second.
    pub(super) fn add(&mut self, time: Duration) -> f32 {
        let time = time.as_secs_f64().max(1e-9);
        let keep = (-time / SPEED_MEMORY).exp();
        self.tokens = self.tokens * keep + self.tokens_per_step;
        self.seconds = self.seconds * keep + time;
        (self.tokens / self.seconds) as f32
    }
}

/// Notices a number far above the usual.
#[derive(Clone, Debug)]
pub(super) struct Spikes {
    what: &'static str,
    advice: &'static str,
    mean: f32,
    deviation: f32,
    seen: u64,
    quiet_until: u64,
}

impl Spikes {
    /// For the number that is called so; `advice` is what to try against it.
    pub(super) fn new(what: &'static str, advice: &'static str) -> Self {
        Self { what, advice, mean: 0.0, deviation: 0.0, seen: 0, quiet_until: 0 }
    }

    /// Takes note of a value; if it is a spike, says so.
    pub(super) fn add(&mut self, step: u64, value: f32) -> Option<String> {
        let above = value - self.mean;
        // Noise is no spike, whatever its size: so it must also be many deviations.
        let is_spike =
            self.seen as f32 >= LOSS_MEMORY && above > (0.25 * self.mean).max(8.0 * self.deviation);
        let mean = self.mean;
        self.seen += 1;
        let weight = 1.0 / (self.seen as f32).min(LOSS_MEMORY);
        self.mean += weight * above;
        self.deviation += weight * (above.abs() - self.deviation);
        if !is_spike || step < self.quiet_until {
            return None;
        }
        self.quiet_until = step + QUIET;
        Some(format!(
            "step {step}: the {} jumped to {value:.3}, it was {mean:.3} on average; if it stays up, try {}",
            self.what, self.advice
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_forgets_the_past() {
        let mut speed = Speed::new(1000);
        assert_eq!(speed.add(Duration::from_secs(1)), 1000.0);
        let mut last = 0.0;
        for _ in 0..100 {
            last = speed.add(Duration::from_millis(100));
        }
        assert!((9_500.0..10_000.1).contains(&last), "{last}");
    }

    #[test]
    fn only_spikes_are_told_and_not_each_of_them() {
        let mut spikes = Spikes::new("loss", "less");
        let noise = |step: u64| ((step * 7919) % 101) as f32 / 250.0;
        for step in 1..500 {
            let loss = 6.0 / (step as f32).powf(0.2) + noise(step);
            assert_eq!(spikes.add(step, loss), None, "step {step}");
        }
        let warning = spikes.add(500, 4.5).unwrap();
        assert!(warning.contains("step 500: the loss jumped") && warning.contains("4.500"), "{warning}");
        assert_eq!(spikes.add(501, 4.5), None);
    }
}
