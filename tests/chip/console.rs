//! The console at the emulated serial port: what is typed there becomes what `smidgen generate` prints.

use std::path::Path;

use assert_cmd::Command;
use smidgen_runtime::format::Prefix;

use crate::BUILDING;
use crate::board::{self, Board, M3, M4F, M33};

fn generated(model: &Path, arguments: &[&str]) -> String {
    let mut generate = Command::cargo_bin("smidgen").expect("the program is built");
    let output = generate.arg("generate").arg(model).args(arguments).assert().success().get_output().clone();
    String::from_utf8(output.stdout).expect("text")
}

fn the_terminal_shows_what_the_program_prints(board: Board) {
    if !board::available(board) {
        return;
    }
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models/stories.smidgen");
    let firmware = {
        let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = format!("console-{}", board.target);
        board::build_console(board, &model, &name).unwrap_or_else(|errors| panic!("{name}:\n{errors}"))
    };
    let typed = "Once upon a time\r/temperature 0\r/top_p 1\r/seed 7\r/tokens 20\rThe dog\r/memory\r\x04";
    let outcome = board::talk(board, &firmware, typed.as_bytes());
    assert!(outcome.status.success(), "{board:?}: {}", outcome.stderr);
    // Terminals want a carriage return before each line feed; the text has none.
    let shown = String::from_utf8(outcome.stdout).expect("text").replace("\r\n", "\n");
    let answers: Vec<&str> = shown.split("\n> ").collect();
    let options: [&[&str]; 2] = [
        &["--prompt", "Once upon a time"],
        &["--prompt", "The dog", "--temperature", "0", "--top-p", "1", "--seed", "7", "--tokens", "20"],
    ];
    for (answer, arguments) in [(answers[1], options[0]), (answers[6], options[1])] {
        let (text, figures) = answer.split_once('[').expect(answer);
        assert_eq!(text, generated(&model, arguments), "{board:?}");
        let before: Vec<&str> = figures.split(" instructions each").collect();
        let counts = before.iter().filter_map(|text| text.rsplit(' ').next()?.parse::<u64>().ok());
        let counts: Vec<u64> = counts.filter(|&count| count > 10_000).collect();
        assert_eq!(counts.len(), 2, "of prompt and story: {figures}");
    }
    assert!(answers[7].starts_with(&format!("/memory\n{}firmware ", planned(&model))), "{}", answers[7]);
    assert!(answers[7].contains(" of stack so far"), "{}", answers[7]);
}

/// What the console says of the model's needs, by `smidgen plan`.
fn planned(model: &Path) -> String {
    let file = std::fs::read(model).expect("the model is there");
    let (config, _) = Prefix::read_config(&file).expect("a model file");
    let mut plan = Command::cargo_bin("smidgen").expect("the program is built");
    plan.args(["plan", "--json"]);
    for (name, value) in [
        ("--layers", config.n_layers),
        ("--dim", config.dim),
        ("--heads", config.n_heads),
        ("--kv-heads", config.n_kv_heads),
        ("--ffn", config.ffn_dim),
        ("--context", config.context_len),
        ("--vocab", config.vocab_size),
    ] {
        plan.arg(name).arg(value.to_string());
    }
    let output = plan.assert().success().get_output().clone();
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let bytes = |name: &str| plan[name].as_u64().unwrap_or_else(|| panic!("no {name} in {plan}"));
    let (session, kv, logits, tokens) =
        (bytes("session_bytes"), bytes("kv_bytes"), bytes("logits_bytes"), bytes("token_bytes"));
    format!(
        "model    {} bytes of flash, context {}\n\
         session  {session} bytes of RAM: {kv} for keys and values, {logits} for logits, {tokens} for tokens, \
         {} for activations\n",
        file.len(),
        config.context_len,
        session - kv - logits - tokens,
    )
}

#[test]
fn on_a_cortex_m4f() {
    the_terminal_shows_what_the_program_prints(M4F);
}

#[test]
fn on_a_cortex_m33() {
    the_terminal_shows_what_the_program_prints(M33);
}

#[test]
fn on_a_cortex_m3() {
    the_terminal_shows_what_the_program_prints(M3);
}
