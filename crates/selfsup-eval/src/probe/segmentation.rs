//! The linear segmentation probe: one linear classifier for every place of a frozen feature map, as DINO and DINOv2 judge
//! their features.
//!
//! ```text
//! z_nij = the map's features at a cell      y_nij = the shares of classes among the cell's labelled pixels
//! min over W, b    mean_nij -y_nij . log softmax(W z_nij + b)  +  1/(2 C M) |W|^2            M cells
//! prediction = argmax over classes of the scores W z + b, enlarged bilinearly to the labels' size
//! ```
//! Scores are enlarged, not predictions, so that borders between cells are found too; mIoU counts pixels at the labels' size.
//! The strength is chosen by the cross-entropy of validation images, or of held-out training images (not of held-out cells, whose
//! neighbours were seen), along a path with warm starts. What a map cannot show at its resolution a linear head cannot draw: it is a probe, not a segmenter.

use super::maps::checked_maps;
use super::multi_label::hold_out_any;
use crate::interval::{LEVEL, percentiles};
use crate::logistic::{Link, Problem};
use crate::measurement::{Origin, with_intervals};
use crate::standardise::Standardiser;
use crate::strengths::least_loss;
use crate::{Confusion, LinearProbeConfig, Logistic, Mean, Measurement, Segmentation};
use rand::RngExt;
use rand::seq::SliceRandom;
use selfsup_core::{Error, Key, Kind, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// Feature maps with a class for every pixel.
#[derive(Debug)]
pub struct LabelledMaps {
    /// `[N, D, h, w]` Float.
    maps: Tensor,
    /// `[N, H, W]` of the kind they came in: Int64 exists of one image at a time.
    labels: Tensor,
    classes: i64,
    ignore: Option<i64>,
}

impl LabelledMaps {
    /// Checks and holds maps and labels. Pixels labelled `ignore` are in no count.
    ///
    /// # Shapes
    /// `maps` `[N, D, h, w]`, `labels` `[N, H, W]` whole numbers of any size, of `0..classes` and `ignore`; as they are kept so,
    /// Uint8 or Int16 take an eighth or a quarter of the memory of Int64.
    ///
    /// # Errors
    /// When the shapes do not fit or are empty, a feature is not finite, a label is no class, or `ignore` is one. The error of a
    /// label says in which image.
    pub fn new(maps: &Tensor, labels: &Tensor, classes: i64, ignore: Option<i64>) -> Result<LabelledMaps> {
        let [n, ..] = check_shape("maps", maps, [-1, -1, -1, -1])?;
        let [_, height, width] = check_shape("labels", labels, [n, -1, -1])?;
        if !matches!(labels.kind(), Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64) {
            return Err(Error::config("labels", format!("{:?}", labels.kind()), "whole numbers"));
        }
        if height == 0 || width == 0 {
            return Err(Error::config("labels", format!("{height} x {width}"), "at least one pixel"));
        }
        let maps = checked_maps(maps)?;
        let labels = labels.to_device(maps.device());
        for image in 0..n {
            let one = labels.narrow(0, image, 1).to_kind(Kind::Int64);
            // Refuses other classes, and an ignored one that is a class.
            Confusion::of_pixels(&one, &one, classes, ignore).map_err(|error| match error {
                Error::Config { field, value, expected } if field == "labels" => {
                    Error::Config { field: format!("labels of image {image}"), value, expected }
                }
                other => other,
            })?;
        }
        Ok(LabelledMaps { maps, labels, classes, ignore })
    }

    /// The number of images.
    fn len(&self) -> i64 {
        self.maps.size()[0]
    }

    /// The labels of an image, `[H, W]` Int64, and which of its pixels count.
    fn image_labels(&self, image: i64) -> (Tensor, Tensor) {
        let labels = self.labels.get(image).to_kind(Kind::Int64);
        let counted = match self.ignore {
            Some(ignore) => labels.ne(ignore),
            None => labels.ones_like().to_kind(Kind::Bool),
        };
        (labels, counted)
    }

    /// The cells of an image with a labelled pixel, ascending, `[M]` Int64.
    fn labelled_cells(&self, image: i64) -> Tensor {
        let (h, w) = (self.maps.size()[2], self.maps.size()[3]);
        let counted = self.image_labels(image).1.to_kind(Kind::Float).unsqueeze(0);
        counted.adaptive_avg_pool2d([h, w]).reshape([-1]).gt(0.0).nonzero().squeeze_dim(1)
    }

    /// Cells of some images with a labelled pixel, at most `most`, `[M, D]` Float, and the shares of the classes there,
    /// `[M, classes]` Double. Which ones is drawn before any is gathered.
    fn cells(&self, images: &[i64], most: usize, key: Key) -> (Tensor, Tensor) {
        let (h, w) = (self.maps.size()[2], self.maps.size()[3]);
        let counts: Vec<i64> = images.iter().map(|&image| self.labelled_cells(image).size()[0]).collect();
        let mut drawn: Vec<i64> = (0..counts.iter().sum()).collect();
        if drawn.len() > most {
            drawn.shuffle(&mut key.rng());
            drawn.truncate(most);
            drawn.sort_unstable();
        }
        let (mut all_x, mut all_y) = (Vec::new(), Vec::new());
        let (mut before, mut first) = (0, 0);
        for (&image, count) in images.iter().zip(counts) {
            let end = first + drawn[first..].partition_point(|&place| place < before + count);
            let of_image: Vec<i64> = drawn[first..end].iter().map(|place| place - before).collect();
            (before, first) = (before + count, end);
            let chosen = self.labelled_cells(image).index_select(0, &Tensor::from_slice(&of_image));
            let (labels, counted) = self.image_labels(image);
            let known = labels.where_self(&counted, &labels.zeros_like());
            let one_hot = known.one_hot(self.classes).to_kind(Kind::Double) * counted.unsqueeze(2);
            let shares = one_hot.permute([2, 0, 1]).unsqueeze(0).adaptive_avg_pool2d([h, w]).squeeze_dim(0);
            let y = shares.flatten(1, 2).tr().index_select(0, &chosen); // [m, classes]
            all_x.push(self.maps.get(image).flatten(1, 2).index_select(1, &chosen).tr());
            all_y.push(&y / y.sum_dim_intlist([1].as_slice(), true, None));
        }
        (Tensor::cat(&all_x, 0), Tensor::cat(&all_y, 0))
    }
}

/// How the probe is fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationProbeConfig {
    /// Strengths, held-out share, when a fit ends, and the seed.
    pub linear: LinearProbeConfig,
    /// The cells that a fit takes, and those that choose, drawn where there are more.
    pub max_cells: usize,
    /// Draws of the interval, of whole images.
    pub resamples: usize,
}

impl Default for SegmentationProbeConfig {
    fn default() -> Self {
        SegmentationProbeConfig { linear: LinearProbeConfig::default(), max_cells: 100_000, resamples: 1000 }
    }
}

/// What the probe found on the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentationOutcome {
    /// The mean intersection over union, with an interval over images.
    pub miou: Mean,
    /// The share of pixels with the right class, with an interval over images.
    pub pixel_accuracy: Mean,
    /// All overlaps.
    pub segmentation: Segmentation,
    /// Which class is taken for which, in pixels.
    pub confusion: Confusion,
    /// The test images that were asked for as they were segmented, row by row: one class for every pixel of the labels.
    #[serde(skip)]
    pub shown: Vec<(i64, Vec<i64>)>,
    /// The chosen inverse regularisation strength.
    pub c: f64,
    /// Whether the last fit converged.
    pub converged: bool,
    /// The strengths tried and their held-out cross-entropy.
    pub path: Vec<(f64, f64)>,
    /// Decides the held-out images, the cells and the draws.
    pub seed: u64,
}

/// The linear segmentation probe.
#[derive(Debug)]
pub struct SegmentationProbe {
    config: SegmentationProbeConfig,
}

impl SegmentationProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// As [`LinearProbe::new`](crate::LinearProbe::new), and when there are no cells or resamples.
    pub fn new(config: SegmentationProbeConfig) -> Result<SegmentationProbe> {
        config.linear.check()?;
        for (field, value) in [("max_cells", config.max_cells), ("resamples", config.resamples)] {
            if value == 0 {
                return Err(Error::config(field, 0, "at least 1"));
            }
        }
        Ok(SegmentationProbe { config })
    }

    /// Fits on `train` and scores on `test`. `validation` chooses the strength; without it, a part of `train` that is held out
    /// does. The test images at the positions `shown` are returned as they were segmented.
    ///
    /// # Errors
    /// When the sets do not fit each other, a position is none of the test set, there are fewer than two training images without a
    /// validation set, or the training images hold fewer than two classes.
    pub fn run(
        &self,
        train: &LabelledMaps,
        validation: Option<&LabelledMaps>,
        test: &LabelledMaps,
        shown: &[i64],
    ) -> Result<SegmentationOutcome> {
        for (name, other) in [("validation", validation), ("test", Some(test))] {
            let Some(other) = other else { continue };
            check_shape(&format!("{name} maps"), &other.maps, [-1, train.maps.size()[1], -1, -1])?;
            if train.classes != other.classes {
                let expected = format!("{}, as in the training set", train.classes);
                return Err(Error::config(format!("{name} classes"), other.classes, expected));
            }
        }
        if let Some(position) = shown.iter().find(|position| !(0..test.len()).contains(*position)) {
            return Err(Error::config("shown", position, format!("a test image of 0..{}", test.len())));
        }
        let linear = &self.config.linear;
        let key = Key::new(linear.seed);
        let all: Vec<i64> = (0..train.len()).collect();
        let (rest, held) = if let Some(validation) = validation {
            let images: Vec<i64> = (0..validation.len()).collect();
            (all.clone(), validation.cells(&images, self.config.max_cells, key.with(3)))
        } else {
            let (rest, held) = hold_out_any(train.len(), linear.held_out, key.with(0))?;
            let held = Vec::<i64>::try_from(held)?;
            (Vec::<i64>::try_from(rest)?, train.cells(&held, self.config.max_cells, key.with(3)))
        };
        let (path, c, best) = self.path(&self.fitted_cells(train, &rest, key)?, &held)?;
        let cells = self.fitted_cells(train, &all, key)?;
        let standardiser = Standardiser::of(&cells.x);
        let problem = cells.problem(&standardiser)?;
        let start = problem.start_from(&best)?;
        let fitted = problem.to_classifier(&problem.solve(c, start.as_ref(), &linear.logistic)?);
        let (mut of_images, mut pictures) = (Vec::new(), Vec::new());
        for image in 0..test.len() {
            let predictions = segmented(test, image, &fitted, &standardiser)?;
            let labels = test.labels.narrow(0, image, 1).to_kind(Kind::Int64);
            of_images.push(Confusion::of_pixels(&labels, &predictions, test.classes, test.ignore)?);
            if shown.contains(&image) {
                pictures.push((image, Vec::try_from(predictions.reshape([-1]))?));
            }
        }
        let mut confusion = of_images[0].clone();
        of_images[1..].iter().try_for_each(|other| confusion.add(other))?;
        let segmentation = confusion.segmentation();
        let n = of_images.len();
        let [miou, pixels] = match n {
            0 | 1 => [None; 2],
            _ => self.intervals(&of_images, key.with(2))?.map(Some),
        };
        Ok(SegmentationOutcome {
            miou: Mean { value: segmentation.miou, interval: miou, n },
            pixel_accuracy: Mean { value: segmentation.pixel_accuracy, interval: pixels, n },
            segmentation,
            confusion,
            shown: pictures,
            c,
            converged: fitted.converged,
            path,
            seed: linear.seed,
        })
    }

    /// The cells of a fit, no more than the configuration allows, of classes that occur.
    fn fitted_cells(&self, maps: &LabelledMaps, images: &[i64], key: Key) -> Result<Cells> {
        let (x, y) = maps.cells(images, self.config.max_cells, key.with(1));
        let classes = y.sum_dim_intlist([0].as_slice(), false, None).gt(0.0).nonzero().squeeze_dim(1);
        if classes.size()[0] < 2 {
            let found = format!("{} classes in the training images", classes.size()[0]);
            return Err(Error::config("labels", found, "at least two"));
        }
        Ok(Cells { y: y.index_select(1, &classes), x, classes })
    }

    fn path(&self, rest: &Cells, held: &(Tensor, Tensor)) -> Result<(Path, f64, Logistic)> {
        let linear = &self.config.linear;
        let standardiser = Standardiser::of(&rest.x);
        let problem = rest.problem(&standardiser)?;
        let (held_x, held_y) = (standardiser.apply(&held.0), held.1.index_select(1, &rest.classes));
        let mut path = Vec::new();
        let mut judge = |c: f64, fitted: &Logistic| {
            let log_p = fitted.logits(&held_x)?.to_kind(Kind::Double).log_softmax(1, None);
            let loss = f64::try_from(-(log_p * &held_y).sum(None))? / held_x.size()[0].max(1) as f64;
            path.push((c, loss));
            Ok(loss)
        };
        let (c, best) = least_loss(&problem, &linear.strengths, &linear.logistic, &mut judge)?;
        Ok((path, c, best))
    }

    /// Of the mean overlap and of the share of pixels, by drawing images.
    fn intervals(&self, of_images: &[Confusion], key: Key) -> Result<[crate::Interval; 2]> {
        let n = of_images.len();
        let one = |resample: usize| {
            let mut rng = key.with(resample as u64).rng();
            let mut drawn = of_images[rng.random_range(0..n)].clone();
            (1..n).try_for_each(|_| drawn.add(&of_images[rng.random_range(0..n)]))?;
            let found = drawn.segmentation();
            Ok((found.miou, found.pixel_accuracy))
        };
        let drawn = (0..self.config.resamples).map(one).collect::<Result<Vec<_>>>()?;
        let (miou, pixels): (Vec<f64>, Vec<f64>) = drawn.into_iter().unzip();
        Ok([percentiles(&miou, LEVEL), percentiles(&pixels, LEVEL)])
    }
}

/// Strengths and their held-out losses.
type Path = Vec<(f64, f64)>;

/// Cells with the shares of the classes that occur.
struct Cells {
    x: Tensor,
    y: Tensor,
    classes: Tensor,
}

impl Cells {
    fn problem(&self, standardiser: &Standardiser) -> Result<Problem> {
        let x = standardiser.apply(&self.x);
        Problem::with_targets(&x, &self.y, self.classes.shallow_clone(), Link::Softmax)
    }
}

/// The predicted class of every labelled pixel of one image, `[1, H, W]`.
fn segmented(
    maps: &LabelledMaps,
    image: i64,
    fitted: &Logistic,
    standardiser: &Standardiser,
) -> Result<Tensor> {
    let (h, w) = (maps.maps.size()[2], maps.maps.size()[3]);
    let cells = maps.maps.get(image).flatten(1, 2).tr(); // [h w, D]
    let scores = fitted.logits(&standardiser.apply(&cells))?.tr().reshape([1, -1, h, w]);
    let size = [maps.labels.size()[1], maps.labels.size()[2]];
    let column = scores.upsample_bilinear2d(size, false, None, None).argmax(1, false); // [1, H, W]
    Ok(fitted.classes.index_select(0, &column.reshape([-1])).reshape_as(&column))
}

impl SegmentationOutcome {
    /// The measures for a report, of test images from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let by = format!("a linear head on frozen feature maps, C = {}", self.c);
        let origin = Origin { split, seed: Some(self.seed) };
        let all = self.segmentation.measurements(split, Some(self.seed), &by);
        let known = [("miou", &self.miou), ("pixel_accuracy", &self.pixel_accuracy)];
        with_intervals(all, origin, &known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;
    use selfsup_core::Device;

    /// Images of [5, 6, 8] features with labels of 12 x 16 pixels: three bands, each of which lifts a feature.
    fn set(from: i64, n: i64) -> LabelledMaps {
        let maps = formula(30, 240).narrow(0, from, n).reshape([n, 5, 6, 8]);
        let i = Tensor::arange(48, (Kind::Int64, Device::Cpu)).reshape([6, 8]);
        let shift = Tensor::arange_start(from, from + n, (Kind::Int64, Device::Cpu)).reshape([n, 1, 1]);
        let cells = ((i + shift) / 5).floor().to_kind(Kind::Int64).remainder(3); // [N, 6, 8]
        let lift = cells.one_hot(5).permute([0, 3, 1, 2]).to_kind(Kind::Float) * 1.2;
        let labels = cells.repeat_interleave_self_int(2, 1, None).repeat_interleave_self_int(2, 2, None);
        LabelledMaps::new(&(maps + lift), &labels, 3, None).unwrap()
    }

    fn probe(config: SegmentationProbeConfig) -> SegmentationProbe {
        SegmentationProbe::new(config).unwrap()
    }

    fn at(c: f64) -> SegmentationProbeConfig {
        let linear = LinearProbeConfig { strengths: vec![c], ..Default::default() };
        SegmentationProbeConfig { linear, resamples: 50, ..Default::default() }
    }

    // m = np.sin(np.arange(7200) ** 1.5 * 0.37).reshape(30, 5, 6, 8).astype(np.float32)
    // k = (np.arange(48).reshape(6, 8) + np.arange(30)[:, None, None]) // 5 % 3
    // m += np.float32(1.2) * np.eye(5, dtype=np.float32)[k].transpose(0, 3, 1, 2); y = k.repeat(2, 1).repeat(2, 2)
    // x = m.transpose(0, 2, 3, 1).reshape(30, 48, 5); s = StandardScaler().fit(x[:20].reshape(-1, 5))
    // r = LogisticRegression(C=0.5, tol=1e-8, max_iter=9999).fit(s.transform(x[:20].reshape(-1, 5)), k[:20].ravel())
    // z = torch.tensor(r.decision_function(s.transform(x[20:].reshape(-1, 5)))).reshape(10, 6, 8, 3).permute(0, 3, 1, 2)
    // p = F.interpolate(z, size=(12, 16), mode="bilinear").argmax(1); jaccard_score(y[20:].ravel(), p.ravel(), average=None)
    #[test]
    fn agrees_with_scikit_learn_and_torchs_interpolation() {
        let found = probe(at(0.5)).run(&set(0, 20), None, &set(20, 10), &[]).unwrap();
        let iou: Vec<f64> = found.segmentation.iou.iter().flatten().copied().collect();
        // A pixel on the border between classes may fall to either side.
        assert!(iou.iter().zip(SKLEARN).all(|(f, e)| (f - e).abs() < 4e-3), "{iou:?}");
        assert!(found.converged && found.miou.n == 10);
        let interval = found.miou.interval.unwrap();
        assert!(interval.low < found.miou.value && found.miou.value < interval.high, "{found:?}");
    }

    const SKLEARN: [f64; 3] = [0.5515463917525774, 0.5690672963400236, 0.6175742574257426];

    #[test]
    fn a_cell_of_two_classes_is_fitted_by_their_shares() {
        let labels = Tensor::from_slice(&[0_i64, 0, 2, 9, 0, 2, 9, 9]).reshape([1, 2, 4]);
        let maps = LabelledMaps::new(&formula(1, 6).reshape([1, 3, 1, 2]), &labels, 3, Some(9)).unwrap();
        let (x, y) = maps.cells(&[0], 10, Key::new(0));
        assert_eq!(x.size(), [2, 3]);
        let expected = Tensor::from_slice2(&[[0.75, 0.0, 0.25], [0.0, 0.0, 1.0]]);
        assert!(f64::try_from((y - expected).abs().max()).unwrap() < 1e-12);
    }

    #[test]
    fn few_cells_are_some_of_all_with_their_shares() {
        let mut maps = set(0, 6);
        maps.ignore = Some(9);
        let _ = maps.labels.get(2).narrow(0, 0, 6).fill_(9);
        let images = [1, 2, 4];
        let all = maps.cells(&images, usize::MAX, Key::new(1));
        assert_eq!(all.0.size(), [48 + 24 + 48, 5]);
        let (x, y) = maps.cells(&images, 50, Key::new(1));
        assert_eq!((x.size(), y.size()), (vec![50, 5], vec![50, 3]));
        let rows = |(x, y): &(Tensor, Tensor)| -> Vec<Vec<f64>> {
            Vec::try_from(Tensor::cat(&[&x.to_kind(Kind::Double), y], 1)).unwrap()
        };
        let (few, all) = (rows(&(x, y)), rows(&all));
        // In the order of all.
        let mut rest = all.iter();
        assert!(few.iter().all(|row| rest.any(|other| other == row)));
        assert_ne!(few, rows(&maps.cells(&images, 50, Key::new(2))));
    }

    #[test]
    fn small_whole_numbers_are_kept_and_change_nothing() {
        let (train, test) = (set(0, 20), set(20, 10));
        let plain = probe(at(0.5)).run(&train, None, &test, &[]).unwrap();
        for kind in [Kind::Uint8, Kind::Int16] {
            let small = |set: &LabelledMaps| {
                let found = LabelledMaps::new(&set.maps, &set.labels.to_kind(kind), 3, None).unwrap();
                assert_eq!(found.labels.kind(), kind);
                found
            };
            assert_eq!(probe(at(0.5)).run(&small(&train), None, &small(&test), &[]).unwrap(), plain);
        }
    }

    #[test]
    fn the_path_is_chosen_on_held_out_images_and_few_cells_suffice() {
        let config = SegmentationProbeConfig { max_cells: 200, resamples: 20, ..Default::default() };
        let found = probe(config).run(&set(0, 20), None, &set(20, 10), &[]).unwrap();
        let least = found.path.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(least.0, found.c);
        assert!(found.miou.value > 0.4, "{found:?}");
        let measures = found.measurements("test");
        assert_eq!(measures[0].interval, found.miou.interval);
        let (pixels, interval) = (&measures[1], found.pixel_accuracy.interval.unwrap());
        assert!(
            interval.low < pixels.value && pixels.value < interval.high && pixels.interval == Some(interval),
            "{pixels:?}"
        );
    }

    #[test]
    fn validation_images_choose_and_all_training_images_are_fitted() {
        let (train, validation, test) = (set(0, 15), set(15, 5), set(20, 10));
        let found = probe(SegmentationProbeConfig { resamples: 20, ..Default::default() });
        let found = found.run(&train, Some(&validation), &test, &[3, 7]).unwrap();
        let least = found.path.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(least.0, found.c);
        let again = probe(at(found.c)).run(&train, None, &test, &[]).unwrap();
        assert!(
            (found.miou.value - again.miou.value).abs() < 2e-3,
            "{} {}",
            found.miou.value,
            again.miou.value
        );
        let pictures: Vec<i64> = found.shown.iter().map(|(image, _)| *image).collect();
        assert_eq!(pictures, [3, 7]);
        let all = probe(at(found.c)).run(&train, None, &test, &(0..10).collect::<Vec<_>>()).unwrap();
        let seen: Vec<i64> = all.shown.iter().flat_map(|(_, classes)| classes.clone()).collect();
        let labels = Vec::<i64>::try_from(test.labels.reshape([-1])).unwrap();
        let right = seen.iter().zip(&labels).filter(|(p, y)| p == y).count() as f64;
        assert!((right / labels.len() as f64 - all.segmentation.pixel_accuracy).abs() < 1e-12);
        let error = probe(at(1.0)).run(&train, None, &test, &[10]).unwrap_err().to_string();
        assert_eq!(error, "shown = 10: a test image of 0..10");
        let other = LabelledMaps { classes: 4, ..set(15, 5) };
        let error = probe(at(1.0)).run(&train, Some(&other), &test, &[]).unwrap_err().to_string();
        assert_eq!(error, "validation classes = 4: 3, as in the training set");
    }

    #[test]
    fn a_class_that_training_lacks_is_missed_and_no_more() {
        let mut test = set(20, 10);
        let mut train = set(0, 20);
        (train.classes, test.classes) = (4, 4);
        let _ = test.labels.get(0).fill_(3);
        let found = probe(at(0.5)).run(&train, None, &test, &[]).unwrap();
        assert_eq!(found.segmentation.iou[3], Some(0.0));
    }

    #[test]
    fn rejects_what_it_cannot_fit() {
        let maps = formula(2, 12).reshape([2, 3, 2, 2]);
        let labels = Tensor::zeros([2, 4, 4], (Kind::Int64, Device::Cpu));
        let one = LabelledMaps::new(&maps, &labels, 2, None).unwrap();
        let error = probe(at(1.0)).run(&one, None, &one, &[]).unwrap_err().to_string();
        assert_eq!(error, "labels = 1 classes in the training images: at least two");
        let error = LabelledMaps::new(&(&maps / 0.0), &labels, 2, None).unwrap_err().to_string();
        assert_eq!(error, "maps is not finite: the first bad image is 0");
        let error = LabelledMaps::new(&maps, &(&labels + 2), 2, None).unwrap_err().to_string();
        assert_eq!(error, "labels of image 0 = 2..=2: classes in 0..2");
        let one_bad = labels.copy();
        let _ = one_bad.get(1).fill_(7);
        let error = LabelledMaps::new(&maps, &one_bad, 2, None).unwrap_err().to_string();
        assert_eq!(error, "labels of image 1 = 7..=7: classes in 0..2");
        let error = LabelledMaps::new(&maps, &labels.to_kind(Kind::Float), 2, None).unwrap_err().to_string();
        assert_eq!(error, "labels = Float: whole numbers");
        let error = LabelledMaps::new(&maps.narrow(1, 0, 0), &labels, 2, None).unwrap_err().to_string();
        assert_eq!(error, "maps = [2, 0, 2, 2]: at least one image, feature and place");
        let error = LabelledMaps::new(&maps, &labels.narrow(0, 0, 1), 2, None).unwrap_err().to_string();
        assert_eq!(error, "labels: expected [2, _, _], found [1, 4, 4]");
        let config = SegmentationProbeConfig { max_cells: 0, ..Default::default() };
        assert_eq!(SegmentationProbe::new(config).unwrap_err().to_string(), "max_cells = 0: at least 1");
    }
}
