//! Some samples of another set.

use super::ImageSet;
use crate::Image;
use selfsup_core::{Dataset, Error, Result};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// Some samples of another set, in any order.
#[derive(Clone)]
pub struct Subset {
    set: Arc<dyn ImageSet>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples of `set` at `indices`.
    ///
    /// # Errors
    /// [`Error::Config`] when an index lies outside the set.
    pub fn new(set: Arc<dyn ImageSet>, indices: Vec<usize>) -> Result<Self> {
        match indices.iter().find(|&&i| i >= set.len()) {
            Some(bad) => Err(Error::config("indices", bad, format!("samples in 0..{}", set.len()))),
            None => Ok(Subset { set, indices }),
        }
    }

    /// The first `n` samples of `set`, or all where there are fewer.
    pub fn first(set: Arc<dyn ImageSet>, n: usize) -> Self {
        let indices = (0..n.min(set.len())).collect();
        Subset { set, indices }
    }
}

impl Dataset for Subset {
    type Item = Image;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<Image> {
        match self.indices.get(index) {
            Some(&i) => self.set.get(i),
            None => Err(Error::config("index", index, format!("a sample in 0..{}", self.indices.len()))),
        }
    }
}

impl ImageSet for Subset {
    fn channels(&self) -> usize {
        self.set.channels()
    }

    fn labels(&self) -> Option<Vec<i64>> {
        let labels = self.set.labels()?;
        Some(self.indices.iter().map(|&i| labels[i]).collect())
    }

    fn classes(&self) -> Vec<String> {
        self.set.classes()
    }

    fn name(&self, index: usize) -> String {
        self.indices.get(index).map_or_else(|| index.to_string(), |&i| self.set.name(i))
    }

    fn stamp(&self) -> Result<Option<u64>> {
        Ok(self.set.stamp()?.map(|stamp| {
            let mut hasher = DefaultHasher::new();
            (stamp, &self.indices).hash(&mut hasher);
            hasher.finish()
        }))
    }

    /// What is left of the other set's shards, where the samples stand in its order.
    fn shards(&self) -> Vec<usize> {
        if !self.indices.is_sorted() {
            return Vec::new();
        }
        let mut start = 0;
        let shards = self.set.shards().into_iter().map(|length| {
            let end = start + length;
            let inside = |bound| self.indices.partition_point(|&i| i < bound);
            let left = inside(end) - inside(start);
            start = end;
            left
        });
        shards.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::ArrayImages;

    /// Two shards of two and three samples.
    struct Sharded;

    impl Dataset for Sharded {
        type Item = Image;
        fn len(&self) -> usize {
            5
        }
        fn get(&self, _index: usize) -> Result<Image> {
            Image::new(vec![0], [1, 1, 1])
        }
    }

    impl ImageSet for Sharded {
        fn channels(&self) -> usize {
            1
        }
        fn labels(&self) -> Option<Vec<i64>> {
            None
        }
        fn classes(&self) -> Vec<String> {
            Vec::new()
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn shards(&self) -> Vec<usize> {
            vec![2, 3]
        }
    }

    #[test]
    fn keeps_the_shards_of_samples_in_order() {
        let shards = |indices| Subset::new(Arc::new(Sharded), indices).unwrap().shards();
        assert_eq!(Subset::new(Arc::new(Sharded), vec![2]).unwrap().name(7), "7");
        assert_eq!(shards(vec![1, 2, 4]), [1, 2]);
        assert!(shards(vec![2, 1]).is_empty());
    }

    #[test]
    fn shows_the_chosen_samples_with_their_labels() {
        let set = ArrayImages::new((0..4).collect(), [1, 1, 1])
            .unwrap()
            .with_labels(vec![3, 2, 1, 0], vec![])
            .unwrap();
        let set: Arc<dyn ImageSet> = Arc::new(set);
        let subset = Subset::new(Arc::clone(&set), vec![3, 1]).unwrap();
        assert_eq!(subset.labels().unwrap(), [0, 2]);
        assert_eq!(subset.get(0).unwrap().pixels(), [3]);
        assert_eq!(subset.name(1), "1");
        assert_eq!(Subset::first(Arc::clone(&set), 9).len(), 4);
        assert!(Subset::new(set, vec![4]).is_err());
        assert!(subset.get(2).is_err());
    }
}
