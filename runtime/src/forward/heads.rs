//! Attention of some tokens: their keys and values go into the cache, then their queries attend.

use super::Pass;
use super::part::{part, part_mut};
use crate::config::{Architecture, Config};
use crate::format::{KvType, QUAD};
use crate::kernels;
use crate::kernels::attention::{HeadCacheQ8, Scratch};
use crate::workers::Disjoint;

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
    /// Norm (where there is one) and rotation of one head of one token.
    fn prepare(&self, head: &mut [f32], norm: Option<&[f32]>, token: usize) {
        if let Some(weight) = norm {
            kernels::rms_norm_in_place(self.pass.level, head, weight, self.config.norm_eps);
        }
        if self.config.architecture.of_loaded() == Architecture::Llama {
            let row = part(self.rotary, token * head.len(), head.len());
            let (cos, sin) = row.split_at(row.len() / 2);
            kernels::rotate(self.pass.level, head, cos, sin);
        }
    }

    fn quantized(&self) -> bool {
        self.pass.layout.kv_type.of_session() == KvType::Q8
    }

    /// Where a key head's positions begin in the caches.
    fn first(&self, kv_head: usize) -> usize {
        (self.layer * self.config.n_kv_heads as usize + kv_head) * self.pass.layout.positions
    }

    /// Puts the tokens' keys and values of one key head into the cache.
    ///
    /// # Safety
    /// Nobody else looks at this head's keys or touches its cache in this layer meanwhile, but for those
    /// that store other tokens, none of which shares a quad of positions with these.
    pub(super) unsafe fn store(&self, kv_head: usize) {
        let head_dim = self.config.head_dim as usize;
        let padded = head_dim.next_multiple_of(4);
        let begin = self.pass.position;
        let quads = begin / QUAD * QUAD..(begin + self.pass.n).next_multiple_of(QUAD);
        let first = self.first(kv_head);
        let of_quads = |width: usize| (first + quads.start) * width..(first + quads.end) * width;
        for token in 0..self.pass.n {
            let (position, place) = (begin + token, begin + token - quads.start);
            let at = token * self.config.kv_dim() + kv_head * head_dim;
            // SAFETY: as promised.
            let k = unsafe { self.k.part(at..at + head_dim) };
            let v = part(self.v, at, head_dim);
            self.prepare(k, self.norms[1], token);
            let one = first + position..first + position + 1;
            if self.quantized() {
                // SAFETY: as promised, and each part is gone before the next one is made.
                unsafe {
                    let keys = self.cache.keys_q8.part(of_quads(padded));
                    let key_scale = kernels::store_key(self.pass.level, k, place, keys);
                    self.cache.key_scales.part(one.clone()).fill(key_scale);
                    let values = self.cache.values_q8.part(of_quads(head_dim));
                    let value_scale = kernels::store_value(self.pass.level, v, place, values);
                    self.cache.value_scales.part(one).fill(value_scale);
                }
            } else {
                let at = one.start * head_dim..one.end * head_dim;
                // SAFETY: as promised.
                let (keys, values) =
                    unsafe { (self.cache.keys_f32.part(at.clone()), self.cache.values_f32.part(at)) };
                for (places, new) in [(keys, &*k), (values, v)] {
                    for (place, x) in places.iter_mut().zip(new) {
                        *place = *x;
                    }
                }
            }
        }
    }

    /// The tokens' queries of one key head attend to everything up to themselves.
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
        let group = config.heads_per_kv() * head_dim;
        for token in 0..self.pass.n {
            let len = self.pass.position + token + 1;
            let at = token * config.q_dim() + kv_head * group;
            // SAFETY: as promised.
            let (queries, out) = unsafe { (self.q.part(at..at + group), self.attended.part(at..at + group)) };
            for at in (0..group).step_by(head_dim.max(1)) {
                let query = part_mut(queries.get_mut(at..).unwrap_or(&mut []), head_dim);
                self.prepare(query, self.norms[0], token);
            }
            if self.quantized() {
                kernels::attend_q8(self.pass.level, queries, head_dim, &cache, len, scratch, out);
                continue;
            }
            for at in (0..group).step_by(head_dim.max(1)) {
                let out = part_mut(out.get_mut(at..).unwrap_or(&mut []), head_dim);
                let (query, scores) = (part(queries, at, head_dim), &mut *scratch.scores);
                kernels::attend_f32(self.pass.level, query, keys_f32, values_f32, len, scores, out);
            }
        }
    }
}
