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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, picture};
    use selfsup_core::Key;

    #[test]
    fn mirrors_as_torchvision_does() {
        // reference(F.vertical_flip(F.horizontal_flip(image(3))))
        let mut planes = Planes::from_image(&picture(3));
        let original = planes.clone();
        let both = Flip { horizontal: true, vertical: true };
        both.apply(&mut planes);
        let first = [0.0, 0.29804, 0.81961, 0.98431, 0.61176, 0.11373, 0.04314, 0.48235];
        assert_equals(&planes, first, 288.302, 0.7553);
        both.apply(&mut planes);
        assert_eq!(planes, original);
    }

    #[test]
    fn happens_with_its_probability() {
        let flip = RandomFlip { horizontal: 0.3, vertical: 1.0 };
        let drawn: Vec<Flip> = (0..10_000).map(|i| flip.draw(&mut Key::new(0).with(i).rng())).collect();
        let count = drawn.iter().filter(|f| f.horizontal).count() as f64;
        assert!((count - 3000.0).abs() < 5.0 * (10_000.0 * 0.3 * 0.7_f64).sqrt(), "{count}");
        assert!(drawn.iter().all(|f| f.vertical));
    }
}
