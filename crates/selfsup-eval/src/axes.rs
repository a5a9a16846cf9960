//! Features' principal axes, along which linear fits are easy: products of features vanish.
//!
//! A linear model with a penalty on `|W|^2` and a free bias is the same wherever the features are moved and however they are
//! rotated. So it is fitted in centred features' own axes and then turned back. Directions in which nothing
//! varies fall away: a hundred samples of a thousand features become a problem in 99 dimensions.

use crate::standardise::by_rows;
use selfsup_core::{Kind, Result, Tensor};

/// The way from features to their principal axes.
#[derive(Debug)]
pub(crate) struct Axes {
    /// `[1, D]` Double.
    mean: Tensor,
    /// From features to axes, `[D, R]` Double; none where they are only centred.
    axes: Option<Tensor>,
}

/// Above this many samples and features the eigenvectors cost more than the iterations they save.
const MAX_ROTATION: i64 = 2048;
/// Samples of one product: enough for its full speed, few enough for its sums in 32 bits.
const PRODUCT_ROWS: i64 = 4096;

impl Axes {
    /// Samples `x` `[N, D]` along their axes, `[N, R]` Double.
    pub fn turn(x: &Tensor) -> Result<(Tensor, Axes)> {
        let mean = mean(x);
        let centred = x.to_kind(Kind::Double) - &mean;
        let (_, axes) = principal_axes(&gram(&centred, Kind::Double), &centred)?;
        Ok((centred.matmul(&axes).contiguous(), Axes { mean, axes: Some(axes) }))
    }

    /// For fits that turn their weights and leave the samples where they are, which for many samples is far cheaper:
    /// the centred samples, `[N, D]` Float, their axes, and the variance along each of them, `[R]` Double.
    pub fn beside(x: &Tensor) -> Result<(Tensor, Axes, Tensor)> {
        let (n, d) = (x.size()[0], x.size()[1]);
        if n.min(d) > MAX_ROTATION {
            return Ok(Axes::only_centre(x));
        }
        let (centred, mean) = centre(x);
        // What falls away must be known exactly; where nothing does, the axes only guess at the curvature.
        let kind = if d > n { Kind::Double } else { Kind::Float };
        let (squares, axes) = principal_axes(&gram(&centred, kind), &centred.to_kind(kind))?;
        Ok((centred, Axes { mean, axes: Some(axes) }, squares / n as f64))
    }

    /// The same with the features themselves as axes.
    pub fn only_centre(x: &Tensor) -> (Tensor, Axes, Tensor) {
        let (centred, mean) = centre(x);
        let variances = by_rows(&centred, |rows| rows.square().sum_dim_intlist([0].as_slice(), false, None))
            / x.size()[0] as f64;
        (centred, Axes { mean, axes: None }, variances)
    }

    /// How many axes there are for `features` features.
    pub fn count(&self) -> i64 {
        self.axes.as_ref().map_or(self.mean.size()[1], |axes| axes.size()[1])
    }

    /// Weights along the axes, `[K, R]` Double, for the features: `[K, D]`.
    pub fn weights_of_features(&self, weight: &Tensor) -> Tensor {
        self.axes.as_ref().map_or_else(|| weight.shallow_clone(), |axes| weight.matmul(&axes.tr()))
    }

    /// Weights of the features, or a gradient to them, `[K, D]` Double, along the axes: `[K, R]`.
    pub fn weights_along(&self, weight: &Tensor) -> Tensor {
        self.axes.as_ref().map_or_else(|| weight.shallow_clone(), |axes| weight.matmul(axes))
    }

    /// Weights `[K, R]` and bias `[K]` of a linear model along the axes, for the features: `[K, D]` and `[K]`.
    pub fn to_features(&self, weight: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
        let weight = self.weights_of_features(weight);
        let bias = bias - weight.matmul(&self.mean.tr()).squeeze_dim(1);
        (weight, bias)
    }

    /// The other way: a model of the features, along the axes.
    pub fn along(&self, weight: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
        let bias = bias + weight.matmul(&self.mean.tr()).squeeze_dim(1);
        (self.weights_along(weight), bias)
    }
}

/// `[1, D]` Double.
fn mean(x: &Tensor) -> Tensor {
    by_rows(x, |rows| rows.sum_dim_intlist([0].as_slice(), true, None)) / x.size()[0] as f64
}

/// The centred samples in 32 bits, and what was taken away.
fn centre(x: &Tensor) -> (Tensor, Tensor) {
    let mean = mean(x).to_kind(Kind::Float);
    (x.to_kind(Kind::Float) - &mean, mean.to_kind(Kind::Double))
}

/// `x^T x` or, of fewer samples than features, `x x^T`: products in `kind`, their sums in 64 bits.
fn gram(x: &Tensor, kind: Kind) -> Tensor {
    if x.size()[1] > x.size()[0] {
        let x = x.to_kind(kind);
        return x.matmul(&x.tr()).to_kind(Kind::Double);
    }
    let mut sum = Tensor::zeros([x.size()[1]; 2], (Kind::Double, x.device()));
    for start in (0..x.size()[0]).step_by(PRODUCT_ROWS as usize) {
        let rows = x.narrow(0, start, PRODUCT_ROWS.min(x.size()[0] - start)).to_kind(kind);
        sum += rows.tr().matmul(&rows);
    }
    sum
}

/// The squared length of the samples `x` `[N, D]` along their axes, `[R]`, and these, `[D, R]`: the eigenvectors of
/// `x^T x`, in whose direction the samples vary. `x` has the kind that `gram` was taken in.
fn principal_axes(gram: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, d) = (x.size()[0], x.size()[1]);
    let (values, vectors) = gram.f_linalg_eigh("L")?; // ascending
    let largest = f64::try_from(values.max())?;
    // In 32 bits a small value says nothing: all directions stay.
    if x.kind() == Kind::Float {
        return Ok((values.clamp_min(largest * 1e-7), vectors));
    }
    let kept = i64::try_from(values.gt(largest * 1e-12).sum(Kind::Int64))?;
    let values = values.narrow(0, values.size()[0] - kept, kept);
    let vectors = vectors.narrow(1, vectors.size()[1] - kept, kept);
    // For wide data the eigenvectors u of x x^T give those of x^T x as x^T u / sqrt(value).
    let axes = if d > n { x.tr().matmul(&vectors) / values.sqrt() } else { vectors };
    Ok((values, axes))
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
            let beside = [Axes::beside(&x).unwrap(), Axes::only_centre(&x)].map(|(centred, axes, _)| {
                let turned = axes.weights_along(&centred.to_kind(Kind::Double));
                (turned, axes)
            });
            for (turned, axes) in [Axes::turn(&x).unwrap()].into_iter().chain(beside) {
                let r = axes.count();
                assert_eq!(turned.size(), [n, r]);
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
