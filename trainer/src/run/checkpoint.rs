//! A checkpoint: a Hugging Face directory of the model, and what resuming needs besides.

use std::borrow::Cow;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::bf16;
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View};
use serde::{Deserialize, Serialize};
use smidgen_converter::{TokenizerChoice, huggingface};
use smidgen_runtime::tokenizer::TokenizerSpec;

use super::config::RunConfig;
use super::error::TrainError;
use super::plan::Plan;
use super::weights;
use crate::data::files::write_json;
use crate::model::{Model, ParamLayout};
use crate::moments::Moments;
use crate::optimizer::AdamW;
use crate::qat::Steps;

/// The optimizer's file in a checkpoint.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The file of everything that is not a tensor.
pub const STATE_FILE: &str = "trainer.json";

/// Where a run is: `trainer.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this file's format.
    pub version: u32,
    /// Steps done. With the configuration's seed it decides all batches to come.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Time spent training, in seconds.
    pub seconds: f64,
    /// The plan, once it is made.
    pub plan: Option<Plan>,
    /// The loss on held-out text here; none if a run was stopped between two looks.
    pub validation_loss: Option<f32>,
    /// The best checkpoint so far.
    pub best: Option<Best>,
    /// Of the tokens that were learned from, in hexadecimal.
    pub data_fingerprint: String,
    /// What the run was asked to do.
    pub config: RunConfig,
}

/// The checkpoint with the lowest loss on held-out text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// Its loss, in nats a token.
    pub validation_loss: f32,
}

/// The `version` that is written and read.
pub const STATE_VERSION: u32 = 2;

/// What a run remembers besides its weights, in the order of the arena.
pub(super) struct Memory<'a> {
    pub(super) optimizer: &'a AdamW,
    /// While the model has rounded weights: how they came to be.
    pub(super) rounding: Option<Rounding<'a>>,
}

/// The weights before rounding, and what is known of steps.
pub(super) struct Rounding<'a> {
    pub(super) exact: &'a [f32],
    pub(super) steps: Option<&'a Steps>,
}

/// Writes a checkpoint into an empty folder.
pub(super) fn write(
    folder: &Path,
    model: &Model,
    memory: &Memory<'_>,
    tokenizer: &TokenizerSpec,
    name: &str,
    state: &State,
) -> Result<(), TrainError> {
    huggingface::write_directory(folder, &weights::to_checkpoint(model, tokenizer, name))?;
    write_memory(&folder.join(OPTIMIZER_FILE), &model.layout, memory)?;
    let path = folder.join(STATE_FILE);
    write_json(&path, state).map_err(TrainError::io("write", &path))?;
    share(folder, &path)
}

/// Gives all files of a folder the permissions of one of them. Some were made by way of temporary
/// files that only their owner may read.
pub(super) fn share(folder: &Path, like: &Path) -> Result<(), TrainError> {
    let permissions = fs::metadata(like).map_err(TrainError::io("read", like))?.permissions();
    for entry in fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
        let path = entry.map_err(TrainError::io("read", folder))?.path();
        if path.is_file() {
            fs::set_permissions(&path, permissions.clone()).map_err(TrainError::io("write", &path))?;
        }
    }
    Ok(())
}

/// Reads where the run was.
///
/// # Errors
/// A file that is missing, damaged, or of another version.
pub fn read_state(folder: &Path) -> Result<State, TrainError> {
    let path = folder.join(STATE_FILE);
    let json = fs::read(&path).map_err(TrainError::io("read", &path))?;
    let bad = |what: String| TrainError::BadFile { path: path.clone(), what };
    let state: State = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
    if state.version != STATE_VERSION {
        return Err(bad(format!("`version` is {}, this program reads {STATE_VERSION}", state.version)));
    }
    Ok(state)
}

/// Reads parameters (of a model with rounded weights: those before rounding) and the optimizer's
/// memory.
pub(super) fn read(folder: &Path, model: &mut Model, optimizer: &mut AdamW) -> Result<(), TrainError> {
    // The run has its tokenizer already.
    let checkpoint = huggingface::open(folder, &TokenizerChoice::None)?;
    weights::read_into(model, &checkpoint, folder)?;
    let file = MemoryFile::open(folder)?;
    file.read_moments("m", &model.layout, &mut optimizer.m)?;
    file.read_moments("v", &model.layout, &mut optimizer.v)?;
    if file.has_arena(EXACT, &model.layout) {
        file.read_arena(EXACT, &model.layout, &mut model.params)?;
    }
    Ok(())
}

/// Reads what was known of the steps of so many groups; nothing of a run before its first rounding.
pub(super) fn read_steps(folder: &Path, groups: usize) -> Result<Option<Steps>, TrainError> {
    let file = MemoryFile::open(folder)?;
    if !file.has(&step_name(STEPS[0])) {
        return Ok(None);
    }
    let mut all = STEPS.map(|_| vec![0.0; groups]);
    for (name, values) in STEPS.iter().zip(&mut all) {
        file.read(&step_name(name), &[groups], Dtype::F32, values, f32::from_le_bytes)?;
    }
    let [scales, multipliers, m, v] = all;
    Ok(Some(Steps { scales, multipliers, m, v }))
}

/// The prefix of parameters' names for the weights before rounding.
const EXACT: &str = "exact";
/// What is known of steps, a tensor each.
const STEPS: [&str; 4] = ["scales", "multipliers", "m", "v"];

fn step_name(what: &str) -> String {
    format!("steps.{what}")
}

/// A tensor of the optimizer's: one moment of one parameter.
struct Moment<'a> {
    shape: &'a [usize],
    values: Values<'a>,
}

#[derive(Clone, Copy)]
enum Values<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl<'a> Values<'a> {
    fn of(moments: &'a Moments) -> Self {
        match moments {
            Moments::F32(values) => Self::F32(values),
            Moments::Bf16(values) => Self::Bf16(values),
        }
    }

    fn range(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
        }
    }
}

impl View for Moment<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::Bf16(_) => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.values {
            Values::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Bf16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        match self.values {
            Values::F32(values) => size_of_val(values),
            Values::Bf16(values) => size_of_val(values),
        }
    }
}

/// Writes `m.NAME` and `v.NAME` for every parameter, in the shapes of the arena, and with rounded
/// weights `exact.NAME` and the steps.
fn write_memory(path: &Path, layout: &ParamLayout, memory: &Memory<'_>) -> Result<(), TrainError> {
    let AdamW { m, v, .. } = memory.optimizer;
    let mut arenas = vec![("m", Values::of(m)), ("v", Values::of(v))];
    let mut tensors = Vec::new();
    let groups;
    if let Some(Rounding { exact, steps }) = &memory.rounding {
        arenas.push((EXACT, Values::F32(exact)));
        if let Some(Steps { scales, multipliers, m, v }) = steps {
            groups = [scales.len()];
            for (name, values) in STEPS.iter().zip([scales, multipliers, m, v]) {
                tensors.push((step_name(name), Moment { shape: &groups, values: Values::F32(values) }));
            }
        }
    }
    for (prefix, values) in arenas {
        for param in layout.params() {
            let values = values.range(param.range());
            tensors.push((format!("{prefix}.{}", param.name), Moment { shape: &param.shape, values }));
        }
    }
    safetensors::serialize_to_file(tensors, None, path).map_err(|error| match error {
        SafeTensorError::IoError(error) => TrainError::io("write", path)(error),
        error => TrainError::BadFile { path: path.to_path_buf(), what: error.to_string() },
    })
}

/// The optimizer's file, to read from.
struct MemoryFile {
    path: PathBuf,
    bytes: Mmap,
}

impl MemoryFile {
    fn open(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(OPTIMIZER_FILE);
        let file = File::open(&path).map_err(TrainError::io("open", &path))?;
        // SAFETY: the checkpoint's files are not written to after they got their names, and the map
        // is only read, as bytes.
        let bytes = unsafe { Mmap::map(&file) }.map_err(TrainError::io("read", &path))?;
        let opened = Self { path, bytes };
        opened.tensors()?;
        Ok(opened)
    }

    fn bad(&self, what: String) -> TrainError {
        TrainError::BadFile { path: self.path.clone(), what }
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, TrainError> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| self.bad(error.to_string()))
    }

    fn has(&self, name: &str) -> bool {
        self.tensors().is_ok_and(|tensors| tensors.tensor(name).is_ok())
    }

    fn has_arena(&self, prefix: &str, layout: &ParamLayout) -> bool {
        layout.params().first().is_some_and(|param| self.has(&format!("{prefix}.{}", param.name)))
    }

    /// A tensor of elements of `N` bytes.
    fn read<T, const N: usize>(
        &self,
        name: &str,
        shape: &[usize],
        dtype: Dtype,
        values: &mut [T],
        from_bytes: impl Fn([u8; N]) -> T,
    ) -> Result<(), TrainError> {
        let tensors = self.tensors()?;
        let tensor = tensors.tensor(name).map_err(|error| self.bad(error.to_string()))?;
        if tensor.dtype() != dtype || tensor.shape() != shape {
            let (is, found) = (tensor.dtype(), tensor.shape());
            return Err(
                self.bad(format!("tensor `{name}` is {is:?} {found:?}, expected {dtype:?} {shape:?}"))
            );
        }
        let (elements, _) = tensor.data().as_chunks::<N>();
        for (value, &bytes) in values.iter_mut().zip(elements) {
            *value = from_bytes(bytes);
        }
        Ok(())
    }

    /// The tensors of all parameters with that prefix.
    fn read_arena(&self, prefix: &str, layout: &ParamLayout, arena: &mut [f32]) -> Result<(), TrainError> {
        layout.params().iter().try_for_each(|param| {
            let (name, values) = (format!("{prefix}.{}", param.name), &mut arena[param.range()]);
            self.read(&name, &param.shape, Dtype::F32, values, f32::from_le_bytes)
        })
    }

    /// The same, of the type that the run has them in.
    fn read_moments(
        &self,
        prefix: &str,
        layout: &ParamLayout,
        moments: &mut Moments,
    ) -> Result<(), TrainError> {
        let arena = match moments {
            Moments::F32(arena) => return self.read_arena(prefix, layout, arena),
            Moments::Bf16(arena) => arena,
        };
        layout.params().iter().try_for_each(|param| {
            let (name, values) = (format!("{prefix}.{}", param.name), &mut arena[param.range()]);
            self.read(&name, &param.shape, Dtype::BF16, values, bf16::from_le_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelOptions;
    use crate::moments::MomentType;
    use crate::optimizer::AdamWOptions;
    use crate::run::config::{Arch, ModelConfig};
    use smidgen_runtime::tokenizer::PreTokenizer;

    fn state(config: &RunConfig) -> State {
        State {
            version: STATE_VERSION,
            step: 7,
            tokens: 99,
            seconds: 0.1 + 0.2,
            plan: Some(Plan {
                total_steps: 70,
                warmup: 7,
                eval_every: 10,
                save_every: 10,
                cooldown: 14,
                qat_from: Some(60),
            }),
            validation_loss: Some(1.1),
            best: Some(Best { step: 6, validation_loss: 1.0 }),
            data_fingerprint: "00ff".into(),
            config: config.clone(),
        }
    }

    /// Parameters and moments that are all different.
    fn filled(arch: Arch, options: ModelOptions) -> (RunConfig, Model, AdamW) {
        let kv_heads = if arch == Arch::Gpt2 { 4 } else { 2 };
        let shape = ModelConfig {
            arch,
            layers: 2,
            dim: 32,
            heads: 4,
            kv_heads,
            ffn: 40,
            context: 16,
            ..ModelConfig::default()
        };
        let config = RunConfig { model: shape, ..RunConfig::default() };
        let mut model = Model::new(config.model.with_vocab(257).unwrap(), options).unwrap();
        model.init(3);
        let mut optimizer = AdamW::new(&model.layout, AdamWOptions::default());
        let n = model.params.len();
        for (i, param) in model.params.iter_mut().enumerate() {
            *param += (i as f32).sin() * 1e-3;
        }
        optimizer.m = Moments::F32((0..n).map(|i| (i as f32).cos()).collect());
        optimizer.v = Moments::F32((0..n).map(|i| 1.0 / (1.0 + i as f32)).collect());
        (config, model, optimizer)
    }

    fn tokenizer() -> TokenizerSpec {
        crate::bpe::BpeTrainer::new(257, PreTokenizer::Gpt2).finish(&["<|endoftext|>"]).unwrap()
    }

    fn plain(optimizer: &AdamW) -> Memory<'_> {
        Memory { optimizer, rounding: None }
    }

    #[test]
    fn what_rounding_needs_comes_back_too() {
        let dir = tempfile::tempdir().unwrap();
        let (config, model, optimizer) = filled(Arch::Llama, ModelOptions::default());
        let exact: Vec<f32> = model.params.iter().map(|x| x + 0.5).collect();
        let of = |by: f32| (0..9).map(|i| i as f32 + by).collect();
        let steps = Steps { scales: of(0.0), multipliers: of(1.0), m: of(2.0), v: of(3.0) };
        let rounding = Rounding { exact: &exact, steps: Some(&steps) };
        let memory = Memory { optimizer: &optimizer, rounding: Some(rounding) };
        write(dir.path(), &model, &memory, &tokenizer(), "test", &state(&config)).unwrap();
        // Everybody else sees the rounded weights, the run those before.
        let seen = huggingface::open(dir.path(), &TokenizerChoice::Found).unwrap();
        let mut again = Model::new(model.config, model.options).unwrap();
        weights::read_into(&mut again, &seen, dir.path()).unwrap();
        assert!(again.params == model.params);
        let mut moments = AdamW::new(&again.layout, optimizer.options);
        read(dir.path(), &mut again, &mut moments).unwrap();
        assert!(again.params == exact && moments.m == optimizer.m);
        let again = read_steps(dir.path(), 9).unwrap().unwrap();
        assert!(again.scales == steps.scales && again.multipliers == steps.multipliers);
        assert!(again.m == steps.m && again.v == steps.v);
        let error = read_steps(dir.path(), 8).unwrap_err().to_string();
        assert!(error.contains("`steps.scales` is F32 [9], expected F32 [8]"), "{error}");
    }

    #[test]
    fn everything_comes_back_to_the_bit() {
        let untied = ModelOptions { tied_embeddings: false, ..ModelOptions::default() };
        for (arch, options) in [
            (Arch::Llama, ModelOptions::default()),
            (Arch::Llama, untied),
            (Arch::Gpt2, ModelOptions::default()),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (config, model, optimizer) = filled(arch, options);
            let state = state(&config);
            write(dir.path(), &model, &plain(&optimizer), &tokenizer(), "test", &state).unwrap();
            assert_eq!(read_state(dir.path()).unwrap(), state);
            let mut again = Model::new(model.config, options).unwrap();
            let mut moments = AdamW::new(&again.layout, optimizer.options);
            read(dir.path(), &mut again, &mut moments).unwrap();
            assert!(again.params == model.params, "{arch:?}");
            assert!(moments.m == optimizer.m && moments.v == optimizer.v, "{arch:?}");
            // And it is a Hugging Face directory, tokenizer included.
            let read = huggingface::open(dir.path(), &TokenizerChoice::Found).unwrap();
            let spec = read.tokenizer.unwrap();
            assert_eq!((spec.tokens, spec.add_bos), (tokenizer().tokens, tokenizer().add_bos));
        }
    }

    #[test]
    fn moments_in_bf16_come_back_and_are_not_taken_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let (config, mut model, optimizer) = filled(Arch::Llama, ModelOptions::default());
        let Moments::F32(m) = &optimizer.m else { panic!("filled with f32") };
        let mut half = optimizer.clone().with_moments(MomentType::Bf16);
        half.m = Moments::Bf16(m.iter().map(|&x| bf16::from_f32(x)).collect());
        write(dir.path(), &model, &plain(&half), &tokenizer(), "test", &state(&config)).unwrap();
        let mut again = optimizer.clone().with_moments(MomentType::Bf16);
        read(dir.path(), &mut model, &mut again).unwrap();
        assert!(again.m == half.m && again.v == half.v);
        let mut other = optimizer.clone();
        let error = read(dir.path(), &mut model, &mut other).unwrap_err().to_string();
        assert!(error.contains("is BF16 [") && error.contains("expected F32 ["), "{error}");
    }

    #[test]
    fn damage_is_told_with_file_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let (config, mut model, mut optimizer) = filled(Arch::Llama, ModelOptions::default());
        write(dir.path(), &model, &plain(&optimizer), &tokenizer(), "test", &state(&config)).unwrap();

        let path = dir.path().join(STATE_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"version\": 2", "\"version\": 3")).unwrap();
        let error = read_state(dir.path()).unwrap_err().to_string();
        assert!(error.contains("trainer.json") && error.contains("`version` is 3"), "{error}");
        std::fs::write(&path, text.replace("seconds", "hours")).unwrap();
        assert!(read_state(dir.path()).unwrap_err().to_string().contains("hours"));

        let path = dir.path().join(OPTIMIZER_FILE);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        let error = read(dir.path(), &mut model, &mut optimizer).unwrap_err().to_string();
        assert!(error.contains(OPTIMIZER_FILE), "{error}");

        let (_, mut other, mut optimizer) = filled(Arch::Gpt2, ModelOptions::default());
        let error = read(dir.path(), &mut other, &mut optimizer).unwrap_err().to_string();
        assert!(error.contains("config.json describes"), "{error}");
    }
}
