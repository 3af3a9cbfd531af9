//! Weights that are not in memory: on SPI flash, an SD card or anything else that can be read but not
//! mapped. A model's small parts are read into memory that the caller gives; its matrices go through a
//! buffer, some rows at a time, and the same kernels: the same bits as from memory.
//!
//! ```ignore
//! const OPTIONS: StreamOptions = StreamOptions::new(4096);            // bytes of buffer
//! const PARTS: usize = stream::memory_needed(BEGIN, OPTIONS);         // BEGIN: the file's first 128 bytes
//! const BYTES: usize = memory_needed(BEGIN, SessionOptions::new(256));
//! let mut model = StreamModel::load(card, parts, OPTIONS)?;           // card: impl WeightReader
//! let mut session = model.session(memory, SessionOptions::new(256))?;
//! session.prompt("Once upon a time")?;
//! ```

mod checksum;
mod error;
mod layout;
mod load;
mod plan;
mod reader;
mod session;
mod source;

pub use error::{StreamError, StreamLoadError};
pub use layout::{StreamLayout, StreamOptions, least_buffer, memory_needed};
pub use load::StreamModel;
pub use plan::StreamPlan;
pub use reader::{Region, RegionEnds, WeightReader};
pub use session::{StreamGenerate, StreamSession};
