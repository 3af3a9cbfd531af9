//! One model in the formats of others, written by their descriptions: for tests, because nobody needs
//! us to write these.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use smidgen_runtime::format::Role;

use crate::Checkpoint;

/// The row of a pair-wise rotated matrix that row `row` of a half-wise rotated one goes to:
/// Hugging Face's conversion is reshape(heads, 2, d/2) of pairs, with axes 1 and 2 swapped.
pub(crate) fn pair_row(row: usize, head_dim: usize) -> usize {
    let (head, half, i) = (row / head_dim, row % head_dim / (head_dim / 2), row % (head_dim / 2));
    head * head_dim + 2 * i + half
}

/// A tensor's numbers as llama2.c has them: queries and keys in rotary pairs.
pub(crate) fn in_pairs(checkpoint: &Checkpoint, layer: u32, role: Role) -> Vec<f32> {
    let tensor = checkpoint.tensor(layer, role).unwrap();
    let ((rows, cols), values) = (tensor.shape(), tensor.read());
    if !matches!(role, Role::Q | Role::K) {
        return values;
    }
    let mut paired = values.clone();
    for row in 0..rows {
        let to = pair_row(row, checkpoint.config.head_dim as usize) * cols;
        paired[to..to + cols].copy_from_slice(&values[row * cols..][..cols]);
    }
    paired
}

/// Numbers that share a scale in llama2.c's version 2.
const LLAMA2C_GROUP: usize = 32;

fn put_llama2c(values: &[f32], grouped: bool, bytes: &mut Vec<u8>) {
    if !grouped {
        return bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    let scale = |group: &[f32]| group.iter().fold(0.0_f32, |max, x| max.max(x.abs())) / 127.0;
    for group in values.chunks(LLAMA2C_GROUP) {
        let scale = scale(group);
        bytes.extend(group.iter().map(|value| (value / scale).round() as i8 as u8));
    }
    bytes.extend(values.chunks(LLAMA2C_GROUP).flat_map(|group| scale(group).to_le_bytes()));
}

/// As llama2.c's `export.py` does: versions 0 and 1 in f32, version 2 in bytes with a scale for 32.
pub(crate) fn llama2c(checkpoint: &Checkpoint, version: u32) -> Vec<u8> {
    let config = &checkpoint.config;
    let tied = !checkpoint.has(Role::Head);
    let mut bytes = Vec::new();
    let int = |bytes: &mut Vec<u8>, value: i32| bytes.extend(value.to_le_bytes());
    if version > 0 {
        bytes.extend(b"24ka");
        int(&mut bytes, version as i32);
    }
    let vocab = if version == 0 && !tied { -(config.vocab_size as i32) } else { config.vocab_size as i32 };
    let (dim, ffn, layers) = (config.dim as i32, config.ffn_dim as i32, config.n_layers as i32);
    let (heads, kv_heads, context) =
        (config.n_heads as i32, config.n_kv_heads as i32, config.context_len as i32);
    for value in [dim, ffn, layers, heads, kv_heads, vocab, context] {
        int(&mut bytes, value);
    }
    if version > 0 {
        bytes.push(u8::from(tied));
        if version == 2 {
            int(&mut bytes, LLAMA2C_GROUP as i32);
        }
        bytes.resize(256, 0);
    }
    let mut put = |roles: &[Role], layers: u32| {
        for &role in roles {
            for layer in 0..layers {
                let values = in_pairs(checkpoint, layer, role);
                put_llama2c(&values, version == 2 && !role.is_vector(), &mut bytes);
            }
        }
    };
    let layers = config.n_layers;
    let blocks = [Role::Q, Role::K, Role::V, Role::O];
    if version == 0 {
        put(&[Role::Embedding], 1);
        put(&[Role::AttnNorm], layers);
        put(&blocks, layers);
        put(&[Role::FfnNorm, Role::Gate, Role::Down, Role::Up], layers);
        put(&[Role::FinalNorm], 1);
    } else {
        put(&[Role::AttnNorm], layers);
        put(&[Role::FfnNorm], layers);
        put(&[Role::FinalNorm], 1);
        put(&[Role::Embedding], 1);
        put(&blocks, layers);
        put(&[Role::Gate, Role::Down, Role::Up], layers);
    }
    let mut file = bytes;
    if version == 0 {
        let tables = (config.context_len * config.head_dim) as usize;
        file.extend(core::iter::repeat_n(0x55, 4 * tables));
    }
    if !tied {
        put_llama2c(&checkpoint.read(0, Role::Head).unwrap(), version == 2, &mut file);
    }
    file
}

/// As llm.c's `train_gpt2.py` does: version 3 in f32, version 5 in bf16.
pub(crate) fn llmc(checkpoint: &Checkpoint, version: u32) -> Vec<u8> {
    let config = &checkpoint.config;
    let mut header = vec![0_u32; 256];
    let padded = config.vocab_size.next_multiple_of(128);
    header[..8].copy_from_slice(&[
        crate::llmc::MAGIC,
        version,
        config.context_len,
        config.vocab_size,
        config.n_layers,
        config.n_heads,
        config.dim,
        padded,
    ]);
    let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut put = |values: &[f32]| {
        for value in values {
            match version {
                3 => bytes.extend(value.to_le_bytes()),
                _ => bytes.extend(half::bf16::from_f32(*value).to_le_bytes()),
            }
        }
    };
    put(&checkpoint.read(0, Role::Embedding).unwrap());
    put(&vec![7.0; ((padded - config.vocab_size) * config.dim) as usize]);
    put(&checkpoint.read(0, Role::PositionEmbedding).unwrap());
    for roles in [
        &[Role::AttnNorm][..],
        &[Role::AttnNormBias],
        &[Role::Q, Role::K, Role::V],
        &[Role::QBias, Role::KBias, Role::VBias],
        &[Role::O],
        &[Role::OBias],
        &[Role::FfnNorm],
        &[Role::FfnNormBias],
        &[Role::Up],
        &[Role::UpBias],
        &[Role::Down],
        &[Role::DownBias],
    ] {
        for layer in 0..config.n_layers {
            roles.iter().for_each(|role| put(&checkpoint.read(layer, *role).unwrap()));
        }
    }
    put(&checkpoint.read(0, Role::FinalNorm).unwrap());
    put(&checkpoint.read(0, Role::FinalNormBias).unwrap());
    bytes
}

/// A plain float type, as files of others name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    F32,
    F16,
    Bf16,
}

impl Float {
    fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            Self::Bf16 => {
                values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect()
            }
        }
    }
}

/// Tensors by name, with their shapes.
pub(crate) type Named = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of an F32 safetensors file.
pub(crate) fn read_safetensors(path: &Path) -> Named {
    let file = std::fs::read(path).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&file).unwrap();
    let named = parsed.iter().map(|(name, view)| {
        let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (name.to_owned(), (view.shape().to_vec(), values))
    });
    named.collect()
}

/// Writes weights into a directory as transformers shards them, with an index if there is more than
/// one file: safetensors, or pickles.
pub(crate) fn write_shards(directory: &Path, tensors: &Named, shards: usize, float: Float, pickled: bool) {
    let (stem, ending) = if pickled { ("pytorch_model", "bin") } else { ("model", "safetensors") };
    let mut map = serde_json::Map::new();
    for shard in 0..shards {
        let name = match shards {
            1 => format!("{stem}.{ending}"),
            _ => format!("{stem}-{:05}-of-{shards:05}.{ending}", shard + 1),
        };
        let part = tensors.iter().enumerate().filter(|(i, _)| i % shards == shard).map(|(_, one)| one);
        let part: Named = part.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        map.extend(part.keys().map(|tensor| (tensor.clone(), name.clone().into())));
        let bytes = if pickled { archive(&part, float, None) } else { safetensors_file(&part, float) };
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    if shards > 1 {
        let index = json!({ "metadata": {}, "weight_map": map });
        std::fs::write(directory.join(format!("{stem}.{ending}.index.json")), index.to_string()).unwrap();
    }
}

fn safetensors_file(tensors: &Named, float: Float) -> Vec<u8> {
    let dtype = match float {
        Float::F32 => safetensors::Dtype::F32,
        Float::F16 => safetensors::Dtype::F16,
        Float::Bf16 => safetensors::Dtype::BF16,
    };
    let bytes: Vec<_> = tensors.iter().map(|(name, (shape, x))| (name, shape, float.bytes(x))).collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (*name, safetensors::tensor::TensorView::new(dtype, (*shape).clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// What `torch.save` writes: a dictionary of tensors; with `arguments`, such a dictionary as `model`
/// beside `model_args`.
pub(crate) fn archive(tensors: &Named, float: Float, arguments: Option<&Value>) -> Vec<u8> {
    let mut pickle = vec![0x80, 2, b'}', b'('];
    let int = |pickle: &mut Vec<u8>, value: usize| {
        pickle.push(b'J');
        pickle.extend((value as u32).to_le_bytes());
    };
    let text = |pickle: &mut Vec<u8>, text: &str| {
        pickle.push(b'X');
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    };
    if arguments.is_some() {
        text(&mut pickle, "model");
        pickle.extend(b"}(");
    }
    let storage = match float {
        Float::F32 => "ctorch\nFloatStorage\n",
        Float::F16 => "ctorch\nHalfStorage\n",
        Float::Bf16 => "ctorch\nBFloat16Storage\n",
    };
    let mut entries = vec![("data.pkl".to_owned(), Vec::new()), ("byteorder".into(), b"little".to_vec())];
    for (key, (name, (shape, values))) in tensors.iter().enumerate() {
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(storage.as_bytes());
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        int(&mut pickle, values.len());
        pickle.extend(b"tQK\0(");
        shape.iter().for_each(|dim| int(&mut pickle, *dim));
        pickle.extend(b"t(");
        (0..shape.len()).for_each(|i| int(&mut pickle, shape[i + 1..].iter().product()));
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
        entries.push((format!("data/{key}"), float.bytes(values)));
    }
    pickle.push(b'u');
    if let Some(arguments) = arguments {
        text(&mut pickle, "model_args");
        pickle.extend(b"}(");
        for (name, value) in arguments.as_object().unwrap() {
            text(&mut pickle, name);
            match value {
                Value::Bool(value) => pickle.push(if *value { 0x88 } else { 0x89 }),
                value => int(&mut pickle, value.as_u64().unwrap() as usize),
            }
        }
        pickle.extend(b"uu");
    }
    pickle.push(b'.');
    entries[0].1 = pickle;
    zip(&entries)
}

/// A zip archive of stored entries (its readers here look at no checksum, so it has none).
pub(crate) fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let name = format!("archive/{name}");
        let (size, at) = ((bytes.len() as u32).to_le_bytes(), (file.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        // Version, flags, method, time, date, checksum; then sizes and the lengths of name and extra.
        let common = [&[20, 0][..], &[0; 12], &size, &size, &name_len, &[0, 0]].concat();
        file.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), bytes].concat());
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &at, name.as_bytes()].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let (len, at) = ((directory.len() as u32).to_le_bytes(), (file.len() as u32).to_le_bytes());
    file.extend(&directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &len, &at, &[0, 0]].concat());
    file
}

/// The tensors of nanoGPT's checkpoint: names and shapes of Linear layers.
pub(crate) fn nanogpt(checkpoint: &Checkpoint) -> Named {
    let config = &checkpoint.config;
    let mut named = Named::new();
    for role in (0..64).filter_map(Role::from_u8) {
        let Some(name) = crate::huggingface::gpt2_name(role) else { continue };
        for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
            let full = if role.is_per_layer() {
                format!("transformer.h.{layer}.{name}")
            } else {
                format!("transformer.{name}")
            };
            let (rows, cols) = role.shape(config);
            let values = checkpoint.read(layer, role).unwrap();
            let entry = named.entry(full).or_insert_with(|| (vec![0], Vec::new()));
            // Queries, keys and values come in this order and lie below each other.
            entry.1.extend(values);
            entry.0 = if role.is_vector() { vec![entry.1.len()] } else { vec![entry.1.len() / cols, cols] };
            assert!(entry.1.len().is_multiple_of(rows * cols));
        }
    }
    named
}

/// The tensors of llama2.c's training checkpoint.
pub(crate) fn llama2c_named(checkpoint: &Checkpoint) -> Named {
    let config = &checkpoint.config;
    let mut named = Named::new();
    for (role, name) in [
        (Role::Embedding, "tok_embeddings"),
        (Role::FinalNorm, "norm"),
        (Role::Head, "output"),
        (Role::AttnNorm, "attention_norm"),
        (Role::Q, "attention.wq"),
        (Role::K, "attention.wk"),
        (Role::V, "attention.wv"),
        (Role::O, "attention.wo"),
        (Role::FfnNorm, "ffn_norm"),
        (Role::Gate, "feed_forward.w1"),
        (Role::Down, "feed_forward.w2"),
        (Role::Up, "feed_forward.w3"),
    ] {
        for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
            // Its checkpoints name the shared head, too.
            let from = if role == Role::Head && !checkpoint.has(role) { Role::Embedding } else { role };
            let (rows, cols) = role.shape(config);
            let shape = if role.is_vector() { vec![cols] } else { vec![rows, cols] };
            let prefix = if role.is_per_layer() { format!("layers.{layer}.") } else { String::new() };
            named.insert(format!("{prefix}{name}.weight"), (shape, in_pairs(checkpoint, layer, from)));
        }
    }
    named
}
