//! LiDAR: in how many directions samples differ more than the views of one sample do (Thilak et al. 2023, section 4).
//!
//! Every sample is a class of its own, its views are the class' members, and a linear discriminant analysis tells them apart:
//! ```text
//! mu_i = mean_v z_iv      mu = mean_i mu_i
//! S_b = 1/(n-1) sum_i (mu_i - mu)(mu_i - mu)^T      S_w = 1/(n(q-1)) sum_iv (z_iv - mu_i)(z_iv - mu_i)^T + delta I
//! lambda = eigenvalues of S_w^-1/2 S_b S_w^-1/2     p_k = lambda_k / sum lambda + 1e-7
//! LiDAR = exp(-sum_k p_k log p_k)
//! ```
//! Unlike RankMe it does not count directions in which only the augmentation moves the features. The paper takes 1000
//! samples of 50 views; no value exceeds `min(n - 1, D)` by more than the 1e-7 lets it.

use crate::health::checked;
use selfsup_core::{Device, Error, Kind, Result, Tensor, TensorExt, check_shape};

/// The paper's delta, which keeps the covariance within samples invertible; in squared units of the features.
pub const LIDAR_DELTA: f64 = 1e-4;

/// LiDAR, an effective number of dimensions. `delta` is [`LIDAR_DELTA`] unless the features' scale asks for another.
///
/// # Shapes
/// `views` `[n, q, D]`: n samples, q views of each; both at least 2.
///
/// # Errors
/// When there are fewer samples or views, a value is not finite, or `delta` is not above 0.
pub fn lidar(views: &Tensor, delta: f64) -> Result<f64> {
    let [n, q, d] = check_shape("views", views, [-1, -1, -1])?;
    if n < 2 || q < 2 || d < 1 {
        return Err(Error::config("views", format!("[{n}, {q}, {d}]"), "at least two samples of two views"));
    }
    if !(delta > 0.0 && delta.is_finite()) {
        return Err(Error::config("delta", delta, "above 0"));
    }
    let z = checked("views", &views.reshape([n * q, d]))?.to_kind(Kind::Double).reshape([n, q, d]);
    let means = z.mean_dim([1].as_slice(), true, None); // [n, 1, D]
    let between = means.squeeze_dim(1) - means.mean_dim([0].as_slice(), false, None); // [n, D]
    let within = (z - means).reshape([n * q, d]);
    let s_b = between.tr().matmul(&between) / (n - 1) as f64; // [D, D]
    let identity = Tensor::eye(d, (Kind::Double, Device::Cpu));
    let s_w = within.tr().matmul(&within) / (n * (q - 1)) as f64 + identity * delta;
    // With S_w = L L^T, L^-1 S_b L^-T has the eigenvalues of S_w^-1/2 S_b S_w^-1/2.
    let (factor, info) = s_w.linalg_cholesky_ex(false, false);
    if i64::try_from(info)? != 0 {
        return Err(Error::config(
            "delta",
            delta,
            "larger: the covariance within samples cannot be inverted",
        ));
    }
    let solve = |x: &Tensor| factor.linalg_solve_triangular(x, false, true, false);
    let lambda = solve(&solve(&s_b).tr()).f_linalg_eigvalsh("L")?.clamp_min(0.0);
    let p = &lambda / lambda.sum(None).clamp_min(f64::MIN_POSITIVE) + 1e-7;
    Ok((-(&p * p.log()).sum(None).scalar()?).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;
    use crate::rank_me;

    fn views() -> Tensor {
        let samples = formula(12, 6).unsqueeze(1);
        let moves = formula(60, 6).flip([0]).reshape([12, 5, 6])
            * Tensor::from_slice(&[0.3_f32, 0.2, 0.1, 0.4, 0.05, 0.9]);
        samples + moves
    }

    // w = lambda n, d: np.sin(np.arange(n * d) ** 1.5 * 0.37).reshape(n, d).astype(np.float32)
    // z = (w(12, 6)[:, None] + w(60, 6)[::-1].reshape(12, 5, 6) * np.float32([.3, .2, .1, .4, .05, .9])).astype(float)
    // m = z.mean(1); b = np.cov(m.T); e = (z - m[:, None]).reshape(-1, 6); s = e.T @ e / 48 + delta * np.eye(6)
    // l = scipy.linalg.eigh(b, s, eigvals_only=True).clip(0); p = l / l.sum() + 1e-7; np.exp(-(p * np.log(p)).sum())
    #[test]
    fn agrees_with_scipys_generalised_eigenvalues() {
        for (delta, expected) in [(1e-4, LIDAR[0]), (0.1, LIDAR[1])] {
            let found = lidar(&views(), delta).unwrap();
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
    }

    const LIDAR: [f64; 2] = [2.212475358900456, 3.5702029447279426];

    #[test]
    fn does_not_change_with_the_features_basis() {
        let mix = formula(6, 6) + Tensor::eye(6, (Kind::Float, Device::Cpu)) * 3.0;
        let (a, b) = (lidar(&views(), 1e-9).unwrap(), lidar(&views().matmul(&mix), 1e-9).unwrap());
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }

    #[test]
    fn directions_that_only_views_vary_in_do_not_count() {
        let moves = formula(400, 4).reshape([20, 20, 4]);
        let samples = formula(20, 4).unsqueeze(1) * Tensor::from_slice(&[3.0_f32, 3.0, 0.0, 0.0]);
        let views = moves + samples;
        let (found, all) = (lidar(&views, LIDAR_DELTA).unwrap(), rank_me(&views.reshape([400, 4])).unwrap());
        assert!(found < 2.0 && all > 3.0, "{found} {all}");
        let same = Tensor::ones([5, 3, 4], (Kind::Float, Device::Cpu));
        assert!((lidar(&same, LIDAR_DELTA).unwrap() - 1.0).abs() < 1e-4, "one point has no dimensions");
    }

    #[test]
    fn rejects_what_it_cannot_measure() {
        let error = |x: &Tensor, delta| lidar(x, delta).unwrap_err().to_string();
        assert_eq!(
            error(&views().narrow(1, 0, 1), 1.0),
            "views = [12, 1, 6]: at least two samples of two views"
        );
        assert_eq!(error(&views(), 0.0), "delta = 0: above 0");
        assert_eq!(error(&formula(4, 3), 1.0), "views: expected [_, _, _], found [4, 3]");
        assert!(error(&(views() / 0.0), 1.0).contains("not finite"));
    }
}
