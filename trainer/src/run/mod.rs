//! A training run from beginning to end.
//!
//! [`Run::create`] or [`Run::resume`], then [`Run::train`], then what [`finish`] does. Everything
//! of a run is in its [`folder`]. A run can be killed at any moment and goes on from its last
//! checkpoint with the bits that it would have had.

pub mod checkpoint;
mod choices;
pub mod config;
mod error;
pub mod finish;
pub mod folder;
mod held_out;
pub mod metrics;
pub mod observer;
mod optimizer;
pub mod plan;
pub mod plot;
mod prepare;
mod start;
mod stdin;
mod train;
mod trainer;
mod watch;
mod weights;

pub use config::RunConfig;
pub use error::TrainError;
pub use folder::RunFolder;
pub use held_out::{held_out, is_run};
pub use observer::{Event, Observer, Summary};
pub use plan::Plan;
pub use train::{Outcome, Run, bits_per_byte, was_stopped};
