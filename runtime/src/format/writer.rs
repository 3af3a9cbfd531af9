//! Writes model files. The format's one home is this crate, so its writer lives here too.

use std::io::{self, Seek, SeekFrom, Write};
use std::vec::Vec;

use xxhash_rust::xxh32::Xxh32;

pub use super::pack::{PackLoss, Slab, pack_matrix, slabs};
use super::{
    DType, ENTRY_LEN, KvType, MAGIC, Meta, Need, PREFIX_LEN, Prefix, Role, TensorEntry, TensorSize, VERSION,
    align_up,
};
use crate::config::Config;
use crate::error::LoadError;
pub use crate::quant::QuantBlock;
use crate::tokenizer::TokenizerData;

/// One tensor to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// The block it belongs to, 0 for tensors of the whole model.
    pub layer: u32,
    /// What it is for.
    pub role: Role,
    /// How it is stored.
    pub dtype: DType,
}

/// Everything of a model file but the tensors' numbers.
#[derive(Clone, Debug)]
pub struct ModelPlan<'a> {
    /// Dimensions.
    pub config: Config,
    /// How keys and values are kept unless the user asks for another way.
    pub kv_type: KvType,
    /// Words about the model.
    pub meta: Meta<'a>,
    /// The tokenizer.
    pub tokenizer: Option<TokenizerData<'a>>,
    /// The tensors, in any order; every layer must have the same roles.
    pub tensors: Vec<TensorPlan>,
}

/// Why a model file could not be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The plan describes no valid model.
    Plan(LoadError),
    /// A layer has other roles than the first, or a tensor stands twice.
    UnevenLayers {
        /// The layer.
        layer: u32,
    },
    /// A tensor's numbers are not as many bytes as its shape and type call for.
    WrongSize {
        /// Which tensor.
        tensor: TensorPlan,
        /// Bytes given.
        found: usize,
        /// Bytes called for.
        expected: usize,
    },
    /// The sink failed (a full disk, say).
    Io(io::Error),
}

impl core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Plan(error) => write!(f, "{error}"),
            Self::UnevenLayers { layer } => {
                write!(f, "layer {layer} has other tensors than layer 0, or one twice")
            }
            Self::WrongSize { tensor, found, expected } => write!(
                f,
                "tensor {} of layer {} was given {found} bytes, needs {expected}",
                tensor.role.name(),
                tensor.layer
            ),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Plan(error) => Some(error),
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes a model file from the sink's present position (which must be its begin) and returns its
/// length in bytes. Tensors are asked for one at a time, in the file's order: `fill` appends
/// exactly the bytes that [`pack_matrix`] gives for the tensor's shape and type.
///
/// # Errors
/// A plan that is no valid model, a tensor of the wrong size, or whatever `fill` and the sink say.
pub fn write_model<W, E>(
    sink: &mut W,
    plan: &ModelPlan<'_>,
    mut fill: impl FnMut(&TensorPlan, &mut Vec<u8>) -> Result<(), E>,
) -> Result<u64, E>
where
    W: Write + Seek,
    E: From<WriteError>,
{
    let config = plan.config;
    let (tensors, global_roles, layer_roles) = ordered(plan)?;

    // Offsets first: they follow from shapes alone.
    let mut entries = Vec::with_capacity(tensors.len());
    let mut sizes = Vec::with_capacity(tensors.len());
    let mut data_len = 0_usize;
    for tensor in &tensors {
        let (rows, cols) = tensor.role.shape(&config);
        let too_large = || {
            WriteError::Plan(LoadError::BadDimension {
                field: tensor.role.name(),
                value: rows as u32,
                max: 0,
            })
        };
        let size = TensorSize::new(tensor.dtype, rows, cols).ok_or_else(too_large)?;
        entries.push(TensorEntry {
            role: tensor.role as u8,
            dtype: tensor.dtype as u8,
            layer: tensor.layer as u16,
            rows: rows as u32,
            cols: cols as u32,
            offset: data_len as u64,
        });
        sizes.push(size.total);
        data_len += align_up(size.total);
    }

    let mut body = encode(&plan.meta);
    body.extend(encode(&plan.tokenizer));
    body.extend(encode(&(entries.len() as u32)));
    let table_at = PREFIX_LEN + body.len();
    for entry in &entries {
        let bytes = encode(entry);
        debug_assert_eq!(bytes.len(), ENTRY_LEN);
        body.extend(bytes);
    }
    // Padding is postcard bytes (a length, then zeros), then come the data's length and the data.
    let data_len_bytes = encode(&(data_len as u64));
    let before = PREFIX_LEN + body.len() + 1 + data_len_bytes.len();
    let padding = align_up(before) - before;
    body.push(padding as u8); // below 64: one byte of varint
    body.resize(body.len() + padding, 0);
    body.extend(data_len_bytes);
    let data_at = PREFIX_LEN + body.len();

    let mut prefix = Prefix {
        magic: MAGIC,
        version: VERSION,
        checksum: 0,
        file_len: (data_at + data_len) as u64,
        architecture: config.architecture as u8,
        kv_type: plan.kv_type as u8,
        reserved_a: [0; 2],
        n_layers: config.n_layers,
        dim: config.dim,
        n_heads: config.n_heads,
        n_kv_heads: config.n_kv_heads,
        head_dim: config.head_dim,
        ffn_dim: config.ffn_dim,
        vocab_size: config.vocab_size,
        context_len: config.context_len,
        norm_eps: config.norm_eps.to_le_bytes(),
        global_roles,
        layer_roles,
        table_at: table_at as u64,
        data_at: data_at as u64,
        data_len: data_len as u64,
        max_token_bytes: plan.tokenizer.map_or(0, |tokenizer| tokenizer.max_token_bytes),
        reserved_b: [0; 28],
    };
    let begin = sink.stream_position().map_err(WriteError::Io)?;
    let head = encode(&prefix);
    let mut hasher = Xxh32::new(0);
    hasher.update(&head[16..]);
    hasher.update(&body);
    sink.write_all(&head).map_err(WriteError::Io)?;
    sink.write_all(&body).map_err(WriteError::Io)?;
    let mut bytes = Vec::new();
    for (tensor, &expected) in tensors.iter().zip(&sizes) {
        bytes.clear();
        fill(tensor, &mut bytes)?;
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(WriteError::WrongSize { tensor: *tensor, found, expected }.into());
        }
        bytes.resize(align_up(expected), 0);
        hasher.update(&bytes);
        sink.write_all(&bytes).map_err(WriteError::Io)?;
    }
    // The checksum is known only now.
    prefix.checksum = hasher.digest();
    sink.seek(SeekFrom::Start(begin)).map_err(WriteError::Io)?;
    sink.write_all(&encode(&prefix)).map_err(WriteError::Io)?;
    sink.seek(SeekFrom::Start(begin + prefix.file_len)).map_err(WriteError::Io)?;
    sink.flush().map_err(WriteError::Io)?;
    Ok(prefix.file_len)
}

fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Serializing plain structs into a growing vector has no way to fail.
    postcard::to_allocvec(value).unwrap_or_default()
}

/// The plan's tensors in the file's order, with the masks of their roles.
fn ordered(plan: &ModelPlan<'_>) -> Result<(Vec<TensorPlan>, u32, u32), WriteError> {
    plan.config.validate().map_err(WriteError::Plan)?;
    let mut tensors = plan.tensors.clone();
    tensors.sort_by_key(|tensor| (tensor.role.is_per_layer(), tensor.layer, tensor.role));
    let mask = |layer: u32, per_layer: bool| {
        let of_layer = tensors
            .iter()
            .filter(move |tensor| tensor.role.is_per_layer() == per_layer && tensor.layer == layer);
        of_layer.fold((0, 0), |(mask, n), tensor| (mask | tensor.role.bit(), n + 1))
    };
    let (global_roles, n_global) = mask(0, false);
    let (layer_roles, _) = mask(0, true);
    for layer in 0..plan.config.n_layers {
        let (roles, n) = mask(layer, true);
        if roles != layer_roles || n != layer_roles.count_ones() {
            return Err(WriteError::UnevenLayers { layer });
        }
    }
    let expected = n_global + plan.config.n_layers * layer_roles.count_ones();
    if global_roles.count_ones() != n_global || tensors.len() != expected as usize {
        return Err(WriteError::UnevenLayers { layer: plan.config.n_layers });
    }
    for role in (0..64).filter_map(Role::from_u8) {
        let mask = if role.is_per_layer() { layer_roles } else { global_roles };
        match role.need(plan.config.architecture) {
            Need::Must if mask & role.bit() == 0 => {
                return Err(WriteError::Plan(LoadError::MissingTensor(role)));
            }
            Need::MustNot if mask & role.bit() != 0 => {
                return Err(WriteError::Plan(LoadError::UnexpectedTensor(role)));
            }
            _ => {}
        }
    }
    for tensor in &tensors {
        if tensor.role.is_vector() && tensor.dtype != DType::F32 {
            let (role, found) = (tensor.role, tensor.dtype);
            return Err(WriteError::Plan(LoadError::BadTensorType { role, found }));
        }
    }
    Ok((tensors, global_roles, layer_roles))
}
