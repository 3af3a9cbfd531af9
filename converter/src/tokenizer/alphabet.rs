//! GPT-2's printable alphabet: how byte-level vocabularies spell bytes in JSON.

/// The character that stands for `byte` in a byte-level vocabulary file: itself where it is a
/// printable Latin-1 character, else one of U+0100 to U+0143, in order.
pub fn byte_to_char(byte: u8) -> char {
    // Below each of the two gaps' bytes lie the gaps' own earlier bytes.
    let stand_in = match byte {
        0x00..=0x20 => Some(u32::from(byte)),
        0x7f..=0xa0 => Some(u32::from(byte) - 0x7f + 0x21),
        0xad => Some(0x43),
        _ => None,
    };
    match stand_in {
        Some(offset) => char::from_u32(0x100 + offset).unwrap_or(char::REPLACEMENT_CHARACTER),
        None => char::from(byte),
    }
}

/// The byte that `c` stands for, if it is in the alphabet.
pub fn char_to_byte(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        code => code,
    };
    u8::try_from(byte).ok().filter(|&byte| byte_to_char(byte) == c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_printable_character() {
        let alphabet: Vec<char> = (0..=255).map(byte_to_char).collect();
        for (byte, &c) in (0..=255).zip(&alphabet) {
            assert_eq!(char_to_byte(c), Some(byte));
            assert!(!c.is_whitespace() && !c.is_control() && c != '\u{ad}', "{byte} is {c:?}");
        }
        assert_eq!(['Ġ', 'Ċ', 'ċ', 'Ń', 'ł'].map(char_to_byte), [b' ', b'\n', 0x0b, 0xad, 0xa0].map(Some));
        assert_eq!([' ', '\n', '\u{ad}', '\u{144}', '▁'].map(char_to_byte), [None; 5]);
    }
}
