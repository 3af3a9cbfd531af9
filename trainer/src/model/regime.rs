//! What a pass does besides computing the model: rounding as the runtime rounds, dropout, and a
//! penalty on large logits.

use smidgen_runtime::format::BLOCK;
use smidgen_runtime::quant::{activation_scale, max_magnitude_bits, round_to_i32};

use crate::layers::math::vectorized;
use crate::layers::rows_per_job;
use crate::parallel::{Pool, RowsMut};
use crate::rng::Rng;

/// Elements that share a sequence of random numbers. Part of the definition of the result.
const MASK_CHUNK: usize = 1 << 12;

/// How a [`super::Workspace`] runs its passes; by default plainly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Regime {
    /// The input of every product is rounded to the runtime's 8-bit activations, a scale for each
    /// 256 columns. Gradients pass straight through.
    pub round_activations: bool,
    /// The part of the embeddings' and of every branch's outputs that is set to 0; what is left
    /// is scaled up. For training only: set 0 for measuring.
    pub dropout: f32,
    /// Decides which; must differ from batch to batch.
    pub dropout_seed: u64,
    /// The gradient is that of loss + `z_loss` · (ln Σ eˣ)²; the loss that is returned is not.
    pub z_loss: f32,
}

/// Where dropout happens; each place has masks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Embedding,
    Attention(usize),
    FeedForward(usize),
}

impl Regime {
    /// Replaces every row of `width` values by what the runtime's product would see, if this
    /// regime says so.
    pub(super) fn round(&self, pool: &Pool, values: &mut [f32], width: usize) {
        if self.round_activations {
            round_rows(pool, values, width);
        }
    }

    pub(super) fn drops(&self) -> bool {
        self.dropout > 0.0
    }

    /// Sets elements to 0 at random and scales up the others; the same ones for the same seed and
    /// site, so that the way back is this again.
    pub(super) fn drop_out(&self, pool: &Pool, site: Site, values: &mut [f32]) {
        if !self.drops() {
            return;
        }
        let site = match site {
            Site::Embedding => 0,
            Site::Attention(layer) => 1 + 2 * layer as u64,
            Site::FeedForward(layer) => 2 + 2 * layer as u64,
        };
        let seed = Rng::at(self.dropout_seed, site).next_u64();
        let (limit, scale) = ((self.dropout * 16_777_216.0) as u32, 1.0 / (1.0 - self.dropout));
        let n_chunks = values.len().div_ceil(MASK_CHUNK);
        let len = values.len();
        let chunks = crate::parallel::SharedMut::new(values);
        pool.run(n_chunks, |chunk| {
            // SAFETY: chunks do not overlap, and the slice ends with the job.
            let values = unsafe { chunks.range(chunk * MASK_CHUNK..((chunk + 1) * MASK_CHUNK).min(len)) };
            mask(values, Rng::at(seed, chunk as u64).next_u64() as u32, limit, scale);
        });
    }

    /// `target = from + branch` after dropout, all of one length.
    pub(super) fn add_branch(
        &self,
        pool: &Pool,
        site: Site,
        target: &mut [f32],
        branch: &mut [f32],
        from: &[f32],
    ) {
        self.drop_out(pool, site, branch);
        let rows = RowsMut::new(target, 1);
        pool.for_rows(from.len(), 1 << 13, rows, |range, target| {
            let both = branch[range.clone()].iter().zip(&from[range]);
            target.iter_mut().zip(both).for_each(|(target, (branch, from))| *target = branch + from);
        });
    }
}

/// Rounds `[rows, width]` values as the runtime does before a product: 8 bits, a scale for each
/// 256 columns.
pub fn round_rows(pool: &Pool, values: &mut [f32], width: usize) {
    let n_rows = values.len() / width;
    pool.for_rows(n_rows, rows_per_job(width), RowsMut::new(values, width), |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            row.chunks_mut(BLOCK).for_each(round_block);
        }
    });
}

vectorized! {
    fn round_block(values: &mut [f32]) {
        let (scale, inverse) = activation_scale(max_magnitude_bits(values));
        for value in values.iter_mut() {
            // The runtime's own expression, with the integer taken back to a float at once.
            let quant = if inverse == 0.0 { 0 } else { round_to_i32(*value * inverse) };
            *value = quant as f32 * scale;
        }
    }
}

vectorized! {
    /// A number for each element by a hash of its place (the finalizer of MurmurHash3), which
    /// needs no state and so no order.
    fn mask(values: &mut [f32], key: u32, limit: u32, scale: f32) {
        for (i, value) in values.iter_mut().enumerate() {
            let mut hash = (i as u32).wrapping_mul(0x9E37_79B9) ^ key;
            hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
            hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
            hash ^= hash >> 16;
            *value = if hash >> 8 < limit { 0.0 } else { *value * scale };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_the_runtimes() {
        let mut rng = Rng::new(3);
        for width in [1, 31, 64, 256, 300, 700] {
            let mut values: Vec<f32> = (0..3 * width).map(|_| rng.below(2001) as f32 / 300.0 - 3.3).collect();
            values[0] = 0.0;
            let mut want = Vec::new();
            for row in values.chunks(width) {
                for block in row.chunks(BLOCK) {
                    let mut quants = [0; BLOCK];
                    let scale = smidgen_runtime::quant::quantize_activations(block, &mut quants);
                    want.extend(quants[..block.len()].iter().map(|&quant| f32::from(quant) * scale));
                }
            }
            round_rows(&Pool::new(2), &mut values, width);
            assert!(values == want, "width {width}");
        }
    }

    #[test]
    fn dropout_keeps_the_mean_and_repeats_itself() {
        let regime = Regime { dropout: 0.25, dropout_seed: 5, ..Regime::default() };
        let ones = vec![1.0f32; 100_000];
        let drop = |regime: Regime, site, threads| {
            let mut values = ones.clone();
            regime.drop_out(&Pool::new(threads), site, &mut values);
            values
        };
        let first = drop(regime, Site::Attention(1), 1);
        assert!(first == drop(regime, Site::Attention(1), 3), "threads");
        assert!(first != drop(regime, Site::FeedForward(1), 1), "sites differ");
        assert!(first != drop(Regime { dropout_seed: 6, ..regime }, Site::Attention(1), 1), "seeds differ");
        let zeros = first.iter().filter(|&&x| x == 0.0).count();
        assert!((24_300..25_700).contains(&zeros), "{zeros}");
        assert!(first.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
        // Neighbours are dropped independently.
        let pairs = first.windows(2).filter(|pair| pair == &[0.0, 0.0]).count();
        assert!((5_900..6_600).contains(&pairs), "{pairs}");
    }
}
