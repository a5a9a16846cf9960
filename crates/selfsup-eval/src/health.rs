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

use selfsup_core::{Device, Error, Kind, Result, Tensor, TensorExt, check_shape};
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
    let std = std_of(&z)?;
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

/// The standard deviation of features at unit length, averaged over the features; `x` as [`feature_health`] takes it.
pub(crate) fn std(x: &Tensor) -> Result<f64> {
    std_of(&directions("x", x)?)
}

fn std_of(z: &Tensor) -> Result<f64> {
    z.std_correction([0].as_slice(), 1, false).mean(Kind::Double).scalar()
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

/// The rows in Float on the CPU, after a check that there are two and all are finite. What follows takes 64 bits, which
/// not every device has (MPS has none).
pub(crate) fn checked(name: &str, x: &Tensor) -> Result<Tensor> {
    let [n, d] = check_shape(name, x, [-1, -1])?;
    if n < 2 || d < 1 {
        return Err(Error::config(name, format!("[{n}, {d}]"), "at least two rows of at least one feature"));
    }
    let x = x.detach().to_device(Device::Cpu).to_kind(Kind::Float);
    if !bool::try_from(x.isfinite().all())? {
        return Err(Error::NonFinite {
            what: name.to_owned(),
            detail: "features that are measured".to_owned(),
        });
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;

    fn assert_close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() < tolerance, "{found}, expected {expected}");
    }

    // x = torch.sin(torch.arange(40.).double() ** 1.5 * 0.37).reshape(8, 5); z = F.normalize(x, dim=1)
    // z.std(0).mean()
    // s = torch.linalg.svdvals(x); p = s / s.sum() + 1e-7; torch.exp(-(p * p.log()).sum())
    // torch.pdist(z).pow(2).mul(-2).exp().mean().log()
    // (z - F.normalize(x.flip(1), dim=1)).norm(dim=1).pow(2).mean()
    #[test]
    fn gives_the_values_of_the_papers_formulas() {
        let x = formula(8, 5);
        let health = feature_health(&x).unwrap();
        assert_close(health.std, 0.4403, 1e-4);
        assert_close(health.even_std, 0.4472, 1e-4);
        assert_close(health.rank_me, 4.2684, 1e-4);
        assert_close(rank_me(&x.tr()).unwrap(), 4.2684, 1e-4);
        assert_close(health.uniformity, -2.3204, 1e-4);
        assert_close(alignment(&x, &x.flip([1])).unwrap(), 1.3918, 1e-4);
        assert_eq!(health.verdict, Verdict::Healthy);
    }

    #[test]
    fn measures_on_the_cpu_whatever_the_device_of_the_features() {
        let x = formula(8, 5);
        let there = x.to_device(Device::cuda_if_available());
        assert_eq!(checked("x", &there).unwrap().device(), Device::Cpu);
        assert_eq!(feature_health(&there).unwrap(), feature_health(&x).unwrap());
    }

    #[test]
    fn knows_the_extremes() {
        let one_point = Tensor::ones([16, 8], (Kind::Float, Device::Cpu));
        let health = feature_health(&one_point).unwrap();
        assert_close(health.std, 0.0, 1e-6);
        assert_close(health.rank_me, 1.0, 1e-3);
        assert_close(health.uniformity, 0.0, 1e-5);
        assert_eq!(health.verdict, Verdict::Collapse);
        assert_eq!(health.verdict.to_string(), "collapse: all inputs have nearly the same features");

        let axes = Tensor::eye(8, (Kind::Float, Device::Cpu));
        assert_close(rank_me(&axes).unwrap(), 8.0, 1e-3);
        assert_close(uniformity(&axes).unwrap(), -4.0, 1e-5); // all pairs lie sqrt(2) apart
        assert_close(alignment(&axes, &axes.flip([0])).unwrap(), 2.0, 1e-6);
        assert_close(alignment(&axes, &(&axes * 3.0)).unwrap(), 0.0, 1e-6);

        let line = formula(128, 1).matmul(&Tensor::ones([1, 128], (Kind::Float, Device::Cpu)));
        let health = feature_health(&line).unwrap();
        assert_eq!(health.verdict, Verdict::DimensionalCollapse);
    }

    #[test]
    fn the_blocks_of_uniformity_leave_no_seam() {
        let x = formula(BLOCK + 300, 6);
        let z = x.to_kind(Kind::Double).l2_normalize();
        let potentials = ((&z.matmul(&z.tr()) - 1.0) * 4.0).exp();
        let n = z.size()[0] as f64;
        let expected = ((potentials.sum(None).scalar().unwrap() - n) / (n * (n - 1.0))).ln();
        assert_close(uniformity(&x).unwrap(), expected, 1e-5);
    }

    #[test]
    fn scaling_samples_changes_nothing_but_the_rank() {
        let x = formula(8, 5);
        let scaled = &x * (Tensor::arange(8, (Kind::Float, Device::Cpu)) + 1.0).unsqueeze(1);
        let (a, b) = (feature_health(&x).unwrap(), feature_health(&scaled).unwrap());
        assert_close(a.std, b.std, 1e-6);
        assert_close(a.uniformity, b.uniformity, 1e-5);
        assert_close(feature_health(&(&x * 1e4)).unwrap().rank_me, a.rank_me, 1e-4);
    }

    #[test]
    fn rejects_what_it_cannot_measure() {
        let x = formula(4, 3);
        let error = feature_health(&x.narrow(0, 0, 1)).unwrap_err().to_string();
        assert_eq!(error, "x = [1, 3]: at least two rows of at least one feature");
        let error = alignment(&x, &formula(4, 2)).unwrap_err().to_string();
        assert_eq!(error, "x1: expected [4, 3], found [4, 2]");
        assert!(matches!(feature_health(&(x / 0.0)), Err(Error::NonFinite { .. })));
    }
}
