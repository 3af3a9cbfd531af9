//! docs/board.md: every command, from text to a story on the (emulated) board.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::BUILDING;
use crate::board::{self, M4F};

/// What a reader would run: the lines of the blocks that are marked as `sh`.
fn commands(page: &str) -> Vec<&str> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_command_of_the_page_works_and_the_board_tells_the_workstations_story() {
    if !board::available(M4F) {
        return;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str| directory.path().join(name);
    // The text to learn from: our own pages.
    std::fs::create_dir(place("my-texts")).expect("the temporary directory can be written");
    for page in ["README.md", "docs/training.md", "docs/numerics.md", "docs/chip.md"] {
        let name = page.replace('/', "-");
        std::fs::copy(repository.join(page), place("my-texts").join(name)).expect("our page can be copied");
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(repository.join("examples"), place("examples")).expect("a link can be made");

    let page = std::fs::read_to_string(repository.join("docs/board.md")).expect("the page is there");
    let commands = commands(&page);
    let mut script = String::new();
    for (index, command) in commands.iter().enumerate() {
        let command = command.replace("--minutes 2", "--steps 20");
        let output = place(&index.to_string());
        script += &format!("{{ {command}\n}} > '{}'\n", output.display());
    }

    let program = assert_cmd::cargo::cargo_bin("smidgen");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = program.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&paths));
    let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script]).current_dir(directory.path());
    shell.env("PATH", std::env::join_paths(paths).expect("paths without colons"));
    shell.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cortex-m"));
    for setting in ["CONTEXT", "PROMPT", "TOKENS", "TEMPERATURE", "TOP_P", "SEED"] {
        shell.env_remove(format!("SMIDGEN_{setting}"));
    }
    let mut shell =
        shell.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("sh runs");
    // For the console, which is the only one to read.
    let typed = b"/tokens 100\rOnce upon a time\r\x04";
    shell.stdin.take().expect("piped").write_all(typed).expect("somebody reads");
    let output = shell.wait_with_output().expect("sh can be waited for");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{notes}");

    let said = |begin: &str| {
        let index = commands.iter().position(|command| command.starts_with(begin));
        let index = index.unwrap_or_else(|| panic!("the page has no command {begin}"));
        let bytes = std::fs::read(place(&index.to_string())).expect("it has run");
        String::from_utf8(bytes).expect("text")
    };
    assert!(said("smidgen plan").contains("for the session"), "{}", said("smidgen plan"));
    let story = said("smidgen generate");
    assert!(story.starts_with("Once upon a time") && story.len() > 100, "{story}");
    assert_eq!(said("cargo run --release"), story);
    assert!(notes.contains("ram_session_bytes ") && notes.contains("token_instructions_mean "), "{notes}");
    let console = said("cargo run --release --bin console").replace("\r\n", "\n");
    let answer = console.split("\n> ").nth(2).unwrap_or_else(|| panic!("no story in {console}"));
    assert!(answer.starts_with(&format!("{story}[prompt ")), "{answer:?} is not {story:?}");
}
