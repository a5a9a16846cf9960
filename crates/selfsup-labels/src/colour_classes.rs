//! Colour classes: which colour belongs to a place of a grey image? To tell, a network must know what is seen there.
//!
//! Zhang, Isola and Efros 2016, *Colorful Image Colorization*, section 2.1: the colours ab of CIE Lab are cut into 313 bins of
//! a grid with a step of 10, those in gamut. A place's class is the nearest bin; softly, it is spread over the 5 nearest, by a
//! Gaussian of their distance with sigma 5:
//!
//! ```text
//! label = argmin_q |ab - bin_q|        Z_q ~ exp(-|ab - bin_q|^2 / (2 sigma^2)) for the K nearest, sum_q Z_q = 1
//! ```
//! The classes are not of an image but of its places, so this is no [`PretextLabeler`](selfsup_core::PretextLabeler): what
//! predicts them is a network with a map. The bins are those of `selfsup-numerics`, which the objective of colorization learns.

use selfsup_core::{Error, Kind, LabelSpace, Result, Tensor, check_shape};
use selfsup_numerics::{SoftEncoding, gamut, rgb_to_lab};
use serde::{Deserialize, Serialize};

/// Settings of [`ColourClasses`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColourClassesConfig {
    /// Every so many rows and columns a place is labelled; 4, as in the authors' network.
    pub stride: i64,
    /// The bins that a colour is spread over; 5 (section 2.1).
    pub neighbours: i64,
    /// The standard deviation of the Gaussian, in units of ab; 5 (section 2.1).
    pub sigma: f64,
}

impl Default for ColourClassesConfig {
    fn default() -> Self {
        let SoftEncoding { neighbours, sigma } = SoftEncoding::default();
        ColourClassesConfig { stride: 4, neighbours, sigma }
    }
}

const QUESTION: &str = "What colour does this place of the grey image have?";

/// Labels the places of colour images by their colours.
#[derive(Debug)]
pub struct ColourClasses {
    space: LabelSpace,
    /// `[Q, 2]`
    bins: Tensor,
    stride: i64,
    encoding: SoftEncoding,
}

/// A grey image, and the colours of its places.
#[derive(Debug)]
pub struct ColourLabels {
    /// The lightness L, 0 to 100: what the colours are to be told from. `[N, 1, H, W]` Float.
    pub lightness: Tensor,
    /// The class of every labelled place, `[N, h, w]` Int64.
    pub labels: Tensor,
    /// The classes that a place's colour is spread over, the nearest first, `[N, h, w, K]` Int64.
    pub nearest: Tensor,
    /// How much of it falls to each, sum 1, `[N, h, w, K]` Float.
    pub shares: Tensor,
}

impl ColourClasses {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] when the stride or sigma is not positive, or there are not so many bins.
    pub fn new(config: &ColourClassesConfig) -> Result<Self> {
        if config.stride < 1 {
            return Err(Error::config("stride", config.stride, "at least 1"));
        }
        let (bins, encoding) = (gamut(), SoftEncoding { neighbours: config.neighbours, sigma: config.sigma });
        // One colour tells whether the settings can work.
        let _ = encoding.nearest(&bins.narrow(0, 0, 1), &bins)?;
        let count = bins.size()[0];
        let name = |q: i64| format!("a {}, b {}", bins.double_value(&[q, 0]), bins.double_value(&[q, 1]));
        let classes = (0..count).map(name).collect();
        let space = LabelSpace { question: QUESTION, tiles: 1, classes };
        Ok(ColourClasses { space, bins, stride: config.stride, encoding })
    }

    /// What is asked, and the 313 classes, as in `a 80, b 70`, a strong red.
    pub fn space(&self) -> &LabelSpace {
        &self.space
    }

    /// The bins that the classes stand for, in their order.
    ///
    /// # Shapes
    /// `[313, 2]` Float: a and b.
    pub fn bins(&self) -> &Tensor {
        &self.bins
    }

    /// Labels images.
    ///
    /// # Shapes
    /// RGB from 0 to 1, `[N, 3, H, W]`; of `H` rows `h = ceil(H / stride)` are labelled, of columns likewise.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are not three channels, [`Error::NonFinite`] when a pixel is not finite.
    pub fn label(&self, images: &Tensor) -> Result<ColourLabels> {
        check_shape("images", images, [-1, 3, -1, -1])?;
        if !bool::try_from(images.isfinite().all())? {
            let detail = "no colour can be told of such a pixel".to_owned();
            return Err(Error::NonFinite { what: "images".to_owned(), detail });
        }
        let lab = rgb_to_lab(&images.to_kind(Kind::Float))?; // [N, 3, H, W]
        let places = lab.slice(2, None, None, self.stride).slice(3, None, None, self.stride); // [N, 3, h, w]
        let colours = places.narrow(1, 1, 2).permute([0, 2, 3, 1]); // [N, h, w, 2]
        let [n, h, w, _] = check_shape("colours", &colours, [-1, -1, -1, 2])?;
        let bins = self.bins.to_device(images.device());
        let (nearest, shares) = self.encoding.nearest(&colours.reshape([-1, 2]), &bins)?; // [N h w, K] each
        let shape = [n, h, w, self.encoding.neighbours];
        let nearest = nearest.reshape(shape);
        Ok(ColourLabels {
            lightness: lab.narrow(1, 0, 1),
            labels: nearest.select(3, 0),
            nearest,
            shares: shares.reshape(shape),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    fn labeler(stride: i64) -> ColourClasses {
        ColourClasses::new(&ColourClassesConfig { stride, ..Default::default() }).unwrap()
    }

    // skimage.color.rgb2lab of white, red, green, blue and black is (100, 0.00, 0.00), (53.24, 80.09, 67.20),
    // (87.74, -86.18, 83.18), (32.30, 79.19, -107.86) and (0, 0, 0); the nearest points of the grid that are in gamut:
    #[test]
    fn known_colours_have_the_class_that_their_name_says() {
        let rgb = [[1.0_f32, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]];
        let found = labeler(1).label(&Tensor::from_slice2(&rgb).view([5, 3, 1, 1])).unwrap();
        let labels = Vec::<i64>::try_from(found.labels.flatten(0, -1)).unwrap();
        let labeler = labeler(1);
        let names: Vec<&str> =
            labels.iter().map(|&label| labeler.space().classes[label as usize].as_str()).collect();
        assert_eq!(names, ["a 0, b 0", "a 80, b 70", "a -90, b 80", "a 80, b -110", "a 0, b 0"]);
        let lightness = Vec::<f64>::try_from(found.lightness.flatten(0, -1)).unwrap();
        for (found, expected) in lightness.iter().zip([100.0, 53.24, 87.74, 32.30, 0.0]) {
            assert!((found - expected).abs() < 0.01, "{found}");
        }
    }

    #[test]
    fn every_labelled_place_has_the_nearest_bin_and_the_shares_of_the_five_nearest() {
        let images = (Tensor::arange(2 * 3 * 5 * 7, (Kind::Float, Device::Cpu)) * 0.83).sin() * 0.5 + 0.5;
        let images = images.reshape([2, 3, 5, 7]);
        let labeler = labeler(3);
        let found = labeler.label(&images).unwrap();
        assert_eq!((found.labels.size(), found.shares.size()), (vec![2, 2, 3], vec![2, 2, 3, 5]));
        let lab = rgb_to_lab(&images).unwrap();
        for (n, i, j) in (0..2).flat_map(|n| (0..2).flat_map(move |i| (0..3).map(move |j| (n, i, j)))) {
            let ab = [1, 2].map(|channel| lab.double_value(&[n, channel, 3 * i, 3 * j]));
            let mut all: Vec<(f64, i64)> = (0..313)
                .map(|q| {
                    let bin = [0, 1].map(|axis| labeler.bins().double_value(&[q, axis]));
                    ((ab[0] - bin[0]).powi(2) + (ab[1] - bin[1]).powi(2), q)
                })
                .collect();
            all.sort_by(|x, y| x.0.total_cmp(&y.0));
            assert_eq!(found.labels.int64_value(&[n, i, j]), all[0].1);
            let kernel = |square: f64| (-square / 50.0).exp();
            let sum: f64 = all[..5].iter().map(|(square, _)| kernel(*square)).sum();
            for (k, (square, q)) in all[..5].iter().enumerate() {
                let at = [n, i, j, k as i64];
                assert_eq!(found.nearest.int64_value(&at), *q);
                assert!((found.shares.double_value(&at) - kernel(*square) / sum).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn the_space_is_described() {
        let labeler = labeler(4);
        let space = labeler.space();
        assert_eq!((space.classes.len(), space.tiles), (313, 1));
        assert_eq!((space.classes[0].as_str(), space.classes[312].as_str()), ("a -90, b 50", "a 100, b 0"));
        let mut names = space.classes.clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 313);
    }

    #[test]
    fn rejects_what_has_no_colours_and_settings_that_cannot_work() {
        let grey = Tensor::zeros([2, 1, 4, 4], (Kind::Float, Device::Cpu));
        let error = labeler(4).label(&grey).unwrap_err().to_string();
        assert_eq!(error, "images: expected [_, 3, _, _], found [2, 1, 4, 4]");
        let bad = Tensor::full([1, 3, 2, 2], f64::NAN, (Kind::Float, Device::Cpu));
        assert!(matches!(labeler(4).label(&bad).unwrap_err(), Error::NonFinite { .. }));
        let error = |config: ColourClassesConfig| ColourClasses::new(&config).unwrap_err().to_string();
        assert_eq!(error(ColourClassesConfig { stride: 0, ..Default::default() }), "stride = 0: at least 1");
        let none = ColourClassesConfig { neighbours: 0, ..Default::default() };
        assert_eq!(error(none), "neighbours = 0 with sigma 5: 1 to 313 and a positive sigma");
    }
}
