//! Attention of some tokens: their keys and values go into the cache, then their queries attend.

use super::Pass;
use super::part::part;
use crate::config::{Architecture, Config};
use crate::format::{KvType, QUAD};
use crate::kernels;
use crate::kernels::attention::{HeadCacheQ8, Queries, Scratch};
use crate::workers::{Disjoint, share};

/// The cache of all layers, written by several jobs at places of their own.
pub(super) struct Cache<'m> {
    pub(super) keys_q8: Disjoint<'m, i8>,
    pub(super) values_q8: Disjoint<'m, i8>,
    pub(super) key_scales: Disjoint<'m, u8>,
    pub(super) value_scales: Disjoint<'m, u8>,
    pub(super) keys_f32: Disjoint<'m, f32>,
    pub(super) values_f32: Disjoint<'m, f32>,
}

/// One layer's attention, by key heads.
pub(super) struct Heads<'p> {
    pub(super) pass: Pass<'p>,
    pub(super) config: &'p Config,
    pub(super) layer: usize,
    /// Of queries, of keys.
    pub(super) norms: [Option<&'p [f32]>; 2],
    pub(super) rotary: &'p [f32],
    pub(super) cache: &'p Cache<'p>,
    /// `[n, q_dim]`.
    pub(super) q: Disjoint<'p, f32>,
    /// `[n, kv_dim]`.
    pub(super) k: Disjoint<'p, f32>,
    /// `[n, kv_dim]`.
    pub(super) v: &'p [f32],
    /// `[n, q_dim]`.
    pub(super) attended: Disjoint<'p, f32>,
}

impl Heads<'_> {
    /// Norm (where there is one) and rotation of the tokens' queries and keys, of all heads.
    ///
    /// # Safety
    /// Nobody else looks at them meanwhile.
    pub(super) unsafe fn prepare(&self) {
        let (n, q_dim, kv_dim) = (self.pass.n, self.config.q_dim(), self.config.kv_dim());
        let jobs = self.pass.jobs(4 * n * q_dim).min(n).max(1);
        self.pass.run(jobs, |job| {
            for token in share(n, 1, job, jobs) {
                for (all, width, norm) in [(&self.q, q_dim, self.norms[0]), (&self.k, kv_dim, self.norms[1])]
                {
                    // SAFETY: as promised, and jobs have different tokens.
                    let heads = unsafe { all.part(token * width..(token + 1) * width) };
                    self.prepare_heads(heads, norm, token);
                }
            }
        });
    }

    /// The same of some heads of one token.
    fn prepare_heads(&self, heads: &mut [f32], norm: Option<&[f32]>, token: usize) {
        let head_dim = self.config.head_dim as usize;
        if let Some(weight) = norm {
            for head in heads.chunks_mut(head_dim.max(1)) {
                kernels::rms_norm_in_place(self.pass.level, head, weight, self.config.norm_eps);
            }
        }
        if self.config.architecture.of_loaded() == Architecture::Llama {
            let row = part(self.rotary, token * head_dim, head_dim);
            let (cos, sin) = row.split_at(row.len() / 2);
            kernels::rotate(self.pass.level, heads, cos, sin);
        }
    }

    fn quantized(&self) -> bool {
        self.pass.layout.kv_type.of_session() == KvType::Q8
    }

    /// Where a key head's positions begin in the caches.
    fn first(&self, kv_head: usize) -> usize {
        (self.layer * self.config.n_kv_heads as usize + kv_head) * self.pass.layout.positions
    }

    /// Puts the tokens' keys and values of one key head, which have been prepared, into the cache.
    ///
    /// # Safety
    /// Nobody else looks at this head's keys or touches its cache in this layer meanwhile, but for those
    /// that store other tokens, none of which shares a quad of positions with these.
    pub(super) unsafe fn store(&self, kv_head: usize) {
        let head_dim = self.config.head_dim as usize;
        let padded = head_dim.next_multiple_of(4);
        let (begin, n) = (self.pass.position, self.pass.n);
        let quads = begin / QUAD * QUAD..(begin + n).next_multiple_of(QUAD);
        let first = self.first(kv_head);
        let of_quads = |width: usize| (first + quads.start) * width..(first + quads.end) * width;
        // SAFETY: as promised.
        let key = |token: usize| unsafe { self.k.shared(self.kv_part(token, kv_head)) };
        let value = |token: usize| part(self.v, self.kv_part(token, kv_head).start, head_dim);
        let mut token = 0;
        while token < n {
            #[cfg(target_arch = "x86_64")]
            if self.quantized() && (begin + token).is_multiple_of(QUAD) && token + QUAD <= n {
                // SAFETY: as promised.
                if unsafe { self.store_quad(token, kv_head) } {
                    token += QUAD;
                    continue;
                }
            }
            let (k, v) = (key(token), value(token));
            let (position, place) = (begin + token, begin + token - quads.start);
            let one = first + position..first + position + 1;
            token += 1;
            if self.quantized() {
                // SAFETY: as promised, and each part is gone before the next one is made.
                unsafe {
                    let keys = self.cache.keys_q8.part(of_quads(padded));
                    let key_scale = kernels::store_key(self.pass.level, k, place, keys);
                    set(self.cache.key_scales.part(one.clone()), key_scale);
                    let values = self.cache.values_q8.part(of_quads(head_dim));
                    let value_scale = kernels::store_value(self.pass.level, v, place, values);
                    set(self.cache.value_scales.part(one), value_scale);
                }
            } else {
                let at = one.start * head_dim..one.end * head_dim;
                // SAFETY: as promised.
                let (keys, values) =
                    unsafe { (self.cache.keys_f32.part(at.clone()), self.cache.values_f32.part(at)) };
                for (places, new) in [(keys, k), (values, v)] {
                    for (place, x) in places.iter_mut().zip(new) {
                        *place = *x;
                    }
                }
            }
        }
    }

    /// Where a token's key (and value) of one head is among the block's.
    fn kv_part(&self, token: usize, kv_head: usize) -> core::ops::Range<usize> {
        let head_dim = self.config.head_dim as usize;
        let begin = token * self.config.kv_dim() + kv_head * head_dim;
        begin..begin + head_dim
    }

    /// Four tokens at once, from one at a multiple of four on. `false` if the level cannot.
    ///
    /// # Safety
    /// As for [`Heads::store`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn store_quad(&self, token: usize, kv_head: usize) -> bool {
        let head_dim = self.config.head_dim as usize;
        let at = self.first(kv_head) + self.pass.position + token;
        let four = |width: usize| at * width..(at + QUAD) * width;
        let parts: [_; QUAD] = core::array::from_fn(|i| self.kv_part(token + i, kv_head));
        // SAFETY: as promised, and each part is gone before the next one is made.
        unsafe {
            let keys = parts.clone().map(|part| self.k.shared(part));
            let values = parts.map(|at| part(self.v, at.start, head_dim));
            let places = self.cache.keys_q8.part(four(head_dim.next_multiple_of(4)));
            let Some(scales) = kernels::store_quad::<true>(self.pass.level, keys, places) else {
                return false;
            };
            fill(self.cache.key_scales.part(four(1)), scales);
            let places = self.cache.values_q8.part(four(head_dim));
            let Some(scales) = kernels::store_quad::<false>(self.pass.level, values, places) else {
                return false;
            };
            fill(self.cache.value_scales.part(four(1)), scales);
        }
        true
    }

    /// The tokens' queries of one key head, which have been prepared, attend to everything up to themselves.
    ///
    /// # Safety
    /// All those positions are stored, and nobody writes to this head's cache in this layer or touches
    /// these queries and their outputs meanwhile.
    pub(super) unsafe fn attend(&self, kv_head: usize, scratch: &mut Scratch<'_>) {
        let config = self.config;
        let head_dim = config.head_dim as usize;
        let first = self.first(kv_head);
        let positions = self.pass.layout.positions;
        let of_cache = |width: usize| first * width..(first + positions) * width;
        // SAFETY: as promised; for the type of cache that there is not, parts are empty.
        let (cache, keys_f32, values_f32) = unsafe {
            let cache = HeadCacheQ8 {
                keys: self.cache.keys_q8.shared(of_cache(head_dim.next_multiple_of(4))),
                key_scales: self.cache.key_scales.shared(of_cache(1)),
                values: self.cache.values_q8.shared(of_cache(head_dim)),
                value_scales: self.cache.value_scales.shared(of_cache(1)),
            };
            let of_f32 = of_cache(head_dim);
            (cache, self.cache.keys_f32.shared(of_f32.clone()), self.cache.values_f32.shared(of_f32))
        };
        let all = Queries {
            queries: &self.q,
            out: &self.attended,
            begin: kv_head * config.heads_per_kv() * head_dim,
            stride: config.q_dim(),
            n: self.pass.n,
            heads: config.heads_per_kv(),
            head_dim,
            len: self.pass.position + 1,
        };
        if self.quantized() {
            // SAFETY: as promised.
            return unsafe { kernels::attend_tokens_q8(self.pass.level, &all, &cache, scratch) };
        }
        for token in 0..all.n {
            for head in 0..all.heads {
                let at = all.place(token, head)..all.place(token, head + 1);
                // SAFETY: as promised.
                let (query, out) = unsafe { (self.q.shared(at.clone()), self.attended.part(at)) };
                let (len, scores) = (all.len + token, &mut *scratch.scores);
                kernels::attend_f32(self.pass.level, query, keys_f32, values_f32, len, scores, out);
            }
        }
    }
}

/// One token's scale into its place.
fn set(place: &mut [u8], scale: u8) {
    if let Some(place) = place.first_mut() {
        *place = scale;
    }
}

/// Four tokens' scales into their places.
#[cfg(target_arch = "x86_64")]
fn fill(places: &mut [u8], scales: [u8; QUAD]) {
    for (place, scale) in places.iter_mut().zip(scales) {
        *place = scale;
    }
}
