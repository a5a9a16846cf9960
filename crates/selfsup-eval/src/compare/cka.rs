//! Linear CKA: how alike two representations of the same samples are (Kornblith et al. 2019, section 3).
//!
//! With centred `X` `[N, D1]` and `Y` `[N, D2]`:
//! ```text
//! CKA(X, Y) = HSIC(X X^T, Y Y^T) / sqrt(HSIC(X X^T, X X^T) HSIC(Y Y^T, Y Y^T))
//! biased      HSIC(K, L) ~ |X^T Y|_F^2
//! debiased    HSIC_1(K, L) = 1/(n(n-3)) [ tr(K'L') + 1'K'1 1'L'1 / ((n-1)(n-2)) - 2/(n-2) 1'K'L'1 ]
//!             K' = K without its diagonal                       (Song et al. 2012, equation 5; Nguyen et al. 2021)
//! ```
//! The biased one is near 1 for any two representations that have more features than samples; the debiased one is not, and
//! is 0 on average for unrelated ones (so below it for some). Both stay the same when either is rotated, scaled or moved.
//! `K` and `L` of the formulas are never made: with linear kernels all three terms follow from `X^T Y` and sums over rows, in
//! `O(N D1 D2)` time and `O(D1 D2)` memory.

use crate::health::checked;
use crate::spectrum::over_places;
use selfsup_core::{Error, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// Which estimate of HSIC is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// The paper's first.
    Biased,
    /// Without bias from the number of samples.
    #[default]
    Debiased,
}

/// The likeness of two representations: 1 when one is the other, rotated and scaled.
///
/// # Shapes
/// `x` `[N, D1]`, `y` `[N, D2]`, row by row of the same samples.
///
/// # Errors
/// When the shapes do not fit, a value is not finite, there are fewer than two samples (four for the debiased estimate), or one
/// of the two does not vary (for the debiased estimate: not more than noise).
pub fn cka(x: &Tensor, y: &Tensor, estimator: Estimator) -> Result<f64> {
    let (x, y) = (Side::new("x", x, estimator)?, Side::new("y", y, estimator)?);
    x.likeness(&y)
}

/// The likeness of every layer of one network to every layer of another, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CkaMap {
    /// The first network's layers.
    pub rows: Vec<String>,
    /// The second network's layers.
    pub columns: Vec<String>,
    /// `values[i][j]`: row `i` against column `j`.
    pub values: Vec<Vec<f64>>,
    /// Which estimate it is.
    pub estimator: Estimator,
    /// The samples.
    pub samples: i64,
}

/// Compares all layers of two networks on the same samples.
///
/// # Shapes
/// `[N, D]`; tokens `[N, T, D]` and maps `[N, D, h, w]` are averaged over their places.
///
/// # Errors
/// As [`cka`]; the error names the layer.
pub fn cka_map(
    first: &[(String, Tensor)],
    second: &[(String, Tensor)],
    estimator: Estimator,
) -> Result<CkaMap> {
    let sides = |layers: &[(String, Tensor)]| -> Result<Vec<Side>> {
        layers.iter().map(|(name, x)| Side::new(name, &over_places(x), estimator)).collect()
    };
    let (rows, columns) = (sides(first)?, sides(second)?);
    let row = |side: &Side| columns.iter().map(|other| side.likeness(other)).collect::<Result<Vec<f64>>>();
    let names = |layers: &[(String, Tensor)]| layers.iter().map(|(name, _)| name.clone()).collect();
    Ok(CkaMap {
        rows: names(first),
        columns: names(second),
        values: rows.iter().map(row).collect::<Result<_>>()?,
        estimator,
        samples: first.first().map_or(0, |(_, x)| x.size().first().copied().unwrap_or(0)),
    })
}

/// A representation with what every comparison needs of it.
struct Side {
    name: String,
    estimator: Estimator,
    /// Centred, `[N, D]` Double.
    x: Tensor,
    /// `K_ii`, `[N]`.
    diagonal: Tensor,
    /// The row sums of K without its diagonal, `[N]`.
    sums: Tensor,
    /// HSIC with itself.
    own: f64,
}

impl Side {
    fn new(name: &str, x: &Tensor, estimator: Estimator) -> Result<Side> {
        let x = checked(name, x)?.to_kind(Kind::Double);
        let n = x.size()[0];
        if estimator == Estimator::Debiased && n < 4 {
            return Err(Error::config(
                name,
                format!("{n} samples"),
                "at least four for the debiased estimate",
            ));
        }
        let x = &x - x.mean_dim([0].as_slice(), true, None);
        // The scale does not matter: at 1 nothing overflows.
        let scale = x.square().mean(None).sqrt().scalar()?;
        if scale <= f64::MIN_POSITIVE {
            return Err(Error::config(name, "the same for all samples", "a representation that varies"));
        }
        let x = x / scale;
        let diagonal = x.square().sum_dim_intlist([1].as_slice(), false, None);
        let sums = x.matmul(&x.sum_dim_intlist([0].as_slice(), false, None)) - &diagonal;
        let mut side = Side { name: name.to_owned(), estimator, x, diagonal, sums, own: 1.0 };
        side.own = side.hsic(&side)?;
        if side.own <= 0.0 {
            return Err(Error::config(
                name,
                "nothing but noise",
                "a representation that varies with the samples",
            ));
        }
        Ok(side)
    }

    fn likeness(&self, other: &Side) -> Result<f64> {
        check_shape(&other.name, &other.x, [self.x.size()[0], -1])?;
        Ok(self.hsic(other)? / (self.own * other.own).sqrt())
    }

    fn hsic(&self, other: &Side) -> Result<f64> {
        let product = self.x.tr().matmul(&other.x).square().sum(None).scalar()?; // tr(K L)
        if self.estimator == Estimator::Biased {
            return Ok(product);
        }
        let n = self.x.size()[0] as f64;
        let dot = |a: &Tensor, b: &Tensor| a.dot(b).scalar();
        let trace = product - dot(&self.diagonal, &other.diagonal)?;
        let totals = self.sums.sum(None).scalar()? * other.sums.sum(None).scalar()?;
        let mixed = dot(&self.sums, &other.sums)?;
        Ok((trace + totals / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * mixed) / (n * (n - 3.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;

    fn pair() -> (Tensor, Tensor) {
        let x = formula(20, 6);
        let y = x.matmul(&formula(6, 4)) + formula(40, 4).narrow(0, 20, 20) * 0.8;
        (x, y)
    }

    fn both(x: &Tensor, y: &Tensor) -> [f64; 2] {
        [Estimator::Biased, Estimator::Debiased].map(|estimator| cka(x, y, estimator).unwrap())
    }

    // w = lambda n, d: np.sin(np.arange(n * d) ** 1.5 * 0.37).reshape(n, d).astype(np.float32)
    // x = w(20, 6); y = x @ w(6, 4) + w(40, 4)[20:] * np.float32(0.8)
    // h = lambda k: k - k.mean(0) - k.mean(1)[:, None] + k.mean()
    // def u(k):                                                           # U-centring (Szekely and Rizzo 2014)
    //     n = len(k); k = k - np.diag(np.diag(k)); r = k.sum(0) / (n - 2); t = k.sum() / (n - 1) / (n - 2)
    //     k = k - r - r[:, None] + t; return k - np.diag(np.diag(k))
    // c = lambda f, x, y: (f(x @ x.T) * f(y @ y.T)).sum() / np.sqrt((f(x @ x.T) ** 2).sum() * (f(y @ y.T) ** 2).sum())
    // in 64 bits: c(h, x, y), c(u, x, y), c(h, w(20, 30), w(40, 30)[20:]), c(u, w(20, 30), w(40, 30)[20:])
    #[test]
    fn agrees_with_the_formulas_on_kernel_matrices() {
        let (x, y) = pair();
        let wide = (formula(20, 30), formula(40, 30).narrow(0, 20, 20));
        let found = [both(&x, &y), both(&wide.0, &wide.1)].concat();
        assert!(found.iter().zip(GRAM).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
    }

    const GRAM: [f64; 4] =
        [0.5754772082451614, 0.49463547575798267, 0.6562698021117366, -0.005383326994306975];

    #[test]
    fn stays_the_same_under_rotation_scale_and_offset() {
        let (x, y) = pair();
        let rotation = Tensor::linalg_qr(&formula(6, 6), "reduced").0;
        let moved = x.matmul(&rotation) * 7.0 + 3.0;
        for (a, b) in both(&x, &y).into_iter().zip(both(&moved, &y)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        for likeness in both(&x, &moved) {
            assert!((likeness - 1.0).abs() < 1e-6);
        }
        for (a, b) in both(&x, &y).into_iter().zip(both(&y, &x)) {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn only_the_debiased_estimate_sees_that_wide_noise_is_unrelated() {
        let waves = formula(40, 200);
        let [biased, debiased] = both(&waves.narrow(0, 0, 20), &waves.narrow(0, 20, 20));
        assert!(biased > 0.8 && debiased.abs() < 0.2, "{biased} {debiased}");
    }

    #[test]
    fn maps_all_layers_against_all() {
        let (x, y) = pair();
        let map = y.unsqueeze(2).unsqueeze(3).expand([20, 4, 2, 2], false);
        let first = [("a".to_owned(), x.shallow_clone()), ("b".to_owned(), y.shallow_clone())];
        let found = cka_map(&first, &[("c".to_owned(), map)], Estimator::Debiased).unwrap();
        assert_eq!((found.rows.len(), found.columns[0].as_str(), found.samples), (2, "c", 20));
        assert!((found.values[0][0] - cka(&x, &y, Estimator::Debiased).unwrap()).abs() < 1e-6);
        assert!((found.values[1][0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn rejects_what_cannot_be_compared() {
        let (x, y) = pair();
        let error = |x: &Tensor, y: &Tensor, e| cka(x, y, e).unwrap_err().to_string();
        assert_eq!(error(&x, &y.narrow(0, 0, 9), Estimator::Biased), "y: expected [20, _], found [9, 4]");
        let three = x.narrow(0, 0, 3);
        assert_eq!(
            error(&three, &three, Estimator::Debiased),
            "x = 3 samples: at least four for the debiased estimate"
        );
        assert_eq!(
            error(&x.ones_like(), &y, Estimator::Biased),
            "x = the same for all samples: a representation that varies"
        );
        assert!(error(&x, &(y / 0.0), Estimator::Biased).starts_with("y is not finite"));
    }
}
