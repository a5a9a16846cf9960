//! Projectors and predictors: the small networks between an encoder's features and a loss. They live here because
//! objectives own them and objectives know no encoders.

use crate::layers::{Affine, BatchNorm, Bias, Linear};
use crate::{Error, Mode, Result, Tensor, check_shape, nn};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// What normalises the output of a layer of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadNorm {
    /// Nothing; the layer has a bias.
    None,
    /// BatchNorm with scale and shift; the layer has no bias.
    BatchNorm,
    /// BatchNorm without scale and shift; the layer has no bias.
    BatchNormPlain,
}

/// The shape of an [`MlpHead`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpHeadConfig {
    /// The sizes of the hidden layers; empty for a single linear layer.
    pub hidden: Vec<i64>,
    /// The size of the output.
    pub output: i64,
    /// After every hidden layer, before its ReLU.
    pub hidden_norm: HeadNorm,
    /// After the output.
    pub output_norm: HeadNorm,
}

impl MlpHeadConfig {
    /// Linear, BatchNorm, ReLU, Linear, BatchNorm: SimCLR's projector (Chen et al. 2020, section 4.2, as their code
    /// has it).
    pub fn projector(hidden: i64, output: i64) -> Self {
        MlpHeadConfig {
            hidden: vec![hidden],
            output,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::BatchNorm,
        }
    }
}

/// A multi-layer perceptron: linear, norm, ReLU for every hidden layer, then linear, norm.
///
/// Parameters are named as in a `torch.nn.Sequential` of these parts: `0.weight`, `1.weight`, `3.weight` ...
#[derive(Debug)]
pub struct MlpHead {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    inputs: i64,
}

impl MlpHead {
    /// Makes the head's parameters under `path`.
    ///
    /// # Errors
    /// When a size is not positive.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, inputs: i64, config: &MlpHeadConfig) -> Result<Self> {
        let path = path.borrow();
        let mut sizes = vec![inputs];
        sizes.extend(&config.hidden);
        sizes.push(config.output);
        if sizes.iter().any(|&s| s < 1) {
            return Err(Error::config("head sizes", format!("{sizes:?}"), "sizes of at least 1"));
        }
        let (mut layers, mut index) = (Vec::new(), 0);
        for (i, pair) in sizes.windows(2).enumerate() {
            let is_last = i + 2 == sizes.len();
            let norm = if is_last { config.output_norm } else { config.hidden_norm };
            let bias = if norm == HeadNorm::None { Bias::Yes } else { Bias::No };
            let linear = Linear::new(path / index, pair[0], pair[1], bias);
            let norm = match norm {
                HeadNorm::None => None,
                HeadNorm::BatchNorm => Some(BatchNorm::new(path / (index + 1), pair[1], Affine::Yes)),
                HeadNorm::BatchNormPlain => Some(BatchNorm::new(path / (index + 1), pair[1], Affine::No)),
            };
            index += 2 + usize::from(norm.is_some());
            layers.push((linear, norm));
        }
        Ok(MlpHead { layers, inputs })
    }

    /// Applies the head.
    ///
    /// # Shapes
    /// `[N, inputs]` to `[N, output]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the features are of another size, or when BatchNorm would train on a single sample.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.run(x, self.layers.len(), mode)
    }

    /// What comes out of the first `layers` hidden layers, each with its norm and ReLU: `x` itself after 0.
    ///
    /// # Shapes
    /// `[N, inputs]` to `[N, hidden]`.
    ///
    /// # Errors
    /// As [`forward`](MlpHead::forward), and [`Error::Config`] when there are fewer hidden layers.
    pub fn hidden(&self, x: &Tensor, layers: usize, mode: Mode) -> Result<Tensor> {
        if layers >= self.layers.len() {
            let expected = format!("at most {}, the hidden layers of the head", self.layers.len() - 1);
            return Err(Error::config("layers", layers, expected));
        }
        self.run(x, layers, mode)
    }

    fn run(&self, x: &Tensor, layers: usize, mode: Mode) -> Result<Tensor> {
        let [n, _] = check_shape("features", x, [-1, self.inputs])?;
        let used = &self.layers[..layers];
        if n < 2 && mode.is_train() && used.iter().any(|(_, norm)| norm.is_some()) {
            return Err(Error::Shape {
                name: "features".to_owned(),
                expected: "at least 2 samples for BatchNorm".to_owned(),
                found: format!("{:?}", x.size()),
            });
        }
        let mut x = x.shallow_clone();
        for (i, (linear, norm)) in used.iter().enumerate() {
            x = linear.forward(&x);
            if let Some(norm) = norm {
                x = norm.forward(&x, mode);
            }
            if i + 1 < self.layers.len() {
                x = x.relu();
            }
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Kind, TensorExt};

    #[test]
    fn equals_its_parts_in_a_row_and_is_named_like_a_sequential() {
        // Sequential(Linear(3, 4, bias=False), BatchNorm1d(4), ReLU(), Linear(4, 2)).state_dict().keys()
        let store = nn::VarStore::new(Device::Cpu);
        let config = MlpHeadConfig {
            hidden: vec![4],
            output: 2,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::None,
        };
        let head = MlpHead::new(store.root(), 3, &config).unwrap();
        let mut names: Vec<_> = store.variables().into_keys().collect();
        names.sort();
        assert_eq!(
            names.join(" "),
            "0.weight 1.bias 1.num_batches_tracked 1.running_mean 1.running_var 1.weight 3.bias 3.weight"
        );
        let x = Tensor::arange(15, (Kind::Float, Device::Cpu)).reshape([5, 3]).sin();
        let v = store.variables();
        let h = x.matmul(&v["0.weight"].transpose(0, 1));
        let h = (&h - h.mean_dim(0, true, None)) / (h.var_dim(0, false, true) + 1e-5).sqrt();
        let expected = h.relu().matmul(&v["3.weight"].transpose(0, 1)) + &v["3.bias"];
        let found = head.forward(&x, Mode::Train).unwrap();
        assert!((found - expected).abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn hidden_layers_and_the_rest_make_the_whole() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = MlpHeadConfig { hidden: vec![4, 5], ..MlpHeadConfig::projector(1, 2) };
        let head = MlpHead::new(store.root(), 3, &config).unwrap();
        let x = Tensor::arange(15, (Kind::Float, Device::Cpu)).reshape([5, 3]).sin();
        let difference = |a: &Tensor, b: &Tensor| (a - b).abs().max().scalar().unwrap();
        assert!(difference(&head.hidden(&x, 0, Mode::Eval).unwrap(), &x) < 1e-7);
        let h = head.hidden(&x, 2, Mode::Eval).unwrap();
        assert_eq!((h.size(), h.min().scalar().unwrap()), (vec![5, 5], 0.0));
        let weight = &store.variables()["6.weight"];
        let expected = h.matmul(&weight.tr()) / (1.0_f64 + 1e-5).sqrt();
        assert!(difference(&head.forward(&x, Mode::Eval).unwrap(), &expected) < 1e-6);
        let error = head.hidden(&x, 3, Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "layers = 3: at most 2, the hidden layers of the head");
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        let head = MlpHead::new(store.root(), 3, &MlpHeadConfig::projector(4, 2)).unwrap();
        let one = Tensor::zeros([1, 3], (Kind::Float, Device::Cpu));
        let error = head.forward(&one, Mode::Train).unwrap_err().to_string();
        assert_eq!(error, "features: expected at least 2 samples for BatchNorm, found [1, 3]");
        assert!(head.forward(&one, Mode::Eval).is_ok());
        assert!(head.forward(&one.transpose(0, 1), Mode::Eval).is_err());
        assert!(MlpHead::new(store.root() / "bad", 3, &MlpHeadConfig::projector(0, 2)).is_err());
    }
}
