//! Pieces of text by the batch, each batch shared out among threads.

use std::sync::{Mutex, PoisonError};

use super::error::DataError;
use super::source::Piece;
use crate::parallel::Pool;

/// Text that is in memory at once.
const BATCH_BYTES: usize = 8 << 20;

/// The next pieces, together about [`BATCH_BYTES`]; none at the end.
pub(crate) fn next_batch(
    pieces: &mut impl Iterator<Item = Result<Piece, DataError>>,
) -> Result<Vec<Piece>, DataError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some(piece) = pieces.next() else { break };
        let piece = piece?;
        bytes += piece.text.len();
        batch.push(piece);
    }
    Ok(batch)
}

/// Cuts a batch into as many parts of about equal length as there are `workers` (each of which
/// keeps what it has learned from one batch to the next), lets `work` do them in parallel, and
/// gives the results in the pieces' order.
pub(crate) fn for_parts<W: Send, R: Send>(
    pool: &Pool,
    batch: &[Piece],
    workers: &mut [W],
    work: impl Fn(&mut W, &[Piece]) -> R + Sync,
) -> Vec<R> {
    let bytes: usize = batch.iter().map(|piece| piece.text.len()).sum();
    let share = bytes.div_ceil(workers.len().max(1)).max(1);
    // Piece k goes to the worker in whose share of the bytes it begins.
    let mut begins = vec![0; workers.len() + 1];
    let mut before = 0;
    for piece in batch {
        begins[before / share + 1] += 1;
        before += piece.text.len();
    }
    for part in 1..begins.len() {
        begins[part] += begins[part - 1];
    }
    let jobs: Vec<_> = workers.iter_mut().map(|worker| Mutex::new((worker, None))).collect();
    pool.run(jobs.len(), |part| {
        // Every job is run once, so nobody waits for this lock.
        let mut job = jobs[part].lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(job.0, &batch[begins[part]..begins[part + 1]]);
        job.1 = Some(result);
    });
    jobs.into_iter().filter_map(|job| job.into_inner().unwrap_or_else(PoisonError::into_inner).1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_worked_on_once_and_in_order() {
        let pool = Pool::new(2);
        for n in [0, 1, 2, 7, 100] {
            let batch: Vec<Piece> = (0..n)
                .map(|i| Piece { text: "x".repeat(1 + i * i % 50), document: i as u64, ends_document: true })
                .collect();
            for n_workers in 1..5 {
                let mut counts = vec![0; n_workers];
                let parts = for_parts(&pool, &batch, &mut counts, |count, part| {
                    *count += part.len();
                    part.iter().map(|piece| piece.document as usize).collect::<Vec<_>>()
                });
                assert_eq!(parts.concat(), (0..n).collect::<Vec<_>>());
                assert_eq!(counts.iter().sum::<usize>(), n);
                let most = counts.iter().max().copied().unwrap_or(0);
                assert!(n < 100 || most < 2 * n / n_workers, "{counts:?}");
            }
        }
    }
}
