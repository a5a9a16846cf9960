//! Rotation: by how many quarter turns was an image turned? To tell, a network must know what things look like upright.
//!
//! Gidaris, Singh and Komodakis 2018, *Unsupervised Representation Learning by Predicting Image Rotations*, section 3.1:
//! K = 4 turns by 0, 90, 180 and 270 degrees, and all four of every image are in one batch, which the authors found
//! better than one turn drawn for each image (section 4.1).
//!
//! The turns only move pixels, so nothing that resampling leaves behind tells them apart. Turning is counter-clockwise, as
//! in the authors' code.

use selfsup_core::{Error, Kind, LabelSpace, LabelledTiles, PretextLabeler, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// Settings of [`Rotation`]: there is nothing to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotationConfig {}

const QUESTION: &str = "By how much was the image turned, counter-clockwise?";

/// Turns every image by all four quarter turns.
#[derive(Debug)]
pub struct Rotation {
    space: LabelSpace,
}

impl Rotation {
    /// There is nothing to refuse.
    ///
    /// # Errors
    /// None.
    pub fn new(_config: &RotationConfig) -> Result<Self> {
        let classes = ["0°", "90°", "180°", "270°"].map(str::to_owned).to_vec();
        Ok(Rotation { space: LabelSpace { question: QUESTION, tiles: 1, classes } })
    }
}

impl PretextLabeler for Rotation {
    fn space(&self) -> &LabelSpace {
        &self.space
    }

    /// Images `[N, C, H, W]` to `[4N, 1, C, H, W]`: all as they are, then all turned once, twice and three times.
    ///
    /// # Errors
    /// When the images are not square: a turned one would have another shape.
    fn label(&self, images: &Tensor) -> Result<LabelledTiles> {
        let [n, c, h, w] = check_shape("images", images, [-1, -1, -1, -1])?;
        if h != w {
            let expected = format!("square images [{n}, {c}, {h}, {h}] to be turned");
            return Err(Error::Shape {
                name: "images".into(),
                expected,
                found: format!("{:?}", images.size()),
            });
        }
        let turned: Vec<_> = (0..4).map(|turns| images.rot90(turns, [2, 3])).collect();
        let labels = Tensor::arange(4, (Kind::Int64, images.device())); // [4]
        Ok(LabelledTiles {
            tiles: Tensor::cat(&turned, 0).unsqueeze(1), // [4N, 1, C, H, W]
            labels: labels.repeat_interleave_self_int(n, 0, 4 * n), // [4N]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    fn images() -> Tensor {
        Tensor::arange(2 * 3 * 4 * 4, (Kind::Float, Device::Cpu)).reshape([2, 3, 4, 4])
    }

    #[test]
    fn turns_counter_clockwise_without_changing_a_pixel() {
        let images = images();
        let found = Rotation::new(&RotationConfig::default()).unwrap().label(&images).unwrap();
        assert_eq!(found.tiles.size(), [8, 1, 3, 4, 4]);
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), [0, 0, 1, 1, 2, 2, 3, 3]);
        for (n, c, i, j) in (0..96).map(|k| (k / 48, k / 16 % 3, k / 4 % 4, k % 4)) {
            let pixel = images.double_value(&[n, c, i, j]);
            // A quarter turn to the left carries row i, column j to row 3 - j, column i.
            for (turns, (row, column)) in
                [(i, j), (3 - j, i), (3 - i, 3 - j), (j, 3 - i)].into_iter().enumerate()
            {
                let place = [2 * turns as i64 + n, 0, c, row, column];
                assert_eq!(found.tiles.double_value(&place), pixel, "{turns} turns");
            }
        }
    }

    #[test]
    fn equals_the_authors_code() {
        // rotate_img of FeatureLearningRotNet on np.arange(9).reshape(3, 3, 1):
        // np.flipud(np.transpose(img, (1, 0, 2))), np.fliplr(np.flipud(img)), np.transpose(np.flipud(img), (1, 0, 2))
        let image = Tensor::arange(9, (Kind::Float, Device::Cpu)).reshape([1, 1, 3, 3]);
        let found = Rotation::new(&RotationConfig::default()).unwrap().label(&image).unwrap();
        let expected = [
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            [2.0, 5.0, 8.0, 1.0, 4.0, 7.0, 0.0, 3.0, 6.0],
            [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0],
            [6.0, 3.0, 0.0, 7.0, 4.0, 1.0, 8.0, 5.0, 2.0],
        ];
        for (turns, expected) in expected.into_iter().enumerate() {
            let tile = found.tiles.get(turns as i64).flatten(0, -1);
            assert_eq!(Vec::<f64>::try_from(tile).unwrap(), expected, "{turns} turns");
        }
    }

    #[test]
    fn every_answer_is_equally_frequent() {
        let rotation = Rotation::new(&RotationConfig::default()).unwrap();
        let found = rotation.label(&images()).unwrap();
        assert_eq!(Vec::<i64>::try_from(found.labels.bincount::<Tensor>(None, 4)).unwrap(), [2, 2, 2, 2]);
        assert_eq!((rotation.space().tiles, rotation.space().chance()), (1, 0.25));
    }

    #[test]
    fn rejects_images_that_are_not_square() {
        let rotation = Rotation::new(&RotationConfig::default()).unwrap();
        let error = rotation.label(&images().narrow(2, 0, 3)).unwrap_err().to_string();
        assert_eq!(error, "images: expected square images [2, 3, 3, 3] to be turned, found [2, 3, 3, 4]");
        let error = rotation.label(&images().get(0)).unwrap_err().to_string();
        assert_eq!(error, "images: expected [_, _, _, _], found [3, 4, 4]");
    }
}
