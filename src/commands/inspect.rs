//! `smidgen inspect`: what a model file or a checkpoint holds.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use smidgen_converter::{Kind, ModelFile, TokenizerChoice, detect};
use smidgen_runtime::format::{KvType, Role, RopeScaling, TensorSize};
use smidgen_runtime::tokenizer::TokenizerData;
use smidgen_runtime::{Config, Layout, SessionOptions};

use super::open::show_bytes;

/// Show what a model file or a checkpoint holds.
///
/// Architecture, dimensions, tokenizer, tensors with their types and sizes, and the memory that
/// sessions of several lengths need.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  smidgen inspect story.smidgen
  smidgen inspect SmolLM2-135M --tensors
  smidgen inspect story.smidgen --json | jq .memory")]
pub struct Args {
    /// A model file or a checkpoint.
    path: PathBuf,
    /// List every tensor, not one line a kind.
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object (with every tensor).
    #[arg(long)]
    json: bool,
}

/// One tensor.
#[derive(Serialize)]
struct Tensor {
    name: &'static str,
    /// `None` for tensors of the whole model.
    layer: Option<u32>,
    #[serde(rename = "type")]
    dtype: &'static str,
    shape: (usize, usize),
    /// Where they are known: in a model file.
    bytes: Option<usize>,
}

/// The tokenizer in numbers.
#[derive(Serialize)]
struct Tokenizer {
    kind: String,
    pre_tokenizer: String,
    normalizer: String,
    tokens: u32,
    longest_token_bytes: u32,
    bos: Option<u32>,
    adds_bos: bool,
    ends: Vec<u32>,
}

/// What a session of some length needs.
#[derive(Serialize)]
struct Memory {
    context: u32,
    /// With keys and values in 8 bits, and the cache's part of it.
    q8_bytes: usize,
    q8_cache_bytes: usize,
    /// With keys and values in f32.
    f32_bytes: usize,
    f32_cache_bytes: usize,
}

#[derive(Serialize)]
struct Description {
    path: String,
    kind: &'static str,
    name: String,
    source: String,
    /// The program that wrote the file; empty for checkpoints.
    writer: String,
    architecture: &'static str,
    n_layers: u32,
    dim: u32,
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    ffn_dim: u32,
    vocab_size: u32,
    context_len: u32,
    norm_eps: f32,
    rope_theta: f32,
    rope_scaling: String,
    tied_head: bool,
    parameters: u64,
    bits_per_weight: Option<f64>,
    file_bytes: Option<usize>,
    checksum: Option<String>,
    kv_type: Option<&'static str>,
    chat_template: String,
    extra: String,
    tokenizer: Option<Tokenizer>,
    memory: Vec<Memory>,
    /// The file's own keys and values, where it has such (GGUF).
    metadata: std::collections::BTreeMap<String, String>,
    tensors: Vec<Tensor>,
    notes: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Whatever is wrong with the file.
pub fn run(args: Args) -> Result<()> {
    let description = match detect(&args.path)? {
        Kind::Smidgen => of_model_file(&args.path)?,
        kind => of_checkpoint(&args.path, kind)?,
    };
    let text = if args.json {
        serde_json::to_string(&description)? + "\n"
    } else {
        description.in_words(args.tensors)?
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

fn of_model_file(path: &Path) -> Result<Description> {
    let file = ModelFile::open(path)?;
    let model = file.load()?;
    let meta = model.meta();
    let tensors: Vec<_> = model
        .tensors()
        .map(|(layer, role, matrix)| Tensor {
            name: role.name(),
            layer: role.is_per_layer().then_some(layer),
            dtype: matrix.dtype().name(),
            shape: (matrix.rows, matrix.cols),
            bytes: TensorSize::new(matrix.dtype(), matrix.rows, matrix.cols).map(|size| size.total),
        })
        .collect();
    let learned = || tensors.iter().filter(|tensor| tensor.name != Role::RopeFrequencies.name());
    let bytes: usize = learned().filter_map(|tensor| tensor.bytes).sum();
    let parameters: u64 = learned().map(|tensor| tensor.shape.0 as u64 * tensor.shape.1 as u64).sum();
    let checksum = file.bytes().get(12..16).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    Ok(Description {
        kind: "smidgen model file",
        name: meta.name.into(),
        source: meta.source.into(),
        writer: meta.writer.into(),
        rope_theta: meta.rope_theta,
        rope_scaling: scaling(meta.rope_scaling),
        chat_template: meta.chat_template.into(),
        extra: meta.extra.into(),
        tied_head: model.tensor(0, Role::Head).is_none(),
        parameters,
        bits_per_weight: Some(8.0 * bytes as f64 / parameters as f64),
        file_bytes: Some(file.bytes().len()),
        checksum: checksum.map(|checksum| format!("{checksum:08x}")),
        kv_type: Some(model.kv_type().name()),
        tokenizer: model.tokenizer().map(|tokenizer| {
            let ends = tokenizer.end_tokens().collect();
            Tokenizer::new(&tokenizer.data(), ends)
        }),
        tensors,
        ..Description::new(path, model.config())
    })
}

fn of_checkpoint(path: &Path, kind: Kind) -> Result<Description> {
    let checkpoint = smidgen_converter::open(path, &TokenizerChoice::Found)?;
    let mut metadata = std::collections::BTreeMap::new();
    if kind == Kind::Gguf {
        metadata.extend(smidgen_converter::gguf::metadata(path)?);
    }
    let tensors = checkpoint.tensors.iter().map(|(&(layer, role), source)| Tensor {
        name: role.name(),
        layer: role.is_per_layer().then_some(layer),
        dtype: source.stored_type(),
        shape: source.shape(),
        bytes: None,
    });
    let mut tokenizer = None;
    if let Some(spec) = &checkpoint.tokenizer {
        let owned = smidgen_runtime::tokenizer::OwnedTokenizer::build(spec)?;
        tokenizer = Some(Tokenizer::new(&owned.data(), spec.end_tokens.clone()));
    }
    Ok(Description {
        kind: kind.name(),
        metadata,
        tensors: tensors.collect(),
        tied_head: !checkpoint.has(Role::Head),
        parameters: checkpoint.parameters(),
        rope_theta: checkpoint.rope_theta,
        rope_scaling: scaling(checkpoint.rope_scaling),
        tokenizer,
        name: checkpoint.name,
        source: checkpoint.source,
        chat_template: checkpoint.chat_template,
        extra: checkpoint.extra,
        notes: checkpoint.notes,
        ..Description::new(path, &checkpoint.config)
    })
}

impl Tokenizer {
    fn new(data: &TokenizerData<'_>, ends: Vec<u32>) -> Self {
        Self {
            kind: format!("{:?}", data.kind),
            pre_tokenizer: format!("{:?}", data.pre_tokenizer),
            normalizer: format!("{:?}", data.normalizer),
            tokens: data.n_tokens,
            longest_token_bytes: data.max_token_bytes,
            bos: data.bos,
            adds_bos: data.add_bos,
            ends,
        }
    }
}

impl Description {
    /// The dimensions and what follows from them.
    fn new(path: &Path, config: &Config) -> Self {
        Self {
            path: path.display().to_string(),
            kind: "",
            name: String::new(),
            source: String::new(),
            writer: String::new(),
            architecture: config.architecture.name(),
            n_layers: config.n_layers,
            dim: config.dim,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            ffn_dim: config.ffn_dim,
            vocab_size: config.vocab_size,
            context_len: config.context_len,
            norm_eps: config.norm_eps,
            rope_theta: 0.0,
            rope_scaling: String::new(),
            tied_head: false,
            parameters: 0,
            bits_per_weight: None,
            file_bytes: None,
            checksum: None,
            kv_type: None,
            chat_template: String::new(),
            extra: String::new(),
            tokenizer: None,
            memory: memory(config),
            metadata: std::collections::BTreeMap::new(),
            tensors: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn in_words(&self, every_tensor: bool) -> Result<String, fmt::Error> {
        let mut out = String::new();
        let mut line = |name: &str, value: String| writeln!(out, "{name:<14} {value}");
        line("path", format!("{} ({})", self.path, self.kind))?;
        line("name", self.name.clone())?;
        let writer =
            if self.writer.is_empty() { String::new() } else { format!(", written by {}", self.writer) };
        line("source", format!("{}{writer}", self.source))?;
        line("architecture", self.architecture.into())?;
        line(
            "dimensions",
            format!("{} layers, width {}, feed-forward {}", self.n_layers, self.dim, self.ffn_dim),
        )?;
        line(
            "heads",
            format!("{} of {}, {} for keys and values", self.n_heads, self.head_dim, self.n_kv_heads),
        )?;
        let head = if self.tied_head { "head is the embedding" } else { "head of its own" };
        line("vocabulary", format!("{} rows, {head}", self.vocab_size))?;
        line("context", format!("{} tokens", self.context_len))?;
        if self.rope_theta > 0.0 {
            line("positions", format!("rotary, base {}, {}", self.rope_theta, self.rope_scaling))?;
        } else {
            line("positions", "learned".into())?;
        }
        let bits = self.bits_per_weight.map_or_else(String::new, |bits| format!(", {bits:.2} bits each"));
        line("parameters", format!("{}{bits}", self.parameters))?;
        if let (Some(bytes), Some(checksum), Some(kv_type)) = (self.file_bytes, &self.checksum, self.kv_type)
        {
            line(
                "file",
                format!("{bytes} bytes, checksum {checksum} (right), kv cache {kv_type} by default"),
            )?;
        }
        match &self.tokenizer {
            Some(tokenizer) => line("tokenizer", tokenizer.in_words())?,
            None => line("tokenizer", "none".into())?,
        }
        if !self.chat_template.is_empty() {
            line("chat template", format!("{} bytes", self.chat_template.len()))?;
        }
        if !self.extra.is_empty() {
            line("extra", self.extra.clone())?;
        }
        for note in &self.notes {
            line("note", note.clone())?;
        }
        if !self.metadata.is_empty() {
            writeln!(out, "\nmetadata")?;
        }
        for (key, value) in &self.metadata {
            writeln!(out, "{key:<42} {}", value.replace('\n', " "))?;
        }
        writeln!(out, "\nmemory for a session besides the file (one token at a time, one core)")?;
        writeln!(out, "{:>9} {:>15} {:>15}", "context", "kv cache q8", "kv cache f32")?;
        for memory in &self.memory {
            let (q8, f32) = (show_bytes(memory.q8_bytes), show_bytes(memory.f32_bytes));
            writeln!(out, "{:>9} {q8:>15} {f32:>15}", memory.context)?;
        }
        writeln!(out, "\n{:<22} {:>5} {:>18} {:>7} {:>12}", "tensor", "count", "shape", "type", "bytes")?;
        for (tensor, count, bytes) in self.grouped(every_tensor) {
            let name = match tensor.layer.filter(|_| every_tensor) {
                Some(layer) => format!("{}.{layer}", tensor.name),
                None => tensor.name.into(),
            };
            let shape = format!("[{}, {}]", tensor.shape.0, tensor.shape.1);
            let bytes = bytes.map_or_else(|| "-".into(), |bytes| bytes.to_string());
            writeln!(out, "{name:<22} {count:>5} {shape:>18} {:>7} {bytes:>12}", tensor.dtype)?;
        }
        Ok(out)
    }

    /// Tensors of one kind and type together (unless every one is wanted): the first, how many,
    /// their bytes.
    fn grouped(&self, every_tensor: bool) -> Vec<(&Tensor, usize, Option<usize>)> {
        let mut groups: Vec<(&Tensor, usize, Option<usize>)> = Vec::new();
        for tensor in &self.tensors {
            let same = |group: &&mut (&Tensor, usize, Option<usize>)| {
                !every_tensor && group.0.name == tensor.name && group.0.dtype == tensor.dtype
            };
            if let Some((_, count, bytes)) = groups.iter_mut().find(same) {
                *count += 1;
                *bytes = bytes.zip(tensor.bytes).map(|(sum, bytes)| sum + bytes);
            } else {
                groups.push((tensor, 1, tensor.bytes));
            }
        }
        groups
    }
}

impl Tokenizer {
    fn in_words(&self) -> String {
        let bos = match (self.bos, self.adds_bos) {
            (Some(id), true) => format!("texts begin with {id}"),
            (Some(id), false) => format!("{id} may begin a text"),
            (None, _) => "nothing begins a text".into(),
        };
        let ends = self.ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let ends = if ends.is_empty() { "nothing ends it".into() } else { format!("{ends} ends it") };
        format!(
            "{} of {} tokens, pre-tokenizer {}, normalizer {}, longest token {} bytes; {bos}, {ends}",
            self.kind, self.tokens, self.pre_tokenizer, self.normalizer, self.longest_token_bytes
        )
    }
}

/// What sessions need for the model's context and a few shorter ones.
fn memory(config: &Config) -> Vec<Memory> {
    let max = config.context_len;
    let shorter = [64, 256, 1024, 4096].into_iter().filter(|&context| context < max);
    let layout =
        |context: u32, kv_type| Layout::new(config, kv_type, SessionOptions::new(context as usize)).ok();
    shorter
        .chain([max])
        .filter_map(|context| {
            let (q8, f32) = (layout(context, KvType::Q8)?, layout(context, KvType::F32)?);
            Some(Memory {
                context,
                q8_bytes: q8.total,
                q8_cache_bytes: q8.kv_bytes(),
                f32_bytes: f32.total,
                f32_cache_bytes: f32.kv_bytes(),
            })
        })
        .collect()
}

fn scaling(scaling: RopeScaling) -> String {
    match scaling {
        RopeScaling::Linear { factor } => format!("stretched linearly by {factor}"),
        RopeScaling::Llama3 { factor, original_context, .. } => {
            format!("stretched as Llama 3.1's by {factor} from {original_context}")
        }
        _ => "not stretched".into(),
    }
}
