//! Products with quantized matrices: what there is to do, cut into [`Job`]s.

use core::ops::Range;

use super::pairs::{GROUPS, Prepared, fill_groups};
#[cfg(not(target_abi = "eabihf"))]
use super::quads::add_scaled;
use super::quads::{Job, run_job};
use crate::format::{BLOCK, GROUP, QUAD};
use crate::kernels::Activations;
use crate::tensor::Planes;
use crate::workers::Disjoint;

/// Bytes of one group of a quad's quants.
const fn group_bytes(bits: usize) -> usize {
    QUAD * GROUP / 8 * bits
}

/// The product of some rows with every vector; see [`crate::kernels::matmul`]. Weights have 8 or 4 bits.
///
/// # Safety
/// Nobody else uses these places of `out`; what is prepared, if anything, is this input.
#[inline(never)]
pub(in crate::kernels) unsafe fn matmul_quantized(
    bits: usize,
    planes: &Planes<'_>,
    input: &Activations<'_>,
    prepared: &mut Prepared,
    rows: Range<usize>,
    out: &Disjoint<'_, f32>,
    stride: usize,
) {
    let (groups, blocks) = (planes.groups(), planes.blocks());
    let quad_bytes = groups * group_bytes(bits);
    let (first, quads) = (rows.start / QUAD, rows.end.div_ceil(QUAD));
    let lengths_hold = planes.quants.len() >= quads * quad_bytes
        && planes.multipliers.len() >= quads * groups * QUAD
        && planes.scales.len() >= quads * blocks * QUAD
        && input.quants.len() >= input.n * groups * GROUP
        && input.scales.len() >= input.n * blocks
        && input.quants.as_ptr().align_offset(4) == 0
        && planes.quants.as_ptr().align_offset(4) == 0
        && planes.scales.as_ptr().align_offset(4) == 0;
    if !lengths_hold || groups == 0 || input.n == 0 {
        return;
    }
    // What the first block of the first vector begins with in these rows.
    // SAFETY: all that is there (checked above).
    let mut job = unsafe {
        Job {
            multipliers: planes.multipliers.as_ptr().add(first * groups * QUAD),
            pairs_end: prepared.end(bits, groups, input.cols),
            scales: planes.scales.as_ptr().add(first * blocks * QUAD).cast(),
            out: core::ptr::null_mut(),
            end: core::ptr::null_mut(),
            pairs: prepared.pairs.as_ptr().cast(),
            sums: ZEROS.as_ptr(),
            weights: planes.quants.as_ptr().add(first * quad_bytes),
            x_scale: *input.scales.as_ptr(),
            #[cfg(not(target_abi = "eabihf"))]
            add_scaled,
        }
    };
    if input.n > 1 || blocks > 1 || !rows.len().is_multiple_of(QUAD) {
        let job = Blocks { first: job, bits, groups, rows, stride };
        // SAFETY: the lengths hold; the rest as promised.
        return unsafe { blocks_of(&job, input, prepared, out) };
    }
    if prepared.good_for != (bits, groups) {
        // SAFETY: so many groups are there (checked above).
        unsafe { fill_groups(bits, input.quants.as_ptr(), prepared, groups) };
        prepared.good_for = (bits, groups);
    }
    // SAFETY: this caller's own places.
    let places = unsafe { out.part(rows) }.as_mut_ptr_range();
    (job.out, job.end) = (places.start, places.end);
    if job.out != job.end {
        // SAFETY: what the job points to is there for all these rows (checked above), and lies one after the
        // other; pairs have been made.
        unsafe { run_job(bits, &mut job) };
    }
}

/// The products of several vectors, or of rows of several blocks, or that end amid four.
struct Blocks {
    /// Of the first block and vector, without places.
    first: Job,
    bits: usize,
    groups: usize,
    rows: Range<usize>,
    stride: usize,
}

/// See [`Blocks`].
///
/// # Safety
/// What [`matmul_quantized`] checks.
#[inline(never)]
unsafe fn blocks_of(all: &Blocks, input: &Activations<'_>, prepared: &mut Prepared, out: &Disjoint<'_, f32>) {
    let (bits, groups) = (all.bits, all.groups);
    let (blocks, quad_bytes) = (groups.div_ceil(GROUPS), groups * group_bytes(bits));
    let (mut x, mut x_scale) = (input.quants.as_ptr(), input.scales.as_ptr());
    let mut places = all.rows.clone();
    prepared.good_for = (0, 0);
    for _ in 0..input.n {
        // SAFETY: this caller's own places.
        let out = unsafe { out.part(places.clone()) };
        places = places.start + all.stride..places.end + all.stride;
        for block in 0..blocks {
            let n_groups = (groups - block * GROUPS).min(GROUPS);
            // SAFETY: so many groups, and a scale, are there for each block.
            let mut job = unsafe {
                fill_groups(bits, x, prepared, n_groups);
                Job {
                    multipliers: all.first.multipliers.wrapping_add(block * GROUPS * QUAD),
                    pairs_end: prepared.end(bits, n_groups, input.cols.saturating_sub(block * BLOCK)),
                    scales: all.first.scales.wrapping_add(block),
                    out: out.as_mut_ptr(),
                    weights: all.first.weights.wrapping_add(block * GROUPS * group_bytes(bits)),
                    x_scale: *x_scale,
                    ..all.first
                }
            };
            x = x.wrapping_add(n_groups * GROUP);
            x_scale = x_scale.wrapping_add(1);
            let mut left = out.len();
            // Where rows are one block, quads lie one after the other.
            let step = if blocks == 1 { (left / QUAD * QUAD).max(QUAD) } else { QUAD };
            while left > 0 {
                let (out, scales, mut last) = (job.out, job.scales, [0.0; QUAD]);
                // The last quad may have fewer rows than four.
                let rows = left.min(step);
                if rows < QUAD {
                    // SAFETY: so many places are left.
                    unsafe { last.as_mut_ptr().copy_from_nonoverlapping(out, rows) };
                    job.out = last.as_mut_ptr();
                }
                let taken = rows.max(QUAD);
                job.end = job.out.wrapping_add(taken);
                if block > 0 {
                    job.sums = job.out;
                }
                // SAFETY: what the job points to is there for `taken` rows (checked before), and lies one after
                // the other if these are more than one quad.
                unsafe { run_job(bits, &mut job) };
                if rows < QUAD {
                    // SAFETY: as above.
                    unsafe { out.copy_from_nonoverlapping(last.as_ptr(), rows) };
                }
                job.out = out.wrapping_add(rows);
                job.weights = job.weights.wrapping_add(taken / QUAD * quad_bytes);
                job.multipliers = job.multipliers.wrapping_add(taken / QUAD * groups * QUAD);
                job.scales = scales.wrapping_add(taken / QUAD * blocks);
                left -= rows;
            }
        }
    }
}

/// What rows start from.
static ZEROS: [f32; QUAD] = [0.0; QUAD];
