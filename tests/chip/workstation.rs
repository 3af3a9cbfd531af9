//! What a user does before there is firmware: trains, converts, and reads what the model tells.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use assert_cmd::Command;
use smidgen_trainer::parallel::Pool;
use smidgen_trainer::run::config::{DataConfig, Length, ModelConfig, TrainingConfig};
use smidgen_trainer::run::{Event, Run, RunConfig};

use crate::tell::Story;

/// A model of two small layers, trained for a moment; gives its checkpoint.
pub fn train(folder: &Path) -> PathBuf {
    let config = RunConfig {
        data: DataConfig { stories_bytes: 200_000, vocab_size: 300, ..DataConfig::default() },
        model: ModelConfig {
            layers: 2,
            dim: 32,
            heads: 4,
            kv_heads: 2,
            ffn: 96,
            context: 64,
            ..ModelConfig::default()
        },
        training: TrainingConfig {
            length: Length::Steps(40),
            batch: 8,
            eval_tokens: 1024,
            ..TrainingConfig::default()
        },
        ..RunConfig::default()
    };
    let run = Run::create(config, Some(folder)).expect("the settings are in range");
    let outcome = run.train(&Pool::new(2), &AtomicBool::new(false), &mut |_: Event<'_>| {});
    outcome.expect("training ends").checkpoint
}

/// `smidgen convert`.
pub fn convert(checkpoint: &Path, model: &Path, quant: &str) {
    let mut convert = Command::cargo_bin("smidgen").expect("the program is built");
    convert.arg("convert").arg(checkpoint).arg("-o").arg(model).args(["--quant", quant]);
    convert.assert().success();
}

/// `smidgen generate`, with the logits of every choice.
pub fn tell(model: &Path, tokens: usize, seed: u64, prompt: &str, more: &[&str]) -> Story {
    let dump = model.with_extension("logits");
    let mut generate = Command::cargo_bin("smidgen").expect("the program is built");
    generate.arg("generate").arg(model).args(["--prompt", prompt]).args(more);
    generate.args(["--temperature", "0.8", "--top-p", "0.9"]);
    generate.args(["--tokens", &tokens.to_string(), "--seed", &seed.to_string()]);
    let output = generate.arg("--dump-logits").arg(&dump).assert().success().get_output().clone();
    let bytes = std::fs::read(&dump).expect("the logits were dumped");
    let (words, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty(), "the dump ends in the middle of a number");
    Story { text: output.stdout, logits: words.iter().map(|&word| u32::from_le_bytes(word)).collect() }
}
