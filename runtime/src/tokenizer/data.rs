//! The tokenizer as it lies in the model file: borrowed tables, read in place.
//!
//! Every table is a plain byte slice of little-endian numbers, so that it needs neither
//! alignment nor a copy. `docs/format.md` describes each.

use serde::{Deserialize, Serialize};

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TokenizerKind {
    /// GPT-2's byte-level BPE: merges by rank inside pre-tokens; any byte string can be encoded.
    ByteLevelBpe,
    /// SentencePiece-style BPE: merges by score, leftmost first, byte fallback, `▁` for space.
    SentencePieceBpe,
    /// BERT's WordPiece: greedy longest match, `##` for continuations.
    WordPiece,
}

/// How a byte-level BPE cuts text before merging (each is a published regular expression,
/// implemented as a hand-written scanner).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PreTokenizer {
    /// No cutting.
    None,
    /// GPT-2's pattern.
    Gpt2,
    /// Single digits first, then GPT-2's pattern (SmolLM).
    DigitsGpt2,
    /// Llama 3's and tiktoken's cl100k pattern.
    Llama3,
    /// Qwen 2's: Llama 3's with single digits.
    Qwen2,
    /// BERT's: white space and punctuation.
    Bert,
    /// GPT-4's as tiktoken has it: Llama 3's, but white space that ends the text is one.
    Cl100k,
    /// SentencePiece: a space prefix only before what does not begin with a space.
    Metaspace,
    /// The same, and no prefix behind an added token: only where the text begins.
    MetaspaceFirst,
    /// [`Metaspace`](Self::Metaspace), and no token goes on over a space: a cut before each.
    MetaspaceWords,
    /// [`MetaspaceFirst`](Self::MetaspaceFirst) with a cut before each space.
    MetaspaceFirstWords,
}

/// What happens to text before it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Normalizer {
    /// Nothing.
    None,
    /// Unicode NFC.
    Nfc,
    /// BERT uncased: clean, space CJK, strip accents, lower-case.
    BertUncased,
    /// BERT cased: clean, space CJK.
    BertCased,
    /// BERT lower-cased with its accents: clean, space CJK, lower-case.
    BertAccents,
    /// BERT's, where its rules are none of the three above.
    Bert(BertRules),
}

/// What BERT's normalizer does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BertRules {
    /// Controls vanish; white space of any kind is a space.
    pub clean_text: bool,
    /// CJK characters are words by themselves.
    pub handle_chinese_chars: bool,
    /// Characters are decomposed and lose their accents.
    pub strip_accents: bool,
    /// Characters are lower-cased.
    pub lowercase: bool,
}

impl Normalizer {
    /// BERT's normalizer with these rules.
    pub const fn bert(rules: BertRules) -> Self {
        match rules {
            BertRules { clean_text: true, handle_chinese_chars: true, strip_accents, lowercase } => {
                match (strip_accents, lowercase) {
                    (true, true) => Self::BertUncased,
                    (false, false) => Self::BertCased,
                    (false, true) => Self::BertAccents,
                    (true, false) => Self::Bert(rules),
                }
            }
            _ => Self::Bert(rules),
        }
    }

    /// BERT's rules, if this is BERT's normalizer.
    pub const fn bert_rules(self) -> Option<BertRules> {
        let (strip_accents, lowercase) = match self {
            Self::BertUncased => (true, true),
            Self::BertCased => (false, false),
            Self::BertAccents => (false, true),
            Self::Bert(rules) => return Some(rules),
            Self::None | Self::Nfc => return None,
        };
        Some(BertRules { clean_text: true, handle_chinese_chars: true, strip_accents, lowercase })
    }
}

/// A token's role, one byte a token in the file. The numbers are GGUF's and SentencePiece's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum TokenType {
    /// An ordinary piece of text.
    Normal = 1,
    /// Stands for what the vocabulary cannot say.
    Unknown = 2,
    /// Steers the model (`<|endoftext|>`, `<s>`): prints as nothing, encoded only on request.
    Control = 3,
    /// Added by the user: matched whole in text, prints as itself.
    UserDefined = 4,
    /// A hole in the numbering.
    Unused = 5,
    /// One raw byte (`<0x0A>`), for byte fallback.
    Byte = 6,
}

impl TokenType {
    /// The role that the file's byte names.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// The tokenizer's tables, borrowed from the model file.
///
/// `n` is `n_tokens`. Token bytes are what the token *means*: for byte-level BPE the raw bytes
/// (not GPT-2's printable stand-ins), for SentencePiece the piece with `▁` written as a space
/// (a byte token `<0x0A>` is the one byte 0x0A), for WordPiece the piece with its `##`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerData<'a> {
    /// Which algorithm.
    pub kind: TokenizerKind,
    /// How text is cut first.
    pub pre_tokenizer: PreTokenizer,
    /// What is done to text before that.
    pub normalizer: Normalizer,
    /// A text begins with the `bos` token when encoded for the model.
    pub add_bos: bool,
    /// SentencePiece: a text begins with a space that is not its own. Byte-level BPE: so does every
    /// text between added tokens that does not begin with one.
    pub add_space_prefix: bool,
    /// A whole pre-token that is in the vocabulary is that token, whatever the merges say (Llama 3).
    pub ignore_merges: bool,
    /// How many tokens, special ones included.
    pub n_tokens: u32,
    /// The longest token, in bytes.
    pub max_token_bytes: u32,
    /// Begins a text.
    pub bos: Option<u32>,
    /// What unknown text becomes.
    pub unknown: Option<u32>,
    /// Tokens that end a text, u32 each.
    #[serde(borrow)]
    pub end_tokens: &'a [u8],
    /// All tokens' bytes in order of id.
    pub text: &'a [u8],
    /// Where each token's bytes begin in `text`: n + 1 numbers, u32 each.
    pub offsets: &'a [u8],
    /// Ids that plain text can become: u16 each if n < 65535, else u32. No two of them have the same
    /// bytes. In order of their bytes; or, if the last entry is all ones, a hash table (see
    /// `docs/format.md`), whose holes are all ones.
    pub index: &'a [u8],
    /// Which token is which single byte: 256 ids (u16 or u32 as in `index`), all ones for a byte
    /// that no token is. For byte-level BPE the first symbols, for SentencePiece the byte fallback;
    /// empty if there is none.
    pub byte_tokens: &'a [u8],
    /// One [`TokenType`] byte a token, plus 128 where merging the token's own text makes that token,
    /// so that a whole stretch of text that is the token need not be merged.
    pub types: &'a [u8],
    /// BPE by merges: the length of the left part that a token's merge joins, one byte a token;
    /// 0 for a token that no merge makes. Empty where `scores` decide.
    pub left_len: &'a [u8],
    /// BPE by merges: merge ranks, u32 a token, where ids are not in the order of merging; else empty.
    pub ranks: &'a [u8],
    /// BPE by merges: further merges that make a token which another merge makes too, or whose left
    /// part is longer than 255 bytes: (left id, right id, rank), u32 each, sorted by (left, right).
    pub extra_merges: &'a [u8],
    /// SentencePiece: f32 scores, one a token, the highest merged first; empty where merges decide.
    pub scores: &'a [u8],
    /// Special tokens that are matched in text before anything else, longest text first:
    /// (id u32, flags u32) each. Flag 1 strips white space left of it, 2 right of it, 4 matches whole
    /// words only, 8 matches normalized text, 16 is the token that ends a text encoded for the model
    /// (BERT's `[SEP]`). User-defined tokens are always matched, others (control tokens) only when
    /// the caller allows.
    pub added: &'a [u8],
}
