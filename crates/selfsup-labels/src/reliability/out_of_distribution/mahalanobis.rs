//! The Mahalanobis distance to the nearest class (Lee et al. 2018, section 2.1): classes are Gaussians with means of their
//! own and one covariance.
//!
//! ```text
//! mu_c = mean { x_i : y_i = c }        S = 1 / N sum_i (x_i - mu_yi)(x_i - mu_yi)^T + ridge tr(S) / D I
//! s_i = -min_c (x_i - mu_c)^T S^-1 (x_i - mu_c)
//! ```
//! The ridge, which the paper has not, keeps `S` invertible where there are fewer samples than features: to leave the
//! training data's plane then makes a sample very unfamiliar, as it should. Computed in 64 bits.

use super::detector::Familiarity;
use crate::rows::{at_least_one, class_indices};
use selfsup_core::{FeatureRows, Result, Tensor, check_shape};
use selfsup_numerics::familiarity::mahalanobis;

/// Minus the squared Mahalanobis distance to the nearest class mean.
#[derive(Debug)]
pub struct Mahalanobis(mahalanobis::Mahalanobis);

impl Mahalanobis {
    /// Fits means and covariance to labelled features. A class without samples is left out. A `ridge` of 1e-6 disturbs
    /// little.
    ///
    /// # Shapes
    /// `features` `[N, D]`, `labels` `[N]` Int64 in `0..classes`.
    ///
    /// # Errors
    /// When the shapes or labels do not fit, there are no samples, the ridge is negative, or the covariance cannot be
    /// inverted with it.
    pub fn fit(features: &FeatureRows, labels: &Tensor, classes: i64, ridge: f64) -> Result<Mahalanobis> {
        let [n, _] = check_shape("features", features.tensor(), [-1, -1])?;
        at_least_one("features", n)?;
        class_indices("labels", labels, n, classes)?;
        Ok(Mahalanobis(mahalanobis::Mahalanobis::fit(features.tensor(), labels, classes, ridge)?))
    }
}

impl Familiarity for Mahalanobis {
    type Input = FeatureRows;

    /// Of features `[N, D]`, 0 at most.
    ///
    /// # Errors
    /// When they have another number of features than those it was fitted to.
    fn score(&self, input: &FeatureRows) -> Result<Tensor> {
        self.0.score(input.tensor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind, TensorExt};

    fn training() -> FeatureRows {
        let i = Tensor::arange(90, (Kind::Double, Device::Cpu));
        let wave = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([30, 3]);
        FeatureRows::new(&(wave + labels().one_hot(3) * 2.0)).unwrap()
    }

    fn labels() -> Tensor {
        Tensor::arange(30, (Kind::Int64, Device::Cpu)).remainder(3)
    }

    #[test]
    fn what_lies_far_from_all_classes_is_less_familiar_than_what_was_seen() {
        let fitted = Mahalanobis::fit(&training(), &labels(), 3, 1e-6).unwrap();
        let seen = fitted.score(&training()).unwrap();
        let far = fitted.score(&FeatureRows::new(&(training().tensor() + 20.0)).unwrap()).unwrap();
        assert!(far.max().scalar().unwrap() < seen.min().scalar().unwrap());
        let none = FeatureRows::new(&Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(fitted.score(&none).unwrap().size(), [0]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = |classes, ridge| {
            Mahalanobis::fit(&training(), &labels(), classes, ridge).unwrap_err().to_string()
        };
        assert_eq!(error(2, 0.0), "labels = 2: a class in 0..2");
        assert_eq!(error(3, -1.0), "ridge = -1: 0 or above");
        let none = FeatureRows::new(&Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))).unwrap();
        let empty = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
        let error = Mahalanobis::fit(&none, &empty, 3, 0.0).unwrap_err().to_string();
        assert_eq!(error, "features = no samples: at least one");
        let wide = FeatureRows::new(&Tensor::zeros([2, 4], (Kind::Float, Device::Cpu))).unwrap();
        let error = Mahalanobis::fit(&training(), &labels(), 3, 0.0).unwrap().score(&wide).unwrap_err();
        assert_eq!(error.to_string(), "features: expected [_, 3], found [2, 4]");
    }
}
