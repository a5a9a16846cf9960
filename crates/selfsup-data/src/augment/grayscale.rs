//! The loss of colour.

use super::planes::Planes;
use super::{chance, check_probability, luma};
use selfsup_core::{Augment, Result, Rng};

/// Turns a picture grey at random; it keeps its three channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomGrayscale {
    /// The probability.
    pub p: f64,
}

/// Gives all three channels the picture's luma; a grey picture stays.
#[inline(always)]
pub fn grayscale(planes: &mut Planes) {
    let Some([red, green, blue]) = planes.rgb_mut() else { return };
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = luma(*r, *g, *b);
        (*r, *g, *b) = (grey, grey, grey);
    }
}

impl Augment<Planes> for RandomGrayscale {
    type Out = Planes;

    fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
        check_probability("grayscale", self.p)?;
        if chance(self.p, rng) {
            grayscale(&mut planes);
        }
        Ok(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, picture};

    #[test]
    fn equals_torchvision_and_leaves_grey_alone() {
        // reference(F.rgb_to_grayscale(image(3), 3))
        let mut planes = Planes::from_image(&picture(3));
        grayscale(&mut planes);
        let first = [0.6458, 0.98012, 0.78251, 0.2712, 0.01442, 0.29521, 0.80476, 0.97677];
        assert_equals(&planes, first, 288.314, 0.294);
        let mut grey = Planes::from_image(&picture(1));
        grayscale(&mut grey);
        assert_eq!(grey, Planes::from_image(&picture(1)));
    }
}
