//! Pictures as bytes: PNG files, and PNG inside the page.

use super::ViewRow;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

/// The longer side of a thumbnail in the page, in pixels, at most.
const THUMBNAIL: u32 = 160;

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

/// The image, made smaller if it is larger than a thumbnail.
pub fn thumbnail(image: &RgbImage) -> RgbImage {
    if image.width().max(image.height()) <= THUMBNAIL {
        return image.clone();
    }
    let scale = f64::from(THUMBNAIL) / f64::from(image.width().max(image.height()));
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    imageops::resize(image, side(image.width()), side(image.height()), imageops::FilterType::Triangle)
}

/// Side of a cell of a grid, in pixels.
const CELL: u32 = 128;

/// Room between the cells of a grid.
const GAP: u32 = 8;

/// A row for each image: the image as stored, then its views, on white.
pub fn grid(rows: &[ViewRow]) -> RgbImage {
    let columns = 1 + rows.iter().map(|row| row.views.len()).max().unwrap_or(0) as u32;
    let side = |cells: u32| cells * CELL + (cells + 1) * GAP;
    let mut grid = RgbImage::from_pixel(side(columns), side(rows.len() as u32), Rgb([255; 3]));
    for (row, images) in (0..).zip(rows) {
        let pictures = std::iter::once(&images.image).chain(images.views.iter().map(|view| &view.image));
        for (column, picture) in (0..).zip(pictures) {
            let picture = within_cell(picture);
            let place = |index: u32, length: u32| i64::from(side(index) + (CELL - length) / 2);
            imageops::replace(
                &mut grid,
                &picture,
                place(column, picture.width()),
                place(row, picture.height()),
            );
        }
    }
    grid
}

/// The image as large as a cell has room for; pixels stay sharp when they grow.
fn within_cell(image: &RgbImage) -> RgbImage {
    let longer = image.width().max(image.height()).max(1);
    let filter = if longer < CELL { imageops::FilterType::Nearest } else { imageops::FilterType::Triangle };
    let side = |length: u32| (length * CELL / longer).max(1);
    imageops::resize(image, side(image.width()), side(image.height()), filter)
}

#[cfg(test)]
mod tests {
    use super::super::View;
    use super::*;

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
    fn only_large_images_shrink_and_keep_their_shape() {
        assert_eq!(thumbnail(&RgbImage::new(28, 28)).dimensions(), (28, 28));
        assert_eq!(thumbnail(&RgbImage::new(640, 320)).dimensions(), (160, 80));
        assert_eq!(thumbnail(&RgbImage::new(1000, 1)).dimensions(), (160, 1));
    }

    #[test]
    fn a_grid_has_a_row_for_each_image_and_a_cell_for_each_view() {
        let image = RgbImage::from_pixel(4, 2, Rgb([9, 8, 7]));
        let view = View { image: image.clone(), caption: String::new() };
        let rows = [ViewRow { image: image.clone(), views: vec![view; 2] }, ViewRow { image, views: vec![] }];
        let grid = grid(&rows);
        assert_eq!(grid.dimensions(), (3 * CELL + 4 * GAP, 2 * CELL + 3 * GAP));
        assert_eq!(grid.get_pixel(GAP + CELL / 2, GAP + CELL / 2), &Rgb([9, 8, 7]));
        assert_eq!(grid.get_pixel(GAP + CELL / 2, GAP), &Rgb([255; 3]));
        assert_eq!(grid.get_pixel(2 * CELL, GAP + CELL + GAP + CELL / 2), &Rgb([255; 3]));
    }
}
