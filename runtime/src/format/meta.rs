//! What a file says of its model in words and a few numbers.

use serde::{Deserialize, Serialize};

/// How the rotary frequencies were stretched for a longer context. The file's frequencies
/// already include it: this is for people and for export.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Llama 3.1's: long wavelengths divided, short ones kept, a ramp between.
    Llama3 {
        /// Divides long wavelengths.
        factor: f32,
        /// Wavelengths longer than `original_context / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths shorter than `original_context / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// The context of the first training.
        original_context: u32,
    },
}

/// Metadata, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta<'a> {
    /// The model's name.
    pub name: &'a str,
    /// Where the model came from: the checkpoint's format and file name, or how it was trained.
    pub source: &'a str,
    /// The program that wrote the file, with its version.
    pub writer: &'a str,
    /// The conversation template (Jinja), or empty.
    pub chat_template: &'a str,
    /// The rotary base, 0 for models without.
    pub rope_theta: f32,
    /// How the rotary frequencies were stretched.
    pub rope_scaling: RopeScaling,
    /// Anything else, as a JSON object, or empty.
    pub extra: &'a str,
}

impl Meta<'_> {
    /// Nothing said.
    pub(crate) const NONE: Self = Self {
        name: "",
        source: "",
        writer: "",
        chat_template: "",
        rope_theta: 0.0,
        rope_scaling: RopeScaling::None,
        extra: "",
    };
}
