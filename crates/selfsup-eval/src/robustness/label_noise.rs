//! How much wrong labels harm a linear probe: some training labels are replaced, by any other class equally likely, and the probe
//! is fitted anew, its regularisation chosen by labels that are wrong as often. The test labels stay right.

use crate::measurement::Origin;
use crate::{Interval, LEVEL, LinearProbe, LinearProbeConfig, Mean, Measurement, Stage, check_pair};
use rand::RngExt;
use rand::seq::SliceRandom;
use selfsup_core::{Error, Features, Key, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Which shares of wrong labels are tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelNoiseConfig {
    /// Shares of the training labels that are wrong, between 0 and 1.
    pub shares: Vec<f64>,
    /// The probe.
    pub probe: LinearProbeConfig,
    /// Decides which labels are wrong, and what they say.
    pub seed: u64,
}

impl Default for LabelNoiseConfig {
    fn default() -> Self {
        LabelNoiseConfig { shares: vec![0.1, 0.2, 0.4], probe: LinearProbeConfig::default(), seed: 0 }
    }
}

/// What is left with a share of wrong labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelNoisePoint {
    /// The share of the training labels that are wrong.
    pub share: f64,
    /// The accuracy on the test set.
    pub accuracy: Mean,
    /// The inverse regularisation strength that was chosen.
    pub c: f64,
    /// Whether the last fit's gradient is within the tolerance.
    pub converged: bool,
}

/// What is left, by rising share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelNoise {
    /// The points.
    pub points: Vec<LabelNoisePoint>,
    /// Decides which labels are wrong.
    pub seed: u64,
}

/// Fits a probe for each share. `progress` hears how many are done.
///
/// # Errors
/// When a share is not between 0 and 1, there are fewer than two classes, and those of the probe.
pub fn label_noise(
    train: &Features,
    test: &Features,
    config: &LabelNoiseConfig,
    progress: &mut dyn FnMut(Stage),
) -> Result<LabelNoise> {
    check_pair(train, test)?;
    let probe = LinearProbe::new(config.probe.clone())?;
    let mut stage = Stage::new("label noise", config.shares.len(), train.len());
    progress(stage);
    let mut points = Vec::new();
    for (i, &share) in config.shares.iter().enumerate() {
        let labels = mislabelled(&train.labels, train.classes, share, Key::new(config.seed).with(i as u64))?;
        let noisy = Features::new(train.x.shallow_clone(), labels, train.classes)?;
        let found = probe.run(&noisy, test)?;
        let n = found.predictions.len() as u64;
        let interval = Interval::wilson((found.accuracy * n as f64).round() as u64, n, LEVEL)?;
        points.push(LabelNoisePoint {
            share,
            accuracy: Mean { value: found.accuracy, interval, n: n as usize },
            c: found.c,
            converged: found.converged,
        });
        stage.done = i + 1;
        progress(stage);
    }
    Ok(LabelNoise { points, seed: config.seed })
}

/// Labels of which a share is another class, any other equally likely.
fn mislabelled(labels: &Tensor, classes: i64, share: f64, key: Key) -> Result<Tensor> {
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::config("shares", share, "between 0 and 1"));
    }
    if classes < 2 {
        return Err(Error::config("classes", classes, "at least 2"));
    }
    let mut labels = Vec::<i64>::try_from(labels)?;
    let mut order: Vec<usize> = (0..labels.len()).collect();
    let mut rng = key.rng();
    order.shuffle(&mut rng);
    for &i in &order[..(labels.len() as f64 * share).round() as usize] {
        labels[i] = (labels[i] + rng.random_range(1..classes)) % classes;
    }
    Ok(Tensor::from_slice(&labels))
}

impl LabelNoise {
    /// The measures for a report, of samples from `split`; `clean` is the accuracy with right labels alone.
    pub fn measurements(&self, split: &str, clean: f64) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.seed) };
        let of = |point: &LabelNoisePoint| {
            let percent = (100.0 * point.share).round();
            let text = format!(
                "accuracy of the linear probe when {percent} % of its training labels are wrong, any other class equally likely"
            );
            let by = |value: f64| value / clean;
            let kept = Mean {
                value: by(point.accuracy.value),
                interval: point.accuracy.interval.map(|i| Interval { low: by(i.low), high: by(i.high), ..i }),
                n: point.accuracy.n,
            };
            let relative =
                format!("{text}, over the accuracy with right ones; the interval is the accuracy's alone");
            let mut both = vec![origin.mean(format!("label_noise@{percent}"), &point.accuracy, text)];
            if clean > 0.0 {
                both.push(origin.mean(format!("label_noise_kept@{percent}"), &kept, relative));
            }
            both
        };
        self.points.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::clouds;

    #[test]
    fn so_many_labels_are_wrong_and_every_other_class_is_as_likely() {
        let labels =
            Tensor::arange(6000, (selfsup_core::Kind::Int64, selfsup_core::Device::Cpu)).remainder(4);
        let found = mislabelled(&labels, 4, 0.2, Key::new(1)).unwrap();
        let pairs =
            Vec::<i64>::try_from(&labels).unwrap().into_iter().zip(Vec::<i64>::try_from(&found).unwrap());
        let mut by = [0; 4];
        pairs.for_each(|(truth, label)| by[((label - truth).rem_euclid(4)) as usize] += 1);
        assert_eq!(by[0], 4800);
        assert!(by[1..].iter().all(|count| (count - 400_i32).abs() < 90), "{by:?}");
        assert_eq!(found, mislabelled(&labels, 4, 0.2, Key::new(1)).unwrap());
        assert_ne!(found, mislabelled(&labels, 4, 0.2, Key::new(2)).unwrap());
    }

    #[test]
    fn clear_classes_bear_wrong_labels_and_unclear_ones_lose() {
        let (train, test) = (clouds(400, 4, 6.0), clouds(200, 4, 6.0));
        let mut stages = Vec::new();
        let config = LabelNoiseConfig::default();
        let found = label_noise(&train, &test, &config, &mut |stage| stages.push(stage.done)).unwrap();
        assert_eq!(stages, [0, 1, 2, 3]);
        assert!(found.points.iter().all(|point| point.accuracy.value > 0.97 && point.converged), "{found:?}");
        let logistic = crate::LogisticConfig { max_iterations: 1, ..Default::default() };
        let probe = LinearProbeConfig { logistic, ..Default::default() };
        let hasty = LabelNoiseConfig { shares: vec![0.1], probe, ..config.clone() };
        let hasty = label_noise(&train, &test, &hasty, &mut |_| ()).unwrap();
        assert!(!hasty.points[0].converged, "{hasty:?}");
        let measures = found.measurements("test", 1.0);
        assert_eq!(measures[1].name, "label_noise_kept@10");
        assert_eq!(measures[0].value, measures[1].value);
        let most = LabelNoiseConfig { shares: vec![0.1, 0.75], ..Default::default() };
        let found = label_noise(&train, &test, &most, &mut |_| ()).unwrap();
        // With three of four wrong, each class is as likely as any.
        assert!(found.points[1].accuracy.value < found.points[0].accuracy.value - 0.1, "{found:?}");
    }

    #[test]
    fn rejects_shares_that_cannot_be() {
        let (train, test) = (clouds(40, 2, 6.0), clouds(20, 2, 6.0));
        let config = LabelNoiseConfig { shares: vec![1.0], ..Default::default() };
        let error = label_noise(&train, &test, &config, &mut |_| ()).unwrap_err().to_string();
        assert_eq!(error, "shares = 1: between 0 and 1");
    }
}
