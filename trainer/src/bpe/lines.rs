//! Counting the pre-tokens of large files: a block at a time, its lines shared out to threads.

use std::io::{self, Read};

use super::BpeTrainer;

/// Bytes that are read at a time, and counted together.
const BLOCK: usize = 8 << 20;

impl BpeTrainer {
    /// Counts the pre-tokens of a text, each line a document with its line end, as Hugging Face's
    /// trainer reads files. The result does not depend on `threads`. Memory is a block of text (8 MiB,
    /// or the longest line) and the distinct words. Returns how many bytes were read.
    ///
    /// # Errors
    /// Those of `reader`, and [`io::ErrorKind::InvalidData`] for a line that is not UTF-8.
    pub fn feed_lines(&mut self, mut reader: impl Read, threads: usize) -> io::Result<u64> {
        let threads = threads.max(1);
        let mut block = Vec::new();
        let mut total = 0;
        loop {
            let read = reader.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
            let last = read < BLOCK;
            let end = match block.iter().rposition(|&byte| byte == b'\n') {
                _ if last => block.len(),
                Some(newline) => newline + 1,
                None => continue,
            };
            let text = std::str::from_utf8(&block[..end]).map_err(|error| {
                let at = total + error.valid_up_to() as u64;
                io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 at byte {at}"))
            })?;
            self.feed_block(text, threads);
            total += end as u64;
            block.drain(..end);
            if last {
                return Ok(total);
            }
        }
    }

    fn feed_block(&mut self, text: &str, threads: usize) {
        let mut parts = Vec::with_capacity(threads);
        let mut rest = text;
        for left in (2..=threads).rev() {
            let aim = rest.floor_char_boundary(rest.len() / left);
            let cut = rest[aim..].find('\n').map_or(rest.len(), |newline| aim + newline + 1);
            let (part, after) = rest.split_at(cut);
            parts.push(part);
            rest = after;
        }
        let others: Vec<BpeTrainer> = std::thread::scope(|scope| {
            let feed = |trainer: &mut BpeTrainer, part: &str| {
                part.split_inclusive('\n').for_each(|line| trainer.feed(line))
            };
            let empty = BpeTrainer { words: super::WordCounts::default(), ..*self };
            let workers: Vec<_> = parts
                .into_iter()
                .map(|part| {
                    let mut trainer = empty.clone();
                    scope.spawn(move || {
                        feed(&mut trainer, part);
                        trainer
                    })
                })
                .collect();
            // The last part is this thread's own; its words are added behind the others'.
            let mut own = empty;
            feed(&mut own, rest);
            let joined = workers.into_iter().map(|worker| match worker.join() {
                Ok(trainer) => trainer,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect::<Vec<_>>().into_iter().chain([own]).collect()
        });
        others.iter().for_each(|other| self.absorb(other));
    }
}
