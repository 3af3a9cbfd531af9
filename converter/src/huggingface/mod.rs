//! Hugging Face directories: `config.json` and safetensors files, read and written.

mod config;
mod json;
mod names;
mod reader;
mod weights;
mod words;
mod writer;

pub use config::{HfConfig, read_config};
pub(crate) use names::gpt2 as gpt2_name;
pub use reader::open;
pub use writer::write_directory;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
