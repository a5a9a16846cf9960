//! The linear probe for targets that are numbers: ridge regression along a path of penalties.
//!
//! ```text
//! min over W, b    |Y - X W^T - b|^2 + alpha |W|^2              W = Y^T X (X^T X + alpha I)^-1,  X and Y centred
//! R2 = 1 - sum_i (y_i - f_i)^2 / sum_i (y_i - mean y)^2         averaged over targets
//! ```
//! Along the principal axes `X^T X` is diagonal, so that one decomposition serves the whole path. Features are standardised by
//! the training part; alpha is chosen by the squared error on a held-out part, of targets scaled to one spread, and all
//! training samples are fitted anew. Values are scikit-learn's `Ridge` and `r2_score`; where a test target does not vary, R2
//! is 1 for a perfect prediction and otherwise 0, as there.

use super::multi_label::{finite_features, hold_out_any};
use crate::axes::Axes;
use crate::measurement::Origin;
use crate::ranking::resampled;
use crate::standardise::Standardiser;
use crate::{Mean, Measurement};
use selfsup_core::{Device, Error, Key, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// Features with numbers to predict.
#[derive(Debug)]
pub struct RegressionSet {
    /// `[N, D]` Float.
    x: Tensor,
    /// `[N, T]` Double.
    y: Tensor,
}

impl RegressionSet {
    /// Checks and holds features and targets.
    ///
    /// # Shapes
    /// `x` `[N, D]`, `y` `[N, T]`.
    ///
    /// # Errors
    /// When the shapes do not fit or are empty, or a value is not finite.
    pub fn new(x: &Tensor, y: &Tensor) -> Result<RegressionSet> {
        let x = finite_features(x)?;
        let [_, targets] = check_shape("targets", y, [x.size()[0], -1])?;
        if targets == 0 {
            return Err(Error::config("targets", "[N, 0]", "at least one target"));
        }
        let y = y.detach().to_device(Device::Cpu).to_kind(Kind::Double);
        if !bool::try_from(y.isfinite().all())? {
            let bad = y.isfinite().all_dim(1, false).to_kind(Kind::Int64).argmin(0, false);
            let detail = format!("the first bad row is {}", i64::try_from(bad)?);
            return Err(Error::NonFinite { what: "targets".into(), detail });
        }
        Ok(RegressionSet { x, y })
    }

    fn select(&self, indices: &Tensor) -> RegressionSet {
        RegressionSet { x: self.x.index_select(0, indices), y: self.y.index_select(0, indices) }
    }
}

/// How the probe chooses its penalty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegressionConfig {
    /// The penalties to choose from; scikit-learn's `alpha`.
    pub alphas: Vec<f64>,
    /// The share of the training set that chooses.
    pub held_out: f64,
    /// Draws of the interval.
    pub resamples: usize,
    /// Decides which samples are held out, and the draws.
    pub seed: u64,
}

impl Default for RegressionConfig {
    fn default() -> Self {
        // 0.01 to a million in half decades
        let alphas = (-4..=12).map(|half| 10.0_f64.powf(0.5 * f64::from(half))).collect();
        RegressionConfig { alphas, held_out: 0.2, resamples: 1000, seed: 0 }
    }
}

/// What the probe found on the test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegressionOutcome {
    /// R2, the mean over targets: 1 is perfect, 0 as good as their mean, below 0 worse.
    pub r2: Mean,
    /// The R2 of every target.
    pub r2_of_targets: Vec<f64>,
    /// The root of the mean squared error of every target, in its units.
    pub rmse: Vec<f64>,
    /// The chosen penalty.
    pub alpha: f64,
    /// The penalties and the mean squared held-out error, of targets with standard deviation 1.
    pub path: Vec<(f64, f64)>,
    /// Decides which samples are held out and the draws of the interval.
    pub seed: u64,
}

/// The regression probe.
#[derive(Debug)]
pub struct RegressionProbe {
    config: RegressionConfig,
}

impl RegressionProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When there are no penalties, one is not above 0, the held-out share is not between 0 and 1, or there are no resamples.
    pub fn new(config: RegressionConfig) -> Result<RegressionProbe> {
        let alphas = &config.alphas;
        if alphas.is_empty() || !alphas.iter().all(|a| *a > 0.0 && a.is_finite()) {
            return Err(Error::config("alphas", format!("{alphas:?}"), "numbers above 0"));
        }
        if !(config.held_out > 0.0 && config.held_out < 1.0) {
            return Err(Error::config("held_out", config.held_out, "between 0 and 1"));
        }
        if config.resamples == 0 {
            return Err(Error::config("resamples", 0, "at least 1"));
        }
        Ok(RegressionProbe { config })
    }

    /// Fits on `train` and scores on `test`.
    ///
    /// # Errors
    /// When the sets do not fit each other, or the training set has fewer than three samples.
    pub fn run(&self, train: &RegressionSet, test: &RegressionSet) -> Result<RegressionOutcome> {
        check_shape("test features", &test.x, [-1, train.x.size()[1]])?;
        check_shape("test targets", &test.y, [-1, train.y.size()[1]])?;
        if train.x.size()[0] < 3 {
            let found = format!("{} samples", train.x.size()[0]);
            return Err(Error::config("train", found, "three at least, so that some can be held out"));
        }
        let key = Key::new(self.config.seed);
        let (rest, held) = hold_out_any(train.x.size()[0], self.config.held_out, key.with(0))?;
        let (rest, held) = (train.select(&rest), train.select(&held));
        let ridge = Ridge::new(&rest)?;
        // Of targets in different units none may decide alone.
        let spread = rest.y.std_correction([0].as_slice(), 0, true);
        let spread = spread.masked_fill(&spread.le(0.0), 1.0);
        let error = |alpha: &f64| -> Result<(f64, f64)> {
            let errors = (ridge.predict(*alpha, &held.x) - &held.y) / &spread;
            Ok((*alpha, errors.square().mean(None).scalar()?))
        };
        let path = self.config.alphas.iter().map(error).collect::<Result<Vec<_>>>()?;
        let chosen = path.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let alpha = chosen.map_or(self.config.alphas[0], |(alpha, _)| *alpha);
        let predicted = Ridge::new(train)?.predict(alpha, &test.x); // [M, T]
        let columns = |x: &Tensor| Vec::<Vec<f64>>::try_from(x.tr().contiguous());
        let (y, f) = (columns(&test.y)?, columns(&predicted)?);
        let n = test.x.size()[0] as usize;
        let mean_r2 = |weights: Option<&[f64]>| {
            Some(y.iter().zip(&f).map(|(y, f)| r2(y, f, weights)).sum::<f64>() / y.len() as f64)
        };
        let r2_mean = resampled(n, self.config.resamples, key.with(1), mean_r2)?;
        Ok(RegressionOutcome {
            r2: r2_mean.ok_or_else(|| Error::config("test targets", "none", "at least one"))?,
            r2_of_targets: y.iter().zip(&f).map(|(y, f)| r2(y, f, None)).collect(),
            rmse: y.iter().zip(&f).map(|(y, f)| (squares(y, f, None) / n as f64).sqrt()).collect(),
            alpha,
            path,
            seed: self.config.seed,
        })
    }
}

fn squares(y: &[f64], f: &[f64], weights: Option<&[f64]>) -> f64 {
    y.iter().zip(f).enumerate().map(|(i, (y, f))| weights.map_or(1.0, |w| w[i]) * (y - f).powi(2)).sum()
}

fn r2(y: &[f64], f: &[f64], weights: Option<&[f64]>) -> f64 {
    let weight = |i: usize| weights.map_or(1.0, |w| w[i]);
    let total: f64 = (0..y.len()).map(weight).sum();
    let mean = y.iter().enumerate().map(|(i, y)| weight(i) * y).sum::<f64>() / total;
    let rest = squares(y, f, weights);
    let spread: f64 = y.iter().enumerate().map(|(i, y)| weight(i) * (y - mean).powi(2)).sum();
    if spread > 0.0 { 1.0 - rest / spread } else { f64::from(u8::from(rest == 0.0)) }
}

/// A training set, decomposed for all penalties.
pub(crate) struct Ridge {
    standardiser: Standardiser,
    axes: Axes,
    /// The squared length of the samples along each axis, `[R]`.
    squares: Tensor,
    /// `Y^T X` along the axes, `[T, R]`.
    products: Tensor,
    /// `[T]`
    mean: Tensor,
}

impl Ridge {
    pub fn new(train: &RegressionSet) -> Result<Ridge> {
        let standardiser = Standardiser::of(&train.x);
        let (x, axes) = Axes::turn(&standardiser.apply(&train.x))?;
        let mean = train.y.mean_dim([0].as_slice(), false, None);
        let products = (&train.y - &mean).tr().matmul(&x);
        let squares = x.square().sum_dim_intlist([0].as_slice(), false, None);
        Ok(Ridge { standardiser, axes, squares, products, mean })
    }

    /// The predictions `[M, T]` Double for features `[M, D]`.
    pub fn predict(&self, alpha: f64, x: &Tensor) -> Tensor {
        let weight = &self.products / (&self.squares + alpha);
        let (weight, bias) = self.axes.to_features(&weight, &self.mean);
        self.standardiser.apply(x).to_kind(Kind::Double).matmul(&weight.tr()) + bias
    }
}

impl RegressionOutcome {
    /// The measures for a report, of test samples from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.seed) };
        let text = format!(
            "R2 of a ridge regression on frozen, standardised features, mean over {} targets; alpha = {:.3e} chosen on \
             held-out samples",
            self.rmse.len(),
            self.alpha
        );
        vec![origin.mean("r2", &self.r2, text)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;

    fn set(from: i64, n: i64) -> RegressionSet {
        let x = formula(500, 8).narrow(0, from, n);
        let noise = formula(500, 2).flip([0]).narrow(0, from, n);
        let y = (x.narrow(1, 0, 2) * 2.0 - x.narrow(1, 3, 2) + noise * 0.9)
            * Tensor::from_slice(&[1.0_f32, 50.0])
            + 7.0;
        RegressionSet::new(&x, &y).unwrap()
    }

    fn probe(alphas: Vec<f64>) -> RegressionProbe {
        RegressionProbe::new(RegressionConfig { alphas, resamples: 50, ..Default::default() }).unwrap()
    }

    // w = lambda d: np.sin(np.arange(500 * d) ** 1.5 * 0.37).reshape(500, d).astype(np.float32)
    // x = w(8); y = (x[:, :2] * 2 - x[:, 3:5] + w(2)[::-1] * np.float32(.9)) * np.float32([1, 50]) + 7
    // s = StandardScaler().fit(x[:300]); r = Ridge(alpha=a).fit(s.transform(x[:300]), y[:300]); p = r.predict(s.transform(x[300:]))
    // r2_score(y[300:], p), r2_score(y[300:], p, multioutput="raw_values"), root_mean_squared_error(.., same); a = 10, 1000
    #[test]
    fn agrees_with_scikit_learn() {
        for (alpha, expected) in [(10.0, SKLEARN[0]), (1000.0, SKLEARN[1])] {
            let found = probe(vec![alpha]).run(&set(0, 300), &set(300, 200)).unwrap();
            let values = [&[found.r2.value], found.r2_of_targets.as_slice(), found.rmse.as_slice()].concat();
            assert!(
                values.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-5 * e.abs().max(1.0)),
                "{values:?}"
            );
        }
    }

    const SKLEARN: [[f64; 5]; 2] = [
        [0.8532377813179749, 0.8597229082606057, 0.8467526543753441, 0.6268607217484011, 32.13838893271715],
        [
            0.35802867261846605,
            0.34212708006081705,
            0.37393026517611505,
            1.3575276581255633,
            64.95894705792531,
        ],
    ];

    #[test]
    fn features_without_information_get_the_strongest_penalty_and_linear_targets_the_weakest() {
        let (train, test) = (set(0, 300), set(300, 200));
        let noise = |s: &RegressionSet| RegressionSet { x: s.x.roll([37], [0]), y: s.y.shallow_clone() };
        let config = RegressionConfig { resamples: 50, ..Default::default() };
        let alphas = config.alphas.clone();
        let probe = RegressionProbe::new(config).unwrap();
        let found = probe.run(&noise(&train), &noise(&test)).unwrap();
        assert!(found.alpha > 100.0 && found.r2.value.abs() < 0.1, "{found:?}");
        let linear = |s: &RegressionSet| RegressionSet {
            x: s.x.shallow_clone(),
            y: s.x.narrow(1, 0, 2).to_kind(Kind::Double) * 3.0,
        };
        let found = probe.run(&linear(&train), &linear(&test)).unwrap();
        assert!(found.alpha == alphas[0] && found.r2.value > 0.9999, "{found:?}");
        assert_eq!(found.measurements("test")[0].name, "r2");
    }

    #[test]
    fn a_target_that_never_varies_is_predicted_or_not() {
        assert_eq!(r2(&[2.0, 2.0], &[2.0, 2.0], None), 1.0);
        assert_eq!(r2(&[2.0, 2.0], &[2.0, 2.1], None), 0.0);
        assert_eq!(r2(&[1.0, 5.0, 3.0], &[3.0, 3.0, 3.0], None), 0.0);
        let constant = |s: &RegressionSet| RegressionSet { x: s.x.shallow_clone(), y: s.y.ones_like() };
        let found = probe(vec![1.0]).run(&constant(&set(0, 300)), &constant(&set(300, 200))).unwrap();
        assert_eq!(found.r2.value, 1.0);
    }

    #[test]
    fn more_features_than_samples_and_a_copy_of_every_feature_are_no_trouble() {
        let wide = |n: i64, from: i64| {
            let x = formula(40, 90).narrow(0, from, n);
            RegressionSet::new(&Tensor::cat(&[&x, &x], 1), &x.narrow(1, 0, 1)).unwrap()
        };
        let found = probe(vec![1.0]).run(&wide(25, 0), &wide(15, 25)).unwrap();
        assert!(found.r2.value.is_finite(), "{found:?}");
    }

    #[test]
    fn rejects_what_it_cannot_fit() {
        let error = |alphas| {
            let config = RegressionConfig { alphas, ..Default::default() };
            RegressionProbe::new(config).unwrap_err().to_string()
        };
        assert_eq!(error(vec![0.0]), "alphas = [0.0]: numbers above 0");
        assert_eq!(error(vec![]), "alphas = []: numbers above 0");
        let x = formula(4, 2);
        let error = RegressionSet::new(&x, &(&x / 0.0)).unwrap_err().to_string();
        assert_eq!(error, "targets is not finite: the first bad row is 0");
        let two = set(0, 2);
        let error = probe(vec![1.0]).run(&two, &two).unwrap_err().to_string();
        assert_eq!(error, "train = 2 samples: three at least, so that some can be held out");
    }
}
