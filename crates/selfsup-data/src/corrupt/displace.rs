//! Beyond the common corruptions: the picture shifted, and a part of it covered.

use super::level::Severity;
use super::plane::Edge;
use crate::Image;
use crate::augment::Hole;
use rand::RngExt;
use selfsup_core::{Result, Rng};

/// Shares of the shorter side by which pictures are shifted.
const SHIFTS: [f64; 5] = [1.0 / 32.0, 2.0 / 32.0, 4.0 / 32.0, 6.0 / 32.0, 8.0 / 32.0];
/// Sides of the square that covers, as shares of the shorter side.
const SQUARES: [f64; 5] = [1.0 / 8.0, 2.0 / 8.0, 3.0 / 8.0, 4.0 / 8.0, 5.0 / 8.0];
/// Grey, in the middle of black and white.
const GREY: u8 = 128;

fn pixels(image: &Image, shares: [f64; 5], severity: Severity) -> usize {
    let side = image.height().min(image.width());
    ((side as f64 * shares[usize::from(severity.number()) - 1]).round() as usize).clamp(1, side)
}

/// Moves the picture in one of the eight directions, by the severity's 1/32, 2/32, 4/32, 6/32 or 8/32 of its shorter side in
/// each axis that moves. What comes in is the picture mirrored at its edge, the outermost pixel repeated.
pub(super) fn shift(image: &Image, severity: Severity, rng: &mut Rng) -> Result<Image> {
    const DIRECTIONS: [[i64; 2]; 8] = [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]];
    let by = pixels(image, SHIFTS, severity) as i64;
    let [dy, dx] = DIRECTIONS[rng.random_range(0..DIRECTIONS.len())];
    shifted(image, [dy * by, dx * by])
}

/// The picture moved down and to the right by so many pixels, mirrored at its edge.
///
/// # Errors
/// None: the result has the picture's shape.
pub(super) fn shifted(image: &Image, [down, right]: [i64; 2]) -> Result<Image> {
    let (height, width, channels) = (image.height(), image.width(), image.channels());
    let mut out = Vec::with_capacity(image.pixels().len());
    for y in 0..height as i64 {
        let row = Edge::Repeated.inside(y - down, height) * width;
        for x in 0..width as i64 {
            let first = (row + Edge::Repeated.inside(x - right, width)) * channels;
            out.extend_from_slice(&image.pixels()[first..first + channels]);
        }
    }
    Image::new(out, [height, width, channels])
}

/// Covers a grey square of the severity's 1/8 to 5/8 of the picture's shorter side, somewhere inside.
pub(super) fn occlude(image: &Image, severity: Severity, rng: &mut Rng) -> Result<Image> {
    let side = pixels(image, SQUARES, severity);
    let [top, left] = [image.height(), image.width()].map(|length| rng.random_range(0..=length - side));
    covered(image, Hole { top, left, height: side, width: side })
}

fn covered(image: &Image, hole: Hole) -> Result<Image> {
    let (width, channels) = (image.width(), image.channels());
    let mut out = image.pixels().to_vec();
    for row in out.chunks_exact_mut(width * channels).skip(hole.top).take(hole.height) {
        row[hole.left * channels..(hole.left + hole.width) * channels].fill(GREY);
    }
    Image::new(out, [image.height(), width, channels])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corrupt::reference::picture;
    use selfsup_core::Key;

    #[test]
    fn a_shift_is_numpys_symmetric_pad_and_keeps_what_stays_inside() {
        // np.pad(np.arange(12).reshape(3, 4), ((2, 0), (0, 1)), mode="symmetric")[:3, 1:]
        let image = Image::new((0..12).collect(), [3, 4, 1]).unwrap();
        let found = shifted(&image, [2, -1]).unwrap();
        assert_eq!(found.pixels(), [5, 6, 7, 7, 1, 2, 3, 3, 1, 2, 3, 3]);
        let colour = picture(9, 8, 3);
        let back = shifted(&shifted(&colour, [2, 1]).unwrap(), [-2, -1]).unwrap();
        let inside = |image: &Image| -> Vec<u8> {
            image.pixels().chunks_exact(24).take(7).flat_map(|row| row[..21].to_vec()).collect()
        };
        assert_eq!(inside(&back), inside(&colour));
    }

    #[test]
    fn the_square_has_its_side_whatever_is_drawn() {
        let image = picture(32, 48, 3);
        for severity in Severity::ALL {
            let found = occlude(&image, severity, &mut Key::new(u64::from(severity.number())).rng()).unwrap();
            let changed = found.pixels().iter().zip(image.pixels()).filter(|(a, b)| a != b).count();
            let side = 4 * usize::from(severity.number());
            assert!(
                changed <= 3 * side * side && changed * 10 > 3 * side * side * 9,
                "{severity:?} {changed}"
            );
        }
    }

    #[test]
    fn every_direction_and_every_place_occur() {
        let image = picture(16, 16, 1);
        let moved: std::collections::BTreeSet<Vec<u8>> = (0..200)
            .map(|i| shift(&image, Severity::ALL[2], &mut Key::new(i).rng()).unwrap().pixels().to_vec())
            .collect();
        assert_eq!(moved.len(), 8);
        let black = Image::new(vec![0; 256], [16, 16, 1]).unwrap();
        let corner = |i| {
            let found = occlude(&black, Severity::ALL[4], &mut Key::new(i).rng()).unwrap();
            (found.pixels()[0] == GREY, found.pixels()[255] == GREY)
        };
        let corners: std::collections::BTreeSet<_> = (0..300).map(corner).collect();
        assert!(corners.contains(&(true, false)) && corners.contains(&(false, true)), "{corners:?}");
    }
}
