//! Mirrors.

use super::planes::Planes;
use super::resample::Flip;
use super::{chance, check_probability};
use selfsup_core::{Augment, Result, Rng};

/// Mirrors an image at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomFlip {
    /// The probability that left and right change places.
    pub horizontal: f64,
    /// The probability that top and bottom change places.
    pub vertical: f64,
}

impl RandomFlip {
    /// Draws which mirrors a picture passes.
    pub fn draw(&self, rng: &mut Rng) -> Flip {
        Flip { horizontal: chance(self.horizontal, rng), vertical: chance(self.vertical, rng) }
    }
}

impl Flip {
    /// Mirrors a picture.
    pub fn apply(self, planes: &mut Planes) {
        if self.horizontal {
            planes.values.chunks_exact_mut(planes.width.max(1)).for_each(<[f32]>::reverse);
        }
        if self.vertical {
            let (height, width) = (planes.height, planes.width);
            for plane in planes.values.chunks_exact_mut((height * width).max(1)) {
                for y in 0..height / 2 {
                    let (upper, lower) = plane.split_at_mut((height - 1 - y) * width);
                    upper[y * width..(y + 1) * width].swap_with_slice(&mut lower[..width]);
                }
            }
        }
    }
}

impl Augment<Planes> for RandomFlip {
    type Out = Planes;

    fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
        check_probability("flip", self.horizontal)?;
        check_probability("vertical_flip", self.vertical)?;
        self.draw(rng).apply(&mut planes);
        Ok(planes)
    }
}
