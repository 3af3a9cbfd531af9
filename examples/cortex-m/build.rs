//! Finds the model that goes into flash and puts the linker script where the linker looks.

use std::env;

use smidgen_firmware_build as firmware;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(armv8m)");
    let armv8m = env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv8m.main"));
    if armv8m {
        println!("cargo:rustc-cfg=armv8m");
    }
    firmware::model();
    firmware::script(if armv8m { "an505.x" } else { "mps2.x" }, "memory.x");
    // Without --nmagic the linker pads sections to pages.
    firmware::link(&["--nmagic", "-Tlink.x"]);
}
