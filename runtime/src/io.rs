//! Generated text, written to a UART, a socket or a file on an SD card: whatever has embedded-io's traits.

use crate::session::Generate;

#[cfg(feature = "embedded-io")]
impl Generate<'_, '_> {
    /// Generates up to `tokens` tokens, writes each one's text as it comes and ends the text (an
    /// unfinished character is U+FFFD). Returns how many tokens it was;
    /// [`finish`](Generate::finish) tells why they are fewer.
    ///
    /// # Errors
    /// The writer's. The token whose text could not be written is in the sequence.
    pub fn write_to<W>(&mut self, out: &mut W, tokens: usize) -> Result<usize, W::Error>
    where
        W: embedded_io::Write + ?Sized,
    {
        let mut written = 0;
        while written < tokens {
            let Some(generated) = self.next() else { break };
            generated.piece.try_for_each_str(|part| out.write_all(part.as_bytes()))?;
            written += 1;
        }
        self.flush().try_for_each_str(|part| out.write_all(part.as_bytes()))?;
        out.flush()?;
        Ok(written)
    }
}

#[cfg(feature = "embedded-io-async")]
impl Generate<'_, '_> {
    /// Generates and writes as `write_to` does. Other tasks run while the writer waits; a token itself is
    /// computed without a pause.
    ///
    /// # Errors
    /// The writer's. The token whose text could not be written is in the sequence.
    pub async fn write_to_async<W>(&mut self, out: &mut W, tokens: usize) -> Result<usize, W::Error>
    where
        W: embedded_io_async::Write + ?Sized,
    {
        let mut written = 0;
        while written < tokens {
            let Some(generated) = self.next() else { break };
            for part in generated.piece.parts() {
                out.write_all(part.as_bytes()).await?;
            }
            written += 1;
        }
        for part in self.flush().parts() {
            out.write_all(part.as_bytes()).await?;
        }
        out.flush().await?;
        Ok(written)
    }
}
