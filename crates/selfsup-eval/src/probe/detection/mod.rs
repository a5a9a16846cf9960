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

mod boxed_maps;
mod places;
mod pyramid;

pub use self::boxed_maps::BoxedMaps;
use self::places::Places;
use self::pyramid::{Known, Projection, Pyramid, Target, levels};
use super::multi_label::hold_out_any;
use super::regression::Ridge;
use crate::dense::nms::nms;
use crate::interval::{LEVEL, percentiles};
use crate::logistic::Problem;
use crate::measurement::{Origin, with_intervals};
use crate::strengths::least_loss;
use crate::{
    BoxKind, Detection, FoundBox, ImageBoxes, LinearProbeConfig, Logistic, Mean, Measurement, Rectangle,
    detection,
};
use rand::RngExt;
use rand::seq::SliceRandom;
use selfsup_core::{Error, Key, Kind, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

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
    /// The average precision over overlaps from 0.5 to 0.95, mean over classes, with an interval over images.
    pub map: Mean,
    /// The same at an overlap of 0.5.
    pub map50: Mean,
    /// The same at an overlap of 0.75.
    pub map75: Mean,
    /// The recall of at most 100 boxes, mean over overlaps and classes, with an interval over images.
    pub recall100: Mean,
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

/// What is averaged over classes: AP over overlaps, at 0.5 and at 0.75, and recall; 0 where no true box is of the range.
fn averages(found: &Detection) -> [f64; 4] {
    [found.ap, found.ap50, found.ap75, found.recall].map(|value| value.unwrap_or(0.0))
}

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
        let intervals = match n {
            0 | 1 => [None; 4],
            _ => self.intervals(&images, test.classes, key.with(3))?.map(Some),
        };
        let values = averages(&detection);
        let [map, map50, map75, recall100] =
            std::array::from_fn(|i| Mean { value: values[i], interval: intervals[i], n });
        Ok(DetectionOutcome {
            map,
            map50,
            map75,
            recall100,
            detection,
            found: images.into_iter().map(|image| image.found).collect(),
            levels: fitted.into_iter().map(|level| level.told).collect(),
            seed: self.config.linear.seed,
        })
    }

    /// Of the four averages, by drawing images.
    fn intervals(&self, images: &[ImageBoxes], classes: usize, key: Key) -> Result<[crate::Interval; 4]> {
        let n = images.len();
        let one = |resample: usize| {
            let mut rng = key.with(resample as u64).rng();
            let drawn: Vec<ImageBoxes> = (0..n).map(|_| images[rng.random_range(0..n)].clone()).collect();
            Ok(averages(&detection(&drawn, classes)?))
        };
        let drawn = (0..self.config.resamples).map(one).collect::<Result<Vec<_>>>()?;
        Ok(std::array::from_fn(|i| {
            percentiles(&drawn.iter().map(|values| values[i]).collect::<Vec<_>>(), LEVEL)
        }))
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
        let origin = Origin { split, seed: Some(self.seed) };
        let all = self.detection.measurements(split, Some(self.seed), by);
        let known = [
            ("detection_map", &self.map),
            ("detection_map50", &self.map50),
            ("detection_map75", &self.map75),
            ("detection_recall100", &self.recall100),
        ];
        with_intervals(all, origin, &known)
    }
}

#[cfg(test)]
mod tests;
