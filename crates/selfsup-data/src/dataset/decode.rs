//! Image files to [`Image`]s.

use crate::Image;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use selfsup_core::{Error, Result};
use std::io::{Cursor, Read as _};
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
    decode_bytes(path, &std::fs::read(path).map_err(Error::io(path))?, limits)
}

/// The same for a file's bytes; `path` is what a message calls it.
pub(crate) fn decode_bytes(path: &Path, bytes: &[u8], limits: DecodeLimits) -> Result<Image> {
    let bad = |e: image::ImageError| Error::data(path, format!("cannot be decoded: {e}"));
    if bytes.is_empty() {
        return Err(Error::data(path, "the file is empty"));
    }
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_is_whole(bytes) {
        return Err(Error::data(path, "cannot be decoded: the JPEG is truncated, its end marker is missing"));
    }
    let mut decoder = reader(path, bytes, limits)?.into_decoder().map_err(bad)?;
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
    // Enough for the header; a longer one counts as colour.
    let mut start = Vec::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(1 << 16).read_to_end(&mut start));
    opened.is_ok() && is_grey_bytes(&start, limits)
}

/// The same for a file's bytes, or its first ones.
pub(crate) fn is_grey_bytes(bytes: &[u8], limits: DecodeLimits) -> bool {
    let Ok(mut reader) = ImageReader::new(Cursor::new(bytes)).with_guessed_format() else { return false };
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

/// Whether a scan is there and the end marker after it. The decoder itself fills what is missing with grey.
///
/// Markers are walked from the start (ITU T.81, annex B). Segments are passed by their length, so that a thumbnail
/// inside one does not count, and what stands behind the end, as in motion photos, is not looked at. In a scan the byte
/// 0xff is data when 0 follows; restart markers have no segment.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut scanned = false;
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        let Some((&marker, behind)) = rest[at + 1..].split_first() else { return false };
        rest = match marker {
            END if scanned => return true,
            // A byte that fills may itself begin a marker.
            0xff => &rest[at + 1..],
            0x00 | 0x01 | RESTART_0..=END => behind,
            _ => {
                scanned |= marker == SCAN;
                let length = behind.first_chunk().map_or(0, |&two| usize::from(u16::from_be_bytes(two)));
                behind.get(length..).unwrap_or_default()
            }
        };
    }
    false
}

/// Restart markers, the start of an image and its end have consecutive numbers.
const RESTART_0: u8 = 0xd0;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageFormat};
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn save(
        folder: &Path,
        name: &str,
        pixels: &[u8],
        [height, width]: [u32; 2],
        color: ExtendedColorType,
    ) -> PathBuf {
        let path = folder.join(name);
        let format = ImageFormat::from_path(&path).unwrap();
        image::save_buffer_with_format(&path, pixels, width, height, color, format).unwrap();
        path
    }

    fn read(path: &Path) -> Image {
        decode(path, DecodeLimits::default()).unwrap()
    }

    fn message(path: &Path) -> String {
        decode(path, DecodeLimits::default()).unwrap_err().to_string()
    }

    #[test]
    fn lossless_formats_give_their_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..2 * 3 * 3).map(|i| i * 13).collect();
        for name in ["a.png", "a.bmp", "a.webp"] {
            let image = read(&save(folder.path(), name, &pixels, [2, 3], ExtendedColorType::Rgb8));
            assert_eq!((image.height(), image.width(), image.pixels()), (2, 3, &pixels[..]), "{name}");
        }
        let grey = read(&save(folder.path(), "g.png", &pixels[..6], [2, 3], ExtendedColorType::L8));
        assert_eq!((grey.channels(), grey.pixels()), (1, &pixels[..6]));
    }

    #[test]
    fn alpha_is_dropped_and_16_bits_become_8() {
        let folder = tempfile::tempdir().unwrap();
        let path =
            save(folder.path(), "a.png", &[10, 20, 30, 0, 40, 50, 60, 255], [1, 2], ExtendedColorType::Rgba8);
        assert_eq!(read(&path).pixels(), [10, 20, 30, 40, 50, 60]);
        let path = save(folder.path(), "la.png", &[10, 0, 200, 9], [1, 2], ExtendedColorType::La8);
        assert_eq!(read(&path), Image::new(vec![10, 200], [1, 2, 1]).unwrap());
        let deep: Vec<u8> = [0_u16, 257 * 100, 65535].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let path = save(folder.path(), "deep.png", &deep, [1, 3], ExtendedColorType::L16);
        assert_eq!(read(&path).pixels(), [0, 100, 255]);
    }

    #[test]
    fn cmyk_becomes_colour() {
        // >>> Image.new("CMYK", (8, 8), (51, 102, 153, 10)).save("cmyk.jpg", quality=95, optimize=True)
        // >>> Image.open("cmyk.jpg").convert("RGB").getpixel((3, 3))
        let image = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dataset/fixtures/cmyk.jpg"));
        assert_eq!((image.height(), image.width(), image.channels()), (8, 8, 3));
        for (found, expected) in
            image.pixels().chunks_exact(3).flat_map(<[u8]>::iter).zip([196, 147, 98].iter().cycle())
        {
            assert!(found.abs_diff(*expected) <= 2, "{:?}", &image.pixels()[..3]);
        }
    }

    #[test]
    fn the_picture_is_turned_as_exif_says() {
        let folder = tempfile::tempdir().unwrap();
        // Left half black, right half white; orientation 6 is "turn by 90 degrees clockwise to see it".
        let pixels: Vec<u8> = (0..16 * 32).map(|i| if i % 32 < 16 { 0 } else { 255 }).collect();
        let path = save(folder.path(), "a.jpg", &pixels, [16, 32], ExtendedColorType::L8);
        let plain = std::fs::read(&path).unwrap();
        assert_eq!((read(&path).height(), read(&path).width()), (16, 32));
        // One TIFF entry: tag 0x112, type 3 (short), 1 value, 6.
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        let mut turned = vec![0xff, 0xd8, 0xff, 0xe1, 0, exif.len() as u8 + 2];
        turned.append(&mut exif);
        turned.extend(&plain[2..]);
        std::fs::write(&path, turned).unwrap();
        let image = read(&path);
        assert_eq!((image.height(), image.width()), (32, 16));
        assert!(image.pixels()[8] < 20 && image.pixels()[31 * 16 + 8] > 235);
    }

    #[test]
    fn the_contents_tell_the_format_and_not_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let png = save(folder.path(), "a.png", &[1, 2, 3], [1, 1], ExtendedColorType::Rgb8);
        let path = folder.path().join("a.jpg");
        std::fs::rename(png, &path).unwrap();
        assert_eq!(read(&path).pixels(), [1, 2, 3]);
    }

    #[test]
    fn truncated_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..64 * 64 * 3_u32).map(|i| (i * i % 251) as u8).collect();
        for name in ["a.png", "a.jpg", "a.bmp", "a.webp"] {
            let path = save(folder.path(), name, &pixels, [64, 64], ExtendedColorType::Rgb8);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(read(&path).height(), 64);
            for length in [1, bytes.len() / 10, bytes.len() / 2, bytes.len() - 20] {
                std::fs::write(&path, &bytes[..length]).unwrap();
                let error = message(&path);
                assert!(error.contains(name), "{name} of {length} bytes: {error}");
            }
            std::fs::write(&path, []).unwrap();
            assert!(message(&path).ends_with(&format!("{name}: the file is empty")));
        }
        let path = folder.path().join("note.png");
        std::fs::write(&path, "no image").unwrap();
        assert!(message(&path).ends_with("note.png: neither PNG, JPEG, BMP nor WebP"));
    }

    #[test]
    fn what_follows_the_end_of_a_jpeg_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..32 * 32 * 3_u32).map(|i| (i * i % 251) as u8).collect();
        let path = save(folder.path(), "a.jpg", &pixels, [32, 32], ExtendedColorType::Rgb8);
        let (alone, bytes) = (read(&path), std::fs::read(&path).unwrap());
        // A film behind the picture: its bytes may look like a scan that never ends.
        for film in [&b"ftypmp42 \xff\xda\x00\x08 \xff\xd8 \xff"[..], &bytes[..bytes.len() / 2]] {
            std::fs::write(&path, [&bytes, film].concat()).unwrap();
            assert_eq!(read(&path), alone);
            std::fs::write(&path, [&bytes[..bytes.len() - 2], film].concat()).unwrap();
            assert!(message(&path).contains("truncated"), "{}", message(&path));
        }
    }

    /// A segment with its length.
    fn segment(marker: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = (payload.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker, high, low], payload].concat()
    }

    /// Bytes that are markers more often than chance has it.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0xff_u8), 0xd0..=0xdd_u8, Just(0_u8), any::<u8>()];
        proptest::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn a_jpeg_is_whole_from_its_end_marker_on(
            segments in proptest::collection::vec(bytes(), 0..4),
            scans in proptest::collection::vec((bytes(), bytes()), 1..4),
            behind in bytes(),
        ) {
            let mut jpeg = vec![0xff, 0xd8];
            for payload in &segments {
                jpeg.extend(segment(0xe1, payload));
            }
            for (i, (head, data)) in scans.iter().enumerate() {
                jpeg.extend(segment(0xda, head));
                for &byte in data {
                    jpeg.extend(if byte == 0xff { vec![0xff, 0] } else { vec![byte] });
                }
                jpeg.extend([0xff, 0xd0 + i as u8]);
            }
            jpeg.extend([0xff, 0xff, 0xd9]);
            for length in 0..jpeg.len() {
                prop_assert!(!jpeg_is_whole(&jpeg[..length]), "{length} of {}", jpeg.len());
            }
            prop_assert!(jpeg_is_whole(&[jpeg, behind].concat()));
        }

        #[test]
        fn no_bytes_make_the_walk_panic(bytes in bytes()) {
            jpeg_is_whole(&bytes);
        }
    }

    #[test]
    fn what_asks_for_too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(folder.path(), "a.png", &[0; 300], [10, 10], ExtendedColorType::Rgb8);
        let limited = |side, bytes| decode(&path, DecodeLimits { side, bytes });
        assert!(limited(10, 10_000).is_ok());
        assert!(limited(9, 10_000).unwrap_err().to_string().contains("a.png: cannot be decoded"));
        assert!(limited(10, 200).unwrap_err().to_string().contains("a.png: cannot be decoded"));
        // A header of 2^31 - 1 pixels a side, with its checksum, and nothing behind it.
        let mut bomb = std::fs::read(&path).unwrap();
        bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let mut crc = flate2::Crc::new();
        crc.update(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        std::fs::write(&path, bomb).unwrap();
        assert!(message(&path).contains("a.png: cannot be decoded"), "{}", message(&path));
    }
}
