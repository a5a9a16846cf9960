//! Inpainting: a region of an image is hidden, and made of what stands around it.
//!
//! Pathak, Krähenbühl, Donahue, Darrell and Efros 2016, *Context Encoders: Feature Learning by Inpainting*,
//! equation 1. With a mask that is 1 where the image is hidden,
//!
//! ```text
//! L(x) = | M (x - F((1 - M) x)) |^2
//! ```
//!
//! As in the paper (section 4), what is predicted reaches beyond what is hidden by a border of pixels that
//! the encoder sees, whose error counts ten times, so that the painting joins the image; a fully connected
//! layer for every channel of the map carries what is known from the rim to the middle, and a convolution of
//! stride 1 spreads it over the channels (section 3.1).
//!
//! Departures: the adversarial part of the loss is left out, which sharpens the picture and does not serve
//! the features (the paper's own experiments on features are without it); the decoder makes a whole image, of
//! which the loss looks at the predicted region, also where the region is the middle; the error is averaged
//! over the values of the region.

use crate::generative::decoder::{ConvDecoder, ConvDecoderConfig};
use crate::generative::pixels::{Normalization, Reconstruction};
use crate::views::{check_images, one_view};
use selfsup_core::layers::{Bias, Conv2d, ConvShape};
use selfsup_core::{
    Device, Error, ImageViews, Kind, Loss, MapEncoder, Mode, Objective, Pictures, Result, Site, Step, Tensor,
    check_shape, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Which part of an image is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Region {
    /// The square in the middle with half of the image's sides: the same for all images.
    Central,
    /// Squares anywhere, which may overlap: other ones for every image.
    RandomBlocks {
        /// How many squares.
        count: i64,
        /// Their side, as a share of the image's.
        side: f64,
    },
}

/// Settings of [`Inpainting`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InpaintingConfig {
    /// What is to be made; four squares that cover up to a quarter of the image, as in section 3.3.
    pub region: Region,
    /// The sides of the views; 227 as for AlexNet (section 3.1). The layer between encoder and decoder has a
    /// weight for every pair of places, so no other size is taken.
    pub image_size: i64,
    /// How many pixels of the region, from its rim, the encoder does see; 7 (section 4).
    pub border: i64,
    /// How much more an error there counts; 10 (section 4).
    pub border_weight: f64,
    /// The decoder.
    pub decoder: ConvDecoderConfig,
    /// How the pixels of the views are normalised, for pictures. What is hidden is 0, the mean.
    pub normalization: Normalization,
}

impl Default for InpaintingConfig {
    fn default() -> Self {
        InpaintingConfig {
            region: Region::RandomBlocks { count: 4, side: 0.25 },
            image_size: 227,
            border: 7,
            border_weight: 10.0,
            decoder: ConvDecoderConfig::default(),
            normalization: Normalization::default(),
        }
    }
}

/// The layer between encoder and decoder: fully connected within every channel, then 1 x 1 over the channels.
#[derive(Debug)]
struct Connection {
    weight: Tensor, // [D, P, P] for P places
    mix: Conv2d,
}

impl Connection {
    fn new(path: nn::Path, channels: i64, places: i64) -> Self {
        let bound = 1.0 / (places as f64).sqrt();
        let options = (Kind::Float, path.device());
        let weight = Tensor::empty([channels, places, places], options).uniform_(-bound, bound);
        let shape = ConvShape { kernel: 1, stride: 1, padding: 0 };
        Connection {
            weight: path.add("weight", weight, true),
            mix: Conv2d::new(&path / "mix", channels, channels, shape, Bias::Yes),
        }
    }

    /// `[N, D, h, w]` to the same.
    fn forward(&self, map: &Tensor) -> Tensor {
        let places = map.flatten(2, 3).transpose(0, 1); // [D, N, P]
        let connected = places.bmm(&self.weight.transpose(1, 2)); // [D, N, P]
        self.mix.forward(&connected.transpose(0, 1).reshape(map.size()))
    }
}

/// The context encoder's objective: a region, the layer between encoder and decoder, the decoder, and the
/// squared error.
#[derive(Debug)]
pub struct Inpainting {
    connection: Connection,
    decoder: ConvDecoder,
    config: InpaintingConfig,
    channels: i64,
}

/// Where an image is predicted, and where it is hidden: `[N, 1, S, S]` Bool each.
struct Masks {
    predicted: Tensor,
    hidden: Tensor,
}

impl Inpainting {
    /// Makes the decoder, and the layer before it, for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the region, its border, the decoder or the normalisation cannot work, and
    /// [`Error::Shape`] when the encoder takes no images of `image_size`.
    pub fn new<E: MapEncoder + ?Sized>(site: &Site<E>, config: &InpaintingConfig) -> Result<Self> {
        let InpaintingConfig { region, image_size, border, border_weight, decoder, normalization } = config;
        let channels = site.encoder.channels();
        normalization.check(channels)?;
        if *image_size < 4 {
            return Err(Error::config("image_size", image_size, "a side of at least 4 pixels"));
        }
        if let Region::RandomBlocks { count, side } = region {
            if *count < 1 {
                return Err(Error::config("region.count", count, "at least one square"));
            }
            if !(*side > 0.0 && *side < 1.0) {
                return Err(Error::config("region.side", side, "a share between 0 and 1"));
            }
        }
        if *border < 0 || 2 * border >= config.side() {
            let expected =
                format!("from 0 to less than half of the region's side of {} pixels", config.side());
            return Err(Error::config("border", border, expected));
        }
        if !(*border_weight > 0.0 && border_weight.is_finite()) {
            return Err(Error::config("border_weight", border_weight, "a positive number"));
        }
        let blank =
            Tensor::zeros([1, channels, *image_size, *image_size], (Kind::Float, site.store.device()));
        let (map, _) = tch::no_grad(|| site.encoder.map(&blank, Mode::Eval))?;
        let [_, dim, h, w] = check_shape("map", &map, [1, site.encoder.map_dim(), -1, -1])?;
        Ok(Inpainting {
            connection: Connection::new(site.path() / "connection", dim, h * w),
            decoder: ConvDecoder::new(site.path() / "decoder", dim, channels, decoder)?,
            config: config.clone(),
            channels,
        })
    }

    /// The images, what the encoder sees of them, and the images with what it made in the place of what is
    /// hidden; the networks are applied and not trained.
    ///
    /// # Shapes
    /// Normalised images `[N, C, S, S]` to three times the same.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images are of another size.
    pub fn reconstruct<E: MapEncoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
    ) -> Result<Reconstruction> {
        let masks = self.config.masks(self.check(images)?, images.device());
        tch::no_grad(|| {
            let corrupted = images.masked_fill(&masks.hidden, 0.0);
            let painted = self.paint(encoder, &corrupted, Mode::Eval)?;
            let output = painted.where_self(&masks.hidden, images);
            Ok(Reconstruction::of(&self.config.normalization, [images, &corrupted, &output]))
        })
    }

    fn check(&self, images: &Tensor) -> Result<i64> {
        let [n, _, _] = check_images("images", images, self.channels)?;
        let side = self.config.image_size;
        check_shape("images", images, [n, self.channels, side, side])?;
        Ok(n)
    }

    fn paint<E: MapEncoder + ?Sized>(&self, encoder: &E, corrupted: &Tensor, mode: Mode) -> Result<Tensor> {
        let (map, _) = encoder.map(corrupted, mode)?; // [N, D, h, w]
        self.decoder.forward(&self.connection.forward(&map), [self.config.image_size; 2], mode)
    }

    fn compare<E: MapEncoder + ?Sized>(&self, encoder: &E, images: &Tensor, masks: &Masks) -> Result<Loss> {
        let painted = self.paint(encoder, &images.masked_fill(&masks.hidden, 0.0), Mode::Train)?; // [N, C, S, S]
        let predicted = masks.predicted.to_kind(images.kind()); // [N, 1, S, S]
        let border = predicted.masked_fill(&masks.hidden, 0.0);
        let weights = &predicted + border * (self.config.border_weight - 1.0);
        let values = predicted.sum(None) * self.channels;
        let loss = (weights * (&painted - images).square()).sum(None) / values;
        let hidden = masks.hidden.to_kind(images.kind());
        let error = |x: Tensor| (&hidden * x.square()).sum(None) / (hidden.sum(None) * self.channels);
        Ok(Loss::new(loss)
            .with("hidden_error", &error(painted.detach() - images))
            .with("error_of_the_mean", &error(images.shallow_clone())))
    }
}

impl InpaintingConfig {
    /// The side of a square, in pixels.
    fn side(&self) -> i64 {
        match self.region {
            Region::Central => self.image_size - 2 * (self.image_size / 4),
            Region::RandomBlocks { side, .. } => (side * self.image_size as f64).round() as i64,
        }
    }

    fn masks(&self, n: i64, device: Device) -> Masks {
        let (size, side) = (self.image_size, self.side());
        let first = match self.region {
            Region::Central => {
                Tensor::full([1, 1, 2], size / 4, (Kind::Int64, device)).expand([n, 1, 2], false)
            }
            Region::RandomBlocks { count, .. } => {
                Tensor::randint(size - side + 1, [n, count, 2], (Kind::Int64, device))
            }
        }; // [N, count, 2], the upper left corner of every square
        let place = Tensor::arange(size, (Kind::Int64, device)); // [S]
        let within = |axis: i64| {
            let first = first.select(2, axis).unsqueeze(2); // [N, count, 1]
            place.ge_tensor(&first).logical_and(&place.lt_tensor(&(first + side))) // [N, count, S]
        };
        let squares = within(0).unsqueeze(3).logical_and(&within(1).unsqueeze(2)); // [N, count, S, S]
        let predicted = squares.any_dim(1, true); // [N, 1, S, S]
        // Hidden is what has nothing but the region within `border`; beyond the image there is nothing to see.
        let (width, pad) = (2 * self.border + 1, self.border);
        let seen = predicted.logical_not().to_kind(Kind::Float);
        let seen = seen.max_pool2d([width, width], [1, 1], [pad, pad], [1, 1], false);
        Masks { hidden: seen.eq(0.0), predicted }
    }
}

impl<E: MapEncoder + ?Sized> Objective<E> for Inpainting {
    type Batch = ImageViews;

    fn pictures(&self, encoder: &E, batch: &ImageViews) -> Result<Option<Pictures>> {
        let made = batch.views.first().map(|view| self.reconstruct(encoder, view)).transpose()?;
        Ok(made.map(Pictures::from))
    }

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let images = one_view(batch, self.channels, "inpainting")?; // [N, C, S, S]
        let masks = self.config.masks(self.check(images)?, images.device());
        self.compare(encoder, images, &masks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_gradients;
    use crate::generative::reference::{Strided, assert_gradient_sums, batch, built, difference, fill, wave};
    use selfsup_core::{Key, TensorExt};

    fn central() -> InpaintingConfig {
        InpaintingConfig {
            region: Region::Central,
            image_size: 12,
            border: 1,
            decoder: ConvDecoderConfig { widths: vec![5] },
            ..InpaintingConfig::default()
        }
    }

    fn setup(channels: i64, config: &InpaintingConfig) -> (nn::VarStore, Strided, Inpainting) {
        built(channels, |site| Inpainting::new(site, config)).unwrap()
    }

    #[test]
    fn equals_pytorch_forward_and_backward() {
        // class Connection(nn.Module):
        //     def __init__(s): super().__init__(); s.weight, s.mix = nn.Parameter(torch.empty(4, 36, 36)), nn.Conv2d(4, 4, 1)
        //     def forward(s, x): return s.mix(torch.einsum("ncp,cqp->ncq", x.flatten(2), s.weight).view_as(x))
        // net = nn.Module(); net.encoder = Encoder(2); net.objective = nn.Module()
        // net.objective.connection, net.objective.decoder = Connection(), Decoder(2); fill(net)
        // x = wave(40, 2, 2, 12, 12); seen = x.clone(); seen[:, :, 4:8, 4:8] = 0; o = net.objective
        // w = torch.zeros(12, 12); w[3:9, 3:9] = 10; w[4:8, 4:8] = 1
        // l = (w * (o.decoder(o.connection(net.encoder(seen))) - x) ** 2).sum() / (2 * 2 * 36); l.backward()
        // print(l.item(), gradients(net))
        let (store, encoder, objective) = setup(2, &central());
        fill(&store);
        let masks = objective.config.masks(2, Device::Cpu);
        let loss = objective.compare(&encoder, &wave(40, &[2, 2, 12, 12]), &masks).unwrap();
        assert!((loss.total.scalar().unwrap() - 6.971_567).abs() < 1e-4);
        loss.total.backward();
        let expected = [
            0.960_914,
            3.137_329,
            -15.125_908,
            15.249_878,
            15.249_902,
            0.124_011,
            10.579_592,
            0.612_057,
            5.687_144,
            16.729_326,
        ];
        assert_gradient_sums(&store, &expected);
    }

    #[test]
    fn counts_an_error_on_the_border_ten_times_and_none_outside() {
        let (_store, encoder, objective) = setup(1, &central());
        let images = wave(3, &[3, 1, 12, 12]);
        let masks = objective.config.masks(3, Device::Cpu);
        let loss = objective.compare(&encoder, &images, &masks).unwrap();
        let seen = images.copy();
        let _ = seen.narrow(2, 4, 4).narrow(3, 4, 4).zero_();
        let painted = objective.paint(&encoder, &seen, Mode::Train).unwrap();
        let (mut expected, mut hidden) = (0.0, 0.0);
        for image in 0..3 {
            for i in 3..9_i64 {
                for j in 3..9_i64 {
                    let at = |x: &Tensor| x.double_value(&[image, 0, i, j]);
                    let error = (at(&painted) - at(&images)).powi(2);
                    if i == 3 || i == 8 || j == 3 || j == 8 {
                        expected += 10.0 * error / 108.0;
                    } else {
                        expected += error / 108.0;
                        hidden += error / 48.0;
                    }
                }
            }
        }
        assert!((loss.total.scalar().unwrap() - expected).abs() < 1e-4);
        assert_eq!(loss.parts[0].0, "hidden_error");
        assert!((loss.parts[0].1.scalar().unwrap() - hidden).abs() < 1e-4);
    }

    #[test]
    fn what_is_hidden_does_not_matter_to_the_painting() {
        let (_store, encoder, objective) = setup(1, &central());
        let images = wave(3, &[2, 1, 12, 12]);
        let other = images.copy();
        let _ = other.narrow(2, 4, 4).narrow(3, 4, 4).fill_(0.9);
        let [a, b] = [&images, &other].map(|x| objective.reconstruct(&encoder, x).unwrap());
        assert_eq!(a.output, b.output);
        assert_eq!(a.corrupted, b.corrupted);
        assert!(difference(&a.input, &b.input) > 0.1);
        // Outside it is the image, and inside the encoder sees the mean.
        assert_eq!(a.output.narrow(2, 0, 4), a.input.narrow(2, 0, 4));
        assert!(difference(&a.output, &a.input) > 0.01);
        assert_eq!(a.corrupted.double_value(&[1, 0, 5, 6]), 0.5);
    }

    #[test]
    fn random_blocks_differ_between_images_and_keep_their_border() {
        Key::new(3).seed_torch();
        let region = Region::RandomBlocks { count: 4, side: 0.25 };
        let config = InpaintingConfig { region, image_size: 24, border: 1, ..central() };
        let Masks { predicted, hidden } = config.masks(50, Device::Cpu);
        assert_eq!(predicted.size(), [50, 1, 24, 24]);
        let areas = predicted.flatten(1, -1).sum_dim_intlist([1_i64].as_slice(), false, Kind::Int64); // [50]
        let (least, most) = (i64::try_from(areas.min()).unwrap(), i64::try_from(areas.max()).unwrap());
        assert!(least >= 36 && most <= 144 && most > 100, "{least} {most}");
        assert_ne!(predicted.get(0), predicted.get(1));
        for image in 0..50 {
            for i in 0..24_i64 {
                for j in 0..24_i64 {
                    let inside = |i: i64, j: i64| {
                        !(0..24).contains(&i)
                            || !(0..24).contains(&j)
                            || predicted.int64_value(&[image, 0, i, j]) == 1
                    };
                    let expected = (-1..=1).all(|di| (-1..=1).all(|dj| inside(i + di, j + dj)));
                    assert_eq!(hidden.int64_value(&[image, 0, i, j]) == 1, expected, "{image} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let region = Region::RandomBlocks { count: 2, side: 0.5 };
        let (store, encoder, mut objective) = setup(3, &InpaintingConfig { region, ..central() });
        let images = wave(1, &[4, 3, 12, 12]);
        objective.loss(&encoder, &batch(images), &Step::single(0, 1, 0, 0)).unwrap().total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup(1, &central());
        let step = Step::single(0, 1, 0, 0);
        let error = objective.loss(&encoder, &batch(wave(1, &[2, 1, 8, 8])), &step).unwrap_err().to_string();
        assert_eq!(error, "images: expected [2, 1, 12, 12], found [2, 1, 8, 8]");
        let mut none = batch(wave(1, &[2, 1, 12, 12]));
        none.views.clear();
        let error = objective.loss(&encoder, &none, &step).unwrap_err().to_string();
        assert_eq!(error, "views = 0: one view an image for inpainting");
        let blocks = |count, side| Region::RandomBlocks { count, side };
        for (config, message) in [
            (
                InpaintingConfig { border: 3, ..central() },
                "border = 3: from 0 to less than half of the region's side of 6 pixels",
            ),
            (InpaintingConfig { border_weight: 0.0, ..central() }, "border_weight = 0: a positive number"),
            (
                InpaintingConfig { region: blocks(0, 0.5), ..central() },
                "region.count = 0: at least one square",
            ),
            (
                InpaintingConfig { region: blocks(1, 1.0), ..central() },
                "region.side = 1: a share between 0 and 1",
            ),
            (InpaintingConfig { image_size: 3, ..central() }, "image_size = 3: a side of at least 4 pixels"),
        ] {
            let error = built(1, |site| Inpainting::new(site, &config)).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
