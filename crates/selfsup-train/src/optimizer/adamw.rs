//! Adam with decoupled weight decay, as `torch.optim.AdamW` has it.
//!
//! Kingma and Ba 2015, *Adam*, algorithm 1; Loshchilov and Hutter 2019, *Decoupled Weight Decay Regularization*,
//! algorithm 2. At step `t` with the gradient `g`,
//!
//! ```text
//! p = p - lr * wd * p,     m = b1 m + (1 - b1) g,     v = b2 v + (1 - b2) g^2
//! p = p - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
//! ```
//!
//! Each parameter counts its own steps `t`, those at which it had a gradient.

use super::{Optimizer, Parameter, Rate, check_not_negative, check_share, named, zeros_like};
use selfsup_core::{Device, Error, Kind, Result, Tensor, tch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of [`AdamW`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// The base learning rate.
    pub lr: f64,
    /// The decay rates of the two moments.
    pub betas: [f64; 2],
    /// Keeps the division finite.
    pub eps: f64,
    /// The weight decay, applied apart from the gradient.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// PyTorch's.
    fn default() -> Self {
        AdamWConfig { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Adam with decoupled weight decay.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    steps: Vec<Tensor>,
}

impl AdamW {
    /// Makes the optimizer with moments of zero.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(parameters: Vec<Parameter>, config: &AdamWConfig) -> Result<Self> {
        check_not_negative("lr", config.lr)?;
        check_not_negative("weight_decay", config.weight_decay)?;
        check_share("betas.0", config.betas[0])?;
        check_share("betas.1", config.betas[1])?;
        if config.eps.is_nan() || config.eps <= 0.0 {
            return Err(Error::config("eps", config.eps, "above 0"));
        }
        // On the CPU, so that reading it waits for no device.
        let none = |_: &Parameter| Tensor::zeros([0_i64; 0], (Kind::Int64, Device::Cpu));
        Ok(AdamW {
            config: config.clone(),
            first: zeros_like(&parameters),
            second: zeros_like(&parameters),
            steps: parameters.iter().map(none).collect(),
            parameters,
        })
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, rate: Rate) -> Result<()> {
        let AdamWConfig { betas: [b1, b2], eps, weight_decay, .. } = self.config;
        tch::no_grad(|| {
            for (i, p) in self.parameters.iter().enumerate() {
                let (m, v, steps) = (&mut self.first[i], &mut self.second[i], &mut self.steps[i]);
                let g = p.tensor.grad();
                if !g.defined() {
                    continue;
                }
                let _ = steps.g_add_scalar_(1);
                let t = i64::try_from(&*steps)? as i32;
                let (correction1, correction2) = (1.0 - b1.powi(t), 1.0 - b2.powi(t));
                let (mut parameter, lr) = (p.tensor.shallow_clone(), rate.of(p));
                if p.decayed && weight_decay != 0.0 {
                    let _ = parameter.g_mul_scalar_(1.0 - lr * weight_decay);
                }
                let _ = m.lerp_(&g, 1.0 - b1);
                let _ = v.g_mul_scalar_(b2);
                let _ = v.g_add_(&(g.square() * (1.0 - b2)));
                let scale = (v.sqrt() / correction2.sqrt()).g_add_scalar_(eps);
                let _ = parameter.g_sub_(&(&*m / scale * (lr / correction1)));
            }
            Ok(())
        })
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn weight_decay(&mut self) -> &mut f64 {
        &mut self.config.weight_decay
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = named("exp_avg", &self.parameters, &self.first);
        state.extend(named("exp_avg_sq", &self.parameters, &self.second));
        state.extend(named("step", &self.parameters, &self.steps));
        state
    }
}
