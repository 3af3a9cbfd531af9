//! Finds the model that goes into flash and tells the linker about the board.

use smidgen_firmware_build as firmware;

fn main() {
    firmware::model();
    // Of esp-hal: memory, and what the ROM has.
    // Then the size of the code, for the console's report.
    firmware::script("code.x", "code.x");
    firmware::link(&["-Tlinkall.x", "-Tcode.x"]);
}
