//! Denoising autoencoder: an image is corrupted, and the clean one is made of what the encoder saw.
//!
//! Vincent, Larochelle, Bengio and Manzagol 2008, *Extracting and Composing Robust Features with Denoising
//! Autoencoders*, and Vincent et al. 2010, *Stacked Denoising Autoencoders*, sections 3 and 4:
//!
//! ```text
//! x~ ~ q(x~ | x)        y = f(x~)        z = g(y)        L = |x - z|^2
//! ```
//!
//! Departures: encoder and decoder are convolutional and trained as one, where the paper stacks layers that
//! are trained one after the other; the squared error is averaged over all values, on normalised pixels,
//! where the paper sums it.

use crate::generative::decoder::{ConvDecoder, ConvDecoderConfig};
use crate::generative::pixels::{Normalization, Reconstruction};
use crate::views::{check_images, one_view};
use selfsup_core::{
    Error, ImageViews, Loss, MapEncoder, Mode, Objective, Pictures, Result, Site, Step, Tensor, check_shape,
    tch,
};
use serde::{Deserialize, Serialize};

/// How an image is corrupted (section 3.3 of the 2010 paper). Values of pixels go from 0 to 1, and those of
/// the channels of a pixel are corrupted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Corruption {
    /// Additive isotropic Gaussian noise: `x~ ~ N(x, std^2)`.
    Gaussian {
        /// Its standard deviation, in units of pixels from 0 to 1.
        std: f64,
    },
    /// Some values, chosen anew for every image, become 0.
    Masking {
        /// Which share of an image's values.
        share: f64,
    },
    /// Some values, chosen anew for every image, become 0 or 1, by a fair coin.
    SaltAndPepper {
        /// Which share of an image's values.
        share: f64,
    },
}

impl Corruption {
    fn check(self) -> Result<()> {
        match self {
            Corruption::Gaussian { std } if !(std > 0.0 && std.is_finite()) => {
                Err(Error::config("corruption.std", std, "a positive number"))
            }
            Corruption::Masking { share } | Corruption::SaltAndPepper { share }
                if !(share > 0.0 && share < 1.0) =>
            {
                Err(Error::config("corruption.share", share, "a share between 0 and 1"))
            }
            _ => Ok(()),
        }
    }

    /// Corrupts images whose pixels go from 0 to 1; draws from libtorch's generator.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to the same.
    pub fn apply(self, pixels: &Tensor) -> Tensor {
        match self {
            Corruption::Gaussian { std } => pixels + pixels.randn_like() * std,
            Corruption::Masking { share } => pixels.masked_fill(&chosen(pixels, share), 0.0),
            Corruption::SaltAndPepper { share } => {
                let coin = pixels.rand_like().ge(0.5).to_kind(pixels.kind());
                coin.where_self(&chosen(pixels, share), pixels)
            }
        }
    }
}

/// The same number of values of every image, `share` of them, `[N, C, H, W]` Bool.
fn chosen(pixels: &Tensor, share: f64) -> Tensor {
    let order = pixels.rand_like().flatten(1, -1).argsort(1, false).argsort(1, false); // [N, C * H * W]
    let count = (share * order.size()[1] as f64).round() as i64;
    order.lt(count).view_as(pixels)
}

/// Settings of [`Denoising`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DenoisingConfig {
    /// What is done to an image. Masking a quarter is one of the amounts that the 2008 paper chooses among
    /// (10, 25 and 40 %, table 1).
    pub corruption: Corruption,
    /// The decoder.
    pub decoder: ConvDecoderConfig,
    /// How the pixels of the views are normalised.
    pub normalization: Normalization,
}

impl Default for DenoisingConfig {
    fn default() -> Self {
        DenoisingConfig {
            corruption: Corruption::Masking { share: 0.25 },
            decoder: ConvDecoderConfig::default(),
            normalization: Normalization::default(),
        }
    }
}

/// The denoising autoencoder's objective: a corruption, a decoder and the squared error.
#[derive(Debug)]
pub struct Denoising {
    decoder: ConvDecoder,
    corruption: Corruption,
    normalization: Normalization,
    channels: i64,
}

impl Denoising {
    /// Makes the decoder for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the corruption, the decoder or the normalisation cannot work.
    pub fn new<E: MapEncoder + ?Sized>(site: &Site<E>, config: &DenoisingConfig) -> Result<Self> {
        let DenoisingConfig { corruption, decoder, normalization } = config.clone();
        let channels = site.encoder.channels();
        corruption.check()?;
        normalization.check(channels)?;
        let decoder = ConvDecoder::new(site.path() / "decoder", site.encoder.map_dim(), channels, &decoder)?;
        Ok(Denoising { decoder, corruption, normalization, channels })
    }

    /// The images, corrupted images and what is made of them, with the networks applied and not trained.
    ///
    /// # Shapes
    /// Normalised images `[N, C, H, W]` to three times the same.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images do not fit the encoder or the normalisation.
    pub fn reconstruct<E: MapEncoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
    ) -> Result<Reconstruction> {
        check_images("images", images, self.channels)?;
        tch::no_grad(|| {
            let corrupted = self.corrupt(images)?;
            let output = self.decode(encoder, &corrupted, Mode::Eval)?;
            Ok(Reconstruction::of(&self.normalization, [images, &corrupted, &output]))
        })
    }

    /// Normalised images to normalised corrupted ones, `[N, C, H, W]`.
    fn corrupt(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.normalization.apply(&self.corruption.apply(&self.normalization.undo(images)?)))
    }

    fn decode<E: MapEncoder + ?Sized>(&self, encoder: &E, corrupted: &Tensor, mode: Mode) -> Result<Tensor> {
        let [_, _, h, w] = check_shape("images", corrupted, [-1, self.channels, -1, -1])?;
        let (map, _) = encoder.map(corrupted, mode)?; // [N, D, H', W']
        self.decoder.forward(&map, [h, w], mode)
    }

    fn compare<E: MapEncoder + ?Sized>(
        &self,
        encoder: &E,
        clean: &Tensor,
        corrupted: &Tensor,
    ) -> Result<Loss> {
        let output = self.decode(encoder, corrupted, Mode::Train)?; // [N, C, H, W]
        let error = |x: &Tensor| (x - clean).square().mean(None);
        Ok(Loss::new(error(&output)).with("error_of_the_corrupted", &error(corrupted)))
    }
}

impl<E: MapEncoder + ?Sized> Objective<E> for Denoising {
    type Batch = ImageViews;

    fn pictures(&self, encoder: &E, batch: &ImageViews) -> Result<Option<Pictures>> {
        let made = batch.views.first().map(|view| self.reconstruct(encoder, view)).transpose()?;
        Ok(made.map(Pictures::from))
    }

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let clean = one_view(batch, self.channels, "a denoising autoencoder")?; // [N, C, H, W]
        let corrupted = self.corrupt(clean)?;
        self.compare(encoder, clean, &corrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_gradients;
    use crate::generative::reference::{Strided, assert_gradient_sums, batch, built, difference, fill, wave};
    use selfsup_core::{Device, Kind, TensorExt, nn};

    fn config(corruption: Corruption) -> DenoisingConfig {
        DenoisingConfig {
            corruption,
            decoder: ConvDecoderConfig { widths: vec![5] },
            ..DenoisingConfig::default()
        }
    }

    fn setup(channels: i64) -> (nn::VarStore, Strided, Denoising) {
        let config = config(Corruption::Masking { share: 0.25 });
        built(channels, |site| Denoising::new(site, &config)).unwrap()
    }

    #[test]
    fn equals_pytorch_forward_and_backward() {
        // net = nn.Module(); net.encoder = Encoder(2); net.objective = nn.Module(); net.objective.decoder = Decoder(2)
        // fill(net); y = net.objective.decoder(net.encoder(wave(50, 2, 2, 6, 6)))
        // l = F.mse_loss(y, wave(40, 2, 2, 6, 6)); l.backward(); print(l.item(), gradients(net))
        let (store, encoder, objective) = setup(2);
        fill(&store);
        let loss = objective.compare(&encoder, &wave(40, &[2, 2, 6, 6]), &wave(50, &[2, 2, 6, 6])).unwrap();
        assert!((loss.total.scalar().unwrap() - 6.911_833).abs() < 1e-5);
        loss.total.backward();
        assert_gradient_sums(
            &store,
            &[0.066014, 1.066358, 0.000299, -4.444870, -6.627780, 0.325436, 45.012375],
        );
    }

    #[test]
    fn is_the_mean_squared_error_of_the_decoded_map_of_the_corrupted_image() {
        let (_store, encoder, objective) = setup(1);
        let clean = wave(3, &[3, 1, 6, 4]);
        let corrupted = objective.corrupt(&clean).unwrap();
        // A quarter of the values is black, -1 when normalised, and the others are as they were.
        assert_eq!(i64::try_from((&corrupted + 1.0).abs().lt(1e-6).sum(Kind::Int64)).unwrap(), 18);
        assert_eq!(i64::try_from((&corrupted - &clean).abs().lt(1e-6).sum(Kind::Int64)).unwrap(), 54);
        let loss = objective.compare(&encoder, &clean, &corrupted).unwrap();
        let output = objective.decode(&encoder, &corrupted, Mode::Train).unwrap();
        let (mut expected, mut copied) = (0.0, 0.0);
        for i in 0..3 {
            for place in 0..24 {
                let at = |x: &Tensor| x.double_value(&[i, 0, place / 4, place % 4]);
                expected += (at(&output) - at(&clean)).powi(2) / 72.0;
                copied += (at(&corrupted) - at(&clean)).powi(2) / 72.0;
            }
        }
        assert!((loss.total.scalar().unwrap() - expected).abs() < 1e-5);
        assert_eq!(loss.parts[0].0, "error_of_the_corrupted");
        assert!((loss.parts[0].1.scalar().unwrap() - copied).abs() < 1e-5);
    }

    #[test]
    fn costs_nothing_where_the_clean_image_comes_out() {
        let (store, encoder, objective) = setup(2);
        let v = store.variables();
        tch::no_grad(|| {
            let _ = v["objective.decoder.output.weight"].shallow_clone().zero_();
            v["objective.decoder.output.bias"].shallow_clone().copy_(&Tensor::from_slice(&[0.3_f32, -0.6]));
        });
        let clean = Tensor::from_slice(&[0.3_f32, -0.6]).view([1, 2, 1, 1]).expand([3, 2, 6, 6], false);
        let corrupted = objective.corrupt(&clean).unwrap();
        let loss = objective.compare(&encoder, &clean, &corrupted).unwrap();
        assert_eq!(loss.total.scalar().unwrap(), 0.0);
        assert!(loss.parts[0].1.scalar().unwrap() > 0.1);
        // An error of 0.1 in every value costs its square.
        let loss = objective.compare(&encoder, &(&clean + 0.1), &corrupted).unwrap().total;
        assert!((loss.scalar().unwrap() - 0.01).abs() < 1e-6);
    }

    #[test]
    fn images_come_out_in_the_order_in_which_they_went_in_each_by_itself() {
        let (store, encoder, objective) = setup(2);
        fill(&store);
        let corrupted = wave(50, &[4, 2, 6, 6]);
        let decode = |x: &Tensor| tch::no_grad(|| objective.decode(&encoder, x, Mode::Eval)).unwrap();
        let output = decode(&corrupted);
        assert!(difference(&output.get(0), &output.get(1)) > 0.01);
        let order = Tensor::from_slice(&[2_i64, 0, 3, 1]);
        assert!(
            difference(&decode(&corrupted.index_select(0, &order)), &output.index_select(0, &order)) < 1e-5
        );
        assert!(difference(&decode(&corrupted.narrow(0, 2, 1)), &output.narrow(0, 2, 1)) < 1e-5);
        // Statistics of the batch know no order either.
        let clean = wave(40, &[4, 2, 6, 6]);
        let loss = |clean: &Tensor, corrupted: &Tensor| {
            objective.compare(&encoder, clean, corrupted).unwrap().total.scalar().unwrap()
        };
        let turned = loss(&clean.index_select(0, &order), &corrupted.index_select(0, &order));
        assert!((turned - loss(&clean, &corrupted)).abs() < 1e-5 * turned);
    }

    #[test]
    fn each_corruption_changes_what_it_says_and_nothing_else() {
        let pixels = Tensor::rand([8, 3, 20, 20], (Kind::Float, Device::Cpu)) * 0.8 + 0.1;
        let count = |x: Tensor| {
            let counts = x.flatten(1, -1).sum_dim_intlist([1_i64].as_slice(), false, Kind::Int64);
            Vec::<i64>::try_from(counts).unwrap()
        };
        let masked = Corruption::Masking { share: 0.25 }.apply(&pixels);
        assert_eq!(count(masked.eq(0.0)), [300; 8]);
        assert_eq!(count(masked.eq_tensor(&pixels)), [900; 8]);
        let speckled = Corruption::SaltAndPepper { share: 0.1 }.apply(&pixels);
        assert_eq!(count(speckled.eq_tensor(&pixels)), [1080; 8]);
        let (salt, pepper) = (count(speckled.eq(1.0)), count(speckled.eq(0.0)));
        assert!(salt.iter().zip(&pepper).all(|(s, p)| s + p == 120));
        // 960 throws of a fair coin, 5 sigma.
        assert!((salt.iter().sum::<i64>() - 480).abs() < 78, "{salt:?}");
        let noise = Corruption::Gaussian { std: 0.3 }.apply(&pixels) - &pixels;
        // 9600 draws, more than 5 sigma.
        assert!((noise.std(true).scalar().unwrap() - 0.3).abs() < 0.012);
        assert!(noise.mean(None).scalar().unwrap().abs() < 0.02);
        // Another image, other places.
        assert_ne!(masked.get(0).eq(0.0), masked.get(1).eq(0.0));
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup(3);
        let images = wave(1, &[4, 3, 8, 8]);
        objective.loss(&encoder, &batch(images), &Step::single(0, 1, 0, 0)).unwrap().total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn shows_the_image_before_during_and_after() {
        let (store, encoder, objective) = setup(3);
        let images = wave(1, &[2, 3, 8, 8]);
        let variables = store.variables();
        let before: Vec<_> = variables.values().map(Tensor::copy).collect();
        let Reconstruction { input, corrupted, output } = objective.reconstruct(&encoder, &images).unwrap();
        assert!(difference(&input, &(&images * 0.5 + 0.5)) < 1e-6);
        assert!(difference(&corrupted, &input) > 0.1 && !output.requires_grad());
        assert_eq!(output.size(), [2, 3, 8, 8]);
        assert!(output.min().scalar().unwrap() >= 0.0 && output.max().scalar().unwrap() <= 1.0);
        assert!(variables.values().zip(&before).all(|(now, then)| now == then));
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup(1);
        let step = Step::single(0, 1, 0, 0);
        let mut two = batch(wave(1, &[2, 1, 8, 8]));
        two.views.push(wave(2, &[2, 1, 8, 8]));
        let error = objective.loss(&encoder, &two, &step).unwrap_err().to_string();
        assert_eq!(error, "views = 2: one view an image for a denoising autoencoder");
        let error = objective.loss(&encoder, &batch(wave(1, &[2, 3, 8, 8])), &step).unwrap_err().to_string();
        assert_eq!(error, "view 0: expected [_, 1, _, _], found [2, 3, 8, 8]");
        let error = objective.loss(&encoder, &batch(wave(1, &[0, 1, 8, 8])), &step).unwrap_err().to_string();
        assert_eq!(error, "view 0: expected at least one image with pixels, found [0, 1, 8, 8]");
        for (corruption, message) in [
            (Corruption::Masking { share: 1.0 }, "corruption.share = 1: a share between 0 and 1"),
            (Corruption::SaltAndPepper { share: 0.0 }, "corruption.share = 0: a share between 0 and 1"),
            (Corruption::Gaussian { std: f64::NAN }, "corruption.std = NaN: a positive number"),
        ] {
            let error = built(1, |site| Denoising::new(site, &config(corruption))).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
