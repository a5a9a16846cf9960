//! What labelers take that need more than one prediction of each sample.

use crate::rows::class_indices;
use selfsup_core::{Error, Kind, Probabilities, Result, Tensor, check_kind, check_shape};

/// Class probabilities of samples that are known by their positions in the unlabelled set: for labelers that remember
/// something of every sample.
#[derive(Debug)]
pub struct IndexedProbabilities {
    samples: Vec<i64>,
    probabilities: Probabilities,
}

impl IndexedProbabilities {
    /// Puts positions and probabilities `[N, C]` together. A sample may stand in a batch more than once.
    ///
    /// # Shapes
    /// `samples` `[N]` Int64.
    ///
    /// # Errors
    /// When the two do not fit, or a position is negative.
    pub fn new(samples: &Tensor, probabilities: Probabilities) -> Result<IndexedProbabilities> {
        check_shape("samples", samples, [probabilities.tensor().size()[0]])?;
        check_kind("samples", samples, Kind::Int64)?;
        let samples = Vec::<i64>::try_from(samples)?;
        if let Some(sample) = samples.iter().find(|&&sample| sample < 0) {
            return Err(Error::config("samples", sample, "0 or above"));
        }
        Ok(IndexedProbabilities { samples, probabilities })
    }

    /// The positions, `N` of them.
    pub fn samples(&self) -> &[i64] {
        &self.samples
    }

    /// The probabilities, `[N, C]`.
    pub fn probabilities(&self) -> &Probabilities {
        &self.probabilities
    }

    /// The positions as indices into a set of `count` samples.
    pub(crate) fn checked_samples(&self, count: i64) -> Result<impl Iterator<Item = usize>> {
        if let Some(sample) = self.samples.iter().find(|&&sample| sample >= count) {
            return Err(Error::config("samples", sample, format!("below {count}, the number of samples")));
        }
        Ok(self.samples.iter().map(|&sample| sample as usize))
    }
}

/// Class probabilities of the same samples in several views, or by several models.
#[derive(Debug)]
pub struct ProbabilityStack(Tensor);

impl ProbabilityStack {
    /// Stacks `K` predictions of `[N, C]` each.
    ///
    /// # Errors
    /// When there is none, or they differ in shape.
    pub fn new(members: &[Probabilities]) -> Result<ProbabilityStack> {
        let Some(first) = members.first() else {
            return Err(Error::config("members", 0, "at least one prediction"));
        };
        let [n, c] = check_shape("members[0]", first.tensor(), [-1, -1])?;
        for (k, member) in members.iter().enumerate() {
            check_shape(&format!("members[{k}]"), member.tensor(), [n, c])?;
        }
        let members: Vec<_> = members.iter().map(Probabilities::tensor).collect();
        Ok(ProbabilityStack(Tensor::stack(&members, 0)))
    }

    /// The predictions, `[K, N, C]`.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// Their mean over the members, `[N, C]`.
    ///
    /// # Errors
    /// None but libtorch's: a mean of distributions is one.
    pub fn mean(&self) -> Result<Probabilities> {
        Probabilities::new(&self.0.mean_dim([0].as_slice(), false, Kind::Float))
    }
}

/// Labels that were given, beside what a model that did not learn from them predicts.
#[derive(Debug)]
pub struct LabelledProbabilities {
    labels: Tensor,
    probabilities: Probabilities,
}

impl LabelledProbabilities {
    /// Puts labels and out-of-sample probabilities `[N, C]` together (from cross-validation, or a model trained on other
    /// samples: one that has learned a wrong label by heart agrees with it).
    ///
    /// # Shapes
    /// `labels` `[N]` Int64.
    ///
    /// # Errors
    /// When the two do not fit, or a label is no class of `0..C`.
    pub fn new(labels: &Tensor, probabilities: Probabilities) -> Result<LabelledProbabilities> {
        let [n, c] = check_shape("probabilities", probabilities.tensor(), [-1, -1])?;
        class_indices("labels", labels, n, c)?;
        Ok(LabelledProbabilities { labels: labels.shallow_clone(), probabilities })
    }

    /// The labels, `[N]` Int64.
    pub fn labels(&self) -> &Tensor {
        &self.labels
    }

    /// The probabilities, `[N, C]`.
    pub fn probabilities(&self) -> &Probabilities {
        &self.probabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(p: f32) -> Probabilities {
        Probabilities::new(&Tensor::from_slice2(&[[p, 1.0 - p], [0.5, 0.5]])).unwrap()
    }

    #[test]
    fn positions_must_fit_the_rows_and_the_set() {
        let error = IndexedProbabilities::new(&Tensor::from_slice(&[1_i64]), two(0.3)).unwrap_err();
        assert_eq!(error.to_string(), "samples: expected [2], found [1]");
        let error = IndexedProbabilities::new(&Tensor::from_slice(&[1_i64, -1]), two(0.3)).unwrap_err();
        assert_eq!(error.to_string(), "samples = -1: 0 or above");
        let error = IndexedProbabilities::new(&Tensor::from_slice(&[1.0_f32, 0.0]), two(0.3)).unwrap_err();
        assert_eq!(error.to_string(), "samples: expected elements of kind Int64, found Float");
        let fits = IndexedProbabilities::new(&Tensor::from_slice(&[1_i64, 4]), two(0.3)).unwrap();
        assert_eq!(fits.checked_samples(5).unwrap().collect::<Vec<_>>(), [1, 4]);
        let error = fits.checked_samples(4).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "samples = 4: below 4, the number of samples");
    }

    #[test]
    fn stacks_predictions_of_one_shape() {
        let stack = ProbabilityStack::new(&[two(0.2), two(0.4)]).unwrap();
        assert_eq!(stack.tensor().size(), [2, 2, 2]);
        assert!((stack.mean().unwrap().tensor().double_value(&[0, 0]) - 0.3).abs() < 1e-6);
        assert_eq!(
            ProbabilityStack::new(&[]).unwrap_err().to_string(),
            "members = 0: at least one prediction"
        );
        let wide = Probabilities::new(&Tensor::from_slice2(&[[0.5_f32, 0.5, 0.0]])).unwrap();
        let error = ProbabilityStack::new(&[two(0.1), wide]).unwrap_err().to_string();
        assert_eq!(error, "members[1]: expected [2, 2], found [1, 3]");
    }

    #[test]
    fn given_labels_must_be_classes() {
        let error = LabelledProbabilities::new(&Tensor::from_slice(&[0_i64, 2]), two(0.1)).unwrap_err();
        assert_eq!(error.to_string(), "labels = 2: a class in 0..2");
    }
}
