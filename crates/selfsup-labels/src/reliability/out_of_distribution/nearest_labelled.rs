//! The distance to the k-th nearest labelled sample (Sun et al. 2022), on features of length 1: no assumption on how
//! features are distributed.
//!
//! ```text
//! s_i = -|z_i - z_(k)|        z = features / |features|
//! ```

use super::detector::Familiarity;
use selfsup_core::{Error, FeatureRows, Result, Tensor};
use selfsup_numerics::familiarity::nearest::minus_kth_distance;

/// Minus the distance to the k-th nearest labelled features.
#[derive(Debug)]
pub struct NearestLabelled {
    labelled: Tensor,
    k: i64,
}

impl NearestLabelled {
    /// Remembers the features of labelled samples, `[M, D]`. The paper: k = 50 with all of CIFAR-10; with few labels, few.
    ///
    /// # Errors
    /// When `k` is not in `1..=M`.
    pub fn new(labelled: &FeatureRows, k: i64) -> Result<NearestLabelled> {
        let m = labelled.tensor().size()[0];
        if !(1..=m).contains(&k) {
            return Err(Error::config("k", k, format!("1 to {m}, the number of labelled samples")));
        }
        Ok(NearestLabelled { labelled: labelled.tensor().shallow_clone(), k })
    }
}

impl Familiarity for NearestLabelled {
    type Input = FeatureRows;

    /// Of features `[N, D]`, -2 to 0.
    ///
    /// # Errors
    /// When they have another number of features than the labelled ones.
    fn score(&self, input: &FeatureRows) -> Result<Tensor> {
        minus_kth_distance(input.tensor(), &self.labelled, self.k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind, TensorExt};

    fn wave(n: i64, from: i64) -> FeatureRows {
        let i = Tensor::arange(n * 3, (Kind::Double, Device::Cpu)) + from;
        FeatureRows::new(&(i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([n, 3])).unwrap()
    }

    #[test]
    fn equals_a_loop_over_all_distances() {
        let (labelled, new) = (wave(30, 0), wave(10, 1000));
        let unit = |x: &FeatureRows| Vec::<Vec<f64>>::try_from(x.tensor().l2_normalize()).unwrap();
        for k in [1, 4, 30] {
            let found = NearestLabelled::new(&labelled, k).unwrap().score(&new).unwrap();
            for (i, z) in unit(&new).iter().enumerate() {
                let distance =
                    |y: &Vec<f64>| z.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                let mut all: Vec<f64> = unit(&labelled).iter().map(distance).collect();
                all.sort_by(f64::total_cmp);
                assert!((found.double_value(&[i as i64]) + all[k as usize - 1]).abs() < 1e-3, "k {k}");
            }
        }
    }

    #[test]
    fn ignores_lengths_and_takes_no_samples() {
        let labelled = wave(5, 0);
        let score = NearestLabelled::new(&labelled, 1).unwrap();
        let scaled = FeatureRows::new(&(labelled.tensor() * 7.0)).unwrap();
        assert!(score.score(&scaled).unwrap().min().scalar().unwrap() > -1e-3);
        let none = FeatureRows::new(&Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(score.score(&none).unwrap().size(), [0]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = NearestLabelled::new(&wave(5, 0), 6).unwrap_err().to_string();
        assert_eq!(error, "k = 6: 1 to 5, the number of labelled samples");
        let wide = FeatureRows::new(&Tensor::zeros([2, 4], (Kind::Float, Device::Cpu))).unwrap();
        let error = NearestLabelled::new(&wave(5, 0), 1).unwrap().score(&wide).unwrap_err().to_string();
        assert_eq!(error, "features: expected [_, 3], found [2, 4]");
    }
}
