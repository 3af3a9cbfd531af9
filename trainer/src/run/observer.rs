//! What a run tells while it goes on.

use std::path::Path;

use super::metrics::{StepRow, ValidationRow};
use super::plan::Plan;
use crate::model::Precision;

/// Something happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Bytes of text read for the tokenizer, of all there are.
    LearningVocabulary {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Bytes of text made into tokens.
    Tokenizing {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Training begins or goes on.
    Ready(&'a Summary),
    /// The length of the run is known.
    Planned(Plan),
    /// A step is done.
    Step(&'a StepRow),
    /// The model was tried on the held-out text.
    Validation {
        /// What came out.
        row: &'a ValidationRow,
        /// It has never been better.
        best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// The steps that it has.
        step: u64,
        /// Where it is.
        path: &'a Path,
    },
    /// The model wrote a text.
    Sample {
        /// Steps done.
        step: u64,
        /// What it wrote.
        text: &'a str,
    },
    /// Something odd that does not keep the run from going on.
    Warning(&'a str),
    /// Training is over; the model file is being written.
    Converting,
}

/// What a run will train on what.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The model, in a few words.
    pub model: String,
    /// Numbers that it learns.
    pub parameters: u64,
    /// The text, in a few words.
    pub data: String,
    /// Tokens to learn from.
    pub train_tokens: u64,
    /// Tokens held out.
    pub validation_tokens: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: u32,
    /// Bytes of text a token, on average.
    pub bytes_per_token: f64,
    /// Tokens that a step sees.
    pub tokens_per_step: u64,
    /// The steps already done.
    pub step: u64,
    /// Threads that work.
    pub threads: usize,
    /// Of the products, where nothing is rounded as the model file will be.
    pub precision: Precision,
}

/// Somebody who wants to know: a progress bar, a log, a test. Any function of an [`Event`] will do.
pub trait Observer {
    /// Is told of every event, on the thread that trains.
    fn notice(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Observer for F {
    fn notice(&mut self, event: Event<'_>) {
        self(event);
    }
}
