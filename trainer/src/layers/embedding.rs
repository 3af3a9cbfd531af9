//! Token embedding, with learned positions added where the model has them.

use super::math::vectorized;
use super::rows_per_job;
use crate::parallel::{Pool, RowsMut, SharedMut};

/// Columns that one job of the backward pass owns.
const COLUMNS_PER_JOB: usize = 64;

/// `out[i] = table[tokens[i]] (+ positions[i % seq_len])`.
///
/// `out` is `[tokens, dim]`, `table` `[vocab, dim]`, `positions` `[context, dim]`.
///
/// # Panics
/// When a token is not in the table, or `positions` has fewer than `seq_len` rows.
pub fn forward(
    pool: &Pool,
    out: &mut [f32],
    tokens: &[u32],
    table: &[f32],
    positions: Option<&[f32]>,
    dim: usize,
    seq_len: usize,
) {
    let rows = RowsMut::new(out, dim);
    pool.for_rows(tokens.len(), rows_per_job(dim), rows, |range, out| {
        for (i, out) in range.zip(out.chunks_exact_mut(dim)) {
            out.copy_from_slice(row(table, tokens[i] as usize, dim));
            if let Some(positions) = positions {
                add(out, row(positions, i % seq_len, dim));
            }
        }
    });
}

/// Adds the gradients of the table and of the positions, given that of the output.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    pool: &Pool,
    d_table: &mut [f32],
    d_positions: Option<&mut [f32]>,
    tokens: &[u32],
    d_out: &[f32],
    dim: usize,
    seq_len: usize,
) {
    assert_eq!(d_out.len(), tokens.len() * dim, "gradient of the output");
    // Tokens repeat, so rows of the table cannot be shared out; its columns can, and each is
    // then summed in the order of the tokens.
    let table = SharedMut::new(d_table);
    pool.run(dim.div_ceil(COLUMNS_PER_JOB), |job| {
        let columns = job * COLUMNS_PER_JOB..((job + 1) * COLUMNS_PER_JOB).min(dim);
        for (&token, d_out) in tokens.iter().zip(d_out.chunks_exact(dim)) {
            let start = token as usize * dim;
            // SAFETY: these columns belong to this job alone, and the slice ends here.
            let to = unsafe { table.range(start + columns.start..start + columns.end) };
            add(to, &d_out[columns.clone()]);
        }
    });
    if let Some(positions) = d_positions {
        let used = &mut positions[..seq_len * dim];
        let rows = RowsMut::new(used, dim);
        pool.for_rows(seq_len, rows_per_job(dim), rows, |range, to| {
            for (position, to) in range.zip(to.chunks_exact_mut(dim)) {
                for sequence in d_out.chunks(seq_len * dim) {
                    if let Some(from) = sequence.get(position * dim..(position + 1) * dim) {
                        add(to, from);
                    }
                }
            }
        });
    }
}

fn row(table: &[f32], index: usize, dim: usize) -> &[f32] {
    let n = table.len() / dim;
    assert!(index < n, "row {index} of an embedding of {n} rows");
    &table[index * dim..][..dim]
}

vectorized! {
    fn add(to: &mut [f32], from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare, weighted};

    #[test]
    fn gradients_match_differences() {
        let (vocab, dim, seq_len, context) = (7, 67, 3, 5);
        let tokens = [1, 6, 1, 0, 3, 6];
        let mut numbers = Numbers::new(1);
        let table = numbers.vector(vocab * dim);
        let positions = numbers.vector(context * dim);
        let d_out = numbers.vector(tokens.len() * dim);
        let reference = |x: &[&[f64]]| {
            let mut out = Vec::new();
            for (i, &t) in tokens.iter().enumerate() {
                out.extend((0..dim).map(|j| x[0][t as usize * dim + j] + x[1][i % seq_len * dim + j]));
            }
            out
        };
        let pool = Pool::new(2);
        let mut out = vec![f32::NAN; tokens.len() * dim];
        forward(&pool, &mut out, &tokens, &table, Some(&positions), dim, seq_len);
        let (mut d_table, mut d_positions) = (vec![0.0; vocab * dim], vec![0.0; context * dim]);
        let d_pos = Some(&mut d_positions[..]);
        backward(&pool, &mut d_table, d_pos, &tokens, &d_out, dim, seq_len);
        compare(&[&table, &positions], reference, &out, &d_out, &[&d_table, &d_positions]);
        // A linear layer: without positions, only the weighted sum changes.
        forward(&pool, &mut out, &tokens, &table, None, dim, seq_len);
        let without = weighted(&d_out, &out);
        let by_table: f64 = table.iter().zip(&d_table).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!((without - by_table).abs() < 1e-4);
    }

    #[test]
    #[should_panic(expected = "row 7 of an embedding of 7 rows")]
    fn unknown_token() {
        let mut out = [0.0; 2];
        forward(&Pool::new(1), &mut out, &[7], &[0.0; 14], None, 2, 1);
    }
}
