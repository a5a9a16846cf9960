//! Multinomial logistic regression, fitted to convergence.
//!
//! ```text
//! min over W, b    1/N sum_i -log softmax(W x_i + b)[y_i]  +  1/(2 C N) |W|^2
//! ```
//! which is scikit-learn's `C sum loss + |W|^2 / 2`, divided by `C N`; the bias is not penalised. The objective is
//! convex, its gradient is closed-form, `(P - Y)^T X / N + W / (C N)`, and L-BFGS minimises it: products with the features in 32
//! bits, all sums over samples in 64.
//!
//! The weights are sought along the features' principal axes (`axes`): there the Hessian is nearly diagonal, and L-BFGS
//! started with that diagonal takes some tens of iterations where it would take hundreds. The samples stay where they
//! are.
//!
//! Labels that do not exclude each other are as many problems of yes or no, solved together: with `p = sigmoid(W x + b)`
//! in the place of the softmax the gradient is the same.

use crate::axes::Axes;
use crate::lbfgs::{Limits, minimise};
use selfsup_core::{Device, Error, Features, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// When a fit has converged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogisticConfig {
    /// The Euclidean norm of the objective's gradient (mean loss and penalty, above) at which the fit ends.
    /// The objective then lies at most `tolerance^2 C N / 2` above its minimum, and in practice far closer. Below
    /// 1e-6 the rounding of 32-bit products is in the way.
    pub tolerance: f64,
    /// The most iterations of L-BFGS.
    pub max_iterations: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        LogisticConfig { tolerance: 1e-4, max_iterations: 1000 }
    }
}

/// Scores that exist at a time, 32 MB of them.
const BLOCK_SCORES: i64 = 1 << 22;
const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

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
        let problem = Problem::new(&train.x, &train.labels)?;
        Ok(problem.to_classifier(&problem.solve(c, None, config)?))
    }

    /// The class scores before softmax.
    ///
    /// # Shapes
    /// `x` `[M, D]` to `[M, K]` Float.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` has another number of features.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        check_shape("x", x, [-1, self.weight.size()[1]])?;
        Ok(self
            .bias
            .to_kind(Kind::Float)
            .addmm(&x.to_kind(Kind::Float), &self.weight.tr().to_kind(Kind::Float)))
    }

    /// The most probable class of every row, `[M]` Int64.
    ///
    /// # Errors
    /// As [`logits`](Logistic::logits).
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.classes.index_select(0, &self.logits(x)?.argmax(1, false)))
    }
}

/// What probabilities the class scores stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// A sample has one class.
    Softmax,
    /// A sample has any of the labels.
    Sigmoid,
}

impl Link {
    /// The summed cross-entropy of scores `[N, K]` with targets, and the probabilities `[N, K]`.
    fn loss(self, scores: &Tensor, targets: &Tensor) -> Result<(f64, Tensor)> {
        let targets = targets.reshape([-1]);
        match self {
            Link::Softmax => {
                let log_p = scores.log_softmax(1, None);
                Ok((-log_p.reshape([-1]).dot(&targets).scalar()?, log_p.exp()))
            }
            Link::Sigmoid => {
                // log(1 + e^z) - y z
                let all = scores.softplus().sum(None).scalar()?;
                Ok((all - scores.reshape([-1]).dot(&targets).scalar()?, scores.sigmoid()))
            }
        }
    }
}

/// One training set with its principal axes, to be solved for several strengths.
pub(crate) struct Problem {
    /// The centred samples, `[N, D]` Float.
    x: Tensor,
    /// The share of every class or label in every sample, `[N, K]` Double.
    targets: Tensor,
    classes: Tensor,
    link: Link,
    axes: Axes,
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

impl Problem {
    /// Prepares `x` `[N, D]` Float with labels `[N]` Int64.
    pub fn new(x: &Tensor, labels: &Tensor) -> Result<Problem> {
        let (classes, compact, _) = labels.unique_dim(0, true, true, false);
        if classes.size()[0] < 2 {
            return Err(Error::config(
                "labels",
                format!("only class {}", classes.int64_value(&[0])),
                "at least two classes",
            ));
        }
        let targets = compact.one_hot(classes.size()[0]).to_kind(Kind::Double);
        Problem::with_targets(x, &targets, classes, Link::Softmax)
    }

    /// Prepares `x` `[N, D]` with targets `[N, K]` Double; for [`Link::Softmax`] each row's sum is 1. `classes` `[K]` are
    /// what the columns stand for.
    pub fn with_targets(x: &Tensor, targets: &Tensor, classes: Tensor, link: Link) -> Result<Problem> {
        Problem::along(Axes::beside(x)?, targets, classes, link)
    }

    fn along(
        (x, axes, variances): (Tensor, Axes, Tensor),
        targets: &Tensor,
        classes: Tensor,
        link: Link,
    ) -> Result<Problem> {
        let variances = Vec::try_from(variances)?;
        Ok(Problem { x, targets: targets.contiguous(), classes, link, axes, variances })
    }

    /// Minimises the objective for strength `c` from `start` or from zero.
    pub fn solve(&self, c: f64, start: Option<&Solution>, config: &LogisticConfig) -> Result<Solution> {
        if !(c > 0.0 && c.is_finite()) {
            return Err(Error::config("c", c, "a number above 0"));
        }
        let (n, r, k) = (self.x.size()[0], self.axes.count(), self.targets.size()[1]);
        let penalty = 1.0 / (c * n as f64);
        let start = start.map_or_else(|| vec![0.0; ((r + 1) * k) as usize], |s| s.parameters.clone());
        // The Hessian's blocks are p (1 - p) x x^T on average. One value for all classes keeps the weights' sum over
        // the classes at zero, where the penalty wants it.
        let (weight, bias) = self.split(&start);
        let mut spread = 0.0;
        self.each_block(&weight, &bias, |_, _, _, p| {
            spread += (p - p.square()).sum(None).scalar()?;
            Ok(())
        })?;
        let spread = (spread / (n * k) as f64).max(1e-6);
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
        let (weight, bias) = self.axes.to_features(&weight, &bias);
        let bias = match self.link {
            // What is added to all scores changes no probability.
            Link::Softmax => &bias - bias.mean(None),
            Link::Sigmoid => bias,
        };
        Logistic {
            bias,
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
        let (weight, bias) = self.axes.along(&other.weight, &other.bias);
        let bias = bias.unsqueeze(1); // [K, 1]
        let parameters = Vec::try_from(Tensor::cat(&[weight, bias], 1).reshape([-1]))?;
        Ok(Some(Solution { parameters, iterations: 0, gradient_norm: f64::NAN, converged: false }))
    }

    fn split(&self, parameters: &[f64]) -> (Tensor, Tensor) {
        let r = self.axes.count();
        let parameters = Tensor::from_slice(parameters).reshape([-1, r + 1]);
        (parameters.narrow(1, 0, r), parameters.select(1, r))
    }

    /// Calls `f` for one block of samples after the other, so that no more scores exist than those of a block, with the samples
    /// `[B, D]`, their targets `[B, K]`, their summed loss and their probabilities `[B, K]`. Products are taken in 32
    /// bits, all that is summed over samples in 64.
    fn each_block(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        mut f: impl FnMut(&Tensor, &Tensor, f64, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let weight = self.axes.weights_of_features(weight).to_kind(Kind::Float);
        let (n, k) = (self.targets.size()[0], self.targets.size()[1]);
        let rows = (BLOCK_SCORES / k).max(1);
        for start in (0..n).step_by(rows as usize) {
            let count = rows.min(n - start);
            let (x, targets) = (self.x.narrow(0, start, count), self.targets.narrow(0, start, count));
            // The other way round the product of few classes takes three times as long.
            let scores = x.matmul(&weight.tr()).to_kind(Kind::Double) + bias;
            let (loss, p) = self.link.loss(&scores, &targets)?;
            f(&x, &targets, loss, &p)?;
        }
        Ok(())
    }

    fn objective(&self, parameters: &[f64], penalty: f64) -> Result<(f64, Vec<f64>)> {
        let n = self.x.size()[0] as f64;
        let (weight, bias) = self.split(parameters);
        let mut value = 0.5 * penalty * weight.square().sum(None).scalar()?;
        let mut to_features = Tensor::zeros([bias.size()[0], self.x.size()[1]], DOUBLE);
        let mut bias_gradient = bias.zeros_like();
        self.each_block(&weight, &bias, |x, targets, loss, p| {
            value += loss / n;
            let residual = (p - targets) / n; // [B, K]
            to_features += residual.to_kind(Kind::Float).tr().matmul(x);
            bias_gradient += residual.sum_dim_intlist([0].as_slice(), false, None);
            Ok(())
        })?;
        let weight_gradient = self.axes.weights_along(&to_features) + weight * penalty;
        let gradient = Tensor::cat(&[weight_gradient, bias_gradient.unsqueeze(1)], 1); // [K, R + 1]
        Ok((value, Vec::try_from(gradient.reshape([-1]))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};

    const EXACT: LogisticConfig = LogisticConfig { tolerance: 2e-6, max_iterations: 1000 };

    fn assert_close(found: &Tensor, expected: &Tensor) {
        let difference = (found - expected).abs().max().scalar().unwrap();
        assert!(difference < 1e-4, "differs by {difference}: {:?}", Vec::<Vec<f64>>::try_from(found));
    }

    fn forty(classes: i64) -> Features {
        let labels: Vec<i64> = (0..40).map(|i| i * 7 % 5 % classes).collect();
        Features::new(formula(40, 4), Tensor::from_slice(&labels), classes).unwrap()
    }

    // x = np.sin(np.arange(160).reshape(40, 4) ** 1.5 * 0.37); y = np.arange(40) * 7 % 5 % 3
    // lr = sklearn.linear_model.LogisticRegression(C=C, tol=1e-10, max_iter=100000).fit(x, y)   # 1.9.1
    // lr.coef_, lr.intercept_ - lr.intercept_.mean(), lr.score(x, y)
    #[test]
    fn agrees_with_scikit_learn() {
        let train = forty(3);
        let (x, y) = (&train.x, &train.labels);
        let strong = Logistic::fit(&train, 0.5, &EXACT).unwrap();
        assert!(strong.converged, "gradient {}", strong.gradient_norm);
        assert_close(
            &strong.weight,
            &Tensor::from_slice2(&[
                [-0.2692355, 0.09961152, 0.05392845, -0.38765112],
                [-0.06758632, -0.06758981, 0.01709048, 0.25282332],
                [0.33682182, -0.0320217, -0.07101894, 0.13482781],
            ]),
        );
        assert_close(&strong.bias, &Tensor::from_slice(&[0.34449811, 0.18465589, -0.529154]));
        let right = strong.predict(x).unwrap().eq_tensor(y).sum(Kind::Int64).scalar().unwrap();
        assert_eq!(right, 20.0);

        let weak = Logistic::fit(&train, 20.0, &EXACT).unwrap();
        assert_close(
            &weak.weight,
            &Tensor::from_slice2(&[
                [-0.41037018, 0.12786674, 0.15637189, -0.54301553],
                [-0.13728684, -0.09608204, 0.03871468, 0.31268387],
                [0.54765702, -0.03178471, -0.19508657, 0.23033166],
            ]),
        );
        assert_close(&weak.bias, &Tensor::from_slice(&[0.40557265, 0.19573796, -0.60131061]));
        let right = weak.predict(x).unwrap().eq_tensor(y).sum(Kind::Int64).scalar().unwrap();
        assert_eq!(right, 19.0);
    }

    // The same with x of shape (6, 10), y = [0, 0, 1, 1, 4, 4], C = 1; the first four columns.
    #[test]
    fn agrees_with_scikit_learn_on_fewer_samples_than_features_and_absent_classes() {
        let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 4, 4]);
        let train = Features::new(formula(6, 10), labels.shallow_clone(), 6).unwrap();
        let found = Logistic::fit(&train, 1.0, &EXACT).unwrap();
        assert_close(
            &found.weight.narrow(1, 0, 4),
            &Tensor::from_slice2(&[
                [0.08897139, 0.30620478, 0.19119155, 0.12799598],
                [0.20706787, -0.16018045, -0.21604435, 0.28739096],
                [-0.29603927, -0.14602433, 0.0248528, -0.41538694],
            ]),
        );
        assert_close(&found.bias, &Tensor::from_slice(&[0.10162657, -0.24768594, 0.14605938]));
        assert_eq!(Vec::<i64>::try_from(&found.classes).unwrap(), [0, 1, 4]);
        assert_eq!(found.predict(&train.x).unwrap(), labels);
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let train = forty(3);
        let problem = Problem::new(&train.x, &train.labels).unwrap();
        let at: Vec<f64> = (0..15).map(|i| f64::from(i).sin()).collect();
        let (_, gradient) = problem.objective(&at, 0.1).unwrap();
        for i in 0..at.len() {
            let value = |change: f64| {
                let mut moved = at.clone();
                moved[i] += change;
                problem.objective(&moved, 0.1).unwrap().0
            };
            let slope = (value(1e-2) - value(-1e-2)) / 2e-2;
            assert!((slope - gradient[i]).abs() < 1e-4, "{i}: {slope} {}", gradient[i]);
        }
    }

    // y = np.stack([x[:, 0] > 0.2, np.arange(40) * 7 % 5 < 2], 1) with x as above, in 32 bits
    // [LogisticRegression(C=0.5, tol=1e-10, max_iter=100000).fit(x, t) for t in y.T]: coef_, intercept_
    #[test]
    fn labels_that_do_not_exclude_each_other_are_scikit_learns_problems_one_by_one() {
        let x = formula(40, 4);
        let second: Vec<bool> = (0..40).map(|i| i * 7 % 5 < 2).collect();
        let y =
            Tensor::stack(&[x.select(1, 0).gt(0.2), Tensor::from_slice(&second)], 1).to_kind(Kind::Double);
        let classes = Tensor::from_slice(&[0_i64, 1]);
        let problem = Problem::with_targets(&x, &y, classes, Link::Sigmoid).unwrap();
        let found = problem.to_classifier(&problem.solve(0.5, None, &EXACT).unwrap());
        assert_close(&found.weight, &Tensor::from_slice2(&SIGMOID_WEIGHT));
        assert_close(&found.bias, &Tensor::from_slice(&SIGMOID_BIAS));
    }

    const SIGMOID_WEIGHT: [[f64; 4]; 2] = [
        [2.037068071421431, 0.20822844316281813, 0.4078241138881523, -0.30258248218536427],
        [0.20584500871227265, -0.4877779245507374, -0.047613172330366535, -0.3534705603552428],
    ];
    const SIGMOID_BIAS: [f64; 2] = [-0.33092296293578793, -0.3516831198754791];

    #[test]
    fn doubling_every_sample_is_halving_the_penalty() {
        let train = forty(3);
        let twice = train.select(&Tensor::arange(80, (Kind::Int64, Device::Cpu)).remainder(40));
        let once = Logistic::fit(&train, 2.0, &EXACT).unwrap();
        assert_close(&once.weight, &Logistic::fit(&twice, 1.0, &EXACT).unwrap().weight);
    }

    #[test]
    fn without_rotation_it_finds_the_same() {
        let train = clouds(60, 3, 1.0);
        let rotated = Problem::new(&train.x, &train.labels).unwrap();
        let targets = train.labels.one_hot(3).to_kind(Kind::Double);
        let classes = rotated.classes.shallow_clone();
        let plain = Problem::along(Axes::only_centre(&train.x), &targets, classes, Link::Softmax).unwrap();
        let [a, b] = [rotated, plain].map(|p| p.to_classifier(&p.solve(1.0, None, &EXACT).unwrap()));
        assert_close(&a.weight, &b.weight);
        assert_close(&a.bias, &b.bias);
    }

    #[test]
    fn a_warm_start_at_the_solution_ends_at_once() {
        let train = forty(3);
        let problem = Problem::new(&train.x, &train.labels).unwrap();
        let found = problem.to_classifier(&problem.solve(1.0, None, &EXACT).unwrap());
        let start = problem.start_from(&found).unwrap().unwrap();
        let again = problem.solve(1.0, Some(&start), &LogisticConfig { tolerance: 1e-5, ..EXACT }).unwrap();
        assert_eq!(again.iterations, 0);
    }

    #[test]
    fn features_that_never_vary_leave_the_class_frequencies() {
        let labels = Tensor::from_slice(&[0_i64, 1, 1, 1]);
        let train = Features::new(formula(4, 2).ones_like(), labels, 2).unwrap();
        let found = Logistic::fit(&train, 1.0, &EXACT).unwrap();
        let p = found.logits(&train.x).unwrap().softmax(1, Kind::Double);
        assert_close(&p.get(0), &Tensor::from_slice(&[0.25, 0.75]));
    }

    #[test]
    fn rejects_one_class_and_a_strength_of_zero() {
        let train = Features::new(formula(4, 2), Tensor::from_slice(&[3_i64; 4]), 5).unwrap();
        let error = Logistic::fit(&train, 1.0, &EXACT).unwrap_err().to_string();
        assert_eq!(error, "labels = only class 3: at least two classes");
        let error = Logistic::fit(&forty(3), 0.0, &EXACT).unwrap_err().to_string();
        assert_eq!(error, "c = 0: a number above 0");
        let found = Logistic::fit(&forty(3), 1.0, &EXACT).unwrap();
        let error = found.predict(&formula(3, 5)).unwrap_err().to_string();
        assert_eq!(error, "x: expected [_, 4], found [3, 5]");
    }
}
