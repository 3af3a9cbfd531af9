//! What `smidgen train` shows on stderr while it works: a bar on a terminal, else a line now and then.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use smidgen_trainer::model::Precision;
use smidgen_trainer::run::{Event, Observer, Plan, Summary};

/// Seconds between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// The bar is not drawn more often than this.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Shows a run's events.
pub struct Progress {
    folder: PathBuf,
    bar: ProgressBar,
    terminal: bool,
    plan: Option<Plan>,
    tokens_per_step: u64,
    loss: f32,
    validation_loss: Option<f32>,
    shown: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Vocabulary,
    Tokens,
    Training,
}

impl Progress {
    /// Nothing shown yet; `folder` is where the run is.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            bar: ProgressBar::hidden(),
            terminal: io::stderr().is_terminal(),
            plan: None,
            tokens_per_step: 1,
            loss: f32::NAN,
            validation_loss: None,
            shown: Instant::now(),
            stage: Stage::Start,
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }

    fn start(&mut self, stage: Stage, length: Option<u64>, template: &str) {
        if self.stage == stage {
            return;
        }
        self.stage = stage;
        self.shown = Instant::now();
        self.bar.finish_and_clear();
        if !self.terminal {
            return;
        }
        let style = ProgressStyle::with_template(template);
        self.bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    fn text(&mut self, stage: Stage, what: &str, done: u64, total: u64) {
        self.start(
            stage,
            Some(total),
            &format!("{what} {{wide_bar}} {{bytes}} of {{total_bytes}}, {{eta}} left"),
        );
        self.bar.set_position(done);
        if !self.terminal && self.shown.elapsed() > LINE_EVERY {
            self.shown = Instant::now();
            eprintln!("{what}: {} of {} bytes", count(done), count(total));
        }
    }

    fn ready(&mut self, summary: &Summary) {
        self.tokens_per_step = summary.tokens_per_step;
        let begin = match summary.step {
            0 => "run".to_owned(),
            step => format!("run, resumed after step {}", count(step)),
        };
        let threads =
            if summary.threads == 1 { "1 thread" } else { &*format!("{} threads", summary.threads) };
        let precision = match summary.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        self.say(&format!("model  {}: {} parameters", summary.model, count(summary.parameters)));
        self.say(&format!(
            "text   {}: {} tokens, and {} held out; {} in the vocabulary, {:.2} bytes each",
            summary.data,
            count(summary.train_tokens),
            count(summary.validation_tokens),
            count(summary.vocab_size.into()),
            summary.bytes_per_token
        ));
        self.say(&format!(
            "{begin}    {}, {} tokens a step, {threads}, {precision}",
            self.folder.display(),
            count(summary.tokens_per_step)
        ));
    }

    fn step(&mut self, step: u64, loss: f32, tokens_per_second: f32) {
        // Single batches are noisy: shown is a mean of the last twenty or so.
        self.loss = if self.loss.is_nan() { loss } else { self.loss + (loss - self.loss) * 0.05 };
        let due = if self.terminal { DRAW_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() < due {
            return;
        }
        self.shown = Instant::now();
        let mut message = format!("loss {:.3}", self.loss);
        if let Some(validation_loss) = self.validation_loss {
            message += &format!(", held out {validation_loss:.3}");
        }
        message += &format!(", {} tokens/s", count(tokens_per_second as u64));
        let of = self.plan.map_or(String::new(), |plan| {
            let left = plan.total_steps.saturating_sub(step) * self.tokens_per_step;
            let left = duration(left as f64 / f64::from(tokens_per_second.max(1.0)));
            message += &format!(", {left} left");
            format!("/{}", plan.total_steps)
        });
        if self.terminal {
            self.bar.set_message(message);
            self.bar.set_position(step);
        } else {
            eprintln!("step {step}{of}: {message}");
        }
    }
}

impl Observer for Progress {
    fn notice(&mut self, event: Event<'_>) {
        match event {
            Event::LearningVocabulary { done, total } => {
                self.text(Stage::Vocabulary, "learning a vocabulary", done, total);
            }
            Event::Tokenizing { done, total } => self.text(Stage::Tokens, "tokenizing", done, total),
            Event::Ready(summary) => {
                self.start(Stage::Training, None, "{spinner} timing the first steps: {msg}");
                self.ready(summary);
            }
            Event::Planned(plan) => {
                self.plan = Some(plan);
                self.stage = Stage::Start;
                self.start(Stage::Training, Some(plan.total_steps), "{wide_bar} {pos}/{len} {msg}");
            }
            Event::Step(row) => self.step(row.step, row.loss, row.tokens_per_second),
            Event::Validation { row, .. } => {
                self.validation_loss = Some(row.validation_loss);
                self.say(&format!(
                    "step {:>6}: held out {:.4} nats a token, {:.4} bits a byte",
                    row.step, row.validation_loss, row.bits_per_byte
                ));
            }
            Event::Sample { step, text } => {
                let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                self.say(&format!("step {step:>6}: {line}"));
            }
            Event::Warning(text) => self.say(&format!("warning: {text}")),
            _ => {}
        }
    }
}

/// A whole number with separators: 12,345.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as minutes and seconds, or hours and minutes: 2:05 min, 3:20 h.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round().clamp(0.0, 1e9) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.4, 59.4, 125.0, 12_000.0].map(duration), ["0 s", "59 s", "2:05 min", "3:20 h"]);
    }
}
