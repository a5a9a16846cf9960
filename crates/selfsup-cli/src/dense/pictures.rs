//! Images with what is known or said of their places.

use crate::insight::picture;
use anyhow::Result;
use image::{Rgb, RgbImage};
use selfsup::data::Image;
use selfsup::data::augment::{CropBox, Interpolation, resized_crop};
use selfsup::eval::Rectangle;

/// How much of a class's colour lies over the image.
const OVER: f64 = 0.65;
/// The golden angle: hues of neighbouring classes lie far apart.
const TURN: f64 = 137.507_764;

/// The colour of a class.
pub fn colour(class: usize) -> Rgb<u8> {
    let hue = (class as f64 * TURN + 210.0).rem_euclid(360.0);
    // Classes that share a hue differ in brightness.
    let value = [0.95, 0.7, 0.85][class % 3];
    let part = |shift: f64| {
        let k = (shift + hue / 60.0).rem_euclid(6.0);
        value - value * 0.8 * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    Rgb([5.0, 3.0, 1.0].map(|shift| (part(shift) * 255.0).round() as u8))
}

/// A square of a class's colour.
pub fn swatch(class: usize) -> RgbImage {
    RgbImage::from_pixel(24, 24, colour(class))
}

/// The image at a size of height and width.
///
/// # Errors
/// When a side is 0.
pub fn resized(image: &Image, size: [usize; 2]) -> Result<RgbImage> {
    if [image.height(), image.width()] == size {
        return picture(image);
    }
    picture(&resized_crop(image, CropBox::whole(image), size, Interpolation::Bilinear)?.to_image()?)
}

/// The image with the colours of its pixels' classes, row by row; black where there is none.
///
/// # Errors
/// When there are more or fewer classes than pixels.
pub fn painted(image: &RgbImage, classes: &[Option<usize>]) -> Result<RgbImage> {
    let pixels = (image.width() * image.height()) as usize;
    anyhow::ensure!(classes.len() == pixels, "{} classes for {pixels} pixels of a picture", classes.len());
    let mut out = image.clone();
    for (pixel, class) in out.pixels_mut().zip(classes) {
        let over = class.map_or(Rgb([0; 3]), colour);
        for (value, over) in pixel.0.iter_mut().zip(over.0) {
            *value = (f64::from(*value) * (1.0 - OVER) + f64::from(over) * OVER).round() as u8;
        }
    }
    Ok(out)
}

/// The image with the outlines of boxes in the colours of their classes, thick enough to be seen when it is small.
pub fn boxed(image: &RgbImage, boxes: &[(usize, Rectangle)]) -> RgbImage {
    let mut out = image.clone();
    let thick = (image.width().max(image.height()) / 120).max(1);
    let side = |edge: f64, most: u32| (edge.round().max(0.0) as u32).min(most);
    for (class, b) in boxes {
        let (x0, x1) = (side(b.x0, image.width()), side(b.x1, image.width()));
        let (y0, y1) = (side(b.y0, image.height()), side(b.y1, image.height()));
        for y in y0..y1 {
            for x in x0..x1 {
                let near = |at: u32, from: u32, to: u32| at - from < thick || to - at <= thick;
                if near(x, x0, x1) || near(y, y0, y1) {
                    out.put_pixel(x, y, colour(*class));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_colours_of_their_own() {
        let all: std::collections::BTreeSet<[u8; 3]> = (0..40).map(|class| colour(class).0).collect();
        assert_eq!(all.len(), 40);
        // colorsys.hsv_to_rgb(210 / 360, 0.8, 0.95)
        assert_eq!(colour(0).0, [48, 145, 242]);
    }

    #[test]
    fn a_pixel_without_a_class_is_dark_and_a_box_is_an_outline() {
        let white = RgbImage::from_pixel(3, 2, Rgb([255; 3]));
        let painted = painted(&white, &[None, Some(0), None, None, None, Some(1)]).unwrap();
        assert_eq!(painted.get_pixel(0, 0).0, [89; 3]);
        assert_ne!(painted.get_pixel(1, 0), painted.get_pixel(2, 1));
        assert!(super::painted(&white, &[None]).is_err());
        let white = RgbImage::from_pixel(9, 9, Rgb([255; 3]));
        let found = boxed(&white, &[(2, Rectangle { x0: 2.0, y0: 1.0, x1: 8.0, y1: 20.0 })]);
        let coloured = |x, y| found.get_pixel(x, y).0 == colour(2).0;
        assert!(
            coloured(2, 1)
                && coloured(7, 5)
                && coloured(4, 8)
                && !coloured(4, 4)
                && !coloured(1, 1)
                && !coloured(8, 5)
        );
    }
}
