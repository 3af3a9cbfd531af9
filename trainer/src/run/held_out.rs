//! The held-out text of a run as its looks see it: for measuring something else on the same.

use std::path::Path;

use smidgen_converter::quality::Window;

use super::config::RunConfig;
use super::error::TrainError;
use super::folder::RunFolder;
use crate::data::{TokenFiles, ValidationWindows};

/// Whether a path is the folder of a run.
pub fn is_run(path: &Path) -> bool {
    RunFolder::config_in(path).is_file()
}

/// The windows that the run in this folder measures its loss on. The run may be going on.
///
/// # Errors
/// A folder without a run, or whose text has not become tokens yet.
pub fn held_out(folder: &Path) -> Result<Vec<Window>, TrainError> {
    let config = RunConfig::read(&RunFolder::config_in(folder))?;
    let tokens = TokenFiles::open(&RunFolder::tokens_in(folder))?;
    let (batch, context) = (config.training.batch as usize, config.model.context as usize);
    let batches =
        ValidationWindows::new(tokens.validation(), batch, context, config.training.eval_tokens as usize)?;
    let (mut inputs, mut targets) = (vec![0; batch * context], vec![0; batch * context]);
    let mut windows = Vec::new();
    for index in 0..batches.n_batches() {
        batches.fill(index, &mut inputs, &mut targets);
        let rows = inputs.chunks(context).zip(targets.chunks(context));
        windows.extend(rows.map(|(i, t)| Window { inputs: i.to_vec(), targets: t.to_vec() }));
    }
    Ok(windows)
}
