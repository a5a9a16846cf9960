//! IDX, the format of MNIST and its relatives: two zero bytes, the type of the elements, the number of dimensions,
//! each dimension as a big-endian 32-bit number, then the elements (LeCun, "The MNIST database", at the page's end).

use super::ArrayImages;
use flate2::read::MultiGzDecoder;
use selfsup_core::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Deflate packs 1,032 bytes into one at the very best: a header that asks for more than that lies.
const LARGEST_RATIO: u64 = 1032;

impl ArrayImages {
    /// Reads grey images `[N, H, W]`, and their labels `[N]`, from IDX files of unsigned bytes. Files may be
    /// compressed with gzip; their contents tell, not their names.
    ///
    /// # Errors
    /// [`Error::Data`] when a header is wrong, a file is shorter or longer than its header says, or there is not one
    /// label an image. The header is checked before memory is taken.
    pub fn read_idx(images: &Path, labels: Option<&Path>) -> Result<Self> {
        let (shape, pixels) = read_idx::<3>(images, "images, [N, H, W]")?;
        let set = ArrayImages::new(pixels, [shape[1], shape[2], 1])
            .map_err(|e| Error::data(images, e.to_string()))?;
        match labels {
            None => Ok(set),
            Some(path) => {
                let (_, values) = read_idx::<1>(path, "labels, [N]")?;
                set.with_labels_of(path, values.into_iter().map(i64::from).collect(), Vec::new())
            }
        }
    }
}

/// Reads an IDX file of bytes with this number of dimensions.
fn read_idx<const RANK: usize>(path: &Path, what: &str) -> Result<([usize; RANK], Vec<u8>)> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut reader = BufReader::new(file);
    let mut magic = [0; 2];
    let compressed = reader.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let start = std::io::Cursor::new(magic).chain(reader);
    if compressed {
        parse_idx(path, what, MultiGzDecoder::new(start), size.saturating_mul(LARGEST_RATIO))
    } else {
        parse_idx(path, what, start, size)
    }
}

/// Reads an IDX stream that holds at most `limit` bytes.
fn parse_idx<const RANK: usize>(
    path: &Path,
    what: &str,
    mut reader: impl Read,
    limit: u64,
) -> Result<([usize; RANK], Vec<u8>)> {
    let bad = |problem: String| Error::data(path, problem);
    let short = |_| Error::data(path, format!("no IDX file of {what}: it ends inside its header"));
    let mut head = [0; 4];
    reader.read_exact(&mut head).map_err(short)?;
    let [zero0, zero1, kind, rank] = head;
    if [zero0, zero1] != [0, 0] {
        return Err(bad(format!(
            "no IDX file of {what}: it must begin with two zero bytes, not {zero0} {zero1}"
        )));
    }
    if kind != 8 || usize::from(rank) != RANK {
        return Err(bad(format!(
            "an IDX file of {what} has elements of type 8 (unsigned byte) and {RANK} dimensions, \
             this one has type {kind} and {rank} dimensions"
        )));
    }
    let mut shape = [0; RANK];
    for side in &mut shape {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(short)?;
        *side = u32::from_be_bytes(bytes) as usize;
    }
    let expected = shape.iter().try_fold(1_u64, |n, &side| n.checked_mul(side as u64));
    let header = 4 + 4 * RANK as u64;
    let expected = match expected {
        Some(n) if n <= limit.saturating_sub(header) => n,
        _ => {
            return Err(bad(format!(
                "truncated: its header promises {shape:?} elements, more than the file can hold"
            )));
        }
    };
    let mut values = Vec::new();
    reader
        .by_ref()
        .take(expected + 1)
        .read_to_end(&mut values)
        .map_err(|e| bad(format!("damaged after {} of {expected} elements: {e}", values.len())))?;
    if values.len() as u64 != expected {
        let found =
            if values.len() as u64 > expected { "there are more".into() } else { values.len().to_string() };
        return Err(bad(format!(
            "truncated or damaged: its header promises {expected} elements, found {found}"
        )));
    }
    Ok((shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::ImageSet;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use selfsup_core::Dataset;
    use std::io::Write;
    use std::path::PathBuf;

    fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|s| s.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn reads_plain_and_compressed_files_alike() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = idx(&[2, 2, 3], &(0..12).collect::<Vec<_>>());
        let plain = write(folder.path(), "images", &bytes);
        let packed = write(folder.path(), "images.gz", &gzip(&bytes));
        let labels = write(folder.path(), "labels", &idx(&[2], &[3, 1]));
        for images in [plain, packed] {
            let set = ArrayImages::read_idx(&images, Some(&labels)).unwrap();
            assert_eq!((set.len(), set.shape()), (2, [2, 3, 1]));
            assert_eq!(set.get(1).unwrap().pixels(), [6, 7, 8, 9, 10, 11]);
            assert_eq!(set.labels().unwrap(), [3, 1]);
            assert_eq!(set.classes(), ["0", "1", "2", "3"]);
        }
    }

    #[test]
    fn refuses_a_truncated_file_and_a_lying_header() {
        let folder = tempfile::tempdir().unwrap();
        let whole = idx(&[2, 2, 3], &[0; 12]);
        let path = write(folder.path(), "short-idx3", &whole[..20]);
        let error = ArrayImages::read_idx(&path, None).unwrap_err().to_string();
        assert!(error.contains("short-idx3: truncated: its header promises [2, 2, 3]"), "{error}");
        let path = write(folder.path(), "short.gz", &gzip(&whole[..20]));
        let error = ArrayImages::read_idx(&path, None).unwrap_err().to_string();
        assert!(error.ends_with("its header promises 12 elements, found 4"), "{error}");
        let path = write(folder.path(), "cut.gz", &gzip(&whole)[..15]);
        let error = ArrayImages::read_idx(&path, None).unwrap_err().to_string();
        assert!(error.contains("cut.gz: "), "{error}");
        let path = write(folder.path(), "huge", &idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 9]));
        let error = ArrayImages::read_idx(&path, None).unwrap_err().to_string();
        assert!(error.contains("more than the file can hold"), "{error}");
        let path = write(folder.path(), "long", &idx(&[1, 1, 1], &[0; 2]));
        let error = ArrayImages::read_idx(&path, None).unwrap_err().to_string();
        assert!(error.ends_with("found there are more"), "{error}");
    }

    #[test]
    fn refuses_labels_of_another_length() {
        let folder = tempfile::tempdir().unwrap();
        let images = write(folder.path(), "images", &idx(&[2, 1, 1], &[0; 2]));
        let labels = write(folder.path(), "labels", &idx(&[3], &[0; 3]));
        let error = ArrayImages::read_idx(&images, Some(&labels)).unwrap_err().to_string();
        assert!(
            error.ends_with("labels: 3 labels for 2 images: there must be one label an image"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_take_memory(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_idx::<3>(Path::new("x"), "images", &bytes[..], bytes.len() as u64);
        }

        #[test]
        fn every_header_is_believed_only_when_the_data_is_there(
            kind in prop_oneof![Just(8_u8), any::<u8>()],
            shape in prop::array::uniform3(prop_oneof![0_u32..4, any::<u32>()]),
            data in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            let mut bytes = idx(&shape, &data);
            bytes[2] = kind;
            let volume = shape.iter().map(|&s| u128::from(s)).product::<u128>();
            let read = parse_idx::<3>(Path::new("x"), "images", &bytes[..], bytes.len() as u64);
            prop_assert_eq!(read.is_ok(), kind == 8 && volume == data.len() as u128);
        }
    }
}
