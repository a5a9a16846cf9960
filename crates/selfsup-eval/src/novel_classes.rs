//! Out-of-distribution detection without another data set: one class after the other counts as unknown, or as all that is known.
//!
//! For each class left out, detectors are fitted to training samples of the others and told to find its test samples among
//! those of the others ("one class out", Ruff et al. 2020, section 5). The other way round, detectors that know one class alone are
//! told to find the test samples of all others ("one class": anomaly detection, Ruff et al. 2018, section 5). The mean is over
//! classes, with Student's interval: how sure it is for another class of the same kind. The classes of one set are alike, so that
//! this is harder than samples of another set, and says nothing about these.

use crate::measurement::Origin;
use crate::split::drawn_by_class;
use crate::{Mean, Measurement, OutlierConfig, OutlierDetection, Outliers, Stage, check_pair, outliers};
use selfsup_core::{Error, Features, Key, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Which classes are left out, and on how many samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NovelClassesConfig {
    /// The classes left out in turn, evenly taken where there are more.
    pub classes: usize,
    /// Training samples, drawn class by class where there are more: the share of each, but some of all.
    pub max_train: usize,
    /// Test samples, drawn likewise.
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
    /// The same classes when each is all that is known.
    pub one_class: Vec<(i64, Outliers)>,
    /// How it was found.
    pub config: NovelClassesConfig,
}

/// Leaves classes out in turn, and all others after that; none where fewer than two classes have both training and test samples.
/// `progress` hears before the first class and after each how many are done.
///
/// # Errors
/// When the sets do not fit each other, or a number of the configuration cannot work.
pub fn novel_classes(
    train: &Features,
    test: &Features,
    config: &NovelClassesConfig,
    progress: &mut dyn FnMut(Stage),
) -> Result<Option<NovelClasses>> {
    check_pair(train, test)?;
    for (field, value) in
        [("classes", config.classes), ("max_train", config.max_train), ("max_test", config.max_test)]
    {
        if value == 0 {
            return Err(Error::config(field, 0, "at least 1"));
        }
    }
    let counts = |set: &Features| Vec::<i64>::try_from(set.labels.bincount(None::<Tensor>, set.classes));
    let (in_train, in_test) = (counts(train)?, counts(test)?);
    let present: Vec<i64> = (0..train.classes)
        .filter(|&class| in_train[class as usize] > 0 && in_test[class as usize] > 0)
        .collect();
    if present.len() < 2 {
        return Ok(None);
    }
    // A class of the test part that training lacks is neither known nor the one that was left out.
    let shared = |set: &Features| -> Result<Features> {
        let mask = Tensor::isin(&set.labels, &Tensor::from_slice(&present), false, false);
        Ok(set.select(&mask.nonzero().squeeze_dim(1)))
    };
    let key = Key::new(config.outliers.seed);
    let draw = |set: &Features, most: usize, key: Key| -> Result<Features> {
        let set = shared(set)?;
        Ok(set.select(&drawn_by_class(&set, most, key)?))
    };
    let (train, test) =
        (draw(train, config.max_train, key.with(0))?, draw(test, config.max_test, key.with(1))?);
    let count = config.classes.min(present.len());
    let in_turn = (0..count).map(|i| present[i * present.len() / count]);
    let mut stage = Stage::new("novel classes", count, test.len());
    progress(stage);
    let settings = OutlierConfig { resamples: 1, ..config.outliers.clone() };
    let (mut found, mut one_class) = (Vec::new(), Vec::new());
    for class in in_turn {
        let rows = |mask: Tensor| mask.nonzero().squeeze_dim(1);
        let [[train_is, train_others], [test_is, test_others]] = [&train, &test].map(|set| {
            let is = set.labels.eq(class);
            [set.select(&rows(is.shallow_clone())), set.select(&rows(is.logical_not()))]
        });
        found.push((class, outliers(&train_others, &test_others.x, &test_is.x, &settings)?));
        one_class.push((class, outliers(&train_is, &test_is.x, &test_others.x, &settings)?));
        stage.done += 1;
        progress(stage);
    }
    Ok(Some(NovelClasses { found, one_class, config: config.clone() }))
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
            ("auroc", "chance that a known sample is more familiar than one of SOUGHT", |d| d.auroc.value),
            ("ap", "average precision of SOUGHT, least familiar first", |d| d.average_precision.value),
            ("fpr95", "share of SOUGHT that passes where 95 % of the known do", |d| d.fpr95.value),
        ];
        let mut all = Vec::new();
        let ways = [
            ("novel", &self.found, "the class left out", "left out in turn"),
            (
                "one_class",
                &self.one_class,
                "all other classes",
                "that are known alone in turn (Ruff et al. 2018)",
            ),
        ];
        for (way, found, sought, turn) in ways {
            for (detector, by, of) in detectors {
                for (measure, text, value) in measures {
                    let values: Vec<f64> = found.iter().filter_map(|(_, o)| of(o)).map(value).collect();
                    if values.is_empty() {
                        continue;
                    }
                    let text = text.replace("SOUGHT", sought);
                    let text = format!("{text}, by {by}; mean over {} classes {turn}", values.len());
                    let name = format!("{way}_{measure}_{detector}");
                    all.push(origin.mean(name, &Mean::over_shares(&values)?, text));
                }
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
            found.unwrap().measurements("test").unwrap()
        };
        let (apart, alike) = (run(8.0), run(0.0));
        let names: Vec<&str> = apart.iter().map(|m| m.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[8]), (15, "novel_auroc_knn", "novel_fpr95_energy"));
        assert_eq!((names[9], names[14]), ("one_class_auroc_knn", "one_class_fpr95_mahalanobis"));
        assert!(apart.iter().all(|m| m.n == 4 && !m.definition.contains("SOUGHT")));
        assert!(apart[9].value > 0.95 && (alike[9].value - 0.5).abs() < 0.1, "{apart:?} {alike:?}");
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
            let found =
                novel_classes(&train, &test, &config, &mut |stage| done.push(stage.done)).unwrap().unwrap();
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
        let found = found.unwrap();
        assert_eq!(found.measurements("test").unwrap().len(), 12);
        // With two classes, leaving one out is knowing the other alone.
        assert_eq!(found.found[0].1, found.one_class[1].1);
    }

    #[test]
    fn a_rare_class_is_not_lost_in_a_draw() {
        // Three samples of 10,000 are of class 1.
        let labels: Vec<i64> = (0..10_000).map(|i| i64::from(i % 3333 == 0 && i < 9999)).collect();
        let labels = Tensor::from_slice(&labels);
        assert_eq!(i64::try_from(labels.sum(None)).unwrap(), 3);
        let x = formula(10_000, 2) + labels.one_hot(2) * 9.0;
        let set = Features::new(x, labels, 2).unwrap();
        for seed in 0..5 {
            let outliers = OutlierConfig { seed, ..Default::default() };
            let config = NovelClassesConfig { outliers, max_train: 500, max_test: 200, ..Default::default() };
            let found = novel_classes(&set, &set, &config, &mut |_| ()).unwrap().unwrap();
            let (_, of_rare) = &found.found[1];
            assert_eq!((of_rare.nearest.unknown, of_rare.nearest.known), (3, 197));
            assert_eq!(of_rare.nearest.auroc.value, 1.0);
        }
    }

    #[test]
    fn a_class_that_training_lacks_is_not_among_the_known() {
        let (train, test) = (clouds(60, 2, 3.0), clouds(90, 3, 3.0));
        let train =
            Features::new(Tensor::cat(&[&train.x, &train.x.narrow(1, 0, 1)], 1), train.labels, 3).unwrap();
        let found =
            novel_classes(&train, &test, &NovelClassesConfig::default(), &mut |_| ()).unwrap().unwrap();
        assert!(found.found.iter().all(|(_, o)| o.nearest.known + o.nearest.unknown == 60), "{found:?}");
    }

    #[test]
    fn one_class_leaves_nothing_to_find_and_no_samples_are_refused() {
        let one = Features::new(formula(9, 2), Tensor::from_slice(&[1_i64; 9]), 3).unwrap();
        let found = novel_classes(&one, &one, &NovelClassesConfig::default(), &mut |_| ()).unwrap();
        assert_eq!(found, None);
        let other =
            Features::new(formula(9, 2), Tensor::from_slice(&[2_i64, 0, 0, 0, 0, 0, 0, 0, 0]), 3).unwrap();
        assert_eq!(novel_classes(&one, &other, &NovelClassesConfig::default(), &mut |_| ()).unwrap(), None);
        let config = NovelClassesConfig { max_test: 0, ..Default::default() };
        let error = novel_classes(&one, &one, &config, &mut |_| ()).unwrap_err().to_string();
        assert_eq!(error, "max_test = 0: at least 1");
    }
}
