//! Optimizers whose state lies in named tensors, so that a checkpoint holds all of it.
//!
//! Each equals PyTorch's (LARS: lightly's) step by step. Parameters of one dimension, biases and the scales of norms,
//! are outside weight decay and outside LARS' adaptation, as every self-supervised recipe has it.

mod adamw;
mod lars;
mod sgd;

pub use adamw::{AdamW, AdamWConfig};
pub use lars::{Lars, LarsConfig};
pub use sgd::{Sgd, SgdConfig};

use selfsup_core::{Error, Result, Tensor, nn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A trainable variable and how it is treated.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in the store.
    pub name: String,
    /// The variable.
    pub tensor: Tensor,
    /// Whether weight decay and LARS' adaptation apply: it has more than one dimension.
    pub decayed: bool,
    /// Whether the schedule applies; otherwise the learning rate stays at its base.
    pub scheduled: bool,
}

/// The trainable variables of `store` in the order of their names. Those whose names begin with one of `fixed` keep
/// the base learning rate throughout (SimSiam's predictor).
///
/// # Errors
/// When there are none, or a prefix of `fixed` fits none.
pub fn parameters(store: &nn::VarStore, fixed: &[String]) -> Result<Vec<Parameter>> {
    let variables: BTreeMap<_, _> =
        store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect();
    if variables.is_empty() {
        return Err(Error::Other("the network has no trainable parameter".to_owned()));
    }
    if let Some(prefix) = fixed.iter().find(|prefix| !variables.keys().any(|name| name.starts_with(*prefix)))
    {
        return Err(Error::config("fixed_lr", prefix, "the beginning of a parameter's name"));
    }
    let parameter = |(name, tensor): (String, Tensor)| Parameter {
        decayed: tensor.dim() > 1,
        scheduled: !fixed.iter().any(|prefix| name.starts_with(prefix)),
        tensor,
        name,
    };
    Ok(variables.into_iter().map(parameter).collect())
}

/// The learning rates of a step.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// That of the schedule.
    pub scheduled: f64,
    /// That of parameters outside the schedule.
    pub base: f64,
}

impl Rate {
    pub(crate) fn of(self, parameter: &Parameter) -> f64 {
        if parameter.scheduled { self.scheduled } else { self.base }
    }
}

/// Changes parameters by their gradients.
pub trait Optimizer: Debug {
    /// Applies one step to every parameter that has a gradient.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn step(&mut self, rate: Rate) -> Result<()>;

    /// The parameters, in the order of their names.
    fn parameters(&self) -> &[Parameter];

    /// The state by name, `STATE.PARAMETER`. The tensors share memory with the optimizer's: to load a state, fill them.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Sets all gradients to zero.
    fn zero_grad(&mut self) {
        for parameter in self.parameters() {
            parameter.tensor.shallow_clone().zero_grad();
        }
    }
}

/// An optimizer as a recipe names it, with its base learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// [`Sgd`].
    Sgd(SgdConfig),
    /// [`AdamW`].
    AdamW(AdamWConfig),
    /// [`Lars`].
    Lars(LarsConfig),
}

impl OptimizerConfig {
    /// Makes the optimizer with a state of zeros.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn build(&self, parameters: Vec<Parameter>) -> Result<Box<dyn Optimizer>> {
        Ok(match self {
            OptimizerConfig::Sgd(config) => Box::new(Sgd::new(parameters, config)?),
            OptimizerConfig::AdamW(config) => Box::new(AdamW::new(parameters, config)?),
            OptimizerConfig::Lars(config) => Box::new(Lars::new(parameters, config)?),
        })
    }

    /// The learning rate before warm-up and decay, for batches of any size.
    pub fn base_rate(&self) -> f64 {
        match self {
            OptimizerConfig::Sgd(config) => config.lr,
            OptimizerConfig::AdamW(config) => config.lr,
            OptimizerConfig::Lars(config) => config.lr,
        }
    }
}

/// Zeros like every parameter, under `state.NAME`.
pub(crate) fn zeros_like(parameters: &[Parameter]) -> Vec<Tensor> {
    parameters
        .iter()
        .map(|p| selfsup_core::tch::no_grad(|| p.tensor.zeros_like().set_requires_grad(false)))
        .collect()
}

pub(crate) fn named(state: &str, parameters: &[Parameter], tensors: &[Tensor]) -> BTreeMap<String, Tensor> {
    let name = |(p, x): (&Parameter, &Tensor)| (format!("{state}.{}", p.name), x.shallow_clone());
    parameters.iter().zip(tensors).map(name).collect()
}

pub(crate) fn check_not_negative(field: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::config(field, value, "a number from 0 up"))
    }
}

pub(crate) fn check_share(field: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(Error::config(field, value, "at least 0 and below 1"))
    }
}
