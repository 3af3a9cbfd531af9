//! Says which level of kernels a bare Cortex-M gets: stable Rust has no `target_feature` for the DSP
//! extension.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(smidgen_dsp)");
    println!("cargo:rustc-check-cfg=cfg(smidgen_scalar)");
    println!(
        r#"cargo:rustc-check-cfg=cfg(smidgen_level, values("scalar", "wide", "avx2", "avx512", "neon", "neon-dot"))"#
    );
    let dsp = has_dsp();
    if dsp {
        println!("cargo:rustc-cfg=smidgen_dsp");
    }
    // One level is a third less code than two; the definition is for comparing with.
    if !dsp || env::var_os("CARGO_FEATURE_SCALAR").is_some() {
        println!("cargo:rustc-cfg=smidgen_scalar");
    }
}

/// Every Armv7E-M has the extension. Of Armv8-M those have it that the compiler is told to compile for:
/// `-C target-cpu=cortex-m33` and the like (`--cfg smidgen_dsp` in RUSTFLAGS says it of any other).
fn has_dsp() -> bool {
    let target = env::var("TARGET").unwrap_or_default();
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let cpu = flags.split('\u{1f}').filter_map(|flag| flag.rsplit_once("target-cpu=")).next_back();
    let with_dsp = ["cortex-m33", "cortex-m35p", "cortex-m52", "cortex-m55", "cortex-m85"];
    // `--cfg smidgen_level="scalar"` forces the definition (`Level::detect`).
    if flags.split('\u{1f}').any(|flag| flag.contains("smidgen_level=\"scalar\"")) {
        return false;
    }
    target.starts_with("thumbv7em")
        || target.starts_with("thumbv8m.main")
            && cpu.is_some_and(|(_, cpu)| with_dsp.contains(&cpu))
            && !flags.contains("-dsp")
}
