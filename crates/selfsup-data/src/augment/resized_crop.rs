//! A random window of the image, resized (Szegedy et al., "Going deeper with convolutions", section 6).
//!
//! The area is uniform in `scale` (as a share of the image's), the logarithm of the aspect ratio is uniform in
//! `ratio`'s. A window that does not fit is drawn again, ten times at most; then the largest centred window of an
//! allowed ratio is taken. This is torchvision's rule.

use super::planes::Planes;
use super::resample::{CropBox, Flip, Interpolation, Resampler};
use super::{check_range, uniform};
use crate::Image;
use rand::RngExt;
use selfsup_core::{Augment, Error, Result, Rng};

/// A random window of the image, resized to one size.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomResizedCrop {
    /// The size of the result: height, width.
    pub size: [usize; 2],
    /// The smallest and largest area of the window, as a share of the image's.
    pub scale: [f64; 2],
    /// The smallest and largest width of the window over its height.
    pub ratio: [f64; 2],
    /// The filter.
    pub interpolation: Interpolation,
}

impl RandomResizedCrop {
    /// A crop to `size` (height, width) with torchvision's ranges: area 0.08 to 1, ratio 3/4 to 4/3, bilinear.
    pub fn new(size: [usize; 2]) -> Self {
        RandomResizedCrop {
            size,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            interpolation: Interpolation::default(),
        }
    }

    /// Whether the ranges make sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn check(&self) -> Result<()> {
        if self.size.contains(&0) {
            return Err(Error::config("size", format!("{:?}", self.size), "at least 1 pixel"));
        }
        check_range("scale", self.scale, f64::MIN_POSITIVE, 1.0)?;
        check_range("ratio", self.ratio, f64::MIN_POSITIVE, f64::MAX)
    }

    /// Draws a window of an image with `height` rows and `width` columns.
    pub fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> CropBox {
        let area = (height * width) as f64;
        let log_ratio = self.ratio.map(f64::ln);
        for _ in 0..10 {
            let target = area * uniform(self.scale, rng);
            let ratio = uniform(log_ratio, rng).exp();
            let w = (target * ratio).sqrt().round_ties_even() as usize;
            let h = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = rng.random_range(0..=height - h);
                let left = rng.random_range(0..=width - w);
                return CropBox { top, left, height: h, width: w };
            }
        }
        let found = width as f64 / height as f64;
        let (h, w) = if found < self.ratio[0] {
            (((width as f64 / self.ratio[0]).round_ties_even() as usize).clamp(1, height), width)
        } else if found > self.ratio[1] {
            (height, ((height as f64 * self.ratio[1]).round_ties_even() as usize).clamp(1, width))
        } else {
            (height, width)
        };
        CropBox { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

/// Cuts the window out of the image and resizes it to `size` (height, width).
///
/// # Errors
/// [`Error::Shape`] when the window leaves the image or a side is zero.
pub fn resized_crop(
    image: &Image,
    crop: CropBox,
    size: [usize; 2],
    interpolation: Interpolation,
) -> Result<Planes> {
    if !crop.fits(image.height(), image.width()) || size.contains(&0) {
        return Err(Error::Shape {
            name: "crop".to_owned(),
            expected: format!(
                "a window inside {} x {} pixels, of any size but 0",
                image.height(),
                image.width()
            ),
            found: format!("{crop:?} to {size:?}"),
        });
    }
    let mut out = Planes::default();
    Resampler::default().resize(image, crop, size, interpolation, Flip::default(), &mut out);
    Ok(out)
}

impl Augment<Image> for RandomResizedCrop {
    type Out = Planes;

    fn apply(&self, image: Image, rng: &mut Rng) -> Result<Planes> {
        self.check()?;
        let crop = self.draw(image.height(), image.width(), rng);
        resized_crop(&image, crop, self.size, self.interpolation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::reference::{assert_equals, distance_from_uniform, picture};
    use proptest::prelude::*;
    use selfsup_core::Key;

    const WINDOW: CropBox = CropBox { top: 1, left: 2, height: 9, width: 13 };
    const SMALL: CropBox = CropBox { top: 3, left: 4, height: 5, width: 6 };

    #[test]
    fn shrinks_and_enlarges_as_torchvision_does() {
        // reference(F.resized_crop(image(3), 1, 2, 9, 13, [5, 6], antialias=True)), then of image(1); then with
        // (3, 4, 5, 6, [8, 8]).
        let crop =
            |c, window, size| resized_crop(&picture(c), window, size, Interpolation::Bilinear).unwrap();
        let first = [0.77473, 0.39654, 0.43077, 0.70729, 0.26552, 0.62079, 0.40996, 0.7142];
        assert_equals(&crop(3, WINDOW, [5, 6]), first, 45.657, 8.714);
        let first = [0.70955, 0.92667, 0.92516, 0.65621, 0.29319, 0.06569, 0.4525, 0.76277];
        assert_equals(&crop(1, WINDOW, [5, 6]), first, 17.438, 9.9605);
        let first = [0.96078, 0.90931, 0.6902, 0.33088, 0.05735, 0.12206, 0.38529, 0.71373];
        assert_equals(&crop(3, SMALL, [8, 8]), first, 95.312, 11.1551);
        let first = [0.6902, 0.78578, 0.88431, 0.95882, 0.99412, 0.98529, 0.94412, 0.8902];
        assert_equals(&crop(1, SMALL, [8, 8]), first, 44.585, 5.6286);
    }

    #[test]
    fn bicubic_is_that_of_torchvision() {
        // As above with interpolation=InterpolationMode.BICUBIC, then .clamp(0, 1).
        let crop = |c, window, size| resized_crop(&picture(c), window, size, Interpolation::Bicubic).unwrap();
        let first = [0.84554, 0.33893, 0.42277, 0.77563, 0.17835, 0.67863, 0.35186, 0.80427];
        assert_equals(&crop(3, WINDOW, [5, 6]), first, 45.678, 8.7005);
        let first = [0.69501, 0.79003, 0.89992, 0.96946, 1.0, 0.9932, 0.93888, 0.87925];
        assert_equals(&crop(1, SMALL, [8, 8]), first, 44.555, 5.7151);
    }

    #[test]
    fn a_window_of_the_right_size_is_only_cut_out() {
        let image = picture(3);
        let whole = resized_crop(&image, CropBox::whole(&image), [12, 16], Interpolation::Bilinear).unwrap();
        assert_eq!(whole.to_image().unwrap(), image);
    }

    #[test]
    fn windows_have_the_stated_distribution() {
        // In a large image nothing is drawn again: the area is uniform in scale, log(ratio) in log(3/4)..log(4/3).
        let crop = RandomResizedCrop { scale: [0.1, 0.4], ..RandomResizedCrop::new([8, 8]) };
        let (mut areas, mut ratios) = (Vec::new(), Vec::new());
        for i in 0..20_000 {
            let CropBox { height, width, .. } = crop.draw(4000, 4000, &mut Key::new(1).with(i).rng());
            areas.push((height * width) as f64 / 16e6);
            ratios.push((width as f64 / height as f64).ln());
        }
        assert!(distance_from_uniform(areas, 0.1, 0.4) < 1.95);
        assert!(distance_from_uniform(ratios, (0.75_f64).ln(), (4.0_f64 / 3.0).ln()) < 1.95);
    }

    #[test]
    fn windows_of_a_small_image_are_drawn_as_torchvision_draws_them() {
        // >>> t = v2.RandomResizedCrop(8, scale=(0.08, 1.0))
        // >>> boxes = [t.make_params([torch.zeros(1, 28, 40)]) for _ in range(40000)]
        // Mean and standard deviation of top, left, height and width; the means are held to 5 standard errors of the
        // difference of two samples.
        let expected = [(3.709, 3.894), (9.276, 6.794), (20.526, 5.301), (21.441, 6.531)];
        let crop = RandomResizedCrop::new([8, 8]);
        let n = 40_000;
        let mut sums = [[0.0; 2]; 4];
        for i in 0..n {
            let b = crop.draw(28, 40, &mut Key::new(2).with(i).rng());
            for (sum, v) in sums.iter_mut().zip([b.top, b.left, b.height, b.width]) {
                sum[0] += v as f64;
                sum[1] += (v * v) as f64;
            }
        }
        for ([sum, squares], (mean, std)) in sums.iter().zip(expected) {
            let found = sum / n as f64;
            let spread = (squares / n as f64 - found * found).sqrt();
            assert!(
                (found - mean).abs() < 5.0 * std * (2.0 / n as f64).sqrt(),
                "mean {found} instead of {mean}"
            );
            assert!((spread / std - 1.0).abs() < 0.03, "std {spread} instead of {std}");
        }
    }

    #[test]
    fn an_image_too_long_gets_its_middle() {
        // >>> v2.RandomResizedCrop(8, scale=(0.9, 1.0)).make_params([torch.zeros(3, 10, 1000)])
        // {'top': 0, 'left': 493, 'height': 10, 'width': 13}
        let crop = RandomResizedCrop { scale: [0.9, 1.0], ..RandomResizedCrop::new([8, 8]) };
        let mut rng = Key::new(0).rng();
        let expected = CropBox { top: 0, left: 493, height: 10, width: 13 };
        assert_eq!(crop.draw(10, 1000, &mut rng), expected);
        let expected = CropBox { top: 493, left: 0, height: 13, width: 10 };
        assert_eq!(crop.draw(1000, 10, &mut rng), expected);
    }

    #[test]
    fn refuses_windows_outside_and_ranges_upside_down() {
        let image = picture(1);
        let outside = CropBox { top: 4, ..WINDOW };
        let error = resized_crop(&image, outside, [5, 6], Interpolation::Bilinear).unwrap_err().to_string();
        assert!(error.starts_with("crop: expected a window inside 12 x 16 pixels"), "{error}");
        let far = CropBox { top: usize::MAX, ..WINDOW };
        assert!(resized_crop(&image, far, [5, 6], Interpolation::Bilinear).is_err());
        let crop = RandomResizedCrop { scale: [0.5, 0.2], ..RandomResizedCrop::new([8, 8]) };
        let error = crop.apply(image, &mut Key::new(0).rng()).unwrap_err().to_string();
        assert_eq!(error, "scale = [0.5, 0.2]: smallest and largest value, above 0 and at most 1");
    }

    proptest! {
        #[test]
        fn windows_lie_inside_and_values_between_0_and_1(
            (height, width) in (1_usize..40, 1_usize..40),
            (out_height, out_width) in (1_usize..24, 1_usize..24),
            low in 0.001_f64..1.0,
            ratio in 0.1_f64..1.0,
            bicubic: bool,
            colour: bool,
            seed: u64,
        ) {
            let interpolation = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let crop = RandomResizedCrop {
                size: [out_height, out_width], scale: [low, 1.0], ratio: [ratio, 1.0 / ratio], interpolation,
            };
            let mut rng = Key::new(seed).rng();
            let window = crop.draw(height, width, &mut rng);
            prop_assert!(window.fits(height, width), "{:?}", window);
            let channels = if colour { 3 } else { 1 };
            let pixels = (0..height * width * channels).map(|i| (i as u64 ^ seed) as u8).collect();
            let image = Image::new(pixels, [height, width, channels]).unwrap();
            let out = resized_crop(&image, window, crop.size, interpolation).unwrap();
            prop_assert_eq!(out.values.len(), out_height * out_width * channels);
            prop_assert!(out.values.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)));
        }

        #[test]
        fn a_picture_of_one_colour_keeps_it(
            (height, width) in (1_usize..30, 1_usize..30),
            (out_height, out_width) in (1_usize..30, 1_usize..30),
            value: u8,
            bicubic: bool,
        ) {
            let image = Image::new(vec![value; height * width], [height, width, 1]).unwrap();
            let interpolation = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let out = resized_crop(&image, CropBox::whole(&image), [out_height, out_width], interpolation).unwrap();
            prop_assert!(out.values.iter().all(|v| (v * 255.0 - f32::from(value)).abs() < 1e-3));
        }
    }
}
