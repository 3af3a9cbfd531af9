//! Models that PyTorch's `transformers` computed, in the formats and spellings that people publish
//! (`tools/parity_models.py` makes them): our logits in F32 are theirs.

use std::path::PathBuf;

use serde_json::Value;
use smidgen_converter::{ConvertOptions, ModelFile, TokenizerChoice, convert, open};
use smidgen_runtime::format::DType;
use smidgen_runtime::{Session, SessionOptions};

fn index() -> (PathBuf, Value) {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity");
    let text = std::fs::read_to_string(data.join("index.json")).unwrap();
    (data, serde_json::from_str(&text).unwrap())
}

#[test]
fn logits_are_those_of_transformers_in_every_format_and_spelling() {
    let (data, index) = index();
    let directory = tempfile::tempdir().unwrap();
    let models = index["models"].as_array().unwrap();
    assert!(models.len() >= 29, "{}", models.len());
    for model in models {
        let name = model["path"].as_str().unwrap();
        let checkpoint =
            open(&data.join(name), &TokenizerChoice::Found).unwrap_or_else(|error| panic!("{error}"));
        let file = directory.path().join("model.smidgen");
        convert(&checkpoint, &file, &ConvertOptions::new(DType::F32), |_| ()).unwrap();
        let file = ModelFile::open(&file).unwrap();
        let runs = file.load().unwrap();
        let mut memory = vec![0; 1 << 20];
        let mut session = Session::new(&runs, &mut memory, SessionOptions::new(16)).unwrap();
        let tokens: Vec<u32> =
            model["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        session.feed(&tokens).unwrap();
        let wanted: Vec<f32> =
            model["logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap() as f32).collect();
        assert_eq!(session.logits().len(), wanted.len(), "{name}");
        let largest = wanted.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
        let differences = session.logits().iter().zip(&wanted).map(|(ours, theirs)| (ours - theirs).abs());
        let worst = differences.fold(0.0, f32::max) / largest;
        eprintln!("{name}: {worst:.1e} of the largest logit");
        assert!(worst < 1e-5, "{name}: {worst} of the largest logit, {largest}");
    }
}
