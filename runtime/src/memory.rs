//! Where a session's state lives: memory from the caller, its size known before it is needed,
//! even when firmware is compiled.

use crate::config::Config;
use crate::error::{LoadError, SessionError};
use crate::format::{ALIGNMENT, BLOCK, GROUP, KvType, Prefix, align_up};

/// How much a session should be able to do; decides how much memory it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SessionOptions {
    /// The longest sequence, in tokens; at most the model's `context_len`.
    pub context: usize,
    /// How keys and values are kept; `None` for what the file says.
    pub kv_type: Option<KvType>,
    /// How many tokens of a prompt go through the model at once: more is faster and takes more
    /// memory; 1 is right for a microcontroller. Results do not depend on it.
    pub prompt_block: usize,
    /// How many jobs may run at once. Results do not depend on it.
    pub workers: usize,
    /// 0: all logits are in memory. Else a session keeps only so many of the most probable tokens, in 8
    /// bytes each instead of 4 for every token of the vocabulary, and [`Session::sample_bounded`] computes
    /// logits some at a time. It chooses the same tokens, whatever this is; 64 mostly make one pass over
    /// the head enough.
    ///
    /// [`Session::sample_bounded`]: crate::Session::sample_bounded
    pub candidates: usize,
}

impl SessionOptions {
    /// The least memory for a context of so many tokens.
    pub const fn new(context: usize) -> Self {
        Self { context, kv_type: None, prompt_block: 1, workers: 1, candidates: 0 }
    }
}

/// The bytes of memory that a session needs for this model file; reads only the file's first
/// 128 bytes, so that it can be a constant:
///
/// ```ignore
/// static FILE: &[u8] = include_model!("story.smidgen");
/// const BYTES: usize = memory_needed(FILE, SessionOptions::new(256));
/// static MEMORY: StaticCell<Memory<BYTES>> = StaticCell::new();
/// ```
///
/// # Panics
/// If the file does not begin as a model file does, its architecture or cache is one that was not compiled
/// in, or the context is longer than the model's: in a constant, that is a compile error with the reason.
#[track_caller]
pub const fn memory_needed(file: &[u8], options: SessionOptions) -> usize {
    let (config, kv_type) = match Prefix::read_config(file) {
        Ok(read) => read,
        Err(LoadError::MissingFeature { feature, .. }) => panic!("{}", missing(feature)),
        Err(_) => panic!("not a model file that this version of smidgen reads"),
    };
    match Layout::new(&config, kv_type, options) {
        Ok(layout) => layout.total,
        Err(SessionError::BadContext { .. }) => {
            panic!("the context is zero or longer than the model allows")
        }
        Err(SessionError::MissingFeature { feature }) => panic!("{}", missing(feature)),
        Err(_) => panic!("session options out of range"),
    }
}

/// A panic in a constant can't put words together.
const fn missing(feature: &str) -> &'static str {
    match feature.as_bytes() {
        b"gpt2" => "this build lacks the feature `gpt2` of smidgen-runtime, which the model needs",
        b"llama" => "this build lacks the feature `llama` of smidgen-runtime, which the model needs",
        _ => "this build lacks the feature `kv-f32` of smidgen-runtime, which the cache needs",
    }
}

/// A session's memory as a value: `BYTES` bytes, aligned as they must be.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Memory<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Memory<BYTES> {
    /// All zeros, so that a `static` of it costs no flash.
    pub const fn new() -> Self {
        Self([0; BYTES])
    }
}

impl<const BYTES: usize> Default for Memory<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> AsMut<[u8]> for Memory<BYTES> {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The parts of a session's memory: how many elements of each. `docs/architecture.md` says what
/// each is for. One function computes it, both to tell the size and to carve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Layout {
    /// Positions that the cache can hold: the context rounded up to a multiple of four.
    pub positions: usize,
    /// The cache's type.
    pub kv_type: KvType,
    /// i8 of keys in all: `[n_layers, n_kv_heads, positions, head_dim padded to 4]`; 0 for an f32 cache.
    pub keys_q8: usize,
    /// i8 of values: `[n_layers, n_kv_heads, positions, head_dim]`; 0 for an f32 cache.
    pub values_q8: usize,
    /// u8 of scales, for keys and as many for values: `[n_layers, n_kv_heads, positions]`.
    pub kv_scales: usize,
    /// f32 of keys, and as many of values: `[n_layers, n_kv_heads, positions, head_dim]`; 0 for a Q8 cache.
    pub kv_f32: usize,
    /// f32 of the residual stream: `[block, dim]`.
    pub residual: usize,
    /// f32 of a norm's output: `[block, dim]`.
    pub normed: usize,
    /// f32 of q, k, v and attention's output, or of the feed-forward's hidden layer, whichever is more; of
    /// the former alone for one token at a time on one core, if the latter fits into [`logits`](Self::logits).
    pub hidden: usize,
    /// i8 of quantized activations: `[block, widest input]`.
    pub quants: usize,
    /// f32 of their scales.
    pub scales: usize,
    /// i32 of sums of 32 quantized activations.
    pub sums: usize,
    /// f32 of cosines and sines: `[block, head_dim]`.
    pub rotary: usize,
    /// i8 of quantized queries: `[workers, head_dim padded to 4]`.
    pub query: usize,
    /// f32 of logits, all of them unless there are candidates; also the working memory of encoding a
    /// prompt, so at least 256, and of attention: at least `[workers, positions]`.
    pub logits: usize,
    /// u64 of candidates.
    pub candidates: usize,
    /// u32 of the sequence's tokens: `[context]`.
    pub tokens: usize,
    /// Bytes in all, each part at a multiple of 64.
    pub total: usize,
}

impl Layout {
    /// The parts for a model of these dimensions.
    ///
    /// # Errors
    /// [`SessionError::BadContext`], or [`SessionError::BadOptions`] where a size overflows.
    pub const fn new(
        config: &Config,
        file_kv_type: KvType,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        macro_rules! size {
            ($first:expr $(, $factor:expr)*) => {{
                let product = Some($first);
                $(let product = match product {
                    Some(value) => usize::checked_mul(value, $factor),
                    None => None,
                };)*
                match product {
                    Some(value) => value,
                    None => return Err(SessionError::BadOptions),
                }
            }};
        }
        let max = config.context_len as usize;
        if options.context == 0 || options.context > max {
            return Err(SessionError::BadContext { asked: options.context, max });
        }
        let block = options.prompt_block;
        let workers = options.workers;
        if block == 0 || workers == 0 || block > 1 << 16 || workers > 1 << 10 {
            return Err(SessionError::BadOptions);
        }
        let kv_type = match options.kv_type {
            Some(kv_type) => kv_type,
            None => file_kv_type,
        };
        let positions = options.context.next_multiple_of(4);
        let head_dim = config.head_dim as usize;
        let padded_head = head_dim.next_multiple_of(4);
        let layers_positions = size!(config.n_layers as usize, positions);
        let heads = config.n_kv_heads as usize;
        if let Err(LoadError::MissingFeature { feature, .. }) = kv_type.built() {
            return Err(SessionError::MissingFeature { feature });
        }
        let quantized = matches!(kv_type.of_session(), KvType::Q8);
        let of_q8 = if quantized { 1 } else { 0 };
        let of_f32 = 1 - of_q8;

        let attention = 2 * (config.q_dim() + config.kv_dim());
        let feed_forward = 2 * config.ffn_dim as usize;
        let mut widest = config.dim as usize;
        if config.q_dim() > widest {
            widest = config.q_dim();
        }
        if config.ffn_dim as usize > widest {
            widest = config.ffn_dim as usize;
        }

        let mut logits = size!(workers, positions);
        if logits < 256 {
            logits = 256;
        }
        if options.candidates == 0 && logits < config.vocab_size as usize {
            logits = config.vocab_size as usize;
        }

        // One token at a time on one core: attention's scratch is free when the feed-forward runs.
        let elsewhere = block == 1 && workers == 1 && feed_forward <= logits;
        let hidden = if attention > feed_forward || elsewhere { attention } else { feed_forward };

        let mut layout = Self {
            positions,
            kv_type,
            keys_q8: size!(layers_positions, heads, padded_head, of_q8),
            values_q8: size!(layers_positions, heads, head_dim, of_q8),
            kv_scales: size!(layers_positions, heads, of_q8),
            kv_f32: size!(layers_positions, heads, head_dim, of_f32),
            residual: size!(block, config.dim as usize),
            normed: size!(block, config.dim as usize),
            hidden: size!(block, hidden),
            quants: size!(block, widest.next_multiple_of(GROUP)),
            scales: size!(block, widest.div_ceil(BLOCK)),
            sums: size!(block, widest.div_ceil(GROUP)),
            rotary: size!(block, head_dim),
            query: size!(workers, padded_head),
            logits,
            candidates: options.candidates,
            tokens: options.context,
            total: 0,
        };
        let parts = [
            size!(layout.keys_q8, 1),
            size!(layout.values_q8, 1),
            size!(layout.kv_scales, 1),
            size!(layout.kv_scales, 1),
            size!(layout.kv_f32, 4),
            size!(layout.kv_f32, 4),
            size!(layout.residual, 4),
            size!(layout.normed, 4),
            size!(layout.hidden, 4),
            size!(layout.quants, 1),
            size!(layout.scales, 4),
            size!(layout.sums, 4),
            size!(layout.rotary, 4),
            size!(layout.query, 1),
            size!(layout.logits, 4),
            size!(layout.candidates, 8),
            size!(layout.tokens, 4),
        ];
        let mut i = 0;
        while i < parts.len() {
            layout.total = match layout.total.checked_add(align_up(parts[i])) {
                Some(total) => total,
                None => return Err(SessionError::BadOptions),
            };
            i += 1;
        }
        if layout.total > isize::MAX as usize {
            return Err(SessionError::BadOptions);
        }
        Ok(layout)
    }

    /// Bytes of the key-value cache alone.
    pub const fn kv_bytes(&self) -> usize {
        self.keys_q8 + self.values_q8 + 2 * self.kv_scales + 8 * self.kv_f32
    }
}

/// A session's memory, carved.
#[derive(Debug)]
pub(crate) struct State<'m> {
    pub(crate) keys_q8: &'m mut [i8],
    pub(crate) values_q8: &'m mut [i8],
    pub(crate) key_scales: &'m mut [u8],
    pub(crate) value_scales: &'m mut [u8],
    pub(crate) keys_f32: &'m mut [f32],
    pub(crate) values_f32: &'m mut [f32],
    pub(crate) residual: &'m mut [f32],
    pub(crate) normed: &'m mut [f32],
    pub(crate) hidden: &'m mut [f32],
    pub(crate) quants: &'m mut [i8],
    pub(crate) scales: &'m mut [f32],
    pub(crate) sums: &'m mut [i32],
    pub(crate) rotary: &'m mut [f32],
    pub(crate) query: &'m mut [i8],
    pub(crate) logits: &'m mut [f32],
    pub(crate) candidates: &'m mut [u64],
    pub(crate) tokens: &'m mut [u32],
}

impl<'m> State<'m> {
    /// Carves the parts from the caller's memory, from its first multiple of 64 on.
    pub(crate) fn carve(memory: &'m mut [u8], layout: &Layout) -> Result<Self, SessionError> {
        let skip = memory.as_ptr().align_offset(ALIGNMENT).min(memory.len());
        let rest = &mut memory[skip..];
        if rest.len() < layout.total {
            return Err(SessionError::OutOfMemory { needed: layout.total, given: rest.len() });
        }
        rest[..layout.total].fill(0);
        // SAFETY: a line is bytes.
        let (_, rest, _) = unsafe { rest.align_to_mut() };
        let mut carver = Carver { rest };
        Ok(Self {
            keys_q8: carver.take(layout.keys_q8),
            values_q8: carver.take(layout.values_q8),
            key_scales: carver.take(layout.kv_scales),
            value_scales: carver.take(layout.kv_scales),
            keys_f32: carver.take(layout.kv_f32),
            values_f32: carver.take(layout.kv_f32),
            residual: carver.take(layout.residual),
            normed: carver.take(layout.normed),
            hidden: carver.take(layout.hidden),
            quants: carver.take(layout.quants),
            scales: carver.take(layout.scales),
            sums: carver.take(layout.sums),
            rotary: carver.take(layout.rotary),
            query: carver.take(layout.query),
            logits: carver.take(layout.logits),
            candidates: carver.take(layout.candidates),
            tokens: carver.take(layout.tokens),
        })
    }
}

/// Plain numbers: any bytes are a value of them.
trait Number: Copy {}
impl Number for i8 {}
impl Number for u8 {}
impl Number for i32 {}
impl Number for u32 {}
impl Number for u64 {}
impl Number for f32 {}

/// What every part begins and ends with.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

struct Carver<'m> {
    rest: &'m mut [Line],
}

impl<'m> Carver<'m> {
    /// The next `n` numbers. Fewer if the memory ends, which the caller has excluded.
    #[inline(always)]
    fn take<T: Number>(&mut self, n: usize) -> &'m mut [T] {
        let (lines, n) = self.lines(n, size_of::<T>());
        // SAFETY: `T` is a plain number, for which any bytes are a value (the private trait `Number`); lines
        // are aligned for all of them, these have room for so many, and nobody else gets them.
        unsafe { core::slice::from_raw_parts_mut(lines.cast(), n) }
    }

    /// Takes lines for `n` numbers of so many bytes: gives where they begin, and how many numbers there is
    /// room for, at most `n`. Once for all types.
    #[inline(never)]
    fn lines(&mut self, n: usize, size: usize) -> (*mut Line, usize) {
        let rest = core::mem::take(&mut self.rest);
        let wanted = n.wrapping_mul(size).div_ceil(ALIGNMENT);
        let (taken, rest) = rest.split_at_mut(wanted.min(rest.len()));
        self.rest = rest;
        (taken.as_mut_ptr(), n.min(size_of_val(taken) / size.max(1)))
    }
}

/// A model file's bytes, aligned as the runtime needs them: what [`include_model!`](crate::include_model) makes.
#[doc(hidden)]
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(pub T);

/// Embeds a model file in the program, aligned so that it can be run in place: on a
/// microcontroller it stays in flash.
///
/// The path is relative to the current source file, as for [`include_bytes!`].
///
/// `include_model!("story.smidgen", section = ".external_model")` has the linker put it elsewhere: into
/// external flash that is mapped into memory, say, where the linker's script has such a section.
#[macro_export]
macro_rules! include_model {
    ($path:expr) => {{
        static ALIGNED: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
        &ALIGNED.0 as &'static [u8]
    }};
    ($path:expr, section = $section:literal) => {{
        #[unsafe(link_section = $section)]
        static ALIGNED: $crate::Aligned<[u8; include_bytes!($path).len()]> =
            $crate::Aligned(*include_bytes!($path));
        &ALIGNED.0 as &'static [u8]
    }};
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;

    const CONFIG: Config = Config {
        architecture: Architecture::Llama,
        n_layers: 5,
        dim: 64,
        n_heads: 8,
        n_kv_heads: 4,
        head_dim: 8,
        ffn_dim: 172,
        vocab_size: 512,
        context_len: 512,
        norm_eps: 1e-5,
    };

    #[test]
    fn carving_takes_exactly_what_was_told() {
        for options in [
            SessionOptions::new(512),
            SessionOptions::new(7),
            SessionOptions { kv_type: Some(KvType::F32), ..SessionOptions::new(33) },
            SessionOptions { prompt_block: 5, workers: 3, ..SessionOptions::new(100) },
        ] {
            let layout = Layout::new(&CONFIG, KvType::Q8, options).unwrap();
            let mut bytes = std::vec![0xAA_u8; layout.total + 63];
            let skip = bytes.as_ptr().align_offset(64);
            let memory = &mut bytes[skip..skip + layout.total];
            let state = State::carve(memory, &layout).unwrap();
            let end = state.tokens.as_ptr() as usize + align_up(4 * state.tokens.len());
            assert_eq!(state.tokens.len(), options.context);
            assert_eq!(state.logits.len(), 512);
            assert!(state.residual.iter().all(|&x| x == 0.0));
            assert_eq!(end - (bytes[skip..].as_ptr() as usize), layout.total);
            let short = &mut bytes[skip..skip + layout.total - 1];
            assert_eq!(
                State::carve(short, &layout).unwrap_err(),
                SessionError::OutOfMemory { needed: layout.total, given: layout.total - 1 }
            );
        }
    }

    #[test]
    fn a_small_model_fits_a_small_chip() {
        let at = |context| Layout::new(&CONFIG, KvType::Q8, SessionOptions::new(context)).unwrap();
        assert!(at(512).total <= 190 * 1024, "{}", at(512).total);
        assert!(at(32).total <= 24 * 1024, "{}", at(32).total);
    }

    #[test]
    fn contexts_and_options_out_of_range_are_refused() {
        let layout = |options| Layout::new(&CONFIG, KvType::Q8, options);
        for asked in [0, 513, usize::MAX] {
            let want = Err(SessionError::BadContext { asked, max: 512 });
            assert_eq!(layout(SessionOptions::new(asked)), want);
        }
        for (prompt_block, workers) in [(0, 1), (1, 0), (usize::MAX, 1), (1, usize::MAX)] {
            let options = SessionOptions { prompt_block, workers, ..SessionOptions::new(8) };
            assert_eq!(layout(options), Err(SessionError::BadOptions));
        }
    }
}
