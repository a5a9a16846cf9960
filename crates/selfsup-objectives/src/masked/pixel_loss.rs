//! The distance between predicted and true pixels, over the hidden patches alone.
//!
//! With `x` `[N, T, P]` the patches of the images, `y` the prediction and `M` the set of hidden patches,
//!
//! ```text
//! L = 1 / (|M| P) sum_{(n, t) in M} sum_p d(y_ntp, x_ntp)
//! ```
//!
//! MAE (He et al. 2022, section 3) takes the squared distance to patches of mean 0 and variance 1, each by
//! its own statistics; SimMIM (Xie et al. 2022, section 3.4) the absolute distance to the pixels as they are.

use selfsup_core::{Kind, Result, Tensor, check_kind, check_shape};
use serde::{Deserialize, Serialize};

/// What is predicted of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelTarget {
    /// Its pixels as they are.
    Raw,
    /// Its pixels less their mean, divided by their standard deviation (that of a sample, n - 1).
    Normalized,
}

/// How far a prediction is from a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelDistance {
    /// `|y - x|`
    Absolute,
    /// `(y - x)^2`
    Squared,
}

/// The loss on hidden pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedPixelLoss {
    /// What is predicted.
    pub target: PixelTarget,
    /// How the distance is measured.
    pub distance: PixelDistance,
}

impl MaskedPixelLoss {
    /// The mean over the pixels of the hidden patches; 0 where none is hidden.
    ///
    /// # Shapes
    /// `prediction` and `patches` `[N, T, P]`, `mask` `[N, T]` Bool (true: hidden). Returns a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`](selfsup_core::Error::Shape) when they do not fit each other.
    pub fn forward(&self, prediction: &Tensor, patches: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let [n, t, p] = check_shape("patches", patches, [-1, -1, -1])?;
        check_shape("prediction", prediction, [n, t, p])?;
        check_shape("mask", mask, [n, t])?;
        check_kind("mask", mask, Kind::Bool)?;
        let difference = prediction - self.targets(patches); // [N, T, P]
        let distance = match self.distance {
            PixelDistance::Absolute => difference.abs(),
            PixelDistance::Squared => difference.square(),
        };
        let per_patch = distance.mean_dim([-1_i64].as_slice(), false, None); // [N, T]
        let mask = mask.to_kind(per_patch.kind());
        Ok((per_patch * &mask).sum(None) / mask.sum(None).clamp_min(1.0))
    }

    /// What is to be predicted.
    ///
    /// # Shapes
    /// `[N, T, P]` to the same.
    pub fn targets(&self, patches: &Tensor) -> Tensor {
        match self.target {
            PixelTarget::Raw => patches.shallow_clone(),
            PixelTarget::Normalized => {
                let (mean, deviation) = statistics(patches);
                (patches - mean) / deviation
            }
        }
    }

    /// A prediction as pixels: with the mean and the deviation of the true patches put back.
    ///
    /// # Shapes
    /// `[N, T, P]` each.
    pub fn pixels(&self, prediction: &Tensor, patches: &Tensor) -> Tensor {
        match self.target {
            PixelTarget::Raw => prediction.shallow_clone(),
            PixelTarget::Normalized => {
                let (mean, deviation) = statistics(patches);
                prediction * deviation + mean
            }
        }
    }
}

/// The mean and the standard deviation of each patch, `[N, T, 1]`. The variance is that of a sample, and 1e-6
/// keeps a patch of one colour finite, as in the authors' code.
fn statistics(patches: &Tensor) -> (Tensor, Tensor) {
    let mean = patches.mean_dim([-1_i64].as_slice(), true, None);
    let variance = patches.var_dim([-1_i64].as_slice(), true, true);
    (mean, (variance + 1e-6).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masked::reference::{assert_sums, wave};
    use selfsup_core::TensorExt;

    const MAE: MaskedPixelLoss =
        MaskedPixelLoss { target: PixelTarget::Normalized, distance: PixelDistance::Squared };
    const SIMMIM: MaskedPixelLoss =
        MaskedPixelLoss { target: PixelTarget::Raw, distance: PixelDistance::Absolute };

    fn mask() -> Tensor {
        Tensor::from_slice2(&[[true, false, true, true], [false, false, true, false]])
    }

    #[test]
    fn equals_a_loop_over_hidden_pixels() {
        let (y, x, m) = (wave(2.0, &[2, 4, 6]), wave(0.0, &[2, 4, 6]), mask());
        for (loss, is_mae) in [(MAE, true), (SIMMIM, false)] {
            let (mut sum, mut count) = (0.0, 0.0);
            for n in 0..2 {
                for t in 0..4 {
                    if m.double_value(&[n, t]) == 0.0 {
                        continue;
                    }
                    let row = |x: &Tensor| (0..6).map(|p| x.double_value(&[n, t, p])).collect::<Vec<_>>();
                    let (mut target, prediction) = (row(&x), row(&y));
                    if is_mae {
                        let mean = target.iter().sum::<f64>() / 6.0;
                        let variance = target.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 5.0;
                        for v in &mut target {
                            *v = (*v - mean) / (variance + 1e-6).sqrt();
                        }
                    }
                    for (a, b) in prediction.iter().zip(target) {
                        sum += if is_mae { (a - b).powi(2) } else { (a - b).abs() };
                        count += 1.0;
                    }
                }
            }
            let found = loss.forward(&y, &x, &m).unwrap().scalar().unwrap();
            assert!((found - sum / count).abs() < 1e-6, "{found} {}", sum / count);
        }
    }

    // from lightly.models.utils import normalize_mean_var
    // y, x = wave(2., [2, 4, 6]).requires_grad_(), wave(0., [2, 4, 6])
    // m = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0]]).bool()
    // l = torch.nn.MSELoss()(y[m], normalize_mean_var(x[m])); l.backward(); print(l.item(), sums(y.grad))
    // y.grad = None; l = torch.nn.L1Loss()(y[m], x[m]); l.backward(); print(l.item(), sums(y.grad))
    #[test]
    fn equals_the_references_with_gradients() {
        for (loss, value, gradient) in
            [(MAE, 1.684_838, [-0.461_575, -1.299_687]), (SIMMIM, 1.015_113, [-0.5, -0.435_899])]
        {
            let y = wave(2.0, &[2, 4, 6]).set_requires_grad(true);
            let found = loss.forward(&y, &wave(0.0, &[2, 4, 6]), &mask()).unwrap();
            found.backward();
            assert!((found.scalar().unwrap() - value).abs() < 1e-5);
            assert_sums("gradient", &y.grad(), gradient);
        }
    }

    #[test]
    fn visible_patches_do_not_matter_and_a_normalised_target_ignores_brightness() {
        let (y, x) = (wave(2.0, &[2, 4, 6]), wave(0.0, &[2, 4, 6]));
        let seen = mask().logical_not().unsqueeze(-1);
        for loss in [MAE, SIMMIM] {
            let before = loss.forward(&y, &x, &mask()).unwrap();
            let elsewhere = (&y + 3.0).where_self(&seen, &y);
            assert_eq!(loss.forward(&elsewhere, &x, &mask()).unwrap(), before);
        }
        let (before, brighter) = (MAE.targets(&x), MAE.targets(&(&x * 3.0 + 7.0)));
        assert!((before - brighter).abs().max().scalar().unwrap() < 1e-4);
        let none = mask().zeros_like();
        assert_eq!(MAE.forward(&y, &x, &none).unwrap().scalar().unwrap(), 0.0);
    }

    #[test]
    fn pixels_undo_the_normalisation() {
        let x = wave(0.0, &[2, 4, 6]);
        for loss in [MAE, SIMMIM] {
            let back = loss.pixels(&loss.targets(&x), &x);
            assert!((back - &x).abs().max().scalar().unwrap() < 1e-5);
            assert!(loss.forward(&loss.targets(&x), &x, &mask()).unwrap().scalar().unwrap() < 1e-9);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (y, x) = (wave(2.0, &[2, 4, 6]), wave(0.0, &[2, 4, 6]));
        let error = |y: &Tensor, m: &Tensor| MAE.forward(y, &x, m).unwrap_err().to_string();
        let short = y.narrow(1, 0, 3);
        assert_eq!(error(&short, &mask()), "prediction: expected [2, 4, 6], found [2, 3, 6]");
        assert_eq!(error(&y, &mask().narrow(1, 0, 3)), "mask: expected [2, 4], found [2, 3]");
        let floats = mask().to_kind(Kind::Float);
        assert_eq!(error(&y, &floats), "mask: expected elements of kind Bool, found Float");
    }
}
