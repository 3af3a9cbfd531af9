//! What a model of some dimensions needs.

use std::io::{self, Seek, SeekFrom, Write};

use smidgen_converter::ConvertOptions;
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, write_model};
use smidgen_runtime::format::{DType, KvType, Meta, Need, Role, RopeScaling, TensorSize};
use smidgen_runtime::tokenizer::{OwnedTokenizer, PreTokenizer, TokenizerSpec};
use smidgen_runtime::{Config, Layout, Model, SessionError, SessionOptions};

use super::chips::Core;
use crate::bpe::BpeTrainer;
use crate::data::source::SEPARATOR;
use crate::stories::Stories;

/// Bytes of stories that the vocabulary of a prediction is learned from.
const SAMPLE: usize = 1 << 18;
/// How much more a query's position takes where no other query has the same key.
const UNSHARED: f64 = 1.65;
/// Of tokenizer for a token, where it need not be exact.
const TOKEN_BYTES: u64 = 14;

/// What a model needs to run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Needs {
    /// Numbers that it learns.
    pub parameters: u64,
    /// Of those, in the blocks.
    pub block_parameters: u64,
    /// Bytes of the model file.
    pub file_bytes: u64,
    /// Bytes of a session with the whole context, one token at a time.
    pub session_bytes: u64,
    /// Of those, for keys and values.
    pub kv_bytes: u64,
    /// Of those, for logits, or candidates and the scratch that logits would be.
    pub logits_bytes: u64,
    /// Of those, for the sequence's tokens.
    pub token_bytes: u64,
    /// Weights that a token is multiplied with.
    pub weights: u64,
}

impl Needs {
    /// The same with a session of this layout.
    #[must_use]
    pub fn with_session(self, layout: &Layout) -> Self {
        Self {
            session_bytes: layout.total as u64,
            kv_bytes: layout.kv_bytes() as u64,
            logits_bytes: 4 * layout.logits as u64 + 8 * layout.candidates as u64,
            token_bytes: 4 * layout.tokens as u64,
            ..self
        }
    }

    /// Instructions for a token, on the mean of a whole context.
    pub fn instructions(&self, config: &Config, core: Core) -> f64 {
        let costs = core.costs();
        let heads = f64::from(config.n_layers) * f64::from(config.n_heads);
        let mut position = costs.head + costs.number * f64::from(config.head_dim);
        if config.n_kv_heads == config.n_heads {
            // Two queries that share a key go through the cache together.
            position *= UNSHARED;
        }
        self.weights as f64 * costs.weight
            + f64::from(config.n_layers) * costs.layer
            + heads * f64::from(config.context_len) / 2.0 * position
            + f64::from(config.vocab_size) * costs.draw
    }
}

/// The roles of a model with tied embeddings and without biases but for GPT-2's, in all layers.
fn tensors(config: &Config, dtype: DType) -> Vec<TensorPlan> {
    let options = ConvertOptions::new(dtype);
    let gpt2 = config.architecture == smidgen_runtime::Architecture::Gpt2;
    let mut all = Vec::new();
    for role in (0..64).filter_map(Role::from_u8) {
        let wanted = match role.need(config.architecture) {
            Need::Must => true,
            // All biases of GPT-2; none of a Llama.
            Need::May => gpt2 && role.is_vector(),
            Need::MustNot => false,
        };
        let layers = if role.is_per_layer() { config.n_layers } else { 1 };
        if wanted {
            all.extend((0..layers).map(|layer| TensorPlan {
                layer,
                role,
                dtype: options.type_of(role, layer),
            }));
        }
    }
    all
}

/// Everything but the exact size of the tokenizer, quickly.
pub(super) fn estimate(config: &Config, dtype: DType) -> Option<Needs> {
    let (mut parameters, mut block_parameters, mut weights) = (0, 0, 0);
    let mut file_bytes = 512 + u64::from(config.vocab_size) * TOKEN_BYTES;
    for TensorPlan { role, dtype, .. } in tensors(config, dtype) {
        let (rows, cols) = role.shape(config);
        let size = TensorSize::new(dtype, rows, cols)?;
        // The table has 20 bytes for a tensor, and tensors begin at multiples of 64.
        file_bytes += size.total.next_multiple_of(64) as u64 + 20;
        let n = rows as u64 * cols as u64;
        parameters += if role == Role::RopeFrequencies { 0 } else { n };
        block_parameters += if role.is_per_layer() { n } else { 0 };
        // The embedding is the head too; positions are only looked up.
        weights += if role.is_vector() || role == Role::PositionEmbedding { 0 } else { n };
    }
    let layout =
        Layout::new(config, kv_type(dtype), SessionOptions::new(config.context_len as usize)).ok()?;
    let needs = Needs { parameters, block_parameters, file_bytes, weights, ..Needs::default() };
    Some(needs.with_session(&layout))
}

fn kv_type(dtype: DType) -> KvType {
    if dtype == DType::F32 { KvType::F32 } else { KvType::Q8 }
}

/// What a model of these dimensions needs with matrices of this type; the file's size is the
/// writer's own, with a vocabulary learned from the built-in stories.
///
/// # Errors
/// Dimensions that make no model.
pub fn needs(config: &Config, dtype: DType) -> Result<Needs, WriteError> {
    let file_bytes = write(config, dtype, &mut Counting::default())?;
    let bad = || WriteError::Io(io::Error::other("the session's memory is too large to count"));
    Ok(Needs { file_bytes, ..estimate(config, dtype).ok_or_else(bad)? })
}

/// The bytes of such a model's file before its tensors' data.
///
/// # Errors
/// Dimensions that make no model.
pub fn head(config: &Config, dtype: DType) -> Result<Vec<u8>, WriteError> {
    let mut sink = Counting { kept: Some(Vec::new()), ..Counting::default() };
    write(config, dtype, &mut sink)?;
    Ok(sink.kept.unwrap_or_default())
}

/// What a model needs that there is, of so many bytes.
///
/// # Errors
/// Options of the session that its model does not allow.
pub fn needs_of(model: &Model<'_>, file_bytes: u64, options: SessionOptions) -> Result<Needs, SessionError> {
    let layout = Layout::new(model.config(), model.kv_type(), options)?;
    let has_head = model.tensor(0, Role::Head).is_some();
    let (mut parameters, mut block_parameters, mut weights) = (0, 0, 0);
    for (_, role, matrix) in model.tensors() {
        let n = matrix.rows as u64 * matrix.cols as u64;
        parameters += if role == Role::RopeFrequencies { 0 } else { n };
        block_parameters += if role.is_per_layer() { n } else { 0 };
        let looked_up = role == Role::PositionEmbedding || role == Role::Embedding && has_head;
        weights += if role.is_vector() || looked_up { 0 } else { n };
    }
    let needs = Needs { parameters, block_parameters, file_bytes, weights, ..Needs::default() };
    Ok(needs.with_session(&layout))
}

/// Writes a model file of zeros with a vocabulary learned from the built-in stories; gives its length.
fn write(config: &Config, dtype: DType, sink: &mut Counting) -> Result<u64, WriteError> {
    config.validate().map_err(WriteError::Plan)?;
    let tokenizer = vocabulary(config.vocab_size as usize);
    let tokenizer = tokenizer.as_ref().and_then(|spec| OwnedTokenizer::build(spec).ok());
    let plan = ModelPlan {
        config: *config,
        kv_type: kv_type(dtype),
        meta: Meta {
            name: "model",
            source: "trained by smidgen on text: 100000 steps, 1000000000 tokens",
            writer: concat!("smidgen ", env!("CARGO_PKG_VERSION")),
            chat_template: "",
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            extra: "",
        },
        tokenizer: tokenizer.as_ref().map(OwnedTokenizer::data),
        tensors: tensors(config, dtype),
    };
    write_model(sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(config);
        let size = TensorSize::new(tensor.dtype, rows, cols).map_or(0, |size| size.total);
        out.resize(out.len() + size, 0);
        Ok::<(), WriteError>(())
    })
}

/// A vocabulary of the stories; none where they have too few different pairs for it.
fn vocabulary(size: usize) -> Option<TokenizerSpec> {
    let mut trainer = BpeTrainer::new(size, PreTokenizer::Gpt2);
    let mut bytes = 0;
    for story in Stories::new(42) {
        trainer.feed(&story);
        bytes += story.len();
        if bytes > SAMPLE {
            break;
        }
    }
    trainer.finish(&[SEPARATOR]).ok()
}

/// Takes bytes and keeps only where it is, and the head, if it is wanted.
#[derive(Default)]
struct Counting {
    at: u64,
    kept: Option<Vec<u8>>,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kept) = &mut self.kept
            && kept.len() as u64 == self.at
            && kept.get(..88).is_none_or(|head| head[80..88] != self.at.to_le_bytes())
        {
            // What stands at 80 is where the data begins.
            kept.extend_from_slice(bytes);
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Counting {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(at) => self.at = at,
            SeekFrom::Current(by) => self.at = self.at.saturating_add_signed(by),
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::{Arch, ModelConfig};

    fn stories260k() -> Config {
        let model = ModelConfig {
            layers: 5,
            heads: 8,
            kv_heads: 4,
            ffn: 172,
            context: 512,
            ..ModelConfig::default()
        };
        model.with_vocab(512).unwrap()
    }

    #[test]
    fn the_emulators_counts_are_reproduced() {
        let config = stories260k();
        let needs = needs(&config, DType::Q8).unwrap();
        assert_eq!(needs.parameters, 260_032);
        // Counted: million instructions with 6 positions, and on the mean of 256 from there. The mean of
        // a context is at its half.
        for (core, first, mean) in [(Core::Dsp, 0.462, 0.648), (Core::Plain, 4.796, 5.922)] {
            let at = |positions: u32| {
                let config = Config { context_len: 2 * positions, ..config };
                needs.instructions(&config, core) / 1e6
            };
            assert!((at(6) / first - 1.0).abs() < 0.03, "{}", at(6));
            assert!((at(133) / mean - 1.0).abs() < 0.03, "{}", at(133));
        }
        // And measured: 191 KB of RAM for the session.
        assert!((190_000..200_000).contains(&needs.session_bytes), "{}", needs.session_bytes);
    }

    /// Other shapes on a Cortex-M4F: layers, width, heads, key heads, ffn, vocabulary, and instructions where the
    /// mean number of positions is so large, without the draw.
    #[test]
    fn other_shapes_are_predicted_too() {
        for (layers, dim, heads, kv_heads, ffn, vocab, positions, counted, most) in [
            (5, 64, 8, 4, 172, 512, 60, 530_089.0, 0.01),
            (4, 64, 4, 2, 192, 2048, 57, 539_057.0, 0.01),
            (3, 96, 6, 3, 256, 1024, 57, 597_429.0, 0.01),
            (2, 128, 4, 2, 352, 512, 60, 592_600.0, 0.01),
            (4, 128, 8, 4, 352, 1024, 57, 1_203_484.0, 0.01),
            // No shared keys: further off.
            (6, 48, 3, 3, 128, 512, 60, 520_059.0, 0.08),
        ] {
            let context = 2 * positions;
            let model = ModelConfig { layers, dim, heads, kv_heads, ffn, context, ..ModelConfig::default() };
            let config = model.with_vocab(vocab).unwrap();
            let needs = estimate(&config, DType::Q8).unwrap();
            let found = needs.instructions(&config, Core::Dsp) - Core::Dsp.costs().draw * f64::from(vocab);
            assert!((found / counted - 1.0).abs() < most, "width {dim}: {found}, counted {counted}");
        }
    }

    #[test]
    fn the_quick_estimate_is_close_to_the_writer() {
        for (arch, kv_heads) in [(Arch::Llama, 2), (Arch::Gpt2, 4)] {
            for (dtype, vocab) in [(DType::Q8, 512), (DType::Q4, 2048), (DType::F32, 300)] {
                let model = ModelConfig { arch, kv_heads, ..ModelConfig::default() };
                let config = model.with_vocab(vocab).unwrap();
                let exact = needs(&config, dtype).unwrap().file_bytes as f64;
                let quick = estimate(&config, dtype).unwrap().file_bytes as f64;
                assert!((quick / exact - 1.0).abs() < 0.04, "{dtype:?}: {quick}, not {exact}");
            }
        }
    }
}
