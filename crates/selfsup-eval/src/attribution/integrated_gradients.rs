//! Integrated gradients (Sundararajan, Taly and Yan 2017): what each number of an input adds to a score, on the straight way to it
//! from an input that stands for nothing.
//!
//! ```text
//! IG_i(x) = (x_i - x'_i) integral_0^1 df(x' + a (x - x')) / dx_i da  ~  (x_i - x'_i) sum_k w_k df(x' + a_k (x - x')) / dx_i
//! ```
//! The attributions add up to `f(x) - f(x')` but for the error of the sum, which is returned: captum's convergence delta. Nodes and weights are captum's
//! (Gauss and Legendre's by default). A map depends on the baseline as much as on the network: where an input equals the baseline,
//! its attribution is zero whatever the network makes of it.

use super::score::{ScoreFunction, check_inputs, gradient, scores};
use selfsup_core::{Error, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the integral is made a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quadrature {
    /// Gauss and Legendre's: exact for polynomials of a degree up to twice the steps less one.
    #[default]
    GaussLegendre,
    /// Riemann's, at the start of each step.
    Left,
    /// Riemann's, in the middle of each step.
    Middle,
    /// Riemann's, at the end of each step.
    Right,
}

/// How gradients are integrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntegratedGradientsConfig {
    /// The places on the way at which the gradient is asked for.
    pub steps: usize,
    /// Where they lie.
    pub quadrature: Quadrature,
}

impl Default for IntegratedGradientsConfig {
    /// Captum's; the paper finds 20 to 300 steps enough (section 5).
    fn default() -> Self {
        IntegratedGradientsConfig { steps: 50, quadrature: Quadrature::GaussLegendre }
    }
}

/// What scores are made of.
#[derive(Debug)]
pub struct IntegratedGradients {
    /// What each number adds to the score of its input, in the inputs' shape.
    pub attributions: Tensor,
    /// By how much their sum is more than `f(x) - f(x')`, for each input, `[N]`.
    pub convergence_delta: Tensor,
}

/// Takes the scores of inputs apart.
///
/// # Shapes
/// `x` `[N, ...]` Float; `baseline` broadcasts to it. Memory is that of one pass forth and back over `x`, whatever the steps.
///
/// # Errors
/// When there are no steps, inputs, baseline or scores are not finite or do not fit, or the scores cannot be differentiated.
pub fn integrated_gradients(
    function: &ScoreFunction,
    x: &Tensor,
    baseline: &Tensor,
    config: &IntegratedGradientsConfig,
) -> Result<IntegratedGradients> {
    let n = check_inputs("x", x)?;
    let baseline = expanded(baseline, x)?;
    let x = x.detach();
    let way = &x - &baseline;
    let mut sum = x.zeros_like();
    for (place, weight) in nodes(config)? {
        let at = (&baseline + &way * place).set_requires_grad(true);
        sum += gradient(&function(&at)?, &at, n)? * weight;
    }
    let attributions = sum * way;
    let gained = scores(function, &x)? - scores(function, &baseline)?;
    let convergence_delta = attributions.reshape([n, -1]).sum_dim_intlist(1, false, None) - gained;
    Ok(IntegratedGradients { attributions, convergence_delta })
}

/// A baseline in the inputs' shape.
pub(crate) fn expanded(baseline: &Tensor, x: &Tensor) -> Result<Tensor> {
    check_inputs("baseline", &baseline.reshape([1, -1]))?;
    let shapes = || Error::Shape {
        name: "baseline".to_owned(),
        expected: format!("a shape that broadcasts to {:?}", x.size()),
        found: format!("{:?}", baseline.size()),
    };
    Ok(baseline.detach().f_expand(x.size(), false).map_err(|_| shapes())?.contiguous())
}

/// Places between 0 and 1, and their weights, which add up to 1.
fn nodes(config: &IntegratedGradientsConfig) -> Result<Vec<(f64, f64)>> {
    let n = config.steps;
    if n == 0 {
        return Err(Error::config("steps", 0, "at least 1"));
    }
    let even = |offset: f64| (0..n).map(|k| ((k as f64 + offset) / n as f64, 1.0 / n as f64)).collect();
    Ok(match config.quadrature {
        Quadrature::GaussLegendre => gauss_legendre(n),
        Quadrature::Left => even(0.0),
        Quadrature::Middle => even(0.5),
        Quadrature::Right => even(1.0),
    })
}

/// The roots of Legendre's polynomial by Newton's method, and their weights `2 / ((1 - z^2) P'(z)^2)`, moved from [-1, 1] to [0, 1].
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let polynomial = |z: f64| {
        let (mut before, mut p) = (1.0, z);
        for k in 2..=n {
            let k = k as f64;
            (before, p) = (p, ((2.0 * k - 1.0) * z * p - (k - 1.0) * before) / k);
        }
        (p, n as f64 * (z * p - before) / (z * z - 1.0))
    };
    let node = |i: usize| {
        // Close enough to the i-th root for Newton's method to find no other.
        let mut z = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
        for _ in 0..100 {
            let (p, slope) = polynomial(z);
            let step = p / slope;
            z -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        let slope = polynomial(z).1;
        (0.5 * (1.0 - z), 1.0 / ((1.0 - z * z) * slope * slope))
    };
    (0..n).map(node).collect()
}

/// The attributions of the places of images: those of the channels added up, `[N, C, H, W]` to `[N, H, W]`.
///
/// # Errors
/// When they are not of images.
pub fn sum_channels(attributions: &Tensor) -> Result<Tensor> {
    check_shape("attributions", attributions, [-1, -1, -1, -1])?;
    Ok(attributions.sum_dim_intlist(1, false, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::{assert_elements, wave};
    use selfsup_core::{Kind, TensorExt};

    /// `tanh(x W) v + sum x^3`
    fn function(x: &Tensor) -> Tensor {
        let (w, v) = (wave(&[5, 3], 0.61), wave(&[3], 0.23));
        x.matmul(&w).tanh().mv(&v) + x.pow_tensor_scalar(3).sum_dim_intlist(1, false, None)
    }

    // wave = lambda shape, step: torch.sin(torch.arange(prod(shape)).double() ** 1.5 * step).float().reshape(shape)
    // f = lambda x: torch.tanh(x @ wave([5, 3], 0.61)) @ wave([3], 0.23) + (x ** 3).sum(1)
    // for m, n in [("gausslegendre", 7), ("riemann_left", 8), ("riemann_middle", 8), ("riemann_right", 8)]:
    //     captum.attr.IntegratedGradients(f).attribute(wave([2, 5], 0.37), baselines=torch.full((2, 5), 0.25),
    //         n_steps=n, method=m, return_convergence_delta=True)     # captum 0.9.0
    #[test]
    fn attributions_and_convergence_delta_equal_captums() {
        let baseline = Tensor::full([1, 5], 0.25, (Kind::Float, selfsup_core::Device::Cpu));
        let cases: [(Quadrature, usize, [f64; 10], [f64; 2]); 4] = [
            (
                Quadrature::GaussLegendre,
                7,
                [
                    -0.1272367, 0.0337562, 0.7427683, 0.7964627, -0.0187978, -1.2376893, -0.4507376,
                    0.2051848, 0.6244785, -0.299605,
                ],
                [0.0, 0.0],
            ),
            (
                Quadrature::Left,
                8,
                [
                    -0.1322989, 0.0320366, 0.6650744, 0.693946, -0.0192522, -1.1288722, -0.3716879,
                    0.1962456, 0.5440744, -0.2750379,
                ],
                [-0.1874472, 0.1230907],
            ),
            (
                Quadrature::Middle,
                8,
                [
                    -0.1271768, 0.0337491, 0.7418468, 0.7951909, -0.0187961, -1.2337246, -0.4472448,
                    0.2053235, 0.6234251, -0.2980696,
                ],
                [-0.002139, 0.0080782],
            ),
            (
                Quadrature::Right,
                8,
                [
                    -0.122414, 0.0355044, 0.8241489, 0.9040662, -0.0183503, -1.3623719, -0.5437621, 0.213571,
                    0.709095, -0.3303163,
                ],
                [0.1960022, -0.1554157],
            ),
        ];
        for (quadrature, steps, parts, gaps) in cases {
            let config = IntegratedGradientsConfig { steps, quadrature };
            let found =
                integrated_gradients(&|x| Ok(function(x)), &wave(&[2, 5], 0.37), &baseline, &config).unwrap();
            assert_elements(&found.attributions, &parts, 1e-6);
            assert_elements(&found.convergence_delta, &gaps, 1e-6);
        }
    }

    #[test]
    fn gauss_and_legendres_sum_is_exact_for_polynomials() {
        for n in [1_usize, 2, 5, 50, 128] {
            let nodes = gauss_legendre(n);
            assert!(nodes.is_sorted_by(|a, b| a.0 < b.0) && nodes[0].0 > 0.0);
            for degree in [0, 1, n, 2 * n - 1] {
                let sum: f64 = nodes.iter().map(|(a, w)| w * a.powi(degree as i32)).sum();
                assert!((sum - 1.0 / (degree as f64 + 1.0)).abs() < 1e-12, "{n}, {degree}: {sum}");
            }
        }
    }

    #[test]
    fn a_linear_score_is_taken_apart_exactly_by_one_step() {
        let (x, w) = (wave(&[2, 5], 0.37), wave(&[5], 0.5));
        let config = IntegratedGradientsConfig { steps: 1, ..Default::default() };
        let found = integrated_gradients(&|x| Ok(x.mv(&w)), &x, &x.zeros_like(), &config).unwrap();
        assert!((&found.attributions - &x * &w).abs().max().scalar().unwrap() < 1e-6);
        assert!(found.convergence_delta.abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn a_constant_score_and_an_input_at_the_baseline_have_no_parts() {
        let x = wave(&[2, 5], 0.37);
        let config = IntegratedGradientsConfig::default();
        let constant = |x: &Tensor| Ok(x.sum_dim_intlist(1, false, None) * 0.0 + 3.0);
        let found = integrated_gradients(&constant, &x, &x.zeros_like(), &config).unwrap();
        assert_elements(&found.attributions, &[0.0; 10], 1e-12);
        assert_elements(&found.convergence_delta, &[0.0; 2], 1e-12);
        let found = integrated_gradients(&|x| Ok(function(x)), &x, &x, &config).unwrap();
        assert_elements(&found.attributions, &[0.0; 10], 1e-12);
    }

    #[test]
    fn channels_add_up() {
        let parts = wave(&[2, 3, 2, 2], 0.2);
        let found = sum_channels(&parts).unwrap();
        let expected = parts.select(1, 0) + parts.select(1, 1) + parts.select(1, 2);
        assert!((found - expected).abs().max().scalar().unwrap() < 1e-6);
        assert!(sum_channels(&wave(&[2, 3], 0.2)).is_err());
    }

    #[test]
    fn rejects_what_cannot_be_integrated() {
        let x = wave(&[2, 5], 0.37);
        let refused = |x: &Tensor, baseline: &Tensor, steps: usize| {
            let config = IntegratedGradientsConfig { steps, ..Default::default() };
            integrated_gradients(&|x| Ok(function(x)), x, baseline, &config).unwrap_err().to_string()
        };
        assert_eq!(refused(&x, &x, 0), "steps = 0: at least 1");
        assert!(refused(&(&x / 0.0), &x, 3).starts_with("x is not finite"));
        assert!(refused(&x, &(&x * f64::NAN), 3).starts_with("baseline is not finite"));
        let error = refused(&x, &wave(&[4], 0.1), 3);
        assert_eq!(error, "baseline: expected a shape that broadcasts to [2, 5], found [4]");
    }
}
