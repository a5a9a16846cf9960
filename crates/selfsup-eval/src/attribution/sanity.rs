//! The sanity check of maps (Adebayo et al. 2018): does a map show what was learned, or only what the image looks like?
//!
//! The map of the trained network is compared with that of the same network with random weights, image by image: by the rank
//! correlation of its places, and by structural similarity after each was scaled to its own range. A method whose maps stay as they are
//! says nothing of the training; one whose maps change may still be wrong. The paper draws no line; ours are `STAYS` and `CHANGES`, in rank correlation.

use super::rank_correlation::rank_correlation;
use super::ssim::ssim;
use crate::{LEVEL, Mean};
use selfsup_core::{Error, Key, Kind, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// From this rank correlation on a map is said to stay as it is.
pub const STAYS: f64 = 0.7;
/// Below this rank correlation a map is said to change.
pub const CHANGES: f64 = 0.4;

/// The resamples of the intervals.
const RESAMPLES: usize = 1000;
/// The window of structural similarity, on maps that are large enough.
const WINDOW: i64 = 7;

/// What random weights do to the maps of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapVerdict {
    /// They change them.
    Changes,
    /// They change them in part.
    ChangesInPart,
    /// They hardly change them.
    Stays,
    /// No image has a map in which one place differs from another, with both networks.
    Flat,
}

/// How alike the maps of a trained network and of one with random weights are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SanityCheck {
    /// The rank correlation, averaged over images whose maps are not flat; none where all are.
    pub rank_correlation: Option<Mean>,
    /// The structural similarity of maps scaled to their range, averaged over all images; none of maps below 3 x 3.
    pub ssim: Option<Mean>,
    /// In a word.
    pub verdict: MapVerdict,
    /// The images.
    pub images: usize,
}

/// Compares maps of the same images.
///
/// # Shapes
/// `[N, H, W]` twice.
///
/// # Errors
/// When the maps do not fit each other, are not finite, or there are none.
pub fn sanity_check(trained: &Tensor, random: &Tensor) -> Result<SanityCheck> {
    let [n, height, width] = check_shape("maps", trained, [-1, -1, -1])?;
    if n == 0 {
        return Err(Error::config("maps", 0, "at least one image"));
    }
    check_shape("maps of random weights", random, [n, height, width])?;
    let of = |maps: &Tensor| -> Result<Vec<Vec<f64>>> {
        Ok(Vec::try_from(&maps.to_kind(Kind::Double).reshape([n, -1]))?)
    };
    let (a, b) = (of(trained)?, of(random)?);
    let mut correlations = Vec::new();
    for (a, b) in a.iter().zip(&b) {
        correlations.extend(rank_correlation(a, b)?);
    }
    let mean = |values: &[f64]| Mean::over_samples(values, RESAMPLES, Key::new(0));
    let rank_correlation = if correlations.is_empty() { None } else { Some(mean(&correlations)?) };
    let side = height.min(width).min(WINDOW);
    let window = if side % 2 == 0 { side - 1 } else { side };
    let ssim = if window < 3 {
        None
    } else {
        let found = ssim(&to_range(trained), &to_range(random), window, 1.0)?;
        Some(mean(&Vec::try_from(found)?)?)
    };
    let verdict = match &rank_correlation {
        None => MapVerdict::Flat,
        Some(mean) if mean.value >= STAYS => MapVerdict::Stays,
        Some(mean) if mean.value >= CHANGES => MapVerdict::ChangesInPart,
        Some(_) => MapVerdict::Changes,
    };
    Ok(SanityCheck { rank_correlation, ssim, verdict, images: n as usize })
}

/// Each map from 0 to 1; a flat one is 0.
fn to_range(maps: &Tensor) -> Tensor {
    let maps = maps.to_kind(Kind::Double);
    let places = [1_i64, 2];
    let (least, most) = (maps.amin(places.as_slice(), true), maps.amax(places.as_slice(), true));
    (maps - &least) / (most - &least).clamp_min(1e-300)
}

impl SanityCheck {
    /// What it says of a method, as in `Grad-CAM`.
    pub fn in_words(&self, method: &str) -> String {
        match self.verdict {
            MapVerdict::Changes => {
                format!("The maps of {method} change with the weights: they depend on what was learned.")
            }
            MapVerdict::ChangesInPart => format!(
                "The maps of {method} change with the weights only in part: some of what they show is the image itself, whatever was \
                 learned."
            ),
            MapVerdict::Stays => format!(
                "The maps of {method} hardly change when the weights are random: they show the image, not what was learned. Do \
                 not read them as an explanation of this encoder."
            ),
            MapVerdict::Flat => format!(
                "The maps of {method} are the same everywhere, with learned or with random weights: there is nothing to compare."
            ),
        }
    }
}

/// What [`SanityCheck::rank_correlation`] is, for a report.
pub fn sanity_definition() -> String {
    format!(
        "rank correlation (Spearman) and structural similarity of the maps of the trained encoder with those of the same network with \
         random weights, averaged over images, with the {:.0} % interval of a bootstrap over them (Adebayo et al. 2018). The verdict: below \
         {CHANGES} the map changes, from {STAYS} on it stays and shows the image alone",
        100.0 * LEVEL
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::wave;

    #[test]
    fn a_map_that_stays_is_called_so() {
        let maps = wave(&[5, 8, 8], 0.3);
        let found = sanity_check(&maps, &(&maps * 3.0 + 1.0)).unwrap();
        assert_eq!(found.verdict, MapVerdict::Stays);
        assert!((found.rank_correlation.unwrap().value - 1.0).abs() < 1e-12);
        assert!((found.ssim.unwrap().value - 1.0).abs() < 1e-6);
        assert!(found.in_words("occlusion").contains("hardly change when the weights are random"));
    }

    #[test]
    fn a_map_that_changes_is_called_so_and_one_between_too() {
        let (a, b) = (wave(&[5, 8, 8], 0.3), wave(&[5, 8, 8], 1.1));
        let found = sanity_check(&a, &b).unwrap();
        assert_eq!(found.verdict, MapVerdict::Changes);
        assert!(
            found.rank_correlation.unwrap().value.abs() < 0.3 && found.ssim.as_ref().unwrap().value < 0.4
        );
        assert!(found.in_words("Grad-CAM").ends_with("they depend on what was learned."));
        let between = sanity_check(&a, &(&a * 0.55 + &b * 0.85)).unwrap();
        assert_eq!(between.verdict, MapVerdict::ChangesInPart, "{between:?}");
        assert_eq!(between.images, 5);
    }

    #[test]
    fn flat_maps_have_nothing_to_compare_and_small_ones_no_window() {
        let (maps, flat) = (wave(&[2, 8, 8], 0.3), wave(&[2, 8, 8], 0.3) * 0.0);
        let found = sanity_check(&maps, &flat).unwrap();
        assert_eq!((found.rank_correlation, found.verdict), (None, MapVerdict::Flat));
        assert!(found.in_words("rollout").contains("nothing to compare"));
        let small = sanity_check(&wave(&[3, 2, 5], 0.3), &wave(&[3, 2, 5], 0.4)).unwrap();
        assert!(small.ssim.is_none() && small.rank_correlation.is_some());
    }

    #[test]
    fn the_correlation_is_the_mean_of_those_of_the_images() {
        let (a, b) = (wave(&[3, 4, 4], 0.3), wave(&[3, 4, 4], 0.8));
        let rows = |x: &Tensor| Vec::<Vec<f64>>::try_from(&x.to_kind(Kind::Double).reshape([3, 16])).unwrap();
        let each: Vec<f64> =
            rows(&a).iter().zip(&rows(&b)).map(|(a, b)| rank_correlation(a, b).unwrap().unwrap()).collect();
        let found = sanity_check(&a, &b).unwrap().rank_correlation.unwrap();
        assert!((found.value - each.iter().sum::<f64>() / 3.0).abs() < 1e-12);
        let interval = found.interval.unwrap();
        assert!(interval.low <= found.value && found.value <= interval.high);
    }

    #[test]
    fn rejects_maps_that_do_not_fit() {
        let maps = wave(&[2, 8, 8], 0.3);
        let error = sanity_check(&maps, &maps.narrow(1, 0, 4)).unwrap_err().to_string();
        assert_eq!(error, "maps of random weights: expected [2, 8, 8], found [2, 4, 8]");
        assert!(sanity_check(&maps, &(&maps / 0.0)).unwrap_err().to_string().contains("not finite"));
        assert!(sanity_check(&maps.narrow(0, 0, 0), &maps.narrow(0, 0, 0)).is_err());
    }
}
