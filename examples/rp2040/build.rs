//! Finds the model that goes into flash and tells the linker about the board.

use smidgen_firmware_build as firmware;

fn main() {
    firmware::model();
    firmware::script("memory.x", "memory.x");
    // Without --nmagic the linker pads sections to pages. link-rp.x has the second-stage boot loader.
    firmware::link(&["--nmagic", "-Tlink.x", "-Tlink-rp.x", "-Tdefmt.x"]);
}
