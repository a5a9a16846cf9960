//! Image GPT: every pixel of an image is predicted from those before it.
//!
//! Chen, Radford, Child, Wu, Jun, Luan and Sutskever 2020, *Generative Pretraining from Pixels*, section 2.
//! An image is a sequence of colours of a palette, row by row:
//!
//! ```text
//! p(x) = prod_i p(x_i | x_1 .. x_{i-1})        L = E [ -log p(x) ]
//! ```
//!
//! The palette is that of k-means on pixels (section 3.2). The encoder is a [`PixelEncoder`], whose features
//! come from a block in its middle; what is here is the layer from its output to the logits of the palette,
//! without a bias, which starts at zero (section 3.3), so that all colours are as likely at first.
//!
//! Departures: the loss is averaged over pixels, as in the authors' code, where the paper sums it; k-means
//! sees pixels of the run's first batch, not of the whole set; the paper's other objective, BERT on pixels, is
//! not here. Those of the network stand at the encoder.

use crate::generative::pixels::{Normalization, Reconstruction};
use crate::views::one_view;
use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{
    Error, ImageViews, Key, Kind, Loss, Mode, Objective, Pictures, PixelEncoder, Result, Site, Step, Tensor,
    TensorExt, check_shape, tch,
};
use selfsup_numerics::{KMeans, KMeansConfig};
use serde::{Deserialize, Serialize};

/// Where the colours of the palette come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Palette {
    /// From k-means on pixels of the run's first batch.
    KMeans,
    /// They are those of the encoder.
    AsItIs,
}

/// Settings of [`ImageGpt`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageGptConfig {
    /// Where the colours of the palette come from; k-means (section 3.2).
    pub palette: Palette,
    /// At most so many pixels of the first batch are clustered.
    pub palette_pixels: i64,
    /// How the pixels of the views are normalised, for pictures.
    pub normalization: Normalization,
}

impl Default for ImageGptConfig {
    fn default() -> Self {
        ImageGptConfig {
            palette: Palette::KMeans,
            palette_pixels: 16384,
            normalization: Normalization::default(),
        }
    }
}

/// The objective of image GPT: a layer from what is known of a pixel to its colour.
#[derive(Debug)]
pub struct ImageGpt {
    head: Linear,
    /// Whether the palette is that of the data, `[1]`: 0 or 1.
    fitted: Tensor,
    config: ImageGptConfig,
    channels: i64,
}

impl ImageGpt {
    /// Makes the layer for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the normalisation cannot work, or fewer pixels than colours would be clustered.
    pub fn new<E: PixelEncoder + ?Sized>(site: &Site<E>, config: &ImageGptConfig) -> Result<Self> {
        let [colours, channels] = check_shape("palette", site.encoder.palette(), [-1, -1])?;
        config.normalization.check(channels)?;
        if config.palette_pixels < colours {
            let expected = format!("at least as many as the palette's {colours} colours");
            return Err(Error::config("palette_pixels", config.palette_pixels, expected));
        }
        let head = Linear::new(site.path() / "head", site.dim(), colours, Bias::No);
        tch::no_grad(|| drop(head.weight.shallow_clone().zero_()));
        let fitted = site.path().zeros_no_train("fitted", &[1]);
        Ok(ImageGpt { head, fitted, config: config.clone(), channels })
    }

    /// The images, their upper halves, and these with a lower half that was drawn pixel by pixel, all in
    /// colours of the palette; the networks are applied and not trained.
    ///
    /// # Shapes
    /// Normalised images `[N, C, S, S]` to three times the same.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images do not fit the encoder.
    pub fn reconstruct<E: PixelEncoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
    ) -> Result<Reconstruction> {
        tch::no_grad(|| {
            let tokens = encoder.quantize(images)?; // [N, T]
            let [_, _, h, w] = check_shape("images", images, [-1, self.channels, -1, -1])?;
            let given = h / 2 * w;
            let place = tokens.narrow(1, 0, 1).zeros_like(); // [N, 1]
            let mut drawn = tokens.narrow(1, 0, given);
            for _ in given..h * w {
                // The last place of the sequence is the one that is to be drawn; what stands there is not looked at.
                let open = Tensor::cat(&[&drawn, &place], 1);
                let known = encoder.before_each(&open, Mode::Eval)?; // [N, t + 1, D]
                let logits = self.head.forward(&known.select(1, known.size()[1] - 1)); // [N, K]
                let next = logits.softmax(1, Kind::Float).multinomial(1, true); // [N, 1]
                drawn = Tensor::cat(&[&drawn, &next], 1);
            }
            let picture = |tokens: &Tensor| {
                let colours = encoder.palette().index_select(0, &tokens.flatten(0, -1)); // [N * T, C]
                colours.view([-1, h, w, self.channels]).permute([0, 3, 1, 2])
            };
            let input = picture(&tokens);
            let upper =
                Tensor::cat(&[input.narrow(2, 0, h / 2), input.narrow(2, h / 2, h - h / 2).zeros_like()], 2);
            Ok(Reconstruction::of(&self.config.normalization, [&input, &upper, &picture(&drawn)]))
        })
    }

    /// Fits the palette to the first batch of a run. All ranks cluster the pixels of all.
    fn fit_palette<E: PixelEncoder + ?Sized>(&self, encoder: &E, images: &Tensor, step: &Step) -> Result<()> {
        if self.config.palette == Palette::AsItIs || self.fitted.sum(None).scalar()? > 0.0 {
            return Ok(());
        }
        let [colours, channels] = check_shape("palette", encoder.palette(), [-1, -1])?;
        let pixels = images.permute([0, 2, 3, 1]).reshape([-1, channels]); // [N * T, C]
        let (all, share) = (pixels.size()[0], self.config.palette_pixels / step.comm.world_size().max(1));
        let chosen =
            Tensor::randperm(all, (Kind::Int64, pixels.device())).narrow(0, 0, all.min(share.max(1)));
        let pixels = step.comm.gather(&pixels.index_select(0, &chosen))?;
        let config = KMeansConfig { clusters: colours, ..KMeansConfig::default() };
        let clusters = KMeans::fit(&pixels.detach(), &config, Key::new(step.seed))?;
        encoder.set_palette(&clusters.centres)?;
        let _ = self.fitted.shallow_clone().fill_(1.0);
        Ok(())
    }
}

impl<E: PixelEncoder + ?Sized> Objective<E> for ImageGpt {
    type Batch = ImageViews;

    fn pictures(&self, encoder: &E, batch: &ImageViews) -> Result<Option<Pictures>> {
        let made = batch.views.first().map(|view| self.reconstruct(encoder, view)).transpose()?;
        Ok(made.map(Pictures::from))
    }

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let images = one_view(batch, self.channels, "image GPT")?; // [N, C, S, S]
        let _ = encoder.quantize(&images.narrow(0, 0, 1))?; // refuses what does not fit, before anything changes
        tch::no_grad(|| self.fit_palette(encoder, images, step))?;
        let tokens = encoder.quantize(images)?; // [N, T]
        let known = encoder.before_each(&tokens, Mode::Train)?; // [N, T, D]
        let logits = self.head.forward(&known).flatten(0, 1); // [N * T, K]
        let colours = tokens.flatten(0, 1); // [N * T]
        let hits = logits.detach().argmax(1, false).eq_tensor(&colours).to_kind(Kind::Float);
        Ok(Loss::new(logits.cross_entropy_for_logits(&colours)).with("colour_accuracy", &hits.mean(None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_gradients;
    use crate::generative::reference::{assert_gradient_sums, batch, difference, fill, wave};
    use selfsup_core::{Device, Encoder, nn};
    use selfsup_encoders::{PixelTransformer, PixelTransformerConfig};

    fn setup(palette: Palette) -> (nn::VarStore, PixelTransformer, ImageGpt) {
        setup_of(4, palette)
    }

    fn setup_of(image_size: i64, palette: Palette) -> (nn::VarStore, PixelTransformer, ImageGpt) {
        let size = PixelTransformerConfig {
            image_size,
            channels_in: 1,
            colours: 6,
            depth: 1,
            dim: 8,
            heads: 2,
            mlp_ratio: 2.0,
            feature_block: 1,
        };
        let store = nn::VarStore::new(Device::Cpu);
        let make = move |path: nn::Path| PixelTransformer::new(path, &size);
        let encoder = make(store.root() / Site::<PixelTransformer>::ENCODER).unwrap();
        let config = ImageGptConfig { palette, ..ImageGptConfig::default() };
        let objective = {
            let site = Site::new(&store, &encoder, 8, |path| Ok(Box::new(make(path)?)));
            ImageGpt::new(&site, &config).unwrap()
        };
        (store, encoder, objective)
    }

    fn step(step: u64) -> Step<'static> {
        Step::single(step, 10, 0, 0)
    }

    #[test]
    fn equals_pytorch_forward_and_backward() {
        // B = functools.partial(timm.models.vision_transformer.Block, qkv_bias=True,
        //     norm_layer=functools.partial(nn.LayerNorm, eps=1e-6))
        // net = nn.Module(); e = net.encoder = nn.Module(); net.objective = nn.Module()
        // e.wpe, e.sos = nn.Parameter(torch.empty(16, 8)), nn.Parameter(torch.empty(8)); e.wte = nn.Embedding(6, 8)
        // e.h, e.ln_f = nn.ModuleList([B(8, 2, mlp_ratio=2.0)]), nn.LayerNorm(8)
        // net.objective.head = nn.Linear(8, 6, bias=False); fill(net)
        // t = (wave(40, 3, 16)[..., None] - torch.linspace(-2, 2, 6)).abs().argmin(2)
        // h = torch.cat([e.sos.expand(3, 1, -1), e.wte(t)[:, :-1]], 1) + e.wpe
        // y = net.objective.head(e.ln_f(e.h[0](h, attn_mask=torch.ones(16, 16).tril().bool())))
        // l = F.cross_entropy(y.flatten(0, 1), t.flatten()); l.backward(); print(l.item(), gradients(net))
        let (store, encoder, mut objective) = setup(Palette::AsItIs);
        fill(&store);
        let loss = objective.loss(&encoder, &batch(wave(40, &[3, 1, 4, 4])), &step(0)).unwrap().total;
        assert!((loss.scalar().unwrap() - 1.902_487).abs() < 1e-5, "{loss}");
        loss.backward();
        let expected = [
            -0.001732, -0.006011, 0.010451, -0.016469, 0.164089, -0.168377, -0.006133, -0.004078, -0.016542,
            0.000073, -0.160871, -0.007507, 0.428369, -0.026641, 0.000519, -0.019297, 0.036733, 0.401728,
        ];
        assert_gradient_sums(&store, &expected);
    }

    #[test]
    fn is_the_mean_of_the_logarithm_of_every_pixel_given_those_before() {
        let (store, encoder, mut objective) = setup(Palette::AsItIs);
        fill(&store);
        let images = wave(2, &[2, 1, 4, 4]);
        let loss = objective.loss(&encoder, &batch(images.shallow_clone()), &step(0)).unwrap();
        let tokens = encoder.quantize(&images).unwrap();
        let (mut expected, mut hits) = (0.0, 0.0);
        for n in 0..2 {
            for i in 0..16_i64 {
                // The pixels before, one at a time, and a place for the next.
                let prefix = Tensor::cat(
                    &[
                        tokens.narrow(0, n, 1).narrow(1, 0, i),
                        Tensor::zeros([1, 1], (Kind::Int64, Device::Cpu)),
                    ],
                    1,
                );
                let known = encoder.before_each(&prefix, Mode::Eval).unwrap().select(1, i);
                let log = objective.head.forward(&known).log_softmax(1, Kind::Float);
                let colour = tokens.int64_value(&[n, i]);
                expected -= log.double_value(&[0, colour]) / 32.0;
                hits += f64::from(log.argmax(1, false).int64_value(&[0]) == colour) / 32.0;
            }
        }
        assert!((loss.total.scalar().unwrap() - expected).abs() < 1e-5);
        assert!((loss.parts[0].1.scalar().unwrap() - hits).abs() < 1e-6);
    }

    #[test]
    fn a_new_network_knows_nothing_and_pays_the_logarithm_of_the_palette() {
        let (_store, encoder, mut objective) = setup(Palette::AsItIs);
        let loss = objective.loss(&encoder, &batch(wave(2, &[2, 1, 4, 4])), &step(0)).unwrap().total;
        assert!((loss.scalar().unwrap() - 6.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_palette_is_fitted_once_to_the_first_batch() {
        let (store, encoder, mut objective) = setup(Palette::KMeans);
        let levels = [0.1, 0.2, 0.4, 0.5, 0.8, 0.9_f32];
        let pixels: Vec<f32> = (0..96).map(|i| levels[i % 6]).collect();
        let images = Tensor::from_slice(&pixels).view([6, 1, 4, 4]);
        objective.loss(&encoder, &batch(images), &step(0)).unwrap().total.backward();
        let fitted = encoder.palette().view([-1]).sort(0, false).0;
        assert!(difference(&fitted, &Tensor::from_slice(&levels)) < 1e-5);
        assert_eq!(store.variables()["objective.fitted"].sum(None).scalar().unwrap(), 1.0);
        for k in 0..4 {
            objective.loss(&encoder, &batch(wave(3, &[6, 1, 4, 4])), &step(k)).unwrap();
        }
        assert_eq!(encoder.palette().view([-1]).sort(0, false).0, fitted);
        assert!(!encoder.palette().requires_grad());
    }

    #[test]
    fn a_run_whose_first_step_was_skipped_has_a_palette_all_the_same() {
        let (store, encoder, mut objective) = setup(Palette::KMeans);
        let before = encoder.palette().copy();
        objective.loss(&encoder, &batch(wave(3, &[6, 1, 4, 4])), &step(1)).unwrap();
        assert_eq!(store.variables()["objective.fitted"].sum(None).scalar().unwrap(), 1.0);
        assert!(difference(encoder.palette(), &before) > 0.01);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup(Palette::KMeans);
        fill(&store); // the layer starts at zero, through which no gradient passes
        objective.loss(&encoder, &batch(wave(4, &[6, 1, 4, 4])), &step(0)).unwrap().total.backward();
        assert_gradients(&store, &[]);
        assert_eq!(encoder.encode(&wave(4, &[6, 1, 4, 4]), Mode::Eval).unwrap().size(), [6, 8]);
    }

    #[test]
    fn completes_the_lower_half() {
        let (_store, encoder, objective) = setup(Palette::AsItIs);
        let images = wave(5, &[3, 1, 4, 4]);
        let Reconstruction { input, corrupted, output } = objective.reconstruct(&encoder, &images).unwrap();
        assert_eq!(input.narrow(2, 0, 2), output.narrow(2, 0, 2));
        assert_eq!(input.narrow(2, 0, 2), corrupted.narrow(2, 0, 2));
        assert!((corrupted.narrow(2, 2, 2) - 0.5).abs().max().scalar().unwrap() < 1e-6);
        assert!(difference(&output, &input) > 0.01);
        // All colours are the palette's, in the scale of a picture.
        let palette = (encoder.palette() * 0.5 + 0.5).clamp(0.0, 1.0).view([1, -1]);
        let distance = (output.view([-1, 1]) - palette).abs().amin(1, false).max();
        assert!(distance.scalar().unwrap() < 1e-6);
    }

    #[test]
    fn draws_all_of_an_image_that_has_no_upper_half() {
        let (_store, encoder, objective) = setup_of(1, Palette::AsItIs);
        let images = wave(5, &[3, 1, 1, 1]);
        let Reconstruction { corrupted, output, .. } = objective.reconstruct(&encoder, &images).unwrap();
        assert_eq!(output.size(), [3, 1, 1, 1]);
        assert!((corrupted - 0.5).abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (store, encoder, mut objective) = setup(Palette::KMeans);
        let error =
            objective.loss(&encoder, &batch(wave(1, &[2, 1, 5, 5])), &step(0)).unwrap_err().to_string();
        assert_eq!(error, "images: expected [1, 1, 4, 4], found [1, 1, 5, 5]");
        assert_eq!(store.variables()["objective.fitted"].sum(None).scalar().unwrap(), 0.0);
        let error =
            objective.loss(&encoder, &batch(wave(1, &[2, 3, 4, 4])), &step(0)).unwrap_err().to_string();
        assert_eq!(error, "view 0: expected [_, 1, _, _], found [2, 3, 4, 4]");
        let mut none = batch(wave(1, &[2, 1, 4, 4]));
        none.views.clear();
        let error = objective.loss(&encoder, &none, &step(0)).unwrap_err().to_string();
        assert_eq!(error, "views = 0: one view an image for image GPT");
        let store = nn::VarStore::new(Device::Cpu);
        let site = Site::new(&store, &encoder, 8, |_| Err(Error::Other("no twin".to_owned())));
        let config = ImageGptConfig { palette_pixels: 5, ..ImageGptConfig::default() };
        let error = ImageGpt::new(&site, &config).unwrap_err().to_string();
        assert_eq!(error, "palette_pixels = 5: at least as many as the palette's 6 colours");
    }
}
