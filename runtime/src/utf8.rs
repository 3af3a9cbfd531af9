//! UTF-8 by what printing broken text needs anyway ([`slice::utf8_chunks`]): `core::str::from_utf8` beside it
//! would be another 370 bytes on a chip.

/// The bytes as text, if they are nothing else.
#[inline(never)]
pub(crate) fn text_of(bytes: &[u8]) -> Option<&str> {
    match bytes.utf8_chunks().next() {
        Some(chunk) => chunk.invalid().is_empty().then(|| chunk.valid()),
        None => Some(""),
    }
}

/// Whether the bytes are the beginning of one character and may yet become it.
#[inline(never)]
pub(crate) fn is_unfinished(bytes: &[u8]) -> bool {
    let length = match bytes.first() {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => return false,
    };
    // What cannot go on ends before the byte that shows it.
    bytes.len() < length
        && bytes.utf8_chunks().next().is_some_and(|chunk| chunk.invalid().len() == bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_of_all_beginnings() {
        let edges = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0];
        for first in 0..=255 {
            for second in 0..=255 {
                for third in edges {
                    for fourth in edges {
                        let four = [first, second, third, fourth];
                        for bytes in (0..=4).map(|n| &four[..n]) {
                            let want = core::str::from_utf8(bytes);
                            assert_eq!(text_of(bytes), want.ok(), "{bytes:?}");
                            let unfinished = want
                                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none());
                            assert_eq!(is_unfinished(bytes), unfinished, "{bytes:?}");
                        }
                    }
                }
            }
        }
    }
}
