//! SoftMatch (Chen et al. 2023, section 3): all labels are kept, each weighted by a truncated Gaussian of the model's
//! confidence, whose mean and variance follow the batches.
//!
//! ```text
//! mu      <- m mu      + (1 - m) mean_i max_c p_ic        from 1 / C
//! sigma^2 <- m sigma^2 + (1 - m) var_i max_c p_ic         from 1, unbiased
//! weight_i = exp(-min(max_c p_ic - mu, 0)^2 / (2 sigma^2 / n^2))
//! ```
//! With uniform alignment confidences are those of predictions aligned with a uniform distribution; labels
//! are the most probable classes of the predictions as they are. As in the authors' code (USB) a batch is judged by the
//! mean and variance after it, and the Gaussian is narrowed by `n = 2`.
//!
//! With one Gaussian a class, USB takes a mean of 0 and a variance of 1 from a batch with fewer than two predictions of the
//! class; here the class's Gaussian stays as it is then. A batch of one, which has no variance, moves the mean alone.

use super::confidence::{check_classes, check_momentum, most_probable, with_classes};
use super::distribution_alignment::{DistributionAlignment, DistributionAlignmentConfig};
use crate::memory::{restored, saved};
use selfsup_core::{Device, Error, Kind, Probabilities, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Settings of [`SoftMatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftMatchConfig {
    /// The share of the past in the running mean and variance, and in the alignment. The paper: 0.999.
    pub momentum: f64,
    /// By how much the Gaussian is narrowed. USB: 2.
    pub n_sigma: f64,
    /// Whether each class has a Gaussian of its own. The paper: no.
    pub per_class: bool,
    /// Whether confidences are taken after alignment with a uniform distribution. The paper: yes.
    pub uniform_alignment: bool,
}

impl Default for SoftMatchConfig {
    fn default() -> Self {
        SoftMatchConfig { momentum: 0.999, n_sigma: 2.0, per_class: false, uniform_alignment: true }
    }
}

/// Keeps all labels, and weighs them by how sure the model is of them for this point of its training.
#[derive(Debug)]
pub struct SoftMatch {
    config: SoftMatchConfig,
    classes: i64,
    alignment: Option<DistributionAlignment>,
    /// `[1]` Float, or `[C]` with a Gaussian a class.
    mean: Tensor,
    /// `[1]` Float, or `[C]`.
    variance: Tensor,
}

impl SoftMatch {
    /// For this many classes.
    ///
    /// # Errors
    /// When there is no class, or a setting is out of its range.
    pub fn new(classes: i64, config: SoftMatchConfig) -> Result<SoftMatch> {
        check_classes(classes)?;
        check_momentum(config.momentum)?;
        if !config.n_sigma.is_finite() || config.n_sigma <= 0.0 {
            return Err(Error::config("n_sigma", config.n_sigma, "above 0"));
        }
        let alignment = DistributionAlignmentConfig { momentum: config.momentum, ..Default::default() };
        let alignment =
            config.uniform_alignment.then(|| DistributionAlignment::new(classes, alignment)).transpose()?;
        let variance = Tensor::ones([if config.per_class { classes } else { 1 }], (Kind::Float, Device::Cpu));
        let mean = &variance / classes as f64;
        Ok(SoftMatch { config, classes, alignment, mean, variance })
    }

    fn update(&mut self, confidence: &Tensor, labels: &Tensor) {
        let groups: Vec<Tensor> = if self.config.per_class {
            let of = |class| confidence.index_select(0, &labels.eq(class).nonzero().squeeze_dim(1));
            (0..self.classes).map(of).collect()
        } else {
            vec![confidence.shallow_clone()]
        };
        let (old, new) = (self.config.momentum, 1.0 - self.config.momentum);
        let [means, variances] = [&self.mean, &self.variance].map(|x| x.to_device(confidence.device()));
        let moved = groups.iter().enumerate().map(|(group, confidence)| {
            let (mean, variance) = (means.get(group as i64), variances.get(group as i64));
            match confidence.size()[0] {
                2.. => (
                    mean * old + confidence.mean(Kind::Float) * new,
                    variance * old + confidence.var(true) * new,
                ),
                1 if !self.config.per_class => (mean * old + confidence.mean(Kind::Float) * new, variance),
                _ => (mean, variance),
            }
        });
        let (means, variances): (Vec<_>, Vec<_>) = moved.unzip();
        (self.mean, self.variance) = (Tensor::stack(&means, 0), Tensor::stack(&variances, 0));
    }
}

impl PseudoLabeler for SoftMatch {
    type Scores = Probabilities;

    /// Labels a batch of class probabilities `[N, C]`; one without samples changes nothing.
    ///
    /// # Errors
    /// When the number of classes does not fit.
    fn label(&mut self, scores: &Probabilities) -> Result<PseudoLabels> {
        let labels = with_classes(scores, self.classes)?.argmax(1, false); // [N]
        let (confidence, aligned_labels) = match &mut self.alignment {
            Some(alignment) => most_probable(alignment.align(scores)?.tensor()),
            None => most_probable(scores.tensor()),
        };
        self.update(&confidence, &aligned_labels);
        let group = if self.config.per_class { aligned_labels } else { labels.zeros_like() };
        let [mean, variance] =
            [&self.mean, &self.variance].map(|x| x.to_device(confidence.device()).index_select(0, &group)); // [N]
        let below = (confidence - mean).clamp_max(0.0);
        // The least variance that is not 0 keeps 0 / 0 out where all confidences are equal.
        let spread = (variance * (2.0 / self.config.n_sigma.powi(2))).clamp_min(f64::from(f32::MIN_POSITIVE));
        let weights = (-below.square() / spread).exp();

        let sure = below.eq(0.0).to_kind(Kind::Int64);
        let reasons = sure * (Reason::Confident.code() - Reason::Unsure.code()) + Reason::Unsure.code();
        Ok(PseudoLabels { labels, weights, reasons, soft: None })
    }

    /// `mean` and `variance`, `[1]` or `[C]` Float, and those of the alignment under `alignment.`.
    fn state(&self) -> Vec<(String, Tensor)> {
        let alignment = self.alignment.iter().flat_map(PseudoLabeler::state);
        let alignment = alignment.map(|(name, x)| (format!("alignment.{name}"), x));
        [saved("mean", &self.mean), saved("variance", &self.variance)].into_iter().chain(alignment).collect()
    }

    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let mean = restored(state, "mean", &self.mean)?;
        let variance = restored(state, "variance", &self.variance)?;
        if let Some(alignment) = &mut self.alignment {
            let below = |(name, x): &(String, Tensor)| {
                Some((name.strip_prefix("alignment.")?.to_owned(), x.shallow_clone()))
            };
            alignment.restore(&state.iter().filter_map(below).collect::<Vec<_>>())?;
        }
        (self.mean, self.variance) = (mean, variance);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::{STEPS, assert_near, bits, probabilities};
    use super::*;

    fn labeler(uniform_alignment: bool, per_class: bool) -> SoftMatch {
        let config = SoftMatchConfig { momentum: 0.9, uniform_alignment, per_class, ..Default::default() };
        SoftMatch::new(4, config).unwrap()
    }

    // mu = torch.tensor(1 / 4); var = torch.tensor(1.0); pm = None; target = torch.ones(4) / 4; m = 0.9
    // for t in range(20):                                   # logits(t): see course.rs
    //     p = logits(t).softmax(1)
    //     if align:
    //         pm = p.mean(0) if pm is None else pm * m + p.mean(0) * (1 - m)
    //         p = p * (target + 1e-6) / (pm + 1e-6); p = p / p.sum(-1, keepdim=True)
    //     conf, lab = p.max(1)
    //     mu = m * mu + (1 - m) * conf.mean().item(); var = m * var + (1 - m) * torch.var(conf, unbiased=True).item()
    //     w = torch.exp(-((torch.clamp(conf - mu, max=0.0) ** 2) / (2 * var / 2 ** 2)))
    #[rustfmt::skip]
    const MEANS: [f64; 20] = [
        0.2755477, 0.306076, 0.3339086, 0.3414825, 0.3605875, 0.3928372, 0.4281578, 0.4546832, 0.4741824, 0.5035796,
        0.5411646, 0.5757298, 0.6044042, 0.6319662, 0.643768, 0.6313742, 0.6288838, 0.639632, 0.6552328, 0.684219,
    ];
    #[rustfmt::skip]
    const VARIANCES: [f64; 20] = [
        0.901153, 0.811882, 0.7319856, 0.6607707, 0.5970525, 0.5389633, 0.4877767, 0.4434585, 0.4023346, 0.3638034,
        0.3284695, 0.2983179, 0.2705378, 0.245738, 0.2238165, 0.2052949, 0.1882391, 0.1751177, 0.1600467, 0.1444344,
    ];
    #[rustfmt::skip]
    const WEIGHTS: [[f64; 8]; 20] = [
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.9986015, 0.9883786, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.9899181, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 0.9930001, 1.0, 1.0, 1.0],
        [0.9794501, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9983431],
        [1.0, 1.0, 0.8781965, 1.0, 1.0, 1.0, 0.8491634, 1.0],
        [0.9434102, 1.0, 0.8261912, 0.9999623, 0.8959305, 0.3496487, 0.4343398, 0.5824545],
        [0.5298347, 0.5199366, 0.7446128, 1.0, 1.0, 1.0, 0.9532405, 1.0],
        [0.5493915, 1.0, 1.0, 0.8260887, 1.0, 1.0, 0.9950367, 0.9030823],
        [0.7928766, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ];
    #[rustfmt::skip]
    const MEANS_ALIGNED: [f64; 20] = [
        0.2694327, 0.2946884, 0.3212986, 0.3296802, 0.3445277, 0.3741859, 0.411442, 0.4400605, 0.4608877, 0.4916857,
        0.5293338, 0.5638133, 0.5948612, 0.62501, 0.6345716, 0.6190442, 0.6104458, 0.6249863, 0.6407363, 0.672215,
    ];
    #[rustfmt::skip]
    const VARIANCES_ALIGNED: [f64; 20] = [
        0.9002464, 0.8106372, 0.7306461, 0.6587245, 0.5949726, 0.5377632, 0.4864846, 0.4430742, 0.4010673, 0.362321,
        0.3275063, 0.2974963, 0.2694546, 0.243962, 0.2231271, 0.2046414, 0.1882813, 0.173866, 0.1587134, 0.1431082,
    ];
    #[rustfmt::skip]
    const WEIGHTS_ALIGNED: [[f64; 8]; 20] = [
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 0.9983898, 1.0, 1.0, 0.9997606],
        [0.9954562, 0.9970427, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [0.9923491, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 0.7846476, 1.0, 1.0, 1.0, 0.6546174, 1.0],
        [0.7877386, 1.0, 0.6074681, 0.997905, 0.8718154, 0.5457988, 0.3839669, 0.3787787],
        [0.3334815, 0.341934, 0.4925097, 0.95394, 1.0, 1.0, 0.9680761, 1.0],
        [0.6163806, 1.0, 1.0, 0.9831167, 1.0, 1.0, 1.0, 0.9985989],
        [0.9725888, 1.0, 1.0, 1.0, 1.0, 0.9999133, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ];

    fn follows(align: bool, means: [f64; 20], variances: [f64; 20], weights: &[[f64; 8]; 20]) {
        let mut labeler = labeler(align, false);
        for t in 0..STEPS as usize {
            let found = labeler.label(&probabilities(t as i64)).unwrap();
            assert_near(&labeler.mean, &means[t..=t], 1e-6);
            assert_near(&labeler.variance, &variances[t..=t], 1e-6);
            assert_near(&found.weights, &weights[t], 2e-6);
            assert_eq!(found.labels, probabilities(t as i64).tensor().argmax(1, false));
        }
    }

    #[test]
    fn goes_the_way_of_the_authors_code() {
        follows(false, MEANS, VARIANCES, &WEIGHTS);
    }

    #[test]
    fn goes_the_way_of_the_authors_code_with_uniform_alignment() {
        follows(true, MEANS_ALIGNED, VARIANCES_ALIGNED, &WEIGHTS_ALIGNED);
    }

    #[test]
    fn a_gaussian_a_class_equals_a_loop() {
        let mut labeler = labeler(false, true);
        let (mut means, mut variances) = ([0.25_f64; 4], [1.0_f64; 4]);
        for t in 0..STEPS {
            let p = Vec::<Vec<f64>>::try_from(probabilities(t).tensor()).unwrap();
            let top =
                |row: &Vec<f64>| (0..4).map(|c| (row[c], c)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            let tops: Vec<(f64, usize)> = p.iter().map(top).collect();
            for class in 0..4 {
                let own: Vec<f64> = tops.iter().filter(|t| t.1 == class).map(|t| t.0).collect();
                if own.len() > 1 {
                    let mean = own.iter().sum::<f64>() / own.len() as f64;
                    let variance =
                        own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (own.len() as f64 - 1.0);
                    means[class] = 0.9 * means[class] + 0.1 * mean;
                    variances[class] = 0.9 * variances[class] + 0.1 * variance;
                }
            }
            let found = labeler.label(&probabilities(t)).unwrap();
            let expected: Vec<f64> = tops
                .iter()
                .map(|&(p, c)| (-(p - means[c]).min(0.0).powi(2) / (2.0 * variances[c] / 4.0)).exp())
                .collect();
            assert_near(&found.weights, &expected, 1e-5);
            assert_near(&labeler.mean, &means, 1e-6);
        }
    }

    #[test]
    fn goes_on_from_a_checkpoint_as_if_never_stopped() {
        for per_class in [false, true] {
            let (mut whole, mut first) = (labeler(true, per_class), labeler(true, per_class));
            for t in 0..10 {
                whole.label(&probabilities(t)).unwrap();
                first.label(&probabilities(t)).unwrap();
            }
            let mut second = labeler(true, per_class);
            second.restore(&first.state()).unwrap();
            for t in 10..STEPS {
                let (a, b) =
                    (whole.label(&probabilities(t)).unwrap(), second.label(&probabilities(t)).unwrap());
                assert_eq!((a.labels, a.weights, a.reasons), (b.labels, b.weights, b.reasons));
            }
            assert_eq!(whole.state(), second.state());
        }
    }

    #[test]
    fn is_confident_from_the_mean_on() {
        let mut labeler = labeler(false, false);
        for t in 0..15 {
            labeler.label(&probabilities(t)).unwrap();
        }
        let found = labeler.label(&probabilities(15)).unwrap();
        let expected: Vec<_> = Vec::<f64>::try_from(&found.weights)
            .unwrap()
            .into_iter()
            .map(|w| if w == 1.0 { Reason::Confident } else { Reason::Unsure })
            .collect();
        assert!(expected.contains(&Reason::Unsure) && expected.contains(&Reason::Confident));
        assert_eq!(found.reasons().unwrap(), expected);
    }

    #[test]
    fn stays_finite_for_batches_of_one_and_of_none_and_for_equal_confidences() {
        let mut labeler = SoftMatch::new(2, SoftMatchConfig { momentum: 0.0, ..Default::default() }).unwrap();
        let none = Tensor::zeros([0, 2], (Kind::Float, Device::Cpu));
        assert_eq!(labeler.label(&Probabilities::new(&none).unwrap()).unwrap().weights.size(), [0]);
        assert_near(&labeler.mean, &[0.5], 0.0);
        let one = Probabilities::new(&Tensor::from_slice2(&[[0.8_f32, 0.2]])).unwrap();
        labeler.label(&one).unwrap();
        assert_near(&labeler.variance, &[1.0], 0.0);
        let equal = Probabilities::new(&Tensor::from_slice2(&[[0.75_f32, 0.25], [0.25, 0.75]])).unwrap();
        let found = labeler.label(&equal).unwrap();
        assert_near(&labeler.variance, &[0.0], 0.0);
        assert_eq!(bits(&found.weights), 0b11);
        assert_near(&found.weights, &[1.0, 1.0], 0.0);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let config = SoftMatchConfig { n_sigma: 0.0, ..Default::default() };
        assert_eq!(SoftMatch::new(4, config).unwrap_err().to_string(), "n_sigma = 0: above 0");
        let error = SoftMatch::new(3, SoftMatchConfig::default()).unwrap().label(&probabilities(0));
        assert_eq!(error.unwrap_err().to_string(), "probabilities: expected [_, 3], found [8, 4]");
        let error = labeler(false, true).restore(&labeler(false, false).state()).unwrap_err().to_string();
        assert_eq!(error, "state.mean: expected [4] Float, found [1] Float");
        let mut aligned = labeler(true, false);
        let before = aligned.state();
        assert!(aligned.restore(&labeler(false, false).state()).is_err());
        assert_eq!(aligned.state(), before);
    }
}
