//! Robustness from right and wrong answers, sample by sample, with intervals: as `corruption` boils accuracies down, but all
//! accuracies are over the same samples, and a bootstrap over these says how much the numbers would change with others.

use super::corruption::{Accuracies, Robustness, robustness};
use crate::measurement::Origin;
use crate::ranking::resampled;
use crate::{Interval, LEVEL, Mean, Measurement};
use selfsup_core::{Error, Key, Result};
use serde::{Deserialize, Serialize};

/// Which samples a classifier is right about, as they are and corrupted. All rows are over the same samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightAnswers {
    /// As they are.
    pub clean: Vec<bool>,
    /// Under each corruption, by rising severity.
    pub corrupted: Vec<(String, Vec<Vec<bool>>)>,
}

/// Robustness with the intervals of its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResampledRobustness {
    /// The accuracy on clean samples.
    pub clean: Mean,
    /// The mean accuracy over corruptions and severities.
    pub accuracy: Mean,
    /// That relative to clean.
    pub kept: Mean,
    /// The mean corruption error against a reference, where there is one.
    pub mce: Option<Mean>,
    /// The relative mean corruption error.
    pub relative_mce: Option<Mean>,
    /// The accuracy under each corruption by rising severity.
    pub under: Vec<(String, Vec<Mean>)>,
    /// Decides the draws of the bootstrap.
    pub seed: u64,
}

impl RightAnswers {
    fn check(&self, who: &str) -> Result<()> {
        let n = self.clean.len();
        if n == 0 || self.corrupted.is_empty() {
            let found = format!("{n} and {}", self.corrupted.len());
            return Err(Error::config(
                format!("samples and corruptions of the {who}"),
                found,
                "at least 1 of each",
            ));
        }
        for (name, by_severity) in &self.corrupted {
            if by_severity.is_empty() {
                return Err(Error::config(format!("severities of {name}"), "none", "at least one"));
            }
            if let Some(row) = by_severity.iter().find(|row| row.len() != n) {
                let field = format!("answers of the {who} under {name}");
                return Err(Error::config(field, row.len(), format!("{n}, one for each clean sample")));
            }
        }
        Ok(())
    }

    /// How often each sample is right under each corruption.
    fn counts(&self) -> Vec<Vec<f64>> {
        let count = |rows: &Vec<Vec<bool>>| {
            (0..self.clean.len()).map(|i| rows.iter().filter(|row| row[i]).count() as f64).collect()
        };
        self.corrupted.iter().map(|(_, rows)| count(rows)).collect()
    }

    /// The accuracies when samples count by weights; the severities of a corruption as one, their mean.
    fn weighted(&self, counts: &[Vec<f64>], weights: Option<&[f64]>) -> Accuracies {
        let sum = |values: &mut dyn Iterator<Item = f64>| match weights {
            Some(weights) => values.zip(weights).map(|(v, w)| v * w).sum::<f64>(),
            None => values.sum(),
        };
        let n = self.clean.len();
        let clean = sum(&mut self.clean.iter().map(|right| f64::from(u8::from(*right)))) / n as f64;
        let of = |((name, rows), counts): (&(String, Vec<Vec<bool>>), &Vec<f64>)| {
            (name.clone(), vec![sum(&mut counts.iter().copied()) / (n * rows.len()) as f64])
        };
        Accuracies { clean, corrupted: self.corrupted.iter().zip(counts).map(of).collect(), samples: n }
    }
}

fn share(right: &[bool]) -> Result<Mean> {
    let count = right.iter().filter(|right| **right).count();
    let interval = Interval::wilson(count as u64, right.len() as u64, LEVEL)?;
    Ok(Mean { value: count as f64 / right.len() as f64, interval, n: right.len() })
}

/// Boils answers down, beside those of a reference about the same samples where there is one. Means over corruptions get the
/// interval of a bootstrap over the samples, single accuracies Wilson's.
///
/// # Errors
/// When rows differ in length, there are no samples, corruptions or severities, no clean sample is right, the reference has other
/// samples or corruptions or no error under one, or there are no resamples.
pub fn resampled_robustness(
    model: &RightAnswers,
    reference: Option<&RightAnswers>,
    resamples: usize,
    seed: u64,
) -> Result<ResampledRobustness> {
    model.check("model")?;
    let counts = model.counts();
    let theirs = reference.map(|reference| {
        reference.check("reference")?;
        let (n, found) = (model.clean.len(), reference.clean.len());
        if n != found {
            return Err(Error::config("samples of the reference", found, format!("{n}, as of the model")));
        }
        Ok((reference, reference.counts()))
    });
    let theirs = theirs.transpose()?;
    let boiled = |weights: Option<&[f64]>| {
        let theirs = theirs.as_ref().map(|(reference, counts)| reference.weighted(counts, weights));
        robustness(&model.weighted(&counts, weights), theirs.as_ref())
    };
    // What the samples as they are do not allow is an error; draws that do not are left out.
    boiled(None)?;
    let n = model.clean.len();
    let of = |number: &dyn Fn(&Robustness) -> Option<f64>| {
        resampled(n, resamples, Key::new(seed), |weights| number(&boiled(weights).ok()?))
    };
    let always = |number: &dyn Fn(&Robustness) -> f64| {
        of(&|found| Some(number(found)))?.ok_or_else(|| Error::config("samples", n, "at least 1"))
    };
    let under = |(name, rows): &(String, Vec<Vec<bool>>)| {
        Ok((name.clone(), rows.iter().map(|row| share(row)).collect::<Result<Vec<_>>>()?))
    };
    Ok(ResampledRobustness {
        clean: share(&model.clean)?,
        accuracy: always(&|found| found.accuracy)?,
        kept: always(&|found| found.kept)?,
        mce: of(&|found| found.mce)?,
        relative_mce: of(&|found| found.relative_mce)?,
        under: model.corrupted.iter().map(under).collect::<Result<_>>()?,
        seed,
    })
}

/// The accuracy on samples relative to that on clean ones, with the interval of a bootstrap over the samples; none where no
/// clean sample is right.
///
/// # Shapes
/// Answers about the same samples in each row.
///
/// # Errors
/// When rows differ in length, there are none, or there are no resamples.
pub fn accuracy_kept(
    clean: &[bool],
    disturbed: &[Vec<bool>],
    resamples: usize,
    seed: u64,
) -> Result<Option<Mean>> {
    let answers = RightAnswers {
        clean: clean.to_vec(),
        corrupted: vec![("disturbance".to_owned(), disturbed.to_vec())],
    };
    answers.check("model")?;
    let counts = answers.counts();
    resampled(clean.len(), resamples, Key::new(seed), |weights| {
        Some(robustness(&answers.weighted(&counts, weights), None).ok()?.kept)
    })
}

impl ResampledRobustness {
    /// The measures that boil all down for a report, of samples from `split` classified by `by`, as in `the linear probe`.
    /// `reference` says what the corruption errors are relative to.
    pub fn measurements(&self, split: &str, by: &str, reference: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.seed) };
        let over = format!("mean over {} corruptions and their severities, by {by}", self.under.len());
        let mut all = vec![
            Origin { split, seed: None }.mean(
                "clean_accuracy",
                &self.clean,
                format!("accuracy of {by} on the same samples as they are"),
            ),
            origin.mean(
                "corrupted_accuracy",
                &self.accuracy,
                format!("accuracy on corrupted samples, {over}"),
            ),
            origin.mean(
                "accuracy_kept",
                &self.kept,
                format!("corrupted accuracy over clean accuracy, {over}"),
            ),
        ];
        if let Some(mce) = &self.mce {
            let text = format!(
                "corruption error relative to that of {reference}, {over}; below 1 is better than it (Hendrycks and Dietterich 2019)"
            );
            all.push(origin.mean("mce", mce, text));
        }
        if let Some(relative) = &self.relative_mce {
            let text = format!("what corruptions add to the error, relative to {reference}, {over}");
            all.push(origin.mean("relative_mce", relative, text));
        }
        all
    }

    /// The accuracy under each corruption at each severity, named as in `fog@3`.
    pub fn each(&self, split: &str, by: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.seed) };
        let of = |(name, by_severity): &(String, Vec<Mean>)| {
            let name = name.clone();
            let one = move |(severity, mean): (usize, &Mean)| {
                let text =
                    format!("accuracy of {by} under {} of severity {severity}", name.replace('_', " "));
                origin.mean(format!("{name}@{severity}"), mean, text)
            };
            (1..).zip(by_severity).map(one).collect::<Vec<_>>()
        };
        self.under.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Right where a wave is high: the higher the severity, the fewer.
    fn answers(strength: f64) -> RightAnswers {
        let row = |shift: f64, threshold: f64| {
            (0..200).map(|i| (f64::from(i).powf(1.5) * 0.37 + shift).sin() > threshold).collect::<Vec<bool>>()
        };
        let rows = |shift: f64| (0..3).map(|s| row(shift, -0.8 + strength * f64::from(s + 1))).collect();
        RightAnswers {
            clean: row(0.1, -0.8),
            corrupted: vec![("noise".into(), rows(0.2)), ("blur".into(), rows(0.3))],
        }
    }

    #[test]
    fn has_the_numbers_of_the_accuracies_within_their_intervals() {
        let (model, reference) = (answers(0.2), answers(0.4));
        let found = resampled_robustness(&model, Some(&reference), 300, 5).unwrap();
        let accuracies = |answers: &RightAnswers| {
            let share = |row: &Vec<bool>| row.iter().filter(|r| **r).count() as f64 / 200.0;
            let of =
                |(name, rows): &(String, Vec<Vec<bool>>)| (name.clone(), rows.iter().map(share).collect());
            let corrupted = answers.corrupted.iter().map(of).collect();
            Accuracies { clean: share(&answers.clean), corrupted, samples: 200 }
        };
        let plain = robustness(&accuracies(&model), Some(&accuracies(&reference))).unwrap();
        let pairs = [
            (found.accuracy, plain.accuracy),
            (found.kept, plain.kept),
            (found.mce.unwrap(), plain.mce.unwrap()),
            (found.relative_mce.unwrap(), plain.relative_mce.unwrap()),
        ];
        for (mean, expected) in pairs {
            assert!((mean.value - expected).abs() < 1e-12, "{mean:?}, expected {expected}");
            let interval = mean.interval.unwrap();
            assert!(interval.low < mean.value && mean.value < interval.high, "{mean:?}");
        }
        assert_eq!(found, resampled_robustness(&model, Some(&reference), 300, 5).unwrap());
        let names: Vec<String> = found.each("test", "the probe").into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["noise@1", "noise@2", "noise@3", "blur@1", "blur@2", "blur@3"]);
        assert_eq!(found.measurements("test", "the probe", "the reference").len(), 5);
    }

    #[test]
    fn the_interval_of_a_mean_of_one_severity_is_near_wilsons() {
        let mut model = answers(0.2);
        model.corrupted.truncate(1);
        model.corrupted[0].1.truncate(1);
        let found = resampled_robustness(&model, None, 4000, 0).unwrap();
        let (drawn, wilson) = (found.accuracy.interval.unwrap(), found.under[0].1[0].interval.unwrap());
        assert!((drawn.low - wilson.low).abs() < 0.012 && (drawn.high - wilson.high).abs() < 0.012);
        assert_eq!((found.mce, found.relative_mce), (None, None));
    }

    #[test]
    fn what_is_right_on_the_same_samples_keeps_all() {
        let clean = answers(0.2).clean;
        let kept = accuracy_kept(&clean, &[clean.clone(), clean.clone()], 50, 0).unwrap().unwrap();
        assert_eq!((kept.value, kept.interval.unwrap().low), (1.0, 1.0));
        assert_eq!(accuracy_kept(&[false; 4], &[vec![true; 4]], 50, 0).unwrap(), None);
    }

    #[test]
    fn rejects_answers_that_cannot_be_compared() {
        let error = |m: &RightAnswers, r: Option<&RightAnswers>| {
            resampled_robustness(m, r, 10, 0).unwrap_err().to_string()
        };
        let (model, mut short) = (answers(0.2), answers(0.2));
        short.corrupted[1].1[2].pop();
        assert_eq!(
            error(&short, None),
            "answers of the model under blur = 199: 200, one for each clean sample"
        );
        let none = RightAnswers::default();
        assert_eq!(
            error(&model, Some(&none)),
            "samples and corruptions of the reference = 0 and 0: at least 1 of each"
        );
        let wrong = RightAnswers { clean: vec![false; 200], ..answers(0.2) };
        assert_eq!(error(&wrong, None), "clean accuracy = 0: above 0: nothing can be kept of it");
        let error = resampled_robustness(&model, None, 0, 0).unwrap_err().to_string();
        assert_eq!(error, "resamples = 0: at least 1");
    }
}
