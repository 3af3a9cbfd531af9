//! Whole runs of a tiny model: exact resume, threads, crashes, full disks, damaged files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smidgen_trainer::data::TokenCache;
use smidgen_trainer::model::Precision;
use smidgen_trainer::parallel::Pool;
use smidgen_trainer::run::config::{
    Arch, DataConfig, Length, ModelConfig, MomentsChoice, PrecisionChoice, Quant, TokenizerChoice,
};
use smidgen_trainer::run::metrics::{self, Row};
use smidgen_trainer::run::{Event, Outcome, Run, RunConfig, TrainError, finish};

fn tiny(arch: Arch, steps: u64) -> RunConfig {
    let mut config = RunConfig::default();
    config.data = DataConfig { stories_bytes: 60_000, vocab_size: 300, ..config.data };
    let kv_heads = if arch == Arch::Gpt2 { 4 } else { 2 };
    config.model = ModelConfig {
        arch,
        layers: 2,
        dim: 32,
        heads: 4,
        kv_heads,
        ffn: 64,
        context: 32,
        ..Default::default()
    };
    config.training.length = Length::Steps(steps);
    (config.training.batch, config.training.accumulate) = (2, 2);
    (config.training.eval_every, config.training.eval_tokens) = (5, 512);
    config
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

fn train(run: Run, threads: usize) -> Result<Outcome, TrainError> {
    run.train(&Pool::new(threads), &never(), &mut |_: Event<'_>| {})
}

/// Trains, but stops after `step`.
fn train_until(run: Run, step: u64) -> Outcome {
    let stop = never();
    let mut observer = |event: Event<'_>| match event {
        Event::Step(row) if row.step == step => stop.store(true, Ordering::Relaxed),
        _ => {}
    };
    let outcome = run.train(&Pool::new(2), &stop, &mut observer).unwrap();
    assert_eq!((outcome.step, outcome.finished), (step, false));
    outcome
}

/// Weights and the optimizer's memory of the last checkpoint.
fn tensors(outcome: &Outcome) -> [Vec<u8>; 2] {
    ["model.safetensors", "optimizer.safetensors"]
        .map(|name| fs::read(outcome.checkpoint.join(name)).unwrap())
}

/// The numbers that must not depend on when and with how many threads they were computed.
fn numbers(outcome: &Outcome) -> Vec<(u64, u64, [u32; 3])> {
    let rows = metrics::read(&outcome.folder.join("metrics.jsonl")).unwrap();
    let of = |row: Row| match row {
        Row::Step(row) => {
            (row.step, row.tokens, [row.loss.to_bits(), row.lr.to_bits(), row.grad_norm.to_bits()])
        }
        Row::Validation(row) => {
            (row.step, row.tokens, [row.validation_loss.to_bits(), row.bits_per_byte.to_bits(), 0])
        }
    };
    rows.into_iter().map(of).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn resuming_gives_the_bits_of_an_unbroken_run() {
    for arch in [Arch::Llama, Arch::Gpt2] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let straight = train(Run::create(tiny(arch, 20), Some(&at("straight"))).unwrap(), 2).unwrap();

        let stopped = train_until(Run::create(tiny(arch, 20), Some(&at("broken"))).unwrap(), 10);
        assert_ne!(tensors(&stopped), tensors(&straight));
        // Once from the run's folder, once from the checkpoint itself.
        let stopped = train_until(Run::resume(&at("broken")).unwrap(), 13);
        let resumed = train(Run::resume(&stopped.checkpoint).unwrap(), 1).unwrap();

        assert!(resumed.finished && resumed.step == 20 && resumed.tokens == straight.tokens);
        assert!(tensors(&resumed) == tensors(&straight), "{arch:?}: other bits");
        assert_eq!(resumed.best, straight.best);
        let rows = numbers(&straight);
        // The look before the first step, 20 steps, and four looks.
        assert_eq!(rows.len(), 25);
        assert_eq!(numbers(&resumed), rows);
        // Something was learned at all.
        let loss = |row: &(u64, u64, [u32; 3])| f32::from_bits(row.2[0]);
        assert!(loss(&rows[24]) < loss(&rows[0]) - 0.01, "{} to {}", loss(&rows[0]), loss(&rows[24]));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let dir = tempfile::tempdir().unwrap();
    let run = |threads: usize| {
        let folder = dir.path().join(threads.to_string());
        train(Run::create(tiny(Arch::Llama, 6), Some(&folder)).unwrap(), threads).unwrap()
    };
    let one = run(1);
    for threads in [2, 3] {
        let other = run(threads);
        assert!(tensors(&other) == tensors(&one), "{threads} threads");
        assert_eq!(numbers(&other), numbers(&one), "{threads} threads");
    }
}

#[test]
fn minutes_are_fixed_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny(Arch::Llama, 0);
    config.training.length = Length::Minutes(0.02);
    let stop = never();
    let mut total = None;
    let mut observer = |event: Event<'_>| {
        if let Event::Planned(plan) = event {
            total = Some(plan.total_steps);
            stop.store(true, Ordering::Relaxed);
        }
    };
    let run = Run::create(config, Some(&dir.path().join("run"))).unwrap();
    let stopped = run.train(&Pool::new(1), &stop, &mut observer).unwrap();
    assert!(!stopped.finished && stopped.total_steps == total && total.is_some());
    let resumed = train(Run::resume(&stopped.folder).unwrap(), 1).unwrap();
    assert_eq!((resumed.finished, Some(resumed.step)), (true, total));
}

#[test]
fn a_finished_run_becomes_a_model_file_that_writes() {
    let dir = tempfile::tempdir().unwrap();
    for (choice, arch) in [(TokenizerChoice::Bpe, Arch::Llama), (TokenizerChoice::Char, Arch::Gpt2)] {
        let mut config = tiny(arch, 10);
        config.data.tokenizer = choice;
        let run = Run::create(config.clone(), Some(&dir.path().join(format!("{arch:?}")))).unwrap();
        let outcome = train(run, 2).unwrap();
        assert_eq!(outcome.best.unwrap().step, 10, "a run so short improves to its end");
        let exported = finish::export(&outcome, &config).unwrap();
        assert_eq!(exported.checkpoint, outcome.checkpoint);
        assert_eq!(fs::metadata(&exported.path).unwrap().len(), exported.bytes);
        let text = finish::sample(&exported.path, 1).unwrap();
        assert!(text.len() > 10, "{text:?}");
        assert_eq!(text, finish::sample(&exported.path, 1).unwrap());
        let plot = finish::plot(&outcome.folder).unwrap();
        assert!(fs::read_to_string(plot).unwrap().contains("validation"));
    }
}

#[test]
fn a_run_that_cannot_begin_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("short.txt"), "Too short.").unwrap();
    fs::write(at("bad.txt"), b"abc\xff".repeat(1000)).unwrap();
    for (name, says) in [("short.txt", "too little text"), ("bad.txt", "bad.txt: not UTF-8 at byte 3")] {
        let mut config = tiny(Arch::Llama, 5);
        config.data.paths = vec![at(name)];
        let error = train(Run::create(config, Some(&at("run"))).unwrap(), 1).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let mut config = tiny(Arch::Llama, 5);
    config.data.paths = vec![at("missing.txt")];
    let error = Run::create(config, Some(&at("run"))).unwrap_err().to_string();
    assert!(error.contains("missing.txt"), "{error}");
    let mut config = tiny(Arch::Gpt2, 5);
    config.model.kv_heads = 2;
    assert!(Run::create(config, Some(&at("run"))).is_err());
    let error = Run::create(tiny(Arch::Llama, 5), Some(&at("short.txt/run"))).unwrap_err().to_string();
    assert!(error.contains("cannot create") && error.contains("short.txt/run"), "{error}");
    // Stopped while the text is read.
    let run = Run::create(tiny(Arch::Llama, 5), Some(&at("run"))).unwrap();
    let stopped = run.train(&Pool::new(1), &AtomicBool::new(true), &mut |_: Event<'_>| {});
    assert!(smidgen_trainer::run::was_stopped(&stopped.unwrap_err()));
    assert_eq!(names(dir.path()), ["bad.txt", "short.txt"]);
}

#[test]
fn a_loss_that_is_no_number_stops_and_keeps_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(tiny(Arch::Llama, 20), Some(&dir.path().join("run"))).unwrap();
    let stopped = train_until(run, 10);
    let path = stopped.checkpoint.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = train(Run::resume(&stopped.folder).unwrap(), 2).unwrap_err();
    let TrainError::NotFinite { step: 11, .. } = error else { panic!("{error}") };
    let text = error.to_string();
    assert!(text.contains("NaN") && text.contains("checkpoint of step 10 is kept"), "{text}");
    assert!(stopped.checkpoint.is_dir());
}

#[test]
fn other_text_is_not_resumed_on() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    fs::write(&text, "One fish, two fish, red fish, blue fish. ".repeat(100)).unwrap();
    let mut config = tiny(Arch::Llama, 20);
    config.data.paths = vec![text.clone()];
    let folder = dir.path().join("run");
    train_until(Run::create(config, Some(&folder)).unwrap(), 3);
    // Lost tokens are made again of the same text.
    fs::remove_dir_all(folder.join("tokens")).unwrap();
    train_until(Run::resume(&folder).unwrap(), 5);
    fs::remove_dir_all(folder.join("tokens")).unwrap();
    fs::write(&text, "One fish, two fish, red fish, new fish. ".repeat(100)).unwrap();
    let error = train(Run::resume(&folder).unwrap(), 2).unwrap_err();
    assert!(matches!(error, TrainError::DataChanged { .. }), "{error}");
}

#[test]
fn tokens_are_found_again_by_their_texts_content() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let cache = Some(TokenCache::new(at("cache")));
    let words = "One fish, two fish, red fish, blue fish. ".repeat(100);
    let run = |name: &str, file: &str, vocab: u32| {
        let mut config = tiny(Arch::Llama, 3);
        (config.data.paths, config.data.vocab_size) = (vec![at(file)], vocab);
        let run = Run::create(config, Some(&at(name))).unwrap().with_cache(cache.clone());
        let mut tokenized = false;
        let mut observer = |event: Event<'_>| tokenized |= matches!(event, Event::Tokenizing { .. });
        let outcome = run.train(&Pool::new(1), &never(), &mut observer).unwrap();
        (tokenized, tensors(&outcome))
    };
    fs::write(at("a.txt"), &words).unwrap();
    fs::write(at("b.txt"), &words).unwrap();
    fs::write(at("c.txt"), words.replace("red", "dead")).unwrap();
    let (tokenized, first) = run("first", "a.txt", 300);
    assert!(tokenized);
    // The same content under another name is found, and trains to the same bits.
    assert!(run("second", "b.txt", 300) == (false, first.clone()));
    // The cache may go at any time; the runs keep what they have.
    fs::remove_dir_all(at("cache")).unwrap();
    Run::resume(&at("second")).unwrap().train(&Pool::new(1), &never(), &mut |_: Event<'_>| {}).unwrap();
    assert!(run("third", "a.txt", 300) == (true, first.clone()));
    // Other content or another vocabulary is something else.
    assert!(run("fourth", "c.txt", 300).0);
    assert!(run("fifth", "a.txt", 310).0);
    // A damaged entry is none.
    for entry in fs::read_dir(at("cache")).unwrap() {
        fs::remove_file(entry.unwrap().path().join("tokens/train-00000.bin")).unwrap();
    }
    assert!(run("sixth", "a.txt", 300) == (true, first));
}

#[test]
fn training_for_a_model_file_is_resumed_exactly_too() {
    let dir = tempfile::tempdir().unwrap();
    for arch in [Arch::Llama, Arch::Gpt2] {
        let mut config = tiny(arch, 40);
        (config.quant, config.training.qat, config.training.qat_part) = (Quant::Q4, Some(Quant::Q4), 0.5);
        config.training.dropout = 0.1;
        let straight =
            train(Run::create(config.clone(), Some(&dir.path().join(format!("{arch:?}")))).unwrap(), 2);
        let straight = straight.unwrap();
        let best = straight.best.unwrap();
        assert!(best.step >= 20, "only rounded models count: {best:?}");
        let exported = finish::export(&straight, &config).unwrap();
        assert!(fs::metadata(exported.path).unwrap().len() < 30_000, "4-bit matrices");
        // Stopped and resumed while rounding: the same bits.
        let folder = dir.path().join(format!("{arch:?}-broken"));
        train_until(Run::create(config, Some(&folder)).unwrap(), 27);
        let resumed = train(Run::resume(&folder).unwrap(), 1).unwrap();
        assert!(tensors(&resumed) == tensors(&straight), "{arch:?}: other bits");
    }
}

#[test]
fn types_that_the_model_file_keeps_are_trained_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny(Arch::Llama, 10);
    (config.quant, config.training.qat, config.training.qat_part) = (Quant::Q4, Some(Quant::Q4), 0.5);
    config.keep_types = vec!["k=q8".parse().unwrap(), "v=q8".parse().unwrap()];
    let outcome = train(Run::create(config.clone(), Some(&dir.path().join("run"))).unwrap(), 1).unwrap();
    // They are remembered.
    assert_eq!(Run::resume(&outcome.folder).unwrap().config().keep_types, config.keep_types);
    let bytes = |config: &RunConfig| finish::export(&outcome, config).unwrap().bytes;
    let kept = bytes(&config);
    assert!(kept > bytes(&RunConfig { keep_types: vec![], ..config.clone() }));
    // A rule about nothing is refused before anything is done.
    config.keep_types.push("head=q8".parse().unwrap());
    let out = dir.path().join("none");
    let error = Run::create(config, Some(&out)).unwrap_err().to_string();
    assert!(error.contains("--keep-types is head=q8") && !out.exists(), "{error}");
}

#[test]
fn fine_tuning_begins_where_the_checkpoint_was() {
    let dir = tempfile::tempdir().unwrap();
    for arch in [Arch::Llama, Arch::Gpt2] {
        let at = |name: &str| dir.path().join(format!("{arch:?}-{name}"));
        let mut config = tiny(arch, 30);
        config.model.qk_norm = arch == Arch::Llama;
        config.model.tied = arch == Arch::Llama;
        let base = train(Run::create(config.clone(), Some(&at("base"))).unwrap(), 2).unwrap();
        // On the same stories: the loss before the first step is that of the base.
        let mut tuned = RunConfig { from: Some(base.checkpoint.clone()), ..tiny(arch, 6) };
        (tuned.model.context, tuned.training.lr) = (0, 0.0);
        let outcome = train(Run::create(tuned.clone(), Some(&at("tuned"))).unwrap(), 2).unwrap();
        let rows = metrics::read(&outcome.folder.join("metrics.jsonl")).unwrap();
        let Row::Validation(first) = rows[0] else { panic!("{:?}", rows[0]) };
        let last = metrics::read(&base.folder.join("metrics.jsonl")).unwrap();
        let Some(Row::Validation(last)) = last.last().copied() else { panic!() };
        assert_eq!(first.validation_loss.to_bits(), last.validation_loss.to_bits(), "{arch:?}");
        // A shorter context, and resuming.
        tuned.model.context = 16;
        let short = train_until(Run::create(tuned.clone(), Some(&at("short"))).unwrap(), 2);
        train(Run::resume(&short.folder).unwrap(), 1).unwrap();
        tuned.model.context = 64;
        let error = Run::create(tuned, Some(&at("long"))).unwrap_err().to_string();
        assert!(error.contains("--context is 64, but must be at most the checkpoint's, 32"), "{error}");
    }
}

const CHILD_FOLDER: &str = "SMIDGEN_TEST_RUN_FOLDER";
const CHILD_STEPS: u64 = 150;

/// Runs in a process of its own: begins or resumes the run in the folder that the variable names.
#[test]
#[ignore = "a part of other tests"]
fn child() {
    let folder = PathBuf::from(std::env::var_os(CHILD_FOLDER).unwrap());
    let run = if folder.join("run.json").exists() {
        Run::resume(&folder).unwrap()
    } else {
        // Killed between making the folder and writing run.json: nothing was begun.
        let _ = fs::remove_dir_all(&folder);
        Run::create(child_config(), Some(&folder)).unwrap()
    };
    if let Err(error) = train(run, 1) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn child_config() -> RunConfig {
    let mut config = tiny(Arch::Llama, CHILD_STEPS);
    (config.training.eval_every, config.training.save_every) = (50, 2);
    // The last half with rounded weights, which have more to remember.
    (config.quant, config.training.qat, config.training.qat_part) = (Quant::Q4, Some(Quant::Q4), 0.5);
    config
}

fn child_command(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child", "--nocapture"]).env(CHILD_FOLDER, folder);
    command.stdout(std::process::Stdio::null());
    command
}

/// Another number in every process and at every call: nobody's choice of moments.
fn random_milliseconds(most: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    1 + RandomState::new().hash_one(0) % most
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let straight =
        train(Run::create(child_config(), Some(&dir.path().join("straight"))).unwrap(), 2).unwrap();
    let folder = dir.path().join("killed");
    let mut kills = 0;
    for attempt in 0.. {
        let mut child = child_command(&folder).stderr(std::process::Stdio::null()).spawn().unwrap();
        // Any moment, and in the end as long as it takes.
        let patience = if attempt < 20 { random_milliseconds(200) } else { 60_000 };
        let mut status = None;
        for _ in 0..patience {
            status = child.try_wait().unwrap();
            if status.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match status {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => {
                child.kill().unwrap(); // SIGKILL
                child.wait().unwrap();
                kills += 1;
            }
        }
    }
    assert!(kills > 1, "the run ended before it could be killed");
    let outcome =
        Outcome { folder: folder.clone(), checkpoint: folder.join("checkpoint-000150"), ..straight.clone() };
    assert!(tensors(&outcome) == tensors(&straight), "other bits after {kills} kills");
    let steps = |outcome: &Outcome| {
        let mut rows = numbers(outcome);
        rows.retain(|row| row.2[2] != 0);
        rows
    };
    assert_eq!(steps(&outcome), steps(&straight));
    assert!(!names(&folder).iter().any(|name| name.ends_with(".part") || name.ends_with(".old")));
}

/// A limit on the size of files stands for a full disk: writing fails in the middle.
#[test]
#[cfg(unix)]
fn a_full_disk_is_told_and_leaves_no_half_files() {
    let limited = |folder: &Path, kilobytes: u32| {
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kilobytes * 2);
        let inner = child_command(folder);
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(inner.get_program()).args(inner.get_args());
        command.env(CHILD_FOLDER, folder).stdout(std::process::Stdio::null());
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    // Too little for the tokens; then enough for them, but not for a checkpoint.
    for (kilobytes, file) in [(8, "tokens"), (100, "checkpoint")] {
        let error = limited(&dir.path().join("new"), kilobytes);
        assert!(error.contains("error: ") && error.contains(file), "{error}");
        assert_eq!(names(dir.path()), [""; 0], "nothing of a run that did not begin");
    }
    // With a checkpoint: it stays, and the run goes on from it when there is room again.
    let folder = dir.path().join("run");
    let stopped = train_until(Run::create(child_config(), Some(&folder)).unwrap(), 7);
    let error = limited(&folder, 100);
    assert!(error.contains("checkpoint"), "{error}");
    assert!(stopped.checkpoint.is_dir());
    let is_temporary = |name: &String| name.ends_with(".part") || name.ends_with(".old");
    assert!(!names(&folder).iter().any(is_temporary), "{:?}", names(&folder));
    train_until(Run::resume(&folder).unwrap(), 9);
}

/// The configuration of a run of 60 steps that learns something.
fn learning(precision: PrecisionChoice) -> RunConfig {
    let mut config = tiny(Arch::Llama, 60);
    config.training.precision = precision;
    config.training.eval_every = 60;
    config
}

#[test]
fn bf16_learns_as_f32_does_and_is_kept_by_a_resumed_run() {
    if !Precision::Bf16.is_available() {
        eprintln!("SKIPPED: this CPU has no bf16 products");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let begin =
        |name: &str, precision| Run::create(learning(precision), Some(&dir.path().join(name))).unwrap();
    let auto = begin("auto", PrecisionChoice::Auto);
    assert_eq!(auto.config().training.precision, PrecisionChoice::Bf16, "what auto meant is written down");
    assert_eq!(auto.config().training.moments, MomentsChoice::Bf16);
    let [auto, bf16, f32] = [auto, begin("bf16", PrecisionChoice::Bf16), begin("f32", PrecisionChoice::F32)]
        .map(|run| train(run, 2).unwrap());
    assert!(tensors(&auto) == tensors(&bf16));
    assert!(tensors(&bf16) != tensors(&f32));
    let [rounded, exact] = [&bf16, &f32].map(|run| run.best.unwrap().validation_loss);
    assert!(exact < 5.0, "nothing was learned: {exact}");
    assert!((rounded / exact - 1.0).abs() < 5e-3, "bf16 {rounded}, f32 {exact}");
    let stopped = train_until(begin("stopped", PrecisionChoice::Auto), 23);
    let resumed = train(Run::resume(&stopped.folder).unwrap(), 1).unwrap();
    assert!(tensors(&resumed) == tensors(&bf16));
}

#[test]
fn recomputed_blocks_change_no_bit_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let runs = [false, true].map(|grad_checkpoint| {
        let mut config = tiny(Arch::Gpt2, 6);
        (config.training.grad_checkpoint, config.training.dropout) = (grad_checkpoint, 0.1);
        train(Run::create(config, Some(&dir.path().join(format!("{grad_checkpoint}")))).unwrap(), 2).unwrap()
    });
    assert!(tensors(&runs[0]) == tensors(&runs[1]));
}
