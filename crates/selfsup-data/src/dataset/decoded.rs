//! Another set's images, decoded once and kept in a file.

use super::ImageSet;
use super::npy::read_at;
use crate::Image;
use rayon::prelude::*;
use selfsup_core::state::write_whole;
use selfsup_core::{Dataset, Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many images are decoded at a time.
const CHUNK: usize = 256;
/// How an index begins; the number is the format's.
const MAGIC: &[u8; 16] = b"selfsup-pixels-1";

/// A set of images whose pixels lie decoded in a file: reading a sample copies it, which is many times faster than
/// decoding a photograph. It costs `height * width * channels` bytes of disk an image.
///
/// The file is made when the set is opened for the first time and found again as long as the set's files are the same,
/// by their names, sizes and times. It is written beside its place and then renamed: what is found is whole. Samples
/// are read from their place in the file and not mapped into memory, so that the program does not grow with the set.
pub struct DecodedImages {
    set: Arc<dyn ImageSet>,
    path: PathBuf,
    file: File,
    places: Vec<Place>,
}

/// Where the pixels of an image lie, and its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: u64,
    height: u32,
    width: u32,
}

impl DecodedImages {
    /// Opens the decoded pixels of `set` in `folder`, and makes them where they are not there yet; `progress` hears how
    /// many images are decoded. A set that needs no decoding ([`ImageSet::stamp`]) is returned as it is.
    ///
    /// # Errors
    /// When an image cannot be decoded, or the folder cannot be written, for instance because the disk is full; nothing
    /// of a file that was not finished is left then.
    pub fn open(
        set: Arc<dyn ImageSet>,
        folder: &Path,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Arc<dyn ImageSet>> {
        let Some(stamp) = set.stamp()? else { return Ok(set) };
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let name = format!("{stamp:016x}-{}", set.channels());
        let (path, index) = (folder.join(format!("{name}.pixels")), folder.join(format!("{name}.index")));
        let places = if let Some(places) = read_index(&index, &path, set.as_ref()) {
            places
        } else {
            let places = decode_all(set.as_ref(), folder, &path, progress)?;
            write_whole(&index, &index_bytes(&places))?;
            places
        };
        let file = File::open(&path).map_err(Error::io(&path))?;
        Ok(Arc::new(DecodedImages { set, path, file, places }))
    }
}

/// Decodes all images, in order, to a file at `path`.
fn decode_all(
    set: &dyn ImageSet,
    folder: &Path,
    path: &Path,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Place>> {
    let temporary = tempfile::Builder::new()
        .prefix(selfsup_core::state::WRITING)
        .tempfile_in(folder)
        .map_err(Error::io(folder))?;
    let mut file = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let (mut places, mut offset) = (Vec::with_capacity(set.len()), 0);
    for start in (0..set.len()).step_by(CHUNK) {
        let chunk = start..(start + CHUNK).min(set.len());
        let images: Vec<Image> = chunk.into_par_iter().map(|i| set.get(i)).collect::<Result<_>>()?;
        for image in images {
            file.write_all(image.pixels()).map_err(Error::io(path))?;
            places.push(Place { offset, height: image.height() as u32, width: image.width() as u32 });
            offset += image.pixels().len() as u64;
        }
        progress(places.len());
    }
    file.flush().map_err(Error::io(path))?;
    drop(file);
    temporary.as_file().sync_all().map_err(Error::io(path))?;
    temporary.persist(path).map_err(|e| Error::io(path)(e.error))?;
    Ok(places)
}

fn index_bytes(places: &[Place]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for place in places {
        bytes.extend(place.offset.to_le_bytes());
        bytes.extend(place.height.to_le_bytes());
        bytes.extend(place.width.to_le_bytes());
    }
    bytes
}

/// The places of an index that fits the set and the file of pixels; else nothing, and both are made anew.
fn read_index(index: &Path, pixels: &Path, set: &dyn ImageSet) -> Option<Vec<Place>> {
    let bytes = fs::read(index).ok()?;
    let entries = bytes.strip_prefix(MAGIC)?;
    if entries.len() != 16 * set.len() {
        return None;
    }
    let mut places = Vec::with_capacity(set.len());
    let mut end = 0;
    for entry in entries.chunks_exact(16) {
        let place = Place {
            offset: u64::from_le_bytes(entry[..8].try_into().ok()?),
            height: u32::from_le_bytes(entry[8..12].try_into().ok()?),
            width: u32::from_le_bytes(entry[12..].try_into().ok()?),
        };
        if place.offset != end {
            return None;
        }
        end += u64::from(place.height) * u64::from(place.width) * set.channels() as u64;
        places.push(place);
    }
    (fs::metadata(pixels).ok()?.len() == end).then_some(places)
}

impl Dataset for DecodedImages {
    type Item = Image;

    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, index: usize) -> Result<Image> {
        let Some(&Place { offset, height, width }) = self.places.get(index) else {
            return Err(Error::config("index", index, format!("a sample in 0..{}", self.len())));
        };
        let shape = [height as usize, width as usize, self.channels()];
        let mut pixels = vec![0; shape.iter().product()];
        read_at(&self.file, &mut pixels, offset).map_err(Error::io(&self.path))?;
        Image::new(pixels, shape)
    }
}

impl ImageSet for DecodedImages {
    fn channels(&self) -> usize {
        self.set.channels()
    }

    fn labels(&self) -> Option<Vec<i64>> {
        self.set.labels()
    }

    fn classes(&self) -> Vec<String> {
        self.set.classes()
    }

    fn name(&self, index: usize) -> String {
        self.set.name(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{ArrayImages, ImageFolder};

    fn folder(values: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (i, &value) in values.iter().enumerate() {
            let (height, width) = (2 + i as u32, 3);
            let pixels = vec![value; (height * width * 3) as usize];
            let path = folder.path().join(format!("{i}.png"));
            image::save_buffer(path, &pixels, width, height, image::ExtendedColorType::Rgb8).unwrap();
        }
        folder
    }

    fn opened(images: &Path, cache: &Path) -> (Arc<dyn ImageSet>, usize) {
        let mut decoded = 0;
        let set = Arc::new(ImageFolder::open(images).unwrap());
        let set = DecodedImages::open(set, cache, &mut |done| decoded = done).unwrap();
        (set, decoded)
    }

    #[test]
    fn holds_what_decoding_gives_and_decodes_once() {
        let (images, cache) = (folder(&[9, 80, 200]), tempfile::tempdir().unwrap());
        let plain = ImageFolder::open(images.path()).unwrap();
        for expected in [3, 0] {
            let (set, decoded) = opened(images.path(), cache.path());
            assert_eq!((decoded, set.len(), set.channels()), (expected, 3, 3));
            for i in 0..3 {
                let (found, image) = (set.get(i).unwrap(), plain.get(i).unwrap());
                assert_eq!((found.height(), found.pixels()), (image.height(), image.pixels()));
                assert_eq!(set.name(i), plain.name(i));
            }
        }
        assert!(opened(images.path(), cache.path()).0.get(3).is_err());
    }

    #[test]
    fn is_made_anew_when_a_file_changes_or_it_is_damaged() {
        let (images, cache) = (folder(&[1, 2]), tempfile::tempdir().unwrap());
        assert_eq!(opened(images.path(), cache.path()).1, 2);
        let file = |ending: &str| {
            let found = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
            found.into_iter().find(|path| path.extension().is_some_and(|e| e == ending)).unwrap()
        };
        let pixels = fs::read(file("pixels")).unwrap();
        fs::write(file("pixels"), &pixels[1..]).unwrap();
        assert_eq!(opened(images.path(), cache.path()).1, 2);
        assert_eq!(fs::read(file("pixels")).unwrap(), pixels);
        image::save_buffer(images.path().join("0.png"), &[7; 27], 3, 3, image::ExtendedColorType::Rgb8)
            .unwrap();
        let (set, decoded) = opened(images.path(), cache.path());
        assert_eq!((decoded, set.get(0).unwrap().pixels()[0]), (2, 7));
    }

    #[test]
    fn an_image_that_cannot_be_decoded_leaves_nothing_behind() {
        let (images, cache) = (folder(&[1, 2]), tempfile::tempdir().unwrap());
        fs::write(images.path().join("1.png"), b"no image").unwrap();
        let set = Arc::new(ImageFolder::open(images.path()).unwrap());
        let error = DecodedImages::open(set, cache.path(), &mut |_| ()).err().unwrap().to_string();
        assert!(error.contains("1.png"), "{error}");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_set_in_memory_is_left_as_it_is() {
        let cache = tempfile::tempdir().unwrap();
        let set: Arc<dyn ImageSet> = Arc::new(ArrayImages::new(vec![1, 2], [1, 1, 1]).unwrap());
        let same = DecodedImages::open(Arc::clone(&set), cache.path(), &mut |_| ()).unwrap();
        assert!(Arc::ptr_eq(&set, &same));
    }
}
