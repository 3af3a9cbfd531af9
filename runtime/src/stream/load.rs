//! Loading from a reader: the same checks as of a file in memory, in passes over the bytes.

use super::checksum::Checksum;
use super::error::StreamLoadError;
use super::layout::{StreamLayout, StreamOptions, row_unit};
use super::reader::WeightReader;
use super::session::StreamSession;
use super::source::READ;
use crate::error::{LoadError, SessionError};
use crate::format::{
    ALIGNMENT, DType, ENTRY_LEN, Meta, PREFIX_LEN, Prefix, Reader, Role, TensorEntry, TensorSize, align_up,
};
use crate::memory::SessionOptions;
use crate::model::{Front, Model, check_entry, scale_is_sane};
use crate::quant::f16_to_f32;
use crate::tokenizer::stored::StoredTokenizer;

/// A validated model whose matrices are read when they are needed.
pub struct StreamModel<'m, R> {
    pub(super) model: Model<'m>,
    stored: Option<StoredTokenizer>,
    pub(super) reader: R,
    pub(super) buffer: &'m mut [u8],
    layout: StreamLayout,
    hot_bytes: usize,
    read_bytes: u64,
}

impl<R> core::fmt::Debug for StreamModel<'_, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("StreamModel")
            .field("model", &self.model)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

type Loaded<T, R> = Result<T, StreamLoadError<<R as WeightReader>::Error>>;

impl<'m, R: WeightReader> StreamModel<'m, R> {
    /// Reads and validates a whole file: everything that [`Model::load`] checks, in one pass over all bytes
    /// and one over those whose values matter. The small parts stay in `memory`, of which
    /// [`memory_needed`](super::memory_needed) bytes are used from its first multiple of 64 on.
    ///
    /// # Errors
    /// The reader's, and what is wrong with file, memory or buffer.
    pub fn load(reader: R, memory: &'m mut [u8], options: StreamOptions) -> Loaded<Self, R> {
        Self::load_with(reader, memory, options, |_, _| true)
    }

    /// The same with a choice of the matrices that may stay in `options.hot` bytes of memory, by layer (0
    /// for those of the whole model) and role.
    ///
    /// # Errors
    /// As for [`StreamModel::load`].
    #[inline(never)]
    pub fn load_with(
        mut reader: R,
        memory: &'m mut [u8],
        options: StreamOptions,
        mut stays: impl FnMut(u32, Role) -> bool,
    ) -> Loaded<Self, R> {
        let mut begin = [0; PREFIX_LEN];
        reader.read(0, &mut begin).map_err(StreamLoadError::Read)?;
        let read = Prefix::read_config(&begin)?;
        let mut prefix = Prefix::from_bytes(&begin);
        check_lengths(&prefix)?;
        if prefix.file_len > u32::MAX.into() {
            return Err(StreamLoadError::TooLong { file_len: prefix.file_len });
        }
        let layout = StreamLayout::new(&begin, options)?;
        let skip = memory.as_ptr().align_offset(ALIGNMENT).min(memory.len());
        let rest = memory.get_mut(skip..).unwrap_or(&mut []);
        if rest.len() < layout.total {
            return Err(StreamLoadError::OutOfMemory { needed: layout.total as u64, given: rest.len() });
        }
        let (head, rest) = split(rest, layout.head);
        let vectors = layout.vectors;
        let (resident, rest) = split(rest, vectors + layout.hot);
        let (buffer, _) = split(rest, layout.buffer);

        if buffer.is_empty() {
            return Err(StreamLoadError::BufferTooSmall { needed: ALIGNMENT, given: 0 });
        }
        let mut stored = None;
        let (front, table) = if options.stored_tokenizer {
            let (front, table, tokenizer) = far_head(&mut reader, &mut prefix, &begin, head, buffer)?;
            stored = tokenizer;
            (front, table)
        } else {
            near_head(&mut reader, &prefix, head, buffer)?
        };

        let mut model = Model::assemble(read, &prefix, front)?;
        model.check_roles(table.len() / ENTRY_LEN)?;
        let mut tensors = Tensors {
            reader,
            buffer,
            data_at: prefix.data_at as u32,
            data_len: prefix.data_len,
            used: [0, vectors],
            ends: [vectors, resident.len()],
            resident,
        };
        let has_head = prefix.global_roles & Role::Head.bit() != 0;
        let mut read_bytes = 0_u64;
        for (index, bytes) in table.as_chunks_mut().0.iter_mut().enumerate() {
            let Some(place) = model.place(index) else { break };
            let mut entry = TensorEntry::from_bytes(bytes);
            let size = check_entry(model.config(), index, place, &entry)?;
            let (size, at) = tensors.check(place, &entry, size)?;
            let (layer, role) = place;
            let whole = match role {
                Role::Embedding => !has_head,
                Role::PositionEmbedding => false,
                _ => true,
            };
            let area = usize::from(!role.is_vector());
            let wanted = role.is_vector() || whole && stays(layer, role);
            entry.offset = match if wanted { tensors.copy(area, at, &size)? } else { None } {
                Some(offset) => offset as u64,
                None => {
                    let row = tensors.check_buffer(&entry)?;
                    if !matches!(role, Role::Embedding | Role::PositionEmbedding) {
                        read_bytes += size.stored();
                    } else {
                        read_bytes += row + if whole { size.stored() } else { 0 };
                    }
                    u64::from(at) | READ
                }
            };
            if let Some(place) = bytes.get_mut(12..) {
                place.copy_from_slice(&entry.offset.to_le_bytes());
            }
        }
        let Tensors { reader, buffer, resident, used, .. } = tensors;
        model.set_tensors(table, resident);
        Ok(Self { model, stored, reader, buffer, layout, hot_bytes: used[1] - vectors, read_bytes })
    }
}

impl<'m, R> StreamModel<'m, R> {
    /// The model, as far as it is in memory: its dimensions, and unless
    /// [`StreamOptions::stored_tokenizer`] says otherwise its metadata and tokenizer. [`Model::tensor`] finds
    /// only what is in memory.
    pub const fn model(&self) -> &Model<'m> {
        &self.model
    }

    /// The reader.
    pub const fn reader(&self) -> &R {
        &self.reader
    }

    /// The reader, to be told things between two sessions.
    pub const fn reader_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The reader back.
    pub fn into_reader(self) -> R {
        self.reader
    }

    /// How the memory is divided.
    pub const fn layout(&self) -> &StreamLayout {
        &self.layout
    }

    /// Bytes of matrices that were copied into memory, padding included.
    pub const fn hot_bytes(&self) -> usize {
        self.hot_bytes
    }

    /// Bytes that are read for a token on its own, or for each `prompt_block` of a prompt but for the
    /// rows of their embeddings.
    pub const fn bytes_read_per_token(&self) -> u64 {
        self.read_bytes
    }

    /// Begins an empty sequence in the caller's memory ([`Session::new`](crate::Session::new)).
    ///
    /// # Errors
    /// As for a session of a model in memory.
    pub fn session<'s>(
        &'s mut self,
        memory: &'s mut (impl AsMut<[u8]> + ?Sized),
        options: SessionOptions,
    ) -> Result<StreamSession<'s, R>, SessionError> {
        let model = (&self.model, self.stored.as_ref());
        StreamSession::new(model, (&mut self.reader, self.buffer), memory, options)
    }
}

/// What stands between the prefix and the tensor table, and the table.
type Head<'m> = (Front<'m>, &'m mut [u8]);

/// All of the head comes into memory.
fn near_head<'m, R: WeightReader>(
    reader: &mut R,
    prefix: &Prefix,
    head: &'m mut [u8],
    buffer: &mut [u8],
) -> Loaded<Head<'m>, R> {
    let (head, _) = split(head, prefix.data_at as usize);
    reader.read(0, head).map_err(StreamLoadError::Read)?;
    check_sum(reader, prefix, head, buffer)?;

    let (front, rest) = split(head, prefix.table_at as usize);
    let front: &'m [u8] = front;
    let mut parts = Reader { rest: front.get(PREFIX_LEN..).unwrap_or(&[]) };
    let front = Front::take(&mut parts).ok_or(LoadError::BadMetadata)?;
    let behind = parts.rest;
    if !behind.is_empty() {
        let found = prefix.table_at - behind.len() as u64;
        let (section, expected) = ("tensor table", prefix.table_at);
        return Err(LoadError::BadSection { section, expected, found }.into());
    }
    let table_len = (front.n_tensors as usize).checked_mul(ENTRY_LEN).ok_or(LoadError::BadMetadata)?;
    if rest.len() < table_len {
        return Err(LoadError::BadMetadata.into());
    }
    let (table, rest) = split(rest, table_len);
    check_end_of_head(rest, prefix)?;
    Ok((front, table))
}

/// Of the head only the table comes into memory.
#[inline(never)]
fn far_head<'m, R: WeightReader>(
    reader: &mut R,
    prefix: &mut Prefix,
    begin: &[u8; PREFIX_LEN],
    table: &'m mut [u8],
    buffer: &mut [u8],
) -> Loaded<(Front<'m>, &'m mut [u8], Option<StoredTokenizer>), R> {
    if !cfg!(feature = "stored-tokenizer") {
        let what = "a tokenizer that stays in the file";
        return Err(LoadError::MissingFeature { what, feature: "stored-tokenizer" }.into());
    }
    let mut hash = Checksum::new();
    hash.update(begin.get(16..).unwrap_or(&[]));
    let rest = (prefix.file_len as usize).saturating_sub(PREFIX_LEN);
    chunks(reader, buffer, PREFIX_LEN as u32, rest, |chunk| hash.update(chunk))?;
    let (expected, found) = (prefix.checksum, hash.finish());
    if found != expected {
        return Err(LoadError::ChecksumMismatch { expected, found }.into());
    }

    let table_at = prefix.table_at as u32;
    let (stored, n_tensors) = StoredTokenizer::load(reader, table_at, buffer)?;
    let table_len = (n_tensors as usize).checked_mul(ENTRY_LEN).ok_or(LoadError::BadMetadata)?;
    if table.len() < table_len {
        return Err(LoadError::BadMetadata.into());
    }
    let (table, _) = split(table, table_len);
    // Padding, and two lengths.
    let mut end = [0; 2 * ALIGNMENT];
    let end_at = prefix.table_at.saturating_add(table_len as u64);
    let end_len = prefix.data_at.checked_sub(end_at).and_then(|len| usize::try_from(len).ok());
    let end = end_len.and_then(|len| end.get_mut(..len)).ok_or(LoadError::BadMetadata)?;
    reader.read(table_at, table).map_err(StreamLoadError::Read)?;
    if !end.is_empty() {
        reader.read(end_at as u32, end).map_err(StreamLoadError::Read)?;
    }
    check_end_of_head(end, prefix)?;

    let (tokens, longest) =
        stored.as_ref().map_or((0, 0), |stored| (stored.n_tokens(), stored.max_token_bytes()));
    if tokens > prefix.vocab_size {
        return Err(LoadError::VocabularyTooLarge { tokens, rows: prefix.vocab_size }.into());
    }
    if longest != prefix.max_token_bytes {
        return Err(LoadError::BadMetadata.into());
    }
    if longest as usize > buffer.len() {
        let needed = align_up(longest as usize);
        return Err(StreamLoadError::BufferTooSmall { needed, given: buffer.len() });
    }
    // The model that is put together has no tokenizer.
    prefix.max_token_bytes = 0;
    Ok((Front { meta: Meta::NONE, tokenizer: None, n_tensors }, table, stored))
}

/// What checking and placing tensors works with.
struct Tensors<'m, R> {
    reader: R,
    buffer: &'m mut [u8],
    data_at: u32,
    data_len: u64,
    /// Where tensors stay: vectors, then matrices.
    resident: &'m mut [u8],
    /// Up to where in it there are vectors, and matrices.
    used: [usize; 2],
    /// Where the room for each ends.
    ends: [usize; 2],
}

impl<R: WeightReader> Tensors<'_, R> {
    /// The tensor lies in the data, and its values are sane. Gives its size and its place in the file.
    fn check(
        &mut self,
        (layer, role): (u32, Role),
        entry: &TensorEntry,
        size: Option<TensorSize>,
    ) -> Loaded<(TensorSize, u32), R> {
        let bytes = size.map_or(u64::MAX, |size| size.total as u64);
        let lies_in_data = entry.offset.is_multiple_of(ALIGNMENT as u64)
            && entry.offset.checked_add(bytes).is_some_and(|end| end <= self.data_len);
        let Some(size) = size.filter(|_| lies_in_data) else {
            let (offset, data_len) = (entry.offset, self.data_len);
            return Err(LoadError::BadOffset { role, layer, offset, bytes, data_len }.into());
        };
        // The data ends within 32 bits.
        let at = self.data_at.wrapping_add(entry.offset as u32);
        let (begin, len) = match size.scales_len {
            0 => (at, size.quants_len),
            len => (at.wrapping_add(size.scales_at as u32), len),
        };
        let dtype = DType::from_u8(entry.dtype);
        let mut sane = true;
        chunks(&mut self.reader, self.buffer, begin, len, |chunk| {
            sane &= match dtype {
                Some(DType::F32) => {
                    chunk.as_chunks().0.iter().all(|bytes| f32::from_le_bytes(*bytes).is_finite())
                }
                Some(DType::F16) if cfg!(feature = "f16") => {
                    chunk.as_chunks().0.iter().all(|bytes| f16_to_f32(u16::from_le_bytes(*bytes)).is_finite())
                }
                _ => chunk.as_chunks().0.iter().all(|bytes| scale_is_sane(u16::from_le_bytes(*bytes))),
            };
        })?;
        if sane { Ok((size, at)) } else { Err(LoadError::BadValue { role, layer }.into()) }
    }

    /// Copies a tensor to where vectors (0) or matrices (1) stay, if there is room; gives its place.
    fn copy(&mut self, area: usize, at: u32, size: &TensorSize) -> Loaded<Option<usize>, R> {
        let (Some(used), Some(&end)) = (self.used.get_mut(area), self.ends.get(area)) else {
            return Ok(None);
        };
        let offset = *used;
        let room = self.resident.get_mut(offset..end).and_then(|room| room.get_mut(..size.total));
        let Some(place) = room else { return Ok(None) };
        self.reader.read(at, place).map_err(StreamLoadError::Read)?;
        *used = offset + align_up(size.total);
        Ok(Some(offset))
    }

    /// The buffer is large enough for the tensor. Gives the bytes of as few rows as can be read.
    fn check_buffer(&self, entry: &TensorEntry) -> Loaded<u64, R> {
        let dtype = DType::from_u8(entry.dtype).unwrap_or(DType::F32);
        let unit = TensorSize::new(dtype, row_unit(dtype), entry.cols as usize);
        let needed = unit.map_or(usize::MAX, |unit| unit.total);
        if needed > self.buffer.len() {
            return Err(StreamLoadError::BufferTooSmall { needed, given: self.buffer.len() });
        }
        Ok(unit.map_or(0, |unit| unit.stored()))
    }
}

/// The data follows the head and ends the file; the table lies in the head.
fn check_lengths(prefix: &Prefix) -> Result<(), LoadError> {
    let expected = prefix.data_at.saturating_add(prefix.data_len);
    if expected != prefix.file_len {
        let section = "end of the data";
        return Err(LoadError::BadSection { section, expected, found: prefix.file_len });
    }
    let begin = PREFIX_LEN as u64;
    if prefix.table_at < begin || prefix.table_at > prefix.data_at {
        return Err(LoadError::BadMetadata);
    }
    Ok(())
}

/// Nothing stands between table and data but padding and the data's length.
fn check_end_of_head(rest: &[u8], prefix: &Prefix) -> Result<(), LoadError> {
    let mut reader = Reader { rest };
    let _padding = reader.bytes().ok_or(LoadError::BadMetadata)?;
    let data_len = reader.number().ok_or(LoadError::BadMetadata)?;
    let rest = reader.rest;
    if !rest.is_empty() {
        let found = prefix.data_at - rest.len() as u64;
        return Err(LoadError::BadSection { section: "data", expected: prefix.data_at, found });
    }
    if u64::from(data_len) == prefix.data_len { Ok(()) } else { Err(LoadError::BadMetadata) }
}

/// The file's checksum, of which the head is in memory.
fn check_sum<R: WeightReader>(
    reader: &mut R,
    prefix: &Prefix,
    head: &[u8],
    buffer: &mut [u8],
) -> Loaded<(), R> {
    let mut hash = Checksum::new();
    hash.update(head.get(16..).unwrap_or(&[]));
    chunks(reader, buffer, prefix.data_at as u32, prefix.data_len as usize, |chunk| hash.update(chunk))?;
    let found = hash.finish();
    if found == prefix.checksum {
        Ok(())
    } else {
        Err(LoadError::ChecksumMismatch { expected: prefix.checksum, found }.into())
    }
}

/// Reads some bytes, as many at a time as the buffer takes.
fn chunks<R: WeightReader>(
    reader: &mut R,
    buffer: &mut [u8],
    mut at: u32,
    mut len: usize,
    mut each: impl FnMut(&[u8]),
) -> Loaded<(), R> {
    while len > 0 {
        let n = len.min(buffer.len());
        let Some(chunk) = buffer.get_mut(..n) else { break };
        reader.read(at, chunk).map_err(StreamLoadError::Read)?;
        each(chunk);
        at = at.wrapping_add(n as u32);
        len -= n;
    }
    Ok(())
}

/// The first bytes, as many as there are, and the rest.
fn split(bytes: &mut [u8], at: usize) -> (&mut [u8], &mut [u8]) {
    bytes.split_at_mut(at.min(bytes.len()))
}
