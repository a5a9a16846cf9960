//! Limited-memory BFGS with a line search for the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 7.4,
//! 3.5 and 3.6), in 64 bits on plain slices, for objectives
//! whose value may be rounded to 32.

use selfsup_core::Result;
use std::collections::VecDeque;

/// Value and gradient at a point.
pub(crate) type Objective<'a> = dyn FnMut(&[f64]) -> Result<(f64, Vec<f64>)> + 'a;

/// When to stop.
pub(crate) struct Limits {
    /// The Euclidean norm of the gradient that counts as zero.
    pub tolerance: f64,
    /// The most iterations.
    pub iterations: usize,
}

/// Where the search ended.
pub(crate) struct Minimum {
    pub x: Vec<f64>,
    pub gradient_norm: f64,
    pub iterations: usize,
    pub converged: bool,
}

/// A point on the way, with the objective's value and gradient.
struct Point {
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// A step and the change of the gradient along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// `1 / step . change`
    rho: f64,
}

/// Steps remembered: the usual 10.
const MEMORY: usize = 10;
/// Sufficient decrease.
const C1: f64 = 1e-4;
/// Curvature.
const C2: f64 = 0.9;
/// How exact the objective's value is, relatively: it may come from 32-bit products.
const ROUNDING: f64 = 1e-8;
/// Evaluations of one line search; more help no more, rounding has the upper hand by then.
const LINE_EVALUATIONS: usize = 20;

/// Minimises `objective`, which returns value and gradient, from `start`. `scale` is the diagonal of a guess at the
/// inverse Hessian: the nearer, the fewer iterations.
pub(crate) fn minimise(
    objective: &mut Objective,
    start: Vec<f64>,
    scale: &[f64],
    limits: &Limits,
) -> Result<Minimum> {
    let (value, gradient) = objective(&start)?;
    let mut point = Point { x: start, value, gradient };
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    let mut iterations = 0;
    loop {
        let gradient_norm = dot(&point.gradient, &point.gradient).sqrt();
        let converged = gradient_norm <= limits.tolerance;
        if converged || iterations == limits.iterations {
            return Ok(Minimum { x: point.x, gradient_norm, iterations, converged });
        }
        let direction = descent_direction(&point.gradient, &memory, scale);
        let Some(next) = line_search(objective, &point, &direction)? else {
            if memory.is_empty() {
                return Ok(Minimum { x: point.x, gradient_norm, iterations, converged });
            }
            memory.clear(); // the remembered curvature misleads: once more from the scaled gradient
            continue;
        };
        iterations += 1;
        let step: Vec<f64> = next.x.iter().zip(&point.x).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = next.gradient.iter().zip(&point.gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > f64::EPSILON * dot(&change, &change) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair { step, change, rho: 1.0 / curvature });
        }
        point = next;
    }
}

/// The two-loop recursion: minus the approximate inverse Hessian times the gradient.
fn descent_direction(gradient: &[f64], memory: &VecDeque<Pair>, scale: &[f64]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let alpha = pair.rho * dot(&pair.step, &q);
        add_scaled(&mut q, -alpha, &pair.change);
        alphas.push(alpha);
    }
    let gamma = memory.back().map_or(1.0, |pair| {
        let scaled: f64 = pair.change.iter().zip(scale).map(|(y, s)| y * y * s).sum();
        1.0 / (pair.rho * scaled)
    });
    q.iter_mut().zip(scale).for_each(|(q, s)| *q *= gamma * s);
    for (pair, alpha) in memory.iter().zip(alphas.iter().rev()) {
        let beta = pair.rho * dot(&pair.change, &q);
        add_scaled(&mut q, alpha - beta, &pair.step);
    }
    q
}

/// A step length with value and slope there.
#[derive(Clone, Copy)]
struct Trial {
    step: f64,
    value: f64,
    slope: f64,
}

/// A point along `direction` that satisfies the strong Wolfe conditions; failing that, the best that lies lower; none
/// when rounding hides all descent.
fn line_search(objective: &mut Objective, from: &Point, direction: &[f64]) -> Result<Option<Point>> {
    let start = Trial { step: 0.0, value: from.value, slope: dot(&from.gradient, direction) };
    if start.slope.is_nan() || start.slope >= 0.0 {
        return Ok(None);
    }
    // Near the minimum values differ by less than they are rounded: such a rise is none.
    let rounding = ROUNDING * from.value.abs();
    let too_high = |t: &Trial, low: &Trial| {
        let sufficient = start.value + C1 * t.step * start.slope;
        t.value.is_nan() || t.value > sufficient.min(low.value) + rounding
    };
    let (mut low, mut high): (Trial, Option<Trial>) = (start, None);
    let mut best: Option<Point> = None;
    let mut step = 1.0;
    for _ in 0..LINE_EVALUATIONS {
        let mut x = from.x.clone();
        add_scaled(&mut x, step, direction);
        let (value, gradient) = objective(&x)?;
        let trial = Trial { step, value, slope: dot(&gradient, direction) };
        if too_high(&trial, &low) || !trial.slope.is_finite() {
            high = Some(trial);
        } else {
            best = Some(Point { x, value, gradient });
            if trial.slope.abs() <= -C2 * start.slope {
                return Ok(best);
            }
            // The minimum lies on the side of `trial` to which the value falls.
            if trial.slope * high.map_or(1.0, |h| h.step - low.step) >= 0.0 {
                high = Some(low);
            }
            low = trial;
        }
        step = match high {
            Some(high) => between(&low, &high),
            None => 2.0 * step,
        };
    }
    Ok(best)
}

/// The minimum of the cubic through two trials, kept off the ends of the interval; its middle where there is none.
fn between(low: &Trial, high: &Trial) -> f64 {
    let width = high.step - low.step;
    let d1 = low.slope + high.slope - 3.0 * (high.value - low.value) / width;
    let d2 = (d1 * d1 - low.slope * high.slope).sqrt() * width.signum();
    let cubic = high.step - width * (high.slope + d2 - d1) / (high.slope - low.slope + 2.0 * d2);
    let (least, most) = if width > 0.0 { (low.step, high.step) } else { (high.step, low.step) };
    let margin = 0.1 * (most - least);
    if cubic.is_finite() { cubic.clamp(least + margin, most - margin) } else { low.step + 0.5 * width }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(x: &mut [f64], factor: f64, y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += factor * y);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rosenbrock(x: &[f64]) -> (f64, Vec<f64>) {
        let (a, b) = (x[0], x[1]);
        let value = (1.0 - a).powi(2) + 100.0 * (b - a * a).powi(2);
        (value, vec![-2.0 * (1.0 - a) - 400.0 * a * (b - a * a), 200.0 * (b - a * a)])
    }

    #[test]
    fn finds_the_minimum_of_rosenbrocks_valley() {
        let limits = Limits { tolerance: 1e-9, iterations: 100 };
        let found = minimise(&mut |x| Ok(rosenbrock(x)), vec![-1.2, 1.0], &[1.0, 1.0], &limits).unwrap();
        assert!(found.converged && found.iterations < 60, "{} iterations", found.iterations);
        assert!((found.x[0] - 1.0).abs() < 1e-8 && (found.x[1] - 1.0).abs() < 1e-8, "{:?}", found.x);
    }

    #[test]
    fn a_right_guess_at_the_curvature_makes_one_step_of_a_quadratic() {
        let curvature = [1e-6, 1.0, 1e6];
        let mut quadratic = |x: &[f64]| {
            let value = x.iter().zip(&curvature).map(|(x, c)| 0.5 * c * (x - 3.0) * (x - 3.0)).sum();
            Ok((value, x.iter().zip(&curvature).map(|(x, c)| c * (x - 3.0)).collect()))
        };
        let limits = Limits { tolerance: 1e-8, iterations: 100 };
        let found = minimise(&mut quadratic, vec![0.0; 3], &curvature.map(|c| 1.0 / c), &limits).unwrap();
        assert!(found.converged && found.iterations <= 2, "{} iterations", found.iterations);
    }

    #[test]
    fn every_step_satisfies_the_strong_wolfe_conditions() {
        let start = vec![-1.2, 1.0];
        let (value, gradient) = rosenbrock(&start);
        let direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let slope = dot(&gradient, &direction);
        let from = Point { x: start.clone(), value, gradient };
        let to = line_search(&mut |x| Ok(rosenbrock(x)), &from, &direction).unwrap().unwrap();
        let step = (to.x[0] - start[0]) / direction[0];
        assert!(to.value <= value + C1 * step * slope);
        assert!(dot(&to.gradient, &direction).abs() <= C2 * slope.abs());
    }

    #[test]
    fn stops_where_nothing_falls_any_more() {
        let limits = Limits { tolerance: 0.0, iterations: 10_000 };
        let found = minimise(&mut |x| Ok(rosenbrock(x)), vec![-1.2, 1.0], &[1.0, 1.0], &limits).unwrap();
        assert!(found.iterations < 200 && found.gradient_norm < 1e-6);
    }
}
