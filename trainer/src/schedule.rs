//! The learning rate as a function of the step.

/// A learning rate that rises linearly and then does as its kind says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The largest rate.
    pub peak: f32,
    /// The rate at the end.
    pub min: f32,
    /// Steps of the rise; step `warmup` is the first at the peak.
    pub warmup: u64,
    /// What comes after.
    pub kind: Kind,
}

/// What a learning rate does after its rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It stays.
    Constant,
    /// It falls along half a cosine, to the minimum at step `total`.
    Cosine {
        /// The last step of the fall.
        total: u64,
    },
    /// It stays and then falls as 1 − √progress (Hägele et al., "Scaling laws and
    /// compute-optimal training beyond fixed training durations", 2024).
    StableDecay {
        /// The last step of the fall.
        total: u64,
        /// Steps of the fall.
        decay: u64,
    },
}

impl Schedule {
    /// A rise, then the same rate for ever.
    pub fn constant(peak: f32, warmup: u64) -> Self {
        Self { peak, min: peak, warmup, kind: Kind::Constant }
    }

    /// A rise, then half a cosine from `peak` to `min`, which it reaches at step `total`.
    pub fn cosine(peak: f32, min: f32, warmup: u64, total: u64) -> Self {
        Self { peak, min, warmup, kind: Kind::Cosine { total } }
    }

    /// A rise, then `peak`, and in the last `decay` steps before `total` a fall to `min`.
    pub fn stable_decay(peak: f32, min: f32, warmup: u64, total: u64, decay: u64) -> Self {
        Self { peak, min, warmup, kind: Kind::StableDecay { total, decay } }
    }

    /// The rate for a step, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f32 {
        let (peak, min) = (f64::from(self.peak), f64::from(self.min));
        if step < self.warmup {
            return (peak * (step + 1) as f64 / (self.warmup + 1) as f64) as f32;
        }
        let height = match self.kind {
            Kind::Constant => return self.peak,
            Kind::Cosine { total } => {
                let progress = progress(step, self.warmup, total);
                0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            Kind::StableDecay { total, decay } => {
                let start = total.saturating_sub(decay).max(self.warmup);
                1.0 - progress(step, start, total).sqrt()
            }
        };
        (min + (peak - min) * height) as f32
    }
}

/// How far a step is from `start` (0) to `end` (1).
fn progress(step: u64, start: u64, end: u64) -> f64 {
    if step >= end {
        return 1.0;
    }
    step.saturating_sub(start) as f64 / (end - start.min(end)).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: Schedule, rates: &[(u64, f32)]) {
        for &(step, want) in rates {
            let got = schedule.learning_rate(step);
            assert!((got - want).abs() < 1e-6, "step {step}: {got}, not {want}");
        }
    }

    #[test]
    fn rates_at_the_turning_points() {
        check(Schedule::constant(1.0, 3), &[(0, 0.25), (2, 0.75), (3, 1.0), (1 << 40, 1.0)]);
        let cosine = Schedule::cosine(1.0, 0.1, 4, 24);
        check(cosine, &[(0, 0.2), (3, 0.8), (4, 1.0), (14, 0.55), (24, 0.1), (1000, 0.1)]);
        // A third of the way down half a cosine: 0.1 + 0.9 · (1 + cos 60°) / 2.
        check(Schedule::cosine(1.0, 0.1, 0, 30), &[(0, 1.0), (10, 0.775)]);
        let stable = Schedule::stable_decay(1.0, 0.0, 2, 100, 16);
        check(stable, &[(1, 2.0 / 3.0), (2, 1.0), (84, 1.0), (88, 0.5), (93, 0.25), (100, 0.0)]);
    }

    #[test]
    fn odd_plans_give_finite_rates_within_bounds() {
        for (warmup, total, decay) in [(0, 0, 0), (10, 5, 3), (5, 5, 9), (0, 1, 100)] {
            for schedule in [
                Schedule::cosine(1.0, 0.1, warmup, total),
                Schedule::stable_decay(1.0, 0.1, warmup, total, decay),
            ] {
                for step in 0..30 {
                    let rate = schedule.learning_rate(step);
                    assert!((0.0..=1.0).contains(&rate), "{schedule:?} at {step}: {rate}");
                }
            }
        }
    }
}
