//! What corruptions compute with: one channel in 64-bit floats, as NumPy has it, and the filters of SciPy, OpenCV and
//! ImageMagick that the authors call.

use crate::Image;
use selfsup_core::Result;

/// One channel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plane {
    pub values: Vec<f64>,
    pub height: usize,
    pub width: usize,
}

/// What lies beyond a picture's edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The outermost pixel: SciPy's `nearest`.
    Nearest,
    /// The picture mirrored, the outermost pixel repeated: SciPy's `reflect`.
    Repeated,
    /// The picture mirrored at the outermost pixel: OpenCV's `BORDER_REFLECT_101`.
    Mirrored,
}

impl Edge {
    /// The pixel inside `0..length` that stands for one anywhere.
    pub fn inside(self, i: i64, length: usize) -> usize {
        let n = length as i64;
        let inside = match self {
            Edge::Nearest => i.clamp(0, n - 1),
            Edge::Repeated => {
                let i = i.rem_euclid(2 * n);
                i.min(2 * n - 1 - i)
            }
            Edge::Mirrored if n == 1 => 0,
            Edge::Mirrored => {
                let i = i.rem_euclid(2 * n - 2);
                i.min(2 * n - 2 - i)
            }
        };
        inside as usize
    }
}

/// The channels of an image, divided by 255.
pub(super) fn planes(image: &Image) -> Vec<Plane> {
    let (height, width, channels) = (image.height(), image.width(), image.channels());
    let plane = |c: usize| {
        let bytes = image.pixels().iter().skip(c).step_by(channels);
        Plane { values: bytes.map(|&byte| f64::from(byte) / 255.0).collect(), height, width }
    };
    (0..channels).map(plane).collect()
}

/// How numbers from 0 to 1 become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Towards zero, as NumPy's `uint8` does.
    Down,
    /// To the nearest, as ImageMagick does.
    Nearest,
}

/// The image of channels.
///
/// # Errors
/// None: the channels are those of an image.
pub(super) fn image(planes: &[Plane], cut: Cut) -> Result<Image> {
    let shape = planes.first().map_or([0, 0, 1], |plane| [plane.height, plane.width, planes.len()]);
    let mut pixels = vec![0; planes.iter().map(|plane| plane.values.len()).sum()];
    for (c, plane) in planes.iter().enumerate() {
        for (byte, v) in pixels.iter_mut().skip(c).step_by(planes.len()).zip(&plane.values) {
            let scaled = v.clamp(0.0, 1.0) * 255.0;
            *byte = match cut {
                Cut::Down => scaled,
                Cut::Nearest => scaled.round(),
            } as u8;
        }
    }
    Image::new(pixels, shape)
}

/// For every place of a line, the first of the places that it is a sum of, and their weights.
type Rows = Vec<(usize, Vec<f64>)>;

impl Plane {
    /// A plane whose values are a function of row and column, called in that order.
    pub fn new(height: usize, width: usize, mut value: impl FnMut(usize, usize) -> f64) -> Self {
        let mut values = Vec::with_capacity(height * width);
        for y in 0..height {
            for x in 0..width {
                values.push(value(y, x));
            }
        }
        Plane { values, height, width }
    }

    pub fn at(&self, y: usize, x: usize) -> f64 {
        self.values[y * self.width + x]
    }

    pub fn map(&mut self, value: impl Fn(f64) -> f64) {
        self.values.iter_mut().for_each(|v| *v = value(*v));
    }

    /// SciPy's `gaussian_filter`: the kernel reaches to `truncate` standard deviations.
    pub fn gaussian(&self, sigma: f64, truncate: f64, edge: Edge) -> Plane {
        let radius = (truncate * sigma + 0.5) as i64;
        if radius == 0 {
            return self.clone();
        }
        let weight = |i: i64| (-0.5 / (sigma * sigma) * (i * i) as f64).exp();
        let sum: f64 = (-radius..=radius).map(weight).sum();
        let rows = |length: usize| -> Rows {
            let row = |i: i64| {
                let first = (i - radius).max(0);
                let last = (i + radius).min(length as i64 - 1);
                let mut weights = vec![0.0; (last - first + 1) as usize];
                for offset in -radius..=radius {
                    // A mirrored place can lie nearer to the other end than the kernel's own reach when the kernel is
                    // longer than the line: all of the line is then in reach.
                    weights[edge.inside(i + offset, length) - first as usize] += weight(offset) / sum;
                }
                (first as usize, weights)
            };
            (0..length as i64).map(row).collect()
        };
        self.filtered(&rows(self.height), &rows(self.width))
    }

    /// Weighted sums along columns, then along rows.
    fn filtered(&self, down: &Rows, along: &Rows) -> Plane {
        let width = self.width;
        let mut columns = vec![0.0; self.values.len()];
        for (out, (first, weights)) in columns.chunks_exact_mut(width).zip(down) {
            for (row, weight) in self.values[first * width..].chunks_exact(width).zip(weights) {
                out.iter_mut().zip(row).for_each(|(o, v)| *o += weight * v);
            }
        }
        let mut values = Vec::with_capacity(self.values.len());
        for row in columns.chunks_exact(width) {
            values.extend(along.iter().map(|(first, weights)| {
                row[*first..].iter().zip(weights).map(|(v, weight)| v * weight).sum::<f64>()
            }));
        }
        Plane { values, ..*self }
    }

    /// The sum over taps (row offset, column offset, weight) around every pixel, mirrored at the edge: OpenCV's `filter2D`.
    pub fn convolved(&self, taps: &[(i64, i64, f64)]) -> Plane {
        let reach = taps.iter().map(|(dy, dx, _)| dy.abs().max(dx.abs())).max().unwrap_or(0);
        let (height, width) = (self.height, self.width);
        let padded_width = width + 2 * reach as usize;
        let mut padded = Vec::with_capacity((height + 2 * reach as usize) * padded_width);
        for y in -reach..height as i64 + reach {
            let row = Edge::Mirrored.inside(y, height) * width;
            let inside = |x| self.values[row + Edge::Mirrored.inside(x, width)];
            padded.extend((-reach..width as i64 + reach).map(inside));
        }
        let mut values = vec![0.0; self.values.len()];
        for (y, out) in values.chunks_exact_mut(width).enumerate() {
            for (dy, dx, weight) in taps {
                let first = (y as i64 + reach + dy) as usize * padded_width + (reach + dx) as usize;
                out.iter_mut().zip(&padded[first..first + width]).for_each(|(o, v)| *o += weight * v);
            }
        }
        Plane { values, height, width }
    }

    /// The middle enlarged so that it fills the plane, linear between pixels: the authors' `clipped_zoom`.
    pub fn zoomed(&self, factor: f64) -> Plane {
        // Where each row or column of the result lies among the plane's.
        let places = |length: usize| -> Vec<f64> {
            let part = (length as f64 / factor).ceil() as usize;
            let first = (length - part) / 2;
            let enlarged = (part as f64 * factor).round_ties_even() as usize;
            let step = if enlarged > 1 { (part - 1) as f64 / (enlarged - 1) as f64 } else { 0.0 };
            let trimmed = enlarged.saturating_sub(length) / 2;
            (0..length).map(|i| first as f64 + (trimmed + i) as f64 * step).collect()
        };
        let (rows, columns) = (places(self.height), places(self.width));
        Plane::new(self.height, self.width, |y, x| self.between(rows[y], columns[x], Edge::Nearest))
    }

    /// The value at a place between pixels.
    pub fn between(&self, y: f64, x: f64, edge: Edge) -> f64 {
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let rows = [0, 1].map(|i| edge.inside(top as i64 + i, self.height));
        let columns = [0, 1].map(|i| edge.inside(left as i64 + i, self.width));
        let line = |row: usize| self.at(row, columns[0]) * (1.0 - right) + self.at(row, columns[1]) * right;
        line(rows[0]) * (1.0 - down) + line(rows[1]) * down
    }

    /// ImageMagick's `MotionBlurImage`: half a Gaussian along a line at an angle in degrees.
    pub fn moved(&self, radius: i64, sigma: f64, angle: f64) -> Plane {
        let length = 2 * radius + 1;
        let weight = |i: i64| (-((i * i) as f64) / (2.0 * sigma * sigma)).exp();
        let sum: f64 = (0..length).map(weight).sum();
        let (sin, cos) = angle.to_radians().sin_cos();
        let offset = |i: i64, slope: f64| (i as f64 * slope - 0.5).ceil() as i64;
        let mut moved = Plane { values: vec![0.0; self.values.len()], ..*self };
        for i in 0..length {
            let (dy, dx, weight) = (offset(i, sin), offset(i, cos), weight(i) / sum);
            for (y, out) in moved.values.chunks_exact_mut(self.width).enumerate() {
                let row = Edge::Nearest.inside(y as i64 + dy, self.height) * self.width;
                for (x, o) in out.iter_mut().enumerate() {
                    *o += weight * self.values[row + Edge::Nearest.inside(x as i64 + dx, self.width)];
                }
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corrupt::reference::{assert_shows, y};

    #[test]
    fn edges_are_those_of_numpys_pad() {
        // np.pad(np.arange(4), 5, m) for m in ("edge", "symmetric", "reflect")
        for (edge, expected) in [
            (Edge::Nearest, [0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3]),
            (Edge::Repeated, [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]),
            (Edge::Mirrored, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]),
        ] {
            let found: Vec<usize> = (-5..9).map(|i| edge.inside(i, 4)).collect();
            assert_eq!(found, expected, "{edge:?}");
            assert_eq!(edge.inside(-7, 1), 0);
        }
    }

    #[test]
    fn a_flat_plane_stays_flat_under_every_filter() {
        let flat = Plane::new(9, 7, |_, _| 0.3);
        for found in [
            flat.gaussian(1.5, 4.0, Edge::Nearest),
            flat.gaussian(40.0, 3.0, Edge::Repeated),
            flat.convolved(&[(-9, 0, 0.25), (0, 3, 0.75)]),
            flat.zoomed(1.3),
            flat.moved(9, 2.5, -33.0),
        ] {
            assert!(found.values.iter().all(|v| (v - 0.3).abs() < 1e-12), "{found:?}");
        }
    }

    // show(each(lambda v: scipy.ndimage.gaussian_filter(v, 1.5, mode="nearest")))
    // show(each(lambda v: scipy.ndimage.gaussian_filter(v, 20, mode="reflect", truncate=3)))
    // show(clipped_zoom(y, 1.75)), the authors', from the middle of both sides
    // show(each(lambda v: ic._motion_blur(v, 9, 2.5, -33))), show(each(lambda v: ic._motion_blur(v, 10, 6, -100)))
    #[test]
    fn filters_agree_with_scipy_and_the_authors() {
        let each = |filter: &dyn Fn(&Plane) -> Plane| y().iter().map(filter).collect::<Vec<_>>();
        let found = each(&|plane| plane.gaussian(1.5, 4.0, Edge::Nearest));
        assert_shows(&found, [0.540523, 0.577829, 0.565263, 0.500912, 0.442933, 0.450145], 1154.9317, 6.4972);
        let found = each(&|plane| plane.gaussian(20.0, 3.0, Edge::Repeated));
        assert_shows(&found, [0.50104, 0.501047, 0.501053, 0.501051, 0.501047, 0.501049], 1154.2, 6.6804);
        let found = each(&|plane| plane.zoomed(1.75));
        assert_shows(&found, [0.945098, 0.689216, 0.434804, 0.185539, 0.061765, 0.094853], 1153.8007, 6.6759);
        let found = each(&|plane| plane.moved(9, 2.5, -33.0));
        assert_shows(&found, [0.653649, 0.598517, 0.434793, 0.344242, 0.427036, 0.591059], 1153.0226, 6.5074);
        let found = each(&|plane| plane.moved(10, 6.0, -100.0));
        assert_shows(&found, [0.501961, 0.665507, 0.865158, 0.719892, 0.338034, 0.136181], 1165.821, 6.5274);
    }
}
