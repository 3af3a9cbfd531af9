//! What the build scripts of firmware share: they find the model that goes into flash, and put the
//! linker's scripts where the linker looks.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// Hands the model file's path to the compiler as `SMIDGEN_MODEL_FILE`: what the environment's
/// `SMIDGEN_MODEL` names, absolute or relative to the firmware's package, else the examples' model.
///
/// Ends the build with a message if there is no such file.
pub fn model() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SMIDGEN_MODEL");
    println!("cargo:rerun-if-env-changed=SMIDGEN_CONTEXT");
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

/// Has the linker find this file of the package under the name that its other scripts include.
pub fn script(file: &str, name: &str) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-changed={file}");
    fs::copy(Path::new(file), out.join(name)).expect("the script is there and OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
}

/// Arguments for the linker of the package's programs.
pub fn link(arguments: &[&str]) {
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Ends the build with a message instead of a backtrace.
fn fail(what: &str) -> ! {
    println!(
        "cargo:error=SMIDGEN_MODEL: {what} (a path to a .smidgen file, absolute or relative to this package)"
    );
    process::exit(1);
}
