//! Wrong labels by intent: what a noise audit finds of them can be counted.
//!
//! Noise is symmetric (Natarajan et al. 2013; Northcutt, Jiang and Chuang 2021 plant it so too): a share of the samples,
//! drawn without regard to their class, gets another class than its own, each of the others as likely. A keyed draw, so that
//! the same seed plants the same labels anywhere.

use crate::rows::class_indices;
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use selfsup_core::{Error, Key, Result, Tensor, check_shape};

/// Labels of which some are wrong.
#[derive(Debug)]
pub struct PlantedNoise {
    /// The labels, `[N]` Int64.
    pub labels: Tensor,
    /// The samples whose label was changed, ascending.
    pub planted: Vec<i64>,
}

impl PlantedNoise {
    /// Changes the labels of a `share` of the samples, rounded, as `key` draws them.
    ///
    /// # Shapes
    /// `labels` `[N]` Int64.
    ///
    /// # Errors
    /// When a label is no class of `0..classes`, there are fewer than two classes, or the share is not between 0 and 1, or
    /// leaves no sample or all.
    pub fn plant(labels: &Tensor, classes: i64, share: f64, key: Key) -> Result<PlantedNoise> {
        let [n] = check_shape("labels", labels, [-1])?;
        let mut noisy = class_indices("labels", labels, n, classes)?;
        if classes < 2 {
            return Err(Error::config(
                "classes",
                classes,
                "at least 2: a wrong label is one of another class",
            ));
        }
        let count = (share * n as f64).round();
        if !(count >= 1.0 && count < n as f64) {
            let expected = format!("a share of the {n} labels that plants at least one, but not all");
            return Err(Error::config("share", share, expected));
        }
        let mut rng = key.rng();
        let mut planted: Vec<usize> = (0..noisy.len()).collect();
        planted.shuffle(&mut rng);
        planted.truncate(count as usize);
        planted.sort_unstable();
        for &i in &planted {
            let other = rng.random_range(1..classes as usize);
            noisy[i] = (noisy[i] + other) % classes as usize;
        }
        let noisy: Vec<i64> = noisy.into_iter().map(|label| label as i64).collect();
        let labels = Tensor::from_slice(&noisy).to_device(labels.device());
        Ok(PlantedNoise { labels, planted: planted.into_iter().map(|i| i as i64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind};

    fn labels(n: i64) -> Tensor {
        Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(5)
    }

    fn plant(share: f64, seed: u64) -> PlantedNoise {
        PlantedNoise::plant(&labels(2000), 5, share, Key::new(seed)).unwrap()
    }

    #[test]
    fn changes_as_many_labels_as_asked_and_names_them() {
        let found = plant(0.1, 0);
        let changed = found.labels.ne_tensor(&labels(2000)).nonzero().squeeze_dim(1);
        assert_eq!(Vec::<i64>::try_from(changed).unwrap(), found.planted);
        assert_eq!(found.planted.len(), 200);
        assert!(
            (0..5).contains(&found.labels.min().int64_value(&[])) && found.labels.max().int64_value(&[]) < 5
        );
    }

    #[test]
    fn every_other_class_is_as_likely() {
        let found = plant(0.9, 1);
        let steps = (&found.labels - labels(2000)).remainder(5).bincount(None::<Tensor>, 5);
        let counts = Vec::<i64>::try_from(steps).unwrap();
        assert_eq!(counts[0], 200);
        // 450 of each with a standard deviation of 18.
        assert!(counts[1..].iter().all(|count| (count - 450).abs() < 75), "{counts:?}");
    }

    #[test]
    fn the_key_decides() {
        assert_eq!(plant(0.1, 3).labels, plant(0.1, 3).labels);
        assert_ne!(plant(0.1, 3).planted, plant(0.1, 4).planted);
    }

    #[test]
    fn rejects_what_cannot_be_planted() {
        let refusal = |labels: &Tensor, classes, share| {
            PlantedNoise::plant(labels, classes, share, Key::new(0)).unwrap_err().to_string()
        };
        let expected = "share = 0: a share of the 10 labels that plants at least one, but not all";
        assert_eq!(refusal(&labels(10), 5, 0.0), expected);
        for share in [1.0, 0.01, -0.5, f64::NAN] {
            assert!(refusal(&labels(10), 5, share).starts_with("share = "), "{share}");
        }
        let one = Tensor::zeros([10], (Kind::Int64, Device::Cpu));
        assert!(refusal(&one, 1, 0.1).starts_with("classes = 1: at least 2"));
        assert_eq!(refusal(&labels(10), 3, 0.1), "labels = 3: a class in 0..3");
    }
}
