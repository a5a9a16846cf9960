//! Principal component analysis: the orthogonal directions of greatest variance.
//!
//! With `X` centred, the components are the eigenvectors of `X^T X / (N - 1)` by falling eigenvalue, and the
//! eigenvalues are the variances along them. With at least as many samples as features they are found from that
//! matrix, else from the singular values of `X`; both in 64 bits. A component's sign is free; as in scikit-learn 1.9
//! its entry of largest size is positive.

use crate::finite_matrix;
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// Fitted principal components.
#[derive(Debug)]
pub struct Pca {
    /// The features' means, `[D]` Float.
    pub mean: Tensor,
    /// The components, one a row, of length 1, `[K, D]` Float.
    pub components: Tensor,
    /// The variance along each component (`N - 1` in the denominator), `[K]` Double.
    pub explained_variance: Tensor,
    /// Its share of the total variance, `[K]` Double; 0 when nothing varies.
    pub explained_variance_ratio: Tensor,
}

impl Pca {
    /// Finds the first `components` principal components of `x`.
    ///
    /// # Shapes
    /// `x` `[N, D]`.
    ///
    /// # Errors
    /// When `x` is no finite matrix or `components` is not in `1..=min(N, D)`.
    pub fn fit(x: &Tensor, components: i64) -> Result<Pca> {
        let (x, [n, d]) = finite_matrix("x", x)?;
        if !(1..=n.min(d)).contains(&components) {
            return Err(Error::config(
                "components",
                components,
                format!("1 to {}, the lesser of x's sizes", n.min(d)),
            ));
        }
        let x = x.to_kind(Kind::Double);
        let mean = x.mean_dim(0, true, None); // [1, D]
        let centred = &x - &mean;
        let degrees = (n - 1).max(1) as f64;
        let (variances, directions) = if n >= d {
            let covariance = centred.tr().matmul(&centred) / degrees; // [D, D]
            let (values, vectors) = covariance.f_linalg_eigh("L")?; // ascending
            (values.flip([0]), vectors.flip([1]).tr())
        } else {
            let (_, values, directions) = centred.f_svd(true, true)?; // descending
            (values.square() / degrees, directions.tr())
        };
        let variances = variances.clamp_min(0.0); // [min(N, D)]
        let total = variances.sum(Kind::Double).clamp_min(f64::MIN_POSITIVE);
        let directions = directions.narrow(0, 0, components); // [K, D]
        let largest = directions.abs().argmax(1, true); // [K, 1]
        let signs = directions.gather(1, &largest, false).sign();
        let explained_variance = variances.narrow(0, 0, components).contiguous();
        Ok(Pca {
            mean: mean.squeeze_dim(0).to_kind(Kind::Float),
            components: (directions * signs).to_kind(Kind::Float).contiguous(),
            explained_variance_ratio: &explained_variance / total,
            explained_variance,
        })
    }

    /// The coordinates of `x` along the components.
    ///
    /// # Shapes
    /// `[M, D]` to `[M, K]` Float.
    ///
    /// # Errors
    /// When `x` is no finite matrix or has another number of features than the fitted data.
    pub fn transform(&self, x: &Tensor) -> Result<Tensor> {
        let (x, _) = finite_matrix("x", x)?;
        check_shape("x", &x, [-1, self.components.size()[1]])?;
        Ok((x - &self.mean).matmul(&self.components.tr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
    }

    fn assert_close(found: &Tensor, expected: &Tensor) {
        let difference = f64::try_from((found - expected).abs().max()).unwrap();
        assert!(difference < 1e-6, "differs by {difference}");
    }

    // x = np.sin(np.arange(n * d).reshape(n, d) ** 1.5 * 0.37)
    // p = sklearn.decomposition.PCA(3, svd_solver="full").fit(x)   # 1.9.1
    // p.components_, p.explained_variance_, p.explained_variance_ratio_, p.transform(x[:2])
    #[test]
    fn agrees_with_scikit_learn() {
        let x = formula(20, 4);
        let pca = Pca::fit(&x, 3).unwrap();
        assert_close(
            &pca.components,
            &Tensor::from_slice2(&[
                [-0.56346298, 0.74280475, -0.35873745, -0.04536549],
                [0.18627779, -0.10689627, -0.61034419, 0.76246557],
                [0.58689012, 0.14112103, -0.55754286, -0.5699042],
            ]),
        );
        assert_close(&pca.explained_variance, &Tensor::from_slice(&[1.20704214, 0.52843252, 0.18708578]));
        assert_close(
            &pca.explained_variance_ratio,
            &Tensor::from_slice(&[0.5959603, 0.26090622, 0.09237101]),
        );
        assert_close(
            &pca.transform(&x.narrow(0, 0, 2)).unwrap(),
            &Tensor::from_slice2(&[
                [-0.09386712, -0.30902307, -0.80163545],
                [-0.4902363, 0.53319141, 0.26254283],
            ]),
        );
    }

    #[test]
    fn agrees_with_scikit_learn_on_fewer_samples_than_features() {
        let pca = Pca::fit(&formula(4, 6), 3).unwrap();
        assert_close(
            &pca.components,
            &Tensor::from_slice2(&[
                [-0.12357015, -0.23113848, -0.06083683, -0.49072235, -0.43507806, 0.7053389],
                [0.36049035, -0.44360935, -0.21775642, 0.66426731, -0.41685537, 0.10401983],
                [-0.34894233, 0.72406099, -0.0400219, 0.34972857, -0.46127905, 0.13147145],
            ]),
        );
        assert_close(&pca.explained_variance, &Tensor::from_slice(&[1.12350444, 0.81719681, 0.68922987]));
    }

    #[test]
    fn constant_data_have_no_variance() {
        let pca = Pca::fit(&Tensor::ones([5, 3], (Kind::Float, Device::Cpu)), 2).unwrap();
        assert_eq!(Vec::<f64>::try_from(&pca.explained_variance).unwrap(), [0.0, 0.0]);
        assert_eq!(Vec::<f64>::try_from(&pca.explained_variance_ratio).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn rejects_too_many_components_and_other_data() {
        let x = formula(20, 4);
        let error = Pca::fit(&x, 5).unwrap_err().to_string();
        assert_eq!(error, "components = 5: 1 to 4, the lesser of x's sizes");
        let error = Pca::fit(&x, 2).unwrap().transform(&formula(2, 3)).unwrap_err().to_string();
        assert_eq!(error, "x: expected [_, 4], found [2, 3]");
    }
}
