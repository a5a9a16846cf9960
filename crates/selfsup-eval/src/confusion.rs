//! Which class is taken for which.

use selfsup_core::{Error, Kind, Result, Tensor, check_kind, check_shape};
use serde::{Deserialize, Serialize};

/// How often samples of each class were given each class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// `counts[t][p]`: samples of class `t` that were taken for class `p`.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Counts predictions.
    ///
    /// # Shapes
    /// `labels` and `predictions` `[N]` Int64 in `0..classes`.
    ///
    /// # Errors
    /// When the two do not fit each other or hold other classes.
    pub fn of(labels: &Tensor, predictions: &Tensor, classes: i64) -> Result<Confusion> {
        let [n] = check_shape("labels", labels, [-1])?;
        check_shape("predictions", predictions, [n])?;
        let mut counts = vec![vec![0; classes.max(0) as usize]; classes.max(0) as usize];
        for (name, x) in [("labels", labels), ("predictions", predictions)] {
            check_kind(name, x, Kind::Int64)?;
            if n > 0 {
                let (low, high) = (i64::try_from(x.min())?, i64::try_from(x.max())?);
                if low < 0 || high >= classes {
                    return Err(Error::config(
                        name,
                        format!("{low}..={high}"),
                        format!("classes in 0..{classes}"),
                    ));
                }
            }
        }
        for (label, prediction) in
            Vec::<i64>::try_from(labels)?.into_iter().zip(Vec::<i64>::try_from(predictions)?)
        {
            counts[label as usize][prediction as usize] += 1;
        }
        Ok(Confusion { counts })
    }

    /// The share of samples that were given their own class; NaN of none.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(class, row)| row[class]).sum();
        let all: u64 = self.counts.iter().flatten().sum();
        right as f64 / all as f64
    }

    /// The share of each class' samples that were given it; NaN for a class without samples.
    pub fn per_class_accuracy(&self) -> Vec<f64> {
        let share = |(class, row): (usize, &Vec<u64>)| row[class] as f64 / row.iter().sum::<u64>() as f64;
        self.counts.iter().enumerate().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_was_taken_for_what() {
        let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 1]);
        let predictions = Tensor::from_slice(&[0_i64, 1, 1, 1, 2]);
        let confusion = Confusion::of(&labels, &predictions, 3).unwrap();
        assert_eq!(confusion.counts, [[1, 1, 0], [0, 2, 1], [0, 0, 0]]);
        assert_eq!(confusion.accuracy(), 0.6);
        let per_class = confusion.per_class_accuracy();
        assert_eq!(per_class[..2], [0.5, 2.0 / 3.0]);
        assert!(per_class[2].is_nan());
    }

    #[test]
    fn rejects_predictions_that_do_not_fit() {
        let labels = Tensor::from_slice(&[0_i64, 1]);
        let error = Confusion::of(&labels, &Tensor::from_slice(&[0_i64]), 2).unwrap_err().to_string();
        assert_eq!(error, "predictions: expected [2], found [1]");
        let error = Confusion::of(&labels, &Tensor::from_slice(&[0_i64, 2]), 2).unwrap_err().to_string();
        assert_eq!(error, "predictions = 0..=2: classes in 0..2");
    }
}
