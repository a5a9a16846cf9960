//! Optimizers whose state lies in named tensors, so that a checkpoint holds all of it.
//!
//! Each equals PyTorch's (LARS: lightly's) step by step. Parameters of one dimension, biases and the scales of norms,
//! are outside weight decay and outside LARS' adaptation, as every self-supervised recipe has it; [`without_decay`] adds
//! others to them, [`scale_rates`] and [`decay_by_layer`] give parameters rates of their own.

mod adamw;
mod lars;
mod layer_decay;
mod sgd;

pub use adamw::{AdamW, AdamWConfig};
pub use lars::{Lars, LarsConfig};
pub use layer_decay::decay_by_layer;
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
    /// Whether weight decay and LARS' adaptation apply: it has more than one dimension, and nobody took it out.
    pub decayed: bool,
    /// Whether the schedule applies; otherwise the learning rate stays at its base.
    pub scheduled: bool,
    /// What its learning rate is multiplied by: 1 unless layers differ.
    pub scale: f64,
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
        scale: 1.0,
        tensor,
        name,
    };
    Ok(variables.into_iter().map(parameter).collect())
}

/// Takes the parameters whose names begin with one of `prefixes` out of weight decay and LARS' adaptation (MSN's prototypes).
///
/// # Errors
/// [`Error::Config`] when a prefix fits none.
pub fn without_decay(parameters: &mut [Parameter], prefixes: &[String]) -> Result<()> {
    for prefix in prefixes {
        for parameter in beginning(parameters, "no_decay", prefix)? {
            parameter.decayed = false;
        }
    }
    Ok(())
}

/// Multiplies the learning rates of the parameters whose names begin with a prefix by its factor (DINOv2's patch embedding). The
/// weight decay of a step, which every optimizer here multiplies with the rate, shrinks along.
///
/// # Errors
/// [`Error::Config`] when a factor is not above 0, or a prefix fits no parameter.
pub fn scale_rates(parameters: &mut [Parameter], factors: &BTreeMap<String, f64>) -> Result<()> {
    for (prefix, factor) in factors {
        if !(*factor > 0.0 && factor.is_finite()) {
            return Err(Error::config(format!("lr_scale.{prefix:?}"), factor, "a factor above 0"));
        }
        for parameter in beginning(parameters, "lr_scale", prefix)? {
            parameter.scale *= factor;
        }
    }
    Ok(())
}

/// The parameters whose names begin with `prefix`, at least one.
fn beginning<'a>(
    parameters: &'a mut [Parameter],
    field: &str,
    prefix: &str,
) -> Result<impl Iterator<Item = &'a mut Parameter>> {
    if !parameters.iter().any(|parameter| parameter.name.starts_with(prefix)) {
        return Err(Error::config(field, prefix, "the beginning of a parameter's name"));
    }
    Ok(parameters.iter_mut().filter(move |parameter| parameter.name.starts_with(prefix)))
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
        parameter.scale * if parameter.scheduled { self.scheduled } else { self.base }
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

    /// The weight decay of the next steps, to be read or changed.
    fn weight_decay(&mut self) -> &mut f64;

    /// The state by name, `STATE.PARAMETER`. The tensors share memory with the optimizer's: to load a state, fill them.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Sets all gradients to zero. A parameter that never had a gradient stays without, and [`step`](Optimizer::step)
    /// leaves it alone; one that had is from then on moved by its decay and momentum at every step, as with PyTorch's
    /// `zero_grad(set_to_none=False)`, since tch cannot take a gradient away.
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

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig::Sgd(SgdConfig::default())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind, TensorExt};

    fn wave(n: i64, shift: f64) -> Tensor {
        (Tensor::arange(n, (Kind::Float, Device::Cpu)) * 0.37 + shift).sin()
    }

    /// Twenty steps with made gradients and a falling rate; the weights `[2, 3]`, then the bias `[3]`.
    fn twenty_steps(config: &OptimizerConfig) -> Vec<f64> {
        let store = nn::VarStore::new(Device::Cpu);
        let w = store.root().add("w", wave(6, 0.0).reshape([2, 3]), true);
        let b = store.root().add("b", wave(3, 1.0), true);
        let mut optimizer = config.build(parameters(&store, &[]).unwrap()).unwrap();
        for t in 0..20 {
            let t = f64::from(t);
            optimizer.zero_grad();
            let gradients =
                (&w * wave(6, 2.0 + t).reshape([2, 3])).sum(None) + (&b * wave(3, 3.0 + t)).sum(None);
            gradients.backward();
            optimizer.step(Rate { scheduled: 0.1 * (1.0 - t / 20.0), base: 0.1 }).unwrap();
        }
        Vec::try_from(Tensor::cat(&[w.reshape([-1]), b], 0).to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn twenty_steps_equal_pytorch_and_lightly() {
        // wave = lambda n, s: torch.sin(torch.arange(n, dtype=torch.float32) * 0.37 + s)
        // w, b = wave(6, 0.).reshape(2, 3).requires_grad_(), wave(3, 1.).requires_grad_()
        // o = OPTIMIZER([{"params": [w]}, {"params": [b], "weight_decay": 0.}], lr=0.1, weight_decay=0.05, ...)
        // for t in range(20):
        //     w.grad, b.grad = wave(6, 2. + t).reshape(2, 3), wave(3, 3. + t)
        //     for g in o.param_groups: g["lr"] = 0.1 * (1 - t / 20)
        //     o.step()
        // print(w, b)
        let sgd = SgdConfig { lr: 0.1, momentum: 0.9, weight_decay: 0.05, nesterov: false };
        let adam_w = AdamWConfig { lr: 0.1, betas: [0.9, 0.99], weight_decay: 0.05, ..Default::default() };
        let lars = LarsConfig { lr: 0.1, momentum: 0.9, weight_decay: 0.05, eta: 0.02, ..Default::default() };
        let references = [
            // torch.optim.SGD(momentum=0.9)
            (
                OptimizerConfig::Sgd(sgd.clone()),
                [
                    -0.0615662, 0.4213596, 0.8472565, 1.1584808, 1.3129107, 1.2896444, 1.3391273, 1.5954413,
                    1.6358197,
                ],
            ),
            // torch.optim.SGD(momentum=0.9, nesterov=True)
            (
                OptimizerConfig::Sgd(SgdConfig { nesterov: true, ..sgd }),
                [
                    -0.0604053, 0.4187235, 0.8411801, 1.1497865, 1.3027753, 1.2794394, 1.3675445, 1.6302495,
                    1.6723077,
                ],
            ),
            // torch.optim.AdamW(betas=(0.9, 0.99))
            (
                OptimizerConfig::AdamW(adam_w),
                [
                    -0.1288692, 0.3120707, 0.7182008, 1.0001379, 1.3032635, 1.2515755, 0.9801072, 1.3518264,
                    1.3474089,
                ],
            ),
            // lightly.utils.lars.LARS(momentum=0.9, trust_coefficient=0.02)
            (
                OptimizerConfig::Lars(lars),
                [
                    -0.0035296, 0.361092, 0.6768413, 0.9009834, 1.0031818, 0.9696038, 1.3391273, 1.5954413,
                    1.6358197,
                ],
            ),
        ];
        for (config, expected) in references {
            for (found, expected) in twenty_steps(&config).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{config:?}: {found} where {expected} is right");
            }
        }
    }

    #[test]
    fn clipped_lars_never_steps_further_than_sgd() {
        // With |w| = 5, |g| = 1, wd 0 and eta 1 the layer's rate is 5 / lr, which clipping cuts to 1: w - lr g.
        let store = nn::VarStore::new(Device::Cpu);
        let w = store.root().add("w", Tensor::from_slice2(&[[3.0_f32, 4.0]]), true);
        let config =
            LarsConfig { momentum: 0.0, weight_decay: 0.0, eta: 1.0, clip: true, ..Default::default() };
        let mut lars = Lars::new(parameters(&store, &[]).unwrap(), &config).unwrap();
        (&w * Tensor::from_slice2(&[[0.6_f32, 0.8]])).sum(None).backward();
        lars.step(Rate { scheduled: 0.1, base: 0.1 }).unwrap();
        let expected = Tensor::from_slice2(&[[2.94_f32, 3.92]]);
        assert!((w - expected).abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn a_fixed_rate_leaves_the_schedule() {
        let store = nn::VarStore::new(Device::Cpu);
        let (a, b) = (store.root().zeros("a", &[1]), store.root().zeros("b", &[1]));
        let config = SgdConfig { momentum: 0.0, ..Default::default() };
        let fixed = parameters(&store, &["b".to_owned()]).unwrap();
        let mut sgd = Sgd::new(fixed, &config).unwrap();
        (&a + &b).sum(None).backward();
        sgd.step(Rate { scheduled: 0.25, base: 1.0 }).unwrap();
        assert_eq!((a.double_value(&[0]), b.double_value(&[0])), (-0.25, -1.0));
        let error = parameters(&store, &["c".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "fixed_lr = c: the beginning of a parameter's name");
    }

    #[test]
    fn no_decay_and_factors_are_those_of_pytorchs_parameter_groups() {
        // a, b, c = ([[1.0]] each).requires_grad_(), all with the gradient 0.5
        // o = torch.optim.SGD([{"params": [a]}, {"params": [b], "weight_decay": 0.0}, {"params": [c], "lr": 0.02}],
        //                     lr=0.1, weight_decay=0.5)
        // o.step(); print(a, b, c)
        let store = nn::VarStore::new(Device::Cpu);
        let names = ["a", "b", "c"];
        let [a, b, c] = names.map(|name| store.root().ones(name, &[1, 1]));
        let mut all = parameters(&store, &[]).unwrap();
        without_decay(&mut all, &["b".to_owned()]).unwrap();
        scale_rates(&mut all, &BTreeMap::from([("c".to_owned(), 0.2)])).unwrap();
        let config = SgdConfig { lr: 0.1, momentum: 0.0, weight_decay: 0.5, nesterov: false };
        let mut sgd = Sgd::new(all, &config).unwrap();
        ((&a + &b + &c) * 0.5).sum(None).backward();
        sgd.step(Rate { scheduled: 0.1, base: 0.1 }).unwrap();
        for (x, expected) in [(a, 0.9), (b, 0.95), (c, 0.98)] {
            assert!((x.double_value(&[0, 0]) - expected).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn factors_multiply_each_other_and_unknown_names_are_refused() {
        let store = nn::VarStore::new(Device::Cpu);
        let _ = (store.root() / "encoder" / "patch_embed").ones("w", &[1]);
        let _ = (store.root() / "encoder" / "blocks" / 0).ones("w", &[1]);
        let mut all = parameters(&store, &[]).unwrap();
        decay_by_layer(&mut all, "encoder.", 0.5).unwrap();
        scale_rates(&mut all, &BTreeMap::from([("encoder.patch_embed.".to_owned(), 0.2)])).unwrap();
        let scales: Vec<f64> = all.iter().map(|p| p.scale).collect();
        assert_eq!((scales[0], scales[1]), (0.5, 0.25 * 0.2), "{all:?}");
        let scaled = |prefix: &str, factor| BTreeMap::from([(prefix.to_owned(), factor)]);
        let error = scale_rates(&mut all, &scaled("head", 0.2)).unwrap_err().to_string();
        assert_eq!(error, "lr_scale = head: the beginning of a parameter's name");
        let error = scale_rates(&mut all, &scaled("encoder", 0.0)).unwrap_err().to_string();
        assert_eq!(error, "lr_scale.\"encoder\" = 0: a factor above 0");
        let error = without_decay(&mut all, &["prototypes".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "no_decay = prototypes: the beginning of a parameter's name");
    }

    #[test]
    fn every_optimizer_decays_by_what_it_was_told_last() {
        let configs = [
            OptimizerConfig::Sgd(SgdConfig { momentum: 0.0, weight_decay: 0.0, ..Default::default() }),
            OptimizerConfig::AdamW(AdamWConfig { weight_decay: 0.0, ..Default::default() }),
            OptimizerConfig::Lars(LarsConfig { eta: 1.0, weight_decay: 0.0, ..Default::default() }),
        ];
        for config in configs {
            let after = |decay: f64| {
                let store = nn::VarStore::new(Device::Cpu);
                let w = store.root().add("w", wave(6, 0.5).reshape([2, 3]), true);
                let mut optimizer = config.build(parameters(&store, &[]).unwrap()).unwrap();
                *optimizer.weight_decay() = decay;
                (&w * wave(6, 2.0).reshape([2, 3])).sum(None).backward();
                optimizer.step(Rate { scheduled: 0.1, base: 0.1 }).unwrap();
                w.detach()
            };
            assert!((after(0.0) - after(0.5)).abs().max().scalar().unwrap() > 1e-3, "{config:?}");
        }
    }

    #[test]
    fn a_parameter_without_gradient_stays() {
        let store = nn::VarStore::new(Device::Cpu);
        let (a, b) = (store.root().ones("a", &[1, 1]), store.root().ones("b", &[1, 1]));
        let mut optimizer =
            OptimizerConfig::AdamW(AdamWConfig::default()).build(parameters(&store, &[]).unwrap()).unwrap();
        a.sum(None).backward();
        optimizer.step(Rate { scheduled: 0.1, base: 0.1 }).unwrap();
        assert!(a.double_value(&[0, 0]) < 1.0);
        assert_eq!(b.double_value(&[0, 0]), 1.0);
    }

    #[test]
    fn a_parameter_whose_first_gradient_comes_late_equals_pytorch() {
        // w, late = wave(6, 0.).reshape(2, 3).requires_grad_(), wave(4, 1.).reshape(2, 2).requires_grad_()
        // o = OPTIMIZER([w, late], lr=0.1, weight_decay=0.05, ...)
        // for t in range(8):
        //     w.grad = wave(6, 2. + t).reshape(2, 3)
        //     if t >= 2: late.grad = wave(4, 3. + t).reshape(2, 2)
        //     o.step()
        // print(late)
        let sgd = SgdConfig { lr: 0.1, momentum: 0.9, weight_decay: 0.05, nesterov: false };
        let adam_w = AdamWConfig { lr: 0.1, betas: [0.9, 0.99], weight_decay: 0.05, ..Default::default() };
        let lars = LarsConfig { lr: 0.1, momentum: 0.9, weight_decay: 0.05, eta: 0.02, ..Default::default() };
        let references = [
            // torch.optim.SGD(momentum=0.9)
            (OptimizerConfig::Sgd(sgd), [0.802538, 0.7550607, 0.6053891, 0.3737806]),
            // torch.optim.AdamW(betas=(0.9, 0.99))
            (OptimizerConfig::AdamW(adam_w), [0.947982, 0.9975945, 0.9022141, 0.6971977]),
            // lightly.utils.lars.LARS(momentum=0.9, trust_coefficient=0.02)
            (OptimizerConfig::Lars(lars), [0.842263, 0.9753231, 0.9763776, 0.8452839]),
        ];
        for (config, expected) in references {
            let store = nn::VarStore::new(Device::Cpu);
            let w = store.root().add("w", wave(6, 0.0).reshape([2, 3]), true);
            let late = store.root().add("late", wave(4, 1.0).reshape([2, 2]), true);
            let before = late.copy();
            let mut optimizer = config.build(parameters(&store, &[]).unwrap()).unwrap();
            for t in 0..8 {
                optimizer.zero_grad();
                let mut sum = (&w * wave(6, 2.0 + f64::from(t)).reshape([2, 3])).sum(None);
                if t >= 2 {
                    sum += (&late * wave(4, 3.0 + f64::from(t)).reshape([2, 2])).sum(None);
                }
                sum.backward();
                optimizer.step(Rate { scheduled: 0.1, base: 0.1 }).unwrap();
                assert!(t >= 2 || late == before, "{config:?}");
            }
            let found: Vec<f64> = Vec::try_from(late.reshape([-1]).to_kind(Kind::Double)).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{config:?}: {found} where {expected} is right");
            }
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let refusal = |config: OptimizerConfig| config.build(Vec::new()).unwrap_err().to_string();
        let sgd = |config| refusal(OptimizerConfig::Sgd(config));
        assert_eq!(sgd(SgdConfig { lr: -1.0, ..Default::default() }), "lr = -1: a number from 0 up");
        assert_eq!(
            sgd(SgdConfig { momentum: 1.0, ..Default::default() }),
            "momentum = 1: at least 0 and below 1"
        );
        let adam_w = OptimizerConfig::AdamW(AdamWConfig { eps: 0.0, ..Default::default() });
        assert_eq!(refusal(adam_w), "eps = 0: above 0");
        let store = nn::VarStore::new(Device::Cpu);
        assert!(parameters(&store, &[]).unwrap_err().to_string().contains("no trainable parameter"));
    }
}
