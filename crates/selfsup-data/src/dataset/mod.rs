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
//! | [`TarShards`]: tar archives as WebDataset lays them out | `shards.rs` |
//! | [`DecodedImages`]: another set, decoded once into a file | `decoded.rs` |
//! | [`Subset`]: some samples of another set | `subset.rs` |
//!
//! [`NpyArray`] reads features and labels of other programs (`npy_array.rs`).
//!
//! [`open`] takes the name of a known set or any of these as a path, and finds out which it is.

mod array;
mod cifar;
mod csv;
mod decode;
mod decoded;
mod folder;
mod idx;
mod npy;
mod npy_array;
mod open;
mod shards;
mod subset;

pub use array::ArrayImages;
pub use decode::{DecodeLimits, decode};
pub use decoded::DecodedImages;
pub use folder::ImageFolder;
pub(crate) use folder::is_image;
pub use npy::NpyImages;
pub use npy_array::{NpyArray, NpyValues};
pub use open::{ImageSplits, OF_IMAGES, open, open_path};
pub use shards::TarShards;
pub use subset::Subset;

use crate::Image;
use selfsup_core::{Dataset, Error, Result};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

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

    /// The numbers of samples that lie side by side, in order, where reading them in that order is much the cheapest:
    /// the archives of a sharded set. Empty where any order does.
    fn shards(&self) -> Vec<usize> {
        Vec::new()
    }

    /// A checksum of the names, sizes and times of the files that the images are decoded from; nothing where there is
    /// nothing to decode.
    ///
    /// # Errors
    /// When a file is gone.
    fn stamp(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// A checksum of names, sizes and times of files.
fn stamp(paths: &[PathBuf]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let facts = path.metadata().map_err(Error::io(path))?;
        let changed = facts.modified().map_err(Error::io(path))?;
        (std::path::absolute(path).map_err(Error::io(path))?, facts.len(), changed).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Checks labels that came from another file than the images they belong to.
fn check_labels(path: &Path, labels: &[i64], samples: usize, classes: Option<usize>) -> Result<()> {
    if labels.len() != samples {
        let problem =
            format!("{} labels for {samples} images: there must be one label an image", labels.len());
        return Err(Error::data(path, problem));
    }
    let most = classes.map_or(MOST_CLASSES, |c| c as i64);
    match labels.iter().position(|l| !(0..most).contains(l)) {
        Some(at) if labels[at] < 0 => {
            Err(Error::data(path, format!("label {} of sample {at} is negative", labels[at])))
        }
        Some(at) if classes.is_none() => {
            let problem =
                format!("label {} of sample {at}: classes are numbered from 0 without gaps", labels[at]);
            Err(Error::data(path, problem))
        }
        Some(at) => {
            Err(Error::data(path, format!("label {} of sample {at} is no class in 0..{most}", labels[at])))
        }
        None => Ok(()),
    }
}

/// A larger number is no class, but something else that was taken for one; a name is made for each.
const MOST_CLASSES: i64 = 1 << 20;

/// Names for the classes of labels that come without: their numbers.
fn numbered_classes(labels: &[i64]) -> Vec<String> {
    let count = labels.iter().max().map_or(0, |most| most + 1);
    (0..count).map(|class| class.to_string()).collect()
}
