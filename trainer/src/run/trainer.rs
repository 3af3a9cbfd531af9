//! The training loop.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use smidgen_runtime::tokenizer::TokenizerSpec;

use super::checkpoint::{self, Best, Memory, Rounding, STATE_VERSION, State};
use super::config::{Length, RunConfig};
use super::error::TrainError;
use super::finish;
use super::metrics::{MetricsFile, Row, StepRow, ValidationRow};
use super::observer::{Event, Observer, Summary};
use super::optimizer::Optimizer;
use super::plan::{Calibration, Plan, learning_rate};
use super::prepare::Prepared;
use super::start;
use super::train::{Outcome, Run, bits_per_byte};
use super::watch::{Speed, Spikes};
use super::weights;
use crate::data::files::write_file;
use crate::data::{Batches, TokenFiles, ValidationWindows};
use crate::model::{Model, Precision, Regime, Workspace, forward_backward, forward_loss};
use crate::parallel::Pool;
use crate::qat::FakeQuant;
use crate::rng::Rng;

/// Rows that `metrics.jsonl` has of a long run, about.
const LOGGED_STEPS: u64 = 20_000;
/// Seconds after which a checkpoint is written even if no look is due.
const SAVE_SECONDS: f64 = 600.0;

/// Everything that a step needs.
pub(super) struct Trainer<'a> {
    run: &'a Run,
    config: &'a RunConfig,
    tokenizer: &'a TokenizerSpec,
    tokens: &'a TokenFiles,
    pool: &'a Pool,
    batches: Batches<'a>,
    windows: ValidationWindows<'a>,
    model: Model,
    workspace: Workspace,
    /// Of the products of a step without rounding.
    precision: Precision,
    optimizer: Optimizer,
    /// The rounded weights, in a run that is trained for them.
    rounded: Option<FakeQuant>,
    state: State,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    /// The step of the last checkpoint.
    saved: Option<u64>,
    /// When this process began training, and the seconds spent before that.
    begun: (Instant, f64),
}

impl<'a> Trainer<'a> {
    pub(super) fn new(run: &'a Run, prepared: &'a Prepared, pool: &'a Pool) -> Result<Self, TrainError> {
        let Prepared { tokenizer, tokens } = prepared;
        let (config, training) = (&run.config, &run.config.training);
        // A checkpoint's embedding may have more rows than its tokenizer has tokens.
        let vocab_size = match config.from {
            Some(_) => config.data.vocab_size,
            None => tokenizer.tokens.len() as u32,
        };
        let mut model = Model::new(config.model.with_vocab(vocab_size)?, config.model.options())?;
        if run.from.is_none() {
            start::weights(&mut model, config)?;
        }
        let (batch, context) = (training.batch as usize, config.model.context as usize);
        let state = State {
            version: STATE_VERSION,
            step: 0,
            tokens: 0,
            seconds: 0.0,
            plan: Plan::known(config, tokens.train().len() as u64),
            validation_loss: None,
            best: None,
            data_fingerprint: format!("{:016x}", tokens.fingerprint()),
            config: config.clone(),
        };
        Ok(Self {
            run,
            config,
            tokenizer,
            tokens,
            pool,
            batches: Batches::new(tokens.train(), batch, context, training.seed)?,
            windows: ValidationWindows::new(
                tokens.validation(),
                batch,
                context,
                training.eval_tokens as usize,
            )?,
            workspace: if training.grad_checkpoint {
                Workspace::with_checkpoints(&model, batch, context)?
            } else {
                Workspace::new(&model, batch, context)?
            },
            precision: training.precision.here()?,
            optimizer: Optimizer::new(&model.layout, training, training.precision.here()?),
            rounded: training.qat.map(|_| {
                let matrices = weights::quantized_matrices(&model, &config.convert_options());
                FakeQuant::new(model.params.len(), matrices)
            }),
            model,
            state,
            inputs: vec![0; batch * context],
            targets: vec![0; batch * context],
            saved: None,
            begun: (Instant::now(), 0.0),
        })
    }

    /// Takes up the state of a checkpoint.
    pub(super) fn load(&mut self, folder: &Path) -> Result<(), TrainError> {
        let state = checkpoint::read_state(folder)?;
        if state.data_fingerprint != self.state.data_fingerprint {
            let (found, expected) = (self.state.data_fingerprint.clone(), state.data_fingerprint);
            return Err(TrainError::DataChanged { found, expected });
        }
        let rounds_since = state.plan.and_then(|plan| plan.qat_from).filter(|&from| state.step >= from);
        if rounds_since.is_some() {
            self.optimizer.begin_rounding(&self.model.layout);
        }
        checkpoint::read(folder, &mut self.model, &mut self.optimizer.adamw)?;
        self.optimizer.adamw.step = state.step - rounds_since.unwrap_or(0);
        if let Some(rounded) = self.rounded.as_mut().filter(|_| rounds_since.is_some()) {
            let groups = rounded.groups();
            if let Some(steps) = checkpoint::read_steps(folder, groups)? {
                rounded.set_steps(steps);
            }
        }
        self.saved = Some(state.step);
        self.begun.1 = state.seconds;
        self.state = state;
        Ok(())
    }

    pub(super) fn summary(&self) -> Result<Summary, TrainError> {
        let shape = &self.config.model;
        let heads = match shape.kv_heads {
            kv_heads if kv_heads == shape.heads => format!("{} heads", shape.heads),
            kv_heads => format!("{} heads ({kv_heads} kv)", shape.heads),
        };
        let data = self.config.data.paths.first().map_or("built-in stories".to_owned(), |first| {
            match self.config.data.paths.len() {
                1 => first.display().to_string(),
                n => format!("{} and {} more", first.display(), n - 1),
            }
        });
        Ok(Summary {
            model: format!(
                "{}, {} layers, width {}, {heads}, ffn {}, context {}",
                self.model.config.architecture.name(),
                shape.layers,
                shape.dim,
                shape.ffn,
                shape.context
            ),
            parameters: self.model.params.len() as u64,
            data,
            train_tokens: self.tokens.train().len() as u64,
            validation_tokens: self.tokens.validation().len() as u64,
            vocab_size: self.model.config.vocab_size,
            bytes_per_token: self.tokens.bytes_per_token(),
            tokens_per_step: self.config.tokens_per_step(),
            step: self.state.step,
            threads: self.pool.threads(),
            precision: self.precision,
        })
    }

    pub(super) fn run(
        mut self,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        // Not with the next checkpoint: a run that was killed after its last one writes none.
        self.run.folder.remove_leftovers()?;
        let mut metrics = MetricsFile::open_after(&self.run.folder.metrics(), self.state.step)?;
        self.begun.0 = Instant::now();
        // The loss before the first step tells whether anything is learned at all; and how long
        // a look takes must be known to plan a run of minutes.
        let look = Instant::now();
        if self.state.step == 0 {
            self.look(&mut metrics, observer)?;
        }
        let look = look.elapsed();
        let mut calibration = match (self.config.training.length, self.state.plan) {
            (Length::Minutes(minutes), None) => Some(Calibration::new(minutes)),
            _ => None,
        };
        if let Some(plan) = self.state.plan {
            observer.notice(Event::Planned(plan));
        }
        let mut speed = Speed::new(self.config.tokens_per_step());
        let mut spikes = Spikes::new("loss", "a smaller --lr");
        let mut norms = Spikes::new("gradient's norm", "a smaller --lr or --grad-clip");
        let mut last_save = self.seconds();
        while self.state.plan.is_none_or(|plan| self.state.step < plan.total_steps) {
            if stop.load(Ordering::Relaxed) {
                self.save(&mut metrics, observer)?;
                return Ok(self.outcome(false));
            }
            let begin = Instant::now();
            let mut row = self.step()?;
            row.tokens_per_second = speed.add(begin.elapsed());
            observer.notice(Event::Step(&row));
            let warnings = [spikes.add(row.step, row.loss), norms.add(row.step, row.grad_norm)];
            for warning in warnings.into_iter().flatten() {
                observer.notice(Event::Warning(&warning));
            }
            let every = self.state.plan.map_or(1, |plan| plan.total_steps.div_ceil(LOGGED_STEPS));
            if row.step.is_multiple_of(every) {
                metrics.add(&Row::Step(row))?;
            }
            if let Some(timing) = &mut calibration
                && let Some(total) = timing.add(row.step, begin.elapsed(), self.seconds(), look)
            {
                let plan = Plan::new(self.config, total);
                self.state.plan = Some(plan);
                observer.notice(Event::Planned(plan));
                calibration = None;
            }
            let Some(plan) = self.state.plan else { continue };
            let last = row.step == plan.total_steps;
            let save = last || row.step.is_multiple_of(plan.save_every);
            // A checkpoint always knows how good it is.
            if save || row.step.is_multiple_of(plan.eval_every) {
                self.look(&mut metrics, observer)?;
            }
            if save || self.seconds() - last_save > SAVE_SECONDS {
                self.save(&mut metrics, observer)?;
                last_save = self.seconds();
            }
        }
        if self.saved != Some(self.state.step) {
            self.save(&mut metrics, observer)?;
        }
        Ok(self.outcome(true))
    }

    /// One optimizer step.
    fn step(&mut self) -> Result<StepRow, TrainError> {
        let training = &self.run.config.training;
        let step = self.state.step;
        let lr = learning_rate(self.config, self.state.plan.as_ref(), step);
        let parts = u64::from(training.accumulate);
        let rounds = self.rounds_since().is_some();
        self.workspace.zero_grads();
        // What the runtime would see must not be rounded once more.
        self.workspace.precision = if rounds { Precision::F32 } else { self.precision };
        self.round();
        let mut loss = 0.0;
        for part in 0..parts {
            self.batches.fill(step * parts + part, &mut self.inputs, &mut self.targets);
            let (inputs, targets) = (&self.inputs, &self.targets);
            let (model, workspace) = (&self.model, &mut self.workspace);
            workspace.regime = Regime {
                round_activations: rounds,
                dropout: training.dropout as f32,
                dropout_seed: Rng::at(training.seed ^ 0x6472_6f70_6f75_7421, step * parts + part).next_u64(),
                z_loss: training.z_loss as f32,
            };
            let scale = 1.0 / parts as f32;
            loss += forward_backward(model, workspace, self.pool, inputs, targets, scale) * scale;
        }
        self.round_back();
        if !loss.is_finite() {
            return Err(self.not_finite("loss", loss));
        }
        let max_norm = (training.grad_clip > 0.0).then_some(training.grad_clip as f32);
        let grads = self.workspace.grads();
        if let (Some(from), Some(rounded)) = (self.rounds_since(), &mut self.rounded) {
            rounded.learn(self.pool, &self.model.params, grads, lr, step - from);
        }
        let grad_norm = self.optimizer.update(self.pool, &mut self.model, grads, lr, max_norm);
        if !grad_norm.is_finite() {
            return Err(self.not_finite("gradient's norm", grad_norm));
        }
        self.state.step += 1;
        self.state.tokens += self.config.tokens_per_step();
        self.state.validation_loss = None;
        Ok(StepRow {
            step: self.state.step,
            tokens: self.state.tokens,
            loss,
            lr,
            grad_norm,
            tokens_per_second: 0.0,
            seconds: self.seconds() as f32,
        })
    }

    /// The step from which on weights and activations are rounded, if it has come.
    fn rounds_since(&self) -> Option<u64> {
        let from = self.state.plan.and_then(|plan| plan.qat_from);
        from.filter(|&from| self.state.step >= from)
    }

    /// The first time that weights are to be rounded, the optimizer forgets how it was without.
    fn begin_rounding(&mut self) {
        let begun = self.rounded.as_ref().is_none_or(|rounded| rounded.steps().is_some());
        if self.rounds_since().is_some() && !begun {
            self.optimizer.begin_rounding(&self.model.layout);
        }
    }

    /// From here to [`Self::round_back`] the model has the weights of the model file, if it is
    /// time for that.
    fn round(&mut self) {
        self.begin_rounding();
        if self.rounds_since().is_some()
            && let Some(rounded) = &mut self.rounded
        {
            rounded.swap_in(self.pool, &mut self.model.params);
        }
    }

    fn round_back(&mut self) {
        if self.rounds_since().is_some()
            && let Some(rounded) = &mut self.rounded
        {
            rounded.swap_back(&mut self.model.params);
        }
    }

    fn not_finite(&self, what: &'static str, value: f32) -> TrainError {
        let kept = match self.saved {
            Some(step) => format!("the checkpoint of step {step} is kept"),
            None => "there was no checkpoint yet".to_owned(),
        };
        TrainError::NotFinite { step: self.state.step + 1, what, value, kept }
    }

    /// Tries the model on the held-out text.
    fn look(&mut self, metrics: &mut MetricsFile, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let rounds_since = self.rounds_since();
        self.workspace.precision = Precision::F32;
        self.workspace.regime = Regime { round_activations: rounds_since.is_some(), ..Regime::default() };
        self.round();
        let mut sum = 0.0;
        for index in 0..self.windows.n_batches() {
            self.windows.fill(index, &mut self.inputs, &mut self.targets);
            let (inputs, targets) = (&self.inputs, &self.targets);
            let loss = forward_loss(&self.model, &mut self.workspace, self.pool, inputs, targets);
            sum += f64::from(loss);
        }
        // What would be written now is what was measured.
        let training = &self.config.training;
        let step = self.state.step;
        let sample = if training.sample_tokens > 0 && step > 0 {
            let checkpoint = weights::to_checkpoint(&self.model, self.tokenizer, "sample");
            let (seed, tokens) = (training.seed, training.sample_tokens);
            Some(finish::sample_checkpoint(&checkpoint, &self.config.convert_options(), seed, tokens))
        } else {
            None
        };
        self.round_back();
        let validation_loss = (sum / self.windows.n_batches() as f64) as f32;
        if !validation_loss.is_finite() {
            return Err(self.not_finite("loss on the held-out text", validation_loss));
        }
        let tokens = self.state.tokens;
        // A model that was never rounded is none that the model file could be made of.
        let best = self.state.best.filter(|best| rounds_since.is_none_or(|from| best.step >= from));
        let best = best.is_none_or(|best| validation_loss < best.validation_loss);
        // The untrained model is none to go back to.
        if best && step > 0 {
            self.state.best = Some(Best { step, validation_loss });
        }
        self.state.validation_loss = Some(validation_loss);
        let bits_per_byte = bits_per_byte(validation_loss, self.tokens.bytes_per_token());
        let seconds = self.seconds() as f32;
        let row = ValidationRow { step, tokens, validation_loss, bits_per_byte, seconds };
        metrics.add(&Row::Validation(row))?;
        metrics.flush()?;
        observer.notice(Event::Validation { row: &row, best });
        if let Some(text) = sample {
            let text = text?;
            let path = self.run.folder.sample(step);
            write_file(&path, |file| file.write_all(text.as_bytes()))
                .map_err(TrainError::io("write", &path))?;
            observer.notice(Event::Sample { step, text: &text });
        }
        Ok(())
    }

    fn save(&mut self, metrics: &mut MetricsFile, observer: &mut dyn Observer) -> Result<(), TrainError> {
        metrics.flush()?;
        let step = self.state.step;
        if self.saved == Some(step) {
            return Ok(());
        }
        self.state.seconds = self.seconds();
        let folder = &self.run.folder;
        // Of looks between two checkpoints only the numbers are left: a best that was not saved
        // is none to go back to.
        if let Some(best) = self.state.best
            && best.step != step
            && !folder.checkpoint(best.step).exists()
        {
            self.state.best =
                self.state.validation_loss.map(|validation_loss| Best { step, validation_loss });
        }
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What is saved is what the model file will hold.
        let rounds = self.rounds_since().is_some();
        self.round();
        let memory = Memory {
            optimizer: &self.optimizer.adamw,
            rounding: self
                .rounded
                .as_ref()
                .filter(|_| rounds)
                .map(|rounded| Rounding { exact: rounded.exact(), steps: rounded.steps() }),
        };
        let written = folder.add_checkpoint(step, |part| {
            checkpoint::write(part, &self.model, &memory, self.tokenizer, &name, &self.state)
        });
        self.round_back();
        let path = written?;
        let newest = folder.checkpoints()?.into_iter().rev().map(|(step, _)| step);
        // After going back to an older checkpoint there may be newer ones, of another history.
        let newest = newest.filter(|&other| other <= step).take(self.config.training.keep as usize);
        let keep: Vec<u64> = newest.chain(self.state.best.map(|best| best.step)).collect();
        folder.remove_checkpoints_but(&keep)?;
        self.saved = Some(step);
        observer.notice(Event::Saved { step, path: &path });
        Ok(())
    }

    /// Seconds of training, in this process and before.
    fn seconds(&self) -> f64 {
        self.begun.0.elapsed().as_secs_f64() + self.begun.1
    }

    fn outcome(&self, finished: bool) -> Outcome {
        let folder = &self.run.folder;
        Outcome {
            folder: folder.path().to_path_buf(),
            checkpoint: folder.checkpoint(self.state.step),
            best: self.state.best,
            step: self.state.step,
            total_steps: self.state.plan.map(|plan| plan.total_steps),
            tokens: self.state.tokens,
            seconds: self.state.seconds,
            bytes_per_token: self.tokens.bytes_per_token(),
            finished,
        }
    }
}
