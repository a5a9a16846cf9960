//! Classifiers of features.

use super::given::Given;
use crate::model::ImageModel;
use anyhow::{Context, Result};
use selfsup::core::{Device, FeatureRows, Features, PseudoLabeler, Tensor, TensorExt};
use selfsup::eval::{Logistic, LogisticConfig, Standardiser};
use selfsup::labels::{FewLabels, NearestMean, NearestMeanConfig};
use selfsup::numerics::Geometry;
use std::rc::Rc;

/// Says of features which class they are of: one that is fitted here to few labels, or the head of a run that was fine-tuned.
pub trait Predictor {
    /// Class scores before the softmax.
    ///
    /// # Shapes
    /// `features` `[N, D]` to `[N, C]` Float.
    ///
    /// # Errors
    /// When the features do not fit.
    fn logits(&self, features: &Tensor) -> Result<Tensor>;
}

/// A logistic regression on standardised features.
pub struct Linear {
    scale: Rc<Standardiser>,
    classifier: Logistic,
}

impl Linear {
    /// Fits features of labelled samples with inverse regularisation strength `c`; every class has a sample.
    ///
    /// # Errors
    /// When the two do not fit.
    pub fn fit(scale: &Rc<Standardiser>, x: &Tensor, labels: &Tensor, classes: i64, c: f64) -> Result<Self> {
        let train = Features::new(scale.apply(x), labels.shallow_clone(), classes)?;
        Ok(Linear {
            scale: Rc::clone(scale),
            classifier: Logistic::fit(&train, c, &LogisticConfig::default())?,
        })
    }
}

impl Predictor for Linear {
    fn logits(&self, features: &Tensor) -> Result<Tensor> {
        Ok(self.classifier.logits(&self.scale.apply(features))?)
    }
}

/// The linear layer that a run of supervised training has learned with the encoder.
pub struct Head {
    weight: Tensor, // [C, D]
    bias: Tensor,   // [C]
}

impl Head {
    /// Takes the head of a model whose objective is supervised.
    ///
    /// # Errors
    /// When it has none.
    pub fn of(model: &ImageModel) -> Result<Self> {
        let variables = model.store.variables();
        let take = |name: &str| -> Result<Tensor> {
            let name = format!("objective.head.{name}");
            let x = variables.get(&name).with_context(|| format!("{name} is missing in the model"))?;
            Ok(x.detach().to_device(Device::Cpu))
        };
        Ok(Head { weight: take("weight")?, bias: take("bias")? })
    }
}

impl Predictor for Head {
    fn logits(&self, features: &Tensor) -> Result<Tensor> {
        Ok(features.matmul(&self.weight.tr()) + &self.bias)
    }
}

/// The cosines with the classes' means.
pub struct NearestMeans(Tensor);

/// What cosines are multiplied by, so that a softmax tells classes apart; the temperature corrects it.
const SHARPNESS: f64 = 20.0;

impl NearestMeans {
    /// Takes the means of features of labelled samples, scaled to length 1; every class has a sample.
    ///
    /// # Errors
    /// When the two do not fit.
    pub fn fit(x: &Tensor, labels: &Tensor, classes: i64) -> Result<Self> {
        let labels = Vec::<i64>::try_from(labels)?;
        let rows: Vec<i64> = (0..labels.len() as i64).collect();
        let config = NearestMeanConfig { geometry: Geometry::Spherical, ..Default::default() };
        let mut labeler = NearestMean::new(config, FewLabels::new(&rows, &labels, classes)?)?;
        labeler.label(&FeatureRows::new(x)?)?;
        let means = labeler.means().context("the means of the classes were not taken")?;
        Ok(NearestMeans(means.shallow_clone()))
    }
}

impl Predictor for NearestMeans {
    fn logits(&self, features: &Tensor) -> Result<Tensor> {
        Ok(features.l2_normalize().matmul(&self.0.tr()) * SHARPNESS)
    }
}

/// Features of the given samples at some places of the list, and their labels.
pub fn at(x: &Tensor, given: &Given, places: &[usize]) -> (Tensor, Tensor) {
    let places = Tensor::from_slice(&places.iter().map(|&at| at as i64).collect::<Vec<_>>());
    (x.index_select(0, &places), given.label_tensor().index_select(0, &places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_find_the_class_that_features_lie_with() {
        let x =
            Tensor::from_slice2(&[[5.0_f32, 0.0, 1.0], [4.0, 1.0, 1.0], [0.0, 3.0, 1.0], [1.0, 4.0, 1.0]]);
        let labels = Tensor::from_slice(&[1_i64, 1, 0, 0]);
        let scale = Rc::new(Standardiser::of(&x));
        let linear = Linear::fit(&scale, &x, &labels, 2, 1.0).unwrap();
        let means = NearestMeans::fit(&x, &labels, 2).unwrap();
        let new = Tensor::from_slice2(&[[6.0_f32, 1.0, 1.0], [0.0, 2.0, 1.0]]);
        for predictor in [&linear as &dyn Predictor, &means] {
            let found = predictor.logits(&new).unwrap();
            assert_eq!(found.size(), [2, 2]);
            assert_eq!(Vec::<i64>::try_from(found.argmax(1, false)).unwrap(), [1, 0]);
        }
        // The mean of the first class is (4.5, 0.5, 1) in direction, as both have nearly the same length.
        let cosine = means.logits(&Tensor::from_slice2(&[[0.0_f32, 0.0, 2.0]])).unwrap();
        let of = |rows: [[f64; 3]; 2]| {
            let unit = rows.map(|r| {
                let length = r.iter().map(|v| v * v).sum::<f64>().sqrt();
                r.map(|v| v / length)
            });
            let mean = [0, 1, 2].map(|j| unit[0][j].midpoint(unit[1][j]));
            mean[2] / mean.iter().map(|v| v * v).sum::<f64>().sqrt() * SHARPNESS
        };
        let expected = [of([[0.0, 3.0, 1.0], [1.0, 4.0, 1.0]]), of([[5.0, 0.0, 1.0], [4.0, 1.0, 1.0]])];
        for (class, expected) in expected.into_iter().enumerate() {
            assert!((cosine.double_value(&[0, class as i64]) - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn a_feature_that_does_not_vary_keeps_its_scale() {
        let x = Tensor::from_slice2(&[[1.0_f32, 7.0], [3.0, 7.0]]);
        let scaled = Standardiser::of(&x).apply(&x);
        assert_eq!(scaled, Tensor::from_slice2(&[[-1.0_f32, 0.0], [1.0, 0.0]]));
        assert_eq!(scaled.device(), Device::Cpu);
    }
}
