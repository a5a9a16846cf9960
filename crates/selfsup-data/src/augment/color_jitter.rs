//! Brightness, contrast, saturation and hue, changed by random factors in a random order (Howard, "Some
//! improvements on deep convolutional neural network based image classification"), with torchvision's semantics:
//!
//! - brightness: `clamp(f x)`
//! - contrast: `clamp(f x + (1 - f) m)` with m the mean luma of the whole picture
//! - saturation: `clamp(f x + (1 - f) luma(x))`
//! - hue: the angle of HSV's cone is turned by f of a whole turn
//!
//! Saturation and hue leave a grey picture as it is.

use super::planes::Planes;
use super::{chance, check_probability, luma, mean, uniform};
use rand::RngExt;
use selfsup_core::{Augment, Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// How far the colours may change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// The factor is uniform in `[max(0, 1 - brightness), 1 + brightness]`.
    pub brightness: f64,
    /// As brightness.
    pub contrast: f64,
    /// As brightness.
    pub saturation: f64,
    /// The turn is uniform in `[-hue, hue]`; 0.5 reaches every colour.
    pub hue: f64,
    /// The probability that the colours change at all.
    pub p: f64,
}

impl Default for ColorJitter {
    /// SimCLR's strength 1 (Chen et al. 2020, appendix A).
    fn default() -> Self {
        ColorJitter { brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2, p: 0.8 }
    }
}

/// One of the four changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Multiplies all values.
    Brightness,
    /// Moves all values away from the picture's mean, or towards it.
    Contrast,
    /// Moves every pixel away from its own grey, or towards it.
    Saturation,
    /// Turns the colours.
    Hue,
}

/// Drawn colour changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jitter {
    /// The order in which they are applied.
    pub order: [Change; 4],
    /// The factor of the brightness; 1 changes nothing.
    pub brightness: f32,
    /// The factor of the contrast.
    pub contrast: f32,
    /// The factor of the saturation.
    pub saturation: f32,
    /// The share of a turn, in -0.5 to 0.5; 0 changes nothing.
    pub hue: f32,
}

impl ColorJitter {
    /// Whether the strengths make sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn check(&self) -> Result<()> {
        let strengths =
            [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        for (name, value) in strengths {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::config(format!("jitter.{name}"), value, "a number of at least 0"));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return Err(Error::config("jitter.hue", self.hue, "a number from 0 to 0.5"));
        }
        check_probability("jitter.p", self.p)
    }

    /// Draws factors and their order, or nothing when the colours stay.
    pub fn draw(&self, rng: &mut Rng) -> Option<Jitter> {
        if !chance(self.p, rng) {
            return None;
        }
        let mut order = [Change::Brightness, Change::Contrast, Change::Saturation, Change::Hue];
        for i in (1..4).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        let mut factor = |strength: f64| uniform([(1.0 - strength).max(0.0), 1.0 + strength], rng) as f32;
        let (brightness, contrast, saturation) =
            (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = uniform([-self.hue, self.hue], rng) as f32;
        Some(Jitter { order, brightness, contrast, saturation, hue })
    }
}

impl Jitter {
    /// Changes the colours of a picture.
    #[inline(always)]
    pub fn apply(&self, planes: &mut Planes) {
        for change in self.order {
            match change {
                Change::Brightness if self.brightness != 1.0 => brightness(planes, self.brightness),
                Change::Contrast if self.contrast != 1.0 => contrast(planes, self.contrast),
                Change::Saturation if self.saturation != 1.0 => saturation(planes, self.saturation),
                Change::Hue if self.hue != 0.0 => hue(planes, self.hue),
                _ => {}
            }
        }
    }
}

#[inline(always)]
fn brightness(planes: &mut Planes, factor: f32) {
    for v in &mut planes.values {
        *v = (*v * factor).clamp(0.0, 1.0);
    }
}

#[inline(always)]
fn contrast(planes: &mut Planes, factor: f32) {
    // The mean of the luma is the luma of the means.
    let area = planes.height * planes.width;
    let middle = match &planes.values.chunks_exact(area).map(mean).collect::<Vec<_>>()[..] {
        [r, g, b] => luma(*r, *g, *b),
        grey => grey[0],
    };
    let offset = (1.0 - factor) * middle;
    for v in &mut planes.values {
        *v = (*v * factor + offset).clamp(0.0, 1.0);
    }
}

#[inline(always)]
fn saturation(planes: &mut Planes, factor: f32) {
    let Some([red, green, blue]) = planes.rgb_mut() else { return };
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = (1.0 - factor) * luma(*r, *g, *b);
        *r = (*r * factor + grey).clamp(0.0, 1.0);
        *g = (*g * factor + grey).clamp(0.0, 1.0);
        *b = (*b * factor + grey).clamp(0.0, 1.0);
    }
}

/// HSV without a branch: with maximum v, chroma c = v s and the angle h in sixths, each channel is
/// `v - c clamp(min(k, 4 - k), 0, 1)`, k = (n + h) mod 6, n = 5, 3, 1 for red, green, blue (Smith's hexcone, written
/// as a function instead of six cases). Value and chroma stay, so saturation is never divided out.
#[inline(always)]
fn hue(planes: &mut Planes, turn: f32) {
    let Some([red, green, blue]) = planes.rgb_mut() else { return };
    let turn = (6.0 * turn).rem_euclid(6.0);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let (x, y, z) = (*r, *g, *b);
        let max = larger(larger(x, y), z);
        let chroma = max - smaller(smaller(x, y), z);
        // The angle lies in -1..5. Where chroma is 0 the numerators are too, and the angle does not matter.
        let inverse = 1.0 / if chroma == 0.0 { 1.0 } else { chroma };
        let by_green = (z - x) * inverse + 2.0;
        let by_blue = (x - y) * inverse + 4.0;
        let by_red = (y - z) * inverse;
        let angle = if max == x {
            by_red
        } else if max == y {
            by_green
        } else {
            by_blue
        } + turn; // in -1..11
        let channel = |n: f32| {
            let k = n + angle; // in 0..16
            let k = if k >= 6.0 { k - 6.0 } else { k };
            let k = if k >= 6.0 { k - 6.0 } else { k };
            max - chroma * smaller(k, 4.0 - k).clamp(0.0, 1.0)
        };
        *r = channel(5.0);
        *g = channel(3.0);
        *b = channel(1.0);
    }
}

// As one instruction each: `f32::min` and `max` must also handle NaN, which a picture does not hold.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

impl Augment<Planes> for ColorJitter {
    type Out = Planes;

    fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
        self.check()?;
        if let Some(jitter) = self.draw(rng) {
            jitter.apply(&mut planes);
        }
        Ok(planes)
    }
}
