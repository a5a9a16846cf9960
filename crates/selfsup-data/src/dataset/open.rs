//! A set by its name or its path, whatever it is made of.

use super::folder::{class_folders, images_below};
use super::{ArrayImages, ImageFolder, ImageSet, NpyImages, TarShards};
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A set of images, with its held-out part where it has one.
#[derive(Clone)]
pub struct ImageSplits {
    /// What to call it: the known set's name, or the path's last part.
    pub name: String,
    /// The images to learn from.
    pub train: Arc<dyn ImageSet>,
    /// The images to judge by.
    pub test: Option<Arc<dyn ImageSet>>,
}

/// Opens a known set by its name (it is fetched when it is not at hand), or else the path that `source` is.
///
/// A file or folder of that name wins over a known set.
///
/// # Errors
/// When there is neither a path nor a known set of this name, the set cannot be fetched, or [`open_path`] fails.
pub fn open(source: &str) -> Result<ImageSplits> {
    let path = Path::new(source);
    if path.exists() {
        return open_path(path);
    }
    let looks_like_a_path = source.contains(['/', '\\']) || source.starts_with('.');
    let set = match selfsup_fetch::find(source) {
        Ok(set) => set,
        Err(_) if looks_like_a_path => return Err(Error::data(path, "there is no such file or folder")),
        Err(e) => return Err(Error::data(path, format!("there is no such file or folder, and {e}"))),
    };
    if !OF_IMAGES.contains(&source) {
        return Err(Error::data(path, format!("no set of images, but {}", set.about)));
    }
    let folder = selfsup_fetch::fetch(set).map_err(|e| Error::Other(e.to_string()))?;
    let splits = match source {
        "fashion-mnist" => idx_folder(&folder, &FASHION_MNIST)?,
        "mnist-5k" => Some((shared(ArrayImages::read_csv(&folder.join("mnist_5k.csv"))?), None)),
        "elpv" | "emoji" => Some((shared(ImageFolder::flat(&folder.join("images"))?), None)),
        "photographs" => Some((shared(ImageFolder::flat(&folder)?), None)),
        _ => None,
    };
    match splits {
        Some((train, test)) => Ok(ImageSplits { name: source.to_owned(), train, test }),
        None => Err(Error::data(path, format!("no set of images, but {}", set.about))),
    }
}

/// The known sets that hold images.
pub const OF_IMAGES: [&str; 5] = ["fashion-mnist", "mnist-5k", "elpv", "emoji", "photographs"];

/// Fashion-MNIST's classes (Xiao et al., 2017, table 2), which its files do not name.
const FASHION_MNIST: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

type Parts = (Arc<dyn ImageSet>, Option<Arc<dyn ImageSet>>);

/// Opens a file or folder and finds out what it is:
///
/// - `X.npy`: an array of images, with labels in `X_labels.npy` where that is there; `train.npy` with `test.npy`
///   beside it is both parts of a set. A folder with `train.npy` is opened as that file;
/// - `X.csv`: a table of square grey images and their labels;
/// - a folder with IDX files (`train-images-idx3-ubyte`, `t10k-...`, with or without `.gz`);
/// - a folder with CIFAR's binary files (`data_batch_1.bin` ..., or CIFAR-100's `train.bin`);
/// - `X.tar`, or a folder with such files: shards as WebDataset lays them out; those whose names begin with `test` or
///   `val` are the held-out part;
/// - a folder with the subfolders `train` and `test` (or `val`, `valid`, `validation`), each of class folders or flat;
/// - a folder of class folders, or a flat folder of images.
///
/// # Errors
/// [`Error::Data`] with the file or folder that cannot be read, or what was looked for when nothing fits.
pub fn open_path(path: &Path) -> Result<ImageSplits> {
    let name =
        path.file_stem().or(path.file_name()).unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let (train, test) = sniff(path)?;
    if train.is_empty() {
        return Err(Error::data(path, "the set holds no image"));
    }
    Ok(ImageSplits { name, train, test })
}

fn sniff(path: &Path) -> Result<Parts> {
    if path.is_file() {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        return match ending.as_str() {
            "npy" => npy_files(path),
            "csv" => Ok((shared(ArrayImages::read_csv(path)?), None)),
            "tar" => Ok((shared(TarShards::open(&[path.to_owned()])?), None)),
            _ => Err(Error::data(
                path,
                "a set is a folder, an array (.npy), a table (.csv) or a shard (.tar); name its folder",
            )),
        };
    }
    if !path.is_dir() {
        return Err(Error::data(path, "there is no such file or folder"));
    }
    if let Some(parts) = idx_folder(path, &[])? {
        return Ok(parts);
    }
    if let Some(parts) = cifar_folder(path)? {
        return Ok(parts);
    }
    if path.join("train.npy").is_file() {
        return npy_files(&path.join("train.npy"));
    }
    if let Some(parts) = shard_folder(path)? {
        return Ok(parts);
    }
    if let Some(parts) = split_folder(path)? {
        return Ok(parts);
    }
    if class_folders(path)?.is_empty() && images_below(path)?.is_empty() {
        let problem = "found neither images (png, jpg, bmp, webp), class folders of images, IDX files \
                       (train-images-idx3-ubyte), CIFAR files (data_batch_1.bin), shards (.tar) nor train.npy";
        return Err(Error::data(path, problem));
    }
    Ok((shared(ImageFolder::open(path)?), None))
}

fn shared(set: impl ImageSet + 'static) -> Arc<dyn ImageSet> {
    Arc::new(set)
}

fn npy_files(path: &Path) -> Result<Parts> {
    let open = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let labels = path.with_file_name(format!("{stem}_labels.npy"));
        NpyImages::open(path, labels.is_file().then_some(labels.as_path()))
    };
    let test = path.with_file_name("test.npy");
    let has_test = path.file_stem().is_some_and(|stem| stem == "train") && test.is_file();
    let (train, test) = (open(path)?, has_test.then(|| open(&test)).transpose()?);
    if let Some(test) = &test
        && test.channels() != train.channels()
    {
        let problem = format!("test.npy has {} channels, train.npy {}", test.channels(), train.channels());
        return Err(Error::data(path, problem));
    }
    Ok((shared(train), test.map(shared)))
}

fn idx_folder(folder: &Path, classes: &[&str]) -> Result<Option<Parts>> {
    let find = |stem: &str| {
        let names = [stem.to_owned(), format!("{stem}.gz"), stem.replacen("-idx", ".idx", 1)];
        names.into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
    };
    let read = |part: &str| -> Result<Option<Arc<dyn ImageSet>>> {
        let Some(images) = find(&format!("{part}-images-idx3-ubyte")) else { return Ok(None) };
        let labels = find(&format!("{part}-labels-idx1-ubyte"));
        let set = ArrayImages::read_idx(&images, labels.as_deref())?;
        Ok(Some(match (set.labels(), labels) {
            (Some(values), Some(path)) if !classes.is_empty() => shared(set.with_labels_of(
                &path,
                values,
                classes.iter().map(ToString::to_string).collect(),
            )?),
            _ => shared(set),
        }))
    };
    let Some(train) = read("train")? else { return Ok(None) };
    Ok(Some((train, read("t10k")?.or(read("test")?))))
}

fn cifar_folder(folder: &Path) -> Result<Option<Parts>> {
    let names = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let batches: Vec<PathBuf> =
        (1..=5).map(|i| folder.join(format!("data_batch_{i}.bin"))).filter(|path| path.is_file()).collect();
    let (files, test, label_bytes, classes) = if batches.is_empty() {
        let train = folder.join("train.bin");
        if !train.is_file() {
            return Ok(None);
        }
        (vec![train], folder.join("test.bin"), 2, names("fine_label_names.txt"))
    } else {
        (batches, folder.join("test_batch.bin"), 1, names("batches.meta.txt"))
    };
    let train = ArrayImages::read_cifar(&files, label_bytes, classes.clone())?;
    let test = test.is_file().then(|| ArrayImages::read_cifar(&[test], label_bytes, classes)).transpose()?;
    Ok(Some((shared(train), test.map(shared))))
}

fn shard_folder(folder: &Path) -> Result<Option<Parts>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_file() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar")) {
            paths.push(path);
        }
    }
    paths.sort();
    let held_out = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        name.starts_with("test") || name.starts_with("val")
    };
    let (test, train): (Vec<_>, Vec<_>) = paths.into_iter().partition(held_out);
    if train.is_empty() {
        return match test.first() {
            Some(test) => Err(Error::data(test, "there is no shard to learn from beside those held out")),
            None => Ok(None),
        };
    }
    let train = TarShards::open(&train)?;
    if test.is_empty() {
        return Ok(Some((shared(train), None)));
    }
    let test = TarShards::open(&test)?.with_channels(train.channels());
    let (train_classes, test_classes) = (train.classes().len(), test.classes().len());
    if test_classes > train_classes {
        let problem = format!("the held-out shards have {test_classes} classes, the others {train_classes}");
        return Err(Error::data(folder, problem));
    }
    Ok(Some((shared(train), Some(shared(test)))))
}

fn split_folder(folder: &Path) -> Result<Option<Parts>> {
    let train = folder.join("train");
    let test =
        ["test", "val", "valid", "validation"].map(|name| folder.join(name)).into_iter().find(|p| p.is_dir());
    let Some(test) = test.filter(|_| train.is_dir()) else { return Ok(None) };
    let train = ImageFolder::open(&train)?;
    let mut test = ImageFolder::open(&test)?.with_channels(train.channels());
    if train.labels().is_some() {
        test = test.with_classes(&train.classes())?;
    }
    Ok(Some((shared(train), Some(shared(test)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn put(path: PathBuf, colour: bool) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let kind = if colour { image::ExtendedColorType::Rgb8 } else { image::ExtendedColorType::L8 };
        image::save_buffer(path, &[0; 12][..if colour { 12 } else { 4 }], 2, 2, kind).unwrap();
    }

    fn idx(shape: &[u8], values: &[u8]) -> Vec<u8> {
        let sides = shape.iter().flat_map(|&side| [0, 0, 0, side]);
        [0, 0, 8, shape.len() as u8].into_iter().chain(sides).chain(values.iter().copied()).collect()
    }

    /// An archive of one grey image whose class is `class`.
    fn put_shard(path: PathBuf, class: &str) {
        let mut image = std::io::Cursor::new(Vec::new());
        let (kind, format) = (image::ExtendedColorType::L8, image::ImageFormat::Png);
        image::write_buffer_with_format(&mut image, &[5; 4], 2, 2, kind, format).unwrap();
        let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
        for (name, bytes) in [("0.png", image.get_ref().as_slice()), ("0.cls", class.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn finds_train_and_test_in_shards() {
        let folder = tempfile::tempdir().unwrap();
        for (name, class) in [("train-1.tar", "1"), ("train-0.tar", "0"), ("val-0.tar", "1")] {
            put_shard(folder.path().join(name), class);
        }
        let set = open_path(folder.path()).unwrap();
        assert_eq!((set.train.labels(), set.train.shards()), (Some(vec![0, 1]), vec![1, 1]));
        assert_eq!(set.test.unwrap().labels(), Some(vec![1]));
        assert_eq!(open_path(&folder.path().join("train-1.tar")).unwrap().train.len(), 1);
        put_shard(folder.path().join("val-0.tar"), "7");
        let error = open_path(folder.path()).err().unwrap().to_string();
        assert!(error.ends_with("the held-out shards have 8 classes, the others 2"), "{error}");
    }

    #[test]
    fn finds_train_and_test_in_class_folders() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["train/b/1.png", "train/a/1.png", "val/b/2.png"] {
            put(folder.path().join(name), name.starts_with("train/a"));
        }
        let set = open_path(folder.path()).unwrap();
        let test = set.test.unwrap();
        assert_eq!((set.train.labels().unwrap(), test.labels().unwrap()), (vec![0, 1], vec![1]));
        assert_eq!((test.classes(), test.channels()), (vec!["a".to_owned(), "b".to_owned()], 3));
        put(folder.path().join("val/c/3.png"), true);
        let error = open_path(folder.path()).err().unwrap().to_string();
        assert!(error.contains("the class \"c\" is not among the training classes a, b"), "{error}");
    }

    #[test]
    fn finds_idx_files_with_and_without_a_test_part() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
        put("train-images-idx3-ubyte", idx(&[2, 1, 1], &[5, 6]));
        let set = open_path(folder.path()).unwrap();
        assert!(set.test.is_none() && set.train.labels().is_none());
        put("train-labels-idx1-ubyte", idx(&[2], &[1, 9]));
        put("t10k-images-idx3-ubyte", idx(&[1, 1, 1], &[7]));
        put("t10k-labels-idx1-ubyte", idx(&[1], &[3]));
        let (train, test) = idx_folder(folder.path(), &FASHION_MNIST).unwrap().unwrap();
        assert_eq!((train.labels().unwrap(), test.unwrap().labels().unwrap()), (vec![1, 9], vec![3]));
        assert_eq!(train.classes()[9], "Ankle boot");
        put("train-labels-idx1-ubyte", idx(&[3], &[1, 9, 0]));
        let error = open_path(folder.path()).err().unwrap().to_string();
        assert!(error.contains("train-labels-idx1-ubyte: 3 labels for 2 images"), "{error}");
    }

    #[test]
    fn finds_cifar_files() {
        let folder = tempfile::tempdir().unwrap();
        let record = |label: u8| [vec![label], vec![0; 3072]].concat();
        for (name, bytes) in [
            ("data_batch_1.bin", record(0)),
            ("data_batch_2.bin", record(1)),
            ("test_batch.bin", record(1)),
            ("batches.meta.txt", b"plane\ncar\n\n".to_vec()),
        ] {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let set = open_path(folder.path()).unwrap();
        assert_eq!(set.train.labels().unwrap(), [0, 1]);
        assert_eq!(set.test.unwrap().classes(), ["plane", "car"]);
    }

    #[test]
    fn opens_arrays_and_tables() {
        let folder = tempfile::tempdir().unwrap();
        let array = |count: u8| {
            let mut head = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 1, 1), }}");
            head.extend(std::iter::repeat_n(' ', 117 - head.len()));
            [b"\x93NUMPY\x01\x00\x76\x00", head.as_bytes(), b"\n", &vec![0; count.into()]].concat()
        };
        fs::write(folder.path().join("train.npy"), array(3)).unwrap();
        fs::write(folder.path().join("test.npy"), array(2)).unwrap();
        for path in [folder.path().to_owned(), folder.path().join("train.npy")] {
            let set = open_path(&path).unwrap();
            assert_eq!((set.train.len(), set.test.unwrap().len()), (3, 2));
        }
        fs::write(folder.path().join("digits.csv"), "1,2,3,4,0\n").unwrap();
        let set = open_path(&folder.path().join("digits.csv")).unwrap();
        assert_eq!((set.name.as_str(), set.train.len()), ("digits", 1));
    }

    #[test]
    fn says_what_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let message = |source: &str| open(source).err().unwrap().to_string();
        let error = message(folder.path().to_str().unwrap());
        assert!(error.contains("found neither images (png, jpg, bmp, webp), class folders"), "{error}");
        assert_eq!(message("./nowhere"), "./nowhere: there is no such file or folder");
        let error = message("fashion-mnits");
        assert!(error.contains("no such file or folder") && error.contains("fashion-mnist"), "{error}");
        assert!(message("brown").contains("brown"));
        fs::write(folder.path().join("x.txt"), "").unwrap();
        assert!(message(folder.path().join("x.txt").to_str().unwrap()).contains("a set is a folder"));
    }
}
