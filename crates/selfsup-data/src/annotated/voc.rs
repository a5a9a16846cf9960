//! Boxes from the XML files of Pascal VOC (Everingham et al. 2010, *The Pascal visual object classes challenge*).
//!
//! A folder as there: `JPEGImages/X.jpg`, `Annotations/X.xml`, and the parts in `ImageSets/Main/{train,val,test}.txt`, a name a
//! line. A box is given by its first and last row and column of pixels, counted from 1; here it becomes edges counted from 0, so
//! that a box from column 1 to 1 is one pixel wide. Of tools that count from 0, a first column of 0 is taken as 1.

use super::{by_stem, colour, lines};
use crate::Image;
use roxmltree::{Document, Node};
use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A box of an annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct VocBox {
    /// The name of its class.
    pub class: String,
    /// Left, upper, right and lower edge in pixels.
    pub edges: [f64; 4],
    /// Whether it is marked as hard to tell: neither found nor missed by VOC's rules.
    pub difficult: bool,
}

/// Reads an annotation: the image's height and width, and its boxes.
///
/// # Errors
/// [`Error::Data`] with the file, and the object and field in it, when something is missing, no number, or a box lies outside the
/// image or has its edges in another order.
pub fn read_voc(path: &Path) -> Result<([usize; 2], Vec<VocBox>)> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let document = Document::parse(&text).map_err(|e| Error::data(path, format!("is no XML: {e}")))?;
    let root = document.root_element();
    let reader = Reader { path, document: &document };
    if root.tag_name().name() != "annotation" {
        let problem = format!("begins with <{}>: an <annotation> of Pascal VOC", root.tag_name().name());
        return Err(Error::data(path, problem));
    }
    let size = reader.child(root, "size")?;
    let [height, width] = [reader.number(size, "height")?, reader.number(size, "width")?];
    let whole = |name: &str, side: f64| {
        if side >= 1.0 && side.fract() == 0.0 {
            Ok(side as usize)
        } else {
            Err(reader.bad(size, &format!("<{name}> is {side}: a number of pixels")))
        }
    };
    let shape = [whole("height", height)?, whole("width", width)?];
    let objects = root.children().filter(|node| node.has_tag_name("object"));
    let boxes = objects.map(|object| reader.object(object, height, width)).collect::<Result<_>>()?;
    Ok((shape, boxes))
}

struct Reader<'a> {
    path: &'a Path,
    document: &'a Document<'a>,
}

impl Reader<'_> {
    fn bad(&self, node: Node, problem: &str) -> Error {
        let line = self.document.text_pos_at(node.range().start).row;
        Error::data(self.path, format!("line {line}: {problem}"))
    }

    fn child<'b>(&self, node: Node<'b, 'b>, name: &str) -> Result<Node<'b, 'b>> {
        node.children()
            .find(|child| child.has_tag_name(name))
            .ok_or_else(|| self.bad(node, &format!("<{}> has no <{name}>", node.tag_name().name())))
    }

    fn text<'b>(&self, node: Node<'b, 'b>, name: &str) -> Result<&'b str> {
        let text = self.child(node, name)?.text().unwrap_or_default().trim();
        if text.is_empty() {
            return Err(self.bad(node, &format!("<{name}> is empty")));
        }
        Ok(text)
    }

    fn number(&self, node: Node, name: &str) -> Result<f64> {
        let text = self.text(node, name)?;
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.bad(node, &format!("<{name}> is {text:?}: a number"))),
        }
    }

    fn object(&self, object: Node, height: f64, width: f64) -> Result<VocBox> {
        let class = self.text(object, "name")?.to_owned();
        let bounds = self.child(object, "bndbox")?;
        let mut edges = [0.0; 4];
        for (edge, name) in edges.iter_mut().zip(["xmin", "ymin", "xmax", "ymax"]) {
            *edge = self.number(bounds, name)?;
        }
        let [x0, y0, x1, y1] = edges;
        if x0 < 0.0 || y0 < 0.0 || x1 > width || y1 > height {
            let problem = format!(
                "the box {x0}, {y0} to {x1}, {y1} of {class} lies outside the image of {width} x {height}"
            );
            return Err(self.bad(bounds, &problem));
        }
        if x1 < x0 || y1 < y0 {
            let problem = format!("the box {x0}, {y0} to {x1}, {y1} of {class} ends before it begins");
            return Err(self.bad(bounds, &problem));
        }
        let difficult = object.children().find(|child| child.has_tag_name("difficult"));
        let difficult = difficult.and_then(|node| node.text()).is_some_and(|text| text.trim() == "1");
        // A box in column 0 alone, of a tool that counts from 0, is one pixel wide.
        let first = |edge: f64| (edge - 1.0).max(0.0);
        let edges = [first(x0), first(y0), x1.max(1.0), y1.max(1.0)];
        Ok(VocBox { class, edges, difficult })
    }
}

/// Images with their boxes.
#[derive(Clone, Debug)]
pub struct VocImages {
    samples: Vec<VocSample>,
}

#[derive(Clone, Debug)]
struct VocSample {
    image: PathBuf,
    annotation: PathBuf,
    shape: [usize; 2],
    boxes: Vec<VocBox>,
}

impl VocImages {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Leaves `count` images where there are more, evenly taken, so that one drive or class does not stand for all.
    pub fn take_evenly(&mut self, count: usize) {
        let n = self.samples.len();
        if count < n {
            self.samples = (0..count).map(|i| self.samples[i * n / count].clone()).collect();
        }
    }

    /// An image's name: its file's, without ending.
    pub fn name(&self, index: usize) -> String {
        self.samples[index].image.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The boxes of an image.
    pub fn boxes(&self, index: usize) -> &[VocBox] {
        &self.samples[index].boxes
    }

    /// The height and width of an image, as its annotation has them.
    pub fn shape(&self, index: usize) -> [usize; 2] {
        self.samples[index].shape
    }

    /// An image in colour.
    ///
    /// # Errors
    /// [`Error::Data`] when the file cannot be read, or has another size than its annotation says.
    pub fn image(&self, index: usize) -> Result<Image> {
        let sample = self
            .samples
            .get(index)
            .ok_or_else(|| Error::config("index", index, format!("an image in 0..{}", self.samples.len())))?;
        let image = colour(&sample.image)?;
        let [height, width] = sample.shape;
        if [image.height(), image.width()] != sample.shape {
            let problem = format!(
                "<size> is {width} x {height}, but the image has {} x {} (width x height)",
                image.width(),
                image.height()
            );
            return Err(Error::data(&sample.annotation, problem));
        }
        Ok(image)
    }
}

/// The parts of a set with boxes.
#[derive(Clone, Debug)]
pub struct VocSplits {
    /// What is fitted.
    pub train: VocImages,
    /// What chooses; none where the set has no such part.
    pub validation: Option<VocImages>,
    /// What is judged by.
    pub test: VocImages,
    /// The names of the classes, sorted: those of `classes.txt` where it is there, else all that occur in the training part.
    pub classes: Vec<String>,
}

impl VocSplits {
    /// Opens a folder of Pascal VOC. All annotations are read, no image.
    ///
    /// # Errors
    /// [`Error::Data`] when a part, an image or an annotation is missing, an annotation is wrong (as [`read_voc`]), a box has a
    /// class that is not known, or the training part has no box.
    pub fn open(root: &Path) -> Result<VocSplits> {
        if !root.is_dir() {
            return Err(Error::data(root, "there is no such folder"));
        }
        let images = by_stem(&root.join("JPEGImages"))?;
        let part = |part: &str| -> Result<Option<VocImages>> {
            let list = root.join("ImageSets/Main").join(format!("{part}.txt"));
            if list.is_file() { samples(root, &list, &images).map(Some) } else { Ok(None) }
        };
        let needed = |name: &str| {
            part(name)?.filter(|part| !part.is_empty()).ok_or_else(|| {
                Error::data(root, format!("ImageSets/Main/{name}.txt is missing or names no image"))
            })
        };
        let (train, validation, test) = (needed("train")?, part("val")?, needed("test")?);
        let listed = root.join("classes.txt");
        let classes = if listed.is_file() {
            let names: BTreeSet<String> = lines(&listed)?.into_iter().collect();
            names.into_iter().collect()
        } else {
            occurring(&train)
        };
        for sample in
            [Some(&train), validation.as_ref(), Some(&test)].into_iter().flatten().flat_map(|p| &p.samples)
        {
            if let Some(unknown) = sample.boxes.iter().find(|b| !classes.contains(&b.class)) {
                let problem =
                    format!("a box of class {:?}: the classes are {}", unknown.class, classes.join(", "));
                return Err(Error::data(&sample.annotation, problem));
            }
        }
        if train.samples.iter().all(|sample| sample.boxes.is_empty()) {
            return Err(Error::data(root, "no annotation of the training part has a box"));
        }
        Ok(VocSplits { train, validation: validation.filter(|part| !part.is_empty()), test, classes })
    }
}

fn occurring(images: &VocImages) -> Vec<String> {
    let names: BTreeSet<&String> = images.samples.iter().flat_map(|s| &s.boxes).map(|b| &b.class).collect();
    names.into_iter().cloned().collect()
}

fn samples(root: &Path, list: &Path, images: &BTreeMap<String, PathBuf>) -> Result<VocImages> {
    let one = |name: String| {
        // Lists of a single class have a second column.
        let name = name.split_whitespace().next().unwrap_or_default().to_owned();
        let Some(image) = images.get(&name) else {
            return Err(Error::data(list, format!("names {name}, of which JPEGImages has no image")));
        };
        let annotation = root.join("Annotations").join(format!("{name}.xml"));
        if !annotation.is_file() {
            return Err(Error::data(annotation, format!("is missing, but {} names it", list.display())));
        }
        let (shape, boxes) = read_voc(&annotation)?;
        Ok(VocSample { image: image.clone(), annotation, shape, boxes })
    };
    Ok(VocImages { samples: lines(list)?.into_iter().map(one).collect::<Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn object(class: &str, edges: [&str; 4]) -> String {
        let [x0, y0, x1, y1] = edges;
        format!(
            "<object>\n<name>{class}</name><difficult>0</difficult>\n<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>\
             <xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>\n"
        )
    }

    fn annotation(objects: &str) -> String {
        format!(
            "<annotation>\n<size><width>8</width><height>6</height><depth>3</depth></size>\n{objects}</annotation>"
        )
    }

    fn set(root: &Path, xml: &str) {
        for folder in ["JPEGImages", "Annotations", "ImageSets/Main"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (name, part) in [("a", "train"), ("b", "test")] {
            let image = root.join(format!("JPEGImages/{name}.png"));
            image::save_buffer(image, &[7; 48], 8, 6, image::ExtendedColorType::L8).unwrap();
            fs::write(root.join(format!("Annotations/{name}.xml")), xml).unwrap();
            fs::write(root.join(format!("ImageSets/Main/{part}.txt")), format!("{name}\n")).unwrap();
        }
    }

    fn refused(root: &Path) -> String {
        let error = VocSplits::open(root).and_then(|s| s.train.image(0)).unwrap_err().to_string();
        error.replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "root")
    }

    #[test]
    fn boxes_are_edges_counted_from_nought() {
        let folder = tempfile::tempdir().unwrap();
        let objects = object("cell", ["1", "2", "8", "6"]) + &object("dot", ["3", "3", "3", "3"]);
        set(folder.path(), &annotation(&objects));
        let splits = VocSplits::open(folder.path()).unwrap();
        assert_eq!(splits.classes, ["cell", "dot"]);
        assert!(splits.validation.is_none() && (splits.train.len(), splits.test.len()) == (1, 1));
        assert_eq!((splits.train.shape(0), splits.train.name(0)), ([6, 8], "a".to_owned()));
        let edges: Vec<[f64; 4]> = splits.train.boxes(0).iter().map(|b| b.edges).collect();
        assert_eq!(edges, [[0.0, 1.0, 8.0, 6.0], [2.0, 2.0, 3.0, 3.0]]);
        assert_eq!(splits.train.image(0).unwrap().channels(), 3);
    }

    #[test]
    fn fewer_images_are_taken_evenly() {
        let sample = |i: i32| VocSample {
            image: PathBuf::from(format!("{i}.png")),
            annotation: PathBuf::new(),
            shape: [1, 1],
            boxes: vec![],
        };
        let mut images = VocImages { samples: (0..10).map(sample).collect() };
        images.take_evenly(4);
        assert_eq!((0..images.len()).map(|i| images.name(i)).collect::<Vec<_>>(), ["0", "2", "5", "7"]);
        images.take_evenly(9);
        assert_eq!(images.len(), 4);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_value() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut found = Vec::new();
        for objects in [
            object("cell", ["1", "1", "9", "6"]),
            object("cell", ["5", "1", "4", "6"]),
            object("cell", ["1", "1", "wide", "6"]),
            object("", ["1", "1", "2", "2"]),
            "<object><name>cell</name></object>".to_owned(),
            String::new(),
        ] {
            set(root, &annotation(&objects));
            found.push(refused(root));
        }
        assert_eq!(
            found,
            [
                "Annotations/a.xml: line 5: the box 1, 1 to 9, 6 of cell lies outside the image of 8 x 6",
                "Annotations/a.xml: line 5: the box 5, 1 to 4, 6 of cell ends before it begins",
                "Annotations/a.xml: line 5: <xmax> is \"wide\": a number",
                "Annotations/a.xml: line 3: <name> is empty",
                "Annotations/a.xml: line 3: <object> has no <bndbox>",
                "root: no annotation of the training part has a box",
            ]
        );
        set(root, "<annotation><size>");
        assert!(refused(root).starts_with("Annotations/a.xml: is no XML: "));
        set(root, "<html></html>");
        assert_eq!(refused(root), "Annotations/a.xml: begins with <html>: an <annotation> of Pascal VOC");
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        set(root, &annotation(&object("cell", ["1", "1", "4", "4"])));
        fs::write(root.join("Annotations/b.xml"), annotation(&object("leaf", ["1", "1", "4", "4"]))).unwrap();
        assert_eq!(refused(root), "Annotations/b.xml: a box of class \"leaf\": the classes are cell");
        fs::write(root.join("classes.txt"), "leaf\ncell\n").unwrap();
        assert_eq!(VocSplits::open(root).unwrap().classes, ["cell", "leaf"]);
        image::save_buffer(root.join("JPEGImages/a.png"), &[7; 48], 6, 8, image::ExtendedColorType::L8)
            .unwrap();
        assert_eq!(
            refused(root),
            "Annotations/a.xml: <size> is 8 x 6, but the image has 6 x 8 (width x height)"
        );
        fs::remove_file(root.join("Annotations/a.xml")).unwrap();
        assert!(refused(root).starts_with("Annotations/a.xml: is missing, but"));
        fs::write(root.join("ImageSets/Main/train.txt"), "a\nc\n").unwrap();
        set(root, &annotation(&object("cell", ["1", "1", "4", "4"])));
        fs::write(root.join("ImageSets/Main/train.txt"), "a\nc\n").unwrap();
        assert_eq!(refused(root), "ImageSets/Main/train.txt: names c, of which JPEGImages has no image");
        fs::write(root.join("ImageSets/Main/train.txt"), "\n").unwrap();
        assert_eq!(refused(root), "root: ImageSets/Main/train.txt is missing or names no image");
    }
}
