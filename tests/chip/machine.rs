//! Machines with an operating system: a program built for them, run by QEMU in user mode or by Node.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tell::Story;

/// A target with what runs its programs here.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub target: &'static str,
    runner: &'static str,
    rustflags: &'static str,
}

/// 64-bit Arm, with every extension that QEMU has.
pub const AARCH64: Machine = Machine {
    target: "aarch64-unknown-linux-gnu",
    runner: "qemu-aarch64",
    rustflags: "-Clinker=aarch64-linux-gnu-gcc -Ctarget-feature=+crt-static",
};
/// 32-bit Arm of a Raspberry Pi; its programs are linked whole, so that they need none of its libraries.
pub const ARMV7: Machine = Machine {
    target: "armv7-unknown-linux-gnueabihf",
    runner: "qemu-arm",
    rustflags: "-Clinker=arm-linux-gnueabihf-gcc -Ctarget-feature=+crt-static",
};
/// WebAssembly, as browsers run it.
pub const WASM: Machine = Machine { target: "wasm32-wasip1", runner: "node", rustflags: "" };

/// Builds `runtime/examples/story.rs`, runs it and reads what it told.
pub fn tell(machine: Machine, model: &Path, tokens: usize, seed: u64, prompt: &str) -> Story {
    let program = build(machine);
    let folder = model.parent().expect("a file in a folder");
    let name = format!("{}.logits", machine.target);
    let mut run = Command::new(machine.runner);
    let place = |name: &str| {
        if machine.runner == "node" { format!("/{name}") } else { folder.join(name).display().to_string() }
    };
    if machine.runner == "node" {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chip/wasi.mjs");
        run.arg("--no-warnings").arg(script).arg(folder);
    }
    let model = model.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
    run.arg(program).args([place(model), place(&name), tokens.to_string(), seed.to_string()]).arg(prompt);
    let output = run.stdin(Stdio::null()).output().expect("the program is started");
    assert!(output.status.success(), "{machine:?}: {}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(folder.join(name)).expect("the logits were dumped");
    let (words, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty(), "the dump ends in the middle of a number");
    Story { text: output.stdout, logits: words.iter().map(|&word| u32::from_le_bytes(word)).collect() }
}

fn build(machine: Machine) -> PathBuf {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "-p", "smidgen-runtime", "--features", "std"]);
    cargo.args(["--example", "story", "--target", machine.target]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", &target_dir);
    cargo.env("RUSTFLAGS", machine.rustflags);
    let output = cargo.stdin(Stdio::null()).output().expect("cargo runs");
    assert!(output.status.success(), "{machine:?}: {}", String::from_utf8_lossy(&output.stderr));
    let examples = target_dir.join(machine.target).join("release/examples");
    let file = if machine.runner == "node" { "story.wasm" } else { "story" };
    examples.join(file)
}

/// [`crate::board::available`] for these.
pub fn available(machine: Machine) -> bool {
    crate::board::installed(machine.runner, machine.target)
}
