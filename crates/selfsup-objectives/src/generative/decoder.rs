//! From a map of features to an image: stages of nearest-neighbour upsampling, 3x3 convolution, BatchNorm and
//! ReLU, then one 3x3 convolution to the channels that are asked for.
//!
//! Upsampling and convolution stand where the papers have a transposed convolution, which leaves a
//! checkerboard where its kernel overlaps unevenly (Odena, Dumoulin and Olah 2016, *Deconvolution and
//! Checkerboard Artifacts*). The stages reach the asked size by doubling, counted back from it with the
//! rounding of a convolution of stride 2: a map of 4 x 4 becomes 7, 14 and 28. What stages cannot reach by
//! doubling, the first one bridges.

use selfsup_core::layers::{Affine, BatchNorm, Bias, Conv2d, ConvShape};
use selfsup_core::{Error, Mode, Result, Tensor, check_shape, nn};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// The shape of a [`ConvDecoder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvDecoderConfig {
    /// Channels after every stage; each doubles the sides.
    pub widths: Vec<i64>,
}

/// The five up-convolutions of context encoders (Pathak et al. 2016, section 3.1), from a map of 6 to 8 to
/// one of 227.
impl Default for ConvDecoderConfig {
    fn default() -> Self {
        ConvDecoderConfig { widths: vec![512, 256, 128, 64, 32] }
    }
}

/// A decoder of convolutions, with parameters named `I.conv.weight`, `I.norm.weight` and `output.weight`.
#[derive(Debug)]
pub struct ConvDecoder {
    stages: Vec<(Conv2d, BatchNorm)>,
    output: Conv2d,
    inputs: i64,
}

const SAME: ConvShape = ConvShape { kernel: 3, stride: 1, padding: 1 };

impl ConvDecoder {
    /// Makes the parameters under `path`, for maps of `inputs` channels and images of `outputs`.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no stage, or a width is not positive.
    pub fn new<'a>(
        path: impl Borrow<nn::Path<'a>>,
        inputs: i64,
        outputs: i64,
        config: &ConvDecoderConfig,
    ) -> Result<Self> {
        let path = path.borrow();
        let widths = &config.widths;
        if widths.is_empty() || widths.iter().any(|&width| width < 1) {
            let expected = "one size of at least 1 for every stage";
            return Err(Error::config("decoder.widths", format!("{widths:?}"), expected));
        }
        let (mut stages, mut channels) = (Vec::new(), inputs);
        for (i, &width) in widths.iter().enumerate() {
            let path = path / i;
            let conv = Conv2d::new(&path / "conv", channels, width, SAME, Bias::No);
            stages.push((conv, BatchNorm::new(&path / "norm", width, Affine::Yes)));
            channels = width;
        }
        let output = Conv2d::new(path / "output", channels, outputs, SAME, Bias::Yes);
        Ok(ConvDecoder { stages, output, inputs })
    }

    /// Decodes maps to images with these sides, height first.
    ///
    /// # Shapes
    /// `[N, inputs, h, w]` to `[N, outputs, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the map has other channels, or BatchNorm would train on a single value.
    pub fn forward(&self, map: &Tensor, size: [i64; 2], mode: Mode) -> Result<Tensor> {
        let [n, _, h, w] = check_shape("map", map, [-1, self.inputs, -1, -1])?;
        let sizes = self.sizes([h, w], size);
        if mode.is_train() && sizes.iter().any(|[h, w]| n * h * w < 2) {
            return Err(Error::Shape {
                name: "map".to_owned(),
                expected: "more than one value a channel for BatchNorm to train on".to_owned(),
                found: format!("{:?}", map.size()),
            });
        }
        let mut x = map.shallow_clone();
        for ((conv, norm), size) in self.stages.iter().zip(sizes) {
            x = x.upsample_nearest2d(size, None, None);
            x = norm.forward(&conv.forward(&x), mode).relu(); // [N, width, H', W']
        }
        Ok(self.output.forward(&x))
    }

    /// The sides after every stage.
    fn sizes(&self, map: [i64; 2], size: [i64; 2]) -> Vec<[i64; 2]> {
        let halved = |sides: &[i64; 2]| Some([0, 1].map(|i| ((sides[i] + 1) / 2).max(map[i].min(size[i]))));
        let mut sizes: Vec<_> = std::iter::successors(Some(size), halved).take(self.stages.len()).collect();
        sizes.reverse();
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind};

    fn decoder(stages: usize) -> (nn::VarStore, ConvDecoder) {
        let store = nn::VarStore::new(Device::Cpu);
        let config = ConvDecoderConfig { widths: vec![4; stages] };
        let decoder = ConvDecoder::new(store.root(), 6, 3, &config).unwrap();
        (store, decoder)
    }

    #[test]
    fn reaches_any_size_by_doubling_and_leaves_the_rest_to_the_first_stage() {
        let (_store, decoder) = decoder(3);
        for (map, size, expected) in [
            ([4, 4], [28, 28], vec![[7, 7], [14, 14], [28, 28]]),
            ([4, 3], [28, 20], vec![[7, 5], [14, 10], [28, 20]]),
            ([7, 7], [28, 28], vec![[7, 7], [14, 14], [28, 28]]),
            ([7, 7], [224, 224], vec![[56, 56], [112, 112], [224, 224]]),
            ([8, 8], [4, 4], vec![[4, 4], [4, 4], [4, 4]]),
        ] {
            assert_eq!(decoder.sizes(map, size), expected);
            let map = Tensor::ones([2, 6, map[0], map[1]], (Kind::Float, Device::Cpu));
            let image = decoder.forward(&map, size, Mode::Train).unwrap();
            assert_eq!(image.size(), [2, 3, size[0], size[1]]);
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (store, decoder) = decoder(1);
        let map = Tensor::ones([1, 6, 1, 1], (Kind::Float, Device::Cpu));
        let error = decoder.forward(&map.narrow(1, 0, 5), [2, 2], Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "map: expected [_, 6, _, _], found [1, 5, 1, 1]");
        let error = decoder.forward(&map, [1, 1], Mode::Train).unwrap_err().to_string();
        assert!(error.contains("for BatchNorm to train on"), "{error}");
        let none = ConvDecoderConfig { widths: Vec::new() };
        let error = ConvDecoder::new(store.root() / "none", 6, 3, &none).unwrap_err().to_string();
        assert_eq!(error, "decoder.widths = []: one size of at least 1 for every stage");
    }
}
