//! Index masks: an image file whose value at a pixel is the class there.
//!
//! A folder as SegNet's copy of CamVid has it: `train`, `val` and `test` with images, and beside each a folder of masks of the
//! same names: `trainannot` (or `train_masks`, `train_labels`). What the values are called may stand in `classes.txt`, a line
//! for each from 0. Masks are grey PNG files of 8 bits, or with a palette, whose colours are for the eye only: the index counts.

use super::{by_stem, colour, lines};
use crate::Image;
use crate::dataset::DecodeLimits;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use selfsup_core::{Error, Result};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The class of every pixel of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The classes, row by row.
    pub classes: Vec<u8>,
    /// The rows.
    pub height: usize,
    /// The columns.
    pub width: usize,
}

impl Mask {
    /// Reads a PNG file of indices.
    ///
    /// # Errors
    /// [`Error::Data`] when the file is no PNG of one 8-bit value (or palette index) a pixel.
    pub fn read(path: &Path) -> Result<Mask> {
        let bad = |e: png::DecodingError| Error::data(path, format!("cannot be decoded as PNG: {e}"));
        let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        let bytes = DecodeLimits::default().bytes as usize;
        let mut decoder = Decoder::new_with_limits(file, Limits { bytes });
        decoder.set_transformations(Transformations::IDENTITY);
        let mut reader = decoder.read_info().map_err(bad)?;
        let (color, depth) = reader.output_color_type();
        if !matches!(color, ColorType::Grayscale | ColorType::Indexed) || depth != BitDepth::Eight {
            let problem = format!(
                "is {color:?} of {} bits: a mask is a PNG of one value or palette index of 8 bits a pixel",
                depth as u8
            );
            return Err(Error::data(path, problem));
        }
        let (width, height) = (reader.info().width as usize, reader.info().height as usize);
        if width.checked_mul(height).is_none_or(|pixels| pixels > bytes) {
            return Err(Error::data(path, format!("{width} x {height} pixels: too many")));
        }
        let mut classes = vec![0; width * height];
        reader.next_frame(&mut classes).map_err(bad)?;
        Ok(Mask { classes, height, width })
    }

    /// The mask at another size: every pixel takes the class of the nearest one.
    ///
    /// # Errors
    /// [`Error::Config`] when a side is 0.
    pub fn resized(&self, [height, width]: [usize; 2]) -> Result<Mask> {
        if height == 0 || width == 0 {
            return Err(Error::config("size", format!("{height} x {width}"), "at least one pixel a side"));
        }
        let nearest = |i: usize, to: usize, from: usize| ((2 * i + 1) * from / (2 * to)).min(from - 1);
        let columns: Vec<usize> = (0..width).map(|x| nearest(x, width, self.width)).collect();
        let classes = (0..height)
            .flat_map(|y| {
                let row = nearest(y, height, self.height) * self.width;
                columns.iter().map(move |x| row + x)
            })
            .map(|at| self.classes[at])
            .collect();
        Ok(Mask { classes, height, width })
    }
}

/// Images with their masks.
#[derive(Clone, Debug)]
pub struct MaskedImages {
    files: Vec<(PathBuf, PathBuf)>,
    /// The names of the values, where they are known.
    names: Vec<String>,
    void: Option<u8>,
}

impl MaskedImages {
    /// Pairs the images of one folder with the masks of another by their names. `names` are those of the values from 0, empty
    /// where nobody knows them; pixels of value `void` have no class.
    ///
    /// # Errors
    /// [`Error::Data`] when a folder cannot be read or holds nothing, or an image has no mask.
    pub fn open(images: &Path, masks: &Path, names: &[String], void: Option<u8>) -> Result<MaskedImages> {
        let (found, mut of_masks) = (by_stem(images)?, by_stem(masks)?);
        if found.is_empty() {
            return Err(Error::data(images, "the folder holds no image"));
        }
        let mut files = Vec::new();
        for (stem, image) in found {
            let Some(mask) = of_masks.remove(&stem) else {
                return Err(Error::data(
                    image,
                    format!("there is no mask {stem}.png in {}", masks.display()),
                ));
            };
            files.push((image, mask));
        }
        if let Some((_, mask)) = of_masks.into_iter().next() {
            return Err(Error::data(mask, format!("there is no image of this name in {}", images.display())));
        }
        Ok(MaskedImages { files, names: names.to_vec(), void })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none; [`MaskedImages::open`] refuses that.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Leaves `count` images where there are more, evenly taken, so that one drive or class does not stand for all.
    pub fn take_evenly(&mut self, count: usize) {
        let n = self.files.len();
        if count < n {
            self.files = (0..count).map(|i| self.files[i * n / count].clone()).collect();
        }
    }

    /// An image's name: its file's, without ending.
    pub fn name(&self, index: usize) -> String {
        self.files[index].0.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// An image in colour, and its mask.
    ///
    /// # Errors
    /// [`Error::Data`] when a file cannot be read, the mask has another size than its image, or it holds a value that has no
    /// name and is not void.
    pub fn get(&self, index: usize) -> Result<(Image, Mask)> {
        let (image, path) = self
            .files
            .get(index)
            .ok_or_else(|| Error::config("index", index, format!("an image in 0..{}", self.files.len())))?;
        let (image, mask) = (colour(image)?, Mask::read(path)?);
        if (mask.height, mask.width) != (image.height(), image.width()) {
            let problem = format!(
                "the mask has {} x {} pixels, its image {} x {} (height x width): they must be the same",
                mask.height,
                mask.width,
                image.height(),
                image.width()
            );
            return Err(Error::data(path, problem));
        }
        if !self.names.is_empty() {
            let wrong = |&value: &u8| usize::from(value) >= self.names.len() && Some(value) != self.void;
            if let Some(at) = mask.classes.iter().position(wrong) {
                let problem = format!(
                    "value {} at row {}, column {}: classes.txt names 0..{}{}",
                    mask.classes[at],
                    at / mask.width,
                    at % mask.width,
                    self.names.len(),
                    self.void.map_or(String::new(), |void| format!(", and {void} is void"))
                );
                return Err(Error::data(path, problem));
            }
        }
        Ok((image, mask))
    }
}

/// The parts of a set with masks.
#[derive(Clone, Debug)]
pub struct MaskedSplits {
    /// What is fitted.
    pub train: MaskedImages,
    /// What chooses; none where the set has no such part.
    pub validation: Option<MaskedImages>,
    /// What is judged by.
    pub test: MaskedImages,
    /// The names of the values from 0; empty without `classes.txt`.
    pub names: Vec<String>,
}

impl MaskedSplits {
    /// Opens a folder with the parts `train`, `test` and, where it has one, `val`.
    ///
    /// # Errors
    /// [`Error::Data`] when a part or its masks are missing, and those of [`MaskedImages::open`].
    pub fn open(root: &Path, void: Option<u8>) -> Result<MaskedSplits> {
        if !root.is_dir() {
            return Err(Error::data(root, "there is no such folder"));
        }
        let listed = root.join("classes.txt");
        let names = if listed.is_file() { lines(&listed)? } else { Vec::new() };
        let part = |part: &str| -> Result<Option<MaskedImages>> {
            let images = root.join(part);
            if !images.is_dir() {
                return Ok(None);
            }
            let endings = ["annot", "_masks", "_labels"];
            let mut masks = endings.iter().map(|ending| root.join(format!("{part}{ending}")));
            let Some(masks) = masks.find(|masks| masks.is_dir()) else {
                let problem =
                    format!("there is no folder of its masks, {part}annot, {part}_masks or {part}_labels");
                return Err(Error::data(images, problem));
            };
            MaskedImages::open(&images, &masks, &names, void).map(Some)
        };
        let needed = |name: &str| {
            part(name)?.ok_or_else(|| Error::data(root, format!("there is no folder {name} with images")))
        };
        Ok(MaskedSplits { train: needed("train")?, validation: part("val")?, test: needed("test")?, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(path: &Path, [height, width]: [u32; 2], values: &[u8], palette: Option<&[u8]>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, height);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_color(if palette.is_some() { ColorType::Indexed } else { ColorType::Grayscale });
        if let Some(palette) = palette {
            encoder.set_palette(palette.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(values).unwrap();
    }

    fn set(root: &Path) {
        for part in ["train", "test"] {
            write(&root.join(format!("{part}/a.png")), [2, 3], &[9, 8, 7, 6, 5, 4], None);
            write(&root.join(format!("{part}annot/a.png")), [2, 3], &[0, 1, 2, 2, 11, 0], None);
        }
    }

    fn refused(root: &Path, void: Option<u8>) -> String {
        let read = |splits: MaskedSplits| splits.train.get(0).map(|_| ());
        let error = MaskedSplits::open(root, void).and_then(read).unwrap_err().to_string();
        error.replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "root")
    }

    #[test]
    fn parts_names_and_values_are_read() {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path());
        let splits = MaskedSplits::open(folder.path(), Some(11)).unwrap();
        assert!(splits.validation.is_none() && splits.names.is_empty() && splits.test.len() == 1);
        let (image, mask) = splits.train.get(0).unwrap();
        assert_eq!(image.channels(), 3);
        assert_eq!(mask.classes, [0, 1, 2, 2, 11, 0]);
        assert_eq!(splits.train.name(0), "a");
        fs::write(folder.path().join("classes.txt"), "sky\nroad\n\ntree\n").unwrap();
        let splits = MaskedSplits::open(folder.path(), Some(11)).unwrap();
        assert_eq!(splits.names, ["sky", "road", "tree"]);
        assert!(splits.train.get(0).is_ok());
    }

    #[test]
    fn fewer_images_are_taken_evenly() {
        let files = (0..10).map(|i| (PathBuf::from(format!("{i}.png")), PathBuf::new())).collect();
        let mut images = MaskedImages { files, names: vec![], void: None };
        images.take_evenly(4);
        let names = |images: &MaskedImages| (0..images.len()).map(|i| images.name(i)).collect::<Vec<_>>();
        assert_eq!(names(&images), ["0", "2", "5", "7"]);
        images.take_evenly(9);
        assert_eq!(images.len(), 4);
    }

    #[test]
    fn of_a_palette_the_index_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.png");
        write(&path, [1, 3], &[2, 0, 1], Some(&[10, 20, 30, 40, 50, 60, 70, 80, 90]));
        assert_eq!(Mask::read(&path).unwrap().classes, [2, 0, 1]);
    }

    #[test]
    fn a_resized_mask_takes_the_nearest_class() {
        // F.interpolate(torch.arange(12.).reshape(1, 1, 3, 4), size=(5, 3), mode="nearest-exact")
        let mask = Mask { classes: (0..12).collect(), height: 3, width: 4 };
        let found = mask.resized([5, 3]).unwrap();
        assert_eq!(found.classes, [0, 2, 3, 0, 2, 3, 4, 6, 7, 8, 10, 11, 8, 10, 11]);
        assert_eq!(mask.resized([3, 4]).unwrap(), mask);
        assert_eq!(mask.resized([0, 3]).unwrap_err().to_string(), "size = 0 x 3: at least one pixel a side");
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(refused(root, None), "root: there is no folder train with images");
        set(root);
        fs::write(root.join("classes.txt"), "sky\nroad\ntree").unwrap();
        assert_eq!(
            refused(root, None),
            "trainannot/a.png: value 11 at row 1, column 1: classes.txt names 0..3"
        );
        write(&root.join("trainannot/a.png"), [3, 2], &[0; 6], None);
        assert_eq!(
            refused(root, Some(11)),
            "trainannot/a.png: the mask has 3 x 2 pixels, its image 2 x 3 (height x width): they must be the same"
        );
        image::save_buffer(root.join("trainannot/a.png"), &[0; 18], 3, 2, image::ExtendedColorType::Rgb8)
            .unwrap();
        assert!(
            refused(root, None)
                .starts_with("trainannot/a.png: is Rgb of 8 bits: a mask is a PNG of one value")
        );
        fs::write(root.join("trainannot/a.png"), "no picture").unwrap();
        assert!(refused(root, None).starts_with("trainannot/a.png: cannot be decoded as PNG"));
        write(&root.join("train/b.png"), [1, 1], &[0], None);
        assert_eq!(refused(root, None), "train/b.png: there is no mask b.png in trainannot");
        write(&root.join("trainannot/b.png"), [1, 1], &[0], None);
        write(&root.join("trainannot/c.png"), [1, 1], &[0], None);
        assert_eq!(refused(root, None), "trainannot/c.png: there is no image of this name in train");
        fs::remove_dir_all(root.join("trainannot")).unwrap();
        assert_eq!(
            refused(root, None),
            "train: there is no folder of its masks, trainannot, train_masks or train_labels"
        );
    }
}
