//! Tokenizers of checkpoints: read into a [`TokenizerSpec`], written back as Hugging Face's files.
//!
//! [`open`] reads any of them. [`huggingface`] reads and writes `tokenizer.json` (and reads the older
//! `vocab.json` with `merges.txt`), [`wordpiece`] reads BERT's `vocab.txt`, [`llama2c`] its
//! `tokenizer.bin`, [`ranks`] tiktoken's and llm.c's files. What a file asks for and we do not do is
//! refused by name: a tokenizer that is almost right would spoil a model silently.

mod alphabet;
mod error;
pub mod huggingface;
pub mod llama2c;
mod merge_scores;
mod open;
pub mod ranks;
pub mod wordpiece;

pub use alphabet::{byte_to_char, char_to_byte};
pub use error::TokenizerFileError;
pub use open::open;
pub use smidgen_runtime::tokenizer::TokenizerSpec;
