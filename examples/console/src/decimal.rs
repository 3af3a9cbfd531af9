//! Numbers with a point, read and written without the tables that `str::parse` and `Display` of floats need:
//! those would take more flash than the rest of a small firmware.

use core::fmt;

/// A number such as `0.85`, of at most seven digits: then digits and power of ten are exact in f32
/// and one division rounds as `str::parse` does.
pub fn decimal(text: &str) -> Option<f32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() + fraction.len() > 7 {
        return None;
    }
    let (mut digits, mut scale) = (whole.parse::<u32>().ok()?, 1_u32);
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        digits = 10 * digits + u32::from(digit - b'0');
        scale *= 10;
    }
    Some(digits as f32 / scale as f32)
}

/// Shows a number of 0 to 4,000,000 with three digits behind the point.
#[derive(Clone, Copy, Debug)]
pub struct Thousandths(pub f32);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = (self.0 * 1000.0 + 0.5) as u32;
        write!(f, "{}.{:03}", thousandths / 1000, thousandths % 1000)
    }
}
