//! How the tests of this family compare with PyTorch: a small encoder, and all parameters filled by one
//! formula, so that a few stored numbers suffice. The same there:
//!
//! ```python
//! import torch, torch.nn as nn, torch.nn.functional as F
//! def wave(k, *shape): return torch.sin(torch.arange(float(torch.Size(shape).numel())) * 0.7 + k).reshape(shape)
//! class Encoder(nn.Module):
//!     def __init__(s, c): super().__init__(); s.conv = nn.Conv2d(c, 4, 3, 2, 1)
//!     def forward(s, x): return torch.tanh(s.conv(x))
//! class Stage(nn.Module):
//!     def __init__(s, i, o):
//!         super().__init__(); s.conv, s.norm = nn.Conv2d(i, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
//!     def forward(s, x): return F.relu(s.norm(s.conv(F.interpolate(x, scale_factor=2))))
//! class Decoder(nn.Module):  # widths [5]
//!     def __init__(s, o):
//!         super().__init__(); s.add_module("0", Stage(4, 5)); s.output = nn.Conv2d(5, o, 3, 1, 1)
//!     def forward(s, x): return s.output(s.get_submodule("0")(x))
//! def fill(net):
//!     for k, (name, p) in enumerate(sorted(net.named_parameters())):
//!         p.data = 1 + 0.1 * wave(k, *p.shape) if name.endswith("norm.weight") else 0.3 * wave(k, *p.shape)
//! def gradients(net):
//!     return [(p.grad * wave(k, *p.shape)).sum().item() for k, (_, p) in enumerate(sorted(net.named_parameters()))]
//! ```

use selfsup_core::layers::{Bias, Conv2d, ConvShape};
use selfsup_core::{
    Device, Encoder, ImageViews, Kind, MapEncoder, Mode, Result, Site, Tensor, TensorExt, check_shape, nn,
    tch,
};

/// A convolution that halves the sides, and tanh.
#[derive(Debug)]
pub(crate) struct Strided {
    conv: Conv2d,
    channels: i64,
}

impl Strided {
    pub(crate) fn new(path: nn::Path, channels: i64) -> Self {
        let shape = ConvShape { kernel: 3, stride: 2, padding: 1 };
        Strided { conv: Conv2d::new(path / "conv", channels, 4, shape, Bias::Yes), channels }
    }
}

impl Encoder for Strided {
    fn dim(&self) -> i64 {
        4
    }
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.map(x, mode)?.1)
    }
}

impl MapEncoder for Strided {
    fn map_dim(&self) -> i64 {
        4
    }
    fn channels(&self) -> i64 {
        self.channels
    }
    fn map(&self, x: &Tensor, _mode: Mode) -> Result<(Tensor, Tensor)> {
        check_shape("images", x, [-1, self.channels, -1, -1])?;
        let map = self.conv.forward(x).tanh();
        let features = map.mean_dim([2_i64, 3].as_slice(), false, None);
        Ok((map, features))
    }
}

/// An encoder and an objective on it, in one store.
pub(crate) fn built<O>(
    channels: i64,
    objective: impl FnOnce(&Site<Strided>) -> Result<O>,
) -> Result<(nn::VarStore, Strided, O)> {
    let store = nn::VarStore::new(Device::Cpu);
    let encoder = Strided::new(store.root() / Site::<Strided>::ENCODER, channels);
    let twin = |path: nn::Path| Ok(Box::new(Strided::new(path, channels)));
    let objective = objective(&Site::new(&store, &encoder, 8, twin))?;
    Ok((store, encoder, objective))
}

pub(crate) fn wave(k: i64, shape: &[i64]) -> Tensor {
    let numbers = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu));
    (numbers * 0.7 + k as f64).sin().reshape(shape)
}

/// One view of images.
pub(crate) fn batch(images: Tensor) -> ImageViews {
    let indices = Tensor::arange(images.size()[0], (Kind::Int64, Device::Cpu));
    ImageViews { views: vec![images], indices, labels: None }
}

fn sorted(store: &nn::VarStore) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

pub(crate) fn fill(store: &nn::VarStore) {
    for (k, (name, mut x)) in (0..).zip(sorted(store)) {
        let u = wave(k, &x.size());
        let value = if name.ends_with("norm.weight") { 1.0 + 0.1 * u } else { 0.3 * u };
        tch::no_grad(|| x.copy_(&value));
    }
}

/// Compares the gradient of every parameter with one number.
pub(crate) fn assert_gradient_sums(store: &nn::VarStore, expected: &[f64]) {
    let all = sorted(store);
    assert_eq!(all.len(), expected.len());
    for ((k, (name, x)), expected) in (0..).zip(all).zip(expected) {
        assert!(x.grad().defined(), "{name} has no gradient");
        let found = (x.grad() * wave(k, &x.size())).sum(None).scalar().unwrap();
        // Against what was added up: terms may cancel.
        let terms = x.grad().abs().sum(None).scalar().unwrap();
        assert!((found - expected).abs() < 1e-5 * terms.max(1.0), "{name}: {found}, not {expected}");
    }
}

pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().scalar().unwrap()
}
