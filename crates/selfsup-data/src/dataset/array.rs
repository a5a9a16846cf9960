//! A set of images of one size in memory.

use super::{ImageSet, check_labels, numbered_classes};
use crate::Image;
use crate::image::volume;
use ndarray::ArrayView4;
use selfsup_core::{Dataset, Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Images of one size that lie in memory side by side; a sample is a view into them.
#[derive(Clone, Debug)]
pub struct ArrayImages {
    store: Arc<Vec<u8>>,
    shape: [usize; 3],
    len: usize,
    labels: Option<Vec<i64>>,
    classes: Vec<String>,
}

impl ArrayImages {
    /// A set of `pixels.len() / (height * width * channels)` images, `shape` being height, width, channels.
    ///
    /// # Errors
    /// When the pixels are no whole number of images.
    pub fn new(pixels: Vec<u8>, shape: [usize; 3]) -> Result<Self> {
        let bytes = volume(shape)?;
        if !pixels.len().is_multiple_of(bytes) {
            return Err(Error::Shape {
                name: "pixels".to_owned(),
                expected: format!("a multiple of {bytes} bytes, images of {shape:?}"),
                found: format!("{} bytes", pixels.len()),
            });
        }
        let len = pixels.len() / bytes;
        Ok(ArrayImages { store: Arc::new(pixels), shape, len, labels: None, classes: Vec::new() })
    }

    /// A set from an array `[N, H, W, C]`, which is copied.
    ///
    /// # Errors
    /// When C is neither 1 nor 3, or a side is zero.
    pub fn from_array(images: ArrayView4<u8>) -> Result<Self> {
        let (_, height, width, channels) = images.dim();
        Self::new(images.iter().copied().collect(), [height, width, channels])
    }

    /// The set with labels. Without names of classes (an empty list) they are called by their numbers.
    ///
    /// # Errors
    /// When there is not one label an image, or a label is none of the classes.
    pub fn with_labels(self, labels: Vec<i64>, classes: Vec<String>) -> Result<Self> {
        self.with_labels_of(Path::new("labels"), labels, classes)
    }

    /// As [`with_labels`](Self::with_labels), for labels that came from a file.
    pub(crate) fn with_labels_of(
        mut self,
        path: &Path,
        labels: Vec<i64>,
        classes: Vec<String>,
    ) -> Result<Self> {
        check_labels(path, &labels, self.len, (!classes.is_empty()).then_some(classes.len()))?;
        self.classes = if classes.is_empty() { numbered_classes(&labels) } else { classes };
        self.labels = Some(labels);
        Ok(self)
    }

    /// Height, width and channels of every image.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

impl Dataset for ArrayImages {
    type Item = Image;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Image> {
        if index >= self.len {
            return Err(Error::config("index", index, format!("a sample in 0..{}", self.len)));
        }
        let bytes = self.shape.iter().product::<usize>();
        Ok(Image::within(&self.store, index * bytes, self.shape))
    }
}

impl ImageSet for ArrayImages {
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

    #[test]
    fn samples_are_views_into_one_store() {
        let set = ArrayImages::new((0..24).collect(), [2, 2, 3]).unwrap();
        assert_eq!(set.len(), 2);
        assert_eq!(set.get(1).unwrap().pixels(), (12..24).collect::<Vec<u8>>());
        assert_eq!(set.get(1).unwrap().pixels().as_ptr(), set.clone().get(1).unwrap().pixels().as_ptr());
        assert!(set.get(2).is_err());
    }

    #[test]
    fn takes_an_array_in_any_layout() {
        let array = ndarray::Array4::from_shape_fn((2, 3, 4, 1), |(n, y, x, _)| (n * 100 + y * 10 + x) as u8);
        let set = ArrayImages::from_array(array.view().permuted_axes([0, 2, 1, 3])).unwrap();
        assert_eq!(set.shape(), [4, 3, 1]);
        assert_eq!(set.get(1).unwrap().pixels()[..4], [100, 110, 120, 101]);
    }

    #[test]
    fn refuses_labels_that_do_not_fit() {
        let set = ArrayImages::new(vec![0; 12], [2, 2, 1]).unwrap();
        let error = set.clone().with_labels(vec![0, 1], vec![]).unwrap_err().to_string();
        assert_eq!(error, "labels: 2 labels for 3 images: there must be one label an image");
        let error =
            set.clone().with_labels(vec![0, 1, 2], vec!["a".into(), "b".into()]).unwrap_err().to_string();
        assert_eq!(error, "labels: label 2 of sample 2 is no class in 0..2");
        assert_eq!(set.with_labels(vec![0, 1, 2], vec![]).unwrap().classes(), ["0", "1", "2"]);
        assert!(ArrayImages::new(vec![0; 13], [2, 2, 1]).is_err());
    }
}
