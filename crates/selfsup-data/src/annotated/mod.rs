//! Images in which it is known what is where.
//!
//! - `masks`: a class for every pixel, from index masks beside the images, as CamVid has them
//! - `voc`: boxes, from the XML files of Pascal VOC

mod masks;
mod voc;

pub use masks::{Mask, MaskedImages, MaskedSplits};
pub use voc::{VocBox, VocImages, VocSplits, read_voc};

use crate::dataset::{DecodeLimits, decode};
use crate::{Image, dataset::is_image};
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The image files of a folder by their names without ending.
fn by_stem(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if !path.is_file() || !is_image(&path) {
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(other) = found.insert(stem, path.clone()) {
            let problem = format!("{} has the same name: one file a name", other.display());
            return Err(Error::data(path, problem));
        }
    }
    Ok(found)
}

/// An image in colour.
fn colour(path: &Path) -> Result<Image> {
    Ok(decode(path, DecodeLimits::default())?.to_colour())
}

/// The names in a file, one a line.
fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
