//! Text to a terminal.

use core::fmt;

use embedded_io::Write;

/// Writes text with the line ends that terminals want, and remembers the error that [`fmt::Error`]
/// has no room for.
#[derive(Debug)]
pub struct Terminal<'a, W: Write> {
    out: &'a mut W,
    error: Option<W::Error>,
}

impl<'a, W: Write> Terminal<'a, W> {
    /// A terminal behind this.
    pub const fn new(out: &'a mut W) -> Self {
        Self { out, error: None }
    }

    /// Writes, and sees to it that it arrives.
    ///
    /// # Errors
    /// The writer's.
    pub fn print(&mut self, text: impl fmt::Display) -> Result<(), W::Error> {
        // A `Display` that fails by itself has nothing to say about the writer.
        let _ = fmt::write(self, format_args!("{text}"));
        match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The writer's.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), W::Error> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}

impl<W: Write> fmt::Write for Terminal<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            let (text, end) = match line.strip_suffix('\n') {
                Some(text) => (text, &b"\r\n"[..]),
                None => (line, &[][..]),
            };
            for bytes in [text.as_bytes(), end] {
                self.out.write_all(bytes).map_err(|error| {
                    self.error = Some(error);
                    fmt::Error
                })?;
            }
        }
        Ok(())
    }
}
