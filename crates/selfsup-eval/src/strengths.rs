//! The path of regularisation strengths: from the strongest penalty to the weakest, each fit starting from the one before, until
//! the loss of what chooses rises, beyond which only slow fits lie.

use crate::logistic::Problem;
use crate::{Logistic, LogisticConfig};
use selfsup_core::{Error, Result};

/// Refuses strengths that make no path.
pub(crate) fn check_strengths(strengths: &[f64]) -> Result<()> {
    let ascending = strengths.windows(2).all(|w| w[0] < w[1]);
    if strengths.is_empty() || !ascending || !strengths.iter().all(|c| *c > 0.0 && c.is_finite()) {
        return Err(Error::config("strengths", format!("{strengths:?}"), "ascending numbers above 0"));
    }
    Ok(())
}

/// The strength with the least loss and its classifier. `loss` judges each fit as it comes, with its strength.
pub(crate) fn least_loss(
    problem: &Problem,
    strengths: &[f64],
    logistic: &LogisticConfig,
    loss: &mut dyn FnMut(f64, &Logistic) -> Result<f64>,
) -> Result<(f64, Logistic)> {
    // To rank strengths a tenth of the accuracy is enough.
    let coarse = LogisticConfig { tolerance: 10.0 * logistic.tolerance, ..*logistic };
    let mut best: Option<(f64, f64, Logistic)> = None; // (loss, c, classifier)
    let mut solution = None;
    for &c in strengths {
        let solved = problem.solve(c, solution.as_ref(), &coarse)?;
        let classifier = problem.to_classifier(&solved);
        let found = loss(c, &classifier)?;
        match &best {
            Some((least, ..)) if found >= *least => break,
            _ => best = Some((found, c, classifier)),
        }
        solution = Some(solved);
    }
    let (_, c, best) = best.ok_or_else(|| Error::config("strengths", "[]", "at least one"))?;
    Ok((c, best))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::clouds;

    #[test]
    fn ends_where_the_loss_rises_and_keeps_the_least() {
        let set = clouds(60, 3, 1.0);
        let problem = Problem::new(&set.x, &set.labels).unwrap();
        let mut tried = Vec::new();
        let mut losses = [3.0, 1.0, 2.0, 0.0].into_iter();
        let mut loss = |c: f64, _: &Logistic| {
            tried.push(c);
            Ok(losses.next().unwrap())
        };
        let strengths = [0.01, 0.1, 1.0, 10.0];
        let (c, best) = least_loss(&problem, &strengths, &LogisticConfig::default(), &mut loss).unwrap();
        assert_eq!((c, tried), (0.1, vec![0.01, 0.1, 1.0]));
        let direct = problem.to_classifier(&problem.solve(0.1, None, &LogisticConfig::default()).unwrap());
        assert!(best.weight.allclose(&direct.weight, 1e-2, 1e-2, false), "{best:?}");
    }

    #[test]
    fn rejects_strengths_that_make_no_path() {
        let error = check_strengths(&[1.0, 0.1]).unwrap_err().to_string();
        assert_eq!(error, "strengths = [1.0, 0.1]: ascending numbers above 0");
        assert!(check_strengths(&[]).is_err() && check_strengths(&[0.0]).is_err());
        assert!(check_strengths(&[1.0, f64::INFINITY]).is_err());
    }
}
