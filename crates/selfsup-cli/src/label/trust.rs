//! Calibrated probabilities, weights and reasons.
//!
//! A label's probability is what held-out labels say it is: one temperature is fitted to predictions for given labels by models
//! that had not seen them. Its weight is its probability, or 0 where the label is rejected: because the sample is unlike all
//! labelled ones, because its views are of other classes, or because another class is nearly as probable.

use super::folds::folds;
use super::given::Given;
use super::predict::Predicted;
use anyhow::Result;
use selfsup::core::{FeatureRows, Key, Kind, Logits, PseudoLabeler, Reason, Tensor};
use selfsup::labels::{
    BestTemperature, Calibration, CalibrationConfig, Detector, Familiarity, LabelledProbabilities,
    NearestLabelled, Threshold, ThresholdConfig, calibration,
};

/// What a person said of a label that is wrong and has no other.
const REJECTED: &str = "a person rejected it";

/// The labels of all samples.
#[derive(Debug)]
pub struct Labels {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The class of each sample.
    pub labels: Vec<i64>,
    /// How probable it is; none of clusters, and of labels that a person rejected or gave a weight below 1.
    pub probability: Vec<Option<f64>>,
    /// How far it counts, 0 to 1, a given one as its file says; 0 rejects it.
    pub weights: Vec<f64>,
    /// Why.
    pub reasons: Vec<&'static str>,
    /// The calibrated probabilities of all classes, `[N, C]`; none of clusters.
    pub probabilities: Option<Tensor>,
    /// How the labels were found.
    pub how: String,
    /// What held-out labels say; none of clusters.
    pub held_out: Option<HeldOut>,
}

impl Labels {
    /// An order of trust: any label that counts before any that is rejected, then by weight or probability.
    pub fn trust(&self, sample: usize) -> f64 {
        if self.weights[sample] > 0.0 {
            1.0 + self.weights[sample]
        } else {
            self.probability[sample].unwrap_or(0.0)
        }
    }

    /// Puts what a person said into the place of what a machine did. The classes are the same.
    pub fn put(&mut self, given: &Given) {
        for (at, &index) in given.indices.iter().enumerate() {
            self.labels[index] = given.labels[at];
            // Who gives a label less weight is not sure of it, but does not say how probable it is.
            self.probability[index] = (given.weights[at] >= 1.0).then_some(1.0);
            self.weights[index] = given.weights[at];
            self.reasons[index] = given.reasons[at];
        }
        for &(index, label) in &given.rejected {
            self.labels[index] = label;
            self.probability[index] = None;
            self.weights[index] = 0.0;
            self.reasons[index] = REJECTED;
        }
    }

    /// The same with the classes numbered as in `known`, where that has all of them.
    #[must_use]
    pub fn among(self, known: Option<&[String]>) -> Labels {
        let place = |class: &String| known.unwrap_or_default().iter().position(|other| other == class);
        let places: Option<Vec<usize>> = self.classes.iter().map(place).collect();
        let (Some(places), Some(known)) = (places, known) else { return self };
        let spread = |p: Tensor| {
            let all = Tensor::zeros([p.size()[0], known.len() as i64], (p.kind(), p.device()));
            let columns = Tensor::from_slice(&places.iter().map(|&at| at as i64).collect::<Vec<_>>());
            all.index_copy(1, &columns, &p)
        };
        Labels {
            classes: known.to_vec(),
            labels: self.labels.iter().map(|&label| places[label as usize] as i64).collect(),
            probabilities: self.probabilities.map(spread),
            ..self
        }
    }

    /// The name of a sample's class.
    pub fn class(&self, sample: usize) -> &str {
        &self.classes[self.labels[sample] as usize]
    }

    /// How many labels there are for each reason, the most frequent first.
    pub fn by_reason(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for reason in &self.reasons {
            match counts.iter_mut().find(|(known, _)| known == reason) {
                Some((_, count)) => *count += 1,
                None => counts.push((reason, 1)),
            }
        }
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        counts
    }
}

/// What the given labels say of predictions by models that had not seen them.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOut {
    /// What temperature they find best.
    pub best: BestTemperature,
    /// How true the probabilities are.
    pub calibration: Calibration,
}

impl HeldOut {
    /// Calibrates class scores of the given labels, `[M, C]`.
    ///
    /// # Errors
    /// When scores are not finite.
    pub fn of(logits: &Tensor, given: &Given) -> Result<HeldOut> {
        let labels = given.label_tensor();
        let logits = Logits::new(logits)?;
        let best = BestTemperature::find(&logits, &labels)?;
        let scores = LabelledProbabilities::new(&labels, logits.softmax(divisor(&best))?)?;
        Ok(HeldOut { best, calibration: calibration(&scores, &CalibrationConfig::default())? })
    }

    /// What scores are divided by.
    pub fn temperature(&self) -> f64 {
        divisor(&self.best)
    }

    /// What is remarkable about the temperature, for a person.
    pub fn remark(&self) -> Option<&'static str> {
        match self.best {
            BestTemperature::Chance => {
                Some("held-out labels are predicted no better than by chance: no label can be trusted")
            }
            BestTemperature::Separable if self.calibration.accuracy == 1.0 => {
                Some("every held-out label was predicted: probabilities are not calibrated")
            }
            BestTemperature::Separable => Some(
                "every held-out label was predicted, or is as probable as another class: probabilities are not calibrated",
            ),
            BestTemperature::Fitted(_) => None,
        }
    }
}

/// What scores are divided by: as they are, where the best would be 0.
fn divisor(best: &BestTemperature) -> f64 {
    match best {
        BestTemperature::Fitted(scaling) => scaling.temperature,
        BestTemperature::Separable => 1.0,
        BestTemperature::Chance => f64::INFINITY,
    }
}

/// The mean negative log-likelihood of held-out labels at their best temperature.
///
/// # Errors
/// When scores are not finite.
pub fn scaled_loss(logits: &Tensor, given: &Given) -> Result<f64> {
    let labels = given.label_tensor();
    let logits = Logits::new(logits)?;
    let p = logits.softmax(divisor(&BestTemperature::find(&logits, &labels)?))?;
    let own = p.tensor().gather(1, &labels.unsqueeze(1), false).to_kind(Kind::Double);
    Ok(f64::try_from(-own.clamp_min(1e-12).log().mean(Kind::Double))?)
}

/// What is asked of a label.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The least probability.
    pub min_probability: f64,
    /// Whether samples that are unlike all labelled ones are rejected.
    pub reject_unlike: bool,
    /// Decides which labels are held out.
    pub seed: u64,
}

/// The share of held-out labelled samples that are familiar enough.
const FAMILIAR: f64 = 0.99;

/// The share of views that must agree with the label.
const AGREEMENT: f64 = 0.5;

/// Gives every sample its label, weight and reason. `x` are the features, `[N, D]`.
///
/// # Errors
/// When predictions are not finite.
pub fn label(predicted: &Predicted, x: &Tensor, given: &Given, rule: Rule) -> Result<Labels> {
    let held_out = predicted.held_out.as_ref().map(|logits| HeldOut::of(logits, given)).transpose()?;
    let logits = Logits::new(&predicted.logits)?;
    let p = logits.softmax(held_out.as_ref().map_or(1.0, HeldOut::temperature))?;
    let mut found = Threshold::new(ThresholdConfig { tau: rule.min_probability })?.label(&p)?;
    let (confidence, _) = p.tensor().max_dim(1, false);
    found.weights *= &confidence;
    if let Some(agreement) = &predicted.agreement {
        let divided = agreement.lt(AGREEMENT);
        found.weights = found.weights.masked_fill(&divided, 0.0);
        found.reasons = found.reasons.masked_fill(&divided, Reason::Disagreement.code());
    }
    if rule.reject_unlike
        && let Some(detector) = familiar(x, given, rule.seed)?
    {
        found = detector.reject(&FeatureRows::new(x)?, found)?;
    }
    if let Some(reached) = &predicted.reached {
        let unreached = Tensor::from_slice(&reached.iter().map(|reached| !reached).collect::<Vec<bool>>());
        let reason = |code: Reason| code.code();
        let confident = found.reasons.eq(reason(Reason::Confident));
        found.reasons = found.reasons.masked_fill(&confident, reason(Reason::Reached));
        found.weights = found.weights.masked_fill(&unreached, 0.0);
        found.reasons = found.reasons.masked_fill(&unreached, reason(Reason::Unreached));
    }
    let mut labels = Labels {
        classes: given.classes.clone(),
        labels: Vec::try_from(&found.labels)?,
        probability: Vec::<f64>::try_from(&confidence.to_kind(Kind::Double))?.into_iter().map(Some).collect(),
        weights: Vec::try_from(&found.weights.to_kind(Kind::Double))?,
        reasons: found.reasons()?.into_iter().map(Reason::sentence).collect(),
        probabilities: Some(p.tensor().shallow_clone()),
        how: predicted.how.clone(),
        held_out,
    };
    labels.put(given);
    Ok(labels)
}

/// Whether the rule can reject samples that are unlike the given ones: there are some to hold out of every class.
pub fn tells_unlike(given: &Given, rule: Rule) -> bool {
    rule.reject_unlike && !folds(&given.labels, given.classes.len(), Key::new(rule.seed)).is_empty()
}

/// What tells samples that are like labelled ones, its threshold set by labels that are held out; none where there are none.
fn familiar(x: &Tensor, given: &Given, seed: u64) -> Result<Option<Detector<NearestLabelled>>> {
    let mut scores = Vec::new();
    let rows = |places: &[usize]| -> Result<FeatureRows> {
        let rows: Vec<i64> = places.iter().map(|&at| given.indices[at] as i64).collect();
        Ok(FeatureRows::new(&x.index_select(0, &Tensor::from_slice(&rows)))?)
    };
    for (fitted, held) in folds(&given.labels, given.classes.len(), Key::new(seed)) {
        if !held.is_empty() {
            scores.extend(Vec::<f64>::try_from(
                NearestLabelled::new(&rows(&fitted)?, 1)?.score(&rows(&held)?)?.to_kind(Kind::Double),
            )?);
        }
    }
    if scores.is_empty() {
        return Ok(None);
    }
    let threshold = Detector::fit(Scored, &Tensor::from_slice(&scores), FAMILIAR)?.threshold;
    let all: Vec<usize> = (0..given.indices.len()).collect();
    let familiarity = NearestLabelled::new(&rows(&all)?, 1)?;
    Ok(Some(Detector { familiarity, threshold }))
}

/// Scores that were taken before: each fold's by what was fitted to the others.
struct Scored;

impl Familiarity for Scored {
    type Input = Tensor;

    fn score(&self, scores: &Tensor) -> selfsup::core::Result<Tensor> {
        Ok(scores.shallow_clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        let classes = ["a", "b"].map(str::to_owned).to_vec();
        Given {
            classes,
            indices: vec![0, 1, 4, 5],
            labels: vec![0, 0, 1, 1],
            weights: vec![1.0; 4],
            reasons: vec![Reason::Given.sentence(); 4],
            rejected: vec![(3, 1)],
        }
    }

    /// Eight samples on a line: four beside the labelled ones, one far away.
    fn features() -> Tensor {
        let at = [
            [1.0_f32, 0.0],
            [1.0, 0.1],
            [1.0, 0.05],
            [1.0, 0.02],
            [0.0, 1.0],
            [0.1, 1.0],
            [0.1, 1.0],
            [-1.0, -1.0],
        ];
        Tensor::from_slice2(&at)
    }

    fn predicted(held_out: [[f32; 2]; 4]) -> Predicted {
        let logits = [
            [2.0_f32, 0.0],
            [2.0, 0.0],
            [1.0, 0.0],
            [0.0, 1.0],
            [0.0, 2.0],
            [0.0, 2.0],
            [0.1, 0.0],
            [4.0, 0.0],
        ];
        Predicted {
            logits: Tensor::from_slice2(&logits),
            held_out: Some(Tensor::from_slice2(&held_out)),
            agreement: None,
            reached: None,
            how: "by hand".to_owned(),
        }
    }

    /// Three of four labels are predicted.
    const HELD_OUT: [[f32; 2]; 4] = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]];

    fn rule(min_probability: f64) -> Rule {
        Rule { min_probability, reject_unlike: true, seed: 0 }
    }

    #[test]
    fn probabilities_are_those_of_held_out_labels() {
        let labels = label(&predicted(HELD_OUT), &features(), &given(), rule(0.6)).unwrap();
        // Of one logit of difference three in four are right: 1 / (1 + exp(-1 / T)) = 3/4 at T = 1 / ln 3.
        let held_out = labels.held_out.as_ref().unwrap();
        assert!((held_out.temperature() - 1.0 / 3.0_f64.ln()).abs() < 1e-6, "{held_out:?}");
        assert!((held_out.calibration.accuracy - 0.75).abs() < 1e-12 && held_out.calibration.ece < 1e-6);
        assert!((labels.probability[2].unwrap() - 0.75).abs() < 1e-6);
        assert!((labels.weights[2] - 0.75).abs() < 1e-6);
        assert_eq!(labels.reasons[2], Reason::Confident.sentence());
        assert_eq!((labels.weights[6], labels.reasons[6]), (0.0, Reason::Unsure.sentence()));
        assert_eq!((labels.weights[7], labels.reasons[7]), (0.0, Reason::OutOfDistribution.sentence()));
        assert_eq!(
            (labels.labels[0], labels.weights[0], labels.reasons[0]),
            (0, 1.0, Reason::Given.sentence())
        );
        assert_eq!((labels.labels[3], labels.weights[3], labels.reasons[3]), (1, 0.0, REJECTED));
        assert_eq!(labels.probability[3], None);
        assert_eq!(labels.by_reason()[0], (Reason::Given.sentence(), 4));
    }

    #[test]
    fn a_given_label_counts_as_far_as_its_file_says() {
        let given = Given { weights: vec![1.0, 0.25, 1.0, 2.0], ..given() };
        let labels = label(&predicted(HELD_OUT), &features(), &given, rule(0.6)).unwrap();
        assert_eq!([0, 1, 5].map(|i| labels.weights[i]), [1.0, 0.25, 2.0]);
        assert_eq!([0, 1, 5].map(|i| labels.probability[i]), [Some(1.0), None, Some(1.0)]);
    }

    #[test]
    fn what_counts_is_trusted_more_than_what_is_rejected() {
        let labels = label(&predicted(HELD_OUT), &features(), &given(), rule(0.6)).unwrap();
        assert!(labels.trust(0) > labels.trust(2) && labels.trust(2) > labels.trust(7));
        assert!(labels.trust(7) > labels.trust(6) && labels.trust(6) > labels.trust(3));
        let kept =
            label(&predicted(HELD_OUT), &features(), &given(), Rule { reject_unlike: false, ..rule(0.6) });
        assert!(kept.unwrap().weights[7] > 0.9);
    }

    #[test]
    fn labels_that_are_all_predicted_or_all_missed_set_no_temperature() {
        let all = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]];
        let labels = label(&predicted(all), &features(), &given(), rule(0.6)).unwrap();
        let held_out = labels.held_out.unwrap();
        assert_eq!(held_out.temperature(), 1.0);
        assert!(held_out.remark().unwrap().contains("not calibrated"));
        let none = [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]];
        let labels = label(&predicted(none), &features(), &given(), rule(0.6)).unwrap();
        assert_eq!(labels.probability[2], Some(0.5));
        assert_eq!(labels.weights.iter().filter(|w| **w > 0.0).count(), 4, "only what was given counts");
        assert!(labels.held_out.unwrap().remark().unwrap().contains("no better than by chance"));
    }

    #[test]
    fn a_held_out_label_that_nothing_is_told_of_does_not_make_all_the_others_chance() {
        // The last one has an even row, as a sample that no label reaches.
        let tied = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]];
        let labels = label(&predicted(tied), &features(), &given(), rule(0.6)).unwrap();
        let sure = 1.0 / (1.0 + (-1.0_f64).exp());
        assert!((labels.probability[2].unwrap() - sure).abs() < 1e-6);
        assert_eq!(labels.reasons[2], Reason::Confident.sentence());
        let held_out = labels.held_out.unwrap();
        assert_eq!((held_out.temperature(), held_out.calibration.accuracy), (1.0, 0.75));
        assert!(held_out.remark().unwrap().contains("as probable as another class"));
    }

    #[test]
    fn views_that_disagree_and_samples_that_no_label_reaches_are_rejected() {
        let mut predicted = predicted(HELD_OUT);
        predicted.agreement = Some(Tensor::from_slice(&[1.0_f32, 1.0, 0.4, 1.0, 1.0, 1.0, 0.6, 1.0]));
        let labels = label(&predicted, &features(), &given(), rule(0.0)).unwrap();
        assert_eq!((labels.weights[2], labels.reasons[2]), (0.0, Reason::Disagreement.sentence()));
        assert!(labels.weights[6] > 0.5);
        predicted.agreement = None;
        predicted.reached = Some(vec![true, true, true, true, true, true, false, true]);
        let labels = label(&predicted, &features(), &given(), rule(0.0)).unwrap();
        assert_eq!((labels.weights[6], labels.reasons[6]), (0.0, Reason::Unreached.sentence()));
        assert_eq!(labels.reasons[2], Reason::Reached.sentence());
    }
}
