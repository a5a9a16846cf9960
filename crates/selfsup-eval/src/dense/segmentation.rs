//! Semantic segmentation: how far predicted and true regions of a class overlap, over all images together.
//!
//! ```text
//! IoU_c = TP_c / (TP_c + FP_c + FN_c)          mIoU = mean over classes of IoU_c         (Everingham et al. 2010)
//! ```
//! The counts are of all pixels of all images, not averaged image by image. A class that neither occurs nor is predicted has no
//! IoU and is left out; one that is only predicted has 0. Pixels labelled `ignore` are in no count. Values are torchmetrics'
//! `JaccardIndex` and scikit-learn's `jaccard_score`.

use crate::measurement::Origin;
use crate::{Confusion, Measurement};
use selfsup_core::{Error, Kind, Result, Tensor, check_kind, check_shape};
use serde::{Deserialize, Serialize};

/// Overlaps of regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segmentation {
    /// The mean of the classes' IoU; 0 where no class has one.
    pub miou: f64,
    /// The IoU of every class; none for a class that neither occurs nor is predicted.
    pub iou: Vec<Option<f64>>,
    /// The share of pixels that got their class.
    pub pixel_accuracy: f64,
    /// The pixels counted.
    pub pixels: u64,
}

impl Confusion {
    /// Counts the pixels of images, those labelled `ignore` left out.
    ///
    /// # Shapes
    /// `labels` and `predictions` `[N, H, W]` Int64.
    ///
    /// # Errors
    /// When the two do not fit each other or hold other classes than `0..classes`, or `ignore` is one of these.
    pub fn of_pixels(
        labels: &Tensor,
        predictions: &Tensor,
        classes: i64,
        ignore: Option<i64>,
    ) -> Result<Confusion> {
        let [n, h, w] = check_shape("labels", labels, [-1, -1, -1])?;
        check_shape("predictions", predictions, [n, h, w])?;
        check_kind("labels", labels, Kind::Int64)?;
        let (mut labels, mut predictions) = (labels.reshape([-1]), predictions.reshape([-1]));
        if let Some(ignore) = ignore {
            if (0..classes).contains(&ignore) {
                return Err(Error::config("ignore", ignore, format!("no class of 0..{classes}")));
            }
            let counted = labels.ne(ignore);
            (labels, predictions) = (labels.masked_select(&counted), predictions.masked_select(&counted));
        }
        Confusion::of(&labels, &predictions, classes)
    }

    /// Adds the counts of other images.
    ///
    /// # Errors
    /// When these are of another number of classes.
    pub fn add(&mut self, other: &Confusion) -> Result<()> {
        let classes = self.counts.len();
        if other.counts.len() != classes {
            return Err(Error::config("classes", other.counts.len(), format!("{classes}")));
        }
        let pairs = self.counts.iter_mut().flatten().zip(other.counts.iter().flatten());
        pairs.for_each(|(count, more)| *count += more);
        Ok(())
    }

    /// The overlaps of the classes' regions.
    pub fn segmentation(&self) -> Segmentation {
        let row = |class: usize| self.counts[class].iter().sum::<u64>();
        let column = |class: usize| self.counts.iter().map(|row| row[class]).sum::<u64>();
        let iou = |class: usize| {
            let both = self.counts[class][class];
            let either = row(class) + column(class) - both;
            (either > 0).then(|| both as f64 / either as f64)
        };
        let iou: Vec<Option<f64>> = (0..self.counts.len()).map(iou).collect();
        let known: Vec<f64> = iou.iter().flatten().copied().collect();
        let pixels: u64 = self.counts.iter().flatten().sum();
        let right: u64 = (0..self.counts.len()).map(|class| self.counts[class][class]).sum();
        Segmentation {
            miou: known.iter().sum::<f64>() / known.len().max(1) as f64,
            iou,
            pixel_accuracy: right as f64 / pixels.max(1) as f64,
            pixels,
        }
    }
}

impl Segmentation {
    /// The measures for a report, of images from `split` segmented by `by`, as in `a linear head on frozen features`.
    pub fn measurements(&self, split: &str, seed: Option<u64>, by: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed };
        let n = self.pixels as usize;
        let classes = self.iou.iter().flatten().count();
        vec![
            origin.plain(
                "miou",
                self.miou,
                n,
                format!("mean over {classes} classes of intersection over union of all pixels together, by {by}; a probe, not a segmenter"),
            ),
            origin.plain("pixel_accuracy", self.pixel_accuracy, n, format!("share of pixels with the right class, by {by}")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    /// (i^2 + 3 i) % 13 % 4, and the same where i % 3 is not 0, else (i^2 + 5) % 11 % 4; `[2, 6, 8]`.
    fn maps() -> (Tensor, Tensor) {
        let i = Tensor::arange(96, (Kind::Int64, Device::Cpu));
        let y = (&i * &i + &i * 3).remainder(13).remainder(4);
        let other = (&i * &i + 5).remainder(11).remainder(4);
        let p = other.where_self(&i.remainder(3).eq(0), &y);
        (y.reshape([2, 6, 8]), p.reshape([2, 6, 8]))
    }

    // i = torch.arange(96); y = (i * i + 3 * i) % 13 % 4; p = torch.where(i % 3 == 0, (i * i + 5) % 11 % 4, y)
    // y[y == 3] = 255; torchmetrics.JaccardIndex("multiclass", num_classes=5, ignore_index=255, average="macro")(p, y)
    // sklearn.metrics.jaccard_score(y[y < 4], p[y < 4], average=None)                  # torchmetrics 1.9, scikit-learn 1.9
    #[test]
    fn agrees_with_torchmetrics_and_scikit_learn() {
        let (y, p) = maps();
        let y = y.masked_fill(&y.eq(3), 255);
        let found = Confusion::of_pixels(&y, &p, 5, Some(255)).unwrap().segmentation();
        let iou: Vec<f64> = found.iou.iter().flatten().copied().collect();
        assert_eq!(found.iou[4], None);
        assert!((found.miou - MIOU).abs() < 1e-6, "{found:?}");
        assert!(iou.len() == 4 && iou.iter().zip(IOU).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
    }

    const MIOU: f64 = 0.513412907719;
    const IOU: [f64; 4] = [0.6470588235294118, 0.6923076923076923, 0.7142857142857143, 0.0];

    #[test]
    fn a_class_that_is_only_predicted_has_none_of_it_right() {
        let y = Tensor::from_slice(&[0_i64, 0, 1, 1]).reshape([1, 2, 2]);
        let p = Tensor::from_slice(&[0_i64, 2, 1, 1]).reshape([1, 2, 2]);
        let found = Confusion::of_pixels(&y, &p, 4, None).unwrap().segmentation();
        assert_eq!(found.iou, [Some(0.5), Some(1.0), Some(0.0), None]);
        assert_eq!((found.miou, found.pixel_accuracy, found.pixels), (0.5, 0.75, 4));
        let numbers = found.measurements("val", None, "a linear head");
        assert_eq!((numbers[0].name.as_str(), numbers[0].n), ("miou", 4));
    }

    #[test]
    fn counts_of_images_add_up() {
        let (y, p) = maps();
        let mut parts = Confusion::of_pixels(&y.narrow(0, 0, 1), &p.narrow(0, 0, 1), 4, None).unwrap();
        parts.add(&Confusion::of_pixels(&y.narrow(0, 1, 1), &p.narrow(0, 1, 1), 4, None).unwrap()).unwrap();
        assert_eq!(parts, Confusion::of_pixels(&y, &p, 4, None).unwrap());
        let other = Confusion { counts: vec![vec![0]] };
        assert_eq!(parts.add(&other).unwrap_err().to_string(), "classes = 1: 4");
    }

    #[test]
    fn images_that_are_ignored_whole_have_no_overlap() {
        let (y, p) = maps();
        let found = Confusion::of_pixels(&(y.zeros_like() - 1), &p, 4, Some(-1)).unwrap().segmentation();
        assert_eq!((found.miou, found.pixels, found.iou), (0.0, 0, vec![None; 4]));
    }

    #[test]
    fn rejects_other_classes_and_sizes() {
        let (y, p) = maps();
        let error = Confusion::of_pixels(&y, &p, 3, None).unwrap_err().to_string();
        assert_eq!(error, "labels = 0..=3: classes in 0..3");
        let error = Confusion::of_pixels(&y, &p, 4, Some(3)).unwrap_err().to_string();
        assert_eq!(error, "ignore = 3: no class of 0..4");
        let error = Confusion::of_pixels(&y, &p.narrow(1, 0, 3), 4, None).unwrap_err().to_string();
        assert_eq!(error, "predictions: expected [2, 6, 8], found [2, 3, 8]");
    }
}
