//! Stochastic gradient descent with momentum, as `torch.optim.SGD` has it (Sutskever et al. 2013 for Nesterov's form):
//! with the gradient `d` including weight decay,
//!
//! ```text
//! b = momentum * b + d,     p = p - lr * b,     or with Nesterov's momentum     p = p - lr * (d + momentum * b)
//! ```

use super::{Optimizer, Parameter, Rate, check_not_negative, check_share, named, zeros_like};
use selfsup_core::{Error, Result, Tensor, tch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of [`Sgd`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdConfig {
    /// The base learning rate.
    pub lr: f64,
    /// The momentum.
    pub momentum: f64,
    /// The weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Whether Nesterov's form is used.
    pub nesterov: bool,
}

impl Default for SgdConfig {
    /// MoCo's: lr 0.03, momentum 0.9, weight decay 1e-4.
    fn default() -> Self {
        SgdConfig { lr: 0.03, momentum: 0.9, weight_decay: 1e-4, nesterov: false }
    }
}

/// Stochastic gradient descent with momentum.
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    parameters: Vec<Parameter>,
    momentum: Vec<Tensor>,
}

impl Sgd {
    /// Makes the optimizer with a momentum of zero.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(parameters: Vec<Parameter>, config: &SgdConfig) -> Result<Self> {
        check_not_negative("lr", config.lr)?;
        check_not_negative("weight_decay", config.weight_decay)?;
        check_share("momentum", config.momentum)?;
        if config.nesterov && config.momentum == 0.0 {
            return Err(Error::config("nesterov", true, "a momentum above 0"));
        }
        Ok(Sgd { config: config.clone(), momentum: zeros_like(&parameters), parameters })
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, rate: Rate) -> Result<()> {
        let SgdConfig { momentum, weight_decay, nesterov, .. } = self.config;
        tch::no_grad(|| {
            for (p, b) in self.parameters.iter().zip(&mut self.momentum) {
                let g = p.tensor.grad();
                if !g.defined() {
                    continue;
                }
                let d = if p.decayed && weight_decay != 0.0 { g + &p.tensor * weight_decay } else { g };
                descend(p, b, &d, momentum, nesterov, rate.of(p));
            }
        });
        Ok(())
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn weight_decay(&mut self) -> &mut f64 {
        &mut self.config.weight_decay
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        named("momentum_buffer", &self.parameters, &self.momentum)
    }
}

/// Moves `p` along `d` with momentum `b`; the end of an SGD step, and of a LARS step.
pub(super) fn descend(p: &Parameter, b: &mut Tensor, d: &Tensor, momentum: f64, nesterov: bool, lr: f64) {
    let mut parameter = p.tensor.shallow_clone();
    let direction = if momentum == 0.0 {
        d.shallow_clone()
    } else {
        let _ = b.g_mul_scalar_(momentum);
        let _ = b.g_add_(d);
        if nesterov { d + &*b * momentum } else { b.shallow_clone() }
    };
    let _ = parameter.g_sub_(&(direction * lr));
}
