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
