//! A small convolutional network for images of 28 to 64 pixels a side: blocks of 3x3 convolution, BatchNorm and ReLU,
//! then the mean over all places.
//!
//! It is what a laptop without a GPU can pretrain in minutes. The convolutions have no bias, since BatchNorm would
//! remove it, and PyTorch's default initialisation. Channels-last memory stays channels-last through the network and
//! NCHW stays NCHW; nothing is copied to change it.

use crate::input::{check_batch_statistics, check_images, check_sizes};
use selfsup_core::layers::{Affine, BatchNorm, Bias, Conv2d, ConvShape};
use selfsup_core::{Encoder, Error, Kind, MapEncoder, Mode, Precision, Result, Tensor, nn};
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
    /// In what it computes while it is trained.
    pub precision: Precision,
}

impl Default for ConvNetConfig {
    fn default() -> Self {
        ConvNetConfig {
            channels_in: 3,
            widths: vec![32, 64, 128, 256],
            strides: vec![1, 2, 2, 2],
            precision: Precision::Float32,
        }
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
        let ConvNetConfig { channels_in, widths, strides, .. } = config;
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
        let _lowered = self.config.precision.lower(x.device(), mode);
        let mut x = x.shallow_clone();
        for (i, (conv, norm)) in self.blocks.iter().enumerate() {
            // In place: BatchNorm's backward needs its input, not its output.
            x = norm.forward(&conv.forward(&x), mode).relu_(); // [N, width, H', W']
            visit(format!("blocks.{i}"), &x);
        }
        Ok(x) // [N, D, H', W']
    }
}

/// The mean over all places, `[N, C, H', W']` to `[N, C]`.
pub(crate) fn global_average(map: &Tensor) -> Tensor {
    map.mean_dim([2_i64, 3].as_slice(), false, Kind::Float)
}

impl MapEncoder for ConvNet {
    fn map_dim(&self) -> i64 {
        self.dim
    }

    fn channels(&self) -> i64 {
        self.config.channels_in
    }

    fn map(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let map = self.forward(x, mode, &mut |_, _| ())?;
        let features = global_average(&map);
        Ok((map.to_kind(Kind::Float), features))
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
        Ok(global_average(&self.forward(x, mode, &mut |_, _| ())?))
    }

    /// `blocks.0`, `blocks.1`, ..., `[N, width, H', W']`, and `features`.
    fn intermediate(&self, x: &Tensor, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        let map = self.forward(x, mode, &mut |name, x| all.push((name, x.shallow_clone())))?;
        all.push(("features".to_owned(), global_average(&map)));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{
        assert_ends, assert_gradients, difference, fill, fingerprint, images, parameters,
    };
    use selfsup_core::{Device, Kind};

    fn grey() -> ConvNetConfig {
        ConvNetConfig { channels_in: 1, ..ConvNetConfig::default() }
    }

    // class Block(torch.nn.Sequential):
    //     def __init__(s, i, o, stride):
    //         super().__init__()
    //         s.conv, s.norm = torch.nn.Conv2d(i, o, 3, stride, 1, bias=False), torch.nn.BatchNorm2d(o)
    //         s.relu = torch.nn.ReLU()
    // class Net(torch.nn.Module):
    //     def __init__(s, sizes, strides):
    //         super().__init__()
    //         s.blocks = torch.nn.Sequential(*map(Block, sizes, sizes[1:], strides))
    //     def forward(s, x): return s.blocks(x).mean((2, 3))
    // m = fill(Net([1, 32, 64, 128, 256], [1, 2, 2, 2])); x = wave(1000, [2, 1, 28, 20])
    // print(fingerprint(m), sum(p.numel() for p in m.parameters()), ends(m(x))); m.train(); print(ends(m(x)))
    #[test]
    fn equals_the_same_layers_in_pytorch() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = ConvNet::new(store.root(), &grey()).unwrap();
        assert_eq!((fingerprint(&store), parameters(&store)), (0x295e_1566_6864_b0a1, 388320));
        fill(&store);
        let x = images([2, 1, 28, 20]);
        assert_ends(
            &network.encode(&x, Mode::Eval).unwrap(),
            [0.260478, 0.075138, 0.318065, 0.30488, 0.048821, 0.113176, 0.347561, 0.096257],
        );
        assert_ends(
            &network.encode(&x, Mode::Train).unwrap(),
            [0.192243, 0.684715, 0.469486, 0.470496, 0.530631, 0.500016, 0.591156, 0.123218],
        );
    }

    #[test]
    fn keeps_the_memory_layout_it_is_given() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = ConvNet::new(store.root(), &ConvNetConfig::default()).unwrap();
        let rows = images([4, 3, 28, 28]);
        let channels_last = rows.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let found = network.intermediate(&channels_last, Mode::Eval).unwrap();
        let expected = network.intermediate(&rows, Mode::Eval).unwrap();
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            assert!(difference(found, expected) < 1e-5, "{name}");
            assert!(expected.is_contiguous(), "{name}");
            assert!(found.dim() == 2 || found.permute([0, 2, 3, 1]).is_contiguous(), "{name}");
        }
    }

    #[test]
    fn names_its_intermediate_features() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = ConvNet::new(store.root(), &grey()).unwrap();
        let all = network.intermediate(&images([2, 1, 27, 20]), Mode::Eval).unwrap();
        let shapes: Vec<_> = all.iter().map(|(name, x)| format!("{name} {:?}", x.size())).collect();
        assert_eq!(
            shapes,
            [
                "blocks.0 [2, 32, 27, 20]",
                "blocks.1 [2, 64, 14, 10]",
                "blocks.2 [2, 128, 7, 5]",
                "blocks.3 [2, 256, 4, 3]",
                "features [2, 256]",
            ]
        );
        assert_eq!(network.dim(), 256);
    }

    #[test]
    fn gradients_reach_all_parameters() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = ConvNet::new(store.root(), &grey()).unwrap();
        assert_gradients(&store, &network.encode(&images([4, 1, 28, 28]), Mode::Train).unwrap());
    }

    #[test]
    fn rejects_images_that_do_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = ConvNet::new(store.root(), &grey()).unwrap();
        let error = |x: &Tensor, mode| network.encode(x, mode).unwrap_err().to_string();
        let options = (Kind::Float, Device::Cpu);
        assert_eq!(
            error(&Tensor::zeros([2, 3, 28, 28], options), Mode::Eval),
            "images: expected [_, 1, _, _], found [2, 3, 28, 28]"
        );
        assert!(error(&Tensor::zeros([2, 28, 28], options), Mode::Eval).contains("found [2, 28, 28]"));
        assert!(error(&Tensor::zeros([0, 1, 28, 28], options), Mode::Eval).contains("at least one sample"));
        assert!(
            error(&Tensor::zeros([1, 1, 8, 8], options), Mode::Train).contains("1 sample of 1 x 1 places")
        );
        assert!(network.encode(&Tensor::zeros([1, 1, 8, 8], options), Mode::Eval).is_ok());
        assert_eq!(
            error(&Tensor::zeros([2, 1, 28, 28], (Kind::Uint8, Device::Cpu)), Mode::Eval),
            "images: expected elements of kind Float, found Uint8"
        );
    }

    #[test]
    fn rejects_sizes_that_do_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        let error = |config| ConvNet::new(store.root(), &config).unwrap_err().to_string();
        assert_eq!(
            error(ConvNetConfig { strides: vec![1, 2], ..grey() }),
            "strides = [1, 2]: 4 strides of at least 1, as many as widths"
        );
        assert!(error(ConvNetConfig { widths: vec![], strides: vec![], ..grey() }).contains("widths = []"));
        assert!(error(ConvNetConfig { channels_in: 0, ..grey() }).contains("channels_in = 0"));
    }
}
