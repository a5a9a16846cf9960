//! Pictures turned, sheared and moved, with torchvision's geometry: a place is measured from a corner or the middle of the
//! picture, not from a pixel's centre, and what comes from outside is black.

use super::planes::Planes;
use serde::{Deserialize, Serialize};

/// How a value between pixels is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// That of the nearest pixel.
    #[default]
    Nearest,
    /// The mean of the four pixels around, each by how near it is.
    Bilinear,
}

/// From where in the old picture a place of the new one is read: `x = a u + b v + c`, `y = d u + e v + f`, with both places
/// measured from the middle, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Source([f32; 6]);

impl Source {
    /// The picture with its rows moved against each other by `share` of their distance from the upper edge: to the left
    /// for a share above 0.
    pub(super) fn shear_x(share: f32, planes: &Planes) -> Self {
        Source([1.0, share, share * planes.height as f32 / 2.0, 0.0, 1.0, 0.0])
    }

    /// The same with columns, and the left edge.
    pub(super) fn shear_y(share: f32, planes: &Planes) -> Self {
        Source([1.0, 0.0, 0.0, share, 1.0, share * planes.width as f32 / 2.0])
    }

    /// The picture moved to the right and down by so many pixels.
    pub(super) fn translate(right: f32, down: f32) -> Self {
        Source([1.0, 0.0, -right, 0.0, 1.0, -down])
    }

    /// The picture turned against the clock.
    pub(super) fn rotate(degrees: f32) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Source([cos, -sin, 0.0, sin, cos, 0.0])
    }

    /// Reads the new picture from the old one.
    pub(super) fn apply(self, sampling: Sampling, planes: &mut Planes) {
        let Source([a, b, c, d, e, f]) = self;
        let (height, width) = (planes.height, planes.width);
        let (middle_x, middle_y) = (width as f32 / 2.0 - 0.5, height as f32 / 2.0 - 0.5);
        let old = planes.values.clone();
        let areas = planes.values.chunks_exact_mut((height * width).max(1));
        for (new, old) in areas.zip(old.chunks_exact((height * width).max(1))) {
            let read = |x: f32, y: f32| -> f32 {
                let inside = x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32;
                if inside { old[y as usize * width + x as usize] } else { 0.0 }
            };
            for (y, row) in new.chunks_exact_mut(width).enumerate() {
                let v = y as f32 - middle_y;
                for (x, value) in row.iter_mut().enumerate() {
                    let u = x as f32 - middle_x;
                    let (from_x, from_y) = (a * u + b * v + c + middle_x, d * u + e * v + f + middle_y);
                    *value = match sampling {
                        Sampling::Nearest => read(from_x.round_ties_even(), from_y.round_ties_even()),
                        Sampling::Bilinear => {
                            let (left, top) = (from_x.floor(), from_y.floor());
                            let (right, low) = (from_x - left, from_y - top);
                            (1.0 - low) * ((1.0 - right) * read(left, top) + right * read(left + 1.0, top))
                                + low
                                    * ((1.0 - right) * read(left, top + 1.0)
                                        + right * read(left + 1.0, top + 1.0))
                        }
                    };
                }
            }
        }
    }
}
