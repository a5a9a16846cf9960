//! The view of evaluation: the smaller side resized, the middle cut out, normalised, nothing random.

use super::planes::{Normalize, Planes};
use super::resample::{CropBox, Flip, Interpolation};
use super::resized_crop::resized_crop;
use super::view::{Scratch, View};
use crate::Image;
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// What an evaluation view is made of. The default is ImageNet's: 256 pixels, the middle 224.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlainConfig {
    /// The sides of the view, in pixels.
    pub size: usize,
    /// What the image's smaller side is resized to before the middle is cut out; without it, `size`.
    pub resize: Option<usize>,
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// What is subtracted from values between 0 and 1: one number, or one a channel.
    pub mean: Vec<f32>,
    /// What they are then divided by: one number, or one a channel.
    pub std: Vec<f32>,
}

impl Default for PlainConfig {
    fn default() -> Self {
        PlainConfig {
            size: 224,
            resize: Some(256),
            interpolation: Interpolation::Bilinear,
            mean: vec![0.5],
            std: vec![0.5],
        }
    }
}

/// A checked [`PlainConfig`] for images of a known number of channels.
#[derive(Clone, Debug)]
pub struct PlainView {
    config: PlainConfig,
    resize: usize,
    normalize: Normalize,
    channels: usize,
}

impl PlainView {
    /// Checks a configuration for images of 1 or 3 channels.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(config: PlainConfig, channels: usize) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(Error::config("channels", channels, "1 or 3"));
        }
        let resize = config.resize.unwrap_or(config.size);
        if config.size == 0 {
            return Err(Error::config("size", 0, "at least 1 pixel"));
        }
        if resize < config.size {
            return Err(Error::config("resize", resize, format!("at least size = {}", config.size)));
        }
        let normalize = Normalize::new(&config.mean, &config.std, channels)?;
        Ok(PlainView { config, resize, normalize, channels })
    }

    /// The view before normalisation: for looking at it.
    ///
    /// # Errors
    /// [`Error::Shape`] when the image has another number of channels.
    pub fn show(&self, image: &Image) -> Result<Planes> {
        let mut scratch = Scratch::default();
        self.render(image, &mut scratch)?;
        Ok(scratch.planes)
    }

    fn render(&self, image: &Image, scratch: &mut Scratch) -> Result<()> {
        if image.channels() != self.channels {
            return Err(Error::Shape {
                name: "image".to_owned(),
                expected: format!("{} channels", self.channels),
                found: format!("{image:?}"),
            });
        }
        let (height, width) = (image.height(), image.width());
        let short = height.min(width);
        // torchvision cuts the longer side to a whole number of pixels.
        let resized =
            [height, width].map(|side| if side == short { self.resize } else { self.resize * side / short });
        let size = self.config.size;
        let Scratch { planes, resampler, .. } = scratch;
        let (crop, whole) = (CropBox::whole(image), Flip::default());
        if resized == [size; 2] {
            resampler.resize(image, crop, resized, self.config.interpolation, whole, planes);
            return Ok(());
        }
        let full = resized_crop(image, crop, resized, self.config.interpolation)?;
        let [top, left] = resized.map(|side| ((side - size) as f64 / 2.0).round_ties_even() as usize);
        planes.reshape(self.channels, size, size);
        let rows = full
            .values
            .chunks_exact(full.height * full.width)
            .flat_map(|p| p.chunks_exact(full.width).skip(top).take(size));
        for (target, row) in planes.values.chunks_exact_mut(size).zip(rows) {
            target.copy_from_slice(&row[left..left + size]);
        }
        Ok(())
    }
}

impl View for PlainView {
    fn shape(&self) -> [usize; 3] {
        [self.config.size, self.config.size, self.channels]
    }

    fn normalize(&self) -> Option<&Normalize> {
        Some(&self.normalize)
    }

    fn write(&self, image: &Image, _rng: &mut Rng, scratch: &mut Scratch, out: &mut [f32]) -> Result<()> {
        self.render(image, scratch)?;
        self.normalize.write(&scratch.planes, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, picture};

    #[test]
    fn equals_torchvisions_resize_and_center_crop() {
        // reference(F.center_crop(F.resize(image(3), 8), 6))
        let config = PlainConfig { size: 6, resize: Some(8), ..PlainConfig::default() };
        let planes = PlainView::new(config, 3).unwrap().show(&picture(3)).unwrap();
        let first = [0.78061, 0.3398, 0.30053, 0.74538, 0.59872, 0.20011, 0.60735, 0.75402];
        assert_equals(&planes, first, 54.505, 1.0763);
    }

    #[test]
    fn a_square_image_of_the_right_size_passes_unchanged() {
        let image = Image::new((0..64).collect(), [8, 8, 1]).unwrap();
        let view =
            PlainView::new(PlainConfig { size: 8, resize: None, ..PlainConfig::default() }, 1).unwrap();
        assert_eq!(view.show(&image).unwrap().to_image().unwrap(), image);
    }

    #[test]
    fn refuses_a_crop_larger_than_the_resized_image() {
        let config = PlainConfig { size: 8, resize: Some(6), ..PlainConfig::default() };
        let error = PlainView::new(config, 1).unwrap_err().to_string();
        assert_eq!(error, "resize = 6: at least size = 8");
    }
}
