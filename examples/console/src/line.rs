//! A line that is being typed.

use heapless::Vec;

/// Bytes of text that a line holds.
pub const LONGEST_LINE: usize = 256;

const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
const CONTROL_C: u8 = 0x03;
const CONTROL_D: u8 = 0x04;
const ESCAPE: u8 = 0x1b;

/// What a byte did to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing: a key without meaning here.
    Ignored,
    /// It was taken in; a terminal should show it.
    Typed,
    /// The last character is gone.
    Erased,
    /// It does not fit.
    Full,
    /// All of it is gone.
    Cleared,
    /// It is complete.
    Done,
    /// Whoever typed wants to leave.
    Left,
}

/// What a terminal sends for an arrow or function key: ESC and a letter, or ESC, `[` or `O`,
/// parameters, and a letter or `~`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Plain,
    Escaped,
    Sequence,
}

/// Takes bytes as they come from a terminal.
#[derive(Clone, Debug)]
pub struct Line {
    text: Vec<u8, LONGEST_LINE>,
    key: Key,
    /// A line feed right after a carriage return is part of the same Enter.
    returned: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// An empty one.
    pub const fn new() -> Self {
        Self { text: Vec::new(), key: Key::Plain, returned: false }
    }

    /// The text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        core::str::from_utf8(&self.text).ok()
    }

    /// Makes it empty. An Enter that was begun is still one.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// Takes in a byte.
    pub fn push(&mut self, byte: u8) -> Edit {
        let returned = core::mem::replace(&mut self.returned, byte == b'\r');
        match (self.key, byte) {
            (Key::Escaped, b'[' | b'O') => self.key = Key::Sequence,
            (Key::Sequence, b'0'..=b'9' | b';') => {}
            (Key::Plain, ESCAPE) => self.key = Key::Escaped,
            (Key::Plain, _) => return self.edit(byte, returned),
            _ => self.key = Key::Plain,
        }
        Edit::Ignored
    }

    fn edit(&mut self, byte: u8, returned: bool) -> Edit {
        match byte {
            b'\n' if returned => Edit::Ignored,
            b'\r' | b'\n' => Edit::Done,
            BACKSPACE | DELETE => self.erase(),
            CONTROL_C => {
                self.clear();
                Edit::Cleared
            }
            CONTROL_D if self.text.is_empty() => Edit::Left,
            b'\t' | b' '.. => match self.text.push(byte) {
                Ok(()) => Edit::Typed,
                Err(_) => Edit::Full,
            },
            _ => Edit::Ignored,
        }
    }

    /// Takes a character back, which may be several bytes.
    fn erase(&mut self) -> Edit {
        while let Some(byte) = self.text.pop() {
            let continues = byte & 0xc0 == 0x80;
            if !continues {
                return Edit::Erased;
            }
        }
        Edit::Ignored
    }
}
