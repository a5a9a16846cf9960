//! The labels of a few samples of a set, given by a person.

use selfsup_core::{Error, PseudoLabels, Reason, Result, Tensor};
use std::collections::BTreeMap;

/// Labels of some samples of a set: at least two classes, and of each a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FewLabels {
    /// The labels by the samples' rows.
    given: BTreeMap<i64, i64>,
    classes: i64,
}

impl FewLabels {
    /// Checks that the samples with these rows can have these labels, `0..classes`. A row may stand there twice with the
    /// same label. That no row lies outside the set is checked when the set is labelled.
    ///
    /// # Errors
    /// When there are not as many labels as rows, fewer than two classes, a row below 0, a label out of range, a row with
    /// two labels, or a class without a sample.
    ///
    /// ```
    /// use selfsup_labels::FewLabels;
    /// assert!(FewLabels::new(&[4, 90, 17], &[0, 2, 1], 3).is_ok());
    /// let error = FewLabels::new(&[4, 90, 17], &[0, 2, 2], 3).unwrap_err();
    /// assert_eq!(error.to_string(), "classes = 3: a labelled sample of each; class 1 has none");
    /// ```
    pub fn new(indices: &[i64], labels: &[i64], classes: i64) -> Result<FewLabels> {
        if indices.len() != labels.len() {
            return Err(Error::Shape {
                name: "labels".to_owned(),
                expected: format!("[{}], one for each index", indices.len()),
                found: format!("[{}]", labels.len()),
            });
        }
        if classes < 2 {
            return Err(Error::config("classes", classes, "at least 2, or there is nothing to tell apart"));
        }
        let mut given = BTreeMap::new();
        for (&index, &label) in indices.iter().zip(labels) {
            if index < 0 {
                return Err(Error::config("indices", index, "0 or above"));
            }
            if !(0..classes).contains(&label) {
                let field = format!("label of sample {index}");
                return Err(Error::config(field, label, format!("0 to {}, one of the classes", classes - 1)));
            }
            if let Some(other) = given.insert(index, label)
                && other != label
            {
                let field = format!("label of sample {index}");
                return Err(Error::config(field, format!("{other} and {label}"), "one label for a sample"));
            }
        }
        let mut present: Vec<i64> = given.values().copied().collect();
        present.sort_unstable();
        present.dedup();
        if (present.len() as i64) < classes {
            let missing = (0..).zip(&present).find(|(class, label)| class != *label);
            let missing = missing.map_or(present.len() as i64, |(class, _)| class);
            let expected = format!("a labelled sample of each; class {missing} has none");
            return Err(Error::config("classes", classes, expected));
        }
        Ok(FewLabels { given, classes })
    }

    /// The number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// The rows of the labelled samples, ascending.
    pub fn indices(&self) -> Vec<i64> {
        self.given.keys().copied().collect()
    }

    /// Their labels.
    pub fn labels(&self) -> Vec<i64> {
        self.given.values().copied().collect()
    }

    /// The label of every one of `n` samples that has one.
    pub(crate) fn over(&self, n: i64) -> Result<Vec<Option<i64>>> {
        if let Some((&last, _)) = self.given.last_key_value()
            && last >= n
        {
            let expected = format!("0 to {}, as there are {n} samples", n - 1);
            return Err(Error::config("indices", last, expected));
        }
        let mut labels = vec![None; n as usize];
        for (&index, &label) in &self.given {
            labels[index as usize] = Some(label);
        }
        Ok(labels)
    }

    /// Puts the given labels into those of the whole set, with weight 1.
    pub(crate) fn put_into(&self, found: &PseudoLabels) {
        let device = found.labels.device();
        let rows = Tensor::from_slice(&self.indices()).to_device(device);
        let labels = Tensor::from_slice(&self.labels()).to_device(device);
        let _ = found.labels.shallow_clone().index_copy_(0, &rows, &labels);
        let _ = found.weights.shallow_clone().index_fill_(0, &rows, 1.0);
        let _ = found.reasons.shallow_clone().index_fill_(0, &rows, Reason::Given.code());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(indices: &[i64], labels: &[i64], classes: i64) -> String {
        FewLabels::new(indices, labels, classes).unwrap_err().to_string()
    }

    #[test]
    fn keeps_labels_in_the_order_of_the_samples() {
        let few = FewLabels::new(&[9, 2, 5, 2], &[1, 0, 1, 0], 2).unwrap();
        assert_eq!((few.indices(), few.labels(), few.classes()), (vec![2, 5, 9], vec![0, 1, 1], 2));
        let over = few.over(10).unwrap();
        assert_eq!(over.iter().flatten().count(), 3);
        assert_eq!((over[2], over[3], over[9]), (Some(0), None, Some(1)));
    }

    #[test]
    fn refuses_labels_that_cannot_be_right_and_names_them() {
        assert_eq!(error(&[1, 2], &[0], 2), "labels: expected [2], one for each index, found [1]");
        assert_eq!(error(&[1, 2], &[0, 0], 1), "classes = 1: at least 2, or there is nothing to tell apart");
        assert_eq!(error(&[1, -2], &[0, 1], 2), "indices = -2: 0 or above");
        assert_eq!(error(&[1, 7], &[0, 2], 2), "label of sample 7 = 2: 0 to 1, one of the classes");
        assert_eq!(error(&[1, 7], &[0, -1], 2), "label of sample 7 = -1: 0 to 1, one of the classes");
        assert_eq!(error(&[3, 1, 3], &[0, 1, 1], 2), "label of sample 3 = 0 and 1: one label for a sample");
        assert_eq!(error(&[1, 7], &[0, 2], 3), "classes = 3: a labelled sample of each; class 1 has none");
        assert_eq!(error(&[1, 7], &[0, 0], 2), "classes = 2: a labelled sample of each; class 1 has none");
        assert_eq!(error(&[], &[], 2), "classes = 2: a labelled sample of each; class 0 has none");
        assert_eq!(error(&[0], &[0], i64::MAX).split(':').next(), Some("classes = 9223372036854775807"));
    }

    #[test]
    fn refuses_samples_that_the_set_does_not_have() {
        let few = FewLabels::new(&[1, 60], &[0, 1], 2).unwrap();
        assert_eq!(few.over(60).unwrap_err().to_string(), "indices = 60: 0 to 59, as there are 60 samples");
        assert!(few.over(61).is_ok());
    }
}
