//! Finds the model that goes into flash and puts the linker script where the linker looks.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(armv8m)");
    println!("cargo:rerun-if-env-changed=SMIDGEN_MODEL");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let armv8m = env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv8m.main"));
    let script = if armv8m { "an505.x" } else { "mps2.x" };
    if armv8m {
        println!("cargo:rustc-cfg=armv8m");
    }
    println!("cargo:rerun-if-changed={script}");
    fs::copy(script, out.join("memory.x")).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    // Without --nmagic the linker pads sections to pages.
    for argument in ["--nmagic", "-Tlink.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }

    let named = env::var_os("SMIDGEN_MODEL");
    let path = named.map_or_else(|| PathBuf::from("../models/stories.smidgen"), PathBuf::from);
    let path = match path.canonicalize() {
        Ok(path) if path.is_file() => path,
        Ok(path) => fail(&format!("{} is not a file", path.display())),
        Err(error) => fail(&format!("{}: {error}", path.display())),
    };
    println!("cargo:rerun-if-changed={}", path.display());
    println!("cargo:rustc-env=SMIDGEN_MODEL_FILE={}", path.display());
}

/// Ends the build with a message instead of a backtrace.
fn fail(what: &str) -> ! {
    println!(
        "cargo:error=SMIDGEN_MODEL: {what} (a path to a .smidgen file, absolute or relative to this package)"
    );
    std::process::exit(1);
}
