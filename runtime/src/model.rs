//! Loading: everything a model file says is checked once, here; after it nothing can fail.

use xxhash_rust::xxh32::xxh32;

use crate::config::Config;
use crate::error::LoadError;
use crate::format::{
    ALIGNMENT, DType, ENTRY_LEN, GLOBAL_ROLES, KvType, LAYER_ROLES, Meta, Need, Prefix, Reader, Role,
    TensorEntry, TensorSize,
};
use crate::quant::{bf16_to_f32, f16_to_f32};
use crate::tensor::{Matrix, Weights};
use crate::tokenizer::{Tokenizer, TokenizerData};

/// A validated model, borrowed from its file's bytes. Copying it copies a few pointers.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    config: Config,
    kv_type: KvType,
    meta: Meta<'a>,
    tokenizer: Option<Tokenizer<'a>>,
    global_roles: u32,
    layer_roles: u32,
    /// How many those are.
    n_roles: [usize; 2],
    table: &'a [[u8; ENTRY_LEN]],
    data: &'a [u8],
    /// Copies of some tensors ([`crate::hot`]).
    #[cfg(feature = "hot")]
    pub(crate) hot: &'a [u8],
}

impl<'a> Model<'a> {
    /// Validates a whole file: sizes, offsets, ranges, values, tokenizer tables, checksum.
    ///
    /// `file` must begin at a multiple of 64 bytes ([`include_model!`](crate::include_model) and
    /// memory maps see to it). Reads every byte once or twice.
    ///
    /// # Errors
    /// Says what is wrong, with the numbers.
    // What it has on the stack is gone before anything runs.
    #[inline(never)]
    pub fn load(file: &'a [u8]) -> Result<Self, LoadError> {
        let (config, kv_type) = Prefix::read_config(file)?;
        let (prefix, body) = file.split_first_chunk().ok_or(LoadError::BadMetadata)?;
        let prefix = Prefix::from_bytes(prefix);
        let found = file.len() as u64;
        if found < prefix.file_len {
            return Err(LoadError::Truncated { needed: prefix.file_len, found });
        }
        if found > prefix.file_len {
            return Err(LoadError::TrailingBytes { expected: prefix.file_len, found });
        }
        let offset = file.as_ptr().align_offset(ALIGNMENT);
        if offset != 0 {
            return Err(LoadError::Misaligned { offset: ALIGNMENT.wrapping_sub(offset) % ALIGNMENT });
        }
        let checksum = xxh32(file.get(16..).unwrap_or(&[]), 0);
        if checksum != prefix.checksum {
            return Err(LoadError::ChecksumMismatch { expected: prefix.checksum, found: checksum });
        }

        let bad = LoadError::BadMetadata;
        let mut reader = Reader { rest: body };
        let front = Front::take(&mut reader).ok_or(bad)?;
        check_section("tensor table", prefix.table_at, file, reader.rest)?;
        let table =
            (front.n_tensors as usize).checked_mul(ENTRY_LEN).and_then(|len| reader.take(len)).ok_or(bad)?;
        let _padding = reader.bytes().ok_or(bad)?;
        let data = reader.bytes().ok_or(bad)?;
        let rest = reader.rest;
        check_section("data", prefix.data_at, file, data)?;
        if data.len() as u64 != prefix.data_len || !rest.is_empty() {
            return Err(LoadError::BadSection {
                section: "end of the data",
                expected: prefix.data_at.saturating_add(prefix.data_len),
                found: found - rest.len() as u64,
            });
        }

        let mut model = Self::assemble((config, kv_type), &prefix, front)?;
        model.check_roles(table.len() / ENTRY_LEN)?;
        model.set_tensors(table, data);
        model.check_tensors()?;
        Ok(model)
    }

    /// A model of these parts, without tensors as yet.
    #[inline(always)]
    pub(crate) fn assemble(
        (config, kv_type): (Config, KvType),
        prefix: &Prefix,
        front: Front<'a>,
    ) -> Result<Self, LoadError> {
        let model = Self {
            config,
            kv_type,
            meta: front.meta,
            tokenizer: front.tokenizer.map(Tokenizer::new).transpose()?,
            global_roles: prefix.global_roles,
            layer_roles: prefix.layer_roles,
            n_roles: [prefix.global_roles, prefix.layer_roles].map(|roles| roles.count_ones() as usize),
            table: &[],
            data: &[],
            #[cfg(feature = "hot")]
            hot: &[],
        };
        if let Some(tokenizer) = &model.tokenizer
            && tokenizer.n_tokens() > config.vocab_size
        {
            return Err(LoadError::VocabularyTooLarge {
                tokens: tokenizer.n_tokens(),
                rows: config.vocab_size,
            });
        }
        let longest = model.tokenizer.map_or(0, |tokenizer| tokenizer.max_token_bytes());
        if longest != prefix.max_token_bytes {
            return Err(LoadError::BadMetadata);
        }
        Ok(model)
    }

    /// Gives the model a table of as many entries as [`Model::check_roles`] was told of, and their data.
    pub(crate) fn set_tensors(&mut self, table: &'a [u8], data: &'a [u8]) {
        (self.table, self.data) = (table.as_chunks().0, data);
    }

    /// Every tensor that the architecture needs is there, and none that it has no place for; the table
    /// has an entry for each.
    pub(crate) fn check_roles(&self, n_tensors: usize) -> Result<(), LoadError> {
        for (mask, known) in [(self.global_roles, GLOBAL_ROLES), (self.layer_roles, LAYER_ROLES)] {
            if mask & !known != 0 {
                return Err(LoadError::UnknownRoles { mask });
            }
        }
        for role in (0..64).filter_map(Role::from_u8) {
            let mask = if role.is_per_layer() { self.layer_roles } else { self.global_roles };
            let present = mask & role.bit() != 0;
            match role.need(self.config.architecture.of_loaded()) {
                Need::Must if !present => return Err(LoadError::MissingTensor(role)),
                Need::MustNot if present => return Err(LoadError::UnexpectedTensor(role)),
                _ => {}
            }
        }
        let [globals, of_layer] = self.n_roles;
        let expected = globals + self.config.n_layers as usize * of_layer;
        if n_tensors != expected {
            return Err(LoadError::TableOrder { index: n_tensors.min(expected) as u32 });
        }
        Ok(())
    }

    /// Every entry of the table is the one its place calls for, lies in the data, and has sane values.
    fn check_tensors(&self) -> Result<(), LoadError> {
        for (index, bytes) in self.table.iter().enumerate() {
            let Some((layer, role)) = self.place(index) else { break };
            let entry = TensorEntry::from_bytes(bytes);
            let size = check_entry(&self.config, index, (layer, role), &entry)?;
            let matrix = size
                .filter(|_| entry.offset.is_multiple_of(ALIGNMENT as u64))
                .and_then(|_| self.matrix_at(&entry))
                .ok_or(LoadError::BadOffset {
                    role,
                    layer,
                    offset: entry.offset,
                    bytes: size.map_or(u64::MAX, |size| size.total as u64),
                    data_len: self.data.len() as u64,
                })?;
            if !values_are_sane(&matrix) {
                return Err(LoadError::BadValue { role, layer });
            }
        }
        Ok(())
    }

    /// Whose turn it is in the table at this index: layer and role.
    pub(crate) fn place(&self, index: usize) -> Option<(u32, Role)> {
        let [globals, of_layer] = self.n_roles;
        let (layer, mut roles, mut before, first) = match index.checked_sub(globals) {
            None => (0, self.global_roles, index, 0),
            Some(at) => (at.checked_div(of_layer)?, self.layer_roles, at.checked_rem(of_layer)?, 32),
        };
        while before > 0 {
            roles &= roles.wrapping_sub(1);
            before -= 1;
        }
        Some((layer as u32, Role::from_u8(first + roles.trailing_zeros() as u8)?))
    }

    pub(crate) fn matrix_at(&self, entry: &TensorEntry) -> Option<Matrix<'a>> {
        let dtype = DType::from_u8(entry.dtype)?;
        let bytes = self.data.get(usize::try_from(entry.offset).ok()?..)?;
        Matrix::new(dtype, entry.rows as usize, entry.cols as usize, bytes)
    }

    /// A tensor of the whole model, or of one layer; `None` if the model has none.
    pub fn tensor(&self, layer: usize, role: Role) -> Option<Matrix<'a>> {
        let (_index, entry) = self.find(layer, role)?;
        #[cfg(feature = "hot")]
        if let Some(copy) = crate::hot::place(self.hot, _index) {
            return Matrix::new(DType::from_u8(entry.dtype)?, entry.rows as usize, entry.cols as usize, copy);
        }
        self.matrix_at(&entry)
    }

    /// The roles that are there of this one's kind.
    #[inline(always)]
    const fn mask(&self, role: Role) -> u32 {
        if role.is_per_layer() { self.layer_roles } else { self.global_roles }
    }

    /// A tensor's entry in the table.
    #[inline(always)]
    pub(crate) fn entry(&self, layer: usize, role: Role) -> Option<TensorEntry> {
        Some(self.find(layer, role)?.1)
    }

    /// The same with its number.
    #[inline(always)]
    fn find(&self, layer: usize, role: Role) -> Option<(usize, TensorEntry)> {
        let bit = role.bit();
        let mask = self.mask(role);
        if mask & bit == 0 {
            return None;
        }
        let [globals, of_layer] = self.n_roles;
        let first = if role.is_per_layer() { globals + layer * of_layer } else { 0 };
        let index = first + (mask & (bit - 1)).count_ones() as usize;
        Some((index, TensorEntry::from_bytes(self.table.get(index)?)))
    }

    /// How many tensors are the whole model's, and how many there are.
    #[cfg(feature = "hot")]
    pub(crate) fn n_tensors(&self) -> [usize; 2] {
        [self.n_roles[0], self.table.len()]
    }

    /// A tensor's role and its bytes in the file.
    #[cfg(feature = "hot")]
    pub(crate) fn stored(&self, index: usize) -> Option<(Role, &'a [u8])> {
        let entry = TensorEntry::from_bytes(self.table.get(index)?);
        let size = TensorSize::new(DType::from_u8(entry.dtype)?, entry.rows as usize, entry.cols as usize)?;
        let bytes = self.data.get(usize::try_from(entry.offset).ok()?..)?.get(..size.total)?;
        Some((Role::from_u8(entry.role)?, bytes))
    }

    /// A norm's weight, a bias or the rotary frequencies; `None` if the model has none.
    #[inline]
    pub fn vector(&self, layer: usize, role: Role) -> Option<&'a [f32]> {
        // Most biases that are asked for are not there.
        if self.mask(role) & role.bit() == 0 { None } else { self.floats(layer, role) }
    }

    fn floats(&self, layer: usize, role: Role) -> Option<&'a [f32]> {
        match self.tensor(layer, role)?.weights {
            Weights::F32(values) => Some(values),
            _ => None,
        }
    }

    /// Every tensor, in the file's order: layer (0 for those of the whole model), role, matrix.
    pub fn tensors(&self) -> impl Iterator<Item = (u32, Role, Matrix<'a>)> {
        self.table.iter().filter_map(|bytes| {
            let entry = TensorEntry::from_bytes(bytes);
            Some((u32::from(entry.layer), Role::from_u8(entry.role)?, self.matrix_at(&entry)?))
        })
    }

    /// The model's dimensions.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the file says of its model.
    pub const fn meta(&self) -> &Meta<'a> {
        &self.meta
    }

    /// The tokenizer, if the file has one.
    pub const fn tokenizer(&self) -> Option<&Tokenizer<'a>> {
        self.tokenizer.as_ref()
    }

    /// How the file wants keys and values kept, if nobody asks for another way.
    pub const fn kv_type(&self) -> KvType {
        self.kv_type
    }
}

/// What stands between the prefix and the tensor table.
pub(crate) struct Front<'a> {
    pub(crate) meta: Meta<'a>,
    pub(crate) tokenizer: Option<TokenizerData<'a>>,
    pub(crate) n_tensors: u32,
}

impl<'a> Front<'a> {
    /// Takes it from what follows the prefix.
    // Not copied once more on its way.
    #[inline(always)]
    pub(crate) fn take(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self { meta: reader.meta()?, tokenizer: reader.tokenizer()?, n_tensors: reader.number()? })
    }
}

/// Whether an entry of the table is the one its place calls for, of a type and shape that its role may
/// have. Gives the tensor's size, if there is memory on this machine for such a one.
pub(crate) fn check_entry(
    config: &Config,
    index: usize,
    (layer, role): (u32, Role),
    entry: &TensorEntry,
) -> Result<Option<TensorSize>, LoadError> {
    if entry.role != role as u8 || u32::from(entry.layer) != layer {
        return Err(LoadError::TableOrder { index: index as u32 });
    }
    let dtype = DType::from_u8(entry.dtype)
        .ok_or(LoadError::UnknownTensorType { index: index as u32, found: entry.dtype })?;
    let (rows, cols) = role.shape(config);
    if (entry.rows as usize, entry.cols as usize) != (rows, cols) {
        return Err(LoadError::BadShape {
            role,
            layer,
            found: (entry.rows, entry.cols),
            expected: (rows as u32, cols as u32),
        });
    }
    if !role.is_vector() {
        dtype.built()?;
    } else if dtype != DType::F32 {
        return Err(LoadError::BadTensorType { role, found: dtype });
    }
    Ok(TensorSize::new(dtype, rows, cols))
}

/// A part must begin where the prefix says: readers may trust either.
fn check_section(section: &'static str, at: u64, file: &[u8], part: &[u8]) -> Result<(), LoadError> {
    let found = (part.as_ptr() as usize).wrapping_sub(file.as_ptr() as usize) as u64;
    if found == at { Ok(()) } else { Err(LoadError::BadSection { section, expected: at, found }) }
}

/// Floats are finite; scales are finite and not negative.
fn values_are_sane(matrix: &Matrix<'_>) -> bool {
    match matrix.weights {
        Weights::F32(values) => values.iter().all(|value| value.is_finite()),
        Weights::F16(values) if cfg!(feature = "f16") => {
            values.iter().all(|&bits| f16_to_f32(bits).is_finite())
        }
        Weights::Q8(planes) | Weights::Q4(planes) => planes.scales.iter().all(|&bits| scale_is_sane(bits)),
        // Refused above.
        Weights::F16(_) => false,
    }
}

/// [`values_are_sane`] of one scale.
pub(crate) fn scale_is_sane(bits: u16) -> bool {
    let scale = bf16_to_f32(bits);
    scale.is_finite() && scale.is_sign_positive()
}
