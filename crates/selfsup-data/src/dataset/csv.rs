//! A table of grey square images: one row an image, its pixels from 0 to 255 in the order of the rows, the label last.

use super::ArrayImages;
use selfsup_core::{Error, Result};
use std::path::Path;

impl ArrayImages {
    /// Reads a CSV file without a header whose rows are the pixels of a square grey image and its label.
    ///
    /// # Errors
    /// [`Error::Data`] with the row whose length differs or whose value is no number from 0 to 255.
    pub fn read_csv(path: &Path) -> Result<Self> {
        let bad = |row: usize, problem: String| Error::data(path, format!("row {}: {problem}", row + 1));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .from_path(path)
            .map_err(|e| Error::data(path, e.to_string()))?;
        let (mut pixels, mut labels, mut side) = (Vec::new(), Vec::new(), 0);
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|e| bad(row, e.to_string()))?;
            side = (record.len() - 1).isqrt();
            if side == 0 || side * side + 1 != record.len() {
                return Err(bad(row, format!("{} values are no square image and a label", record.len())));
            }
            for (column, text) in record.iter().enumerate() {
                // Some writers put whole numbers down as floats.
                let value =
                    text.parse::<f64>().ok().filter(|v| (0.0..=255.0).contains(v) && v.fract() == 0.0);
                let Some(value) = value else {
                    return Err(bad(row, format!("{text:?} is no whole number from 0 to 255")));
                };
                if column < side * side {
                    pixels.push(value as u8);
                } else {
                    labels.push(value as i64);
                }
            }
        }
        if labels.is_empty() {
            return Err(Error::data(path, "the table has no rows"));
        }
        ArrayImages::new(pixels, [side, side, 1])?.with_labels_of(path, labels, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::ImageSet;
    use selfsup_core::Dataset;

    #[test]
    fn reads_rows_and_names_a_bad_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digits.csv");
        std::fs::write(&path, "0,1,2,3,7\n4.0,5,6,255,1\n").unwrap();
        let set = ArrayImages::read_csv(&path).unwrap();
        assert_eq!((set.shape(), set.labels().unwrap()), ([2, 2, 1], vec![7, 1]));
        assert_eq!(set.get(1).unwrap().pixels(), [4, 5, 6, 255]);
        for (text, problem) in [
            ("0,1,2,3,7\n0,1,2,256,7\n", "row 2: \"256\" is no whole number from 0 to 255"),
            ("0,1,2,3\n", "row 1: 4 values are no square image and a label"),
            ("0,1,2,3,7\n0,1\n", "row 2: "),
            ("", "the table has no rows"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ArrayImages::read_csv(&path).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
