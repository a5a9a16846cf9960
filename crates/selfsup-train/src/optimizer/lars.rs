//! LARS: SGD with momentum whose step is scaled, layer by layer, by the norm of the weights over that of the gradient.
//!
//! You, Gitman and Ginsburg 2017, *Large Batch Training of Convolutional Networks*, algorithm 1. With the gradient `g`,
//! the weights `w` and the weight decay `wd`,
//!
//! ```text
//! rate = eta * |w| / (|g| + wd * |w|),     d = rate * (g + wd * w),     then as SGD with momentum
//! ```
//!
//! As in SimCLR and BYOL, parameters of one dimension are neither decayed nor scaled.

use super::sgd::descend;
use super::{Optimizer, Parameter, Rate, check_not_negative, check_share, named, zeros_like};
use selfsup_core::{Error, Result, Tensor, tch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of [`Lars`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LarsConfig {
    /// The base learning rate.
    pub lr: f64,
    /// The momentum.
    pub momentum: f64,
    /// The weight decay, added to the gradient.
    pub weight_decay: f64,
    /// The trust coefficient: 0.001 in the paper (section 5), 0.02 in solo-learn's recipes for CIFAR.
    pub eta: f64,
    /// Whether the layer's rate is cut so that a step is never longer than SGD's with the same learning rate, as
    /// solo-learn's recipes for CIFAR have it.
    pub clip: bool,
    /// Whether Nesterov's form is used.
    pub nesterov: bool,
}

impl Default for LarsConfig {
    /// SimCLR's (Chen et al. 2020, section 2.2): lr 0.3, momentum 0.9, weight decay 1e-6.
    fn default() -> Self {
        LarsConfig { lr: 0.3, momentum: 0.9, weight_decay: 1e-6, eta: 0.001, clip: false, nesterov: false }
    }
}

/// Layer-wise adaptive rate scaling.
#[derive(Debug)]
pub struct Lars {
    config: LarsConfig,
    parameters: Vec<Parameter>,
    momentum: Vec<Tensor>,
}

impl Lars {
    /// Makes the optimizer with a momentum of zero.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(parameters: Vec<Parameter>, config: &LarsConfig) -> Result<Self> {
        check_not_negative("lr", config.lr)?;
        check_not_negative("weight_decay", config.weight_decay)?;
        check_not_negative("eta", config.eta)?;
        check_share("momentum", config.momentum)?;
        if config.nesterov && config.momentum == 0.0 {
            return Err(Error::config("nesterov", true, "a momentum above 0"));
        }
        Ok(Lars { config: config.clone(), momentum: zeros_like(&parameters), parameters })
    }

    /// The scaled direction of a decayed parameter. A weight or gradient of zero leaves the rate at 1.
    fn scaled(&self, w: &Tensor, g: &Tensor, lr: f64) -> Tensor {
        let LarsConfig { weight_decay, eta, clip, .. } = self.config;
        let (w_norm, g_norm) = (w.norm(), g.norm());
        let mut rate = &w_norm * eta / (&g_norm + &w_norm * weight_decay + 1e-8);
        if clip {
            rate = (rate / lr.max(f64::MIN_POSITIVE)).clamp_max(1.0);
        }
        let alive = w_norm.gt(0.0).logical_and(&g_norm.gt(0.0));
        let direction = (g + w * weight_decay) * rate;
        direction.where_self(&alive, g)
    }
}

impl Optimizer for Lars {
    fn step(&mut self, rate: Rate) -> Result<()> {
        tch::no_grad(|| {
            for i in 0..self.parameters.len() {
                let p = &self.parameters[i];
                let g = p.tensor.grad();
                if !g.defined() {
                    continue;
                }
                let lr = rate.of(p);
                let d = if p.decayed { self.scaled(&p.tensor, &g, lr) } else { g };
                let LarsConfig { momentum, nesterov, .. } = self.config;
                descend(p, &mut self.momentum[i], &d, momentum, nesterov, lr);
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
