//! How well a score puts samples that are sought before all others: of wrong labels, the doubt that finds them.
//!
//! ```text
//! AUROC = P(s_sought > s_other) + P(s_sought = s_other) / 2
//! AP = sum_k (R_k - R_k-1) P_k                       over the different scores, from the highest down
//! ```
//! as in scikit-learn's `roc_auc_score` and `average_precision_score`; `R_k` and `P_k` are recall and precision of the
//! samples that score as high at least. Nothing depends on the order in which samples are given: those of equal score
//! count as a random order of them would on average.

use crate::ranking::Ranked;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How well a score finds what is sought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// The area under the receiver operating characteristic, 0 to 1: how often a sought sample scores higher than
    /// another; 0.5 is chance.
    pub auroc: f64,
    /// Average precision, 0 to 1: the area under the precision-recall curve; the share of sought samples is chance.
    pub average_precision: f64,
    /// The share of sought samples among the highest scores, as many as are sought.
    pub precision: f64,
    /// The number of sought samples.
    pub sought: usize,
}

impl Ranking {
    /// Ranks samples from the highest score down; `sought` says which of them are to be found.
    ///
    /// # Errors
    /// When the two do not have as many entries, a score is not a number, or all or none of the samples are sought.
    pub fn of(scores: &[f64], sought: &[bool]) -> Result<Ranking> {
        if scores.len() != sought.len() {
            return Err(Error::config("sought", sought.len(), format!("{}, one a score", scores.len())));
        }
        if let Some(at) = scores.iter().position(|score| score.is_nan()) {
            return Err(Error::config("scores", format!("NaN at {at}"), "numbers"));
        }
        let positives = sought.iter().filter(|sought| **sought).count();
        if positives == 0 || positives == sought.len() {
            let found = format!("{positives} of {}", sought.len());
            return Err(Error::config("sought", found, "some of the samples, but not all"));
        }
        let ranked = Ranked::new(scores, sought)?;
        let (Some(auroc), Some(average_precision)) = (ranked.auroc(None), ranked.average_precision(None))
        else {
            return Err(Error::config("sought", positives, "some of the samples, but not all"));
        };
        Ok(Ranking { auroc, average_precision, precision: ranked.precision_at(positives), sought: positives })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounded, so that many scores are equal.
    fn samples() -> (Vec<f64>, Vec<bool>) {
        let wave = |i: u32| (f64::from(i).powf(1.5) * 0.37).sin();
        let scores = (0..60).map(|i| (wave(i) * 5.0).round() / 5.0).collect();
        (scores, (0..60).map(|i| wave(i) + wave(i + 60) > 0.5).collect())
    }

    // w = lambda i: np.sin(i ** 1.5 * 0.37); i = np.arange(60.)
    // s = np.round(w(i) * 5) / 5; y = w(i) + w(i + 60) > 0.5
    // y.sum(), roc_auc_score(y, s), average_precision_score(y, s)                # sklearn 1.9.1
    #[test]
    fn agrees_with_scikit_learn() {
        let (scores, sought) = samples();
        let found = Ranking::of(&scores, &sought).unwrap();
        assert_eq!(found.sought, SOUGHT);
        assert!((found.auroc - AUROC).abs() < 1e-12, "{found:?}");
        assert!((found.average_precision - AVERAGE_PRECISION).abs() < 1e-12, "{found:?}");
    }

    const SOUGHT: usize = 21;
    const AUROC: f64 = 0.8931623931623931;
    const AVERAGE_PRECISION: f64 = 0.757509653550158;

    #[test]
    fn equals_a_loop_over_pairs() {
        let (scores, sought) = samples();
        let (mut sum, mut pairs) = (0.0, 0.0);
        for i in (0..60).filter(|&i| sought[i]) {
            for j in (0..60).filter(|&j| !sought[j]) {
                sum += if scores[i] > scores[j] {
                    1.0
                } else if scores[i] == scores[j] {
                    0.5
                } else {
                    0.0
                };
                pairs += 1.0;
            }
        }
        assert!((Ranking::of(&scores, &sought).unwrap().auroc - sum / pairs).abs() < 1e-12);
    }

    #[test]
    fn precision_of_equal_scores_is_that_of_a_random_order() {
        // Two are sought: the first for sure, then one of three, of which one is sought.
        let found = Ranking::of(&[9.0, 5.0, 5.0, 5.0, 1.0], &[true, true, false, false, false]).unwrap();
        assert!((found.precision - f64::midpoint(1.0, 1.0 / 3.0)).abs() < 1e-12);
        let all_equal = Ranking::of(&[1.0; 4], &[true, false, false, false]).unwrap();
        assert_eq!((all_equal.auroc, all_equal.average_precision, all_equal.precision), (0.5, 0.25, 0.25));
    }

    #[test]
    fn a_perfect_order_and_its_reverse() {
        let sought = [true, true, false, false, false];
        let best = Ranking::of(&[5.0, 4.0, 3.0, 2.0, 1.0], &sought).unwrap();
        assert_eq!((best.auroc, best.average_precision, best.precision), (1.0, 1.0, 1.0));
        let worst = Ranking::of(&[1.0, 2.0, 3.0, 4.0, 5.0], &sought).unwrap();
        assert_eq!((worst.auroc, worst.precision), (0.0, 0.0));
        assert!((worst.average_precision - (0.5 / 4.0 + 0.5 * 2.0 / 5.0)).abs() < 1e-12);
    }

    #[test]
    fn the_order_of_samples_and_the_unit_of_scores_do_not_matter() {
        let (scores, sought) = samples();
        let found = Ranking::of(&scores, &sought).unwrap();
        let turned = |x: &[f64]| x.iter().rev().map(|s| (3.0 * s).exp()).collect::<Vec<_>>();
        let reversed: Vec<bool> = sought.iter().rev().copied().collect();
        let again = Ranking::of(&turned(&scores), &reversed).unwrap();
        assert!((found.auroc - again.auroc).abs() < 1e-12);
        assert!((found.average_precision - again.average_precision).abs() < 1e-12);
        assert!((found.precision - again.precision).abs() < 1e-12);
    }

    #[test]
    fn rejects_what_has_no_order() {
        let refusal = |scores: &[f64], sought: &[bool]| Ranking::of(scores, sought).unwrap_err().to_string();
        assert_eq!(refusal(&[1.0], &[true, false]), "sought = 2: 1, one a score");
        assert_eq!(refusal(&[1.0, f64::NAN], &[true, false]), "scores = NaN at 1: numbers");
        assert_eq!(refusal(&[1.0, 2.0], &[true, true]), "sought = 2 of 2: some of the samples, but not all");
        assert_eq!(refusal(&[], &[]), "sought = 0 of 0: some of the samples, but not all");
    }
}
