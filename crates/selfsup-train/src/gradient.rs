//! What is done with gradients before the optimizer sees them.

use crate::optimizer::Parameter;
use selfsup_core::{Error, Kind, Result, Tensor, tch};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// How long gradients may be; longer ones are scaled down. In a recipe a number, `clip = 3.0`, is of all parameters together,
/// `clip = { each = 3.0 }` of each alone, `clip = { modules = 3.0 }` of each module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clip {
    /// The norm of every parameter's gradient by itself, as the authors of DINO and iBOT clip.
    Each(f64),
    /// The norm within the encoder, and within each head or other part of the objective, as the authors of DINOv2 clip.
    Modules(f64),
    /// The norm of all together, as `torch.nn.utils.clip_grad_norm_`.
    #[serde(untagged)]
    Together(f64),
}

impl Clip {
    /// Whether the norm makes sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn check(self) -> Result<()> {
        let (field, norm) = match self {
            Clip::Together(norm) => ("clip", norm),
            Clip::Each(norm) => ("clip.each", norm),
            Clip::Modules(norm) => ("clip.modules", norm),
        };
        if norm > 0.0 {
            return Ok(());
        }
        Err(Error::config(field, norm, "a norm above 0, or absent"))
    }

    /// Scales the gradients; `norm` is that of all together, [`gradient_norm`].
    pub fn apply(self, parameters: &[Parameter], norm: &Tensor) {
        match self {
            Clip::Together(most) => clip_gradients(parameters, norm, most),
            Clip::Each(most) => {
                for parameter in parameters {
                    clip_to(&[parameter], most);
                }
            }
            Clip::Modules(most) => {
                let mut modules: BTreeMap<&str, Vec<&Parameter>> = BTreeMap::new();
                for parameter in parameters {
                    modules.entry(module(&parameter.name)).or_default().push(parameter);
                }
                for parameters in modules.values() {
                    clip_to(parameters, most);
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Clip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Named {
            Each(f64),
            Modules(f64),
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Clip;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a norm, or { each = NORM } or { modules = NORM }")
            }

            fn visit_f64<E>(self, norm: f64) -> Result<Clip, E> {
                Ok(Clip::Together(norm))
            }

            fn visit_i64<E>(self, norm: i64) -> Result<Clip, E> {
                Ok(Clip::Together(norm as f64))
            }

            fn visit_u64<E>(self, norm: u64) -> Result<Clip, E> {
                Ok(Clip::Together(norm as f64))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Clip, A::Error> {
                Ok(match Named::deserialize(serde::de::value::MapAccessDeserializer::new(map))? {
                    Named::Each(norm) => Clip::Each(norm),
                    Named::Modules(norm) => Clip::Modules(norm),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The part of the network that a parameter belongs to: the encoder, or what stands at the objective's first level.
fn module(name: &str) -> &str {
    let levels = if name.starts_with("objective.") { 2 } else { 1 };
    name.match_indices('.').nth(levels - 1).map_or(name, |(end, _)| &name[..end])
}

/// Scales the gradients of some parameters so that their joint norm is at most `most`.
fn clip_to(parameters: &[&Parameter], most: f64) {
    clip_by(parameters.iter().copied(), &norm_of(parameters.iter().copied()), most);
}

/// The norm of all gradients together: a scalar, on their device. Zero when nothing has a gradient.
pub fn gradient_norm(parameters: &[Parameter]) -> Tensor {
    norm_of(parameters.iter())
}

fn norm_of<'a>(parameters: impl Iterator<Item = &'a Parameter>) -> Tensor {
    tch::no_grad(|| {
        let norms: Vec<Tensor> =
            parameters.map(|p| p.tensor.grad()).filter(Tensor::defined).map(|g| g.norm()).collect();
        if norms.is_empty() {
            return Tensor::from(0.0_f32);
        }
        Tensor::stack(&norms, 0).to_kind(Kind::Float).norm()
    })
}

/// Scales all gradients so that their joint `norm` is at most `max_norm`, as `torch.nn.utils.clip_grad_norm_` does.
pub fn clip_gradients(parameters: &[Parameter], norm: &Tensor, max_norm: f64) {
    clip_by(parameters.iter(), norm, max_norm);
}

fn clip_by<'a>(parameters: impl Iterator<Item = &'a Parameter>, norm: &Tensor, max_norm: f64) {
    tch::no_grad(|| {
        let factor = (max_norm / (norm + 1e-6)).clamp_max(1.0);
        for parameter in parameters {
            let mut gradient = parameter.tensor.grad();
            if gradient.defined() {
                let _ = gradient.g_mul_(&factor);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, TensorExt, nn};

    fn with_gradients() -> (nn::VarStore, Vec<Parameter>) {
        let store = nn::VarStore::new(Device::Cpu);
        let a = store.root().zeros("a", &[2]);
        let b = store.root().zeros("b", &[1]);
        let _unused = store.root().zeros("c", &[1]);
        (a.dot(&Tensor::from_slice(&[3.0_f32, 0.0])) + b * 4.0).sum(None).backward();
        let parameters = crate::optimizer::parameters(&store, &[]).unwrap();
        (store, parameters)
    }

    #[test]
    fn clips_the_joint_norm_as_pytorch_does() {
        // a, b = gradients [3, 0] and [4]; torch.nn.utils.clip_grad_norm_([a, b], 1.0) returns 5
        let (_store, parameters) = with_gradients();
        let norm = gradient_norm(&parameters);
        assert!((norm.scalar().unwrap() - 5.0).abs() < 1e-6);
        clip_gradients(&parameters, &norm, 1.0);
        assert!((parameters[0].tensor.grad().double_value(&[0]) - 0.6).abs() < 1e-6);
        assert!((parameters[1].tensor.grad().double_value(&[0]) - 0.8).abs() < 1e-6);
    }

    #[test]
    fn each_gradient_is_clipped_alone_as_dino_does() {
        // a, b = gradients [3, 0] and [4]; for g in a, b: c = 3.5 / (g.norm() + 1e-6); g *= c if c < 1 else 1
        // (clip_gradients of DINO's utils.py)
        let (_store, parameters) = with_gradients();
        Clip::Each(3.5).apply(&parameters, &gradient_norm(&parameters));
        assert_eq!(parameters[0].tensor.grad().double_value(&[0]), 3.0);
        assert!((parameters[1].tensor.grad().double_value(&[0]) - 3.5).abs() < 1e-5);
    }

    #[test]
    fn modules_are_the_encoder_and_the_parts_of_the_objective() {
        let names = ["encoder.blocks.0.w", "objective.head.mlp.0.w", "objective.mask_token", "w"];
        assert_eq!(names.map(module), ["encoder", "objective.head", "objective.mask_token", "w"]);
        // torch.nn.utils.clip_grad_norm_([3, 4], 1.0) of the encoder, and of the head's 0.5 by itself
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = [0, 1].map(|i| (store.root() / "encoder" / i).zeros("w", &[1]));
        let head = (store.root() / "objective" / "head").zeros("w", &[1]);
        (&encoder[0] * 3.0 + &encoder[1] * 4.0 + &head * 0.5).sum(None).backward();
        let parameters = crate::optimizer::parameters(&store, &[]).unwrap();
        Clip::Modules(1.0).apply(&parameters, &gradient_norm(&parameters));
        for (x, expected) in [(&encoder[0], 0.6), (&encoder[1], 0.8), (&head, 0.5)] {
            assert!((x.grad().double_value(&[0]) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn a_number_is_of_all_together_and_a_name_says_otherwise() {
        let read = |text: &str| serde_json::from_str::<Clip>(text);
        for (text, clip) in [
            ("3.0", Clip::Together(3.0)),
            ("3", Clip::Together(3.0)),
            (r#"{"each":3.0}"#, Clip::Each(3.0)),
            (r#"{"modules":2.0}"#, Clip::Modules(2.0)),
        ] {
            assert_eq!(read(text).unwrap(), clip);
            assert_eq!(read(&serde_json::to_string(&clip).unwrap()).unwrap(), clip);
        }
        // As every run's fingerprint has it that was made when there was but this.
        assert_eq!(serde_json::to_string(&Clip::Together(3.0)).unwrap(), "3.0");
        let error = read(r#""much""#).unwrap_err().to_string();
        assert!(error.contains("a norm, or { each = NORM } or { modules = NORM }"), "{error}");
        let error = read(r#"{"every":3.0}"#).unwrap_err().to_string();
        assert!(error.contains("every") && error.contains("`each` or `modules`"), "{error}");
        let error = Clip::Each(0.0).check().unwrap_err().to_string();
        assert_eq!(error, "clip.each = 0: a norm above 0, or absent");
    }

    #[test]
    fn leaves_a_short_gradient_alone() {
        let (_store, parameters) = with_gradients();
        clip_gradients(&parameters, &gradient_norm(&parameters), 10.0);
        assert_eq!(parameters[1].tensor.grad().double_value(&[0]), 4.0);
    }
}
