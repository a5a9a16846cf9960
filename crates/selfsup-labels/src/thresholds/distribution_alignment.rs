//! Distribution alignment (ReMixMatch, Berthelot et al. 2020, section 3.1): predictions are scaled so that their running
//! mean becomes the distribution that labels should have.
//!
//! ```text
//! p~ <- m p~ + (1 - m) mean_i p_i        q_i = p_i (p / p~), scaled to sum 1        soft_i = sharpen(q_i, T)
//! ```
//! ReMixMatch takes the mean of the last 128 batches. This code takes an exponential one that starts at the first batch,
//! as later methods do (USB), with USB's 1e-6 against classes that are never predicted.

use super::confidence::{check_classes, check_momentum, sharpen, with_classes};
use crate::memory::{restored, saved};
use selfsup_core::{Error, Kind, Probabilities, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// The distribution that labels should have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// All classes are equally frequent.
    #[default]
    Uniform,
    /// Each class has this share, or this number of samples: what is given is scaled to sum 1.
    Given(Vec<f64>),
}

/// Settings of [`DistributionAlignment`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistributionAlignmentConfig {
    /// The share of the past in the running mean. USB: 0.999.
    pub momentum: f64,
    /// Where the mean is to go. ReMixMatch: the shares of the classes among the labelled samples.
    pub target: Target,
    /// The labeler's sharpening, 1 for none. ReMixMatch: 0.5 (section 4).
    pub temperature: f64,
}

impl Default for DistributionAlignmentConfig {
    fn default() -> Self {
        DistributionAlignmentConfig { momentum: 0.999, target: Target::Uniform, temperature: 0.5 }
    }
}

/// Aligns predictions with a distribution; as a labeler it gives them as soft labels, all of weight 1.
#[derive(Debug)]
pub struct DistributionAlignment {
    config: DistributionAlignmentConfig,
    /// p, `[C]` Float.
    target: Tensor,
    /// p~, `[C]` Float; zeros before the first batch.
    model: Tensor,
    started: bool,
}

impl DistributionAlignment {
    /// For this many classes.
    ///
    /// # Errors
    /// When there is no class, a given target is no distribution over them, or a setting is out of its range.
    pub fn new(classes: i64, config: DistributionAlignmentConfig) -> Result<DistributionAlignment> {
        check_classes(classes)?;
        check_momentum(config.momentum)?;
        if config.temperature.is_nan() || config.temperature <= 0.0 {
            return Err(Error::config("temperature", config.temperature, "above 0"));
        }
        let target = match &config.target {
            Target::Uniform => vec![1.0 / classes as f64; classes as usize],
            Target::Given(shares) => {
                let sum: f64 = shares.iter().sum();
                let fits = shares.len() as i64 == classes && shares.iter().all(|&share| share >= 0.0);
                if !fits || !sum.is_finite() || sum <= 0.0 {
                    let expected = format!("{classes} shares, 0 or above, not all 0");
                    return Err(Error::config("target", format!("{shares:?}"), expected));
                }
                shares.iter().map(|share| share / sum).collect()
            }
        };
        let target = Tensor::from_slice(&target).to_kind(Kind::Float);
        Ok(DistributionAlignment { config, model: target.zeros_like(), target, started: false })
    }

    /// Moves the running mean by a batch and aligns the batch: distributions `[N, C]`.
    ///
    /// # Errors
    /// When the number of classes does not fit.
    pub fn align(&mut self, scores: &Probabilities) -> Result<Probabilities> {
        let p = with_classes(scores, self.target.size()[0])?;
        let (device, momentum) = (p.device(), self.config.momentum);
        if p.size()[0] > 0 {
            let mean = p.mean_dim([0].as_slice(), false, Kind::Float); // [C]
            self.model = if self.started {
                self.model.to_device(device) * momentum + mean * (1.0 - momentum)
            } else {
                mean
            };
            self.started = true;
        }
        let aligned = p * (self.target.to_device(device) + 1e-6) / (self.model.to_device(device) + 1e-6);
        let sums = aligned.sum_dim_intlist([1].as_slice(), true, Kind::Float);
        Probabilities::new(&(aligned / sums))
    }
}

impl PseudoLabeler for DistributionAlignment {
    type Scores = Probabilities;

    /// Labels a batch of class probabilities `[N, C]` with their aligned and sharpened distributions.
    ///
    /// # Errors
    /// When the number of classes does not fit.
    fn label(&mut self, scores: &Probabilities) -> Result<PseudoLabels> {
        let aligned = self.align(scores)?;
        let soft = sharpen(&aligned, self.config.temperature)?.tensor().shallow_clone();
        let weights = Tensor::ones([soft.size()[0]], (Kind::Float, soft.device()));
        Ok(PseudoLabels::new(soft.argmax(1, false), weights, Reason::Confident, Reason::Unsure)
            .with_soft(soft))
    }

    /// `model` `[C]` Float and `started` `[]` Bool.
    fn state(&self) -> Vec<(String, Tensor)> {
        vec![saved("model", &self.model), saved("started", &Tensor::from(self.started))]
    }

    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let model = restored(state, "model", &self.model)?;
        self.started = bool::try_from(restored(state, "started", &Tensor::from(true))?)?;
        self.model = model;
        Ok(())
    }
}

/// Aligns predictions before another labeler sees them: with [`Threshold`](crate::Threshold), FixMatch with distribution
/// alignment (Sohn et al. 2020).
#[derive(Debug)]
pub struct Aligned<L> {
    /// What aligns; its temperature has no part in it.
    pub alignment: DistributionAlignment,
    /// What labels.
    pub labeler: L,
}

impl<L: PseudoLabeler<Scores = Probabilities>> PseudoLabeler for Aligned<L> {
    type Scores = Probabilities;

    /// Labels a batch of class probabilities `[N, C]`.
    ///
    /// # Errors
    /// When the number of classes does not fit, and those of the labeler.
    fn label(&mut self, scores: &Probabilities) -> Result<PseudoLabels> {
        let aligned = self.alignment.align(scores)?;
        self.labeler.label(&aligned)
    }

    /// Both states, under `alignment.` and `labeler.`.
    fn state(&self) -> Vec<(String, Tensor)> {
        let under = |prefix: &str, state: Vec<(String, Tensor)>| {
            state.into_iter().map(|(name, x)| (format!("{prefix}{name}"), x)).collect::<Vec<_>>()
        };
        let mut all = under(ALIGNMENT, self.alignment.state());
        all.extend(under(LABELER, self.labeler.state()));
        all
    }

    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let below = |prefix: &str| {
            let entry = |(name, x): &(String, Tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), x.shallow_clone()))
            };
            state.iter().filter_map(entry).collect::<Vec<_>>()
        };
        let before = self.alignment.state();
        self.alignment.restore(&below(ALIGNMENT))?;
        self.labeler.restore(&below(LABELER)).or_else(|error| {
            self.alignment.restore(&before)?;
            Err(error)
        })
    }
}

const ALIGNMENT: &str = "alignment.";
const LABELER: &str = "labeler.";

#[cfg(test)]
mod tests {
    use super::super::course::{STEPS, assert_near, probabilities};
    use super::*;
    use crate::{FreeMatch, FreeMatchConfig, Threshold, ThresholdConfig};
    use selfsup_core::Device;

    fn alignment(target: Target) -> DistributionAlignment {
        let config = DistributionAlignmentConfig { momentum: 0.9, target, ..Default::default() };
        DistributionAlignment::new(4, config).unwrap()
    }

    // pm = None
    // for t in range(20):                                   # logits(t): see course.rs
    //     p = logits(t).softmax(1)
    //     pm = p.mean(0) if pm is None else pm * 0.9 + p.mean(0) * (1 - 0.9)
    //     q = p * (target + 1e-6) / (pm + 1e-6); q = q / q.sum(-1, keepdim=True)
    //     s = q ** (1 / 0.5); s = s / s.sum(-1, keepdim=True); s[3]
    #[rustfmt::skip]
    const UNIFORM: [[f64; 4]; 20] = [
        [0.2722744, 0.01615682, 0.5530062, 0.1585625],
        [0.5525333, 0.002298009, 0.4322497, 0.01291894],
        [0.1665983, 0.00375443, 0.04397905, 0.7856683],
        [0.8640978, 0.1087205, 0.02538981, 0.001791792],
        [0.7145094, 0.1833007, 0.08918028, 0.01300966],
        [4.799926e-05, 0.004409204, 0.6926216, 0.3029212],
        [0.0007371386, 7.407396e-05, 0.6504997, 0.348689],
        [0.00224946, 6.279933e-06, 0.9977227, 2.162511e-05],
        [0.2116047, 3.50545e-07, 0.7883948, 1.205822e-07],
        [0.05105342, 0.02148809, 0.927098, 0.0003605089],
        [0.996799, 3.718847e-08, 0.00136395, 0.001836948],
        [1.81692e-05, 9.437178e-08, 0.9995989, 0.0003828458],
        [0.00911023, 1.521918e-08, 3.884027e-06, 0.9908859],
        [0.004422971, 0.992187, 0.00338999, 1.731048e-08],
        [0.9990245, 0.0008845169, 4.137387e-05, 4.956779e-05],
        [0.001692167, 0.01299946, 0.1851889, 0.8001195],
        [0.7422236, 0.2063324, 0.04928701, 0.002156892],
        [1.621789e-05, 0.01112409, 0.7413427, 0.247517],
        [3.011521e-07, 6.592308e-09, 1.065903e-05, 0.999989],
        [0.002437636, 0.9975618, 4.921461e-07, 4.274269e-14],
    ];
    #[rustfmt::skip]
    const GIVEN: [[f64; 4]; 20] = [
        [0.6338964, 0.02115877, 0.3218722, 0.02307268],
        [0.8337655, 0.001950565, 0.1630656, 0.001218425],
        [0.7281076, 0.009229803, 0.04805218, 0.2146104],
        [0.9274294, 0.06563762, 0.006812704, 0.0001201965],
        [0.8498734, 0.1226405, 0.02651902, 0.0009671616],
        [0.0002466341, 0.01274389, 0.889727, 0.09728248],
        [0.003980275, 0.0002249846, 0.8781185, 0.1176762],
        [0.008937554, 1.403521e-05, 0.991043, 5.370137e-06],
        [0.5177449, 4.824556e-07, 0.4822546, 1.843997e-08],
        [0.1730984, 0.04098164, 0.7858435, 7.639603e-05],
        [0.999543, 2.097614e-08, 0.000341928, 0.000115127],
        [7.269334e-05, 2.123852e-07, 0.9998313, 9.573464e-05],
        [0.1282363, 1.205026e-07, 1.366804e-05, 0.8717498],
        [0.007850822, 0.9906449, 0.001504325, 1.920422e-09],
        [0.9994888, 0.0004977728, 1.034832e-05, 3.099473e-06],
        [0.01606843, 0.06943505, 0.4396301, 0.4748665],
        [0.8524032, 0.1332911, 0.01415093, 0.0001548193],
        [7.831698e-05, 0.03021685, 0.8949993, 0.07470558],
        [4.818186e-06, 5.932784e-08, 4.263415e-05, 0.9999525],
        [0.004325367, 0.9956744, 2.183184e-07, 4.740264e-15],
    ];

    #[test]
    fn goes_the_way_of_the_authors_code() {
        let given = Target::Given(vec![40.0, 30.0, 20.0, 10.0]);
        for (target, fourth) in [(Target::Uniform, UNIFORM), (given, GIVEN)] {
            let mut labeler = alignment(target);
            for t in 0..STEPS {
                let found = labeler.label(&probabilities(t)).unwrap();
                let soft = found.soft.unwrap();
                assert_near(&soft.get(3), &fourth[t as usize], 2e-6);
                assert_eq!(found.labels, soft.argmax(1, false));
                assert_eq!(Vec::<f64>::try_from(found.weights).unwrap(), [1.0; 8]);
            }
            assert_near(&labeler.model, &[0.32624859, 0.22344719, 0.18955503, 0.26074901], 1e-6);
        }
    }

    #[test]
    fn leaves_alone_what_has_the_right_mean_already() {
        let p = Tensor::from_slice2(&[[0.7_f32, 0.3], [0.3, 0.7]]);
        let config = DistributionAlignmentConfig::default();
        let aligned =
            DistributionAlignment::new(2, config).unwrap().align(&Probabilities::new(&p).unwrap()).unwrap();
        assert_near(aligned.tensor(), &[0.7, 0.3, 0.3, 0.7], 1e-6);
    }

    #[test]
    fn goes_on_from_a_checkpoint_as_if_never_stopped() {
        for stop in [0, 10] {
            let (mut whole, mut first) = (alignment(Target::Uniform), alignment(Target::Uniform));
            for t in 0..stop {
                whole.label(&probabilities(t)).unwrap();
                first.label(&probabilities(t)).unwrap();
            }
            let mut second = alignment(Target::Uniform);
            second.restore(&first.state()).unwrap();
            for t in stop..STEPS {
                let (a, b) =
                    (whole.label(&probabilities(t)).unwrap(), second.label(&probabilities(t)).unwrap());
                assert_eq!((a.labels, a.weights, a.soft), (b.labels, b.weights, b.soft));
            }
        }
    }

    #[test]
    fn an_aligned_labeler_sees_aligned_predictions_and_keeps_both_states() {
        let make = || Aligned {
            alignment: alignment(Target::Uniform),
            labeler: FreeMatch::new(4, FreeMatchConfig { momentum: 0.9, ..Default::default() }).unwrap(),
        };
        let (mut whole, mut first) = (make(), make());
        for t in 0..10 {
            whole.label(&probabilities(t)).unwrap();
            first.label(&probabilities(t)).unwrap();
        }
        let names: Vec<_> = first.state().into_iter().map(|(name, _)| name).collect();
        let expected =
            ["alignment.model", "alignment.started", "labeler.global", "labeler.model", "labeler.histogram"];
        assert_eq!(names, expected);
        let mut second = make();
        second.restore(&first.state()).unwrap();
        for t in 10..STEPS {
            let (a, b) = (whole.label(&probabilities(t)).unwrap(), second.label(&probabilities(t)).unwrap());
            assert_eq!((a.labels, a.weights), (b.labels, b.weights));
        }

        let config = ThresholdConfig { tau: 0.6 };
        let mut fixmatch = Aligned {
            alignment: alignment(Target::Uniform),
            labeler: Threshold::new(config.clone()).unwrap(),
        };
        let found = fixmatch.label(&probabilities(9)).unwrap();
        let aligned = alignment(Target::Uniform).align(&probabilities(9)).unwrap();
        let expected = Threshold::new(config).unwrap().label(&aligned).unwrap();
        assert_eq!((found.labels, found.weights), (expected.labels, expected.weights));
    }

    #[test]
    fn a_state_that_does_not_fit_changes_nothing() {
        let mut aligned = Aligned {
            alignment: alignment(Target::Uniform),
            labeler: FreeMatch::new(4, FreeMatchConfig::default()).unwrap(),
        };
        aligned.label(&probabilities(0)).unwrap();
        let before = aligned.state();
        let mut half = alignment(Target::Uniform).state();
        for (name, _) in &mut half {
            name.insert_str(0, ALIGNMENT);
        }
        let error = aligned.restore(&half).unwrap_err().to_string();
        assert_eq!(error, "state.global = missing: [] Float");
        assert_eq!(aligned.state(), before);
    }

    #[test]
    fn survives_classes_that_are_never_predicted_and_empty_batches() {
        let mut alignment = alignment(Target::Uniform);
        let none = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
        assert_eq!(alignment.label(&Probabilities::new(&none).unwrap()).unwrap().labels.size(), [0]);
        assert!(!alignment.started);
        let one_sided = Tensor::from_slice2(&[[1.0_f32, 0.0, 0.0, 0.0]]);
        let aligned = alignment.align(&Probabilities::new(&one_sided).unwrap()).unwrap();
        assert_near(aligned.tensor(), &[1.0, 0.0, 0.0, 0.0], 1e-6);
    }

    #[test]
    fn rejects_targets_that_are_no_distribution() {
        for shares in [vec![0.5, 0.5], vec![0.0; 4], vec![-1.0, 1.0, 1.0, 1.0], vec![f64::NAN; 4]] {
            let config = DistributionAlignmentConfig { target: Target::Given(shares), ..Default::default() };
            let error = DistributionAlignment::new(4, config).unwrap_err().to_string();
            assert!(error.ends_with("4 shares, 0 or above, not all 0"), "{error}");
        }
        let config = DistributionAlignmentConfig { temperature: 0.0, ..Default::default() };
        assert!(DistributionAlignment::new(4, config).is_err());
    }
}
