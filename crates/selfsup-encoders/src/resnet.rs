//! ResNet-18, -34 and -50 (He et al. 2016, *Deep residual learning for image recognition*, table 1): every block adds
//! what it computes to its input, `y = relu(F(x) + x)`.
//!
//! Parameter names, shapes and initialisation are torchvision's, without the classifier `fc`. As there, and unlike the
//! paper, the stride of a bottleneck block stands at its 3x3 convolution (known as ResNet v1.5).

use crate::convnet::global_average;
use crate::input::{check_batch_statistics, check_images, check_sizes};
use selfsup_core::layers::{Affine, BatchNorm, Bias, Conv2d, ConvShape};
use selfsup_core::{Encoder, Error, Kind, MapEncoder, Mode, Precision, Result, Tensor, nn, tch};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// What stands before the first block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// A 7x7 convolution with stride 2 and a 3x3 max-pool with stride 2: for images of about 224 pixels.
    #[default]
    ImageNet,
    /// A 3x3 convolution with stride 1 and no pool (SimCLR, appendix B.9): for images of about 32 pixels.
    Cifar,
}

/// The shape of a [`ResNet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// The number of layers: 18, 34 or 50.
    pub depth: i64,
    /// Channels of the images: 1 for grey, 3 for colour.
    pub channels_in: i64,
    /// What stands before the first block.
    pub stem: Stem,
    /// Whether the last norm of every block starts at zero, so that the block starts as the identity (Goyal et al.
    /// 2017, section 5.1). torchvision's default is not to.
    pub zero_init_residual: bool,
    /// In what it computes while it is trained.
    pub precision: Precision,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        ResNetConfig {
            depth: 18,
            channels_in: 3,
            stem: Stem::ImageNet,
            zero_init_residual: false,
            precision: Precision::Float32,
        }
    }
}

#[derive(Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(conv: &nn::Path, norm: &nn::Path, inputs: i64, outputs: i64, shape: ConvShape) -> Self {
        let conv = Conv2d::new(conv, inputs, outputs, shape, Bias::No);
        // Kaiming's normal distribution over the fan-out, which keeps the gradients' size through the ReLUs.
        let std = (2.0 / (outputs * shape.kernel * shape.kernel) as f64).sqrt();
        tch::no_grad(|| drop(conv.weight.shallow_clone().normal_(0.0, std)));
        ConvNorm { conv, norm: BatchNorm::new(norm, outputs, Affine::Yes) }
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.norm.forward(&self.conv.forward(x), mode)
    }
}

/// Two 3x3 layers (18, 34), or 1x1, 3x3, 1x1 (50), and a way around them.
#[derive(Debug)]
struct Block {
    layers: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

impl Block {
    /// `shapes` holds output channels and geometry of every layer.
    fn new(path: &nn::Path, inputs: i64, shapes: &[(i64, ConvShape)], zero_init: bool) -> Self {
        let (mut layers, mut channels, mut stride) = (Vec::new(), inputs, 1);
        for (i, &(outputs, shape)) in (1..).zip(shapes) {
            let (conv, norm) = (path / format!("conv{i}"), path / format!("bn{i}"));
            layers.push(ConvNorm::new(&conv, &norm, channels, outputs, shape));
            channels = outputs;
            stride *= shape.stride;
        }
        let downsample = (stride != 1 || channels != inputs).then(|| {
            let (path, shape) = (path / "downsample", ConvShape { kernel: 1, stride, padding: 0 });
            ConvNorm::new(&(&path / 0), &(&path / 1), inputs, channels, shape)
        });
        if zero_init && let Some(weight) = layers.last().and_then(|last| last.norm.weight.as_ref()) {
            tch::no_grad(|| drop(weight.shallow_clone().zero_()));
        }
        Block { layers, downsample }
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let mut y = x.shallow_clone();
        for (i, layer) in self.layers.iter().enumerate() {
            y = layer.forward(&y, mode);
            if i + 1 < self.layers.len() {
                // In place here and below: BatchNorm's backward needs its input, not its output.
                y = y.relu_();
            }
        }
        let mut sum = match &self.downsample {
            Some(downsample) => y.g_add_(&downsample.forward(x, mode)),
            None => y.g_add_(x),
        };
        sum.relu_()
    }
}

/// A residual network; its features are the average over all places of the last map, 512 (18, 34) or 2048 (50).
#[derive(Debug)]
pub struct ResNet {
    config: ResNetConfig,
    stem: ConvNorm,
    layers: [Vec<Block>; 4],
    dim: i64,
}

impl ResNet {
    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when `depth` is none of the known ones or `channels_in` is not positive.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, config: &ResNetConfig) -> Result<Self> {
        let path = path.borrow();
        check_sizes(&[("channels_in", config.channels_in)])?;
        let (counts, is_bottleneck) = match config.depth {
            18 => ([2, 2, 2, 2], false),
            34 => ([3, 4, 6, 3], false),
            50 => ([3, 4, 6, 3], true),
            depth => return Err(Error::config("depth", depth, "18, 34 or 50")),
        };
        let stem = match config.stem {
            Stem::ImageNet => ConvShape { kernel: 7, stride: 2, padding: 3 },
            Stem::Cifar => ConvShape { kernel: 3, stride: 1, padding: 1 },
        };
        let stem = ConvNorm::new(&(path / "conv1"), &(path / "bn1"), config.channels_in, 64, stem);
        let mut channels = 64;
        let layers = std::array::from_fn(|stage| {
            let (width, path) = (64 << stage, path / format!("layer{}", stage + 1));
            let mut blocks = Vec::new();
            for i in 0..counts[stage] {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let point = ConvShape { kernel: 1, stride: 1, padding: 0 };
                let square = |stride| ConvShape { kernel: 3, stride, padding: 1 };
                let shapes = if is_bottleneck {
                    vec![(width, point), (width, square(stride)), (4 * width, point)]
                } else {
                    vec![(width, square(stride)), (width, square(1))]
                };
                blocks.push(Block::new(&(&path / i), channels, &shapes, config.zero_init_residual));
                channels = if is_bottleneck { 4 * width } else { width };
            }
            blocks
        });
        Ok(ResNet { config: config.clone(), stem, layers, dim: channels })
    }

    fn forward(&self, x: &Tensor, mode: Mode, visit: &mut dyn FnMut(String, &Tensor)) -> Result<Tensor> {
        let [n, h, w] = check_images(x, self.config.channels_in, &self.stem.conv.weight)?;
        let halvings = if self.config.stem == Stem::ImageNet { 5 } else { 3 };
        let last = |side: i64| (0..halvings).fold(side, |side, _| (side + 1) / 2);
        check_batch_statistics(n, last(h), last(w), mode)?;
        let _lowered = self.config.precision.lower(x.device(), mode);
        let mut x = self.stem.forward(x, mode).relu_(); // [N, 64, H', W']
        if self.config.stem == Stem::ImageNet {
            x = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        }
        visit("conv1".to_owned(), &x);
        for (stage, blocks) in (1..).zip(&self.layers) {
            for block in blocks {
                x = block.forward(&x, mode);
            }
            visit(format!("layer{stage}"), &x);
        }
        Ok(x) // [N, D, H', W']
    }
}

impl MapEncoder for ResNet {
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

impl Encoder for ResNet {
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

    /// `conv1` (the whole stem), `layer1` to `layer4`, `[N, C, H', W']`, and `features`.
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
    use crate::reference::{assert_ends, assert_gradients, fill, fingerprint, images, parameters};
    use selfsup_core::{Device, Kind, TensorExt};

    fn config(depth: i64) -> ResNetConfig {
        ResNetConfig { depth, ..ResNetConfig::default() }
    }

    // for name in ["resnet18", "resnet34", "resnet50"]:
    //     m = getattr(torchvision.models, name)(); m.fc = torch.nn.Identity()
    //     print(fingerprint(m), sum(p.numel() for p in m.parameters()), ends(fill(m)(wave(1000, [2, 3, 40, 56]))))
    #[test]
    fn equals_torchvision() {
        let references = [
            (
                (18, 0x6577_e530_a563_ffc3, 11_176_512),
                [1.537479, 0.189035, 0.202458, 0.447625, 0.106993, 0.350678, 0.126662, 0.161421],
            ),
            (
                (34, 0x017e_9914_819e_739d, 21_284_672),
                [0.423796, 0.0, 0.029454, 0.069847, 0.0, 0.090813, 0.140493, 0.0],
            ),
            (
                (50, 0x0242_e62c_4e0b_e299, 23_508_032),
                [0.0, 0.714165, 0.0, 0.270105, 0.0, 0.519473, 0.0, 0.007295],
            ),
        ];
        for ((depth, names, count), expected) in references {
            let store = nn::VarStore::new(Device::Cpu);
            let network = ResNet::new(store.root(), &config(depth)).unwrap();
            assert_eq!((fingerprint(&store), parameters(&store)), (names, count), "depth {depth}");
            fill(&store);
            assert_ends(&network.encode(&images([2, 3, 40, 56]), Mode::Eval).unwrap(), expected);
        }
    }

    // m = torchvision.models.resnet18(); m.fc = m.maxpool = torch.nn.Identity()
    // m.conv1 = torch.nn.Conv2d(1, 64, 3, 1, 1, bias=False); fill(m)
    // x = wave(1000, [2, 1, 12, 16]); print(ends(m(x))); m.train(); print(ends(m(x))); m.eval(); print(ends(m(x)))
    #[test]
    fn equals_torchvision_with_a_small_stem_before_in_and_after_training() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = ResNetConfig { channels_in: 1, stem: Stem::Cifar, ..config(18) };
        let network = ResNet::new(store.root(), &config).unwrap();
        fill(&store);
        let x = images([2, 1, 12, 16]);
        for (mode, expected) in [
            (Mode::Eval, [1.101787, 0.127555, 0.406005, 0.4065, 0.065217, 0.132327, 0.099997, 0.143839]),
            (Mode::Train, [1.030276, 0.845975, 0.633595, 0.353154, 0.31177, 0.548452, 1.414392, 1.07116]),
            (Mode::Eval, [0.971133, 0.115602, 0.435585, 0.357035, 0.060216, 0.036561, 0.068778, 0.167927]),
        ] {
            assert_ends(&network.encode(&x, mode).unwrap(), expected);
        }
    }

    #[test]
    fn starts_as_torchvision_does() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = ResNetConfig { zero_init_residual: true, ..config(18) };
        let network = ResNet::new(store.root(), &config).unwrap();
        let all = store.variables();
        // kaiming_normal_, fan_out: sqrt(2 / (512 * 9)) and sqrt(2 / (512 * 1))
        for (name, expected) in
            [("layer4.0.conv1.weight", 0.020_833), ("layer4.0.downsample.0.weight", 0.0625)]
        {
            assert!((all[name].std(false).scalar().unwrap() / expected - 1.0).abs() < 0.015, "{name}");
        }
        assert_eq!(all["bn1.weight"].min().scalar().unwrap(), 1.0);
        assert_eq!(all["layer4.1.bn2.weight"].abs().max().scalar().unwrap(), 0.0);
        assert_eq!(all["layer4.0.downsample.1.weight"].min().scalar().unwrap(), 1.0);
        // A block without downsampling is the identity then.
        let all = network.intermediate(&images([2, 3, 32, 32]), Mode::Eval).unwrap();
        assert_eq!(all[0].1, all[1].1);
    }

    #[test]
    fn names_its_intermediate_features() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = ResNet::new(store.root(), &config(50)).unwrap();
        let all = network.intermediate(&images([1, 3, 64, 40]), Mode::Eval).unwrap();
        let shapes: Vec<_> = all.iter().map(|(name, x)| format!("{name} {:?}", x.size())).collect();
        assert_eq!(
            shapes,
            [
                "conv1 [1, 64, 16, 10]",
                "layer1 [1, 256, 16, 10]",
                "layer2 [1, 512, 8, 5]",
                "layer3 [1, 1024, 4, 3]",
                "layer4 [1, 2048, 2, 2]",
                "features [1, 2048]",
            ]
        );
        assert_eq!(network.dim(), 2048);
    }

    #[test]
    fn gradients_reach_all_parameters() {
        for depth in [18, 50] {
            let store = nn::VarStore::new(Device::Cpu);
            let network = ResNet::new(store.root(), &config(depth)).unwrap();
            assert_gradients(&store, &network.encode(&images([4, 3, 64, 64]), Mode::Train).unwrap());
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        let error = ResNet::new(store.root() / "a", &config(20)).unwrap_err().to_string();
        assert_eq!(error, "depth = 20: 18, 34 or 50");
        let network = ResNet::new(store.root() / "b", &config(18)).unwrap();
        let x = Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu));
        let error = network.encode(&x, Mode::Train).unwrap_err().to_string();
        assert!(error.contains("1 sample of 1 x 1 places in the last layer"), "{error}");
        assert!(network.encode(&x.narrow(2, 0, 1), Mode::Eval).is_ok());
        let error = network.encode(&x.narrow(1, 0, 1), Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "images: expected [_, 3, _, _], found [1, 1, 32, 32]");
    }
}
