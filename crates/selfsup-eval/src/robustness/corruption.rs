//! Robustness to common corruptions: accuracies under each corruption and severity, boiled down.
//!
//! With `E_cs` the error under corruption `c` at severity `s`, `E` the clean error, primes for a reference model:
//! ```text
//! kept          mean_cs (1 - E_cs) / (1 - E)                    accuracy relative to clean; 1 when nothing is lost
//! CE_c          sum_s E_cs / sum_s E'_cs          mCE          = mean_c CE_c         (Hendrycks and Dietterich 2019)
//! relative CE_c sum_s (E_cs - E) / sum_s (E'_cs - E')          relative mCE = its mean
//! ```
//! mCE below 1 is better than the reference (the paper's is AlexNet, and it writes percent); it falls with the clean error
//! alone. Relative mCE does not: it asks what the corruption adds.

use crate::Measurement;
use crate::measurement::Origin;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Accuracies on clean and on corrupted samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracies {
    /// On clean samples.
    pub clean: f64,
    /// Under each corruption, by rising severity.
    pub corrupted: Vec<(String, Vec<f64>)>,
    /// The samples of each.
    pub samples: usize,
}

/// What corruptions leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Robustness {
    /// The accuracy relative to clean, mean over corruptions and severities.
    pub kept: f64,
    /// The same for each corruption.
    pub kept_under: Vec<(String, f64)>,
    /// The mean corrupted accuracy.
    pub accuracy: f64,
    /// The mean corruption error against a reference.
    pub mce: Option<f64>,
    /// The relative mean corruption error; none too where a corruption does not harm the reference.
    pub relative_mce: Option<f64>,
    /// The samples of each accuracy.
    pub samples: usize,
}

/// Boils accuracies down, beside those of a reference where there is one.
///
/// # Errors
/// When there are no corruptions or severities, an accuracy is not in `[0, 1]`, the clean accuracy is 0, or the reference has
/// other corruptions, or one under which it makes no error at all.
pub fn robustness(model: &Accuracies, reference: Option<&Accuracies>) -> Result<Robustness> {
    check("model", model)?;
    if model.clean == 0.0 {
        return Err(Error::config("clean accuracy", 0, "above 0: nothing can be kept of it"));
    }
    let kept_under: Vec<(String, f64)> = model
        .corrupted
        .iter()
        .map(|(name, accuracies)| (name.clone(), mean(accuracies.iter().copied()) / model.clean))
        .collect();
    let (mut mce, mut relative_mce) = (None, None);
    if let Some(reference) = reference {
        check("reference", reference)?;
        let pairs = pairs(model, reference)?;
        let errors = |accuracies: &[f64]| accuracies.iter().map(|a| 1.0 - a).sum::<f64>();
        let added =
            |of: &Accuracies, accuracies: &[f64]| accuracies.iter().map(|a| of.clean - a).sum::<f64>();
        if let Some((name, ..)) = pairs.iter().find(|(_, _, theirs)| errors(theirs) <= 0.0) {
            let found = format!("no error under {name}");
            return Err(Error::config("reference", found, "errors to compare with"));
        }
        mce = Some(mean(pairs.iter().map(|(_, ours, theirs)| errors(ours) / errors(theirs))));
        let harmed = pairs.iter().all(|(_, _, theirs)| added(reference, theirs) > 0.0);
        let ratio = |(_, ours, theirs): &Pair| added(model, ours) / added(reference, theirs);
        relative_mce = harmed.then(|| mean(pairs.iter().map(ratio)));
    }
    Ok(Robustness {
        kept: mean(kept_under.iter().map(|(_, kept)| *kept)),
        accuracy: mean(model.corrupted.iter().map(|(_, accuracies)| mean(accuracies.iter().copied()))),
        kept_under,
        mce,
        relative_mce,
        samples: model.samples,
    })
}

/// A corruption with the accuracies of the model and of the reference.
type Pair<'a> = (&'a str, &'a [f64], &'a [f64]);

fn pairs<'a>(model: &'a Accuracies, reference: &'a Accuracies) -> Result<Vec<Pair<'a>>> {
    let pair = |(name, ours): &'a (String, Vec<f64>)| {
        let theirs = reference.corrupted.iter().find(|(other, _)| other == name);
        match theirs {
            Some((_, theirs)) if theirs.len() == ours.len() => {
                Ok((name.as_str(), ours.as_slice(), theirs.as_slice()))
            }
            _ => {
                let expected = format!("{} severities of it", ours.len());
                Err(Error::config(
                    format!("reference under {name}"),
                    theirs.map_or(0, |t| t.1.len()),
                    expected,
                ))
            }
        }
    };
    model.corrupted.iter().map(pair).collect()
}

fn check(who: &str, accuracies: &Accuracies) -> Result<()> {
    if accuracies.corrupted.is_empty() {
        return Err(Error::config(format!("corruptions of the {who}"), "none", "at least one"));
    }
    let is_share = |a: f64| (0.0..=1.0).contains(&a);
    if !is_share(accuracies.clean) {
        return Err(Error::config(format!("clean accuracy of the {who}"), accuracies.clean, "0 to 1"));
    }
    for (name, by_severity) in &accuracies.corrupted {
        if by_severity.is_empty() {
            return Err(Error::config(format!("severities of {name}"), "none", "at least one"));
        }
        if let Some(bad) = by_severity.iter().find(|a| !is_share(**a)) {
            return Err(Error::config(format!("accuracy of the {who} under {name}"), bad, "0 to 1"));
        }
    }
    Ok(())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    sum / n
}

impl Robustness {
    /// The measures for a report, of samples from `split` classified by `by`, as in `the linear probe`. `reference` says what
    /// the corruption errors are relative to.
    pub fn measurements(
        &self,
        split: &str,
        seed: Option<u64>,
        by: &str,
        reference: &str,
    ) -> Vec<Measurement> {
        let origin = Origin { split, seed };
        let n = self.samples;
        let over = format!("mean over {} corruptions and their severities, by {by}", self.kept_under.len());
        let mut all = vec![
            origin.plain(
                "corrupted_accuracy",
                self.accuracy,
                n,
                format!("accuracy on corrupted samples, {over}"),
            ),
            origin.plain(
                "accuracy_kept",
                self.kept,
                n,
                format!("corrupted accuracy over clean accuracy, {over}"),
            ),
        ];
        if let Some(mce) = self.mce {
            let text = format!(
                "corruption error relative to that of {reference}, {over} (Hendrycks and Dietterich 2019)"
            );
            all.push(origin.plain("mce", mce, n, text));
        }
        if let Some(relative) = self.relative_mce {
            let text = format!("what corruptions add to the error, relative to {reference}, {over}");
            all.push(origin.plain("relative_mce", relative, n, text));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accuracies(clean: f64, noise: &[f64], blur: &[f64]) -> Accuracies {
        let corrupted = vec![("noise".to_owned(), noise.to_vec()), ("blur".to_owned(), blur.to_vec())];
        Accuracies { clean, corrupted, samples: 1000 }
    }

    fn both() -> (Accuracies, Accuracies) {
        (
            accuracies(0.9, &[0.8, 0.7, 0.5], &[0.85, 0.8, 0.6]),
            accuracies(0.6, &[0.4, 0.3, 0.1], &[0.5, 0.45, 0.3]),
        )
    }

    // m = 1 - np.array([[.8, .7, .5], [.85, .8, .6]]); r = 1 - np.array([[.4, .3, .1], [.5, .45, .3]])
    // np.mean((1 - m) / .9), np.mean(m.sum(1) / r.sum(1)), np.mean((m - .1).sum(1) / (r - .4).sum(1))
    #[test]
    fn has_the_values_of_the_papers_formulas() {
        let (model, reference) = both();
        let found = robustness(&model, Some(&reference)).unwrap();
        let values = [found.kept, found.mce.unwrap(), found.relative_mce.unwrap()];
        assert!(values.iter().zip(NUMPY).all(|(f, e)| (f - e).abs() < 1e-12), "{values:?}");
        assert!((found.kept_under[1].1 - 0.75 / 0.9).abs() < 1e-12);
        let names: Vec<String> =
            found.measurements("test", None, "the probe", "pixels").into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["corrupted_accuracy", "accuracy_kept", "mce", "relative_mce"]);
    }

    const NUMPY: [f64; 3] = [0.7870370370370372, 0.4415584415584416, 0.7590909090909093];

    #[test]
    fn a_model_against_itself_has_error_one_and_one_that_loses_nothing_keeps_all() {
        let (model, _) = both();
        let found = robustness(&model, Some(&model)).unwrap();
        assert_eq!((found.mce, found.relative_mce), (Some(1.0), Some(1.0)));
        let steady = accuracies(0.7, &[0.7, 0.7], &[0.7, 0.7]);
        let found = robustness(&steady, None).unwrap();
        assert!((found.kept - 1.0).abs() < 1e-12 && found.mce.is_none());
        // A reference that corruptions do not harm has no relative error.
        assert_eq!(robustness(&steady, Some(&steady)).unwrap().relative_mce, None);
    }

    #[test]
    fn rejects_accuracies_that_cannot_be_compared() {
        let (model, mut reference) = both();
        let error = |m: &Accuracies, r: &Accuracies| robustness(m, Some(r)).unwrap_err().to_string();
        reference.corrupted[1].1.pop();
        assert_eq!(error(&model, &reference), "reference under blur = 2: 3 severities of it");
        reference.corrupted.pop();
        assert_eq!(error(&model, &reference), "reference under blur = 0: 3 severities of it");
        let perfect = accuracies(1.0, &[1.0; 3], &[0.5; 3]);
        assert_eq!(error(&model, &perfect), "reference = no error under noise: errors to compare with");
        let bad = accuracies(0.5, &[f64::NAN], &[0.5]);
        assert_eq!(error(&bad, &model), "accuracy of the model under noise = NaN: 0 to 1");
        let none = Accuracies { clean: 0.5, corrupted: vec![], samples: 1 };
        assert_eq!(error(&none, &model), "corruptions of the model = none: at least one");
        let blind = accuracies(0.0, &[0.0], &[0.0]);
        assert_eq!(error(&blind, &model), "clean accuracy = 0: above 0: nothing can be kept of it");
    }
}
