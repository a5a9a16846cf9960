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
pub(super) fn brightness(planes: &mut Planes, factor: f32) {
    for v in &mut planes.values {
        *v = (*v * factor).clamp(0.0, 1.0);
    }
}

#[inline(always)]
pub(super) fn contrast(planes: &mut Planes, factor: f32) {
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
pub(super) fn saturation(planes: &mut Planes, factor: f32) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, distance_from_uniform, picture};
    use selfsup_core::Key;
    use std::collections::HashMap;

    fn changed(channels: usize, change: fn(&mut Planes, f32), factor: f32) -> Planes {
        let mut planes = Planes::from_image(&picture(channels));
        change(&mut planes, factor);
        planes
    }

    #[test]
    fn brightness_and_contrast_are_those_of_torchvision() {
        // reference(F.adjust_brightness(image(3), 1.4)), F.adjust_contrast(image(3), 1.7) and 0.3; then of image(1).
        let first = [0.70275, 1.0, 1.0, 0.57098, 0.02745, 0.23059, 0.95529, 1.0];
        assert_equals(&changed(3, brightness, 1.4), first, 349.878, 0.5212);
        let first = [0.50295, 1.0, 1.0, 0.34295, 0.0, 0.0, 0.80962, 1.0];
        assert_equals(&changed(3, contrast, 1.7), first, 287.695, 0.3698);
        let first = [0.50097, 0.63509, 0.61979, 0.47273, 0.35626, 0.39979, 0.55509, 0.65038];
        assert_equals(&changed(3, contrast, 0.3), first, 288.31, 0.4688);
        let first = [0.70275, 0.95529, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        assert_equals(&changed(1, brightness, 1.4), first, 118.247, 8.7293);
        let first = [0.49761, 0.80428, 1.0, 1.0, 1.0, 1.0, 1.0, 0.93761];
        assert_equals(&changed(1, contrast, 1.7), first, 97.183, 7.1262);
    }

    #[test]
    fn saturation_and_hue_are_those_of_torchvision_and_leave_grey_alone() {
        // reference(F.adjust_saturation(image(3), 1.6)), F.adjust_hue(image(3), 0.13) and -0.4
        let first = [0.41566, 0.93036, 0.96736, 0.48983, 0.02272, 0.0864, 0.60891, 1.0];
        assert_equals(&changed(3, saturation, 1.6), first, 288.255, 0.5052);
        let first = [0.58157, 0.94902, 0.79671, 0.33875, 0.0549, 0.2709, 0.73349, 0.94008];
        assert_equals(&changed(3, hue, 0.13), first, 288.589, 0.1951);
        let first = [0.81569, 0.99608, 0.63843, 0.11137, 0.00863, 0.45647, 0.94588, 0.93961];
        assert_equals(&changed(3, hue, -0.4), first, 288.47, 0.3648);
        let grey = Planes::from_image(&picture(1));
        assert_eq!(changed(1, saturation, 1.6), grey);
        assert_eq!(changed(1, hue, 0.13), grey);
    }

    #[test]
    fn hue_turns_by_whole_thirds_exchange_the_channels() {
        let planes = Planes::from_image(&picture(3));
        let third = changed(3, hue, 1.0 / 3.0);
        let area = 12 * 16;
        // Red becomes green, green blue, blue red.
        for (i, v) in planes.values.iter().enumerate() {
            assert!((third.values[(i + area) % (3 * area)] - v).abs() < 1e-5);
        }
    }

    #[test]
    fn draws_have_the_stated_distribution() {
        let config = ColorJitter { brightness: 0.4, contrast: 1.5, saturation: 0.2, hue: 0.1, p: 0.8 };
        let n = 20_000;
        let drawn: Vec<Jitter> = (0..n).filter_map(|i| config.draw(&mut Key::new(3).with(i).rng())).collect();
        let expected = 0.8 * n as f64;
        assert!((drawn.len() as f64 - expected).abs() < 5.0 * (expected * 0.2).sqrt(), "{}", drawn.len());
        let column = |f: fn(&Jitter) -> f32| drawn.iter().map(|j| f64::from(f(j))).collect::<Vec<_>>();
        assert!(distance_from_uniform(column(|j| j.brightness), 0.6, 1.4) < 1.95);
        assert!(distance_from_uniform(column(|j| j.contrast), 0.0, 2.5) < 1.95);
        assert!(distance_from_uniform(column(|j| j.saturation), 0.8, 1.2) < 1.95);
        assert!(distance_from_uniform(column(|j| j.hue), -0.1, 0.1) < 1.95);
        // All 24 orders are equally likely: chi-square with 23 degrees of freedom.
        let mut orders = HashMap::new();
        for jitter in &drawn {
            *orders.entry(format!("{:?}", jitter.order)).or_insert(0.0) += 1.0;
        }
        let each = drawn.len() as f64 / 24.0;
        let chi: f64 = orders.values().map(|c: &f64| (c - each).powi(2) / each).sum();
        assert!(orders.len() == 24 && chi < 58.0, "{chi}");
    }

    #[test]
    fn strengths_of_zero_change_nothing() {
        let config = ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0, p: 1.0 };
        let planes = Planes::from_image(&picture(3));
        assert_eq!(Augment::apply(&config, planes.clone(), &mut Key::new(0).rng()).unwrap(), planes);
    }

    #[test]
    fn refuses_strengths_that_make_no_sense() {
        let message = |config: ColorJitter| config.check().unwrap_err().to_string();
        let error = message(ColorJitter { hue: 0.6, ..ColorJitter::default() });
        assert_eq!(error, "jitter.hue = 0.6: a number from 0 to 0.5");
        let error = message(ColorJitter { contrast: -0.1, ..ColorJitter::default() });
        assert_eq!(error, "jitter.contrast = -0.1: a number of at least 0");
    }
}
