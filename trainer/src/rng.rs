//! One small random number generator for everything in the trainer that must come out the
//! same on every machine: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators", 2014). Its whole state is one `u64`, so saving and restoring it is
//! saving and restoring a number, and all draws are integer arithmetic.

/// The odd constant SplitMix64 steps by: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A SplitMix64 generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator for `seed`; any seed is as good as any other, 0 included.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator for item `index` of the sequence that `seed` names. Items can be drawn in
    /// any order or in parallel, because none depends on how many draws another one made.
    #[must_use]
    pub fn at(seed: u64, index: u64) -> Self {
        // Mixing both numbers keeps neighbouring items (and seeds) from sharing a sequence
        // that is merely shifted.
        Self { state: mix(mix(seed.wrapping_add(STEP)) ^ index.wrapping_mul(STEP)) }
    }

    /// The whole state: `Rng::new(state)` continues exactly here.
    #[must_use]
    pub fn state(&self) -> u64 {
        self.state
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number from 0 to `n` - 1, or 0 when `n` is 0. Multiply and shift (Lemire 2019)
    /// without rejection: no number's chance is off by more than `n` in 2^64.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// True `times` out of `of`, on average.
    #[inline]
    pub fn chance(&mut self, times: usize, of: usize) -> bool {
        self.below(of) < times
    }

    /// A random order of `items`, in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for seed 1234567 that other SplitMix64 implementations publish.
    #[test]
    fn matches_published_values() {
        let mut rng = Rng::new(1_234_567);
        let got: Vec<u64> = (0..5).map(|_| rng.next_u64()).collect();
        assert_eq!(
            got,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn state_resumes() {
        let mut a = Rng::new(7);
        a.next_u64();
        let mut b = Rng::new(a.state());
        assert_eq!(a.next_u64(), b.next_u64());
    }

    #[test]
    fn draws_are_even() {
        let mut rng = Rng::new(3);
        let mut seen = [0usize; 7];
        for _ in 0..70_000 {
            seen[rng.below(7)] += 1;
        }
        // Ten thousand each, with a standard deviation of about 93.
        assert!(seen.iter().all(|&n| (9_500..10_500).contains(&n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..50).collect();
        Rng::new(1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn items_have_their_own_sequences() {
        let mut first: Vec<u64> = (0..1000).map(|i| Rng::at(0, i).next_u64()).collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 1000);
        assert_ne!(Rng::at(0, 1).next_u64(), Rng::at(1, 0).next_u64());
    }
}
