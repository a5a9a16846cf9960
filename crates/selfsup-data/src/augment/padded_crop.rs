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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, picture};
    use proptest::prelude::*;
    use selfsup_core::Key;

    fn crop(fill: Padding) -> RandomCrop {
        RandomCrop { size: [12, 14], padding: 2, fill }
    }

    #[test]
    fn pads_as_torchvision_does() {
        // reference(F.crop(F.pad(image(3), [2, 2, 2, 2], padding_mode="reflect"), 1, 3, 12, 14)), then without a mode.
        let first = [0.5098, 0.95294, 0.8902, 0.39608, 0.01569, 0.17255, 0.69412, 1.0];
        assert_equals(&crop(Padding::Reflect).cut(&picture(3), [1, 3]), first, 254.804, 1.4573);
        assert_equals(&crop(Padding::Zero).cut(&picture(3), [1, 3]), [0.0; 8], 231.176, -5.2606);
    }

    #[test]
    fn every_place_is_equally_likely() {
        // 5 x 7 places, 35,000 draws: chi-square with 34 degrees of freedom stays below 75 in all but 1 of 10,000.
        let mut counts = [[0.0_f64; 7]; 5];
        for i in 0..35_000 {
            let [top, left] = crop(Padding::Zero).draw(12, 16, &mut Key::new(0).with(i).rng()).unwrap();
            counts[top][left] += 1.0;
        }
        let chi: f64 = counts.iter().flatten().map(|c| (c - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 75.0, "{chi}");
    }

    #[test]
    fn refuses_an_image_smaller_than_the_window() {
        let mut rng = Key::new(0).rng();
        let error = crop(Padding::Zero).draw(7, 16, &mut rng).unwrap_err().to_string();
        assert_eq!(error, "image: expected at least [12, 14] pixels with a border of 2, found 7 x 16 pixels");
        let wide = RandomCrop { size: [2, 2], padding: 5, fill: Padding::Reflect };
        assert!(wide.draw(5, 8, &mut rng).is_err());
    }

    proptest! {
        #[test]
        fn no_draw_leaves_the_padded_image(
            height in 1_usize..20, width in 1_usize..20, side in 1_usize..30, padding in 0_usize..12,
            reflect: bool, seed: u64,
        ) {
            let fill = if reflect { Padding::Reflect } else { Padding::Zero };
            let crop = RandomCrop { size: [side, side], padding, fill };
            if let Ok(start) = crop.draw(height, width, &mut Key::new(seed).rng()) {
                let image = Image::new(vec![255; height * width], [height, width, 1]).unwrap();
                let out = crop.cut(&image, start);
                prop_assert!(!reflect || out.values.iter().all(|&v| v == 1.0));
            }
        }
    }
}
