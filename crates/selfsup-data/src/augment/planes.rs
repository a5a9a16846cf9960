//! The picture that transforms work on.

use crate::Image;
use selfsup_core::{Error, Kind, Result, Tensor};

/// A picture of floats from 0 to 1, one plane a channel: `[channels, height, width]`.
///
/// Planes are what the transforms work on: each channel is one contiguous run that the compiler turns into vector
/// instructions. The change of order to `[height, width, channels]` happens once, when a view is written out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planes {
    /// The values, plane by plane and row by row.
    pub values: Vec<f32>,
    /// 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
}

impl Planes {
    /// Planes from an image's bytes, divided by 255.
    pub fn from_image(image: &Image) -> Self {
        let mut planes = Planes::default();
        planes.reshape(image.channels(), image.height(), image.width());
        let area = image.height() * image.width();
        for (c, plane) in planes.values.chunks_exact_mut(area).enumerate() {
            let bytes = image.pixels().iter().skip(c).step_by(image.channels());
            for (v, &byte) in plane.iter_mut().zip(bytes) {
                *v = f32::from(byte) / 255.0;
            }
        }
        planes
    }

    /// The image of these planes, rounded to bytes.
    ///
    /// # Errors
    /// When the planes hold no picture.
    pub fn to_image(&self) -> Result<Image> {
        let area = self.height * self.width;
        let mut pixels = vec![0; self.values.len()];
        for (c, plane) in self.values.chunks_exact(area.max(1)).enumerate() {
            for (i, v) in plane.iter().enumerate() {
                pixels[i * self.channels + c] = (v * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
        Image::new(pixels, [self.height, self.width, self.channels])
    }

    /// Gives the planes another shape; what they hold afterwards is not specified.
    pub(crate) fn reshape(&mut self, channels: usize, height: usize, width: usize) {
        (self.channels, self.height, self.width) = (channels, height, width);
        self.values.resize(channels * height * width, 0.0);
    }

    /// The three planes of a colour picture, or nothing for a grey one.
    pub(crate) fn rgb_mut(&mut self) -> Option<[&mut [f32]; 3]> {
        if self.channels != 3 {
            return None;
        }
        let area = self.height * self.width;
        let (red, rest) = self.values.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        Some([red, green, blue])
    }
}

/// How values are scaled on their way into a network: `(value - mean) / std`, one mean and one standard deviation a
/// channel, or one for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    mean: Vec<f32>,
    scale: Vec<f32>,
}

impl Normalize {
    /// Checks means and standard deviations for images of so many channels.
    ///
    /// # Errors
    /// [`Error::Config`] when there are neither one nor as many as channels, a mean is not finite, or a standard deviation not
    /// above 0.
    pub fn new(mean: &[f32], std: &[f32], channels: usize) -> Result<Self> {
        let spread = |field: &str, values: &[f32]| match values.len() {
            1 => Ok(vec![values[0]; channels]),
            n if n == channels => Ok(values.to_vec()),
            n => Err(Error::config(
                field,
                format!("{n} values"),
                format!("one value, or {channels}, one a channel"),
            )),
        };
        let (mean, std) = (spread("mean", mean)?, spread("std", std)?);
        if let Some(bad) = mean.iter().find(|v| !v.is_finite()) {
            return Err(Error::config("mean", bad, "finite numbers"));
        }
        if let Some(bad) = std.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return Err(Error::config("std", bad, "numbers above 0"));
        }
        Ok(Normalize { mean, scale: std.iter().map(|s| 1.0 / s).collect() })
    }

    /// The bytes that normalised numbers in the order row, column, channel come from, each the nearest.
    pub(crate) fn undo(&self, numbers: &[f32], out: &mut [u8]) {
        let channels = self.mean.len();
        for (o, x) in out.chunks_exact_mut(channels).zip(numbers.chunks_exact(channels)) {
            for (((o, x), mean), scale) in o.iter_mut().zip(x).zip(&self.mean).zip(&self.scale) {
                *o = ((x / scale + mean) * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
    }

    /// Normalises bytes where they are.
    ///
    /// # Shapes
    /// `[N, C, H, W]` Uint8 to the same Float.
    pub(crate) fn bytes(&self, x: &Tensor) -> Tensor {
        let channels = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]).to_device(x.device());
        (x.to_kind(Kind::Float) / 255.0 - channels(&self.mean)) * channels(&self.scale)
    }

    /// Writes `planes` in the order row, column, channel.
    #[inline(always)]
    pub(crate) fn write(&self, planes: &Planes, out: &mut [f32]) {
        let area = planes.height * planes.width;
        if let ([r, g, b], [rs, gs, bs]) = (&self.mean[..], &self.scale[..]) {
            let (red, rest) = planes.values.split_at(area);
            let (green, blue) = rest.split_at(area);
            for (o, ((x, y), z)) in out.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
                o[0] = (x - r) * rs;
                o[1] = (y - g) * gs;
                o[2] = (z - b) * bs;
            }
        } else {
            for (o, v) in out.iter_mut().zip(&planes.values) {
                *o = (v - self.mean[0]) * self.scale[0];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_there_and_back() {
        let image = Image::new((0..24).map(|i| i * 10).collect(), [2, 4, 3]).unwrap();
        let planes = Planes::from_image(&image);
        assert_eq!(planes.values[1], 30.0 / 255.0);
        assert_eq!(planes.to_image().unwrap(), image);
        assert!(Planes::default().to_image().is_err());
    }

    #[test]
    fn normalizes_each_channel_in_place() {
        let planes = Planes::from_image(&Image::new(vec![0, 51, 102, 153, 204, 255], [1, 2, 3]).unwrap());
        let mut out = [0.0; 6];
        Normalize::new(&[0.0, 0.2, 0.4], &[0.2, 0.2, 0.4], 3).unwrap().write(&planes, &mut out);
        for (o, e) in out.iter().zip([0.0, 0.0, 0.0, 3.0, 3.0, 1.5]) {
            assert!((o - e).abs() < 1e-5, "{out:?}");
        }
    }

    #[test]
    fn refuses_a_mean_of_another_length_and_a_std_of_zero() {
        let error = Normalize::new(&[0.1, 0.2, 0.3], &[1.0], 1).unwrap_err().to_string();
        assert_eq!(error, "mean = 3 values: one value, or 1, one a channel");
        let error = Normalize::new(&[0.1], &[0.0], 3).unwrap_err().to_string();
        assert_eq!(error, "std = 0: numbers above 0");
    }
}
