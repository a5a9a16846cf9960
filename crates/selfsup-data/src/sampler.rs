//! Which samples an epoch visits, and in which order: a function of the seed and the epoch.

use rand::RngExt;
use selfsup_core::{Error, Key, Result};
use std::sync::Arc;

/// The samples of an epoch, in order.
pub trait Sampler: Send + Sync {
    /// The number of samples in every epoch.
    fn len(&self) -> usize;

    /// Whether an epoch has no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The positions of `epoch`'s samples in the set: the same for the same seed and epoch, always.
    fn indices(&self, seed: u64, epoch: u64) -> Vec<usize>;
}

/// Every sample once, in the set's order.
#[derive(Clone, Copy, Debug)]
pub struct Sequential {
    /// The number of samples.
    pub len: usize,
}

impl Sampler for Sequential {
    fn len(&self) -> usize {
        self.len
    }

    fn indices(&self, _seed: u64, _epoch: u64) -> Vec<usize> {
        (0..self.len).collect()
    }
}

/// Every sample once, in an order drawn anew for every epoch.
#[derive(Clone, Copy, Debug)]
pub struct Shuffled {
    /// The number of samples.
    pub len: usize,
}

impl Sampler for Shuffled {
    fn len(&self) -> usize {
        self.len
    }

    fn indices(&self, seed: u64, epoch: u64) -> Vec<usize> {
        shuffle((0..self.len).collect(), seed, epoch)
    }
}

/// Every sample once, in an order that reads shards one after the other: the shards are shuffled, and a buffer of samples
/// is kept full from their stream, of which one at random is always the next (as in WebDataset and tf.data). The buffer
/// holds positions, not images, so that it costs nothing; samples within `buffer` places of each other mix well.
#[derive(Clone, Debug)]
pub struct ShuffledShards {
    /// The samples of each shard.
    pub shards: Vec<usize>,
    /// The samples of the buffer.
    pub buffer: usize,
}

impl Sampler for ShuffledShards {
    fn len(&self) -> usize {
        self.shards.iter().sum()
    }

    fn indices(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut start = 0;
        let mut runs = Vec::new();
        for &length in &self.shards {
            runs.push(start..start + length);
            start += length;
        }
        let order = shuffle((0..runs.len()).collect(), seed, epoch);
        let mut stream = order.into_iter().flat_map(|shard| runs[shard].clone());
        let mut rng = Key::new(seed).with(epoch).with(1).rng();
        let mut buffer: Vec<usize> = stream.by_ref().take(self.buffer.max(1)).collect();
        let mut indices = Vec::with_capacity(start);
        while !buffer.is_empty() {
            let at = rng.random_range(0..buffer.len());
            indices.push(match stream.next() {
                Some(next) => std::mem::replace(&mut buffer[at], next),
                None => buffer.swap_remove(at),
            });
        }
        indices
    }
}

/// Chosen samples, each once, in an order drawn anew for every epoch.
#[derive(Clone, Debug)]
pub struct ShuffledSubset {
    /// The positions of the samples in the set.
    pub indices: Vec<usize>,
}

impl Sampler for ShuffledSubset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn indices(&self, seed: u64, epoch: u64) -> Vec<usize> {
        shuffle(self.indices.clone(), seed, epoch)
    }
}

/// Fisher and Yates' shuffle.
fn shuffle(mut indices: Vec<usize>, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = Key::new(seed).with(epoch).rng();
    for i in (1..indices.len()).rev() {
        indices.swap(i, rng.random_range(0..=i));
    }
    indices
}

/// Samples drawn with replacement, each with a probability in proportion to its weight.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// The sum of the weights up to and with each sample's.
    sums: Vec<f64>,
    len: usize,
}

impl Weighted {
    /// Draws `len` samples an epoch by these weights, one a sample of the set.
    ///
    /// # Errors
    /// [`Error::Config`] when a weight is negative or not finite, or all are zero.
    pub fn new(weights: &[f64], len: usize) -> Result<Self> {
        if let Some(at) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return Err(Error::config(
                format!("weights[{at}]"),
                weights[at],
                "a finite number of at least 0",
            ));
        }
        let sums: Vec<f64> = weights
            .iter()
            .scan(0.0, |sum, w| {
                *sum += w;
                Some(*sum)
            })
            .collect();
        match sums.last() {
            Some(total) if *total > 0.0 && total.is_finite() => Ok(Weighted { sums, len }),
            _ => {
                Err(Error::config("weights", "all zero, or a sum beyond all numbers", "at least one above 0"))
            }
        }
    }
}

impl Sampler for Weighted {
    fn len(&self) -> usize {
        self.len
    }

    fn indices(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut rng = Key::new(seed).with(epoch).rng();
        let total = self.sums.last().copied().unwrap_or(0.0);
        // A draw lies below the total; should rounding bring it there, the last sample of some weight is meant.
        let last = self.sums.partition_point(|&sum| sum < total);
        let mut draw = || {
            let point = rng.random::<f64>() * total;
            self.sums.partition_point(|&sum| sum <= point).min(last)
        };
        (0..self.len).map(|_| draw()).collect()
    }
}

/// What becomes of samples that do not divide among the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uneven {
    /// The last ones are left out.
    Drop,
    /// The first ones are taken twice.
    Pad,
}

/// One rank's share of another sampler's samples: every rank gets equally many, interleaved.
#[derive(Clone)]
pub struct Sharded {
    inner: Arc<dyn Sampler>,
    rank: usize,
    ranks: usize,
    uneven: Uneven,
}

impl Sharded {
    /// The share of `rank` among `ranks`.
    ///
    /// # Errors
    /// [`Error::Config`] when the rank is none of them.
    pub fn new(inner: Arc<dyn Sampler>, rank: usize, ranks: usize, uneven: Uneven) -> Result<Self> {
        if rank >= ranks {
            return Err(Error::config("rank", rank, format!("a rank in 0..{ranks}")));
        }
        Ok(Sharded { inner, rank, ranks, uneven })
    }
}

impl Sampler for Sharded {
    fn len(&self) -> usize {
        match self.uneven {
            Uneven::Drop => self.inner.len() / self.ranks,
            Uneven::Pad => self.inner.len().div_ceil(self.ranks),
        }
    }

    fn indices(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let all = self.inner.indices(seed, epoch);
        // A set smaller than the number of ranks is gone through as often as it takes.
        let mine = all.iter().copied().cycle().skip(self.rank).step_by(self.ranks);
        mine.take(if all.is_empty() { 0 } else { self.len() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shards_are_read_one_after_the_other_and_every_sample_once() {
        let sampler = ShuffledShards { shards: vec![300, 1, 0, 500, 199], buffer: 100 };
        let order = sampler.indices(3, 0);
        assert_eq!((order.clone(), sampler.len()), (sampler.indices(3, 0), 1000));
        assert_ne!(order, sampler.indices(3, 1));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        // A sample comes at most `buffer` places before its place in the stream: after k samples, k + 100 at most were
        // read, so that while the first shard of 300 or more is read no more than one other can have begun.
        let shard = |i: usize| [300, 301, 301, 801, 1000].iter().position(|&end| i < end).unwrap();
        let first: std::collections::BTreeSet<usize> = order[..100].iter().map(|&i| shard(i)).collect();
        assert!(first.len() <= 3, "{first:?}");
        // And the order is mixed: neighbours in the stream are seldom neighbours in the epoch.
        let neighbours = order.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(neighbours < 60, "{neighbours}");
    }

    #[test]
    fn an_epoch_is_a_function_of_seed_and_epoch() {
        let sampler = Shuffled { len: 1000 };
        assert_eq!(sampler.indices(1, 2), sampler.indices(1, 2));
        assert_ne!(sampler.indices(1, 2), sampler.indices(1, 3));
        assert_ne!(sampler.indices(1, 2), sampler.indices(2, 2));
        assert_eq!(Sequential { len: 3 }.indices(1, 2), [0, 1, 2]);
    }

    #[test]
    fn every_order_is_equally_likely() {
        // 24 orders of 4 samples over 24,000 epochs: each comes 1,000 times, chi-square with 23 degrees of freedom
        // stays below 58 in all but 1 of 10,000 cases.
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..24_000 {
            *counts.entry(Shuffled { len: 4 }.indices(0, epoch)).or_insert(0.0) += 1.0;
        }
        let chi: f64 = counts.values().map(|c: &f64| (c - 1000.0).powi(2) / 1000.0).sum();
        assert!(counts.len() == 24 && chi < 58.0, "{chi}");
    }

    #[test]
    fn weights_are_the_frequencies() {
        let sampler = Weighted::new(&[1.0, 0.0, 3.0, 0.0], 40_000).unwrap();
        let drawn = sampler.indices(0, 0);
        let count = |i| drawn.iter().filter(|&&d| d == i).count() as f64;
        assert_eq!((count(1), count(3)), (0.0, 0.0));
        assert!((count(2) - 30_000.0).abs() < 5.0 * (40_000.0 * 0.75 * 0.25_f64).sqrt());
        assert!(Weighted::new(&[0.0, 0.0], 1).is_err());
        let error = Weighted::new(&[1.0, -1.0], 1).unwrap_err().to_string();
        assert_eq!(error, "weights[1] = -1: a finite number of at least 0");
    }

    proptest! {
        #[test]
        fn shuffling_loses_nothing(len in 0_usize..500, seed: u64, epoch: u64) {
            let mut indices = ShuffledSubset { indices: (0..len).map(|i| i * 3).collect() }.indices(seed, epoch);
            indices.sort_unstable();
            prop_assert_eq!(indices, (0..len).map(|i| i * 3).collect::<Vec<_>>());
        }

        #[test]
        fn ranks_share_evenly(len in 0_usize..200, ranks in 1_usize..9, pad: bool, epoch in 0_u64..4) {
            let uneven = if pad { Uneven::Pad } else { Uneven::Drop };
            let inner: Arc<dyn Sampler> = Arc::new(Shuffled { len });
            let shares: Vec<_> = (0..ranks)
                .map(|rank| Sharded::new(Arc::clone(&inner), rank, ranks, uneven).unwrap())
                .map(|sampler| (sampler.len(), sampler.indices(5, epoch)))
                .collect();
            for (len, share) in &shares {
                prop_assert_eq!(share.len(), *len);
                prop_assert_eq!(*len, shares[0].0);
            }
            let mut seen: Vec<usize> = shares.iter().flat_map(|(_, share)| share.clone()).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), if pad { len } else { len / ranks * ranks });
        }
    }
}
