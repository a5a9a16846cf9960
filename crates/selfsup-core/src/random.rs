//! Randomness that is a function of where it is drawn.
//!
//! A run's draws do not come from one generator that threads share, but each from a generator of its own, keyed by
//! the seed and the place: epoch, sample, view. So the result depends neither on the number of threads nor on where
//! a run was interrupted, and there is no generator state to save.
//!
//! ```
//! use selfsup_core::Key;
//! use rand::RngExt;
//! let sample = Key::new(7).with(3).with(1042); // seed 7, epoch 3, sample 1042
//! let mut view0 = sample.with(0).rng();
//! let mut view1 = sample.with(1).rng();
//! assert_ne!(view0.random::<u64>(), view1.random::<u64>());
//! assert_eq!(sample.with(0).rng().random::<u32>(), sample.with(0).rng().random::<u32>());
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The generator of all draws on the data side: ChaCha with 8 rounds, whose stream is fixed for good.
pub type Rng = ChaCha8Rng;

/// The place of a draw: a path of numbers, folded into 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64, u64);

impl Key {
    /// The key of a run with this seed.
    pub fn new(seed: u64) -> Self {
        Key(mix(seed ^ 0x6a09_e667_f3bc_c908), mix(seed ^ 0xbb67_ae85_84ca_a73b))
    }

    /// The key of the place `part` below this one.
    #[must_use]
    pub fn with(self, part: u64) -> Self {
        Key(
            mix(self.0 ^ mix(part.wrapping_add(0x3c6e_f372_fe94_f82b))),
            mix(self.1.rotate_left(29) ^ mix(part ^ 0xa54f_f53a_5f1d_36f1)),
        )
    }

    /// A generator for the draws at this place.
    pub fn rng(self) -> Rng {
        let mut seed = [0; 32];
        for (i, word) in [self.0, self.1, mix(self.0 ^ self.1), !self.0].into_iter().enumerate() {
            seed[8 * i..8 * (i + 1)].copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }

    /// One number for this place, for generators that take a number as seed.
    pub fn seed(self) -> i64 {
        mix(self.0 ^ self.1.rotate_left(32)) as i64
    }

    /// Seeds libtorch's own generator for the draws of the model side (dropout, masks) at this place.
    pub fn seed_torch(self) {
        tch::manual_seed(self.seed());
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that spreads every bit over all.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::Rng as _;
    use std::collections::HashSet;

    #[test]
    fn mixes_as_the_published_generator_does() {
        // First outputs of SplitMix64 with state 1234567, from the reference implementation (Vigna, splitmix64.c).
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        let outputs: Vec<u64> =
            (0..3).map(|i: u64| mix(1234567_u64.wrapping_add(gamma.wrapping_mul(i)))).collect();
        assert_eq!(outputs, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn neighbouring_places_have_different_streams() {
        let mut seen = HashSet::new();
        for seed in 0..4 {
            for epoch in 0..8 {
                for sample in 0..256 {
                    for view in 0..2 {
                        seen.insert(Key::new(seed).with(epoch).with(sample).with(view).rng().next_u64());
                    }
                }
            }
        }
        assert_eq!(seen.len(), 4 * 8 * 256 * 2);
    }

    #[test]
    fn the_order_of_the_parts_matters() {
        assert_ne!(Key::new(0).with(1).with(2), Key::new(0).with(2).with(1));
        assert_ne!(Key::new(1).with(0), Key::new(0).with(1));
    }

    #[test]
    fn draws_of_neighbouring_keys_are_uniform() {
        // Each bit of the first word, over 20,000 neighbouring keys, is set half of the time (5 sigma).
        let n = 20_000_u64;
        let mut ones = [0_u64; 64];
        for i in 0..n {
            let word = Key::new(0).with(i).rng().next_u64();
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += word >> bit & 1;
            }
        }
        let bound = 5.0 * (n as f64 / 4.0).sqrt();
        assert!(ones.iter().all(|&c| (c as f64 - n as f64 / 2.0).abs() < bound), "{ones:?}");
    }
}
