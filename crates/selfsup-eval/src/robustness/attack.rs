//! Adversarial robustness: the accuracy that is left when each input is changed, within a small ball, to mislead.
//!
//! ```text
//! FGSM    x' = clip(x + epsilon sign(grad_x loss))                                            (Goodfellow et al. 2015)
//! PGD     x_0 = x + uniform in the ball;  x_k+1 = project(x_k + alpha direction(grad_x loss(x_k)))    (Madry et al. 2018)
//!         direction: sign(g) in the maximum norm, g / |g| in the Euclidean; project: to the ball around x, then to the range
//! ```
//! The loss is the cross-entropy of the true class. Inputs are attacked in batches; an input that is wrong already counts as
//! wrong whatever the attack finds. A weak attack says little about robustness: more steps, and several epsilons, say more.

use crate::measurement::Origin;
use crate::{Interval, LEVEL, Mean, Measurement};
use rand::RngExt;
use selfsup_core::{Error, Key, Kind, Result, Tensor, check_kind, check_shape};
use serde::{Deserialize, Serialize};

/// A differentiable classifier, from inputs `[N, ...]` to logits `[N, C]`.
pub type Classifier<'a> = dyn Fn(&Tensor) -> Result<Tensor> + 'a;

/// How the size of a change is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// The largest change of a number.
    #[default]
    Maximum,
    /// The Euclidean length of the change of a sample.
    Euclidean,
}

/// An attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttackConfig {
    /// The size of the ball, in the inputs' units.
    pub epsilon: f64,
    /// The norm it is measured in.
    pub norm: Norm,
    /// Steps; one without a random start and as long as the ball is FGSM.
    pub steps: usize,
    /// The length of a step.
    pub step: f64,
    /// Whether to start at a random place of the ball.
    pub random_start: bool,
    /// The least and the greatest number an input may hold.
    pub range: [f64; 2],
    /// Decides the random starts, each by its input's number.
    pub seed: u64,
}

impl Default for AttackConfig {
    /// PGD on images in `[0, 1]` with epsilon 8/255, ten steps of 2/255, the usual on CIFAR-10.
    fn default() -> Self {
        AttackConfig {
            epsilon: 8.0 / 255.0,
            norm: Norm::Maximum,
            steps: 10,
            step: 2.0 / 255.0,
            random_start: true,
            range: [0.0, 1.0],
            seed: 0,
        }
    }
}

impl AttackConfig {
    /// The fast gradient sign method.
    pub fn fgsm(epsilon: f64, range: [f64; 2]) -> Self {
        AttackConfig { epsilon, steps: 1, step: epsilon, random_start: false, range, ..Default::default() }
    }

    fn check(&self) -> Result<()> {
        for (field, value) in [("epsilon", self.epsilon), ("step", self.step)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(field, value, "0 or above"));
            }
        }
        if self.steps == 0 {
            return Err(Error::config("steps", 0, "at least 1"));
        }
        let [least, most] = self.range;
        // Also when one is not a number.
        if least.partial_cmp(&most) != Some(std::cmp::Ordering::Less) {
            return Err(Error::config(
                "range",
                format!("{:?}", self.range),
                "a least number below a greatest",
            ));
        }
        Ok(())
    }
}

/// Changes inputs to mislead a classifier. The result has the inputs' shape, lies in the ball around them and in the range.
///
/// # Shapes
/// `x` `[N, ...]` Float, `labels` `[N]` Int64.
///
/// # Errors
/// When the configuration cannot work, an input is not finite or outside the range, labels do not fit, or the logits have no
/// gradient to the inputs or are not finite.
pub fn attack(classifier: &Classifier, x: &Tensor, labels: &Tensor, config: &AttackConfig) -> Result<Tensor> {
    attack_from(classifier, x, labels, config, 0)
}

/// As [`attack`], of inputs that are numbered from `first`.
fn attack_from(
    classifier: &Classifier,
    x: &Tensor,
    labels: &Tensor,
    config: &AttackConfig,
    first: i64,
) -> Result<Tensor> {
    config.check()?;
    let n = x.size().first().copied().unwrap_or(0);
    check_shape("labels", labels, [n])?;
    check_kind("labels", labels, Kind::Int64)?;
    check_kind("x", x, Kind::Float)?;
    if n == 0 {
        return Ok(x.detach());
    }
    let [least, most] = config.range;
    let inside = x.ge(least).logical_and(&x.le(most));
    if !bool::try_from(inside.all())? {
        return Err(Error::config("x", "a number outside the range", format!("{least} to {most}")));
    }
    let x = x.detach();
    let mut moved =
        if config.random_start { project(&(&x + start(&x, config, first)), &x, config) } else { x.copy() };
    for _ in 0..config.steps {
        let gradient = gradient(classifier, &moved, labels)?;
        let direction = match config.norm {
            Norm::Maximum => gradient.sign(),
            Norm::Euclidean => &gradient / lengths(&gradient).clamp_min(1e-12),
        };
        moved = project(&(moved + direction * config.step), &x, config);
    }
    Ok(moved)
}

/// A place of the ball for each sample: of the cube uniformly, of the Euclidean ball in a random direction at a uniform distance.
/// Samples are numbered from `first`: their places do not depend on the batch they are in.
fn start(x: &Tensor, config: &AttackConfig, first: i64) -> Tensor {
    let n = x.size()[0];
    let each = x.numel() / n as usize;
    let (mut numbers, mut distances) = (Vec::<f32>::with_capacity(x.numel()), Vec::<f32>::new());
    for sample in first..first + n {
        let mut rng = Key::new(config.seed).with(sample as u64).rng();
        numbers.extend((0..each).map(|_| rng.random_range(-1.0..=1.0_f32)));
        distances.push(rng.random_range(0.0..=1.0));
    }
    let noise = Tensor::from_slice(&numbers).reshape(x.size()).to_device(x.device());
    match config.norm {
        Norm::Maximum => noise * config.epsilon,
        Norm::Euclidean => {
            let mut shape = vec![1; x.dim()];
            shape[0] = -1;
            let distances = Tensor::from_slice(&distances).reshape(shape).to_device(x.device());
            &noise / lengths(&noise).clamp_min(1e-12) * distances * config.epsilon
        }
    }
}

/// The gradient of the summed cross-entropy: each sample's is its own.
fn gradient(classifier: &Classifier, x: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let x = x.detach().set_requires_grad(true);
    let logits = classifier(&x)?;
    check_shape("logits", &logits, [x.size()[0], -1])?;
    if !logits.requires_grad() {
        return Err(Error::config(
            "logits",
            "without gradient",
            "a function of the inputs that can be differentiated",
        ));
    }
    let (low, high) = (i64::try_from(labels.min())?, i64::try_from(labels.max())?);
    if low < 0 || high >= logits.size()[1] {
        return Err(Error::config(
            "labels",
            format!("{low}..={high}"),
            format!("classes in 0..{}", logits.size()[1]),
        ));
    }
    let log_p = logits.log_softmax(1, Kind::Float);
    let loss = -log_p.gather(1, &labels.to_device(x.device()).unsqueeze(1), false).sum(Kind::Float);
    let gradient = Tensor::f_run_backward(&[&loss], &[&x], false, false)?.remove(0);
    if !bool::try_from(gradient.isfinite().all())? {
        return Err(Error::NonFinite {
            what: "the gradient".to_owned(),
            detail: "with respect to the inputs".to_owned(),
        });
    }
    Ok(gradient)
}

/// The length of every sample, with dimensions of 1 after the first.
fn lengths(x: &Tensor) -> Tensor {
    let mut shape = vec![1; x.dim()];
    shape[0] = -1;
    x.flatten(1, -1).norm_scalaropt_dim(2.0, [1], true).reshape(shape)
}

fn project(moved: &Tensor, x: &Tensor, config: &AttackConfig) -> Tensor {
    let change = moved - x;
    let change = match config.norm {
        Norm::Maximum => change.clamp(-config.epsilon, config.epsilon),
        Norm::Euclidean => {
            let lengths = lengths(&change);
            let scale = (lengths.clamp_min(1e-12).reciprocal() * config.epsilon).clamp_max(1.0);
            change * scale
        }
    };
    (x + change).clamp(config.range[0], config.range[1]).detach()
}

/// What an attack leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackOutcome {
    /// The accuracy on the inputs as they are.
    pub clean: Mean,
    /// The accuracy under attack: samples that are right both before and after.
    pub attacked: Mean,
    /// Which inputs are right as they are.
    #[serde(skip)]
    pub right: Vec<bool>,
    /// Which are right both before and after.
    #[serde(skip)]
    pub still_right: Vec<bool>,
    /// The attack.
    pub config: AttackConfig,
}

/// Attacks inputs in batches and counts what is still right.
///
/// # Errors
/// As [`attack`], and when there are no samples or the batch size is 0.
pub fn attacked_accuracy(
    classifier: &Classifier,
    x: &Tensor,
    labels: &Tensor,
    config: &AttackConfig,
    batch: i64,
) -> Result<AttackOutcome> {
    let n = x.size().first().copied().unwrap_or(0);
    check_shape("labels", labels, [n])?;
    if n == 0 || batch < 1 {
        return Err(Error::config("samples and batch", format!("{n} and {batch}"), "at least 1"));
    }
    let right = |x: &Tensor, y: &Tensor| -> Result<Tensor> {
        Ok(classifier(x)?.detach().argmax(1, false).eq_tensor(&y.to_device(x.device())))
    };
    let (mut clean, mut attacked) = (Vec::new(), Vec::new());
    for first in (0..n).step_by(batch as usize) {
        let count = batch.min(n - first);
        let (x, y) = (x.narrow(0, first, count), labels.narrow(0, first, count));
        let moved = attack_from(classifier, &x, &y, config, first)?;
        let before = right(&x, &y)?;
        attacked.extend(Vec::<bool>::try_from(before.logical_and(&right(&moved, &y)?))?);
        clean.extend(Vec::<bool>::try_from(before)?);
    }
    let share = |right: &[bool]| -> Result<Mean> {
        let count = right.iter().filter(|right| **right).count() as u64;
        let interval = Interval::wilson(count, n as u64, LEVEL)?;
        Ok(Mean { value: count as f64 / n as f64, interval, n: n as usize })
    };
    Ok(AttackOutcome {
        clean: share(&clean)?,
        attacked: share(&attacked)?,
        right: clean,
        still_right: attacked,
        config: config.clone(),
    })
}

impl AttackOutcome {
    /// The measures for a report, of samples from `split` classified by `by`, as in `the linear probe`.
    pub fn measurements(&self, split: &str, by: &str) -> Vec<Measurement> {
        let AttackConfig { epsilon, norm, steps, random_start, seed, .. } = &self.config;
        let origin = Origin { split, seed: random_start.then_some(*seed) };
        let name = if *steps == 1 && !random_start { "fgsm" } else { "pgd" };
        let norm = match norm {
            Norm::Maximum => "maximum norm",
            Norm::Euclidean => "Euclidean norm",
        };
        let text = format!(
            "accuracy of {by} when inputs are changed by at most {epsilon:.4} in the {norm} to mislead it, {steps} steps"
        );
        vec![origin.mean(format!("{name}_accuracy"), &self.attacked, text)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;
    use selfsup_core::{Device, TensorExt};

    /// A small network on `[N, 2, 3]`.
    fn network(x: &Tensor) -> Result<Tensor> {
        check_shape("x", x, [-1, 2, 3])?;
        let hidden = (x.flatten(1, -1).matmul(&formula(6, 8)) * 2.0).tanh();
        Ok(hidden.matmul(&formula(8, 4)))
    }

    fn inputs() -> (Tensor, Tensor) {
        let x = (formula(12, 6) * 0.5 + 0.5).reshape([12, 2, 3]);
        let labels = network(&x).unwrap().argmax(1, false);
        (x, labels)
    }

    fn pgd(norm: Norm) -> AttackConfig {
        AttackConfig { epsilon: 0.3, norm, steps: 5, step: 0.1, random_start: false, ..Default::default() }
    }

    // w = lambda n, d: torch.sin(torch.arange(n * d).double() ** 1.5 * 0.37).reshape(n, d).float()
    // f = lambda x: (x.flatten(1) @ w(6, 8) * 2).tanh() @ w(8, 4); x = (w(12, 6) * .5 + .5).reshape(12, 2, 3); y = f(x).argmax(1)
    // def g(v): v = v.clone().requires_grad_(); F.cross_entropy(f(v), y, reduction="sum").backward(); return v.grad
    // fgsm = (x + .1 * g(x).sign()).clamp(0, 1)
    // v = x.clone()
    // for _ in range(5): v = (x + (v + .1 * g(v).sign() - x).clamp(-.3, .3)).clamp(0, 1)
    // u = x.clone()
    // for _ in range(5):
    //     d = g(u); d = u + .1 * d / d.flatten(1).norm(dim=1)[:, None, None] - x
    //     u = (x + d * (.3 / d.flatten(1).norm(dim=1)).clamp(max=1)[:, None, None]).clamp(0, 1)
    // for a in (fgsm, v, u): print((a * torch.arange(1, 73).reshape(12, 2, 3)).sum(), a[3], (f(a).argmax(1) == y).float().mean())
    #[test]
    fn agrees_with_torch() {
        let (x, labels) = inputs();
        let weights = (Tensor::arange(72, (Kind::Float, Device::Cpu)) + 1.0).reshape([12, 2, 3]);
        let configs = [AttackConfig::fgsm(0.1, [0.0, 1.0]), pgd(Norm::Maximum), pgd(Norm::Euclidean)];
        for (config, (sum, fourth, accuracy)) in configs.iter().zip(TORCH) {
            let moved = attack(&network, &x, &labels, config).unwrap();
            let found = (&moved * &weights).sum(Kind::Double).scalar().unwrap();
            assert!((found - sum).abs() < 2e-3, "{found}, expected {sum}");
            let found = Vec::<f64>::try_from(moved.get(3).reshape([-1])).unwrap();
            assert!(found.iter().zip(fourth).all(|(f, e)| (f - e).abs() < 1e-5), "{found:?}");
            let outcome = attacked_accuracy(&network, &x, &labels, config, 5).unwrap();
            assert!((outcome.attacked.value - accuracy).abs() < 1e-6, "{outcome:?}");
            assert_eq!(outcome.clean.value, 1.0);
        }
    }

    const TORCH: [(f64, [f64; 6], f64); 3] = [
        (
            1362.1009786128998,
            [
                0.6091729402542114,
                0.050904713571071625,
                0.8971359729766846,
                0.16651397943496704,
                0.8312764167785645,
                0.4140872657299042,
            ],
            0.5,
        ),
        (
            1316.2141017317772,
            [0.409172922372818, 0.0, 0.6971359848976135, 0.3665139973163605, 1.0, 0.21408724784851074],
            0.1666666716337204,
        ),
        (
            1341.8986815214157,
            [
                0.6582158803939819,
                0.0633014366030693,
                0.8418893218040466,
                0.1574746072292328,
                0.8259996175765991,
                0.3771055042743683,
            ],
            0.3333333432674408,
        ),
    ];

    #[test]
    fn what_is_left_does_not_depend_on_the_size_of_the_batches() {
        let (x, labels) = inputs();
        for norm in [Norm::Maximum, Norm::Euclidean] {
            let config = AttackConfig { random_start: true, ..pgd(norm) };
            let found = |batch| attacked_accuracy(&network, &x, &labels, &config, batch).unwrap();
            let whole = found(12);
            assert_eq!(whole, found(5));
            assert_eq!(whole, found(1));
            assert_eq!(whole.right, vec![true; 12]);
            let still = whole.still_right.iter().filter(|right| **right).count();
            assert_eq!(whole.attacked.value, still as f64 / 12.0);
        }
    }

    #[test]
    fn stays_in_the_ball_and_in_the_range_from_a_random_start() {
        let (x, labels) = inputs();
        for norm in [Norm::Maximum, Norm::Euclidean] {
            let config = AttackConfig { random_start: true, ..pgd(norm) };
            let moved = attack(&network, &x, &labels, &config).unwrap();
            let change = &moved - &x;
            let size = match norm {
                Norm::Maximum => change.abs().max(),
                Norm::Euclidean => lengths(&change).max(),
            };
            assert!(size.scalar().unwrap() <= 0.3 + 1e-5);
            assert!(moved.min().scalar().unwrap() >= 0.0 && moved.max().scalar().unwrap() <= 1.0);
            assert_eq!(moved, attack(&network, &x, &labels, &config).unwrap());
            let other = AttackConfig { seed: 1, ..config };
            assert_ne!(moved, attack(&network, &x, &labels, &other).unwrap());
        }
    }

    #[test]
    fn an_attack_of_no_size_changes_nothing_and_more_size_misleads_more() {
        let (x, labels) = inputs();
        let accuracy = |epsilon| {
            let config = AttackConfig::fgsm(epsilon, [0.0, 1.0]);
            attacked_accuracy(&network, &x, &labels, &config, 100).unwrap().attacked.value
        };
        assert_eq!(accuracy(0.0), 1.0);
        assert!(accuracy(0.3) < 1.0);
        let still = attack(&network, &x, &labels, &AttackConfig::fgsm(0.0, [0.0, 1.0])).unwrap();
        assert!((still - &x).abs().max().scalar().unwrap() < 1e-7);
        let outcome =
            attacked_accuracy(&network, &x, &labels, &AttackConfig::fgsm(0.3, [0.0, 1.0]), 4).unwrap();
        assert_eq!(outcome.measurements("test", "the probe")[0].name, "fgsm_accuracy");
    }

    #[test]
    fn what_is_wrong_already_stays_wrong() {
        let (x, labels) = inputs();
        let wrong = (labels + 1).remainder(4);
        let outcome = attacked_accuracy(&network, &x, &wrong, &pgd(Norm::Maximum), 100).unwrap();
        assert_eq!((outcome.clean.value, outcome.attacked.value), (0.0, 0.0));
    }

    #[test]
    fn rejects_what_it_cannot_attack() {
        let (x, labels) = inputs();
        let error = |f: &Classifier, x: &Tensor, y: &Tensor, config: AttackConfig| {
            attack(f, x, y, &config).unwrap_err().to_string()
        };
        let fgsm = || AttackConfig::fgsm(0.1, [0.0, 1.0]);
        let deaf = |x: &Tensor| network(&x.detach());
        assert!(error(&deaf, &x, &labels, fgsm()).starts_with("logits = without gradient"));
        assert_eq!(error(&network, &(&x * 2.0), &labels, fgsm()), "x = a number outside the range: 0 to 1");
        assert_eq!(error(&network, &(&x / 0.0), &labels, fgsm()), "x = a number outside the range: 0 to 1");
        assert_eq!(error(&network, &x, &labels.narrow(0, 0, 3), fgsm()), "labels: expected [12], found [3]");
        assert_eq!(
            error(&network, &x, &(&labels + 4), fgsm()).split(':').next_back(),
            Some(" classes in 0..4")
        );
        let none = AttackConfig { steps: 0, ..fgsm() };
        assert_eq!(error(&network, &x, &labels, none), "steps = 0: at least 1");
        let negative = AttackConfig { epsilon: -0.1, ..fgsm() };
        assert_eq!(error(&network, &x, &labels, negative), "epsilon = -0.1: 0 or above");
        let turned = AttackConfig { range: [1.0, 0.0], ..fgsm() };
        assert_eq!(
            error(&network, &x, &labels, turned),
            "range = [1.0, 0.0]: a least number below a greatest"
        );
    }
}
