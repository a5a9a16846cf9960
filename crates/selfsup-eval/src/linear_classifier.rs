//! What a linear probe has learned, to be asked about features that it was not judged by: corrupted ones, or those of inputs that
//! an attack moves.

use crate::Logistic;
use crate::standardise::Standardiser;
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// A linear classifier of features as they come, the training part's standardisation within its weights. The default has learned
/// nothing, and refuses to answer: so does that of an outcome which was read back from a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearClassifier {
    /// `[K, D]`, row by row: a row for each class that the training part held.
    weight: Vec<f32>,
    /// `[K]`
    bias: Vec<f32>,
    /// The classes of the rows, ascending.
    classes: Vec<i64>,
    /// The number of classes, of which training may lack some.
    of: i64,
}

/// The score of a class that training lacked: no sample is given it.
const NEVER: f64 = -1e4;

impl LinearClassifier {
    pub(crate) fn new(fitted: &Logistic, standardiser: &Standardiser, of: i64) -> Result<Self> {
        let (weight, bias) = standardiser.unfold(&fitted.weight, &fitted.bias);
        Ok(LinearClassifier {
            weight: Vec::try_from(weight.to_kind(Kind::Float).reshape([-1]))?,
            bias: Vec::try_from(bias.to_kind(Kind::Float))?,
            classes: Vec::try_from(&fitted.classes)?,
            of,
        })
    }

    /// The scores of all classes before softmax, with their gradient to the features, on the features' device.
    ///
    /// # Shapes
    /// `x` `[N, D]` Float to `[N, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` has another number of features, [`Error::Config`] when nothing was learned.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let k = self.classes.len() as i64;
        if k == 0 {
            return Err(Error::config("classifier", "nothing learned", "one of a probe that was run here"));
        }
        let weight = Tensor::from_slice(&self.weight).reshape([k, -1]).to_device(x.device());
        let [n, _] = check_shape("x", x, [-1, weight.size()[1]])?;
        let bias = Tensor::from_slice(&self.bias).to_device(x.device());
        let scores = bias.addmm(&x.to_kind(Kind::Float), &weight.tr()); // [N, K]
        if k == self.of {
            return Ok(scores);
        }
        let all = Tensor::full([n, self.of], NEVER, (Kind::Float, x.device()));
        Ok(all.index_copy(1, &Tensor::from_slice(&self.classes).to_device(x.device()), &scores))
    }

    /// The class of every row, `[N]` Int64.
    ///
    /// # Errors
    /// As [`logits`](LinearClassifier::logits).
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.logits(x)?.argmax(1, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::clouds;
    use crate::{LinearProbe, LinearProbeConfig};
    use selfsup_core::Features;

    #[test]
    fn answers_as_the_probe_did_and_has_a_gradient() {
        let (train, test) = (clouds(300, 3, 0.8), clouds(90, 3, 0.8));
        let moved = |f: &Features| Features::new(&f.x * 20.0 + 7.0, f.labels.shallow_clone(), 4).unwrap();
        let (train, test) = (moved(&train), moved(&test));
        let found = LinearProbe::new(LinearProbeConfig::default()).unwrap().run(&train, &test).unwrap();
        let predicted = found.classifier.predict(&test.x).unwrap();
        assert_eq!(Vec::<i64>::try_from(predicted).unwrap(), found.predictions);
        let x = test.x.detach().set_requires_grad(true);
        let logits = found.classifier.logits(&x).unwrap();
        assert_eq!(logits.size(), [90, 4]);
        // The fourth class was never seen.
        assert_eq!(f64::try_from(logits.select(1, 3).max()).unwrap(), NEVER);
        logits.logsumexp([1_i64].as_slice(), false).sum(Kind::Float).backward();
        assert!(f64::try_from(x.grad().abs().min()).unwrap() > 0.0);
        let error = found.classifier.logits(&test.x.narrow(1, 0, 2)).unwrap_err().to_string();
        assert_eq!(error, "x: expected [_, 3], found [90, 2]");
    }

    #[test]
    fn an_outcome_from_a_file_says_that_its_classifier_was_not_kept() {
        let (train, test) = (clouds(60, 3, 0.8), clouds(30, 3, 0.8));
        let found = LinearProbe::new(LinearProbeConfig::default()).unwrap().run(&train, &test).unwrap();
        let text = serde_json::to_string(&found).unwrap();
        let back: crate::LinearOutcome = serde_json::from_str(&text).unwrap();
        assert_eq!(back.accuracy, found.accuracy);
        let error = back.classifier.predict(&test.x).unwrap_err().to_string();
        assert_eq!(error, "classifier = nothing learned: one of a probe that was run here");
    }
}
