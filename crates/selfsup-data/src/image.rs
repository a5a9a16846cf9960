//! One picture in native memory.

use selfsup_core::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A picture of 8-bit values in the order row, column, channel, with 1 channel (grey) or 3 (red, green, blue).
///
/// A clone shares the pixels, and so do all pictures of a set that lies in memory: reading a sample copies nothing.
#[derive(Clone)]
pub struct Image {
    store: Arc<Vec<u8>>,
    offset: usize,
    height: usize,
    width: usize,
    channels: usize,
}

impl Image {
    /// A picture of its own pixels, `[height, width, channels]`.
    ///
    /// # Errors
    /// When a side is zero, the channels are neither 1 nor 3, or the number of pixels differs.
    pub fn new(pixels: Vec<u8>, [height, width, channels]: [usize; 3]) -> Result<Self> {
        let expected = volume([height, width, channels])?;
        if pixels.len() != expected {
            return Err(Error::Shape {
                name: "pixels".to_owned(),
                expected: format!("{expected} bytes, [{height}, {width}, {channels}]"),
                found: format!("{} bytes", pixels.len()),
            });
        }
        Ok(Image { store: Arc::new(pixels), offset: 0, height, width, channels })
    }

    /// The picture that starts at byte `offset` of a set in memory; the caller has checked that it lies inside.
    pub(crate) fn within(store: &Arc<Vec<u8>>, offset: usize, [height, width, channels]: [usize; 3]) -> Self {
        debug_assert!(offset + height * width * channels <= store.len());
        Image { store: Arc::clone(store), offset, height, width, channels }
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// 1 for grey, 3 for red, green, blue.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The values, row by row, the channels of a pixel side by side.
    pub fn pixels(&self) -> &[u8] {
        &self.store[self.offset..self.offset + self.height * self.width * self.channels]
    }

    /// The picture in grey. Luma is that of ITU-R 601 in PIL's integer arithmetic, so that a colour file read as grey
    /// holds the values that `convert("L")` gives.
    #[must_use]
    pub fn to_grey(&self) -> Image {
        if self.channels == 1 {
            return self.clone();
        }
        let luma = |p: &[u8]| {
            let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        self.with_pixels(self.pixels().chunks_exact(3).map(luma).collect(), 1)
    }

    /// The picture in colour; a grey one gets three equal channels.
    #[must_use]
    pub fn to_colour(&self) -> Image {
        if self.channels == 3 {
            return self.clone();
        }
        self.with_pixels(self.pixels().iter().flat_map(|&v| [v; 3]).collect(), 3)
    }

    fn with_pixels(&self, pixels: Vec<u8>, channels: usize) -> Image {
        Image { store: Arc::new(pixels), offset: 0, height: self.height, width: self.width, channels }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} x {} x {})", self.height, self.width, self.channels)
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        let shape = |i: &Image| [i.height, i.width, i.channels];
        shape(self) == shape(other) && self.pixels() == other.pixels()
    }
}

/// The bytes of a picture of this shape.
pub(crate) fn volume(shape: [usize; 3]) -> Result<usize> {
    let [height, width, channels] = shape;
    let bytes = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
    match bytes {
        Some(bytes) if bytes > 0 && (channels == 1 || channels == 3) => Ok(bytes),
        _ => Err(Error::Shape {
            name: "image".to_owned(),
            expected: "[height, width, 1 or 3] without a zero".to_owned(),
            found: format!("{shape:?}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_the_pixels() {
        let image = Image::new(vec![7; 12], [2, 2, 3]).unwrap();
        assert_eq!(image.pixels().as_ptr(), image.clone().pixels().as_ptr());
    }

    #[test]
    fn grey_and_colour_convert_as_in_pil() {
        // >>> im = Image.fromarray(np.array([[[255,0,0],[0,255,0],[0,0,255],[12,200,77]]], np.uint8))
        // >>> np.array(im.convert("L"))
        let image = Image::new(vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 77], [1, 4, 3]).unwrap();
        assert_eq!(image.to_grey().pixels(), [76, 150, 29, 130]);
        assert_eq!(image.to_grey().to_colour().pixels()[..6], [76, 76, 76, 150, 150, 150]);
    }

    #[test]
    fn refuses_pixels_that_do_not_fit() {
        let error = Image::new(vec![0; 5], [2, 2, 1]).unwrap_err().to_string();
        assert_eq!(error, "pixels: expected 4 bytes, [2, 2, 1], found 5 bytes");
        assert!(Image::new(vec![0; 8], [2, 2, 2]).is_err());
        assert!(Image::new(vec![], [0, 2, 1]).is_err());
        assert!(Image::new(vec![], [usize::MAX, 2, 1]).is_err());
    }
}
