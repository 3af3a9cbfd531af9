//! `metrics.jsonl`: a line for every step that is logged and for every look at the held-out text.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::TrainError;
use crate::data::files::write_file;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Row {
    /// A look at the held-out text.
    Validation(ValidationRow),
    /// An optimizer step.
    Step(StepRow),
}

/// An optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Its number, from 1.
    pub step: u64,
    /// Tokens seen since the run began, this step's included.
    pub tokens: u64,
    /// Mean loss of the step's batch before the step, in nats a token.
    pub loss: f32,
    /// The learning rate it was done with.
    pub lr: f32,
    /// The gradient's norm before clipping.
    pub grad_norm: f32,
    /// Speed of late.
    pub tokens_per_second: f32,
    /// Time spent training since the run began, pauses between resumes left out.
    pub seconds: f32,
}

/// A look at the held-out text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRow {
    /// Steps done.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Mean loss in nats a token.
    pub validation_loss: f32,
    /// The same in bits a byte of text: comparable between tokenizers.
    pub bits_per_byte: f32,
    /// Time spent training.
    pub seconds: f32,
}

impl Row {
    /// The step that the line is about.
    pub fn step(&self) -> u64 {
        match self {
            Self::Validation(row) => row.step,
            Self::Step(row) => row.step,
        }
    }
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl MetricsFile {
    /// Opens the file for lines after `step`; lines of later steps, which a resumed run will do
    /// again, are removed first.
    ///
    /// # Errors
    /// An unreadable or unwritable file.
    pub fn open_after(path: &Path, step: u64) -> Result<Self, TrainError> {
        if path.exists() {
            let kept: Vec<Row> = read(path)?.into_iter().filter(|row| row.step() <= step).collect();
            let write = |file: &mut BufWriter<File>| kept.iter().try_for_each(|row| write_row(file, row));
            write_file(path, write).map_err(TrainError::io("write", path))?;
        }
        let file = File::options().append(true).create(true).open(path);
        let file = file.map_err(TrainError::io("create", path))?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file) })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// A full disk.
    pub fn add(&mut self, row: &Row) -> Result<(), TrainError> {
        write_row(&mut self.file, row).map_err(TrainError::io("write", &self.path))
    }

    /// Makes all lines visible to other programs.
    ///
    /// # Errors
    /// A full disk.
    pub fn flush(&mut self) -> Result<(), TrainError> {
        self.file.flush().map_err(TrainError::io("write", &self.path))
    }
}

fn write_row(file: &mut impl Write, row: &Row) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, row)?;
    file.write_all(b"\n")
}

/// Reads all lines. A last line without its end, from a crash, is left out.
///
/// # Errors
/// An unreadable file, or a line that is no row, with its number.
pub fn read(path: &Path) -> Result<Vec<Row>, TrainError> {
    let file = File::open(path).map_err(TrainError::io("open", path))?;
    let mut reader = BufReader::new(file);
    let mut rows = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(TrainError::io("read", path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        let row = serde_json::from_slice(&line).map_err(|error| TrainError::BadFile {
            path: path.to_path_buf(),
            what: format!("line {number} is no row of metrics: {error}"),
        })?;
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Row {
        let loss = 1.0 / (step as f32 + 0.1);
        Row::Step(StepRow {
            step,
            tokens: step * 8,
            loss,
            lr: 1e-3,
            grad_norm: 0.3,
            tokens_per_second: 1e4,
            seconds: 0.1,
        })
    }

    #[test]
    fn resuming_cuts_what_will_be_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let look = Row::Validation(ValidationRow {
            step: 3,
            tokens: 24,
            validation_loss: 1.5,
            bits_per_byte: 0.7,
            seconds: 2.0,
        });
        let mut file = MetricsFile::open_after(&path, 0).unwrap();
        for row in [step(1), step(2), step(3), look, step(4)] {
            file.add(&row).unwrap();
        }
        drop(file);
        // A crash in the middle of a line.
        File::options().append(true).open(&path).unwrap().write_all(b"{\"step\":5,\"tok").unwrap();
        assert_eq!(read(&path).unwrap(), [step(1), step(2), step(3), look, step(4)]);
        let mut file = MetricsFile::open_after(&path, 3).unwrap();
        file.add(&step(4)).unwrap();
        file.flush().unwrap();
        // Numbers come back to the bit.
        assert_eq!(read(&path).unwrap(), [step(1), step(2), step(3), look, step(4)]);
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1 is no row"));
    }
}
