//! How long a run is: given in steps, or found by timing the first ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Length, RunConfig, ScheduleChoice};
use crate::schedule::Schedule;

/// Looks at the held-out text in a whole run, unless the user says otherwise.
const LOOKS: u64 = 10;
/// Steps that are timed at least, where a minute has many.
const TIMED_STEPS: usize = 20;
/// The first steps, which are slower than all others: memory is touched for the first time.
const UNTIMED_STEPS: usize = 3;

/// The numbers that are fixed once and kept in every checkpoint, so that a resumed run goes on
/// as the unbroken one would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
    /// Steps in which the learning rate rises.
    pub warmup: u64,
    /// Steps between two looks at the held-out text.
    pub eval_every: u64,
    /// Steps between two checkpoints.
    pub save_every: u64,
    /// The steps at the end in which the learning rate falls, if it is not falling all the time.
    pub cooldown: u64,
    /// The first step (counted from 0) that sees rounded weights and activations; none in a run
    /// without.
    pub qat_from: Option<u64>,
}

impl Plan {
    /// The plan for so many steps.
    pub fn new(config: &RunConfig, total_steps: u64) -> Self {
        let training = &config.training;
        let or = |given: u64, otherwise: u64| if given > 0 { given } else { otherwise };
        // A look goes forward only: a third of what a step costs for as many tokens. All looks
        // together should take no more than about a tenth of the run.
        let look = u64::from(training.eval_tokens) / (3 * config.tokens_per_step().max(1));
        let eval_every =
            or(training.eval_every, total_steps.div_ceil(LOOKS).max(look * 10).min(total_steps).max(1));
        let part = |of: u64, part: f64| ((of as f64 * part).round() as u64).min(of);
        let qat_from = training.qat.map(|_| total_steps - part(total_steps, training.qat_part));
        Self {
            // What comes before the rounding ends as a run without rounding would.
            cooldown: part(qat_from.unwrap_or(total_steps), training.cooldown),
            qat_from,
            total_steps,
            warmup: training.warmup.min(total_steps / 10),
            eval_every,
            save_every: or(training.save_every, eval_every),
        }
    }

    /// The plan, if it follows from the configuration and the number of training tokens.
    pub fn known(config: &RunConfig, train_tokens: u64) -> Option<Self> {
        match config.training.length {
            Length::Steps(steps) => Some(Self::new(config, steps)),
            Length::Epochs(epochs) => {
                let steps = (epochs * train_tokens as f64 / config.tokens_per_step() as f64).ceil();
                Some(Self::new(config, (steps as u64).max(1)))
            }
            Length::Minutes(_) => None,
        }
    }
}

/// Steps in which the learning rate of the rounded part rises.
const ROUNDED_WARMUP: u64 = 10;

/// The learning rate of a step; before there is a plan, that of the rise. The part of a run that
/// sees rounded weights has a rise and a fall of its own.
pub fn learning_rate(config: &RunConfig, plan: Option<&Plan>, step: u64) -> f32 {
    if let Some(plan) = plan
        && let Some(from) = plan.qat_from.filter(|&from| step >= from)
    {
        let steps = plan.total_steps - from;
        let (peak, warmup) = (config.qat_lr() as f32, ROUNDED_WARMUP.min(steps / 10));
        return Schedule::stable_decay(peak, 0.0, warmup, steps, steps).learning_rate(step - from);
    }
    schedule(config, plan).learning_rate(step)
}

/// The learning rate of the steps before rounding.
fn schedule(config: &RunConfig, plan: Option<&Plan>) -> Schedule {
    let training = &config.training;
    let peak = training.lr as f32;
    match plan {
        None => Schedule::constant(peak, training.warmup),
        Some(plan) => {
            let min = (training.lr * training.final_lr) as f32;
            let total = plan.qat_from.unwrap_or(plan.total_steps);
            match training.schedule {
                ScheduleChoice::Cosine => Schedule::cosine(peak, min, plan.warmup, total),
                ScheduleChoice::Wsd => Schedule::stable_decay(peak, min, plan.warmup, total, plan.cooldown),
            }
        }
    }
}

/// Times the first steps of a run whose length was given in minutes.
#[derive(Clone, Debug)]
pub struct Calibration {
    budget: f64,
    times: Vec<f64>,
}

impl Calibration {
    /// For a run of so many minutes.
    pub fn new(minutes: f64) -> Self {
        Self { budget: minutes * 60.0, times: Vec::new() }
    }

    /// Takes note of a step; once enough are known, gives the number of steps in the whole run.
    /// `step` steps are done, for which the run has needed `spent` until now; a look at the
    /// held-out text takes `look`.
    pub fn add(&mut self, step: u64, time: Duration, spent: f64, look: Duration) -> Option<u64> {
        self.times.push(time.as_secs_f64());
        let enough = self.times.len() >= TIMED_STEPS && spent >= self.budget * 0.02;
        if !enough && spent < self.budget * 0.1 {
            return None;
        }
        let timed = &mut self.times[..];
        let skip = UNTIMED_STEPS.min(timed.len() - 1);
        let timed = &mut timed[skip..];
        timed.sort_by(f64::total_cmp);
        // The median: another program's short bursts are not this machine's speed.
        let per_step = timed[timed.len() / 2].max(1e-9);
        let left = self.budget - spent - look.as_secs_f64() * LOOKS as f64;
        Some(step + ((left / per_step) as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_epochs_are_known_at_once() {
        let mut config = RunConfig::default();
        config.training.length = Length::Steps(1000);
        let plan = Plan::known(&config, 0).unwrap();
        let same = Plan {
            total_steps: 1000,
            warmup: 100,
            eval_every: 100,
            save_every: 100,
            cooldown: 500,
            qat_from: None,
        };
        assert_eq!(plan, same);
        config.training.qat = Some(crate::run::config::Quant::Q8);
        assert_eq!(Plan::known(&config, 0).unwrap().qat_from, Some(900));
        config.training.qat = None;
        // Short runs of small batches do not spend their time looking.
        config.training.length = Length::Steps(20);
        assert_eq!(Plan::known(&config, 0).unwrap().eval_every, 20);
        config.training.length = Length::Steps(1000);
        config.training.eval_every = 7;
        assert_eq!(Plan::known(&config, 0).unwrap().save_every, 7);
        config.training.length = Length::Epochs(2.5);
        (config.training.batch, config.training.accumulate, config.model.context) = (4, 2, 100);
        assert_eq!(Plan::known(&config, 10_000).unwrap().total_steps, 32);
        config.training.length = Length::Minutes(1.0);
        assert_eq!(Plan::known(&config, 10_000), None);
    }

    #[test]
    fn the_rise_is_the_same_before_and_after_planning() {
        let config = RunConfig::default();
        let plan = Plan::new(&config, 5000);
        for step in 0..=100 {
            let rate = |plan| learning_rate(&config, plan, step);
            assert_eq!(rate(None), rate(Some(&plan)), "step {step}");
        }
        let last = learning_rate(&config, Some(&plan), 4999);
        assert!(f64::from(last) < config.training.lr * (config.training.final_lr + 0.01));
    }

    #[test]
    fn the_rounded_part_has_a_rate_of_its_own() {
        let mut config = RunConfig::default();
        config.training.qat = Some(crate::run::config::Quant::Q4);
        let plan = Plan::new(&config, 1000);
        assert_eq!((plan.qat_from, plan.cooldown), (Some(900), 450));
        let rate = |step| f64::from(learning_rate(&config, Some(&plan), step));
        let training = &config.training;
        assert!((rate(449) - training.lr).abs() < 1e-8, "until the cooldown");
        assert!(rate(899) < training.lr * (training.final_lr + 0.01), "it has ended");
        let peak = config.qat_lr();
        assert!((rate(910) - peak).abs() < 1e-8 && rate(900) < 0.1 * peak);
        assert!(rate(999) < 0.01 * peak && rate(999) >= 0.0);
    }

    #[test]
    fn minutes_become_steps() {
        let look = Duration::from_millis(100);
        let mut calibration = Calibration::new(2.0);
        let mut total = None;
        let mut step = 0;
        while total.is_none() {
            step += 1;
            // Slow at first, with a burst of something else later.
            let time = if step < 4 || step == 9 { 0.5 } else { 0.1 };
            total = calibration.add(step, Duration::from_secs_f64(time), step as f64 * 0.14, look);
        }
        assert_eq!(step, 20);
        // 120 s less the 2.8 s spent and 1 s of looks, at 0.1 s a step.
        assert!((1180..=1184).contains(&total.unwrap()), "{total:?}");
        // Steps so slow that a tenth of the time is gone after one.
        let total = Calibration::new(1.0).add(1, Duration::from_secs(7), 7.0, look);
        assert_eq!(total, Some(8));
        let total = Calibration::new(0.01).add(1, Duration::from_secs(7), 7.0, look);
        assert_eq!(total, Some(2), "at least one more");
    }
}
