//! The forward pass is the runtime's, the factor is what it says, and both methods help.

use std::path::Path;

use smidgen_runtime::format::DType;
use smidgen_runtime::{Session, SessionOptions};

use super::*;
use crate::test_models::{Random, byte_tokenizer, gpt2, llama, random};
use crate::{ConvertOptions, ModelFile, TokenizerChoice, convert};

#[test]
fn the_pass_computes_what_the_runtime_does() {
    let biases = [Role::QBias, Role::KBias, Role::VBias, Role::OBias, Role::UpBias, Role::DownBias];
    let rest = [Role::AttnNormBias, Role::FfnNormBias, Role::FinalNormBias];
    let directory = tempfile::tempdir().unwrap();
    for (config, extra) in [
        (llama(), vec![Role::Head]),
        (llama(), [&biases[..], &[Role::GateBias, Role::Head]].concat()),
        (llama(), vec![Role::QNorm, Role::KNorm, Role::Head]),
        (gpt2(), [&biases[..], &rest, &[Role::Head]].concat()),
    ] {
        let checkpoint = random(config, &extra, 91);
        let tokens: Vec<u32> = (0..12).map(|i| (7 * i + 3) % 20).collect();
        let mut rows = forward::embed(&checkpoint, std::slice::from_ref(&tokens)).unwrap();
        for layer in 0..config.n_layers {
            forward::Layer::read(&checkpoint, layer).run(&mut rows[0]);
        }
        let last = forward::finish(&checkpoint, &rows);
        let last = &last[0][11 * config.dim as usize..];
        let path = directory.path().join("model.smidgen");
        convert(&checkpoint, &path, &ConvertOptions::new(DType::F32), |_| ()).unwrap();
        let file = ModelFile::open(&path).unwrap();
        let model = file.load().unwrap();
        let mut memory = vec![0; 1 << 18];
        let mut session = Session::new(&model, &mut memory, SessionOptions::new(16)).unwrap();
        session.feed(&tokens).unwrap();
        let head = checkpoint.read(0, Role::Head).unwrap();
        for (i, (row, want)) in head.chunks(config.dim as usize).zip(session.logits()).enumerate() {
            let found: f32 = row.iter().zip(last).map(|(a, b)| a * b).sum();
            assert!(
                (found - want).abs() < 2e-4 * want.abs().max(1.0),
                "{extra:?}, logit {i}: {found}, {want}"
            );
        }
    }
}

#[test]
fn the_factor_is_that_of_the_inverse() {
    let (mut random, n) = (Random(92), 37);
    let rows: Vec<f32> = (0..200 * n).map(|_| random.normal()).collect();
    let mut h = gptq::moments(&[&rows[..50 * n], &rows[50 * n..]], n);
    let factor = gptq::factor(h.clone(), n).unwrap();
    let mean = (0..n).map(|i| h[i * n + i]).sum::<f64>() / n as f64;
    (0..n).for_each(|i| h[i * n + i] += 0.01 * mean);
    // Uᵀ U H is the identity.
    for i in 0..n {
        for j in 0..n {
            let inverse =
                |k: usize| (0..n).map(|m| f64::from(factor[m * n + i] * factor[m * n + k])).sum::<f64>();
            let found: f64 = (0..n).map(|k| inverse(k) * h[k * n + j]).sum();
            let want = if i == j { 1.0 } else { 0.0 };
            assert!((found - want).abs() < 1e-4, "[{i}, {j}] is {found}");
            assert!(i <= j || factor[i * n + j] == 0.0);
        }
    }
    assert!(gptq::factor(vec![f64::NAN; 4], 2).is_none());
}

/// Inputs that have nothing to do with each other leave nothing to make good: plain rounding.
#[test]
fn unrelated_columns_are_rounded_each_by_itself() {
    let (mut random, n) = (Random(93), 300);
    let weights: Vec<f32> = (0..n).map(|_| random.normal()).collect();
    let mut identity = vec![0.0; n * n];
    (0..n).for_each(|i| identity[i * n + i] = 2.0);
    let seen = Seen { importance: vec![1.0; n], factor: Some(identity) };
    for dtype in [DType::Q8, DType::Q4] {
        let blocks = quantize_row(dtype, &weights, &seen);
        for (block, weights) in blocks.iter().zip(weights.chunks(256)) {
            let plain =
                smidgen_runtime::quant::quantize_block(dtype, weights, Some(&[1.0; 256][..weights.len()]));
            assert!(block.quants == plain.quants && block.multipliers == plain.multipliers);
        }
    }
}

fn text() -> String {
    "Once upon a time there was the tale of the tiny tree that told the truth. ".repeat(4)
}

#[test]
fn the_file_does_not_depend_on_threads_and_floats_stay() {
    let config = smidgen_runtime::Config { vocab_size: 260, ..llama() };
    let mut checkpoint = random(config, &[Role::Head], 94);
    checkpoint.tokenizer = Some(byte_tokenizer());
    let directory = tempfile::tempdir().unwrap();
    let file = |method, dtype| {
        let calibration = calibrate(&checkpoint, &text(), method, |_| ()).unwrap();
        let options = ConvertOptions { calibration: Some(calibration.into()), ..ConvertOptions::new(dtype) };
        let path = directory.path().join("model.smidgen");
        convert(&checkpoint, &path, &options, |_| ()).unwrap();
        std::fs::read(path).unwrap()
    };
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let mut files = Vec::new();
    for method in [Method::Weighted, Method::Gptq] {
        files.push(one.install(|| file(method, DType::Q4)));
        assert!(three.install(|| file(method, DType::Q4)) == files[files.len() - 1], "{method:?}");
    }
    assert!(files[0] != files[1]);
    let path = directory.path().join("plain.smidgen");
    convert(&checkpoint, &path, &ConvertOptions::new(DType::F16), |_| ()).unwrap();
    assert!(file(Method::Gptq, DType::F16) == std::fs::read(path).unwrap());
}

#[test]
fn what_cannot_be_calibrated_is_said() {
    let mut checkpoint = random(smidgen_runtime::Config { vocab_size: 260, ..llama() }, &[], 95);
    let message = |checkpoint: &Checkpoint, text: &str| {
        calibrate(checkpoint, text, Method::Gptq, |_| ()).unwrap_err().to_string()
    };
    assert!(message(&checkpoint, "a").contains("--calibrate: the checkpoint has no tokenizer"));
    checkpoint.tokenizer = Some(byte_tokenizer());
    assert!(message(&checkpoint, "").contains("--calibrate: the text is empty"));
}

#[test]
fn stories_lose_less() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = data.join("llama2c/stories260K.bin");
    if !path.exists() {
        return eprintln!("SKIPPED: {} is not there", path.display());
    }
    let choice = TokenizerChoice::From(path.with_file_name("tok512.bin"));
    let checkpoint = crate::open(&path, &choice).unwrap();
    let text = std::fs::read_to_string(data.join("text/niklas6_tinystories.txt")).unwrap();
    let other = std::fs::read_to_string(data.join("text/yuninxia_tinystories_val.txt")).unwrap();
    let other: String = other.chars().take(30_000).collect();
    let directory = tempfile::tempdir().unwrap();
    let loss = |method: Option<Method>| {
        let calibration = method.map(|method| calibrate(&checkpoint, &text, method, |_| ()).unwrap().into());
        let options = ConvertOptions { calibration, ..ConvertOptions::new(DType::Q4) };
        let out = directory.path().join("model.smidgen");
        convert(&checkpoint, &out, &options, |_| ()).unwrap();
        let file = ModelFile::open(&out).unwrap();
        let model = file.load().unwrap();
        crate::quality::evaluate(&model, &other, Default::default(), |_| ()).unwrap().nats_per_token
    };
    let (plain, weighted, gptq) = (loss(None), loss(Some(Method::Weighted)), loss(Some(Method::Gptq)));
    eprintln!("nats a token in Q4: plain {plain}, weighted {weighted}, GPTQ {gptq}");
    assert!(weighted < plain && gptq < plain);
}
