//! What of a model is in RAM besides a session: where the weights are, and what that takes.

use std::fmt::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use smidgen_runtime::hot_fitting;
use smidgen_runtime::stream::{StreamOptions, StreamPlan};

use super::train_progress::count;

/// The flags that say where the weights are.
#[derive(Debug, clap::Args)]
pub struct WeightArgs {
    /// The weights can't be mapped: they are read through a buffer of so many bytes; 0 for the
    /// smallest that will do.
    #[arg(long, value_name = "BYTES")]
    buffer: Option<usize>,
    /// RAM for copies of weights, at most so many bytes.
    #[arg(long, value_name = "BYTES")]
    hot: Option<usize>,
}

/// Where the weights are, and the RAM that they take.
#[derive(Clone, Copy, Debug)]
pub enum Weights {
    /// In flash that is mapped, all of them.
    Mapped,
    /// There, and so many bytes of RAM for copies.
    Copied(usize),
    /// Read.
    Streamed(StreamPlan),
}

impl WeightArgs {
    /// Whether the file's head is looked at.
    pub fn is_given(&self) -> bool {
        self.buffer.is_some() || self.hot.is_some_and(|hot| hot > 0)
    }

    /// Of a file with this head, in sessions that compute so many logits at a time.
    ///
    /// # Errors
    /// A buffer that is too small, or memory for copies that nothing fits into.
    pub fn weights(&self, head: &[u8], logits: Option<usize>) -> Result<Weights> {
        let hot = self.hot.unwrap_or(0);
        let Some(buffer) = self.buffer else {
            if hot == 0 {
                return Ok(Weights::Mapped);
            }
            let needed = hot_fitting(head, hot)?;
            if needed == 0 {
                bail!("--hot is {hot}: no part of the model fits into so few bytes");
            }
            return Ok(Weights::Copied(needed));
        };
        let plan =
            |buffer| StreamPlan::new(head, StreamOptions { hot, ..StreamOptions::new(buffer) }, logits);
        let mut streamed = plan(buffer)?;
        if buffer == 0 {
            streamed = plan(streamed.least_buffer)?;
        }
        if streamed.layout.buffer < streamed.least_buffer {
            bail!("--buffer is {buffer}, must be at least {} for this model", streamed.least_buffer);
        }
        Ok(Weights::Streamed(streamed))
    }
}

impl Weights {
    /// Bytes of RAM besides the session.
    pub fn ram_bytes(&self) -> u64 {
        match self {
            Self::Mapped => 0,
            Self::Copied(bytes) => *bytes as u64,
            Self::Streamed(plan) => plan.layout.total as u64,
        }
    }

    /// Whether the file takes flash of the chip's own.
    pub fn are_mapped(&self) -> bool {
        !matches!(self, Self::Streamed(_))
    }

    /// In words, a line or two; none if there is nothing to say.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Mapped => {}
            Self::Copied(bytes) => {
                let _ = writeln!(text, "copies  {} bytes of RAM for tensors", count(*bytes as u64));
            }
            Self::Streamed(plan) => {
                let [all, head, vectors, hot, buffer] = [
                    plan.layout.total,
                    plan.layout.head,
                    plan.layout.vectors,
                    plan.layout.hot,
                    plan.layout.buffer,
                ]
                .map(|bytes| count(bytes as u64));
                let _ = writeln!(
                    text,
                    "weights {all} bytes of RAM: {head} for the file's head, {vectors} for vectors, {hot} for \
                     matrices ({} used), {buffer} for the buffer",
                    count(plan.hot_bytes as u64)
                );
                let _ = writeln!(
                    text,
                    "reads   {} a token, {} bytes",
                    count(plan.reads_per_token),
                    count(plan.bytes_per_token)
                );
            }
        }
        text
    }

    /// For scripts; the names are those that firmware reports.
    pub fn add_to(&self, object: &mut Value) {
        match self {
            Self::Mapped => {}
            Self::Copied(bytes) => object["ram_hot_bytes"] = json!(bytes),
            Self::Streamed(plan) => {
                object["ram_model_bytes"] = json!(plan.layout.total);
                object["ram_head_bytes"] = json!(plan.layout.head);
                object["ram_vector_bytes"] = json!(plan.layout.vectors);
                object["ram_hot_bytes"] = json!(plan.hot_bytes);
                object["ram_buffer_bytes"] = json!(plan.layout.buffer);
                object["least_buffer_bytes"] = json!(plan.least_buffer);
                object["reads_per_token"] = json!(plan.reads_per_token);
                object["bytes_read_per_token"] = json!(plan.bytes_per_token);
            }
        }
    }
}
