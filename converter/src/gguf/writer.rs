//! From a checkpoint to a GGUF file (version 3) that llama.cpp loads.

use std::io::{BufWriter, Write};
use std::path::Path;

use half::f16;
use smidgen_runtime::Architecture;
use smidgen_runtime::format::{Role, RopeScaling};

use super::{names, quants, tokenizer};
use crate::atomic::write_file;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, io_at};
use crate::source::TensorSource;

const ALIGNMENT: usize = 32;
/// Numbers that are in memory at once while a tensor is copied.
const SLAB: usize = 1 << 20;

/// The type of a GGUF file's matrices. Vectors are always F32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GgufType {
    /// 32-bit floats: nothing is lost.
    #[default]
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers with an f16 scale for 32 of them; matrices whose rows 32 does not divide are F16.
    Q8_0,
}

/// How a checkpoint becomes a GGUF file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GgufOptions {
    /// The type of matrices.
    pub dtype: GgufType,
    /// Leave the tokenizer out.
    pub without_tokenizer: bool,
}

/// One tensor of the file.
struct Stored {
    name: String,
    /// Parts, one below the other (or behind the other, for vectors).
    parts: Vec<TensorSource>,
    rows: usize,
    cols: usize,
    vector: bool,
    dtype: GgufType,
}

impl Stored {
    fn len(&self) -> usize {
        let numbers = self.rows * self.cols;
        match self.dtype {
            GgufType::F32 => 4 * numbers,
            GgufType::F16 => 2 * numbers,
            GgufType::Q8_0 => numbers / 32 * 34,
        }
    }
}

/// Writes a checkpoint as a GGUF file, which appears whole or not at all.
///
/// # Errors
/// If llama.cpp has no architecture for the model or no name for its tokenizer, or the file can't be
/// written.
pub fn write(path: &Path, checkpoint: &Checkpoint, options: GgufOptions) -> Result<(), Error> {
    checkpoint.check()?;
    let arch = architecture(checkpoint)?;
    let tensors = tensors(checkpoint, arch, options.dtype)?;
    let mut header = Header::default();
    describe(checkpoint, arch, options, &mut header)?;
    write_file(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut head = b"GGUF".to_vec();
        head.extend(3_u32.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend(header.count.to_le_bytes());
        head.extend(&header.bytes);
        let mut at = 0_usize;
        for tensor in &tensors {
            put_text(&mut head, &tensor.name);
            let dims = if tensor.vector { vec![tensor.cols] } else { vec![tensor.cols, tensor.rows] };
            head.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| head.extend((*dim as u64).to_le_bytes()));
            let number = match tensor.dtype {
                GgufType::F32 => 0_u32,
                GgufType::F16 => 1,
                GgufType::Q8_0 => 8,
            };
            head.extend(number.to_le_bytes());
            head.extend((at as u64).to_le_bytes());
            at += tensor.len().next_multiple_of(ALIGNMENT);
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        let mut bytes = |bytes: &[u8]| out.write_all(bytes).map_err(io_at(path));
        bytes(&head)?;
        for tensor in &tensors {
            write_tensor(tensor, &mut bytes)?;
            let padding = tensor.len().next_multiple_of(ALIGNMENT) - tensor.len();
            bytes(&[0; ALIGNMENT][..padding])?;
        }
        out.flush().map_err(io_at(path))
    })
}

fn write_tensor(tensor: &Stored, put: &mut impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut encoded = Vec::new();
    for part in &tensor.parts {
        let (rows, cols) = part.shape();
        let slab = (SLAB / cols.max(1)).max(1);
        let mut values = vec![0.0; slab.min(rows) * cols];
        for first in (0..rows).step_by(slab) {
            let range = first..rows.min(first + slab);
            let values = &mut values[..range.len() * cols];
            part.read_rows(range, values);
            encoded.clear();
            match tensor.dtype {
                GgufType::F32 => encoded.extend(values.iter().flat_map(|value| value.to_le_bytes())),
                GgufType::F16 => {
                    encoded.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()))
                }
                GgufType::Q8_0 => quants::encode_q8_0(values, &mut encoded),
            }
            put(&encoded)?;
        }
    }
    Ok(())
}

/// The architecture of llama.cpp that computes what this model does.
fn architecture(checkpoint: &Checkpoint) -> Result<&'static str, Error> {
    let refuse = |what: &str| {
        let reason = format!("can't be a GGUF model: llama.cpp has no architecture with {what}");
        Err(Error::Inconsistent { name: checkpoint.name.clone(), reason })
    };
    let has = |role| checkpoint.has(role);
    let config = &checkpoint.config;
    if config.architecture == Architecture::Gpt2 {
        let fits = config.n_kv_heads == config.n_heads && config.q_dim() == config.dim as usize;
        return if fits { Ok("gpt2") } else { refuse("GPT-2's positions and grouped or wide heads") };
    }
    let qkv = [Role::QBias, Role::KBias, Role::VBias].map(has);
    let norms = [has(Role::QNorm), has(Role::KNorm)];
    match (qkv, has(Role::OBias), norms) {
        (_, _, [true, false] | [false, true]) => refuse("a norm of queries or keys alone"),
        (_, _, [true, true]) if qkv.contains(&true) || has(Role::OBias) => {
            refuse("biases and norms of queries and keys")
        }
        (_, _, [true, true]) => Ok("qwen3"),
        // llama.cpp's qwen2 takes queries to be as wide as the model; its llama takes any width, and biases
        // one by one.
        ([true, true, true], false, _) if config.q_dim() == config.dim as usize => Ok("qwen2"),
        ([true, true, true], _, _) | ([false, false, false], false, _) => Ok("llama"),
        _ => refuse("biases on some of queries, keys, values and output"),
    }
}

fn tensors(checkpoint: &Checkpoint, arch: &str, dtype: GgufType) -> Result<Vec<Stored>, Error> {
    let config = &checkpoint.config;
    let gpt2 = arch == "gpt2";
    let head_dim = config.head_dim as usize;
    let mut stored = Vec::new();
    let mut put = |name: String, parts: Vec<TensorSource>, vector: bool| {
        let cols = if vector { parts.iter().map(|part| part.shape().1).sum() } else { parts[0].shape().1 };
        let rows = if vector { 1 } else { parts.iter().map(|part| part.shape().0).sum() };
        let dtype = match dtype {
            _ if vector => GgufType::F32,
            GgufType::Q8_0 if !cols.is_multiple_of(32) => GgufType::F16,
            dtype => dtype,
        };
        stored.push(Stored { name, parts, rows, cols, vector, dtype });
    };
    for role in (0..64).filter_map(Role::from_u8) {
        let with_queries = matches!(role, Role::K | Role::KBias | Role::V | Role::VBias);
        if gpt2 && with_queries
            || !gpt2 && !checkpoint.has(role)
            || gpt2 && role == Role::Head && !checkpoint.has(role)
        {
            continue;
        }
        for layer in 0..if role.is_per_layer() { config.n_layers } else { 1 } {
            let Some(name) = names::full_name(role, layer, gpt2) else { continue };
            // llama.cpp's GPT-2 has every bias; a model without has zeros there.
            let get = |role: Role| match checkpoint.tensors.get(&(layer, role)) {
                Some(tensor) => Ok(tensor.clone()),
                None if role.is_vector() => {
                    let (rows, cols) = role.shape(config);
                    Ok(TensorSource::owned(rows, cols, vec![0.0; rows * cols]))
                }
                None => checkpoint.tensor(layer, role).cloned(),
            };
            let skip = gpt2 && role.need(Architecture::Gpt2) == smidgen_runtime::format::Need::MustNot;
            if skip {
                continue;
            }
            let parts = match role {
                Role::Q if gpt2 => vec![get(Role::Q)?, get(Role::K)?, get(Role::V)?],
                Role::QBias if gpt2 => vec![get(Role::QBias)?, get(Role::KBias)?, get(Role::VBias)?],
                Role::Q | Role::K if arch == "llama" => vec![halves_to_pairs(&get(role)?, head_dim)],
                Role::QBias | Role::KBias if arch == "llama" => {
                    let bias = get(role)?;
                    let column = TensorSource::owned(bias.shape().1, 1, bias.read());
                    vec![TensorSource::owned(1, bias.shape().1, halves_to_pairs(&column, head_dim).read())]
                }
                _ => vec![get(role)?],
            };
            put(name, parts, role.is_vector());
        }
    }
    if let Some(factors) = rope_factors(checkpoint)? {
        put("rope_freqs.weight".into(), vec![TensorSource::owned(1, factors.len(), factors)], true);
    }
    Ok(stored)
}

/// Rows of each head from halves (i, i + head_dim / 2) to rotary pairs (2i, 2i + 1).
fn halves_to_pairs(source: &TensorSource, head_dim: usize) -> TensorSource {
    let (rows, cols) = source.shape();
    let values = source.read();
    let half = head_dim / 2;
    let mut permuted = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, place) = (row / head_dim, row % head_dim);
        let from = head * head_dim + place / 2 + place % 2 * half;
        permuted.extend_from_slice(&values[from * cols..(from + 1) * cols]);
    }
    TensorSource::owned(rows, cols, permuted)
}

/// What divides each rotary frequency, where the usual keys can't say it.
fn rope_factors(checkpoint: &Checkpoint) -> Result<Option<Vec<f32>>, Error> {
    if checkpoint.config.architecture == Architecture::Gpt2 {
        return Ok(None);
    }
    let scaling = match checkpoint.rope_scaling {
        linear @ RopeScaling::Linear { .. } => linear,
        _ => RopeScaling::None,
    };
    let base = crate::frequencies(checkpoint.rope_theta, scaling, checkpoint.config.head_dim as usize);
    let actual = checkpoint.read(0, Role::RopeFrequencies)?;
    let factors: Vec<f32> = base.iter().zip(&actual).map(|(base, actual)| base / actual).collect();
    Ok(factors.iter().any(|factor| (factor - 1.0).abs() > 1e-6).then_some(factors))
}

/// Key-value pairs in bytes.
#[derive(Default)]
struct Header {
    count: u64,
    bytes: Vec<u8>,
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Header {
    fn key(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        &mut self.bytes
    }

    fn u32(&mut self, key: &str, value: u32) {
        self.key(key, 4).extend(value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.key(key, 6).extend(value.to_le_bytes());
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.key(key, 7).push(value.into());
    }

    fn text(&mut self, key: &str, value: &str) {
        put_text(self.key(key, 8), value);
    }

    fn array(&mut self, key: &str, kind: u32, len: usize) -> &mut Vec<u8> {
        let bytes = self.key(key, 9);
        bytes.extend(kind.to_le_bytes());
        bytes.extend((len as u64).to_le_bytes());
        bytes
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        let bytes = self.array(key, 8, values.len());
        values.iter().for_each(|value| put_text(bytes, value));
    }
}

fn describe(
    checkpoint: &Checkpoint,
    arch: &str,
    options: GgufOptions,
    header: &mut Header,
) -> Result<(), Error> {
    let config = &checkpoint.config;
    header.text("general.architecture", arch);
    if !checkpoint.name.is_empty() {
        header.text("general.name", &checkpoint.name);
    }
    header.u32("general.quantization_version", 2);
    let file_type = match options.dtype {
        GgufType::F32 => 0,
        GgufType::F16 => 1,
        GgufType::Q8_0 => 7,
    };
    header.u32("general.file_type", file_type);
    let key = |name: &str| format!("{arch}.{name}");
    header.u32(&key("context_length"), config.context_len);
    header.u32(&key("embedding_length"), config.dim);
    header.u32(&key("block_count"), config.n_layers);
    header.u32(&key("feed_forward_length"), config.ffn_dim);
    header.u32(&key("attention.head_count"), config.n_heads);
    header.u32(&key("vocab_size"), config.vocab_size);
    if arch == "gpt2" {
        header.f32(&key("attention.layer_norm_epsilon"), config.norm_eps);
    } else {
        header.u32(&key("attention.head_count_kv"), config.n_kv_heads);
        header.f32(&key("attention.layer_norm_rms_epsilon"), config.norm_eps);
        header.u32(&key("attention.key_length"), config.head_dim);
        header.u32(&key("attention.value_length"), config.head_dim);
        header.u32(&key("rope.dimension_count"), config.head_dim);
        header.f32(&key("rope.freq_base"), checkpoint.rope_theta);
    }
    match checkpoint.rope_scaling {
        RopeScaling::Linear { factor } => {
            header.text(&key("rope.scaling.type"), "linear");
            header.f32(&key("rope.scaling.factor"), factor);
        }
        RopeScaling::Llama3 { low_freq_factor, high_freq_factor, original_context, .. } => {
            // llama.cpp takes the factors from `rope_freqs.weight`; these are for the way back.
            header.u32(&key("rope.scaling.original_context_length"), original_context);
            header.f32("smidgen.rope.low_freq_factor", low_freq_factor);
            header.f32("smidgen.rope.high_freq_factor", high_freq_factor);
        }
        _ => {}
    }
    describe_tokenizer(checkpoint, options, header)
}

fn describe_tokenizer(
    checkpoint: &Checkpoint,
    options: GgufOptions,
    header: &mut Header,
) -> Result<(), Error> {
    let Some(spec) = checkpoint.tokenizer.as_ref().filter(|_| !options.without_tokenizer) else {
        header.text("tokenizer.ggml.model", "none");
        return Ok(());
    };
    let words = tokenizer::words(spec, checkpoint.config.vocab_size as usize)?;
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    header.text(&key("model"), words.model);
    if let Some(pre) = words.pre {
        header.text(&key("pre"), pre);
    }
    header.texts(&key("tokens"), &words.tokens);
    let bytes = header.array(&key("token_type"), 5, words.types.len());
    words.types.iter().for_each(|kind| bytes.extend(kind.to_le_bytes()));
    if let Some(scores) = &words.scores {
        let bytes = header.array(&key("scores"), 6, scores.len());
        scores.iter().for_each(|score| bytes.extend(score.to_le_bytes()));
        header.bool(&key("add_space_prefix"), spec.add_space_prefix);
    }
    if let Some(merges) = &words.merges {
        header.texts(&key("merges"), merges);
    }
    header.bool(&key("add_bos_token"), spec.add_bos);
    header.bool(&key("add_eos_token"), false);
    if let Some(bos) = spec.bos {
        header.u32(&key("bos_token_id"), bos);
    }
    // The usual end is not the token that begins texts, where a model has both.
    let mut ends = spec.end_tokens.clone();
    ends.sort_by_key(|id| Some(*id) == spec.bos);
    for (name, id) in ["eos_token_id", "eot_token_id", "eom_token_id"].into_iter().zip(&ends) {
        header.u32(&key(name), *id);
    }
    let bytes = header.array(tokenizer::END_TOKENS, 4, spec.end_tokens.len());
    spec.end_tokens.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
    if let Some(unknown) = spec.unknown {
        header.u32(&key("unknown_token_id"), unknown);
    }
    if !checkpoint.chat_template.is_empty() {
        header.text("tokenizer.chat_template", &checkpoint.chat_template);
    }
    Ok(())
}
