//! Finds the model and tells the linker about the board.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=virt.x");
    println!("cargo:rerun-if-env-changed=SMIDGEN_MODEL");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("virt.x", out.join("virt.x")).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    for argument in ["--nmagic", "-Tvirt.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    let named = env::var_os("SMIDGEN_MODEL");
    let path = named.map_or_else(|| PathBuf::from("../models/stories.smidgen"), PathBuf::from);
    match path.canonicalize() {
        Ok(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            println!("cargo:rustc-env=SMIDGEN_MODEL_FILE={}", path.display());
        }
        Err(error) => {
            println!("cargo:error=SMIDGEN_MODEL: {}: {error} (a path to a .smidgen file)", path.display());
            std::process::exit(1);
        }
    }
}
