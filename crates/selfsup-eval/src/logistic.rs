//! Multinomial logistic regression, fitted to convergence.
//!
//! ```text
//! min over W, b    1/N sum_i -log softmax(W x_i + b)[y_i]  +  1/(2 C N) |W|^2
//! ```
//! which is scikit-learn's `C sum loss + |W|^2 / 2`, divided by `C N`; the bias is not penalised. The objective is
//! convex, its gradient is closed-form, `(P - Y)^T X / N + W / (C N)`, and L-BFGS minimises it in 64 bits.
//!
//! Neither penalty nor optimum change when the features are moved and rotated. So they are centred and turned into
//! their principal axes first: there the Hessian is nearly diagonal, and L-BFGS started with that diagonal
//! takes some tens of iterations where it would take hundreds. Directions in which nothing varies fall away; a
//! hundred samples of a thousand features become a problem in 99 dimensions.

use crate::lbfgs::{Limits, minimise};
use selfsup_core::{Error, Features, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// When a fit has converged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogisticConfig {
    /// The Euclidean norm of the objective's gradient (mean loss and penalty, above) at which the fit ends.
    pub tolerance: f64,
    /// The most iterations of L-BFGS.
    pub max_iterations: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        LogisticConfig { tolerance: 1e-4, max_iterations: 1000 }
    }
}

/// A fitted classifier.
#[derive(Debug)]
pub struct Logistic {
    /// The coefficients, `[K, D]` Double, a row for each of [`classes`](Logistic::classes).
    pub weight: Tensor,
    /// The intercepts, `[K]` Double; their mean is 0.
    pub bias: Tensor,
    /// The classes that the training labels held, ascending, `[K]` Int64.
    pub classes: Tensor,
    /// Iterations of L-BFGS.
    pub iterations: usize,
    /// The norm of the gradient at the end.
    pub gradient_norm: f64,
    /// Whether that is within the tolerance.
    pub converged: bool,
}

impl Logistic {
    /// Fits features as they are (standardise them before where their scales differ) with inverse regularisation
    /// strength `c`.
    ///
    /// # Errors
    /// When the labels hold fewer than two classes, or `c` is not above 0.
    pub fn fit(train: &Features, c: f64, config: &LogisticConfig) -> Result<Logistic> {
        let problem = Problem::new(&train.x.to_kind(Kind::Double), &train.labels)?;
        Ok(problem.to_classifier(&problem.solve(c, None, config)?))
    }

    /// The class scores before softmax.
    ///
    /// # Shapes
    /// `x` `[M, D]` of any kind to `[M, K]` Double.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` has another number of features.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        check_shape("x", x, [-1, self.weight.size()[1]])?;
        Ok(self.bias.addmm(&x.to_kind(Kind::Double), &self.weight.tr()))
    }

    /// The most probable class of every row, `[M]` Int64.
    ///
    /// # Errors
    /// As [`logits`](Logistic::logits).
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.classes.index_select(0, &self.logits(x)?.argmax(1, false)))
    }
}

/// One training set, turned into its principal axes, to be solved for several strengths.
pub(crate) struct Problem {
    /// `[N, R]`
    x: Tensor,
    /// One-hot labels over the classes that occur, `[N, K]`.
    targets: Tensor,
    classes: Tensor,
    mean: Tensor,
    /// From features to axes, `[D, R]`; none where finding them costs more than they save.
    axes: Option<Tensor>,
    /// The variance along each axis.
    variances: Vec<f64>,
}

/// Weights `[K, R]` and bias `[K]` in a problem's axes, class by class: `R` weights, then the bias.
pub(crate) struct Solution {
    parameters: Vec<f64>,
    iterations: usize,
    gradient_norm: f64,
    converged: bool,
}

/// Above this many samples and features the eigenvectors cost more than the iterations they save.
const MAX_ROTATION: i64 = 2048;

impl Problem {
    /// Prepares `x` `[N, D]` Double with labels `[N]` Int64.
    pub fn new(x: &Tensor, labels: &Tensor) -> Result<Problem> {
        let (classes, compact, _) = labels.unique_dim(0, true, true, false);
        if classes.size()[0] < 2 {
            return Err(Error::config(
                "labels",
                format!("only class {}", classes.int64_value(&[0])),
                "at least two classes",
            ));
        }
        let mean = x.mean_dim(0, true, None); // [1, D]
        let centred = x - &mean;
        let (n, d) = (x.size()[0], x.size()[1]);
        let (x, axes) = if n.min(d) > MAX_ROTATION {
            (centred, None)
        } else {
            let axes = principal_axes(&centred)?;
            (centred.matmul(&axes).contiguous(), Some(axes))
        };
        Ok(Problem {
            variances: Vec::try_from(x.square().mean_dim(0, false, None))?,
            targets: compact.one_hot(classes.size()[0]).to_kind(Kind::Double),
            x,
            classes,
            mean,
            axes,
        })
    }

    /// Minimises the objective for strength `c` from `start` or from zero.
    pub fn solve(&self, c: f64, start: Option<&Solution>, config: &LogisticConfig) -> Result<Solution> {
        if !(c > 0.0 && c.is_finite()) {
            return Err(Error::config("c", c, "a number above 0"));
        }
        let (n, r, k) = (self.x.size()[0], self.x.size()[1], self.targets.size()[1]);
        let penalty = 1.0 / (c * n as f64);
        let start = start.map_or_else(|| vec![0.0; ((r + 1) * k) as usize], |s| s.parameters.clone());
        // The Hessian's blocks are p (1 - p) x x^T on average. One value for all classes keeps the weights' sum over
        // the classes at zero, where the penalty wants it.
        let p = self.log_probabilities(&start).exp();
        let spread = (&p - p.square()).mean(None).scalar()?.max(1e-6);
        let scale: Vec<f64> = (0..k)
            .flat_map(|_| {
                let weights = self.variances.iter().map(move |v| 1.0 / (spread * v + penalty));
                weights.chain([1.0 / spread])
            })
            .collect();
        let mut objective = |parameters: &[f64]| self.objective(parameters, penalty);
        let limits = Limits { tolerance: config.tolerance, iterations: config.max_iterations };
        let found = minimise(&mut objective, start, &scale, &limits)?;
        Ok(Solution {
            parameters: found.x,
            iterations: found.iterations,
            gradient_norm: found.gradient_norm,
            converged: found.converged,
        })
    }

    /// The classifier in the coordinates of the features.
    pub fn to_classifier(&self, solution: &Solution) -> Logistic {
        let (weight, bias) = self.split(&solution.parameters);
        let weight = match &self.axes {
            Some(axes) => weight.matmul(&axes.tr()),
            None => weight,
        };
        let bias = bias - weight.matmul(&self.mean.tr()).squeeze_dim(1);
        Logistic {
            bias: &bias - bias.mean(None),
            weight,
            classes: self.classes.shallow_clone(),
            iterations: solution.iterations,
            gradient_norm: solution.gradient_norm,
            converged: solution.converged,
        }
    }

    /// A classifier of the same classes in this problem's axes, to start from.
    pub fn start_from(&self, other: &Logistic) -> Result<Option<Solution>> {
        if other.classes != self.classes {
            return Ok(None);
        }
        let bias = &other.bias.unsqueeze(1) + other.weight.matmul(&self.mean.tr()); // [K, 1]
        let weight = match &self.axes {
            Some(axes) => other.weight.matmul(axes),
            None => other.weight.shallow_clone(),
        };
        let parameters = Vec::try_from(Tensor::cat(&[weight, bias], 1).reshape([-1]))?;
        Ok(Some(Solution { parameters, iterations: 0, gradient_norm: f64::NAN, converged: false }))
    }

    fn split(&self, parameters: &[f64]) -> (Tensor, Tensor) {
        let r = self.x.size()[1];
        let parameters = Tensor::from_slice(parameters).reshape([-1, r + 1]);
        (parameters.narrow(1, 0, r), parameters.select(1, r))
    }

    fn log_probabilities(&self, parameters: &[f64]) -> Tensor {
        let (weight, bias) = self.split(parameters);
        bias.addmm(&self.x, &weight.tr()).log_softmax(1, None) // [N, K]
    }

    fn objective(&self, parameters: &[f64], penalty: f64) -> Result<(f64, Vec<f64>)> {
        let n = self.x.size()[0] as f64;
        let log_p = self.log_probabilities(parameters);
        let (weight, _) = self.split(parameters);
        let loss = -f64::try_from(log_p.reshape([-1]).dot(&self.targets.reshape([-1])))? / n;
        let value = loss + 0.5 * penalty * f64::try_from(weight.square().sum(None))?;
        let residual = (log_p.exp() - &self.targets) / n; // [N, K]
        let weight_gradient = residual.tr().matmul(&self.x) + weight * penalty; // [K, R]
        let bias_gradient = residual.sum_dim_intlist(0, false, None); // [K]
        let gradient = Tensor::cat(&[weight_gradient, bias_gradient.unsqueeze(1)], 1);
        Ok((value, Vec::try_from(gradient.reshape([-1]))?))
    }
}

/// The eigenvectors of `x^T x`, `[D, R]`, in whose direction the rows of `x` vary.
fn principal_axes(x: &Tensor) -> Result<Tensor> {
    let (n, d) = (x.size()[0], x.size()[1]);
    let wide = d > n;
    let gram = if wide { x.matmul(&x.tr()) } else { x.tr().matmul(x) };
    let (values, vectors) = gram.f_linalg_eigh("L")?; // ascending
    let largest = f64::try_from(values.max())?;
    let kept = i64::try_from(values.gt(largest * 1e-12).sum(Kind::Int64))?;
    let values = values.narrow(0, values.size()[0] - kept, kept);
    let vectors = vectors.narrow(1, vectors.size()[1] - kept, kept);
    // For wide data the eigenvectors u of x x^T give those of x^T x as x^T u / sqrt(value).
    Ok(if wide { x.tr().matmul(&vectors) / values.sqrt() } else { vectors })
}
