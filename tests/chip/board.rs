//! Firmware built from `examples/cortex-m` and run in QEMU.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A board that QEMU emulates, with the target that its code is compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    pub target: &'static str,
    machine: &'static str,
    /// The core to name to the compiler, where it isn't the one of the firmware's configuration.
    core: Option<&'static str>,
}

/// Cortex-M4F: DSP instructions and an FPU.
pub const M4F: Board = Board { target: "thumbv7em-none-eabihf", machine: "mps2-an386", core: None };
/// Cortex-M7: the same code, another core.
pub const M7: Board = Board { target: "thumbv7em-none-eabihf", machine: "mps2-an500", core: None };
/// Cortex-M33: Armv8-M, DSP instructions and an FPU.
pub const M33: Board = Board { target: "thumbv8m.main-none-eabihf", machine: "mps2-an505", core: None };
/// Cortex-M55: the same architecture a step further, other addresses.
pub const M55: Board =
    Board { target: "thumbv8m.main-none-eabihf", machine: "mps3-an547", core: Some("cortex-m55") };
/// Cortex-M3: integers only, floats in software.
pub const M3: Board = Board { target: "thumbv7m-none-eabi", machine: "mps2-an385", core: None };
/// The instructions of a Cortex-M0, on a Cortex-M3, which has them all.
pub const M0: Board = Board { target: "thumbv6m-none-eabi", machine: "mps2-an385", core: None };

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    /// A figure that the firmware reports on its standard error.
    pub fn figure(&self, name: &str) -> u64 {
        let mut words = self.stderr.lines().filter_map(|line| line.split_once(' '));
        let (_, value) =
            words.find(|(key, _)| *key == name).unwrap_or_else(|| panic!("no {name} in {}", self.stderr));
        value.parse().unwrap_or_else(|error| panic!("{name} is {value}: {error}"))
    }
}

/// False, with a word about it, where the emulator or the target is missing: unless
/// `SMIDGEN_REQUIRE_QEMU` says that this must not be.
pub fn available(board: Board) -> bool {
    installed("qemu-system-arm", board.target)
}

/// The same for any program that runs a target's code.
pub fn installed(runner: &str, target: &str) -> bool {
    let missing = match Command::new(runner).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
            let sysroot = String::from_utf8(sysroot.stdout).expect("a path in UTF-8");
            let library = Path::new(sysroot.trim()).join("lib/rustlib").join(target);
            if library.is_dir() { None } else { Some(format!("the target {target}")) }
        }
        _ => Some(runner.into()),
    };
    let Some(missing) = missing else { return true };
    assert!(
        std::env::var_os("SMIDGEN_REQUIRE_QEMU").is_none(),
        "{missing} is not installed, and SMIDGEN_REQUIRE_QEMU is set"
    );
    eprintln!("SKIPPED: {missing} is not installed");
    false
}

/// Builds the firmware with this model in flash, and gives its ELF file a name of its own.
pub fn build(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    build_with(board, model, name, &[])
}

/// The same with settings in the environment.
pub fn build_with(
    board: Board,
    model: &Path,
    name: &str,
    settings: &[(&str, &str)],
) -> Result<PathBuf, String> {
    build_program(board, model, name, settings, &["--bin", "smidgen-cortex-m"])
}

/// Builds the firmware with the model in external memory.
pub fn build_external(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    build_program(board, model, name, &[], &["--bin", "smidgen-cortex-m", "--features", "external"])
}

/// Builds the firmware with copies of the model's tensors in RAM.
pub fn build_hot(
    board: Board,
    model: &Path,
    name: &str,
    settings: &[(&str, &str)],
) -> Result<PathBuf, String> {
    build_program(board, model, name, settings, &["--bin", "smidgen-cortex-m", "--features", "hot"])
}

/// Builds the program that links only if nothing of the runtime can panic, with such copies.
pub fn build_bare_hot(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    build_program(board, model, name, &[], &["--bin", "bare", "--features", "bare,hot"])
}

/// Builds the program that links only if nothing of the runtime can panic.
pub fn build_bare(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    build_program(board, model, name, &[], &["--bin", "bare", "--features", "bare"])
}

/// The same with the runtime's features for a Llama with byte-level BPE and 8 bits, and no others.
pub fn build_small(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    let program = ["--bin", "bare", "--no-default-features", "--features", "bare,small"];
    build_program(board, model, name, &[], &program)
}

/// The same for a Llama with SentencePiece, and with what copies and clears memory in the fewest bytes.
pub fn build_smallest(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    let program = ["--bin", "bare", "--no-default-features", "--features", "bare,smallest"];
    build_program(board, model, name, &[], &program)
}

/// Builds the program that reads its weights, which links as that one does.
pub fn build_streamed(
    board: Board,
    model: &Path,
    name: &str,
    settings: &[(&str, &str)],
    stored_tokenizer: bool,
) -> Result<PathBuf, String> {
    let features = if stored_tokenizer { "streamed,stored-tokenizer" } else { "streamed" };
    build_program(board, model, name, settings, &["--bin", "streamed", "--features", features])
}

/// No symbol of the firmware is a panic's or an allocator's.
pub fn proves_that_nothing_panics(firmware: &Path, name: &str) {
    let symbols = symbols(firmware);
    assert!(symbols.iter().any(|name| name.contains("smidgen_runtime")), "{name}: stripped");
    for wrong in ["panicking", "rust_begin_unwind", "rust_alloc", "rg_alloc", "malloc"] {
        let found: Vec<&String> = symbols.iter().filter(|name| name.contains(wrong)).collect();
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

/// Builds the program that compares kernels.
pub fn build_levels(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    build_program(board, model, name, &[], &["--bin", "levels", "--features", "levels"])
}

/// The same with the runtime's features for a Llama and integers, and no others.
pub fn build_small_levels(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    let features = "levels,small,smidgen-runtime/q4";
    build_program(
        board,
        model,
        name,
        &[],
        &["--bin", "levels", "--no-default-features", "--features", features],
    )
}

/// Builds the console.
pub fn build_console(board: Board, model: &Path, name: &str) -> Result<PathBuf, String> {
    build_program(board, model, name, &[], &["--bin", "console"])
}

fn build_program(
    board: Board,
    model: &Path,
    name: &str,
    settings: &[(&str, &str)],
    program: &[&str],
) -> Result<PathBuf, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cortex-m");
    // Two cores of one target must not overwrite each other's programs.
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(board.core.unwrap_or("cortex-m"));
    let mut cargo = Command::new(env!("CARGO"));
    if let Some(core) = board.core {
        cargo.env("RUSTFLAGS", format!("-C target-cpu={core}"));
    }
    cargo.args(["build", "--release", "--quiet", "--target", board.target]).args(program);
    cargo.current_dir(package).env("CARGO_TARGET_DIR", &target_dir).env("SMIDGEN_MODEL", model);
    for setting in
        ["CONTEXT", "PROMPT", "TOKENS", "TEMPERATURE", "TOP_P", "SEED", "BUFFER", "HOT", "CANDIDATES"]
    {
        cargo.env_remove(format!("SMIDGEN_{setting}"));
    }
    cargo.envs(settings.iter().copied());
    let output = cargo.stdin(Stdio::null()).output().expect("cargo runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let built = target_dir.join(board.target).join("release").join(program[1]);
    let kept = target_dir.join(name);
    std::fs::copy(&built, &kept).expect("the firmware was built and can be copied");
    Ok(kept)
}

/// The names in an ELF file's symbol table (32 bits, little-endian).
pub fn symbols(firmware: &Path) -> Vec<String> {
    let elf = std::fs::read(firmware).expect("the firmware can be read");
    let half = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().expect("four bytes")) as usize;
    assert_eq!(&elf[..6], b"\x7fELF\x01\x01", "{}: not such a file", firmware.display());
    let section = |index: usize| word(0x20) + index * half(0x2e);
    let (offset, size, link) = (16, 20, 24);
    let table = (0..half(0x30)).map(section).find(|&at| word(at + 4) == 2).expect("it has symbols");
    let strings = word(section(word(table + link)) + offset);
    let entries = (word(table + offset)..word(table + offset) + word(table + size)).step_by(16);
    let name = |at: usize| elf[strings + word(at)..].split(|&byte| byte == 0).next().expect("a name");
    entries.map(|at| String::from_utf8_lossy(name(at)).into_owned()).collect()
}

/// Runs firmware with a semihosting command line.
pub fn run(board: Board, firmware: &Path, arguments: &str) -> Outcome {
    let arguments = arguments.replace(',', ",,"); // QEMU's way to write a comma
    let host = format!("enable=on,target=native,arg=smidgen,arg={arguments}");
    emulate(board, firmware, &["-serial", "none", "-semihosting-config", &host], &[])
}

/// Runs firmware while somebody types at its serial port; what it sends there is the outcome's `stdout`.
pub fn talk(board: Board, firmware: &Path, typed: &[u8]) -> Outcome {
    let host = "enable=on,target=native";
    emulate(board, firmware, &["-serial", "stdio", "-semihosting-config", host], typed)
}

fn emulate(board: Board, firmware: &Path, more: &[&str], typed: &[u8]) -> Outcome {
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args(["-machine", board.machine, "-display", "none", "-monitor", "none", "-icount", "shift=0"]);
    let mut child = qemu
        .args(more)
        .arg("-kernel")
        .arg(firmware)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("qemu-system-arm starts");
    // It may have ended without reading all: what it says then is the point.
    let _ = child.stdin.take().expect("piped").write_all(typed);
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + Duration::from_secs(240);
    let status = loop {
        if let Some(status) = child.try_wait().expect("QEMU can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("QEMU can be ended");
            panic!("{board:?}: the firmware was still running after four minutes: {more:?}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let stdout = stdout.join().expect("reads to the end");
    let stderr = String::from_utf8_lossy(&stderr.join().expect("reads to the end")).into_owned();
    Outcome { status, stdout, stderr }
}

/// Reads a stream to its end, so that the program on the other side never waits.
fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}
