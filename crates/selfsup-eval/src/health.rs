//! Whether features are alive, without labels: cheap enough for a batch at every line of the log.
//!
//! ```text
//! std         mean over d of the standard deviation of z_d,  z = x / |x|        (Chen and He 2021, section 4.1)
//! RankMe      exp(-sum_k p_k log p_k),  p_k = sigma_k / sum sigma + 1e-7       (Garrido et al. 2023, equation 1)
//! alignment   mean |z0_i - z1_i|^2                                            (Wang and Isola 2020, equation 3)
//! uniformity  log mean_{i<j} exp(-2 |z_i - z_j|^2)                                                (equation 4)
//! ```
//! Directions spread evenly over the sphere have a standard deviation near `1 / sqrt(D)`, a RankMe near `D` and a
//! uniformity near -4; one single direction has 0, 1 and 0.

use selfsup_core::{Error, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the features of a batch spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureHealth {
    /// The standard deviation of the normalised features, averaged over the features.
    pub std: f64,
    /// `1 / sqrt(D)`: the standard deviation of directions that are spread evenly.
    pub even_std: f64,
    /// The effective number of dimensions, 1 to `min(N, D)`.
    pub rank_me: f64,
    /// The uniformity: 0 for one point, about -4 for an even spread.
    pub uniformity: f64,
    /// What these say.
    pub verdict: Verdict,
}

/// What the measures say in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The features differ, in many dimensions.
    Healthy,
    /// The features differ, but in very few dimensions.
    DimensionalCollapse,
    /// All inputs have nearly the same feature.
    Collapse,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Verdict::Healthy => "healthy",
            Verdict::DimensionalCollapse => "dimensional collapse: the features vary in very few directions",
            Verdict::Collapse => "collapse: all inputs have nearly the same features",
        })
    }
}

/// Measures the features of a batch.
///
/// # Shapes
/// `x` `[N, D]`, N at least 2.
///
/// # Errors
/// When `x` has another shape, fewer than two rows, or a value that is not finite.
pub fn feature_health(x: &Tensor) -> Result<FeatureHealth> {
    let z = directions("x", x)?;
    let (n, d) = (z.size()[0], z.size()[1]);
    let std = f64::try_from(z.std_correction([0].as_slice(), 1, false).mean(Kind::Double))?;
    let even_std = 1.0 / (d as f64).sqrt();
    let rank_me = rank_me(x)?;
    let verdict = if std < COLLAPSED_STD * even_std {
        Verdict::Collapse
    } else if rank_me < COLLAPSED_RANK * n.min(d) as f64 {
        Verdict::DimensionalCollapse
    } else {
        Verdict::Healthy
    };
    Ok(FeatureHealth { std, even_std, rank_me, uniformity: uniformity(x)?, verdict })
}

/// Below this part of the even spread the features count as one point.
const COLLAPSED_STD: f64 = 0.02;
/// Below this part of the possible dimensions they count as collapsed.
const COLLAPSED_RANK: f64 = 0.02;

/// RankMe: the exponential of the entropy of the singular values.
///
/// # Shapes
/// `x` `[N, D]`; the paper takes N of some thousands, and no value exceeds `min(N, D)`.
///
/// # Errors
/// As [`feature_health`].
pub fn rank_me(x: &Tensor) -> Result<f64> {
    let x = checked("x", x)?.to_kind(Kind::Double);
    // The eigenvalues of the smaller of x^T x and x x^T are the squared singular values; 64 bits leave 8 digits.
    let gram = if x.size()[0] < x.size()[1] { x.matmul(&x.tr()) } else { x.tr().matmul(&x) };
    let singular = gram.f_linalg_eigvalsh("L")?.clamp_min(0.0).sqrt();
    let p = &singular / singular.sum(None).clamp_min(f64::MIN_POSITIVE) + 1e-7;
    Ok((-(&p * p.log()).sum(None).scalar()?).exp())
}

/// How near the features of two views of the same samples are: 0 when they are equal, 2 when they have nothing in
/// common.
///
/// # Shapes
/// `x0`, `x1` `[N, D]`, row by row of the same samples.
///
/// # Errors
/// As [`feature_health`], for either, and when the shapes differ.
pub fn alignment(x0: &Tensor, x1: &Tensor) -> Result<f64> {
    let (z0, z1) = (directions("x0", x0)?, directions("x1", x1)?);
    check_shape("x1", x1, [z0.size()[0], z0.size()[1]])?;
    (z0 - z1).square().sum_dim_intlist(1, false, None).mean(Kind::Double).scalar()
}

/// How evenly the features cover the sphere: the logarithm of the mean Gaussian potential of all pairs, the lower the
/// more even. Computed in blocks: memory stays small, time grows with `N^2`.
///
/// # Shapes
/// `x` `[N, D]`.
///
/// # Errors
/// As [`feature_health`].
pub fn uniformity(x: &Tensor) -> Result<f64> {
    let z = directions("x", x)?;
    let n = z.size()[0];
    let mut total = 0.0;
    for first in (0..n).step_by(BLOCK as usize) {
        let rows = z.narrow(0, first, BLOCK.min(n - first));
        // On the sphere |a - b|^2 = 2 - 2 a.b
        total += (rows.matmul(&z.tr()) * 4.0 - 4.0).exp().sum(Kind::Double).scalar()?;
    }
    // The sum holds every pair twice, and each sample with itself, whose potential is 1.
    let pairs = n as f64 * (n - 1) as f64;
    Ok(((total - n as f64).max(f64::MIN_POSITIVE) / pairs).ln())
}

/// Rows compared with all others at a time.
const BLOCK: i64 = 1024;

/// The rows at length 1.
fn directions(name: &str, x: &Tensor) -> Result<Tensor> {
    Ok(checked(name, x)?.l2_normalize())
}

/// The rows in Float, after a check that there are two and all are finite.
fn checked(name: &str, x: &Tensor) -> Result<Tensor> {
    let [n, d] = check_shape(name, x, [-1, -1])?;
    if n < 2 || d < 1 {
        return Err(Error::config(name, format!("[{n}, {d}]"), "at least two rows of at least one feature"));
    }
    let x = x.detach().to_kind(Kind::Float);
    if !bool::try_from(x.isfinite().all())? {
        return Err(Error::NonFinite {
            what: name.to_owned(),
            detail: "features that are measured".to_owned(),
        });
    }
    Ok(x)
}
