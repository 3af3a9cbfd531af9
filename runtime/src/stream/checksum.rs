//! XXH32 of bytes that come in pieces. `xxhash_rust`'s own state can panic, as far as a compiler sees.

const PRIMES: [u32; 5] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F, 0x1656_67B1];

/// The checksum of what was taken in so far (seed 0).
pub(super) struct Checksum {
    lanes: [u32; 4],
    /// What does not fill 16 bytes yet, and how many of them it is.
    rest: [u8; 16],
    n_rest: usize,
    len: u32,
}

impl Checksum {
    pub(super) fn new() -> Self {
        let [one, two, ..] = PRIMES;
        let lanes = [one.wrapping_add(two), two, 0, 0_u32.wrapping_sub(one)];
        Self { lanes, rest: [0; 16], n_rest: 0, len: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u32);
        let missing = if self.n_rest == 0 { 0 } else { 16 - self.n_rest };
        let (first, bytes) = bytes.split_at(missing.min(bytes.len()));
        self.keep(first);
        if self.n_rest == 16 {
            let rest = self.rest;
            self.round(&rest);
            self.n_rest = 0;
        }
        let (rounds, last) = bytes.as_chunks::<16>();
        for bytes in rounds {
            self.round(bytes);
        }
        self.keep(last);
    }

    fn keep(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.rest.get_mut(self.n_rest) {
                *place = *byte;
                self.n_rest += 1;
            }
        }
    }

    #[inline(always)]
    fn round(&mut self, bytes: &[u8; 16]) {
        let [one, two, ..] = PRIMES;
        for (lane, word) in self.lanes.iter_mut().zip(bytes.as_chunks::<4>().0) {
            let sum = lane.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(two));
            *lane = sum.rotate_left(13).wrapping_mul(one);
        }
    }

    pub(super) fn finish(&self) -> u32 {
        let [one, two, three, four, five] = PRIMES;
        let [a, b, c, d] = self.lanes;
        let mut hash = if self.len < 16 {
            five
        } else {
            a.rotate_left(1)
                .wrapping_add(b.rotate_left(7))
                .wrapping_add(c.rotate_left(12))
                .wrapping_add(d.rotate_left(18))
        };
        hash = hash.wrapping_add(self.len);
        let rest = self.rest.get(..self.n_rest).unwrap_or(&[]);
        let (words, bytes) = rest.as_chunks::<4>();
        for word in words {
            hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(three));
            hash = hash.rotate_left(17).wrapping_mul(four);
        }
        for byte in bytes {
            hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(five));
            hash = hash.rotate_left(11).wrapping_mul(one);
        }
        hash = (hash ^ hash >> 15).wrapping_mul(two);
        hash = (hash ^ hash >> 13).wrapping_mul(three);
        hash ^ hash >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;
    use xxhash_rust::xxh32::xxh32;

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..9),
        ) {
            let mut checksum = Checksum::new();
            pieces.iter().for_each(|piece| checksum.update(piece));
            prop_assert_eq!(checksum.finish(), xxh32(&pieces.concat(), 0));
        }
    }

    #[test]
    fn every_length_is_right() {
        let bytes: Vec<u8> = (0..70).collect();
        for len in 0..70 {
            let mut checksum = Checksum::new();
            checksum.update(&bytes[..len]);
            assert_eq!(checksum.finish(), xxh32(&bytes[..len], 0), "{len}");
        }
    }
}
