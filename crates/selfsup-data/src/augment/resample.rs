//! Resizing a window of an image with antialiasing.
//!
//! Every output pixel is a weighted sum of the input pixels under a filter that is centred on it; when the picture
//! shrinks, the filter is stretched by the scale so that no input pixel is missed (antialiasing). The filters are
//! the triangle (bilinear) and Keys' cubic with a = -0.5 (bicubic): those of PIL, and of torchvision with
//! `antialias=True`. The two directions are separable: rows are combined first, straight from the bytes, then columns
//! (`lines`).

use super::lines::Lines;
use super::planes::Planes;
use super::taps::Taps;
use crate::Image;
use serde::{Deserialize, Serialize};

/// The filter of a resize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle filter.
    #[default]
    Bilinear,
    /// Keys' cubic, a = -0.5; the result is clamped to 0..=1.
    Bicubic,
}

impl Interpolation {
    /// Half the filter's width at scale 1.
    pub(super) fn support(self) -> f64 {
        match self {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        }
    }

    /// Writes the weights at distances of `distances` plus `step`, all times `narrow`, and adds them to `sums`.
    #[inline(always)]
    pub(super) fn weigh(
        self,
        distances: &[f64],
        step: f64,
        narrow: f64,
        sums: &mut [f64],
        weights: &mut [f32],
    ) {
        let mut each = |weight: fn(f64) -> f64| {
            for ((distance, sum), w) in distances.iter().zip(&mut *sums).zip(&mut *weights) {
                let value = weight(((distance + step) * narrow).abs());
                *sum += value;
                *w = value as f32;
            }
        };
        match self {
            Interpolation::Bilinear => each(|x| if x < 1.0 { 1.0 - x } else { 0.0 }),
            Interpolation::Bicubic => each(|x| {
                let near = (1.5 * x - 2.5) * x * x + 1.0;
                let far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
                if x < 1.0 {
                    near
                } else if x < 2.0 {
                    far
                } else {
                    0.0
                }
            }),
        }
    }
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropBox {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
}

impl CropBox {
    /// The whole of an image.
    pub fn whole(image: &Image) -> Self {
        CropBox { top: 0, left: 0, height: image.height(), width: image.width() }
    }

    /// Whether the rectangle has pixels and all of them lie in an image of this size.
    pub fn fits(&self, height: usize, width: usize) -> bool {
        let inside = |start: usize, length: usize, end| {
            length > 0 && start.checked_add(length).is_some_and(|e| e <= end)
        };
        inside(self.top, self.height, height) && inside(self.left, self.width, width)
    }
}

/// Which mirrors a picture passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Left and right change places.
    pub horizontal: bool,
    /// Top and bottom change places.
    pub vertical: bool,
}

/// The memory that resizing needs, kept from one image to the next.
#[derive(Debug, Default)]
pub struct Resampler {
    rows: Taps,
    columns: Taps,
    row: Vec<f32>,
    lines: Lines,
}

/// Rows are combined in runs of this many numbers, where the image has them.
const RUN: usize = 16;

impl Resampler {
    /// Resizes the window `crop` of `image` to `size` (height, width), mirrors it and writes it to `out`.
    ///
    /// The crop must fit the image ([`CropBox::fits`]).
    #[inline(always)]
    pub(crate) fn resize(
        &mut self,
        image: &Image,
        crop: CropBox,
        size: [usize; 2],
        interpolation: Interpolation,
        flip: Flip,
        out: &mut Planes,
    ) {
        let [height, width] = size;
        let channels = image.channels();
        out.reshape(channels, height, width);
        self.rows.fill(crop.height, height, interpolation, 1.0 / 255.0, flip.vertical, self.lines.block());
        self.columns.fill(crop.width, width, interpolation, 1.0, flip.horizontal, self.lines.block());
        let numbers = crop.width * channels;
        self.row.resize(numbers.next_multiple_of(RUN), 0.0);
        let stride = image.width() * channels;
        let first = crop.top * stride + crop.left * channels;
        let pixels = &image.pixels()[first..];
        let area = height * width;
        for (y, start) in self.rows.starts().iter().enumerate() {
            // What lies right of the window is combined too where that makes whole runs; nobody reads it.
            let last = (start + self.rows.count() - 1) * stride;
            let length = if last + self.row.len() <= pixels.len() { self.row.len() } else { numbers };
            let weights = (0..self.rows.count()).map(|tap| self.rows.weight(tap, y));
            combine_rows(&pixels[start * stride..], stride, weights, &mut self.row[..length]);
            self.lines.load(&self.row[..numbers], channels);
            self.lines.combine(&self.columns, &mut out.values, y * width, area);
        }
        if interpolation == Interpolation::Bicubic {
            for v in &mut out.values {
                *v = v.clamp(0.0, 1.0);
            }
        }
    }
}

/// The weighted sum of the rows that begin a `stride` apart, in the order column, channel; two rows at a time.
#[inline(always)]
fn combine_rows(pixels: &[u8], stride: usize, mut weights: impl Iterator<Item = f32>, row: &mut [f32]) {
    let length = row.len();
    let mut rows = (0..).map(|tap| &pixels[tap * stride..][..length]);
    let mut next = || Some((weights.next()?, rows.next()?));
    let Some((w, top)) = next() else { return };
    let Some((v, below)) = next() else {
        for (r, &p) in row.iter_mut().zip(top) {
            *r = w * f32::from(p);
        }
        return;
    };
    for ((r, &p), &q) in row.iter_mut().zip(top).zip(below) {
        *r = w * f32::from(p) + v * f32::from(q);
    }
    while let Some((w, top)) = next() {
        match next() {
            Some((v, below)) => {
                for ((r, &p), &q) in row.iter_mut().zip(top).zip(below) {
                    *r = *r + w * f32::from(p) + v * f32::from(q);
                }
            }
            None => {
                for (r, &p) in row.iter_mut().zip(top) {
                    *r += w * f32::from(p);
                }
            }
        }
    }
}
