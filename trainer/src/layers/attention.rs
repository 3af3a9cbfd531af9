//! Causal attention with grouped heads: n_heads / n_kv_heads query heads share a key head.
//!
//! Scores exist for a block of queries of one head at a time, and are computed again in the
//! backward pass from the logarithm of each row's sum (Dao et al., "FlashAttention", 2022);
//! since a block sees all its keys at once, the softmax needs no running maximum.

use std::cell::RefCell;
use std::ops::Range;

use super::math::{exp, max, sum_map, sum_map2, vectorized};
use super::sized;
use crate::gemm::{Add, Level, MatMut, MatRef, PackedB};
use crate::parallel::{Pool, SharedMut};

/// Queries whose scores exist at a time.
const BLOCK: usize = 32;

/// The sizes of an attention layer. A batch is `rows / seq_len` sequences.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Tokens in a sequence.
    pub seq_len: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The instructions of its products, and so their precision.
    pub level: Level,
}

/// Rows that begin `stride` elements apart.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// From the first row's first element on.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub stride: usize,
}

impl<'a> Strided<'a> {
    /// Rows `rows`, and of each the columns of a head.
    fn head(&self, rows: Range<usize>, head: usize, head_dim: usize) -> MatRef<'a> {
        let start = rows.start * self.stride + head * head_dim;
        MatRef::strided(&self.data[start..], rows.len(), head_dim, self.stride)
    }
}

/// Queries `[rows, n_heads · head_dim]`, keys and values `[rows, n_kv_heads · head_dim]`.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Queries.
    pub q: Strided<'a>,
    /// Keys.
    pub k: Strided<'a>,
    /// Values.
    pub v: Strided<'a>,
}

/// What a thread needs for one head, kept between jobs.
struct Scratch {
    level: Level,
    keys: PackedB,
    keys_t: PackedB,
    values: PackedB,
    small: PackedB,
    scores: Vec<f32>,
    d_scores: Vec<f32>,
    d_kv: Vec<f32>,
    rows: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

impl Scratch {
    /// Lends the thread's scratch to `work`.
    fn with(level: Level, work: impl FnOnce(&mut Self)) {
        let kept = SCRATCH.take().filter(|scratch| scratch.level == level);
        let mut scratch = kept.unwrap_or_else(|| {
            let packed = || PackedB::new(level);
            Self {
                level,
                keys: packed(),
                keys_t: packed(),
                values: packed(),
                small: packed(),
                scores: Vec::new(),
                d_scores: Vec::new(),
                d_kv: Vec::new(),
                rows: Vec::new(),
            }
        });
        work(&mut scratch);
        SCRATCH.set(Some(scratch));
    }
}

impl Attention {
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// The blocks of queries of a sequence: first query and number of queries.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let seq_len = self.seq_len;
        (0..seq_len).step_by(BLOCK).map(move |first| (first, BLOCK.min(seq_len - first)))
    }

    /// `out = softmax(q · kᵀ / √head_dim, over the keys up to the query's own) · v`.
    ///
    /// `out` is `[rows, n_heads · head_dim]`; `log_sums`, `[rows, n_heads]`, receives the
    /// logarithm of each query's sum of exponentials.
    pub fn forward(&self, pool: &Pool, out: &mut [f32], log_sums: &mut [f32], x: Inputs<'_>) {
        let (d, seq_len) = (self.head_dim, self.seq_len);
        let batch = out.len() / self.q_dim() / seq_len;
        let (out, log_sums) = (SharedMut::new(out), SharedMut::new(log_sums));
        pool.run(batch * self.n_kv_heads, |job| {
            let (sequence, kv_head) = (job / self.n_kv_heads, job % self.n_kv_heads);
            let start = sequence * seq_len;
            let all = start..start + seq_len;
            Scratch::with(self.level, |s| {
                s.keys_t.pack(x.k.head(all.clone(), kv_head, d).t());
                s.values.pack(x.v.head(all, kv_head, d));
                for head in kv_head * self.group()..(kv_head + 1) * self.group() {
                    for (first, n) in self.blocks() {
                        let seen = first + n;
                        let q = x.q.head(start + first..start + seen, head, d);
                        let scores = sized(&mut s.scores, n * seen);
                        s.keys_t.multiply(MatMut::new(scores, n, seen), q, Add::Nothing);
                        let mut sums = [[0.0; 2]; BLOCK];
                        softmax_block(scores, &mut sums, seen, self.scale());
                        let p = MatRef::new(scores, n, seen);
                        let rows = sized(&mut s.rows, n * d);
                        s.values.multiply(MatMut::new(rows, n, d), p, Add::Nothing);
                        for (i, from) in rows.chunks_exact(d).enumerate() {
                            let row = start + first + i;
                            let at = row * self.q_dim() + head * d;
                            // SAFETY: this row and head belong to this job alone.
                            let to = unsafe { out.range(at..at + d) };
                            scale_row(to, from, 1.0 / sums[i][0]);
                            let at = row * self.n_heads + head;
                            // SAFETY: as above.
                            unsafe { log_sums.range(at..at + 1)[0] = sums[i][1] };
                        }
                    }
                }
            });
        });
    }

    /// The gradients of the inputs, given that of the output; replaces what was in `d_qkv`.
    ///
    /// `d_qkv` is `[rows, (n_heads + 2 · n_kv_heads) · head_dim]`: queries, keys, values.
    /// `out` and `log_sums` are what [`Attention::forward`] left.
    pub fn backward(
        &self,
        pool: &Pool,
        d_qkv: &mut [f32],
        d_out: &[f32],
        out: &[f32],
        log_sums: &[f32],
        x: Inputs<'_>,
    ) {
        let batch = out.len() / self.q_dim() / self.seq_len;
        let d_qkv = SharedMut::new(d_qkv);
        let out = Strided { data: out, stride: self.q_dim() };
        let d_out = Strided { data: d_out, stride: self.q_dim() };
        pool.run(batch * self.n_kv_heads, |job| {
            let (sequence, kv_head) = (job / self.n_kv_heads, job % self.n_kv_heads);
            Scratch::with(self.level, |s| {
                self.backward_group(s, sequence, kv_head, &d_qkv, d_out, out, log_sums, x);
            });
        });
    }

    /// The gradients of one key head of one sequence, and of the query heads that share it.
    #[allow(clippy::too_many_arguments)]
    fn backward_group(
        &self,
        s: &mut Scratch,
        sequence: usize,
        kv_head: usize,
        d_qkv: &SharedMut<'_, f32>,
        d_out: Strided<'_>,
        out: Strided<'_>,
        log_sums: &[f32],
        x: Inputs<'_>,
    ) {
        let (d, seq_len) = (self.head_dim, self.seq_len);
        let (q_dim, kv_dim) = (self.q_dim(), self.kv_dim());
        let start = sequence * seq_len;
        let all = start..start + seq_len;
        let write = |row: usize, column: usize, from: &[f32]| {
            let at = row * (q_dim + 2 * kv_dim) + column;
            // SAFETY: these columns of these rows belong to this job alone, and the slice ends
            // here.
            unsafe { d_qkv.range(at..at + d) }.copy_from_slice(from);
        };
        let (k, v) = (x.k.head(all.clone(), kv_head, d), x.v.head(all, kv_head, d));
        s.keys.pack(k);
        s.keys_t.pack(k.t());
        s.values.pack(v.t());
        let (d_k, d_v) = sized(&mut s.d_kv, 2 * seq_len * d).split_at_mut(seq_len * d);
        d_k.fill(0.0);
        d_v.fill(0.0);
        for head in kv_head * self.group()..(kv_head + 1) * self.group() {
            for (first, n) in self.blocks() {
                let seen = first + n;
                let block = start + first..start + seen;
                let q = x.q.head(block.clone(), head, d);
                let d_o = d_out.head(block.clone(), head, d);
                let p = sized(&mut s.scores, n * seen);
                s.keys_t.multiply(MatMut::new(p, n, seen), q, Add::Nothing);
                let d_p = sized(&mut s.d_scores, n * seen);
                s.values.multiply(MatMut::new(d_p, n, seen), d_o, Add::Nothing);
                // Each row's Σ p·dp, which is also Σ out·d_out, and its logarithm of the sum.
                let mut rows = [[0.0; 2]; BLOCK];
                for (to, row) in rows.iter_mut().zip(block.clone()) {
                    let at = row * q_dim + head * d;
                    let log_sum = log_sums[row * self.n_heads + head];
                    *to = [dot(&out.data[at..at + d], &d_out.data[at..at + d]), log_sum];
                }
                backward_block(p, d_p, &rows, seen, self.scale());
                let (p, d_s) = (MatRef::new(p, n, seen), MatRef::new(d_p, n, seen));
                let d_q = sized(&mut s.rows, n * d);
                s.keys.multiply(MatMut::new(d_q, n, d), d_s, Add::Nothing);
                for (row, from) in block.zip(d_q.chunks_exact(d)) {
                    write(row, head * d, from);
                }
                s.small.pack(q);
                s.small.multiply(MatMut::new(d_k, seen, d), d_s.t(), Add::Result);
                s.small.pack(d_o);
                s.small.multiply(MatMut::new(d_v, seen, d), p.t(), Add::Result);
            }
        }
        for (i, (d_k, d_v)) in d_k.chunks_exact(d).zip(d_v.chunks_exact(d)).enumerate() {
            write(start + i, q_dim + kv_head * d, d_k);
            write(start + i, q_dim + kv_dim + kv_head * d, d_v);
        }
    }
}

vectorized! {
    fn scale_row(to: &mut [f32], from: &[f32], factor: f32) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = from * factor;
        }
    }
}

vectorized! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum_map2(a, b, |a, b| a * b)
    }
}

vectorized! {
    /// Makes of scores `[n, seen]` exponentials, with zeros for keys after the query (the last
    /// query sees all), and gives each row's sum and the logarithm of what the sum stands for.
    fn softmax_block(scores: &mut [f32], sums: &mut [[f32; 2]], seen: usize, scale: f32) {
        let n = scores.len() / seen;
        for (i, (row, sums)) in scores.chunks_exact_mut(seen).zip(sums).enumerate() {
            let (row, later) = row.split_at_mut(seen + 1 + i - n);
            let largest = max(row) * scale;
            for x in row.iter_mut() {
                *x = exp(*x * scale - largest);
            }
            later.fill(0.0);
            let sum = sum_map(row, |x| x);
            *sums = [sum, largest + sum.ln()];
        }
    }
}

vectorized! {
    /// Makes of scores probabilities, and of the probabilities' gradients those of the scores.
    /// `rows` has each row's Σ p·dp and its logarithm of the sum.
    fn backward_block(p: &mut [f32], d_p: &mut [f32], rows: &[[f32; 2]], seen: usize, scale: f32) {
        let n = p.len() / seen;
        let each = p.chunks_exact_mut(seen).zip(d_p.chunks_exact_mut(seen)).zip(rows);
        for (i, ((p, d_p), &[mean, log_sum])) in each.enumerate() {
            let (p, p_later) = p.split_at_mut(seen + 1 + i - n);
            let (d_p, d_later) = d_p.split_at_mut(p.len());
            for (p, d_p) in p.iter_mut().zip(d_p) {
                *p = exp(*p * scale - log_sum);
                *d_p = *p * (*d_p - mean) * scale;
            }
            p_later.fill(0.0);
            d_later.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check::{Numbers, compare};

    fn reference(a: &Attention, qkv: &[f64]) -> Vec<f64> {
        let (d, stride) = (a.head_dim, a.q_dim() + 2 * a.kv_dim());
        let rows = qkv.len() / stride;
        let mut out = vec![0.0; rows * a.q_dim()];
        for row in 0..rows {
            for head in 0..a.n_heads {
                let kv = head / a.group();
                let q = &qkv[row * stride + head * d..][..d];
                let keys = row - row % a.seq_len..=row;
                let weights: Vec<f64> = keys
                    .clone()
                    .map(|t| {
                        let k = &qkv[t * stride + a.q_dim() + kv * d..][..d];
                        (q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                for (t, w) in keys.zip(weights) {
                    for j in 0..d {
                        out[row * a.q_dim() + head * d + j] +=
                            w / sum * qkv[t * stride + a.q_dim() + a.kv_dim() + kv * d + j];
                    }
                }
            }
        }
        out
    }

    #[test]
    fn gradients_match_differences() {
        let sizes = [(1, 1, 1, 1, 3), (2, 5, 2, 2, 4), (2, 7, 6, 2, 3), (1, 35, 2, 1, 2), (1, 66, 1, 1, 2)];
        for (batch, seq_len, n_heads, n_kv_heads, head_dim) in sizes {
            let a = Attention { seq_len, n_heads, n_kv_heads, head_dim, level: Level::detect() };
            let (rows, stride) = (batch * seq_len, a.q_dim() + 2 * a.kv_dim());
            let mut numbers = Numbers::new(10);
            let qkv: Vec<f32> = numbers.vector(rows * stride).iter().map(|x| x * 2.0).collect();
            let d_out = numbers.vector(rows * a.q_dim());
            let part = |from: usize| Strided { data: &qkv[from..], stride };
            let x = Inputs { q: part(0), k: part(a.q_dim()), v: part(a.q_dim() + a.kv_dim()) };
            let pool = Pool::new(2);
            let mut out = vec![f32::NAN; d_out.len()];
            let mut log_sums = vec![f32::NAN; rows * n_heads];
            a.forward(&pool, &mut out, &mut log_sums, x);
            let mut d_qkv = vec![f32::NAN; qkv.len()];
            a.backward(&pool, &mut d_qkv, &d_out, &out, &log_sums, x);
            compare(&[&qkv], |v| reference(&a, v[0]), &out, &d_out, &[&d_qkv]);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let a = Attention { seq_len: 2, n_heads: 1, n_kv_heads: 1, head_dim: 1, level: Level::detect() };
        let qkv = [300.0, 300.0, 1.0, 300.0, -300.0, 5.0];
        let part = |from: usize| Strided { data: &qkv[from..], stride: 3 };
        let x = Inputs { q: part(0), k: part(1), v: part(2) };
        let (mut out, mut log_sums) = ([f32::NAN; 2], [f32::NAN; 2]);
        a.forward(&Pool::new(1), &mut out, &mut log_sums, x);
        assert_eq!(out, [1.0, 1.0]);
        assert_eq!(log_sums, [90_000.0, 90_000.0]);
    }
}
