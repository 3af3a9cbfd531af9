//! The first 128 bytes: every field at a fixed place, so that a `const fn` can read them and
//! the memory that a model needs is known when firmware is compiled.

use postcard::fixint::le;
use serde::{Deserialize, Serialize};

use crate::config::{Architecture, Config};
use crate::error::LoadError;

/// The first eight bytes of every model file.
pub const MAGIC: [u8; 8] = *b"SMIDGEN\0";
/// The format version that this crate reads and writes.
pub const VERSION: u32 = 2;
/// Bytes of the prefix.
pub const PREFIX_LEN: usize = 128;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
#[repr(u8)]
pub enum KvType {
    /// 8-bit integers with a scale for each head and position.
    Q8 = 1,
    /// 32-bit floats.
    F32 = 2,
}

impl KvType {
    /// The type that the file's byte names.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Q8),
            2 => Some(Self::F32),
            _ => None,
        }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q8 => "q8",
            Self::F32 => "f32",
        }
    }
}

/// The prefix as postcard sees it. Offsets in bytes from the file's begin stand behind each field.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prefix {
    /// 0: [`MAGIC`].
    pub magic: [u8; 8],
    /// 8: [`VERSION`].
    #[serde(with = "le")]
    pub version: u32,
    /// 12: XXH32 (seed 0) of every byte from 16 on.
    #[serde(with = "le")]
    pub checksum: u32,
    /// 16: bytes of the whole file.
    #[serde(with = "le")]
    pub file_len: u64,
    /// 24: [`Architecture`].
    pub architecture: u8,
    /// 25: the [`KvType`] used if the user does not ask for another.
    pub kv_type: u8,
    /// 26: zero.
    pub reserved_a: [u8; 2],
    /// 28.
    #[serde(with = "le")]
    pub n_layers: u32,
    /// 32.
    #[serde(with = "le")]
    pub dim: u32,
    /// 36.
    #[serde(with = "le")]
    pub n_heads: u32,
    /// 40.
    #[serde(with = "le")]
    pub n_kv_heads: u32,
    /// 44.
    #[serde(with = "le")]
    pub head_dim: u32,
    /// 48.
    #[serde(with = "le")]
    pub ffn_dim: u32,
    /// 52.
    #[serde(with = "le")]
    pub vocab_size: u32,
    /// 56.
    #[serde(with = "le")]
    pub context_len: u32,
    /// 60: f32 as its four bytes.
    pub norm_eps: [u8; 4],
    /// 64: which roles of the whole model there are ([`Role::bit`](super::Role::bit)).
    #[serde(with = "le")]
    pub global_roles: u32,
    /// 68: which roles every layer has.
    #[serde(with = "le")]
    pub layer_roles: u32,
    /// 72: where the first entry of the tensor table lies.
    #[serde(with = "le")]
    pub table_at: u64,
    /// 80: where the tensors' data begins, a multiple of 64.
    #[serde(with = "le")]
    pub data_at: u64,
    /// 88: bytes of it.
    #[serde(with = "le")]
    pub data_len: u64,
    /// 96: the longest token in bytes, 0 without a tokenizer.
    #[serde(with = "le")]
    pub max_token_bytes: u32,
    /// 100: zero.
    pub reserved_b: [u8; 28],
}

// Inlined, its bounds are seen to hold.
#[inline(always)]
pub(crate) const fn u32_at(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]])
}

impl Prefix {
    /// Reads it from its bytes, as postcard would.
    pub fn from_bytes(bytes: &[u8; PREFIX_LEN]) -> Self {
        let u64_at = |at: usize| u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32;
        let at = |at: usize| u32_at(bytes, at);
        let mut this = Self {
            magic: [0; 8],
            version: at(8),
            checksum: at(12),
            file_len: u64_at(16),
            architecture: bytes[24],
            kv_type: bytes[25],
            reserved_a: [bytes[26], bytes[27]],
            n_layers: at(28),
            dim: at(32),
            n_heads: at(36),
            n_kv_heads: at(40),
            head_dim: at(44),
            ffn_dim: at(48),
            vocab_size: at(52),
            context_len: at(56),
            norm_eps: at(60).to_le_bytes(),
            global_roles: at(64),
            layer_roles: at(68),
            table_at: u64_at(72),
            data_at: u64_at(80),
            data_len: u64_at(88),
            max_token_bytes: at(96),
            reserved_b: [0; 28],
        };
        this.magic.copy_from_slice(&bytes[..8]);
        this.reserved_b.copy_from_slice(&bytes[100..]);
        this
    }

    /// The dimensions, read from a file's first bytes without postcard: this one is `const`.
    ///
    /// # Errors
    /// Whatever makes the prefix unusable; the rest of the file is not looked at.
    pub const fn read_config(file: &[u8]) -> Result<(Config, KvType), LoadError> {
        if file.len() < PREFIX_LEN {
            return Err(LoadError::Truncated { needed: PREFIX_LEN as u64, found: file.len() as u64 });
        }
        let mut i = 0;
        while i < MAGIC.len() {
            if file[i] != MAGIC[i] {
                return Err(LoadError::NotASmidgenFile);
            }
            i += 1;
        }
        let version = u32_at(file, 8);
        if version != VERSION {
            return Err(LoadError::UnknownVersion { found: version, supported: VERSION });
        }
        let Some(architecture) = Architecture::from_u8(file[24]) else {
            return Err(LoadError::UnknownArchitecture(file[24]));
        };
        let Some(kv_type) = KvType::from_u8(file[25]) else {
            return Err(LoadError::UnknownKvType(file[25]));
        };
        let config = Config {
            architecture,
            n_layers: u32_at(file, 28),
            dim: u32_at(file, 32),
            n_heads: u32_at(file, 36),
            n_kv_heads: u32_at(file, 40),
            head_dim: u32_at(file, 44),
            ffn_dim: u32_at(file, 48),
            vocab_size: u32_at(file, 52),
            context_len: u32_at(file, 56),
            norm_eps: f32::from_bits(u32_at(file, 60)),
        };
        if let Err(error) = config.validate() {
            return Err(error);
        }
        if let Err(error) = config.architecture.built() {
            return Err(error);
        }
        match kv_type.built() {
            Ok(()) => Ok((config, kv_type)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_postcard_says(bytes in prop::array::uniform32(any::<[u8; 4]>())) {
            let bytes: [u8; PREFIX_LEN] = bytes.as_flattened().try_into().unwrap();
            prop_assert_eq!(Prefix::from_bytes(&bytes), postcard::from_bytes(&bytes).unwrap());
        }
    }
}
