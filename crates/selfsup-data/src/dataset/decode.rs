//! Image files to [`Image`]s.

use crate::Image;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use selfsup_core::{Error, Result};
use std::io::Cursor;
use std::path::Path;

/// What an image file may ask for at most; more is refused before the memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The longest side, in pixels.
    pub side: u32,
    /// The memory that decoding may take, in bytes.
    pub bytes: u64,
}

impl Default for DecodeLimits {
    /// 32,768 pixels a side and 512 MiB.
    fn default() -> Self {
        DecodeLimits { side: 1 << 15, bytes: 512 << 20 }
    }
}

impl DecodeLimits {
    fn limits(self) -> Limits {
        let mut limits = Limits::default();
        limits.max_image_width = Some(self.side);
        limits.max_image_height = Some(self.side);
        limits.max_alloc = Some(self.bytes);
        limits
    }
}

/// Reads a PNG, JPEG, BMP or WebP file, whichever its contents are.
///
/// The picture is turned as its EXIF orientation says. Values of 16 bits are brought to 8, CMYK to red, green, blue;
/// of an animation the first picture is taken. An alpha channel is dropped, as PIL's `convert("RGB")` does: what a
/// transparent pixel hides is seen. Grey files give one channel, all others three.
///
/// # Errors
/// [`Error::Data`] with the path when the file is truncated, damaged, of another format or beyond the limits.
pub fn decode(path: &Path, limits: DecodeLimits) -> Result<Image> {
    let bad = |e: image::ImageError| Error::data(path, format!("cannot be decoded: {e}"));
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    if bytes.is_empty() {
        return Err(Error::data(path, "the file is empty"));
    }
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_is_whole(&bytes) {
        return Err(Error::data(path, "cannot be decoded: the JPEG is truncated, its end marker is missing"));
    }
    let mut decoder = reader(path, &bytes, limits)?.into_decoder().map_err(bad)?;
    // The reader reserves the output itself only in its own `decode`, which knows no orientation.
    let mut rest = limits.limits();
    rest.reserve(decoder.total_bytes()).map_err(bad)?;
    decoder.set_limits(rest).map_err(bad)?;
    let orientation = decoder.orientation().map_err(bad)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(bad)?;
    picture.apply_orientation(orientation);
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    if picture.color().has_color() {
        Image::new(picture.into_rgb8().into_raw(), [height, width, 3])
    } else {
        Image::new(picture.into_luma8().into_raw(), [height, width, 1])
    }
    .map_err(|e| Error::data(path, e.to_string()))
}

/// Whether a file's header says that it is grey. A file that cannot be read is not, here: reading it as a sample
/// tells what is wrong.
pub(crate) fn is_grey(path: &Path, limits: DecodeLimits) -> bool {
    let opened = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let Ok(mut reader) = opened else { return false };
    reader.limits(limits.limits());
    reader.into_decoder().is_ok_and(|decoder| !decoder.color_type().has_color())
}

fn reader<'a>(path: &Path, bytes: &'a [u8], limits: DecodeLimits) -> Result<ImageReader<Cursor<&'a [u8]>>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io(path))?;
    if reader.format().is_none() {
        return Err(Error::data(path, "neither PNG, JPEG, BMP nor WebP"));
    }
    reader.limits(limits.limits());
    Ok(reader)
}

/// Whether an end marker follows the last scan. The decoder itself fills what is missing with grey.
///
/// Inside a scan the byte 0xff is always followed by 0 or a restart marker, so neither marker occurs there by chance;
/// an embedded thumbnail has its own scan and end, both before the picture's scan.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    match (last(0xda), last(0xd9)) {
        (Some(scan), Some(end)) => scan < end,
        (None, end) => end.is_some(),
        (_, None) => false,
    }
}
