//! Colorization: of how light an image is, what colours it has.
//!
//! Zhang, Isola and Efros 2016, *Colorful Image Colorization*, section 2. An image is taken apart into
//! lightness L and colour ab; of L the network predicts for every place a distribution over Q = 313 bins of
//! ab, against a soft encoding Z of the true colour (its 5 nearest bins, Gaussian with sigma 5), and rare
//! colours count more (equations 2 to 4):
//!
//! ```text
//! L(Z^, Z) = - sum_hw v(Z_hw) sum_q Z_hwq log Z^_hwq        v(Z_hw) = w_q*,  q* = argmax_q Z_hwq
//! w ~ ((1 - lambda) p~ + lambda / Q)^-1,    E[w] = sum_q p~_q w_q = 1
//! ```
//!
//! A colour for a picture is the annealed mean of the distribution (equation 5, T = 0.38). The other mode is
//! the paper's regression, equation 1: half of the squared distance of ab, both divided by 110.
//!
//! Departures: the loss is averaged over places, where the paper sums it. The prior p~ is not counted on
//! ImageNet beforehand but over the batches of the run so far, in its soft encoding, which smooths it by the
//! same Gaussian. The encoder is one for colour images, which stands at the judging before coloured ones: it
//! sees the lightness in all three channels. The classes are those of the labeler `ColourClasses` of `selfsup-labels`.

use crate::generative::decoder::{ConvDecoder, ConvDecoderConfig};
use crate::generative::pixels::{Normalization, Reconstruction};
use crate::views::{check_images, one_view};
use selfsup_core::{
    Communicator, Error, ImageViews, Kind, Loss, MapEncoder, Mode, Objective, Pictures, Result, Site, Step,
    Tensor, TensorExt, check_shape, tch,
};
use selfsup_numerics::{SoftEncoding, gamut, lab_to_rgb, rgb_to_lab};
use serde::{Deserialize, Serialize};

/// What is predicted of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColourTarget {
    /// Its bin among 313.
    Classes,
    /// Its ab.
    Regression,
}

/// Which colours count as frequent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColourPrior {
    /// Those of the images that were learned from so far.
    Empirical,
    /// All alike: no rebalancing.
    Uniform,
}

/// Settings of [`Colorization`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorizationConfig {
    /// What is predicted; classes (section 2.1).
    pub target: ColourTarget,
    /// The prior of the rebalancing; empirical (section 2.2).
    pub prior: ColourPrior,
    /// How much of the prior is replaced by a uniform one, lambda: 0.5 (section 2.2).
    pub lambda: f64,
    /// Colours are predicted for every so many rows and columns; 4, as in the authors' network.
    pub stride: i64,
    /// The temperature of the colours in a picture; 0.38 (section 2.3).
    pub temperature: f64,
    /// The decoder, to a `stride`-th of the image's sides.
    pub decoder: ConvDecoderConfig,
    /// How the pixels of the views are normalised.
    pub normalization: Normalization,
}

impl Default for ColorizationConfig {
    fn default() -> Self {
        ColorizationConfig {
            target: ColourTarget::Classes,
            prior: ColourPrior::Empirical,
            lambda: 0.5,
            stride: 4,
            temperature: 0.38,
            decoder: ConvDecoderConfig { widths: vec![512, 256, 256] },
            normalization: Normalization::default(),
        }
    }
}

/// The scale of ab.
const LARGEST: f64 = 110.0;
/// Below this a and b are the rounding of a grey image.
const GREY: f64 = 2.0;

/// The colorization objective: a decoder to colours, the bins, and how often each was seen.
#[derive(Debug)]
pub struct Colorization {
    decoder: ConvDecoder,
    /// `[Q, 2]`
    bins: Tensor,
    /// How many colours fell to each bin, `[Q]`.
    seen: Tensor,
    config: ColorizationConfig,
}

impl Colorization {
    /// Makes the decoder for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Shape`] when the encoder is one for grey images, [`Error::Config`] when a setting cannot work.
    pub fn new<E: MapEncoder + ?Sized>(site: &Site<E>, config: &ColorizationConfig) -> Result<Self> {
        let ColorizationConfig { target, lambda, stride, temperature, decoder, normalization, .. } = config;
        let channels = site.encoder.channels();
        if channels != 3 {
            return Err(Error::Shape {
                name: "images".to_owned(),
                expected: "3 channels: colours are what is learned, and grey images have none".to_owned(),
                found: format!("{channels}"),
            });
        }
        normalization.check(channels)?;
        if !(*lambda > 0.0 && *lambda <= 1.0) {
            return Err(Error::config("lambda", lambda, "a share above 0, up to 1"));
        }
        if *stride < 1 {
            return Err(Error::config("stride", stride, "at least 1"));
        }
        if !(*temperature > 0.0 && *temperature <= 1.0) {
            return Err(Error::config("temperature", temperature, "a number above 0, up to 1"));
        }
        let (path, bins) = (site.path(), gamut().to_device(site.store.device()));
        let outputs = if *target == ColourTarget::Classes { bins.size()[0] } else { 2 };
        Ok(Colorization {
            decoder: ConvDecoder::new(&path / "decoder", site.encoder.map_dim(), outputs, decoder)?,
            seen: path.zeros_no_train("seen", &[bins.size()[0]]),
            bins,
            config: config.clone(),
        })
    }

    /// The images, their lightness, and the lightness in the colours that were made for it; the networks are
    /// applied and not trained.
    ///
    /// # Shapes
    /// Normalised images `[N, 3, H, W]` to three times the same.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images do not fit the encoder or the normalisation.
    pub fn reconstruct<E: MapEncoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
    ) -> Result<Reconstruction> {
        let [_, h, w] = check_images("images", images, 3)?;
        tch::no_grad(|| {
            let (lightness, _) = self.take_apart(images)?;
            let grey = self.grey(&lightness);
            let predicted = self.predict(encoder, &grey, Mode::Eval)?; // [N, Q or 2, h, w]
            let ab = self.colours(&predicted).upsample_bilinear2d([h, w], false, None, None); // [N, 2, H, W]
            let output = lab_to_rgb(&Tensor::cat(&[&lightness, &ab], 1))?;
            let normalization = &self.config.normalization;
            Ok(Reconstruction::of(normalization, [images, &grey, &normalization.apply(&output)]))
        })
    }

    /// The lightness `[N, 1, H, W]` and the colours `[N, 2, H, W]` of normalised images.
    fn take_apart(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let lab = rgb_to_lab(&self.config.normalization.undo(images)?)?;
        Ok((lab.narrow(1, 0, 1), lab.narrow(1, 1, 2)))
    }

    /// The lightness as a normalised image, `[N, 3, H, W]`.
    fn grey(&self, lightness: &Tensor) -> Tensor {
        self.config.normalization.apply(&(lightness / 100.0).expand([-1, 3, -1, -1], false))
    }

    /// Logits of the bins, or ab / 110, for every `stride`-th place: `[N, Q or 2, h, w]`.
    fn predict<E: MapEncoder + ?Sized>(&self, encoder: &E, grey: &Tensor, mode: Mode) -> Result<Tensor> {
        let [_, _, h, w] = check_shape("images", grey, [-1, 3, -1, -1])?;
        let stride = self.config.stride;
        let (map, _) = encoder.map(grey, mode)?; // [N, D, H', W']
        self.decoder.forward(&map, [(h + stride - 1) / stride, (w + stride - 1) / stride], mode)
    }

    /// The colours of what was predicted, `[N, 2, h, w]`.
    fn colours(&self, predicted: &Tensor) -> Tensor {
        if self.config.target == ColourTarget::Regression {
            return predicted * LARGEST;
        }
        // exp(log z / T), normalised.
        let annealed = (predicted / self.config.temperature).softmax(1, Kind::Float); // [N, Q, h, w]
        annealed.permute([0, 2, 3, 1]).matmul(&self.bins).permute([0, 3, 1, 2])
    }

    /// The weight of every bin, `[Q]`.
    fn weights(&self) -> Tensor {
        if self.config.prior == ColourPrior::Uniform {
            return self.seen.ones_like();
        }
        let (lambda, bins) = (self.config.lambda, self.bins.size()[0] as f64);
        let prior = &self.seen / self.seen.sum(None).clamp_min(1.0);
        let weights = (&prior * (1.0 - lambda) + lambda / bins).reciprocal();
        &weights / (prior * &weights).sum(None)
    }

    /// Counts colours, on all ranks.
    fn count(&self, index: &Tensor, weights: &Tensor, comm: &dyn Communicator) -> Result<()> {
        tch::no_grad(|| {
            let counts = self.seen.zeros_like().index_add(0, &index.flatten(0, -1), &weights.flatten(0, -1));
            let _ = self.seen.shallow_clone().g_add_(&comm.all_reduce(&counts)?);
            Ok(())
        })
    }

    /// Both as rows, `[N, C, h, w]` to `[M, C]`.
    fn rows(x: &Tensor) -> Tensor {
        x.permute([0, 2, 3, 1]).flatten(0, 2)
    }
}

impl<E: MapEncoder + ?Sized> Objective<E> for Colorization {
    type Batch = ImageViews;

    fn pictures(&self, encoder: &E, batch: &ImageViews) -> Result<Option<Pictures>> {
        let made = batch.views.first().map(|view| self.reconstruct(encoder, view)).transpose()?;
        Ok(made.map(Pictures::from))
    }

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let images = one_view(batch, 3, "colorization")?; // [N, 3, H, W]
        let (lightness, colours) = self.take_apart(images)?;
        if step.step == 0 && colours.abs().max().scalar()? < GREY {
            return Err(Error::config("images", "grey throughout the first batch", "images with colours"));
        }
        let every = |x: &Tensor, axis: i64| x.slice(axis, None, None, self.config.stride);
        let colours = Self::rows(&every(&every(&colours, 2), 3)); // [M, 2]
        let predicted = Self::rows(&self.predict(encoder, &self.grey(&lightness), Mode::Train)?); // [M, Q or 2]
        if self.config.target == ColourTarget::Regression {
            let squares =
                (predicted - &colours / LARGEST).square().sum_dim_intlist([1_i64].as_slice(), false, None);
            let grey = (colours / LARGEST).square().sum_dim_intlist([1_i64].as_slice(), false, None);
            return Ok(Loss::new(squares.mean(None) / 2.0).with("error_of_grey", &(grey.mean(None) / 2.0)));
        }
        let (index, weights) = SoftEncoding::default().nearest(&colours, &self.bins)?; // [M, K] each
        self.count(&index, &weights, step.comm)?;
        let log = predicted.log_softmax(1, Kind::Float).gather(1, &index, false); // [M, K]
        let entropy = -(log * weights).sum_dim_intlist([1_i64].as_slice(), false, None); // [M]
        // The nearest bin has the largest weight.
        let nearest = index.select(1, 0); // [M]
        let hits = predicted.argmax(1, false).eq_tensor(&nearest).to_kind(Kind::Float).mean(None);
        let rebalanced = self.weights().index_select(0, &nearest) * &entropy; // [M]
        Ok(Loss::new(rebalanced.mean(None))
            .with("cross_entropy", &entropy.mean(None))
            .with("bin_accuracy", &hits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_gradients, descend};
    use crate::generative::reference::{Strided, assert_gradient_sums, batch, built, difference, fill, wave};
    use selfsup_core::nn;

    fn config(target: ColourTarget, prior: ColourPrior) -> ColorizationConfig {
        ColorizationConfig {
            target,
            prior,
            stride: 2,
            decoder: ConvDecoderConfig { widths: vec![5] },
            ..ColorizationConfig::default()
        }
    }

    fn setup(target: ColourTarget, prior: ColourPrior) -> (nn::VarStore, Strided, Colorization) {
        let config = config(target, prior);
        let built = built(3, |site| Colorization::new(site, &config)).unwrap();
        fill(&built.0);
        built
    }

    fn step() -> Step<'static> {
        Step::single(0, 1, 0, 0)
    }

    // i = numpy neighbours from sklearn.neighbors.NearestNeighbors(n_neighbors=5) of ab = rgb2lab(wave(40, 2, 3, 8, 8) * 0.5
    // + 0.5)[::2, ::2] among the 313 bins, d their distances; Z = exp(-d ** 2 / 50), sum 1; grey = L / 50 - 1, three times
    // net = nn.Module(); net.encoder = Encoder(3); net.objective = nn.Module()
    // net.objective.decoder = Decoder(313 or 2), whose stage does not enlarge; fill(net)
    // y = net.objective.decoder(net.encoder(grey)).permute(0, 2, 3, 1).flatten(0, 2)
    // p = Z.mean(0); w = 1 / (0.5 * p + 0.5 / 313) or torch.ones(313); w = w / (w * p).sum()
    // l = (w[Z.argmax(1)] * -(Z * F.log_softmax(y, 1)).sum(1)).mean() or 0.5 * ((y - ab / 110) ** 2).sum(1).mean()
    // l.backward(); print(l.item(), gradients(net))
    #[test]
    fn equals_pytorch_forward_and_backward() {
        let images = || batch(wave(40, &[2, 3, 8, 8]));
        for (target, prior, expected, gradients) in [
            (
                ColourTarget::Classes,
                ColourPrior::Empirical,
                4.273_430,
                [-0.004156, -0.071357, 0.000038, -0.604713, -0.586591, 0.185351, 3.660300],
            ),
            (
                ColourTarget::Classes,
                ColourPrior::Uniform,
                7.010_194,
                [0.010035, -0.049102, 0.000058, -0.944803, -0.908249, 0.387666, 5.595792],
            ),
            (
                ColourTarget::Regression,
                ColourPrior::Uniform,
                2.268_683,
                [0.133090, -0.277771, 0.000154, -2.484731, -2.357282, -0.267185, 14.737966],
            ),
        ] {
            let (store, encoder, mut objective) = setup(target, prior);
            let loss = objective.loss(&encoder, &images(), &step()).unwrap().total;
            assert!((loss.scalar().unwrap() - expected).abs() < 1e-5 * expected, "{loss}");
            loss.backward();
            assert_gradient_sums(&store, &gradients);
        }
    }

    #[test]
    fn learns_what_the_labeler_of_colour_classes_says() {
        use selfsup_labels::{ColourClasses, ColourClassesConfig};
        let (_store, encoder, mut objective) = setup(ColourTarget::Classes, ColourPrior::Uniform);
        let images = wave(40, &[2, 3, 8, 8]);
        let config = ColourClassesConfig { stride: 2, ..Default::default() };
        let labeler = ColourClasses::new(&config).unwrap();
        assert_eq!(labeler.space().classes.len() as i64, objective.bins.size()[0]);
        let found = labeler.label(&(&images * 0.5 + 0.5)).unwrap();
        let grey = objective.grey(&found.lightness);
        let log = objective.predict(&encoder, &grey, Mode::Train).unwrap().log_softmax(1, Kind::Float); // [2, Q, 4, 4]
        let log = log.permute([0, 2, 3, 1]).gather(3, &found.nearest, false); // [2, 4, 4, K]
        let expected = -(log * &found.shares).sum(None) / 32.0;
        let loss = objective.loss(&encoder, &batch(images), &step()).unwrap().total;
        assert!((loss.scalar().unwrap() - expected.scalar().unwrap()).abs() < 1e-4, "{loss} {expected}");
    }

    #[test]
    fn is_the_rebalanced_cross_entropy_of_the_paper() {
        let (_store, encoder, mut objective) = setup(ColourTarget::Classes, ColourPrior::Empirical);
        let images = wave(40, &[2, 3, 4, 4]);
        let loss = objective.loss(&encoder, &batch(images.shallow_clone()), &step()).unwrap();
        let lab = rgb_to_lab(&(&images * 0.5 + 0.5)).unwrap();
        let grey = objective.grey(&lab.narrow(1, 0, 1));
        let log = objective.predict(&encoder, &grey, Mode::Train).unwrap().log_softmax(1, Kind::Float); // [2, Q, 2, 2]
        let bin = |q: i64| [0, 1].map(|axis| objective.bins.double_value(&[q, axis]));
        let places =
            || (0..2_i64).flat_map(|n| (0..2_i64).flat_map(move |i| (0..2_i64).map(move |j| [n, i, j])));
        let encode = |[n, i, j]: [i64; 3]| {
            let colour = [1, 2].map(|channel| lab.double_value(&[n, channel, 2 * i, 2 * j]));
            let mut all: Vec<(f64, i64)> = (0..313)
                .map(|q| ((bin(q)[0] - colour[0]).powi(2) + (bin(q)[1] - colour[1]).powi(2), q))
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let kernel: Vec<_> = all[..5].iter().map(|&(square, q)| ((-square / 50.0).exp(), q)).collect();
            let sum: f64 = kernel.iter().map(|k| k.0).sum();
            kernel.into_iter().map(|(k, q)| (k / sum, q)).collect::<Vec<_>>()
        };
        let mut prior = vec![0.0; 313];
        for (z, q) in places().flat_map(encode) {
            prior[q as usize] += z / 8.0;
        }
        let raw: Vec<f64> = prior.iter().map(|p| 1.0 / (0.5 * p + 0.5 / 313.0)).collect();
        let mean: f64 = raw.iter().zip(&prior).map(|(w, p)| w * p).sum();
        let mut expected = 0.0;
        for [n, i, j] in places() {
            let z = encode([n, i, j]);
            let entropy: f64 = z.iter().map(|&(z, q)| -z * log.double_value(&[n, q, i, j])).sum();
            expected += raw[z[0].1 as usize] / mean * entropy / 8.0;
        }
        let found = loss.total.scalar().unwrap();
        assert!((found - expected).abs() < 1e-4 * expected, "{found} {expected}");
        assert!((objective.seen.sum(None).scalar().unwrap() - 8.0).abs() < 1e-4);
    }

    #[test]
    fn frequent_colours_count_less_and_the_mean_weight_is_one() {
        let (_store, _encoder, objective) = setup(ColourTarget::Classes, ColourPrior::Empirical);
        let counts = wave(1, &[313]).abs();
        tch::no_grad(|| objective.seen.shallow_clone().copy_(&counts));
        let weights = objective.weights();
        let prior = &counts / counts.sum(None);
        assert!(((&prior * &weights).sum(None).scalar().unwrap() - 1.0).abs() < 1e-5);
        let (most, least) = (i64::try_from(counts.argmax(0, false)).unwrap(), counts.argmin(0, false));
        assert_eq!(most, i64::try_from(weights.argmin(0, false)).unwrap());
        assert_eq!(i64::try_from(least).unwrap(), i64::try_from(weights.argmax(0, false)).unwrap());
    }

    #[test]
    fn a_certain_prediction_has_the_colour_of_its_bin() {
        let (_store, _encoder, objective) = setup(ColourTarget::Classes, ColourPrior::Uniform);
        let logits = Tensor::zeros([1, 313, 1, 2], (Kind::Float, objective.bins.device()));
        let _ = logits.select(1, 100).select(2, 0).fill_(50.0);
        let ab = objective.colours(&logits); // [1, 2, 1, 2]
        assert!(difference(&ab.select(3, 0).flatten(0, -1), &objective.bins.get(100)) < 1e-3);
        let mean = objective.bins.mean_dim([0_i64].as_slice(), false, None);
        assert!(difference(&ab.select(3, 1).flatten(0, -1), &mean) < 1e-3);
    }

    // from sklearn.neighbors import NearestNeighbors; import numpy as np; net with Decoder(313) as above, fill(net)
    // def rgb2lab(x):                                                                              # [N, 3, H, W], D65
    //     x = x.double(); x = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    //     m = torch.tensor([[0.412453, 0.35758, 0.180423], [0.212671, 0.71516, 0.072169], [0.019334, 0.119193, 0.950227]])
    //     x = torch.einsum("ij,njhw->nihw", m.double(), x) / torch.tensor([0.95047, 1., 1.08883]).double()[:, None, None]
    //     f = torch.where(x > 0.008856, x ** (1 / 3), 7.787 * x + 16 / 116)
    //     return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    // low = [5, 2, 0, -2, -3, -4, -5, -5, -6, -7, -8, -8, -9, -10, -10, -11, -11, -11, -11, -9]
    // high = [9] * 4 + [10] * 6 + [9] * 4 + [8] * 3 + [7, 7, 0]
    // bins = torch.tensor([[10. * a, 10. * b] for a, l, h in zip(range(-9, 11), low, high) for b in range(l, h + 1)])
    // knn, seen, opt = NearestNeighbors(n_neighbors=5).fit(bins), torch.zeros(313), torch.optim.SGD(net.parameters(), lr=0.02)
    // for s in range(5):
    //     lab = rgb2lab(wave(s, 4, 3, 8, 8) * 0.5 + 0.5).float(); ab = lab[:, 1:, ::2, ::2].permute(0, 2, 3, 1).flatten(0, 2)
    //     d, i = knn.kneighbors(ab); g = torch.from_numpy(np.exp(-d ** 2 / 50)); g /= g.sum(1, keepdim=True)
    //     Z = torch.zeros(64, 313).scatter(1, torch.from_numpy(i), g.float()); seen += Z.sum(0); p = seen / seen.sum()
    //     grey = lab[:, :1].expand(-1, 3, -1, -1) / 50 - 1
    //     y = net.objective.decoder(net.encoder(grey)).permute(0, 2, 3, 1).flatten(0, 2)
    //     w = 1 / (0.5 * p + 0.5 / 313); w = w / (w * p).sum()
    //     l = (w[Z.argmax(1)] * -(Z * F.log_softmax(y, 1)).sum(1)).mean()
    //     opt.zero_grad(); l.backward(); opt.step(); print(l.item())
    // print([seen[q].item() for q in (96, 144, 171, 182, 192, 201, 300)], (seen * wave(0, 313)).sum(), net.encoder.conv.bias)
    #[test]
    fn equals_pytorch_over_five_steps_with_the_prior_of_all_colours_so_far() {
        let (store, encoder, mut objective) = setup(ColourTarget::Classes, ColourPrior::Empirical);
        for (k, expected) in (0..).zip([4.250_927_4, 4.266_622_1, 4.232_204_9, 5.007_204_5, 4.890_716_1]) {
            let loss = objective.loss(&encoder, &batch(wave(k, &[4, 3, 8, 8])), &step()).unwrap().total;
            assert!((loss.scalar().unwrap() - expected).abs() < 1e-5 * expected, "step {k}: {loss}");
            loss.backward();
            descend(&store, 0.02);
        }
        let seen = &store.variables()["objective.seen"];
        for (bin, expected) in [
            (96, 0.006_909),
            (144, 5.415_377),
            (171, 14.580_083),
            (182, 13.913_073),
            (192, 0.148_431),
            (201, 13.595_31),
            (300, 0.0),
        ] {
            let found = seen.double_value(&[bin]);
            assert!((found - expected).abs() < 1e-4, "bin {bin}: {found}");
        }
        assert!(((seen * wave(0, &[313])).sum(None).scalar().unwrap() - 9.371_18).abs() < 1e-3);
        assert!((seen.sum(None).scalar().unwrap() - 5.0 * 4.0 * 16.0).abs() < 1e-3);
        let bias = Tensor::from_slice(&[-0.000_479_5_f32, 0.192_754_6, 0.295_004_2, 0.258_119_9]);
        assert!(difference(&store.variables()["encoder.conv.bias"], &bias) < 1e-5);
    }

    #[test]
    fn gradients_reach_every_parameter_and_regression_counts_no_colours() {
        for target in [ColourTarget::Classes, ColourTarget::Regression] {
            let (store, encoder, mut objective) = setup(target, ColourPrior::Empirical);
            objective.loss(&encoder, &batch(wave(0, &[4, 3, 8, 8])), &step()).unwrap().total.backward();
            assert_gradients(&store, &[]);
            let counted = store.variables()["objective.seen"].sum(None).scalar().unwrap();
            assert_eq!(counted > 0.0, target == ColourTarget::Classes);
        }
    }

    #[test]
    fn keeps_the_lightness_and_makes_the_colours() {
        for target in [ColourTarget::Classes, ColourTarget::Regression] {
            let (_store, encoder, objective) = setup(target, ColourPrior::Uniform);
            let images = wave(1, &[2, 3, 10, 8]);
            let Reconstruction { input, corrupted, output } =
                objective.reconstruct(&encoder, &images).unwrap();
            let lightness = |x: &Tensor| rgb_to_lab(x).unwrap().narrow(1, 0, 1);
            assert!(difference(&corrupted.narrow(1, 0, 1), &(lightness(&input) / 100.0)) < 1e-4);
            assert_eq!(corrupted.select(1, 0), corrupted.select(1, 2));
            assert_eq!(output.size(), [2, 3, 10, 8]);
            assert!(difference(&output, &input) > 0.01);
        }
    }

    #[test]
    fn rejects_grey_images_and_what_does_not_fit() {
        let fine = config(ColourTarget::Classes, ColourPrior::Uniform);
        let error = built(1, |site| Colorization::new(site, &fine)).unwrap_err().to_string();
        assert_eq!(
            error,
            "images: expected 3 channels: colours are what is learned, and grey images have none, found 1"
        );
        for (config, message) in [
            (ColorizationConfig { lambda: 0.0, ..fine.clone() }, "lambda = 0: a share above 0, up to 1"),
            (ColorizationConfig { stride: 0, ..fine.clone() }, "stride = 0: at least 1"),
            (
                ColorizationConfig { temperature: 0.0, ..fine.clone() },
                "temperature = 0: a number above 0, up to 1",
            ),
        ] {
            let error = built(3, |site| Colorization::new(site, &config)).unwrap_err().to_string();
            assert_eq!(error, message);
        }
        let (_store, encoder, mut objective) = setup(ColourTarget::Classes, ColourPrior::Uniform);
        let error =
            objective.loss(&encoder, &batch(wave(1, &[2, 1, 8, 8])), &step()).unwrap_err().to_string();
        assert_eq!(error, "view 0: expected [_, 3, _, _], found [2, 1, 8, 8]");
        let grey = wave(1, &[2, 1, 8, 8]).expand([2, 3, 8, 8], false);
        let error = objective.loss(&encoder, &batch(grey), &step()).unwrap_err().to_string();
        assert_eq!(error, "images = grey throughout the first batch: images with colours");
        let error = objective.loss(&encoder, &batch(wave(1, &[2, 3, 8, 8]) * 3.0), &step()).unwrap_err();
        assert!(error.to_string().contains("which must be that of the views"), "{error}");
    }
}
