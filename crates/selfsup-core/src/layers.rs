//! Layers with PyTorch's initialisation, parameter names and defaults.
//!
//! tch's own layers differ from PyTorch's: BatchNorm's scale is drawn from U(0, 1) instead of being 1, a linear
//! layer's bounds are wider, and BatchNorm does not count its batches. These layers make what
//! `torch.nn` makes, so that weights and results carry over. Draws come from libtorch's generator: seed it with
//! [`Key::seed_torch`](crate::Key::seed_torch) before building a network.
//!
//! A layer's `forward` panics on a shape that does not fit, as tch's operators do; networks check their input at
//! their public entry.

use crate::{Kind, Mode, Tensor, nn};
use std::borrow::Borrow;

/// Draws from U(-bound, bound).
fn uniform(path: &nn::Path, name: &str, shape: &[i64], bound: f64) -> Tensor {
    let x = Tensor::empty(shape, (Kind::Float, path.device())).uniform_(-bound, bound);
    path.add(name, x, true)
}

fn constant(path: &nn::Path, name: &str, shape: &[i64], value: f64) -> Tensor {
    path.add(name, Tensor::full(shape, value, (Kind::Float, path.device())), true)
}

/// Whether a layer adds a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// A trainable bias.
    Yes,
    /// None, as before a normalisation that removes it.
    No,
}

/// `torch.nn.Linear`: weight `[out, in]` and bias `[out]` from U(-1/sqrt(in), 1/sqrt(in)).
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Makes the layer's parameters under `path`.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, inputs: i64, outputs: i64, bias: Bias) -> Self {
        let path = path.borrow();
        let bound = 1.0 / (inputs as f64).sqrt();
        Linear {
            weight: uniform(path, "weight", &[outputs, inputs], bound),
            bias: (bias == Bias::Yes).then(|| uniform(path, "bias", &[outputs], bound)),
        }
    }

    /// `[..., in]` to `[..., out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// `torch.nn.Conv2d` with a square kernel: weight `[out, in, k, k]` and bias from U(-b, b), b = 1/sqrt(in k k).
#[derive(Debug)]
pub struct Conv2d {
    /// `[out, in, k, k]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

/// The geometry of a [`Conv2d`].
#[derive(Clone, Copy, Debug)]
pub struct ConvShape {
    /// The kernel's width and height.
    pub kernel: i64,
    /// The step between two places of the kernel.
    pub stride: i64,
    /// Zeros added on every side.
    pub padding: i64,
}

impl Conv2d {
    /// Makes the layer's parameters under `path`.
    pub fn new<'a>(
        path: impl Borrow<nn::Path<'a>>,
        inputs: i64,
        outputs: i64,
        shape: ConvShape,
        bias: Bias,
    ) -> Self {
        let path = path.borrow();
        let ConvShape { kernel, stride, padding } = shape;
        let bound = 1.0 / ((inputs * kernel * kernel) as f64).sqrt();
        Conv2d {
            weight: uniform(path, "weight", &[outputs, inputs, kernel, kernel], bound),
            bias: (bias == Bias::Yes).then(|| uniform(path, "bias", &[outputs], bound)),
            stride,
            padding,
        }
    }

    /// `[N, in, H, W]` to `[N, out, H', W']`; channels-last memory stays channels-last.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (s, p) = (self.stride, self.padding);
        x.conv2d(&self.weight, self.bias.as_ref(), [s, s], [p, p], [1, 1], 1)
    }
}

/// Whether a normalisation has a trainable scale and shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affine {
    /// Scale 1 and shift 0 at first.
    Yes,
    /// None.
    No,
}

/// `torch.nn.BatchNorm1d` and `BatchNorm2d`: eps 1e-5, momentum 0.1, running statistics and their count.
#[derive(Debug)]
pub struct BatchNorm {
    /// `[C]`, 1 at first
    pub weight: Option<Tensor>,
    /// `[C]`, 0 at first
    pub bias: Option<Tensor>,
    /// `[C]`
    pub running_mean: Tensor,
    /// `[C]`
    pub running_var: Tensor,
    /// Int64 scalar
    pub num_batches_tracked: Tensor,
}

impl BatchNorm {
    /// Makes the layer's parameters and buffers under `path`.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, channels: i64, affine: Affine) -> Self {
        let path = path.borrow();
        let options = (Kind::Float, path.device());
        BatchNorm {
            weight: (affine == Affine::Yes).then(|| constant(path, "weight", &[channels], 1.0)),
            bias: (affine == Affine::Yes).then(|| constant(path, "bias", &[channels], 0.0)),
            running_mean: path.add("running_mean", Tensor::zeros([channels], options), false),
            running_var: path.add("running_var", Tensor::ones([channels], options), false),
            num_batches_tracked: path.add(
                "num_batches_tracked",
                Tensor::zeros([0_i64; 0], (Kind::Int64, path.device())),
                false,
            ),
        }
    }

    /// `[N, C, ...]` to the same shape.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        if mode.is_train() {
            let _ = self.num_batches_tracked.shallow_clone().g_add_scalar_(1);
        }
        let (mean, var) = (Some(&self.running_mean), Some(&self.running_var));
        x.batch_norm(self.weight.as_ref(), self.bias.as_ref(), mean, var, mode.is_train(), 0.1, 1e-5, true)
    }
}

/// `torch.nn.LayerNorm` over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    /// `[D]`, 1 at first
    pub weight: Tensor,
    /// `[D]`, 0 at first
    pub bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Makes the layer's parameters under `path`. PyTorch's eps is 1e-5, timm's in ViT 1e-6.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, dim: i64, eps: f64) -> Self {
        let path = path.borrow();
        LayerNorm {
            weight: constant(path, "weight", &[dim], 1.0),
            bias: constant(path, "bias", &[dim], 0.0),
            eps,
        }
    }

    /// `[..., D]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// `torch.nn.Embedding`: rows from N(0, 1).
#[derive(Debug)]
pub struct Embedding {
    /// `[rows, D]`
    pub weight: Tensor,
}

impl Embedding {
    /// Makes the table under `path`.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, rows: i64, dim: i64) -> Self {
        let path = path.borrow();
        let weight = Tensor::randn([rows, dim], (Kind::Float, path.device()));
        Embedding { weight: path.add("weight", weight, true) }
    }

    /// Int64 `[...]` to `[..., D]`. An index outside the table is libtorch's panic: check before.
    pub fn forward(&self, indices: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, indices, -1, false, false)
    }
}

/// Fills a parameter from a normal distribution around 0.
pub fn normal(parameter: &Tensor, std: f64) {
    tch::no_grad(|| drop(parameter.shallow_clone().normal_(0.0, std)));
}

/// Fills a weight `[out, ...]` from the uniform distribution of Glorot and Bengio 2010, *Understanding the difficulty of training
/// deep feedforward neural networks*, equation 16: bounded by `sqrt(6 / (in + out))`, where a kernel is one row of inputs.
pub fn xavier_uniform(weight: &Tensor) {
    let outputs = weight.size().first().copied().unwrap_or(1).max(1);
    let inputs = weight.numel() as i64 / outputs;
    let bound = (6.0 / (inputs + outputs) as f64).sqrt();
    tch::no_grad(|| drop(weight.shallow_clone().uniform_(-bound, bound)));
}

/// Fills a parameter from a normal distribution cut off at two standard deviations, as BERT does. (timm's and PyTorch's
/// `trunc_normal_` cuts at the values -2 and 2 instead: with a standard deviation of 0.02 that is [`normal`].)
pub fn truncated_normal(parameter: &Tensor, std: f64) {
    tch::no_grad(|| {
        // Inverse of the distribution function, which is uniform between the two cuts: erf(2 / sqrt 2) is the mass between them.
        let cut = 0.954_499_736_103_641_6;
        let u = parameter.empty_like().uniform_(-cut, cut);
        let values = u.erfinv() * (std * std::f64::consts::SQRT_2);
        parameter.shallow_clone().copy_(&values.clamp(-2.0 * std, 2.0 * std));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Key, TensorExt};

    #[test]
    fn batch_norm_counts_and_averages_as_pytorch_does() {
        // bn = torch.nn.BatchNorm1d(2); x = torch.tensor([[1., 2.], [3., 6.]]); y = bn(bn(x))
        // print(y, bn.running_mean, bn.running_var, bn.num_batches_tracked)
        let store = nn::VarStore::new(Device::Cpu);
        let norm = BatchNorm::new(store.root(), 2, Affine::Yes);
        let x = Tensor::from_slice2(&[[1.0_f32, 2.0], [3.0, 6.0]]);
        let y = norm.forward(&norm.forward(&x, Mode::Train), Mode::Train);
        assert!((y.double_value(&[1, 1]) - 0.999_995).abs() < 1e-5);
        assert_eq!(i64::try_from(&norm.num_batches_tracked).unwrap(), 2);
        // 0.9 * (0.1 * mean) + 0.1 * 0 and 0.9 * (0.9 + 0.1 * var) + 0.1 * 2, with the unbiased variances 2 and 8
        assert!((norm.running_mean.double_value(&[0]) - 0.18).abs() < 1e-6);
        assert!((norm.running_var.double_value(&[1]) - (0.9 * (0.9 + 0.8) + 0.2)).abs() < 1e-4);
        let before = norm.running_mean.copy();
        let _ = norm.forward(&x, Mode::Eval);
        assert_eq!(norm.running_mean, before);
        assert_eq!(store.trainable_variables().len(), 2);
    }

    #[test]
    fn truncated_normal_has_the_spread_of_one_cut_at_two_sigma() {
        Key::new(0).seed_torch();
        let x = Tensor::zeros([200_000], (Kind::Float, Device::Cpu));
        truncated_normal(&x, 0.02);
        // scipy.stats.truncnorm(-2, 2).std() = 0.8796
        assert!((x.std(true).scalar().unwrap() / 0.02 - 0.8796).abs() < 0.005);
        assert!(x.mean(None).scalar().unwrap().abs() < 2e-4);
        assert!(x.abs().max().scalar().unwrap() <= 0.04 + 1e-7);
    }
}
