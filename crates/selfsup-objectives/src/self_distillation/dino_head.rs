//! The head of DINO: a perceptron to a bottleneck of length 1, and a linear layer whose rows have length 1.
//!
//! Caron, Touvron, Misra, Jégou, Mairal, Bojanowski and Joulin 2021, *Emerging Properties in Self-Supervised Vision
//! Transformers*, section 3.1 and appendix C. With a perceptron `m` of GELUs,
//!
//! ```text
//! b = m(x) / |m(x)|,     logits_k = g_k (v_k / |v_k|) . b
//! ```
//!
//! where the lengths `g` stay 1 unless they are allowed to learn. Initialisation is the authors'; parameters are named
//! as in their `DINOHead`: `mlp.0.weight`, `mlp.2.weight` ..., `last_layer.weight_g`, `last_layer.weight_v`.

use selfsup_core::layers::{Affine, BatchNorm, Linear, normal};
use selfsup_core::transformer::linear;
use selfsup_core::{Error, Kind, Mode, Result, Tensor, TensorExt, check_shape, nn};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// The shape of a [`DinoHead`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoHeadConfig {
    /// The linear layers before the normalisation. 3 (section 3.1 of the paper).
    pub layers: i64,
    /// The size of a hidden layer. 2048 (section 3.1).
    pub hidden: i64,
    /// The size of what is normalised. 256 (appendix C).
    pub bottleneck: i64,
    /// The number of outputs, K. 65,536 (appendix C); small data need fewer.
    pub output: i64,
    /// Whether BatchNorm follows a hidden layer. No: a Vision Transformer then has none at all (section 3.1).
    pub batch_norm: bool,
    /// Whether the rows of the last layer keep length 1. The authors' default; their longer runs of ViT-S let them
    /// learn.
    pub norm_last_layer: bool,
}

impl Default for DinoHeadConfig {
    fn default() -> Self {
        DinoHeadConfig {
            layers: 3,
            hidden: 2048,
            bottleneck: 256,
            output: 65_536,
            batch_norm: false,
            norm_last_layer: true,
        }
    }
}

/// Whether a gradient reaches the last layer, which DINO keeps as it is in the first epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLayer {
    /// It learns.
    Learns,
    /// It stays; the gradient passes through it all the same.
    Frozen,
}

/// The head of a student or of a teacher.
#[derive(Debug)]
pub struct DinoHead {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    weight_g: Tensor,
    weight_v: Tensor,
    inputs: i64,
}

impl DinoHead {
    /// Makes the head's parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, inputs: i64, config: &DinoHeadConfig) -> Result<Self> {
        let path = path.borrow();
        let DinoHeadConfig { layers, hidden, bottleneck, output, .. } = *config;
        for (name, size) in
            [("layers", layers), ("hidden", hidden), ("bottleneck", bottleneck), ("output", output)]
        {
            if size < 1 {
                return Err(Error::config(format!("head.{name}"), size, "at least 1"));
            }
        }
        let mut mlp = Vec::new();
        let mut place = 0;
        for i in 0..layers {
            let is_last = i + 1 == layers;
            let (from, to) =
                (if i == 0 { inputs } else { hidden }, if is_last { bottleneck } else { hidden });
            let layer = linear(path / "mlp" / place, from, to, normal);
            let norm = (config.batch_norm && !is_last)
                .then(|| BatchNorm::new(path / "mlp" / (place + 1), to, Affine::Yes));
            place += 2 + i64::from(norm.is_some());
            mlp.push((layer, norm));
        }
        let (last, options) = (path / "last_layer", (Kind::Float, path.device()));
        let bound = 1.0 / (bottleneck as f64).sqrt();
        let directions = Tensor::empty([output, bottleneck], options).uniform_(-bound, bound);
        Ok(DinoHead {
            layers: mlp,
            weight_g: last.add("weight_g", Tensor::ones([output, 1], options), !config.norm_last_layer),
            weight_v: last.add("weight_v", directions, true),
            inputs,
        })
    }

    /// Applies the head.
    ///
    /// # Shapes
    /// `[N, inputs]` to logits `[N, K]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the features are of another size, or when BatchNorm would train on a single sample.
    pub fn forward(&self, x: &Tensor, mode: Mode, last_layer: LastLayer) -> Result<Tensor> {
        let [n, _] = check_shape("features", x, [-1, self.inputs])?;
        if n < 2 && mode.is_train() && self.layers.iter().any(|(_, norm)| norm.is_some()) {
            return Err(Error::Shape {
                name: "features".to_owned(),
                expected: "at least 2 samples for BatchNorm".to_owned(),
                found: format!("{:?}", x.size()),
            });
        }
        let mut x = x.shallow_clone();
        for (i, (layer, norm)) in self.layers.iter().enumerate() {
            x = layer.forward(&x);
            if let Some(norm) = norm {
                x = norm.forward(&x, mode);
            }
            if i + 1 < self.layers.len() {
                x = x.gelu("none");
            }
        }
        let lengths = self.weight_v.norm_scalaropt_dim(2.0, [1], true); // [K, 1]
        let weight = &self.weight_v * (&self.weight_g / lengths); // [K, bottleneck]
        let weight = if last_layer == LastLayer::Frozen { weight.detach() } else { weight };
        Ok(x.l2_normalize().linear(&weight, None::<&Tensor>)) // [N, K]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{fill, waves};
    use crate::self_distillation::tiny::assert_near;
    use selfsup_core::Device;

    fn small() -> DinoHeadConfig {
        DinoHeadConfig { layers: 3, hidden: 5, bottleneck: 3, output: 6, ..Default::default() }
    }

    // def wave(shape, shift=0.):
    //     return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.7 + shift).float().reshape(shape)
    // head = lightly.models.modules.DINOProjectionHead(4, 5, 3, 6)
    // order = ["last_layer.weight_v"] + [f"layers.{i}.{p}" for i in (0, 2, 4) for p in ("bias", "weight")]
    // for i, name in enumerate(order): head.get_parameter(name).data = wave(head.get_parameter(name).shape, i)
    // x = wave([3, 4], 0.5).requires_grad_(); y = head(x); (y * wave([3, 6], 2.)).sum().backward()
    // print(y, x.grad, head.last_layer.weight_v.grad, head.layers[0].weight.grad)
    #[test]
    fn equals_lightlys_in_value_and_gradients() {
        let store = nn::VarStore::new(Device::Cpu);
        let head = DinoHead::new(store.root(), 4, &small()).unwrap();
        fill(&store);
        let x = waves(&[3, 4], 0.5).set_requires_grad(true);
        let y = head.forward(&x, Mode::Train, LastLayer::Learns).unwrap();
        (&y * waves(&[3, 6], 2.0)).sum(None).backward();
        assert_near(
            &y,
            &[
                -0.6169518, -0.5727805, 0.8914494, -0.6272969, -0.5567464, 0.8919482, 0.130396, -0.7791216,
                0.4291895, 0.1179532, -0.7799292, 0.4361054, -0.2554923, -0.9320682, 0.8459067, -0.271069,
                -0.9234356, 0.8515331,
            ],
        );
        assert_near(
            &x.grad(),
            &[
                0.1168917, -0.3237891, -0.612187, -0.6126637, 0.0335766, -0.0043192, -0.0401837, -0.057149,
                0.4887305, 0.6705161, 0.5369474, 0.1508441,
            ],
        );
        assert_near(
            &head.weight_v.grad(),
            &[
                0.3445779, -0.1167211, 0.076304, 0.2668897, -0.3395167, 0.3325347, 0.0470947, -0.2256944,
                0.2862302, -0.0042649, -0.157332, 0.1046751, -0.0291441, 0.4231724, 0.3005002, -0.2863609,
                0.2531684, 0.0064931,
            ],
        );
        assert_near(
            &head.layers[0].0.weight.grad(),
            &[
                0.2885938, 0.2817522, 0.1423982, -0.063928, 0.1644548, -0.1406611, -0.3796218, -0.4400405,
                0.0965412, 0.1199957, 0.0870144, 0.0131089, 0.0192556, 0.0345706, 0.0336264, 0.0168673,
                -0.3620857, -0.268245, -0.0482445, 0.1944462,
            ],
        );
    }

    #[test]
    fn its_logits_are_cosines_and_its_names_the_authors() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = DinoHeadConfig { batch_norm: true, ..small() };
        let head = DinoHead::new(store.root(), 4, &config).unwrap();
        let y = head.forward(&waves(&[9, 4], 0.0), Mode::Train, LastLayer::Learns).unwrap();
        assert!(y.abs().max().scalar().unwrap() <= 1.0 + 1e-6);
        let mut names: Vec<_> = store.variables().into_keys().filter(|n| n.ends_with("weight")).collect();
        names.sort();
        assert_eq!(names.join(" "), "mlp.0.weight mlp.1.weight mlp.3.weight mlp.4.weight mlp.6.weight");
        assert!(!store.variables()["last_layer.weight_g"].requires_grad());
    }

    #[test]
    fn a_frozen_last_layer_lets_the_gradient_through_and_gets_none() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = DinoHeadConfig { norm_last_layer: false, ..small() };
        let head = DinoHead::new(store.root(), 4, &config).unwrap();
        let x = waves(&[3, 4], 0.5);
        let through = |last| (head.forward(&x, Mode::Train, last).unwrap() * waves(&[3, 6], 2.0)).sum(None);
        through(LastLayer::Frozen).backward();
        assert!(!head.weight_v.grad().defined() && !head.weight_g.grad().defined());
        assert!(store.variables()["mlp.0.weight"].grad().abs().max().scalar().unwrap() > 1e-7);
        through(LastLayer::Learns).backward();
        for last in [&head.weight_v, &head.weight_g] {
            assert!(last.grad().abs().max().scalar().unwrap() > 1e-7);
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = DinoHeadConfig { bottleneck: 0, ..small() };
        let error = DinoHead::new(store.root() / "bad", 4, &config).unwrap_err().to_string();
        assert_eq!(error, "head.bottleneck = 0: at least 1");
        let config = DinoHeadConfig { batch_norm: true, ..small() };
        let head = DinoHead::new(store.root(), 4, &config).unwrap();
        let refused = |x: Tensor| head.forward(&x, Mode::Train, LastLayer::Learns).unwrap_err().to_string();
        assert_eq!(refused(waves(&[2, 3], 0.0)), "features: expected [_, 4], found [2, 3]");
        let error = "features: expected at least 2 samples for BatchNorm, found [1, 4]";
        assert_eq!(refused(waves(&[1, 4], 0.0)), error);
    }
}
