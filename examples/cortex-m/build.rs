//! Finds the model that goes into flash and puts the linker script where the linker looks.

use std::env;

use smidgen_firmware_build as firmware;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(armv8m, cortex_m55)");
    let armv8m = env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv8m.main"));
    if armv8m {
        println!("cargo:rustc-cfg=armv8m");
    }
    // A target is one for all cores of its architecture; the core is named by `-C target-cpu`.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let cortex_m55 = armv8m && flags.contains("target-cpu=cortex-m55");
    if cortex_m55 {
        println!("cargo:rustc-cfg=cortex_m55");
    }
    firmware::model();
    let memory = match (armv8m, cortex_m55) {
        (_, true) => "an547.x",
        (true, false) => "an505.x",
        (false, false) => "mps2.x",
    };
    firmware::script(memory, "memory.x");
    // Without --nmagic the linker pads sections to pages.
    firmware::link(&["--nmagic", "-Tlink.x"]);
}
