//! Labels that a machine gives: what they are made of, and what makes them.
//!
//! What a labeler works on stands in its type, [`Logits`], [`Probabilities`] or [`FeatureRows`]; each is checked once, when
//! it is made.

use crate::{Error, Kind, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// The outputs of a classifier before the softmax, `[N, C]` Float: finite, with a class at least.
#[derive(Debug)]
pub struct Logits(Tensor);

impl Logits {
    /// Checks and detaches logits `[N, C]`.
    ///
    /// # Errors
    /// When they are no matrix with a column, or a row has a value that is not finite.
    pub fn new(logits: &Tensor) -> Result<Logits> {
        let x = matrix("logits", logits)?;
        refuse_rows("logits", &x, &x.isfinite().all_dim(1, false), "finite values")?;
        Ok(Logits(x))
    }

    /// The logits, `[N, C]`.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// Their softmax at a temperature, `[N, C]`: below 1 sharper, above 1 flatter.
    ///
    /// # Errors
    /// When the temperature is not above 0.
    pub fn softmax(&self, temperature: f64) -> Result<Probabilities> {
        if temperature.is_nan() || temperature <= 0.0 {
            return Err(Error::config("temperature", temperature, "above 0"));
        }
        Ok(Probabilities((&self.0 / temperature).softmax(1, Kind::Float)))
    }
}

/// The probabilities of classes, `[N, C]` Float: none negative, each row with sum 1.
#[derive(Debug)]
pub struct Probabilities(Tensor);

impl Probabilities {
    /// Checks and detaches probabilities `[N, C]`.
    ///
    /// # Errors
    /// When they are no matrix with a column, or a row is no distribution: it has a value that is negative or not finite,
    /// or its sum is not 1. Logits need a softmax first.
    pub fn new(probabilities: &Tensor) -> Result<Probabilities> {
        let p = matrix("probabilities", probabilities)?;
        let sums_to_one = (p.sum_dim_intlist(1, false, None) - 1.0).abs().le(1e-2);
        let distribution = p.ge(0.0).all_dim(1, false).logical_and(&sums_to_one); // [N]
        refuse_rows("probabilities", &p, &distribution, "0 or above, with sum 1")?;
        Ok(Probabilities(p))
    }

    /// The probabilities, `[N, C]`.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }
}

/// The features of samples, `[N, D]` Float, all finite.
#[derive(Debug)]
pub struct FeatureRows(Tensor);

impl FeatureRows {
    /// Checks and detaches features `[N, D]`.
    ///
    /// # Errors
    /// When they are no matrix with a column, or a row has a value that is not finite.
    pub fn new(features: &Tensor) -> Result<FeatureRows> {
        let x = matrix("features", features)?;
        refuse_rows("features", &x, &x.isfinite().all_dim(1, false), "finite values")?;
        Ok(FeatureRows(x))
    }

    /// The features, `[N, D]`.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }
}

fn matrix(name: &str, x: &Tensor) -> Result<Tensor> {
    let [_, columns] = check_shape(name, x, [-1, -1])?;
    if columns == 0 {
        return Err(Error::config(name, "[N, 0]", "at least one column"));
    }
    Ok(x.detach().to_kind(Kind::Float))
}

/// Names the first row that is not good.
fn refuse_rows(name: &str, x: &Tensor, good: &Tensor, wanted: &str) -> Result<()> {
    if bool::try_from(good.all())? {
        return Ok(());
    }
    let row = i64::try_from(good.to_kind(Kind::Int64).argmin(0, false))?;
    let shown = x.get(row).slice(0, 0, 8, 1);
    let more = if x.size()[1] > 8 { " and more" } else { "" };
    let found = format!("row {row} = {:?}{more}", Vec::<f32>::try_from(shown)?);
    Err(Error::config(name, found, wanted))
}

/// Why a pseudo-label has the weight that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    /// A person gave the label.
    Given = 0,
    /// The model is as sure of it as the rule asks.
    Confident = 1,
    /// The model is less sure of it than the rule asks.
    Unsure = 2,
    /// The sample lies clearly in one cluster, or near one class's mean.
    Central = 3,
    /// The sample lies between clusters or classes.
    Between = 4,
    /// Labels of its neighbours reached it.
    Reached = 5,
    /// It is not connected to any labelled sample.
    Unreached = 6,
    /// Views of the sample, or several models, give it different labels.
    Disagreement = 7,
    /// The sample is unlike all that the labels are about.
    OutOfDistribution = 8,
    /// Its class has more labels than the balance allows.
    Surplus = 9,
}

impl Reason {
    const ALL: [Reason; 10] = [
        Reason::Given,
        Reason::Confident,
        Reason::Unsure,
        Reason::Central,
        Reason::Between,
        Reason::Reached,
        Reason::Unreached,
        Reason::Disagreement,
        Reason::OutOfDistribution,
        Reason::Surplus,
    ];

    /// The value that stands for it in [`PseudoLabels::reasons`].
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The reason that a value stands for.
    ///
    /// # Errors
    /// When none has this value.
    pub fn from_code(code: i64) -> Result<Reason> {
        let found = usize::try_from(code).ok().and_then(|code| Reason::ALL.get(code));
        found.copied().ok_or_else(|| Error::config("reason", code, "0 to 9"))
    }

    /// A sentence for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::Given => "a person gave this label",
            Reason::Confident => "the model is sure enough",
            Reason::Unsure => "the model is not sure enough",
            Reason::Central => "well inside its cluster or class",
            Reason::Between => "between clusters or classes",
            Reason::Reached => "reached from labelled samples through its neighbours",
            Reason::Unreached => "connected to no labelled sample",
            Reason::Disagreement => "views or models disagree about it",
            Reason::OutOfDistribution => "unlike all labelled samples",
            Reason::Surplus => "its class has enough labels",
        }
    }
}

/// Labels that a machine gave, how far each is to be trusted, and why.
#[derive(Debug)]
pub struct PseudoLabels {
    /// The labels, `[N]` Int64.
    pub labels: Tensor,
    /// Their weights in `[0, 1]`, `[N]` Float; 0 rejects the label.
    pub weights: Tensor,
    /// Why, `[N]` Int64: the codes of a [`Reason`].
    pub reasons: Tensor,
    /// The whole distribution over the classes, `[N, C]` Float, where the labeler gives one (MixMatch, propagation).
    pub soft: Option<Tensor>,
}

impl PseudoLabels {
    /// Labels whose reason is `yes` where the weight is above 0, and `no` elsewhere.
    pub fn new(labels: Tensor, weights: Tensor, yes: Reason, no: Reason) -> PseudoLabels {
        let kept = weights.gt(0.0).to_kind(Kind::Int64);
        let reasons = kept * (yes.code() - no.code()) + no.code();
        PseudoLabels { labels, weights, reasons, soft: None }
    }

    /// The same with distributions `[N, C]`.
    #[must_use]
    pub fn with_soft(mut self, soft: Tensor) -> PseudoLabels {
        self.soft = Some(soft);
        self
    }

    /// The reasons as words.
    ///
    /// # Errors
    /// When a code stands for none.
    pub fn reasons(&self) -> Result<Vec<Reason>> {
        Vec::<i64>::try_from(&self.reasons)?.into_iter().map(Reason::from_code).collect()
    }
}

/// Turns scores into labels: what it takes, [`Logits`], [`Probabilities`] or [`FeatureRows`], its type says.
pub trait PseudoLabeler {
    /// What it labels.
    type Scores;

    /// Labels a batch of scores `[N, C]`; what the labeler learns from the batch (a running threshold) it keeps.
    ///
    /// # Errors
    /// When the scores do not fit the labeler: another number of classes, too few samples.
    fn label(&mut self, scores: &Self::Scores) -> Result<PseudoLabels>;

    /// What it remembers between batches, by name: to be stored with a checkpoint.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Takes up what [`state`](PseudoLabeler::state) gave.
    ///
    /// # Errors
    /// When a name is missing, or has another shape.
    fn restore(&mut self, _state: &[(String, Tensor)]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_checked_when_they_are_made() {
        let error = |x: &Tensor| Probabilities::new(x).unwrap_err().to_string();
        let logits = Tensor::from_slice2(&[[0.5_f32, 0.5], [3.0, -1.0]]);
        assert_eq!(error(&logits), "probabilities = row 1 = [3.0, -1.0]: 0 or above, with sum 1");
        assert!(error(&Tensor::from_slice2(&[[f32::NAN, 1.0]])).contains("row 0"));
        assert_eq!(error(&Tensor::from_slice(&[1.0_f32])), "probabilities: expected [_, _], found [1]");
        let error = Logits::new(&Tensor::from_slice2(&[[1.0_f32, f32::INFINITY]])).unwrap_err().to_string();
        assert_eq!(error, "logits = row 0 = [1.0, inf]: finite values");
        let wide = Tensor::full([2, 9], f64::NAN, (Kind::Float, crate::Device::Cpu));
        assert!(FeatureRows::new(&wide).unwrap_err().to_string().contains("and more: finite values"));
        let empty = Tensor::zeros([3, 0], (Kind::Float, crate::Device::Cpu));
        assert_eq!(Logits::new(&empty).unwrap_err().to_string(), "logits = [N, 0]: at least one column");
    }

    #[test]
    fn a_softmax_sharpens_below_a_temperature_of_one() {
        let logits = Logits::new(&Tensor::from_slice2(&[[1.0_f32, 0.0]])).unwrap();
        let p = |t: f64| logits.softmax(t).unwrap().tensor().double_value(&[0, 0]);
        assert!((p(1.0) - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-6);
        assert!((p(0.5) - 1.0 / (1.0 + (-2.0_f64).exp())).abs() < 1e-6);
        assert_eq!(logits.softmax(0.0).unwrap_err().to_string(), "temperature = 0: above 0");
    }

    #[test]
    fn reasons_follow_the_weights_and_come_back_as_words() {
        let labels = Tensor::from_slice(&[3_i64, 1]);
        let found =
            PseudoLabels::new(labels, Tensor::from_slice(&[0.0_f32, 0.2]), Reason::Confident, Reason::Unsure);
        assert_eq!(found.reasons().unwrap(), [Reason::Unsure, Reason::Confident]);
        for (code, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(Reason::from_code(code as i64).unwrap(), reason);
        }
        assert_eq!(Reason::from_code(10).unwrap_err().to_string(), "reason = 10: 0 to 9");
    }
}
