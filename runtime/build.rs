//! Says whether the target has Arm's DSP instructions: stable Rust has no `target_feature` for them.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(smidgen_dsp)");
    let target = std::env::var("TARGET").unwrap_or_default();
    // Every Armv7E-M has them. A Cortex-M33 may: `--cfg smidgen_dsp` in RUSTFLAGS says that yours does.
    if target.starts_with("thumbv7em") {
        println!("cargo:rustc-cfg=smidgen_dsp");
    }
}
