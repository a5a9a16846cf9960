//! Pixels as a network takes them, and as a picture shows them.

use selfsup_core::{Device, Error, PictureScale, PictureSet, Pictures, Result, Tensor, TensorExt};
use serde::{Deserialize, Serialize};

/// How the pixels of a view were normalised: `(value - mean) / std`, with values from 0 to 1. The same
/// numbers as in the views of the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Normalization {
    /// What was subtracted: one number, or one a channel.
    pub mean: Vec<f64>,
    /// What was then divided by: one number, or one a channel.
    pub std: Vec<f64>,
}

/// That of views whose recipe says nothing.
impl Default for Normalization {
    fn default() -> Self {
        Normalization { mean: vec![0.5], std: vec![0.5] }
    }
}

impl Normalization {
    /// Checks the numbers for images of so many channels.
    ///
    /// # Errors
    /// [`Error::Config`] when there is neither one number nor one a channel, or a `std` is not positive.
    pub fn check(&self, channels: i64) -> Result<()> {
        for (field, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            let fits = numbers.len() == 1 || numbers.len() as i64 == channels;
            if !fits || numbers.iter().any(|x| !x.is_finite() || field == "std" && *x <= 0.0) {
                let sign = if field == "std" { "positive " } else { "" };
                let expected = format!("one {sign}number, or one for each of {channels} channels");
                return Err(Error::config(
                    format!("normalization.{field}"),
                    format!("{numbers:?}"),
                    expected,
                ));
            }
        }
        Ok(())
    }

    /// Pixels from 0 to 1 of normalised ones.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to the same.
    ///
    /// # Errors
    /// [`Error::NonFinite`] when one is not finite, [`Error::Shape`] when they were normalised with other numbers, as far as that shows: values outside 0
    /// to 1 come out. (Looked for on a CPU only; elsewhere the answer would make every step wait for the
    /// device.)
    pub fn undo(&self, x: &Tensor) -> Result<Tensor> {
        let pixels = x * channels(&self.std, x) + channels(&self.mean, x);
        if x.device() == Device::Cpu && x.numel() > 0 {
            let (low, high) = (pixels.min().scalar()?, pixels.max().scalar()?);
            if !(low.is_finite() && high.is_finite()) {
                let detail = format!("pixels from {low} to {high}");
                return Err(Error::NonFinite { what: "images".to_owned(), detail });
            }
            if low < -0.01 || high > 1.01 {
                return Err(Error::Shape {
                    name: "images".to_owned(),
                    expected: format!(
                        "pixels from 0 to 1 without the normalization {:?}, {:?}, which must be that of the views",
                        self.mean, self.std
                    ),
                    found: format!("{low:.3} to {high:.3}"),
                });
            }
        }
        Ok(pixels)
    }

    /// Normalised pixels of ones from 0 to 1.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to the same.
    pub fn apply(&self, pixels: &Tensor) -> Tensor {
        (pixels - channels(&self.mean, pixels)) / channels(&self.std, pixels)
    }
}

fn channels(numbers: &[f64], like: &Tensor) -> Tensor {
    Tensor::from_slice(numbers).to_device(like.device()).to_kind(like.kind()).view([1, -1, 1, 1])
}

/// An image before, during and after: three batches of pictures with pixels from 0 to 1, `[N, C, H, W]` each.
#[derive(Debug)]
pub struct Reconstruction {
    /// The images as they are.
    pub input: Tensor,
    /// What the encoder saw of them.
    pub corrupted: Tensor,
    /// What was made of it.
    pub output: Tensor,
}

impl From<Reconstruction> for Pictures {
    fn from(found: Reconstruction) -> Self {
        let Reconstruction { input, corrupted, output } = found;
        let columns =
            vec![("the image", input), ("what is seen of it", corrupted), ("what is made of that", output)];
        PictureSet { name: "".into(), scale: PictureScale::Pixels, columns }.into()
    }
}

impl Reconstruction {
    /// The pictures of normalised images.
    pub(crate) fn of(
        normalization: &Normalization,
        [input, corrupted, output]: [&Tensor; 3],
    ) -> Reconstruction {
        let picture = |x: &Tensor| {
            (x.detach() * channels(&normalization.std, x) + channels(&normalization.mean, x)).clamp(0.0, 1.0)
        };
        Reconstruction { input: picture(input), corrupted: picture(corrupted), output: picture(output) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Kind;

    #[test]
    fn a_normalisation_goes_there_and_back() {
        let normalization = Normalization { mean: vec![0.1, 0.2, 0.3], std: vec![0.5, 0.25, 0.125] };
        normalization.check(3).unwrap();
        let pixels = Tensor::rand([2, 3, 4, 5], (Kind::Float, Device::Cpu));
        let x = normalization.apply(&pixels);
        assert!(
            (x.get(1).get(2) - (pixels.get(1).get(2) - 0.3) / 0.125).abs().max().scalar().unwrap() < 1e-5
        );
        assert!((normalization.undo(&x).unwrap() - pixels).abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn refuses_numbers_that_cannot_be_those_of_the_views() {
        let error = Normalization { mean: vec![0.5; 2], std: vec![1.0] }.check(3).unwrap_err().to_string();
        assert_eq!(error, "normalization.mean = [0.5, 0.5]: one number, or one for each of 3 channels");
        let error = Normalization { mean: vec![0.5], std: vec![0.0] }.check(1).unwrap_err().to_string();
        assert_eq!(error, "normalization.std = [0.0]: one positive number, or one for each of 1 channels");
        let x = Tensor::from_slice(&[3.0_f32, 0.0]).reshape([1, 1, 1, 2]);
        let error = Normalization::default().undo(&x).unwrap_err().to_string();
        assert!(error.ends_with("which must be that of the views, found 0.500 to 2.000"), "{error}");
    }
}
