//! CIFAR's binary version: records of one label byte (CIFAR-10) or two (CIFAR-100: coarse, then fine) and 3,072
//! bytes of a 32 x 32 image, plane by plane (Krizhevsky, "The CIFAR-10 dataset", section "binary version").

use super::ArrayImages;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const AREA: usize = SIDE * SIDE;

impl ArrayImages {
    /// Reads binary CIFAR files one after the other. `label_bytes` is 1 for CIFAR-10 and 2 for CIFAR-100, whose fine
    /// label, the last, is taken. Without names of classes (an empty list) they are called by their numbers.
    ///
    /// # Errors
    /// [`Error::Data`] when a file is no whole number of records or a label is none of the classes.
    pub fn read_cifar(files: &[PathBuf], label_bytes: usize, classes: Vec<String>) -> Result<Self> {
        let record = label_bytes + 3 * AREA;
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for path in files {
            let bytes = std::fs::read(path).map_err(Error::io(path))?;
            if bytes.is_empty() || bytes.len() % record != 0 {
                let problem = format!(
                    "{} bytes are no whole number of records of {record} bytes: truncated, or no CIFAR binary file",
                    bytes.len()
                );
                return Err(Error::data(path, problem));
            }
            pixels.reserve(bytes.len() / record * 3 * AREA);
            for record in bytes.chunks_exact(record) {
                let (label, planes) = record.split_at(label_bytes);
                labels.push(i64::from(label[label_bytes - 1]));
                for i in 0..AREA {
                    pixels.extend([planes[i], planes[AREA + i], planes[2 * AREA + i]]);
                }
            }
        }
        let first = files.first().map_or(Path::new("cifar"), PathBuf::as_path);
        ArrayImages::new(pixels, [SIDE, SIDE, 3])?.with_labels_of(first, labels, classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::ImageSet;
    use selfsup_core::Dataset;

    #[test]
    fn reads_records_plane_by_plane() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test_batch.bin");
        let record = |label: &[u8], red: u8| {
            let mut bytes = label.to_vec();
            bytes.extend((0..3 * AREA).map(|i| red + (i / AREA) as u8));
            bytes
        };
        std::fs::write(&path, [record(&[7], 10), record(&[2], 20)].concat()).unwrap();
        let set = ArrayImages::read_cifar(&[path.clone(), path.clone()], 1, vec![]).unwrap();
        assert_eq!(set.labels().unwrap(), [7, 2, 7, 2]);
        assert_eq!(set.get(3).unwrap().pixels()[..6], [20, 21, 22, 20, 21, 22]);

        std::fs::write(&path, record(&[3, 41], 0)).unwrap();
        assert_eq!(
            ArrayImages::read_cifar(std::slice::from_ref(&path), 2, vec![]).unwrap().labels().unwrap(),
            [41]
        );
        let error = ArrayImages::read_cifar(&[path], 1, vec![]).unwrap_err().to_string();
        assert!(
            error.contains("test_batch.bin: 3074 bytes are no whole number of records of 3073"),
            "{error}"
        );
    }
}
