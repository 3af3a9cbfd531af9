//! Windows of tokens as (input, next token) pairs.

use super::error::DataError;
use super::tokens::Tokens;
use crate::rng::Rng;

/// Training batches. The batch of a step follows from the seed and the step's number alone, so a
/// resumed run sees what an unbroken one would have seen.
#[derive(Clone, Copy)]
pub struct Batches<'a> {
    tokens: Tokens<'a>,
    batch: usize,
    seq_len: usize,
    seed: u64,
}

impl<'a> Batches<'a> {
    /// Batches of `batch` windows of `seq_len` tokens. In every pass over `tokens` each window
    /// comes once, in an order of that pass; where the first one begins changes from pass to pass.
    ///
    /// # Errors
    /// [`DataError::TooFewTokens`] if there are not `seq_len + 1`.
    pub fn new(tokens: Tokens<'a>, batch: usize, seq_len: usize, seed: u64) -> Result<Self, DataError> {
        enough("training", tokens, seq_len)?;
        Ok(Self { tokens, batch, seq_len, seed })
    }

    /// Writes batch number `index`: `inputs` and `targets` are `[batch, seq_len]`, and a target
    /// is the token that follows its input.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn fill(&self, index: u64, inputs: &mut [u32], targets: &mut [u32]) {
        assert_eq!(inputs.len(), self.batch * self.seq_len, "inputs [batch, seq_len]");
        // The same seed also chooses weights and stories, which should have nothing in common.
        let seed = self.seed ^ 0x6261_7463_6865_7321;
        let places = self.tokens.len() - self.seq_len;
        // A pass that begins up to a window late still has this many.
        let n_windows = (places / self.seq_len).max(1) as u64;
        let starts = (0..self.batch as u64).map(|row| {
            let number = u128::from(index) * self.batch as u128 + u128::from(row);
            let (pass, window) =
                ((number / u128::from(n_windows)) as u64, (number % u128::from(n_windows)) as u64);
            let mut rng = Rng::at(seed, pass);
            let late = rng.below(places.min(self.seq_len));
            late + permuted(window, n_windows, rng.next_u64()) as usize * self.seq_len
        });
        fill_windows(self.tokens, self.seq_len, starts, inputs, targets);
    }
}

/// Where `index` of `n` things comes in the order that `key` names: four rounds of a Feistel network
/// on numbers of as few bits as do, again until the result is below `n` (Black and Rogaway, "Ciphers
/// with arbitrary finite domains", 2002). No memory, and any place of the order at once.
fn permuted(index: u64, n: u64, key: u64) -> u64 {
    let half = (64 - (n - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let mut x = index;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for round in 0..4 {
            let mixed = Rng::at(key, right << 2 | round).next_u64() & mask;
            (left, right) = (right, left ^ mixed);
        }
        x = left << half | right;
        if x < n {
            return x;
        }
    }
}

/// The same few batches each time, spread evenly over the held-out tokens.
#[derive(Clone, Copy)]
pub struct ValidationWindows<'a> {
    tokens: Tokens<'a>,
    batch: usize,
    seq_len: usize,
    n_batches: usize,
}

impl<'a> ValidationWindows<'a> {
    /// As many batches of `batch` windows of `seq_len` tokens as `tokens` has room for without
    /// overlap, at least one (which may then overlap itself) and at most about `max_tokens`.
    ///
    /// # Errors
    /// [`DataError::TooFewTokens`] if there are not `seq_len + 1`.
    pub fn new(
        tokens: Tokens<'a>,
        batch: usize,
        seq_len: usize,
        max_tokens: usize,
    ) -> Result<Self, DataError> {
        enough("validation", tokens, seq_len)?;
        let used = (tokens.len() - 1).min(max_tokens);
        let n_batches = (used / (batch * seq_len)).max(1);
        Ok(Self { tokens, batch, seq_len, n_batches })
    }

    /// How many batches there are.
    pub fn n_batches(&self) -> usize {
        self.n_batches
    }

    /// Writes batch `index` of [`n_batches`](Self::n_batches), shaped as in [`Batches::fill`].
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn fill(&self, index: usize, inputs: &mut [u32], targets: &mut [u32]) {
        assert_eq!(inputs.len(), self.batch * self.seq_len, "inputs [batch, seq_len]");
        let last = self.tokens.len() - self.seq_len - 1;
        let windows = self.n_batches * self.batch;
        let starts = (index * self.batch..(index + 1) * self.batch)
            .map(|window| (window as u128 * last as u128 / (windows - 1).max(1) as u128) as usize);
        fill_windows(self.tokens, self.seq_len, starts, inputs, targets);
    }
}

fn enough(part: &'static str, tokens: Tokens<'_>, context: usize) -> Result<(), DataError> {
    let found = tokens.len() as u64;
    if found <= context as u64 {
        return Err(DataError::TooFewTokens { part, found, context });
    }
    Ok(())
}

fn fill_windows(
    tokens: Tokens<'_>,
    seq_len: usize,
    starts: impl Iterator<Item = usize>,
    inputs: &mut [u32],
    targets: &mut [u32],
) {
    assert_eq!(inputs.len(), targets.len(), "inputs and targets are both [batch, seq_len]");
    let rows = inputs.chunks_exact_mut(seq_len).zip(targets.chunks_exact_mut(seq_len));
    for (start, (inputs, targets)) in starts.zip(rows) {
        tokens.copy_to(start, inputs);
        tokens.copy_to(start + 1, targets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(n: u16) -> Vec<u8> {
        (0..n).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn batches_depend_on_seed_and_index_only() {
        let bytes = numbered(1000);
        let tokens = Tokens::from_bytes(&bytes, false);
        let batch = |seed, index| {
            let (mut inputs, mut targets) = (vec![0; 60], vec![0; 60]);
            Batches::new(tokens, 4, 15, seed).unwrap().fill(index, &mut inputs, &mut targets);
            (inputs, targets)
        };
        assert_eq!(batch(1, 7), batch(1, 7));
        assert_ne!(batch(1, 7), batch(1, 8));
        assert_ne!(batch(1, 7), batch(2, 7));
        let (inputs, targets) = batch(3, 0);
        for (row, targets) in inputs.chunks(15).zip(targets.chunks(15)) {
            assert!(row.windows(2).all(|pair| pair[1] == pair[0] + 1), "a window of the text");
            assert!(row.iter().zip(targets).all(|(input, target)| *target == input + 1));
        }
    }

    #[test]
    fn a_pass_shows_every_window_once() {
        for n in [1, 2, 3, 17, 64, 1000] {
            let mut seen: Vec<u64> = (0..n).map(|index| permuted(index, n, 9)).collect();
            assert!(n < 10 || seen != (0..n).map(|index| permuted(index, n, 10)).collect::<Vec<_>>());
            assert!(n < 10 || seen != (0..n).collect::<Vec<_>>());
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
        let bytes = numbered(1000);
        let batches = Batches::new(Tokens::from_bytes(&bytes, false), 3, 10, 4).unwrap();
        let (mut inputs, mut targets) = (vec![0; 30], vec![0; 30]);
        // (1000 - 10) / 10 windows a pass, three a batch.
        for pass in 0..3 {
            let mut seen = vec![0; 1000];
            for index in pass * 33..(pass + 1) * 33 {
                batches.fill(index, &mut inputs, &mut targets);
                inputs.iter().for_each(|&token| seen[token as usize] += 1);
            }
            assert_eq!(seen.iter().sum::<i32>(), 990);
            assert!(seen.iter().all(|&n| n <= 1), "pass {pass}");
        }
    }

    #[test]
    fn every_place_is_drawn_and_none_outside() {
        let bytes = numbered(20);
        let tokens = Tokens::from_bytes(&bytes, false);
        let batches = Batches::new(tokens, 8, 16, 0).unwrap();
        let mut seen = [0; 4];
        let (mut inputs, mut targets) = (vec![0; 128], vec![0; 128]);
        for index in 0..100 {
            batches.fill(index, &mut inputs, &mut targets);
            inputs.chunks(16).for_each(|row| seen[row[0] as usize] += 1);
        }
        assert!(seen.iter().all(|&n| n > 150), "{seen:?}");
    }

    #[test]
    fn validation_covers_begin_and_end() {
        let bytes = numbered(1000);
        let tokens = Tokens::from_bytes(&bytes, false);
        let windows = ValidationWindows::new(tokens, 3, 10, 200).unwrap();
        assert_eq!(windows.n_batches(), 6);
        let (mut inputs, mut targets) = (vec![0; 30], vec![0; 30]);
        windows.fill(0, &mut inputs, &mut targets);
        assert_eq!(inputs[0], 0);
        windows.fill(5, &mut inputs, &mut targets);
        assert_eq!(targets[29], 999);
        // One window's worth of text still gives one batch.
        let one = ValidationWindows::new(tokens.first(11), 3, 10, 200).unwrap();
        one.fill(one.n_batches() - 1, &mut inputs, &mut targets);
        assert_eq!(targets[29], 10);
        assert!(ValidationWindows::new(tokens.first(10), 3, 10, 200).is_err());
    }
}
