//! Resizing a window of an image with antialiasing.
//!
//! Every output pixel is a weighted sum of the input pixels under a filter that is centred on it; when the picture
//! shrinks, the filter is stretched by the scale so that no input pixel is missed (antialiasing). The filters are
//! the triangle (bilinear) and Keys' cubic with a = -0.5 (bicubic): those of PIL, and of torchvision with
//! `antialias=True`. The two directions are separable: rows are combined first, straight from the bytes, then columns.

use super::planes::Planes;
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
    fn support(self) -> f64 {
        match self {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Interpolation::Bilinear => (1.0 - x).max(0.0),
            Interpolation::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Interpolation::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Interpolation::Bicubic => 0.0,
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

/// For every output position along one axis, which inputs it sums and with which weights.
#[derive(Debug, Default)]
struct Taps {
    /// The first input of each output.
    starts: Vec<usize>,
    /// `count` weights an output; those beyond the filter are zero.
    weights: Vec<f32>,
    count: usize,
}

impl Taps {
    /// The taps from `input` to `output` positions, all weights multiplied by `gain`.
    fn fill(&mut self, input: usize, output: usize, filter: Interpolation, gain: f64) {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let centre = |o: usize| scale * (o as f64 + 0.5);
        let first = |o: usize| (centre(o) - support + 0.5).max(0.0) as usize;
        let last = |o: usize| ((centre(o) + support + 0.5) as usize).min(input);
        self.count = (0..output).map(|o| last(o) - first(o)).max().unwrap_or(1);
        self.starts.clear();
        self.weights.clear();
        for o in 0..output {
            // Near the far border the run of `count` taps begins earlier, so that it ends inside.
            let start = first(o).min(input - self.count);
            let begin = self.weights.len();
            let mut sum = 0.0;
            for i in start..start + self.count {
                let inside = i >= first(o) && i < last(o);
                let w = if inside { filter.weight((i as f64 - centre(o) + 0.5) / stretch) } else { 0.0 };
                sum += w;
                self.weights.push(w as f32);
            }
            for w in &mut self.weights[begin..] {
                *w = (f64::from(*w) * gain / sum) as f32;
            }
            self.starts.push(start);
        }
    }

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.count))
    }
}

/// The memory that resizing needs, kept from one image to the next.
#[derive(Debug, Default)]
pub struct Resampler {
    rows: Taps,
    columns: Taps,
    row: Vec<f32>,
}

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
        self.rows.fill(crop.height, height, interpolation, 1.0 / 255.0);
        self.columns.fill(crop.width, width, interpolation, 1.0);
        // One number more, so that the last pixel is followed by something too.
        self.row.resize(crop.width * channels + 1, 0.0);
        let stride = image.width() * channels;
        let first = crop.top * stride + crop.left * channels;
        let pixels = &image.pixels()[first..];
        for (y, (start, weights)) in self.rows.iter().enumerate() {
            combine_rows(pixels, stride, start, weights, &mut self.row[..crop.width * channels]);
            let y = if flip.vertical { height - 1 - y } else { y };
            if channels == 3 {
                combine_columns::<3>(&self.row, &self.columns, flip.horizontal, y, out);
            } else {
                combine_columns::<1>(&self.row, &self.columns, flip.horizontal, y, out);
            }
        }
        if interpolation == Interpolation::Bicubic {
            for v in &mut out.values {
                *v = v.clamp(0.0, 1.0);
            }
        }
    }
}

/// The weighted sum of input rows, in the order column, channel.
#[inline(always)]
fn combine_rows(pixels: &[u8], stride: usize, start: usize, weights: &[f32], row: &mut [f32]) {
    row.fill(0.0);
    for (t, &w) in weights.iter().enumerate() {
        if w != 0.0 {
            for (r, &p) in row.iter_mut().zip(&pixels[(start + t) * stride..]) {
                *r += w * f32::from(p);
            }
        }
    }
}

/// The weighted sums of one row's columns, written to the planes' row `y`. Sums are taken over four numbers at once, the
/// channels of a pixel and what lies behind them, which a machine does in one instruction.
#[inline(always)]
fn combine_columns<const C: usize>(row: &[f32], columns: &Taps, mirror: bool, y: usize, out: &mut Planes) {
    let (area, width) = (out.height * out.width, out.width);
    let mut lines = out.values.chunks_exact_mut(area).map(|plane| &mut plane[y * width..(y + 1) * width]);
    let mut lines: [&mut [f32]; C] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    for (x, (start, weights)) in columns.iter().enumerate() {
        let mut sum = [0.0_f32; 4];
        if C == 3 {
            for (pixel, w) in row[start * 3..].windows(4).step_by(3).zip(weights) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += w * value;
                }
            }
        } else {
            sum[0] = row[start..].iter().zip(weights).map(|(value, w)| w * value).sum();
        }
        let x = if mirror { width - 1 - x } else { x };
        for (line, &value) in lines.iter_mut().zip(&sum) {
            line[x] = value;
        }
    }
}
