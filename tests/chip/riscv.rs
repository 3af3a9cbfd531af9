//! Firmware built from `examples/riscv32`, on QEMU's board "virt".

use std::path::Path;
use std::process::{Command, Stdio};

use crate::board;
use crate::tell::Story;

/// Puts a model into firmware for this target (which links only if nothing can panic), and tells its
/// story.
pub fn tell(target: &str, model: &Path, tokens: usize, seed: u64, prompt: &str) -> Story {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/riscv32");
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("riscv32");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--target", target]);
    cargo.current_dir(package).env("CARGO_TARGET_DIR", &target_dir).env("SMIDGEN_MODEL", model);
    let output = cargo.stdin(Stdio::null()).output().expect("cargo runs");
    assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
    let firmware = target_dir.join(target).join("release/smidgen-riscv32");
    for name in board::symbols(&firmware) {
        assert!(!name.contains("panicking") && !name.contains("rust_alloc"), "{target}: {name}");
    }

    let dump = model.with_extension(format!("{target}.logits"));
    let dump_name = dump.to_str().expect("the target directory's name is UTF-8");
    assert!(!dump_name.contains(' '), "{dump_name}: the firmware's command line can't take spaces here");
    let mut qemu = Command::new("timeout");
    qemu.args(["240", "qemu-system-riscv32", "-machine", "virt", "-bios", "none", "-display", "none"]);
    qemu.args(["-serial", "none", "-monitor", "none", "-icount", "shift=0", "-semihosting-config"]);
    let line = format!("{dump_name} {tokens} {seed} {prompt}").replace(',', ",,");
    qemu.arg(format!("enable=on,target=native,arg=smidgen,arg={line}")).arg("-kernel").arg(&firmware);
    let output = qemu.stdin(Stdio::null()).output().expect("QEMU starts");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{target}: {notes}");
    let mean = notes.trim().strip_prefix("token_instructions_mean ").and_then(|n| n.parse::<u64>().ok());
    assert!(mean.is_some_and(|mean| mean > 10_000), "{target}: {notes}");
    let bytes = std::fs::read(&dump).expect("the firmware dumped its logits");
    let (words, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty(), "the dump ends in the middle of a number");
    Story { text: output.stdout, logits: words.iter().map(|&word| u32::from_le_bytes(word)).collect() }
}
