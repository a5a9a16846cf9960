//! JPEG (ITU-T T.81) there and back, without the bits between: what is lost is lost in the colour's halved resolution and in
//! the quantised cosine transform, and the coding of the numbers loses nothing.
//!
//! Steps and roundings are those of libjpeg, by which PIL writes and reads: colours at half of the resolution (4:2:0), the
//! standard's tables scaled by a quality, colours made smooth again by a triangle. The transform is computed in floats, so
//! that a value may differ by one where libjpeg's whole numbers round another way.

use crate::Image;
use selfsup_core::Result;
use std::f64::consts::PI;

/// The standard's table K.1 for brightness.
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17,
    22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78,
    87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
/// The standard's table K.2 for colour.
const CHROMA: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// A half in 65536ths, and the middle of the bytes.
const HALF: i32 = 1 << 15;
const MIDDLE: i32 = 128 << 16;

/// One channel of whole numbers.
struct Samples {
    values: Vec<i32>,
    height: usize,
    width: usize,
}

impl Samples {
    fn new(height: usize, width: usize, mut value: impl FnMut(usize, usize) -> i32) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        Samples { values: places.map(|(y, x)| value(y, x)).collect(), height, width }
    }

    /// The sample at a place, of the last row or column beyond them.
    fn at(&self, y: usize, x: usize) -> i32 {
        self.values[y.min(self.height - 1) * self.width + x.min(self.width - 1)]
    }
}

/// The image as a JPEG file of a quality from 1 to 100 gives it back.
///
/// # Errors
/// None: the result has the image's shape.
pub(super) fn jpeg(image: &Image, quality: u16) -> Result<Image> {
    let (height, width, channels) = (image.height(), image.width(), image.channels());
    let pixels = image.pixels();
    let value = |y: usize, x: usize, c: usize| i32::from(pixels[(y * width + x) * channels + c]);
    let (luma, chroma) = (table(&LUMA, quality), table(&CHROMA, quality));
    let byte = |v: i32| v.clamp(0, 255) as u8;
    if channels == 1 {
        let grey = transformed(&Samples::new(height, width, |y, x| value(y, x, 0)), &luma);
        return Image::new(grey.values.into_iter().map(byte).collect(), [height, width, 1]);
    }
    let converted = |weights: [f64; 3], offset: i32| {
        let weights = weights.map(fixed);
        Samples::new(height, width, |y, x| {
            let sum: i32 = (0..3).map(|c| weights[c] * value(y, x, c)).sum();
            (sum + offset) >> 16
        })
    };
    let brightness = transformed(&converted([0.299, 0.587, 0.114], HALF), &luma);
    let colour = |weights| {
        smooth(&transformed(&halved(&converted(weights, MIDDLE + HALF - 1)), &chroma), height, width)
    };
    let blue = colour([-0.16874, -0.33126, 0.5]);
    let red = colour([0.5, -0.41869, -0.08131]);
    let mut out = Vec::with_capacity(pixels.len());
    for ((y, cb), cr) in brightness.values.iter().zip(&blue.values).zip(&red.values) {
        let (cb, cr) = (cb - 128, cr - 128);
        out.push(byte(y + ((fixed(1.402) * cr + HALF) >> 16)));
        out.push(byte(y + ((-fixed(0.34414) * cb - fixed(0.71414) * cr + HALF) >> 16)));
        out.push(byte(y + ((fixed(1.772) * cb + HALF) >> 16)));
    }
    Image::new(out, [height, width, 3])
}

/// A number in 65536ths.
fn fixed(v: f64) -> i32 {
    (v * 65536.0).round() as i32
}

/// A table of the standard, scaled for a quality.
fn table(base: &[u16; 64], quality: u16) -> [f64; 64] {
    let scale = if quality < 50 { 5000 / quality.max(1) } else { 200 - 2 * quality.min(100) };
    base.map(|q| f64::from(((u32::from(q) * u32::from(scale) + 50) / 100).clamp(1, 255)))
}

/// The mean of two by two samples.
fn halved(full: &Samples) -> Samples {
    // So many columns that blocks are whole, made of the last column: the mean of what is beyond is rounded in turns, too.
    Samples::new(full.height.div_ceil(2), full.width.div_ceil(2).next_multiple_of(8), |y, x| {
        let [top, left] = [2 * y, 2 * x];
        let sum =
            full.at(top, left) + full.at(top, left + 1) + full.at(top + 1, left) + full.at(top + 1, left + 1);
        (sum + 1 + (x as i32 & 1)) >> 2
    })
}

/// Twice as many samples each way, three parts of the nearer and one of the farther.
fn smooth(half: &Samples, height: usize, width: usize) -> Samples {
    let columns = width.div_ceil(2);
    if columns <= 2 {
        return Samples::new(height, width, |y, x| half.at(y / 2, x / 2));
    }
    Samples::new(height, width, |y, x| {
        let (row, column) = (y / 2, x / 2);
        let other = if y % 2 == 0 { row.saturating_sub(1) } else { (row + 1).min(half.height - 1) };
        let sum = |column: usize| 3 * half.at(row, column) + half.at(other, column);
        if x % 2 == 0 {
            (3 * sum(column) + sum(column.saturating_sub(1)) + 8) >> 4
        } else {
            (3 * sum(column) + sum((column + 1).min(columns - 1)) + 7) >> 4
        }
    })
}

/// The samples after every block of 8 by 8 went through the quantised cosine transform.
fn transformed(samples: &Samples, table: &[f64; 64]) -> Samples {
    let basis: [[f64; 8]; 8] = std::array::from_fn(|u| {
        let scale = if u == 0 { 0.125_f64.sqrt() } else { 0.5 };
        std::array::from_fn(|x| scale * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos())
    });
    let mut out = Samples { values: vec![0; samples.values.len()], ..*samples };
    for top in (0..samples.height).step_by(8) {
        for left in (0..samples.width).step_by(8) {
            let block: [[f64; 8]; 8] = std::array::from_fn(|y| {
                std::array::from_fn(|x| f64::from(samples.at(top + y, left + x) - 128))
            });
            let mut numbers = product(&product(&basis, &block), &turned(&basis));
            for (row, steps) in numbers.iter_mut().zip(table.chunks_exact(8)) {
                row.iter_mut().zip(steps).for_each(|(v, q)| *v = (*v / q).round() * q);
            }
            let block = product(&product(&turned(&basis), &numbers), &basis);
            for (y, row) in block.iter().enumerate().take(samples.height - top) {
                for (x, v) in row.iter().enumerate().take(samples.width - left) {
                    let v = ((v + 0.5).floor() as i32 + 128).clamp(0, 255);
                    out.values[(top + y) * samples.width + left + x] = v;
                }
            }
        }
    }
    out
}

fn product(a: &[[f64; 8]; 8], b: &[[f64; 8]; 8]) -> [[f64; 8]; 8] {
    let mut out = [[0.0; 8]; 8];
    for (row, weights) in out.iter_mut().zip(a) {
        for (weight, line) in weights.iter().zip(b) {
            row.iter_mut().zip(line).for_each(|(o, v)| *o += weight * v);
        }
    }
    out
}

fn turned(a: &[[f64; 8]; 8]) -> [[f64; 8]; 8] {
    std::array::from_fn(|i| std::array::from_fn(|j| a[j][i]))
}
