//! Sets of images, read by index from any thread.
//!
//! | set | file |
//! |---|---|
//! | [`ArrayImages`]: pictures in memory | `array.rs` |
//! | ... read from IDX files, plain or gzip | `idx.rs` |
//! | ... read from CIFAR's binary files | `cifar.rs` |
//! | ... read from a CSV table of pixels | `csv.rs` |
//! | [`ImageFolder`]: class folders or a flat folder of files | `folder.rs` |
//! | [`NpyImages`]: a NumPy array of any size, read sample by sample | `npy.rs` |
//! | [`Subset`]: some samples of another set | `subset.rs` |
//!
//! [`open`] takes the name of a known set or any of these as a path, and finds out which it is.

mod array;
mod cifar;
mod csv;
mod decode;
mod folder;
mod idx;
mod npy;
mod open;
mod subset;

pub use array::ArrayImages;
pub use decode::{DecodeLimits, decode};
pub use folder::ImageFolder;
pub use npy::NpyImages;
pub use open::{ImageSplits, open, open_path};
pub use subset::Subset;

use crate::Image;
use selfsup_core::{Dataset, Error, Result};
use std::path::Path;

/// A set of images that knows about its samples without decoding them.
pub trait ImageSet: Dataset<Item = Image> + Send + Sync {
    /// The channels of every image: 1 or 3.
    fn channels(&self) -> usize;

    /// The class of every sample, in `0..classes().len()`; nothing when the set has no labels.
    fn labels(&self) -> Option<Vec<i64>>;

    /// The names of the classes, in the order of the labels.
    fn classes(&self) -> Vec<String>;

    /// What to call a sample: its file's path inside the set, or its number.
    fn name(&self, index: usize) -> String;
}

/// Checks labels that came from another file than the images they belong to.
fn check_labels(path: &Path, labels: &[i64], samples: usize, classes: Option<usize>) -> Result<()> {
    if labels.len() != samples {
        let problem =
            format!("{} labels for {samples} images: there must be one label an image", labels.len());
        return Err(Error::data(path, problem));
    }
    let most = classes.map_or(i64::MAX, |c| c as i64);
    match labels.iter().position(|l| !(0..most).contains(l)) {
        Some(at) if most == i64::MAX => {
            Err(Error::data(path, format!("label {} of sample {at} is negative", labels[at])))
        }
        Some(at) => {
            Err(Error::data(path, format!("label {} of sample {at} is no class in 0..{most}", labels[at])))
        }
        None => Ok(()),
    }
}

/// Names for the classes of labels that come without: their numbers.
fn numbered_classes(labels: &[i64]) -> Vec<String> {
    let count = labels.iter().max().map_or(0, |most| most + 1);
    (0..count).map(|class| class.to_string()).collect()
}
