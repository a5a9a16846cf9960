//! Gaussian blur with a drawn width (Chen et al., "A simple framework for contrastive learning", appendix A).
//!
//! The kernel holds `exp(-i^2 / (2 sigma^2))` at whole pixels i, divided by its sum; the picture is mirrored at its
//! outermost pixels, which are not repeated. Both are torchvision's.

use super::planes::Planes;
use super::{chance, check_probability, check_range, uniform};
use selfsup_core::{Augment, Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// Blurs a picture at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianBlur {
    /// The kernel's width in pixels: odd, and at most twice the picture's smaller side less one. Without it, the
    /// odd number next to a tenth of the picture's smaller side, as in SimCLR, at least 3.
    pub kernel: Option<usize>,
    /// The smallest and largest standard deviation, in pixels.
    pub sigma: [f64; 2],
    /// The probability.
    pub p: f64,
}

impl Default for GaussianBlur {
    /// SimCLR's (appendix A): a tenth of the picture, sigma 0.1 to 2, probability 0.5.
    fn default() -> Self {
        GaussianBlur { kernel: None, sigma: [0.1, 2.0], p: 0.5 }
    }
}

impl GaussianBlur {
    /// The kernel's width for a picture of this size (height, width).
    ///
    /// # Errors
    /// [`Error::Config`] when the values make no sense or the kernel does not fit the picture.
    pub fn kernel(&self, size: [usize; 2]) -> Result<usize> {
        check_range("blur.sigma", self.sigma, f64::MIN_POSITIVE, f64::MAX)?;
        check_probability("blur.p", self.p)?;
        let side = size[0].min(size[1]);
        let largest = (2 * side).saturating_sub(1);
        let kernel = self.kernel.unwrap_or_else(|| (side / 10 / 2 * 2 + 1).max(3).min(largest));
        if kernel.is_multiple_of(2) || kernel > largest {
            let expected =
                format!("an odd number of pixels, at most {largest} for {} x {}", size[0], size[1]);
            return Err(Error::config("blur.kernel", kernel, expected));
        }
        Ok(kernel)
    }

    /// Draws the standard deviation, or nothing when the picture stays sharp.
    pub fn draw(&self, rng: &mut Rng) -> Option<f32> {
        chance(self.p, rng).then(|| uniform(self.sigma, rng) as f32)
    }
}

/// Blurs a picture with a kernel of `kernel` pixels, whose half must be smaller than the picture's smaller side.
///
/// # Errors
/// [`Error::Config`] when the kernel is even or does not fit the picture.
pub fn gaussian_blur(planes: &mut Planes, kernel: usize, sigma: f32) -> Result<()> {
    let sigma64 = f64::from(sigma);
    GaussianBlur { kernel: Some(kernel), sigma: [sigma64; 2], p: 1.0 }
        .kernel([planes.height, planes.width])?;
    Blur::default().apply(planes, kernel, sigma);
    Ok(())
}

/// The memory that blurring needs, kept from one picture to the next.
#[derive(Debug, Default)]
pub(crate) struct Blur {
    /// Of the middle, and of each distance from it.
    weights: Vec<f32>,
    padded: Vec<f32>,
    rows: Vec<f32>,
}

impl Blur {
    /// Blurs in place; the kernel has been checked.
    #[inline(always)]
    pub(crate) fn apply(&mut self, planes: &mut Planes, kernel: usize, sigma: f32) {
        // Farther out weights are below what a float of the middle's size can hold.
        let radius = (kernel / 2).min((NOTHING * sigma).ceil() as usize);
        self.weights.clear();
        self.weights.extend((0..=radius).map(|i| {
            let distance = i as f32 / sigma;
            (-0.5 * distance * distance).exp()
        }));
        let sum = 2.0 * self.weights.iter().sum::<f32>() - self.weights[0];
        self.weights.iter_mut().for_each(|w| *w /= sum);

        let (height, width) = (planes.height, planes.width);
        self.padded.resize(width + 2 * radius, 0.0);
        self.rows.resize(height * width, 0.0);
        for plane in planes.values.chunks_exact_mut(height * width) {
            for (row, out) in plane.chunks_exact(width).zip(self.rows.chunks_exact_mut(width)) {
                self.padded[radius..radius + width].copy_from_slice(row);
                for i in 1..=radius {
                    self.padded[radius - i] = row[i];
                    self.padded[radius + width - 1 + i] = row[width - 1 - i];
                }
                blur_line(out, &self.weights, |offset| &self.padded[(radius as i64 + offset) as usize..]);
            }
            for (y, out) in plane.chunks_exact_mut(width).enumerate() {
                blur_line(out, &self.weights, |offset| {
                    let y = reflect(y as i64 + offset, height);
                    &self.rows[y * width..(y + 1) * width]
                });
            }
        }
    }
}

/// Standard deviations beyond which a Gaussian is below `2^-24` of its middle.
const NOTHING: f32 = 5.8;

/// `out = weights[0] line(0) + sum_t weights[t] (line(-t) + line(t))`, two pairs of lines at a time.
#[inline(always)]
fn blur_line<'a>(out: &mut [f32], weights: &[f32], line: impl Fn(i64) -> &'a [f32]) {
    for (o, v) in out.iter_mut().zip(line(0)) {
        *o = weights[0] * v;
    }
    let mut offset = 1;
    let mut pairs = weights[1..].chunks_exact(2);
    for pair in &mut pairs {
        let (near, far) = ([line(-offset), line(offset)], [line(-offset - 1), line(offset + 1)]);
        for ((((o, a), b), c), d) in out.iter_mut().zip(near[0]).zip(near[1]).zip(far[0]).zip(far[1]) {
            *o += pair[0] * (a + b) + pair[1] * (c + d);
        }
        offset += 2;
    }
    if let [last] = pairs.remainder() {
        for ((o, a), b) in out.iter_mut().zip(line(-offset)).zip(line(offset)) {
            *o += last * (a + b);
        }
    }
}

/// The position inside `0..length` that a position up to `length - 1` outside mirrors.
#[inline]
fn reflect(i: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    (last - (last - i.abs()).abs()) as usize
}

impl Augment<Planes> for GaussianBlur {
    type Out = Planes;

    fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
        let kernel = self.kernel([planes.height, planes.width])?;
        if let Some(sigma) = self.draw(rng) {
            Blur::default().apply(&mut planes, kernel, sigma);
        }
        Ok(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, distance_from_uniform, picture};
    use selfsup_core::Key;

    #[test]
    fn equals_torchvision() {
        // reference(F.gaussian_blur(image(3), [5, 5], [1.3, 1.3])), then of image(1)
        let mut planes = Planes::from_image(&picture(3));
        gaussian_blur(&mut planes, 5, 1.3).unwrap();
        let first = [0.50465, 0.56454, 0.64578, 0.60349, 0.44632, 0.34882, 0.41931, 0.57948];
        assert_equals(&planes, first, 287.764, 0.5318);
        let mut planes = Planes::from_image(&picture(1));
        gaussian_blur(&mut planes, 5, 1.3).unwrap();
        let first = [0.50249, 0.5558, 0.68112, 0.81495, 0.90632, 0.94275, 0.91924, 0.83905];
        assert_equals(&planes, first, 97.991, 7.9916);
    }

    #[test]
    fn the_kernel_is_a_tenth_of_the_picture_and_odd() {
        let blur = GaussianBlur::default();
        assert_eq!(blur.kernel([224, 224]).unwrap(), 23);
        assert_eq!(blur.kernel([96, 128]).unwrap(), 9);
        assert_eq!(blur.kernel([32, 32]).unwrap(), 3);
        assert_eq!(blur.kernel([1, 9]).unwrap(), 1);
        let message = |kernel, size| {
            let blur = GaussianBlur { kernel: Some(kernel), ..GaussianBlur::default() };
            blur.kernel(size).unwrap_err().to_string()
        };
        assert_eq!(message(4, [8, 8]), "blur.kernel = 4: an odd number of pixels, at most 15 for 8 x 8");
        assert_eq!(message(17, [8, 8]), "blur.kernel = 17: an odd number of pixels, at most 15 for 8 x 8");
        let mut planes = Planes::from_image(&picture(1));
        assert!(gaussian_blur(&mut planes, 23, 1.0).is_ok());
        assert!(gaussian_blur(&mut planes, 25, 1.0).is_err());
        assert!(gaussian_blur(&mut planes, 3, 0.0).is_err());
    }

    #[test]
    fn sigma_has_the_stated_distribution() {
        let blur = GaussianBlur::default();
        let drawn: Vec<f64> =
            (0..20_000).filter_map(|i| blur.draw(&mut Key::new(4).with(i).rng())).map(f64::from).collect();
        assert!((drawn.len() as f64 - 10_000.0).abs() < 5.0 * 5000_f64.sqrt());
        assert!(distance_from_uniform(drawn, 0.1, 2.0) < 1.95);
    }
}
