//! What is done with gradients before the optimizer sees them.

use crate::optimizer::Parameter;
use selfsup_core::{Kind, Tensor, tch};

/// The norm of all gradients together: a scalar, on their device. Zero when nothing has a gradient.
pub fn gradient_norm(parameters: &[Parameter]) -> Tensor {
    tch::no_grad(|| {
        let norms: Vec<Tensor> =
            parameters.iter().map(|p| p.tensor.grad()).filter(Tensor::defined).map(|g| g.norm()).collect();
        if norms.is_empty() {
            return Tensor::from(0.0_f32);
        }
        Tensor::stack(&norms, 0).to_kind(Kind::Float).norm()
    })
}

/// Scales all gradients so that their joint `norm` is at most `max_norm`, as `torch.nn.utils.clip_grad_norm_` does.
pub fn clip_gradients(parameters: &[Parameter], norm: &Tensor, max_norm: f64) {
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
    fn leaves_a_short_gradient_alone() {
        let (_store, parameters) = with_gradients();
        clip_gradients(&parameters, &gradient_norm(&parameters), 10.0);
        assert_eq!(parameters[1].tensor.grad().double_value(&[0]), 4.0);
    }
}
