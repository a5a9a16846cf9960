//! Out-of-distribution detection without another data set: one class after the other counts as unknown.
//!
//! For each class left out, detectors are fitted to training samples of the others and told to find its test samples among
//! those of the others ("one class out", Ruff et al. 2020, section 5). The mean is over classes, with Student's interval: how
//! sure it is for another class of the same kind. The classes of one set are alike, so that this is harder than samples of
//! another set, and says nothing about these.

use crate::measurement::Origin;
use crate::{Mean, Measurement, OutlierConfig, OutlierDetection, Outliers, Stage, check_pair, outliers};
use rand::seq::SliceRandom;
use selfsup_core::{Error, Features, Key, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Which classes are left out, and on how many samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NovelClassesConfig {
    /// The classes left out in turn, evenly taken where there are more.
    pub classes: usize,
    /// Training samples, drawn where there are more.
    pub max_train: usize,
    /// Test samples, drawn where there are more.
    pub max_test: usize,
    /// The detectors; their resamples are not looked at.
    pub outliers: OutlierConfig,
}

impl Default for NovelClassesConfig {
    fn default() -> Self {
        NovelClassesConfig { classes: 5, max_train: 5000, max_test: 2000, outliers: OutlierConfig::default() }
    }
}

/// How well classes that were left out are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NovelClasses {
    /// The classes left out, and what was found for each.
    pub found: Vec<(i64, Outliers)>,
    /// How it was found.
    pub config: NovelClassesConfig,
}

/// Leaves classes out in turn. `progress` hears before the first and after each how many are done.
///
/// # Errors
/// When the sets do not fit each other, no class can be left out because fewer than two have both training and test samples, or
/// a number of the configuration cannot work.
pub fn novel_classes(
    train: &Features,
    test: &Features,
    config: &NovelClassesConfig,
    progress: &mut dyn FnMut(Stage),
) -> Result<NovelClasses> {
    check_pair(train, test)?;
    for (field, value) in
        [("classes", config.classes), ("max_train", config.max_train), ("max_test", config.max_test)]
    {
        if value == 0 {
            return Err(Error::config(field, 0, "at least 1"));
        }
    }
    let key = Key::new(config.outliers.seed);
    let (train, test) =
        (drawn(train, config.max_train, key.with(0)), drawn(test, config.max_test, key.with(1)));
    let counts = |set: &Features| Vec::<i64>::try_from(set.labels.bincount(None::<Tensor>, set.classes));
    let (in_train, in_test) = (counts(&train)?, counts(&test)?);
    let present: Vec<i64> = (0..train.classes)
        .filter(|&class| in_train[class as usize] > 0 && in_test[class as usize] > 0)
        .collect();
    if present.len() < 2 {
        let found = format!("{} with training and test samples", present.len());
        return Err(Error::config("classes", found, "at least two, so that one can be left out"));
    }
    let count = config.classes.min(present.len());
    let left_out = (0..count).map(|i| present[i * present.len() / count]);
    let mut stage = Stage::new("novel classes", count, test.len());
    progress(stage);
    let settings = OutlierConfig { resamples: 1, ..config.outliers.clone() };
    let mut found = Vec::new();
    for class in left_out {
        let rows = |mask: Tensor| mask.nonzero().squeeze_dim(1);
        let known = train.select(&rows(train.labels.ne(class)));
        let of_others = test.x.index_select(0, &rows(test.labels.ne(class)));
        let of_class = test.x.index_select(0, &rows(test.labels.eq(class)));
        found.push((class, outliers(&known, &of_others, &of_class, &settings)?));
        stage.done += 1;
        progress(stage);
    }
    Ok(NovelClasses { found, config: config.clone() })
}

/// At most so many samples.
fn drawn(set: &Features, most: usize, key: Key) -> Features {
    let mut all: Vec<i64> = (0..set.len()).collect();
    if all.len() > most {
        all.shuffle(&mut key.rng());
        all.truncate(most);
        all.sort_unstable();
    }
    set.select(&Tensor::from_slice(&all))
}

/// Which of the detectors.
type Detector = fn(&Outliers) -> Option<&OutlierDetection>;

/// Which of its measures.
type Measure = fn(&OutlierDetection) -> f64;

/// A name and a definition with what they stand for.
type Named<T> = (&'static str, &'static str, T);

impl NovelClasses {
    /// The measures for a report, of samples from `split`.
    ///
    /// # Errors
    /// None: there is a class at least.
    pub fn measurements(&self, split: &str) -> Result<Vec<Measurement>> {
        let origin = Origin { split, seed: Some(self.config.outliers.seed) };
        let detectors: [Named<Detector>; 3] = [
            ("knn", "the distance to the k-th nearest training sample (Sun et al. 2022)", |o| {
                Some(&o.nearest)
            }),
            ("mahalanobis", "the Mahalanobis distance to the nearest class (Lee et al. 2018)", |o| {
                o.mahalanobis.as_ref()
            }),
            ("energy", "the energy of a linear probe's logits (Liu et al. 2020)", |o| o.energy.as_ref()),
        ];
        let measures: [Named<Measure>; 3] = [
            ("auroc", "chance that a known sample is more familiar than one of a class left out", |d| {
                d.auroc.value
            }),
            ("ap", "average precision of the class left out, least familiar first", |d| {
                d.average_precision.value
            }),
            ("fpr95", "share of the class left out that passes where 95 % of the known do", |d| {
                d.fpr95.value
            }),
        ];
        let mut all = Vec::new();
        for (detector, by, of) in detectors {
            for (measure, text, value) in measures {
                let values: Vec<f64> = self.found.iter().filter_map(|(_, o)| of(o)).map(value).collect();
                if values.is_empty() {
                    continue;
                }
                let text = format!("{text}, by {by}; mean over {} classes left out in turn", values.len());
                all.push(origin.mean(
                    format!("novel_{measure}_{detector}"),
                    &Mean::over_repetitions(&values)?,
                    text,
                ));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};

    #[test]
    fn classes_apart_are_told_and_classes_alike_are_not() {
        let run = |distance| {
            let (train, test) = (clouds(300, 4, distance), clouds(120, 4, distance));
            let found = novel_classes(&train, &test, &NovelClassesConfig::default(), &mut |_| ()).unwrap();
            found.measurements("test").unwrap()
        };
        let (apart, alike) = (run(8.0), run(0.0));
        let names: Vec<&str> = apart.iter().map(|m| m.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[8]), (9, "novel_auroc_knn", "novel_fpr95_energy"));
        assert_eq!(apart[0].n, 4);
        assert!(apart[0].value > 0.95 && apart[3].value > 0.95, "{apart:?}");
        assert!((alike[0].value - 0.5).abs() < 0.1, "{alike:?}");
    }

    #[test]
    fn leaves_out_no_more_classes_than_asked_and_draws_samples_by_the_seed() {
        let (train, test) = (clouds(300, 6, 2.0), clouds(120, 6, 2.0));
        let run = |seed| {
            let outliers = OutlierConfig { seed, ..Default::default() };
            let config = NovelClassesConfig { classes: 3, max_train: 90, max_test: 60, outliers };
            let mut done = Vec::new();
            let found = novel_classes(&train, &test, &config, &mut |stage| done.push(stage.done)).unwrap();
            assert_eq!(done, [0, 1, 2, 3]);
            found
        };
        let found = run(0);
        assert_eq!(found.found.iter().map(|(class, _)| *class).collect::<Vec<_>>(), [0, 2, 4]);
        assert!(found.found.iter().all(|(_, o)| o.nearest.known + o.nearest.unknown == 60));
        assert_eq!(found, run(0));
        assert_ne!(found.found, run(1).found);
    }

    #[test]
    fn with_two_classes_one_is_left_and_has_no_energy() {
        let (train, test) = (clouds(60, 2, 3.0), clouds(30, 2, 3.0));
        let found = novel_classes(&train, &test, &NovelClassesConfig::default(), &mut |_| ()).unwrap();
        assert_eq!(found.measurements("test").unwrap().len(), 6);
    }

    #[test]
    fn rejects_one_class_and_no_samples() {
        let one = Features::new(formula(9, 2), Tensor::from_slice(&[1_i64; 9]), 3).unwrap();
        let error = |config: &NovelClassesConfig| {
            novel_classes(&one, &one, config, &mut |_| ()).unwrap_err().to_string()
        };
        let expected =
            "classes = 1 with training and test samples: at least two, so that one can be left out";
        assert_eq!(error(&NovelClassesConfig::default()), expected);
        assert_eq!(
            error(&NovelClassesConfig { max_test: 0, ..Default::default() }),
            "max_test = 0: at least 1"
        );
    }
}
