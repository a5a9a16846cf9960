//! RandAugment: some operations, drawn anew for every picture, one after the other (Cubuk et al., "RandAugment: practical
//! automated data augmentation with a reduced search space"; Sohn et al., "FixMatch", appendix D).
//!
//! The fourteen operations are torchvision's and FixMatch's: identity, autocontrast, equalize, brightness, colour, contrast,
//! sharpness, posterize, solarize, rotate, shear and translate in both directions. They differ in how strong an operation
//! is: FixMatch draws it from a range of its own for each, torchvision gives all the same magnitude and draws the sign.
//! On a grey picture colour is the identity.

use super::affine::{Sampling, Source};
use super::color_jitter::{brightness, contrast, saturation};
use super::planes::Planes;
use super::solarize::solarize;
use rand::RngExt;
use selfsup_core::{Augment, Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// Some operations in a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// How many; the same may come twice. FixMatch and torchvision: 2.
    pub operations: usize,
    /// How strong each is.
    pub strength: Strength,
    /// How geometric operations read values between pixels. Both: nearest.
    pub sampling: Sampling,
}

impl Default for RandAugment {
    fn default() -> Self {
        RandAugment { operations: 2, strength: Strength::Random, sampling: Sampling::Nearest }
    }
}

/// How strong operations are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Strength {
    /// FixMatch's: drawn from the range of the operation (table 12 of the paper).
    #[default]
    Random,
    /// torchvision's: the same magnitude for all.
    Fixed {
        /// From 0, the identity for most, to `bins - 1`. torchvision: 9.
        magnitude: usize,
        /// The number of magnitudes. torchvision: 31.
        bins: usize,
    },
}

/// An operation that was drawn, with its strength.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Changes nothing.
    Identity,
    /// Stretches each channel from black to white.
    Autocontrast,
    /// Makes all values of a channel equally frequent, in 256 steps.
    Equalize,
    /// Multiplies all values.
    Brightness(f32),
    /// Mixes with the grey picture: 0 is grey, 1 the picture.
    Color(f32),
    /// Mixes with the mean grey.
    Contrast(f32),
    /// Mixes with the smoothed picture: 0 is smooth, 1 the picture, above it sharper.
    Sharpness(f32),
    /// Keeps so many bits of every value.
    Posterize(u32),
    /// Inverts values from this one on.
    Solarize(f32),
    /// Turns by so many degrees, against the clock.
    Rotate(f32),
    /// Moves rows by a share of their distance from the upper edge, to the left.
    ShearX(f32),
    /// Moves columns by a share of their distance from the left edge, upwards.
    ShearY(f32),
    /// Moves by so many pixels to the right.
    TranslateX(f32),
    /// Moves by so many pixels down.
    TranslateY(f32),
}

const KINDS: usize = 14;

impl RandAugment {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn check(&self) -> Result<()> {
        if let Strength::Fixed { magnitude, bins } = self.strength {
            if bins < 2 {
                return Err(Error::config("rand_augment.strength.fixed.bins", bins, "at least 2"));
            }
            if magnitude >= bins {
                let expected = format!("below bins = {bins}");
                return Err(Error::config("rand_augment.strength.fixed.magnitude", magnitude, expected));
            }
        }
        Ok(())
    }

    /// Draws the operations for a picture of this size.
    pub fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Vec<Operation> {
        (0..self.operations).map(|_| self.draw_one(height, width, rng)).collect()
    }

    /// Three draws, whatever the operation is, so that another strength shifts no later draw.
    fn draw_one(&self, height: usize, width: usize, rng: &mut Rng) -> Operation {
        let (kind, at, sign) = (rng.random_range(0..KINDS), rng.random::<f64>(), rng.random::<bool>());
        match self.strength {
            Strength::Random => of_fixmatch(kind, at, height, width),
            Strength::Fixed { magnitude, bins } => {
                of_torchvision(kind, (magnitude, bins), sign, height, width)
            }
        }
    }
}

/// The operation `kind` at the place `at` in `[0, 1)` of its range.
fn of_fixmatch(kind: usize, at: f64, height: usize, width: usize) -> Operation {
    let within = |low: f64, high: f64| (low + (high - low) * at) as f32;
    match kind {
        0 => Operation::Identity,
        1 => Operation::Autocontrast,
        2 => Operation::Equalize,
        3 => Operation::Brightness(within(0.05, 0.95)),
        4 => Operation::Color(within(0.05, 0.95)),
        5 => Operation::Contrast(within(0.05, 0.95)),
        6 => Operation::Sharpness(within(0.05, 0.95)),
        7 => Operation::Posterize(within(4.0, 9.0).min(8.0) as u32),
        8 => Operation::Solarize(within(0.0, 1.0)),
        9 => Operation::Rotate(within(-30.0, 30.0)),
        10 => Operation::ShearX(within(-0.3, 0.3)),
        11 => Operation::ShearY(within(-0.3, 0.3)),
        12 => Operation::TranslateX(within(-0.3, 0.3) * width as f32),
        _ => Operation::TranslateY(within(-0.3, 0.3) * height as f32),
    }
}

/// The operation `kind` at a magnitude, with the sign where it has one.
fn of_torchvision(
    kind: usize,
    (magnitude, bins): (usize, usize),
    negative: bool,
    height: usize,
    width: usize,
) -> Operation {
    let share = magnitude as f64 / (bins - 1) as f64;
    let signed = |most: f64| (if negative { -most } else { most } * share) as f32;
    match kind {
        0 => Operation::Identity,
        1 => Operation::Autocontrast,
        2 => Operation::Equalize,
        3 => Operation::Brightness(1.0 + signed(0.9)),
        4 => Operation::Color(1.0 + signed(0.9)),
        5 => Operation::Contrast(1.0 + signed(0.9)),
        6 => Operation::Sharpness(1.0 + signed(0.9)),
        7 => Operation::Posterize(8 - (4.0 * share).round_ties_even() as u32),
        8 => Operation::Solarize((1.0 - share) as f32),
        9 => Operation::Rotate(signed(30.0)),
        10 => Operation::ShearX(signed(0.3)),
        11 => Operation::ShearY(signed(0.3)),
        12 => Operation::TranslateX(signed(150.0 / 331.0 * width as f64).trunc()),
        _ => Operation::TranslateY(signed(150.0 / 331.0 * height as f64).trunc()),
    }
}

impl Operation {
    /// Changes a picture.
    pub fn apply(self, sampling: Sampling, planes: &mut Planes) {
        match self {
            Operation::Identity => {}
            Operation::Autocontrast => autocontrast(planes),
            Operation::Equalize => equalize(planes),
            Operation::Brightness(factor) => brightness(planes, factor),
            Operation::Color(factor) => saturation(planes, factor),
            Operation::Contrast(factor) => contrast(planes, factor),
            Operation::Sharpness(factor) => sharpness(planes, factor),
            Operation::Posterize(bits) => posterize(planes, bits),
            Operation::Solarize(threshold) => solarize(planes, threshold),
            Operation::Rotate(degrees) => Source::rotate(degrees).apply(sampling, planes),
            Operation::ShearX(share) => Source::shear_x(share, planes).apply(sampling, planes),
            Operation::ShearY(share) => Source::shear_y(share, planes).apply(sampling, planes),
            Operation::TranslateX(pixels) => Source::translate(pixels, 0.0).apply(sampling, planes),
            Operation::TranslateY(pixels) => Source::translate(0.0, pixels).apply(sampling, planes),
        }
    }
}

/// A channel of one value stays.
fn autocontrast(planes: &mut Planes) {
    let area = (planes.height * planes.width).max(1);
    for plane in planes.values.chunks_exact_mut(area) {
        let low = plane.iter().copied().fold(f32::INFINITY, f32::min);
        let high = plane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if high > low {
            let scale = 1.0 / (high - low);
            for v in plane.iter_mut() {
                *v = ((*v - low) * scale).clamp(0.0, 1.0);
            }
        }
    }
}

/// PIL's integer arithmetic. A picture with fewer than 255 values that are not its largest stays.
fn equalize(planes: &mut Planes) {
    let area = (planes.height * planes.width).max(1);
    // torchvision's way from floats to bytes.
    let byte = |v: f32| (v * 255.999).clamp(0.0, 255.0) as usize;
    for plane in planes.values.chunks_exact_mut(area) {
        let mut counts = [0_usize; 256];
        for &v in plane.iter() {
            counts[byte(v)] += 1;
        }
        let largest = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        let step = (plane.len() - counts[largest]) / 255;
        let mut below = 0;
        let table = counts.map(|count| {
            let value = (below + step / 2).checked_div(step).unwrap_or(0).min(255);
            below += count;
            value as f32 / 255.0
        });
        for v in plane.iter_mut() {
            *v = if step == 0 { byte(*v) as f32 / 255.0 } else { table[byte(*v)] };
        }
    }
}

/// The picture smoothed by the weights 1 around 5, all over 13, but for its outermost pixels; mixed with it.
fn sharpness(planes: &mut Planes, factor: f32) {
    let (height, width) = (planes.height, planes.width);
    if height <= 2 || width <= 2 {
        return;
    }
    let old = planes.values.clone();
    for (new, old) in planes.values.chunks_exact_mut(height * width).zip(old.chunks_exact(height * width)) {
        for y in 1..height - 1 {
            for x in 1..width - 1 {
                let at = y * width + x;
                let row = |at: usize| old[at - 1] + old[at] + old[at + 1];
                let around = row(at - width) + row(at) + row(at + width) - old[at];
                let smooth = around / 13.0 + old[at] * (5.0 / 13.0);
                new[at] = (old[at] + (smooth - old[at]) * (1.0 - factor)).clamp(0.0, 1.0);
            }
        }
    }
}

/// Values in `2^bits` equal steps, as torchvision has it on floats.
fn posterize(planes: &mut Planes, bits: u32) {
    let levels = (1_u32 << bits.min(16)) as f32;
    for v in &mut planes.values {
        *v = (*v * levels).floor().clamp(0.0, levels - 1.0) * (1.0 / levels);
    }
}

impl Augment<Planes> for RandAugment {
    type Out = Planes;

    fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
        self.check()?;
        for operation in self.draw(planes.height, planes.width, rng) {
            operation.apply(self.sampling, &mut planes);
        }
        Ok(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;
    use crate::augment::reference::{assert_equals, distance_from_uniform, picture};
    use proptest::prelude::*;
    use selfsup_core::Key;

    fn after(operation: Operation, sampling: Sampling, channels: usize) -> Planes {
        let mut planes = Planes::from_image(&picture(channels));
        operation.apply(sampling, &mut planes);
        planes
    }

    // from torchvision.transforms import InterpolationMode as I
    // def shear(x, sx, sy, mode):
    //     degrees = [math.degrees(math.atan(sx)), math.degrees(math.atan(sy))]
    //     return F.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, interpolation=mode, center=[0, 0])
    // for mode in (I.NEAREST, I.BILINEAR):
    //     reference(shear(image(3), 0.21, 0.0, mode)); reference(shear(image(3), 0.0, -0.17, mode))
    //     reference(F.affine(image(3), angle=0.0, translate=[3, 0], scale=1.0, shear=[0.0, 0.0], interpolation=mode))
    //     reference(F.affine(image(3), angle=0.0, translate=[0, -2], scale=1.0, shear=[0.0, 0.0], interpolation=mode))
    //     reference(F.rotate(image(3), 17.0, interpolation=mode))
    #[test]
    fn geometry_equals_torchvision() {
        let (nearest, bilinear) = (Sampling::Nearest, Sampling::Bilinear);
        let shear_x = Operation::ShearX(0.21);
        let first = [0.50196, 0.94902, 0.89804, 0.40784, 0.01961, 0.16471, 0.68235, 1.0];
        assert_equals(&after(shear_x, nearest, 3), first, 265.941, 0.9321);
        let first = [0.5489, 0.94367, 0.84657, 0.36708, 0.03484, 0.21906, 0.71571, 0.97488];
        assert_equals(&after(shear_x, bilinear, 3), first, 264.764, 0.7016);
        let shear_y = Operation::ShearY(-0.17);
        let first = [0.50196, 0.94902, 0.89804, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_equals(&after(shear_y, nearest, 3), first, 258.475, -0.6823);
        let first = [0.45929, 0.70702, 0.51637, 0.16518, 0.00461, 0.01071, 0.0, 0.0];
        assert_equals(&after(shear_y, bilinear, 3), first, 257.86, -0.5251);
        for sampling in [nearest, bilinear] {
            let first = [0.0, 0.0, 0.0, 0.50196, 0.94902, 0.89804, 0.40784, 0.01961];
            assert_equals(&after(Operation::TranslateX(3.0), sampling, 3), first, 234.922, 0.6076);
            let first = [0.0902, 0.06275, 0.52157, 0.95686, 0.88627, 0.38824, 0.01176, 0.18039];
            assert_equals(&after(Operation::TranslateY(-2.0), sampling, 3), first, 237.996, 1.4058);
        }
        let first = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.76078, 0.23137];
        assert_equals(&after(Operation::Rotate(17.0), nearest, 3), first, 254.765, -0.3768);
        let first = [0.0, 0.0, 0.0, 0.0, 0.12123, 0.46365, 0.67258, 0.46634];
        assert_equals(&after(Operation::Rotate(17.0), bilinear, 3), first, 253.736, -0.0762);
        let first = [0.0, 0.0, 0.0, 0.0, 0.19917, 0.40731, 0.5189, 0.49263];
        assert_equals(&after(Operation::Rotate(17.0), bilinear, 1), first, 88.444, -0.266);
    }

    // reference(F.adjust_sharpness(image(3), 1.6)); reference(F.adjust_sharpness(image(3), 0.3))
    // reference(F.posterize(image(3), 3)); reference(F.adjust_brightness(image(3), 0.6))
    // reference(F.adjust_saturation(image(3), 0.6)); reference(F.solarize(image(3), 0.3))
    // reference(F.adjust_contrast(image(3), 0.6)); reference(F.autocontrast(image(1) * 0.5 + 0.2))
    #[test]
    fn changes_of_values_equal_torchvision() {
        let equals = |operation, first, sum, wave| {
            assert_equals(&after(operation, Sampling::Nearest, 3), first, sum, wave);
        };
        let edge = [0.50196, 0.94902, 0.89804, 0.40784, 0.01961, 0.16471, 0.68235, 1.0];
        equals(Operation::Sharpness(1.6), edge, 288.086, 0.3664);
        equals(Operation::Sharpness(0.3), edge, 288.779, 0.389);
        let first = [0.5, 0.875, 0.875, 0.375, 0.0, 0.125, 0.625, 0.875];
        equals(Operation::Posterize(3), first, 249.875, -0.1742);
        let first = [0.30118, 0.56941, 0.53882, 0.24471, 0.01176, 0.09882, 0.40941, 0.6];
        equals(Operation::Brightness(0.6), first, 172.981, 0.247);
        let first = [0.50139, 0.76963, 0.73904, 0.44492, 0.21198, 0.29904, 0.60963, 0.80022];
        equals(Operation::Contrast(0.6), first, 288.307, 0.4443);
        let first = [0.5595, 0.96146, 0.85183, 0.35319, 0.01753, 0.21691, 0.73132, 0.99071];
        equals(Operation::Color(0.6), first, 288.307, 0.3646);
        let first = [0.49804, 0.05098, 0.10196, 0.59216, 0.01961, 0.16471, 0.31765, 0.0];
        equals(Operation::Solarize(0.3), first, 122.647, 0.2294);
        equals(Operation::Identity, edge, 288.302, 0.4117);
        let mut flat = Planes::from_image(&picture(1));
        flat.values.iter_mut().for_each(|v| *v = *v * 0.5 + 0.2);
        Operation::Autocontrast.apply(Sampling::Nearest, &mut flat);
        let first = [0.5, 0.6811, 0.83465, 0.94882, 0.99606, 0.98032, 0.89764, 0.75984];
        assert_equals(&flat, first, 97.197, 7.1926);
    }

    // reference(F.equalize(image(3, 40, 48) ** 2)); reference(F.equalize(image(1) ** 2))
    #[test]
    fn equalizing_equals_torchvision_in_large_pictures_and_in_small_ones() {
        let equalized = |channels: usize, height: usize, width: usize| {
            let value = |i: usize| (((i as f64 * 0.37).sin() * 0.5 + 0.5) * 255.0).round_ties_even() as u8;
            let pixels = (0..height * width * channels).map(value).collect();
            let mut planes = Planes::from_image(&Image::new(pixels, [height, width, channels]).unwrap());
            planes.values.iter_mut().for_each(|v| *v *= *v);
            Operation::Equalize.apply(Sampling::Nearest, &mut planes);
            planes
        };
        let first = [0.53725, 0.91373, 0.85098, 0.47451, 0.0, 0.27451, 0.66275, 1.0];
        assert_equals(&equalized(3, 40, 48), first, 2988.992, 2.6073);
        let first = [0.25098, 0.46667, 0.69804, 0.90196, 0.99216, 0.96471, 0.80784, 0.58039];
        assert_equals(&equalized(1, 12, 16), first, 73.529, 5.436);
    }

    #[test]
    fn a_picture_of_one_value_stays_one() {
        for kind in 0..KINDS {
            let mut planes = Planes::from_image(&Image::new(vec![102; 64], [8, 8, 1]).unwrap());
            of_fixmatch(kind, 0.5, 8, 8).apply(Sampling::Bilinear, &mut planes);
            let first = planes.values[27];
            assert!(planes.values.iter().all(|v| (v - first).abs() < 1e-6), "{kind}: {:?}", planes.values);
        }
    }

    #[test]
    fn magnitudes_are_torchvisions() {
        // from torchvision.transforms import RandAugment; s = RandAugment()._augmentation_space(31, (28, 32))
        // {k: (v[0][9].item() if len(v[0].shape) else 0) for k, v in s.items()}: shear 0.09, translate 150 / 331 * side * 0.3,
        // rotate 9, factors 0.27, posterize 7, solarize 255 * 0.7
        let of = |kind, negative| of_torchvision(kind, (9, 31), negative, 28, 32);
        let near = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found}");
        let Operation::ShearX(share) = of(10, true) else { panic!("kind 10") };
        near(share, -0.09);
        let (Operation::TranslateX(x), Operation::TranslateY(y)) = (of(12, false), of(13, true)) else {
            panic!("kinds 12 and 13")
        };
        assert_eq!((x, y), (4.0, -3.0));
        let Operation::Rotate(degrees) = of(9, false) else { panic!("kind 9") };
        near(degrees, 9.0);
        let Operation::Sharpness(factor) = of(6, true) else { panic!("kind 6") };
        near(factor, 0.73);
        assert_eq!(of(7, true), Operation::Posterize(7));
        let Operation::Solarize(threshold) = of(8, true) else { panic!("kind 8") };
        near(threshold, 0.7);
    }

    #[test]
    fn every_operation_is_drawn_equally_often_and_strengths_are_uniform() {
        let random = RandAugment::default();
        let mut counts = [0.0_f64; KINDS];
        let mut degrees = Vec::new();
        for i in 0..14_000 {
            for operation in random.draw(28, 28, &mut Key::new(0).with(i).rng()) {
                let kind = match operation {
                    Operation::Identity => 0,
                    Operation::Autocontrast => 1,
                    Operation::Equalize => 2,
                    Operation::Brightness(_) => 3,
                    Operation::Color(_) => 4,
                    Operation::Contrast(_) => 5,
                    Operation::Sharpness(_) => 6,
                    Operation::Posterize(bits) => {
                        assert!((4..=8).contains(&bits));
                        7
                    }
                    Operation::Solarize(_) => 8,
                    Operation::Rotate(angle) => {
                        degrees.push(f64::from(angle));
                        9
                    }
                    Operation::ShearX(_) => 10,
                    Operation::ShearY(_) => 11,
                    Operation::TranslateX(_) => 12,
                    Operation::TranslateY(_) => 13,
                };
                counts[kind] += 1.0;
            }
        }
        // Chi-square with 13 degrees of freedom stays below 40 in all but 1 of 5,000 cases.
        let chi: f64 = counts.iter().map(|c| (c - 2000.0).powi(2) / 2000.0).sum();
        assert!(chi < 40.0, "{counts:?}");
        assert!(distance_from_uniform(degrees, -30.0, 30.0) < 1.95);
    }

    #[test]
    fn refuses_a_magnitude_beyond_the_bins() {
        let fixed = |magnitude, bins| RandAugment {
            strength: Strength::Fixed { magnitude, bins },
            ..RandAugment::default()
        };
        let error = fixed(31, 31).check().unwrap_err().to_string();
        assert_eq!(error, "rand_augment.strength.fixed.magnitude = 31: below bins = 31");
        assert!(fixed(0, 1).check().is_err());
        fixed(30, 31).check().unwrap();
    }

    proptest! {
        #[test]
        fn values_stay_between_black_and_white(
            height in 1_usize..20, width in 1_usize..20, colour: bool, fixed: bool, bilinear: bool, seed: u64,
        ) {
            let channels = if colour { 3 } else { 1 };
            let pixels = (0..height * width * channels).map(|i| ((i as u64 * 37) ^ seed) as u8).collect();
            let image = Image::new(pixels, [height, width, channels]).unwrap();
            let strength = if fixed { Strength::Fixed { magnitude: 30, bins: 31 } } else { Strength::Random };
            let sampling = if bilinear { Sampling::Bilinear } else { Sampling::Nearest };
            let random = RandAugment { operations: 4, strength, sampling };
            let view = random.apply(Planes::from_image(&image), &mut Key::new(seed).rng()).unwrap();
            prop_assert_eq!(view.values.len(), height * width * channels);
            prop_assert!(view.values.iter().all(|v| (0.0..=1.0).contains(v)), "{:?}", view.values);
        }
    }
}
