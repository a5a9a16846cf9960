//! Does a representation tell what it knows from what it has never seen? Out-of-distribution and anomaly detection: each sample
//! gets a score of how familiar it is, and these should be higher for samples like the training set's.
//!
//! | detector | familiarity |
//! |---|---|
//! | k-NN | minus the distance to the k-th nearest training sample, at unit length (Sun et al. 2022) |
//! | Mahalanobis | minus the squared distance to the nearest class mean in the classes' covariance (Lee et al. 2018) |
//! | energy | log-sum-exp of a linear probe's logits (Liu et al. 2020) |
//!
//! AUROC is the chance that a known sample is more familiar than an unknown one; AP ranks unknown samples first, as in
//! anomaly detection; FPR95 is the share of unknown samples that pass when 95 % of the known do. With one class of training
//! samples this is anomaly detection, and there is no energy.

use crate::logistic::Problem;
use crate::measurement::Origin;
use crate::ranking::{Ranked, resampled};
use crate::standardise::Standardiser;
use crate::{LogisticConfig, Mean, Measurement};
use selfsup_core::{Error, Features, Key, Kind, Result, Tensor, check_shape};
use selfsup_numerics::familiarity::{
    energy::negative_energy, mahalanobis::Mahalanobis, nearest::minus_kth_distance,
};
use serde::{Deserialize, Serialize};

/// The settings of the detectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutlierConfig {
    /// Which neighbour counts; of a smaller training set, the last.
    pub k: i64,
    /// What is added to the diagonal of the classes' covariance, as a part of its mean.
    pub ridge: f64,
    /// The inverse regularisation strength of the probe whose logits have an energy.
    pub c: f64,
    /// The temperature of the energy.
    pub temperature: f64,
    /// Draws of the intervals.
    pub resamples: usize,
    /// Decides the draws.
    pub seed: u64,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        OutlierConfig { k: 50, ridge: 1e-6, c: 0.1, temperature: 1.0, resamples: 200, seed: 0 }
    }
}

/// How well scores tell known samples from unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// The area under the ROC curve: 1 is perfect, 0.5 chance.
    pub auroc: Mean,
    /// The average precision of unknown samples, ranked by how unfamiliar they are; chance is their share.
    pub average_precision: Mean,
    /// The share of unknown samples that passes where 95 % of the known do.
    pub fpr95: Mean,
    /// The known samples.
    pub known: usize,
    /// The unknown samples.
    pub unknown: usize,
}

/// What each sample was made of, by number: the bootstrap draws these, so that samples that are made of one thing, as the
/// corruptions of one image are, come and go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Of the known samples.
    pub known: Vec<usize>,
    /// Of the unknown ones.
    pub unknown: Vec<usize>,
}

impl Sources {
    /// How many there are when numbers count from 0.
    ///
    /// # Errors
    /// Unless there is one for each sample.
    fn count(&self, known: i64, unknown: i64) -> Result<usize> {
        for (name, sources, n) in [("known", &self.known, known), ("unknown", &self.unknown, unknown)] {
            if sources.len() as i64 != n {
                let expected = format!("{n}, one for each sample");
                return Err(Error::config(format!("sources of the {name}"), sources.len(), expected));
            }
        }
        Ok(self.known.iter().chain(&self.unknown).max().map_or(0, |most| most + 1))
    }
}

/// Compares the familiarity of known samples with that of unknown ones.
///
/// # Shapes
/// `known` `[N]`, `unknown` `[M]`, the higher the more familiar.
///
/// # Errors
/// When either is empty or no vector, a score is not a number, or there are no resamples.
pub fn outlier_detection(
    known: &Tensor,
    unknown: &Tensor,
    resamples: usize,
    seed: u64,
) -> Result<OutlierDetection> {
    detection_of(known, unknown, None, resamples, seed)
}

fn detection_of(
    known: &Tensor,
    unknown: &Tensor,
    sources: Option<&Sources>,
    resamples: usize,
    seed: u64,
) -> Result<OutlierDetection> {
    let ([n], [m]) = (check_shape("known", known, [-1])?, check_shape("unknown", unknown, [-1])?);
    for (name, count) in [("known", n), ("unknown", m)] {
        if count == 0 {
            return Err(Error::config(name, "no samples", "at least one"));
        }
    }
    let both = Tensor::cat(&[known.to_kind(Kind::Double), unknown.to_kind(Kind::Double)], 0);
    let familiar = Vec::<f64>::try_from(both)?;
    let strange: Vec<f64> = familiar.iter().map(|s| -s).collect();
    let is_known: Vec<bool> = (0..n + m).map(|i| i < n).collect();
    let is_unknown: Vec<bool> = is_known.iter().map(|known| !known).collect();
    let known_first = Ranked::new(&familiar, &is_known)?;
    let unknown_first = Ranked::new(&strange, &is_unknown)?;
    let of = |measure: &dyn Fn(Option<&[f64]>) -> Option<f64>| {
        let samples = (n + m) as usize;
        let found = match sources {
            None => resampled(samples, resamples, Key::new(seed), measure)?,
            Some(sources) => {
                let of_samples = |weights: Option<&[f64]>| {
                    let all = sources.known.iter().chain(&sources.unknown);
                    let weights: Option<Vec<f64>> = weights.map(|w| all.map(|&source| w[source]).collect());
                    measure(weights.as_deref())
                };
                let found = resampled(sources.count(n, m)?, resamples, Key::new(seed), of_samples)?;
                found.map(|mean| Mean { n: samples, ..mean })
            }
        };
        // Both kinds occur: every measure is defined.
        found.ok_or_else(|| Error::config("known and unknown", "one kind", "samples of both"))
    };
    Ok(OutlierDetection {
        auroc: of(&|w| known_first.auroc(w))?,
        average_precision: of(&|w| unknown_first.average_precision(w))?,
        fpr95: of(&|w| known_first.false_positives_at(0.95, w))?,
        known: n as usize,
        unknown: m as usize,
    })
}

/// What all detectors find.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outliers {
    /// By the distance to the k-th nearest training sample.
    pub nearest: OutlierDetection,
    /// By the Mahalanobis distance to the nearest class; none where features do not vary within classes.
    pub mahalanobis: Option<OutlierDetection>,
    /// By the energy of a linear probe's logits; none with one class.
    pub energy: Option<OutlierDetection>,
    /// The settings.
    pub config: OutlierConfig,
}

/// Fits the detectors to training features and lets them tell known test samples from unknown ones.
///
/// # Shapes
/// `known` `[N, D]`, `unknown` `[M, D]`.
///
/// # Errors
/// When the sets do not fit each other, a feature is not finite, or a setting cannot work.
pub fn outliers(
    train: &Features,
    known: &Tensor,
    unknown: &Tensor,
    config: &OutlierConfig,
) -> Result<Outliers> {
    detectors(train, known, unknown, None, config)
}

/// As [`outliers`], of samples that are not all independent: intervals are of a bootstrap over what they were made of.
///
/// # Errors
/// As [`outliers`], and when there is not a source for each sample.
pub fn outliers_by_source(
    train: &Features,
    known: &Tensor,
    unknown: &Tensor,
    sources: &Sources,
    config: &OutlierConfig,
) -> Result<Outliers> {
    detectors(train, known, unknown, Some(sources), config)
}

fn detectors(
    train: &Features,
    known: &Tensor,
    unknown: &Tensor,
    sources: Option<&Sources>,
    config: &OutlierConfig,
) -> Result<Outliers> {
    check_shape("known features", known, [-1, train.dim()])?;
    check_shape("unknown features", unknown, [-1, train.dim()])?;
    let detect = |score: &dyn Fn(&Tensor) -> Result<Tensor>| {
        detection_of(&score(known)?, &score(unknown)?, sources, config.resamples, config.seed)
    };
    if config.k < 1 {
        return Err(Error::config("k", config.k, "at least 1"));
    }
    let nearest = detect(&|x| minus_kth_distance(x, &train.x, config.k.min(train.len())))?;
    let mahalanobis = match Mahalanobis::fit(&train.x, &train.labels, train.classes, config.ridge) {
        Ok(gaussians) => Some(detect(&|x| gaussians.score(x))?),
        // With a ridge there is always a covariance but that of collapsed features, which are worth a report too.
        Err(Error::Config { field, .. }) if field == "ridge" && config.ridge > 0.0 => None,
        Err(error) => return Err(error),
    };
    let several = i64::try_from(train.labels.max())? > i64::try_from(train.labels.min())?;
    let energy = if several {
        let standardiser = Standardiser::of(&train.x);
        let problem = Problem::new(&standardiser.apply(&train.x), &train.labels)?;
        let probe = problem.to_classifier(&problem.solve(config.c, None, &LogisticConfig::default())?);
        Some(detect(&|x| negative_energy(&probe.logits(&standardiser.apply(x))?, config.temperature))?)
    } else {
        None
    };
    Ok(Outliers { nearest, mahalanobis, energy, config: config.clone() })
}

impl Outliers {
    /// The measures for a report. `split` says which samples are known and which unknown.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.config.seed) };
        let detectors = [
            (
                "knn",
                Some(&self.nearest),
                format!("the distance to the {}th nearest training sample (Sun et al. 2022)", self.config.k),
            ),
            (
                "mahalanobis",
                self.mahalanobis.as_ref(),
                "the Mahalanobis distance to the nearest class (Lee et al. 2018)".to_owned(),
            ),
            (
                "energy",
                self.energy.as_ref(),
                "the energy of a linear probe's logits (Liu et al. 2020)".to_owned(),
            ),
        ];
        let of = |(name, found, by): &(&str, Option<&OutlierDetection>, String)| {
            let Some(found) = found else { return Vec::new() };
            vec![
                origin.mean(
                    format!("ood_auroc_{name}"),
                    &found.auroc,
                    format!("chance that a known sample is more familiar than an unknown one, by {by}"),
                ),
                origin.mean(
                    format!("ood_ap_{name}"),
                    &found.average_precision,
                    format!("average precision of unknown samples, least familiar first, by {by}"),
                ),
                origin.mean(
                    format!("ood_fpr95_{name}"),
                    &found.fpr95,
                    format!("share of unknown samples that passes where 95 % of the known do, by {by}"),
                ),
            ]
        };
        detectors.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};

    // k = np.sin(np.arange(60) ** 1.5 * 0.37) + 0.8; u = np.sin(np.arange(200, 240) ** 1.5 * 0.37)
    // s = np.round(np.r_[k, u], 1); t = np.arange(100) < 60; f, r, _ = roc_curve(t, s, drop_intermediate=False)
    // roc_auc_score(t, s), average_precision_score(~t, -s), f[np.argmax(r >= 0.95)]             # scikit-learn 1.9.1
    #[test]
    fn agrees_with_scikit_learn() {
        let wave = |from: i64, n: i64, shift: f64| {
            let i = Tensor::arange_start(from, from + n, (Kind::Double, selfsup_core::Device::Cpu));
            (((i.pow_tensor_scalar(1.5) * 0.37).sin() + shift) * 10.0).round() / 10.0
        };
        let found = outlier_detection(&wave(0, 60, 0.8), &wave(200, 40, 0.0), 100, 0).unwrap();
        let values = [found.auroc, found.average_precision, found.fpr95];
        assert!(values.iter().zip(SKLEARN).all(|(f, e)| (f.value - e).abs() < 1e-12), "{found:?}");
        assert_eq!((found.known, found.unknown, found.auroc.n), (60, 40, 100));
        assert!(values.iter().all(|v| v.interval.unwrap().low <= v.value));
    }

    const SKLEARN: [f64; 3] = [0.7725, 0.7484626598121821, 0.55];

    #[test]
    fn all_detectors_tell_a_class_that_training_lacks() {
        let (train, test) = (clouds(200, 2, 6.0), clouds(60, 2, 6.0));
        let pad = |x: &Tensor| Tensor::cat(&[x, &(formula(x.size()[0], 1) * 0.5)], 1);
        let train = Features::new(pad(&train.x), train.labels, 2).unwrap();
        let unknown = formula(40, 3) + Tensor::from_slice(&[3.0_f32, 3.0, 9.0]);
        let found =
            outliers(&train, &pad(&test.x), &unknown, &OutlierConfig { resamples: 20, ..Default::default() })
                .unwrap();
        for detection in [&found.nearest, found.mahalanobis.as_ref().unwrap()] {
            assert!(detection.auroc.value > 0.99 && detection.fpr95.value < 0.05, "{detection:?}");
        }
        assert!(found.energy.unwrap().auroc.value > 0.6, "{found:?}");
        let numbers = found.measurements("test, class 9");
        assert_eq!((numbers.len(), numbers[4].name.as_str()), (9, "ood_ap_mahalanobis"));
    }

    #[test]
    fn samples_of_one_source_come_and_go_together() {
        let wave = |n: i64, shift: f64| {
            let i = Tensor::arange(n, (Kind::Double, selfsup_core::Device::Cpu));
            (i.pow_tensor_scalar(1.5) * 0.37).sin() + shift
        };
        let (known, unknown) = (wave(60, 0.8), wave(60, 0.0));
        let width = |found: &OutlierDetection| {
            let interval = found.auroc.interval.unwrap();
            interval.high - interval.low
        };
        let found = |known: &Tensor, unknown: &Tensor, sources: Option<&Sources>| {
            detection_of(known, unknown, sources, 2000, 0).unwrap()
        };
        let single = found(
            &known,
            &unknown,
            Some(&Sources { known: (0..60).collect(), unknown: (60..120).collect() }),
        );
        assert_eq!(single, outlier_detection(&known, &unknown, 2000, 0).unwrap());
        // Each nine times over, which tells nothing new.
        let nine = |x: &Tensor| x.repeat([9]);
        let by: Vec<usize> = (0..540).map(|i| i % 60).collect();
        let together = Sources { known: by.clone(), unknown: by.iter().map(|i| i + 60).collect() };
        let together = found(&nine(&known), &nine(&unknown), Some(&together));
        assert_eq!((together.auroc.value, together.auroc.n), (single.auroc.value, 1080));
        assert!((width(&together) / width(&single) - 1.0).abs() < 1e-9, "{together:?} {single:?}");
        let apart = found(&nine(&known), &nine(&unknown), None);
        assert!(width(&apart) < 0.5 * width(&single), "{apart:?} {single:?}");
        let short = Sources { known: vec![0], unknown: by };
        let error =
            detection_of(&nine(&known), &nine(&unknown), Some(&short), 10, 0).unwrap_err().to_string();
        assert_eq!(error, "sources of the known = 1: 540, one for each sample");
    }

    #[test]
    fn samples_like_the_known_ones_are_told_by_chance() {
        let train = clouds(300, 3, 2.0);
        let test = clouds(600, 3, 2.0);
        let part = |from| test.x.narrow(0, from, 150);
        let found =
            outliers(&train, &part(300), &part(450), &OutlierConfig { resamples: 50, ..Default::default() })
                .unwrap();
        for detection in [found.nearest, found.mahalanobis.unwrap(), found.energy.unwrap()] {
            assert!((detection.auroc.value - 0.5).abs() < 0.1, "{detection:?}");
        }
        let same =
            outlier_detection(&Tensor::from_slice(&[1.0; 5]), &Tensor::from_slice(&[1.0; 3]), 10, 0).unwrap();
        assert_eq!((same.auroc.value, same.fpr95.value), (0.5, 1.0));
    }

    #[test]
    fn one_class_is_anomaly_detection_without_energy() {
        let train =
            Features::new(formula(40, 3), Tensor::zeros([40], (Kind::Int64, selfsup_core::Device::Cpu)), 1)
                .unwrap();
        let found =
            outliers(&train, &formula(10, 3), &(formula(10, 3) - 8.0), &OutlierConfig::default()).unwrap();
        assert_eq!(found.energy, None);
        let mahalanobis = found.mahalanobis.unwrap();
        assert_eq!((mahalanobis.auroc.value, mahalanobis.fpr95.value), (1.0, 0.0));
        assert_eq!(found.measurements("test").len(), 6);
    }

    #[test]
    fn rejects_what_it_cannot_tell() {
        let none = Tensor::from_slice::<f64>(&[]);
        let some = Tensor::from_slice(&[0.1, f64::NAN]);
        let error = |a: &Tensor, b: &Tensor| outlier_detection(a, b, 10, 0).unwrap_err().to_string();
        assert_eq!(error(&some, &none), "unknown = no samples: at least one");
        assert_eq!(error(&some, &some), "a score is not finite: of sample 1");
        let train = clouds(30, 3, 1.0);
        let refused =
            |unknown: &Tensor, config| outliers(&train, &train.x, unknown, &config).unwrap_err().to_string();
        let config = OutlierConfig::default;
        assert_eq!(refused(&formula(4, 2), config()), "unknown features: expected [_, 3], found [4, 2]");
        assert_eq!(refused(&train.x, OutlierConfig { k: 0, ..config() }), "k = 0: at least 1");
        assert!(refused(&(&train.x / 0.0), config()).contains("not finite"));
    }
}
