//! Object detection: the average precision of boxes with scores, as COCO's own program counts it (Lin et al. 2014).
//!
//! For each class and each overlap `t`, in each image, boxes take by falling score the free true box that they overlap most,
//! where that is by `t` at least. Over all images by falling score:
//! ```text
//! precision p(r) = greatest precision at recall r or above        AP_t = 1/101 sum_{r = 0, .01, ..., 1} p(r)
//! AP = mean over t = .5, .55, ..., .95 and classes        AP50 = mean over classes of AP_.5
//! ```
//! As there: at most 100 boxes of a class in an image count; a crowd, and a true box outside the range of areas, may be matched
//! but then is in no count, and neither is an unmatched box outside the range; a class without true boxes is left out. VOC's
//! mAP@0.5 is AP50, but for VOC's older way of averaging and for its asking of a box that overlaps two true ones for the nearer
//! one alone. Values are pycocotools', with difficult boxes chainercv's.

use super::boxes::{Rectangle, ratio};
use crate::Measurement;
use crate::measurement::Origin;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a true box counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxKind {
    /// It is to be found, once.
    #[default]
    Counted,
    /// One thing that is too hard to ask for, VOC's "difficult": finding it, by its overlap and as often as one likes, is neither
    /// right nor wrong.
    Ignored,
    /// A group that nobody told apart, COCO's "crowd": likewise, but what counts is how much of the found box lies in it.
    Crowd,
}

/// A true box.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrueBox {
    /// Where it is.
    pub rectangle: Rectangle,
    /// Its class.
    pub class: usize,
    /// How it counts.
    pub kind: BoxKind,
}

/// A box that was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundBox {
    /// Where it is.
    pub rectangle: Rectangle,
    /// Its class.
    pub class: usize,
    /// How sure it is; any scale.
    pub score: f64,
}

/// The boxes of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageBoxes {
    /// The true ones.
    pub truth: Vec<TrueBox>,
    /// The found ones.
    pub found: Vec<FoundBox>,
}

/// Average precisions. None where no true box is of the range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Over overlaps from 0.5 to 0.95: COCO's main number.
    pub ap: Option<f64>,
    /// At an overlap of 0.5: VOC's.
    pub ap50: Option<f64>,
    /// At an overlap of 0.75.
    pub ap75: Option<f64>,
    /// Of boxes below 32^2 pixels.
    pub ap_small: Option<f64>,
    /// Of boxes from 32^2 to 96^2 pixels.
    pub ap_medium: Option<f64>,
    /// Of boxes above 96^2 pixels.
    pub ap_large: Option<f64>,
    /// The mean recall over overlaps, of at most 100 boxes an image.
    pub recall: Option<f64>,
    /// The AP50 of every class; none for one without true boxes.
    pub ap50_of_classes: Vec<Option<f64>>,
    /// The images.
    pub images: usize,
}

/// COCO's overlaps, 0.5 to 0.95.
const OVERLAPS: usize = 10;
/// Boxes of a class in an image that count.
const MOST: usize = 100;
/// COCO's ranges of areas; their ends belong to both.
const ALL: [f64; 2] = [0.0, 1e10];
const SMALL: [f64; 2] = [0.0, 1024.0];
const MEDIUM: [f64; 2] = [1024.0, 9216.0];
const LARGE: [f64; 2] = [9216.0, 1e10];

fn overlap(index: usize) -> f64 {
    0.5 + 0.05 * index as f64
}

/// Counts as COCO does.
///
/// # Errors
/// When a class is not in `0..classes`, a box has its corners in another order, or a number is not finite.
pub fn detection(images: &[ImageBoxes], classes: usize) -> Result<Detection> {
    check(images, classes)?;
    let curves = |range: [f64; 2]| -> Vec<Option<[Curve; OVERLAPS]>> {
        (0..classes).map(|class| class_curves(images, class, range)).collect()
    };
    let all = curves(ALL);
    let of_range = |range| mean_ap(&curves(range));
    let at = |index: usize| mean(all.iter().flatten().map(|curves| curves[index].ap));
    Ok(Detection {
        ap: mean_ap(&all),
        ap50: at(0),
        ap75: at(5),
        ap_small: of_range(SMALL),
        ap_medium: of_range(MEDIUM),
        ap_large: of_range(LARGE),
        recall: mean(all.iter().flatten().flatten().map(|curve| curve.recall)),
        ap50_of_classes: all.iter().map(|curves| curves.as_ref().map(|curves| curves[0].ap)).collect(),
        images: images.len(),
    })
}

fn check(images: &[ImageBoxes], classes: usize) -> Result<()> {
    for (i, image) in images.iter().enumerate() {
        let truth = image.truth.iter().map(|b| (b.rectangle, b.class));
        let found = image.found.iter().map(|b| (b.rectangle, b.class));
        for (rectangle, class) in truth.chain(found) {
            rectangle.check(&format!("a box of image {i}"))?;
            if class >= classes {
                return Err(Error::config(format!("class of image {i}"), class, format!("in 0..{classes}")));
            }
        }
        if image.found.iter().any(|b| !b.score.is_finite()) {
            return Err(Error::NonFinite { what: "a score".to_owned(), detail: format!("of image {i}") });
        }
    }
    Ok(())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    (n > 0.0).then(|| sum / n)
}

fn mean_ap(curves: &[Option<[Curve; OVERLAPS]>]) -> Option<f64> {
    mean(curves.iter().flatten().flatten().map(|curve| curve.ap))
}

/// What a class reaches at one overlap.
#[derive(Clone, Copy, Default)]
struct Curve {
    ap: f64,
    recall: f64,
}

/// What became of a found box at one overlap.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Right,
    Wrong,
    /// In no count.
    Ignored,
}

/// The curves of a class; none without true boxes in the range.
fn class_curves(images: &[ImageBoxes], class: usize, range: [f64; 2]) -> Option<[Curve; OVERLAPS]> {
    let mut positives = 0;
    let mut judged: Vec<(f64, [Fate; OVERLAPS])> = Vec::new();
    for image in images {
        let (count, of_image) = judge(image, class, range);
        positives += count;
        judged.extend(of_image);
    }
    if positives == 0 {
        return None;
    }
    // Stable: among equal scores images stand in their order.
    judged.sort_by(|a, b| b.0.total_cmp(&a.0));
    Some(std::array::from_fn(|t| curve(judged.iter().map(|(_, fates)| fates[t]), positives as f64)))
}

/// The true boxes that count, and what became of the found boxes of one image.
fn judge(image: &ImageBoxes, class: usize, range: [f64; 2]) -> (usize, Vec<(f64, [Fate; OVERLAPS])>) {
    let outside = |r: &Rectangle| r.area() < range[0] || r.area() > range[1];
    // A true box and whether it is ignored; those that count stand first.
    let mut truth: Vec<(&TrueBox, bool)> = image
        .truth
        .iter()
        .filter(|b| b.class == class)
        .map(|b| (b, b.kind != BoxKind::Counted || outside(&b.rectangle)))
        .collect();
    truth.sort_by_key(|(_, ignored)| *ignored);
    let mut found: Vec<&FoundBox> = image.found.iter().filter(|b| b.class == class).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST);
    let overlaps: Vec<Vec<f64>> = found
        .iter()
        .map(|b| {
            let of = |truth: &TrueBox| {
                if truth.kind == BoxKind::Crowd {
                    ratio(b.rectangle.intersection(&truth.rectangle), b.rectangle.area())
                } else {
                    b.rectangle.iou(&truth.rectangle)
                }
            };
            truth.iter().map(|(truth, _)| of(truth)).collect()
        })
        .collect();
    let mut fates = vec![[Fate::Wrong; OVERLAPS]; found.len()];
    for t in 0..OVERLAPS {
        let mut taken = vec![false; truth.len()];
        for (fates, overlaps) in fates.iter_mut().zip(&overlaps) {
            let mut best: Option<(usize, bool)> = None;
            let mut most = overlap(t).min(1.0 - 1e-10);
            for (g, (truth, ignored)) in truth.iter().enumerate() {
                if taken[g] && truth.kind == BoxKind::Counted {
                    continue;
                }
                // A match that counts is not given up for one that does not.
                if best.is_some_and(|(_, best_ignored)| !best_ignored && *ignored) {
                    break;
                }
                if overlaps[g] >= most {
                    most = overlaps[g];
                    best = Some((g, *ignored));
                }
            }
            if let Some((g, ignored)) = best {
                taken[g] = true;
                fates[t] = if ignored { Fate::Ignored } else { Fate::Right };
            }
        }
    }
    let judged = found.iter().zip(fates).map(|(b, mut fates)| {
        if outside(&b.rectangle) {
            fates.iter_mut().filter(|fate| **fate == Fate::Wrong).for_each(|fate| *fate = Fate::Ignored);
        }
        (b.score, fates)
    });
    (truth.iter().filter(|(_, ignored)| !ignored).count(), judged.collect())
}

fn curve(fates: impl Iterator<Item = Fate>, positives: f64) -> Curve {
    let (mut right, mut wrong) = (0.0, 0.0);
    let mut points: Vec<(f64, f64)> = Vec::new(); // recall, precision
    for fate in fates {
        match fate {
            Fate::Right => right += 1.0,
            Fate::Wrong => wrong += 1.0,
            Fate::Ignored => {}
        }
        points.push((right / positives, right / (right + wrong + f64::EPSILON)));
    }
    let mut best = 0.0_f64;
    for (_, precision) in points.iter_mut().rev() {
        best = best.max(*precision);
        *precision = best;
    }
    let precision_at = |recall: f64| {
        let first = points.partition_point(|(r, _)| *r < recall);
        points.get(first).map_or(0.0, |(_, precision)| *precision)
    };
    // NumPy's linspace: the same numbers in the last bit, as some recalls are equal to them.
    let sum: f64 = (0..=100).map(|i| precision_at(if i == 100 { 1.0 } else { f64::from(i) * 0.01 })).sum();
    Curve { ap: sum / 101.0, recall: points.last().map_or(0.0, |(recall, _)| *recall) }
}

impl Detection {
    /// The measures for a report, of images from `split` and boxes by `by`, as in `a small head on frozen features`.
    pub fn measurements(&self, split: &str, seed: Option<u64>, by: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed };
        let all = [
            ("map", self.ap, "average precision, mean over overlaps from 0.5 to 0.95 and classes (COCO)"),
            ("map50", self.ap50, "average precision at an overlap of 0.5, mean over classes"),
            ("map75", self.ap75, "average precision at an overlap of 0.75, mean over classes"),
            (
                "recall100",
                self.recall,
                "recall of at most 100 boxes a class and image, mean over overlaps and classes",
            ),
        ];
        let of = |(name, value, text): (&str, Option<f64>, &str)| {
            let text = format!("{text}; boxes by {by}: a probe, not a detector");
            Some(origin.plain(format!("detection_{name}"), value?, self.images, text))
        };
        all.into_iter().filter_map(of).collect()
    }
}

#[cfg(test)]
#[path = "detection_tests.rs"]
mod tests;
