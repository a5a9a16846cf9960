//! Transforms in any order, compiled into a view.
//!
//! Step by step, with [`Augment`], every transform hands a picture of its own to the next. Compiled, they share one: the
//! crop reads the image's bytes and writes the view's size, mirrored if a flip comes next; what follows works in place;
//! the last pass normalises into the batch's memory. Draws are made in the same order, and no operation is exchanged: both
//! forms give the same bits.

use super::color_jitter::ColorJitter;
use super::cutout::Cutout;
use super::flip::RandomFlip;
use super::gaussian_blur::GaussianBlur;
use super::grayscale::{RandomGrayscale, grayscale};
use super::padded_crop::RandomCrop;
use super::planes::{Normalize, Planes};
use super::rand_augment::RandAugment;
use super::resample::Flip;
use super::resized_crop::RandomResizedCrop;
use super::solarize::{Solarize, solarize};
use super::vectors::{Work, widest};
use super::view::{Scratch, View};
use super::{chance, check_probability};
use crate::Image;
use selfsup_core::{Augment, Error, Result, Rng};
use std::fmt;
use std::sync::Arc;

/// What a [`Pipeline`] begins with: it decides the size of the view.
#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    /// A random window, resized.
    Resized(RandomResizedCrop),
    /// A window of one size in the padded image.
    Padded(RandomCrop),
}

/// A transform of a picture that keeps its size.
#[derive(Clone)]
pub enum Transform {
    /// Mirrors.
    Flip(RandomFlip),
    /// Brightness, contrast, saturation, hue.
    ColorJitter(ColorJitter),
    /// Loss of colour.
    Grayscale(RandomGrayscale),
    /// Gaussian blur.
    Blur(GaussianBlur),
    /// Inversion of bright values.
    Solarize(Solarize),
    /// Some operations of a list.
    RandAugment(RandAugment),
    /// A square that is covered.
    Cutout(Cutout),
    /// One of the user's. It must keep the picture's shape.
    Own(Arc<dyn Augment<Planes, Out = Planes> + Send + Sync>),
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transform::Flip(x) => x.fmt(f),
            Transform::ColorJitter(x) => x.fmt(f),
            Transform::Grayscale(x) => x.fmt(f),
            Transform::Blur(x) => x.fmt(f),
            Transform::Solarize(x) => x.fmt(f),
            Transform::RandAugment(x) => x.fmt(f),
            Transform::Cutout(x) => x.fmt(f),
            Transform::Own(_) => f.write_str("Own"),
        }
    }
}

/// A window and transforms after it, as one view.
///
/// ```
/// use selfsup_core::Key;
/// use selfsup_data::Image;
/// use selfsup_data::augment::{
///     ColorJitter, Padding, Pipeline, RandomCrop, RandomFlip, Scratch, Transform, View, Window,
/// };
///
/// // The weak augmentation of semi-supervised learning on CIFAR, and colours before the flip.
/// let crop = RandomCrop { size: [32, 32], padding: 4, fill: Padding::Reflect };
/// let steps = vec![
///     Transform::ColorJitter(ColorJitter::default()),
///     Transform::Flip(RandomFlip { horizontal: 0.5, vertical: 0.0 }),
/// ];
/// let view = Pipeline::new(Window::Padded(crop), steps, &[0.5], &[0.25], 3)?;
/// let image = Image::new(vec![128; 32 * 32 * 3], [32, 32, 3])?;
/// let mut out = vec![0.0; 32 * 32 * 3];
/// view.write(&image, &mut Key::new(0).rng(), &mut Scratch::default(), &mut out)?;
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pipeline {
    window: Window,
    steps: Vec<Transform>,
    normalize: Normalize,
    channels: usize,
}

impl Pipeline {
    /// Checks the transforms for images of 1 or 3 channels; `mean` and `std` have one value, or one a channel.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(
        window: Window,
        steps: Vec<Transform>,
        mean: &[f32],
        std: &[f32],
        channels: usize,
    ) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(Error::config("channels", channels, "1 or 3"));
        }
        if let Window::Resized(crop) = &window {
            crop.check()?;
        }
        let normalize = Normalize::new(mean, std, channels)?;
        let pipeline = Pipeline { window, steps, normalize, channels };
        let size = pipeline.size();
        if size.contains(&0) {
            return Err(Error::config("size", format!("{size:?}"), "at least 1 pixel"));
        }
        for step in &pipeline.steps {
            match step {
                Transform::Flip(flip) => {
                    check_probability("flip", flip.horizontal)?;
                    check_probability("vertical_flip", flip.vertical)?;
                }
                Transform::ColorJitter(jitter) => jitter.check()?,
                Transform::Grayscale(grayscale) => check_probability("grayscale", grayscale.p)?,
                Transform::Blur(blur) => {
                    blur.kernel(size)?;
                }
                Transform::Solarize(solarize) => solarize.check()?,
                Transform::RandAugment(operations) => operations.check()?,
                Transform::Cutout(cutout) => cutout.check()?,
                Transform::Own(_) => {}
            }
        }
        Ok(pipeline)
    }

    fn size(&self) -> [usize; 2] {
        match &self.window {
            Window::Resized(crop) => crop.size,
            Window::Padded(crop) => crop.size,
        }
    }

    #[inline(always)]
    fn write_with(&self, image: &Image, rng: &mut Rng, scratch: &mut Scratch, out: &mut [f32]) -> Result<()> {
        if image.channels() != self.channels {
            return Err(Error::Shape {
                name: "image".to_owned(),
                expected: format!("{} channels", self.channels),
                found: format!("{image:?}"),
            });
        }
        let Scratch { planes, resampler, blur } = scratch;
        let mut steps = self.steps.as_slice();
        match &self.window {
            Window::Resized(crop) => {
                let window = crop.draw(image.height(), image.width(), rng);
                let mut flip = Flip::default();
                if let [Transform::Flip(random), rest @ ..] = steps {
                    (flip, steps) = (random.draw(rng), rest);
                }
                resampler.resize(image, window, crop.size, crop.interpolation, flip, planes);
            }
            Window::Padded(crop) => *planes = crop.apply(image.clone(), rng)?,
        }
        for step in steps {
            match step {
                Transform::Flip(random) => random.draw(rng).apply(planes),
                Transform::ColorJitter(random) => {
                    if let Some(jitter) = random.draw(rng) {
                        jitter.apply(planes);
                    }
                }
                Transform::Grayscale(random) => {
                    if chance(random.p, rng) {
                        grayscale(planes);
                    }
                }
                Transform::Blur(random) => {
                    if let Some(sigma) = random.draw(rng) {
                        blur.apply(planes, random.kernel(self.size())?, sigma);
                    }
                }
                Transform::Solarize(random) => {
                    if chance(random.p, rng) {
                        solarize(planes, random.threshold);
                    }
                }
                Transform::RandAugment(random) => {
                    for operation in random.draw(planes.height, planes.width, rng) {
                        operation.apply(random.sampling, planes);
                    }
                }
                Transform::Cutout(random) => {
                    if let Some(hole) = random.draw(planes.height, planes.width, rng) {
                        hole.cover(planes, random.fill);
                    }
                }
                Transform::Own(own) => {
                    let shape = [planes.channels, planes.height, planes.width];
                    *planes = own.apply(std::mem::take(planes), rng)?;
                    let found = [planes.channels, planes.height, planes.width];
                    if found != shape || planes.values.len() != shape.iter().product::<usize>() {
                        return Err(Error::Shape {
                            name: "what an own transform makes".to_owned(),
                            expected: format!("{shape:?}, as it was given"),
                            found: format!("{found:?}, {} values", planes.values.len()),
                        });
                    }
                }
            }
        }
        self.normalize.write(planes, out);
        Ok(())
    }
}

/// The arguments of [`View::write`].
struct Writing<'a> {
    pipeline: &'a Pipeline,
    image: &'a Image,
    rng: &'a mut Rng,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl Work for Writing<'_> {
    type Out = Result<()>;

    #[inline(always)]
    fn run(self) -> Result<()> {
        self.pipeline.write_with(self.image, self.rng, self.scratch, self.out)
    }
}

impl View for Pipeline {
    fn shape(&self) -> [usize; 3] {
        let [height, width] = self.size();
        [height, width, self.channels]
    }

    fn write(&self, image: &Image, rng: &mut Rng, scratch: &mut Scratch, out: &mut [f32]) -> Result<()> {
        widest(Writing { pipeline: self, image, rng, scratch, out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{Interpolation, Padding, Sampling, Strength};
    use proptest::prelude::*;
    use selfsup_core::{Key, Rng};

    /// Inverts a picture with probability 1/2.
    struct Invert;

    impl Augment<Planes> for Invert {
        type Out = Planes;

        fn apply(&self, mut planes: Planes, rng: &mut Rng) -> Result<Planes> {
            if chance(0.5, rng) {
                planes.values.iter_mut().for_each(|v| *v = 1.0 - *v);
            }
            Ok(planes)
        }
    }

    /// One transform after the other, each by itself.
    fn step_by_step(
        window: &Window,
        steps: &[Transform],
        normalize: &Normalize,
        image: &Image,
        rng: &mut Rng,
    ) -> Vec<f32> {
        let mut planes = match window {
            Window::Resized(crop) => crop.apply(image.clone(), rng),
            Window::Padded(crop) => crop.apply(image.clone(), rng),
        }
        .unwrap();
        for step in steps {
            planes = match step {
                Transform::Flip(x) => x.apply(planes, rng),
                Transform::ColorJitter(x) => Augment::apply(x, planes, rng),
                Transform::Grayscale(x) => x.apply(planes, rng),
                Transform::Blur(x) => Augment::apply(x, planes, rng),
                Transform::Solarize(x) => x.apply(planes, rng),
                Transform::RandAugment(x) => x.apply(planes, rng),
                Transform::Cutout(x) => x.apply(planes, rng),
                Transform::Own(x) => x.apply(planes, rng),
            }
            .unwrap();
        }
        let mut out = vec![0.0; planes.values.len()];
        normalize.write(&planes, &mut out);
        out
    }

    fn transform() -> impl Strategy<Value = Transform> {
        (0..8, 0.0..1.0_f64, 0.0..1.0_f64).prop_map(|(kind, a, b)| match kind {
            0 => Transform::Flip(RandomFlip { horizontal: a, vertical: b }),
            1 => Transform::ColorJitter(ColorJitter {
                brightness: a,
                contrast: b,
                saturation: a,
                hue: b / 2.0,
                p: 0.8,
            }),
            2 => Transform::Grayscale(RandomGrayscale { p: a }),
            3 => Transform::Blur(GaussianBlur { kernel: Some(3), sigma: [0.1, 0.1 + b], p: a }),
            4 => Transform::Solarize(Solarize { threshold: b as f32, p: a }),
            5 => {
                let strength =
                    if a < 0.5 { Strength::Random } else { Strength::Fixed { magnitude: 9, bins: 31 } };
                let sampling = if b < 0.5 { Sampling::Nearest } else { Sampling::Bilinear };
                Transform::RandAugment(RandAugment { operations: 3, strength, sampling })
            }
            6 => Transform::Cutout(Cutout { side: [0.0, a], fill: b as f32, p: 0.7 }),
            _ => Transform::Own(Arc::new(Invert)),
        })
    }

    proptest! {
        #[test]
        fn compiled_and_step_by_step_pipelines_give_the_same_bits(
            (height, width) in (8_usize..40, 8_usize..40),
            size in (2_usize..30, 2_usize..30),
            padded: bool,
            colour: bool,
            bicubic: bool,
            steps in prop::collection::vec(transform(), 0..7),
            seed: u64,
        ) {
            let window = if padded {
                let size = [size.0.min(height), size.1.min(width)];
                Window::Padded(RandomCrop { size, padding: 2, fill: Padding::Reflect })
            } else {
                let interpolation = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
                Window::Resized(RandomResizedCrop { interpolation, ..RandomResizedCrop::new([size.0, size.1]) })
            };
            let channels = if colour { 3 } else { 1 };
            let pixels = (0..height * width * channels).map(|i| ((i as u64 * 37) ^ seed) as u8).collect();
            let image = Image::new(pixels, [height, width, channels]).unwrap();
            let pipeline = Pipeline::new(window.clone(), steps.clone(), &[0.4], &[0.3], channels).unwrap();
            let (mut scratch, key) = (Scratch::default(), Key::new(seed));
            // The memory of one view must not show in the next.
            for sample in 0..3 {
                let mut out = vec![f32::NAN; pipeline.shape().iter().product()];
                pipeline.write(&image, &mut key.with(sample).rng(), &mut scratch, &mut out).unwrap();
                let rng = &mut key.with(sample).rng();
                let expected = step_by_step(&window, &steps, &pipeline.normalize, &image, rng);
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&out), bits(&expected), "{:?}", steps);
            }
        }
    }

    #[test]
    fn refuses_transforms_that_cannot_work() {
        let crop = || Window::Resized(RandomResizedCrop::new([8, 8]));
        let error = |steps| Pipeline::new(crop(), steps, &[0.0], &[1.0], 1).unwrap_err().to_string();
        let flip = Transform::Flip(RandomFlip { horizontal: 1.5, vertical: 0.0 });
        assert_eq!(error(vec![flip]), "flip = 1.5: a probability from 0 to 1");
        let blur = Transform::Blur(GaussianBlur { kernel: Some(17), ..GaussianBlur::default() });
        assert!(error(vec![blur]).starts_with("blur.kernel = 17"));
        let none = Window::Padded(RandomCrop { size: [0, 4], padding: 0, fill: Padding::Zero });
        let error = Pipeline::new(none, Vec::new(), &[0.0], &[1.0], 1).unwrap_err().to_string();
        assert_eq!(error, "size = [0, 4]: at least 1 pixel");
    }

    #[test]
    fn an_own_transform_that_changes_the_shape_is_refused() {
        struct Halve;
        impl Augment<Planes> for Halve {
            type Out = Planes;
            fn apply(&self, mut planes: Planes, _rng: &mut Rng) -> Result<Planes> {
                planes.values.truncate(planes.values.len() / 2);
                planes.height /= 2;
                Ok(planes)
            }
        }
        let window = Window::Resized(RandomResizedCrop::new([4, 4]));
        let steps = vec![Transform::Own(Arc::new(Halve))];
        let view = Pipeline::new(window, steps, &[0.0], &[1.0], 1).unwrap();
        let image = Image::new(vec![9; 64], [8, 8, 1]).unwrap();
        let rng = &mut Key::new(0).rng();
        let error = view.write(&image, rng, &mut Scratch::default(), &mut [0.0; 16]).unwrap_err().to_string();
        assert!(error.starts_with("what an own transform makes: expected [1, 4, 4]"), "{error}");
    }
}
