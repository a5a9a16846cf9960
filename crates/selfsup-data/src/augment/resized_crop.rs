//! A random window of the image, resized (Szegedy et al., "Going deeper with convolutions", section 6).
//!
//! The area is uniform in `scale` (as a share of the image's), the logarithm of the aspect ratio is uniform in
//! `ratio`'s. A window that does not fit is drawn again, ten times at most; then the largest centred window of an
//! allowed ratio is taken. This is torchvision's rule.

use super::planes::Planes;
use super::resample::{CropBox, Flip, Interpolation, Resampler};
use super::{check_range, uniform};
use crate::Image;
use rand::RngExt;
use selfsup_core::{Augment, Error, Result, Rng};

/// A random window of the image, resized to one size.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomResizedCrop {
    /// The size of the result: height, width.
    pub size: [usize; 2],
    /// The smallest and largest area of the window, as a share of the image's.
    pub scale: [f64; 2],
    /// The smallest and largest width of the window over its height.
    pub ratio: [f64; 2],
    /// The filter.
    pub interpolation: Interpolation,
}

impl RandomResizedCrop {
    /// A crop to `size` (height, width) with torchvision's ranges: area 0.08 to 1, ratio 3/4 to 4/3, bilinear.
    pub fn new(size: [usize; 2]) -> Self {
        RandomResizedCrop {
            size,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            interpolation: Interpolation::default(),
        }
    }

    /// Whether the ranges make sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn check(&self) -> Result<()> {
        if self.size.contains(&0) {
            return Err(Error::config("size", format!("{:?}", self.size), "at least 1 pixel"));
        }
        check_range("scale", self.scale, f64::MIN_POSITIVE, 1.0)?;
        check_range("ratio", self.ratio, f64::MIN_POSITIVE, f64::MAX)
    }

    /// Draws a window of an image with `height` rows and `width` columns.
    pub fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> CropBox {
        let area = (height * width) as f64;
        let log_ratio = self.ratio.map(f64::ln);
        for _ in 0..10 {
            let target = area * uniform(self.scale, rng);
            let ratio = uniform(log_ratio, rng).exp();
            let w = (target * ratio).sqrt().round_ties_even() as usize;
            let h = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = rng.random_range(0..=height - h);
                let left = rng.random_range(0..=width - w);
                return CropBox { top, left, height: h, width: w };
            }
        }
        let found = width as f64 / height as f64;
        let (h, w) = if found < self.ratio[0] {
            (((width as f64 / self.ratio[0]).round_ties_even() as usize).clamp(1, height), width)
        } else if found > self.ratio[1] {
            (height, ((height as f64 * self.ratio[1]).round_ties_even() as usize).clamp(1, width))
        } else {
            (height, width)
        };
        CropBox { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

/// Cuts the window out of the image and resizes it to `size` (height, width).
///
/// # Errors
/// [`Error::Shape`] when the window leaves the image or a side is zero.
pub fn resized_crop(
    image: &Image,
    crop: CropBox,
    size: [usize; 2],
    interpolation: Interpolation,
) -> Result<Planes> {
    if !crop.fits(image.height(), image.width()) || size.contains(&0) {
        return Err(Error::Shape {
            name: "crop".to_owned(),
            expected: format!(
                "a window inside {} x {} pixels, of any size but 0",
                image.height(),
                image.width()
            ),
            found: format!("{crop:?} to {size:?}"),
        });
    }
    let mut out = Planes::default();
    Resampler::default().resize(image, crop, size, interpolation, Flip::default(), &mut out);
    Ok(out)
}

impl Augment<Image> for RandomResizedCrop {
    type Out = Planes;

    fn apply(&self, image: Image, rng: &mut Rng) -> Result<Planes> {
        self.check()?;
        let crop = self.draw(image.height(), image.width(), rng);
        resized_crop(&image, crop, self.size, self.interpolation)
    }
}
