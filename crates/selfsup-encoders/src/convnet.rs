//! A small convolutional network for images of 28 to 64 pixels a side: blocks of 3x3 convolution, BatchNorm and ReLU,
//! then the mean over all places.
//!
//! It is what a laptop without a GPU can pretrain in minutes. The convolutions have no bias, since BatchNorm would
//! remove it, and PyTorch's default initialisation. Channels-last memory stays channels-last through the network and
//! NCHW stays NCHW; nothing is copied to change it.

use crate::input::{check_batch_statistics, check_images, check_sizes};
use selfsup_core::layers::{Affine, BatchNorm, Bias, Conv2d, ConvShape};
use selfsup_core::{Encoder, Error, Mode, Result, Tensor, nn};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// The shape of a [`ConvNet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvNetConfig {
    /// Channels of the images: 1 for grey, 3 for colour.
    pub channels_in: i64,
    /// Channels after every block; the last is the number of features.
    pub widths: Vec<i64>,
    /// The stride of every block's convolution.
    pub strides: Vec<i64>,
}

impl Default for ConvNetConfig {
    fn default() -> Self {
        ConvNetConfig { channels_in: 3, widths: vec![32, 64, 128, 256], strides: vec![1, 2, 2, 2] }
    }
}

/// A row of convolution blocks and a global average.
///
/// Parameters are named `blocks.I.conv.weight`, `blocks.I.norm.weight` and so on.
#[derive(Debug)]
pub struct ConvNet {
    config: ConvNetConfig,
    blocks: Vec<(Conv2d, BatchNorm)>,
    dim: i64,
}

impl ConvNet {
    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive, or `widths` and `strides` are empty or differ in length.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, config: &ConvNetConfig) -> Result<Self> {
        let ConvNetConfig { channels_in, widths, strides } = config;
        check_sizes(&[("channels_in", *channels_in)])?;
        if widths.is_empty() || widths.iter().any(|&w| w < 1) {
            return Err(Error::config(
                "widths",
                format!("{widths:?}"),
                "one size of at least 1 for every block",
            ));
        }
        if strides.len() != widths.len() || strides.iter().any(|&s| s < 1) {
            let expected = format!("{} strides of at least 1, as many as widths", widths.len());
            return Err(Error::config("strides", format!("{strides:?}"), expected));
        }
        let path = path.borrow() / "blocks";
        let (mut blocks, mut channels) = (Vec::new(), *channels_in);
        for (i, (&width, &stride)) in widths.iter().zip(strides).enumerate() {
            let (path, shape) = (&path / i, ConvShape { kernel: 3, stride, padding: 1 });
            let conv = Conv2d::new(&path / "conv", channels, width, shape, Bias::No);
            blocks.push((conv, BatchNorm::new(&path / "norm", width, Affine::Yes)));
            channels = width;
        }
        Ok(ConvNet { config: config.clone(), blocks, dim: channels })
    }

    fn forward(&self, x: &Tensor, mode: Mode, visit: &mut dyn FnMut(String, &Tensor)) -> Result<Tensor> {
        let [n, h, w] = check_images(x, self.config.channels_in, &self.blocks[0].0.weight)?;
        let last = |side: i64| self.config.strides.iter().fold(side, |side, stride| (side - 1) / stride + 1);
        check_batch_statistics(n, last(h), last(w), mode)?;
        let mut x = x.shallow_clone();
        for (i, (conv, norm)) in self.blocks.iter().enumerate() {
            // In place: BatchNorm's backward needs its input, not its output.
            x = norm.forward(&conv.forward(&x), mode).relu_(); // [N, width, H', W']
            visit(format!("blocks.{i}"), &x);
        }
        Ok(x.mean_dim([2_i64, 3].as_slice(), false, None)) // [N, D]
    }
}

impl Encoder for ConvNet {
    fn dim(&self) -> i64 {
        self.dim
    }

    /// # Shapes
    /// `[N, channels_in, H, W]` Float to `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images have other channels, or are too few and small for BatchNorm to train on.
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward(x, mode, &mut |_, _| ())
    }

    /// `blocks.0`, `blocks.1`, ..., `[N, width, H', W']`, and `features`.
    fn intermediate(&self, x: &Tensor, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        let features = self.forward(x, mode, &mut |name, x| all.push((name, x.shallow_clone())))?;
        all.push(("features".to_owned(), features));
        Ok(all)
    }
}
