//! Images in a NumPy array on disk.

use super::npy_array::{NpyArray, NpyValues, check_length, read_header, type_of};
use super::{ImageSet, check_labels, numbered_classes};
use crate::Image;
use crate::image::volume;
use npyz::{Order, TypeChar};
use selfsup_core::{Dataset, Error, Result};
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

/// An array of bytes, or of 32-bit floats from 0 to 1, of shape `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]` in C
/// order, C being 1 or 3.
///
/// The header is held against the file's length when the set is opened; pixels are read when a sample is asked for,
/// so that the array may be larger than memory. Floats are rounded to bytes.
#[derive(Debug)]
pub struct NpyImages {
    path: PathBuf,
    file: File,
    start: u64,
    shape: [usize; 3],
    len: usize,
    planar: bool,
    floats: bool,
    labels: Option<Vec<i64>>,
    classes: Vec<String>,
}

impl NpyImages {
    /// Opens an array of images and, where given, the array `[N]` of their labels, whole numbers of any type.
    ///
    /// # Errors
    /// [`Error::Data`] when a header is damaged or of another type or shape, a file is truncated, or there is not one
    /// label an image.
    pub fn open(path: &Path, labels: Option<&Path>) -> Result<Self> {
        let (mut file, header) = read_header(path)?;
        let found = format!("{} {:?}", header.dtype().descr(), header.shape());
        let wrong = || {
            let problem = format!(
                "an array of images is of bytes (|u1) or floats (<f4) in C order, [N, H, W], [N, H, W, C] or \
                 [N, C, H, W] with C = 1 or 3; this one is {found}"
            );
            Error::data(path, problem)
        };
        let floats = match type_of(&header) {
            Some((TypeChar::Uint, 1)) => false,
            Some((TypeChar::Float, 4)) => true,
            _ => return Err(wrong()),
        };
        let sides: Vec<usize> = header.shape().iter().map(|&s| s as usize).collect();
        let (len, shape, planar) = match sides[..] {
            [n, h, w] => (n, [h, w, 1], false),
            [n, h, w, c] if c == 1 || c == 3 => (n, [h, w, c], false),
            [n, c, h, w] if c == 1 || c == 3 => (n, [h, w, c], true),
            _ => return Err(wrong()),
        };
        let pixels = volume(shape).map_err(|_| wrong())?;
        if header.order() != Order::C {
            return Err(wrong());
        }
        let start = file.stream_position().map_err(Error::io(path))?;
        let bytes = if floats { 4 } else { 1 };
        check_length(path, &file, start, &[len, pixels, bytes])?;
        let labels = labels.map(|path| read_labels(path, len)).transpose()?;
        let classes = labels.as_deref().map(numbered_classes).unwrap_or_default();
        Ok(NpyImages { path: path.to_owned(), file, start, shape, len, planar, floats, labels, classes })
    }
}

/// Reads `[N]` whole numbers.
fn read_labels(path: &Path, samples: usize) -> Result<Vec<i64>> {
    let NpyArray { shape, values } = NpyArray::read(path)?;
    match (shape.as_slice(), values) {
        ([_], NpyValues::Whole(labels)) => {
            check_labels(path, &labels, samples, None)?;
            Ok(labels)
        }
        (_, values) => {
            let found = if matches!(values, NpyValues::Floats(_)) { "floats" } else { "whole numbers" };
            let problem =
                format!("labels are an array of whole numbers [N], this one is of {found} {shape:?}");
            Err(Error::data(path, problem))
        }
    }
}

impl Dataset for NpyImages {
    type Item = Image;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Image> {
        if index >= self.len {
            let expected = format!("a sample in 0..{} of {}", self.len, self.path.display());
            return Err(Error::config("index", index, expected));
        }
        let pixels: usize = self.shape.iter().product();
        let size = if self.floats { 4 * pixels } else { pixels };
        let mut bytes = vec![0; size];
        read_at(&self.file, &mut bytes, self.start + (index * size) as u64).map_err(Error::io(&self.path))?;
        if self.floats {
            let mut values = Vec::with_capacity(pixels);
            for chunk in bytes.chunks_exact(4) {
                let value = f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
                if !(0.0..=1.0).contains(&value) {
                    let problem = format!("sample {index} holds {value}; floats must lie between 0 and 1");
                    return Err(Error::data(&self.path, problem));
                }
                values.push((value * 255.0).round() as u8);
            }
            bytes = values;
        }
        let [height, width, channels] = self.shape;
        if self.planar && channels == 3 {
            let area = height * width;
            bytes = (0..area).flat_map(|i| [bytes[i], bytes[area + i], bytes[2 * area + i]]).collect();
        }
        Image::new(bytes, self.shape)
    }
}

/// Fills `bytes` from `offset` on, whatever else reads the file at the same time.
#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], offset + done as u64)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(())
}

impl ImageSet for NpyImages {
    fn channels(&self) -> usize {
        self.shape[2]
    }

    fn labels(&self) -> Option<Vec<i64>> {
        self.labels.clone()
    }

    fn classes(&self) -> Vec<String> {
        self.classes.clone()
    }

    fn name(&self, index: usize) -> String {
        index.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::npy_array::tests::{lie, put};
    use proptest::prelude::*;

    #[test]
    fn reads_bytes_and_floats_in_every_layout() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..24).collect();
        let open = |path: &Path| NpyImages::open(path, None).unwrap();
        let set = open(&put(folder.path(), "grey.npy", &[4, 2, 3], &bytes));
        assert_eq!((set.len(), set.channels()), (4, 1));
        assert_eq!(set.get(3).unwrap().pixels(), [18, 19, 20, 21, 22, 23]);
        let set = open(&put(folder.path(), "nhwc.npy", &[2, 2, 2, 3], &bytes));
        assert_eq!(set.get(1).unwrap().pixels()[..4], [12, 13, 14, 15]);
        let set = open(&put(folder.path(), "nchw.npy", &[2, 3, 2, 2], &bytes));
        assert_eq!(set.get(1).unwrap().pixels()[..4], [12, 16, 20, 13]);
        let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
        let set = open(&put(folder.path(), "float.npy", &[2, 3, 2, 2], &floats));
        assert_eq!(set.get(1).unwrap().pixels()[..4], [12, 16, 20, 13]);
        assert!(set.get(2).is_err());
    }

    #[test]
    fn reads_labels_of_any_whole_type() {
        let folder = tempfile::tempdir().unwrap();
        let images = put(folder.path(), "x.npy", &[3, 1, 1], &[0_u8; 3]);
        let labels = put(folder.path(), "y.npy", &[3], &[2_i64, 0, 1]);
        assert_eq!(NpyImages::open(&images, Some(&labels)).unwrap().labels().unwrap(), [2, 0, 1]);
        let labels = put(folder.path(), "y.npy", &[3], &[2_u8, 0, 0]);
        assert_eq!(NpyImages::open(&images, Some(&labels)).unwrap().classes(), ["0", "1", "2"]);
        let message = |labels: &Path| NpyImages::open(&images, Some(labels)).unwrap_err().to_string();
        let error = message(&put(folder.path(), "y.npy", &[2], &[0_i32, 1]));
        assert!(error.ends_with("y.npy: 2 labels for 3 images: there must be one label an image"), "{error}");
        let error = message(&put(folder.path(), "y.npy", &[3], &[0_i32, -1, 1]));
        assert!(error.ends_with("y.npy: label -1 of sample 1 is negative"), "{error}");
        let error = message(&put(folder.path(), "y.npy", &[3], &[0_f32, 1.0, 1.0]));
        assert!(error.contains("y.npy: labels are an array of whole numbers [N], this one is"), "{error}");
    }

    #[test]
    fn refuses_other_arrays_truncated_files_and_lying_headers() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| NpyImages::open(path, None).unwrap_err().to_string();
        let error = message(&put(folder.path(), "a.npy", &[2, 2, 2, 2], &[0_u8; 16]));
        assert!(
            error.contains("a.npy: an array of images is of bytes") && error.ends_with("[2, 2, 2, 2]"),
            "{error}"
        );
        assert!(message(&put(folder.path(), "a.npy", &[2, 2, 2], &[0_f64; 8])).contains("[N, H, W]"));
        let path = put(folder.path(), "a.npy", &[2, 2, 2], &[0_u8; 8]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(message(&path).contains("a.npy: truncated: its header promises"), "{}", message(&path));
        std::fs::write(&path, lie(&bytes, "(99999999999, 2, 2)")).unwrap();
        assert!(message(&path).contains("truncated: its header promises"), "{}", message(&path));
        let path = put(folder.path(), "f.npy", &[1, 1, 2], &[0.5_f32, 1.5]);
        let error = NpyImages::open(&path, None).unwrap().get(0).unwrap_err().to_string();
        assert!(error.ends_with("f.npy: sample 0 holds 1.5; floats must lie between 0 and 1"), "{error}");
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(at in 0_usize..140, value: u8, length in 0_usize..140) {
            let folder = tempfile::tempdir().unwrap();
            let path = put(folder.path(), "a.npy", &[2, 2, 2], &[0_u8; 8]);
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[at.min(last)] = value;
            bytes.truncate(length.max(1));
            std::fs::write(&path, bytes).unwrap();
            if let Ok(set) = NpyImages::open(&path, None) {
                let _ = set.get(0);
            }
        }
    }
}
