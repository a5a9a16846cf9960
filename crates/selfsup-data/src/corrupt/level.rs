//! How strong a corruption is: its severity, and the authors' constants for small and for large images.

use crate::Image;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How strong a corruption is, from 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Severity(u8);

impl Severity {
    /// From the weakest to the strongest.
    pub const ALL: [Severity; 5] = [Severity(1), Severity(2), Severity(3), Severity(4), Severity(5)];

    /// Checks a severity.
    ///
    /// # Errors
    /// [`Error::Config`] unless it is 1 to 5.
    pub fn new(severity: u8) -> Result<Self> {
        match severity {
            1..=5 => Ok(Severity(severity)),
            _ => Err(Error::config("severity", severity, "1 to 5")),
        }
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Severity {
    type Error = Error;

    fn try_from(severity: u8) -> Result<Self> {
        Severity::new(severity)
    }
}

impl From<Severity> for u8 {
    fn from(severity: Severity) -> u8 {
        severity.0
    }
}

/// The shorter side in pixels up to which an image gets the constants that were chosen for 32 pixels.
const SMALL: usize = 64;

/// A severity for an image of a known size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    small: bool,
    index: usize,
}

impl Level {
    pub fn of(image: &Image, severity: Severity) -> Self {
        Level { small: image.height().min(image.width()) <= SMALL, index: usize::from(severity.0) - 1 }
    }

    /// The constant of this severity: of `make_cifar_c.py` for small images, of `make_imagenet_c.py` for large ones.
    pub fn pick<T: Copy>(self, small: [T; 5], large: [T; 5]) -> T {
        if self.small { small[self.index] } else { large[self.index] }
    }

    /// Whether the image is one of the small.
    pub fn is_small(self) -> bool {
        self.small
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_one_to_five() {
        assert_eq!(Severity::ALL.map(Severity::number), [1, 2, 3, 4, 5]);
        assert_eq!(Severity::new(0).unwrap_err().to_string(), "severity = 0: 1 to 5");
        assert!(Severity::new(6).is_err() && Severity::new(5).is_ok());
    }

    #[test]
    fn the_constants_go_by_the_shorter_side() {
        let level = |height, width| {
            let image = Image::new(vec![0; height * width], [height, width, 1]).unwrap();
            Level::of(&image, Severity::ALL[2]).pick([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
        };
        assert_eq!((level(28, 28), level(64, 300), level(65, 65)), (3, 3, 30));
    }
}
