//! A run: begun or taken up again, and how it ended.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::checkpoint::{self, Best};
use super::config::RunConfig;
use super::error::TrainError;
use super::folder::RunFolder;
use super::observer::{Event, Observer};
use super::prepare::prepare;
use super::start;
use super::stdin::{STDIN, Stdin};
use super::trainer::Trainer;
use super::weights;
use crate::data::files::write_json;
use crate::data::{DataError, TokenCache};
use crate::model::Model;
use crate::parallel::Pool;

/// A run that is about to begin or to go on.
#[derive(Debug)]
pub struct Run {
    pub(super) folder: RunFolder,
    pub(super) config: RunConfig,
    pub(super) from: Option<PathBuf>,
    fresh: bool,
    cache: Option<TokenCache>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The run's folder.
    pub folder: PathBuf,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The best checkpoint, if it is still there: of the lowest loss on held-out text.
    pub best: Option<Best>,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run, if it came so far that this was known.
    pub total_steps: Option<u64>,
    /// Tokens seen.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Bytes of text a token.
    pub bytes_per_token: f64,
    /// False if the run was stopped before its end.
    pub finished: bool,
}

impl Run {
    /// A new run in the folder `out`, or in a fresh one below `runs`. If `-` is among the data, the
    /// process's standard input is read to its end and kept in the folder.
    ///
    /// # Errors
    /// A setting out of range, data that is not there, or a folder that cannot be made or is in
    /// use; then nothing is left behind.
    pub fn create(config: RunConfig, out: Option<&Path>) -> Result<Self, TrainError> {
        let mut config = config;
        start::complete(&mut config)?;
        config.validate()?;
        let (mut source, named) = (None, config.data.clone());
        if config.data.takes_stdin()? {
            source = Some(Stdin::open()?);
            config.data.paths.retain(|path| path != Path::new(STDIN));
        }
        if source.is_none() || !config.data.paths.is_empty() {
            config.data.corpus(config.training.seed)?;
        }
        // A run must find its text again when it is resumed from elsewhere.
        for path in &mut config.data.paths {
            *path = std::path::absolute(&*path).map_err(TrainError::io("find", path))?;
        }
        let model = Model::new(config.model.with_vocab(config.data.vocab_size)?, config.model.options())?;
        weights::check_types(&model, &config.keep_types)?;
        drop(model);
        let folder = match out {
            Some(out) => RunFolder::create(out)?,
            None => RunFolder::create_numbered(Path::new("runs"), &named.name())?,
        };
        match Self::begin(&folder, config, source) {
            Ok(config) => Ok(Self { folder, config, from: None, fresh: true, cache: None }),
            Err(error) => {
                folder.discard();
                Err(error)
            }
        }
    }

    /// Writes down what is to be done, and keeps the text of a stream.
    fn begin(
        folder: &RunFolder,
        mut config: RunConfig,
        source: Option<Stdin>,
    ) -> Result<RunConfig, TrainError> {
        if let Some(source) = source {
            config.data.paths.push(source.keep(folder.path())?);
        }
        let path = folder.config();
        write_json(&path, &config).map_err(TrainError::io("write", &path))?;
        Ok(config)
    }

    /// Looks for the text's tokens in this cache, and adds them to it.
    pub fn with_cache(self, cache: Option<TokenCache>) -> Self {
        Self { cache, ..self }
    }

    /// Goes on with the run of which `path` is the folder or a checkpoint.
    ///
    /// # Errors
    /// Nothing to resume there.
    pub fn resume(path: &Path) -> Result<Self, TrainError> {
        let (folder, from) = RunFolder::find(path)?;
        let config = match &from {
            Some(checkpoint) => checkpoint::read_state(checkpoint)?.config,
            None => RunConfig::read(&folder.config())?,
        };
        Ok(Self { folder, config, from, fresh: false, cache: None })
    }

    /// Where the run keeps everything.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// What the run was asked to do.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Trains to the end, or until `stop` is set; either way the last step is in a checkpoint.
    /// How many threads `pool` has changes the speed, not one bit of the result.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if training ran away; unreadable text, a full disk and the like.
    /// Whole checkpoints stay; the folder of a run that has none is removed if the run is new.
    pub fn train(
        self,
        pool: &Pool,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let result = self.train_in_folder(pool, stop, observer);
        if result.is_err() && self.fresh && self.folder.checkpoints().is_ok_and(|all| all.is_empty()) {
            self.folder.discard();
        }
        result
    }

    fn train_in_folder(
        &self,
        pool: &Pool,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let cache = self.cache.as_ref();
        let prepared = prepare(&self.folder, &self.config, cache, pool, stop, observer)?;
        let mut trainer = Trainer::new(self, &prepared, pool)?;
        if let Some(from) = &self.from {
            trainer.load(from)?;
        }
        observer.notice(Event::Ready(&trainer.summary()?));
        trainer.run(stop, observer)
    }
}

/// A loss in nats a token as bits a byte of text.
pub fn bits_per_byte(loss: f32, bytes_per_token: f64) -> f32 {
    (f64::from(loss) / core::f64::consts::LN_2 / bytes_per_token) as f32
}

/// True if the error only says that the user has stopped the run before it began.
pub fn was_stopped(error: &TrainError) -> bool {
    matches!(error, TrainError::Data(DataError::Stopped))
}
