//! A folder of image files: class folders, or one flat folder without labels.

use super::ImageSet;
use super::decode::{DecodeLimits, decode, is_grey};
use crate::Image;
use selfsup_core::{Dataset, Error, Result};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// The endings of the files that are taken, in lower case.
const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "bmp", "webp"];

/// How many headers are read to find out whether a set is grey.
const PROBES: usize = 64;

/// Image files in class folders (`root/cat/1.png`, `root/dog/a/2.jpg`), or in one flat folder without labels.
///
/// The classes are the folders directly below the root, sorted by name; a class takes the files at any depth. Files
/// are sorted too, so that the order is the same on every machine. Names may be of any bytes, and a loop of links is
/// left out. Hidden files and folders are not looked at, nor are files beside class folders.
///
/// A set whose first files are all grey is read as grey; any other as colour, whatever a single file holds.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    files: Vec<PathBuf>,
    labels: Option<Vec<i64>>,
    classes: Vec<String>,
    channels: usize,
    limits: DecodeLimits,
}

impl ImageFolder {
    /// Lists the folder `root`; no image is decoded.
    ///
    /// # Errors
    /// [`Error::Data`] when the folder is missing, holds no image, or a class folder holds none.
    pub fn open(root: &Path) -> Result<Self> {
        let folders = class_folders(root)?;
        if folders.is_empty() {
            return Self::flat(root);
        }
        let (mut files, mut labels, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        for folder in folders {
            let found = images_below(&folder)?;
            if found.is_empty() {
                let problem =
                    format!("the class folder holds no image ({}): fill or remove it", ENDINGS.join(", "));
                return Err(Error::data(folder, problem));
            }
            labels.resize(labels.len() + found.len(), classes.len() as i64);
            files.extend(found);
            classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        Ok(Self::of(root, files, Some(labels), classes))
    }

    /// Lists all images at any depth below `root`, without labels.
    ///
    /// # Errors
    /// [`Error::Data`] when the folder is missing or holds no image.
    pub fn flat(root: &Path) -> Result<Self> {
        let files = images_below(root)?;
        if files.is_empty() {
            return Err(Error::data(root, format!("the folder holds no image ({})", ENDINGS.join(", "))));
        }
        Ok(Self::of(root, files, None, Vec::new()))
    }

    /// The set with other bounds on what a file may ask for.
    #[must_use]
    pub fn with_limits(mut self, limits: DecodeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The path of a sample's file.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index]
    }

    /// The set with its labels as positions in another set's list of classes.
    ///
    /// # Errors
    /// [`Error::Data`] when a class is not in the list.
    pub(crate) fn with_classes(mut self, classes: &[String]) -> Result<Self> {
        let mut positions = Vec::new();
        for class in &self.classes {
            let Some(at) = classes.iter().position(|c| c == class) else {
                let problem =
                    format!("the class {class:?} is not among the training classes {}", classes.join(", "));
                return Err(Error::data(&self.root, problem));
            };
            positions.push(at as i64);
        }
        self.labels = self.labels.map(|labels| labels.iter().map(|&l| positions[l as usize]).collect());
        self.classes = classes.to_vec();
        Ok(self)
    }

    /// The set read with this number of channels.
    pub(crate) fn with_channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    fn of(root: &Path, files: Vec<PathBuf>, labels: Option<Vec<i64>>, classes: Vec<String>) -> Self {
        let limits = DecodeLimits::default();
        let step = files.len().div_ceil(PROBES);
        let grey = files.iter().step_by(step).all(|path| is_grey(path, limits));
        let channels = if grey { 1 } else { 3 };
        ImageFolder { root: root.to_owned(), files, labels, classes, channels, limits }
    }
}

impl Dataset for ImageFolder {
    type Item = Image;

    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Image> {
        let path = self.files.get(index).ok_or_else(|| {
            Error::config(
                "index",
                index,
                format!("a sample in 0..{} of {}", self.files.len(), self.root.display()),
            )
        })?;
        let image = decode(path, self.limits)?;
        Ok(if self.channels == 1 { image.to_grey() } else { image.to_colour() })
    }
}

impl ImageSet for ImageFolder {
    fn channels(&self) -> usize {
        self.channels
    }

    fn labels(&self) -> Option<Vec<i64>> {
        self.labels.clone()
    }

    fn classes(&self) -> Vec<String> {
        self.classes.clone()
    }

    fn name(&self, index: usize) -> String {
        let path = &self.files[index];
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn stamp(&self) -> Result<Option<u64>> {
        super::stamp(&self.files).map(Some)
    }
}

/// The folders directly below `root`, sorted, hidden ones left out.
pub(crate) fn class_folders(root: &Path) -> Result<Vec<PathBuf>> {
    if !root.exists() {
        return Err(Error::data(root, "there is no such folder"));
    }
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root).map_err(Error::io(root))? {
        let path = entry.map_err(Error::io(root))?.path();
        if path.is_dir() && !hidden(&path) {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// The image files at any depth below `root`, sorted.
pub(crate) fn images_below(root: &Path) -> Result<Vec<PathBuf>> {
    if !root.is_dir() {
        return Err(Error::data(root, "there is no such folder"));
    }
    let mut files = Vec::new();
    let visible = |entry: &DirEntry| entry.depth() == 0 || !hidden(entry.path());
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter().filter_entry(visible) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_image(entry.path()) => {
                files.push(entry.into_path());
            }
            Ok(_) => {}
            // A link to one of its own parents, or one that points nowhere.
            Err(e) if e.loop_ancestor().is_some() || e.path().is_some_and(Path::is_symlink) => {}
            Err(e) => {
                let path = e.path().unwrap_or(root).to_owned();
                return Err(Error::data(path, e.to_string()));
            }
        }
    }
    Ok(files)
}

/// Whether a file's name ends as an image's does.
pub(crate) fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| ENDINGS.contains(&e.to_ascii_lowercase().as_str()))
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn put(root: &Path, name: &str, value: u8, colour: bool) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (pixels, kind) = if colour {
            (vec![value; 12], image::ExtendedColorType::Rgb8)
        } else {
            (vec![value; 4], image::ExtendedColorType::L8)
        };
        image::save_buffer(path, &pixels, 2, 2, kind).unwrap();
    }

    #[test]
    fn classes_and_files_are_sorted_and_hidden_ones_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, value) in
            [("dog/2.png", 1), ("dog/10.PNG", 2), ("cat/deep/x.png", 3), (".cache/y.png", 4), ("z.png", 5)]
        {
            put(root, name, value, false);
        }
        fs::write(root.join("cat/notes.txt"), "no image").unwrap();
        let set = ImageFolder::open(root).unwrap();
        assert_eq!(set.classes(), ["cat", "dog"]);
        assert_eq!(set.labels().unwrap(), [0, 1, 1]);
        let values: Vec<u8> = (0..3).map(|i| set.get(i).unwrap().pixels()[0]).collect();
        assert_eq!(values, [3, 2, 1]);
        assert_eq!((set.name(0), set.channels()), ("cat/deep/x.png".to_owned(), 1));
    }

    #[test]
    fn a_flat_folder_has_no_labels_and_one_colour_file_makes_it_colour() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a.png", 7, false);
        put(folder.path(), "b.png", 9, true);
        let set = ImageFolder::open(folder.path()).unwrap();
        assert_eq!((set.len(), set.labels(), set.classes().len(), set.channels()), (2, None, 0, 3));
        assert_eq!(set.get(0).unwrap().pixels(), [7; 12]);
    }

    #[test]
    fn names_a_missing_folder_an_empty_one_and_an_empty_class() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| ImageFolder::open(path).unwrap_err().to_string();
        assert!(message(&folder.path().join("nowhere")).ends_with("nowhere: there is no such folder"));
        assert!(message(folder.path()).ends_with("the folder holds no image (png, jpg, jpeg, bmp, webp)"));
        put(folder.path(), "cat/1.png", 0, false);
        fs::create_dir(folder.path().join("dog")).unwrap();
        let error = message(folder.path());
        assert!(error.contains("dog: the class folder holds no image"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_and_loops_of_links_survive() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "cat/1.png", 1, false);
        let odd = root.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir(&odd).unwrap();
        fs::copy(root.join("cat/1.png"), odd.join(std::ffi::OsStr::from_bytes(b"\xff.png"))).unwrap();
        symlink(root, root.join("cat/loop")).unwrap();
        symlink(root.join("gone"), root.join("cat/dangling.png")).unwrap();
        symlink(root.join("cat/1.png"), root.join("cat/2.png")).unwrap();
        let set = ImageFolder::open(root).unwrap();
        assert_eq!(set.classes(), ["caf\u{fffd}", "cat"]);
        assert_eq!(set.labels().unwrap(), [0, 1, 1]);
        assert!((0..3).all(|i| set.get(i).is_ok()));
    }

    #[test]
    fn a_file_that_is_gone_or_cut_is_named() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "cat/1.png", 1, false);
        put(folder.path(), "cat/2.png", 1, false);
        let set = ImageFolder::open(folder.path()).unwrap();
        let bytes = fs::read(set.path(0)).unwrap();
        fs::write(set.path(0), &bytes[..40]).unwrap();
        fs::remove_file(set.path(1)).unwrap();
        assert!(set.get(0).unwrap_err().to_string().contains("1.png: cannot be decoded"));
        assert!(set.get(1).unwrap_err().to_string().contains("2.png"));
        assert!(set.get(2).is_err());
    }
}
