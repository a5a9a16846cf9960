//! Pictures as bytes: PNG files, and PNG inside the page.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

/// A PNG file with an image's pixels; the same pixels always give the same bytes.
///
/// # Errors
/// An image without pixels.
pub fn png(image: &RgbImage) -> Result<Vec<u8>> {
    ensure!(image.width() > 0 && image.height() > 0, "a picture of the report has no pixels");
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .context("cannot encode a picture of the report")?;
    Ok(bytes)
}

/// A PNG file as an address that a page can show without asking for another file.
pub fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

/// The image, made smaller where its longer side has more than `most` pixels.
pub fn thumbnail(image: &RgbImage, most: u32) -> RgbImage {
    if image.width().max(image.height()) <= most {
        return image.clone();
    }
    let scale = f64::from(most) / f64::from(image.width().max(image.height()));
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    imageops::resize(image, side(image.width()), side(image.height()), imageops::FilterType::Triangle)
}

/// How a picture is enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharpness {
    /// With sharp pixels: it has few.
    Crisp,
    /// Smoothly.
    Smooth,
}

/// Images whose longer side has at most so many pixels are enlarged with sharp pixels.
const FEW_PIXELS: u32 = 64;

/// How good the JPEG of a thumbnail is, in per cent.
const QUALITY: u8 = 82;

/// A thumbnail as an address of few bytes, where a page shows hundreds: PNG of few pixels, otherwise JPEG.
///
/// # Errors
/// An image without pixels.
pub fn small(image: &RgbImage, most: u32) -> Result<(String, Sharpness)> {
    let image = thumbnail(image, most);
    if image.width().max(image.height()) <= FEW_PIXELS {
        return Ok((data_uri(&png(&image)?), Sharpness::Crisp));
    }
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .context("cannot encode a thumbnail")?;
    Ok((format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes)), Sharpness::Smooth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn a_png_keeps_the_pixels() {
        let image = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 7]));
        assert_eq!(image::load_from_memory(&png(&image).unwrap()).unwrap().into_rgb8(), image);
    }

    #[test]
    fn a_picture_without_pixels_is_an_error() {
        assert!(png(&RgbImage::new(0, 4)).is_err());
    }

    #[test]
    fn thumbnails_of_many_pixels_are_small_files() {
        let noise = |x: u32, y: u32| Rgb([(x * 37 + y * 11) as u8, (x * y) as u8, (x * 5 + y * 3) as u8]);
        let (address, sharpness) = small(&RgbImage::from_fn(400, 300, noise), 128).unwrap();
        assert!(address.starts_with("data:image/jpeg;base64,") && sharpness == Sharpness::Smooth);
        let bytes = BASE64_STANDARD.decode(address.split_once(',').unwrap().1).unwrap();
        let read = image::load_from_memory(&bytes).unwrap();
        assert_eq!((read.width(), read.height()), (128, 96));
        let (address, sharpness) = small(&RgbImage::new(28, 28), 128).unwrap();
        assert!(address.starts_with("data:image/png;base64,") && sharpness == Sharpness::Crisp);
    }

    #[test]
    fn only_large_images_shrink_and_keep_their_shape() {
        assert_eq!(thumbnail(&RgbImage::new(28, 28), 160).dimensions(), (28, 28));
        assert_eq!(thumbnail(&RgbImage::new(640, 320), 160).dimensions(), (160, 80));
        assert_eq!(thumbnail(&RgbImage::new(1000, 1), 160).dimensions(), (160, 1));
    }
}
