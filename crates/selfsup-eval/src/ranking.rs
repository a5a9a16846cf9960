//! Scores that should be higher for what is sought: how well they rank it, at every threshold.
//!
//! With `TPR` and `FPR` the shares of what is sought, and of the rest, that reach a threshold:
//! ```text
//! AUROC = area under TPR over FPR = P[score of one sought > score of another], ties one half          (Hanley 1982)
//! AP    = sum_t (R_t - R_{t-1}) P_t,  R recall and P precision at each threshold
//! FPR95 = FPR at the highest threshold with TPR >= 0.95                                          (Liang et al. 2018)
//! ```
//! Samples with one score pass a threshold together. Values are scikit-learn's `roc_auc_score`,
//! `average_precision_score` and `roc_curve`.

use crate::interval::{LEVEL, percentiles};
use crate::{Interval, Mean};
use rand::RngExt;
use selfsup_core::{Error, Key, Result};

/// Scores in falling order.
#[derive(Debug)]
pub(crate) struct Ranked {
    /// The samples, best first.
    order: Vec<usize>,
    /// Where each group of equal scores ends in this order.
    ends: Vec<usize>,
    /// Whether each sample, by its own number, is sought.
    sought: Vec<bool>,
}

/// How many sought samples and others reach a threshold, and all of them.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sought: f64,
    others: f64,
}

impl Ranked {
    /// Sorts scores.
    ///
    /// # Errors
    /// When there are not as many of both, none, or a score is not a number. Infinite ones are extremes like any other.
    pub fn new(scores: &[f64], sought: &[bool]) -> Result<Ranked> {
        if scores.len() != sought.len() {
            let expected = format!("{}, one for each score", scores.len());
            return Err(Error::config("samples", sought.len(), expected));
        }
        if scores.is_empty() {
            return Err(Error::config("scores", "none", "at least one"));
        }
        if let Some(at) = scores.iter().position(|s| s.is_nan()) {
            return Err(Error::NonFinite { what: "a score".to_owned(), detail: format!("of sample {at}") });
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let last = |place: &usize| {
            let next = order.get(place + 1);
            next.is_none_or(|&next| scores[next] != scores[order[*place]])
        };
        let ends = (0..order.len()).filter(last).map(|place| place + 1).collect();
        Ok(Ranked { order, ends, sought: sought.to_vec() })
    }

    /// The counts at every threshold, highest first. `weights` are of the samples by their own numbers.
    fn curve(&self, weights: Option<&[f64]>) -> Vec<Counts> {
        let mut counts = Counts::default();
        let mut start = 0;
        let at_end = |&end: &usize| {
            for &i in &self.order[start..end] {
                let weight = weights.map_or(1.0, |w| w[i]);
                if self.sought[i] {
                    counts.sought += weight;
                } else {
                    counts.others += weight;
                }
            }
            start = end;
            counts
        };
        self.ends.iter().map(at_end).collect()
    }

    /// None without a sought sample or without another.
    pub fn auroc(&self, weights: Option<&[f64]>) -> Option<f64> {
        let curve = self.curve(weights);
        let all = *curve.last()?;
        let mut before = Counts::default();
        let mut area = 0.0;
        for at in curve {
            area += (at.others - before.others) * 0.5 * (at.sought + before.sought);
            before = at;
        }
        (all.sought > 0.0 && all.others > 0.0).then(|| area / (all.sought * all.others))
    }

    /// None without a sought sample.
    pub fn average_precision(&self, weights: Option<&[f64]>) -> Option<f64> {
        let curve = self.curve(weights);
        let all = *curve.last()?;
        let mut before = 0.0;
        let mut sum = 0.0;
        for at in curve {
            if at.sought > before {
                sum += (at.sought - before) * at.sought / (at.sought + at.others);
                before = at.sought;
            }
        }
        (all.sought > 0.0).then(|| sum / all.sought)
    }

    /// The share of sought samples among the `count` first; of those with one score, as many as a random order would bring on
    /// average.
    pub fn precision_at(&self, count: usize) -> f64 {
        let (mut start, mut found) = (0, 0.0);
        for &end in &self.ends {
            let group = &self.order[start..end];
            let taken = count.saturating_sub(start).min(group.len());
            let sought = group.iter().filter(|&&i| self.sought[i]).count();
            found += sought as f64 * taken as f64 / group.len() as f64;
            start = end;
        }
        found / count as f64
    }

    /// The share of the others that passes where `rate` of the sought do; none as for [`auroc`](Ranked::auroc).
    pub fn false_positives_at(&self, rate: f64, weights: Option<&[f64]>) -> Option<f64> {
        let curve = self.curve(weights);
        let all = *curve.last()?;
        if all.sought == 0.0 || all.others == 0.0 {
            return None;
        }
        curve.iter().find(|at| at.sought / all.sought >= rate).map(|at| at.others / all.others)
    }
}

/// The value of a measure and the bootstrap interval over its samples. `measure` takes how often each sample counts; draws in
/// which it is not defined are left out.
pub(crate) fn resampled(
    n: usize,
    resamples: usize,
    key: Key,
    measure: impl Fn(Option<&[f64]>) -> Option<f64>,
) -> Result<Option<Mean>> {
    if resamples == 0 {
        return Err(Error::config("resamples", 0, "at least 1"));
    }
    let Some(value) = measure(None) else { return Ok(None) };
    let mut drawn = Vec::with_capacity(resamples);
    let mut weights = vec![0.0; n];
    for resample in 0..resamples {
        weights.fill(0.0);
        let mut rng = key.with(resample as u64).rng();
        (0..n).for_each(|_| weights[rng.random_range(0..n)] += 1.0);
        drawn.extend(measure(Some(&weights)));
    }
    let interval: Option<Interval> = (n > 1 && !drawn.is_empty()).then(|| percentiles(&drawn, LEVEL));
    Ok(Some(Mean { value, interval, n }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// sin(0.37 i^1.5), cut to `steps` levels, and whether i^2 % 7 < 3.
    pub fn scored(n: i32, steps: f64) -> (Vec<f64>, Vec<bool>) {
        let sought: Vec<bool> = (0..n).map(|i| i * i % 7 < 3).collect();
        let scores = (0..n).zip(&sought).map(|(i, &sought)| {
            let wave = (f64::from(i).powf(1.5) * 0.37).sin() + if sought { 0.6 } else { 0.0 };
            (wave * steps).floor() / steps
        });
        (scores.collect(), sought)
    }

    // i = np.arange(80); t = i * i % 7 < 3; s = np.floor((np.sin(i ** 1.5 * 0.37) + 0.6 * t) * k) / k
    // f, r, _ = roc_curve(t, s, drop_intermediate=False)
    // roc_auc_score(t, s), average_precision_score(t, s), f[np.argmax(r >= 0.95)]; k = 1000, then 4  # scikit-learn 1.9.1
    #[test]
    fn agrees_with_scikit_learn_with_ties_and_without() {
        for (steps, expected) in [(1000.0, SKLEARN[0]), (4.0, SKLEARN[1])] {
            let (scores, sought) = scored(80, steps);
            let ranked = Ranked::new(&scores, &sought).unwrap();
            let found =
                [ranked.auroc(None), ranked.average_precision(None), ranked.false_positives_at(0.95, None)];
            let near = found.iter().zip(expected).all(|(f, e)| (f.unwrap() - e).abs() < 1e-12);
            assert!(near, "{found:?}, expected {expected:?}");
        }
    }

    const SKLEARN: [[f64; 3]; 2] = [
        [0.7055682684973302, 0.8744771459311256, 0.6521739130434783],
        [0.7093821510297482, 0.8753687261901134, 0.6521739130434783],
    ];

    #[test]
    fn a_weight_of_two_is_a_sample_twice_and_of_zero_none() {
        let (scores, sought) = scored(30, 5.0);
        let weights: Vec<f64> = (0..30).map(|i| f64::from(i % 3)).collect();
        let repeated: Vec<usize> = (0..30).flat_map(|i| vec![i; i % 3]).collect();
        let ranked = Ranked::new(&scores, &sought).unwrap();
        let other = Ranked::new(
            &repeated.iter().map(|&i| scores[i]).collect::<Vec<_>>(),
            &repeated.iter().map(|&i| sought[i]).collect::<Vec<_>>(),
        )
        .unwrap();
        let w = Some(weights.as_slice());
        let pairs = [
            (ranked.auroc(w), other.auroc(None)),
            (ranked.average_precision(w), other.average_precision(None)),
            (ranked.false_positives_at(0.9, w), other.false_positives_at(0.9, None)),
        ];
        assert!(pairs.iter().all(|(a, b)| (a.unwrap() - b.unwrap()).abs() < 1e-12), "{pairs:?}");
    }

    #[test]
    fn equal_scores_rank_by_chance_and_one_kind_ranks_nothing() {
        let ranked = Ranked::new(&[0.5; 4], &[true, false, false, false]).unwrap();
        assert_eq!((ranked.auroc(None), ranked.average_precision(None)), (Some(0.5), Some(0.25)));
        assert_eq!(ranked.false_positives_at(0.95, None), Some(1.0));
        let all = Ranked::new(&[0.5, 0.6], &[true, true]).unwrap();
        assert_eq!((all.auroc(None), all.average_precision(None)), (None, Some(1.0)));
        let none = Ranked::new(&[0.5, 0.6], &[false, false]).unwrap();
        assert_eq!((none.auroc(None), none.average_precision(None)), (None, None));
        let extremes = Ranked::new(&[f64::INFINITY, 0.0, f64::NEG_INFINITY], &[true, true, false]).unwrap();
        assert_eq!(extremes.auroc(None), Some(1.0));
    }

    #[test]
    fn the_interval_holds_the_value_and_is_narrower_with_more_samples() {
        let width = |n: i32| {
            let (scores, sought) = scored(n, 1000.0);
            let ranked = Ranked::new(&scores, &sought).unwrap();
            let found = resampled(n as usize, 400, Key::new(1), |w| ranked.auroc(w)).unwrap().unwrap();
            let interval = found.interval.unwrap();
            assert!(interval.low < found.value && found.value < interval.high, "{found:?}");
            interval.high - interval.low
        };
        assert!(width(900) < 0.5 * width(80));
        assert_eq!(resampled(3, 10, Key::new(1), |_| None).unwrap(), None);
    }

    #[test]
    fn rejects_scores_that_are_no_numbers() {
        let error = Ranked::new(&[0.1, f64::NAN], &[true, false]).unwrap_err().to_string();
        assert_eq!(error, "a score is not finite: of sample 1");
        let error = Ranked::new(&[0.1], &[true, false]).unwrap_err().to_string();
        assert_eq!(error, "samples = 2: 1, one for each score");
        assert_eq!(Ranked::new(&[], &[]).unwrap_err().to_string(), "scores = none: at least one");
    }
}
