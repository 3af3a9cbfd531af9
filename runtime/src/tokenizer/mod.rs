//! Text to token ids and back, with neither an allocator nor C.
//!
//! [`TokenizerData`] is the tokenizer as it lies in the model file. [`Tokenizer`] is the same,
//! validated: it encodes; a [`Decoder`] decodes. Byte-level BPE (GPT-2, SmolLM, Llama 3, Qwen 2, GPT-4),
//! SentencePiece-style BPE (Llama 1 and 2, llama2.c) and WordPiece (BERT) give the ids that Hugging
//! Face's `tokenizers` give. WordPiece and NFC need the feature `unicode`, which `std` has.

mod added;
mod bpe;
#[cfg(feature = "std")]
mod cached;
mod data;
mod decode;
mod encode;
mod error;
mod index;
#[cfg(feature = "unicode")]
mod normalize;
#[cfg(feature = "alloc")]
mod owned;
mod pretokenize;
mod runs;
mod sentencepiece;
#[cfg(feature = "alloc")]
mod spec;
pub(crate) mod stored;
mod tables;
#[cfg(all(test, feature = "alloc"))]
mod tests;
pub mod unicode;
#[rustfmt::skip]
mod unicode_tables;
mod validate;
mod view;
#[cfg(feature = "unicode")]
mod wordpiece;

pub use bpe::scratch_words;
#[cfg(feature = "std")]
pub use cached::CachedEncoder;
pub use data::{BertRules, Normalizer, PreTokenizer, TokenType, TokenizerData, TokenizerKind};
pub use decode::{Decoder, Piece};
pub use encode::Special;
pub use error::{EncodeError, TokenizerError};
#[cfg(feature = "alloc")]
pub use owned::{BuildError, OwnedTokenizer};
pub use pretokenize::PreTokens;
#[cfg(feature = "alloc")]
pub use spec::{Added, TokenSpec, TokenizerSpec};
pub use view::Tokenizer;
