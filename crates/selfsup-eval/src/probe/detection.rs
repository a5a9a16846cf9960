//! The detection probe: which boxes linear functions of a frozen feature map find, laid out as in FCOS (Tian et al. 2019, *Fully
//! convolutional one-stage object detection*) and fitted without a learning rate.
//!
//! ```text
//! levels       z_l = the map, averaged over 2^l x 2^l cells;   x = the 3 x 3 cells around a place of z_l
//! a box        belongs to the level at which its longer side is 2 to 4 cells, and there to the places within 1.5 cells of its
//!              middle that lie in it; the smallest box where there are several
//! class        softmax(W x + b) of classes and background                          logistic regression
//! box          distances l, t, r, b from the place to the edges, in cells           ridge regression
//! centre-ness  sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) = sigmoid(v x + c)    logistic regression
//! score        sqrt(probability * centre-ness), then non-maximum suppression by class
//! ```
//! All three are convex and fitted to convergence for each level, their strengths chosen on validation images (or held-out
//! training images; of the nearest level where these have no box of a level), so that nothing but the features decides. Departures
//! from FCOS: no pyramid or tower is learned; a box has one level, by its longer side, as in FPN (Lin et al. 2017). Of background,
//! which fills most of an image, a part is drawn, and the logarithm of that share corrects its score (King and Zeng 2001). Maps are
//! standardised by channel and, where they are wide, projected on their first principal components. A small linear head cannot do
//! what a detector does: it is a probe.

use super::maps::checked_maps;
use super::multi_label::hold_out_any;
use super::regression::{RegressionSet, Ridge};
use crate::dense::nms::nms;
use crate::interval::{LEVEL, percentiles};
use crate::logistic::{Link, Problem};
use crate::measurement::Origin;
use crate::strengths::least_loss;
use crate::{
    BoxKind, Detection, FoundBox, ImageBoxes, LinearProbeConfig, Logistic, Mean, Measurement, Rectangle,
    TrueBox, detection,
};
use rand::RngExt;
use rand::seq::SliceRandom;
use selfsup_core::{Error, Key, Kind, Result, Tensor, check_shape};
use selfsup_numerics::Pca;
use serde::{Deserialize, Serialize};

/// Feature maps with the boxes of their images.
#[derive(Debug)]
pub struct BoxedMaps {
    /// `[N, D, h, w]` Float.
    maps: Tensor,
    boxes: Vec<Vec<TrueBox>>,
    /// The height and width of every image in pixels.
    sizes: Vec<[f64; 2]>,
    classes: usize,
}

impl BoxedMaps {
    /// Checks and holds maps and boxes. `sizes` are the heights and widths of the images in the unit of the boxes; a map covers its
    /// image whole.
    ///
    /// # Shapes
    /// `maps` `[N, D, h, w]`; a list of boxes and a size for each.
    ///
    /// # Errors
    /// When the shapes do not fit or are empty, a feature is not finite, an image has no size, a box no area or not inside its
    /// image, or a class is not in `0..classes`.
    pub fn new(
        maps: &Tensor,
        boxes: Vec<Vec<TrueBox>>,
        sizes: Vec<[f64; 2]>,
        classes: usize,
    ) -> Result<BoxedMaps> {
        let [n, ..] = check_shape("maps", maps, [-1, -1, -1, -1])?;
        for (name, found) in [("boxes", boxes.len()), ("sizes", sizes.len())] {
            if found as i64 != n {
                return Err(Error::config(name, found, format!("{n}, one for each map")));
            }
        }
        for (i, (of_image, [height, width])) in boxes.iter().zip(&sizes).enumerate() {
            if ![height, width].iter().all(|side| **side > 0.0 && side.is_finite()) {
                let found = format!("{height} x {width}");
                return Err(Error::config(
                    format!("size of image {i}"),
                    found,
                    "a height and a width above 0",
                ));
            }
            for TrueBox { rectangle, class, .. } in of_image {
                rectangle.check(&format!("a box of image {i}"))?;
                let Rectangle { x0, y0, x1, y1 } = rectangle;
                let inside = *x0 >= 0.0 && *y0 >= 0.0 && x1 <= width && y1 <= height;
                if !inside || rectangle.area() <= 0.0 {
                    let found = format!("{x0}, {y0} to {x1}, {y1}");
                    let expected = format!("a box with an area, inside {width} x {height}");
                    return Err(Error::config(format!("a box of image {i}"), found, expected));
                }
                if *class >= classes {
                    return Err(Error::config(
                        format!("class of image {i}"),
                        class,
                        format!("in 0..{classes}"),
                    ));
                }
            }
        }
        let maps = checked_maps(maps)?;
        Ok(BoxedMaps { maps, boxes, sizes, classes })
    }

    fn len(&self) -> i64 {
        self.maps.size()[0]
    }

    /// The sides of a cell of the map in pixels of the image: height, width.
    fn cell(&self, image: usize) -> [f64; 2] {
        let [height, width] = self.sizes[image];
        [height / self.maps.size()[2] as f64, width / self.maps.size()[3] as f64]
    }
}

/// How the probe is fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionProbeConfig {
    /// The strengths of both logistic regressions, the held-out share where there are no validation images, when a fit ends, and
    /// the seed.
    pub linear: LinearProbeConfig,
    /// The penalties of the ridge regression.
    pub alphas: Vec<f64>,
    /// The levels at most.
    pub levels: usize,
    /// The principal components of the maps that are kept at most.
    pub components: i64,
    /// The places that a fit takes, drawn where there are more.
    pub max_places: usize,
    /// Boxes of a class that overlap more than this are one.
    pub overlap: f64,
    /// Boxes of a lower score are none.
    pub min_score: f64,
    /// The boxes of an image at most.
    pub max_boxes: usize,
    /// Draws of the interval, of whole images.
    pub resamples: usize,
}

impl Default for DetectionProbeConfig {
    fn default() -> Self {
        DetectionProbeConfig {
            linear: LinearProbeConfig::default(),
            alphas: (-2..=5).map(|power| 10.0_f64.powi(power)).collect(),
            levels: 5,
            components: 64,
            max_places: 20_000,
            overlap: 0.5,
            min_score: 0.02,
            max_boxes: 100,
            resamples: 200,
        }
    }
}

/// What was fitted at a level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionLevel {
    /// The cells of the map that a cell of the level covers, a side.
    pub cells: i64,
    /// The training boxes that belong to it.
    pub boxes: usize,
    /// The places with a box among those that were fitted.
    pub places: usize,
    /// The chosen inverse strength of the classes' regression.
    pub c: f64,
    /// The chosen inverse strength of the centre-ness' regression.
    pub centre_c: f64,
    /// The chosen penalty of the edges' regression.
    pub alpha: f64,
    /// The `cells` of the level whose held-out boxes chose these three: this one, or the nearest with held-out boxes.
    pub chosen_on: i64,
    /// Whether both logistic regressions' gradients are within the tolerance.
    pub converged: bool,
}

/// What the probe found on the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionOutcome {
    /// The average precision at an overlap of 0.5, mean over classes, with an interval over images.
    pub map50: Mean,
    /// All average precisions.
    pub detection: Detection,
    /// The boxes of every test image, the surest first.
    #[serde(skip)]
    pub found: Vec<Vec<FoundBox>>,
    /// The levels that were fitted.
    pub levels: Vec<DetectionLevel>,
    /// Decides the held-out images and the draws.
    pub seed: u64,
}

/// The detection probe.
#[derive(Debug)]
pub struct DetectionProbe {
    config: DetectionProbeConfig,
}

/// Within so many cells of a box's middle a place belongs to it.
const RADIUS: f64 = 1.5;
/// A box belongs to the level at which its longer side is this to twice this many cells.
const SIDE: f64 = 2.0;
/// Places that go into suppression at most.
const CANDIDATES: usize = 1000;

impl DetectionProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// As [`LinearProbe::new`](crate::LinearProbe::new), when a penalty is not above 0, a count is 0, or a share not in `0..=1`.
    pub fn new(config: DetectionProbeConfig) -> Result<DetectionProbe> {
        config.linear.check()?;
        if config.alphas.is_empty() || !config.alphas.iter().all(|a| *a > 0.0 && a.is_finite()) {
            return Err(Error::config("alphas", format!("{:?}", config.alphas), "numbers above 0"));
        }
        for (field, value) in [
            ("levels", config.levels),
            ("components", config.components.max(0) as usize),
            ("max_boxes", config.max_boxes),
            ("resamples", config.resamples),
        ] {
            if value == 0 {
                return Err(Error::config(field, 0, "at least 1"));
            }
        }
        if config.max_places < 10 {
            return Err(Error::config("max_places", config.max_places, "at least 10"));
        }
        for (field, value) in [("overlap", config.overlap), ("min_score", config.min_score)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(field, value, "from 0 to 1"));
            }
        }
        Ok(DetectionProbe { config })
    }

    /// Fits on `train` and scores on `test`. `validation` chooses the strengths; without it, a part of `train` that is held out
    /// does. `progress` hears how many images of the test set are done.
    ///
    /// # Errors
    /// When the sets do not fit each other, no training, no test or no held-out image has a box, or there are fewer than two
    /// training images without a validation set.
    pub fn run(
        &self,
        train: &BoxedMaps,
        validation: Option<&BoxedMaps>,
        test: &BoxedMaps,
        progress: &mut dyn FnMut(usize),
    ) -> Result<DetectionOutcome> {
        let [_, d, h, w] = check_shape("train maps", &train.maps, [-1, -1, -1, -1])?;
        for (name, other) in [("validation", validation), ("test", Some(test))] {
            let Some(other) = other else { continue };
            check_shape(&format!("{name} maps"), &other.maps, [-1, d, h, w])?;
            if other.classes != train.classes {
                let expected = format!("{}, as in the training set", train.classes);
                return Err(Error::config(format!("{name} classes"), other.classes, expected));
            }
        }
        for (name, set) in [("train", train), ("test", test)] {
            if set.boxes.iter().flatten().all(|b| b.kind != BoxKind::Counted) {
                return Err(Error::config(format!("{name} boxes"), "none that counts", "at least one"));
            }
        }
        let key = Key::new(self.config.linear.seed);
        let all: Vec<i64> = (0..train.len()).collect();
        let (rest, chooser, choosing) = if let Some(validation) = validation {
            (all.clone(), validation, (0..validation.len()).collect())
        } else {
            let (rest, held) = hold_out_any(train.len(), self.config.linear.held_out, key.with(0))?;
            (Vec::<i64>::try_from(rest)?, train, Vec::<i64>::try_from(held)?)
        };
        let projection = Projection::of(&train.maps, self.config.components, key.with(1))?;
        let pyramid = Pyramid { projection, levels: levels(h, w, self.config.levels) };
        let mut chosen = Vec::new();
        for level in 0..pyramid.levels {
            let key = key.with(2).with(level as u64);
            let held = self.places(chooser, &choosing, &pyramid, level, key.with(1))?;
            let rest = self.places(train, &rest, &pyramid, level, key.with(0))?;
            if let (Some(rest), Some(held)) = (rest, held) {
                chosen.push(self.choose(level, &rest, &held)?);
            }
        }
        if chosen.is_empty() {
            let expected =
                "at least one at a level of a training box, in validation images or a larger held-out share";
            return Err(Error::config("held-out boxes", "none", expected));
        }
        let mut fitted = Vec::new();
        for level in 0..pyramid.levels {
            let key = key.with(2).with(level as u64);
            let Some(all) = self.places(train, &all, &pyramid, level, key.with(2))? else { continue };
            // Of two that are as near, the finer one.
            if let Some(chosen) = chosen.iter().min_by_key(|chosen| chosen.level.abs_diff(level)) {
                fitted.push(self.fit(level, &all, chosen)?);
            }
        }
        if fitted.is_empty() {
            return Err(Error::config("train boxes", "none at a fitted place", "at least one"));
        }
        let mut images = Vec::new();
        for image in 0..test.len() as usize {
            let found = self.find(test, image, &pyramid, &fitted)?;
            images.push(ImageBoxes { truth: test.boxes[image].clone(), found });
            progress(image + 1);
        }
        let detection = detection(&images, test.classes)?;
        let n = images.len();
        let value = detection.ap50.unwrap_or(0.0);
        let interval = (n > 1).then(|| self.interval(&images, test.classes, key.with(3))).transpose()?;
        Ok(DetectionOutcome {
            map50: Mean { value, interval, n },
            detection,
            found: images.into_iter().map(|image| image.found).collect(),
            levels: fitted.into_iter().map(|level| level.told).collect(),
            seed: self.config.linear.seed,
        })
    }

    fn interval(&self, images: &[ImageBoxes], classes: usize, key: Key) -> Result<crate::Interval> {
        let n = images.len();
        let one = |resample: usize| {
            let mut rng = key.with(resample as u64).rng();
            let drawn: Vec<ImageBoxes> = (0..n).map(|_| images[rng.random_range(0..n)].clone()).collect();
            Ok(detection(&drawn, classes)?.ap50.unwrap_or(0.0))
        };
        let drawn = (0..self.config.resamples).map(one).collect::<Result<Vec<f64>>>()?;
        Ok(percentiles(&drawn, LEVEL))
    }

    /// The places of a level in some images that a fit takes; none where no box belongs to the level.
    fn places(
        &self,
        set: &BoxedMaps,
        images: &[i64],
        pyramid: &Pyramid,
        level: usize,
        key: Key,
    ) -> Result<Option<Places>> {
        let mut with_box: Vec<(usize, i64, Target)> = Vec::new();
        let mut without: Vec<(usize, i64)> = Vec::new();
        let mut boxes = 0;
        for &image in images {
            let image = image as usize;
            let targets = pyramid.targets(set, image, level);
            boxes += targets.boxes;
            for (place, target) in targets.of_places.into_iter().enumerate() {
                match target {
                    Known::Box(target) => with_box.push((image, place as i64, target)),
                    Known::Background => without.push((image, place as i64)),
                    Known::Neither => {}
                }
            }
        }
        if with_box.is_empty() {
            return Ok(None);
        }
        let mut rng = key.rng();
        let half = self.config.max_places / 2;
        let share_with = draw(&mut with_box, half, &mut rng);
        let share_without = draw(&mut without, self.config.max_places - with_box.len(), &mut rng);
        let drawn: Vec<(usize, i64)> =
            with_box.iter().map(|(image, place, _)| (*image, *place)).chain(without).collect();
        // A map is made once for all its places, and they are put back into their order after that.
        let mut by_image: Vec<usize> = (0..drawn.len()).collect();
        by_image.sort_by_key(|&i| drawn[i].0);
        let mut rows = Vec::new();
        for group in by_image.chunk_by(|&a, &b| drawn[a].0 == drawn[b].0) {
            let seen = pyramid.neighbourhoods(set, drawn[group[0]].0, level)?; // [h w, F]
            let places: Vec<i64> = group.iter().map(|&i| drawn[i].1).collect();
            rows.push(seen.index_select(0, &Tensor::from_slice(&places)));
        }
        let order: Vec<i64> = by_image.iter().map(|&i| i as i64).collect();
        let x = Tensor::cat(&rows, 0).index_select(0, &Tensor::from_slice(&order).argsort(0, false));
        let n = with_box.len();
        let classes = with_box.iter().map(|(.., target)| target.class as i64).collect();
        let numbers: Vec<f64> = with_box.iter().flat_map(|(.., target)| target.distances).collect();
        let centre: Vec<f64> = with_box.iter().map(|(.., target)| target.centre()).collect();
        Ok(Some(Places {
            x,
            classes,
            distances: Tensor::from_slice(&numbers).reshape([n as i64, 4]),
            centre: Tensor::from_slice(&centre).reshape([n as i64, 1]),
            boxes,
            correction: if share_without > 0.0 { (share_with / share_without).ln() } else { 0.0 },
        }))
    }

    /// The strengths of a level, by places that were held out.
    fn choose(&self, level: usize, rest: &Places, held: &Places) -> Result<Chosen> {
        let linear = &self.config.linear;
        let known = rest.known();
        let class = least_loss(
            &rest.class_problem(&known)?,
            &linear.strengths,
            &linear.logistic,
            &mut |_, fitted| held.class_loss(fitted, &known, rest.correction),
        )?;
        let centre =
            least_loss(&rest.centre_problem()?, &linear.strengths, &linear.logistic, &mut |_, fitted| {
                held.centre_loss(fitted)
            })?;
        let few = Ridge::new(&rest.edges()?)?;
        let mut alpha = (f64::INFINITY, self.config.alphas[0]);
        for &candidate in &self.config.alphas {
            let error = few.predict(candidate, &held.with_box()) - &held.distances;
            let error = f64::try_from(error.square().mean(None))?;
            if error < alpha.0 {
                alpha = (error, candidate);
            }
        }
        Ok(Chosen { level, class, centre, alpha: alpha.1 })
    }

    /// Fits a level with strengths of its own or of the nearest.
    fn fit(&self, level: usize, all: &Places, chosen: &Chosen) -> Result<Level> {
        let solved = |problem: Problem, (c, start): &(f64, Logistic)| -> Result<Logistic> {
            let start = problem.start_from(start)?;
            Ok(problem.to_classifier(&problem.solve(*c, start.as_ref(), &self.config.linear.logistic)?))
        };
        let class = solved(all.class_problem(&all.known())?, &chosen.class)?;
        let centre = solved(all.centre_problem()?, &chosen.centre)?;
        let told = DetectionLevel {
            cells: 1 << level,
            boxes: all.boxes,
            places: all.classes.len(),
            c: chosen.class.0,
            centre_c: chosen.centre.0,
            alpha: chosen.alpha,
            chosen_on: 1 << chosen.level,
            converged: class.converged && centre.converged,
        };
        let edges = Ridge::new(&all.edges()?)?;
        Ok(Level { level, class, centre, edges, correction: all.correction, told })
    }

    /// The boxes of an image.
    fn find(
        &self,
        set: &BoxedMaps,
        image: usize,
        pyramid: &Pyramid,
        fitted: &[Level],
    ) -> Result<Vec<FoundBox>> {
        let [cell_height, cell_width] = set.cell(image);
        let [height, width] = set.sizes[image];
        let mut found: Vec<FoundBox> = Vec::new();
        for level in fitted {
            let x = pyramid.neighbourhoods(set, image, level.level)?; // [h w, F]
            let [_, columns] = Pyramid::grid(set, level.level);
            let scores = level.class.logits(&x)?.to_kind(Kind::Double); // [h w, 1 + K]
            // Of the background, the first column, only a part was seen.
            let _ = scores.select(1, 0).f_add_scalar_(level.correction)?;
            let p = scores.softmax(1, Kind::Double);
            let centre = level.centre.logits(&x)?.to_kind(Kind::Double).sigmoid(); // [h w, 1]
            let scores = Vec::<Vec<f64>>::try_from((p * centre).sqrt())?;
            let edges = Vec::<Vec<f64>>::try_from(level.edges.predict(level.told.alpha, &x))?;
            let classes = Vec::<i64>::try_from(&level.class.classes)?;
            let side = level.told.cells as f64;
            for (place, (scores, edges)) in scores.iter().zip(&edges).enumerate() {
                let x = (place as i64 % columns) as f64 + 0.5;
                let y = (place as i64 / columns) as f64 + 0.5;
                let at = |cells: f64, unit: f64, most: f64| (cells * side * unit).clamp(0.0, most);
                let rectangle = Rectangle {
                    x0: at(x - edges[0], cell_width, width),
                    y0: at(y - edges[1], cell_height, height),
                    x1: at(x + edges[2], cell_width, width),
                    y1: at(y + edges[3], cell_height, height),
                };
                if rectangle.x1 <= rectangle.x0 || rectangle.y1 <= rectangle.y0 {
                    continue;
                }
                for (&class, &score) in classes.iter().zip(scores).skip(1) {
                    if score >= self.config.min_score {
                        found.push(FoundBox { rectangle, class: (class - 1) as usize, score });
                    }
                }
            }
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(CANDIDATES);
        let mut kept = Vec::new();
        for class in 0..set.classes {
            let of_class: Vec<&FoundBox> = found.iter().filter(|b| b.class == class).collect();
            let boxes: Vec<Rectangle> = of_class.iter().map(|b| b.rectangle).collect();
            let scores: Vec<f64> = of_class.iter().map(|b| b.score).collect();
            kept.extend(nms(&boxes, &scores, self.config.overlap)?.into_iter().map(|i| *of_class[i]));
        }
        kept.sort_by(|a, b| b.score.total_cmp(&a.score));
        kept.truncate(self.config.max_boxes);
        Ok(kept)
    }
}

/// Draws `most` of `all` where there are more: the share that is left.
fn draw<T>(all: &mut Vec<T>, most: usize, rng: &mut selfsup_core::Rng) -> f64 {
    if all.len() <= most {
        return f64::from(u8::from(!all.is_empty()));
    }
    let share = most as f64 / all.len() as f64;
    all.shuffle(rng);
    all.truncate(most);
    share
}

/// How many levels a map of `h` x `w` cells has: two cells at least a side.
fn levels(h: i64, w: i64, most: usize) -> usize {
    let fits = |level: &usize| h.min(w) >> level >= 2;
    1 + (1..most).take_while(fits).count()
}

/// What a place is to say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Target {
    class: usize,
    /// To the left, upper, right and lower edge, in cells of the level.
    distances: [f64; 4],
}

impl Target {
    fn centre(&self) -> f64 {
        let [l, t, r, b] = self.distances.map(|distance| distance.max(0.0));
        let even = |a: f64, b: f64| if a.max(b) > 0.0 { a.min(b) / a.max(b) } else { 0.0 };
        (even(l, r) * even(t, b)).sqrt()
    }
}

/// What is known of a place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Box(Target),
    Background,
    /// It lies in a box that does not count, of which nothing is known.
    Neither,
}

struct Targets {
    of_places: Vec<Known>,
    boxes: usize,
}

/// A map at several sizes, and what is seen of a place.
struct Pyramid {
    projection: Projection,
    levels: usize,
}

impl Pyramid {
    /// The rows and columns of a level.
    fn grid(set: &BoxedMaps, level: usize) -> [i64; 2] {
        let side = 1 << level;
        [set.maps.size()[2], set.maps.size()[3]].map(|cells| (cells + side - 1) / side)
    }

    /// What the places of a level are to say.
    fn targets(&self, set: &BoxedMaps, image: usize, level: usize) -> Targets {
        let [rows, columns] = Self::grid(set, level);
        let [cell_height, cell_width] = set.cell(image);
        let side = f64::from(1 << level);
        let mut of_places = vec![Known::Background; (rows * columns) as usize];
        let mut areas = vec![f64::INFINITY; of_places.len()];
        let mut boxes = 0;
        for TrueBox { rectangle, class, kind } in &set.boxes[image] {
            let counted = *kind == BoxKind::Counted;
            // In cells of the level.
            let [x0, x1] = [rectangle.x0, rectangle.x1].map(|x| x / cell_width / side);
            let [y0, y1] = [rectangle.y0, rectangle.y1].map(|y| y / cell_height / side);
            if counted && self.level_of((x1 - x0).max(y1 - y0) * side) != level {
                continue;
            }
            boxes += usize::from(counted);
            let (middle_x, middle_y) = (0.5 * (x0 + x1), 0.5 * (y0 + y1));
            let nearest = |middle: f64, cells: i64| (middle.floor() as i64).clamp(0, cells - 1);
            let only = (nearest(middle_y, rows), nearest(middle_x, columns));
            for row in 0..rows {
                for column in 0..columns {
                    let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
                    let inside = x > x0 && x < x1 && y > y0 && y < y1;
                    let near = (x - middle_x).abs() <= RADIUS && (y - middle_y).abs() <= RADIUS;
                    // A box between the places still has one.
                    let own = (row, column) == only;
                    let at = (row * columns + column) as usize;
                    let area = (x1 - x0) * (y1 - y0);
                    if !counted {
                        if inside && of_places[at] == Known::Background {
                            of_places[at] = Known::Neither;
                        }
                    } else if ((inside && near) || own) && area < areas[at] {
                        areas[at] = area;
                        let distances = [x - x0, y - y0, x1 - x, y1 - y];
                        of_places[at] = Known::Box(Target { class: *class, distances });
                    }
                }
            }
        }
        Targets { of_places, boxes }
    }

    /// The level of a box whose longer side has so many cells of the map.
    fn level_of(&self, cells: f64) -> usize {
        let level = (cells / SIDE).max(1.0).log2().floor();
        (level as usize).min(self.levels - 1)
    }

    /// The 3 x 3 cells around every place of a level; what lies outside the image is the mean. `[h w, F]`
    fn neighbourhoods(&self, set: &BoxedMaps, image: usize, level: usize) -> Result<Tensor> {
        let map = self.projection.apply(&set.maps.narrow(0, image as i64, 1)); // [1, D, h, w]
        let side = 1 << level;
        let map = if level == 0 {
            map
        } else {
            map.f_avg_pool2d([side, side], [side, side], [0, 0], true, false, None)?
        };
        let around = map.f_im2col([3, 3], [1, 1], [1, 1], [1, 1])?; // [1, 9 D, h w]
        Ok(around.squeeze_dim(0).tr().contiguous())
    }
}

/// Maps to standardised channels, or to their first principal components.
struct Projection {
    /// `[1, D, 1, 1]`
    mean: Tensor,
    scale: Tensor,
    /// `[K, D, 1, 1]`
    components: Option<Tensor>,
}

impl Projection {
    fn of(maps: &Tensor, components: i64, key: Key) -> Result<Projection> {
        /// Places that decide the components.
        const PLACES: usize = 50_000;
        let d = maps.size()[1];
        let mean = maps.mean_dim([0, 2, 3].as_slice(), true, Kind::Float);
        let scale = maps.std_dim([0, 2, 3].as_slice(), false, true);
        let scale = scale.where_self(&scale.gt(1e-6), &scale.ones_like());
        let mut projection = Projection { mean, scale, components: None };
        if d > components {
            let places = maps.size()[2] * maps.size()[3];
            let images = ((PLACES as i64 / places).max(1) as usize).min(maps.size()[0] as usize);
            let mut order: Vec<i64> = (0..maps.size()[0]).collect();
            order.shuffle(&mut key.rng());
            order.truncate(images);
            order.sort_unstable();
            let some = projection.apply(&maps.index_select(0, &Tensor::from_slice(&order)));
            let rows = some.permute([0, 2, 3, 1]).reshape([-1, d]);
            let components = components.min(rows.size()[0]);
            let found = Pca::fit(&rows, components)?;
            projection.components = Some(found.components.unsqueeze(-1).unsqueeze(-1));
        }
        Ok(projection)
    }

    /// `[N, D, h, w]` to `[N, K, h, w]`.
    fn apply(&self, maps: &Tensor) -> Tensor {
        let maps = (maps - &self.mean) / &self.scale;
        match &self.components {
            Some(components) => maps.conv2d(components, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1),
            None => maps,
        }
    }
}

/// The places that a fit takes: those with a box first, then background.
struct Places {
    /// `[P, F]` Float.
    x: Tensor,
    /// Of the places with a box.
    classes: Vec<i64>,
    /// `[B, 4]` Double, in cells.
    distances: Tensor,
    /// `[B, 1]` Double.
    centre: Tensor,
    boxes: usize,
    /// What is added to the background's score, of which another share was drawn than of boxes.
    correction: f64,
}

impl Places {
    fn with_box(&self) -> Tensor {
        self.x.narrow(0, 0, self.classes.len() as i64)
    }

    /// Background, 0, and the classes that occur, from 1.
    fn known(&self) -> Vec<i64> {
        let mut known: Vec<i64> = self.classes.iter().map(|class| class + 1).collect();
        known.push(0);
        known.sort_unstable();
        known.dedup();
        known
    }

    /// Shares of the `known` classes at every place, `[P, K]` Double; places of other classes have none.
    fn targets(&self, known: &[i64]) -> Tensor {
        let places = self.x.size()[0] as usize;
        let mut targets = vec![0.0; places * known.len()];
        for place in 0..places {
            let class = self.classes.get(place).map_or(0, |class| class + 1);
            if let Ok(column) = known.binary_search(&class) {
                targets[place * known.len() + column] = 1.0;
            }
        }
        Tensor::from_slice(&targets).reshape([places as i64, known.len() as i64])
    }

    fn class_problem(&self, known: &[i64]) -> Result<Problem> {
        Problem::with_targets(&self.x, &self.targets(known), Tensor::from_slice(known), Link::Softmax)
    }

    /// The cross-entropy of what was fitted to places drawn with another `correction`.
    fn class_loss(&self, fitted: &Logistic, known: &[i64], correction: f64) -> Result<f64> {
        let scores = fitted.logits(&self.x)?.to_kind(Kind::Double);
        let _ = scores.select(1, 0).f_add_scalar_(correction - self.correction)?;
        let log_p = scores.log_softmax(1, None);
        Ok(f64::try_from(-(log_p * self.targets(known)).sum(None))? / self.x.size()[0] as f64)
    }

    fn centre_problem(&self) -> Result<Problem> {
        Problem::with_targets(&self.with_box(), &self.centre, Tensor::from_slice(&[0_i64]), Link::Sigmoid)
    }

    fn centre_loss(&self, fitted: &Logistic) -> Result<f64> {
        let z = fitted.logits(&self.with_box())?.to_kind(Kind::Double);
        Ok(f64::try_from((z.softplus() - z * &self.centre).mean(None))?)
    }

    fn edges(&self) -> Result<RegressionSet> {
        RegressionSet::new(&self.with_box(), &self.distances)
    }
}

/// The strengths of a level, and what was fitted with them to the places that were not held out.
struct Chosen {
    level: usize,
    class: (f64, Logistic),
    centre: (f64, Logistic),
    alpha: f64,
}

/// What was fitted at a level.
struct Level {
    level: usize,
    class: Logistic,
    centre: Logistic,
    edges: Ridge,
    correction: f64,
    told: DetectionLevel,
}

impl DetectionOutcome {
    /// The measures for a report, of test images from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let by = "linear functions of frozen feature maps";
        let mut all = self.detection.measurements(split, Some(self.seed), by);
        if let Some(map50) = all.iter_mut().find(|m| m.name == "detection_map50") {
            let origin = Origin { split, seed: Some(self.seed) };
            *map50 = origin.mean("detection_map50", &self.map50, map50.definition.clone());
        }
        all
    }
}

#[cfg(test)]
#[path = "detection_tests.rs"]
mod tests;
