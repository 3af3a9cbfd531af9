//! What a long run leaves: the newest checkpoints and the best one, metrics, samples, a picture, warnings.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use smidgen_trainer::parallel::Pool;
use smidgen_trainer::run::config::{Length, ModelConfig};
use smidgen_trainer::run::metrics::{self, Row};
use smidgen_trainer::run::{Event, Outcome, Run, RunConfig, finish};

const STEPS: u64 = 240;
const LOOK: u64 = 20;

/// A run on this text, and the warnings that it gave.
fn train(
    folder: &Path,
    text: &str,
    change: impl FnOnce(&mut RunConfig),
) -> (Outcome, RunConfig, Vec<String>) {
    let path = folder.join("text.txt");
    fs::write(&path, text).unwrap();
    let mut config = RunConfig::default();
    (config.data.paths, config.data.vocab_size) = (vec![path], 257);
    let model =
        ModelConfig { layers: 1, dim: 32, heads: 2, kv_heads: 1, ffn: 64, context: 32, ..config.model };
    config.model = model;
    (config.training.length, config.training.batch) = (Length::Steps(STEPS), 2);
    (config.training.eval_every, config.training.save_every) = (LOOK, LOOK);
    change(&mut config);
    let run = Run::create(config.clone(), Some(&folder.join("run"))).unwrap();
    let mut warnings = Vec::new();
    let mut observer = |event: Event<'_>| {
        if let Event::Warning(text) = event {
            warnings.push(text.to_owned());
        }
    };
    let outcome = run.train(&Pool::new(1), &AtomicBool::new(false), &mut observer).unwrap();
    (outcome, config, warnings)
}

/// Names in a folder that begin so.
fn named(folder: &Path, begin: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(begin));
    names.sort();
    names
}

#[test]
fn the_newest_checkpoints_and_the_best_are_kept_and_the_best_becomes_the_model() {
    let dir = tempfile::tempdir().unwrap();
    // The held-out end is another text: the better the model knows the first, the worse it is there.
    let text = "one fish, two fish, red fish, blue fish. ".repeat(90) + &"Fish 1 and 2 were red! ".repeat(20);
    let (outcome, config, _) = train(dir.path(), &text, |config| {
        (config.training.keep, config.training.sample_tokens) = (3, 8);
        config.training.warmup = 0;
    });
    let rows = metrics::read(&outcome.folder.join("metrics.jsonl")).unwrap();
    let looks: Vec<(u64, f32)> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Validation(row) => Some((row.step, row.validation_loss)),
            Row::Step(_) => None,
        })
        .collect();
    assert_eq!(
        looks.iter().map(|look| look.0).collect::<Vec<_>>(),
        (0..=STEPS).step_by(20).collect::<Vec<_>>()
    );
    assert_eq!(rows.len() - looks.len(), STEPS as usize, "a line for every step");
    let best = looks[1..].iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(outcome.best.map(|best| (best.step, best.validation_loss)), Some(*best));
    assert!(best.0 <= STEPS - 3 * LOOK, "an end that is worse was wanted: {looks:?}");
    let expected: Vec<String> =
        [best.0, STEPS - 40, STEPS - 20, STEPS].map(|step| format!("checkpoint-{step:06}")).to_vec();
    assert_eq!(named(&outcome.folder, "checkpoint-"), expected);
    let samples = named(&outcome.folder, "sample-");
    assert_eq!(samples.len(), looks.len() - 1);
    assert!(samples.iter().all(|name| fs::metadata(outcome.folder.join(name)).unwrap().len() > 0));
    let exported = finish::export(&outcome, &config).unwrap();
    assert_eq!(exported.checkpoint.file_name().unwrap().to_str(), Some(&expected[0][..]));
    let plot = fs::read_to_string(finish::plot(&outcome.folder).unwrap()).unwrap();
    for line in ["training", "validation", "learning rate"] {
        assert!(plot.contains(line), "{line}");
    }
}

#[test]
fn a_jump_of_the_loss_and_of_the_gradient_is_told() {
    let dir = tempfile::tempdir().unwrap();
    // In a text that is soon known by heart, a window of something else.
    let strange: String = (0..64u32).map(|i| char::from(b'A' + ((i * i * 7 + i * 3) % 26) as u8)).collect();
    let known = "one fish, two fish, red fish, blue fish. ";
    let text = known.repeat(300) + &strange + &known.repeat(200);
    let longer = |config: &mut RunConfig| config.training.length = Length::Steps(600);
    let (_, _, warnings) = train(dir.path(), &text, longer);
    for what in ["the loss jumped to", "the gradient's norm jumped to"] {
        assert!(warnings.iter().any(|warning| warning.contains(what)), "{what}: {warnings:?}");
    }
    let calm = tempfile::tempdir().unwrap();
    let (_, _, warnings) = train(calm.path(), &known.repeat(500), longer);
    assert!(!warnings.iter().any(|warning| warning.contains("the loss")), "{warnings:?}");
}
