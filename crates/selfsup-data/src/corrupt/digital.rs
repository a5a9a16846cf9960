//! Digital: contrast, elastic deformation, pixels, and JPEG (in a file of its own).

use super::level::Level;
use super::plane::{Edge, Plane};
use crate::Image;
use rand::RngExt;
use selfsup_core::{Result, Rng};

/// Less contrast around each channel's mean.
pub(super) fn contrast(all: &mut [Plane], level: Level) {
    let kept = level.pick([0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05]);
    for plane in all {
        let mean = plane.values.iter().sum::<f64>() / plane.values.len() as f64;
        plane.map(|v| (v - mean) * kept + mean);
    }
}

/// A random affine change of three points, then displacements that are alike near by.
///
/// OpenCV places the affine change to a 32nd of a pixel, this exactly.
pub(super) fn elastic(all: &mut [Plane], level: Level, rng: &mut Rng) {
    let Some(Plane { height, width, .. }) = all.first().cloned() else { return };
    // The constants are multiples of the side; of 244 pixels for images of 224, as the authors have it.
    let side = height.min(width) as f64 * if level.is_small() { 1.0 } else { 244.0 / 224.0 };
    let (strength, sigma, corners) = level.pick(
        [(0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
        [(2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)],
    );
    let mut draw = || rng.random_range(-1.0..1.0);
    let moved: [[f64; 2]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| corners * side * draw()));
    let mut field = || {
        let mut field = Plane::new(height, width, |_, _| draw()).gaussian(sigma * side, 3.0, Edge::Repeated);
        field.map(|v| v * strength * side);
        field
    };
    let (dx, dy) = (field(), field());
    elastic_with(all, moved, &dx, &dy);
}

/// `moved` is how far `[x, y]` three points around the middle move.
fn elastic_with(all: &mut [Plane], moved: [[f64; 2]; 3], dx: &Plane, dy: &Plane) {
    let (height, width) = (dx.height, dx.width);
    let (middle, apart) = ([width / 2, height / 2].map(|v| v as f64), (height.min(width) / 3) as f64);
    let before =
        [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]].map(|[x, y]| [middle[0] + x * apart, middle[1] + y * apart]);
    let after: [[f64; 2]; 3] =
        std::array::from_fn(|i| [before[i][0] + moved[i][0], before[i][1] + moved[i][1]]);
    // The place in the picture of each pixel of the result is an affine function that takes `after` to `before`.
    let (to, from) = (edges(after), edges(before));
    let area = to[0][0] * to[1][1] - to[0][1] * to[1][0];
    let place = |x: f64, y: f64| {
        let (x, y) = (x - after[0][0], y - after[0][1]);
        let first = (x * to[1][1] - y * to[1][0]) / area;
        let second = (y * to[0][0] - x * to[0][1]) / area;
        let part = |i: usize| before[0][i] + first * from[0][i] + second * from[1][i];
        (part(0), part(1))
    };
    // Three points on a line have no area: the picture stays in its place.
    let is_flat = area.abs() < 1e-9;
    for plane in all {
        let turned = Plane::new(height, width, |y, x| {
            let (x, y) = if is_flat { (x as f64, y as f64) } else { place(x as f64, y as f64) };
            plane.between(y, x, Edge::Mirrored)
        });
        *plane = Plane::new(height, width, |y, x| {
            turned.between(y as f64 + dy.at(y, x), x as f64 + dx.at(y, x), Edge::Repeated)
        });
    }
}

/// The two edges of a triangle that begin at its first corner.
fn edges([a, b, c]: [[f64; 2]; 3]) -> [[f64; 2]; 2] {
    [[b[0] - a[0], b[1] - a[1]], [c[0] - a[0], c[1] - a[1]]]
}

/// Fewer pixels, each a square of its own.
///
/// # Errors
/// None: sides stay above 0.
pub(super) fn pixelate(image: &Image, level: Level) -> Result<Image> {
    let share = level.pick([0.95, 0.9, 0.85, 0.75, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25]);
    let sides = [image.height(), image.width()];
    boxed(&boxed(image, sides.map(|side| ((side as f64 * share) as usize).max(1)))?, sides)
}

/// PIL's `resize` with `BOX`: along rows, then along columns, in whole numbers.
fn boxed(image: &Image, [height, width]: [usize; 2]) -> Result<Image> {
    let channels = image.channels();
    let along = boxed_line(image.pixels(), image.width(), width, channels, image.height(), |line, i| {
        line * image.width() * channels + i * channels
    });
    // Rows are now lines that lie beside each other.
    let row = width * channels;
    let down = boxed_line(&along, image.height(), height, row, 1, |_, i| i * row);
    Image::new(down, [height, width, channels])
}

/// Resizes `lines` lines of `from` groups of bytes to `to` groups each.
fn boxed_line(
    bytes: &[u8],
    from: usize,
    to: usize,
    group: usize,
    lines: usize,
    start: impl Fn(usize, usize) -> usize,
) -> Vec<u8> {
    /// PIL's bits behind the point.
    const BITS: u32 = 22;
    let scale = from as f64 / to as f64;
    let wide = scale.max(1.0);
    let taps: Vec<(usize, Vec<i64>)> = (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = ((centre - 0.5 * wide + 0.5) as usize).min(from - 1);
            let end = ((centre + 0.5 * wide + 0.5) as usize).clamp(first + 1, from);
            let inside = |j: usize| {
                let x = (j as f64 - centre + 0.5) / wide;
                (x > -0.5 && x <= 0.5) as u8 as f64
            };
            let sum = (first..end).map(inside).sum::<f64>().max(1.0);
            let weights = (first..end).map(|j| (0.5 + inside(j) / sum * f64::from(1 << BITS)) as i64);
            (first, weights.collect())
        })
        .collect();
    let mut out = Vec::with_capacity(lines * to * group);
    for line in 0..lines {
        for (first, weights) in &taps {
            for c in 0..group {
                let part = |(j, weight): (usize, &i64)| weight * i64::from(bytes[start(line, first + j) + c]);
                let sum: i64 = weights.iter().enumerate().map(part).sum();
                out.push(((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corrupt::reference::{assert_shows, draws, y};

    // h, w = 24, 32; cen, sq = np.float32([16, 12]), 8; p = np.float32([cen + sq, [cen[0] + sq, cen[1] - sq], cen - sq])
    // M = cv2.getAffineTransform(p, p + np.float32([[1.5, -.75], [-.5, 1.], [.25, -1.25]])); Mi = np.linalg.inv(np.vstack([M, [0, 0, 1]]))
    // X, Y = np.meshgrid(np.arange(w), np.arange(h)); at = [Mi[1, 0] * X + Mi[1, 1] * Y + Mi[1, 2], Mi[0, 0] * X + Mi[0, 1] * Y + Mi[0, 2]]
    // t = each(lambda v: map_coordinates(v, at, order=1, mode="mirror"))   # cv2.warpAffine(y, M, (w, h), borderMode=cv2.BORDER_REFLECT_101) to 2e-6
    // f = lambda first: gaussian_filter(draws(h * w, first).reshape(h, w), 1.5, mode="reflect", truncate=3) * 60
    // dx, dy = f(0), f(h * w)
    // show(np.stack([map_coordinates(t[:, :, k], [Y + dy, X + dx], order=1, mode="reflect") for k in range(3)], -1))
    #[test]
    fn elastic_agrees_with_opencv_and_scipy() {
        let mut draw = draws();
        let mut field = || {
            let mut field = Plane::new(24, 32, |_, _| draw()).gaussian(1.5, 3.0, Edge::Repeated);
            field.map(|v| v * 60.0);
            field
        };
        let (dx, dy) = (field(), field());
        let mut found = y();
        elastic_with(&mut found, [[1.5, -0.75], [-0.5, 1.0], [0.25, -1.25]], &dx, &dy);
        assert_shows(&found, [0.480888, 0.459564, 0.566927, 0.271166, 0.65619, 0.412454], 1159.1076, 9.5002);
    }
}
