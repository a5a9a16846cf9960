//! The samples that one may ask a person about, and what every way to choose among them promises.

use selfsup_core::tensor::with_slice;
use selfsup_core::{Device, Error, FeatureRows, Probabilities, Result, Tensor, check_shape};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Proposes samples to be labelled.
///
/// All keep the same promises. A sample that is labelled is never proposed, and none twice. Of samples with the same
/// features one is proposed, and none where one of them is labelled, while there are others. The proposal is a function of
/// the pool and the configuration; equally good samples are taken in the order of their positions.
pub trait Selector {
    /// What it looks at: [`Pool`], or [`PredictedPool`] where it asks a model.
    type Pool;

    /// The positions of `n` samples, in the order in which they should be labelled.
    ///
    /// # Errors
    /// When there are fewer than `n` samples without a label.
    fn select_next(&self, n: usize, pool: &Self::Pool) -> Result<Vec<i64>>;
}

/// Samples with features, of which some are labelled.
#[derive(Debug)]
pub struct Pool {
    /// `[N, D]` Float, on the CPU.
    features: Tensor,
    labelled: Vec<bool>,
    /// Of every sample the first with the same features.
    first: Vec<usize>,
}

impl Pool {
    /// Puts features `[N, D]` of all samples and the positions of the labelled ones together.
    ///
    /// # Errors
    /// When a position is not in `0..N`.
    pub fn new(features: &FeatureRows, labelled: &[i64]) -> Result<Pool> {
        let features = features.tensor().to_device(Device::Cpu).contiguous();
        let [n, d] = check_shape("features", &features, [-1, -1])?;
        let mut mask = vec![false; n as usize];
        for &position in labelled {
            if !(0..n).contains(&position) {
                return Err(Error::config("labelled", position, format!("a position in 0..{n}")));
            }
            mask[position as usize] = true;
        }
        let first = with_slice(&features, |rows: &[f32]| first_of_equals(rows, d as usize))?;
        Ok(Pool { features, labelled: mask, first })
    }

    /// The number of samples, `N`.
    pub fn len(&self) -> usize {
        self.labelled.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labelled.is_empty()
    }

    /// The number of samples without a label.
    pub fn remaining(&self) -> usize {
        self.labelled.iter().filter(|labelled| !**labelled).count()
    }

    pub(super) fn features(&self) -> &Tensor {
        &self.features
    }

    pub(super) fn labelled(&self) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.labelled[i]).collect()
    }
}

/// A pool with what a model predicts of its samples.
#[derive(Debug)]
pub struct PredictedPool {
    pool: Pool,
    probabilities: Probabilities,
}

impl PredictedPool {
    /// Puts a pool and the class probabilities `[N, C]` of all its samples together.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn new(pool: Pool, probabilities: Probabilities) -> Result<PredictedPool> {
        check_shape("probabilities", probabilities.tensor(), [pool.len() as i64, -1])?;
        Ok(PredictedPool { pool, probabilities })
    }

    /// The samples.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The probabilities, `[N, C]`.
    pub fn probabilities(&self) -> &Probabilities {
        &self.probabilities
    }
}

/// Of every row the first that equals it.
fn first_of_equals(rows: &[f32], d: usize) -> Vec<usize> {
    let row = |i: usize| &rows[i * d..][..d];
    let mut by_hash: HashMap<u64, Vec<usize>> = HashMap::new();
    (0..rows.len() / d)
        .map(|i| {
            let mut hasher = DefaultHasher::new();
            for v in row(i) {
                (v + 0.0).to_bits().hash(&mut hasher); // -0 equals 0
            }
            let firsts = by_hash.entry(hasher.finish()).or_default();
            firsts.iter().copied().find(|&first| row(first) == row(i)).unwrap_or_else(|| {
                firsts.push(i);
                i
            })
        })
        .collect()
}

/// A proposal in the making.
pub(super) struct Picks<'a> {
    pool: &'a Pool,
    wanted: usize,
    taken: Vec<bool>,
    /// By the first sample with the same features: whether one of them is labelled or proposed.
    known: Vec<bool>,
    order: Vec<i64>,
}

impl<'a> Picks<'a> {
    pub(super) fn new(n: usize, pool: &'a Pool) -> Result<Picks<'a>> {
        let remaining = pool.remaining();
        if n > remaining {
            let expected = format!("at most {remaining}, the number of samples without a label");
            return Err(Error::config("n", n, expected));
        }
        let mut known = vec![false; pool.len()];
        pool.labelled().into_iter().for_each(|i| known[pool.first[i]] = true);
        Ok(Picks { pool, wanted: n, taken: pool.labelled.clone(), known, order: Vec::with_capacity(n) })
    }

    pub(super) fn done(&self) -> bool {
        self.order.len() == self.wanted
    }

    /// Whether a sample is neither labelled nor proposed.
    pub(super) fn is_free(&self, i: usize) -> bool {
        !self.taken[i]
    }

    /// Whether that holds for all samples with its features.
    pub(super) fn is_new(&self, i: usize) -> bool {
        self.is_free(i) && !self.known[self.pool.first[i]]
    }

    fn take(&mut self, i: usize) {
        self.taken[i] = true;
        self.known[self.pool.first[i]] = true;
        self.order.push(i as i64);
    }

    /// Takes the best free sample of `candidates`, which come in the order of their positions: of the new ones, if there
    /// are any, the one with the highest score.
    pub(super) fn take_best(&mut self, candidates: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
        let mut best: Option<(bool, f64, usize)> = None;
        for (i, score) in candidates.filter(|&(i, _)| self.is_free(i)) {
            let new = self.is_new(i);
            if best.is_none_or(|(is_new, most, _)| (new, score) > (is_new, most)) {
                best = Some((new, score, i));
            }
        }
        let (_, _, i) = best?;
        self.take(i);
        Some(i)
    }

    /// Takes samples by one score for each of the pool, the highest first.
    pub(super) fn take_by(mut self, scores: &[f64]) -> Vec<i64> {
        let mut ranked: Vec<usize> = (0..scores.len()).filter(|&i| self.is_free(i)).collect();
        ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a])); // stable: the lower position first
        for copies in [false, true] {
            for &i in &ranked {
                if !self.done() && self.is_free(i) && (copies || self.is_new(i)) {
                    self.take(i);
                }
            }
        }
        self.order
    }

    pub(super) fn into_order(self) -> Vec<i64> {
        self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Kind;

    fn rows(x: &[[f32; 2]]) -> FeatureRows {
        FeatureRows::new(&Tensor::from_slice2(x)).unwrap()
    }

    #[test]
    fn finds_samples_with_the_same_features() {
        let x = rows(&[[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [2.0, 1e-30], [2.0, 0.0]]);
        let pool = Pool::new(&x, &[]).unwrap();
        assert_eq!(pool.first, [0, 1, 0, 3, 1]);
        assert_eq!((pool.len(), pool.remaining(), pool.is_empty()), (5, 5, false));
    }

    #[test]
    fn counts_labelled_samples_once() {
        let pool = Pool::new(&rows(&[[1.0, 0.0], [2.0, 0.0]]), &[1, 1]).unwrap();
        assert_eq!((pool.labelled(), pool.remaining()), (vec![1], 1));
    }

    #[test]
    fn takes_copies_only_when_nothing_else_is_left() {
        // 0 and 2 are equal, 3 equals the labelled 4.
        let pool =
            Pool::new(&rows(&[[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [5.0, 5.0], [5.0, 5.0]]), &[4]).unwrap();
        let take = |n| Picks::new(n, &pool).unwrap().take_by(&[1.0, 0.5, 1.0, 2.0, 9.0]);
        assert_eq!(take(2), [0, 1]);
        assert_eq!(take(4), [0, 1, 3, 2]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let x = rows(&[[1.0, 0.0], [2.0, 0.0]]);
        let error = Pool::new(&x, &[2]).unwrap_err().to_string();
        assert_eq!(error, "labelled = 2: a position in 0..2");
        assert!(Pool::new(&x, &[-1]).is_err());
        let pool = Pool::new(&x, &[0]).unwrap();
        let error = Picks::new(2, &pool).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "n = 2: at most 1, the number of samples without a label");
        let p = Probabilities::new(&Tensor::ones([3, 1], (Kind::Float, Device::Cpu))).unwrap();
        let error = PredictedPool::new(pool, p).unwrap_err().to_string();
        assert_eq!(error, "probabilities: expected [2, _], found [3, 1]");
    }
}
