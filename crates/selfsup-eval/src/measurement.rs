//! A number as report.json holds it: with what it is, on which samples, from which draws, and how sure it is.

use crate::{Interval, Mean};
use serde::{Deserialize, Serialize};

/// A number that explains itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What it is called, as in `recall@10`.
    pub name: String,
    /// The number.
    pub value: f64,
    /// How sure it is; none where nothing is known of that.
    pub interval: Option<Interval>,
    /// The samples or repetitions it is over.
    pub n: usize,
    /// The samples it was measured on, as in `test`.
    pub split: String,
    /// The seed of what was drawn for it; none where nothing is drawn.
    pub seed: Option<u64>,
    /// What it is, in words with its source.
    pub definition: String,
}

/// Where numbers come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub split: &'a str,
    pub seed: Option<u64>,
}

impl Origin<'_> {
    /// A number without an interval.
    pub(crate) fn plain(
        &self,
        name: impl Into<String>,
        value: f64,
        n: usize,
        definition: impl Into<String>,
    ) -> Measurement {
        self.mean(name, &Mean { value, interval: None, n }, definition)
    }

    /// A mean with its interval.
    pub(crate) fn mean(
        &self,
        name: impl Into<String>,
        mean: &Mean,
        definition: impl Into<String>,
    ) -> Measurement {
        Measurement {
            name: name.into(),
            value: mean.value,
            interval: mean.interval,
            n: mean.n,
            split: self.split.to_owned(),
            seed: self.seed,
            definition: definition.into(),
        }
    }
}

/// The same with what is known of how sure some of them are, by name.
pub(crate) fn with_intervals(
    all: Vec<Measurement>,
    origin: Origin,
    known: &[(&str, &Mean)],
) -> Vec<Measurement> {
    let told = |m: Measurement| match known.iter().find(|(name, _)| *name == m.name) {
        Some((_, mean)) => origin.mean(m.name, mean, m.definition),
        None => m,
    };
    all.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_survives_json_with_all_that_explains_it() {
        let mean = Mean::over_repetitions(&[0.5, 0.7]).unwrap();
        let origin = Origin { split: "test", seed: Some(3) };
        let number = origin.mean("few5", &mean, "accuracy with five labels a class");
        let json = serde_json::to_value(&number).unwrap();
        assert_eq!(json["split"], "test");
        assert_eq!(json["interval"]["method"], "student");
        assert_eq!(serde_json::from_value::<Measurement>(json).unwrap(), number);
        assert_eq!(origin.plain("x", 1.0, 4, "y").interval, None);
    }
}
