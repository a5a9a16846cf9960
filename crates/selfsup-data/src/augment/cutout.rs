//! A square of one colour over a part of the picture (DeVries and Taylor, "Improved regularization of convolutional neural
//! networks with Cutout", section 3; in FixMatch after RandAugment). Its middle may be any pixel, so that some of it may lie
//! outside.

use super::planes::Planes;
use super::{chance, check_probability, uniform};
use rand::RngExt;
use selfsup_core::{Augment, Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// Covers a square of a picture at random.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cutout {
    /// The smallest and largest side of the square, as a share of the picture's shorter side.
    pub side: [f64; 2],
    /// The value of the square, from 0 to 1.
    pub fill: f32,
    /// The probability.
    pub p: f64,
}

impl Default for Cutout {
    /// FixMatch's (Sohn et al. 2020, appendix D): up to half of the side, in grey, always.
    fn default() -> Self {
        Cutout { side: [0.0, 0.5], fill: 0.5, p: 1.0 }
    }
}

/// A part of a picture that is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// The rows, as far as they lie inside.
    pub height: usize,
    /// The columns, as far as they lie inside.
    pub width: usize,
}

impl Cutout {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn check(&self) -> Result<()> {
        let [low, high] = self.side;
        if !(0.0 <= low && low <= high && high <= 1.0) {
            let expected = "smallest and largest share of the picture's side, from 0 to 1";
            return Err(Error::config("cutout.side", format!("[{low}, {high}]"), expected));
        }
        if !(0.0..=1.0).contains(&self.fill) {
            return Err(Error::config("cutout.fill", self.fill, "a number from 0 to 1"));
        }
        check_probability("cutout.p", self.p)
    }

    /// Draws what is covered of a picture; nothing where it stays as it is.
    pub fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Option<Hole> {
        let happens = chance(self.p, rng);
        let side = (uniform(self.side, rng) * height.min(width) as f64).round() as usize;
        let middle = [height, width].map(|length| rng.random_range(0..length.max(1)));
        let span = |middle: usize, length: usize| {
            let start = middle.saturating_sub(side / 2);
            (start, (middle + side - side / 2).min(length) - start)
        };
        let ((top, rows), (left, columns)) = (span(middle[0], height), span(middle[1], width));
        (happens && side > 0).then_some(Hole { top, left, height: rows, width: columns })
    }
}

impl Hole {
    /// Covers this part of a picture.
    pub fn cover(self, planes: &mut Planes, fill: f32) {
        let (height, width) = (planes.height, planes.width);
        for plane in planes.values.chunks_exact_mut((height * width).max(1)) {
            for row in plane.chunks_exact_mut(width).skip(self.top).take(self.height) {
                row.iter_mut().skip(self.left).take(self.width).for_each(|v| *v = fill);
            }
        }
    }
}

impl Augment<Planes> for Cutout {
    type Out = Planes;

    fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
        self.check()?;
        if let Some(hole) = self.draw(planes.height, planes.width, rng) {
            hole.cover(&mut planes, self.fill);
        }
        Ok(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{distance_from_uniform, picture};
    use selfsup_core::Key;

    #[test]
    fn covers_what_is_drawn_and_nothing_else() {
        let before = Planes::from_image(&picture(3));
        let mut planes = before.clone();
        Hole { top: 2, left: 5, height: 4, width: 3 }.cover(&mut planes, 0.25);
        for (i, (new, old)) in planes.values.iter().zip(&before.values).enumerate() {
            let (y, x) = (i % 192 / 16, i % 16);
            let covered = (2..6).contains(&y) && (5..8).contains(&x);
            assert_eq!(*new, if covered { 0.25 } else { *old });
        }
    }

    #[test]
    fn a_square_in_the_middle_has_its_side_and_one_at_the_edge_is_cut() {
        let cutout = Cutout { side: [0.5, 0.5], ..Cutout::default() };
        let (mut whole, mut cut) = (0, 0);
        for i in 0..500 {
            let hole = cutout.draw(20, 30, &mut Key::new(0).with(i).rng()).unwrap();
            assert!(hole.top + hole.height <= 20 && hole.left + hole.width <= 30, "{hole:?}");
            assert!((5..=10).contains(&hole.height) && (5..=10).contains(&hole.width), "{hole:?}");
            if hole.height == 10 && hole.width == 10 { whole += 1 } else { cut += 1 }
        }
        // Of 600 middles 11 x 21 leave the square whole.
        assert!((i64::from(whole) - 500 * 231 / 600).abs() < 60 && cut > 0, "{whole}, {cut}");
    }

    #[test]
    fn sides_are_uniform_and_the_probability_is_kept() {
        let cutout = Cutout { side: [0.1, 0.5], p: 0.3, ..Cutout::default() };
        let draw = |i| cutout.draw(100_000, 100_000, &mut Key::new(1).with(i).rng());
        let drawn: Vec<Hole> = (0..10_000).filter_map(draw).collect();
        let count = drawn.len() as f64;
        assert!((count - 3000.0).abs() < 5.0 * (10_000.0 * 0.3 * 0.7_f64).sqrt(), "{count}");
        let whole = |hole: &&Hole| hole.top > 0 && hole.top + hole.height < 100_000;
        let sides: Vec<f64> = drawn.iter().filter(whole).map(|hole| hole.height as f64 / 1e5).collect();
        // Small squares are whole more often: only the range is that of the sides.
        assert!(sides.iter().all(|side| (0.099..0.501).contains(side)));
        let always = Cutout { side: [0.1, 0.5], ..Cutout::default() };
        let sides = (0..10_000).map(|i| {
            let rng = &mut Key::new(1).with(i).rng();
            chance(1.0, rng);
            uniform(always.side, rng)
        });
        assert!(distance_from_uniform(sides.collect(), 0.1, 0.5) < 1.95);
    }

    #[test]
    fn refuses_a_side_in_pixels() {
        let error = Cutout { side: [0.0, 16.0], ..Cutout::default() }.check().unwrap_err().to_string();
        assert!(error.starts_with("cutout.side = [0, 16]: smallest and largest share"), "{error}");
        assert!(Cutout { fill: 127.0, ..Cutout::default() }.check().is_err());
        assert!(Cutout { p: 2.0, ..Cutout::default() }.check().is_err());
    }
}
