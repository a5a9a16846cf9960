//! Inversion of the bright pixels (Grill et al., "Bootstrap your own latent", appendix B).

use super::planes::Planes;
use super::{chance, check_probability};
use selfsup_core::{Augment, Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// Inverts the bright values of a picture at random.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Solarize {
    /// Values from here on are inverted, from 0 to 1.
    pub threshold: f32,
    /// The probability.
    pub p: f64,
}

impl Default for Solarize {
    /// BYOL's second view (appendix B): threshold 0.5, probability 0.2.
    fn default() -> Self {
        Solarize { threshold: 0.5, p: 0.2 }
    }
}

impl Solarize {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(Error::config("solarize.threshold", self.threshold, "a number from 0 to 1"));
        }
        check_probability("solarize.p", self.p)
    }
}

/// Inverts the values of at least `threshold`.
#[inline(always)]
pub fn solarize(planes: &mut Planes, threshold: f32) {
    for v in &mut planes.values {
        *v = if *v >= threshold { 1.0 - *v } else { *v };
    }
}

impl Augment<Planes> for Solarize {
    type Out = Planes;

    fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
        self.check()?;
        if chance(self.p, rng) {
            solarize(&mut planes, self.threshold);
        }
        Ok(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, picture};

    #[test]
    fn equals_torchvision() {
        // reference(F.solarize(image(3), 0.5))
        let mut planes = Planes::from_image(&picture(3));
        solarize(&mut planes, 0.5);
        let first = [0.49804, 0.05098, 0.10196, 0.40784, 0.01961, 0.16471, 0.31765, 0.0];
        assert_equals(&planes, first, 104.549, 0.2332);
    }

    #[test]
    fn refuses_a_threshold_in_bytes() {
        let error = Solarize { threshold: 128.0, p: 0.2 }.check().unwrap_err().to_string();
        assert_eq!(error, "solarize.threshold = 128: a number from 0 to 1");
    }
}
