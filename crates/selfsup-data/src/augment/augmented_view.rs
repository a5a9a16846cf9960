//! The view of contrastive learning in one pass: crop and resize, mirror, colour jitter, grey, blur, solarize,
//! normalise (Chen et al., "A simple framework for contrastive learning of visual representations", appendix A;
//! solarize from Grill et al., "Bootstrap your own latent", appendix B).

use super::color_jitter::{ColorJitter, Jitter};
use super::flip::RandomFlip;
use super::gaussian_blur::GaussianBlur;
use super::grayscale::grayscale;
use super::planes::{Normalize, Planes};
use super::resample::{CropBox, Flip, Interpolation};
use super::resized_crop::RandomResizedCrop;
use super::solarize::{Solarize, solarize};
use super::vectors::{Work, widest};
use super::view::{Scratch, View};
use super::{chance, check_probability};
use crate::Image;
use selfsup_core::{Augment, Error, Result, Rng};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What a view is made of. The default is SimCLR's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewConfig {
    /// The sides of the view, in pixels; the images may have any size.
    pub size: usize,
    /// The smallest and largest area of the crop, as a share of the image's.
    pub scale: [f64; 2],
    /// The smallest and largest width of the crop over its height.
    pub ratio: [f64; 2],
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// The probability that left and right change places.
    pub flip: f64,
    /// The probability that top and bottom change places.
    pub vertical_flip: f64,
    /// Changes of the colours.
    pub jitter: ColorJitter,
    /// The probability that the colours are lost.
    pub grayscale: f64,
    /// Blur.
    pub blur: GaussianBlur,
    /// Inversion of bright values.
    pub solarize: Solarize,
    /// What is subtracted from values between 0 and 1: one number, or one a channel.
    pub mean: Vec<f32>,
    /// What they are then divided by: one number, or one a channel.
    pub std: Vec<f32>,
}

impl Default for ViewConfig {
    fn default() -> Self {
        ViewConfig {
            size: 224,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            interpolation: Interpolation::Bilinear,
            flip: 0.5,
            vertical_flip: 0.0,
            jitter: ColorJitter::default(),
            grayscale: 0.2,
            blur: GaussianBlur::default(),
            solarize: Solarize { p: 0.0, ..Solarize::default() },
            mean: vec![0.5],
            std: vec![0.5],
        }
    }
}

/// What was drawn for one view: it and the image determine the view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewParams {
    /// The window of the image.
    pub crop: CropBox,
    /// The mirrors.
    pub flip: Flip,
    /// The colour changes.
    pub jitter: Option<Jitter>,
    /// Whether the colours are lost.
    pub grayscale: bool,
    /// The blur's standard deviation, in pixels.
    pub blur: Option<f32>,
    /// Whether bright values are inverted.
    pub solarize: bool,
}

impl ViewParams {
    /// What changes nothing in a grey picture is not said of it. It was drawn all the same, so that the other draws are those of
    /// a recipe without it.
    fn forget_colours(&mut self) {
        self.grayscale = false;
        if let Some(jitter) = &mut self.jitter {
            (jitter.saturation, jitter.hue) = (1.0, 0.0);
        }
    }

    /// The parameters in one short line, for a caption: `crop 20x24+3+1 flip bright 1.20 blur 0.70`; what changes
    /// nothing is left out.
    pub fn describe(&self) -> String {
        let CropBox { top, left, height, width } = self.crop;
        let mut line = format!("crop {width}x{height}+{left}+{top}");
        let mut add = |what: String| {
            let _ = write!(line, " {what}");
        };
        if self.flip.horizontal {
            add("flip".to_owned());
        }
        if self.flip.vertical {
            add("upside-down".to_owned());
        }
        if let Some(Jitter { brightness, contrast, saturation, hue, .. }) = self.jitter {
            let changes = [("bright", brightness, 1.0), ("contrast", contrast, 1.0)];
            let colours = [("saturation", saturation, 1.0), ("hue", hue, 0.0)];
            for (what, value, neutral) in changes.into_iter().chain(colours) {
                if value != neutral {
                    add(format!("{what} {value:.2}"));
                }
            }
        }
        if self.grayscale {
            add("grey".to_owned());
        }
        if let Some(sigma) = self.blur {
            add(format!("blur {sigma:.2}"));
        }
        if self.solarize {
            add("solarize".to_owned());
        }
        line
    }
}

/// A checked [`ViewConfig`] for images of a known number of channels.
#[derive(Clone, Debug)]
pub struct AugmentedView {
    config: ViewConfig,
    crop: RandomResizedCrop,
    flip: RandomFlip,
    kernel: usize,
    normalize: Normalize,
    channels: usize,
}

impl AugmentedView {
    /// Checks a configuration for images of 1 or 3 channels.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(config: ViewConfig, channels: usize) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(Error::config("channels", channels, "1 or 3"));
        }
        let size = [config.size; 2];
        let crop = RandomResizedCrop {
            size,
            scale: config.scale,
            ratio: config.ratio,
            interpolation: config.interpolation,
        };
        crop.check()?;
        check_probability("flip", config.flip)?;
        check_probability("vertical_flip", config.vertical_flip)?;
        check_probability("grayscale", config.grayscale)?;
        config.jitter.check()?;
        config.solarize.check()?;
        let kernel = config.blur.kernel(size)?;
        let normalize = Normalize::new(&config.mean, &config.std, channels)?;
        let flip = RandomFlip { horizontal: config.flip, vertical: config.vertical_flip };
        Ok(AugmentedView { config, crop, flip, kernel, normalize, channels })
    }

    /// Draws the parameters of a view of an image with `height` rows and `width` columns.
    pub fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> ViewParams {
        let mut params = ViewParams {
            crop: self.crop.draw(height, width, rng),
            flip: self.flip.draw(rng),
            jitter: self.config.jitter.draw(rng),
            grayscale: chance(self.config.grayscale, rng),
            blur: self.config.blur.draw(rng),
            solarize: chance(self.config.solarize.p, rng),
        };
        if self.channels == 1 {
            params.forget_colours();
        }
        params
    }

    /// The view of `image` with these parameters, before normalisation: for looking at it.
    ///
    /// # Errors
    /// [`Error::Shape`] when the image has another number of channels or the crop leaves it.
    pub fn show(&self, image: &Image, params: &ViewParams) -> Result<Planes> {
        let mut scratch = Scratch::default();
        self.render(image, params, &mut scratch)?;
        Ok(scratch.planes)
    }

    #[inline(always)]
    fn write_with(
        &self,
        image: &Image,
        params: &ViewParams,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<()> {
        self.render(image, params, scratch)?;
        self.normalize.write(&scratch.planes, out);
        Ok(())
    }

    /// Makes the view in `scratch.planes`.
    #[inline(always)]
    fn render(&self, image: &Image, params: &ViewParams, scratch: &mut Scratch) -> Result<()> {
        if image.channels() != self.channels || !params.crop.fits(image.height(), image.width()) {
            return Err(Error::Shape {
                name: "image".to_owned(),
                expected: format!("{} channels and room for {:?}", self.channels, params.crop),
                found: format!("{image:?}"),
            });
        }
        let Scratch { planes, resampler, blur } = scratch;
        resampler.resize(image, params.crop, self.crop.size, self.crop.interpolation, params.flip, planes);
        if let Some(jitter) = &params.jitter {
            jitter.apply(planes);
        }
        if params.grayscale {
            grayscale(planes);
        }
        if let Some(sigma) = params.blur {
            blur.apply(planes, self.kernel, sigma);
        }
        if params.solarize {
            solarize(planes, self.config.solarize.threshold);
        }
        Ok(())
    }
}

/// The arguments of [`View::write`], and what was drawn.
struct Writing<'a> {
    view: &'a AugmentedView,
    image: &'a Image,
    params: &'a ViewParams,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl Work for Writing<'_> {
    type Out = Result<()>;

    #[inline(always)]
    fn run(self) -> Result<()> {
        self.view.write_with(self.image, self.params, self.scratch, self.out)
    }
}

impl View for AugmentedView {
    fn shape(&self) -> [usize; 3] {
        [self.config.size, self.config.size, self.channels]
    }

    fn normalize(&self) -> Option<&Normalize> {
        Some(&self.normalize)
    }

    fn write(&self, image: &Image, rng: &mut Rng, scratch: &mut Scratch, out: &mut [f32]) -> Result<()> {
        let params = self.draw(image.height(), image.width(), rng);
        widest(Writing { view: self, image, params: &params, scratch, out })
    }
}

impl Augment<Image> for AugmentedView {
    type Out = Planes;

    /// The view before normalisation.
    fn apply(&self, image: Image, rng: &mut Rng) -> Result<Planes> {
        let params = self.draw(image.height(), image.width(), rng);
        self.show(&image, &params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::color_jitter::Change;
    use crate::augment::reference::{assert_equals, picture};
    use selfsup_core::Key;

    fn config(channels: usize) -> ViewConfig {
        ViewConfig {
            size: 8,
            mean: vec![0.485, 0.456, 0.406][..channels].to_vec(),
            std: vec![0.229, 0.224, 0.225][..channels].to_vec(),
            ..ViewConfig::default()
        }
    }

    fn params() -> ViewParams {
        ViewParams {
            crop: CropBox { top: 1, left: 2, height: 9, width: 13 },
            flip: Flip { horizontal: true, vertical: false },
            jitter: Some(Jitter {
                order: [Change::Hue, Change::Contrast, Change::Brightness, Change::Saturation],
                brightness: 1.3,
                contrast: 0.6,
                saturation: 0.5,
                hue: 0.08,
            }),
            grayscale: false,
            blur: Some(0.9),
            solarize: true,
        }
    }

    #[test]
    fn a_view_with_given_parameters_equals_torchvision_step_by_step() {
        // y = F.horizontal_flip(F.resized_crop(image(3), 1, 2, 9, 13, [8, 8], antialias=True))
        // y = F.adjust_saturation(F.adjust_brightness(F.adjust_contrast(F.adjust_hue(y, 0.08), 0.6), 1.3), 0.5)
        // y = F.solarize(F.gaussian_blur(y, [3, 3], [0.9, 0.9]), 0.5)
        // reference(F.normalize(y, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])), then all of it for image(1)
        let first = [-0.53382, -0.32384, -0.48797, -0.93736, -0.54654, -0.25356, -0.80451, -1.23702];
        assert_equals(&normalized(3), first, -87.187, -7.8417);
        let first = [-0.37359, -0.02581, -0.63797, -1.44369, -1.95429, -2.06385, -1.78959, -1.57949];
        assert_equals(&normalized(1), first, -76.506, -3.1865);
    }

    /// The normalised view in the order channel, row, column, as torchvision has it.
    fn normalized(channels: usize) -> Planes {
        let view = AugmentedView::new(config(channels), channels).unwrap();
        let mut planes = view.show(&picture(channels), &params()).unwrap();
        let mut out = vec![0.0; planes.values.len()];
        view.normalize.write(&planes, &mut out);
        for (i, v) in out.iter().enumerate() {
            planes.values[i % channels * 64 + i / channels] = *v;
        }
        planes
    }

    #[test]
    fn writing_is_drawing_then_showing() {
        let view =
            AugmentedView::new(ViewConfig { mean: vec![0.0], std: vec![1.0], ..config(1) }, 1).unwrap();
        let (image, mut scratch) = (picture(1), Scratch::default());
        for sample in 0..20 {
            let key = Key::new(9).with(sample);
            let mut out = vec![0.0; 64];
            view.write(&image, &mut key.rng(), &mut scratch, &mut out).unwrap();
            let params = view.draw(12, 16, &mut key.rng());
            assert_eq!(out, view.show(&image, &params).unwrap().values);
        }
    }

    #[test]
    fn changes_of_colour_leave_the_views_of_a_grey_image_as_they_are_bit_for_bit() {
        let grey = ViewConfig {
            grayscale: 0.0,
            jitter: ColorJitter { brightness: 0.6, contrast: 0.6, saturation: 0.0, hue: 0.0, p: 0.8 },
            ..config(1)
        };
        let colour = ViewConfig {
            grayscale: 0.2,
            jitter: ColorJitter { saturation: 0.6, hue: 0.15, ..grey.jitter },
            ..grey.clone()
        };
        let [without, with] = [grey, colour.clone()].map(|config| AugmentedView::new(config, 1).unwrap());
        let (image, mut scratch) = (picture(1), Scratch::default());
        for sample in 0..200 {
            let key = Key::new(4).with(sample);
            let [a, b] = [&without, &with].map(|view| {
                let mut out = vec![0.0; 64];
                view.write(&image, &mut key.rng(), &mut scratch, &mut out).unwrap();
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert_eq!(a, b, "sample {sample}");
            assert_eq!(without.draw(12, 16, &mut key.rng()), with.draw(12, 16, &mut key.rng()));
        }
        let colour = ViewConfig { mean: vec![0.5], std: vec![0.5], ..colour };
        let view = AugmentedView::new(colour, 3).unwrap();
        let drawn: Vec<_> = (0..200).map(|i| view.draw(12, 16, &mut Key::new(4).with(i).rng())).collect();
        assert!(drawn.iter().any(|params| params.grayscale));
        assert!(drawn.iter().any(|params| params.jitter.is_some_and(|jitter| jitter.hue != 0.0)));
    }

    #[test]
    fn parameters_are_described_and_stored() {
        let expected =
            "crop 13x9+2+1 flip bright 1.30 contrast 0.60 saturation 0.50 hue 0.08 blur 0.90 solarize";
        assert_eq!(params().describe(), expected);
        let text = serde_json::to_string(&params()).unwrap();
        assert_eq!(serde_json::from_str::<ViewParams>(&text).unwrap(), params());
    }

    #[test]
    fn configurations_are_read_with_defaults_and_unknown_fields_are_refused() {
        let text = r#"{"size": 20, "scale": [0.2, 1.0], "jitter": {"hue": 0.1}, "blur": {"p": 0.0}}"#;
        let config: ViewConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.size, config.jitter.hue, config.jitter.contrast), (20, 0.1, 0.8));
        let error = serde_json::from_str::<ViewConfig>(r#"{"sizes": 20}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `sizes`"), "{error}");
    }

    #[test]
    fn refuses_what_cannot_work() {
        let message = |config, channels| AugmentedView::new(config, channels).unwrap_err().to_string();
        assert_eq!(message(ViewConfig { size: 0, ..config(3) }, 3), "size = [0, 0]: at least 1 pixel");
        assert_eq!(
            message(ViewConfig { flip: 1.5, ..config(3) }, 3),
            "flip = 1.5: a probability from 0 to 1"
        );
        assert_eq!(message(config(3), 1), "mean = 3 values: one value, or 1, one a channel");
        assert_eq!(message(config(3), 4), "channels = 4: 1 or 3");
        let view = AugmentedView::new(config(3), 3).unwrap();
        let error = view.show(&picture(1), &params()).unwrap_err().to_string();
        assert!(error.contains("expected 3 channels") && error.ends_with("Image(12 x 16 x 1)"), "{error}");
    }
}
