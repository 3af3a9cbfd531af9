//! Tensors in memory of their own: the same bits, as many as fit, and a size that is known before.

mod common;

use common::{AlignedBytes, TestModel, gpt2, llama, model};
use smidgen_runtime::format::{DType, Role, TensorSize, align_up};
use smidgen_runtime::tensor::{Matrix, Weights};
use smidgen_runtime::{HotError, Model, Session, SessionOptions, hot_needed, memory_needed};

const TOKENS: [u32; 9] = [3, 20, 7, 7, 0, 11, 23, 2, 19];

/// Widths of which none fills a block, a group or a quad; the last one's embedding is its head.
fn models() -> Vec<TestModel> {
    let mut all = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::Q8, DType::Q4] {
        all.push(model(llama(60, 2, (6, 3, 10), 300, 61), dtype, true, 11));
        all.push(model(gpt2(48, 2, 4, 53), dtype, true, 12));
    }
    all.push(model(llama(32, 2, (4, 2, 8), 48, 24), DType::Q8, false, 13));
    all
}

fn logits(model: &Model<'_>, file: &[u8]) -> Vec<Vec<u32>> {
    let options = SessionOptions::new(TOKENS.len());
    let mut memory = vec![0; memory_needed(file, options) + 64];
    let mut session = Session::new(model, &mut memory, options).unwrap();
    let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect();
    TOKENS.iter().map(|&token| bits(session.step(token).unwrap())).collect()
}

fn begin(matrix: &Matrix<'_>) -> usize {
    match matrix.weights {
        Weights::F32(values) => values.as_ptr() as usize,
        Weights::F16(values) => values.as_ptr() as usize,
        Weights::Q8(planes) | Weights::Q4(planes) => planes.quants.as_ptr() as usize,
    }
}

fn memory(len: usize) -> AlignedBytes {
    AlignedBytes::new(&vec![0xA5; len])
}

#[test]
fn logits_are_those_of_the_model_without_it() {
    for test in models() {
        let model = Model::load(&test.file).unwrap();
        let want = logits(&model, &test.file);
        let all = hot_needed(&test.file, usize::MAX);
        let mut copied = Vec::new();
        for at_most in [1500, all / 4, all / 2, all - 64, all, all + 999] {
            let needed = hot_needed(&test.file, at_most);
            assert!(needed <= at_most && needed <= all && needed.is_multiple_of(64), "{needed} {at_most}");
            let mut memory = memory(needed);
            let hot = model.with_hot(memory.as_mut()).unwrap();
            assert_eq!(logits(&hot, &test.file), want, "{at_most}");
            assert!(hot.hot_bytes() < needed);
            copied.push(hot.hot_bytes());
        }
        assert!(copied.is_sorted() && copied[0] < copied[2], "{copied:?}");
        assert!(copied[3] < copied[4] && copied[4] == copied[5], "{copied:?}");
        assert_eq!(model.hot_bytes(), 0);
    }
}

#[test]
fn all_that_a_token_takes_whole_is_read_from_the_copies() {
    for test in models() {
        let model = Model::load(&test.file).unwrap();
        let all = hot_needed(&test.file, usize::MAX);
        let mut memory = memory(all);
        let range = memory.as_ptr() as usize..memory.as_ptr() as usize + all;
        let hot = model.with_hot(memory.as_mut()).unwrap();
        let mut sizes = 0;
        for (layer, role, matrix) in model.tensors() {
            let found = hot.tensor(layer as usize, role).unwrap();
            let looked_up = role == Role::PositionEmbedding
                || role == Role::Embedding && model.tensor(0, Role::Head).is_some();
            assert_eq!(!range.contains(&begin(&found)), looked_up, "{role:?}");
            if !looked_up {
                let size = TensorSize::new(matrix.dtype(), matrix.rows, matrix.cols).unwrap().total;
                sizes += align_up(size);
            }
        }
        assert_eq!(all, sizes + align_up(4 * model.tensors().count()));
    }
}

#[test]
fn the_layers_come_before_the_head() {
    let test = &models()[8];
    let model = Model::load(&test.file).unwrap();
    let all = hot_needed(&test.file, usize::MAX);
    let mut memory = memory(all - 64);
    let range = memory.as_ptr() as usize..memory.as_ptr() as usize + all;
    let hot = model.with_hot(memory.as_mut()).unwrap();
    let is_copied = |layer, role| range.contains(&begin(&hot.tensor(layer, role).unwrap()));
    assert!(is_copied(0, Role::Q) && is_copied(1, Role::Down) && is_copied(0, Role::Embedding));
    // The last of the whole model's: the frequencies.
    assert!(!is_copied(0, Role::RopeFrequencies));
}

#[test]
fn memory_that_begins_anywhere_will_do() {
    let test = &models()[4];
    let model = Model::load(&test.file).unwrap();
    let want = logits(&model, &test.file);
    for skip in [1, 2, 33, 63] {
        let mut memory = memory(20_000 + skip);
        let hot = model.with_hot(&mut memory.as_mut()[skip..]).unwrap();
        assert!(hot.hot_bytes() > 10_000);
        assert_eq!(logits(&hot, &test.file), want);
    }
}

#[test]
fn too_little_is_refused_with_what_would_do() {
    let test = &models()[4];
    let model = Model::load(&test.file).unwrap();
    for given in [0, 1, 63, 64, 128, 200] {
        let mut memory = memory(given);
        let HotError { needed, given: said } = model.with_hot(memory.as_mut()).unwrap_err();
        assert_eq!(said, given);
        let mut memory = self::memory(needed);
        model.with_hot(memory.as_mut()).unwrap();
        let mut memory = self::memory(needed - 1);
        model.with_hot(memory.as_mut()).unwrap_err();
    }
    assert_eq!(hot_needed(&test.file, 0), 0);
    std::panic::catch_unwind(|| hot_needed(&test.file, 100)).unwrap_err();
    std::panic::catch_unwind(|| hot_needed(&[0; 200], 100)).unwrap_err();
}

/// What a constant of firmware says of a file, the program says of it too.
#[test]
fn the_size_is_a_constant() {
    static FILE: &[u8] = smidgen_runtime::include_model!("../../examples/models/stories.smidgen");
    const HOT: usize = hot_needed(FILE, 100_000);
    let mut memory = smidgen_runtime::Memory::<HOT>::new();
    let hot = Model::load(FILE).unwrap().with_hot(memory.as_mut()).unwrap();
    assert!(hot.hot_bytes() > 90_000 && hot.hot_bytes() < HOT);
}
