//! Losses against what they must be.

use smidgen_runtime::format::{DType, Role};
use smidgen_runtime::tokenizer::{
    Normalizer, PreTokenizer, TokenSpec, TokenType, TokenizerKind, TokenizerSpec,
};

use super::*;
use crate::test_models::{llama, random};
use crate::{Checkpoint, ConvertOptions, ModelFile, TensorSource};

/// A vocabulary of the letters a to t, one token each.
fn letters(bos: bool) -> TokenizerSpec {
    let token = |byte: u8| TokenSpec { bytes: vec![byte], token_type: TokenType::Normal, score: 0.0 };
    TokenizerSpec {
        kind: TokenizerKind::ByteLevelBpe,
        pre_tokenizer: PreTokenizer::None,
        normalizer: Normalizer::None,
        add_bos: bos,
        add_space_prefix: false,
        ignore_merges: false,
        tokens: (b'a'..=b't').map(token).collect(),
        merges: Vec::new(),
        bos: bos.then_some(0),
        unknown: None,
        end_tokens: Vec::new(),
        added: Vec::new(),
    }
}

fn file(checkpoint: &Checkpoint, dtype: DType) -> (tempfile::TempDir, ModelFile) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.smidgen");
    crate::convert(checkpoint, &path, &ConvertOptions::new(dtype), |_| ()).unwrap();
    (directory, ModelFile::open(&path).unwrap())
}

const TEXT: &str = "abcdefghijklmnopqrstabcabcabctttttttsrqponmlkjihgfedcba";

#[test]
fn a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large() {
    for bos in [false, true] {
        let mut checkpoint = random(llama(), &[Role::Head], 40);
        checkpoint.tensors.insert((0, Role::Head), TensorSource::owned(20, 12, vec![0.0; 240]));
        checkpoint.tokenizer = Some(letters(bos));
        let (_directory, file) = file(&checkpoint, DType::F32);
        let quality = evaluate(&file.load().unwrap(), TEXT, EvalOptions::default(), |_| ()).unwrap();
        assert!((quality.perplexity - 20.0).abs() < 1e-9, "{quality:?}");
        assert!((quality.bits_per_byte - 20_f64.log2()).abs() < 1e-9);
        let predicted = TEXT.len() as u64 - u64::from(!bos);
        assert_eq!((quality.tokens, quality.bytes), (predicted, predicted));
    }
}

/// Cutting into windows, blocks and threads: the sum is that of single steps.
#[test]
fn losses_are_those_of_stepping_by_hand() {
    for bos in [false, true] {
        let mut checkpoint = random(llama(), &[], 41);
        checkpoint.tokenizer = Some(letters(bos));
        let (_directory, file) = file(&checkpoint, DType::Q8);
        let model = file.load().unwrap();
        let tokens: Vec<u32> = TEXT.bytes().map(|byte| u32::from(byte - b'a')).collect();
        for context in [1, 3, 16] {
            let (mut nats, mut n) = (0.0, 0);
            let mut memory = vec![0; 1 << 16];
            let mut next = usize::from(!bos);
            while next < tokens.len() {
                let mut session = Session::new(&model, &mut memory, SessionOptions::new(context)).unwrap();
                let mut input = if bos { 0 } else { tokens[next - 1] };
                for _ in 0..context.min(tokens.len() - next) {
                    let logits = session.step(input).unwrap();
                    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
                    input = tokens[next];
                    nats += sum.ln() - f64::from(logits[input as usize]);
                    (next, n) = (next + 1, n + 1);
                }
            }
            let options = EvalOptions { context: Some(context), ..EvalOptions::default() };
            let quality = evaluate(&model, TEXT, options, |_| ()).unwrap();
            assert_eq!(quality.tokens, n);
            assert!((quality.nats_per_token - nats / n as f64).abs() < 1e-9, "{quality:?} {nats}");
        }
    }
}

#[test]
fn a_model_agrees_with_itself_and_less_with_others() {
    let mut checkpoint = random(llama(), &[], 42);
    checkpoint.tokenizer = Some(letters(false));
    let (_a, exact) = file(&checkpoint, DType::F32);
    let (_b, coarse) = file(&checkpoint, DType::Q4);
    let (exact, coarse) = (exact.load().unwrap(), coarse.load().unwrap());
    let itself = agreement(&exact, &exact, TEXT, EvalOptions::default()).unwrap();
    assert_eq!((itself.same_top, itself.kl_nats), (1.0, 0.0));
    assert_eq!(itself.first_nats, itself.second_nats);
    let alone = evaluate(&exact, TEXT, EvalOptions::default(), |_| ()).unwrap();
    assert!((itself.first_nats - alone.nats_per_token).abs() < 1e-12);
    let other = agreement(&exact, &coarse, TEXT, EvalOptions::default()).unwrap();
    assert!(other.kl_nats > 0.0 && other.kl_nats < 0.5, "{other:?}");
    assert!(other.first_nats != other.second_nats);
}

#[test]
fn what_cannot_be_measured_says_why() {
    let mut checkpoint = random(llama(), &[], 43);
    let message = |checkpoint: &Checkpoint, text: &str, options| {
        let (_directory, file) = file(checkpoint, DType::F32);
        evaluate(&file.load().unwrap(), text, options, |_| ()).unwrap_err().to_string()
    };
    let default = EvalOptions::default();
    assert!(message(&checkpoint, TEXT, default).contains("no tokenizer"));
    checkpoint.tokenizer = Some(letters(false));
    assert!(message(&checkpoint, "", default).contains("0 tokens, too few"));
    assert!(message(&checkpoint, "a", default).contains("1 tokens, too few"));
    let long = EvalOptions { context: Some(17), ..default };
    assert!(message(&checkpoint, TEXT, long).contains("this model allows 1 to 16"));
}
