//! What a build without the tables of normal forms does in their place.

use super::super::error::EncodeError;
use super::super::unicode::first_nfc_active;
use super::super::view::Tokenizer;
use super::Stretch;

impl Tokenizer<'_> {
    /// Text in NFC goes its way; any other is refused.
    pub(super) fn nfc_stretches(
        &self,
        text: &str,
        scratch: &mut [u32],
        each: &mut impl FnMut(Stretch<'_>, &mut [u32]) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match first_nfc_active(text) {
            Some(at) => Err(EncodeError::NeedsNfc { at }),
            None => self.pre_tokens(text, scratch, each),
        }
    }

    /// WordPiece is refused at load.
    pub(super) fn words(
        &self,
        _: &str,
        _: &mut [u32],
        _: &mut impl FnMut(Stretch<'_>, &mut [u32]) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        Ok(())
    }
}
