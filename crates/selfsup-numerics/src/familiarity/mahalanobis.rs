//! The Mahalanobis distance to the nearest class (Lee et al. 2018, section 2.1): classes are Gaussians with means of their
//! own and one covariance.
//!
//! ```text
//! mu_c = mean { x_i : y_i = c }        S = 1 / N sum_i (x_i - mu_yi)(x_i - mu_yi)^T + ridge tr(S) / D I
//! s_i = -min_c (x_i - mu_c)^T S^-1 (x_i - mu_c)
//! ```
//! The ridge, which the paper has not, keeps `S` invertible where there are fewer samples than features: to leave the
//! training data's plane then makes a sample very unfamiliar, as it should. Computed in 64 bits.

use crate::finite_matrix;
use selfsup_core::{Device, Error, Kind, Result, Tensor, TensorExt, check_kind, check_shape};

/// Minus the squared Mahalanobis distance to the nearest class mean.
#[derive(Debug)]
pub struct Mahalanobis {
    /// The Cholesky factor of S, `[D, D]` Double, lower.
    factor: Tensor,
    /// The mean of all samples, `[D]` Double: what is subtracted before all else, against rounding.
    centre: Tensor,
    /// The means of the classes that have samples, whitened, `[C, D]` Double.
    means: Tensor,
}

impl Mahalanobis {
    /// Fits means and covariance to labelled features. A class without samples is left out. A `ridge` of 1e-6 disturbs
    /// little.
    ///
    /// # Shapes
    /// `features` `[N, D]`, `labels` `[N]` Int64 in `0..classes`.
    ///
    /// # Errors
    /// When the shapes or labels do not fit, there are no samples, a feature is not finite, the ridge is negative, or the covariance cannot be
    /// inverted with it.
    pub fn fit(features: &Tensor, labels: &Tensor, classes: i64, ridge: f64) -> Result<Mahalanobis> {
        let (x, [n, d]) = finite_matrix("features", features)?;
        check_classes(labels, n, classes)?;
        if !ridge.is_finite() || ridge < 0.0 {
            return Err(Error::config("ridge", ridge, "0 or above"));
        }
        let x = x.to_kind(Kind::Double);
        let centre = x.mean_dim([0].as_slice(), false, Kind::Double);
        let x = x - &centre;
        let labels = labels.to_device(x.device());
        let counts = labels.bincount(None::<Tensor>, classes).to_kind(Kind::Double); // [classes]
        let sums = Tensor::zeros([classes, d], (Kind::Double, x.device())).index_add(0, &labels, &x);
        let means = sums / counts.clamp_min(1.0).unsqueeze(1);
        let rest = &x - means.index_select(0, &labels); // [N, D]
        let covariance = rest.tr().matmul(&rest) / n as f64;
        let level = covariance.trace().scalar()? / d as f64;
        let identity = Tensor::eye(d, (Kind::Double, x.device()));
        let (factor, info) = (covariance + identity * (ridge * level)).linalg_cholesky_ex(false, false);
        // A factor with a diagonal near 0 is one of rounding errors.
        let least = factor.diagonal(0, 0, 1).min().square().scalar()?;
        if i64::try_from(info)? != 0 || least.is_nan() || least <= 1e-13 * level {
            let expected = "larger: the covariance of the features cannot be inverted";
            return Err(Error::config("ridge", ridge, expected));
        }
        let present = counts.gt(0.0).nonzero().squeeze_dim(1);
        let means = whiten(&factor, &means.index_select(0, &present));
        Ok(Mahalanobis { factor, centre, means })
    }
}

/// Rows `x` `[N, D]` to `L^-1 x`.
fn whiten(factor: &Tensor, x: &Tensor) -> Tensor {
    factor.linalg_solve_triangular(&x.tr(), false, true, false).tr()
}

/// libtorch's code for distances by differences, not by products: these would lose half of the digits.
const WITHOUT_PRODUCTS: i64 = 2;

impl Mahalanobis {
    /// Minus the squared distance of features `[N, D]` to the nearest class mean, `[N]` Float, 0 at most.
    ///
    /// # Errors
    /// When they have another number of features than those it was fitted to, or a value is not finite.
    pub fn score(&self, features: &Tensor) -> Result<Tensor> {
        let [n, _] = check_shape("features", features, [-1, self.centre.size()[0]])?;
        if n == 0 {
            return Ok(Tensor::zeros([0], (Kind::Float, features.device())));
        }
        let (x, _) = finite_matrix("features", features)?;
        let device = self.centre.device();
        let x = whiten(&self.factor, &(x.to_device(device).to_kind(Kind::Double) - &self.centre));
        let distances = Tensor::cdist(&x.contiguous(), &self.means.contiguous(), 2.0, WITHOUT_PRODUCTS); // [N, C]
        Ok(-distances.amin([1].as_slice(), false).square().to_kind(Kind::Float).to_device(features.device()))
    }
}

/// An error unless these are labels `[n]` Int64 of `0..classes`.
fn check_classes(labels: &Tensor, n: i64, classes: i64) -> Result<()> {
    check_shape("labels", labels, [n])?;
    check_kind("labels", labels, Kind::Int64)?;
    let labels = Vec::<i64>::try_from(labels.to_device(Device::Cpu))?;
    match labels.iter().find(|&label| !(0..classes).contains(label)) {
        Some(label) => Err(Error::config("labels", label, format!("a class in 0..{classes}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: i64, from: i64) -> Tensor {
        let i = Tensor::arange(n * 3, (Kind::Double, Device::Cpu)) + from;
        (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([n, 3]).to_kind(Kind::Float)
    }

    fn labels(n: i64) -> Tensor {
        Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(3)
    }

    fn training() -> Tensor {
        wave(30, 0) + labels(30).one_hot(3) * 2.0
    }

    // wave = lambda n, s: np.sin((np.arange(n * 3) + s) ** 1.5 * 0.37).reshape(n, 3).astype(np.float32)
    // y = np.arange(30) % 3; x = (wave(30, 0) + 2 * np.eye(3)[y]).astype(np.float32).astype(float)
    // mu = np.stack([x[y == c].mean(0) for c in range(3)])
    // P = sklearn.covariance.EmpiricalCovariance(assume_centered=True).fit(x - mu[y]).precision_    # 1.9.1
    // z = wave(5, 1000).astype(float)[:, None] - mu; -np.einsum("ncd,de,nce->nc", z, P, z).min(1)
    #[test]
    fn agrees_with_scikit_learn() {
        let score = Mahalanobis::fit(&training(), &labels(30), 3, 0.0).unwrap();
        let found = score.score(&wave(5, 1000)).unwrap();
        let found = Vec::<f64>::try_from(found).unwrap();
        assert!(found.iter().zip(SKLEARN).all(|(f, e)| (f - e).abs() < 1e-5), "{found:?}");
    }

    const SKLEARN: [f64; 5] = [-8.19609319, -4.19449492, -24.9968416, -4.00258601, -21.9056217];

    #[test]
    fn does_not_change_with_the_features_units() {
        let mix = Tensor::from_slice2(&[[2.0_f32, 1.0, 0.0], [0.0, 30.0, 1.0], [0.5, 0.0, 0.1]]);
        let score = |x: &Tensor, new: &Tensor| {
            let fitted = Mahalanobis::fit(x, &labels(30), 3, 0.0).unwrap();
            Vec::<f64>::try_from(fitted.score(new).unwrap()).unwrap()
        };
        let (x, new) = (training(), wave(5, 1000));
        let (a, b) = (score(&x, &new), score(&(x.matmul(&mix) + 100.0), &(new.matmul(&mix) + 100.0)));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?} {b:?}");
    }

    #[test]
    fn a_mean_is_most_familiar_and_absent_classes_have_none() {
        let fitted = Mahalanobis::fit(&training(), &labels(30), 5, 1e-6).unwrap();
        assert_eq!(fitted.means.size(), [3, 3]);
        let mean = training().index_select(0, &labels(30).eq(1).nonzero().squeeze_dim(1));
        let mean = mean.mean_dim([0].as_slice(), true, Kind::Float);
        assert!(fitted.score(&mean).unwrap().double_value(&[0]) > -1e-6);
        let none = Tensor::zeros([0, 3], (Kind::Float, Device::Cpu));
        assert_eq!(fitted.score(&none).unwrap().size(), [0]);
    }

    #[test]
    fn the_ridge_makes_up_for_too_few_samples() {
        let x = training().narrow(0, 0, 3);
        let two = Tensor::from_slice(&[0_i64, 0, 1]);
        let error = Mahalanobis::fit(&x, &two, 2, 0.0).unwrap_err().to_string();
        assert_eq!(error, "ridge = 0: larger: the covariance of the features cannot be inverted");
        let fitted = Mahalanobis::fit(&x, &two, 2, 1e-3).unwrap();
        let scores = Vec::<f64>::try_from(fitted.score(&training()).unwrap()).unwrap();
        assert!(scores.iter().all(|s| s.is_finite()) && scores[9] < 10.0 * scores[0].min(scores[1]));
        let constant = Tensor::ones([4, 2], (Kind::Float, Device::Cpu));
        assert!(Mahalanobis::fit(&constant, &Tensor::from_slice(&[0_i64, 0, 1, 1]), 2, 1.0).is_err());
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = |classes, ridge| {
            Mahalanobis::fit(&training(), &labels(30), classes, ridge).unwrap_err().to_string()
        };
        assert_eq!(error(2, 0.0), "labels = 2: a class in 0..2");
        assert_eq!(error(3, -1.0), "ridge = -1: 0 or above");
        let wide = Tensor::zeros([2, 4], (Kind::Float, Device::Cpu));
        let error = Mahalanobis::fit(&training(), &labels(30), 3, 0.0).unwrap().score(&wide).unwrap_err();
        assert_eq!(error.to_string(), "features: expected [_, 3], found [2, 4]");
    }
}
