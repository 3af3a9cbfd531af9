//! Finds the model and tells the linker about the board.

use smidgen_firmware_build as firmware;

fn main() {
    firmware::model();
    firmware::script("virt.x", "virt.x");
    firmware::link(&["--nmagic", "-Tvirt.x"]);
}
