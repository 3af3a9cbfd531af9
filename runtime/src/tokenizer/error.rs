//! What can be wrong with a tokenizer's tables, and with one call to the encoder.

use core::fmt;

/// Why the tokenizer in a model file cannot be used. Names the table, the entry and the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file asks for something that this version does not do.
    Unsupported {
        /// What it is.
        what: &'static str,
    },
    /// A vocabulary needs between 1 and 2²⁸ tokens.
    TokenCount {
        /// The file's count.
        n_tokens: u32,
    },
    /// A table's size in bytes does not fit the number of tokens.
    TableLength {
        /// The table's field name.
        table: &'static str,
        /// Its bytes.
        found: usize,
        /// The bytes that it needs, or a number that they must be a multiple of.
        wanted: usize,
    },
    /// A token's bytes begin before the previous token's, or end after the text.
    Offset {
        /// The token, or `n_tokens` for the closing entry.
        id: u32,
        /// Where it begins.
        offset: u32,
        /// The text's length.
        text_len: usize,
    },
    /// `max_token_bytes` is not the longest token's length.
    MaxTokenBytes {
        /// What the file says.
        stated: u32,
        /// What its tokens say.
        found: u32,
    },
    /// A token id is not below `n_tokens`.
    IdOutOfRange {
        /// The table or field.
        table: &'static str,
        /// The entry in it.
        index: usize,
        /// The id.
        id: u32,
        /// How many tokens there are.
        n_tokens: u32,
    },
    /// A token's type byte is none of the known ones.
    TokenType {
        /// The token.
        id: u32,
        /// The byte.
        found: u8,
    },
    /// `index` lists a token that plain text cannot become, or not where its bytes belong.
    Index {
        /// The entry.
        index: usize,
        /// The token.
        id: u32,
    },
    /// `byte_tokens` names a token that is not that one byte.
    ByteToken {
        /// The byte.
        byte: u8,
        /// The token named for it.
        id: u32,
    },
    /// A merge's parts or result are not tokens that text can become.
    Merge {
        /// The table.
        table: &'static str,
        /// The entry in it.
        index: usize,
    },
    /// A score is infinite or not a number.
    Score {
        /// The token.
        id: u32,
    },
    /// An added token is empty, has unknown flags, or stands before a longer one.
    Added {
        /// The entry.
        index: usize,
        /// The token.
        id: u32,
        /// Its flags.
        flags: u32,
    },
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unsupported { what } => write!(f, "tokenizer: {what} is not supported"),
            Self::TokenCount { n_tokens } => {
                write!(f, "tokenizer: n_tokens is {n_tokens}, not 1 to 2^28")
            }
            Self::TableLength { table, found, wanted } => {
                write!(f, "tokenizer: {table} has {found} bytes where {wanted} (or a multiple) are needed")
            }
            Self::Offset { id, offset, text_len } => {
                write!(
                    f,
                    "tokenizer: offsets[{id}] = {offset} is out of order or beyond the text of {text_len} bytes"
                )
            }
            Self::MaxTokenBytes { stated, found } => {
                write!(f, "tokenizer: max_token_bytes is {stated}, but the longest token has {found}")
            }
            Self::IdOutOfRange { table, index, id, n_tokens } => {
                write!(f, "tokenizer: {table}[{index}] names token {id} of {n_tokens}")
            }
            Self::TokenType { id, found } => {
                write!(f, "tokenizer: types[{id}] = {found} is no token type")
            }
            Self::Index { index, id } => {
                write!(f, "tokenizer: index[{index}] = {id} is out of place, empty, or not ordinary text")
            }
            Self::ByteToken { byte, id } => {
                write!(f, "tokenizer: byte_tokens[{byte}] = {id} is not that byte")
            }
            Self::Merge { table, index } => {
                write!(f, "tokenizer: {table}[{index}] joins or makes what is not in the vocabulary")
            }
            Self::Score { id } => write!(f, "tokenizer: scores[{id}] is not finite"),
            Self::Added { index, id, flags } => {
                write!(
                    f,
                    "tokenizer: added[{index}] (token {id}, flags {flags}) is empty, unknown or not longest first"
                )
            }
        }
    }
}

impl core::error::Error for TokenizerError {}

/// Why a text could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EncodeError {
    /// The output holds fewer tokens than the text has; it is filled with the first of them.
    OutOfSpace {
        /// Tokens that the text has.
        needed: usize,
        /// Tokens that fit.
        capacity: usize,
    },
    /// The scratch memory is too small for one pre-token.
    ScratchTooSmall {
        /// Words that this pre-token may need ([`scratch_words`](super::scratch_words) of its bytes).
        needed: usize,
        /// Words given.
        capacity: usize,
    },
    /// The tokenizer wants its text in Unicode's NFC, and this text may not be: put it into NFC first.
    NeedsNfc {
        /// Bytes before the first character that NFC may change.
        at: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfSpace { needed, capacity } => {
                write!(f, "the text has {needed} tokens, and the output holds {capacity}")
            }
            Self::ScratchTooSmall { needed, capacity } => {
                write!(
                    f,
                    "a stretch of the text needs {needed} words of scratch memory, and {capacity} are given"
                )
            }
            Self::NeedsNfc { at } => {
                write!(f, "the text may not be in Unicode NFC (at byte {at}), which this model needs")
            }
        }
    }
}

impl core::error::Error for EncodeError {}
