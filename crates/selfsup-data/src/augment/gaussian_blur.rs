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
        if kernel % 2 == 0 || kernel > largest {
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
    weights: Vec<f32>,
    padded: Vec<f32>,
    rows: Vec<f32>,
}

impl Blur {
    /// Blurs in place; the kernel has been checked.
    #[inline(always)]
    pub(crate) fn apply(&mut self, planes: &mut Planes, kernel: usize, sigma: f32) {
        let radius = kernel / 2;
        self.weights.clear();
        self.weights.extend((0..kernel).map(|i| {
            let distance = (i as f32 - radius as f32) / sigma;
            (-0.5 * distance * distance).exp()
        }));
        let sum: f32 = self.weights.iter().sum();
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
                out.fill(0.0);
                for (shift, w) in self.weights.iter().enumerate() {
                    for (o, v) in out.iter_mut().zip(&self.padded[shift..]) {
                        *o += w * v;
                    }
                }
            }
            for (y, out) in plane.chunks_exact_mut(width).enumerate() {
                out.fill(0.0);
                for (shift, w) in self.weights.iter().enumerate() {
                    let y = reflect(y as i64 + shift as i64 - radius as i64, height);
                    for (o, v) in out.iter_mut().zip(&self.rows[y * width..(y + 1) * width]) {
                        *o += w * v;
                    }
                }
            }
        }
    }
}

/// The position inside `0..length` that a position up to `length - 1` outside mirrors.
#[inline(always)]
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
