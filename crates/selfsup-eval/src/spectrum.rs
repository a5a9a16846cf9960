//! How the variance of activations falls over their principal directions, of a layer or of all.
//!
//! With `lambda_1 >= lambda_2 >= ...` the eigenvalues of the covariance:
//! ```text
//! effective rank        exp(-sum_k q_k log q_k),  q_k = sqrt(lambda_k) / sum sqrt(lambda)     (Roy and Vetterli 2007)
//! participation ratio   (sum_k lambda_k)^2 / sum_k lambda_k^2                                        (Gao et al. 2017)
//! alpha                 lambda_k ~ k^-alpha: minus the slope of log lambda_k over log k             (Agrawal et al. 2022)
//! ```
//! The slope is of a least-squares line weighted by `1/k`, so that each octave counts alike, as Stringer et al. (2019) fit it.
//! An alpha near 1 is what the authors of alpha-ReQ find with good features; far above, few directions hold everything, far
//! below, variance is spread over noise. Unlike RankMe, all three are of centred activations: the offset that ReLU leaves is
//! no dimension.

use crate::group_jackknife::{WIDEST, intervals};
use crate::health::checked;
use crate::measurement::Origin;
use crate::{Interval, Mean, Measurement};
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// A line through eigenvalues on logarithmic scales.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// How fast the eigenvalues fall.
    pub alpha: f64,
    /// The share of the weighted variance of the logarithms that the line explains; 1 for an exact power law.
    pub r_squared: f64,
    /// The first eigenvalue that the line goes through, from 1.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// The eigenvalues that a power law is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PowerLawConfig {
    /// The first, from 1: those before it are often larger than the law has them.
    pub first: usize,
    /// The last; fewer where features or samples are fewer, or what is left of the variance is rounding.
    pub last: usize,
}

impl Default for PowerLawConfig {
    fn default() -> Self {
        PowerLawConfig { first: 11, last: 100 }
    }
}

/// alpha-ReQ: how fast the variance of features falls.
///
/// # Shapes
/// `x` `[N, D]`.
///
/// # Errors
/// When `x` is no finite matrix of two rows at least, or holds fewer than two eigenvalues of the range.
pub fn alpha_req(x: &Tensor, config: &PowerLawConfig) -> Result<PowerLaw> {
    if config.first < 1 {
        return Err(Error::config("first", config.first, "at least 1"));
    }
    let variances = variances("x", x)?;
    power_law(&variances, config).ok_or_else(|| {
        let expected = format!("at least two of eigenvalues {} to {}", config.first, config.last);
        Error::config("eigenvalues above rounding", above_rounding(&variances), expected)
    })
}

/// What a layer's activations hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSpectrum {
    /// The layer's name.
    pub layer: String,
    /// The samples.
    pub samples: i64,
    /// The width of the layer, `D`: no rank exceeds it.
    pub dim: i64,
    /// The effective rank, 1 to `min(N - 1, D)`.
    pub effective_rank: f64,
    /// The participation ratio, in the same bounds; it looks at the largest directions more.
    pub participation_ratio: f64,
    /// The power law; none where there are too few eigenvalues for one.
    pub power_law: Option<PowerLaw>,
    /// How sure the effective rank, the participation ratio and alpha are, in this order; none of more than 1,024 features and samples.
    pub intervals: [Option<Interval>; 3],
}

/// The spectra of named activations, in order.
///
/// # Shapes
/// `[N, D]`; tokens `[N, T, D]` and maps `[N, D, h, w]` are averaged over their places.
///
/// # Errors
/// When an activation has another shape, fewer than two samples, or a value that is not finite; the error names it.
pub fn layer_spectra(layers: &[(String, Tensor)], config: &PowerLawConfig) -> Result<Vec<LayerSpectrum>> {
    layers.iter().map(|(layer, x)| spectrum(layer, x, config)).collect()
}

fn spectrum(layer: &str, x: &Tensor, config: &PowerLawConfig) -> Result<LayerSpectrum> {
    let x = over_places(x);
    let [samples, dim] = check_shape(layer, &x, [-1, -1])?;
    let told = |x: &Tensor| -> Result<(f64, f64, Option<PowerLaw>)> {
        let variances = variances(layer, x)?;
        let [effective_rank, participation_ratio] = ranks(&variances);
        Ok((effective_rank, participation_ratio, power_law(&variances, config)))
    };
    let (effective_rank, participation_ratio, power_law) = told(&x)?;
    let alpha = |law: Option<PowerLaw>| law.map(|law| law.alpha);
    let values = [Some(effective_rank), Some(participation_ratio), alpha(power_law)];
    let intervals = intervals(values.map(|v| v.filter(|_| samples.min(dim) <= WIDEST)), samples, |rest| {
        let (effective_rank, participation_ratio, law) = told(&x.index_select(0, rest))?;
        Ok([Some(effective_rank), Some(participation_ratio), alpha(law)])
    })?;
    Ok(LayerSpectrum {
        layer: layer.to_owned(),
        samples,
        dim,
        effective_rank,
        participation_ratio,
        power_law,
        intervals,
    })
}

/// The effective rank and the participation ratio.
fn ranks(variances: &[f64]) -> [f64; 2] {
    let total: f64 = variances.iter().sum();
    if total <= 0.0 {
        return [1.0, 1.0];
    }
    let roots: f64 = variances.iter().map(|v| v.sqrt()).sum();
    let q = variances.iter().map(|v| v.sqrt() / roots).filter(|&q| q > 0.0);
    let entropy: f64 = -q.map(|q| q * q.ln()).sum::<f64>();
    [entropy.exp(), total * total / variances.iter().map(|v| v * v).sum::<f64>()]
}

/// Tokens `[N, T, D]` and maps `[N, D, h, w]` as their means over places, `[N, D]`; anything else as it is.
pub(crate) fn over_places(x: &Tensor) -> Tensor {
    match x.dim() {
        3 => x.mean_dim([1].as_slice(), false, Kind::Float),
        4 => x.mean_dim([2, 3].as_slice(), false, Kind::Float),
        _ => x.shallow_clone(),
    }
}

/// The eigenvalues of the covariance, falling.
fn variances(name: &str, x: &Tensor) -> Result<Vec<f64>> {
    let x = checked(name, x)?.to_kind(Kind::Double);
    let n = x.size()[0];
    let x = &x - x.mean_dim([0].as_slice(), true, None);
    let gram = if n < x.size()[1] { x.matmul(&x.tr()) } else { x.tr().matmul(&x) };
    let values = (gram / (n - 1) as f64).f_linalg_eigvalsh("L")?.flip([0]);
    let mut values = Vec::<f64>::try_from(values)?;
    // What 64 bits leave of directions that never vary is no variance.
    let floor = values.first().copied().unwrap_or(0.0).max(0.0) * ROUNDING;
    values.iter_mut().filter(|v| **v <= floor).for_each(|v| *v = 0.0);
    Ok(values)
}

/// Below this part of the largest, an eigenvalue is rounding.
const ROUNDING: f64 = 1e-12;

fn above_rounding(variances: &[f64]) -> usize {
    variances.iter().filter(|v| **v > 0.0).count()
}

fn power_law(variances: &[f64], config: &PowerLawConfig) -> Option<PowerLaw> {
    let last = config.last.min(above_rounding(variances));
    if last <= config.first {
        return None;
    }
    let points: Vec<[f64; 3]> =
        (config.first..=last).map(|k| [(k as f64).ln(), variances[k - 1].ln(), 1.0 / k as f64]).collect();
    let sum = |f: &dyn Fn(&[f64; 3]) -> f64| points.iter().map(f).sum::<f64>();
    let weight = sum(&|p| p[2]);
    let (mx, my) = (sum(&|p| p[0] * p[2]) / weight, sum(&|p| p[1] * p[2]) / weight);
    let xx = sum(&|p| p[2] * (p[0] - mx).powi(2));
    let xy = sum(&|p| p[2] * (p[0] - mx) * (p[1] - my));
    let yy = sum(&|p| p[2] * (p[1] - my).powi(2));
    // Equal eigenvalues lie on a level line.
    let r_squared = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
    Some(PowerLaw { alpha: -xy / xx, r_squared, first: config.first, last })
}

impl LayerSpectrum {
    /// The measures for a report, of activations of samples from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: None };
        let n = self.samples as usize;
        let sure = |value: f64, i: usize| Mean { value, interval: self.intervals[i], n };
        let of = |name: &str| format!("{name} {}", self.layer);
        let activations = format!("of the {} centred activations of {}", self.dim, self.layer);
        let mut all = vec![
            origin.mean(
                of("effective_rank"),
                &sure(self.effective_rank, 0),
                format!("exponential of the entropy of the singular values {activations} (Roy and Vetterli 2007)"),
            ),
            origin.mean(
                of("participation_ratio"),
                &sure(self.participation_ratio, 1),
                format!("squared sum of the variances over the sum of their squares, along the principal directions {activations}"),
            ),
        ];
        if let Some(PowerLaw { alpha, first, last, r_squared }) = self.power_law {
            all.push(origin.mean(
                of("alpha"),
                &sure(alpha, 2),
                format!(
                    "exponent of the power law through eigenvalues {first} to {last} of the covariance {activations}, R2 \
                     {r_squared:.3} (alpha-ReQ, Agrawal et al. 2022)"
                ),
            ));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;
    use selfsup_core::Device;

    /// Orthogonal centred columns whose variances fall as `k^-alpha`.
    fn law(alpha: f64, d: i64) -> Tensor {
        let n = 2 * d;
        let i = Tensor::arange(n, (Kind::Double, Device::Cpu)).unsqueeze(1) + 0.5;
        let k = Tensor::arange(d, (Kind::Double, Device::Cpu)) + 1.0;
        let cosines = (i * &k * (std::f64::consts::PI / n as f64)).cos(); // [n, d]
        cosines * k.pow_tensor_scalar(-0.5 * alpha)
    }

    // x = np.sin(np.arange(1500) ** 1.5 * 0.37).reshape(50, 30).astype(np.float32)
    // p = sklearn.decomposition.PCA(svd_solver="full").fit(x.astype(float)); l = p.explained_variance_; s = p.singular_values_
    // q = s / s.sum(); np.exp(-(q * np.log(q)).sum()); l.sum() ** 2 / (l ** 2).sum()               # scikit-learn 1.9.1
    // k = np.arange(11, 31); r = LinearRegression().fit(np.log(k)[:, None], np.log(l[10:]), 1 / k); -r.coef_[0]
    // r.score(np.log(k)[:, None], np.log(l[10:]), 1 / k)
    #[test]
    fn agrees_with_scikit_learn() {
        let layers = [("conv1".to_owned(), formula(50, 30))];
        let found = &layer_spectra(&layers, &PowerLawConfig::default()).unwrap()[0];
        let law = found.power_law.unwrap();
        assert_eq!((law.first, law.last, found.dim, found.samples), (11, 30, 30, 50));
        let found = [found.effective_rank, found.participation_ratio, law.alpha, law.r_squared];
        assert!(found.iter().zip(SKLEARN).all(|(f, e)| (f - e).abs() < 1e-5), "{found:?}");
    }

    const SKLEARN: [f64; 4] = [26.79307437434059, 19.013932985625107, 2.783280568759524, 0.8175314248250043];

    #[test]
    fn finds_the_exponent_of_an_exact_law() {
        for alpha in [0.0, 0.5, 1.0, 2.5] {
            let found = alpha_req(&law(alpha, 40), &PowerLawConfig { first: 1, last: 40 }).unwrap();
            assert!((found.alpha - alpha).abs() < 1e-4, "{found:?}");
            assert!(alpha == 0.0 || found.r_squared > 0.9999, "{found:?}");
        }
    }

    #[test]
    fn equal_variances_have_full_rank_and_one_direction_rank_one() {
        let rank = |x: Tensor| {
            let found = layer_spectra(&[("z".to_owned(), x)], &PowerLawConfig::default()).unwrap().remove(0);
            (found.effective_rank, found.participation_ratio)
        };
        let near = |found: (f64, f64), expected: f64| {
            assert!((found.0 - expected).abs() < 1e-3 && (found.1 - expected).abs() < 1e-3, "{found:?}");
        };
        near(rank(law(0.0, 16)), 16.0);
        near(rank(formula(20, 1).matmul(&Tensor::ones([1, 9], (Kind::Float, Device::Cpu)))), 1.0);
        near(rank(Tensor::ones([20, 9], (Kind::Float, Device::Cpu))), 1.0);
        // An offset is no dimension, and neither is a copy of the samples.
        near(rank(law(0.0, 16) + 100.0), 16.0);
        near(rank(law(0.0, 16).repeat([3, 1])), 16.0);
    }

    #[test]
    fn maps_and_tokens_are_averaged_over_their_places() {
        let map = formula(20, 5 * 6).reshape([20, 5, 2, 3]);
        let tokens = map.flatten(2, 3).transpose(1, 2);
        let plain = map.flatten(2, 3).mean_dim([2].as_slice(), false, Kind::Float);
        let layers = [map, tokens, plain].map(|x| ("x".to_owned(), x));
        let found = layer_spectra(&layers, &PowerLawConfig::default()).unwrap();
        assert!((found[0].effective_rank - found[2].effective_rank).abs() < 1e-5);
        assert!((found[1].effective_rank - found[2].effective_rank).abs() < 1e-5);
    }

    #[test]
    fn says_what_its_numbers_are() {
        let found =
            layer_spectra(&[("conv1".to_owned(), formula(50, 30))], &PowerLawConfig::default()).unwrap();
        let numbers = found[0].measurements("test");
        let names: Vec<&str> = numbers.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["effective_rank conv1", "participation_ratio conv1", "alpha conv1"]);
        assert!(numbers[2].definition.contains("eigenvalues 11 to 30"), "{}", numbers[2].definition);
    }

    #[test]
    fn rejects_what_it_cannot_measure() {
        let error = alpha_req(&formula(30, 8), &PowerLawConfig::default()).unwrap_err().to_string();
        assert_eq!(error, "eigenvalues above rounding = 8: at least two of eigenvalues 11 to 100");
        let error =
            alpha_req(&formula(30, 8), &PowerLawConfig { first: 0, last: 5 }).unwrap_err().to_string();
        assert_eq!(error, "first = 0: at least 1");
        let layers = [("conv1".to_owned(), formula(4, 4)), ("conv2".to_owned(), formula(4, 4).reshape([-1]))];
        let error = layer_spectra(&layers, &PowerLawConfig::default()).unwrap_err().to_string();
        assert_eq!(error, "conv2: expected [_, _], found [16]");
        let layers = [("conv1".to_owned(), formula(4, 4) / 0.0)];
        let error = layer_spectra(&layers, &PowerLawConfig::default()).unwrap_err().to_string();
        assert!(error.starts_with("conv1 is not finite"), "{error}");
    }
}
