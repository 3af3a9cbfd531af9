//! Model files that are damaged, hostile or foreign: each is refused for its own reason, none can
//! make the loader panic, and whatever is accepted can be run.

mod common;

use std::io::Cursor;

use common::{AlignedBytes, Random, TestModel};
use smidgen_runtime::format::writer::{ModelPlan, TensorPlan, WriteError, pack_matrix, write_model};
use smidgen_runtime::format::{DType, ENTRY_LEN, KvType, Meta, PREFIX_LEN, Role, RopeScaling};
use smidgen_runtime::stream::{Region, RegionEnds, StreamLoadError, StreamModel, StreamOptions};
use smidgen_runtime::tokenizer::{
    Normalizer, OwnedTokenizer, PreTokenizer, TokenSpec, TokenType, TokenizerData, TokenizerError,
    TokenizerKind, TokenizerSpec,
};
use smidgen_runtime::{LoadError, Model, Session, SessionOptions};
use xxhash_rust::xxh32::xxh32;

fn llama(dtype: DType) -> TestModel {
    common::model(common::llama(32, 2, (4, 2, 8), 48, 24), dtype, false, 1)
}

/// A model file that can be edited: fields by their offsets, which `Prefix` documents.
struct Edit(Vec<u8>);

impl Edit {
    fn new(model: &TestModel) -> Self {
        Self(model.file.to_vec())
    }

    fn byte(mut self, at: usize, value: u8) -> Self {
        self.0[at] = value;
        self
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    /// Where the table's entry of a tensor is.
    fn entry(&self, layer: u16, role: Role) -> usize {
        let table = self.u64_at(72) as usize;
        let is_it = |at: &usize| self.0[*at] == role as u8 && self.0[at + 2..at + 4] == layer.to_le_bytes();
        (0..).map(|index| table + index * ENTRY_LEN).find(is_it).unwrap()
    }

    /// Where a tensor's first plane is.
    fn data(&self, layer: u16, role: Role) -> usize {
        (self.u64_at(80) + self.u64_at(self.entry(layer, role) + 12)) as usize
    }

    /// Makes the checksum fit again.
    fn seal(mut self) -> Self {
        let checksum = xxh32(&self.0[16..], 0);
        self = self.u32(12, checksum);
        self
    }

    fn error(self) -> LoadError {
        let bytes = AlignedBytes::new(&self.0);
        let error = Model::load(&bytes).expect_err("must be refused");
        // What can't be seen of a file that is read: how long it is, before it ends.
        if !matches!(error, LoadError::Truncated { .. } | LoadError::TrailingBytes { .. }) {
            let read = stream(&self.0, |_| ()).expect_err("must be refused by the other loader");
            match (error, read) {
                // Where a part begins is seen as that or as a wrong number.
                (LoadError::BadSection { .. } | LoadError::BadMetadata, StreamLoadError::Load(_)) => {}
                (_, read) => assert_eq!(read, StreamLoadError::Load(error)),
            }
        }
        error
    }
}

/// Loads a file through a reader, and lets something be done with it.
fn stream<T>(
    file: &[u8],
    run: impl FnOnce(&mut StreamModel<'_, Region<'_>>) -> T,
) -> Result<T, StreamLoadError<RegionEnds>> {
    let mut memory = vec![0; 1 << 20];
    let options = StreamOptions { hot: 4000, ..StreamOptions::new(4096) };
    StreamModel::load(Region(file), &mut memory, options).map(|mut model| run(&mut model))
}

#[test]
fn the_unedited_file_loads_and_says_what_was_written() {
    for dtype in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        let test = llama(dtype);
        let model = Model::load(&test.file).unwrap();
        assert_eq!(*model.config(), test.config);
        assert_eq!(model.tensors().count(), test.tensors.len());
        assert_eq!((model.meta().name, model.meta().rope_theta), ("test", 10_000.0));
        let sealed = Edit::new(&test).seal();
        assert_eq!(sealed.0, *test.file, "the checksum is XXH32 of everything behind byte 16");
    }
}

#[test]
fn truncated_files_say_how_long_they_should_be() {
    let test = llama(DType::Q8);
    let whole = test.file.len() as u64;
    for length in 0..test.file.len() {
        let cut = AlignedBytes::new(&test.file[..length]);
        let needed = if length < PREFIX_LEN { PREFIX_LEN as u64 } else { whole };
        let found = length as u64;
        assert_eq!(Model::load(&cut).unwrap_err(), LoadError::Truncated { needed, found });
    }
    let longer = AlignedBytes::new(&[&test.file[..], &[0]].concat());
    let error = Model::load(&longer).unwrap_err();
    assert_eq!(error, LoadError::TrailingBytes { expected: whole, found: whole + 1 });
}

#[test]
fn any_flipped_bit_is_noticed() {
    let test = llama(DType::Q8);
    let head = u64::from_le_bytes(test.file[80..88].try_into().unwrap()) as usize;
    let mut random = Random(3);
    let mut file = test.file.to_vec();
    let bits = (0..8 * head).chain((0..2000).map(|_| random.below(8 * test.file.len() as u64) as usize));
    for bit in bits {
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(Model::load(&AlignedBytes::new(&file)).is_err(), "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
    let flipped = Edit::new(&test).byte(test.file.len() - 1, 0xFF).error();
    let expected = Edit::new(&test).u32_at(12);
    assert!(matches!(flipped, LoadError::ChecksumMismatch { expected: said, .. } if said == expected));
}

#[test]
fn misaligned_files_are_refused_with_their_offset() {
    let test = llama(DType::F32);
    let mut memory = vec![0; test.file.len() + 128];
    let zero = memory.as_ptr().align_offset(64);
    for offset in [1, 2, 4, 8, 16, 32, 63] {
        let range = zero + offset..zero + offset + test.file.len();
        memory[range.clone()].copy_from_slice(&test.file);
        assert_eq!(Model::load(&memory[range]).unwrap_err(), LoadError::Misaligned { offset });
    }
}

#[test]
fn prefixes_that_cannot_be_are_refused_by_field() {
    let test = llama(DType::Q8);
    let edit = || Edit::new(&test);
    assert_eq!(edit().byte(0, b's').error(), LoadError::NotASmidgenFile);
    assert_eq!(edit().u32(8, 1).error(), LoadError::UnknownVersion { found: 1, supported: 2 });
    assert_eq!(edit().byte(24, 9).error(), LoadError::UnknownArchitecture(9));
    assert_eq!(edit().byte(25, 0).error(), LoadError::UnknownKvType(0));
    let fields = [
        (28, "n_layers", 1 << 10),
        (32, "dim", 1 << 20),
        (36, "n_heads", 1 << 12),
        (40, "n_kv_heads", 4),
        (44, "head_dim", 1 << 12),
        (48, "ffn_dim", 1 << 20),
        (52, "vocab_size", 1 << 20),
        (56, "context_len", 1 << 20),
    ];
    for (at, field, max) in fields {
        for value in [0, max + 1, u32::MAX] {
            assert_eq!(edit().u32(at, value).error(), LoadError::BadDimension { field, value, max });
        }
    }
    let indivisible = |field, value, divisor| LoadError::Indivisible { field, value, divisor };
    assert_eq!(edit().u32(40, 3).error(), indivisible("n_heads", 4, 3));
    assert_eq!(edit().u32(44, 7).error(), indivisible("head_dim", 7, 2));
    for eps in [-1.0, 1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(edit().u32(60, f32::to_bits(eps)).error(), LoadError::BadNormEps);
    }
    let whole = test.file.len() as u64;
    for length in [0, whole - 1] {
        let trailing = LoadError::TrailingBytes { expected: length, found: whole };
        assert_eq!(edit().u64(16, length).error(), trailing);
    }
    let truncated = LoadError::Truncated { needed: u64::MAX, found: whole };
    assert_eq!(edit().u64(16, u64::MAX).error(), truncated);
}

#[test]
fn sections_must_begin_where_the_prefix_says() {
    let test = llama(DType::Q8);
    for (at, section) in [(72, "tensor table"), (80, "data"), (88, "end of the data")] {
        for change in [1_u64, u64::MAX, 1 << 40] {
            let edit = Edit::new(&test);
            let value = edit.u64_at(at).wrapping_add(change);
            let error = edit.u64(at, value).seal().error();
            assert!(
                matches!(error, LoadError::BadSection { section: found, .. } if found == section),
                "{error}"
            );
        }
    }
    // The first byte behind the prefix is the length of the model's name.
    let name = Edit::new(&test).byte(PREFIX_LEN, 0xFF).seal().error();
    assert_eq!(name, LoadError::BadMetadata);
    assert_eq!(
        Edit::new(&test).byte(PREFIX_LEN + 1, 0xFF).seal().error(),
        LoadError::BadMetadata,
        "not UTF-8"
    );
    // The number of tensors stands before the table, as a varint.
    let edit = Edit::new(&test);
    let count_at = edit.u64_at(72) as usize - 1;
    assert_eq!(usize::from(edit.0[count_at]), test.tensors.len());
    let fewer = edit.byte(count_at, test.tensors.len() as u8 - 1).seal().error();
    assert!(matches!(fewer, LoadError::BadSection { .. } | LoadError::BadMetadata), "{fewer}");
}

#[test]
fn roles_must_be_known_wanted_and_complete() {
    let test = llama(DType::Q8);
    let with = |at: usize, change: fn(u32) -> u32| {
        let edit = Edit::new(&test);
        let mask = change(edit.u32_at(at));
        (mask, edit.u32(at, mask).seal().error())
    };
    let (mask, error) = with(64, |mask| mask | 1 << 6);
    assert_eq!(error, LoadError::UnknownRoles { mask });
    let (mask, error) = with(68, |mask| mask | 1 << 31);
    assert_eq!(error, LoadError::UnknownRoles { mask });
    assert_eq!(with(64, |mask| mask & !1).1, LoadError::MissingTensor(Role::Embedding));
    assert_eq!(with(68, |mask| mask & !(1 << 14)).1, LoadError::MissingTensor(Role::Gate));
    assert_eq!(with(68, |mask| mask | 1 << 1).1, LoadError::UnexpectedTensor(Role::AttnNormBias));
    let n = test.tensors.len() as u32;
    // A role that may be there, but is not: the table is too short.
    assert_eq!(with(64, |mask| mask | 1 << 4).1, LoadError::TableOrder { index: n });
}

#[test]
fn tables_must_name_the_tensors_that_the_dimensions_call_for() {
    let test = llama(DType::Q8);
    let edit = |layer, role, change: fn(Edit, usize) -> Edit| {
        let edit = Edit::new(&test);
        let at = edit.entry(layer, role);
        change(edit, at).seal().error()
    };
    let order = edit(0, Role::Embedding, |edit, at| edit.byte(at, Role::FinalNorm as u8));
    assert_eq!(order, LoadError::TableOrder { index: 0 });
    assert!(matches!(edit(1, Role::Down, |edit, at| edit.byte(at + 2, 0)), LoadError::TableOrder { .. }));
    let unknown = edit(0, Role::Embedding, |edit, at| edit.byte(at + 1, 5));
    assert_eq!(unknown, LoadError::UnknownTensorType { index: 0, found: 5 });
    let (found, expected) = ((25, 32), (24, 32));
    let (role, layer) = (Role::Embedding, 0);
    assert_eq!(
        edit(0, role, |edit, at| edit.u32(at + 4, 25)),
        LoadError::BadShape { role, layer, found, expected }
    );
    let role = Role::AttnNorm;
    let half = edit(1, role, |edit, at| edit.byte(at + 1, DType::F16 as u8));
    assert_eq!(half, LoadError::BadTensorType { role, found: DType::F16 });
    for offset in [1, 63, 1 << 20, u64::MAX - 63] {
        let edit = Edit::new(&test);
        let at = edit.entry(1, Role::Down);
        let data_len = edit.u64_at(88);
        let error = edit.u64(at + 12, offset).seal().error();
        // 48 columns become 64: quants, two multipliers a row, one scale a row.
        let bytes = 32 * 64 + 64 + 64;
        let (role, layer) = (Role::Down, 1);
        assert_eq!(error, LoadError::BadOffset { role, layer, offset, bytes, data_len });
    }
    // The last multiple of 64 that leaves one byte too few.
    let edit = Edit::new(&test);
    let (at, last) = (edit.entry(1, Role::Down), edit.u64_at(88) - 2176 + 64);
    assert!(matches!(edit.u64(at + 12, last).seal().error(), LoadError::BadOffset { .. }));
}

#[test]
fn numbers_that_are_none_are_refused() {
    let bad = |dtype: DType, role: Role, bytes: &[u8], past_quants: usize| {
        let test = llama(dtype);
        let mut edit = Edit::new(&test);
        let at = edit.data(1, role) + past_quants;
        edit.0[at..at + bytes.len()].copy_from_slice(bytes);
        edit.seal().error()
    };
    let wanted = |role| LoadError::BadValue { role, layer: 1 };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(bad(DType::F32, Role::Up, &value.to_le_bytes(), 0), wanted(Role::Up));
        assert_eq!(bad(DType::Q4, Role::FfnNorm, &value.to_le_bytes(), 4), wanted(Role::FfnNorm));
    }
    assert_eq!(bad(DType::F16, Role::Up, &[0, 0x7C], 0), wanted(Role::Up));
    // bf16 scales of a [48, 32] matrix: behind 48 · 32 quants and 64 bytes of multipliers.
    for scale in [0x7F80_u16, 0x7FC0, 0xFF80, 0xBF80] {
        assert_eq!(bad(DType::Q8, Role::Up, &scale.to_le_bytes(), 48 * 32 + 64), wanted(Role::Up));
        assert_eq!(bad(DType::Q4, Role::Up, &scale.to_le_bytes(), 48 * 16 + 64), wanted(Role::Up));
    }
}

/// Single letters from a on, one token each.
fn letters(n: usize) -> OwnedTokenizer {
    let token =
        |i: usize| TokenSpec { bytes: vec![b'a' + i as u8], token_type: TokenType::Normal, score: 0.0 };
    OwnedTokenizer::build(&TokenizerSpec {
        kind: TokenizerKind::ByteLevelBpe,
        pre_tokenizer: PreTokenizer::None,
        normalizer: Normalizer::None,
        add_bos: false,
        add_space_prefix: false,
        ignore_merges: false,
        tokens: (0..n).map(token).collect(),
        merges: Vec::new(),
        bos: None,
        unknown: None,
        end_tokens: vec![0],
        added: Vec::new(),
    })
    .unwrap()
}

/// The test model's file with this tokenizer, which the writer does not look into.
fn with_tokenizer(test: &TestModel, tokenizer: TokenizerData<'_>) -> AlignedBytes {
    let meta = Meta {
        name: "",
        source: "",
        writer: "",
        chat_template: "",
        rope_theta: 0.0,
        rope_scaling: RopeScaling::None,
        extra: "",
    };
    let tensors = test.tensors.iter().map(|&(layer, role, _)| TensorPlan { layer, role, dtype: DType::F32 });
    let (config, kv_type, tokenizer, tensors) =
        (test.config, KvType::F32, Some(tokenizer), tensors.collect());
    let plan = ModelPlan { config, kv_type, meta, tokenizer, tensors };
    let mut sink = Cursor::new(Vec::new());
    let written = write_model(&mut sink, &plan, |tensor, out| {
        let (rows, cols) = tensor.role.shape(&config);
        let values = test.tensor(tensor.layer as usize, tensor.role).unwrap();
        pack_matrix(tensor.dtype, rows, cols, values, None, out);
        Ok::<(), WriteError>(())
    });
    written.unwrap();
    AlignedBytes::new(&sink.into_inner())
}

#[test]
fn tokenizers_are_validated_and_must_fit_the_embedding() {
    let test = llama(DType::F32);
    let fits = letters(24);
    let file = with_tokenizer(&test, fits.data());
    assert_eq!(Model::load(&file).unwrap().tokenizer().unwrap().n_tokens(), 24);
    let file = with_tokenizer(&test, letters(25).data());
    assert_eq!(Model::load(&file).unwrap_err(), LoadError::VocabularyTooLarge { tokens: 25, rows: 24 });
    let end = 24_u32.to_le_bytes();
    let file = with_tokenizer(&test, TokenizerData { end_tokens: &end, ..fits.data() });
    let error = Model::load(&file).unwrap_err();
    assert!(matches!(error, LoadError::Tokenizer(TokenizerError::IdOutOfRange { id: 24, .. })), "{error}");
}

#[test]
fn plans_that_are_no_model_are_not_written() {
    let test = llama(DType::F32);
    let write = |change: &dyn Fn(&mut ModelPlan<'_>)| {
        let tensors =
            test.tensors.iter().map(|&(layer, role, _)| TensorPlan { layer, role, dtype: DType::F32 });
        let mut plan = ModelPlan {
            config: test.config,
            kv_type: KvType::F32,
            meta: *Model::load(&test.file).unwrap().meta(),
            tokenizer: None,
            tensors: tensors.collect(),
        };
        change(&mut plan);
        write_model(&mut Cursor::new(Vec::new()), &plan, |_, _| Ok::<(), WriteError>(())).unwrap_err()
    };
    // Without a change the first tensor's missing bytes are what is wrong.
    assert!(matches!(write(&|_| ()), WriteError::WrongSize { found: 0, expected: 3072, .. }));
    let missing = write(&|plan| plan.tensors.retain(|tensor| tensor.role != Role::Up));
    assert!(matches!(missing, WriteError::Plan(LoadError::MissingTensor(Role::Up))));
    let uneven = write(&|plan| plan.tensors.truncate(test.tensors.len() - 1));
    assert!(matches!(uneven, WriteError::UnevenLayers { layer: 1 }));
    let twice = write(&|plan| plan.tensors.push(plan.tensors[0]));
    assert!(matches!(twice, WriteError::UnevenLayers { .. }));
    let beyond = write(&|plan| plan.config.n_layers = 1);
    assert!(matches!(beyond, WriteError::UnevenLayers { .. }));
    let vector = write(&|plan| plan.tensors[1].dtype = DType::Q8);
    assert!(matches!(vector, WriteError::Plan(LoadError::BadTensorType { .. })));
    let dimension = write(&|plan| plan.config.dim = 0);
    assert!(matches!(dimension, WriteError::Plan(LoadError::BadDimension { field: "dim", .. })));
}

/// What no checksum guards against: files made to harm. Whatever is accepted must run.
#[test]
fn forged_files_are_refused_or_run() {
    let mut random = Random(4);
    let mut accepted = 0;
    for dtype in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        let test = llama(dtype);
        let tokenized = with_tokenizer(&test, letters(24).data());
        for file in [&test.file, &tokenized] {
            let head = u64::from_le_bytes(file[80..88].try_into().unwrap());
            for _ in 0..1500 {
                let mut edit = Edit(file.to_vec());
                for _ in 0..1 + random.below(3) {
                    // Mostly in what has structure, else in the weights.
                    let end = if random.below(4) > 0 { head } else { file.len() as u64 };
                    let at = (8 + random.below(end - 8)) as usize;
                    edit.0[at] = match random.below(3) {
                        0 => random.next() as u8,
                        1 => edit.0[at] ^ 1 << random.below(8),
                        _ => [0, 1, 0x7F, 0x80, 0xFF][random.below(5) as usize],
                    };
                }
                let bytes = AlignedBytes::new(&edit.seal().0);
                let Ok(model) = Model::load(&bytes) else {
                    // It may not be aligned, which no reader minds.
                    let _ = stream(&bytes, run_stream);
                    continue;
                };
                accepted += 1;
                let logits = run(&model);
                let streamed = stream(&bytes, run_stream).expect("it is accepted in memory");
                assert_eq!(streamed, logits);
            }
        }
    }
    assert!(accepted > 500, "only {accepted} were accepted: the forgeries are too clumsy to test anything");
}

/// The logits after a few tokens, as bits; none where the session is too large for this test.
fn run(model: &Model<'_>) -> Option<Vec<u32>> {
    let mut row = vec![0.0; 1 << 10];
    for (_, _, matrix) in model.tensors() {
        matrix.row(0, &mut row);
        matrix.row(matrix.rows - 1, &mut row);
        matrix.row(usize::MAX, &mut row);
    }
    let options =
        SessionOptions { prompt_block: 2, ..SessionOptions::new(model.config().context_len.min(4) as usize) };
    let mut memory = vec![0; 1 << 20];
    let mut session = Session::new(model, &mut memory, options).ok()?;
    let _ = session.prompt("abc");
    let logits = session.step(1).ok()?;
    assert_eq!(logits.len(), model.config().vocab_size as usize);
    Some(logits.iter().map(|logit| logit.to_bits()).collect())
}

/// [`run`] of a streamed model.
fn run_stream(model: &mut StreamModel<'_, Region<'_>>) -> Option<Vec<u32>> {
    let context = model.model().config().context_len.min(4) as usize;
    let options = SessionOptions { prompt_block: 2, ..SessionOptions::new(context) };
    let mut memory = vec![0; 1 << 20];
    let mut session = model.session(&mut memory, options).ok()?;
    let _ = session.prompt("abc");
    let logits = session.step(1).ok()?;
    Some(logits.iter().map(|logit| logit.to_bits()).collect())
}
