//! What can go wrong, one type an operation, each carrying the numbers that explain it.

use core::fmt;

use crate::format::{DType, Role};
use crate::tokenizer::{EncodeError, TokenizerError};

/// Why a byte slice is not a model that this version can run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LoadError {
    /// The slice ends before the structure it begins.
    Truncated {
        /// Bytes that there should be, as far as is known.
        needed: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The slice is longer than the file says it is.
    TrailingBytes {
        /// Bytes that the file says it has.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// It does not begin with the magic bytes: not a smidgen file.
    NotASmidgenFile,
    /// A format version that this runtime does not know.
    UnknownVersion {
        /// What the file says.
        found: u32,
        /// What this runtime reads.
        supported: u32,
    },
    /// The first byte must lie at a multiple of 64.
    Misaligned {
        /// The address modulo 64.
        offset: usize,
    },
    /// The bytes were changed after they were written.
    ChecksumMismatch {
        /// What the file says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// An architecture that this runtime does not know.
    UnknownArchitecture(u8),
    /// A key-value cache type that this runtime does not know.
    UnknownKvType(u8),
    /// The file needs what was not compiled in.
    MissingFeature {
        /// What of the file.
        what: &'static str,
        /// The feature of `smidgen-runtime` that would compile it.
        feature: &'static str,
    },
    /// A tensor role that this runtime does not know.
    UnknownRoles {
        /// The mask of roles as the file has it.
        mask: u32,
    },
    /// A tensor type that this runtime does not know.
    UnknownTensorType {
        /// The tensor's place in the table.
        index: u32,
        /// The type's byte.
        found: u8,
    },
    /// A dimension is zero or too large.
    BadDimension {
        /// Its name in [`Config`](crate::Config).
        field: &'static str,
        /// What the file says.
        value: u32,
        /// The largest allowed.
        max: u32,
    },
    /// A dimension does not divide as it must.
    Indivisible {
        /// Its name in [`Config`](crate::Config).
        field: &'static str,
        /// What the file says.
        value: u32,
        /// What must divide it.
        divisor: u32,
    },
    /// `norm_eps` is negative, one or more, or not a number.
    BadNormEps,
    /// A tensor that the architecture needs is not there.
    MissingTensor(Role),
    /// A tensor that the architecture has no place for.
    UnexpectedTensor(Role),
    /// The table names another tensor than the roles in the prefix call for.
    TableOrder {
        /// The entry's place in the table.
        index: u32,
    },
    /// A tensor has another shape than the dimensions call for.
    BadShape {
        /// Which tensor.
        role: Role,
        /// The block it belongs to (0 for tensors of the whole model).
        layer: u32,
        /// Rows and columns in the table.
        found: (u32, u32),
        /// Rows and columns that the dimensions call for.
        expected: (u32, u32),
    },
    /// A tensor may not have this type (norms and biases are F32).
    BadTensorType {
        /// Which tensor.
        role: Role,
        /// Its type in the table.
        found: DType,
    },
    /// A tensor lies outside the file's data, or not at a multiple of 64.
    BadOffset {
        /// Which tensor.
        role: Role,
        /// The block it belongs to.
        layer: u32,
        /// Its offset in the data.
        offset: u64,
        /// Its size in bytes.
        bytes: u64,
        /// How much data there is.
        data_len: u64,
    },
    /// A weight, scale or frequency is infinite or not a number, or a scale is negative.
    BadValue {
        /// Which tensor.
        role: Role,
        /// The block it belongs to.
        layer: u32,
    },
    /// The metadata is not valid postcard.
    BadMetadata,
    /// Where a part begins is not where the prefix says.
    BadSection {
        /// Which part.
        section: &'static str,
        /// What the prefix says, in bytes from the file's begin.
        expected: u64,
        /// Where it is.
        found: u64,
    },
    /// The tokenizer's tables do not fit together.
    Tokenizer(TokenizerError),
    /// The tokenizer has more tokens than the embedding has rows.
    VocabularyTooLarge {
        /// Tokens in the tokenizer.
        tokens: u32,
        /// Rows of the embedding.
        rows: u32,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { needed, found } => {
                write!(f, "truncated: needs {needed} bytes, has {found}")
            }
            Self::TrailingBytes { expected, found } => {
                write!(f, "the file says it has {expected} bytes, but there are {found}")
            }
            Self::NotASmidgenFile => f.write_str("not a smidgen model file (wrong magic bytes)"),
            Self::UnknownVersion { found, supported } => {
                write!(
                    f,
                    "format version {found} is not known here (this program reads version {supported})"
                )?;
                if found < supported { f.write_str("; convert or train the model again") } else { Ok(()) }
            }
            Self::Misaligned { offset } => write!(
                f,
                "the model must begin at a multiple of 64 bytes, but lies {offset} past one (use include_model! or an aligned buffer)"
            ),
            Self::ChecksumMismatch { expected, found } => write!(
                f,
                "checksum mismatch: the file says {expected:#010x}, its bytes give {found:#010x}; it was damaged or cut"
            ),
            Self::UnknownArchitecture(byte) => write!(f, "unknown architecture {byte}"),
            Self::UnknownKvType(byte) => write!(f, "unknown key-value cache type {byte}"),
            Self::MissingFeature { what, feature } => {
                write!(f, "this build lacks the feature `{feature}` of smidgen-runtime, which {what} needs")
            }
            Self::UnknownRoles { mask } => write!(f, "unknown tensor roles in mask {mask:#x}"),
            Self::UnknownTensorType { index, found } => {
                write!(f, "tensor {index} has unknown type {found}")
            }
            Self::BadDimension { field, value, max } => {
                write!(f, "{field} is {value}, must be 1 to {max}")
            }
            Self::Indivisible { field, value, divisor } => {
                write!(f, "{field} is {value}, must be a multiple of {divisor}")
            }
            Self::BadNormEps => f.write_str("norm_eps must be at least 0 and below 1"),
            Self::MissingTensor(role) => write!(f, "tensor {} is missing", role.name()),
            Self::UnexpectedTensor(role) => {
                write!(f, "tensor {} has no place in this architecture", role.name())
            }
            Self::TableOrder { index } => {
                write!(f, "tensor table entry {index} is not the one the prefix calls for")
            }
            Self::BadShape { role, layer, found, expected } => write!(
                f,
                "tensor {} of layer {layer} has shape [{}, {}], expected [{}, {}]",
                role.name(),
                found.0,
                found.1,
                expected.0,
                expected.1
            ),
            Self::BadTensorType { role, found } => {
                write!(f, "tensor {} may not have type {}", role.name(), found.name())
            }
            Self::BadOffset { role, layer, offset, bytes, data_len } => write!(
                f,
                "tensor {} of layer {layer} lies at {offset} with {bytes} bytes, outside the {data_len} bytes of data or not at a multiple of 64",
                role.name()
            ),
            Self::BadValue { role, layer } => write!(
                f,
                "tensor {} of layer {layer} has a value that is infinite, not a number or (for a scale) negative",
                role.name()
            ),
            Self::BadMetadata => f.write_str("the metadata is not valid postcard"),
            Self::BadSection { section, expected, found } => {
                write!(f, "the {section} should begin at byte {expected} and begins at {found}")
            }
            Self::Tokenizer(error) => write!(f, "tokenizer: {error}"),
            Self::VocabularyTooLarge { tokens, rows } => {
                write!(f, "the tokenizer has {tokens} tokens but the embedding only {rows} rows")
            }
        }
    }
}

impl core::error::Error for LoadError {}

impl From<TokenizerError> for LoadError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}

/// Why a session can't begin in the memory given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SessionError {
    /// More context was asked for than the model was made for, or none.
    BadContext {
        /// What was asked for, in tokens.
        asked: usize,
        /// What the model was made for, in tokens.
        max: usize,
    },
    /// The memory is too small.
    OutOfMemory {
        /// Bytes needed, exactly, from an address that is a multiple of 64.
        needed: usize,
        /// Bytes that were usable.
        given: usize,
    },
    /// Block or worker counts of zero, or so large that sizes overflow.
    BadOptions,
    /// A type of cache that was not compiled in.
    MissingFeature {
        /// The feature of `smidgen-runtime` that would compile it.
        feature: &'static str,
    },
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadContext { asked, max } => {
                write!(f, "a context of {asked} tokens was asked for; this model allows 1 to {max}")
            }
            Self::OutOfMemory { needed, given } => {
                write!(f, "the session needs {needed} bytes of memory, {given} were given")
            }
            Self::BadOptions => f.write_str("session options out of range"),
            Self::MissingFeature { feature } => {
                write!(
                    f,
                    "this build lacks the feature `{feature}` of smidgen-runtime, which the cache needs"
                )
            }
        }
    }
}

impl core::error::Error for SessionError {}

/// Why a token could not be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StepError {
    /// The context is full.
    ContextFull {
        /// The session's context, in tokens.
        context: usize,
    },
    /// There is no such token.
    UnknownToken {
        /// The id given.
        token: u32,
        /// The model's vocabulary size.
        vocab_size: u32,
    },
    /// A prompt of no tokens.
    EmptyPrompt,
    /// The model file carries no tokenizer, so text can't be encoded.
    NoTokenizer,
    /// The text could not be encoded.
    Encode(EncodeError),
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ContextFull { context } => {
                write!(f, "the context of {context} tokens is full")
            }
            Self::UnknownToken { token, vocab_size } => {
                write!(f, "token {token} is outside the vocabulary of {vocab_size}")
            }
            Self::EmptyPrompt => f.write_str("the prompt has no tokens"),
            Self::NoTokenizer => f.write_str("the model file has no tokenizer"),
            Self::Encode(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for StepError {}

impl From<EncodeError> for StepError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// Why a sampler can't be made or can't choose.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SampleError {
    /// A parameter is outside its range or not a number.
    OutOfRange {
        /// Its name.
        parameter: &'static str,
        /// What was given.
        value: f32,
        /// The least allowed.
        min: f32,
        /// The most allowed.
        max: f32,
    },
    /// No logit is a finite number.
    NoFiniteLogit,
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfRange { parameter, value, min, max } => {
                write!(f, "{parameter} is {value}, must be between {min} and {max}")
            }
            Self::NoFiniteLogit => f.write_str("no logit is a finite number"),
        }
    }
}

impl core::error::Error for SampleError {}
