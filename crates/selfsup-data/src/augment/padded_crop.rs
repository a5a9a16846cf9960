//! A window at a random place of the image with a border around it: the weak augmentation of small images
//! (Lee et al., "Deeply-supervised nets", section 4: 4 pixels of zeros around CIFAR's 32).

use super::planes::Planes;
use crate::Image;
use rand::RngExt;
use selfsup_core::{Augment, Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// What the border holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// Black.
    #[default]
    Zero,
    /// The image mirrored at its outermost pixels, which are not repeated.
    Reflect,
}

/// A window of one size at a random place of the padded image.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomCrop {
    /// The size of the window: height, width.
    pub size: [usize; 2],
    /// The width of the border on every side, in pixels.
    pub padding: usize,
    /// What the border holds.
    pub fill: Padding,
}

impl RandomCrop {
    /// Draws the first row and column of the window, in the padded image.
    ///
    /// # Errors
    /// [`Error::Shape`] when the window is larger than the padded image or the border wider than the reflected image.
    pub fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Result<[usize; 2]> {
        let room = [height + 2 * self.padding, width + 2 * self.padding];
        if self.size.contains(&0) || self.size[0] > room[0] || self.size[1] > room[1] {
            return Err(Error::Shape {
                name: "image".to_owned(),
                expected: format!("at least {:?} pixels with a border of {}", self.size, self.padding),
                found: format!("{height} x {width} pixels"),
            });
        }
        if self.fill == Padding::Reflect && self.padding >= height.min(width) {
            return Err(Error::Shape {
                name: "image".to_owned(),
                expected: format!("more than {} pixels a side, to reflect that many", self.padding),
                found: format!("{height} x {width} pixels"),
            });
        }
        Ok([rng.random_range(0..=room[0] - self.size[0]), rng.random_range(0..=room[1] - self.size[1])])
    }

    /// Cuts the window whose first row and column in the padded image are `start`.
    pub fn cut(&self, image: &Image, [top, left]: [usize; 2]) -> Planes {
        let source = Planes::from_image(image);
        let mut out = Planes::default();
        out.reshape(source.channels, self.size[0], self.size[1]);
        let mut target = out.values.iter_mut();
        for plane in source.values.chunks_exact(source.height * source.width) {
            for y in 0..self.size[0] {
                let row = self.source(top + y, source.height);
                for x in 0..self.size[1] {
                    let value = match (row, self.source(left + x, source.width)) {
                        (Some(y), Some(x)) => plane[y * source.width + x],
                        _ => 0.0,
                    };
                    if let Some(t) = target.next() {
                        *t = value;
                    }
                }
            }
        }
        out
    }

    /// The position in the image of a position in the padded one, if the border there is not black.
    fn source(&self, padded: usize, length: usize) -> Option<usize> {
        let i = padded as i64 - self.padding as i64;
        let last = length as i64 - 1;
        match self.fill {
            _ if (0..=last).contains(&i) => Some(i as usize),
            Padding::Zero => None,
            Padding::Reflect => Some((last - (last - i.abs()).abs()) as usize),
        }
    }
}

impl Augment<Image> for RandomCrop {
    type Out = Planes;

    fn apply(&self, image: Image, rng: &mut Rng) -> Result<Planes> {
        let start = self.draw(image.height(), image.width(), rng)?;
        Ok(self.cut(&image, start))
    }
}
