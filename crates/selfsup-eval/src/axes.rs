//! Features turned into their principal axes, where linear fits are easy: products of features vanish.
//!
//! A linear model with a penalty on `|W|^2` and a free bias is the same wherever the features are moved and however they are
//! rotated. So they are centred and turned once, fitted there, and the model is turned back. Directions in which nothing
//! varies fall away: a hundred samples of a thousand features become a problem in 99 dimensions.

use selfsup_core::{Kind, Result, Tensor};

/// The way from features to their principal axes.
#[derive(Debug)]
pub(crate) struct Axes {
    /// `[1, D]` Double.
    mean: Tensor,
    /// From features to axes, `[D, R]`; none where they are only centred.
    axes: Option<Tensor>,
}

/// Above this many samples and features the eigenvectors cost more than the iterations they save.
const MAX_ROTATION: i64 = 2048;

impl Axes {
    /// Samples `x` `[N, D]` along their axes, `[N, R]` Double.
    pub fn turn(x: &Tensor) -> Result<(Tensor, Axes)> {
        let (centred, mean) = centre(x);
        let axes = principal_axes(&centred)?;
        Ok((centred.matmul(&axes).contiguous(), Axes { mean, axes: Some(axes) }))
    }

    /// The same where that is cheap; elsewhere the samples are only centred.
    pub fn turn_if_cheap(x: &Tensor) -> Result<(Tensor, Axes)> {
        if x.size()[0].min(x.size()[1]) <= MAX_ROTATION {
            return Axes::turn(x);
        }
        Ok(Axes::only_centre(x))
    }

    /// Samples that are only centred.
    pub fn only_centre(x: &Tensor) -> (Tensor, Axes) {
        let (centred, mean) = centre(x);
        (centred, Axes { mean, axes: None })
    }

    /// Weights `[K, R]` and bias `[K]` of a linear model along the axes, for the features: `[K, D]` and `[K]`.
    pub fn to_features(&self, weight: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
        let weight = match &self.axes {
            Some(axes) => weight.matmul(&axes.tr()),
            None => weight.shallow_clone(),
        };
        let bias = bias - weight.matmul(&self.mean.tr()).squeeze_dim(1);
        (weight, bias)
    }

    /// The other way: a model of the features, along the axes.
    pub fn along(&self, weight: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
        let bias = bias + weight.matmul(&self.mean.tr()).squeeze_dim(1);
        let weight = match &self.axes {
            Some(axes) => weight.matmul(axes),
            None => weight.shallow_clone(),
        };
        (weight, bias)
    }
}

fn centre(x: &Tensor) -> (Tensor, Tensor) {
    let x = x.to_kind(Kind::Double);
    let mean = x.mean_dim(0, true, None); // [1, D]
    (x - &mean, mean)
}

/// The eigenvectors of `x^T x`, `[D, R]`, in whose direction the rows of `x` vary.
fn principal_axes(x: &Tensor) -> Result<Tensor> {
    let (n, d) = (x.size()[0], x.size()[1]);
    let wide = d > n;
    let gram = if wide { x.matmul(&x.tr()) } else { x.tr().matmul(x) };
    let (values, vectors) = gram.f_linalg_eigh("L")?; // ascending
    let largest = f64::try_from(values.max())?;
    let kept = i64::try_from(values.gt(largest * 1e-12).sum(Kind::Int64))?;
    let values = values.narrow(0, values.size()[0] - kept, kept);
    let vectors = vectors.narrow(1, vectors.size()[1] - kept, kept);
    // For wide data the eigenvectors u of x x^T give those of x^T x as x^T u / sqrt(value).
    Ok(if wide { x.tr().matmul(&vectors) / values.sqrt() } else { vectors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;
    use selfsup_core::TensorExt;

    fn near(a: &Tensor, b: &Tensor) -> bool {
        (a - b).abs().max().scalar().unwrap() < 1e-9
    }

    #[test]
    fn a_model_says_the_same_in_both_coordinates_and_comes_back() {
        for (n, d) in [(20, 6), (6, 20)] {
            let x = formula(n, d) + 3.0;
            for (turned, axes) in [Axes::turn(&x).unwrap(), Axes::only_centre(&x)] {
                let r = turned.size()[1];
                let weight = formula(2, r).to_kind(Kind::Double);
                let bias = Tensor::from_slice(&[0.5, -2.0]);
                let (w, b) = axes.to_features(&weight, &bias);
                let along = turned.matmul(&weight.tr()) + &bias;
                assert!(near(&along, &(x.to_kind(Kind::Double).matmul(&w.tr()) + &b)));
                let (back, bias_back) = axes.along(&w, &b);
                assert!(near(&back, &weight) && near(&bias_back, &bias));
            }
        }
    }

    #[test]
    fn along_the_axes_products_of_features_vanish() {
        let (turned, _) = Axes::turn(&formula(30, 5)).unwrap();
        let gram = turned.tr().matmul(&turned);
        assert!(gram.off_diagonal().unwrap().abs().max().scalar().unwrap() < 1e-9);
        let (flat, _) = Axes::turn(&formula(30, 1).repeat([1, 4])).unwrap();
        assert_eq!(flat.size(), [30, 1]);
    }
}
