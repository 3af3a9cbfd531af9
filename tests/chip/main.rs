//! The same file, prompt and seed give the same text and the same logits, bit for bit, on this
//! machine, on Cortex-M and RISC-V cores, with an FPU and without, on Arm with an operating system and in
//! WebAssembly. QEMU stands in for the chips.

mod board;
mod console;
mod external;
mod hot;
mod machine;
mod models;
mod page;
mod riscv;
mod streamed;
#[path = "../../runtime/examples/tell.rs"]
mod tell;
mod workstation;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use board::{Board, M0, M3, M4F, M7, M33, M55};
use machine::{AARCH64, ARMV7, Machine, WASM};
use smidgen_runtime::config::Config;
use smidgen_runtime::format::{DType, KvType, Prefix};
use smidgen_runtime::tokenizer::TokenizerKind;
use smidgen_runtime::{Layout, SessionOptions};
use tell::Story;

/// Firmware is built in one place: one build at a time.
static BUILDING: Mutex<()> = Mutex::new(());

const PROMPT: &str = "Über there, the cat";
const TOKENS: usize = 20;
const SEED: u64 = 7;

/// Tells the story on this machine: through the same runtime, and nothing of the firmware.
fn tell_here(file: &[u8]) -> Story {
    tell::tell(file, PROMPT, TOKENS, SEED)
}

/// Puts a model into firmware; gives the firmware's path.
fn firmware(board: Board, file: &[u8], name: &str) -> PathBuf {
    let name = format!("{name}-{}", board.target);
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.smidgen"));
    std::fs::write(&model, file).expect("the temporary directory can be written");
    let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    board::build(board, &model, &name)
        .unwrap_or_else(|errors| panic!("the firmware did not build:\n{errors}"))
}

/// Tells the story on the board.
fn tell_there(board: Board, file: &[u8], name: &str) -> Story {
    let firmware = firmware(board, file, name);
    let dump = firmware.with_extension("logits");
    let dump_name = dump.to_str().expect("the target directory's name is UTF-8");
    assert!(!dump_name.contains(' '), "{dump_name}: the firmware's command line can't take spaces here");
    let arguments =
        format!("tokens={TOKENS} temperature=0.8 top_p=0.9 seed={SEED} dump={dump_name} prompt={PROMPT}");
    let outcome = board::run(board, &firmware, &arguments);
    assert!(outcome.status.success(), "{board:?} failed: {}", outcome.stderr);
    let bytes = std::fs::read(&dump).expect("the firmware dumped its logits");
    let (words, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty(), "the dump ends in the middle of a number");

    // The report is what the README's figures come from: it must be about this very run.
    assert_eq!(outcome.figure("flash_model_bytes"), file.len() as u64);
    // A trained model may end its story before.
    assert!((1..=TOKENS as u64).contains(&outcome.figure("tokens")), "{}", outcome.stderr);
    assert!(outcome.figure("flash_bytes") > outcome.figure("flash_model_bytes") + 10_000);
    let layout = board_layout(file);
    let parts = [
        ("ram_kv_bytes", layout.kv_bytes()),
        ("ram_logits_bytes", 4 * layout.logits),
        ("ram_token_bytes", 4 * layout.tokens),
    ];
    for (name, bytes) in parts {
        assert_eq!(outcome.figure(name), bytes as u64, "{name}");
    }
    assert!(outcome.figure("ram_static_bytes") >= outcome.figure("ram_session_bytes"));
    assert!((200..16_384).contains(&outcome.figure("ram_stack_bytes")), "{}", outcome.stderr);
    assert!(outcome.figure("token_instructions_mean") > 10_000, "{}", outcome.stderr);
    Story { text: outcome.stdout, logits: words.iter().map(|&word| u32::from_le_bytes(word)).collect() }
}

/// What a session of the model's whole context is made of, by the function that `smidgen plan` asks.
fn board_layout(file: &[u8]) -> Layout {
    let (config, kv_type) = Prefix::read_config(file).expect("a model file");
    Layout::new(&config, kv_type, SessionOptions::new(config.context_len as usize))
        .expect("it is its context")
}

/// The whole promise, for one model on one board.
fn same_here_and_there(board: Board, name: &str, file: &[u8], vocab_size: usize) {
    if !board::available(board) {
        return;
    }
    let there = tell_there(board, file, name);
    same_as_here(&format!("{name} on {}", board.target), file, &there, vocab_size);
}

fn same_as_here(name: &str, file: &[u8], there: &Story, vocab_size: usize) {
    let here = tell_here(file);
    assert_eq!(here.logits.len(), TOKENS * vocab_size);
    assert_eq!(there.logits.len(), here.logits.len());
    let differing = here.logits.iter().zip(&there.logits).enumerate().find(|(_, (a, b))| a != b);
    if let Some((at, (a, b))) = differing {
        let (step, token) = (at / vocab_size, at % vocab_size);
        panic!("{name}: step {step}, token {token}: {a:#010x} here, {b:#010x} there");
    }
    assert_eq!(String::from_utf8_lossy(&there.text), String::from_utf8_lossy(&here.text));
}

fn random_model(board: Board, name: &str, config: Config, dtype: DType, kv_type: KvType) {
    let file = models::file(config, dtype, kv_type);
    same_here_and_there(board, name, &file, config.vocab_size as usize);
}

/// Every kind of model there is for chips, on a machine with an operating system.
fn on_a_machine(machine: Machine) {
    if !machine::available(machine) {
        return;
    }
    let kinds = [
        ("llama-q8", models::LLAMA, DType::Q8, KvType::Q8),
        ("gpt2-q4", models::GPT2, DType::Q4, KvType::Q8),
        ("llama-f32", models::LLAMA, DType::F32, KvType::F32),
        ("gpt2-f16", models::GPT2, DType::F16, KvType::F32),
    ];
    let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for (name, config, dtype, kv_type) in kinds {
        let file = models::file(config, dtype, kv_type);
        let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-machine.smidgen"));
        std::fs::write(&model, &file).expect("the temporary directory can be written");
        let there = machine::tell(machine, &model, TOKENS, SEED, PROMPT);
        let name = format!("{name} on {}", machine.target);
        same_as_here(&name, &file, &there, config.vocab_size as usize);
    }
}

fn on_riscv(target: &str, name: &str, config: Config, dtype: DType, kv_type: KvType) {
    if !board::installed("qemu-system-riscv32", target) {
        return;
    }
    let file = models::file(config, dtype, kv_type);
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{target}.smidgen"));
    std::fs::write(&model, &file).expect("the temporary directory can be written");
    let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let there = riscv::tell(target, &model, TOKENS, SEED, PROMPT);
    same_as_here(&format!("{name} on {target}"), &file, &there, config.vocab_size as usize);
}

#[test]
fn llama_q8_and_f32_on_riscv32() {
    let target = "riscv32imac-unknown-none-elf";
    on_riscv(target, "llama-q8", models::LLAMA, DType::Q8, KvType::Q8);
    on_riscv(target, "llama-f32", models::LLAMA, DType::F32, KvType::F32);
}

#[test]
fn gpt2_q4_on_riscv32_without_atomics() {
    on_riscv("riscv32imc-unknown-none-elf", "gpt2-q4", models::GPT2, DType::Q4, KvType::Q8);
}

#[test]
fn every_kind_on_64_bit_arm() {
    on_a_machine(AARCH64);
}

#[test]
fn every_kind_on_32_bit_arm() {
    on_a_machine(ARMV7);
}

#[test]
fn every_kind_in_webassembly() {
    on_a_machine(WASM);
}

#[test]
fn llama_q8_on_a_cortex_m4f() {
    random_model(M4F, "llama-q8", models::LLAMA, DType::Q8, KvType::Q8);
}

#[test]
fn llama_q8_on_a_cortex_m3_without_fpu() {
    random_model(M3, "llama-q8", models::LLAMA, DType::Q8, KvType::Q8);
}

#[test]
fn llama_q8_in_the_instructions_of_a_cortex_m0() {
    random_model(M0, "llama-q8", models::LLAMA, DType::Q8, KvType::Q8);
}

#[test]
fn llama_q8_on_a_cortex_m33() {
    random_model(M33, "llama-q8", models::LLAMA, DType::Q8, KvType::Q8);
}

#[test]
fn llama_q8_on_a_cortex_m55() {
    random_model(M55, "llama-q8", models::LLAMA, DType::Q8, KvType::Q8);
}

#[test]
fn gpt2_q4_on_a_cortex_m55() {
    random_model(M55, "gpt2-q4", models::GPT2, DType::Q4, KvType::Q8);
}

#[test]
fn gpt2_q4_on_a_cortex_m33() {
    random_model(M33, "gpt2-q4", models::GPT2, DType::Q4, KvType::Q8);
}

#[test]
fn llama_q8_on_a_cortex_m7() {
    random_model(M7, "llama-q8-m7", models::LLAMA, DType::Q8, KvType::Q8);
}

#[test]
fn llama_f32_on_a_cortex_m4f() {
    random_model(M4F, "llama-f32", models::LLAMA, DType::F32, KvType::F32);
}

#[test]
fn gpt2_q4_on_a_cortex_m4f() {
    random_model(M4F, "gpt2-q4", models::GPT2, DType::Q4, KvType::Q8);
}

#[test]
fn gpt2_f16_with_f32_cache_on_a_cortex_m3() {
    random_model(M3, "gpt2-f16", models::GPT2, DType::F16, KvType::F32);
}

/// The user's whole way: trained here, converted, told by the program and by the chip.
#[test]
fn a_trained_model_tells_the_same_story_on_the_workstation_and_on_the_chip() {
    if !board::available(M4F) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let checkpoint = workstation::train(&directory.path().join("run"));
    for quant in ["q8", "f32"] {
        let model = directory.path().join(format!("{quant}.smidgen"));
        workstation::convert(&checkpoint, &model, quant);
        let file = std::fs::read(&model).expect("the model file was written");
        let there = tell_there(M4F, &file, &format!("trained-{quant}"));
        for more in [&["--level", "scalar", "--threads", "1"][..], &["--threads", "2"]] {
            let here = workstation::tell(&model, TOKENS, SEED, PROMPT, more);
            assert_eq!(String::from_utf8_lossy(&here.text), String::from_utf8_lossy(&there.text));
            assert!(here.logits == there.logits, "{quant} {more:?}: logits differ");
        }
    }
}

/// Loading, encoding, taking in, stepping and sampling: in a program whose panic handler calls what is
/// nowhere, so that it links only if the compiler has proved that nothing calls the handler.
#[test]
fn nothing_can_panic_and_nothing_allocates() {
    type Build = fn(Board, &Path, &str) -> Result<PathBuf, String>;
    let (bytes, pieces) = (TokenizerKind::ByteLevelBpe, TokenizerKind::SentencePieceBpe);
    let kinds: [(_, _, _, _, Build); 4] = [
        ("q8", DType::Q8, KvType::Q8, bytes, board::build_bare),
        ("f32", DType::F32, KvType::F32, bytes, board::build_bare),
        ("small", DType::Q8, KvType::Q8, bytes, board::build_small),
        ("smallest", DType::Q8, KvType::Q8, pieces, board::build_smallest),
    ];
    for board in [M4F, M33, M3, M0] {
        if !board::available(board) {
            continue;
        }
        for (kind, dtype, kv_type, tokenizer, build) in kinds {
            let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bare-{kind}.smidgen"));
            let file = models::file_with(models::LLAMA, dtype, kv_type, tokenizer);
            let name = format!("bare-{kind}-{}", board.target);
            let firmware = {
                let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                std::fs::write(&model, file).expect("the temporary directory can be written");
                build(board, &model, &name).unwrap_or_else(|errors| panic!("{name}:\n{errors}"))
            };
            board::proves_that_nothing_panics(&firmware, &name);
            let outcome = board::run(board, &firmware, "");
            assert!(outcome.status.success(), "{name} failed");
            assert!(outcome.stdout.starts_with(b"Once upon a time"), "{name}: {:?}", outcome.stdout);
        }
    }
}

/// Where stories do not reach; see the program's own words. With the kernels for everything, and with those
/// that a small build has.
#[test]
fn kernels_equal_their_definition_on_the_chip() {
    type Build = fn(Board, &Path, &str) -> Result<PathBuf, String>;
    let kinds: [(_, Build); 2] =
        [("levels", board::build_levels), ("small-levels", board::build_small_levels)];
    for board in [M4F, M33] {
        if !board::available(board) {
            continue;
        }
        let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("levels.smidgen");
        let file = models::file(models::LLAMA, DType::Q8, KvType::Q8);
        let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::fs::write(&model, file).expect("the temporary directory can be written");
        for (kind, build) in kinds {
            let name = format!("{kind}-{}", board.target);
            let firmware = build(board, &model, &name).unwrap_or_else(|errors| panic!("{name}:\n{errors}"));
            let outcome = board::run(board, &firmware, "");
            assert!(outcome.status.success(), "{name}: {}", outcome.stderr);
            assert_eq!(String::from_utf8_lossy(&outcome.stdout), "equal 400 on cortex-m\n", "{name}");
        }
    }
}

#[test]
fn the_clock_counts_instructions() {
    for (board, tick) in [(M4F, 40), (M33, 50), (M55, 32)] {
        if !board::available(board) {
            continue;
        }
        let file = models::file(models::LLAMA, DType::Q8, KvType::Q8);
        let outcome = board::run(board, &firmware(board, &file, "timer"), "mode=timer");
        assert!(outcome.status.success(), "{}", outcome.stderr);
        let text = String::from_utf8(outcome.stdout).expect("text");
        let counted: u64 =
            text.trim().strip_prefix("instructions ").and_then(|n| n.parse().ok()).expect(&text);
        // 2,000,000 in the loop; reading the clock takes a few more.
        assert!((2_000_000..=2_000_000 + 2 * tick).contains(&counted), "{board:?}: {counted}");
    }
}

#[test]
fn a_panic_a_fault_and_a_stack_overflow_fail_the_program() {
    for board in [M4F, M33, M55] {
        if board::available(board) {
            what_must_not_happen_fails(board);
        }
    }
}

fn what_must_not_happen_fails(board: Board) {
    let file = models::file(models::LLAMA, DType::Q8, KvType::Q8);
    let firmware = firmware(board, &file, "faults");
    for (mode, words) in [("panic", "asked to"), ("fault", "hard fault at 0x"), ("overflow", "")] {
        let outcome = board::run(board, &firmware, &format!("mode={mode}"));
        assert!(!outcome.status.success(), "{mode} ended in success: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{mode}: {}", outcome.stderr);
    }
    for (arguments, words) in [
        ("tokens=ten", "the value of tokens"),
        ("tokens=1 frobnicate=1", "not a known key=value"),
        ("temperature=9", "temperature is out of range"),
        ("dump=/nowhere/at/all", "could not create"),
    ] {
        let outcome = board::run(board, &firmware, arguments);
        assert!(!outcome.status.success(), "{arguments} ended in success");
        assert!(outcome.stderr.contains(words), "{arguments}: {}", outcome.stderr);
    }
}

#[test]
fn what_is_no_model_or_does_not_fit_the_chip_does_not_build() {
    if !board::available(M4F) {
        return;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let refused = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).expect("the temporary directory can be written");
        board::build(M4F, &path, "refused").expect_err("it must not build")
    };
    let errors = refused("junk.smidgen", &[b'x'; 4096]);
    assert!(errors.contains("not a model file"), "{errors}");

    // A cache of 4,096 positions would be larger than the chip's RAM.
    let config = Config { n_layers: 12, context_len: 4096, ..models::LLAMA };
    let file = models::file(config, DType::Q4, KvType::F32);
    let path = directory.join("large.smidgen");
    std::fs::write(&path, file).expect("the temporary directory can be written");
    let errors = board::build_with(M4F, &path, "refused", &[("SMIDGEN_CONTEXT", "4096")])
        .expect_err("it must not link");
    assert!(errors.contains("RAM"), "{errors}");

    // This build of the runtime has no GPT-2.
    let path = directory.join("gpt2.smidgen");
    std::fs::write(&path, models::file(models::GPT2, DType::Q8, KvType::Q8))
        .expect("the temporary directory can be written");
    let errors = board::build_small(M4F, &path, "refused").expect_err("it must not build");
    assert!(errors.contains("lacks the feature `gpt2`"), "{errors}");

    let errors = board::build(M4F, &directory.join("missing.smidgen"), "refused").expect_err("no such file");
    assert!(errors.contains("missing.smidgen"), "{errors}");
}
